"""The columns of packet records that a table maps, see pylog.formats.mapping.

A format finds where its records begin and end and gathers their heads; everything else comes from
the rows of its table. Numbers and times are views of the heads. Words are explained once for all
records that agree in the bytes of their fields. columns.packet reads the packets. Records with a
flaw or an irregular packet are left to the Stream.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pylog.formats import Stream
from pylog.formats.columns import (
    Array,
    Blobs,
    Column,
    DecodedOnce,
    NumberColumn,
    Repeated,
    Rows,
)
from pylog.formats.columns.arrays import alike, grouped
from pylog.formats.columns.packet import IpPackets, swap
from pylog.formats.mapping import Mapping
from pylog.formats.packet_schemas import ETH_P_IP, ETH_P_IPV6
from pylog.record import PacketRecord
from pylog.record.places import AT_EXTRA

MAX_SECOND = 2**63 // 10**9 - 1
"""The last second of which all nanoseconds fit in 64 bits."""

NAMES = PacketRecord.__struct_fields__


class Mapped:
    """How NumPy reads the records of a stream with a table.

    dtype     of the heads, whose size is a multiple of 8
    span      the part of a head, in words of uint64, that determines its words
    mask      all ones for the bits in it that do so
    words     the place of each record field that the words determine
    numbers   the Number row of each record field
    decoded_once   records with the `extra` of all that agree in their words and what their packets
                   put into it
    """

    def __init__(self, stream: Stream, mapping: Mapping) -> None:
        self.stream, self.mapping = stream, mapping
        plan = mapping.plan
        self.dtype = np.dtype(plan.dtype((plan.size + 7) & ~7))
        octets = np.zeros(self.dtype.itemsize, np.uint8)
        fields = {name for row in mapping.words for name in row.fields}
        for leaf in plan.leaves:
            if leaf.name in fields:
                octets[leaf.offset : leaf.offset + leaf.size] = 0xFF
        mask = octets.view(np.uint64)
        places = np.flatnonzero(mask).tolist() or [0]
        self.span = slice(places[0], places[-1] + 1)
        self.mask = mask[self.span]
        self.words = {NAMES[place]: place for row in mapping.words for place in row.places}
        self.numbers = {NAMES[row.place]: row for row in mapping.numbers}
        self.decoded_once = DecodedOnce()


class MappedRows(Rows):
    """Records of a table that follow each other."""

    def __init__(
        self, mapped: Mapped, data: bytes, array: Array, starts: Array, ends: Array,
        heads: Array, fits: Array,
    ) -> None:  # fmt: skip
        """`fits` marks the records of the table's log whose size agrees with their fields."""
        self.starts, self.ends, self.after, self.other = starts, ends, int(ends[-1]), 0
        self._mapped, self._data, self._array = mapped, data, array
        self._base = mapped.stream.base  # which looking ahead may change before columns are made
        mapping = mapped.mapping
        places, sizes = starts + mapping.plan.size, ends - starts - mapping.plan.size
        ethertypes = np.where(array[places] >> 4 == 6, ETH_P_IPV6, ETH_P_IP)
        packets = IpPackets(array, places, sizes, ethertypes, mapping.host_order)
        regular = fits & packets.regular
        if mapping.count_field:
            regular &= heads[mapping.count_field] > 0
        self._times = None
        if mapping.seconds_field:
            seconds = heads[mapping.seconds_field].astype(np.int64)
            micros = heads[mapping.micros_field].astype(np.int64)
            regular &= (micros >= 0) & (micros < 1_000_000)
            regular &= (seconds >= 0) & (seconds <= MAX_SECOND)
            if not regular.all():
                seconds, micros = seconds[regular], micros[regular]
            self._times = seconds * 10**9 + micros * 1000
        self.irregular = np.flatnonzero(~regular)
        self._rows = np.flatnonzero(regular)
        if len(self.irregular):
            heads, places, sizes = heads[regular], places[regular], sizes[regular]
            packets.take(regular)
        self._heads, self._packets = heads, packets
        self._packet_starts, self._packet_sizes = places, sizes

    def logs(self) -> Repeated:
        """As pylog.formats.columns.Rows.logs."""
        return Repeated(self._same, [(None, self._mapped.mapping.log)])

    @property
    def _same(self) -> Array:
        """The codes of a column with one value."""
        return np.zeros(len(self._heads), np.intp)

    def column(self, name: str) -> Column | None:
        """As pylog.formats.columns.Rows.column."""
        mapped, heads = self._mapped, self._heads
        mapping = mapped.mapping
        if name in mapped.numbers:
            row = mapped.numbers[name]
            values = heads[row.field].astype(np.int64)
            return NumberColumn(values + row.add, None if row.none is None else values != row.none)
        if name in ("count", "seq"):
            field = mapping.count_field if name == "count" else mapping.seq_field
            return NumberColumn(heads[field]) if field else None
        if name == "timestamp_ns":
            return None if self._times is None else NumberColumn(self._times)
        if name == "offset":
            return NumberColumn(self.starts[self._rows] + self._base)
        if name in ("source", "layout"):
            return Repeated(self._same, [getattr(mapping, name)])
        if name == "caplen":
            return NumberColumn(self._packet_sizes)
        if name == "payload":
            return self._payload()
        if name == "extra":
            return self._extra()
        column = self._packets.column(name)
        if column is None and name in mapped.words:
            codes, runs = self._coded
            place = mapped.words[name]
            return Repeated(codes, [mapping.explained[each][place] for each in runs])
        return column

    @cached_property
    def _coded(self) -> tuple[Array, list[tuple[bytes, ...]]]:
        """A code for each record, and for each code the bytes that determine its words."""
        mapped, mapping = self._mapped, self._mapped.mapping
        heads = self._heads.view(np.uint64).reshape(len(self._heads), -1)
        chosen = heads[:, mapped.span] & mapped.mask
        codes, rows = grouped(len(heads), lambda rows: chosen[rows])
        starts = self.starts[self._rows[rows]].tolist()
        return codes, [mapping.read(self._data, start)[mapping.runs_at :] for start in starts]

    def _extra(self) -> Repeated:
        """`extra`, of which headers of the packet may put in a part, as what an error quotes."""
        mapped, explained = self._mapped, self._mapped.mapping.explained
        codes, runs = self._coded
        own, keys = self._packets.extra_keys()
        if len(keys) == 1:
            return Repeated(codes, [explained[each][AT_EXTRA] for each in runs])
        pairs, rows = alike([codes, own])
        values = []
        for row, code, key in zip(rows.tolist(), codes[rows], own[rows], strict=True):
            if keys[key]:
                message = self.message(int(self._rows[row]))
                both = b"".join((*runs[code], keys[key]))
                record = mapped.decoded_once.record(both, mapped.stream, self._data, message)
                assert isinstance(record, PacketRecord)
                values.append(record.extra)
            else:
                values.append(explained[runs[code]][AT_EXTRA])
        return Repeated(pairs, values)

    def _payload(self) -> Blobs:
        data = self._array
        if self._mapped.mapping.host_order:
            data = data.copy()
            swap(data, self._packet_starts[self._packets.are_four])
        return Blobs(data, self._packet_starts, self._packet_sizes)
