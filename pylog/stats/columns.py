"""Groups of records in columns: Arrow groups a batch at once, and results of batches are merged.

What is grouped of a batch has a row for each of its groups. Such rows are gathered, and grouped
again when there are many. Memory therefore grows with the number of groups, which is bounded (see
pylog.stats.result), not with that of records. Groups of several processes are merged likewise.
Sums are floating-point numbers, exact up to 2**53: 9 PB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.stats import shown
from pylog.stats.distinct import Distinct
from pylog.stats.gathered import Gathered
from pylog.stats.grouping import column_of, numbered, numbers_of, one
from pylog.stats.keys import KIND, Form, Key
from pylog.stats.question import ENDED, FLOW_COLUMNS, MOST_KEYS, MOST_PAIRS, Plan, Question, summed
from pylog.stats.result import Answer, Group, distinct_name
from pylog.table import rows
from pylog.table.schemas import TIME

TYPES: dict[Form, Any] = {
    "text": pa.string(), "number": pa.int64(), "bool": pa.bool_(), "time": pa.int64(),
}  # fmt: skip


class ColumnGroups:
    """The groups of the records of a kind."""

    def __init__(self, plan: Plan, kind: str) -> None:
        self.plan, self.kind = plan, kind
        self._limit = plan.question.keys or MOST_KEYS
        self._keys = [f"key{i}" for i in range(len(plan.keys))]
        self._sums = [f"sum{i}" for i in range(len(plan.question.sums))]
        self._groups = Gathered(
            self._keys,
            [*((n, "sum") for n in ("guard", "count", "records", *self._sums)),
             ("first", "min"), ("last", "max")],
        )  # fmt: skip
        self._distinct = Distinct(plan.distinct, self._keys, self._limit * MOST_PAIRS)
        self.count = self.records = self.floor = 0
        self.sums = [0.0] * len(plan.question.sums)

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the rows of a batch with the columns of `Plan.columns`, as far as the kind has."""
        size = batch.num_rows
        if not size:
            return
        time = _times(batch)
        weight = _filled(batch, "count", 1)
        values = partial(_values, kind=self.kind, batch=batch, times=time)
        keys = [values(key) for key in self.plan.keys]
        groups = numbered(keys, one(size))
        numbers: dict[str, Any] = {"guard": weight, "count": weight,
                                   "records": np.ones(size, np.int64)}  # fmt: skip
        for i, name in enumerate(self.plan.question.sums):
            numbers[self._sums[i]] = added = _summed(name, self.kind, batch, weight)
            self.sums[i] += float(added.sum())
        made = {name: column_of(added) for name, added in numbers.items()}
        columns = dict(zip(self._keys, keys, strict=True))
        self._groups.add(_table(columns | made | {"first": time, "last": time}), groups)
        self._distinct.add(keys, groups, values)
        self.count += int(weight.sum())
        self.records += size
        self._bound()

    def merge(self, other: ColumnGroups) -> None:
        """Add the groups of other records."""
        self._groups.extend(other._groups)
        self._distinct.merge(other._distinct)
        self.count += other.count
        self.records += other.records
        self.floor += other.floor
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self._bound()

    def __getstate__(self) -> dict[str, Any]:
        if self.records:
            self._groups.group()
            self._distinct.group()
        return self.__dict__ | {"plan": self.plan.question}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"plan": Plan(state["plan"])}

    def _bound(self) -> None:
        """Drop the lightest groups if there are too many."""
        table = self._groups.grouped_if_many(self._limit)
        if table is not None and table.num_rows > self._limit:
            guards = numbers_of(table.column("guard"))
            kept = self._limit // 2
            least = int(np.partition(guards, len(guards) - kept - 1)[len(guards) - kept - 1])
            self.floor += least
            table = table.set_column(
                table.schema.get_field_index("guard"), "guard", column_of(guards - least)
            )
            self._groups.replace(table.take(column_of(np.flatnonzero(guards > least))))

    def examples(self, key: tuple[Any, ...], place: int, limit: int) -> list[tuple[Any, ...]]:
        """As RecordGroups.examples."""
        return self._distinct.examples(key, place, limit)

    def answer(
        self,
        limit: int | None = None,
        order: str | None = None,
        least: Mapping[str, int] | None = None,
    ) -> Answer:
        """The groups so far; with `limit` and `least` only those that these ask for.

        limit   at least the groups that Answer.top gives for it and the order
        least   at least the groups that have one of these numbers, or more, see Answer.values
        """
        question = self.plan.question
        if not self.records:
            return Answer(question, self.kind, [], 0, 0, tuple(map(round, self.sums)))
        table = self._groups.group()
        in_all = table.num_rows
        distinct = self._distinct.counts(table)
        numbers = {"count": numbers_of(table.column("count"))}
        numbers |= {name: numbers_of(table.column(own))
                    for name, own in zip(question.sums, self._sums, strict=True)}  # fmt: skip
        numbers |= dict(zip(map(distinct_name, question.distinct), distinct, strict=True))
        places = _chosen(numbers, question, limit, order, least)
        if places is not None:
            table = table.take(column_of(places))
            distinct = [counts[places] for counts in distinct]
        return Answer(
            question, self.kind, self._made(table, distinct), self.count, self.records,
            tuple(map(round, self.sums)), self.floor, self._distinct.floor, in_all,
        )  # fmt: skip

    def _made(self, table: pa.Table, distinct: Sequence[Any]) -> list[Group]:
        """The groups of the rows of a table."""
        keys = [table.column(name).to_pylist() for name in self._keys]
        guards, counts, records, first, last = (
            table.column(name).to_pylist()
            for name in ("guard", "count", "records", "first", "last")
        )
        sums = [map(round, table.column(name).to_pylist()) for name in self._sums]
        values = [counts.tolist() for counts in distinct]
        nothing: list[tuple[int, ...]] = [()] * table.num_rows
        columns = zip(
            zip(*keys, strict=True) if keys else nothing, guards, counts, records, first, last,
            zip(*sums, strict=True) if sums else nothing,
            zip(*values, strict=True) if values else nothing, strict=True,
        )  # fmt: skip
        return [
            Group(
                key, count, max(count, guard + self.floor), seen, begun, ended, sums_of, values_of
            )
            for key, guard, count, seen, begun, ended, sums_of, values_of in columns
        ]


