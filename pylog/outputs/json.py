"""JSON lines: one object a record, with the names that README.md documents.

At a terminal everything that is not printable is a \\u escape, which leaves the JSON the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pylog import outputs
from pylog.batch import Batch
from pylog.outputs._named import OPTION, REQUESTED, headers_of, named
from pylog.record import (
    Record,
    Row,
    escape_json,
    fields_of,
    json_lines,
    json_name,
    kind_of,
    row_lines,
    row_of,
)

NAME = "json"
ENDINGS = (".jsonl", ".json", ".ndjson")
OPTIONS = (OPTION,)


def check(*, columns: str | None) -> None:
    """ValueError for columns that do not exist."""
    named(columns)


class Output(outputs.Output):
    """Writes records as JSON lines."""

    def __init__(self, target: outputs.Target, *, columns: str | None = None) -> None:
        self._stream = target.stream
        self._terminal = target.is_terminal
        self._names = None if columns is None else named(columns)
        self._requests = any(name in REQUESTED for name in self._names or ())
        self._encoder = msgspec.json.Encoder()
        self.takes_rows = self._names is None

    def write(self, batch: Batch) -> None:
        records = batch.records()
        if self._names is None:
            self._put(json_lines(records))
        else:
            self._put(self._encoder.encode_lines(map(self._object, records)))

    def write_rows(self, rows: Sequence[Row]) -> None:
        self._put(row_lines(rows))

    def _object(self, record: Record) -> dict[str, Any]:
        """The columns that are asked for, in their order, without those that are None."""
        row = row_of(record)
        values: dict[str, Any] = {"kind": kind_of(record)}
        values |= {json_name(field): getattr(row, field) for field in fields_of(type(row))}
        headers = headers_of(record) if self._requests else None
        if headers is not None:
            values |= msgspec.structs.asdict(headers)
        return {n: values[n] for n in self._names or () if values.get(n) is not None}

    def _put(self, lines: bytes) -> None:
        if self._terminal:
            lines = "\n".join(map(escape_json, lines.decode().split("\n"))).encode()
        self._stream.write(lines)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
