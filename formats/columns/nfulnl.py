"""NFLOG messages, many at once, with all that kernels write but conntrack entries.

The attributes of all messages are walked together, one attribute of each in a step, in any order.
Numbers and times are views of what the walk read. What a rule, a hook and the interfaces determine
comes from `decode`, once for all messages that agree in it. columns.packet reads the packets.
Messages with anything else are left to the Stream: conntrack entries, unknown attributes, those
that come again or are too short, and damaged packets.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from pylog.formats import LIMIT, Stream
from pylog.formats.columns import (
    Array,
    Blobs,
    Column,
    DecodedOnce,
    NumberColumn,
    Numbered,
    Repeated,
    Rows,
)
from pylog.formats.columns.arrays import alike, by_size, follow, gather, words
from pylog.formats.columns.mapped import MAX_SECOND
from pylog.formats.columns.nfulnl_walk import ONE_TAG, WORD, AttributeKinds, Attributes
from pylog.formats.columns.packet import NO_PACKET, SIZE, IpPackets, families
from pylog.formats.netlink import (
    NFGENMSG,
    NFNL_SUBSYS_ULOG,
    NLMSG_OVERRUN,
    nlmsghdr,
)
from pylog.formats.nfulnl import NfulnlStream
from pylog.formats.nfulnl_attributes import ATTRIBUTES, NFULNL_MSG_PACKET, READERS
from pylog.formats.nfulnl_fast import ETHERTYPES
from pylog.formats.nfulnl_payload import LINK_HEADER_HOOKS
from pylog.formats.nfulnl_table import (
    ADDRESS,
    ATTRIBUTE_NUMBER,
    DEVICES,
    HOOK,
    NUMBERS,
    PREFIX,
    TIME,
)
from pylog.formats.packet import vlan_tag
from pylog.formats.packet_schemas import ETH_P_8021AD, ETH_P_8021Q, ETHERNET, VLAN_TAG
from pylog.formats.plan import BYTEORDER, Plan
from pylog.record import PacketRecord, Record

PLACES = PacketRecord.__struct_fields__

SIMPLE = {PLACES[row.place]: row.field for row in NUMBERS}
"""The fields that are a number, and the attributes that hold it."""

SAMPLED = ("group", *(PLACES[at] for at in HOOK.places), *(PLACES[row.place] for row in DEVICES))
"""Fields that come from `decode`, once for all messages that agree in DETERMINING and in nfgenmsg,
the size of the link header, and whether they have NFULA_SEQ_GLOBAL. `extra` comes from it, too,
once for all messages that also agree in what their packet puts into it."""
DETERMINING = (
    "NFULA_PACKET_HDR", *(row.field for row in DEVICES), "NFULA_HWLEN", "NFULA_CT_INFO",
)  # fmt: skip
ANY = {PLACES[row.places[0]]: row for row in (PREFIX, ADDRESS)}
"""The Words that all bytes of an attribute determine, by field."""

AHEAD = 8
"""This many bytes may be read behind a message."""

GENMSG = Plan(NFGENMSG).names

MOST_TAGS = 2
"""A payload that begins with more VLAN tags is left to the Stream."""
TAGS = (ETH_P_8021Q, ETH_P_8021AD)
LONGEST = 255
"""Longer values of the attributes in ANY are left to the Stream; the kernel's are shorter."""


def columns(stream: NfulnlStream) -> NfulnlColumns:
    """What reads NFLOG messages of either byte order."""
    return NfulnlColumns(stream)


