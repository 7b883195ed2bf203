"""Steps of a packet through the ruleset: the messages of NFNLGRP_NFTRACE.

The kernel copies the packet's headers (up to 40 bytes of the network header, 20 of the transport
header) into the first message of each base chain. They are joined and read as an NFLOG payload is,
where the network header is complete; behind extension headers of IPv6 the protocol is unknown, and
the transport header stays in `extra`.

Source: net/netfilter/nf_tables_trace.c; recordings of what Linux 6.18 sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pylog.formats.netlink import NLA_TYPE_MASK, align, nlattr
from pylog.formats.netlink_stream import order_of
from pylog.formats.nft_attributes import (
    CT_DIRECTIONS,
    CT_STATES,
    FAMILIES,
    FIELDS,
    POLICIES,
    TRACE,
    TRACE_TYPES,
    verdict_word,
)
from pylog.formats.nft_read import Parsing, Place, compiled, parse
from pylog.formats.packet import put_headers, seeming
from pylog.formats.packet_schemas import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6
from pylog.record import PacketRecord, TraceRecord, json_ready, places_of
from pylog.record.places import AT_EXTRA as PACKET_EXTRA
from pylog.record.places import no_values

Values = list[Any]
"""The values of a TraceRecord in the places of its fields."""

_TABLE = compiled(TRACE)
_PLACES = {
    name: places_of(TraceRecord, (field,))[0]
    for name, field in FIELDS.items()
    if name.startswith("NFTA_TRACE_")
}
(
    AT_OFFSET, AT_OBSERVED, AT_EXTRA, AT_RAW, AT_SOURCE, AT_LAYOUT, _FAMILY, _ID, _TYPE, _VERDICT,
    _TARGET, _POLICY, _INDEV, _OUTDEV, _CT_DIRECTION, _CT_STATE, _PAYLOAD,
) = places_of(TraceRecord, (
    "offset", "observed_ns", "extra", "raw", "source", "layout", "family", "id", "type", "verdict",
    "target", "policy", "indev", "outdev", "ct_direction", "ct_state", "payload",
))  # fmt: skip
_PACKET = ("protocol", "saddr", "daddr", "sport", "dport", "tcp_flags", "icmp_type", "icmp_code",
           "length")  # fmt: skip
"""The fields of a packet that a step has as well."""
_FROM_PACKET = list(
    zip(places_of(PacketRecord, _PACKET), places_of(TraceRecord, _PACKET), strict=True)
)
_ETHERTYPES = {2: ETH_P_IP, 10: ETH_P_IPV6, 3: ETH_P_ARP}
"""The EtherType of a packet by NFTA_TRACE_NFPROTO."""
_WORDS = (
    ("NFTA_TRACE_TYPE", _TYPE, TRACE_TYPES), ("NFTA_TRACE_POLICY", _POLICY, POLICIES),
    ("NFTA_TRACE_CT_DIRECTION", _CT_DIRECTION, CT_DIRECTIONS),
    ("NFTA_TRACE_CT_STATE", _CT_STATE, CT_STATES),
)  # fmt: skip


def step(
    parsing: Parsing, start: int, end: int, family: int, interface: Callable[[int], str | int]
) -> Values:
    """The values of the record of a message, of which the attributes are data[start:end]."""
    values: Values = [None] * len(TraceRecord.__struct_fields__)
    found, data = parse(_TABLE, parsing, start, end), parsing.data
    values[_FAMILY] = FAMILIES.get(family, family) or None
    number = found.pop("NFTA_TRACE_ID", None)
    if number is not None:  # as nft shows it
        values[_ID] = number.to_bytes(4, "big").hex()
    for name, place, words in _WORDS:
        if name in found:
            value = found.pop(name)
            values[place] = words.get(value, value)
    for name, place in (("NFTA_TRACE_IIF", _INDEV), ("NFTA_TRACE_OIF", _OUTDEV)):
        if name in found:
            values[place] = interface(found.pop(name))
    verdict = found.get("NFTA_TRACE_VERDICT")
    if verdict is not None:
        code = verdict.pop("NFTA_VERDICT_CODE", None)
        if code is not None:
            values[_VERDICT] = verdict_word(code)
            if code > 0xFF:
                verdict["NFTA_VERDICT_CODE"] = code
        values[_TARGET] = verdict.pop("NFTA_VERDICT_CHAIN", None)
        if not verdict:
            del found["NFTA_TRACE_VERDICT"]
    extra: dict[str, Any] = {}
    network = found.pop("NFTA_TRACE_NETWORK_HEADER", None)
    if network is not None:
        transport = found.get("NFTA_TRACE_TRANSPORT_HEADER")
        octets = data[network.start : network.end]
        if transport is not None and is_complete(octets):
            del found["NFTA_TRACE_TRANSPORT_HEADER"]
            octets += data[transport.start : transport.end]
        _put_packet(values, octets, found.get("NFTA_TRACE_NFPROTO"), extra)
    for name, value in found.items():
        if name in _PLACES:
            values[_PLACES[name]] = value
        elif isinstance(value, Place):
            extra[name] = data[value.start : value.end].hex()
        else:
            extra[name] = json_ready(value)
    if extra:
        values[AT_EXTRA] = extra
    return values


def is_complete(network: bytes) -> bool:
    """Whether a network header ends where the transport header begins."""
    if len(network) == 40 and network[0] >> 4 == 6:
        return network[6] not in (0, 43, 44, 50, 51, 60, 135, 139, 140)  # extension headers
    return len(network) >= 20 and network[0] >> 4 == 4 and (network[0] & 15) * 4 == len(network)


def _put_packet(values: Values, octets: bytes, nfproto: int | None, extra: dict[str, Any]) -> None:
    """What the headers say; the headers themselves are the payload."""
    packet = no_values()
    ethertype = _ETHERTYPES.get(nfproto or 0) or seeming(octets)
    put_headers(packet, octets, 0, len(octets), ethertype)
    for here, there in _FROM_PACKET:
        values[there] = packet[here]
    values[_PAYLOAD] = octets or None
    extra.update(packet[PACKET_EXTRA] or {})


_INTERFACES = {10: "indev", 12: "outdev"}


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """The numbers of the interfaces in a message of `Stream.raw`, by the record's names."""
    unpack = nlattr[order_of(layout)]
    numbers, pos, end = dict[str, int](), 20, len(message)
    if message[4:6] not in (b"\x11\x0a", b"\x0a\x11"):
        return numbers
    while end - pos >= 8:
        size, kind = unpack(message, pos)
        name = _INTERFACES.get(kind & NLA_TYPE_MASK)
        if name is not None and size >= 8:
            numbers[name] = int.from_bytes(message[pos + 4 : pos + 8])
        elif size < 4:
            break
        pos += align(size)
    return numbers
