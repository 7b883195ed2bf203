"""The headers of many logged packets at once: IPv4 or IPv6, and the header behind it.

A packet is regular if its headers are complete and everything in them has a column of its own: no
options, extension headers or fragments, and no protocol with more fields than ports, TCP flags, or
type and code of an ICMP message that quotes no other packet.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from pylog.formats.columns import Addresses, Array, Column, NumberColumn, Repeated
from pylog.formats.columns.arrays import gather
from pylog.formats.ip_numbers import ICMP6_ERRORS, ICMP_ERRORS, NO_NEXT_HEADER
from pylog.formats.packet import TCP_FLAGS
from pylog.formats.packet_schemas import HEADER_NAMES, ICMP, IPV4, IPV6, SCHEMAS, TCP, UDP
from pylog.formats.plan import Plan

LAYER4 = TCP.sizeof()
"""How many bytes of a packet are read after its network header."""

SIZE = IPV6.sizeof() + LAYER4
"""How many bytes from a packet's start must lie in the data, even if they are not its own."""

_FAMILIES = ("ipv4", "ipv6")


class _Protocols(NamedTuple):
    """Facts about protocols, in arrays by protocol number.

    size     bytes of the header; FAR_TOO_MANY if it is not read here
    ports    whether it has ports
    icmp     whether it is ICMP or ICMPv6
    quotes   by number << 8 | the header's first byte: whether it is an ICMP error
    """

    size: Array
    ports: Array
    icmp: Array
    quotes: Array


FAR_TOO_MANY = 1 << 32


@cache
def _protocols() -> _Protocols:
    size, ports, icmp = np.zeros(256, np.int64), np.zeros(256, bool), np.zeros(256, bool)
    quotes = np.zeros((256, 256), bool)
    for number, name in HEADER_NAMES.items():
        schema = SCHEMAS[name]
        ports[number] = any(field.name == "sport" for field in schema.subcons)
        icmp[number] = schema is ICMP
        is_read = ports[number] or icmp[number]
        size[number] = schema.sizeof() if is_read else FAR_TOO_MANY
        if icmp[number]:
            quotes[number, list(ICMP_ERRORS if name == "icmp" else ICMP6_ERRORS)] = True
    return _Protocols(size, ports, icmp, quotes.ravel())


_TCP_NUMBER = next(number for number, name in HEADER_NAMES.items() if name == "tcp")


def swap(data: Array, starts: Array) -> None:
    """Exchange the two bytes of ip_len, and of ip_off, in the IPv4 packets at `starts`."""
    for name in ("length", "flags_offset"):
        at = starts + Plan(IPV4).places[name].offset
        data[at], data[at + 1] = data[at + 1], data[at]


class IpPackets:
    """Packets whose network headers begin at `starts`; SIZE bytes lie in the data there.

    regular   which of the packets are regular: `take` must be called to keep only those
    """

    def __init__(
        self, data: Array, starts: Array, sizes: Array, six: Array, swapped: bool = False
    ) -> None:
        """The packets have `sizes` bytes each.

        six       which of them must be IPv6; the others must be IPv4
        swapped   ip_len and ip_off are in little-endian order
        """
        octets = gather(data, starts, SIZE)
        self._four = octets.view(np.dtype(Plan(IPV4).dtype(SIZE))).ravel()
        self._six = octets.view(np.dtype(Plan(IPV6).dtype(SIZE))).ravel()
        self._is_six, self._sizes = six, sizes
        self._any_six = bool(six.any())
        self._swapped = swapped
        at = IPV4.sizeof()
        layer4 = octets[:, at : at + LAYER4]
        self.protocol = self._four["protocol"]
        size = sizes - at
        bits = self._two("flags_offset")
        regular = (self._four["version_ihl"] == 0x45) & (bits & 0x3FFF == 0)
        if self._any_six:
            at = IPV6.sizeof()
            layer4 = np.where(six[:, None], octets[:, at : at + LAYER4], layer4)
            self.protocol = np.where(six, self._six["next_header"], self.protocol)
            size = np.where(six, sizes - at, size)
            regular = np.where(six, self._six["version_class_flow"] >> 28 == 6, regular)
        protocols = _protocols()
        self._layer4 = np.ascontiguousarray(layer4)
        kind = self.protocol.astype(np.intp) << 8 | self._layer4[:, 0]
        regular &= size >= protocols.size[self.protocol]
        self.regular = regular & ~protocols.quotes[kind]

    def take(self, rows: Array) -> None:
        """Keep only these rows."""
        self._four, self._six, self._is_six = self._four[rows], self._six[rows], self._is_six[rows]
        self.protocol, self._layer4 = self.protocol[rows], self._layer4[rows]
        self._sizes = self._sizes[rows]

    def _two(self, name: str) -> Array:
        """A field of two bytes in the IPv4 header, which old kernels keep in their own order."""
        values: Array = self._four[name]
        return values.byteswap() if self._swapped else values

    @property
    def are_four(self) -> Array:
        """Which of the packets are IPv4."""
        return ~self._is_six

    def column(self, name: str) -> Column | None:
        """The column of a field that the headers determine; None for another field."""
        if name == "family":
            return Repeated(self._is_six.astype(np.intp), _FAMILIES)
        if name == "protocol":
            return NumberColumn(self.protocol)
        if name in ("saddr", "daddr"):
            return self._addresses("src" if name == "saddr" else "dst")
        if name == "length":
            length = self._two("length").astype(np.int64)
            if self._any_six:
                long = self._six["payload_length"].astype(np.int64)
                long[(long == 0) & (self.protocol != NO_NEXT_HEADER)] = -IPV6.sizeof()
                length = np.where(self._is_six, long + IPV6.sizeof(), length)
            return NumberColumn(length, length >= self._sizes)  # as packet.believed
        if name in ("sport", "dport"):
            return NumberColumn(self._field(UDP, name), _protocols().ports[self.protocol])
        if name in ("icmp_type", "icmp_code"):
            field = name.removeprefix("icmp_")
            return NumberColumn(self._field(ICMP, field), _protocols().icmp[self.protocol])
        if name == "tcp_flags":
            flags = self._field(TCP, "flags").astype(np.intp)
            flags[self.protocol != _TCP_NUMBER] = 256
            return Repeated(flags, (*TCP_FLAGS, None))
        return None

    def _field(self, schema: object, name: str) -> Array:
        """A field of the header after the network header."""
        dtype = np.dtype(Plan(schema).dtype(LAYER4))
        values: Array = self._layer4.view(dtype).ravel()[name]
        return values

    def _addresses(self, name: str) -> Addresses:
        four, six = self._four[name], self._six[name][self._is_six]
        if self._any_six:
            four = four[~self._is_six]
        parts = [np.ascontiguousarray(part).view(np.uint8) for part in (four, six)]
        return Addresses(parts[0].reshape(-1, 4), parts[1].reshape(-1, 16), self._is_six)
