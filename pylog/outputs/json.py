"""JSON lines: one object a record, in the shape that README.md documents.

At a terminal everything that is not printable is a \\u escape, which leaves the JSON the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from pylog import outputs
from pylog.batch import Batch
from pylog.record import Record, escape_json, json_lines

NAME = "json"
ENDINGS = (".jsonl",)


class Output(outputs.Output):
    """Writes records as JSON lines."""

    takes_shapes = True

    def __init__(self, target: outputs.Target) -> None:
        self._stream = target.stream
        self._terminal = target.is_terminal

    def write(self, batch: Batch) -> None:
        self._put(json_lines(batch.records()))

    def write_shaped(self, shapes: Sequence[Record]) -> None:
        self._put(json_lines(shapes, shaped=True))

    def _put(self, lines: bytes) -> None:
        if self._terminal:
            lines = "\n".join(map(escape_json, lines.decode().split("\n"))).encode()
        self._stream.write(lines)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
