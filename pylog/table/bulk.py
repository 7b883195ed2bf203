"""From a log to Arrow batches: many records at a time, the same that a Reader gives.

A window of a few MiB moves over the input. Regular messages are decoded many at a time, see
pylog.table.regular. The Decoder decodes the rest as for a Reader, a stretch of the input at a time.
Both ways give the same records.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO

import pyarrow as pa

from pylog import backends
from pylog.actions import Actions
from pylog.backends.base import Backend
from pylog.backends.capture import Capture
from pylog.detect import Detection
from pylog.errors import DecodeError
from pylog.filter import Filter
from pylog.formats import columns
from pylog.losses import Losses
from pylog.open_log import OnError, OpenLog
from pylog.origins import NOWHERE, Origin
from pylog.record import Record, kind_of
from pylog.table.ordered import Ordered, Piece
from pylog.table.patterns import LineForm
from pylog.table.regular import MAX_WINDOW, STRETCH, Lot, Regular
from pylog.table.select import Gathered, Selection

ROWS = 32768
"""Rows of a batch: few enough to stay in the cache of the processor while columns are made."""

PAUSE = 1 << 23
"""After messages of which most have no pattern, so many bytes are decoded one by one, which is
faster: of a text log, for example, in which each line has another prefix."""

MIN_WINDOW = 1 << 20
"""How many bytes of the input the window has, up to MAX_WINDOW."""


class Bulk(OpenLog):
    """Gives the records of a log in Arrow batches or one by one: `batches` or `records`, once.

    counts   records so far, by kind
    end      the offset in the input of the first message that was not decoded yet
    """

    def __init__(
        self,
        backend: Backend,
        *,
        layout: str | None = None,
        on_error: OnError = "resync",
        start: int = 0,
        stop: int | None = None,
        losses: Losses | None = None,
        detection: Detection | None = None,
        origin: Origin = NOWHERE,
    ) -> None:
        """As an OpenLog, of the part of the input from `start` to `stop`.

        start   offset in the input of the first byte of the backend: a message must begin there
        stop    offset in the input: messages that begin at or after it are not read; damage that
                begins before it is read to its end
        """
        super().__init__(
            backend,
            layout=layout,
            on_error=on_error,
            losses=losses,
            detection=detection,
            origin=origin,
        )
        self.decoder.stop = stop
        self.decoder.peek = self._peek
        self.counts: Counter[str] = Counter()
        self.end = start
        self.left_out = 0
        self._window = b""
        self._window_at = start
        """Offset in the input of the first byte of the window."""
        self._final = False  # whether the window reaches the end of the input
        self._per_row = 200
        self._regular = Regular(self.decoder, origin)

    @property
    def in_columns(self) -> bool:
        """Whether there are columns of the log's format, so that messages are decoded together."""
        return columns.of(self.decoder.stream) is not None

    def batches(
        self, wanted: Mapping[str, Selection], rows: int = ROWS
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The batches of the wanted kinds, each in its order, of about `rows` rows.

        In strict reading damage raises a DecodeError, after the batches of the records before it.
        """
        gathered = {kind: Gathered(selection, rows) for kind, selection in wanted.items()}
        error = None
        lots = self._lots(wanted, rows)
        while True:
            try:
                lot = next(lots, None)
            except DecodeError as damage:
                lot, error = None, damage
            for kind, gathering in gathered.items():
                if lot is not None and kind in lot:
                    gathering.add(lot[kind])
                batch = gathering.take(lot is None)
                if batch is not None:
                    yield kind, batch
            if error is not None:
                raise error
            if lot is None:
                return

    def lines(
        self,
        form: LineForm,
        where: Filter | None = None,
        actions: Actions | None = None,
    ) -> Iterator[Piece]:
        """All records in their order: lines of an output, and records that it must write itself.

        where     which records; None: all; `left_out` counts the others
        actions   what prefixes stand for

        DecodeError as `batches`.
        """
        ordered = Ordered(form, where, actions)
        resume = self.end

        def many(pos: int) -> int:
            nonlocal resume
            if self.end < resume:
                return 0
            run = self._regular.run(self._window, self._window_at, pos, self._stop_in_window())
            if run is None:
                return 0
            if 2 * ordered.add(run) > self._regular.messages:
                resume = self.end + run.used + PAUSE
            self._count(run.irregular, run.lost)
            self._per_row = run.used // self._regular.messages + 1
            return run.used

        for records in self._steps(many, ROWS):
            ordered.add_records(records)
            self.left_out = ordered.left_out
            yield from ordered.take()

    def _count(self, irregular: Iterable[Record], lost: Iterable[tuple[int, Record]]) -> None:
        """Count the records of messages that were decoded together."""
        others = Counter(map(kind_of, irregular)) + Counter(kind_of(loss) for _, loss in lost)
        self.counts.update(others)
        self.counts["packet"] += self._regular.packets - others["packet"]

    def _lots(self, wanted: Mapping[str, Selection], rows: int) -> Iterator[Lot]:
        """All records, in their order."""
        lot: Lot = {}

        def many(pos: int) -> int:
            return self._many(lot, pos, wanted)

        for records in self._steps(many, rows):
            for record in records:
                lot.setdefault(kind_of(record), []).append(record)
            yield lot.copy()
            lot.clear()

    def _steps(self, many: Callable[[int], int], rows: int) -> Iterator[list[Record]]:
        """Decode all messages: what `many` does not, the Decoder decodes, and these are its records
        in their order.

        many   decodes what it can from this place in the window on; how many bytes it has used
        rows   how many messages are decoded at a time, about
        """
        while not self._final and self._fill(rows):
            pos, size = 0, STRETCH
            while len(self._window) - pos >= (1 if self._final else STRETCH):
                records: list[Record] = []
                self._window_at = self.end - pos
                try:
                    used = many(pos) or self._stretch(records, pos, size)
                except DecodeError:
                    yield records  # those before it
                    raise
                yield records
                pos += used
                self.end += used
                if self._is_done():
                    return
                if used:
                    # larger within damage: each stretch looks at its bytes from the start
                    damaged = self.decoder.stream.damage is not None
                    size = STRETCH if not damaged else size if used * 2 > size else size * 2
                elif pos + size < len(self._window):
                    size *= 2
                else:
                    break
            self._window = self._window[pos:]
        yield self._rest_of_stream()
        while (record := self.input.end()) is not None:
            yield [self._counted(record)]

    def records(self) -> Iterator[Record]:
        """The records in their order, of all kinds."""
        self.decoder.seek(self.end)
        while not self._is_done() and not self.input.final:
            more = self.input.take(None)
            self._window, self._window_at = more, self.decoder.position
            self.decoder.feed(more, not more)
            while (record := self.decoder.next()) is not None:
                yield self._counted(record)
            self.end = self.decoder.position
        while not self._is_done() and (record := self.input.end()) is not None:
            yield self._counted(record)

    def _counted(self, record: Record) -> Record:
        self.counts[kind_of(record)] += 1
        return record

    def _rest_of_stream(self) -> list[Record]:
        """The records that the Decoder still has when no byte is left."""
        self._window = b""
        records: list[Record] = []
        self._stretch(records, 0, 0)
        return records

    def _fill(self, rows: int) -> bool:
        """Put about as many bytes as `rows` messages have into the window; False at the end."""
        enough = min(max(rows * self._per_row, MIN_WINDOW), MAX_WINDOW)
        if isinstance(self.backend, Capture):
            window = self.backend.read_at(self.end, enough + len(self._window))
            if window is not None:  # to read the rest again is faster than to copy it
                self._final = len(window) <= len(self._window)
                self._window, self.input.head = window, b""
                return bool(window)
        parts, size = [self._window], 0
        while size < enough and not self._final:
            more = self.input.take(None)
            parts.append(more)
            size += len(more)
            self._final = not more
        self._window = b"".join(parts)
        return bool(self._window)

    def _stop_in_window(self) -> int:
        """Where in the window the last message must begin before."""
        stop = len(self._window)
        return stop if self.decoder.stop is None else min(stop, self.decoder.stop - self._window_at)

    def _many(self, lot: Lot, pos: int, wanted: Mapping[str, Selection]) -> int:
        """Decode the messages from window[pos] on by columns; how many bytes they have."""
        needed = wanted["packet"].needed if "packet" in wanted else None
        used = self._regular.read(
            lot, self._window, self._window_at, pos, self._stop_in_window(), needed
        )
        if used:
            packets = self._regular.packets
            records = [record for kind in lot if kind != "packet" for record in lot[kind]]
            self.counts.update(map(kind_of, records))
            self.counts["packet"] += packets
            self._per_row = used // self._regular.messages + 1
        return used

    def _peek(self, offset: int, size: int) -> tuple[bytes, bool]:
        """As ahead.Peek, in the window and beyond it."""
        at, final = offset - self._window_at, self._final or self.input.final
        data = self._window[at : at + size]
        if len(data) < size and not final and isinstance(self.backend, Capture):
            more = self.backend.read_at(offset, size)
            if more is not None:
                return more, len(more) < size
        if len(data) < size and not final:
            more, final = self.input.peek(offset + len(data), size - len(data))
            data += more
        return data, final

    def _stretch(self, records: list[Record], pos: int, size: int) -> int:
        """Let the Decoder decode window[pos : pos + size]; how many bytes it has consumed.

        0 if no message is complete in so few bytes. Its records are added to `records`.
        """
        decoder = self.decoder
        self._window_at = self.end - pos
        decoder.seek(self.end)
        decoder.feed(
            self._window[pos : pos + size], self._final and pos + size >= len(self._window)
        )
        while (record := decoder.next()) is not None:
            records.append(self._counted(record))
        return decoder.position - self.end

    def _is_done(self) -> bool:
        """Whether `stop` is reached, and no damage that began before it still goes on."""
        decoder = self.decoder
        return decoder.stop is not None and self.end >= decoder.stop and not decoder.stream.damage


def opened(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    layout: str | None = None,
    on_error: OnError = "resync",
    origin: Origin = NOWHERE,
    detection: Detection | None = None,
    log_tz: str | None = None,
    year: int | None = None,
) -> Bulk:
    """A Bulk of a path, "-" or a binary file object; ValueError for a live source.

    detection   what the log is; None: it is detected
    """
    named = backends.named(source)
    if named is not None and named[0] != "capture":
        raise ValueError(f"{source} is live: tables are made of files")
    (backend,) = backends.connect(source, {"log_tz": log_tz, "year": year})
    try:
        return Bulk(backend, layout=layout, on_error=on_error, origin=origin, detection=detection)
    except BaseException:
        backend.close()
        raise
