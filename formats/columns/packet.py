"""The headers of many logged packets at once: IPv4, IPv6 or ARP, and the header behind them.

IP options, extension headers and fragments are stepped over, and headers may be cut at any byte.
What few packets have, and `extra` holds, is decoded once for all packets that agree in the bytes
that determine it: the packet that an ICMP error quotes, ARP, and the numbers of ESP, AH and GRE.
A packet is irregular if its headers are damaged, or of a form that no kernel writes.
"""

from __future__ import annotations

import numpy as np

from pylog.formats.columns import Addresses, Array, Column, NumberColumn, Repeated
from pylog.formats.columns.arrays import alike, gather
from pylog.formats.columns.packet_extra import ARP_SIZE, QUOTED_AT, ExtraKeys
from pylog.formats.columns.packet_protocols import CUTS, NOTHING, protocols
from pylog.formats.ip_numbers import (
    EXTENSIONS,
    FRAGMENT,
    HOP_BY_HOP,
    NO_NEXT_HEADER,
)
from pylog.formats.packet import JUMBO, TCP_FLAGS
from pylog.formats.packet_schemas import (
    ARP,
    ETH_P_ARP,
    ETH_P_IP,
    ETH_P_IPV6,
    FAMILIES,
    HEADER_NAMES,
    ICMP,
    IPV4,
    IPV6,
    IPV6_EXTENSION,
    IPV6_FRAGMENT,
    TCP,
    UDP,
)
from pylog.formats.plan import plan_of
from pylog.record import Fragment

LAYER4 = TCP.sizeof()
"""How many bytes of a packet are read after its network header."""

SIZE = IPV6.sizeof() + LAYER4
"""How many bytes from a packet's start must lie in the data, even if they are not its own."""

NO_PACKET = -1
"""In place of an EtherType: the message has no packet."""

_LEAST_IPV6 = 24
"""Shorter IPv6 packets, whose source address is cut, are irregular."""
_CHAIN = 8
"""A packet with more extension headers is irregular."""
_CUT_IPV6, _CUT_OPTIONS, _CUT_EXTENSION, _CUT_FRAGMENT = 1, 2, 3, 4


_TCP_NUMBER = next(number for number, name in HEADER_NAMES.items() if name == "tcp")


def swap(data: Array, starts: Array) -> None:
    """Exchange the two bytes of ip_len, and of ip_off, in the IPv4 packets at `starts`."""
    for name in ("length", "flags_offset"):
        at = starts + plan_of(IPV4).places[name].offset
        data[at], data[at + 1] = data[at + 1], data[at]


def _or_all(valid: Array) -> Array | None:
    """As NumberColumn.valid: None if all are valid."""
    return None if valid.all() else valid


def families(ethertypes: Array) -> Repeated:
    """The column `family` of packets with these EtherTypes."""
    codes, rows = alike([ethertypes])
    kinds = ethertypes[rows].tolist()
    return Repeated(codes, [FAMILIES.get(kind, kind) or None for kind in kinds])


