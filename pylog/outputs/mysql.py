"""Writes into MariaDB or MySQL: a table for each kind of record, each record exactly once.

Addresses are text, times DATETIME(6) in UTC, structures JSON, packets blobs. pylog makes the tables
where they are missing, and adds columns that a newer pylog has; it drops none. Rows go in by INSERT
statements of up to a MiB. The tables are of InnoDB, because the others have no transactions.

Where the host is another machine, TLS is required and the certificate of the server verified,
unless the target has another ssl-mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pylog import outputs
from pylog.errors import BackendError
from pylog.outputs import _sql_tables
from pylog.outputs._sql import PRUNED, Database, DatabaseOutput, Refused
from pylog.outputs._sql_tables import Column, Names, Table, check_version, missing

if TYPE_CHECKING:  # which needs the extra
    import pyarrow as pa

    from pylog.outputs._sql_text import Rows

NAME = "mysql"
PLACE = COLUMNS = True
DELIVERY = "exactly once"
ADDRESS = "mysql://USER@HOST[:PORT]/DATABASE"
EXTRA = "mysql"
OPTIONS = _sql_tables.OPTIONS

_LONG = "MEDIUMTEXT"
TYPES = {
    "word": _LONG, "name": _LONG, "time": "DATETIME(6)",
    "address": "VARCHAR(45) CHARACTER SET ascii COLLATE ascii_bin", "bool": "BOOLEAN",
    "u8": "TINYINT UNSIGNED", "u16": "SMALLINT UNSIGNED", "u32": "INT UNSIGNED",
    "u64": "BIGINT UNSIGNED", "i64": "BIGINT", "f64": "DOUBLE", "octets": "MEDIUMBLOB",
    "fragment": "JSON", "vlan": "JSON", "counters": "JSON", "json": "JSON",
    "packed": "VARBINARY(16)",
}  # fmt: skip
"""The type in MySQL of each type of column."""

INDEXED = 64
"""How many characters of a text an index holds."""
STATEMENT_BYTES = 1 << 20
"""How long a statement with several rows is at most."""
ENGINE = "InnoDB"


def check(
    *, password: str | None, writer: str | None, keep_days: int | None, **chosen: Any
) -> None:
    """ValueError for columns that do not exist, and for names that need quotes."""
    _sql_tables.tables(**chosen)


def check_address(address: str, **options: Any) -> None:
    """ValueError for what is no address of a database; it is not repeated."""
    from pylog.outputs._mysql_client import parameters

    parameters(address, None)


class Output(DatabaseOutput):
    """Writes records into tables of MariaDB or MySQL."""

    def __init__(
        self, place: outputs.Place, *, password: str | None = None, writer: str | None = None,
        keep_days: int | None = None, table_prefix: str | None = None, **chosen: Any,
    ) -> None:  # fmt: skip
        tables = _sql_tables.tables(table_prefix=table_prefix, **chosen)
        database = MySQL(place.address, password, Names.of(table_prefix))
        super().__init__(place, database, tables, writer=writer, keep_days=keep_days)


class MySQL(Database):
    """A connection to MariaDB or MySQL."""

    def __init__(self, address: str, password: str | None, names: Names) -> None:
        """Connects: BackendError."""
        from pylog.outputs._mysql_client import Client

        self._client, self._names = Client(address, password), names
        ((packet,),) = self._client.rows("SELECT @@max_allowed_packet")
        self._largest = int(packet) - 4096
        """The longest statement."""

    def prepare(self, tables: Sequence[Table]) -> None:
        """Make what is missing of the tables and their columns."""
        if self._lacking(tables):
            # another process may do the same; each statement is a transaction of its own
            self._client.rows("SELECT GET_LOCK(CONCAT(DATABASE(), '.pylog'), 5)")
            for statement in self._lacking(tables):
                self._client.execute(statement)
            self._client.rows("SELECT RELEASE_LOCK(CONCAT(DATABASE(), '.pylog'))")
        ((version,),) = self._client.rows(f"SELECT max(version) FROM `{self._names.version}`")
        check_version(version, f"database {self._client.database}")

    def _lacking(self, tables: Sequence[Table]) -> list[str]:
        """The statements that make what is missing; BackendError for a table of another engine."""
        there: dict[str, set[str]] = {}
        for table, column in self._client.rows(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE()"
        ):
            there.setdefault(table, set()).add(column)
        version, position = self._names.version, self._names.position
        self._check_engines({version, position, *(t.name for t in tables)} & there.keys())
        made = []
        if version not in there:
            made += [
                f"CREATE TABLE `{version}` (version INT NOT NULL,"
                f" since TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE={ENGINE}",
                f"INSERT INTO `{version}` (version) VALUES ({_sql_tables.VERSION})",
            ]
        if position not in there:
            made.append(
                f"CREATE TABLE `{position}` (writer VARCHAR(255), stream VARCHAR(255),"
                " position TEXT, since TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
                " ON UPDATE CURRENT_TIMESTAMP, PRIMARY KEY (writer, stream))"
                f" ENGINE={ENGINE} DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
            )
        for table in tables:
            if table.name not in there:
                made.append(_creating(table))
            elif added := missing(table, there[table.name]):
                columns = ", ".join(f"ADD COLUMN {_declared(column)}" for column in added)
                made.append(f"ALTER TABLE `{table.name}` {columns}")
        return made

    def _check_engines(self, names: Iterable[str]) -> None:
        for name, engine in self._client.rows(
            "SELECT table_name, engine FROM information_schema.tables"
            " WHERE table_schema = DATABASE() AND engine IS NOT NULL"
        ):
            if name in names and engine.lower() != ENGINE.lower():
                raise BackendError(
                    f"table {name} of database {self._client.database} is of the engine {engine},"
                    f" but must be of {ENGINE}, which has transactions"
                )

    def begin(self) -> None:
        self._client.execute("START TRANSACTION")

    def commit(self) -> None:
        self._client.execute("COMMIT")

    def prepared(self, table: Table, columns: pa.RecordBatch, now_ns: int) -> Rows:
        from pylog.outputs._mysql_client import STYLE
        from pylog.outputs._sql_text import rows

        return rows(table, columns, now_ns, STYLE)

    def insert(self, table: Table, rows: Rows, start: int, stop: int) -> None:
        names = ", ".join(f"`{name}`" for name in table.names)
        head = f"INSERT INTO `{table.name}` ({names}) VALUES ".encode()
        several = rows.size(start, stop) > STATEMENT_BYTES
        if several:
            self._client.execute("SAVEPOINT pylog")
        at = start
        try:
            while at < stop:
                end = rows.fitting(at, stop, STATEMENT_BYTES)
                if rows.size(at, end) + len(head) > self._largest:
                    raise Refused(f"longer than max_allowed_packet, {self._largest + 4096}", 0)
                self._client.insert(head + rows.bytes(at, end)[:-1], Refused)
                at = end
        except Refused as refused:
            if several:
                self._client.execute("ROLLBACK TO SAVEPOINT pylog")
            if refused.row is not None:
                refused.row += at - start
            raise
        if several:
            self._client.execute("RELEASE SAVEPOINT pylog")

    def position(self, writer: str, stream: str) -> str | None:
        table = self._names.position
        where = (writer, stream)
        query = f"SELECT position FROM `{table}` WHERE writer = %s AND stream = %s"
        found = self._client.rows(query, where)
        if not found:
            self._client.execute(
                f"INSERT IGNORE INTO `{table}` (writer, stream) VALUES (%s, %s)", where
            )
            found = self._client.rows(query, where)
        held: str | None = found[0][0]
        return held

    def move(self, writer: str, stream: str, old: str | None, new: str) -> bool:
        changed = self._client.execute(
            f"UPDATE `{self._names.position}` SET position = %s"
            " WHERE writer = %s AND stream = %s AND position <=> %s",
            (new, writer, stream, old),
        )
        return changed == 1

    def prune(self, tables: Sequence[Table], days: int) -> bool:
        deleted = [
            self._client.execute(
                f"DELETE FROM `{table.name}` WHERE `{_sql_tables.TIME}` <"
                f" UTC_TIMESTAMP(6) - INTERVAL {days} DAY LIMIT {PRUNED}"
            )
            for table in tables
        ]
        return PRUNED in deleted

    def close(self) -> None:
        self._client.close()


def _creating(table: Table) -> str:
    """The statement that makes a table and its indexes."""
    types = {column.name: TYPES[column.type] for column in table.columns}
    parts = [_declared(column) for column in missing(table, ())]
    for column in (_sql_tables.TIME, *table.indexes):
        long = types.get(column, "") in (_LONG, "JSON", "MEDIUMBLOB")
        parts.append(f"INDEX (`{column}`{f'({INDEXED})' if long else ''})")
    return (
        f"CREATE TABLE `{table.name}` ({', '.join(parts)}) ENGINE={ENGINE} ROW_FORMAT=DYNAMIC"
        " DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    )


def _declared(column: Column) -> str:
    """A column in CREATE TABLE; `time` is never null, in tables that get it later, too."""
    if column.name == _sql_tables.TIME:
        return f"`{column.name}` DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)"
    return f"`{column.name}` {TYPES[column.type]} NULL"