class NfulnlColumns:
    """Reads the log messages of a stream."""

    def __init__(self, stream: NfulnlStream, decoder: Stream | None = None) -> None:
        """`decoder` decodes the messages: the stream itself, or the stream of a capture."""
        self.stream, self.decoder = stream, decoder or stream
        self.nlmsghdr = np.dtype(Plan(nlmsghdr(stream.order)).dtype())
        self.genmsg = np.dtype(Plan(NFGENMSG).dtype())
        self.kinds = AttributeKinds(stream.order)
        self.type_at = Plan(nlmsghdr(stream.order)).places["nlmsg_type"].offset
        self.decoded_once = {name: DecodedOnce() for name in ("", "extra")}
        self._pattern = NFULNL_MSG_PACKET.to_bytes(2, BYTEORDER[stream.order]) + bytes(2)

    def read(self, data: bytes, pos: int, stop: int) -> Rows | None:
        """As pylog.formats.columns.Columns.read."""
        array = np.frombuffer(data, np.uint8)
        stop = min(stop, len(data) - max(SIZE, self.nlmsghdr.itemsize) + 1)
        if pos >= stop:
            return None
        at = self.type_at

        def find(near: int, limit: int) -> int:
            place = near + at - 1
            while (place := data.find(self._pattern, place + 1, limit + at)) >= 0:
                if (place - at - pos) % 4 == 0:
                    return place - at
            return -1

        def after(places: Array) -> Array:
            heads = gather(array, places, self.nlmsghdr)
            size, kind = heads["nlmsg_len"].astype(np.int64), heads["nlmsg_type"]
            good = (kind >> 8 == NFNL_SUBSYS_ULOG) & (size >= 20)
            if not good.all():
                good |= (kind > 0) & (kind < NLMSG_OVERRUN) & (size >= 16)
            return np.where(good & (size <= LIMIT) & (size & 3 == 0), places + size, -1)

        starts, end = follow(pos, stop, find, after)
        if end > len(data) - AHEAD:  # the last one is not complete, or too near the end
            starts, end = starts[:-1], int(starts[-1])
        if not len(starts):
            return None
        ends = np.append(starts[1:], end)
        logged = gather(array, starts, self.nlmsghdr)["nlmsg_type"] == NFULNL_MSG_PACKET
        if not logged.any():
            return None
        if not logged.all():
            starts, ends = starts[logged], ends[logged]
        rows = NfulnlRows(self, data, starts, ends, starts + self.nlmsghdr.itemsize)
        rows.after, rows.other = end, len(logged) - len(starts)
        return rows


