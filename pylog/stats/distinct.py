"""The distinct values of fields in each group, and how many they are.

A row is a group's keys and the values of a list of fields. A list of which all fields are in
another, as the ports and the hosts of pairs of host and port, is counted from the rows of that
one: that takes a third of the memory. A row without the only field of a list has no value of it,
as in SQL. Of too many rows those of the groups that have the fewest
are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.stats.counted import ABSENT
from pylog.stats.gathered import Gathered
from pylog.stats.grouping import Numbered, by_columns, column_of, grouped, numbered, one
from pylog.stats.keys import Key
from pylog.stats.result import in_order


class _Held(NamedTuple):
    """The rows of a list of fields; `columns` are those of its values."""

    fields: Sequence[Key]
    columns: list[str]
    rows: Gathered


class Distinct:
    """The distinct values of groups.

    floor   so many values of a group may be missing, at most
    """

    def __init__(self, lists: Sequence[Sequence[Key]], keys: Sequence[str], most: int) -> None:
        """`keys` are the columns of the groups' keys, `most` the rows of a list."""
        self._keys, self._most = list(keys), most
        self.floor = 0
        self._held: list[_Held] = []
        self._of: list[tuple[Gathered, list[str]]] = [(None, [])] * len(lists)  # type: ignore[list-item]
        by_size = sorted(range(len(lists)), key=lambda i: -len(lists[i]))
        for place in by_size:
            names = [field.name for field in lists[place]]
            held = next((h for h in self._held if {*names} <= {f.name for f in h.fields}), None)
            if held is None:
                columns = [f"value{i}" for i in range(len(names))]
                held = _Held(lists[place], columns, Gathered([*self._keys, *columns], []))
                self._held.append(held)
            column_of_name = dict(zip((f.name for f in held.fields), held.columns, strict=True))
            self._of[place] = held.rows, [column_of_name[name] for name in names]

    def add(
        self, keys: Sequence[pa.Array], groups: Numbered, values: Callable[[Key], pa.Array]
    ) -> None:
        """Add the rows of a batch.

        keys     the columns of keys
        groups   of the rows by them
        values   gives the column of a field
        """
        for fields, columns, rows in self._held:
            added = [values(field) for field in fields]
            table = pa.Table.from_arrays([*keys, *added], names=[*self._keys, *columns])
            rows.add(table, numbered(added, groups))
            self._bound(rows)

    def merge(self, other: Distinct) -> None:
        """Add the values of other records."""
        self.floor += other.floor
        for own, others in zip(self._held, other._held, strict=True):
            own.rows.extend(others.rows)
            self._bound(own.rows)

    def group(self) -> None:
        """Group the rows, so that they are few."""
        for held in self._held:
            held.rows.group()

    def counts(self, groups: pa.Table) -> list[Any]:
        """For each list an array of how many distinct values each of the groups has."""
        made = []
        for rows, columns in self._of:
            pairs = self._rows_of(rows, columns)
            if len(columns) == 1:
                pairs = pairs.filter(pairs.column(columns[0]).is_valid())
            both = [pa.chunked_array([*groups.column(name).chunks, *pairs.column(name).chunks])
                    for name in self._keys]  # fmt: skip
            of_row = numbered(both, one(groups.num_rows + pairs.num_rows))
            made.append(of_row.sizes()[of_row.codes[: groups.num_rows]] - 1)  # without its own row
        return made

    def examples(self, key: tuple[Any, ...], place: int, limit: int) -> list[tuple[Any, ...]]:
        """As RecordGroups.examples."""
        rows, columns = self._of[place]
        pairs = rows.group()
        for name, value in zip(self._keys, key, strict=True):
            column = pairs.column(name)  # an expression would import pandas
            pairs = pairs.filter(column.is_null() if value is None else pc.equal(column, value))
        values = [pairs.column(name).to_pylist() for name in columns]
        return sorted({*zip(*values, strict=True)} - {ABSENT}, key=in_order)[:limit]

    def _rows_of(self, rows: Gathered, columns: list[str]) -> pa.Table:
        """The rows of a list: those of the one that is held, or a part of their columns."""
        wanted = [*self._keys, *columns]
        pairs = rows.group()
        return pairs if {*pairs.column_names} == {*wanted} else grouped(pairs, wanted, [])

    def _bound(self, rows: Gathered) -> None:
        pairs = rows.grouped_if_many(self._most)
        if pairs is not None and pairs.num_rows > self._most:
            places, lost = self._most_distinct(pairs, self._most // 2)
            self.floor += lost
            rows.replace(pairs.take(places))

    def _most_distinct(self, pairs: pa.Table, most: int) -> tuple[pa.Array, int]:
        """The rows of the groups that have the most rows, so many rows in all; and how many rows
        any other group has at most.
        """
        if not self._keys:
            return column_of(np.arange(most)), pairs.num_rows - most
        groups = by_columns(pairs, self._keys)
        counts = groups.sizes()
        order = np.argsort(-counts, kind="stable")
        kept = max(int(np.searchsorted(np.cumsum(counts[order]), most, "right")), 1)
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        of_row = ranks[groups.codes]
        places = np.flatnonzero(of_row < kept)
        lost = max(len(places) - most, int(counts[order[kept]]) if kept < len(order) else 0)
        return column_of(places[:most]), lost
