"""Columns by name, for outputs that write records of all kinds into the same file: JSON and CSV.

The names are those of the JSON, of all kinds, and those of fields on request, which are decoded
here from the payload of a packet.
"""

from __future__ import annotations

from pylog.formats.packet_headers import requested
from pylog.options import Option
from pylog.record import (
    ON_REQUEST,
    PacketHeaders,
    PacketRecord,
    Record,
    all_columns,
    fields_of,
    no_column,
)


def every() -> tuple[str, ...]:
    """The columns that are written by default. New ones are added at the end; those of kinds that
    other distributions add come after pylog's own.
    """
    return ("kind", *all_columns())


REQUESTED = {name: field for headers in ON_REQUEST.values() for name, field in
             fields_of(headers).items()}  # fmt: skip
"""The fields on request."""
OPTION = Option("columns", str, None, "which columns, in this order, as timestamp,saddr,dport,ttl;"
                " of tables those of the kind, also saddr_bytes", absent="all but"
                f" {', '.join(REQUESTED)}")  # fmt: skip


def named(columns: str | None) -> tuple[str, ...]:
    """The names in a text with commas; None: `every`. ValueError for a name that does not exist."""
    if columns is None:
        return every()
    names = tuple(columns.split(","))
    for name in names:
        if name not in every() and name not in REQUESTED:
            raise no_column(name, [*every(), *REQUESTED])
    if len(set(names)) < len(names):
        raise ValueError(f"columns is {columns!r}, but must name each column once")
    return names


def headers_of(record: Record) -> PacketHeaders | None:
    """The fields on request of a packet; None for other records."""
    if isinstance(record, PacketRecord):
        return requested(record.payload, record.family)
    return None
