"""The log rules of a ruleset that changes, as they are and as they were a few commits ago.

Each commit changes the index only by what its records change: the log rules by group and prefix,
and the jumps that lead to them. An earlier version is not a copy: see nft_spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pylog.formats.nft_jumps import Jumps, Node
from pylog.formats.nft_loggers import links, log_statements, matches
from pylog.formats.nft_model import Model
from pylog.formats.nft_spans import History, Span, Spans
from pylog.formats.nft_watch import Watch, Watches
from pylog.record import PacketRecord
from pylog.record.ruleset import RulesetRecord

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
    targets: tuple[Node, ...]
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
    jumps, chain, tried = span.value.table.jumps, span.value.rule.chain, None
    for at, version in enumerate(versions):
        if version >= span.end:
            continue
        if version < span.start:
            break
        since = jumps.since(version)
        if since != tried:
            tried = since
            if jumps.reach(chain, packet, version):
                return at
    return None


class _TableLogs(Watch):
    """The part of one table: its log rules, and its chains and sets as a graph of jumps."""

    __slots__ = (
        "_elements", "_logged", "_next", "_order", "_rules", "jumps", "place",
    )  # fmt: skip

    def __init__(self, history: History, logged: Spans[_Statement, _Logged], place: int) -> None:
        self.place = place
        """Among the tables."""
        self.jumps = Jumps(history)
        self._logged = logged
        self._rules: dict[int, _Held] = {}
        self._order: dict[int, int] = {}
        """Of every rule, its place among those of the table."""
        self._next = 0
        self._elements: dict[str | None, dict[str, int]] = {}
        """By a set and a chain, how many elements lead from the one to the other."""

    def close(self) -> None:
        """The table is gone: its rules do not log any more. Former versions keep its jumps."""
        for held in self._rules.values():
            for statement, span in held.logged:
                self._logged.end(statement, span)
        self._rules.clear()
        self._order.clear()
        self.jumps.close()

    def put_rule(self, handle: int, rule: RulesetRecord) -> None:
        """See Watch."""
        order = self._order.get(handle)
        if order is None:
            self._next += 1
            order = self._order[handle] = self._next
        targets = tuple(dict.fromkeys(links(rule)))
        for target in targets:
            self.jumps.link(rule.chain, target)
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
        self.jumps.put_base(chain)

    def drop_chain(self, name: str | None) -> None:
        """See Watch."""
        self.jumps.drop_base(name)

    def put_element(self, members: str | None, key: Any, element: dict[str, Any] | None) -> None:
        """See Watch."""
        chain = None if element is None else element.get("chain")
        if isinstance(chain, str):
            chains = self._elements.setdefault(members, {})
            chains[chain] = chains.get(chain, 0) + 1
            self.jumps.link((members,), chain)

    def drop_element(self, members: str | None, key: Any, element: dict[str, Any] | None) -> None:
        """See Watch."""
        chain = None if element is None else element.get("chain")
        if isinstance(chain, str):
            chains = self._elements[members]
            chains[chain] -= 1
            if not chains[chain]:
                del chains[chain]
            self.jumps.unlink((members,), chain)

    def drop_set(self, members: str | None) -> None:
        """See Watch."""
        for chain, count in self._elements.pop(members, {}).items():
            self.jumps.unlink((members,), chain, count)

    def _release(self, handle: int) -> None:
        held = self._rules.pop(handle, None)
        if held is not None:
            for target in held.targets:
                self.jumps.unlink(held.chain, target)
            for statement, span in held.logged:
                self._logged.end(statement, span)
