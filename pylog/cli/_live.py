"""Reads a live source for an output that makes lines: many records at once by columns, few by rows.

What is received is decoded at once, unless so much comes that a short rest is worth it, see
pylog.engine.Pace; receiving goes on meanwhile, so that the kernel's buffer stays empty. NumPy and
pyarrow are loaded before the source is opened: while they load, a flood would fill that buffer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pylog import engine, outputs
from pylog.actions import Actions
from pylog.backends.base import Backend
from pylog.decoder import LOT
from pylog.reader import Reader
from pylog.record import Row, row_of
from pylog.records import Filtered

if TYPE_CHECKING:
    from pylog.filter import Filter

LOOK_S = 1.0
"""How long to wait before there is a lot without records."""

STEP_S = 0.02
"""During a rest, how often to receive what has come: the kernel's buffer is to stay empty."""


class Lot(NamedTuple):
    """Consecutive records, so many: their lines, or else rows."""

    lines: memoryview | None
    rows: list[Row]
    number: int


class LiveLines:
    """The records of a live source, as lines where that is faster.

    by_columns   how many of them were decoded by columns
    by_rows      how many by rows
    left_out     how many others the filter did not want
    """

    def __init__(
        self,
        reader: Reader,
        form: outputs.Output,
        where: Filter | None = None,
        actions: Actions | None = None,
    ) -> None:
        """
        reader    of which no record was read
        form      the output, which makes lines and takes rows
        where     which records; None: all
        actions   what prefixes stand for
        """
        from pylog.table.received import LineReader

        self._reader = reader
        self._where, self._actions = where, actions
        self._rows = reader.rows(form.shows_payload)
        self._pace = engine.Pace(_longest_s(reader.backend))
        self._lines = LineReader(reader.decoder, reader.origin, form, where, actions, row_of)
        self._names = 0
        """The version of the interface names that lines were made with."""
        self.by_columns = self.by_rows = 0
        self._passed_over = 0

    @property
    def left_out(self) -> int:
        return self._passed_over + self._lines.left_out

    def text(self) -> str:
        """Which engine decoded how many records, as one line."""
        title = self._reader.backend.title
        return f"{title}: {self.by_columns} records decoded by columns, {self.by_rows} by rows"

    def lots(self) -> Iterator[Lot]:
        """The records until the end; an empty lot when none have come for a while. Each lot is to
        be written before the next is taken. Raises DecodeError, BackendError.
        """
        reader = self._reader
        while True:
            try:
                if reader.decoder.ready or reader.input.final:
                    rows = self._rows.read_batch(LOOK_S)
                    if not rows:
                        return
                    yield self._of_rows(rows)
                else:
                    yield from self._decoded(self._gathered())
            except TimeoutError:
                yield Lot(None, [], 0)

    def _gathered(self) -> list[tuple[bytes, int]]:
        """What is received next, with the times of receipt; TimeoutError."""
        reader, taken, size = self._reader, list[tuple[bytes, int]](), 0
        data = reader.input.take(time.monotonic() + LOOK_S)
        until = time.monotonic() + self._pace.rest_s
        while data:
            taken.append((data, time.time_ns()))
            size += len(data)
            data = b""
            # what was received with an overrun is decoded at once, so that its numbers come next
            while not data and size < engine.GATHERED and reader.backend.overrun is None:
                left_s = until - time.monotonic()
                if left_s > 0:
                    reader.backend.sleep(min(left_s, STEP_S))
                if reader.backend.wait(0.0):
                    data = reader.input.take(None)
                    if not data:
                        break
                elif left_s <= 0:
                    break
        self._pace.read(size, time.monotonic())
        return taken

    def _decoded(self, taken: list[tuple[bytes, int]]) -> Iterator[Lot]:
        reader = self._reader
        size = sum(len(data) for data, _ in taken)
        if engine.run_by_columns(size, True) and reader.backend.overrun is None:
            yield from self._by_lines(taken)
            return
        decoder = reader.decoder
        for number, (data, observed_ns) in enumerate(taken, 1):
            decoder.feed(data, True, observed_ns, reader.backend.namespace)
            if number == len(taken):
                reader.report_overrun()
            while (first := decoder.next()) is not None:
                rows: list[Any] = [first, *decoder.more(LOT - 1)]
                yield self._of_rows(rows)

    def _by_lines(self, taken: list[tuple[bytes, int]]) -> Iterator[Lot]:
        from pylog.table.received import Receipt  # needs the extra

        version, _ = self._reader.backend.interface_names()
        if version != self._names:
            self._lines.forget()
            self._names = version
        receipts: list[Receipt] = [Receipt(*each) for each in taken]
        for piece in self._lines.read(receipts):
            if piece.lines is None:
                rows: list[Any] = piece.records
                yield self._of_rows(rows)
            else:
                self.by_columns += piece.number
                yield Lot(piece.lines, [], piece.number)

    def _of_rows(self, rows: list[Any]) -> Lot:
        """Rows as they are to be written."""
        if self._actions is not None:
            rows = [self._actions.record(row) for row in rows]
        if self._where is not None:
            before, matches = len(rows), self._where.matches_row
            rows = [row for row in rows if matches(row)]
            self._passed_over += before - len(rows)
        self.by_rows += len(rows)
        return Lot(None, rows, len(rows))


def _longest_s(backend: Backend) -> float:
    """How long records may wait for others: less than the kernel may hold them back."""
    return 0.0 if backend.holds_s is None else min(engine.REST_S, 0.75 * backend.holds_s)


def load(name: str, options: Mapping[str, Any]) -> None:
    """Import what columns need, if the output of that name makes lines of live sources."""
    if engine.installed() and outputs.makes_lines(name, options):
        import pylog.formats.columns.nfulnl
        import pylog.table.received  # noqa: F401


def live_lines(
    records: Reader | Filtered, form: outputs.Output, actions: Actions | None
) -> LiveLines | None:
    """The records of a live source for an output that makes lines; None: they are read otherwise,
    because there are no columns of them.
    """
    (reader,) = records.readers()
    backend, where = reader.backend, None
    if isinstance(records, Filtered):
        where = records.wanted
        if where.files or not where.fits_rows:
            return None
    stream = reader.decoder.stream if reader.detection.layouts else None
    if not (engine.installed() and backend.live and backend.message_aligned):
        return None
    if stream is None or not stream.columns_module or stream.grouped:
        return None
    return LiveLines(reader, form, where, actions)
