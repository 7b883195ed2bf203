"""The columns of a text line: `--columns` with the output text.

A record is a line of the columns that are asked for, in their order, with a tab between them. So
cut, sort and awk take them apart. What a record does not say is "-". Values are those of the
ordinary line: protocols by name, structures short, everything that is not printable escaped.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec import json

from pylog.formats.packet_headers import of_record
from pylog.outputs._named import REQUESTED
from pylog.outputs._services import with_services
from pylog.outputs._text_words import PROTOCOLS, colour_of, fragment_text
from pylog.record import (
    Fragment,
    PacketRecord,
    Record,
    Row,
    Vlan,
    escape,
    fields_of,
    json_name,
    kind_of,
    kinds,
    row_of,
    row_type,
)
from pylog.zones import Clock


class Columns:
    """Makes lines of the columns of these names; a name may go on with parts: fragment.offset.

    needs_payload   whether columns are asked for that are decoded from a packet's payload
    """

    def __init__(
        self, names: tuple[str, ...], clock: Clock | None, services: bool, colour: bool
    ) -> None:
        self._clock, self._services, self._colour = clock, services, colour
        self._parts = [(name, parts) for name, *parts in (name.split(".") for name in names)]
        self.needs_payload = any(name in REQUESTED for name, _ in self._parts)

    def line(self, record: Record | Row) -> str:
        """The line of a record, or of a row if `needs_payload` is False; without the newline."""
        return "\t".join(self.cells(record))

    def cells(self, record: Record | Row) -> list[str]:
        """The text of each column."""
        row: Any = record
        headers = None
        if type(row) not in _rows():
            if self.needs_payload and isinstance(row, PacketRecord):
                headers = of_record(row)
            row = row_of(row)
        if self._services:
            row = with_services(row)
        kind: Any = type(row)
        fields = _fields(kind)
        cells = []
        for name, parts in self._parts:
            value: Any
            if name == "kind":
                value = kind_of(record)
            elif headers is not None and name in REQUESTED:
                value = getattr(headers, name)
            else:
                field, column = fields.get(name, (None, None))
                value = None if field is None else getattr(row, field)
                if column == "time" and value is not None and self._clock is not None:
                    value = self._clock.text(value)
            for part in parts:
                value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
            cell = _text(name, value)
            if self._colour and name == "action":
                cell = colour_of(str(value), cell)
            cells.append(cell)
        return cells


@cache
def _fields(kind: Any) -> dict[str, tuple[str, str | None]]:
    """The field and type of each column of a kind."""
    return {json_name(name): (name, field.column) for name, field in fields_of(kind).items()}


@cache
def _rows() -> set[type[Any]]:
    """The types of rows."""
    return {row_type(kind) for kind in kinds().values()}


def _text(name: str, value: Any) -> str:
    """A cell."""
    if value is None:
        return "-"
    if name == "protocol":
        return PROTOCOLS.get(value, str(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Fragment):
        return fragment_text(value)
    if isinstance(value, tuple) and value and isinstance(value[0], Vlan):
        return ".".join(str(tag.id) for tag in value)
    if isinstance(value, dict | tuple):
        value = json.encode(value).decode()
    return escape(str(value))
