"""IPFilter's packet records, many at once, in the layouts that have a magic.

This module only finds where the records begin, by magic and ipl_dsize. Their columns come from the
table of the packet log (columns.mapped). NAT and state records between them are left to the Stream.
"""

from __future__ import annotations

import numpy as np

from pylog.errors import DecodeError
from pylog.formats.columns import Array, Rows
from pylog.formats.columns.arrays import follow, gather, spaced
from pylog.formats.columns.mapped import Mapped, MappedRows
from pylog.formats.columns.packet import SIZE
from pylog.formats.ipl_records import packet_log
from pylog.formats.ipl_stream import MAX_RECORD, IplStream
from pylog.formats.plan import BYTEORDER


def columns(stream: IplStream) -> IplColumns | None:
    """What reads the packet log of a layout whose records have a magic and a length."""
    layout = stream.layout_value
    if stream.log != "ipf" or not layout.version.has_magic:
        return None
    return IplColumns(stream)


class IplColumns:
    """Reads the packet records of a stream."""

    def __init__(self, stream: IplStream) -> None:
        layout = stream.layout_value
        self.stream = stream
        self.mapped = Mapped(stream, packet_log(layout))
        plan = layout.plan("ipf")
        self.size = plan.size
        logs = layout.logs if layout.version.magic_tells_log else ("ipf",)
        self.magics = [layout.magic(log) for log in logs]
        self._numbers = [int.from_bytes(m, BYTEORDER[layout.abi.order]) for m in self.magics]
        self._frame = np.dtype(plan.dtype(names=("ipl_magic", "ipl_dsize")))

    def read(self, data: bytes, pos: int, stop: int) -> Rows | None:
        """As pylog.formats.columns.Columns.read."""
        array = np.frombuffer(data, np.uint8)
        stop = min(stop, len(data) - self.size - SIZE + 1)  # this much of each record may be read
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

        starts, end = follow(pos, stop, spaced(pos, stop, find), after)
        if end > len(data):  # the last record is not complete
            starts, end = starts[:-1], int(starts[-1])
        if not len(starts):
            return None
        ends = np.append(starts[1:], end)
        heads = gather(array, starts, self.mapped.dtype)
        size = self.size + heads["fl_hlen"].astype(np.int64) + heads["fl_plen"]
        fits = (heads["ipl_magic"] == self._numbers[0]) & (starts + size == ends)
        for i in np.flatnonzero(~fits).tolist():
            if not self._is_record(data, int(starts[i]), int(ends[i])):
                starts, ends, heads, fits = starts[:i], ends[:i], heads[:i], fits[:i]
                break
        if not len(starts):
            return None
        return MappedRows(self.mapped, data, array, starts, ends, heads, fits)

    def _is_record(self, data: bytes, start: int, end: int) -> bool:
        """Whether the stream also takes data[start:end] for a record."""
        try:
            return self.stream.measure(data, start) == end
        except DecodeError:
            return False
