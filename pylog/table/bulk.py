"""From a log to Arrow batches: many records at a time, the same that a Reader gives.

A window of a few MiB moves over the input. Where messages follow each other without damage, the
format's `columns` module (see pylog.formats.columns) decodes them all at once. The Decoder decodes
the rest as for a Reader: a stretch of the input at a time, or single irregular messages between
regular ones. Both ways give the same records.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from pylog import backends
from pylog.backends.base import Backend
from pylog.backends.capture import Capture
from pylog.decoder import interface_of
from pylog.detect import Detection
from pylog.errors import DecodeError
from pylog.formats import Message, Stream, columns
from pylog.formats.columns import Columns, NumberColumn, Repeated, Rows
from pylog.losses import Losses
from pylog.open_log import OnError, OpenLog
from pylog.origins import NOWHERE, Origin
from pylog.record import LossRecord, PacketRecord, Record, kind_of
from pylog.table.arrays import batch_of
from pylog.table.schemas import batch
from pylog.table.select import Gathered, Selection

ROWS = 32768
"""Rows of a batch: few enough to stay in the cache of the processor while columns are made."""

MIN_WINDOW, MAX_WINDOW = 1 << 20, 1 << 24
"""How many bytes of the input the window has."""

STRETCH = 1 << 16
"""How many bytes the Decoder decodes before `columns` is tried again."""

Lot = dict[str, Any]
"""Consecutive records by kind: a list of them, or a batch."""


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
        self._origin = origin
        self.decoder.stop = stop
        self.decoder.peek = self._peek
        self.counts: Counter[str] = Counter()
        self.end = start
        self._window = b""
        self._window_at = start
        """Offset in the input of the first byte of the window."""
        self._final = False  # whether the window reaches the end of the input
        self._reach, self._per_row = MAX_WINDOW, 200
        self._columns: tuple[Stream, Columns | None] | None = None

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

    def _lots(self, wanted: Mapping[str, Selection], rows: int) -> Iterator[Lot]:
        """All records, in their order."""
        while not self._final and self._fill(rows):
            pos, size = 0, STRETCH
            while len(self._window) - pos >= (1 if self._final else STRETCH):
                lot: Lot = {}
                try:
                    used = self._regular(lot, pos, wanted) or self._stretch(lot, pos, size)
                except DecodeError:
                    yield lot  # the records before it
                    raise
                yield lot
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
        yield from self._rest_of_stream()
        while (record := self.input.end()) is not None:
            yield {kind_of(record): [self._counted(record)]}

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

    def _rest_of_stream(self) -> Iterator[Lot]:
        """The records that the Decoder still has when no byte is left."""
        self._window = b""
        lot: Lot = {}
        self._stretch(lot, 0, 0)
        yield lot

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

    def _regular(self, lot: Lot, pos: int, wanted: Mapping[str, Selection]) -> int:
        """Decode the messages from window[pos] on by columns; how many bytes they have.

        0 within damage, and while the Decoder still has to report a loss.
        """
        decoder, stream, window = self.decoder, self.decoder.stream, self._window
        if stream.damage is not None or decoder.losses.has_announced:
            return 0
        if self._columns is None or self._columns[0] is not stream:
            self._columns = stream, columns.of(stream)
        reads = self._columns[1]
        if reads is None:
            return 0
        self._window_at = self.end - pos
        decoder.seek(self._window_at)
        stop = min(len(window), pos + self._reach)
        if decoder.stop is not None:
            stop = min(stop, decoder.stop - self._window_at)
        rows = reads.read(window, pos, stop)
        irregular: list[Record] = []
        for i in [] if rows is None else rows.irregular.tolist():
            assert rows is not None
            try:
                message = rows.message(i)
                irregular.append(stream.decode(window, message))
                self._give_origin(irregular[-1], message)
            except DecodeError:  # decode only the messages before it
                rows = reads.read(window, pos, int(rows.starts[i]))
                break
        if rows is None or len(rows.irregular) == len(rows.starts):
            self._reach = STRETCH  # the next messages are probably irregular too
            return 0
        lot["loss"] = self._account(rows, irregular)
        self._keep(lot, rows, irregular, wanted)
        used = rows.after - pos
        self._reach = min(max(STRETCH, 2 * used), MAX_WINDOW)
        self._per_row = used // len(rows.starts) + 1
        stream.other += rows.other
        stream.in_step += len(rows.starts)
        return used

    def _keep(
        self, lot: Lot, rows: Rows, irregular: list[Record], wanted: Mapping[str, Selection]
    ) -> None:
        """Put the messages into the lot, regular and irregular ones in their order."""
        count = len(rows.starts)
        self.decoder.received += count
        packets = [i for i, record in enumerate(irregular) if type(record) is PacketRecord]
        for record in irregular:
            if type(record) is not PacketRecord:
                lot.setdefault(kind_of(record), []).append(record)
                self.counts[kind_of(record)] += 1
        self.counts["packet"] += count - len(irregular) + len(packets)
        self.counts["loss"] += len(lot["loss"])
        if "packet" not in wanted:
            return
        needed = wanted["packet"].needed
        lot["packet"] = batch_of(rows, needed, self._origins(rows))
        if packets:
            others = batch("packet", [irregular[i] for i in packets], needed)
            places = np.delete(np.arange(count), rows.irregular), rows.irregular[packets]
            order = pa.array(np.argsort(np.concatenate(places)))
            lot["packet"] = pa.concat_batches([lot["packet"], others]).take(order)

    def _origins(self, rows: Rows) -> dict[str, Repeated]:
        """The columns `origin` and `host` of the regular messages, if they are wanted."""
        origin, host = self._origin
        if origin is None:
            return {}
        logs, hosts = rows.logs(), self.decoder.stream.hosts
        return {
            "origin": Repeated(logs.codes, [origin] * len(logs.values)),
            "host": Repeated(logs.codes, [hosts.get(i, host) for i, _ in logs.values]),
        }

    def _give_origin(self, record: Record, message: Message) -> None:
        if self._origin.origin is not None:
            self.decoder.give_origin(record, interface_of(message))

    def _account(self, rows: Rows, irregular: list[Record]) -> list[LossRecord]:
        """The losses between the messages, as a Reader reports them.

        Only the first record of each log, and records whose number is not the expected one, are
        passed to the Decoder.
        """
        count = len(rows.starts)
        seq, following, log = (np.full(count, -1, np.int64) for _ in range(3))
        regular = np.ones(count, bool)
        regular[rows.irregular] = False
        numbers, counts, logs = rows.column("seq"), rows.column("count"), rows.logs()
        names = {name: i for i, name in enumerate(dict.fromkeys(logs.values))}
        if numbers is not None:
            assert isinstance(numbers, NumberColumn)
            seq[regular] = numbers.values
            following[regular] = seq[regular] + (
                counts.values if isinstance(counts, NumberColumn) else 1
            )
            log[regular] = np.array([names[v] for v in logs.values], np.int64)[logs.codes]
            if numbers.valid is not None:
                log[np.flatnonzero(regular)[~numbers.valid]] = -1
        records = dict(zip(rows.irregular.tolist(), irregular, strict=True))
        for i, record in records.items():
            if record.seq is not None:
                seq[i], following[i] = record.seq, record.seq + (record.count or 1)
                name = interface_of(rows.message(i)), record.log or ""
                log[i] = names.setdefault(name, len(names))
        following &= 0xFFFFFFFF
        checked: list[tuple[int, tuple[int | None, str], int | None]] = []
        last: list[tuple[tuple[int | None, str], int]] = []
        for name, number in names.items():
            own = np.flatnonzero(log == number)
            if len(own):
                gaps = np.flatnonzero(seq[own[1:]] != following[own[:-1]])
                checked.append((int(own[0]), name, None))
                checked += [(int(own[i + 1]), name, int(following[own[i]])) for i in gaps]
                last.append((name, int(following[own[-1]])))
        lost: list[LossRecord] = []
        decoder, stream = self.decoder, self.decoder.stream
        for i, (interface, name_of_log), before in sorted(checked, key=itemgetter(0)):
            if before is not None:
                decoder.losses.passed(name_of_log, before, interface)
            message = rows.message(i)
            stream.used = message.end  # where looking ahead begins
            record = records.get(i) or stream.decode(self._window, message)
            while (loss := decoder.lost_before(record, message)) is not None:
                self._give_origin(loss, message)
                lost.append(loss)
        for (interface, name_of_log), after in last:
            decoder.losses.passed(name_of_log, after, interface)
        stream.used = 0
        return lost

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

    def _stretch(self, lot: Lot, pos: int, size: int) -> int:
        """Let the Decoder decode window[pos : pos + size]; how many bytes it has consumed.

        0 if no message is complete in so few bytes.
        """
        decoder = self.decoder
        self._window_at = self.end - pos
        decoder.seek(self.end)
        decoder.feed(
            self._window[pos : pos + size], self._final and pos + size >= len(self._window)
        )
        while (record := decoder.next()) is not None:
            lot.setdefault(kind_of(record), []).append(self._counted(record))
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
    log_tz: str | None = None,
    year: int | None = None,
) -> Bulk:
    """A Bulk of a path, "-" or a binary file object; ValueError for a live source."""
    named = backends.named(source)
    if named is not None and named[0] != "capture":
        raise ValueError(f"{source} is live: tables are made of files")
    (backend,) = backends.connect(source, {"log_tz": log_tz, "year": year})
    try:
        return Bulk(backend, layout=layout, on_error=on_error, origin=origin)
    except BaseException:
        backend.close()
        raise
