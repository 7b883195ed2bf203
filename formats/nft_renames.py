"""What a renamed chain changes: the rules and elements of its table that name it in a verdict.

The kernel refers to chains by pointer, so that all of them show the new name at once. `Mentions` is
an index of them, so that a rename costs what it rewrites. Renaming a chain back and forth rewrites
its rules each time; a budget keeps that in proportion to the messages received.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from pylog.formats.nft_budget import Budget
from pylog.formats.nft_watch import Watch
from pylog.record.ruleset import RulesetRecord

Key = Any
"""What identifies an element in its set, see nft_tables.element_key."""

_VALUES = 32
"""So many values in the expressions of a rule cost as much as the rest of it."""


def rename_budget() -> Budget:
    """How many rules may be rewritten because chains were renamed.

    No administrator comes near the limit: that takes a quarter of a million rewritten rules, and
    fifty for each message.
    """
    return Budget(1 << 18, 50, 5)


class Mentions(Watch):
    """The rules and elements of a table by the chains that their verdicts name."""

    __slots__ = ("_chains", "_costs", "_elements", "_rules", "_sets")

    def __init__(self) -> None:
        self._rules: dict[Any, dict[int, None]] = {}
        """Handles by the name of the chain, or by that of an anonymous set, in a tuple."""
        self._chains: dict[int, set[Any]] = {}
        self._costs: dict[int, int] = {}
        self._sets: dict[str, dict[str | None, None]] = {}
        """Names of sets by the name of the chain."""
        self._elements: dict[str | None, dict[str, dict[Key, None]]] = {}
        """Elements by the name of their set, then of the chain."""

    def rules(self, chain: str | None) -> list[int]:
        """The rules that name a chain, themselves or by their anonymous sets."""
        if chain is None:
            return []
        users = (self._rules.get((name,), ()) for name in self._sets.get(chain, ()))
        return list(dict.fromkeys(itertools.chain(self._rules.get(chain, ()), *users)))

    def elements(self, chain: str | None) -> Iterator[tuple[str | None, list[Key]]]:
        """The elements that name a chain, set by set."""
        for name in list(self._sets.get(chain, ())) if chain is not None else ():
            assert chain is not None
            yield name, list(self._elements[name][chain])

    def cost(self, chain: str | None) -> int:
        """What it takes to rewrite them, in rules."""
        rules = sum(self._costs[handle] for handle in self.rules(chain))
        return rules + sum(len(keys) for _, keys in self.elements(chain))

    def put_rule(self, handle: int, rule: RulesetRecord) -> None:
        """Add a rule, or its new state."""
        self.drop_rule(handle)
        names: set[Any] = set()
        values = _collect(rule.expressions, names)
        if names:
            self._chains[handle] = names
            self._costs[handle] = 1 + values // _VALUES
            for name in names:
                self._rules.setdefault(name, {})[handle] = None

    def drop_rule(self, handle: int) -> None:
        """Remove a rule."""
        for name in self._chains.pop(handle, ()):
            _drop(self._rules, name, handle)
        self._costs.pop(handle, None)

    def put_element(self, members: str | None, key: Key, element: dict[str, Any] | None) -> None:
        """Add an element of the set with the name `members`."""
        chain = None if element is None else element.get("chain")
        if isinstance(chain, str):
            self._elements.setdefault(members, {}).setdefault(chain, {})[key] = None
            self._sets.setdefault(chain, {})[members] = None

    def drop_element(self, members: str | None, key: Key, element: dict[str, Any] | None) -> None:
        """Remove an element, as it was."""
        chain = None if element is None else element.get("chain")
        if isinstance(chain, str) and members in self._elements:
            chains = self._elements[members]
            _drop(chains, chain, key)
            if chain not in chains:
                _drop(self._sets, chain, members)
            if not chains:
                del self._elements[members]

    def drop_set(self, members: str | None) -> None:
        """Remove a set with its elements."""
        for chain in self._elements.pop(members, ()):
            _drop(self._sets, chain, members)


def mentions_of(
    rules: Mapping[int, RulesetRecord],
    elements: Iterable[tuple[str | None, Mapping[Key, dict[str, Any] | None]]],
) -> Mentions:
    """The index of rules by their handles, and of elements by the names of their sets."""
    mentions = Mentions()
    for handle, rule in rules.items():
        mentions.put_rule(handle, rule)
    for name, members in elements:
        for key, element in members.items():
            mentions.put_element(name, key, element)
    return mentions


def renamed(value: Any, names: Mapping[str | None, str | None]) -> Any:
    """The value with chains renamed in every verdict; the same object if there is none.

    names   old name -> new name
    """
    if isinstance(value, list):
        parts = [renamed(part, names) for part in value]
        same = all(part is before for part, before in zip(parts, value, strict=True))
        return value if same else parts
    if isinstance(value, dict):
        changed = {}
        for name, part in value.items():
            if name == "chain" and isinstance(part, str):
                if part in names:
                    changed[name] = names[part]
            elif isinstance(part, list | dict):
                new = renamed(part, names)
                if new is not part:
                    changed[name] = new
        return {**value, **changed} if changed else value
    return value


def rewritten(
    rule: RulesetRecord, names: Mapping[str | None, str | None], shown: bool = False
) -> RulesetRecord:
    """The rule with the new names of chains, and without a text that has an old one.

    shown   whether the text may name a chain that the expressions do not: see `Mentions.rules`
    """
    chain, expressions = names.get(rule.chain, rule.chain), renamed(rule.expressions, names)
    same = expressions is rule.expressions and not shown
    if same and chain == rule.chain:
        return rule
    return msgspec.structs.replace(rule, chain=chain, expressions=expressions,
                                   text=rule.text if same else None)  # fmt: skip


def _collect(value: Any, names: set[Any]) -> int:
    """Add the names of chains, and of anonymous sets, in a value to `names`.

    Returns how many values it has.
    """
    if isinstance(value, list):
        return sum(_collect(part, names) for part in value)
    if isinstance(value, dict):
        chain, members = value.get("chain"), value.get("set")
        if isinstance(chain, str):
            names.add(chain)
        if isinstance(members, str) and members.startswith("__"):
            names.add((members,))
        return len(value) + sum(
            _collect(part, names) for part in value.values() if isinstance(part, list | dict)
        )
    return 1


def _drop(index: dict[Any, dict[Any, None]], name: Any, member: Any) -> None:
    """Remove an entry of an index, and the name with its last one."""
    members = index.get(name)
    if members is not None:
        members.pop(member, None)
        if not members:
            del index[name]
