"""A factory of packet records: a test names the fields that it is about, the rest is made up.

The packet is built from the header schemas, and the fields of its headers are decoded from those
bytes, as a reader does. So addresses, ports and payload of a record always agree.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from construct import ConstructError

from pylog.backends.base import HOST_ORDER
from pylog.formats import ip_numbers
from pylog.formats.addresses import octets
from pylog.formats.ipl_encode import LAYOUT
from pylog.formats.netlink_stream import name_of
from pylog.formats.nfulnl_attributes import DIRECTIONS
from pylog.formats.packet import TCP_FLAGS, put_headers
from pylog.formats.packet_schemas import ETH_P_IP, ETH_P_IPV6, ICMP, IPV4, IPV6, SCTP, TCP, UDP
from pylog.record import PacketRecord
from pylog.record.places import no_values

PROTOCOLS = {name: number for number, name in ip_numbers.PROTOCOL_NAMES.items()}
TIME_NS = 1_700_000_000_000_000_000
"""2023-11-14T22:13:20Z, the time of every packet unless the test names another."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "nflog": {"layout": name_of("nfulnl", HOST_ORDER), "group": "5"},
    "ipl": {"layout": LAYOUT, "count": 1, "action": "pass", "rule": 1, "group": "0"},
}
"""What a record of a source has, beside the fields of every packet."""
_INTERFACES = {"nflog": "eth0", "ipl": "fxp0"}
_HOOKS = {"in": "input", "out": "output", "forward": "forward"}
_FLAGS = {"pass": ["FR_PASS", "FR_LOG"], "block": ["FR_BLOCK", "FR_LOG"],
          "nomatch": ["FF_LOGNOMATCH"]}  # fmt: skip
"""The flags of IPFilter that are an action; all others are those of log."""


def packet(
    *,
    saddr: str | None = None,
    daddr: str | None = None,
    protocol: int | str = "tcp",
    sport: int = 40000,
    dport: int = 80,
    tcp_flags: str = "S",
    icmp_type: int | None = None,
    icmp_code: int = 0,
    data: bytes = b"",
    source: str = "nflog",
    **fields: Any,
) -> PacketRecord:
    """A packet record: by default a TCP SYN from 192.0.2.1 to port 80 of 198.51.100.2.

    saddr, daddr   IPv4 or IPv6; a documentation address of the same family where one is not given
    protocol       a number, or a name such as tcp, udp, icmp, icmpv6, sctp
    sport, dport   of tcp, udp, udplite and sctp
    tcp_flags      letters of ARSFUPEC; "-" for none
    icmp_type      default: an echo request of icmp or icmpv6
    data           what follows the headers
    source         "nflog": logged to group 5 by a rule in input; "ipl": passed by rule 1 of
                   IPFilter; another source has no fields by default but those of the packet
    fields         any other field of PacketRecord, or other values for fields above, such as
                   prefix="drop ", indev="wan0" or timestamp_ns=...; with `payload` the headers are
                   decoded from it, and all arguments about them are without effect

    TypeError for a field that does not exist, ValueError for an address, protocol or flag that does
    not.
    """
    unknown = fields.keys() - set(PacketRecord.__struct_fields__)
    if unknown:
        raise TypeError(f"a packet record has no field {', '.join(sorted(unknown))}")
    if "payload" not in fields:
        number = _protocol(protocol)
        if icmp_type is None:
            icmp_type = 128 if number == ip_numbers.ICMPV6 else 8
        ports = {"sport": sport, "dport": dport}
        try:
            body = _body(number, ports, tcp_flags, (icmp_type, icmp_code), data)
        except ConstructError as error:
            raise ValueError(
                f"a port, or an ICMP type or code, is out of range: {error}"
            ) from error
        fields["payload"] = _ip(_ends(saddr, daddr, number), number, body)
    values = _decoded(fields["payload"] or b"")
    direction = fields.get("direction") or DIRECTIONS.get(fields.get("hook", ""), "in")
    values |= {"source": source, "timestamp_ns": TIME_NS, "direction": direction}
    values |= _DEFAULTS.get(source, {"layout": source})
    values["outdev" if direction == "out" else "indev"] = _INTERFACES.get(source)
    if source == "nflog":
        values["hook"] = _HOOKS.get(direction)
        values["extra"] = {"nfgen_family": 10 if values["family"] == "ipv6" else 2}
    elif source == "ipl":
        values["extra"] = _extra_of_ipl(fields.get("action", "pass"), direction, values, data)
    return PacketRecord(**values | fields)


