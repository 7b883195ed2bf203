r"""Writes CSV (RFC 4180) with a header line and the same columns for every record.

The columns have the names of the JSON, of all kinds of record. An object or a list is JSON text in
its cell, except for `vlan` (the ids, joined by a space) and `fragment` (id:offset, with a + when
more fragments follow). A row is a line: characters that are not printable are escaped as in the
text output, \n, \x1b, \u202e; in JSON as \u001b. With `csv_safe` a spreadsheet takes no cell
for a formula.

A generated function for each kind of record makes the rows. It remembers the text of columns that
all records of a rule share, and formats only the others for each record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import msgspec
from msgspec.structs import astuple

from pylog import outputs
from pylog.batch import Batch
from pylog.memo import Memo
from pylog.options import Option
from pylog.outputs._named import COLUMN_OPTIONS, RENAME, REQUESTED, headers_of, named, renamed
from pylog.record import (
    ON_REQUEST,
    Column,
    Fragment,
    PacketRow,
    Record,
    Row,
    escape,
    escape_json,
    fields_of,
    json_name,
    row_of,
    row_type,
)

NAME = "csv"
JOINS = True
ENDINGS = (".csv",)
OPTIONS = (
    Option("csv_safe", bool, False, "put a ' before text that a spreadsheet would take for a"
           " formula: text that begins with =, +, -, @, a tab or CR and is not a number"),
    *COLUMN_OPTIONS,
    RENAME,
)  # fmt: skip

_NUMBERS = {"offset", "seq", "sport", "dport", "nat_sport", "nat_dport", "length", "caplen", "size"}
"""Columns of numbers that differ from record to record."""
_MADE: tuple[Column, ...] = ("time", "octets")
"""Columns whose text needs no quotes: times and hex."""
_JSON: tuple[Column, ...] = ("counters", "json")
_WORDS: tuple[Column, ...] = ("word", "name")
_FORMULA = re.compile(r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
"""What makes a cell a formula; the last four are full-width forms of the first."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NAME = re.compile(r'"?[A-Za-z_][A-Za-z0-9_.]*"?')
"""A cell of a header, which no line of records consists of: they have a time or an address."""
MOST = 6
"""How many columns an error shows."""
ROWS = 256
"""How many rows are written at a time."""
OBJECTS = 256
"""How many objects are remembered by their identity."""

Line = Callable[[Any], str]


@cache
def _line(kind: type[Row], safe: bool, read: bool, header: tuple[str, ...]) -> Line:
    """The function that makes a line, with its end, of a row. If the header has fields on request,
    it makes it of a pair of the row and its PacketHeaders, or None.

    read   whether a Reader made the row: then addresses are pylog's own text

    The function is generated as text: a single f-string, in which the columns that records of a
    rule share are texts from a memo. A call for each cell took four times as long (14.8 against
    3.7 us).
    """
    fields = kind.__struct_fields__
    names_in = {json_name(field): field for field in fields}
    declared = fields_of(kind)
    word = str(kind.__struct_config__.tag)
    on_request = fields_of(ON_REQUEST[word]) if word in ON_REQUEST else {}
    asked = [name for name in header if name in on_request]

    def own(name: str) -> str | None:
        """The expression of a column that differs from record to record; None: it is shared."""
        if name == "kind":
            return word
        if name in asked:
            value = f"_text({name})" if on_request[name].column in _WORDS else name
            return f'{{"" if {name} is None else {value}}}'
        field = names_in.get(name)
        return None if field is None else _own(field, declared[field].column, read)

    runs: list[list[str]] = []
    parts: list[str] = []
    for is_own, run in groupby(header, lambda name: own(name) is not None):
        if is_own:
            parts += [own(name) or "" for name in run]
        else:
            parts.append(f"{{_run{len(runs)}}}")
            runs.append([names_in.get(name, "") for name in run])

    def texts(key: tuple[Any, ...]) -> list[str]:
        """The text of each run."""
        cells = iter(key)
        return [",".join([_text(next(cells), safe) if f else "" for f in run]) for run in runs]

    names: dict[str, Any] = {
        "_astuple": astuple,
        "_shared": Memo(texts),
        "_text": lambda cell: _text(cell, safe),
        "_json": _Json(),
    }
    code = ["def line(_row):"]
    if any(name in REQUESTED for name in header):
        code.append("_row, _headers = _row")
        code += [f"{name} = _headers.{name}" for name in asked]
    code.append(f"{', '.join(fields)} = _astuple(_row)")
    if runs:
        texts_of = "".join(f"{field}, " for run in runs for field in run if field)
        code.append(f"{''.join(f'_run{n}, ' for n in range(len(runs)))} = _shared[({texts_of})]")
    code.append(f"return f'{','.join(parts)}\\r\\n'")
    exec("\n    ".join(code), names)
    line: Line = names["line"]
    return line


