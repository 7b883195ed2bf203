"""BASE: the headers of a packet, as ulogd decodes them.

pylog has a decoder of headers of its own (pylog.formats.packet). This one gives ulogd's values,
with what is wrong in them: a header counts only if it is complete, later IPv4 fragments are read
as if they began with one, tcp.offset and tcp.reserved are 0, and ICMP checksums are not swapped.
Source: filter/raw2packet/ulogd_raw2packet_BASE.c, measured.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pylog.ulogd.keys import HEADERS
from pylog.ulogd.worker import Filter, Values, View

AT = {key.name: at for at, key in enumerate(HEADERS)}
"""The place of each key among those of BASE."""

_IP4 = struct.Struct(">BBHHHBBH4s4s").unpack_from
_IP6 = struct.Struct(">IHBB16s16s").unpack_from
_TCP = struct.Struct(">HHIIBBHHH").unpack_from
_PORTS4 = struct.Struct(">HHHH").unpack_from
_ICMP = struct.Struct(">BBHHH").unpack_from
_SCTP = struct.Struct(">HHII").unpack_from
_ARP = struct.Struct(">HHBBH6s4s6s4s").unpack_from

(IP, IP6, TCP, UDP, ICMP, ICMPV6, SCTP, ARP) = (
    AT["ip.saddr"], AT["ip6.payloadlen"], AT["tcp.sport"], AT["udp.sport"], AT["icmp.type"],
    AT["icmpv6.type"], AT["sctp.sport"], AT["arp.hwtype"],
)  # fmt: skip
_PROTOCOL, _NEXT = AT["ip.protocol"], AT["ip6.nexthdr"]
_EXTENSIONS = frozenset((0, 43, 44, 50, 51, 60))
"""ip6_is_ext_hdr(): hop-by-hop, routing, fragment, ESP, AH, destination options."""

Cells = Values


def decode(family: int | None, protocol: int | None, data: bytes | None) -> Cells:
    """The values of all keys of BASE, in the order of HEADERS."""
    cells: Cells = [None] * len(HEADERS)
    cells[AT["oob.protocol"]] = protocol
    data = data or b""
    if family == 2:
        _ipv4(cells, data)
    elif family == 10:
        _ipv6(cells, data)
    elif family == 7:
        if protocol == 0x0800:
            _ipv4(cells, data)
        elif protocol == 0x86DD:
            _ipv6(cells, data)
        elif protocol == 0x0806:
            _arp(cells, data)
    return cells


def _ipv4(cells: Cells, data: bytes) -> None:
    size = len(data)
    if size < 20:
        return
    ihl = data[0] & 15
    if size <= ihl * 4:
        return
    _, tos, total, ident, fragment, ttl, protocol, checksum, saddr, daddr = _IP4(data)
    cells[IP : IP + 10] = (
        saddr, daddr, protocol, tos, ttl, total, ihl, checksum, ident, fragment,
    )  # fmt: skip
    reader = _IPV4.get(protocol)
    if reader is not None:
        reader(cells, data[ihl * 4 :])


def _ipv6(cells: Cells, data: bytes) -> None:
    if len(data) < 40:
        return
    flow, payload, header, hops, saddr, daddr = _IP6(data)
    cells[IP : IP + 2] = saddr, daddr
    cells[IP6 : IP6 + 4] = payload, flow >> 20 & 0xFF, flow & 0xFFFFF, hops
    at, fragment = 40, False
    while header in _EXTENSIONS:
        if len(data) - at < 2:
            return
        if header == 44:
            if len(data) - at < 8:
                return
            offset = int.from_bytes(data[at + 2 : at + 4]) & 0xFFF8
            cells[IP6 + 5] = offset
            cells[IP6 + 6] = int.from_bytes(data[at + 4 : at + 8])
            fragment = fragment or bool(offset)
            size = 8
        elif fragment:
            break
        elif header in (50, 51):
            size = data[at + 1] + 2 << 2
        else:
            size = data[at + 1] + 1 << 3
        if at + size > len(data):
            return
        if header == 50:
            cells[_NEXT] = header
            return
        header, at = data[at], at + size
    cells[_NEXT] = header
    if fragment:
        return
    cells[_PROTOCOL] = header
    reader = _IPV6.get(header)
    if reader is not None:
        reader(cells, data[at:])


def _tcp(cells: Cells, data: bytes) -> None:
    if len(data) < 20:
        return
    sport, dport, seq, ack, offset, flags, window, checksum, urgent = _TCP(data)
    cells[TCP : TCP + 17] = (
        sport, dport, seq, ack, window, 0, 0, flags >> 5 & 1,
        urgent if flags & 32 else None, flags >> 4 & 1, flags >> 3 & 1, flags >> 2 & 1,
        flags >> 1 & 1, flags & 1, offset & 15, flags >> 6, checksum,
    )  # fmt: skip


def _udp(cells: Cells, data: bytes) -> None:
    if len(data) >= 8:
        cells[UDP : UDP + 4] = _PORTS4(data)


def _sctp(cells: Cells, data: bytes) -> None:
    if len(data) >= 12:
        sport, dport, _, checksum = _SCTP(data)
        cells[SCTP : SCTP + 3] = sport, dport, checksum


def _icmp(cells: Cells, data: bytes) -> None:
    if len(data) < 8:
        return
    kind, code, _, first, second = _ICMP(data)
    echo = kind in (0, 8)
    gateway = struct.pack("<I", first << 16 | second) if kind in (5, 12) else None
    cells[ICMP : ICMP + 7] = (
        kind, code, first if echo else None, second if echo else None, gateway,
        second if kind == 3 and code == 4 else None, int.from_bytes(data[2:4], "little"),
    )  # fmt: skip


def _icmpv6(cells: Cells, data: bytes) -> None:
    if len(data) < 8:
        return
    kind, code, _, first, second = _ICMP(data)
    echo = kind in (128, 129)
    cells[ICMPV6 : ICMPV6 + 5] = (
        kind, code, first if echo else None, second if echo else None,
        int.from_bytes(data[2:4], "little"),
    )  # fmt: skip


def _arp(cells: Cells, data: bytes) -> None:
    if len(data) < 28:
        return
    hwtype, protocol, _, _, operation, shw, saddr, dhw, daddr = _ARP(data)
    cells[ARP : ARP + 7] = hwtype, protocol, operation, shw, saddr, dhw, daddr


_IPV4: dict[int, Callable[[Cells, bytes], None]] = {1: _icmp, 6: _tcp, 17: _udp, 132: _sctp}
_IPV6: dict[int, Callable[[Cells, bytes], None]] = {6: _tcp, 17: _udp, 58: _icmpv6}


class Base(Filter):
    """The filter BASE."""

    def interpret(self, values: Values, view: View) -> None:
        data, _, family, protocol = self.instance.cells(values)
        first = self.instance.first
        values[first : first + len(HEADERS)] = decode(family, protocol, data)
