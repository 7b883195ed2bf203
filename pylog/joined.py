"""A reader of records whose packets have their rule or flow: `--rules` and `--with-flows`.

It wraps another reader and passes its records through a join. While a packet waits for the record
that it is joined with, a live source is asked for at most a tenth of a second.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from pylog.reader import Reader, Records
from pylog.record import Record
from pylog.records import deadline_of

HELD_S = 0.1
"""How long a packet waits for its trace, which the kernel sends right after it, or for its flow."""


class Joins(Protocol):
    """What Join and FlowJoin have in common."""

    @property
    def waiting(self) -> bool:
        """Whether a packet waits for other records."""

    def feed(self, records: Iterable[Record]) -> list[Record]:
        """Take records; gives those that do not wait."""

    def end(self) -> list[Record]:
        """Give what waits."""


class Joined(Records):
    """The records of a reader; packets of NFLOG are JoinedRecords.

    join     how rules or flows are derived: a Join or a FlowJoin
    without  kinds of record to leave out: they were read for the packets' sake only
    first    one of the readers: what it has at the beginning, the snapshot of a ruleset or of the
             flows, comes before all else, because packets may have been logged while it was listed
    """

    def __init__(
        self,
        records: Records,
        join: Joins,
        without: tuple[type[Record], ...] = (),
        first: Reader | None = None,
    ) -> None:
        self._records = records
        self._join = join
        self._without, self._first = without, first
        self._queue: deque[Record] = deque()
        self._since: float | None = None
        # since when a packet waits, by the monotonic clock

    def readers(self) -> list[Reader]:
        return self._records.readers()

    @property
    def ready(self) -> bool:
        """Whether the next record is here already, so that reading it waits for nothing."""
        return bool(self._queue) or self._records.ready

    def due_s(self) -> float | None:
        due = self._records.due_s()
        return min(HELD_S, HELD_S if due is None else due) if self._join.waiting else due

    def read(self, timeout: float | None = None) -> Record | None:
        """As Records.read. What waits comes before the error that reading raises."""
        deadline = deadline_of(timeout)
        self._begin()
        while not self._queue:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self._join.waiting and self._since is None:
                self._since = time.monotonic()
            wait = left
            if self._since is not None:
                held = max(0.0, self._since + HELD_S - time.monotonic())
                wait = held if left is None else min(held, left)
            try:
                lot = self._records.read_batch(wait)
            except TimeoutError:
                if self._since is not None and time.monotonic() >= self._since + HELD_S:
                    self._put(self._join.end())
                elif left == wait:
                    raise
                continue
            except Exception:
                self._put(self._join.end())
                if not self._queue:
                    raise
                continue
            if lot:
                self._put(self._join.feed(lot))
                continue
            self._put(self._join.end())
            if not self._queue:
                return None
        return self._queue.popleft()

    def _begin(self) -> None:
        first, self._first = self._first, None
        with contextlib.suppress(TimeoutError):
            while first is not None and (lot := first.read_batch(timeout=0)):
                self._put(self._join.feed(lot))

    def _put(self, records: list[Record]) -> None:
        self._since = None
        self._queue += [record for record in records if type(record) not in self._without]
