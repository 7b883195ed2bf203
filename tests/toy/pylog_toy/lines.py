"""The output lines: a record a line, each field as name=value."""

from __future__ import annotations

import msgspec

from pylog import outputs
from pylog.batch import Batch
from pylog.options import Option
from pylog.record import row_of

NAME = "lines"
ENDINGS = (".lines",)
OPTIONS = (Option("separator", str, " ", "what stands between fields"),)


class Output(outputs.Output):
    """Writes a line for each record."""

    def __init__(self, target: outputs.Target, *, separator: str = " ") -> None:
        self._stream = target.stream
        self._separator = separator

    def write(self, batch: Batch) -> None:
        for record in batch.records():
            row = msgspec.to_builtins(row_of(record))
            line = self._separator.join([f"{name}={value!r}" for name, value in row.items()])
            self._stream.write(f"{line}\n".encode())

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
