"""The tables of databases: one for each kind of record, with columns that the fields decide.

A column has the name of the record's field in JSON. Each table has another column, `time`, which is
never null: the time of the record, else when pylog received it, else when it was written. Indexes
and partitions are by that column. Two tables of pylog's own hold the version of the schema and how
far each stack came.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pylog.errors import BackendError
from pylog.options import Option
from pylog.outputs._columns import OPTIONS as COLUMNS_OPTIONS
from pylog.outputs._columns import wanted
from pylog.record import kinds

VERSION = 1
"""The version of the schema. New columns do not change it: they are added to the tables."""

TIME = "time"
"""The column that pylog adds to each table."""

SOURCES = ("source", "layout", "timestamp", "observed")
"""Columns that are read of each record, though they may not be written: records can be made of
those that have the first two, and the time of a record is one of the others."""

KEEP_DAYS = Option(
    "keep_days", int, None, "delete records that are older, by the column time", low=1,
    absent="keep all", metavar="DAYS",
)  # fmt: skip
INDEXES = Option(
    "indexes",
    str,
    None,
    "columns with an index in new tables, besides time: saddr,dport",
    metavar="NAMES",
)
NANOSECONDS = Option(
    "nanoseconds", bool, False, "add columns with the exact times, as timestamp_ns: those of the"
    " database are in microseconds",
)  # fmt: skip
TABLE_PREFIX = Option(
    "table_prefix", str, None, "what the names of all tables begin with", metavar="TEXT"
)
WRITER = Option(
    "writer", str, None, "the name under which the database holds how far this machine came; two"
    " machines that write the same stack need two", absent="the name of the machine",
)  # fmt: skip
PASSWORD = Option(
    "password", str, None, "the password of the database: file:PATH, env:NAME or credential:NAME",
    secret=True, metavar="SECRET", absent="that of the target",
)  # fmt: skip
OPTIONS = (*COLUMNS_OPTIONS, INDEXES, KEEP_DAYS, NANOSECONDS, TABLE_PREFIX, WRITER, PASSWORD)
"""The options of every server of databases."""

_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    name    in the table
    type    the type of the field, as record.fields.Column; "packed": an address as 16 bytes
    source  the column of the batch that it is made of, which is not `time` but that of its values
    """

    name: str
    type: str
    source: str


@dataclass(frozen=True)
class Table:
    """The table of a kind of record.

    name     in the database
    columns  without `time`, which is the last
    indexes  the columns, besides `time`, that have an index
    """

    kind: str
    name: str
    columns: tuple[Column, ...]
    indexes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all columns, in the order of a row."""
        return [*(column.name for column in self.columns), TIME]

    @property
    def read(self) -> list[str]:
        """The columns that a batch must have."""
        return list(dict.fromkeys([*(column.source for column in self.columns), *SOURCES]))


@dataclass(frozen=True)
class Names:
    """The tables of pylog's own."""

    version: str
    position: str

    @classmethod
    def of(cls, prefix: str | None = None) -> Names:
        return cls(f"{prefix or ''}pylog_version", f"{prefix or ''}pylog_position")


def tables(
    *,
    kind: str | None = None,
    columns: str | None = None,
    exclude: str | None = None,
    indexes: str | None = None,
    nanoseconds: bool = False,
    table_prefix: str | None = None,
) -> dict[str, Table]:
    """The tables by kind of record, of these options; ValueError for one that is wrong.

    Raises BackendUnavailable without the extra `arrow`.
    """
    if columns and kind is None:
        raise ValueError("--columns is for one kind of record: name it with --kind")
    prefix = table_prefix or ""
    check_name("table_prefix", prefix)
    indexed = [] if indexes is None else indexes.split(",")
    made = {}
    for each in kinds() if kind is None else (kind,):
        names = wanted(each, columns, exclude)[1]
        there = tuple(_columns(each, names, nanoseconds))
        own = {column.name for column in there}
        made[each] = Table(each, f"{prefix}{each}", there, tuple(n for n in indexed if n in own))
    for name in indexed:
        if not any(name in table.indexes for table in made.values()):
            raise ValueError(f"indexes is {indexes!r}, but no table has a column {name!r}")
    return made


def check_name(option: str, name: str) -> None:
    """ValueError for a prefix or schema that would need care in every query."""
    if name and not _PREFIX.fullmatch(name):
        raise ValueError(
            f"{option} is {name!r}, but must be small letters, digits and _, a letter first,"
            " 31 at most"
        )


def types(kind: str) -> dict[str, str]:
    """The type of each column that a table of the kind can have, also of those on request."""
    from pylog.record import ON_REQUEST, columns_of
    from pylog.table.schemas import columns, packed

    requested = ON_REQUEST.get(kind)
    return {
        **columns(kind),
        **({} if requested is None else columns_of(requested)),
        **dict.fromkeys(packed(kind), "packed"),
    }


def _columns(kind: str, names: Sequence[str], nanoseconds: bool) -> Iterable[Column]:
    declared = types(kind)
    for name in names:
        yield Column(name, declared[name], name)
        if nanoseconds and declared[name] == "time":
            yield Column(f"{name}_ns", "i64", name)


def missing(table: Table, there: Iterable[str]) -> list[Column]:
    """The columns that a table of the database lacks; `time` is one of them."""
    held = {name.lower() for name in there}
    added = [*table.columns, Column(TIME, "time", TIME)]
    return [column for column in added if column.name.lower() not in held]


def check_version(found: int | None, place: str) -> None:
    """BackendError for a schema that a newer pylog has made."""
    if found is not None and found > VERSION:
        raise BackendError(
            f"the tables of {place} are of version {found}, but this pylog writes version"
            f" {VERSION}: update pylog, or name other tables"
        )


@cache
def writer_of(name: str | None) -> str:
    """The name of this writer."""
    return name or socket.gethostname() or "localhost"


def read_of(tables: Mapping[str, Table]) -> dict[str, Sequence[str]]:
    """By kind, the columns that a batch must have."""
    return {kind: table.read for kind, table in tables.items()}
