"""Writes into PostgreSQL: a table for each kind of record, with COPY, each record exactly once.

Addresses are inet, times timestamptz in microseconds, numbers of 64 bits without a sign numeric,
structures jsonb, packets bytea. pylog makes the schema and its tables where they are missing, and
adds columns that a newer pylog has; it drops none. A role that may only write needs INSERT on the
tables, and SELECT and UPDATE on that of positions. With `partitions` the tables are partitioned by
day, see _postgresql_days.

Where the host is another machine, TLS is required and the certificate of the server verified, as
sslmode=verify-full says, unless the target names another sslmode.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pylog import outputs
from pylog.errors import BackendError
from pylog.options import Option
from pylog.outputs import _sql_tables
from pylog.outputs._sql import PRUNED, Database, DatabaseOutput, Refused
from pylog.outputs._sql_tables import Column, Names, Table, check_name, check_version, missing

if TYPE_CHECKING:  # which needs the extra
    import pyarrow as pa

    from pylog.outputs._postgresql_days import Days
    from pylog.outputs._sql_text import Rows

NAME = "postgresql"
PLACE = COLUMNS = True
DELIVERY = "exactly once"
ADDRESS = "postgresql://USER@HOST/DATABASE or host=... dbname=..."
EXTRA = "postgresql"
SCHEMA = Option("schema", str, "pylog", "the schema of the tables", metavar="TEXT")
PARTITIONS = Option(
    "partitions", ("day",), None, "partition new tables by day, and drop days instead of deleting"
    " records",
)  # fmt: skip
OPTIONS = (*_sql_tables.OPTIONS, SCHEMA, PARTITIONS)

TYPES = {
    "word": "text", "name": "text", "time": "timestamptz", "address": "inet", "bool": "boolean",
    "u8": "smallint", "u16": "integer", "u32": "bigint", "u64": "numeric(20)", "i64": "bigint",
    "f64": "double precision", "octets": "bytea", "fragment": "jsonb", "vlan": "jsonb",
    "counters": "jsonb", "json": "jsonb", "packed": "bytea",
}  # fmt: skip
"""The type in PostgreSQL of each type of column."""


def check(
    *, password: str | None, writer: str | None, keep_days: int | None, schema: str,
    partitions: str | None, **chosen: Any,
) -> None:  # fmt: skip
    """ValueError for columns that do not exist, and for names that need quotes."""
    check_name("schema", schema)
    if not schema:
        raise ValueError("schema must not be empty")
    _sql_tables.tables(**chosen)


def check_address(address: str, **options: Any) -> None:
    """ValueError for what is no connection string of PostgreSQL; it is not repeated."""
    from pylog.outputs._postgresql_client import parameters

    parameters(address, None)


class Output(DatabaseOutput):
    """Writes records into tables of PostgreSQL."""

    def __init__(
        self, place: outputs.Place, *, password: str | None = None, writer: str | None = None,
        keep_days: int | None = None, schema: str = "pylog", partitions: str | None = None,
        table_prefix: str | None = None, **chosen: Any,
    ) -> None:  # fmt: skip
        tables = _sql_tables.tables(table_prefix=table_prefix, **chosen)
        names = Names.of(table_prefix)
        database = PostgreSQL(place.address, password, schema, names, partitions is not None)
        super().__init__(place, database, tables, writer=writer, keep_days=keep_days)


class PostgreSQL(Database):
    """A connection to PostgreSQL."""

    def __init__(
        self, address: str, password: str | None, schema: str, names: Names, by_day: bool
    ) -> None:
        """Connects: BackendError."""
        from pylog.outputs._postgresql_client import Client

        self._client = Client(address, password)
        self._schema, self._names, self._by_day = schema, names, by_day
        self._days: dict[str, Days] = {}
        """The partitions of each table that has any."""

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make what is missing of the schema, the tables, their columns and partitions."""
        lacking = self._lacking(tables)
        if lacking:
            with self._client.transaction():
                # another process may do the same; of what there is, nothing is locked
                self._client.execute("SELECT pg_advisory_xact_lock(hashtext('pylog schema'))")
                for statement in self._lacking(tables):
                    self._client.execute(statement)
        found = self._client.rows(f"SELECT max(version) FROM {self._table(self._names.version)}")
        check_version(found[0][0], f"schema {self._schema}")
        self._find_partitions(tables)

    def _lacking(self, tables: Sequence[Table]) -> list[str]:
        """The statements that make what is missing."""
        there: dict[str, set[str]] = {}
        for table, column in self._client.rows(
            "SELECT c.relname, a.attname FROM pg_catalog.pg_class c"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid"
            " WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'f')"
            " AND a.attnum > 0 AND NOT a.attisdropped",
            [self._schema],
        ):
            there.setdefault(table, set()).add(column)
        made = []
        schemas = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s"
        if not there and not self._client.rows(schemas, [self._schema]):
            made.append(f'CREATE SCHEMA "{self._schema}"')
        if self._names.version not in there:
            version = self._table(self._names.version)
            made += [
                f"CREATE TABLE {version} (version integer NOT NULL,"
                " since timestamptz NOT NULL DEFAULT now())",
                f"INSERT INTO {version} (version) VALUES ({_sql_tables.VERSION})",
            ]
        if self._names.position not in there:
            made.append(
                f"CREATE TABLE {self._table(self._names.position)} (writer text, stream text,"
                " position text, since timestamptz NOT NULL DEFAULT now(),"
                " PRIMARY KEY (writer, stream))"
            )
        for table in tables:
            if table.name in there:
                added = missing(table, there[table.name])
                if added:
                    columns = ", ".join(f"ADD COLUMN {_declared(column)}" for column in added)
                    made.append(f"ALTER TABLE {self._table(table.name)} {columns}")
            else:
                made += self._creating(table)
        return made

    def _creating(self, table: Table) -> list[str]:
        """The statements that make a table, its default partition and its indexes."""
        name = self._table(table.name)
        columns = ", ".join(map(_declared, missing(table, ())))
        parts = f' PARTITION BY RANGE ("{_sql_tables.TIME}")' if self._by_day else ""
        made = [f"CREATE TABLE {name} ({columns}){parts}"]
        if self._by_day:
            default = self._table(f"{table.name}_default")
            made.append(f"CREATE TABLE {default} PARTITION OF {name} DEFAULT")
        for column in (_sql_tables.TIME, *table.indexes):
            made.append(f'CREATE INDEX ON {name} ("{column}")')
        return made

    def _table(self, name: str) -> str:
        return f'"{self._schema}"."{name}"'

    def _find_partitions(self, tables: Sequence[Table]) -> None:
        from pylog.outputs._postgresql_days import Days

        parted = {
            name
            for (name,) in self._client.rows(
                "SELECT c.relname FROM pg_catalog.pg_class c"
                " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = %s AND c.relkind = 'p'",
                [self._schema],
            )
        }
        for table in tables:
            if table.name in parted:
                self._days[table.name] = Days(self._client, self._schema, table.name)
            elif self._by_day:
                raise BackendError(
                    f"table {self._schema}.{table.name} is there and has no partitions: name"
                    " another schema, or leave out partitions"
                )

    def begin(self) -> None:
        for days in self._days.values():
            days.ahead(time.time())
        self._client.begin()

    def commit(self) -> None:
        self._client.commit()

    def prepared(self, table: Table, columns: pa.RecordBatch, now_ns: int) -> Rows:
        from pylog.outputs._postgresql_client import STYLE
        from pylog.outputs._sql_text import rows, times

        if table.name in self._days:
            self._days[table.name].needed(times(columns, now_ns))
        return rows(table, columns, now_ns, STYLE)

    def insert(self, table: Table, rows: Rows, start: int, stop: int) -> None:
        names = ", ".join(f'"{name}"' for name in table.names)
        self._client.copy(
            f"COPY {self._table(table.name)} ({names}) FROM STDIN", rows.bytes(start, stop), Refused
        )

    def position(self, writer: str, stream: str) -> str | None:
        table = self._table(self._names.position)
        where = [writer, stream]
        query = f"SELECT position FROM {table} WHERE writer = %s AND stream = %s"
        found = self._client.rows(query, where)
        if not found:
            self._client.execute(
                f"INSERT INTO {table} (writer, stream) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                where,
            )
            found = self._client.rows(query, where)
        held: str | None = found[0][0]
        return held

    def move(self, writer: str, stream: str, old: str | None, new: str) -> bool:
        changed = self._client.execute(
            f"UPDATE {self._table(self._names.position)} SET position = %s, since = now()"
            " WHERE writer = %s AND stream = %s AND position IS NOT DISTINCT FROM %s",
            [new, writer, stream, old],
        )
        return changed == 1

    def prune(self, tables: Sequence[Table], days: int) -> bool:
        more = False
        for table in tables:
            name = table.name
            if name in self._days:
                self._days[name].drop(time.time() - days * 86400)
                name = f"{name}_default"
            deleted = self._client.execute(
                f"DELETE FROM {self._table(name)} WHERE ctid = ANY (ARRAY(SELECT ctid FROM"
                f" {self._table(name)} WHERE \"{_sql_tables.TIME}\" < now() - %s * interval '1 day'"
                f" LIMIT {PRUNED}))",
                [days],
            )
            more = more or deleted == PRUNED
        return more

    def close(self) -> None:
        self._client.close()


def _declared(column: Column) -> str:
    """A column in CREATE TABLE; `time` is never null, in tables that get it later, too."""
    if column.name == _sql_tables.TIME:
        return f'"{column.name}" timestamptz NOT NULL DEFAULT now()'
    return f'"{column.name}" {TYPES[column.type]}'
