"""A filter of the rows of a batch: by an Arrow expression, and in Python what Arrow cannot say.

Python tests each distinct value of a column once. A few values do not fit into their columns and
are in `extra` (see pylog.table.schemas): batches that have such are tested as records, so that the
rows are always those whose records the filter matches.
"""

from __future__ import annotations

from functools import reduce
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pylog.filter import TIMES, Filter
from pylog.filter.bind import Bound, BoundAll, BoundAny, BoundNot, Leaf
from pylog.filter.names import Read
from pylog.filter.predicate import predicate
from pylog.record import json_name, kinds
from pylog.table import rows
from pylog.table.schemas import bounded


def untimed(batch: pa.RecordBatch) -> int:
    """How many rows have no time: neither that of the kernel nor that of receipt, as far as the
    batch has these columns."""
    columns = [batch.column(name) for name in TIMES if name in batch.schema.names]
    if not columns or not all(column.null_count for column in columns):
        return 0
    absent = reduce(pc.and_, [column.is_null() for column in columns])
    return int(absent.sum().as_py() or 0)


class Where:
    """A filter for the batches of a kind.

    names   the columns that are needed
    """

    def __init__(self, wanted: Filter, kind: str) -> None:
        pushed = wanted.pushed(kind)
        self._kind, self._filter, self._rest = kind, wanted, pushed.rest
        self._expression = pushed.expression
        mentioned = wanted.mentions(kind)
        unheld = {json_name(name) for name, _ in bounded(kinds()[kind])}
        self._unheld = unheld if "extra" in mentioned else unheld & mentioned
        self.names = set(pushed.names)
        self._of_records: list[str] = []
        """The columns of which records are made."""
        if self._rest is not None or self._unheld:
            names = {"source", "layout", "extra"} | mentioned | self._unheld
            self._of_records = sorted(names)
            self.names |= names

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The wanted rows of a batch."""
        wanted = self._of(batch)
        if self._filter.by_time:
            self._filter.untimed += untimed(batch) - untimed(wanted)
        return wanted

    def _of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._has_unheld(batch):
            return batch.filter(self._by_records(batch, self._filter.bound(kinds()[self._kind])))
        table = pa.Table.from_batches([batch]).filter(self._expression).combine_chunks()
        batch = next(iter(table.to_batches()), batch.slice(0, 0))
        if self._rest is None or not batch.num_rows:
            return batch
        return batch.filter(self._mask(batch, self._rest))

    def _has_unheld(self, batch: pa.RecordBatch) -> bool:
        """Whether a value that the filter reads may be in `extra`, because no column holds it."""
        if not any(batch.column(name).null_count for name in self._unheld):
            return False
        texts = batch.column("extra").unique().to_pylist()
        return any(f'"{name}":' in text for text in texts if text for name in self._unheld)

    def _mask(self, batch: pa.RecordBatch, bound: Bound) -> pa.Array:
        """For each row whether it fulfils a part of the filter."""
        if isinstance(bound, BoundNot):
            return pc.invert(self._mask(batch, bound.part))
        if isinstance(bound, BoundAll | BoundAny):
            join = pc.and_ if isinstance(bound, BoundAll) else pc.or_
            return reduce(join, [self._mask(batch, part) for part in bound.parts])
        if isinstance(bound, bool):
            return pa.array([bound] * batch.num_rows, pa.bool_())
        if any(read.how in ("header", "ethernet") for read in bound.target.reads):
            return self._by_records(batch, bound)  # read several fields
        any_value = bound._replace(condition=None, negated=False)
        there = [self._by_values(batch, any_value, read) for read in bound.target.reads]
        if bound.condition is None:
            return reduce(pc.or_, there)
        fits = bound._replace(negated=False)
        one = reduce(pc.or_, [self._by_values(batch, fits, read) for read in bound.target.reads])
        return pc.and_(reduce(pc.or_, there), pc.invert(one)) if bound.negated else one

    def _by_values(self, batch: pa.RecordBatch, leaf: Leaf, read: Read) -> pa.Array:
        """As `_mask`, for one read of a leaf: each distinct value of its column is tested once."""
        test: Any = predicate(leaf._replace(target=leaf.target._replace(reads=(read,))))
        name, attribute = json_name(read.attribute), read.attribute
        column = batch.column(name)
        nested = pa.types.is_nested(column.type)
        if not (nested or pa.types.is_dictionary(column.type)):
            column = column.dictionary_encode()
        values = rows.values(self._kind, name, column if nested else column.dictionary)
        fits = pa.array([test(SimpleNamespace(**{attribute: v})) for v in values], pa.bool_())
        return fits if nested else pc.fill_null(fits.take(column.indices), False)

    def _by_records(self, batch: pa.RecordBatch, bound: Bound) -> pa.Array:
        """As `_mask`, of the records that are made of the columns."""
        test = predicate(bound)
        records = rows.records(self._kind, batch.select(self._of_records))
        return pa.array([test(record) for record in records], pa.bool_())
