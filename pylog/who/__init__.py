"""Who had an address at a time? The answers, from records of flows.

`Who` takes the records of any number of logs in one pass, for any number of questions. An answer
names a flow and what stood behind the address, and says how much is known: certain, open (the flow
had not ended when the log did), or unknown, with the reason. Without such a flow the answer is
nobody only if a log covers the time and no loss can hide a flow; otherwise it is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from pylog.record import FlowRecord, Record, rfc3339
from pylog.who.coverage import FOREVER, Coverage, Coverages
from pylog.who.holders import Holders, Holding, Side, time_of
from pylog.who.questions import Question

COPIED = (
    "flow_type", "protocol", "family", "saddr", "daddr", "sport", "dport", "icmp_type",
    "nat_saddr", "nat_daddr", "nat_sport", "nat_dport", "id", "zone", "netns", "rule", "source",
    "origin", "host",
)  # fmt: skip
"""Fields of an answer that are those of the flow's record."""


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="answer"):
    """An answer to a question; there may be several.

    question, at   the address and the time as they were asked; `number` of several questions
    state     certain; open: the flow had not ended when the log did; unknown; nobody
    match     source or destination: the address is what others saw of this end of a flow, and was
              translated; inside: others saw another address of this end; itself: it was not
              translated
    address, port              who had it, and with which port (or ICMP id)
    seen_as, seen_as_port      what others saw of this end
    peer, peer_port            the other end, as seen from there
    start     when the flow began, or `start_before`: a time before which it did; RFC 3339
    stop      when it ended, or `stop_after`: a time until which it had not
    held_us   microseconds from start to stop
    clock     kernel, or observed: a time is when pylog received the event
    reason    why the answer is unknown, or what a nobody does not cover
    incomplete   why other flows of that time may be missing
    log       the name of the log that has the flow
    """

    number: int | None = None
    question: str
    at: str
    state: str
    match: str | None = None
    address: str | None = None
    port: int | None = None
    seen_as: str | None = None
    seen_as_port: int | None = None
    peer: str | None = None
    peer_port: int | None = None
    flow_type: str | int | None = None
    protocol: int | None = None
    family: str | int | None = None
    saddr: str | None = None
    daddr: str | None = None
    sport: int | None = None
    dport: int | None = None
    icmp_type: int | None = None
    nat_saddr: str | None = None
    nat_daddr: str | None = None
    nat_sport: int | None = None
    nat_dport: int | None = None
    start: str | None = None
    start_before: str | None = None
    stop: str | None = None
    stop_after: str | None = None
    held_us: int | None = None
    clock: str | None = None
    id: int | None = None
    zone: int | None = None
    netns: str | int | None = None
    rule: int | None = None
    source: str | None = None
    origin: str | None = None
    host: str | None = None
    log: str | None = None
    reason: str | None = None
    incomplete: str | None = None


class Who:
    """Answers questions from records: `feed` all logs, one after the other, then `answers`.

    coverages   what the logs cover, in the order of `begin`
    """

    def __init__(
        self, questions: Sequence[Question], wanted: Callable[[FlowRecord], bool] | None = None
    ) -> None:
        """`wanted`: which flows answer, by the fields that are COPIED; None: all."""
        self._questions, self._wanted = questions, wanted
        self.holders = Holders(questions)
        self.coverages: list[Coverage] = []

    def begin(self, name: str, losses_unknown: str | None = None) -> Coverage:
        """Begin a log; give its records to `feed`.

        losses_unknown   why the log does not say what was lost; None: it does
        """
        coverage = Coverage(name, losses_unknown)
        self.coverages.append(coverage)
        return coverage

    def feed(self, records: Iterable[Record], log: Coverage) -> None:
        """Take the next records of a log that was begun."""
        add = self.holders.add
        for record in records:
            time_ns = time_of(record)
            log.add(record, time_ns)
            if isinstance(record, FlowRecord):
                add(record, time_ns, log)

    def look(self, records: Iterable[FlowRecord], log: Coverage) -> None:
        """Take flows that were chosen from a table, whose coverage is set by its columns."""
        for record in records:
            self.holders.add(record, time_of(record), log)

    def answers(self) -> Iterator[Answer]:
        """The answers, by question in their order, then by the beginning of the flow.

        All logs must have been given.
        """
        for log in self.coverages:
            log.end()
        by_question: dict[int, list[tuple[Holding, Side, bool]]] = {}
        for holding in self.holders.end():
            if self._wanted is not None and not self._wanted(holding.record):
                continue
            for question, side, outside in self.holders.matching(holding):
                by_question.setdefault(id(question), []).append((holding, side, outside))
        logs = Coverages(self.coverages)
        for question in self._questions:
            yield from _of(question, by_question.get(id(question), []), logs)


