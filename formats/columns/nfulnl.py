"""NFLOG messages, many at once, with all that kernels write but conntrack entries.

The attributes of all messages are walked together, one attribute of each in a step, in any order.
Numbers and times are views of what the walk read. What a rule, a hook and the interfaces determine
comes from `decode`, once for all messages that agree in it. columns.packet reads the packets.
Messages with anything else are left to the Stream: conntrack entries, unknown attributes, those
that come again or are too short, and damaged packets.
"""

from __future__ import annotations

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
from pylog.formats.columns.arrays import alike, beside, by_size, follow, gather, grouped, seeming
from pylog.formats.columns.mapped import MAX_SECOND
from pylog.formats.columns.nfulnl_layouts import DETERMINING, ONE_TAG, Attributes, Layouts
from pylog.formats.columns.packet import NO_PACKET, SIZE, IpPackets, families
from pylog.formats.netlink import (
    NFGENMSG,
    NFNL_SUBSYS_ULOG,
    NLMSG_OVERRUN,
    nlmsghdr,
)
from pylog.formats.nfulnl import NfulnlStream
from pylog.formats.nfulnl_attributes import NFULNL_MSG_PACKET
from pylog.formats.nfulnl_fast import ETHERTYPES
from pylog.formats.nfulnl_payload import LINK_HEADER_HOOKS
from pylog.formats.nfulnl_table import (
    ADDRESS,
    DEVICES,
    HOOK,
    NUMBERS,
    PREFIX,
    TIME,
)
from pylog.formats.packet import vlan_tag
from pylog.formats.packet_schemas import ETH_P_8021AD, ETH_P_8021Q, ETHERNET, VLAN_TAG
from pylog.formats.plan import BYTEORDER, Plan, plan_of
from pylog.record import PacketRecord

PLACES = PacketRecord.__struct_fields__

SIMPLE = {PLACES[row.place]: row.field for row in NUMBERS if row.field not in DETERMINING}
"""The fields that are a number of each message, and the attributes that hold it."""

SAMPLED = (
    "group", *(PLACES[at] for row in (HOOK, PREFIX, ADDRESS) for at in row.places),
    *(PLACES[row.place] for row in (*NUMBERS, *DEVICES) if row.field in DETERMINING),
)  # fmt: skip
"""Fields that come from `decode`, once for all messages that agree in what determines them, in the
size of the link header, and in what their packet puts into `extra`. `extra` comes from it, too."""

AHEAD = 8
"""This many bytes may be read behind a message."""

GENMSG = Plan(NFGENMSG).names

MOST_TAGS = 2
"""A payload that begins with more VLAN tags is left to the Stream."""
TAGS = (ETH_P_8021Q, ETH_P_8021AD)


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
        self.layouts = Layouts(stream.order)
        self.type_at = Plan(nlmsghdr(stream.order)).places["nlmsg_type"].offset
        self.decoded_once = DecodedOnce()
        self._pattern = NFULNL_MSG_PACKET.to_bytes(2, BYTEORDER[stream.order]) + bytes(2)

    def read(self, data: bytes, pos: int, stop: int) -> Rows | None:
        """As pylog.formats.columns.Columns.read."""
        array = np.frombuffer(data, np.uint8)
        stop = min(stop, len(data) - max(SIZE, self.nlmsghdr.itemsize) + 1)
        if pos >= stop:
            return None

        def after(places: Array) -> Array:
            heads = gather(array, places, self.nlmsghdr)
            size, kind = heads["nlmsg_len"].astype(np.int64), heads["nlmsg_type"]
            good = (kind >> 8 == NFNL_SUBSYS_ULOG) & (size >= 20)
            if not good.all():
                good |= (kind > 0) & (kind < NLMSG_OVERRUN) & (size >= 16)
            return np.where(good & (size <= LIMIT) & (size & 3 == 0), places + size, -1)

        places = seeming(data, pos, stop, self._pattern, self.type_at)
        starts, end = follow(pos, stop, places, after)
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
        self._attributes = Attributes(columns.layouts, array, bodies, ends)
        self._regular = ~self._attributes.irregular
        if candidates is not None:
            self._regular &= candidates
        family = heads["nfgen_family"]
        hdr, present = self._attributes.fixed("NFULA_PACKET_HDR")
        default = np.zeros(256, np.uint16)
        default[list(ETHERTYPES)] = list(ETHERTYPES.values())
        stated = present & (hdr["hw_protocol"] != 0)
        self._ethertypes = np.where(stated, hdr["hw_protocol"], default[family]).astype(np.int64)
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

    def _pass_links(self, link_first: Array) -> None:
        """Find the link headers, and pass over those at the start of a payload.

        link_first   the messages of hooks that log from the link header on
        """
        array, size, of = self._array, ETHERNET.sizeof(), self._attributes
        self._opened = False  # whether a payload begins with a link header
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
        self._opened = len(rows) > 0
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
            heads = gather(self._array, self._payloads[rows], np.dtype(plan_of(VLAN_TAG).dtype()))
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
        if name == "hwheader":
            return self._link_headers()
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
    def _samples(self) -> tuple[Array, list[PacketRecord]]:
        """A code for each regular message, and for each code a record with its SAMPLED fields."""
        own, packet_keys = self._packets.extra_keys()
        more = [self._link_sizes, *self._more_determining(), own]

        def determining(rows: Any) -> Array:
            parts = [part[rows] for part in more]
            return beside([*self._attributes.determining(rows), *parts])

        codes, rows = grouped(len(self._rows), determining)
        keys = zip(determining(rows)[:, :-1], own[rows].tolist(), rows.tolist(), strict=True)
        return codes, [self._sample(key.tobytes() + packet_keys[i], row) for key, i, row in keys]

    def _more_determining(self) -> list[Array]:
        """Other numbers that determine the SAMPLED fields."""
        return []

    def _extra(self) -> Column:
        """`extra`, with the NFULA_SEQ_GLOBAL of each message, which differs in all of them."""
        codes, samples = self._samples
        values = [record.extra for record in samples]
        numbers, there = self._attributes.fixed("NFULA_SEQ_GLOBAL")
        if not there.any():
            return Repeated(codes, values)
        return Numbered(codes, values, "NFULA_SEQ_GLOBAL", numbers["value"], there)

    def _link_headers(self) -> Repeated:
        """The link headers: where a payload begins with one, worked out once for equal bytes."""
        if not self._opened:
            codes, samples = self._samples
            return Repeated(codes, [record.hwheader for record in samples])
        places, sizes = self._links, self._link_sizes
        having = np.flatnonzero(sizes >= 0)
        codes = np.zeros(len(sizes), np.intp)
        values: list[Any] = [None]
        places, sizes = places[having], sizes[having]
        for size, rows in by_size(sizes):
            octets = gather(self._array, places[rows], (size + 8) & ~7)
            mask = (np.arange(octets.shape[1]) < size).astype(np.uint8) * 0xFF
            own_codes, first = alike([octets & mask])
            codes[having[rows]] = own_codes + len(values)
            values += [key.tobytes().hex() or None for key in octets[first, :size]]
        return Repeated(codes, values)

    def _sample(self, key: bytes, row: int) -> PacketRecord:
        """The record of a regular message, or of an earlier message with the same key."""
        columns, message = self._columns, self.message(int(self._rows[row]))
        record = columns.decoded_once.record(key, columns.decoder, self._data, message)
        assert isinstance(record, PacketRecord)
        return record