def _own(field: str, column: Column | None, read: bool) -> str | None:
    """The expression in the f-string of a column that differs from record to record; None: the
    column is shared. Addresses in rows that pylog made itself need no quotes.
    """
    if column == "address" and not read:
        value = f"_text({field})"
    elif column in _JSON:
        value = f"_json[{field}]"
    elif column in _MADE or column == "address" or (field in _NUMBERS and column not in _WORDS):
        value = field
    else:
        return None
    return f'{{"" if {field} is None else {value}}}'


def check(
    *, csv_safe: bool, columns: str | None, exclude: str | None, rename: Mapping[str, str] | None
) -> None:
    """ValueError for columns that do not exist, and names that two columns would have."""
    renamed(named(columns, exclude), rename)


def makes_lines(*, columns: str | None, exclude: str | None, **_: Any) -> bool:
    """As outputs.makes_lines: without columns that are decoded from a packet's payload."""
    return REQUESTED.keys().isdisjoint(named(columns, exclude))


def check_appending(
    first: bytes, *, columns: str | None, exclude: str | None,
    rename: Mapping[str, str] | None = None, **_: Any,
) -> None:  # fmt: skip
    """ValueError if the first line of the file is a header with other columns."""
    there = first.decode(errors="replace").removeprefix("\ufeff").rstrip("\r\n").split(",")
    here = list(renamed(named(columns, exclude), rename).values())
    if there != here and all(map(_NAME.fullmatch, there)):
        raise ValueError(f"its columns are {_brief(there, here)}, not {_brief(here, there)}")


def _brief(names: Sequence[str], others: Sequence[str]) -> str:
    """A list of columns, or of a long one its length and how it differs from another."""
    if len(names) <= MOST:
        return ",".join(names)
    more = [name for name in names if name not in others]
    dots = ",..." if len(more) > MOST else ""
    differing = f", with {','.join(more[:MOST])}{dots}" if more else ""
    return f"{names[0]},...,{names[-1]} ({len(names)}{differing})"


class _Json:
    """_Json()[value] is the cell of an object. Records of a rule share the same `extra` object, so
    its cell is found by its identity.
    """

    def __init__(self) -> None:
        self._cells: Memo[bytes, str] = Memo(_json_text)
        self._last: dict[int, tuple[Any, str]] = {}
        """By its id, an object and its cell; the object is kept so that no other gets the id."""

    def __getitem__(self, value: Any) -> str:
        entry = self._last.get(id(value))
        if entry is None:
            if len(self._last) >= OBJECTS:
                self._last.clear()
            entry = self._last[id(value)] = value, self._cells[msgspec.json.encode(value)]
        return entry[1]


class Output(outputs.Output):
    """Writes records as CSV."""

    def __init__(
        self, target: outputs.Target, *, csv_safe: bool = False, columns: str | None = None,
        exclude: str | None = None, rename: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._stream = target.stream
        self._safe = csv_safe
        self._header = named(columns, exclude)
        self._requests = any(name in REQUESTED for name in self._header)
        self.takes_rows = not self._requests
        self.shows_payload = "payload" in self._header
        called = renamed(self._header, rename).values()
        cells = ",".join(_text(name, False) for name in called)
        self._rows = [] if target.appending else [cells + "\r\n"]

    def write(self, batch: Batch) -> None:
        records = batch.records()
        if self._requests:
            for kind, same in groupby(records, type):
                line = _line(row_type(kind), self._safe, False, self._header)
                self._rows += [line((row_of(record), headers_of(record))) for record in same]
            self._write_full()
        else:
            self._add(map(row_of, records), read=False)

    def write_rows(self, rows: Sequence[Row]) -> None:
        self._add(rows, read=True)

    def lines_of(self, records: Sequence[Record]) -> bytes:
        line = _line(PacketRow, self._safe, False, self._header)
        return "".join([line(row_of(record)) for record in records]).encode()

    def write_lines(self, lines: bytes | memoryview) -> None:
        self._write()
        self._stream.write(lines)

    def _add(self, rows: Iterable[Row], read: bool) -> None:
        for kind, same in groupby(rows, type):
            self._rows += map(_line(kind, self._safe, read, self._header), same)
        self._write_full()

    def _write_full(self) -> None:
        if len(self._rows) >= ROWS:
            self._write()

    def _write(self) -> None:
        rows, self._rows = self._rows, []
        self._stream.write("".join(rows).encode())

    def flush(self) -> None:
        self._write()
        self._stream.flush()

    def close(self) -> None:
        self.flush()


def _text(cell: Any, safe: bool) -> str:
    """A cell as it stands in a row."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        if safe and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
            cell = f"'{cell}"
        return _quoted(escape(cell))
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, Fragment):
        return f"{cell.id}:{cell.offset}{'+' if cell.more else ''}"
    if isinstance(cell, tuple):
        return " ".join(str(tag.id) for tag in cell)
    return str(cell)


def _json_text(text: bytes) -> str:
    """A cell of JSON as it stands in a row."""
    return _quoted(escape_json(text.decode()))


def _quoted(cell: str) -> str:
    if '"' in cell or "," in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell
