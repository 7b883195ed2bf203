"""Headers of a packet that are made from the fields of its record, where no bytes were logged.

A text log says what was in the headers of a packet, but has none of their bytes. Formats that hold
a packet's headers, as IPFilter's log does, get them from here: the IP header and that of TCP, UDP
or ICMP, with zeros for what the record does not say, checksums included. There is no payload.

Source: RFC 791, 8200, 9293, 768, 792, 4443.
"""

from __future__ import annotations

from typing import Any

from pylog.formats.addresses import octets
from pylog.formats.ip_numbers import FRAGMENT, ICMP, ICMPV6, TCP, UDP, UDPLITE
from pylog.formats.packet_headers import of_record
from pylog.formats.packet_schemas import ICMP as ICMP_HEADER
from pylog.formats.packet_schemas import IPV4, IPV6, IPV6_FRAGMENT
from pylog.formats.packet_schemas import TCP as TCP_HEADER
from pylog.formats.packet_schemas import UDP as UDP_HEADER
from pylog.formats.plan import Plan
from pylog.record import PacketHeaders, PacketRecord

_ipv4, _ipv6, _fragment = Plan(IPV4), Plan(IPV6), Plan(IPV6_FRAGMENT)
_tcp, _udp, _icmp = Plan(TCP_HEADER), Plan(UDP_HEADER), Plan(ICMP_HEADER)
_BITS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}


def headers(record: PacketRecord) -> bytes | None:
    """The headers of a packet; None without addresses or protocol."""
    if record.saddr is None or record.daddr is None or record.protocol is None:
        return None
    if record.family not in ("ipv4", "ipv6"):
        return None
    known = of_record(record)
    later = record.fragment is not None and bool(record.fragment.offset)
    upper = b"" if later else _upper(record, known)
    return (_four if record.family == "ipv4" else _six)(record, known, upper)


def _four(record: PacketRecord, known: PacketHeaders, upper: bytes) -> bytes:
    fragment, bits = record.fragment, 0
    ident = known.ip_id
    if fragment is not None:
        bits = (fragment.offset or 0) // 8 & 0x1FFF | 0x2000 * fragment.more
        bits |= 0x4000 * fragment.dont
        ident = fragment.id if ident is None else ident
    size = _ipv4.size + len(upper)
    head = {
        "version_ihl": 0x45, "tos": known.tos or 0, "length": _length(record, size),
        "id": (ident or 0) & 0xFFFF, "flags_offset": bits, "ttl": known.ttl or 0,
        "protocol": record.protocol, "checksum": 0,
        "src": octets[str(record.saddr)], "dst": octets[str(record.daddr)],
    }  # fmt: skip
    return _ipv4.pack(head) + upper


def _six(record: PacketRecord, known: PacketHeaders, upper: bytes) -> bytes:
    fragment, following = record.fragment, record.protocol
    if fragment is not None:
        place = {"next_header": record.protocol, "reserved": 0, "id": fragment.id or 0,
                 "offset_more": (fragment.offset or 0) & 0xFFF8 | fragment.more}  # fmt: skip
        following, upper = FRAGMENT, _fragment.pack(place) + upper
    size = _ipv6.size + len(upper)
    first = 6 << 28 | (known.tos or 0) << 20 | (known.flow_label or 0) & 0xFFFFF
    head = {
        "version_class_flow": first, "payload_length": _length(record, size) - _ipv6.size,
        "next_header": following, "hop_limit": known.ttl or 0,
        "src": octets[str(record.saddr)], "dst": octets[str(record.daddr)],
    }  # fmt: skip
    return _ipv6.pack(head) + upper


def _length(record: PacketRecord, size: int) -> int:
    """The length that the header states: the packet's, or that of the headers."""
    return min(max(record.length or 0, size), 0xFFFF)


def _upper(record: PacketRecord, known: PacketHeaders) -> bytes:
    """The header of layer 4; none for other protocols, and without the ports or the type."""
    ends = {"sport": record.sport, "dport": record.dport}
    if record.protocol in (TCP, UDP, UDPLITE):
        if None in ends.values():
            return b""
        if record.protocol == TCP:
            flags = sum(_BITS.get(letter, 0) for letter in record.tcp_flags or "")
            more: dict[str, Any] = {
                "seq": known.tcp_seq or 0, "ack": known.tcp_ack or 0, "offset": 0x50,
                "flags": flags, "window": known.tcp_window or 0, "checksum": 0, "urgent": 0,
            }  # fmt: skip
            return _tcp.pack({**ends, **more})
        return _udp.pack({**ends, "length": known.udp_length or 8, "checksum": 0})
    if record.protocol in (ICMP, ICMPV6) and record.icmp_type is not None:
        kind = {"type": record.icmp_type, "code": record.icmp_code or 0}
        return _icmp.pack({**kind, "checksum": 0, "rest": 0}) + _quoted(record)
    return b""


def _quoted(record: PacketRecord) -> bytes:
    """The headers of the packet that an ICMP error quotes, as far as routers quote them."""
    inner: dict[str, Any] = (record.extra or {}).get("inner") or {}
    fields = {name: value for name, value in inner.items() if name in _FIELDS}
    quoted = headers(PacketRecord(record.source, record.layout, **fields)) if fields else None
    if quoted is None:
        return b""
    return quoted[: (_ipv4.size if quoted[0] >> 4 == 4 else _ipv6.size) + 8]


_FIELDS = frozenset(("family", "protocol", "saddr", "daddr", "sport", "dport", "tcp_flags",
                     "icmp_type", "icmp_code", "fragment", "length"))  # fmt: skip
