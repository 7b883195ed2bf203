"""The log rules of a ruleset that changes, as they are and as they were a few commits ago.

Each commit changes the index only by what its records change: the log rules by group and prefix,
and the jumps by the chain that they lead to. Whether a base chain leads to a log rule is searched
when a packet asks, backwards from the rule, and kept until a jump or a base chain changes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

from pylog.formats.nft_loggers import links, log_statements, matches, passes
from pylog.formats.nft_model import Model
from pylog.formats.nft_spans import History, Span, Spans
from pylog.formats.nft_watch import Watch, Watches
from pylog.record import PacketRecord
from pylog.record.ruleset import RulesetRecord

_REMEMBERED = 16384
"""Of so many chains and sets, more or less, a table remembers whether they are reached."""

_Node = str | tuple[Any] | None
"""A chain by its name, or a set by its name in a tuple."""
_Statement = tuple[str, str]
"""Group and prefix."""


class _Logged(NamedTuple):
    """A log statement: its rule, its place among the expressions, and where the rule stands."""

    rule: RulesetRecord
    place: int
    table: _TableLogs
    order: int


class _Held(NamedTuple):
    """What a rule has added to the index."""

    chain: str | None
    targets: tuple[_Node, ...]
    logged: tuple[tuple[_Statement, Span[_Logged]], ...]


class LogHistory(Watches):
    """The log rules of the model that it watches, in the present and former versions."""

    __slots__ = ("_history", "_logged", "_next", "_tables")

    def __init__(self) -> None:
        self._history = History()
        self._logged: Spans[_Statement, _Logged] = Spans(self._history)
        self._tables: dict[tuple[Any, str | None], _TableLogs] = {}
        self._next = 0

    @property
    def version(self) -> int:
        """The present version."""
        return self._history.now

    @property
    def changes(self) -> int:
        """How many changes there were of what logs and of what leads there."""
        return self._history.changes

    @property
    def ended(self) -> int:
        """How many log rules and jumps are held for former versions only."""
        return self._history.count

    def begin(self) -> int:
        """Begin a version; returns the one that ends."""
        self._history.now += 1
        return self._history.now - 1

    def forget(self, version: int | None) -> None:
        """Drop all versions before that one; None: all former ones."""
        self._history.forget(self._history.now if version is None else version)

    def add_table(self, family: Any, table: str | None) -> Watch:
        """See Watches. A table that replaces another one stands where that stood."""
        old = self._tables.get((family, table))
        if old is None:
            self._next += 1
        else:
            old.close()
        watch = _TableLogs(self._history, self._logged, self._next if old is None else old.place)
        self._tables[family, table] = watch
        return watch

    def drop_table(self, family: Any, table: str | None) -> None:
        """See Watches."""
        self._tables.pop((family, table)).close()

    def candidates(
        self, packet: PacketRecord, versions: Sequence[int], model: Model
    ) -> list[tuple[int, RulesetRecord]]:
        """The rules that can have logged the packet, each with the place of its version.

        versions   the latest first: of those in which the rule can have logged it, the first counts
        model      has the sets
        """
        if not versions:
            return []
        fitting = []
        statement = (packet.group or "", packet.prefix or "")
        for span in self._logged.since(statement, versions[-1]):
            logged = span.value
            at = _first(span, packet, versions)
            if at is not None and matches(logged.rule, logged.place, packet, model):
                fitting.append((at, logged.table.place, logged.order, logged.place, logged.rule))
        fitting.sort(key=lambda one: one[:4])
        return [(at, rule) for at, *_, rule in fitting]


def _first(span: Span[_Logged], packet: PacketRecord, versions: Sequence[int]) -> int | None:
    """The place of the first version in which the packet can have come to the rule's chain."""
    table, chain, tried = span.value.table, span.value.rule.chain, None
    for at, version in enumerate(versions):
        if version >= span.end:
            continue
        if version < span.start:
            break
        jumps = table.jumps_of(version)
        if jumps != tried:
            tried = jumps
            if table.reaches(chain, packet, version):
                return at
    return None


