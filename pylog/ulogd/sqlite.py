"""The output SQLITE3: a row for each record, in the columns that a table has.

Exact rows have ulogd's narrow types: numbers as signed 32 bits, an address as the number of its
first eight bytes in host order. Otherwise numbers are bound as they are, and IPv6 addresses are
NULL, as with ulogd 2.0.9. Source: output/sqlite3/ulogd_output_SQLITE3.c, measured.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from pylog.errors import BackendError
from pylog.ulogd.columns import columns_of
from pylog.ulogd.keys import IP, LITERAL, RAW, TEXT, Key, Value
from pylog.ulogd.worker import Sink, Values, View

BUSY_S = 0.3
"""How long to wait for another writer of the database."""


class Sqlite3(Sink):
    """The output SQLITE3."""

    _database: sqlite3.Connection
    _lost = _rows = 0
    """Rows that are lost, and those of the open transaction."""

    def wanted(self, offered: list[tuple[Key, int]]) -> list[tuple[Key, int]]:
        self._offered = offered
        return []

    def start(self) -> None:
        path, table = self.options["db"], self.options["table"]
        try:
            self._database = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None,
                check_same_thread=False,  # one thread at a time, which is not always the first
            )  # fmt: skip
            name = '"' + table.replace('"', '""') + '"'
            rows = self._database.execute(f"select * from {name} limit 0")
        except sqlite3.Error as error:
            raise BackendError(
                f"cannot read the columns of table {table!r} in {path!r}: {error}"
            ) from error
        names = [row[0] for row in rows.description]
        self.instance.columns = columns_of(names, self._offered)
        marks = ",".join(
            "cast(? as text)" if key.type == TEXT else "?" for key, _ in self.instance.columns
        )
        columns = ",".join('"' + name.replace('"', '""') + '"' for name in names)
        self._statement = f"insert into {name} ({columns}) values ({marks})"

    def write(self, values: Values, view: View) -> None:
        row = [self._bound(key, values[at]) for key, at in self.instance.columns]
        with self._writing():
            if not self._database.in_transaction:
                self._database.execute("begin")
            self._database.execute(self._statement, row)
        self._rows += 1

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The context that gives an error of SQLite as BackendError, and counts the rows of a
        transaction that has ended with it.
        """
        try:
            yield
        except sqlite3.Error as error:
            if not self._database.in_transaction:
                self._lost += self._rows
                self._rows = 0
            raise BackendError(f"cannot write {self.options['db']}: {error}") from error

    @property
    def lost(self) -> int:
        return self._lost

    def _bound(self, key: Key, value: Value) -> Value:
        """A value as it is bound."""
        if value is None or key.type in (RAW, LITERAL):
            return None
        exact = self.surroundings.exact
        if isinstance(value, int):
            if exact:
                return (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
            return value if value < 1 << 63 else value - (1 << 64)
        if key.type == IP:
            if len(value) == 16 and not exact:
                return None
            return int.from_bytes(value[:8], "little", signed=len(value) == 16)
        return value

    def flush(self) -> None:
        with self._writing():
            if self._database.in_transaction:
                self._database.execute("commit")
        self._rows = 0

    def stop(self) -> None:
        try:
            self.flush()
        finally:
            self._lost += self._rows
            self._database.close()
