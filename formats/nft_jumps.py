"""Which base chains lead to a chain of a table by jumps, gotos and verdict maps, now and before.

The jumps are an index by the chain that they lead to, so that a commit costs what it changes.
Which base chains lead to a chain is searched backwards when it is asked for, and kept until a jump
or a base chain changes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from pylog.formats.nft_places import Places
from pylog.formats.nft_spans import History, Span, Spans
from pylog.record import PacketRecord
from pylog.record.ruleset import RulesetRecord

Node = str | tuple[Any] | None
"""A chain by its name, or a set by its name in a tuple."""

_REMEMBERED = 65536
"""For so many chains and sets at most, more or less, what leads to them is kept; for fewer of them
where there are many places."""


class Jumps:
    """The chains and sets of a table as a graph."""

    __slots__ = (
        "_base", "_bases", "_edges", "_history", "_into", "_places", "_reached", "_versions",
    )  # fmt: skip

    def __init__(self, history: History) -> None:
        self._history = history
        self._bases: Spans[str | None, RulesetRecord] = Spans(history)
        self._base: dict[str | None, Span[RulesetRecord]] = {}
        self._into: Spans[Node, Node] = Spans(history)
        """By a chain or set, what leads to it."""
        self._edges: dict[tuple[Node, Node], list[Any]] = {}
        """The span of each edge, and how many rules or elements it stands for."""
        self._versions: list[int] = []
        """Those in which an edge or a base chain changed."""
        self._places = Places()
        self._reached: dict[int, dict[Node, int]] = {}
        """By such a version, the places that lead to a chain or set."""

    def close(self) -> None:
        """Nothing changes any more; former versions stay."""
        self._edges.clear()
        self._history.retire(self._into.size + self._bases.size)

    def put_base(self, chain: RulesetRecord) -> None:
        """Add a chain, or its new state; only base chains count."""
        old = self._base.get(chain.chain)
        if old is not None:
            if (old.value.hook, old.value.devices) == (chain.hook, chain.devices):
                return
            self.drop_base(chain.chain)
        if chain.hook is not None:
            self._base[chain.chain] = self._bases.add(chain.chain, chain)
            self._touch()

    def drop_base(self, name: str | None) -> None:
        """Remove a chain if it is a base chain."""
        span = self._base.pop(name, None)
        if span is not None:
            self._bases.end(name, span)
            self._touch()

    def link(self, before: Node, after: Node) -> None:
        """Add a rule or element that leads from the one to the other."""
        edge = self._edges.get((before, after))
        if edge is None:
            self._edges[before, after] = [self._into.add(after, before), 1]
            self._touch()
        else:
            edge[1] += 1

    def unlink(self, before: Node, after: Node, count: int = 1) -> None:
        """Remove so many of them."""
        edge = self._edges[before, after]
        edge[1] -= count
        if not edge[1]:
            del self._edges[before, after]
            self._into.end(after, edge[0])
            self._touch()

    def since(self, version: int) -> int:
        """The version in which the jumps became what they were in that version."""
        at = bisect_right(self._versions, version)
        return self._versions[at - 1] if at else -1

    def reach(self, chain: str | None, packet: PacketRecord, version: int) -> bool:
        """Whether a base chain that the packet can be in leads to the chain."""
        since = self.since(version)
        reached = self._reached.get(since)
        if reached is None or chain not in reached:
            self._limit()
            reached = self._reached.setdefault(since, {})
            self._search(chain, version, reached)
        return bool(reached[chain] & self._places.of(packet))

    def _limit(self) -> None:
        """Forget what is kept if it is too much, also places that are not there any more."""
        kept = sum(map(len, self._reached.values()))
        places = len(self._places)
        large = kept * (1 + places // 256) > _REMEMBERED or len(self._reached) > 128
        if large or places > 2 * self._bases.size + 1024:
            self._reached.clear()
            self._places = Places()

    def _search(self, chain: Node, version: int, reached: dict[Node, int]) -> None:
        """Add the chain and all that leads to it to `reached`, by Tarjan's algorithm.

        The kernel has no loops of jumps; but records that are missing can make one.
        """
        lowest: dict[Node, int] = {}
        numbers: dict[Node, int] = {}
        places: dict[Node, int] = {}
        open_ones: list[Node] = []
        path: list[tuple[Node, Iterator[Node]]] = []

        def enter(node: Node) -> None:
            numbers[node] = lowest[node] = len(numbers)
            places[node] = 0
            if not isinstance(node, tuple):
                for base in self._bases.at(node, version):
                    places[node] |= self._places.bit(base)
            open_ones.append(node)
            path.append((node, iter(self._into.at(node, version))))

        enter(chain)
        while path:
            here, befores = path[-1]
            for before in befores:
                if before in reached:
                    more = reached[before]  # the same number for many chains
                    places[here] = places[here] | more if places[here] else more
                elif before in numbers:
                    lowest[here] = min(lowest[here], numbers[before])
                else:
                    enter(before)
                    break
            else:
                path.pop()
                if lowest[here] == numbers[here]:
                    at = len(open_ones) - 1
                    while open_ones[at] != here:
                        places[here] |= places[open_ones[at]]
                        at -= 1
                    reached.update(dict.fromkeys(open_ones[at:], places[here]))
                    del open_ones[at:]
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[here])
                    places[above] |= places[here]

    def _touch(self) -> None:
        """Note that an edge or a base chain changes with this version."""
        now = self._history.now
        if not self._versions or self._versions[-1] != now:
            self._versions.append(now)
            if len(self._versions) > 256:
                oldest = bisect_right(self._versions, self._history.oldest) - 1
                del self._versions[: max(0, oldest)]
        self._reached.pop(now, None)
