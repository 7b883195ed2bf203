"""From a log to Arrow batches: many records at a time, and never other ones than a Reader gives.

A window of some MiB moves over the input. Where messages follow each other as they should, the
format's `columns` module (see pylog.formats.columns) reads them all at once; whatever is odd, the
reader's own code reads, a stretch of the input at a time, and single odd messages between plain
ones one by one. Which of the two reads a message makes no difference to what is read.
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
from pylog.backends import Backend
from pylog.backends.capture import Capture
from pylog.errors import DecodeError
from pylog.formats import (
    Begun,
    Interfaces,
    Item,
    Message,
    Stream,
    columns,
)
from pylog.formats.columns import Columns, Numbers, Rows
from pylog.reader import OnError, Reader, interface_of
from pylog.record import LossRecord, PacketRecord, Record, kind_of
from pylog.table.arrays import batch_of
from pylog.table.schemas import batch
from pylog.table.select import Selection

ROWS = 32768
"""Rows of a batch: so many stay in the processor's cache while their columns are made."""

MIN_WINDOW, MAX_WINDOW = 1 << 20, 1 << 24
"""How many bytes of the input are at hand."""

STRETCH = 1 << 16
"""How many bytes are read in the reader's own way before the faster one is tried again."""

Lot = dict[str, Any]
"""Records that follow each other, by kind: a list of them, or a batch."""