class NfulnlRows(Rows):
    """Log messages that follow each other, but for messages of other kinds between them."""

    def __init__(
        self, columns: NfulnlColumns, data: bytes, starts: Array, ends: Array, bodies: Array,
        candidates: Array | None = None,
    ) -> None:  # fmt: skip
        """At least AHEAD bytes follow the messages, and at least SIZE bytes follow their starts.

        bodies       where nfgenmsg begins in each
        candidates   False for those that are certainly irregular
        """
        self._columns, self._data, self._array = columns, data, np.frombuffer(data, np.uint8)
        self._base = columns.stream.base  # which looking ahead may change before columns are made
        array, heads = self._array, gather(self._array, bodies, columns.genmsg)
        self.starts, self.ends, self._heads = starts, ends, heads
        self._attributes = Attributes(columns.kinds, array, bodies + columns.genmsg.itemsize, ends)
        self._regular = ~self._attributes.irregular
        if candidates is not None:
            self._regular &= candidates
        family = heads["nfgen_family"]
        hdr, present = self._attributes.fixed("NFULA_PACKET_HDR")
        default = np.zeros(256, np.uint16)
        default[list(ETHERTYPES)] = list(ETHERTYPES.values())
        stated = present & (hdr["hw_protocol"] != 0)
        self._ethertypes = np.where(stated, hdr["hw_protocol"], default[family]).astype(np.int64)
        self._check_hwaddr()
        stamp, self._stamped = self._attributes.fixed("NFULA_TIMESTAMP")
        seconds, micros = (stamp[field].astype(np.int64) for field in TIME)
        timely = (seconds >= 0) & (seconds <= MAX_SECOND) & (micros >= 0) & (micros < 1_000_000)
        self._regular &= ~self._stamped | timely
        self._times = seconds * 10**9 + micros * 1000
        self._has_packet = self._attributes.size("NFULA_PAYLOAD") > 0
        self._payloads = self._attributes.place("NFULA_PAYLOAD")
        self._caplens = np.where(self._has_packet, self._attributes.size("NFULA_PAYLOAD"), 0)
        link_first = np.zeros(len(starts), bool)
        for number, hook in LINK_HEADER_HOOKS:
            link_first |= present & (family == number) & (hdr["hook"] == hook)
        self._pass_links(link_first)
        self._tags: list[Array] = [self._outer_tags(), *self._inner_tags()]
        self._regular &= ~self._has_packet | ((self._caplens > 0) & (self._ethertypes > 0))
        last = len(array) - SIZE
        self._regular &= ~self._has_packet | (self._payloads <= last)
        kinds = np.where(self._has_packet, self._ethertypes, NO_PACKET)
        packets = IpPackets(array, np.minimum(self._payloads, last), self._caplens, kinds)
        regular = self._regular & packets.regular
        self.irregular, self._rows = np.flatnonzero(~regular), np.flatnonzero(regular)
        if len(self.irregular):
            self._attributes.take(regular)
            self._tags = [part[regular] for part in self._tags]
            for name in (
                "_heads", "_times", "_stamped", "_payloads", "_caplens", "_has_packet",
                "_ethertypes", "_links", "_link_sizes",
            ):  # fmt: skip
                setattr(self, name, getattr(self, name)[regular])
            packets.take(regular)
        self._packets = packets

    def _check_hwaddr(self) -> None:
        """Leave addresses of impossible size, and long values, to the Stream."""
        for name in ("NFULA_PREFIX", "NFULA_HWADDR", "NFULA_HWHEADER"):
            self._regular &= self._attributes.size(name) <= LONGEST
        hwaddr = Plan(ATTRIBUTES[ATTRIBUTE_NUMBER["NFULA_HWADDR"]][1])
        addresses = self._attributes.word("NFULA_HWADDR").view(hwaddr.dtype(WORD, ["hw_addrlen"]))
        most = hwaddr.places["hw_addr"].size
        self._regular &= ~self._attributes.has("NFULA_HWADDR") | (addresses["hw_addrlen"] <= most)

    def _pass_links(self, link_first: Array) -> None:
        """Find the link headers, and pass over those at the start of a payload.

        link_first   the messages of hooks that log from the link header on
        """
        array, size, of = self._array, ETHERNET.sizeof(), self._attributes
        header, l2hdr = of.has("NFULA_HWHEADER"), of.has("NFULA_L2HDR")
        self._links, self._link_sizes = (
            of.place("NFULA_HWHEADER"),
            of.size("NFULA_HWHEADER"),
        )
        if l2hdr.any():
            places, sizes = (
                of.place("NFULA_L2HDR"),
                of.size("NFULA_L2HDR"),
            )
            self._regular &= ~l2hdr | (sizes == size)
            both = np.flatnonzero(header & l2hdr & self._regular)
            same = self._link_sizes[both] == size
            at = np.minimum(self._links[both], len(array) - size)
            own, other = gather(array, at, size), gather(array, places[both], size)
            self._regular[both] = same & (own == other).all(axis=1)
            self._links = np.where(header, self._links, places)
            self._link_sizes = np.where(header, self._link_sizes, np.where(l2hdr, sizes, -1))
        rows = np.flatnonzero(link_first & self._regular & (self._caplens >= size))
        if not len(rows):
            return
        starts, has_l2 = self._payloads[rows], l2hdr[rows]
        octets = gather(array, starts, size)
        kind = octets[:, 12].astype(np.int64) << 8 | octets[:, 13]
        stated = self._ethertypes[rows]
        ethernet = (kind == stated) | ((kind < 0x600) & (stated < 0x600))
        places = of.place("NFULA_L2HDR")[rows]
        ethernet[has_l2] = (octets[has_l2] == gather(array, places[has_l2], size)).all(axis=1)
        rows, starts = rows[ethernet], starts[ethernet]
        self._payloads[rows] += size
        self._caplens[rows] -= size
        lacking = self._link_sizes[rows] < 0
        self._links[rows[lacking]], self._link_sizes[rows[lacking]] = starts[lacking], size

    def _outer_tags(self) -> Array:
        """The VLAN tag of each message in NFULA_VLAN: ONE_TAG | EtherType << 16 | tci, else 0."""
        tags, good = self._attributes.vlan_tags()
        self._regular &= good
        return tags

    def _inner_tags(self) -> list[Array]:
        """The VLAN tags at the start of the payloads, as _outer_tags; passes over them."""
        found: list[Array] = []
        for depth in range(MOST_TAGS + 1):
            tagged = np.isin(self._ethertypes, TAGS) & self._has_packet & self._regular
            rows = np.flatnonzero(tagged & (self._caplens >= VLAN_TAG.sizeof()))
            if not len(rows):
                break
            if depth == MOST_TAGS:
                self._regular[rows] = False
                break
            heads = gather(self._array, self._payloads[rows], np.dtype(Plan(VLAN_TAG).dtype()))
            tags = np.zeros(len(self._ethertypes), np.int64)
            tags[rows] = ONE_TAG | self._ethertypes[rows] << 16 | heads["tci"]
            found.append(tags)
            self._ethertypes[rows] = heads["type"]
            self._payloads[rows] += VLAN_TAG.sizeof()
            self._caplens[rows] -= VLAN_TAG.sizeof()
        return found

    def logs(self) -> Repeated:
        """As pylog.formats.columns.Rows.logs."""
        codes, samples = self._samples
        return Repeated(codes, [(None, record.log) for record in samples])

    def column(self, name: str) -> Column | None:
        """As pylog.formats.columns.Rows.column."""
        stream = self._columns.stream
        if name in SIMPLE:
            values, there = self._attributes.fixed(SIMPLE[name])
            return NumberColumn(values["value"], there) if there.any() else None
        if name in SAMPLED:
            codes, samples = self._samples
            return Repeated(codes, [getattr(record, name) for record in samples])
        if name == "extra":
            return self._extra()
        if name in ANY:
            (attribute,) = ANY[name].fields
            explain, places = ANY[name].explain, self._attributes.place(attribute)
            _, _, unpack = READERS[ATTRIBUTE_NUMBER[attribute]]

            def meaning(octets: bytes) -> Any:
                given = (octets,) if unpack is None else unpack(octets, 0)
                return explain(*given)[0]

            return self._any(meaning, places, self._attributes.size(attribute))
        if name == "hwheader":
            return self._any(lambda octets: octets.hex() or None, self._links, self._link_sizes)
        if name == "vlan":
            return self._vlans()
        if name == "timestamp_ns":
            return NumberColumn(self._times, self._stamped)
        if name == "offset":
            return NumberColumn(self.starts[self._rows] + self._base)
        if name in ("source", "layout"):
            return Repeated(np.zeros(len(self._rows), np.intp), [getattr(stream, name)])
        if name == "payload":
            valid = None if self._has_packet.all() else self._has_packet
            return Blobs(self._array, self._payloads, self._caplens, valid)
        if name == "family":
            return families(self._ethertypes)
        return self._packets.column(name)

    def _vlans(self) -> Repeated | None:
        """The VLAN tags of each message, outer tags first."""
        if not any(part.any() for part in self._tags):
            return None
        codes, rows = alike(self._tags)
        stacked = np.stack([part[rows] for part in self._tags], axis=1)
        values = [
            tuple(vlan_tag(tag & 0xFFFF, tag >> 16 & 0xFFFF) for tag in tags if tag) or None
            for tags in stacked.tolist()
        ]
        return Repeated(codes, values)

    @cached_property
    def _coded(self) -> tuple[Array, list[bytes], Array]:
        """A code for each regular message, and the key and an example of each code."""
        parts = self._determining()
        codes, rows = alike(parts)
        keys = np.stack([part[rows].astype(np.int64) for part in parts], axis=1)
        return codes, [key.tobytes() for key in keys], rows

    @cached_property
    def _samples(self) -> tuple[Array, list[Record]]:
        """A code for each regular message, and for each code a record with its SAMPLED fields."""
        codes, keys, rows = self._coded
        pairs = zip(keys, rows.tolist(), strict=True)
        return codes, [self._sample("", key, row) for key, row in pairs]

    def _determining(self) -> list[Array]:
        """What determines the SAMPLED fields, as numbers of each regular message."""
        parts = [self._heads[name] for name in GENMSG]
        there = np.zeros(len(self._rows), np.int64)
        for i, name in enumerate(DETERMINING):
            values, has = self._attributes.fixed(name)
            there |= has.astype(np.int64) << i
            parts += [np.where(has, values[field], 0) for field in values.dtype.names]
        there |= self._attributes.has("NFULA_SEQ_GLOBAL").astype(np.int64) << len(DETERMINING)
        return [*parts, there, self._link_sizes]

    def _extra(self) -> Column:
        """`extra`, with the NFULA_SEQ_GLOBAL of each message, which differs in all of them."""
        codes, keys, rows = self._coded
        own, packet_keys = self._packets.extra_keys()
        if len(packet_keys) > 1:
            pairs, rows = alike([codes, own])
            keys = [keys[codes[i]] + packet_keys[own[i]] for i in rows.tolist()]
            codes = pairs
        chosen = zip(keys, rows.tolist(), strict=True)
        samples = [self._sample("extra", key, row) for key, row in chosen]
        values = [record.extra for record in samples if isinstance(record, PacketRecord)]
        numbers, there = self._attributes.fixed("NFULA_SEQ_GLOBAL")
        if not there.any():
            return Repeated(codes, values)
        return Numbered(codes, values, "NFULA_SEQ_GLOBAL", numbers["value"], there)

    def _any(self, meaning: Callable[[bytes], Any], places: Array, sizes: Array) -> Repeated:
        """What bytes of any size mean, worked out once for equal ones; a size below 0 for none."""
        having = np.flatnonzero(sizes >= 0)
        codes = np.zeros(len(sizes), np.intp)
        values: list[Any] = [None]
        places, sizes = places[having], sizes[having]
        for size, rows in by_size(sizes):
            octets = gather(self._array, places[rows], (size + 8) & ~7)
            mask = (np.arange(octets.shape[1]) < size).astype(np.uint8) * 0xFF
            own_codes, first = alike(words(octets, mask))
            codes[having[rows]] = own_codes + len(values)
            values += [meaning(key.tobytes()) for key in octets[first, :size]]
        return Repeated(codes, values)

    def _sample(self, what: str, key: bytes, row: int) -> Record:
        """The record of a regular message, or of an earlier message with the same key."""
        columns, message = self._columns, self.message(int(self._rows[row]))
        return columns.decoded_once[what].record(key, columns.decoder, self._data, message)
