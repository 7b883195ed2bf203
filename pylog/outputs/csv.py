"""CSV with a header line and the same columns for every record, as RFC 4180 has it.

Columns are the names of the JSON, of all kinds of record. Where the JSON has an object or a
list, the column has its JSON text, but for `vlan` (the ids, joined by a space) and `fragment`
(id:offset, with a + when more fragments follow).

A row is a line: what is not printable in a cell is escaped as in the text output, \\n, \\x1b,
\\u202e; in JSON as \\u001b. With `csv_safe` a spreadsheet takes no cell for a formula.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from functools import cache
from operator import itemgetter
from typing import Any, BinaryIO

import msgspec
from msgspec.structs import astuple

from pylog import outputs
from pylog.options import Option
from pylog.record import (
    KINDS,
    Fragment,
    Record,
    Row,
    columns_of,
    escape,
    escape_json,
    json_name,
    kind_of,
    row_of,
)

OPTIONS = (
    Option("csv_safe", bool, False, "put a ' before text that a spreadsheet would take for a"
           " formula: text that begins with =, +, -, @, a tab or CR and is not a number"),
)  # fmt: skip

COLUMNS = ("kind", *columns_of(*KINDS.values()))
"""The header. A new column comes at the end, whatever it means."""

_TYPES = columns_of(*KINDS.values())
_ODD = [i for i, name in enumerate(COLUMNS)
        if _TYPES.get(name) in ("bool", "vlan", "fragment", "counters", "json")]  # fmt: skip
"""The columns whose values are no text or number."""
_JSON = {i for i, name in enumerate(COLUMNS) if _TYPES.get(name) in ("counters", "json")}
_FORMULA = re.compile(r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
"""What makes a cell a formula; the last four are full-width forms of the first."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
ROWS = 256
"""So many rows are written at a time."""


@cache
def _values(kind: type[Row]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes the columns after the first out of a row."""
    there = {json_name(field): at for at, field in enumerate(kind.__struct_fields__)}
    pick = itemgetter(*(there.get(name, len(there)) for name in COLUMNS[1:]))
    return lambda row: pick((*astuple(row), None))


class Output(outputs.Output):
    """Writes records as CSV."""

    takes_rows = True

    def __init__(self, stream: BinaryIO, colour: bool = False, *, csv_safe: bool = False) -> None:
        self._stream = stream
        self._safe = csv_safe
        self._rows: list[list[Any]] = [list(COLUMNS)]

    def write(self, record: Record) -> None:
        self.write_rows((row_of(record),))

    def write_rows(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._write_row(row)

    def _write_row(self, record: Row) -> None:
        row = [kind_of(record), *_values(type(record))(record)]
        for i in _ODD:
            if row[i] is not None:
                row[i] = _cell(row[i])
        self._rows.append(row)
        if len(self._rows) >= ROWS:
            self._write()

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        if self._safe:
            rows = [[_guarded(cell) for cell in row] for row in rows]
        text = _lines(rows)
        # one look at all of them: hardly a row has anything to escape
        if text.count("\r\n") != len(rows) or not text.replace("\r\n", "").isprintable():
            text = _lines([[_escaped(i, cell) for i, cell in enumerate(row)] for row in rows])
        self._stream.write(text.encode())

    def flush(self) -> None:
        self._write()
        self._stream.flush()

    def close(self) -> None:
        self.flush()


def _lines(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _escaped(column: int, cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return escape_json(cell) if column in _JSON else escape(cell)


def _guarded(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Fragment):
        return f"{value.id}:{value.offset}{'+' if value.more else ''}"
    if isinstance(value, tuple):
        return " ".join(str(tag.id) for tag in value)
    return msgspec.json.encode(value).decode()