class Bulk(Reader):
    """A Reader that gives its records in Arrow batches, by `batches` alone.

    counts   records so far, by kind
    end      where in the input the first message begins that was not dealt with
    """

    def __init__(
        self,
        backend: Backend,
        *,
        layout: str | None = None,
        on_error: OnError = "resync",
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """As a Reader; but of a part of the input only, if `start` and `stop` say so.

        start   offset in the input of what the backend gives first: a message must begin there
        stop    offset in the input: the first message at or after it, and all that follow, are
                not read. Of damage that reaches beyond it everything is read.
        """
        super().__init__(backend, layout=layout, on_error=on_error)
        self.counts: Counter[str] = Counter()
        self.end = start
        self._stop = stop
        self._window = b""
        self._window_at = start
        """Offset in the input of the first byte of the window."""
        self._reach, self._per_row = MAX_WINDOW, 200
        self._changed = False  # the layout, by the last stretch
        self._columns: tuple[Stream, Columns | None] | None = None

    def batches(
        self, wanted: Mapping[str, Selection], rows: int = ROWS
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The batches of the kinds that are wanted, each in its order, of about `rows` rows.

        To be called once. Damage ends strict reading with a DecodeError, after the batches of what
        came before it.
        """
        gathered = {kind: _Gathered(selection, rows) for kind, selection in wanted.items()}
        error = None
        lots = self._lots(wanted, rows)
        while True:
            try:
                lot = next(lots, None)
            except DecodeError as found:
                lot, error = None, found
            for kind, some in gathered.items():
                if lot is not None and kind in lot:
                    some.add(lot[kind])
                batch = some.take(lot is None)
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
                    used = self._plain(lot, pos, wanted) or self._stretch(lot, pos, size)
                except DecodeError:
                    yield lot  # what came before it
                    raise
                yield lot
                pos += used
                self.end += used
                if self._is_done():
                    return
                if used or self._changed:
                    # within damage the same bytes would be looked at again and again
                    damaged = self._stream.damage is not None
                    size = STRETCH if not damaged else size if used * 2 > size else size * 2
                elif pos + size < len(self._window):
                    size *= 2
                else:
                    break
            self._window = self._window[pos:]
        yield from self._rest_of_stream()
        while (loss := self._end()) is not None:
            self.counts["loss"] += 1
            yield {"loss": [loss]}

    def _rest_of_stream(self) -> Iterator[Lot]:
        """What there is to report at the end of the input, though no byte is left."""
        self._window = b""
        lot: Lot = {}
        self._stretch(lot, 0, 0)
        yield lot

    def _fill(self, rows: int) -> bool:
        """Put about as many bytes as `rows` messages have into the window; False at the end."""
        enough = min(max(rows * self._per_row, MIN_WINDOW), MAX_WINDOW)
        if isinstance(self.backend, Capture):
            whole = self.backend.read_at(self.end, enough + len(self._window))
            if whole is not None:  # read once more, what is left is not copied
                self._final = len(whole) <= len(self._window)
                self._window, self._head = whole, b""
                return bool(whole)
        parts, size = [self._window], 0
        while size < enough and not self._final:
            more, self._head = self._head or self._receive(None), b""
            parts.append(more)
            size += len(more)
            self._final = not more
        self._window = b"".join(parts)
        return bool(self._window)

    def _plain(self, lot: Lot, pos: int, wanted: Mapping[str, Selection]) -> int:
        """Read the messages from window[pos] on that follow each other; how many bytes they are.

        None are read while there is something else to tell first.
        """
        if self._stream.damage is not None or self._losses.any_told:
            return 0
        stream, window = self._stream, self._window
        if self._columns is None or self._columns[0] is not stream:
            self._columns = stream, columns.of(stream)
        reads = self._columns[1]
        if reads is None:
            return 0
        stream.base, stream.used = self.end - pos, 0
        self._window_at = stream.base
        stop = min(len(window), pos + self._reach)
        if self._stop is not None:
            stop = min(stop, self._stop - stream.base)
        rows = reads.read(window, pos, stop)
        odd: list[Record] = []
        for i in [] if rows is None else rows.odd.tolist():
            assert rows is not None
            try:
                odd.append(stream.decode(window, rows.message(i)))
            except DecodeError:  # up to there, then
                rows = reads.read(window, pos, int(rows.starts[i]))
                break
        if rows is None or len(rows.odd) == len(rows.starts):
            self._reach = STRETCH  # so it may be again soon
            return 0
        self._data = window
        lot["loss"] = self._account(rows, odd)
        self._keep(lot, rows, odd, wanted)
        used = rows.after - pos
        self._reach = min(max(STRETCH, 2 * used), MAX_WINDOW)
        self._per_row = used // len(rows.starts) + 1
        stream.other += rows.other
        return used

    def _keep(
        self, lot: Lot, rows: Rows, odd: list[Record], wanted: Mapping[str, Selection]
    ) -> None:
        """Put the messages into the lot: the plain ones, and the others between them."""
        count = len(rows.starts)
        self.received += count
        packets = [i for i, record in enumerate(odd) if type(record) is PacketRecord]
        for record in odd:
            if type(record) is not PacketRecord:
                lot.setdefault(kind_of(record), []).append(record)
                self.counts[kind_of(record)] += 1
        self.counts["packet"] += count - len(odd) + len(packets)
        self.counts["loss"] += len(lot["loss"])
        if "packet" not in wanted:
            return
        needed = wanted["packet"].needed
        lot["packet"] = batch_of(rows, needed)
        if packets:
            others = batch("packet", [odd[i] for i in packets], needed)
            places = np.delete(np.arange(count), rows.odd), rows.odd[packets]
            order = pa.array(np.argsort(np.concatenate(places)))
            lot["packet"] = pa.concat_batches([lot["packet"], others]).take(order)

    def _account(self, rows: Rows, odd: list[Record]) -> list[LossRecord]:
        """What was lost between the messages, as a Reader tells it.

        It is asked of the first record of each log, and of those whose number is not the next one.
        """
        count = len(rows.starts)
        seq, following, log = (np.full(count, -1, np.int64) for _ in range(3))
        plain = np.ones(count, bool)
        plain[rows.odd] = False
        numbers, counts, logs = rows.column("seq"), rows.column("count"), rows.logs()
        names = {name: i for i, name in enumerate(dict.fromkeys(logs.values))}
        if numbers is not None:
            assert isinstance(numbers, Numbers)
            seq[plain] = numbers.values
            following[plain] = seq[plain] + (counts.values if isinstance(counts, Numbers) else 1)
            log[plain] = np.array([names[v] for v in logs.values], np.int64)[logs.codes]
            if numbers.valid is not None:
                log[np.flatnonzero(plain)[~numbers.valid]] = -1
        records = dict(zip(rows.odd.tolist(), odd, strict=True))
        for i, record in records.items():
            if record.seq is not None:
                seq[i], following[i] = record.seq, record.seq + (record.count or 1)
                name = interface_of(rows.message(i)), record.log or ""
                log[i] = names.setdefault(name, len(names))
        following &= 0xFFFFFFFF
        asked: list[tuple[int, tuple[int | None, str], int | None]] = []
        last: list[tuple[tuple[int | None, str], int]] = []
        for name, number in names.items():
            of_it = np.flatnonzero(log == number)
            if len(of_it):
                gaps = np.flatnonzero(seq[of_it[1:]] != following[of_it[:-1]])
                asked.append((int(of_it[0]), name, None))
                asked += [(int(of_it[i + 1]), name, int(following[of_it[i]])) for i in gaps]
                last.append((name, int(following[of_it[-1]])))
        lost: list[LossRecord] = []
        for i, (interface, name_of_log), before in sorted(asked, key=itemgetter(0)):
            if before is not None:
                self._losses.passed(name_of_log, before, interface)
            message = rows.message(i)
            self._stream.used = message.end  # where looking ahead begins
            record = records.get(i) or self._stream.decode(self._window, message)
            while (loss := self._lost_before(record, message)) is not None:
                lost.append(loss)
        for (interface, name_of_log), after in last:
            self._losses.passed(name_of_log, after, interface)
        self._stream.used = 0
        return lost

    def _peek(self, size: int) -> tuple[bytes, bool]:
        """As Reader._peek: in the window, and beyond it."""
        stream = self._stream
        at = stream.base + stream.used
        found = self._window[at - self._window_at : at - self._window_at + size]
        final = self._final
        if len(found) < size and not final and isinstance(self.backend, Capture):
            more = self.backend.read_at(at, size)
            if more is not None:
                return more, len(more) < size
        while len(found) + len(self._head) < size and not final:
            more = self.backend.receive()
            self._head += more
            final = not more
        return found + self._head, final

    def _stretch(self, lot: Lot, pos: int, size: int) -> int:
        """Read window[pos : pos + size] as a Reader does; how many bytes of it are dealt with.

        None may be: then no message is whole in so few bytes.
        """
        stream = self._stream
        self._data = self._window[pos : pos + size]
        stream.base, stream.used = self.end, 0
        self._window_at = self.end - pos
        self._drop_items()
        items = stream.split(self._data, self._final and pos + size >= len(self._window))
        if self._strict and (damage := stream.open_damage()) is not None:
            items.append(damage)
        later = None
        if stream.following and self._stop is not None and stream.base + stream.used >= self._stop:
            stream.following = []  # whoever reads on there finds it, too
            del items[-1:]  # Begun
        if self._stop is not None:  # the reader looks ahead: it is not to see what comes then
            for i, item in enumerate(items):
                if offset_of(item, self.end) >= self._stop:
                    later = offset_of(item, self.end)
                    del items[i:]
                    break
        self._items = items
        while self._next < len(items):
            item = items[self._next]
            record = self._decode(item) if type(item) is Message else self._note(item)
            if record is not None:
                kind = kind_of(record)
                self.counts[kind] += 1
                lot.setdefault(kind, []).append(record)
        self._changed = later is None and self._follow()
        if self._changed:
            return stream.used
        if later is not None:
            stream.damage, stream.following = None, []  # they come later still
            return later - self.end
        damage = self._stream.damage
        if self._stop is not None and damage is not None and damage.offset >= self._stop:
            self._stream.damage = None
            return damage.offset - self.end
        return self._stream.used

    def _is_done(self) -> bool:
        """Whether `stop` is reached; damage that began before it must have found its end."""
        return self._stop is not None and self.end >= self._stop and self._stream.damage is None


def opened(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    layout: str | None = None,
    on_error: OnError = "resync",
) -> Bulk:
    """A Bulk of a path, "-" or a binary file object; ValueError for a live source."""
    named = backends.named(source)
    if named is not None and named[0] != "capture":
        raise ValueError(f"{source} is live: tables are made of files")
    (backend,) = backends.connect(source, {})
    try:
        return Bulk(backend, layout=layout, on_error=on_error)
    except BaseException:
        backend.close()
        raise


def offset_of(item: Item, base: int) -> int:
    """Where in the input an item is; `base` is the offset of the data that it was found in."""
    if isinstance(item, Message):
        return base + item.start
    return base if isinstance(item, Begun | Interfaces) else item.offset


class _Gathered:
    """Records of a kind, and batches of them, until they are enough for one batch."""

    def __init__(self, selection: Selection, rows: int) -> None:
        self._selection = selection
        self._enough = rows // 2
        self._records: list[Record] = []
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, some: list[Record] | pa.RecordBatch) -> None:
        """More records, or a batch of them."""
        if isinstance(some, list):
            self._records += some
        else:
            self._settle()
            self._add(some)

    def take(self, last: bool) -> pa.RecordBatch | None:
        """What is there, if it is enough, or if it is the `last` and there is something."""
        if last or self._rows + len(self._records) >= self._enough:
            self._settle()
            batches, self._batches, self._rows = self._batches, [], 0
            if batches:
                return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
        return None

    def _settle(self) -> None:
        """Make a batch of the records."""
        records, self._records = self._records, []
        if records:
            self._add(batch(self._selection.kind, records, self._selection.needed))

    def _add(self, whole: pa.RecordBatch) -> None:
        some = self._selection.of(whole)
        if some.num_rows:
            self._batches.append(some)
            self._rows += some.num_rows
