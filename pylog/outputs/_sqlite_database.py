"""An SQLite database that grows: transactions, positions, and columns that are added.

The tables are those of a file that is written at once, with the column `time` and its index. The
database has a write-ahead log, so that others read while pylog writes, and is on the disk after
each commit. A writer waits a few seconds for another one. So that others need not wait for pylog,
rows wait in memory, and a transaction is short.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pylog.errors import BackendError
from pylog.outputs import _sql_tables
from pylog.outputs._sql import PRUNED, Database, Refused
from pylog.outputs._sql_tables import Names, Table, check_version, missing
from pylog.outputs._sql_text import times
from pylog.outputs._sqlite_cells import affinity, cells
from pylog.record import rfc3339
from pylog.table.schemas import chosen

WAIT_S = 5.0
"""How long to wait for another process that writes."""


class SQLite(Database):
    """A connection to an SQLite database."""

    def __init__(self, path: str) -> None:
        """Opens the file, or makes it: BackendError."""
        self._path, self._names = path, Names.of()
        with self._errors("open"):
            self._database = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make what is missing of the tables and their columns."""
        with self._errors("write"):
            if self._lacking(tables):
                self._database.execute("BEGIN IMMEDIATE")
                for statement in self._lacking(tables):
                    self._database.execute(statement)
                self._database.execute("COMMIT")
            query = f'SELECT max(version) FROM "{self._names.version}"'
            (version,) = self._database.execute(query).fetchone()
        check_version(version, self._path)

    def _lacking(self, tables: Sequence[Table]) -> list[str]:
        """The statements that make what is missing."""
        there: dict[str, set[str]] = {}
        for table, column in self._database.execute(
            "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c"
            " WHERE m.type IN ('table', 'view')"
        ):
            there.setdefault(table, set()).add(column)
        made = []
        if self._names.version not in there:
            made += [
                f'CREATE TABLE "{self._names.version}" (version INTEGER NOT NULL,'
                " since TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)",
                f'INSERT INTO "{self._names.version}" (version) VALUES ({_sql_tables.VERSION})',
            ]
        if self._names.position not in there:
            made.append(
                f'CREATE TABLE "{self._names.position}" (writer TEXT, stream TEXT, position TEXT,'
                " since TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (writer, stream))"
            )
        for table in tables:
            fields = {field.name: field.type for field in chosen(table.kind, table.read)}
            added = [
                f'"{column.name}" {affinity(fields.get(column.source, pa.string()))}'
                for column in missing(table, there.get(table.name, ()))
            ]
            if table.name not in there:
                made.append(f'CREATE TABLE "{table.name}" ({", ".join(added)})')
            else:
                made += [f'ALTER TABLE "{table.name}" ADD COLUMN {column}' for column in added]
            if added:
                for column in (_sql_tables.TIME, *table.indexes):
                    index = f'"{table.name}_{column}"'
                    on = f'"{table.name}" ("{column}")'
                    made.append(f"CREATE INDEX IF NOT EXISTS {index} ON {on}")
        return made

    def begin(self) -> None:
        with self._errors("write"):
            self._database.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        with self._errors("write"):
            self._database.execute("COMMIT")

    def prepared(self, table: Table, columns: pa.RecordBatch, now_ns: int) -> list[tuple[Any, ...]]:
        values = [cells(columns.column(column.source)) for column in table.columns]
        values.append([rfc3339(each) for each in times(columns, now_ns).to_pylist()])
        return list(zip(*values, strict=True))

    def insert(self, table: Table, rows: Sequence[tuple[Any, ...]], start: int, stop: int) -> None:
        names = ", ".join(f'"{name}"' for name in table.names)
        places = ", ".join("?" * len(table.names))
        with self._errors("write"):
            self._database.execute("SAVEPOINT pylog")
            try:
                self._database.executemany(
                    f'INSERT INTO "{table.name}" ({names}) VALUES ({places})', rows[start:stop]
                )
            except (sqlite3.IntegrityError, sqlite3.DataError) as error:
                if not self._database.in_transaction:  # a trigger has rolled it back
                    raise
                self._database.execute("ROLLBACK TO pylog")
                raise Refused(str(error)) from None
            self._database.execute("RELEASE pylog")

    def position(self, writer: str, stream: str) -> str | None:
        query = f'SELECT position FROM "{self._names.position}" WHERE writer = ? AND stream = ?'
        with self._errors("read"):
            found = self._database.execute(query, (writer, stream)).fetchone()
            if found is None:
                insert = f'INSERT OR IGNORE INTO "{self._names.position}" (writer, stream)'
                self._database.execute(f"{insert} VALUES (?, ?)", (writer, stream))
                found = self._database.execute(query, (writer, stream)).fetchone()
        held: str | None = found[0]
        return held

    def move(self, writer: str, stream: str, old: str | None, new: str) -> bool:
        with self._errors("write"):
            changed = self._database.execute(
                f'UPDATE "{self._names.position}" SET position = ?, since = CURRENT_TIMESTAMP'
                " WHERE writer = ? AND stream = ? AND position IS ?",
                (new, writer, stream, old),
            )
        return changed.rowcount == 1

    def prune(self, tables: Sequence[Table], days: int) -> bool:
        before = rfc3339(time.time_ns() - days * 86_400_000_000_000)
        with self._errors("write"):
            deleted = [
                self._database.execute(
                    f'DELETE FROM "{table.name}" WHERE rowid IN (SELECT rowid FROM "{table.name}"'
                    f' WHERE "{_sql_tables.TIME}" < ? LIMIT {PRUNED})',
                    (before,),
                ).rowcount
                for table in tables
            ]
        return PRUNED in deleted

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    @contextlib.contextmanager
    def _errors(self, operation: str) -> Iterator[None]:
        """Turns SQLite's errors (a full disk, a locked database...) into BackendError."""
        try:
            yield
        except sqlite3.Error as error:
            raise BackendError(f"cannot {operation} {self._path}: {error}") from error
