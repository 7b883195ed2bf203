"""JSON lines: one object a record, with the names that README.md documents.

At a terminal everything that is not printable is a \\u escape, which leaves the JSON the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from pylog import outputs
from pylog.record import Record, Row, escape_json, json_lines, row_lines

BATCH = 512


class Output(outputs.Output):
    """Writes records as JSON lines, a batch at a time."""

    takes_rows = True

    def __init__(self, stream: BinaryIO, colour: bool = False) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._records: list[Record] = []

    def write(self, record: Record) -> None:
        self._records.append(record)
        if len(self._records) >= BATCH:
            self._write()

    def write_batch(self, records: Iterable[Record]) -> None:
        self._write()
        self._put(json_lines(records))

    def write_rows(self, rows: Iterable[Row]) -> None:
        self._write()
        self._put(row_lines(rows))

    def _write(self) -> None:
        if self._records:
            records, self._records = self._records, []
            self.write_batch(records)

    def _put(self, lines: bytes) -> None:
        if self._terminal:
            lines = "\n".join(map(escape_json, lines.decode().split("\n"))).encode()
        self._stream.write(lines)

    def flush(self) -> None:
        self._write()
        self._stream.flush()

    def close(self) -> None:
        self.flush()
