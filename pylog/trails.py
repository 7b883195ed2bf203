"""Trails: what each packet went through, put together from the kernel's trace messages.

The kernel reports single steps of packets: a rule that matched, the end of a chain, a policy. The
steps of several packets interleave, and the number that the kernel gives a packet comes again. A
trail holds the steps of one packet in order, with its headers, the verdict and what decided it. It
ends with a drop, when its number starts again, or when nothing follows for a while: the kernel
does not say that a packet has left.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pylog.formats.nft_marks import Texts
from pylog.formats.nft_model import Model
from pylog.record import LossRecord, Record, RulesetRecord, TraceRecord, rfc3339

MAXIMUM_OPEN = 4096
"""So many trails are held at most; then the oldest is given."""
MAXIMUM_STEPS = 4096
"""More steps of one packet begin another trail."""
MAXIMUM_ENDED = 65536
"""So many trails at most wait for one that began before them."""
QUIET_STEPS = 512
"""A packet has left when so many steps of other packets followed its last one."""
QUIET_NS = 1_000_000_000
"""A packet has left when its last step is so old."""

_RANKS = {"ingress": 0, "prerouting": 1, "input": 2, "forward": 2, "output": 1, "postrouting": 3,
          "egress": 4}  # fmt: skip
_FINAL = ("drop", "stolen")
_PACKET = (
    "nfproto", "indev", "outdev", "protocol", "saddr", "daddr", "sport", "dport", "tcp_flags",
    "icmp_type", "icmp_code", "length",
)  # fmt: skip
_CONNECTION = ("mark", "ct_id", "ct_direction", "ct_state", "ct_status")


class Step(msgspec.Struct, omit_defaults=True, gc=False):
    """A step of a packet: a rule that matched, the end of a chain, or a policy.

    depth     how many jumps and gotos lead to the chain
    hook      of a base chain, in its first step, where the ruleset is available
    """

    type: str | int | None
    family: str | int | None
    table: str | None
    chain: str | None
    depth: int = 0
    hook: str | int | None = None
    handle: int | None = None
    verdict: str | int | None = None
    target: str | None = None
    policy: str | int | None = None
    text: str | None = None


class Trail(msgspec.Struct, omit_defaults=True, tag_field="kind", tag="trail"):
    """What one packet went through. The packet's fields are those of its first headers.

    verdict        accept, drop..., None if the last step of a base chain is missing
    by             the step that decided: its rule or policy
    incomplete     steps are missing, by a loss or because the recording begins or ends in between
    """

    id: str | None = None
    observed_ns: int | None = None
    nfproto: int | None = None
    indev: str | int | None = None
    outdev: str | int | None = None
    protocol: int | None = None
    saddr: str | None = None
    daddr: str | None = None
    sport: int | None = None
    dport: int | None = None
    tcp_flags: str | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    length: int | None = None
    mark: int | None = None
    ct_id: int | None = None
    ct_direction: str | int | None = None
    ct_state: str | int | None = None
    ct_status: int | None = None
    verdict: str | int | None = None
    by: Step | None = None
    incomplete: bool = False
    steps: list[Step] = msgspec.field(default_factory=list)


class _Open:
    """A trail that may go on, and where its packet is."""

    def __init__(self, record: TraceRecord) -> None:
        self.trail = Trail(id=record.id, observed_ns=record.observed_ns)
        self.bases: set[tuple[Any, ...]] = set()
        self.ranks: dict[str, int] = {}
        self.out = False
        """Whether the packet has an outgoing interface already."""
        self.stack: list[str | None] = []
        self.at_end = False
        """Whether the last base chain has given its verdict."""
        self.last_ns = record.observed_ns
        self.last_step = 0
        self.ended = False


class Trails:
    """Makes trails of the records of a source; those of the ruleset give the text of rules.

    in_order   give trails in the order of their first steps, as of a recording, not of their ends
    """

    def __init__(self, model: Model | None = None, in_order: bool = False) -> None:
        self.model = Model(anonymous_only=True) if model is None else model
        self._texts = Texts(self.model)
        self._in_order = in_order
        self._open: OrderedDict[str | None, _Open] = OrderedDict()
        self._begun: deque[_Open] = deque()
        self._count = 0

    @property
    def waiting(self) -> bool:
        """Whether there are trails that may go on."""
        return bool(self._open)

    def feed(self, records: Iterable[Record]) -> Iterator[Trail]:
        """Take records; gives the trails that have ended."""
        for record in records:
            if isinstance(record, TraceRecord):
                yield from self._step(record)
            elif isinstance(record, RulesetRecord):
                self.model.apply(record)
            elif isinstance(record, LossRecord):
                for held in self._open.values():
                    held.trail.incomplete = True

    def end(self) -> list[Trail]:
        """Give all that are held: at the end, or when no record comes for a while."""
        trails = [trail for held in self._open.values() for trail in self._end(held)]
        self._open.clear()
        return trails

    def left(self, now_ns: int) -> list[Trail]:
        """Give the trails of packets that have left, as of a time: while no record comes."""
        return list(self._left(now_ns))

    def _end(self, held: _Open) -> Iterator[Trail]:
        """A trail has ended: give it, or those that began before it and have ended, too."""
        held.ended = True
        if not self._in_order:
            yield _finished(held)
        while self._begun and self._begun[0].ended:
            yield _finished(self._begun.popleft())

    def _step(self, record: TraceRecord) -> Iterator[Trail]:
        self._count += 1
        held = self._open.get(record.id)
        if held is not None and self._begins_again(held, record):
            del self._open[record.id]
            yield from self._end(held)
            held = None
        if held is None:
            held = _Open(record)
            held.trail.incomplete = not _has_headers(record)
            self._open[record.id] = held
            if self._in_order:
                self._begun.append(held)
        else:
            self._open.move_to_end(record.id)
        held.last_ns, held.last_step = record.observed_ns, self._count
        self._add(held, record)
        if _word(record) in _FINAL:
            del self._open[record.id]
            yield from self._end(held)
        yield from self._left(record.observed_ns)

    def _left(self, now_ns: int | None) -> Iterator[Trail]:
        """The trails whose packets have left, the oldest first."""
        if len(self._begun) > MAXIMUM_ENDED:
            first = self._begun[0]
            del self._open[first.trail.id]
            yield from self._end(first)
        while self._open:
            held = next(iter(self._open.values()))
            quiet = self._count - held.last_step > QUIET_STEPS
            if now_ns is not None and held.last_ns is not None:
                quiet = quiet or now_ns - held.last_ns > QUIET_NS
            if not quiet and len(self._open) <= MAXIMUM_OPEN:
                return
            self._open.popitem(last=False)
            yield from self._end(held)

    def _begins_again(self, held: _Open, record: TraceRecord) -> bool:
        """Whether the number stands for another packet now, or the packet passes once more."""
        if len(held.trail.steps) >= MAXIMUM_STEPS:
            return True
        if not _has_headers(record):
            return False
        base = (record.family, record.table, record.chain)
        if base in held.bases:
            return True
        rank = self._rank(record)
        if rank is not None:
            return rank < held.ranks.get(_layer(record), rank)
        # without the ruleset: the packet has left by an interface, and comes in by one
        return held.out and record.outdev is None and _layer(record) == "ip"

    def _rank(self, record: TraceRecord) -> int | None:
        chain = self.model.find_chain(record.family, record.table, record.chain)
        return None if chain is None else _RANKS.get(str(chain.hook))

    def _add(self, held: _Open, record: TraceRecord) -> None:
        trail, stack = held.trail, held.stack
        step = Step(
            record.type, record.family, record.table, record.chain, handle=record.handle,
            verdict=record.verdict, target=record.target, policy=record.policy, text=record.text,
        )  # fmt: skip
        if _has_headers(record):
            self._enter(held, record, step)
        elif record.type == "policy":
            if held.at_end or (held.bases and (*_table(record), record.chain) not in held.bases):
                trail.incomplete = True
            del stack[1:]
        elif not stack or stack[-1] != record.chain:
            trail.incomplete = True
            if record.chain in stack:
                del stack[stack.index(record.chain) + 1 :]
            else:
                stack[1:] = [record.chain]
        step.depth = max(0, len(stack) - 1) if record.type != "policy" else 0
        if record.handle is not None and step.text is None:
            rule = self.model.find_rule(record.family, record.table, record.handle)
            if rule is not None and rule.text is None:  # it names a chain that was renamed
                self._texts.put(rule)
            step.text = None if rule is None else rule.text
        for name in _CONNECTION:
            value = getattr(record, name)
            if value is not None:
                setattr(trail, name, value)
        self._move(held, record)
        trail.steps.append(step)

    def _enter(self, held: _Open, record: TraceRecord, step: Step) -> None:
        """The packet enters a base chain."""
        trail = held.trail
        if trail.steps and not held.at_end:
            trail.incomplete = True
        if not held.bases:
            for name in _PACKET:
                setattr(trail, name, getattr(record, name))
        held.bases.add((*_table(record), record.chain))
        held.out = held.out or record.outdev is not None
        if trail.outdev is None:
            trail.outdev = record.outdev
        rank = self._rank(record)
        if rank is not None:
            held.ranks[_layer(record)] = rank
        chain = self.model.find_chain(record.family, record.table, record.chain)
        step.hook = None if chain is None else chain.hook
        held.stack[:] = [record.chain]
        held.at_end = False

    @staticmethod
    def _move(held: _Open, record: TraceRecord) -> None:
        """Follow jumps, returns and ends of chains."""
        stack = held.stack
        if record.type == "policy":
            held.at_end = True
        elif record.verdict == "jump":
            stack.append(record.target)
        elif record.verdict == "goto":
            if len(stack) > 1:  # the end of the target returns to the caller
                stack[-1] = record.target
            else:
                stack.append(record.target)
        elif record.verdict == "return" or (record.verdict == "continue" and record.handle is None):
            if len(stack) > 1:
                stack.pop()
        elif record.verdict not in ("continue", None):
            held.at_end = True


def _table(record: TraceRecord) -> tuple[Any, Any]:
    return record.family, record.table


def _layer(record: TraceRecord) -> str:
    """Where in the stack the hooks of a family are: their order holds within a layer only."""
    return str(record.family) if record.family in ("netdev", "bridge", "arp") else "ip"


def _has_headers(record: TraceRecord) -> bool:
    return record.payload is not None or (record.extra or {}).get(
        "NFTA_TRACE_LL_HEADER"
    ) is not None  # fmt: skip


def _word(record: TraceRecord | Step) -> str | int | None:
    """The verdict that a step gives for its base chain, None if the packet goes on in it."""
    if record.type == "policy":
        return record.policy
    return None if record.verdict in ("continue", "jump", "goto", "return") else record.verdict


def _finished(held: _Open) -> Trail:
    trail = held.trail
    last = trail.steps[-1]
    trail.verdict = _word(last)
    if trail.verdict is None:
        trail.incomplete = True
    else:
        trail.by = last
    return trail


def trail_object(trail: Trail) -> dict[str, Any]:
    """A trail as JSON has it: the time of its first step as text, what is absent left out."""
    shape: dict[str, Any] = msgspec.to_builtins(trail)
    shape.pop("observed_ns", None)
    if trail.observed_ns is None:
        return shape
    return {"kind": shape.pop("kind"), "observed": rfc3339(trail.observed_ns), **shape}


def decided(trail: Trail) -> TraceRecord:
    """A trail as a record that a filter takes: the packet's fields, its verdict, and the rule,
    policy and chain of the step that decided.
    """
    fields = {name: getattr(trail, name) for name in ("id", "observed_ns", *_PACKET, *_CONNECTION)}
    if trail.by is not None:
        names = ("type", "family", "table", "chain", "handle", "target", "policy", "text")
        fields |= {name: getattr(trail.by, name) for name in names}
    return TraceRecord("nftables", "", **fields, verdict=trail.verdict)
