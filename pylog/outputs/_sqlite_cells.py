"""Columns as SQLite holds them: times are RFC 3339 text in UTC, structures are JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from pylog.outputs._sql_text import structures
from pylog.record import rfc3339
from pylog.table.schemas import TIME


def affinity(kind: pa.DataType) -> str:
    """The type of an SQLite column."""
    if pa.types.is_uint64(kind):  # INTEGER would make an inexact REAL of a text above 2^63
        return ""
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "INTEGER"
    is_bytes = pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return "BLOB" if is_bytes else "TEXT"


def cells(column: pa.Array) -> list[Any]:
    """The values of a column as SQLite takes them."""
    if column.type == TIME:
        return _each(column.cast(pa.int64()), rfc3339)
    if pa.types.is_nested(column.type):
        return structures(column)
    if pa.types.is_uint64(column.type):
        return _each(column, lambda value: value if value < 1 << 63 else str(value))
    values: list[Any] = column.to_pylist()
    return values


def _each(column: pa.Array, convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in column.to_pylist()]
