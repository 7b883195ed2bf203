"""From a log to Arrow batches: many records at a time, and never other ones than a Reader gives.

A window of some MiB moves over the input. Where messages follow each other as they should, the
format's `columns` module (see pylog.formats.columns) reads them all at once; whatever is odd, the
reader's own code reads, a stretch of the input at a time, and single odd messages between plain
ones one by one. Which of the two reads a message makes no difference to what is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pylog.backends import Backend
from pylog.errors import DecodeError
from pylog.formats import Damage, Dropped, Item, Message
from pylog.reader import OnError, Reader
from pylog.record import FlowRecord, LossRecord, PacketRecord, Record
from pylog.table.schemas import batch
from pylog.table.select import Selection

ROWS = 32768
"""Rows of a batch: so many stay in the processor's cache while their columns are made."""

WINDOW = 1 << 23
"""How many bytes of the input are at hand."""

STRETCH = 1 << 16
"""How many bytes are read in the reader's own way before the faster one is tried again."""

KINDS: dict[type[Record], str] = {PacketRecord: "packet", FlowRecord: "flow", LossRecord: "loss"}

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
        if backend.live:
            raise ValueError(f"{backend.name} is live: batches are made of files")
        super().__init__(backend, layout=layout, on_error=on_error)
        self.counts: Counter[str] = Counter()
        self.end = start
        self._stop = stop
        self._window = b""

    def batches(
        self, wanted: Mapping[str, Selection], rows: int = ROWS
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The batches of the kinds that are wanted, each in its order, of about `rows` rows.

        Damage ends strict reading with a DecodeError, after the batches of what came before it.
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
        while not self._final and self._fill():
            pos, size = 0, STRETCH
            while pos < len(self._window):
                lot: Lot = {}
                try:
                    used = self._stretch(lot, pos, size)
                except DecodeError:
                    yield lot  # what came before it
                    raise
                yield lot
                pos += used
                self.end += used
                if self._is_done():
                    return
                if used:
                    size = STRETCH
                elif pos + size < len(self._window):
                    size *= 2
                else:
                    break
            self._window = self._window[pos:]
        while (loss := self._end()) is not None:
            self.counts["loss"] += 1
            yield {"loss": [loss]}

    def _fill(self) -> bool:
        """Move the window on, by its size; False when there is nothing in it."""
        parts, size = [self._window], 0
        while size < WINDOW and not self._final:
            more, self._head = self._head or self._receive(None), b""
            parts.append(more)
            size += len(more)
            self._final = not more
        self._window = b"".join(parts)
        return bool(self._window)

    def _stretch(self, lot: Lot, pos: int, size: int) -> int:
        """Read window[pos : pos + size] as a Reader does; how many bytes of it are dealt with.

        None may be: then no message is whole in so few bytes.
        """
        stream = self._stream
        self._data = self._window[pos : pos + size]
        stream.base, stream.used = self.end, 0
        self._items = stream.split(self._data, self._final and pos + size >= len(self._window))
        self._next = 0
        if self._strict and stream.damage is not None:
            self._items.append(Damage(stream.damage.offset, 0, stream.damage.error))
        while self._next < len(self._items):
            item = self._items[self._next]
            if self._stop is not None and (at := _offset(item, self.end)) >= self._stop:
                stream.damage = None  # it comes later still
                return at - self.end
            record = self._decode(item) if type(item) is Message else self._note(item)
            if record is not None:
                kind = KINDS[type(record)]
                self.counts[kind] += 1
                lot.setdefault(kind, []).append(record)
        damage = self._stream.damage
        if self._stop is not None and damage is not None and damage.offset >= self._stop:
            self._stream.damage = None
            return damage.offset - self.end
        return self._stream.used

    def _is_done(self) -> bool:
        """Whether `stop` is reached; damage that began before it must have found its end."""
        return self._stop is not None and self.end >= self._stop and self._stream.damage is None


def _offset(item: Item, base: int) -> int:
    """Where in the input an item is; `base` is the offset of the data that it was found in."""
    if isinstance(item, Message):
        return base + item.start
    return item.offset if isinstance(item, Damage | Dropped) else base


class _Gathered:
    """Records of a kind, and batches of them, until they are enough for one batch."""

    def __init__(self, selection: Selection, rows: int) -> None:
        self._selection = selection
        self._enough = rows
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
