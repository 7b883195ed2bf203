"""Every field of every header of a single packet, for a person.

`dissect` parses with the construct schemas themselves. It is slow, and independent of the compiled
plans that formats.packet reads the same headers with, so tests compare the two.
"""

from __future__ import annotations

from typing import Any

from pylog.formats.ip_numbers import ICMP6_ERRORS, ICMP_ERRORS
from pylog.formats.packet_schemas import (
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_IP,
    ETH_P_IPV6,
    FAMILIES,
    HEADER_NAMES,
    SCHEMAS,
)

_LAYER3 = {**FAMILIES, ETH_P_8021Q: "vlan", ETH_P_8021AD: "vlan"}
MAXIMUM_HEADERS = 64
"""A packet is read no further than this."""


def dissect(payload: bytes, ethertype: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The fields of all complete headers of a packet: [("ipv4", {...}), ("tcp", {...}), ...].

    payload     from the network header on, as `PacketRecord.payload`
    ethertype   default: by the packet's first four bits, 4 or 6

    A header that is cut is not in the list.
    """
    if ethertype is None:
        ethertype = ETH_P_IPV6 if payload[:1] and payload[0] >> 4 == 6 else ETH_P_IP
    headers: list[tuple[str, dict[str, Any]]] = []
    at, following = 0, _LAYER3.get(ethertype, "")
    while following:
        name, schema = following, SCHEMAS[following]
        if at + schema.sizeof() > len(payload) or len(headers) > MAXIMUM_HEADERS:
            break
        fields = {k: v for k, v in schema.parse(payload[at:]).items() if not k.startswith("_")}
        headers.append((name, fields))
        at += _size(name, fields)
        following = _following(name, fields)
    return headers


def _size(name: str, fields: dict[str, Any]) -> int:
    """The size of a header in bytes, by its own length field if it has one."""
    if name == "ipv4":
        return max(20, int(fields["version_ihl"] & 15) * 4)
    if name == "ipv6 extension":
        return 8 + 8 * int(fields["length"])
    if name == "ah":
        return 8 + 4 * int(fields["length"])
    return int(SCHEMAS[name].sizeof())


def _following(name: str, fields: dict[str, Any]) -> str:
    """The name of the next header in SCHEMAS; "" if there is none."""
    if name == "vlan":
        return _LAYER3.get(fields["type"], "")
    if name == "ipv4":
        later = fields["flags_offset"] & 0x1FFF or fields["version_ihl"] >> 4 != 4
        return "" if later else HEADER_NAMES.get(fields["protocol"], "")
    if name == "ipv6 fragment" and fields["offset_more"] & 0xFFF8:
        return ""
    if name in ("icmp", "icmpv6"):
        errors = ICMP_ERRORS if name == "icmp" else ICMP6_ERRORS
        return ("ipv4" if name == "icmp" else "ipv6") if fields["type"] in errors else ""
    return HEADER_NAMES.get(fields.get("next_header", -1), "")
