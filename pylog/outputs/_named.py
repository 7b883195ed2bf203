"""Columns by name, for outputs that write records of all kinds into the same file: JSON, CSV, text.

The names are those of the JSON, of all kinds, and those of fields on request, which are decoded
here from the payload of a packet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from pylog.formats.packet_headers import of_record
from pylog.options import SHOWN, Option
from pylog.record import (
    ON_REQUEST,
    PacketHeaders,
    PacketRecord,
    Record,
    all_columns,
    fields_of,
    json_name,
    no_column,
)


def every() -> tuple[str, ...]:
    """The columns that are written by default. New ones are added at the end; those of kinds that
    other distributions add come after pylog's own.
    """
    return ("kind", *all_columns())


def with_joined(fields: Iterable[str]) -> str:
    """The columns that are written by default, and those of a rule or flow: a value of COLUMNS."""
    return ",".join(dict.fromkeys((*every(), *fields)))


REQUESTED = {name: field for headers in ON_REQUEST.values() for name, field in
             fields_of(headers).items()}  # fmt: skip
"""The fields on request."""
COLUMNS = Option("columns", str, None, "which columns, in this order, as timestamp,saddr,dport,ttl;"
                 " `pylog help columns` lists all", metavar="NAMES", topic=SHOWN,
                 absent="all; of text, the line")  # fmt: skip
EXCLUDE = Option("exclude", str, None, "columns to leave out, as payload,extra", metavar="NAMES",
                 topic=SHOWN)  # fmt: skip
COLUMN_OPTIONS = (COLUMNS, EXCLUDE)
"""The options that choose columns, of every output that has columns."""
RENAME = Option("rename", dict, None, "give a column another name, as saddr=src; may be repeated",
                metavar="COLUMN=NAME", topic=SHOWN)  # fmt: skip
"""The option that renames columns, of outputs that write their names."""


def renamed(names: Iterable[str], rename: Mapping[str, str] | None) -> dict[str, str]:
    """What each of the columns is called, in their order.

    ValueError for a column that is not among them, and for a name that two would have.
    """
    names, rename = list(names), rename or {}
    for name in rename:
        if name not in names:
            _check([name])
            raise ValueError(f"rename names {name}, which is not written")
    called = {name: rename.get(name, name) for name in names}
    if len(set(called.values())) < len(called) or not all(called.values()):
        doubled = [n for n in called.values() if list(called.values()).count(n) > 1]
        what = f"{doubled[0]} to two columns" if doubled else "an empty name"
        raise ValueError(f"rename gives {what}")
    return called


def named(columns: str | None, exclude: str | None = None) -> tuple[str, ...]:
    """The names in a list with commas, None: every one; without those in the list `exclude`.

    Raises ValueError for a name that does not exist, and if no column is left.
    """
    if columns is None:
        return without(every(), exclude)
    names = tuple(columns.split(","))
    _check(names)
    if len(set(names)) < len(names):
        raise ValueError(f"columns is {columns!r}, but must name each column once")
    return without(names, exclude)


def without(names: Sequence[str], exclude: str | None) -> tuple[str, ...]:
    """The names that are not in the list `exclude`; ValueError as `named`."""
    left_out = excluded(exclude)
    left = tuple(name for name in names if name not in left_out)
    if not left:
        raise ValueError(f"exclude is {exclude!r}, but must leave a column")
    return left


def excluded(exclude: str | None, more: Iterable[str] = ()) -> tuple[str, ...]:
    """The names in the list `exclude`; ValueError for one that does not exist.

    more   names that exist in tables only
    """
    names = () if exclude is None else tuple(exclude.split(","))
    _check(names, more)
    return names


def _check(names: Iterable[str], more: Iterable[str] = ()) -> None:
    there = [*every(), *REQUESTED, *more]
    if all(name in there for name in names):
        return
    from pylog.record.joined import JOINED  # only here: few columns are of it

    there = [*every(), *REQUESTED, *JOINED, *more]
    for name in names:
        if name not in there:
            raise no_column(name, there)


@cache
def fields_without(kind: Any, names: tuple[str, ...]) -> dict[str, None]:
    """The fields of a record or row that are to be None, so that columns are left out."""
    return {field: None for field in fields_of(kind) if json_name(field) in names}


def leaving_out(record: Any, names: tuple[str, ...]) -> Any:
    """The record or row as if its source did not say what these columns are."""
    kind: Any = type(record)
    return msgspec.structs.replace(record, **fields_without(kind, names))


def headers_of(record: Record) -> PacketHeaders | None:
    """The fields on request of a packet; None for other records."""
    if isinstance(record, PacketRecord):
        return of_record(record)
    return None
