"""The thread that reads records and counts them.

It has no queue. While it counts, records of a live source wait in the kernel's buffer, and when
that is full the kernel counts what it drops: so what is too fast for pylog is a loss like others.
A file, or a replay, is only read later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from pylog.actions import Actions
from pylog.decoder import LOT
from pylog.reader import Records
from pylog.top.counts import Counts

LOOK_S = 0.25


class Reading(threading.Thread):
    """Reads sources one after the other into counts; `error` is what ended it, if anything did."""

    def __init__(
        self, counts: Counts, sources: list[Callable[[], Records]], actions: Actions | None = None
    ) -> None:
        """`sources` are functions that open them, in this thread."""
        super().__init__(name="pylog-top-reading", daemon=True)
        self.error: Exception | None = None
        self._counts, self._sources, self._actions = counts, sources, actions
        self._stopped = threading.Event()

    def run(self) -> None:
        """Read until the end of the last source, or until `end`."""
        try:
            for source in self._sources:
                if self._stopped.is_set():
                    break
                with source() as records:
                    self._read(records)
        except Exception as error:  # shown by the screen, or raised by `join_or_raise`
            self.error = error
            self._counts.ended = str(error)
        else:
            self._counts.ended = "end of the log"

    def _read(self, records: Records) -> None:
        while not self._stopped.is_set():
            try:
                batch = records.read_batch(LOOK_S, LOT)
            except TimeoutError:
                continue
            if not batch:
                return
            if self._actions is not None:
                batch = [self._actions.record(record) for record in batch]
            self._counts.feed(batch)

    def end(self, timeout_s: float = 2.0) -> None:
        """End the reading, and wait for it at most so long."""
        self._stopped.set()
        self.join(timeout_s)

    def join_or_raise(self, timeout_s: float | None = None) -> None:
        """Wait for the end; raises what ended the reading."""
        self.join(timeout_s)
        if self.error is not None:
            raise self.error
