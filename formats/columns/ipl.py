"""IPFilter's packet records, many at once, in every layout.

This module only finds where the records begin and end, as IplStream.measure does: by magic and
ipl_dsize, without a magic by ipl_dsize or the lengths of header and body, and by the first byte of
the packet. Their columns come from the table of the packet log (columns.mapped). NAT and state
records between them are left to the Stream.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from pylog.errors import DecodeError
from pylog.formats.columns import Array, Rows
from pylog.formats.columns.arrays import SPACING, follow, gather, seeming, spaced
from pylog.formats.columns.mapped import Mapped, MappedRows
from pylog.formats.columns.packet import SIZE
from pylog.formats.ipl_records import packet_log
from pylog.formats.ipl_stream import LEAST_HEADER, MAX_RECORD, IplStream
from pylog.formats.packet_schemas import IPV4, IPV6
from pylog.formats.plan import BYTEORDER, Plan


def columns(stream: IplStream) -> IplColumns | None:
    """What reads the packet log of a layout; None for another log."""
    return IplColumns(stream) if stream.log == "ipf" else None


class IplColumns:
    """Reads the packet records of a stream."""

    def __init__(self, stream: IplStream) -> None:
        layout = stream.layout_value
        self.stream = stream
        self.mapped = Mapped(stream, packet_log(layout))
        plan = layout.plan("ipf")
        self.size = plan.size
        lengths = ["ipl_magic", "ipl_dsize", "fl_hlen", "fl_plen"]
        self._frame = np.dtype(plan.dtype(names=[n for n in lengths if n in plan.places]))
        self._sized = "ipl_dsize" in plan.places
        self._numbers = [int.from_bytes(m, BYTEORDER[layout.abi.order]) for m in stream.magics]
        self._packet_number = int.from_bytes(layout.magic("ipf"), BYTEORDER[layout.abi.order])
        self._has_magic = layout.version.has_magic
        self._letters = layout.magic("ipf").strip(b"\0")
        self._letters_at = layout.magic("ipf").find(self._letters)
        self._order = "<" if layout.host_order_ip else ">"

    def read(self, data: bytes, pos: int, stop: int) -> Rows | None:
        """As pylog.formats.columns.Columns.read."""
        array = np.frombuffer(data, np.uint8)
        stop = min(stop, len(data) - self.size - SIZE + 1)  # this much of each record may be read
        if pos >= stop:
            return None

        def after(places: Array) -> Array:
            frames = gather(array, places, self._frame)
            ends = places + self._sizes(frames)
            return np.where(self._seem_records(array, places, frames, ends), ends, -1)

        starts, end = follow(pos, stop, self._places(data, pos, stop), after)
        if end > len(data):  # the last record is not complete
            starts, end = starts[:-1], int(starts[-1])
        if not len(starts):
            return None
        ends = np.append(starts[1:], end)
        heads = gather(array, starts, self.mapped.dtype)
        fits = self._fit(array, starts, ends, heads)
        for i in np.flatnonzero(~fits).tolist():
            if not self._is_record(data, int(starts[i]), int(ends[i])):
                starts, ends, heads, fits = starts[:i], ends[:i], heads[:i], fits[:i]
                break
        if not len(starts):
            return None
        return MappedRows(self.mapped, data, array, starts, ends, heads, fits)

    def _places(self, data: bytes, pos: int, stop: int) -> Array:
        """Places where records seem to begin, ascending, with no long gaps between them."""
        if not self._has_magic:
            return spaced(pos, stop, partial(self._find, data))
        found = [seeming(data, pos, stop, self._letters, self._letters_at)]
        gaps = np.diff(found[0], prepend=pos, append=stop)
        if gaps.max() > SPACING:  # records do not end at multiples of 4 from each other
            starts = range(pos + 1, min(pos + 4, stop))
            found += [seeming(data, at, stop, self._letters, self._letters_at) for at in starts]
        return np.sort(np.concatenate(found))

    def _find(self, data: bytes, near: int, limit: int) -> int:
        """The first place from `near` on, before `limit`, that the stream's needle finds."""
        needle, at = self.stream.needle, self.stream.needle_at
        match = needle.search(data, near + at, limit + at + self.stream.needle_size)
        return -1 if match is None else match.start() - at

    def _sizes(self, frames: Array) -> Array:
        """The sizes of the records as their heads state them."""
        if self._sized:
            return np.asarray(frames["ipl_dsize"], np.int64)
        lengths: Array = frames["fl_hlen"].astype(np.int64) + frames["fl_plen"]
        return self.size + lengths

    def _seem_records(self, array: Array, places: Array, frames: Array, ends: Array) -> Array:
        """Which of the places records seem to begin at, of any log."""
        small: Array = ends - places <= MAX_RECORD
        if not self._has_magic:
            small &= array[places + self.size] >> 4 == 4
            small &= frames["fl_hlen"] >= LEAST_HEADER
            return small
        good = frames["ipl_magic"] == self._packet_number
        if not good.all():
            good = np.isin(frames["ipl_magic"], self._numbers)
        small &= good
        return small

    def _fit(self, array: Array, starts: Array, ends: Array, heads: Array) -> Array:
        """Which of the records are of packets, with lengths that add up.

        fl_plen may have only the lowest 8 bits of the body's length, which ip_len bounds then.
        """
        header = heads["fl_hlen"].astype(np.int64)
        body, stated = ends - starts - self.size - header, heads["fl_plen"].astype(np.int64)
        good: Array = body == stated
        wrapped = np.flatnonzero((body > stated) & (body - stated & 0xFF == 0))
        if len(wrapped):
            packets = starts[wrapped] + self.size
            four = gather(array, packets, np.dtype(Plan(IPV4).dtype()))
            length = four["length"].view(f"{self._order}u2").astype(np.int64)
            six = gather(array, packets, np.dtype(Plan(IPV6).dtype()))
            is_six = six["version_class_flow"] >> 28 == 6
            length = np.where(is_six, six["payload_length"].astype(np.int64) + 40, length)
            good[wrapped] = header[wrapped] + body[wrapped] <= length
        if self._has_magic:
            good &= heads["ipl_magic"] == self._packet_number
        return good

    def _is_record(self, data: bytes, start: int, end: int) -> bool:
        """Whether the stream also takes data[start:end] for a record."""
        try:
            return self.stream.measure(data, start) == end
        except DecodeError:
            return False
