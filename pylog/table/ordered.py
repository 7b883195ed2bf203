"""Lines and records in the order of the log: what an output gets that writes a line for a packet.

Of messages that were decoded together, the regular packets become lines at once, see
pylog.table.lines. Between them stand losses, irregular records and packets for which the output has
no pattern; those it writes itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pylog.actions import Actions
from pylog.filter import Filter
from pylog.formats.columns import Array
from pylog.record import Record
from pylog.table.arrays import batch_of
from pylog.table.lines import Lines, Text
from pylog.table.patterns import LineForm
from pylog.table.regular import Run
from pylog.table.schemas import chosen
from pylog.table.select import with_actions
from pylog.table.where import Where

_ROW = "(row)"
"""The column that says which rows a filter wanted."""


class Piece(NamedTuple):
    """Consecutive records, so many: their lines, or else the records."""

    lines: memoryview | None
    records: list[Record]
    number: int


class Ordered:
    """Makes pieces of what a log gives; `left_out` is how many records the filter did not want."""

    def __init__(self, form: LineForm, where: Filter | None, actions: Actions | None) -> None:
        self.left_out = 0
        self._where, self._actions = where, actions
        self._columns = None if where is None else Where(where, "packet")
        self._lines = Lines(form, None if actions is None else actions.record)
        self._pieces: list[Piece] = []

    def take(self) -> Iterator[Piece]:
        """What was made since the last call."""
        pieces, self._pieces = self._pieces, []
        yield from pieces

    def add_records(self, records: Iterable[Record]) -> None:
        """Add records, after all that was added before."""
        if self._actions is not None:
            records = map(self._actions.record, records)
        given = list(records)
        if self._where is not None:
            wanted = [*filter(self._where.matches, given)]
            self.left_out += len(given) - len(wanted)
            given = wanted
        if given:
            if self._pieces and self._pieces[-1].lines is None:
                given = self._pieces.pop().records + given
            self._pieces.append(Piece(None, given, len(given)))

    def add(self, run: Run) -> int:
        """Add the records of messages that were decoded together; for how many regular ones the
        output had no pattern.
        """
        rows = run.rows
        regular = np.delete(np.arange(len(rows.starts)), rows.irregular)
        wanted = self._wanted(run)
        texts, left = self._lines.of(rows, run.more, wanted)
        between: list[tuple[int, Record]] = [*run.lost]
        between += zip(rows.irregular.tolist(), run.irregular, strict=True)
        between += ((i, run.decoded(i)) for i in regular[left].tolist())
        between.sort(key=itemgetter(0))  # a loss stays before the record of its message
        with_line = regular if wanted is None else regular[wanted]
        if len(left):
            with_line = np.setdiff1d(with_line, regular[left], assume_unique=True)
        places = with_line.searchsorted(np.array([i for i, _ in between], np.int64))
        self._merge(texts, places.tolist(), [record for _, record in between])
        return len(left)

    def _merge(self, made: list[Text], places: list[int], between: list[Record]) -> None:
        """Add lines, and records before the line at each of these places."""
        i = first = 0
        for data, edges in made:
            count, start = len(edges) - 1, 0
            while i < len(places) and places[i] < first + count:
                self._add_lines(data, edges, start, places[i] - first)
                start = places[i] - first
                self.add_records(between[i : i + 1])
                i += 1
            self._add_lines(data, edges, start, count)
            first += count
        self.add_records(between[i:])

    def _add_lines(self, data: memoryview, edges: Array, start: int, stop: int) -> None:
        if stop > start:
            lines = data[int(edges[start]) : int(edges[stop])]
            self._pieces.append(Piece(lines, [], stop - start))

    def _wanted(self, run: Run) -> Array | None:
        """The numbers of the regular packets that the filter wants; None: of all."""
        if self._columns is None:
            return None
        names = self._columns.names
        if self._actions is not None and "action" in names:
            names = names | {"source", "prefix"}
        count = len(run.rows.starts) - len(run.rows.irregular)
        batch = batch_of(run.rows, chosen("packet", sorted(names or {"source"})), run.more)
        if self._actions is not None and "action" in names:
            batch = with_actions(batch, self._actions)
        batch = self._columns.of(batch.append_column(_ROW, pa.array(np.arange(count))))
        wanted: Array = batch.column(_ROW).to_numpy()
        self.left_out += count - len(wanted)
        return wanted