class _TableLogs(Watch):
    """The part of one table: its log rules, and its chains and sets as a graph of jumps."""

    __slots__ = (
        "_base", "_bases", "_devices", "_edges", "_elements", "_history", "_into", "_jumps",
        "_logged", "_next", "_order", "_reached", "_remembered", "_rules", "place",
    )  # fmt: skip

    def __init__(self, history: History, logged: Spans[_Statement, _Logged], place: int) -> None:
        self.place = place
        """Among the tables."""
        self._history, self._logged = history, logged
        self._rules: dict[int, _Held] = {}
        self._order: dict[int, int] = {}
        """Of every rule, its place among those of the table."""
        self._next = 0
        self._bases: Spans[str | None, RulesetRecord] = Spans(history)
        self._base: dict[str | None, Span[RulesetRecord]] = {}
        self._devices = False  # whether a base chain ever had devices
        self._into: Spans[_Node, _Node] = Spans(history)
        """By a chain or set, what leads to it."""
        self._edges: dict[tuple[_Node, _Node], list[Any]] = {}
        """The span of each edge, and how many rules or elements it stands for."""
        self._elements: dict[str | None, dict[str, int]] = {}
        """By a set and a chain, how many elements lead from the one to the other."""
        self._jumps: list[int] = []
        """The versions in which a jump or a base chain changed."""
        self._reached: dict[int, dict[tuple[Any, ...], dict[_Node, bool]]] = {}
        """By the version of the jumps, then by hook and devices: what base chains lead to."""
        self._remembered = 0

    def close(self) -> None:
        """The table is gone: its rules do not log any more. Former versions keep its jumps."""
        for held in self._rules.values():
            for statement, span in held.logged:
                self._logged.end(statement, span)
        self._rules.clear()
        self._order.clear()
        self._edges.clear()
        self._history.retire(self._into.size + self._bases.size)

    def put_rule(self, handle: int, rule: RulesetRecord) -> None:
        """See Watch."""
        order = self._order.get(handle)
        if order is None:
            self._next += 1
            order = self._order[handle] = self._next
        targets = tuple(dict.fromkeys(links(rule)))
        for target in targets:
            self._link(rule.chain, target)
        logged = tuple(
            (statement, self._logged.add(statement, _Logged(rule, place, self, order)))
            for place, statement in log_statements(rule)
        )
        self._release(handle)  # after the new edges are there: most are the same
        if targets or logged:
            self._rules[handle] = _Held(rule.chain, targets, logged)

    def drop_rule(self, handle: int) -> None:
        """See Watch."""
        self._order.pop(handle, None)
        self._release(handle)

    def put_chain(self, chain: RulesetRecord) -> None:
        """See Watch."""
        old = self._base.get(chain.chain)
        if old is not None:
            if (old.value.hook, old.value.devices) == (chain.hook, chain.devices):
                return
            self.drop_chain(chain.chain)
        if chain.hook is not None:
            self._devices = self._devices or bool(chain.devices)
            self._base[chain.chain] = self._bases.add(chain.chain, chain)
            self._touch()

    def drop_chain(self, name: str | None) -> None:
        """See Watch."""
        span = self._base.pop(name, None)
        if span is not None:
            self._bases.end(name, span)
            self._touch()

    def put_element(self, members: str | None, key: Any, element: dict[str, Any] | None) -> None:
        """See Watch."""
        chain = None if element is None else element.get("chain")
        if isinstance(chain, str):
            chains = self._elements.setdefault(members, {})
            chains[chain] = chains.get(chain, 0) + 1
            self._link((members,), chain)

    def drop_element(self, members: str | None, key: Any, element: dict[str, Any] | None) -> None:
        """See Watch."""
        chain = None if element is None else element.get("chain")
        if isinstance(chain, str):
            chains = self._elements[members]
            chains[chain] -= 1
            if not chains[chain]:
                del chains[chain]
            self._unlink((members,), chain)

    def drop_set(self, members: str | None) -> None:
        """See Watch."""
        for chain, count in self._elements.pop(members, {}).items():
            self._unlink((members,), chain, count)

    def jumps_of(self, version: int) -> int:
        """The version in which the jumps became as they were in that version."""
        at = bisect_right(self._jumps, version)
        return self._jumps[at - 1] if at else -1

    def reaches(self, chain: str | None, packet: PacketRecord, version: int) -> bool:
        """Whether a base chain that the packet can be in leads to the chain.

        All chains and sets that lead there are looked at once; what is clear about them is kept.
        """
        devices = (packet.indev, packet.outdev) if self._devices else ()
        if self._remembered > _REMEMBERED:
            self._reached.clear()
            self._remembered = 0
        places = self._reached.setdefault(self.jumps_of(version), {})
        reached = places.setdefault((packet.hook, *devices), {})
        if chain in reached:
            return reached[chain]
        onward: dict[_Node, list[_Node]] = {}
        seen: set[_Node] = {chain}
        left: list[_Node] = [chain]
        found: list[_Node] = []
        while left:
            here = left.pop()
            if not isinstance(here, tuple) and any(
                passes(base, packet) for base in self._bases.at(here, version)
            ):
                found.append(here)
            for before in self._into.at(here, version):
                if before not in reached:
                    onward.setdefault(before, []).append(here)
                    if before not in seen:
                        seen.add(before)
                        left.append(before)
                elif reached[before]:
                    found.append(here)
        reached.update(dict.fromkeys(seen, False))
        self._remembered += len(seen)
        while found:
            here = found.pop()
            if not reached[here]:
                reached[here] = True
                found += onward.get(here, ())
        return reached[chain]

    def _release(self, handle: int) -> None:
        held = self._rules.pop(handle, None)
        if held is not None:
            for target in held.targets:
                self._unlink(held.chain, target)
            for statement, span in held.logged:
                self._logged.end(statement, span)

    def _link(self, before: _Node, after: _Node) -> None:
        edge = self._edges.get((before, after))
        if edge is None:
            self._edges[before, after] = [self._into.add(after, before), 1]
            self._touch()
        else:
            edge[1] += 1

    def _unlink(self, before: _Node, after: _Node, count: int = 1) -> None:
        edge = self._edges[before, after]
        edge[1] -= count
        if not edge[1]:
            del self._edges[before, after]
            self._into.end(after, edge[0])
            self._touch()

    def _touch(self) -> None:
        """Note that a jump or a base chain changes with this version."""
        now = self._history.now
        if not self._jumps or self._jumps[-1] != now:
            self._jumps.append(now)
            if len(self._jumps) > 256:
                del self._jumps[: max(0, bisect_right(self._jumps, self._history.oldest) - 1)]
        for reached in self._reached.pop(now, {}).values():
            self._remembered -= len(reached)
