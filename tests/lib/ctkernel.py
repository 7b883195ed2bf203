"""A double of the kernel's conntrack: flows that begin and end, a socket that loses events, and
listings as the source nfct puts them among the events.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from pylog.backends.base import HOST_ORDER, Backend
from pylog.formats.netlink import build
from pylog.formats.nfct_attributes import CT_DELETE, CT_NEW, CT_STATS, CTA, STATS
from pylog.formats.nfct_requests import NLM_F_MULTI, Mark, Purpose

NEW, UPDATE = 0x600, 0


def tuples(number: int, v6: bool = False) -> list[tuple[int, Any]]:
    """Both tuples of a flow of UDP, which differs by its number."""
    size, first = (16, 3) if v6 else (4, 1)
    ends = number.to_bytes(size), (1 << 8 | 9).to_bytes(size)
    made: list[tuple[int, Any]] = []
    for kind, (source, destination), ports in ((1, ends, (5000, 53)), (2, ends[::-1], (53, 5000))):
        ip = [{"nla_type": first, "value": source}, {"nla_type": first + 1, "value": destination}]
        proto = [{"nla_type": n, "value": v} for n, v in ((1, 17), (2, ports[0]), (3, ports[1]))]
        made.append(
            (kind, [{"nla_type": 1, "value": ip}, {"nla_type": 2, "value": proto}])
        )  # fmt: skip
    return made


def message(
    number: int, kind: int = CT_NEW, flags: int = NEW, *, zone: int = 0, mark: int = 0,
    order: str = HOST_ORDER, v6: bool = False, time: int | None = None, **head: Any,
) -> bytes:  # fmt: skip
    """A message about the flow of that number."""
    attrs = tuples(number, v6)
    if zone:
        attrs.append((18, zone))
    attrs += [(12, number ^ 0x5A5A), (3, 0x8)]
    if mark:
        attrs.append((8, mark))
    if time is not None:
        attrs.append((27, time))
    return build(CTA, order, kind, 0, attrs, family=10 if v6 else 2, flags=flags, **head)


def ended(number: int, **options: Any) -> bytes:
    return message(number, CT_DELETE, 0, **options)


def marked(mark: Mark, order: str = HOST_ORDER) -> bytes:
    """The answer by which the source marks a listing."""
    return build(STATS, order, CT_STATS, 0, [(1, 9)], flags=NLM_F_MULTI, seq=mark.seq)


START = Mark(Purpose.START)


def listing(
    purpose: Purpose, numbers: Sequence[int], during: bytes = b"", reliable: bool = False,
    **options: Any,
) -> bytes:  # fmt: skip
    """A listing of flows, with what came during it."""
    mark = Mark(purpose, reliable=reliable)
    order = options.get("order", HOST_ORDER)
    entries = [message(n, flags=NLM_F_MULTI, seq=mark.seq, **options) for n in numbers]
    end = marked(mark._replace(is_end=True), order)
    return b"".join([marked(mark, order), *entries, during, end])


class Piece(NamedTuple):
    """What `receive` gives at a call: bytes, how many events were lost after them, their network
    namespace.
    """

    data: bytes
    lost: int = 0
    namespace: str | int | None = None


class Source(Backend):
    """Gives pieces as the source nfct does."""

    live = deferred = message_aligned = in_one_place = counts_losses = True
    accountable = False
    layout = f"ctnetlink-{'le' if HOST_ORDER == '<' else 'be'}"

    def __init__(self, pieces: Sequence[Piece], scope: Any = None) -> None:
        super().__init__("nfct:")
        self.scope = scope
        self._pieces = list(pieces)

    def _receive(self) -> bytes | None:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        self.namespace = piece.namespace
        if piece.lost:
            self.overrun, self.lost = "it overran", piece.lost
        return piece.data

    def _pending(self) -> int:
        return 0

    def _release(self) -> None:
        pass

    def fileno(self) -> int:
        raise OSError


class Run:
    """Flows at random, seen through a socket that loses events at times; after each loss, and at
    times without one, there is a listing.

    pieces   what the source gives
    made     how many events the kernel made
    alive    the flows that live in the end
    """

    def __init__(self, chance: random.Random, steps: int) -> None:
        self.made, self.alive = 0, set[int]()
        self._chance, self._next = chance, 0
        self.pieces = [Piece(marked(START) + listing(Purpose.SNAPSHOT, []))]
        for _ in range(steps):
            data = self._events(chance.randrange(12))
            lost = chance.random() < 0.3
            count = 0
            if lost:
                before = self.made
                self._events(chance.randrange(1, 12))
                count = self.made - before
            if data:
                self.pieces.append(Piece(data, count))
            elif count:
                last = self.pieces[-1]
                self.pieces[-1] = last._replace(lost=last.lost + count)
            if count or chance.random() < 0.2:
                self._list(Purpose.REPAIR if count else Purpose.POLL)

    def _events(self, count: int) -> bytes:
        events = []
        for _ in range(count):
            self.made += 1
            what = self._chance.random()
            if self.alive and what < 0.4:
                gone = self._chance.choice(sorted(self.alive))
                self.alive.remove(gone)
                events.append(ended(gone))
            elif self.alive and what < 0.6:
                events.append(message(self._chance.choice(sorted(self.alive)), flags=UPDATE))
            else:
                self._next += 1
                self.alive.add(self._next)
                events.append(message(self._next))
        return b"".join(events)

    def _list(self, purpose: Purpose) -> None:
        """A listing during which flows begin and end, before or after the dump has come to them."""
        before, newest = set(self.alive), self._next
        during = self._events(self._chance.randrange(4))
        seen = {n for n in before if n in self.alive or self._chance.random() < 0.5}
        seen = {n for n in seen if n <= newest}
        numbers = self._chance.sample(sorted(seen), len(seen))
        self.pieces.append(Piece(listing(purpose, numbers, during)))
