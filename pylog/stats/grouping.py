"""Rows of a table with equal keys made one, with NumPy.

Arrow numbers the distinct values of each key, NumPy the distinct combinations of those numbers and
what their rows have in sum. Arrow's own group-by would import pandas, where that is installed: 0.3
s, which is more than a million records take here. Sums are exact up to 2**53.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def grouped(table: pa.Table, keys: Sequence[str], numbers: Sequence[tuple[str, str]]) -> pa.Table:
    """A row for each combination of keys, in the order of their first rows.

    keys      columns whose values make a group; null is a value
    numbers   the other columns of the result, of integers or floats, each with what is made of the
              rows of a group: sum (without nulls), min or max (null if all are)
    """
    codes, count = _numbered(table, keys)
    rows = column_of(_first_rows(codes, count))
    columns = [table.column(name).take(rows) for name in keys]
    for name, function in numbers:
        column = _whole(table.column(name))
        if function == "sum":
            sums = np.bincount(codes, numbers_of(column), count)
            columns.append(column_of(sums.astype(str(column.type).replace("double", "float64"))))
        else:
            columns.append(_extreme(codes, count, column, function))
    return pa.Table.from_arrays(columns, names=[*keys, *(name for name, _ in numbers)])


def sizes(table: pa.Table, keys: Sequence[str]) -> tuple[Any, Any]:
    """The number of the group of each row, and how many rows each group has, by first rows."""
    codes, count = _numbered(table, keys)
    return codes, np.bincount(codes, minlength=count)


def numbers_of(column: Any) -> Any:
    """The numbers of a column without nulls; its own to_numpy imports pandas, if that is there."""
    column = _whole(column)
    values = np.frombuffer(column.buffers()[1], str(column.type).replace("double", "float64"))
    return values[column.offset : column.offset + len(column)]


def column_of(values: Any) -> pa.Array:
    """An array of NumPy as a column, without pandas as in `numbers_of`."""
    form = pa.int64() if values.dtype == np.int64 else pa.float64()
    return pa.Array.from_buffers(form, len(values), [None, pa.py_buffer(values)])


def _numbered(table: pa.Table, keys: Sequence[str]) -> tuple[Any, int]:
    """The number of the group of each row, by their first rows, and how many groups there are."""
    codes, count = np.zeros(table.num_rows, np.int64), min(table.num_rows, 1)
    for i, name in enumerate(keys):
        own, distinct = _codes(_whole(table.column(name)))
        if not i:
            codes, count = own, distinct
        else:
            codes, count = _codes(column_of(codes * distinct + own))
    return codes, count


def _first_rows(codes: Any, count: int) -> Any:
    firsts = np.empty(count, np.int64)
    firsts[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of equal places the last is kept
    return firsts


def _codes(column: pa.Array) -> tuple[Any, int]:
    encoded = column.dictionary_encode(null_encoding="encode")
    return numbers_of(encoded.indices).astype(np.int64), len(encoded.dictionary)


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
