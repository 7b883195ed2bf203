"""Writes an SQLite database with a table for each kind of record.

Times are RFC 3339 text in UTC, addresses are text, packets are blobs, lists and structures are
JSON. All records are a single transaction without a journal, which is fast: the database is usable
when it is closed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from pylog import outputs
from pylog.outputs._columns import EXTRA, OPTIONS, ColumnsOutput, wanted
from pylog.record import json_ready, kinds, rfc3339

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EXTRA", "OPTIONS"]

NAME = "sqlite"
ENDINGS = (".sqlite", ".sqlite3", ".db")
BINARY = COLUMNS = NEEDS_PATH = True
APPENDS = False


def check(*, kind: str | None, columns: str | None, exclude: str | None) -> None:
    """ValueError for columns without a kind, or that do not exist."""
    if columns and kind is None:
        raise ValueError("--columns is for one kind of record: name it with --kind")
    wanted(kind, columns, exclude)


class Output(ColumnsOutput):
    """Writes records into tables."""

    def __init__(
        self, target: outputs.Target, *, kind: str | None = None, columns: str | None = None,
        exclude: str | None = None,
    ) -> None:  # fmt: skip
        from pylog.table.schemas import chosen

        held = list(kinds()) if kind is None else [kind]
        tables = {k: wanted(k, columns, exclude)[1] for k in held}
        super().__init__(target, tables)
        assert target.path is not None
        with _system_errors():
            self._database = sqlite3.connect(target.path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = OFF")
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.execute("BEGIN")
            for name, names in tables.items():
                fields = ", ".join(f'"{f.name}" {_affinity(f.type)}' for f in chosen(name, names))
                self._database.execute(f'CREATE TABLE "{name}" ({fields})')

    def _columns(self, kind: str, columns: pa.RecordBatch) -> None:
        cells = [_cells(columns.column(i)) for i in range(columns.num_columns)]
        places = ", ".join("?" * len(cells))
        rows = zip(*cells, strict=True)
        with _system_errors():
            self._database.executemany(f'INSERT INTO "{kind}" VALUES ({places})', rows)

    def _end(self) -> None:
        try:
            with _system_errors():
                if self._database.in_transaction:  # else an INSERT failed, which was reported
                    self._database.execute("COMMIT")
        finally:
            self._database.close()


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """Turns SQLite's errors (a full disk...) into OSError, as other files raise it."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def _affinity(kind: pa.DataType) -> str:
    """The type of an SQLite column."""
    import pyarrow as pa

    if pa.types.is_uint64(kind):  # INTEGER would make an inexact REAL of a text above 2^63
        return ""
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "INTEGER"
    is_bytes = pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return "BLOB" if is_bytes else "TEXT"


def _cells(column: pa.Array) -> list[Any]:
    """The values of a column as SQLite takes them."""
    import pyarrow as pa

    from pylog.table.schemas import TIME

    if column.type == TIME:
        return _each(column.cast(pa.int64()), rfc3339)
    if pa.types.is_nested(column.type):
        return _each(column, lambda value: msgspec.json.encode(json_ready(_plain(value))).decode())
    if pa.types.is_uint64(column.type):
        return _each(column, lambda value: value if value < 1 << 63 else str(value))
    values: list[Any] = column.to_pylist()
    return values


def _each(column: pa.Array, convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in column.to_pylist()]


def _plain(value: Any) -> Any:
    """The value; a map, which pyarrow gives as pairs, as a dict."""
    pairs = isinstance(value, list) and value and isinstance(value[0], tuple)
    return dict(value) if pairs else value
