"""Flows: one record for each flow, made of the events that conntrack and IPFilter write about it.

A table holds the flows that live. What only their first events have (the start, helper, labels,
parent, first state, kind of translation) is remembered, and the event that ends a flow completes
the record. Records of other kinds pass in their place. Memory is bounded by the number of flows:
when the table is full, the oldest is reported early and forgotten.

A flow that goes on is reported as `active`: after the active timeout, when the table is full, and
when reading ends. Counters of a flow that was reported before count from that report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

from pylog.flows.living import ENDS, Living, Reported
from pylog.flows.times import SECOND, Announced, time_of
from pylog.notes import notes
from pylog.record import FlowRecord, Record

LIMIT = 262_144
"""So many living flows are held by default: nf_conntrack_max of a machine with 4 GB or more."""

_BEGIN = frozenset(("new", "clone"))
_CONTINUE = frozenset(("update", "dump", "statechange", "intermediate"))
_END = frozenset(ENDS)
_PASSED = ("expect", None)
"""Flow types of records that pass: expected flows, and messages without the tuples of a flow."""
_UNIQUE = (6, 17)
"""Protocols of which IPFilter has one entry for a key. Of others its log lacks what tells entries
apart, as the id of ICMP.
"""
_SAME_NS = 10_000_000
"""START is the time of NEW less up to 0.1 ms; a flow that began so much later is another one."""
_ENDED = 65_536
"""So many flows that have ended are remembered, because DESTROY events may be repeated."""
_STEP_NS = 60 * SECOND
"""A record that is so much older than the newest one shows that the clock was set back."""

Key = tuple[Any, ...]
Times = tuple[int | None, int | None]
T = TypeVar("T")


class Flows:
    """Makes one record a flow: feed it records, then `end`.

    limit              how many living flows are held, 1 or more
    active_timeout_s   report flows that live longer each time so many seconds have passed, by the
                       clock of the records; None: never
    by_origin          flows of different origins are different, as when several logs are merged;
                       False: the logs are parts of one, as rotated files

    evicted            how many flows were reported early, because the table was full
    """

    def __init__(
        self,
        limit: int = LIMIT,
        active_timeout_s: float | None = None,
        by_origin: bool = True,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit is {limit}, but must be 1 or more")
        if active_timeout_s is not None and not active_timeout_s > 0:
            raise ValueError(f"active_timeout_s is {active_timeout_s}, but must be more than 0")
        self.evicted = 0
        self._limit, self._by_origin = limit, by_origin
        self._active_ns = None if active_timeout_s is None else int(active_timeout_s * SECOND)
        self._living: dict[Key, Living] = {}
        """In the order of `since_ns`, while the clock goes forward."""
        self._later: dict[Key, deque[Living]] = {}
        """Further flows of a key, where keys are not unique; the oldest ends first."""
        self._alive = 0
        self._ended: dict[int, Times] = {}
        """The start of flows of conntrack that have ended, and the kernel's time of the end, by the
        hash of the key. A DESTROY event may be repeated (NETLINK_BROADCAST_ERROR)."""
        self._forgotten: dict[int, Reported] = {}
        """What was reported of flows that were evicted, by the hash of the key."""
        self._clock_ns: int | None = None
        self._times: Times = None, None
        """The timestamp and the time of receipt at `_clock_ns`."""
        self._out: list[Record] = []

    @property
    def alive(self) -> int:
        """How many flows are held."""
        return self._alive

    def feed(self, records: Iterable[Record]) -> list[Record]:
        """Take records; gives the flows that have ended, reports that are due, and all records of
        other kinds, in order.
        """
        out = self._out = []
        for record in records:
            if type(record) is not FlowRecord or record.flow_type in _PASSED:
                out.append(record)
                continue
            self._move_clock(time_of(record), (record.timestamp_ns, record.observed_ns))
            event = record.event
            if event in _BEGIN:
                self._begin(record)
            elif event in _CONTINUE:
                self._continue(record)
            elif event in _END:
                self._end(record)
            else:
                out.append(record)
        return out

    def due(self, now_ns: int) -> list[Record]:
        """The reports that are due at a time, while no record of a live source comes."""
        self._out = []
        self._move_clock(now_ns, (None, now_ns))
        return self._out

    def end(self) -> list[Record]:
        """Give the flows that still live, as `open`: reading has ended."""
        self._out = []
        for key, first in self._living.items():
            for living in (first, *self._later.get(key, ())):
                self._out.append(living.report("open", *self._times))
        self._living.clear()
        self._later.clear()
        self._alive = 0
        return self._out

    def _key(self, r: FlowRecord) -> Key:
        """What tells flows apart. Conntrack's id is not unique in time, but it is at a time."""
        origin = r.origin if self._by_origin else None
        if r.source == "ipl":
            return (r.source, r.host, origin, r.flow_type == "state", r.family, r.protocol, r.saddr,
                    r.daddr, r.sport, r.dport, r.icmp_type, r.nat_saddr, r.nat_daddr, r.nat_sport,
                    r.nat_dport)  # fmt: skip
        return (r.id, r.saddr, r.daddr, r.sport, r.dport, r.protocol, r.icmp_type, r.icmp_code,
                r.zone, r.netns, r.source, r.host, origin)  # fmt: skip

    # Events

    def _begin(self, record: FlowRecord) -> None:
        key = self._key(record)
        living = self._living.get(key)
        time_ns = record.timestamp_ns
        unique = record.id is not None or record.protocol in _UNIQUE
        if living is None:
            if self._ended_after(key, time_ns):
                return  # events of two processors may change places
        elif unique:
            if not living.new and not _began_later(time_ns, living.start_ns):
                living.begin(record)  # a listing, or a later event, was faster
                return
            if time_ns is not None and time_ns == living.begun_ns:
                return  # a repeat
            self._take_out(key)
            self._out.append(living.replaced(record))
            living = None
        new = Living(record, self._clock_ns, Announced())
        new.begin(record)
        if living is None:
            self._insert(key, new)
            return
        self._later.setdefault(key, deque()).append(new)
        self._alive += 1
        self._evict()

    def _continue(self, record: FlowRecord) -> None:
        key = self._key(record)
        living = self._living.get(key)
        if living is None:
            if self._has_ended(key, record):
                return
            living = self._begun_before(key, record)
            self._insert(key, living)
        living.go_on(record)

    def _end(self, record: FlowRecord) -> None:
        key = self._key(record)
        living = self._living.get(key)
        if self._has_ended(key, record, exactly=living is not None):
            return  # a repeat
        if living is not None:
            self._take_out(key)
            if _began_later(record.start_ns, living.start_ns):
                self._out.append(living.replaced(record))
                living = None  # the first event of this one was lost, too
        if living is None:
            living = self._begun_before(key, record)
        living.take(record)
        self._out.append(living.ended(record))
        if record.id is not None:
            _put(self._ended, hash(key), (record.start_ns, record.timestamp_ns), _ENDED)

    def _begun_before(self, key: Key, record: FlowRecord) -> Living:
        """A flow that began before reading did, or was evicted."""
        living = Living(record, self._clock_ns, Announced(), flow_type=record.flow_type)
        living.reported = self._forgotten.pop(hash(key), None)
        return living

    def _has_ended(self, key: Key, record: FlowRecord, exactly: bool = False) -> bool:
        """Whether the flow of a record has ended already.

        exactly   only if the record says when it began
        """
        if record.id is None or (ended := self._ended.get(hash(key))) is None:
            return False
        if record.start_ns is None or ended[0] is None:
            return not exactly
        return record.start_ns == ended[0]

    def _ended_after(self, key: Key, time_ns: int | None) -> bool:
        """Whether a flow of the key has ended after a time of the kernel."""
        ended_ns = self._ended.get(hash(key), (None, None))[1]
        return ended_ns is not None and time_ns is not None and ended_ns >= time_ns

    # The table

    def _insert(self, key: Key, living: Living) -> None:
        self._living[key] = living
        self._alive += 1
        self._evict()

    def _take_out(self, key: Key) -> Living:
        living = self._living.pop(key)
        self._alive -= 1
        later = self._later.get(key)
        if later is not None:
            self._living[key] = later.popleft()
            if not later:
                del self._later[key]
        return living

    def _evict(self) -> None:
        """Report the oldest flow, if there are too many."""
        if self._alive <= self._limit:
            return
        if not self.evicted:
            notes.warning(
                "more than %d flows live: the oldest are reported early, as evicted", self._limit
            )
        self.evicted += 1
        key = next(iter(self._living))
        living = self._take_out(key)
        self._out.append(living.report("evicted", *self._times))
        if living.reported is not None:
            _put(self._forgotten, hash(key), living.reported, self._limit)

    def _move_clock(self, now_ns: int | None, times: Times) -> None:
        """Take the time of a record; report the flows that are due."""
        if now_ns is None or (
            self._clock_ns is not None and 0 <= self._clock_ns - now_ns < _STEP_NS
        ):
            return
        self._clock_ns, self._times = now_ns, times
        if self._active_ns is None:
            return
        while self._living:
            key = next(iter(self._living))
            living = self._living[key]
            is_due = living.since_ns is not None and now_ns - living.since_ns >= self._active_ns
            is_ahead = living.since_ns is None or living.since_ns - now_ns >= _STEP_NS
            if not is_due and not is_ahead:
                return
            if is_due:
                self._out.append(living.report("active", *times))
            living.since_ns = now_ns
            del self._living[key]
            self._living[key] = living
            if is_ahead:  # one for each record: a clock that jumps to and fro costs no more
                return


def _began_later(start_ns: int | None, than_ns: int | None) -> bool:
    return start_ns is not None and than_ns is not None and start_ns - than_ns > _SAME_NS


def _put(table: dict[int, T], key: int, value: T, limit: int) -> None:
    """Add to a table, of which the oldest are dropped."""
    table.pop(key, None)
    table[key] = value
    if len(table) > limit:
        del table[next(iter(table))]
