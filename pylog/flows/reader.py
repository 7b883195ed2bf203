"""A reader of flows: one record for each flow, in place of the records of its events.

It wraps another reader and passes its records through Flows. When that ends, the flows that still
live are given. While no record of a live source comes, the system's clock tells which flows are
due to be reported.
"""

from __future__ import annotations

import time
from collections import deque

from pylog.decoder import LOT
from pylog.flows import Flows
from pylog.reader import Reader
from pylog.record import Record
from pylog.records import Records, check_limit, deadline_of

LOOK_S = 1.0
"""How often to check, while no records come, which flows are due to be reported."""


class Flowed(Records):
    """The flows of a reader, and its records of other kinds.

    flows    the table of flows; None: a new Flows
    last     whether flows end with this reader; False: another one with the same table follows,
             unless this one is closed
    """

    def __init__(
        self,
        records: Records,
        flows: Flows | None = None,
        last: bool = True,
    ) -> None:
        self._records = records
        self._flows = Flows() if flows is None else flows
        self._last = last
        self._queue: deque[Record] = deque()
        self._live = any(reader.backend.live for reader in records.readers())

    def readers(self) -> list[Reader]:
        return self._records.readers()

    @property
    def ready(self) -> bool:
        """Whether the next record is here already, so that reading it waits for nothing."""
        return bool(self._queue)

    def due_s(self) -> float | None:
        due = self._records.due_s()
        return min(LOOK_S, LOOK_S if due is None else due) if self._live else due

    def read(self, timeout: float | None = None) -> Record | None:
        """As Records.read. The flows that live are given before the error that reading raises."""
        self._fill(timeout)
        return self._queue.popleft() if self._queue else None

    def read_batch(self, timeout: float | None = None, limit: int = LOT) -> list[Record]:
        """As Records.read_batch."""
        check_limit(limit)
        self._fill(timeout)
        next_of = self._queue.popleft
        return [next_of() for _ in range(min(limit, len(self._queue)))]

    def _fill(self, timeout: float | None) -> None:
        """Read until there is a record to give, or the end."""
        deadline = deadline_of(timeout)
        while not self._queue:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            wait = left
            if self._live:
                wait = LOOK_S if left is None else min(LOOK_S, left)
            try:
                lot = self._records.read_batch(wait)
            except TimeoutError:
                if self._live:
                    self._queue += self._flows.due(time.time_ns())
                if not self._queue and wait == left:
                    raise
                continue
            except Exception:
                self._queue += self._flows.end()
                if not self._queue:
                    raise
                continue
            if lot:
                self._queue += self._flows.feed(lot)
                continue
            if self._last or any(reader.backend.closed for reader in self.readers()):
                self._queue += self._flows.end()
            return
