"""Copies log messages of live NFLOG to captures by runs: no message is looked at, none is decoded.

What is received is a run where its messages are of one group and their numbers follow those before.
Everything else goes through the reader: losses, overruns and what has no numbers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from pylog.backends.base import HOST_ORDER
from pylog.formats.netlink_seen import Run, Runs
from pylog.outputs import pcapng
from pylog.outputs._files import OutputFiles
from pylog.reader import Reader


class RunCopy:
    """Copies the runs of a reader of which no record was read."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._runs = reader, Runs(HOST_ORDER)

    @classmethod
    def of(cls, reader: Reader) -> RunCopy | None:
        """The copy of a live reader of NFLOG; None of another one."""
        backend = reader.backend
        is_nflog = backend.live and (backend.layout or "").startswith("nfulnl")
        return cls(reader) if is_nflog and reader.origin.origin is None else None

    def write(self, output: OutputFiles, timeout: float | None) -> int | None:
        """Write what is received next; how many records. None: the reader has something to read,
        or it is at the end. TimeoutError.
        """
        reader = self._reader
        decoder, backend = reader.decoder, reader.backend
        if decoder.ready or reader.input.final:
            return None
        deadline = None if timeout is None else time.monotonic() + timeout
        data = reader.input.take(deadline)
        if not data:
            return None
        time_ns = time.time_ns()
        runs = self._runs_of(data, backend.ends) if backend.overrun is None else None
        if runs:
            with output.writing() as capture:
                assert isinstance(capture, pcapng.Output)
                if self._put(capture, data, runs, time_ns):
                    count = sum(len(run.starts) for run in runs)
                    decoder.received += count
                    output.add(count)
                    return count
        decoder.feed(data, True, time_ns, backend.namespace)
        reader.report_overrun()
        return None

    def _put(self, capture: pcapng.Output, data: bytes, runs: Sequence[Run], time_ns: int) -> bool:
        """Write the runs, all or none."""
        backend, losses = self._reader.backend, self._reader.decoder.losses
        version, names = backend.interface_names()
        if not capture.takes_runs(names, time_ns, HOST_ORDER):
            return False
        for run in runs:
            capture.write_run(data, run, backend.layout or "", version, names, time_ns)
            losses.passed(run.log, (run.first + len(run.starts)) & 0xFFFFFFFF)
        return True

    def _runs_of(self, data: bytes, ends: Sequence[int]) -> list[Run] | None:
        """The runs of a receipt; None: a record of it must be looked at."""
        losses = self._reader.decoder.losses
        losses.received()
        expected = losses.numbers()
        if expected is None:
            return None
        following, start = dict(expected), 0
        runs = []
        for end in ends:
            run = self._runs.of(data, start, end)
            if run is None or following.get(run.log) != run.first:
                return None
            following[run.log] = (run.first + len(run.starts)) & 0xFFFFFFFF
            runs.append(run)
            start = end
        return runs if start == len(data) else None
