"""The loop of `pylog capture --datagrams`: what sources give goes to files, as it was received.

A source is received from whenever it has something, and what was received together is written
together, with one call. Nothing is decoded, see pylog.pipeline.recording.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pylog import outputs
from pylog.backends.base import readable
from pylog.batch import Batch
from pylog.cli._copy import LOOK_S
from pylog.cli._sources import Stopping
from pylog.input import left_s
from pylog.outputs._files import OutputFiles
from pylog.pipeline.recording import Recorded, Recording
from pylog.reader import Records
from pylog.transports.rotation import File, Files


class _Output(outputs.Output):
    """A Recording as the output of one of several files."""

    def __init__(self, stream: Any, sources: Sequence[Recorded]) -> None:
        self.recording = Recording(stream, sources)

    def write(self, batch: Batch) -> None:
        raise TypeError("datagrams are recorded, no records")

    def flush(self) -> None:
        self.recording.flush()

    def close(self) -> None:
        self.recording.flush()


def output_of(files: Files, sources: Sequence[Recorded]) -> OutputFiles:
    """The files that datagrams of the sources are written to."""

    def made(file: File) -> outputs.Output:
        return _Output(file.stream, sources)

    return OutputFiles(files, made)


def record(
    records: Records,
    sources: Sequence[Recorded],
    output: OutputFiles,
    deadline: float | None,
    stopping: Stopping,
) -> None:
    """Write what the sources give, until they end or the deadline."""
    output.confirm(0)  # so that the file has its header before anything comes
    left = list(sources)
    while left:
        busy = False
        for source in list(left):
            if source.backend.wait(0.0):
                busy = True
                if not _take(source, output):
                    left.remove(source)
        if left_s(deadline) == 0.0:
            deadline = None
            records.stop()
        if busy:
            continue
        output.confirm(0)
        output.turn(stopping.hung_up())
        due = [LOOK_S, output.left_s(), left_s(deadline)]
        due += [source.backend.tick_s for source in left]
        waiting = [fd for source in left for fd in source.backend.wait_descriptors()]
        readable(waiting, min(t for t in due if t is not None))


def _take(source: Recorded, output: OutputFiles) -> bool:
    """Write what a source has; False at its end."""
    data = source.backend.receive()
    with output.writing() as file:
        assert isinstance(file, _Output)
        if not data:
            file.recording.end(source)
            return False
        output.add(file.recording.put(source, data, source.backend.ends, time.time_ns()))
    return True
