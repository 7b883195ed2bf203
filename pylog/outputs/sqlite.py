"""Writes an SQLite database with a table for each kind of record, at once or as one that grows.

Times are RFC 3339 text in UTC, addresses are text, packets are blobs, lists and structures are
JSON. As a file, all records are a single transaction without a journal, which is fast: the database
is usable when it is closed. As a place (--target), it grows by transactions, see _sqlite_database.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pylog import outputs
from pylog.outputs import _sql_tables
from pylog.outputs._columns import EXTRA, ColumnsOutput, wanted
from pylog.outputs._columns import OPTIONS as COLUMNS_OPTIONS
from pylog.outputs._sql import DatabaseOutput
from pylog.record import kinds

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EXTRA"]

NAME = "sqlite"
ENDINGS = (".sqlite", ".sqlite3", ".db")
BINARY = COLUMNS = NEEDS_PATH = PLACE = FILE = True
APPENDS = False
DELIVERY = "exactly once"
ADDRESS = "the path of a database that grows"
OPTIONS = (*COLUMNS_OPTIONS, _sql_tables.INDEXES, _sql_tables.KEEP_DAYS, _sql_tables.WRITER)


def check(
    *, kind: str | None, columns: str | None, exclude: str | None, indexes: str | None,
    keep_days: int | None, writer: str | None,
) -> None:  # fmt: skip
    """ValueError for columns without a kind, or that do not exist."""
    _sql_tables.tables(kind=kind, columns=columns, exclude=exclude, indexes=indexes)


class Output(ColumnsOutput):
    """Writes records into tables of a new file."""

    def __init__(
        self, target: outputs.Target, *, kind: str | None = None, columns: str | None = None,
        exclude: str | None = None, **growing: object,
    ) -> None:  # fmt: skip
        from pylog.outputs._sqlite_cells import affinity
        from pylog.table.schemas import chosen

        for name, value in growing.items():
            if value is not None:
                raise ValueError(f"{name} is for a database that grows, not for a file")
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
                fields = ", ".join(f'"{f.name}" {affinity(f.type)}' for f in chosen(name, names))
                self._database.execute(f'CREATE TABLE "{name}" ({fields})')

    def _columns(self, kind: str, columns: pa.RecordBatch) -> None:
        from pylog.outputs._sqlite_cells import cells

        values = [cells(columns.column(i)) for i in range(columns.num_columns)]
        places = ", ".join("?" * len(values))
        rows = zip(*values, strict=True)
        with _system_errors():
            self._database.executemany(f'INSERT INTO "{kind}" VALUES ({places})', rows)

    def _end(self) -> None:
        try:
            with _system_errors():
                if self._database.in_transaction:  # else an INSERT failed, which was reported
                    self._database.execute("COMMIT")
        finally:
            self._database.close()


class PlaceOutput(DatabaseOutput):
    """Writes records into the tables of a database that grows, exactly once."""

    def __init__(
        self, place: outputs.Place, *, kind: str | None = None, columns: str | None = None,
        exclude: str | None = None, indexes: str | None = None, keep_days: int | None = None,
        writer: str | None = None,
    ) -> None:  # fmt: skip
        from pylog.outputs._sqlite_database import SQLite

        tables = _sql_tables.tables(kind=kind, columns=columns, exclude=exclude, indexes=indexes)
        database = SQLite(place.address)
        super().__init__(place, database, tables, writer=writer, keep_days=keep_days)


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """Turns SQLite's errors (a full disk...) into OSError, as other files raise it."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
