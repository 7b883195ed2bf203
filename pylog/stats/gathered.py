"""Rows that are grouped by keys now and then, so that memory grows with the number of groups.

What is grouped of a batch has a row for each of its groups. Such rows are gathered, and grouped
again when there are many.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pylog.stats.grouping import Numbered, grouped

GATHERED = 1 << 17
"""So many rows are gathered before they are grouped, or as many as there are groups."""


class Gathered:
    """The groups of rows."""

    def __init__(self, keys: Sequence[str], numbers: Sequence[tuple[str, str]]) -> None:
        """`numbers` are the other columns, each with the function that makes one number of many."""
        self._keys, self._numbers = keys, numbers
        self._tables: list[pa.Table] = []
        self._rows = self._grouped = 0
        """Rows in all, and of the first table, which is grouped."""

    def add(self, table: pa.Table, groups: Numbered) -> None:
        """Add the rows of a batch, whose groups are numbered."""
        self._append(grouped(table, self._keys, self._numbers, groups))

    def extend(self, other: Gathered) -> None:
        """Add what another has."""
        for table in other._tables:
            self._append(table)

    def _append(self, table: pa.Table) -> None:
        self._tables.append(table)
        self._rows += table.num_rows

    def grouped_if_many(self, most: int) -> pa.Table | None:
        """The groups, if many rows were added, or there are more than twice `most`; or None."""
        new = self._rows - self._grouped
        if new > min(max(GATHERED, self._grouped), most) or self._rows > 2 * most:
            return self.group()
        return None

    def group(self) -> pa.Table:
        """The groups of all rows."""
        if len(self._tables) != 1 or self._grouped != self._rows:
            table = pa.concat_tables(self._tables).combine_chunks()
            self._tables = []
            self.replace(grouped(table, self._keys, self._numbers))
            pa.default_memory_pool().release_unused()  # or it keeps 50 MB and more
        return self._tables[0]

    def replace(self, table: pa.Table) -> None:
        """Have these groups instead."""
        self._tables = [table]
        self._rows = self._grouped = table.num_rows
