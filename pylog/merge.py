"""Several sources as one: their records in the order of time, as far as it can be known in time.

Each source keeps its own order. Of the sources' next records the oldest comes first, by the
kernel's time, or else the time of receipt. For a source that has no record at hand the others wait
`window_s` seconds, no longer, after the receipt of theirs; those of files were there from the
start. What comes later than that may come out of order. What waits is bounded; when that many
records wait, the oldest is given.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from typing import NamedTuple

from pylog.backends.base import Backend, readable
from pylog.errors import BackendError, DecodeError
from pylog.reader import Reader, Records, deadline_of
from pylog.record import LossRecord, Record

WINDOW_S = 0.5
LIMIT = 50_000
"""How many records may wait for those of other sources."""
LOT = 100
"""How many records are taken from a source before the others are looked at."""


class _Waiting(NamedTuple):
    """A record of `size` bytes, or the error that reading it raised; since when it is there."""

    time_ns: int
    since: float
    size: int
    found: Record | Exception


class Merged(Records):
    """The records of several readers, which it closes with itself.

    The error of a source is raised once, after its records; the others can be read on then.
    """

    def __init__(self, readers: list[Reader], window_s: float = WINDOW_S) -> None:
        """`window_s` is how long a record may be held back, in seconds; ValueError below 0."""
        if not window_s >= 0:
            raise ValueError(f"window_s is {window_s}, but must be 0 or more seconds")
        self._readers = readers
        self._window_s = window_s
        self._queues: list[deque[_Waiting]] = [deque() for _ in readers]
        self._last = [0] * len(readers)
        self._open = set(range(len(readers)))
        self._waiting = 0
        self._begun = time.monotonic()
        self._closed = False

    def readers(self) -> list[Reader]:
        return self._readers

    def awaited(self) -> list[Backend]:
        return [self._readers[i].backend for i in self._open]

    @property
    def received(self) -> int:
        """Records read so far from all sources."""
        return sum(reader.received for reader in self._readers)

    @property
    def malformed(self) -> int:
        """Damaged places so far, see Reader."""
        return sum(reader.malformed for reader in self._readers)

    @property
    def flaws(self) -> Counter[str]:
        """How many values records were read without so far, by field."""
        return sum((reader.flaws for reader in self._readers), Counter())

    @property
    def dropped(self) -> int | None:
        """Records known to be lost so far; None as long as no source can tell."""
        told = [reader.dropped for reader in self._readers if reader.dropped is not None]
        return sum(told) if told else None

    @property
    def uncounted(self) -> int:
        """Losses so far of an unknown number of records."""
        return sum(reader.uncounted for reader in self._readers)

    @property
    def ready(self) -> bool:
        if self._waiting and self._held_s() <= 0:
            return True
        at_hand = (q or r.backend.regular for q, r in zip(self._queues, self._readers, strict=True))
        return bool(self._open) and all(at_hand)

    def due_s(self) -> float | None:
        ticks = [self._readers[i].due_s() for i in self._open]  # that of a replay is its own
        ticks.append(self._held_s() if self._waiting else None)
        return min((tick for tick in ticks if tick is not None), default=None)

    def read(self, timeout: float | None = None) -> Record | None:
        deadline = deadline_of(timeout)
        while not self._closed:
            some = self._fill(files=True)  # which takes no waiting: nothing is given before that
            if self._waiting and self._held_s() <= 0:
                return self._take()
            some |= self._fill(files=False)
            if not self._open and not self._waiting:
                return None
            if self._waiting and self._held_s() <= 0:
                continue
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("no record came in time")
            if not some:
                self._wait(deadline)
        return None

    def pending(self) -> int:
        """How many bytes can be read without waiting: of records that wait, and of the sources."""
        held = sum(waiting.size for queue in self._queues for waiting in queue)
        return held + sum(reader.pending() for reader in self._readers)

    def flush(self) -> int:
        """Discard what waits and what the sources have, and return how many bytes it was."""
        flushed = sum(waiting.size for queue in self._queues for waiting in queue)
        for i, queue in enumerate(self._queues):
            self._readers[i].received -= sum(waiting.size > 0 for waiting in queue)
            self._queues[i] = deque(w for w in queue if isinstance(w.found, Exception))
        self._waiting = sum(map(len, self._queues))
        return flushed + sum(reader.flush() for reader in self._readers)

    def close(self) -> None:
        self._closed = True
        super().close()

    def _oldest(self) -> int:
        """The source whose next record comes first."""
        return min((q[0].time_ns, i) for i, q in enumerate(self._queues) if q)[1]

    def _held_s(self) -> float:
        """How much longer the oldest record is to wait for those of other sources."""
        if self._waiting >= LIMIT or all(self._queues[i] for i in self._open):
            return 0.0
        since = min(queue[0].since for queue in self._queues if queue)
        return since + self._window_s - time.monotonic()

    def _take(self) -> Record:
        self._waiting -= 1
        found = self._queues[self._oldest()].popleft().found
        if isinstance(found, Exception):
            raise found
        return found

    def _fill(self, files: bool) -> bool:
        """Take in what files, or live sources, have; whether that was anything, or an end."""
        some = False
        for i in sorted(self._open):
            reader, queue = self._readers[i], self._queues[i]
            if reader.backend.regular != files or (files and queue):
                continue
            # of a file one record is enough: the next one is there when it is wanted
            lot = 1 if files else min(LOT, LIMIT - self._waiting)
            for _ in range(lot):
                try:
                    record = reader.read(timeout=0)
                except TimeoutError:
                    break
                except (DecodeError, BackendError) as error:  # after what came before it
                    self._append(i, error)
                    record = None
                some = True
                if record is None:
                    self._open.discard(i)
                    break
                self._append(i, record)
        return some

    def _append(self, i: int, found: Record | Exception) -> None:
        if isinstance(found, Exception):  # not before what the others had by then
            self._last[i] = max(self._last[i], time.time_ns())
        else:
            told = found.timestamp_ns if found.timestamp_ns is not None else found.observed_ns
            if told is not None:
                self._last[i] = told
        # what is in a file has been there all the time
        regular = self._readers[i].backend.regular
        since = self._begun if regular else time.monotonic()
        size = 0 if isinstance(found, Exception | LossRecord) else self._readers[i].size
        self._queues[i].append(_Waiting(self._last[i], since, size, found))
        self._waiting += 1

    def _wait(self, deadline: float | None) -> None:
        """Wait until a source may have something, or something is due."""
        due = self.due_s()
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            due = left if due is None else min(due, left)
        with contextlib.ExitStack() as stack:
            descriptors = []
            for backend in self.awaited():
                stack.enter_context(backend.use)
                if backend.closed:  # meanwhile
                    return
                descriptors += backend.wait_descriptors()
            readable(descriptors, due)
