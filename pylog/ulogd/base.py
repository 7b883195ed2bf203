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
_PROTOCOL, _NEXT, _ETHERTYPE = AT["ip.protocol"], AT["ip6.nexthdr"], AT["oob.protocol"]
_EXTENSIONS = frozenset((0, 43, 44, 50, 51, 60))
"""ip6_is_ext_hdr(): hop-by-hop, routing, fragment, ESP, AH, destination options."""


def _ipv4(cells: Values, first: int, data: bytes, deep: bool) -> None:
    size = len(data)
    if size < 20:
        return
    ihl = data[0] & 15
    if size <= ihl * 4:
        return
    _, tos, total, ident, fragment, ttl, protocol, checksum, saddr, daddr = _IP4(data)
    at = first + IP
    cells[at : at + 10] = (
        saddr, daddr, protocol, tos, ttl, total, ihl, checksum, ident, fragment,
    )  # fmt: skip
    if deep and (reader := _IPV4.get(protocol)) is not None:
        reader(cells, first, data, ihl * 4)


def _ipv6(cells: Values, first: int, data: bytes, deep: bool) -> None:
    if len(data) < 40:
        return
    flow, payload, header, hops, saddr, daddr = _IP6(data)
    cells[first + IP : first + IP + 2] = saddr, daddr
    own = first + IP6
    cells[own : own + 4] = payload, flow >> 20 & 0xFF, flow & 0xFFFFF, hops
    at, fragment = 40, False
    while header in _EXTENSIONS:
        if len(data) - at < 2:
            return
        if header == 44:
            if len(data) - at < 8:
                return
            offset = int.from_bytes(data[at + 2 : at + 4]) & 0xFFF8
            cells[own + 5] = offset
            cells[own + 6] = int.from_bytes(data[at + 4 : at + 8])
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
            cells[first + _NEXT] = header
            return
        header, at = data[at], at + size
    cells[first + _NEXT] = header
    if fragment:
        return
    cells[first + _PROTOCOL] = header
    if deep and (reader := _IPV6.get(header)) is not None:
        reader(cells, first, data, at)


def _tcp(cells: Values, first: int, data: bytes, at: int) -> None:
    if len(data) - at < 20:
        return
    sport, dport, seq, ack, offset, flags, window, checksum, urgent = _TCP(data, at)
    own = first + TCP
    cells[own : own + 17] = (
        sport, dport, seq, ack, window, 0, 0, flags >> 5 & 1,
        urgent if flags & 32 else None, flags >> 4 & 1, flags >> 3 & 1, flags >> 2 & 1,
        flags >> 1 & 1, flags & 1, offset & 15, flags >> 6, checksum,
    )  # fmt: skip


def _udp(cells: Values, first: int, data: bytes, at: int) -> None:
    if len(data) - at >= 8:
        cells[first + UDP : first + UDP + 4] = _PORTS4(data, at)


def _sctp(cells: Values, first: int, data: bytes, at: int) -> None:
    if len(data) - at >= 12:
        sport, dport, _, checksum = _SCTP(data, at)
        cells[first + SCTP : first + SCTP + 3] = sport, dport, checksum


def _icmp(cells: Values, first: int, data: bytes, at: int) -> None:
    if len(data) - at < 8:
        return
    kind, code, checksum, one, two = _ICMP(data, at)
    echo = kind in (0, 8)
    gateway = struct.pack("<I", one << 16 | two) if kind in (5, 12) else None
    cells[first + ICMP : first + ICMP + 7] = (
        kind, code, one if echo else None, two if echo else None, gateway,
        two if kind == 3 and code == 4 else None, _swapped(checksum),
    )  # fmt: skip


def _icmpv6(cells: Values, first: int, data: bytes, at: int) -> None:
    if len(data) - at < 8:
        return
    kind, code, checksum, one, two = _ICMP(data, at)
    echo = kind in (128, 129)
    cells[first + ICMPV6 : first + ICMPV6 + 5] = (
        kind, code, one if echo else None, two if echo else None, _swapped(checksum),
    )  # fmt: skip


def _swapped(number: int) -> int:
    return (number & 0xFF) << 8 | number >> 8


def _arp(cells: Values, first: int, data: bytes, deep: bool) -> None:
    if len(data) < 28:
        return
    hwtype, protocol, _, _, operation, shw, saddr, dhw, daddr = _ARP(data)
    at = first + ARP
    cells[at : at + 7] = hwtype, protocol, operation, shw, saddr, dhw, daddr


Transport = Callable[[Values, int, bytes, int], None]
_IPV4: dict[int, Transport] = {1: _icmp, 6: _tcp, 17: _udp, 132: _sctp}
_IPV6: dict[int, Transport] = {6: _tcp, 17: _udp, 58: _icmpv6}
_FAMILIES = {2: _ipv4, 10: _ipv6}
_ETHERTYPES = {0x0800: _ipv4, 0x86DD: _ipv6, 0x0806: _arp}
"""What reads a packet of a family, and one of a bridge by its EtherType."""


class Base(Filter):
    """The filter BASE.

    deep   whether any plugin reads a key of what IP carries
    """

    deep = True

    def prepare(self, needed: frozenset[int]) -> None:
        first = self.instance.first
        self.deep = any(at >= first + TCP and at != first + _ETHERTYPE
                        for at in needed if at < first + len(HEADERS))  # fmt: skip

    def interpret(self, values: Values, view: View) -> None:
        data, _, family, protocol = self.instance.cells(values)
        first = self.instance.first
        values[first + _ETHERTYPE] = protocol
        read = _ETHERTYPES.get(protocol) if family == 7 else _FAMILIES.get(family)
        if read is not None:
            read(values, first, data or b"", self.deep)
