"""From records of flows to holdings: who had which address, from when to when.

A flow has two ends. Each has an address and port inside and outside: what stands before and what
after the translation; without one, both are the same. Events of the same flow are joined by its
tuple, its translated tuple and the kernel's number: new opens a holding, destroy or expire closes
it. What is asked for decides what is held: flows of other addresses are dropped at once, and those
that ended outside the times in question when they end. So memory is bounded by the flows that are
alive at the same time and by the answers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pylog.record import FlowRecord, Record
from pylog.who.coverage import FOREVER, Coverage, Seen
from pylog.who.intervals import Intervals
from pylog.who.questions import Question

BEGINS = frozenset(("new", "clone"))
ENDS = frozenset(
    ("destroy", "expire", "flush", "purge", "remove", "killed", "orphan", "unload", "removed")
)
STORED = frozenset(("end", "active"))
UNTIMED = frozenset(("lost", "unseen"))
"""Reasons of an end of which only the time by which it was is known."""
MAXIMUM_HELD = 1_000_000
"""So many holdings at most are kept; about 1 KB each."""
MAXIMUM_ENDED = 65536
"""Of so many flows that ended at most it is remembered, to know events that the kernel repeats."""

SAME_NS = 5_000_000_000
"""How far two times of the beginning of the same flow may be apart."""

Port = int | None


class Side(NamedTuple):
    """An end of a flow.

    name      source or destination
    outside   address and port that others see, `inside` those of who has it
    peer      those of the other end, as they are where the outside is seen, `peer_inside` those
              where the inside is seen
    """

    name: str
    outside: tuple[str | None, Port]
    inside: tuple[str | None, Port]
    peer: tuple[str | None, Port]
    peer_inside: tuple[str | None, Port]

    @property
    def is_translated(self) -> bool:
        return self.outside != self.inside


def sides_of(record: FlowRecord) -> tuple[Side, Side]:
    """Both ends of a flow.

    A source is translated on its way out: others see nat_saddr. A destination is translated on its
    way in: others see daddr. IPFilter before 5.0 has the inside address in saddr and the outside
    one in nat_saddr whichever way the flow goes, and no nat_daddr.
    """
    source: tuple[str | None, Port] = (record.saddr, record.sport)
    destination: tuple[str | None, Port] = (record.daddr, record.dport)
    new_source = source if record.nat_saddr is None else (record.nat_saddr, record.nat_sport)
    new_destination = (
        destination if record.nat_daddr is None else (record.nat_daddr, record.nat_dport)
    )
    turned = record.nat_daddr is None and record.flow_type == "rdr"
    names = ("destination", "source") if turned else ("source", "destination")
    return (
        Side(names[0], new_source, source, new_destination, destination),
        Side(names[1], destination, new_destination, source, new_source),
    )


def time_of(record: Record) -> int | None:
    """When a record is from: the kernel's time, or else when it was received."""
    for name in ("timestamp_ns", "observed_ns"):
        time_ns: int | None = getattr(record, name)
        if time_ns is not None:
            return time_ns
    if type(record) is FlowRecord:
        return record.stop_ns
    return None


class Holding:
    """A flow, and from when to when it was there.

    record        with which it is described
    start_ns      when it began, `stop_ns` when it ended; None: not known
    first, last   when it was seen first and last, and in which logs
    lost_ns       it had ended by then, but when is not known
    is_observed   whether a time is pylog's, as the kernel gave none
    is_listed     whether only listings have shown it
    """

    __slots__ = ("first", "first_log", "is_listed", "is_observed", "last", "last_log", "lost_ns",
                 "record", "start_ns", "stop_ns")  # fmt: skip

    def __init__(self, record: FlowRecord, log: Coverage) -> None:
        self.record = record
        self.start_ns: int | None = None
        self.stop_ns: int | None = None
        self.first: Seen | None = None
        self.last: Seen | None = None
        self.first_log = self.last_log = log
        self.lost_ns: int | None = None
        self.is_observed = False
        self.is_listed = True

    def see(self, record: FlowRecord, seen: Seen | None, log: Coverage) -> None:
        """The flow is there in a record."""
        if seen is not None:
            if self.first is None:
                self.first, self.first_log = seen, log
            self.last, self.last_log = seen, log
        self.is_listed = self.is_listed and record.event == "dump"
        if record.start_ns is not None:
            self.start_ns = record.start_ns
        if record.timestamp_ns is None and seen is not None:
            self.is_observed = True

    @property
    def low(self) -> int:
        """The earliest time at which it may have been there."""
        return -FOREVER if self.start_ns is None else self.start_ns

    @property
    def high(self) -> int:
        """The latest time at which it may have been there."""
        if self.stop_ns is not None:
            return self.stop_ns
        return FOREVER if self.lost_ns is None else self.lost_ns

    def certainly(self) -> tuple[int, int, str | None, str | None]:
        """From when to when it was there for certain, and why it may have been before and after."""
        if self.start_ns is not None:
            low, before = self.start_ns, None
        elif self.first is None:
            low, before = FOREVER, "its beginning is not in the log"
        else:
            low, before = self.first_log.alive_since(self.first)
        if self.stop_ns is not None:
            high, after = self.stop_ns, None
        elif self.last is None:
            high = -FOREVER if self.start_ns is None else self.start_ns
            after = "its records have no times" if self.lost_ns is None else "its end was lost"
        else:
            high, after = self.last_log.alive_until(self.last)
            if self.lost_ns is not None and high >= self.lost_ns:
                high, after = self.last.time_ns, "its end was lost"
        return low, high, before, after


