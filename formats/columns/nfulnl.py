"""NFLOG messages, many at once: those with the common attributes and a regular IP packet.

The attributes of all messages are walked together, one attribute of each in a step. Messages with
anything else are left to the Stream: other attributes (conntrack entries, VLAN tags, unknown
numbers), an attribute that comes again or is too short, ARP, or an Ethernet header in the payload.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import numpy as np
from construct import Struct

from pylog.formats import LIMIT, Stream
from pylog.formats.columns import Array, Blobs, Column, DecodedOnce, NumberColumn, Repeated, Rows
from pylog.formats.columns.arrays import alike, by_size, follow, gather, in_a_row, words
from pylog.formats.columns.mapped import MAX_SECOND
from pylog.formats.columns.packet import SIZE, IpPackets
from pylog.formats.netlink import (
    NFGENMSG,
    NFNL_SUBSYS_ULOG,
    NLA_TYPE_MASK,
    NLMSG_OVERRUN,
    nlattr_head,
    nlmsghdr,
)
from pylog.formats.nfulnl import NfulnlStream
from pylog.formats.nfulnl_attributes import ATTRIBUTES, NFULNL_MSG_PACKET, READERS
from pylog.formats.nfulnl_fast import ETHERTYPES
from pylog.formats.nfulnl_payload import LINK_HEADER_HOOKS
from pylog.formats.packet_schemas import ETH_P_IP, ETH_P_IPV6
from pylog.formats.plan import BYTEORDER, Plan
from pylog.record import Record

ATTRIBUTE_NUMBER = {name: number for number, (name, _) in ATTRIBUTES.items()}
LEFT = ("NFULA_CT", "NFULA_CT_INFO", "NFULA_VLAN", "NFULA_L2HDR")
"""The attributes that are left to the Stream."""

SIMPLE = {
    "mark": "NFULA_MARK", "uid": "NFULA_UID", "gid": "NFULA_GID", "seq": "NFULA_SEQ",
    "hwtype": "NFULA_HWTYPE",
}  # fmt: skip
"""The fields that are a number, and the attributes that hold it."""

SAMPLED = ("direction", "hook", "group", "indev", "outdev", "physindev", "physoutdev", "extra")
"""Fields that come from `decode`, once for all messages that agree in DETERMINING and in nfgenmsg,
the size of NFULA_HWHEADER, and whether they have NFULA_SEQ_GLOBAL."""
DETERMINING = (
    "NFULA_PACKET_HDR", "NFULA_IFINDEX_INDEV", "NFULA_IFINDEX_OUTDEV", "NFULA_IFINDEX_PHYSINDEV",
    "NFULA_IFINDEX_PHYSOUTDEV", "NFULA_HWLEN",
)  # fmt: skip
ANY = {"prefix": "NFULA_PREFIX", "hwaddr": "NFULA_HWADDR", "hwheader": "NFULA_HWHEADER"}
"""Fields that come from `decode`, once for all messages that agree in an attribute's bytes."""

WORD = 4
"""Bytes of a value that are read together with the attribute's header."""

AHEAD = 8
"""This many bytes may be read behind a message."""

GENMSG = Plan(NFGENMSG).names

LONGEST = 255
"""Longer values of the attributes in ANY are left to the Stream; the kernel's are shorter."""

MOST_STEPS = 32
"""A message with more attributes is left to the Stream."""


def columns(stream: NfulnlStream) -> NfulnlColumns:
    """What reads NFLOG messages of either byte order."""
    return NfulnlColumns(stream)


@cache
def _dtype(name: str) -> np.dtype[Any]:
    """An attribute of fixed size as NumPy has it."""
    kind = ATTRIBUTES[ATTRIBUTE_NUMBER[name]][1]
    plan = Plan(kind if isinstance(kind, Struct) else Struct("value" / kind))
    dtype: np.dtype[Any] = np.dtype(plan.dtype(max(plan.size, WORD)))
    return dtype