class IpPackets:
    """Packets whose network headers begin at `starts`; SIZE bytes lie in the data there.

    regular     which of the packets are regular: `take` must be called to keep only those
    has_extra   which of them put something into `extra`
    """

    def __init__(
        self, data: Array, starts: Array, sizes: Array, ethertypes: Array, swapped: bool = False
    ) -> None:
        """The packets have `sizes` bytes each.

        ethertypes   of their first header, int64, or NO_PACKET
        swapped      ip_len and ip_off are in little-endian order
        """
        octets = gather(data, starts, SIZE)
        self._data, self._starts, self._octets, self._sizes = data, starts, octets, sizes
        self._ethertypes, self._swapped = ethertypes, swapped
        self._four = octets.view(np.dtype(plan_of(IPV4).dtype(SIZE))).ravel()
        self._six = octets.view(np.dtype(plan_of(IPV6).dtype(SIZE))).ravel()
        self._is_four, self._is_six = ethertypes == ETH_P_IP, ethertypes == ETH_P_IPV6
        self._bits = self._two("flags_offset") & 0x3FFF  # of IPv4, without DF
        self._ids = np.zeros(0, np.int64)  # of fragments of IPv6
        self._cut = np.zeros(len(starts), np.uint8)
        version = self._four["version_ihl"]
        self.protocol = self._four["protocol"]
        self._jumbo: Array | None = None
        plain = self._is_four & (version == 0x45) & (self._bits & 0x1FFF == 0)
        if plain.all():
            self.regular = sizes >= IPV4.sizeof()
            self._after, self._upper = np.full(len(starts), IPV4.sizeof()), self.protocol
            self._layer4 = np.ascontiguousarray(octets[:, IPV4.sizeof() :][:, :LAYER4])
        else:
            self._step_over(version)
        self._left = sizes - self._after
        facts = protocols()
        short = self._left < facts.size[self._upper]
        if short.any():
            self._cut[short] = facts.cut[self._upper[short]]
        self.has_extra = self._left >= facts.extra[self._upper]
        kind = self._upper.astype(np.intp) << 8 | self._layer4[:, 0]
        self._quotes = facts.quotes[kind] & (self._left > QUOTED_AT)
        self.has_extra |= self._quotes | (ethertypes == ETH_P_ARP)
        rows = np.flatnonzero(self.has_extra)
        if len(rows):
            self.regular[rows] &= self._keys(rows).complete()

    def _step_over(self, version: Array) -> None:
        """Find the headers of layer 4 behind options and extension headers."""
        data, starts, sizes = self._data, self._starts, self._sizes
        four, six = self._is_four, self._is_six
        after = (version & 15).astype(np.int64) * 4
        upper = np.full(len(starts), NOTHING, np.int64)
        regular = np.ones(len(starts), bool)
        regular[four] = ((version >= 0x45) & (version <= 0x4F) & (sizes >= IPV4.sizeof()))[four]
        if not four.all():
            self._bits = np.where(four, self._bits, 0)
            arp = self._ethertypes == ETH_P_ARP
            if arp.any():
                regular[arp] = self._is_common_arp(arp)
                after[arp] = 0
        if six.any():
            fields = self._six
            good = (fields["version_class_flow"] >> 28 == 6) & (sizes >= _LEAST_IPV6)
            regular[six] = good[six]
            after[six] = IPV6.sizeof()
            self.protocol = np.where(six, fields["next_header"], self.protocol)
            self._cut[six & (sizes < IPV6.sizeof())] = _CUT_IPV6
            chained = np.isin(self.protocol, [*EXTENSIONS, FRAGMENT]) & six & good
            chained &= self._cut == 0
            if chained.any():
                self._follow_chain(np.flatnonzero(chained), after, regular)
        self._cut[four & (after > sizes)] = _CUT_OPTIONS
        later = self._bits & np.where(six, 0xFFF8, 0x1FFF) != 0
        reads = (four | six) & (self._cut == 0) & ~later & regular
        upper[reads] = self.protocol[reads]
        places = starts + after
        beyond = places + LAYER4 > len(data)
        if beyond.any():
            places = np.where(beyond, len(data) - LAYER4, places)
            regular &= ~(beyond & reads)
        self._layer4 = gather(data, places, LAYER4)
        self._after, self._upper, self.regular = after, upper, regular

    def _is_common_arp(self, rows: Array) -> Array:
        arp = self._octets[rows].view(np.dtype(plan_of(ARP).dtype(SIZE))).ravel()
        common: Array = (arp["hlen"] == 6) & (arp["plen"] == 4) & (self._sizes[rows] >= ARP_SIZE)
        return common

    def _follow_chain(self, rows: Array, after: Array, regular: Array) -> None:
        """As packet.ipv6_chain, of the packets whose numbers are `rows`."""
        data, starts, sizes, protocol = self._data, self._starts, self._sizes, self.protocol
        bits, ids = np.zeros(len(starts), np.uint16), np.zeros(len(starts), np.int64)
        self._follow_jumbo(rows, regular)
        extensions = np.zeros(256, bool)
        extensions[list(EXTENSIONS)] = True
        size = IPV6_FRAGMENT.sizeof()
        extension, fragment = (
            np.dtype(plan_of(schema).dtype(size)) for schema in (IPV6_EXTENSION, IPV6_FRAGMENT)
        )
        for _ in range(_CHAIN):
            is_fragment = protocol[rows] == FRAGMENT
            rows = rows[is_fragment | extensions[protocol[rows]]]
            if not len(rows):
                break
            is_fragment = protocol[rows] == FRAGMENT
            near = starts[rows] + after[rows] + size > len(data)
            if near.any():
                regular[rows[near]] = False
                rows, is_fragment = rows[~near], is_fragment[~near]
            octets = gather(data, starts[rows] + after[rows], size)
            cut = after[rows] + np.where(is_fragment, size, IPV6_EXTENSION.sizeof()) > sizes[rows]
            self._cut[rows[cut]] = np.where(is_fragment[cut], _CUT_FRAGMENT, _CUT_EXTENSION)
            rows, is_fragment, octets = rows[~cut], is_fragment[~cut], octets[~cut]
            heads = octets.view(fragment).ravel()
            own = is_fragment & (heads["offset_more"] & 0xFFF9 != 0)
            bits[rows[own]] = heads["offset_more"][own] & 0xFFF9
            ids[rows[own]] = heads["id"][own]
            units = np.where(is_fragment, 0, octets.view(extension).ravel()["length"])
            protocol[rows] = octets[:, 0]
            after[rows] += 8 + units.astype(np.int64) * 8
            if self._jumbo is not None:  # a jumbogram has no fragments
                regular[rows[is_fragment & (self._jumbo[rows] > 0)]] = False
            goes_on = bits[rows] & 0xFFF8 == 0
            cut = goes_on & (after[rows] > sizes[rows])
            self._cut[rows[cut]] = _CUT_EXTENSION
            rows = rows[goes_on & ~cut]
        else:
            regular[rows[(protocol[rows] == FRAGMENT) | extensions[protocol[rows]]]] = False
        self._bits, self._ids = np.where(self._is_six, bits, self._bits), ids

    def _follow_jumbo(self, rows: Array, regular: Array) -> None:
        """The lengths of packets that state them in a hop-by-hop header: 0 for others."""
        six = self._six
        rows = rows[(self.protocol[rows] == HOP_BY_HOP) & (six["payload_length"][rows] == 0)]
        if not len(rows):
            return
        self._jumbo = np.zeros(len(self._starts), np.int64)
        octets = self._octets[rows, IPV6.sizeof() :]
        value = np.ascontiguousarray(octets[:, 4:8]).view(">u4").ravel().astype(np.int64)
        good = (octets[:, 1] == 0) & (octets[:, 2] == JUMBO) & (octets[:, 3] == 4)
        good &= (value > 0xFFFF) & (self._sizes[rows] >= IPV6.sizeof() + 8)
        self._jumbo[rows] = value
        regular[rows[~good]] = False

    def take(self, rows: Array) -> None:
        """Keep only these rows."""
        for name, values in vars(self).items():
            if isinstance(values, np.ndarray) and name != "_data" and len(values):
                setattr(self, name, values[rows])
        self._four = self._octets.view(self._four.dtype).ravel()
        self._six = self._octets.view(self._six.dtype).ravel()

    def _two(self, name: str) -> Array:
        """A field of two bytes in the IPv4 header, which old kernels keep in their own order."""
        values: Array = self._four[name]
        return values.byteswap() if self._swapped else values

    @property
    def are_four(self) -> Array:
        """Which of the packets are IPv4."""
        are_four: Array = self._is_four
        return are_four

    def column(self, name: str) -> Column | None:
        """The column of a field that the headers determine; None for another field."""
        facts, upper = protocols(), self._upper
        if name == "family":
            return families(self._ethertypes)
        if name == "caplen":
            return NumberColumn(self._sizes, _or_all(self._ethertypes != NO_PACKET))
        if name == "protocol":
            return NumberColumn(self.protocol, _or_all(self._is_four | self._is_six))
        if name in ("saddr", "daddr"):
            return self._addresses("src" if name == "saddr" else "dst")
        if name == "length":
            return self._length()
        if name in ("sport", "dport"):
            needed = 2 if name == "sport" else 4
            valid = facts.ports[upper] & (self._left >= needed)
            return NumberColumn(self._field(UDP, name), valid)
        if name in ("icmp_type", "icmp_code"):
            field = name.removeprefix("icmp_")
            valid = facts.icmp[upper] & (self._left >= (1 if field == "type" else 2))
            return NumberColumn(self._field(ICMP, field), valid)
        if name == "tcp_flags":
            flags = self._field(TCP, "flags").astype(np.intp)
            flags[(upper != _TCP_NUMBER) | (self._left <= plan_of(TCP).places["flags"].offset)] = (
                256
            )
            return Repeated(flags, (*TCP_FLAGS, None))
        if name == "cut":
            return Repeated(self._cut.astype(np.intp), CUTS) if self._cut.any() else None
        if name == "fragment":
            return self._fragments()
        return None

    def _keys(self, rows: Array) -> ExtraKeys:
        """What determines the `extra` of the packets whose numbers are `rows`."""
        quotes, arp = self._quotes[rows], self._ethertypes[rows] == ETH_P_ARP
        starts = self._starts[rows] + np.where(arp, 0, self._after[rows])
        left = np.where(arp, ARP_SIZE, self._left[rows])
        return ExtraKeys(self._data, starts, left, self._upper[rows], quotes, arp)

    def extra_keys(self) -> tuple[Array, list[bytes]]:
        """A code for each packet, and for each code the bytes that determine what its headers put
        into `extra`; b"" for nothing.
        """
        codes = np.zeros(len(self._sizes), np.intp)
        rows = np.flatnonzero(self.has_extra)
        if not len(rows):
            return codes, [b""]
        own, keys = self._keys(rows).codes()
        codes[rows] = own + 1
        return codes, [b"", *keys]

    def _length(self) -> NumberColumn:
        length, least = self._two("length").astype(np.int64), self._sizes
        valid = self._is_four
        size = np.maximum(least, (self._four["version_ihl"] & 15).astype(np.int64) * 4)
        if self._is_six.any():
            fields = self._six
            long, own = fields["payload_length"].astype(np.int64), IPV6.sizeof()
            stated = (long > 0) | (fields["next_header"] == NO_NEXT_HEADER)
            if self._jumbo is not None:
                long, stated = (
                    np.where(self._jumbo > 0, self._jumbo, long),
                    stated | (self._jumbo > 0),
                )
            length = np.where(self._is_six, long + own, length)
            size = np.where(self._is_six, np.where(self._cut == _CUT_IPV6, 0, least), size)
            valid = valid | (self._is_six & stated)
        return NumberColumn(length, valid & (length >= size))  # as packet.believed

    def _fragments(self) -> Repeated | None:
        rows = np.flatnonzero(self._bits)
        if not len(rows):
            return None
        six = self._is_six[rows]
        ids = self._four["id"][rows].astype(np.int64)
        if len(self._ids):
            ids = np.where(six, self._ids[rows], ids)
        bits = np.where(six, self._bits[rows], self._two("flags_offset")[rows]).astype(np.int64)
        own, first = alike([six, bits, ids])
        values: list[Fragment | None] = [None]
        for i in first.tolist():
            number, ident = int(bits[i]), int(ids[i])
            if six[i]:
                values.append(Fragment(ident, number & 0xFFF8, bool(number & 1)))
            else:
                dont, more = bool(number & 0x4000), bool(number & 0x2000)
                values.append(Fragment(ident, (number & 0x1FFF) * 8, more, dont))
        codes = np.zeros(len(self._bits), np.intp)
        codes[rows] = own + 1
        return Repeated(codes, values)

    def _field(self, schema: object, name: str) -> Array:
        """A field of the header after the network header."""
        dtype = np.dtype(plan_of(schema).dtype(LAYER4))
        values: Array = self._layer4.view(dtype).ravel()[name]
        return values

    def _addresses(self, name: str) -> Addresses:
        six, octets = self._is_six, self._octets
        at, size = plan_of(IPV4).places[name].offset, 4
        four = octets[:, at : at + size]
        valid: Array | None = None
        if not (self._is_four | six).all():
            arp = self._ethertypes == ETH_P_ARP
            at = ARP_SIZE - 4 if name == "dst" else ARP.sizeof() + 6
            four = np.where(arp[:, None], octets[:, at : at + size], four)
            ptype = octets[:, 2].astype(np.int64) << 8 | octets[:, 3]
            valid = self._is_four | six | (arp & (ptype == ETH_P_IP))
        if name == "dst" and (self._cut == _CUT_IPV6).any():
            seen = self._cut != _CUT_IPV6
            valid = seen if valid is None else valid & seen
        at = plan_of(IPV6).places[name].offset
        long = octets[:, at : at + 16]
        if six.any():
            four, long = four[~six], long[six]
        else:
            long = long[:0]
        return Addresses(np.ascontiguousarray(four), np.ascontiguousarray(long), six, valid)
