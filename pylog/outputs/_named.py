"""Columns by their names, for outputs that write records of all kinds into one file: JSON and CSV.

The names are those of the JSON, of whatever kind, and those of fields on request, which are made
here from the payload of a packet.
"""

from __future__ import annotations

from pylog.formats.packet_headers import requested
from pylog.options import Option
from pylog.record import (
    KINDS,
    ON_REQUEST,
    PacketHeaders,
    PacketRecord,
    Record,
    columns_of,
    fields_of,
)

ALL = ("kind", *columns_of(*KINDS.values()))
"""The columns that are written if no others are asked for."""
REQUESTED = {name: field for headers in ON_REQUEST.values() for name, field in
             fields_of(headers).items()}  # fmt: skip
"""The fields on request."""
OPTION = Option("columns", str, None, "which columns, in this order, as timestamp,saddr,dport,ttl;"
                " of tables those of the kind, with saddr_text for text", absent="all but"
                f" {', '.join(REQUESTED)}")  # fmt: skip


def named(columns: str | None) -> tuple[str, ...]:
    """The names in a list with commas; None: ALL. ValueError for one that does not exist."""
    if columns is None:
        return ALL
    names = tuple(columns.split(","))
    for name in names:
        if name not in ALL and name not in REQUESTED:
            raise ValueError(f"no column {name!r}; there are {', '.join([*ALL, *REQUESTED])}")
    if len(set(names)) < len(names):
        raise ValueError(f"columns is {columns!r}, but must name each column once")
    return names


def headers_of(record: Record) -> PacketHeaders | None:
    """The fields on request of a packet; None for other records."""
    if isinstance(record, PacketRecord):
        return requested(record.payload, record.family)
    return None