class NfulnlColumns:
    """Reads the log messages of a stream."""

    def __init__(self, stream: NfulnlStream, decoder: Stream | None = None) -> None:
        """`decoder` decodes the messages: the stream itself, or the stream of a capture."""
        self.stream, self.decoder = stream, decoder or stream
        self.nlmsghdr = np.dtype(Plan(nlmsghdr(stream.order)).dtype())
        self.genmsg = np.dtype(Plan(NFGENMSG).dtype())
        nlattr = np.dtype(Plan(nlattr_head(stream.order)).dtype())
        self.value_at: int = nlattr.itemsize
        self.attribute = in_a_row(nlattr, np.dtype([("word", f"u{WORD}")]))
        self.type_at = Plan(nlmsghdr(stream.order)).places["nlmsg_type"].offset
        self.decoded_once = {name: DecodedOnce() for name in (*ANY, "")}
        self._pattern = NFULNL_MSG_PACKET.to_bytes(2, BYTEORDER[stream.order]) + bytes(2)
        self.least = np.full(NLA_TYPE_MASK + 1, 1 << 16, np.int64)
        """The least nla_len by attribute number; impossibly large for those left to the Stream."""
        for number, (name, size, _) in READERS.items():
            if name not in LEFT:
                self.least[number] = 4 + max(size, 0)

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
        self._table, self._words, irregular = self._walk(bodies + columns.genmsg.itemsize)
        family, regular = heads["nfgen_family"], ~irregular
        if candidates is not None:
            regular &= candidates
        hdr, present = self._fixed("NFULA_PACKET_HDR")
        default = np.zeros(256, np.uint16)
        default[list(ETHERTYPES)] = list(ETHERTYPES.values())
        stated = present & (hdr["hw_protocol"] != 0)
        protocol = np.where(stated, hdr["hw_protocol"], default[family])
        six = protocol == ETH_P_IPV6
        regular &= six | (protocol == ETH_P_IP)
        for number, hook in LINK_HEADER_HOOKS:
            regular &= ~(present & (family == number) & (hdr["hook"] == hook))
        for name in ANY.values():
            regular &= self._size(name) <= LONGEST
        hwaddr = Plan(ATTRIBUTES[ATTRIBUTE_NUMBER["NFULA_HWADDR"]][1])
        addresses = self._words[ATTRIBUTE_NUMBER["NFULA_HWADDR"]].view(
            hwaddr.dtype(WORD, ["hw_addrlen"])
        )
        most = hwaddr.places["hw_addr"].size
        regular &= ~self._has("NFULA_HWADDR") | (addresses["hw_addrlen"] <= most)
        stamp, self._stamped = self._fixed("NFULA_TIMESTAMP")
        seconds, micros = stamp["sec"].astype(np.int64), stamp["usec"].astype(np.int64)
        timely = (seconds >= 0) & (seconds <= MAX_SECOND) & (micros >= 0) & (micros < 1_000_000)
        regular &= ~self._stamped | timely
        self._times = seconds * 10**9 + micros * 1000
        self._payloads, self._caplens = self._place("NFULA_PAYLOAD"), self._size("NFULA_PAYLOAD")
        last = len(array) - SIZE
        regular &= (self._caplens > 0) & (self._payloads <= last)
        packets = IpPackets(array, np.minimum(self._payloads, last), self._caplens, six)
        regular &= packets.regular
        self.irregular, self._rows = np.flatnonzero(~regular), np.flatnonzero(regular)
        if len(self.irregular):
            self._table, self._words = self._table[:, regular], self._words[:, regular]
            self._heads = heads[regular]
            self._times, self._stamped = self._times[regular], self._stamped[regular]
            self._payloads, self._caplens = self._payloads[regular], self._caplens[regular]
            packets.take(regular)
        self._packets = packets

    def _walk(self, at: Array) -> tuple[Array, Array, Array]:
        """By attribute number: the place in each message, and the first bytes of the value; and
        which messages are irregular.

        A place is offset | nla_len << 32, or 0 for no such attribute. The first attributes are at
        `at`.
        """
        array, count, columns = self._array, len(self.starts), self._columns
        irregular = np.zeros(count, bool)
        table = np.zeros((max(ATTRIBUTES) + 1) * count, np.int64)
        words_of = np.zeros((max(ATTRIBUTES) + 1) * count, np.uint32)
        seen = np.zeros(count, np.int64)
        ends, rows = self.ends, np.arange(count)
        for _ in range(MOST_STEPS):
            live = at < ends
            if not live.all():
                at, ends, rows, seen = at[live], ends[live], rows[live], seen[live]
            if not len(rows):
                break
            attribute = gather(array, at, columns.attribute)
            size = attribute["nla_len"].astype(np.int64)
            kind = attribute["nla_type"].astype(np.int64) & NLA_TYPE_MASK
            bit = np.left_shift(1, kind)
            good = (size >= columns.least[kind]) & (size <= ends - at) & (seen & bit == 0)
            if not good.all():
                irregular[rows[~good]] = True
                at, ends, rows, seen = at[good], ends[good], rows[good], seen[good]
                size, kind, bit = size[good], kind[good], bit[good]
                attribute = attribute[good]
            seen |= bit
            slots = kind * count + rows
            table[slots] = at | size << 32
            words_of[slots] = attribute["word"]
            at = at + (size + 3 & ~3)
        else:
            irregular[rows] = True  # these have more attributes
        return table.reshape(-1, count), words_of.reshape(-1, count), irregular

    def _place(self, name: str) -> Array:
        """Where the value of an attribute is, in the messages that have it."""
        at: Array = self._table[ATTRIBUTE_NUMBER[name]] & 0xFFFFFFFF
        return at + self._columns.value_at

    def _has(self, name: str) -> Array:
        """Which of the messages have an attribute."""
        present: Array = self._table[ATTRIBUTE_NUMBER[name]] > 0
        return present

    def _size(self, name: str) -> Array:
        """How long the value of an attribute is; below 0 where there is none."""
        size: Array = self._table[ATTRIBUTE_NUMBER[name]] >> 32
        return size - self._columns.value_at

    def _fixed(self, name: str) -> tuple[Array, Array]:
        """The values of an attribute of fixed size, and which messages have it (others: noise)."""
        dtype, there = _dtype(name), self._has(name)
        if dtype.itemsize == WORD:
            return self._words[ATTRIBUTE_NUMBER[name]].view(dtype), there
        return gather(self._array, self._place(name), dtype), there

    def logs(self) -> Repeated:
        """As pylog.formats.columns.Rows.logs."""
        codes, samples = self._samples
        return Repeated(codes, [(None, record.log) for record in samples])

    def column(self, name: str) -> Column | None:
        """As pylog.formats.columns.Rows.column."""
        stream = self._columns.stream
        if name in SIMPLE:
            values, there = self._fixed(SIMPLE[name])
            return NumberColumn(values["value"], there) if there.any() else None
        if name in SAMPLED:
            codes, samples = self._samples
            cells = [getattr(record, name) for record in samples]
            if name == "extra" and self._has("NFULA_SEQ_GLOBAL").any():
                return self._numbered(codes, cells)
            return Repeated(codes, cells)
        if name in ANY:
            return self._any(name)
        if name == "timestamp_ns":
            return NumberColumn(self._times, self._stamped)
        if name == "offset":
            return NumberColumn(self.starts[self._rows] + self._base)
        if name in ("source", "layout"):
            return Repeated(np.zeros(len(self._rows), np.intp), [getattr(stream, name)])
        if name == "caplen":
            return NumberColumn(self._caplens)
        if name == "payload":
            return Blobs(self._array, self._payloads, self._caplens)
        return self._packets.column(name)

    @cached_property
    def _samples(self) -> tuple[Array, list[Record]]:
        """A code for each regular message, and for each code a record with its SAMPLED fields."""
        parts = self._determining()
        codes, rows = alike(parts)
        keys = np.stack([part[rows].astype(np.int64) for part in parts], axis=1)
        pairs = zip(keys, rows.tolist(), strict=True)
        return codes, [self._sample("", key.tobytes(), row) for key, row in pairs]

    def _determining(self) -> list[Array]:
        """What determines the SAMPLED fields, as numbers of each regular message."""
        parts = [self._heads[name] for name in GENMSG]
        there = np.zeros(len(self._rows), np.int64)
        for i, name in enumerate(DETERMINING):
            values, has = self._fixed(name)
            there |= has.astype(np.int64) << i
            parts += [np.where(has, values[field], 0) for field in values.dtype.names]
        for i, name in enumerate(("NFULA_HWHEADER", "NFULA_SEQ_GLOBAL"), len(DETERMINING)):
            there |= self._has(name).astype(np.int64) << i
        return [*parts, there, self._size("NFULA_HWHEADER")]

    def _numbered(self, codes: Array, samples: list[Any]) -> Repeated:
        """`extra` with the NFULA_SEQ_GLOBAL of each message, which differs in all of them."""
        numbers, there = self._fixed("NFULA_SEQ_GLOBAL")
        values = [
            samples[code] | {"NFULA_SEQ_GLOBAL": number} if has else samples[code]
            for code, number, has in zip(
                codes.tolist(), numbers["value"].tolist(), there.tolist(), strict=True
            )
        ]
        return Repeated(np.arange(len(codes)), values)

    def _any(self, name: str) -> Repeated | None:
        """A field that all bytes of an attribute determine."""
        has = self._has(ANY[name])
        codes = np.zeros(len(has), np.intp)
        values: list[Any] = [None]
        places, sizes = self._place(ANY[name])[has], self._size(ANY[name])[has]
        having = np.flatnonzero(has)
        for size, rows in by_size(sizes):
            octets = gather(self._array, places[rows], (size + 8) & ~7)
            mask = (np.arange(octets.shape[1]) < size).astype(np.uint8) * 0xFF
            own_codes, first = alike(words(octets, mask))
            codes[having[rows]] = own_codes + len(values)
            chosen = having[rows][first].tolist()
            for key, row in zip(octets[first, :size], chosen, strict=True):
                values.append(getattr(self._sample(name, key.tobytes(), row), name))
        return Repeated(codes, values)

    def _sample(self, what: str, key: bytes, row: int) -> Record:
        """The record of a regular message, or of an earlier message with the same key."""
        columns, message = self._columns, self.message(int(self._rows[row]))
        return columns.decoded_once[what].record(key, columns.decoder, self._data, message)