def _ends(saddr: str | None, daddr: str | None, protocol: int) -> tuple[bytes, bytes]:
    """The source and destination address as bytes."""
    v6 = ":" in (saddr or daddr or "") or (not (saddr or daddr) and protocol == ip_numbers.ICMPV6)
    ends = (
        octets[saddr or ("2001:db8::1" if v6 else "192.0.2.1")],
        octets[daddr or ("2001:db8::2" if v6 else "198.51.100.2")],
    )
    if len(ends[0]) != len(ends[1]):
        raise ValueError(f"{saddr} and {daddr} are not of the same IP version")
    return ends


def _decoded(payload: bytes) -> dict[str, Any]:
    """The fields of a packet's headers; all others are None."""
    values = no_values()
    if payload:
        ethertype = ETH_P_IPV6 if payload[0] >> 4 == 6 else ETH_P_IP
        put_headers(values, payload, 0, len(payload), ethertype)
    return dict(zip(PacketRecord.__struct_fields__, values, strict=False))


def _extra_of_ipl(
    action: str, direction: str, values: Mapping[str, Any], data: bytes
) -> dict[str, Any]:
    """The flags of IPFilter, as a kernel of 5.1 sets them."""
    flags = [*_FLAGS.get(action, ["FR_LOG"]), "FR_OUTQUE" if direction == "out" else "FR_INQUE"]
    if data:
        flags.append("FR_LOGBODY")
    extra = {"fl_flags": [*flags, "FR_COPIED"]}
    if values["protocol"] in (ip_numbers.TCP, ip_numbers.UDP):
        extra["fl_lflags"] = ["FI_TCPUDP"]
    return extra


def _protocol(protocol: int | str) -> int:
    if isinstance(protocol, int):
        return protocol
    try:
        return PROTOCOLS[protocol]
    except KeyError:
        raise ValueError(f"no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}") from None


def _body(
    protocol: int, ports: Mapping[str, int], flags: str, icmp: tuple[int, int], data: bytes
) -> bytes:
    """What follows the IP header; checksums are 0."""
    if protocol == ip_numbers.TCP:
        if flags not in TCP_FLAGS:
            raise ValueError(f"tcp_flags is {flags!r}, but must be letters in the order ARSFUPEC")
        rest = {"seq": 0, "ack": 0, "offset": 5 << 4, "flags": TCP_FLAGS.index(flags),
                "window": 65535, "checksum": 0, "urgent": 0}  # fmt: skip
        return TCP.build({**ports, **rest}) + data
    if protocol in (ip_numbers.UDP, ip_numbers.UDPLITE):
        return UDP.build({**ports, "length": 8 + len(data), "checksum": 0}) + data
    if protocol == ip_numbers.SCTP:
        return SCTP.build({**ports, "tag": 0, "checksum": 0}) + data
    if protocol in (ip_numbers.ICMP, ip_numbers.ICMPV6):
        return ICMP.build({"type": icmp[0], "code": icmp[1], "checksum": 0, "rest": 0}) + data
    return data


def _ip(ends: tuple[bytes, bytes], protocol: int, body: bytes) -> bytes:
    """The IP packet of a body."""
    src, dst = ends
    if len(src) == 16:
        head = {"version_class_flow": 6 << 28, "payload_length": len(body),
                "next_header": protocol, "hop_limit": 64, "src": src, "dst": dst}  # fmt: skip
        return IPV6.build(head) + body
    fields = {"version_ihl": 0x45, "tos": 0, "length": 20 + len(body), "id": 0, "flags_offset": 0,
              "ttl": 64, "protocol": protocol, "checksum": 0, "src": src, "dst": dst}  # fmt: skip
    total = sum(struct.unpack(">10H", IPV4.build(fields)))
    total = (total & 0xFFFF) + (total >> 16)
    return IPV4.build({**fields, "checksum": ~(total + (total >> 16)) & 0xFFFF}) + body
