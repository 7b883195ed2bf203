"""Groups of records in columns: Arrow groups a batch at once, and results of batches are merged.

What is grouped of a batch has a row for each of its groups. Such rows are gathered, and grouped
again when there are many. Memory therefore grows with the number of groups, which is bounded (see
pylog.stats.result), not with that of records. Groups of several processes are merged likewise.
Sums are floating-point numbers, exact up to 2**53: 9 PB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.stats import shown
from pylog.stats.grouping import column_of, grouped, numbers_of, sizes
from pylog.stats.keys import KIND, Form, Key
from pylog.stats.question import ENDED, FLOW_COLUMNS, MOST_KEYS, MOST_PAIRS, Plan, Question, summed
from pylog.stats.result import Answer, Group, in_order
from pylog.table import rows
from pylog.table.schemas import TIME

TYPES: dict[Form, Any] = {
    "text": pa.string(), "number": pa.int64(), "bool": pa.bool_(), "time": pa.int64(),
}  # fmt: skip
GATHERED = 1 << 17
"""So many rows are gathered before they are grouped, or as many as there are groups."""


class ColumnGroups:
    """The groups of the records of a kind."""

    def __init__(self, plan: Plan, kind: str) -> None:
        self.plan, self.kind = plan, kind
        self._limit = plan.question.keys or MOST_KEYS
        self._keys = [f"key{i}" for i in range(len(plan.keys))]
        self._sums = [f"sum{i}" for i in range(len(plan.question.sums))]
        self._groups = _Gathered(
            self._keys,
            [*((n, "sum") for n in ("guard", "count", "records", *self._sums)),
             ("first", "min"), ("last", "max")],
        )  # fmt: skip
        self._distinct = [
            _Gathered([*self._keys, *(f"value{i}" for i in range(len(keys)))], [])
            for keys in plan.distinct
        ]
        self.count = self.records = self.floor = self.distinct_floor = 0
        self.sums = [0.0] * len(plan.question.sums)

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the rows of a batch with the columns of `Plan.columns`, as far as the kind has."""
        size = batch.num_rows
        if not size:
            return
        time = _times(batch)
        weight = _filled(batch, "count", 1)
        keys = [_values(key, self.kind, batch, time) for key in self.plan.keys]
        columns = dict(zip(self._keys, keys, strict=True))
        numbers: dict[str, Any] = {"guard": weight, "count": weight,
                                   "records": np.ones(size, np.int64)}  # fmt: skip
        for i, name in enumerate(self.plan.question.sums):
            numbers[self._sums[i]] = added = _summed(name, self.kind, batch, weight)
            self.sums[i] += float(added.sum())
        made = {name: column_of(values) for name, values in numbers.items()}
        self._groups.add(_table(columns | made | {"first": time, "last": time}))
        for gathered, wanted in zip(self._distinct, self.plan.distinct, strict=True):
            values = [_values(key, self.kind, batch, time) for key in wanted]
            named = {f"value{i}": value for i, value in enumerate(values)}
            gathered.add(_table(columns | named))
        self.count += int(weight.sum())
        self.records += size
        self._bound()

    def merge(self, other: ColumnGroups) -> None:
        """Add the groups of other records."""
        self._groups.extend(other._groups)
        for gathered, others in zip(self._distinct, other._distinct, strict=True):
            gathered.extend(others)
        self.count += other.count
        self.records += other.records
        self.floor += other.floor
        self.distinct_floor += other.distinct_floor
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self._bound()

    def __getstate__(self) -> dict[str, Any]:
        if self.records:
            for gathered in (self._groups, *self._distinct):
                gathered.group()
        return self.__dict__ | {"plan": self.plan.question}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"plan": Plan(state["plan"])}

    def _bound(self) -> None:
        """Drop the lightest groups, and the fewest distinct values, if there are too many."""
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
        most = self._limit * MOST_PAIRS
        for gathered in self._distinct:
            pairs = gathered.grouped_if_many(most)
            if pairs is None or pairs.num_rows <= most:
                continue
            places, lost = self._most_distinct(pairs, most // 2)
            self.distinct_floor += lost
            gathered.replace(pairs.take(places))

    def _most_distinct(self, pairs: pa.Table, most: int) -> tuple[pa.Array, int]:
        """The rows of the groups that have the most rows, so many rows in all; and how many rows
        any other group has at most.
        """
        if not self._keys:
            return column_of(np.arange(most)), pairs.num_rows - most
        codes, counts = sizes(pairs, self._keys)
        order = np.argsort(-counts, kind="stable")
        kept = max(int(np.searchsorted(np.cumsum(counts[order]), most, "right")), 1)
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        of_row = ranks[codes]
        places = np.flatnonzero(of_row < kept)
        lost = max(len(places) - most, int(counts[order[kept]]) if kept < len(order) else 0)
        return column_of(places[:most]), lost

    def examples(self, key: tuple[Any, ...], place: int, limit: int) -> list[tuple[Any, ...]]:
        """As RecordGroups.examples."""
        pairs = self._distinct[place].group()
        for name, value in zip(self._keys, key, strict=True):
            column = pairs.column(name)  # an expression would import pandas
            pairs = pairs.filter(column.is_null() if value is None else pc.equal(column, value))
        values = pairs.drop_columns(self._keys).to_pydict().values()
        return sorted(zip(*values, strict=True), key=in_order)[:limit]

    def answer(self, limit: int | None = None, order: str | None = None) -> Answer:
        """The groups so far; with a limit at least those that Answer.top gives for it."""
        if not self.records:
            return Answer(self.plan.question, self.kind, [], 0, 0, tuple(map(round, self.sums)))
        table = self._groups.group()
        in_all = table.num_rows
        ranked = _ranked_by(order, self.plan.question)
        if limit is not None and ranked is not None and limit < in_all:
            ranks = numbers_of(table.column(ranked))
            least = np.partition(ranks, in_all - limit)[in_all - limit]
            table = table.take(column_of(np.flatnonzero(ranks >= least)))
        keys = [table.column(name).to_pylist() for name in self._keys]
        numbers = {n: table.column(n).to_pylist() for n in ("guard", "count", "records", "first",
                                                            "last", *self._sums)}  # fmt: skip
        counts = [self._distinct_counts(gathered, table) for gathered in self._distinct]
        groups = []
        floor, columns = self.floor, [numbers[name] for name in self._sums]
        for i, key in enumerate(zip(*keys, strict=True) if keys else [()] * table.num_rows):
            count = numbers["count"][i]
            groups.append(
                Group(
                    key, count, max(count, numbers["guard"][i] + floor), numbers["records"][i],
                    numbers["first"][i], numbers["last"][i],
                    tuple([round(column[i]) for column in columns]),
                    tuple([of[i] for of in counts]),
                )
            )  # fmt: skip
        return Answer(
            self.plan.question, self.kind, groups, self.count, self.records,
            tuple(map(round, self.sums)), self.floor, self.distinct_floor, in_all,
        )  # fmt: skip

    def _distinct_counts(self, gathered: _Gathered, groups: pa.Table) -> list[int]:
        """How many distinct values each of the groups has, in their order."""
        pairs = gathered.group()
        keys, count = self._keys, groups.num_rows
        if not keys:
            return [pairs.num_rows] * count
        both = pa.concat_tables([groups.select(keys), pairs.select(keys)])
        codes, counts = sizes(both, keys)
        of_groups = counts.take(codes[:count]) - 1  # without the group itself
        return [int(n) for n in of_groups]


def _ranked_by(order: str | None, question: Question) -> str | None:
    """The column by which groups are ordered; None: by none alone."""
    if question.every is not None:
        return None
    if order is None and question.sums:
        return "sum0"
    if order in question.sums:
        return f"sum{question.sums.index(order)}"
    return "count" if order in (None, "count") else None


class _Gathered:
    """Rows that are grouped by keys now and then."""

    def __init__(self, keys: list[str], numbers: list[tuple[str, str]]) -> None:
        """`numbers` are the other columns, each with the function that makes one number of many."""
        self._keys, self._numbers = keys, numbers
        self._tables: list[pa.Table] = []
        self._rows = self._grouped = 0
        """Rows in all, and of the first table, which is grouped."""

    def add(self, table: pa.Table) -> None:
        """Add the rows of a batch, grouped."""
        self._append(self._group(table))

    def extend(self, other: _Gathered) -> None:
        """Add what another has."""
        for table in other._tables:
            self._append(table)

    def _append(self, table: pa.Table) -> None:
        self._tables.append(table)
        self._rows += table.num_rows

    def grouped_if_many(self, most: int) -> pa.Table | None:
        """The groups, if many rows were added, or there may be more than `most` groups; or None."""
        new = self._rows - self._grouped
        if new > min(max(GATHERED, self._grouped), most):
            return self.group()
        return None

    def group(self) -> pa.Table:
        """The groups of all rows."""
        if len(self._tables) != 1 or self._grouped != self._rows:
            self.replace(self._group(pa.concat_tables(self._tables).combine_chunks()))
            pa.default_memory_pool().release_unused()  # or it keeps 50 MB and more
        return self._tables[0]

    def replace(self, table: pa.Table) -> None:
        """Have these groups instead."""
        self._tables = [table]
        self._rows = self._grouped = table.num_rows

    def _group(self, table: pa.Table) -> pa.Table:
        return grouped(table, self._keys, self._numbers)


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
        column = pc.if_else(pc.less(column, 2**63), column, None)
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
