"""The thread that reads records and counts them.

It has no queue. While it counts, records of a live source wait in the kernel's buffer, and when
that is full the kernel counts what it drops: so what is too fast for pylog is a loss like others.
A file, or a replay, is only read later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pylog.actions import Actions
from pylog.decoder import LOT
from pylog.reader import Records
from pylog.record import Record
from pylog.top.counts import Counts

LOOK_S = 0.25
ENOUGH, GATHER_S = 500, 0.05
"""So many records are counted at once, or what came in so many seconds. A batch of a live source
may be a single record, and counting one costs as much as counting fifty.
"""


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
        pending: list[Record] = []
        due = 0.0
        while not self._stopped.is_set():
            wait_s = max(due - time.monotonic(), 0.0) if pending else LOOK_S
            try:
                batch = records.read_batch(wait_s, LOT)
            except TimeoutError:
                batch = None
            if batch:
                if not pending:
                    due = time.monotonic() + GATHER_S
                pending += batch
            ended = batch is not None and not batch
            if pending and (ended or len(pending) >= ENOUGH or time.monotonic() >= due):
                if self._actions is not None:
                    pending = [self._actions.record(record) for record in pending]
                self._note(records)
                self._counts.feed(pending)
                pending = []
            if ended:
                self._note(records)
                return

    def _note(self, records: Records) -> None:
        """Note of each log whether losses can be seen, and whether it has a zone."""
        for reader in records.readers():
            unknown = reader.dropped is None and not reader.uncounted
            self._counts.unknowable[reader.backend.title] = unknown
            in_text = reader.detection.container == "text"
            self._counts.lacks_zone |= in_text and reader.backend.log_tz is None

    def end(self, timeout_s: float = 2.0) -> None:
        """End the reading, and wait for it at most so long."""
        self._stopped.set()
        self.join(timeout_s)

    def join_or_raise(self, timeout_s: float | None = None) -> None:
        """Wait for the end; raises what ended the reading."""
        self.join(timeout_s)
        if self.error is not None:
            raise self.error
