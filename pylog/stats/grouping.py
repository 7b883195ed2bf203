"""Rows of a table with equal keys made one, with NumPy.

Arrow numbers the distinct values of each key, NumPy the distinct combinations of those numbers and
what their rows have in sum. Arrow's own group-by would import pandas, where that is installed: 0.3
s, which is more than a million records take here. Sums are exact up to 2**53.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


class Numbered(NamedTuple):
    """The groups of the rows of a table.

    codes   the number of each row's group, by the first rows of groups
    groups  how many groups there are
    """

    codes: Any
    groups: int

    def rows(self) -> pa.Array:
        """The first row of each group."""
        firsts = np.empty(self.groups, np.int64)
        firsts[self.codes[::-1]] = np.arange(len(self.codes) - 1, -1, -1)  # the last one is kept
        return column_of(firsts)

    def sizes(self) -> Any:
        """How many rows each group has."""
        return np.bincount(self.codes, minlength=self.groups)


def one(rows: int) -> Numbered:
    """One group of so many rows."""
    return Numbered(np.zeros(rows, np.int64), min(rows, 1))


def numbered(columns: Iterable[Any], within: Numbered) -> Numbered:
    """The rows of a group that have equal values in columns, where null is a value.

    within   the groups of the rows, which are divided by the columns
    """
    for column in columns:
        own = _codes(_whole(column))
        if within.groups > 1:
            own = _codes(column_of(within.codes * own.groups + own.codes))
        within = own
    return within


def by_columns(table: pa.Table, keys: Sequence[str]) -> Numbered:
    """The groups of the rows of a table by columns."""
    return numbered(map(table.column, keys), one(table.num_rows))


def grouped(
    table: pa.Table, keys: Sequence[str], numbers: Sequence[tuple[str, str]],
    groups: Numbered | None = None,
) -> pa.Table:  # fmt: skip
    """A row for each combination of keys, in the order of their first rows.

    keys      columns whose values make a group; null is a value
    numbers   the other columns of the result, of integers or floats, each with what is made of the
              rows of a group: sum (without nulls), min or max (null if all are)
    groups    of the rows by `keys`, if they are numbered already
    """
    if groups is None:
        groups = by_columns(table, keys)
    codes, count = groups
    rows = groups.rows()
    columns = [table.column(name).take(rows) for name in keys]
    for name, function in numbers:
        column = _whole(table.column(name))
        if function == "sum":
            sums = np.bincount(codes, numbers_of(column), count)
            columns.append(column_of(sums.astype(str(column.type).replace("double", "float64"))))
        else:
            columns.append(_extreme(codes, count, column, function))
    return pa.Table.from_arrays(columns, names=[*keys, *(name for name, _ in numbers)])


def numbers_of(column: Any) -> Any:
    """The numbers of a column without nulls; its own to_numpy imports pandas, if that is there."""
    column = _whole(column)
    values = np.frombuffer(column.buffers()[1], str(column.type).replace("double", "float64"))
    return values[column.offset : column.offset + len(column)]


def column_of(values: Any) -> pa.Array:
    """An array of NumPy as a column, without pandas as in `numbers_of`."""
    form = pa.int64() if values.dtype == np.int64 else pa.float64()
    return pa.Array.from_buffers(form, len(values), [None, pa.py_buffer(values)])


def _codes(column: pa.Array) -> Numbered:
    encoded = column.dictionary_encode(null_encoding="encode")
    return Numbered(numbers_of(encoded.indices).astype(np.int64), len(encoded.dictionary))


def _extreme(codes: Any, count: int, column: pa.Array, function: str) -> pa.Array:
    none, pick = (MOST, np.minimum) if function == "min" else (LEAST, np.maximum)
    values = numbers_of(column)
    if column.null_count:
        there = np.unpackbits(
            np.frombuffer(column.buffers()[0], np.uint8), bitorder="little"
        )[column.offset : column.offset + len(column)].astype(bool)  # fmt: skip
        values = np.where(there, values, none)
    found = np.full(count, none)
    pick.at(found, codes, values)
    array = column_of(found)
    missing = found == none
    if missing.any():
        bits = pa.py_buffer(np.packbits(~missing, bitorder="little"))
        array = pa.Array.from_buffers(pa.int64(), count, [bits, array.buffers()[1]])
    return array


def _whole(column: Any) -> pa.Array:
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
