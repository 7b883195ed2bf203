"""Files that tables are written to: Parquet, Arrow's IPC file and SQLite, a batch at a time.

A sink is made with a path and the schema of each kind of record that it is to hold; it has
`write(kind, batch)` and `close()`. Until it is closed the file is not whole.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pylog.record import json_ready, rfc3339
from pylog.table.schemas import TIME

ROW_GROUP = 1 << 16
"""How many rows a row group of a Parquet file has, at least, but for the last one."""

RISING = ("offset", "timestamp", "observed", "seq")
"""Columns that mostly rise a little from row to row."""

MANIFOLD = (*RISING, "saddr", "daddr", "sport", "fragment", "vlan", "length", "payload", "packets",
            "bytes")  # fmt: skip
"""Columns whose values mostly do not come again: to gather them in a dictionary is of no use."""

SOUGHT = ("rule", "protocol", "saddr", "daddr", "sport", "dport")
"""What is sought, but for times: readers skip row groups that cannot have it."""


class Sink(Protocol):
    """A file that batches are written to."""

    def write(self, kind: str, batch: pa.RecordBatch) -> None:
        """Take the next records of a kind."""

    def close(self) -> None:
        """Write what is left to write, and let go of the file."""


class Parquet:
    """A Parquet file of one kind of record, compressed with snappy, which takes little time."""

    def __init__(self, path: str, schemas: Mapping[str, pa.Schema]) -> None:
        (self._schema,) = schemas.values()
        names = [field.name for field in self._schema if field.name not in MANIFOLD]
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="snappy", use_dictionary=names,
            column_encoding={n: "DELTA_BINARY_PACKED" for n in RISING if n in self._schema.names},
            write_statistics=[n for n in (*RISING, *SOUGHT) if n in self._schema.names],
        )  # fmt: skip
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def write(self, kind: str, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        self._rows += batch.num_rows
        if self._rows >= ROW_GROUP:
            self._write()

    def _write(self) -> None:
        batches, self._batches, self._rows = self._batches, [], 0
        if batches:
            table = pa.Table.from_batches(batches, self._schema)
            self._writer.write_table(table, table.num_rows)

    def close(self) -> None:
        self._write()
        self._writer.close()


class Arrow:
    """An Arrow IPC file of one kind of record.

    A dictionary of such a file holds for all of it: texts that repeat are written as plain text.
    """

    def __init__(self, path: str, schemas: Mapping[str, pa.Schema]) -> None:
        (schema,) = schemas.values()
        plain = [pa.string() if pa.types.is_dictionary(f.type) else f.type for f in schema]
        self._schema = pa.schema(list(zip(schema.names, plain, strict=True)))
        self._writer = pa.ipc.new_file(path, self._schema)

    def write(self, kind: str, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch.cast(self._schema))

    def close(self) -> None:
        self._writer.close()


class SQLite:
    """An SQLite database with a table for each kind of record.

    Times are RFC 3339 text in UTC, addresses text, packets blobs; lists and structures are JSON.
    """

    def __init__(self, path: str, schemas: Mapping[str, pa.Schema]) -> None:
        with _told():
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = OFF")  # the file is of use when whole
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.execute("BEGIN")
            for kind, schema in schemas.items():
                columns = ", ".join(f'"{field.name}" {_affinity(field.type)}' for field in schema)
                self._database.execute(f'CREATE TABLE "{kind}" ({columns})')

    def write(self, kind: str, batch: pa.RecordBatch) -> None:
        columns = [_cells(batch.column(i)) for i in range(batch.num_columns)]
        places = ", ".join("?" * len(columns))
        rows = zip(*columns, strict=True)
        with _told():
            self._database.executemany(f'INSERT INTO "{kind}" VALUES ({places})', rows)

    def close(self) -> None:
        try:
            with _told():
                if self._database.in_transaction:  # else it failed before, and was told
                    self._database.execute("COMMIT")
        finally:
            self._database.close()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """SQLite's errors (a full disk...) as those of other files are: OSError."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def _affinity(kind: pa.DataType) -> str:
    """The type of an SQLite column."""
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "INTEGER"
    return "BLOB" if pa.types.is_binary(kind) else "TEXT"


def _cells(column: pa.Array) -> list[Any]:
    """The values of a column as SQLite takes them."""
    if column.type == TIME:
        return _each(column.cast(pa.int64()), rfc3339)
    if pa.types.is_nested(column.type):
        return _each(column, lambda value: msgspec.json.encode(json_ready(_plain(value))).decode())
    if pa.types.is_uint64(column.type):
        return _each(column, lambda value: value if value < 1 << 63 else str(value))
    found: list[Any] = column.to_pylist()
    return found


def _each(column: pa.Array, convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in column.to_pylist()]


def _plain(value: Any) -> Any:
    """A map, which comes as pairs, as a mapping."""
    pairs = isinstance(value, list) and value and isinstance(value[0], tuple)
    return dict(value) if pairs else value
