"""JSON lines: one object a record, with the names that README.md documents.

At a terminal everything that is not printable is a \\u escape, which leaves the JSON the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from pylog import outputs
from pylog.batch import Batch
from pylog.record import Row, escape_json, json_lines, row_lines

NAME = "json"
ENDINGS = (".jsonl",)


class Output(outputs.Output):
    """Writes records as JSON lines."""

    takes_rows = True

    def __init__(self, target: outputs.Target) -> None:
        self._stream = target.stream
        self._terminal = target.is_terminal

    def write(self, batch: Batch) -> None:
        self._put(json_lines(batch.records()))

    def write_rows(self, rows: Sequence[Row]) -> None:
        self._put(row_lines(rows))

    def _put(self, lines: bytes) -> None:
        if self._terminal:
            lines = "\n".join(map(escape_json, lines.decode().split("\n"))).encode()
        self._stream.write(lines)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