def _chosen(
    numbers: Mapping[str, Any], question: Question, limit: int | None, order: str | None,
    least: Mapping[str, int] | None,
) -> Any:  # fmt: skip
    """The places of the groups that are asked for, as in ColumnGroups.answer; None: of all."""
    if least is not None:
        wanted = [numbers[name] >= number for name, number in least.items()]
        return np.flatnonzero(np.logical_or.reduce(wanted))
    ranks = numbers.get(order or next(iter(question.sums), "count"))
    if limit is None or question.every is not None or ranks is None or limit >= len(ranks):
        return None
    return np.flatnonzero(ranks >= np.partition(ranks, len(ranks) - limit)[len(ranks) - limit])


def _times(batch: pa.RecordBatch) -> pa.Array:
    """The time of each row, in nanoseconds since 1970: of the kernel, or else of the receipt."""
    names = [name for name in ("timestamp", "observed") if name in batch.schema.names]
    times = [batch.column(name).cast(TIME).cast(pa.int64()) for name in names]
    return pc.coalesce(*times) if times else pa.nulls(batch.num_rows, pa.int64())


def _values(key: Key, kind: str, batch: pa.RecordBatch, times: pa.Array) -> pa.Array:
    """The values of a key in each row."""
    form = TYPES[key.form]
    if key.column == KIND:
        return pa.array([kind] * batch.num_rows, form)
    if key.part is not None:
        granules = pc.divide(times, key.part.granule_ns).dictionary_encode()
        part = key.part
        values = [part[granule] for granule in granules.dictionary.to_pylist()]
        return pa.array(values, form).take(granules.indices)
    if key.column not in batch.schema.names:
        return pa.nulls(batch.num_rows, form)
    column = batch.column(key.column)
    if key.derive is not None:
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        texts = column.dictionary.to_pylist()
        values = [None if text is None else key.derive(text) for text in texts]
        return pa.array(values, form).take(column.indices)
    if pa.types.is_timestamp(column.type):
        column = column.cast(TIME)
    elif column.type == pa.uint64():  # beyond what 63 bits hold there are hashes only
        limit, absent = pa.scalar(2**63, pa.uint64()), pa.scalar(None, pa.uint64())
        column = pc.if_else(pc.less(column, limit), column, absent)
    return column.cast(form)


def _table(columns: dict[str, Any]) -> pa.Table:
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def _filled(batch: pa.RecordBatch, name: str, value: int) -> Any:
    """The numbers of a column, and a value where it is null; exact up to 2**53.

    pyarrow's fill_null would import pandas, where that is installed: 0.3 s.
    """
    if name not in batch.schema.names or batch.column(name).null_count == batch.num_rows:
        return np.full(batch.num_rows, value, np.int64)
    column = batch.column(name)
    if not column.null_count:
        return numbers_of(column).astype(np.int64)
    numbers = column.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f":
        numbers = np.where(np.isnan(numbers), value, numbers)
    return numbers.astype(np.int64)


def _summed(name: str, kind: str, batch: pa.RecordBatch, weight: Any) -> Any:
    """What each row adds to a sum."""
    if kind == "packet":
        if name == "packets":
            return weight.astype(np.float64)
        if "length" not in batch.schema.names:
            return np.zeros(batch.num_rows)
        return np.maximum(_filled(batch, "length", 0), 0).astype(np.float64) * weight
    zeros = np.zeros(batch.num_rows)
    if kind != "flow" or name == "length" or not {"event", name} <= set(batch.schema.names):
        return zeros
    ended = pc.is_in(batch.column("event").cast(pa.string()), pa.array(sorted(ENDED)))
    places = np.flatnonzero(ended.to_numpy(zero_copy_only=False))
    if len(places):
        read = summed(name, kind)
        names = [n for n in FLOW_COLUMNS if n in batch.schema.names]
        records = rows.records(kind, batch.select(names).take(column_of(places)))
        zeros[places] = [read(record) for record in records]
    return zeros


def as_table(answer: Answer, groups: Sequence[Group]) -> pa.Table:
    """Groups as a table for programs, see shown.rows; times are timestamps."""
    forms: dict[str, Any] = {
        key.name: TYPES[key.form] for key in Plan(answer.question).keys
    }  # fmt: skip
    rows_of = shown.rows(answer, groups)
    names = list(shown.rows(answer, [*groups[:1], *answer.groups[:1]])[0]) if rows_of else [*forms]
    columns = {}
    for name in names:
        form = TIME if name in shown.TIMES else forms.get(name, pa.int64())
        columns[name] = pa.array([row[name] for row in rows_of], form)
    return pa.table(columns)
