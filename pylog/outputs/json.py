"""Writes JSON lines: an object for each record, with the names in docs/reference/json.md.

For a terminal, characters that are not printable become \\u escapes: the JSON stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pylog import outputs
from pylog.batch import Batch
from pylog.outputs._lines import Lines
from pylog.outputs._named import (
    COLUMN_OPTIONS,
    RENAME,
    REQUESTED,
    excluded,
    fields_without,
    headers_of,
    leaving_out,
    named,
    renamed,
)
from pylog.record import (
    Record,
    Row,
    escape_json,
    fields_of,
    json_name,
    kind_of,
    kinds,
    row_lines,
    row_of,
    row_type,
)

NAME = "json"
JOINS = True
ENDINGS = (".jsonl", ".json", ".ndjson")
OPTIONS = (*COLUMN_OPTIONS, RENAME)


def check(*, columns: str | None, exclude: str | None, rename: Mapping[str, str] | None) -> None:
    """ValueError for columns that do not exist, and names that two columns would have."""
    renamed(named(columns, exclude), rename)


def makes_lines(*, columns: str | None, exclude: str | None, **_: Any) -> bool:
    """As outputs.makes_lines: without columns that are decoded from a packet's payload."""
    return REQUESTED.keys().isdisjoint(named(columns, exclude))


class _Objects:
    """Makes what becomes the JSON object of a record.

    names      the columns, each with its name in the object; None: the row, without `left_out`
    left_out   the columns that are left out
    """

    def __init__(
        self, columns: str | None, exclude: str | None, rename: Mapping[str, str] | None
    ) -> None:
        self.left_out = excluded(exclude)
        all_columns = columns is None and not rename and _may_be_none(self.left_out)
        self.names = None if all_columns else renamed(named(columns, exclude), rename)
        self._requests = any(name in REQUESTED for name in self.names or ())

    def of(self, record: Record) -> Any:
        if self.names is not None:
            return self._object(record)
        row = row_of(record)
        return leaving_out(row, self.left_out) if self.left_out else row

    def rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows without the columns that are left out, if `names` is None."""
        left_out = self.left_out
        return [leaving_out(row, left_out) for row in rows] if left_out else rows

    def _object(self, record: Record) -> dict[str, Any]:
        """The chosen columns, in their order, without those that are None."""
        row = row_of(record)
        values: dict[str, Any] = {"kind": kind_of(record)}
        values |= {json_name(field): getattr(row, field) for field in fields_of(type(row))}
        headers = headers_of(record) if self._requests else None
        if headers is not None:
            values |= msgspec.structs.asdict(headers)
        names = self.names or {}
        return {names[n]: values[n] for n in names if values.get(n) is not None}


def lines(
    *, columns: str | None = None, exclude: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Lines:  # fmt: skip
    """The JSON objects of records as lines that are safe on a terminal."""
    objects, encode = _Objects(columns, exclude, rename), msgspec.json.Encoder().encode

    def of_rows(rows: Sequence[Row]) -> list[str]:
        text = row_lines(objects.rows(rows)).decode()
        made = text.split("\n")[:-1]
        if text.isascii() and "\x7f" not in text:  # JSON has the other control characters escaped
            return made
        return [*map(escape_json, made)]

    return Lines(
        lambda record: escape_json(encode(objects.of(record)).decode()),
        of_rows=of_rows if objects.names is None else None,
    )


class Output(outputs.Output):
    """Writes records as JSON lines."""

    def __init__(
        self, target: outputs.Target, *, columns: str | None = None, exclude: str | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._stream = target.stream
        self._terminal = target.is_terminal
        self._objects = _Objects(columns, exclude, rename)
        self.shows_payload = "payload" not in self._objects.left_out
        self._encoder = msgspec.json.Encoder()
        self.takes_rows = self._objects.names is None

    def write(self, batch: Batch) -> None:
        self._put(self.lines_of(batch.records()))

    def lines_of(self, records: Sequence[Record]) -> bytes:
        return self._encoder.encode_lines([self._objects.of(record) for record in records])

    def write_lines(self, lines: bytes | memoryview) -> None:
        self._put(lines)

    def write_rows(self, rows: Sequence[Row]) -> None:
        self._put(row_lines(self._objects.rows(rows)))

    def _put(self, lines: bytes | memoryview) -> None:
        if self._terminal:
            lines = "\n".join(map(escape_json, bytes(lines).decode().split("\n"))).encode()
        self._stream.write(lines)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()


def _may_be_none(names: Sequence[str]) -> bool:
    """Whether records may lack all these columns, so that a row without them is a row."""
    if "kind" in names:
        return False
    for kind in map(row_type, kinds().values()):
        without = fields_without(kind, tuple(names))
        if any(f.name in without and f.default is not None for f in msgspec.structs.fields(kind)):
            return False
    return True