def _of(
    question: Question, held: list[tuple[Holding, Side, bool]], logs: Coverages
) -> Iterator[Answer]:
    answers = [
        answer
        for holding, side, outside in sorted(held, key=lambda each: each[0].low)
        if (answer := _answer(question, holding, side, outside)) is not None
    ]
    covering = logs.at(question.start_ns, question.stop_ns)
    hidden = _hiding(question, covering, logs)
    if any(answer.state != "unknown" for answer in answers):
        for answer in answers:
            answer.incomplete = hidden
            yield answer
        return
    yield from answers
    base: dict[str, Any] = {
        "number": question.number,
        "question": question.text,
        "at": question.at,
    }
    if hidden is not None:
        yield Answer(**base, state="unknown", reason=hidden)
    elif not answers:
        yield Answer(**base, state="nobody", reason=_caveat(covering))


def _hiding(question: Question, covering: list[Coverage], logs: Coverages) -> str | None:
    """Why flows of that time may be missing; None: they are not."""
    start_ns, stop_ns = question.start_ns, question.stop_ns
    if not covering:
        return logs.missing(start_ns, stop_ns)
    reasons = (log.hiding(start_ns, stop_ns) for log in covering)
    return next((reason for reason in reasons if reason is not None), None)


def _caveat(covering: list[Coverage]) -> str | None:
    """What an answer that nobody had it does not cover."""
    for log in covering:
        if log.stored:
            return f"{log.name} has no flow that ended after it, unless it reports open ones"
        if not log.listed and log.first_ns is not None:
            return (
                f"{log.name} does not show a flow that began before {rfc3339(log.first_ns)} and"
                " neither changed nor ended in it"
            )
    return None


def _answer(question: Question, holding: Holding, side: Side, outside: bool) -> Answer | None:
    """The answer that a flow is, or may be; None: it was not there at that time."""
    low, high, before, after = holding.certainly()
    reason = None
    if low <= question.stop_ns and question.start_ns <= high and low <= high:
        ended = holding.stop_ns is not None or holding.lost_ns is not None
        state = "certain" if ended else "open"
    elif holding.low <= question.stop_ns and question.start_ns <= holding.high:
        state = "unknown"
        reason = after if question.start_ns > high and after is not None else before or after
    else:
        return None
    record = holding.record
    match = (side.name if outside else "inside") if side.is_translated else "itself"
    address, port = side.inside
    fields: dict[str, Any] = {name: getattr(record, name) for name in COPIED}
    answer = Answer(
        number=question.number, question=question.text, at=question.at, state=state, match=match,
        address=address, port=port, seen_as=side.outside[0], seen_as_port=side.outside[1],
        peer=side.peer[0], peer_port=side.peer[1], log=holding.last_log.name,
        reason=reason, **fields,
    )  # fmt: skip
    if holding.start_ns is not None:
        answer.start = rfc3339(holding.start_ns)
    elif low != FOREVER:
        answer.start_before = rfc3339(low)
    if holding.stop_ns is not None:
        answer.stop = rfc3339(holding.stop_ns)
        if holding.start_ns is not None:
            answer.held_us = max(0, holding.stop_ns - holding.start_ns) // 1000
    elif high != FOREVER:
        answer.stop_after = rfc3339(high)
    if answer.start or answer.start_before or answer.stop or answer.stop_after:
        answer.clock = "observed" if holding.is_observed else "kernel"
    return answer