class Holders:
    """The holdings that some questions ask for.

    held   those that have ended, in the order of their ends
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self.held: list[Holding] = []
        self._open: dict[tuple[Any, ...], Holding] = {}
        self._ended: OrderedDict[tuple[Any, ...], None] = OrderedDict()
        self.addresses = frozenset(question.of.address for question in questions)
        exact: dict[tuple[str, int], list[Question]] = {}
        wide: dict[str, list[Question]] = {}
        for question in questions:
            address, low, high = question.of
            if low is not None and low == high:
                exact.setdefault((address, low), []).append(question)
            else:
                wide.setdefault(address, []).append(question)
        self._exact = {end: _by_time(asked) for end, asked in exact.items()}
        self._wide = {address: _by_time(asked) for address, asked in wide.items()}

    def add(self, record: FlowRecord, time_ns: int | None, log: Coverage) -> None:
        """Take a record of a log, at its place."""
        asked = self.addresses
        if not (
            record.saddr in asked
            or record.daddr in asked
            or record.nat_saddr in asked
            or record.nat_daddr in asked
        ):
            return
        if record.flow_type == "expect" or not self._is_asked(record):
            return
        event = record.event
        key: tuple[Any, ...] = (
            record.source, record.host, record.netns, record.zone, record.id, record.protocol,
            record.saddr, record.sport, record.daddr, record.dport, record.nat_saddr,
            record.nat_sport, record.nat_daddr, record.nat_dport,
        )  # fmt: skip
        seen = None if time_ns is None else Seen(time_ns, log.place or None)
        if event in STORED:
            self._stored(("stored", *key), record, seen, log)
        elif event in BEGINS:
            self._begin(key, record, seen, log)
        elif event in ENDS:
            self._end(key, record, seen, log)
        else:
            self._holding(key, record, log).see(record, seen, log)

    def end(self) -> list[Holding]:
        """All holdings, when all logs have ended."""
        for holding in self._open.values():
            self._keep(holding)
        self._open.clear()
        return self.held

    def matching(self, holding: Holding) -> Iterator[tuple[Question, Side, bool]]:
        """The questions that may ask for a holding, the end of the flow that they ask for, and
        whether they ask for its outside.
        """
        for side in sides_of(holding.record):
            ends = [side.outside] if side.outside == side.inside else [side.outside, side.inside]
            for address, port in ends:
                outside = (address, port) == side.outside
                for asked in self._of_end(address, port):
                    for question in asked.meeting(holding.low, holding.high):
                        if question.of.has(address, port) and _fits(question, holding.record, side):
                            yield question, side, outside

    def _is_asked(self, record: FlowRecord) -> bool:
        """Whether there are questions about any end of a flow."""
        return any(
            self._of_end(*side.outside) or self._of_end(*side.inside) for side in sides_of(record)
        )

    def _of_end(self, address: str | None, port: Port) -> list[Intervals[Question]]:
        """The questions about an address, and those about it with a port."""
        if address is None:
            return []
        asked = [self._wide.get(address)]
        if port is not None:
            asked.append(self._exact.get((address, port)))
        return [questions for questions in asked if questions is not None]

    # Events

    def _holding(self, key: tuple[Any, ...], record: FlowRecord, log: Coverage) -> Holding:
        """The open holding of a key, or a new one."""
        holding = self._open.get(key)
        if holding is None:
            holding = self._open[key] = Holding(record, log)
            self._check_room()
        return holding

    def _begin(
        self, key: tuple[Any, ...], record: FlowRecord, seen: Seen | None, log: Coverage
    ) -> None:
        former = self._open.get(key)
        if former is not None:
            if former.is_listed and seen is not None:  # its event came after the listing
                former.start_ns = seen.time_ns
                if former.first is not None:
                    former.start_ns = min(seen.time_ns, former.first.time_ns)
                former.see(record, seen, log)
                return
            del self._open[key]
            former.lost_ns = None if seen is None else seen.time_ns
            self._keep(former)
        self._ended.pop(key, None)
        holding = self._holding(key, record, log)
        if seen is not None:
            holding.start_ns = seen.time_ns
        holding.see(record, seen, log)

    def _end(
        self, key: tuple[Any, ...], record: FlowRecord, seen: Seen | None, log: Coverage
    ) -> None:
        if key not in self._open and key in self._ended:
            return  # the kernel repeats it for a reader that asked so
        holding = self._open.pop(key, None) or Holding(record, log)
        if record.source == "nfct":
            self._ended[key] = None
            if len(self._ended) > MAXIMUM_ENDED:
                self._ended.popitem(last=False)
        if record.end_reason in UNTIMED:
            if record.start_ns is not None:
                holding.start_ns = record.start_ns
            holding.lost_ns = None if seen is None else seen.time_ns
        else:
            holding.see(record, seen, log)
            holding.stop_ns = record.stop_ns if record.stop_ns is not None else time_of(record)
        self._keep(holding)

    def _stored(
        self, key: tuple[Any, ...], record: FlowRecord, seen: Seen | None, log: Coverage
    ) -> None:
        """A record of `--flows`: of a flow that ended, or a report of one that goes on."""
        holding = self._open.pop(key, None)
        if holding is not None and _begin_apart(holding.start_ns, record.start_ns):
            holding.lost_ns = record.start_ns
            self._keep(holding)
            holding = None
        if holding is None:
            holding = Holding(record, log)
        if record.event == "active":
            self._open[key] = holding
            self._check_room()
            holding.see(record, _alive_in(record, seen, log), log)
            return
        if record.end_reason in UNTIMED:
            if record.last_ns is not None:
                holding.see(record, Seen(record.last_ns, log.place or None), log)
            if record.start_ns is not None:
                holding.start_ns = record.start_ns
            holding.lost_ns = record.stop_ns if record.stop_ns is not None else time_of(record)
        else:
            holding.see(record, seen, log)
            holding.stop_ns = record.stop_ns if record.stop_ns is not None else time_of(record)
        holding.record = record
        self._keep(holding)

    def _keep(self, holding: Holding) -> None:
        """Keep a holding if a question asks for its time."""
        if next(self.matching(holding), None) is not None:
            self.held.append(holding)
            self._check_room()

    def _check_room(self) -> None:
        if len(self.held) + len(self._open) > MAXIMUM_HELD:
            raise ValueError(
                f"more than {MAXIMUM_HELD} flows answer: ask for a port, a peer or a shorter time"
            )


def _by_time(questions: Sequence[Question]) -> Intervals[Question]:
    return Intervals((question.start_ns, question.stop_ns, question) for question in questions)


def _alive_in(record: FlowRecord, seen: Seen | None, log: Coverage) -> Seen | None:
    """When a report of a flow that goes on shows that it was there.

    That is its beginning: a report says only that no end was seen, which may have been lost.
    """
    if record.start_ns is not None:
        return Seen(record.start_ns)
    return None if log.gaps or log.unknown else seen


def _begin_apart(one: int | None, other: int | None) -> bool:
    """Whether two times are of the beginnings of different flows. One of them may be the kernel's,
    and the other that of an event.
    """
    return one is not None and other is not None and abs(one - other) > SAME_NS


def _fits(question: Question, record: FlowRecord, side: Side) -> bool:
    """Whether a flow has the protocol and the peer that a question asks for. A flow of which the
    log does not say the protocol may have it.
    """
    if question.protocol is not None and record.protocol not in (None, question.protocol):
        return False
    peer = question.peer
    return peer is None or peer.has(*side.peer) or peer.has(*side.peer_inside)
