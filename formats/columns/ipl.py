"""IPFilter's packet records, many at once: those that begin with a magic and hold a plain packet.

Records of NAT and state between them are found, and left to the Stream.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pylog.errors import DecodeError
from pylog.formats.columns import Array, Asked, Blobs, Column, Numbers, Repeated, Rows
from pylog.formats.columns.arrays import alike, follow, gather, words
from pylog.formats.columns.packet import SIZE, Packets, swap
from pylog.formats.ipl import MAX_RECORD, Stream
from pylog.formats.ipl_records import RULE_FIELDS
from pylog.formats.plan import BYTEORDER
from pylog.record import Record

NUMBERS = ("ipl_count", "ipl_seqnum", "ipl_sec", "ipl_usec", "fl_rule")
"""The fields that may differ in each record; what they all agree in, `decode` is asked once."""

TOLD = ("action", "short", "direction", "group", "reason", "indev", "outdev", "extra")
"""What it is asked for."""

MAX_SECOND = 2**63 // 10**9 - 1
"""The last whole second of which all nanoseconds fit in 64 bits."""


def columns(stream: Stream) -> Columns | None:
    """What reads the packet log of a layout whose records have a magic and a length."""
    layout = stream.layout_value
    if stream.log != "ipf" or not layout.version.has_magic:
        return None
    return Columns(stream)


class Columns:
    """Reads the packet records of a stream."""

    def __init__(self, stream: Stream) -> None:
        layout = stream.layout_value
        self.stream = stream
        plan = layout.plan("ipf")
        self.size = plan.size
        self.dtype = np.dtype(plan.dtype((plan.size + 7) & ~7))
        self.mask = np.zeros(self.dtype.itemsize, np.uint8)
        """Which bytes of a head tell something else than a number."""
        for leaf in plan.leaves:
            if leaf.name in RULE_FIELDS and leaf.name not in NUMBERS:
                self.mask[leaf.offset : leaf.offset + leaf.size] = 0xFF
        self.asked = Asked()
        self.none = 2 ** (8 * plan.places["fl_rule"].size) - 1
        """fl_rule where no rule was matched."""
        told = layout.version.magic_tells_log
        self.magics = [layout.magic(log) for log in (layout.logs if told else ("ipf",))]
        self._numbers = [int.from_bytes(m, BYTEORDER[layout.abi.order]) for m in self.magics]
        self._frame = np.dtype(plan.dtype(names=("ipl_magic", "ipl_dsize")))

    def read(self, data: bytes, pos: int, stop: int) -> Rows | None:
        """As pylog.formats.columns.Columns.read."""
        array = np.frombuffer(data, np.uint8)
        stop = min(stop, len(data) - self.size - SIZE + 1)  # so much of each may be looked at
        if pos >= stop:
            return None

        def find(near: int, limit: int) -> int:
            return data.find(self.magics[0], near, limit + len(self.magics[0]) - 1)

        def after(places: Array) -> Array:
            frames = gather(array, places, self._frame)
            magic, size = frames["ipl_magic"], frames["ipl_dsize"].astype(np.int64)
            good = magic == self._numbers[0]
            if not good.all():
                good = np.isin(magic, self._numbers)
            return np.where(good & (size <= MAX_RECORD), places + size, -1)

        starts, end = follow(pos, stop, find, after)
        if end > len(data):  # not all of the last one is there
            starts, end = starts[:-1], int(starts[-1])
        if not len(starts):
            return None
        ends = np.append(starts[1:], end)
        heads = gather(array, starts, self.dtype)
        size = self.size + heads["fl_hlen"].astype(np.int64) + heads["fl_plen"]
        usual = (heads["ipl_magic"] == self._numbers[0]) & (starts + size == ends)
        for i in np.flatnonzero(~usual).tolist():
            if not self._is_whole(data, int(starts[i]), int(ends[i])):
                starts, ends, heads, usual = starts[:i], ends[:i], heads[:i], usual[:i]
                break
        return _Rows(self, data, array, starts, ends, heads, usual) if len(starts) else None

    def _is_whole(self, data: bytes, start: int, end: int) -> bool:
        """Whether the stream takes data[start:end] for a record too."""
        try:
            return self.stream.measure(data, start) == end
        except DecodeError:
            return False


class _Rows(Rows):
    """Records that follow each other."""

    def __init__(
        self, columns: Columns, data: bytes, array: Array, starts: Array, ends: Array,
        heads: Array, usual: Array,
    ) -> None:  # fmt: skip
        """`usual` are those of packets, which are as long as their fields say."""
        self.starts, self.ends, self.after, self.other = starts, ends, int(ends[-1]), 0
        self._columns, self._data, self._array = columns, data, array
        self._stream = columns.stream
        places, sizes = starts + columns.size, ends - starts - columns.size
        self._swapped = columns.stream.layout_value.host_order_ip
        packets = Packets(array, places, sizes, array[places] >> 4 == 6, self._swapped)
        seconds, micros = (heads[n].astype(np.int64) for n in ("ipl_sec", "ipl_usec"))
        plain = usual & packets.plain & (heads["ipl_count"] > 0)
        plain &= (micros >= 0) & (micros < 1_000_000)
        plain &= (seconds >= 0) & (seconds <= MAX_SECOND)
        self.odd = np.flatnonzero(~plain)
        self._rows = np.flatnonzero(plain)
        if len(self.odd):
            heads, seconds, micros = heads[plain], seconds[plain], micros[plain]
            places, sizes = places[plain], sizes[plain]
            packets.take(plain)
        self._heads, self._packets = heads, packets
        self._times = seconds * 10**9 + micros * 1000
        self._packet_starts, self._packet_sizes = places, sizes

    def logs(self) -> Repeated:
        """As pylog.formats.columns.Rows.logs."""
        return Repeated(np.zeros(len(self._heads), np.intp), [(None, "ipf")])

    def column(self, name: str) -> Column | None:
        """As pylog.formats.columns.Rows.column."""
        heads = self._heads
        if name in TOLD:
            codes, told = self._told
            return Repeated(codes, [getattr(record, name) for record in told])
        if name == "timestamp_ns":
            return Numbers(self._times)
        if name == "seq":
            return Numbers(heads["ipl_seqnum"]) if "ipl_seqnum" in heads.dtype.names else None
        if name == "count":
            return Numbers(heads["ipl_count"])
        if name == "rule":
            rule = heads["fl_rule"].astype(np.int64)
            return Numbers(rule + 1, rule != self._columns.none)
        if name == "offset":
            return Numbers(self.starts[self._rows] + self._stream.base)
        if name in ("source", "layout"):
            codes = np.zeros(len(heads), np.intp)
            return Repeated(codes, [getattr(self._stream, name)])
        if name == "caplen":
            return Numbers(self._packet_sizes)
        if name == "payload":
            return self._payload()
        return self._packets.column(name)

    @cached_property
    def _told(self) -> tuple[Array, list[Record]]:
        """What `decode` makes of records that agree in all that is no number: codes, records."""
        columns = self._columns
        codes, rows = alike(words(self._heads, columns.mask))
        heads = self._heads[rows].view(np.uint8).reshape(len(rows), -1) & columns.mask
        found = []
        for head, i in zip(heads, self._rows[rows].tolist(), strict=True):
            key, message = head.tobytes(), self.message(i)
            found.append(columns.asked.record(key, columns.stream, self._data, message))
        return codes, found

    def _payload(self) -> Blobs:
        data = self._array
        if self._swapped:
            data = data.copy()
            swap(data, self._packet_starts[self._packets.are_four])
        return Blobs(data, self._packet_starts, self._packet_sizes)
