"""Reads several sources as one, with their records in the order of time.

Each source keeps its own order. Of the next records of all sources the oldest is given first, by
the kernel's time, or else by the time of receipt. A record waits at most `window_s` seconds after
its receipt for a source that has none at hand; records of files count as received at the start. A
record that comes later than that may be out of order. At most LIMIT records wait; then the oldest
is given.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from typing import NamedTuple

from pylog.backends.base import Backend, readable
from pylog.errors import BackendError, DecodeError
from pylog.reader import Reader, Records
from pylog.record import LossRecord, Record
from pylog.records import deadline_of

WINDOW_S = 0.5
"""How many seconds a record waits for older ones of other sources, unless the caller says so."""
LIMIT = 50_000
"""How many records may wait for those of other sources."""
LOT = 100
"""How many records are read from a source before the next source has its turn."""


class _Waiting(NamedTuple):
    """A record that waits to be given, or the error that reading it raised.

    time_ns   its place in the order
    since     when it was received, by the monotonic clock
    size      of its message, in bytes
    """

    time_ns: int
    since: float
    size: int
    content: Record | Exception


class Merged(Records):
    """The records of several readers. `close` closes them.

    The error of a source is raised once, after its records; then the other sources can be read on.
    """

    def __init__(self, readers: list[Reader], window_s: float = WINDOW_S) -> None:
        """`window_s`: how many seconds a record may be held back; ValueError below 0."""
        if not window_s >= 0:
            raise ValueError(f"window_s is {window_s}, but must be 0 or more seconds")
        self._readers = readers
        self._window_s = window_s
        self._queues: list[deque[_Waiting]] = [deque() for _ in readers]
        self._last = [0] * len(readers)
        self._open = set(range(len(readers)))
        self._waiting = 0
        self._start = time.monotonic()
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
        """Damaged places so far, see OpenLog.malformed."""
        return sum(reader.malformed for reader in self._readers)

    @property
    def flaws(self) -> Counter[str]:
        """How many values records were decoded without so far, by field."""
        return sum((reader.flaws for reader in self._readers), Counter())

    @property
    def dropped(self) -> int | None:
        """Records lost so far; None as long as no source can tell."""
        counts = [reader.dropped for reader in self._readers if reader.dropped is not None]
        return sum(counts) if counts else None

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
        ticks = [self._readers[i].due_s() for i in self._open]
        ticks.append(self._held_s() if self._waiting else None)
        return min((tick for tick in ticks if tick is not None), default=None)

    def read(self, timeout: float | None = None) -> Record | None:
        deadline = deadline_of(timeout)
        while not self._closed:
            progress = self._fill(files=True)  # before any record is given: files do not block
            if self._waiting and self._held_s() <= 0:
                return self._take()
            progress |= self._fill(files=False)
            if not self._open and not self._waiting:
                return None
            if self._waiting and self._held_s() <= 0:
                continue
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("no record came in time")
            if not progress:
                self._wait(deadline)
        return None

    def pending(self) -> int:
        """How many bytes can be read without waiting: the records at hand, and of the sources."""
        held = sum(waiting.size for queue in self._queues for waiting in queue)
        return held + sum(reader.pending() for reader in self._readers)

    def flush(self) -> int:
        """Discard the records at hand and what the sources have; how many bytes that was."""
        flushed = sum(waiting.size for queue in self._queues for waiting in queue)
        for i, queue in enumerate(self._queues):
            self._readers[i].received -= sum(waiting.size > 0 for waiting in queue)
            self._queues[i] = deque(w for w in queue if isinstance(w.content, Exception))
        self._waiting = sum(map(len, self._queues))
        return flushed + sum(reader.flush() for reader in self._readers)

    def close(self) -> None:
        self._closed = True
        super().close()

    def _oldest(self) -> int:
        """The number of the source whose next record is the oldest."""
        return min((q[0].time_ns, i) for i, q in enumerate(self._queues) if q)[1]

    def _held_s(self) -> float:
        """How much longer the oldest record has to wait for those of other sources."""
        if self._waiting >= LIMIT or all(self._queues[i] for i in self._open):
            return 0.0
        since = min(queue[0].since for queue in self._queues if queue)
        return since + self._window_s - time.monotonic()

    def _take(self) -> Record:
        self._waiting -= 1
        content = self._queues[self._oldest()].popleft().content
        if isinstance(content, Exception):
            raise content
        return content

    def _fill(self, files: bool) -> bool:
        """Read what files, or live sources, have; whether there was a record or an end."""
        progress = False
        for i in sorted(self._open):
            reader, queue = self._readers[i], self._queues[i]
            if reader.backend.regular != files or (files and queue):
                continue
            # one record of a file is enough: the next can be read at any time
            lot = 1 if files else min(LOT, LIMIT - self._waiting)
            for _ in range(lot):
                try:
                    record = reader.read(timeout=0)
                except TimeoutError:
                    break
                except (DecodeError, BackendError) as error:
                    self._append(i, error)
                    record = None
                progress = True
                if record is None:
                    self._open.discard(i)
                    break
                self._append(i, record)
        return progress

    def _append(self, i: int, content: Record | Exception) -> None:
        if isinstance(content, Exception):  # after what the other sources have by now
            self._last[i] = max(self._last[i], time.time_ns())
        else:
            stamp = content.timestamp_ns
            stamp = content.observed_ns if stamp is None else stamp
            if stamp is not None:
                self._last[i] = stamp
        since = self._start if self._readers[i].backend.regular else time.monotonic()
        size = 0 if isinstance(content, Exception | LossRecord) else self._readers[i].size
        self._queues[i].append(_Waiting(self._last[i], since, size, content))
        self._waiting += 1

    def _wait(self, deadline: float | None) -> None:
        """Wait until a source may have a record, or a record is due."""
        due = self.due_s()
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            due = left if due is None else min(due, left)
        with contextlib.ExitStack() as stack:
            descriptors = []
            for backend in self.awaited():
                stack.enter_context(backend.use)
                if backend.closed:  # by another thread
                    return
                descriptors += backend.wait_descriptors()
            readable(descriptors, due)
