"""The feeds of a stack with joins, see `joins`: what they give is joined.

A packet waits for the records that it is joined with, a tenth of a second at most. So lots are
given later: each when all its records are, and the position is that of the last lot that was given.
What must be known of the time before that position (the ruleset, the flows that live) is read again
from the journal when a process begins: the segment of the position, and WARM_SIZE before it. After
a failure of the output nothing is read again: the stack keeps what is not confirmed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence

from pylog.flows import LIMIT, Flows
from pylog.flows.join import FlowJoin
from pylog.join import SELECTIONS, Join
from pylog.joined import HELD_S, Joins
from pylog.pipeline.config import Source
from pylog.pipeline.feeds import Feed, Feeds, JournalFeed, Lot
from pylog.pipeline.joins import Settings, source_name
from pylog.pipeline.positions import Position
from pylog.record import Record

LOOK_S = 1.0
"""How often to check, while no records come, which flows are due to be reported."""


class JoinedFeeds(Feeds):
    """The feeds of a stack, whose records are joined."""

    def __init__(
        self, live: Feed | None, files: Mapping[str, Feed], journal: str, settings: Settings,
        sources: Sequence[Source],
    ) -> None:  # fmt: skip
        super().__init__(live, files, journal)
        self.goes_back = False
        self._joins: list[Joins] = []
        if settings.rules:
            at_once = {source_name(source.address) for source in sources} == {"nftables"}
            selected = any(name in source.options for source in sources for name in SELECTIONS)
            self._joins.append(Join(at_once, selected))
        if settings.with_flows:
            self._joins.append(FlowJoin())
        self._flows: Flows | None = None
        if settings.flows:
            self._flows = Flows(settings.flow_limit or LIMIT, settings.active_timeout)
        self._taken = self._given = 0
        """How many records went into the joins, and came out of them."""
        self._lots: deque[tuple[int, Position]] = deque()
        """How many records were taken with each lot that is not given, and the position after."""
        self._ready: list[Record] = []
        """Records that came out of the joins, of a lot that is not complete."""
        self._position = super().position()
        self._fed_at = self._looked_at = time.monotonic()
        self._finished = False
        for feed in self.all:
            feed.warm = self._warm

    def seek(self, position: Position) -> None:
        super().seek(position)
        records = self._all_of_joins()  # which were given before that position
        if self._flows is not None:
            self._flows.feed(records)
        self._position = super().position()

    def _warm(self, records: Sequence[Record]) -> None:
        """Take records from before the position."""
        for join in self._joins:
            records = join.feed(records)
        if self._flows is not None:
            self._flows.feed(records)

    def position(self) -> Position:
        return self._position

    @property
    def ended(self) -> bool:
        return self._finished

    def read(self) -> Lot | None:
        lot = super().read()
        if lot is None:
            records = self._idle()
            return Lot(records) if records else None
        self._taken += len(lot.records)
        self._lots.append((self._taken, super().position()))
        records = lot.records
        for join in self._joins:
            records = join.feed(records)
        if lot.records:
            self._fed_at = time.monotonic()
        return lot._replace(records=self._complete(records))

    def _complete(self, records: list[Record]) -> list[Record]:
        """The records of complete lots, after more came out of the joins."""
        self._given += len(records)
        self._ready += records
        until = None
        while self._lots and self._lots[0][0] <= self._given:
            until, self._position = self._lots.popleft()
        if until is None:
            return []
        over = self._given - until
        complete = self._ready[: len(self._ready) - over]
        self._ready = self._ready[len(complete) :]
        return complete if self._flows is None else self._flows.feed(complete)

    def _idle(self) -> list[Record]:
        """What is to be given although no records come."""
        now, at_end = time.monotonic(), super().ended
        if self._is_waiting and (at_end or now - self._fed_at >= HELD_S):
            return self._complete(self._all_of_joins())
        flows, records = self._flows, list[Record]()
        if at_end and not self._finished:
            self._finished = True
            goes_on = isinstance(self.live, JournalFeed)  # then the next process has the flows
            if flows is not None and self._taken and not goes_on:
                records = flows.end()
        elif flows is not None and self.live is not None and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            records = flows.due(time.time_ns())
        return records

    @property
    def _is_waiting(self) -> bool:
        return any(join.waiting for join in self._joins)

    def _all_of_joins(self) -> list[Record]:
        """All records that wait in the joins."""
        records: list[Record] = []
        for join in self._joins:
            records = [*join.feed(records), *join.end()]
        return records

    def wait(self, descriptors: Sequence[int], timeout_s: float) -> None:
        if self._is_waiting:
            timeout_s = min(timeout_s, HELD_S)
        elif self._flows is not None:
            timeout_s = min(timeout_s, LOOK_S)
        super().wait(descriptors, timeout_s)
