"""The registry of kinds of record: pylog's own and those that other distributions add.

A distribution's format lists its kinds in KINDS. `kinds` collects them, by the word that JSON has
for the kind, and refuses a word that two kinds claim. Rows of pylog's own kinds are declared beside
them, because type checkers and fast paths use them; the rows of other kinds are derived here.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Annotated, Any, cast, get_args

import msgspec

from pylog import discover
from pylog.nearest import COLUMNS, advice
from pylog.record.base import BaseRecord
from pylog.record.fields import Column, columns_of, fields_of, json_name
from pylog.record.kinds import Flow, Loss, Packet, PacketHeaders, Record, Row

GROUP = "pylog.formats"
"""The entry points of other distributions' formats, which declare kinds of record."""


def kind_of(record: Record | Row | type[Record | Row]) -> str:
    """The word for the kind of a record, or of a class of records: packet, flow, loss..."""
    return str(record.__struct_config__.tag)


KINDS: dict[str, type[Record]] = {kind_of(kind): kind for kind in get_args(Record)}
"""pylog's own kinds by their words."""
ROWS: dict[type[Record], type[Row]] = {KINDS[kind_of(row)]: row for row in get_args(Row)}
"""The row of each of these kinds."""
ON_REQUEST: dict[str, type[msgspec.Struct]] = {"packet": PacketHeaders}
"""By kind, the fields that are decoded only when they are asked for."""


@cache
def kinds() -> dict[str, type[Record]]:
    """All kinds by their words: pylog's own, then those that other distributions add.

    ValueError for a word that two kinds claim.
    """
    formats = [entry.module for entry in discover.added(GROUP)]
    others = [kind for module in formats for kind in getattr(module, "KINDS", ())]
    declared = [*KINDS.values(), *(kind for kind in others if kind_flaw(kind) is None)]
    return discover.claimed("kind of record", ((kind_of(kind), kind) for kind in declared))


def kind_flaw(kind: Any) -> str | None:
    """What is wrong with a kind of record that a format declares; None: nothing."""
    if not (isinstance(kind, type) and issubclass(kind, BaseRecord | Packet | Flow | Loss)):
        return f"declares the kind {kind!r}, which is no BaseRecord"
    if not isinstance(kind.__struct_config__.tag, str):
        return f"declares the kind {kind.__name__} without a tag"
    try:
        fields_of(kind)
    except IndexError:  # no Annotated
        return f"declares the kind {kind.__name__} with a field that has no Field"
    return None


@cache
def row_type(kind: type[Record]) -> type[Row]:
    """The row of a kind of record: a class with the same fields."""
    if kind in ROWS:
        return ROWS[kind]
    fields = [(name, Annotated[Any, field], None) for name, field in fields_of(kind).items()]
    row = msgspec.defstruct(
        kind.__name__.removesuffix("Record") + "Row", fields, module=kind.__module__, frozen=True,
        gc=False, omit_defaults=True, tag_field="kind", tag=kind_of(kind), rename=json_name,
    )  # fmt: skip
    return cast(type[Row], row)


@cache
def all_columns() -> dict[str, Column]:
    """The columns of all kinds together; those of other distributions' kinds come last."""
    return columns_of(*KINDS.values()) | columns_of(*kinds().values())


def no_column(name: str, names: Collection[str], of: str = "") -> ValueError:
    """The error for a name that is none of the columns; `of` says which columns these are."""
    address, _, form = name.rpartition("_")
    if all_columns().get(address) == "address" and address in names:
        if form == "text":
            return ValueError(f"no column {name!r}{of}: {address!r} is the address as text")
        if form == "bytes":
            return ValueError(
                f"no column {name!r}{of}: only parquet, arrow and sqlite have it;"
                f" {address!r} is the address as text"
            )
    return ValueError(f"no column {name!r}{of}{advice(name, names, COLUMNS)}")
