"""The content of one nftables table: chains, rules in order, sets, elements, objects, flowtables.

Each `add_` or `delete_` method applies one record, as the kernel announces changes: deletions are
short, a renamed chain keeps its handle, and a change of devices names only those devices. The
methods return whether the record agrees with the content, so that a caller sees that messages are
missing. Records are shared and never changed; a merged one is a new record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pylog.formats.nft_budget import Budget
from pylog.formats.nft_devices import with_devices, without_devices
from pylog.formats.nft_order import Order
from pylog.formats.nft_renames import Mentions, mentions_of, rename_budget, renamed, rewritten
from pylog.formats.nft_sets import Set, element_key, stored_element
from pylog.formats.nft_watch import Watch
from pylog.record.ruleset import RulesetRecord


class Chain:
    """A chain with the handles of its rules in order."""

    __slots__ = ("order", "record", "replaced")

    def __init__(self, record: RulesetRecord) -> None:
        self.record = record
        self.order = Order()
        self.replaced: set[int] = set()
        """Rules whose new half has not arrived; they keep their place until then."""

    def copy(self) -> Chain:
        """The same chain, whose rules change independently."""
        other = Chain(self.record)
        other.order = self.order.copy()
        return other

    def handles(self) -> list[int]:
        """The handles of the rules in order; those without a place stand at the end."""
        return list(self.order)


class Table:
    """A table: its own record, and all that is in it."""

    __slots__ = (
        "_budget", "_mentions", "_names", "chains", "flowtables", "objects", "record", "rules",
        "sets", "unfinished", "watches",
    )  # fmt: skip

    def __init__(self, record: RulesetRecord, budget: Budget | None = None) -> None:
        """budget: what renaming chains may cost; None: of its own."""
        self.record = record
        self.chains: dict[str | None, Chain] = {}
        self._names: dict[int, str | None] = {}
        """Of chains, by their handles."""
        self.rules: dict[int, RulesetRecord] = {}
        """Every rule by its handle; the chains have the order."""
        self.sets: dict[str | None, Set] = {}
        self.objects: dict[tuple[Any, str | None], RulesetRecord] = {}
        """Objects by type and name: two types may use the same name."""
        self.flowtables: dict[str | None, RulesetRecord] = {}
        self.unfinished: set[str | None] = set()
        """Chains in which a rule waits for its place or for its new half."""
        self._budget = rename_budget() if budget is None else budget
        self._mentions: Mentions | None = None
        """Made when a chain is renamed for the first time: in most tables none is."""
        self.watches: list[Watch] = []

    def copy(self, budget: Budget | None = None) -> Table:
        """The same table, which changes independently."""
        other = Table(self.record, budget)
        other.chains = {name: chain.copy() for name, chain in self.chains.items()}
        other._names = dict(self._names)
        other.rules = dict(self.rules)
        other.sets = {name: members.copy() for name, members in self.sets.items()}
        other.objects = dict(self.objects)
        other.flowtables = dict(self.flowtables)
        return other

    def finish(self) -> bool:
        """Conclude a commit; False if a position or the new half of a rule is missing."""
        complete = True
        for name in self.unfinished:
            chain = self.chains.get(name)
            if chain is None:
                continue
            complete = chain.order.finish() and not chain.replaced and complete
            for handle in chain.replaced:
                chain.order.remove(handle)
                self._drop_rule(handle)
            chain.replaced.clear()
        self.unfinished.clear()
        return complete

    def add_chain(self, record: RulesetRecord) -> bool:
        """Add a chain; or rename it, change its policy or add devices to it."""
        name, handle, fits = record.chain, record.handle, True
        old, same = self.chains.get(name), self.chain_by_handle(record.handle)
        if same is not None and same is not old:
            old, fits = same, self._rename(same, name)
        elif old is not None and old.record.handle != handle:  # its deletion is missing
            self._drop_content(old)
            old, fits = None, False
        if handle is not None:
            self._names[handle] = name
        if old is None:
            self.chains[name] = Chain(record)
        else:
            old.record = with_devices(record, old.record.devices)
        for watch in self.watches:
            watch.put_chain(self.chains[name].record)
        return fits

    def delete_chain(self, record: RulesetRecord) -> bool:
        """Delete a chain with its rules; or, if the change is an update, some of its devices."""
        if record.change == "update":
            chain = self.chains.get(record.chain)
            if chain is None:
                return False
            chain.record = without_devices(chain.record, record.devices)
            for watch in self.watches:
                watch.put_chain(chain.record)
            return True
        gone = self.chains.pop(record.chain, None)
        if gone is None:
            return False
        self.unfinished.discard(record.chain)
        self._drop_content(gone)
        return True

    def add_rule(self, record: RulesetRecord) -> bool:
        """Add a rule at its place, or replace the one that has its handle."""
        handle, chain, fits = record.handle, self.chains.get(record.chain), True
        if handle is None:
            return False
        if chain is None:  # the message of the chain is missing
            chain, fits = Chain(_chain_of(record)), False
            self.chains[record.chain] = chain
        old = self.rules.get(handle)
        self._put_rule(handle, record)
        if old is not None:
            if old.chain == record.chain:
                fits = fits and handle in chain.replaced
                chain.replaced.discard(handle)
                return fits
            elsewhere = self.chains.get(old.chain)
            if elsewhere is not None:
                elsewhere.order.remove(handle)
                elsewhere.replaced.discard(handle)
            fits = False
        chain.order.place(handle, record.change, record.position)
        self.unfinished.add(record.chain)
        return fits and record.change != "replace"

    def delete_rule(self, record: RulesetRecord) -> bool:
        """Delete a rule; the old half of a replacement keeps its place for the new one."""
        handle = record.handle
        rule = None if handle is None else self.rules.get(handle)
        if handle is None or rule is None or record.chain not in self.chains:
            return False
        chain = self.chains[rule.chain]
        fits = rule.chain == record.chain  # else the message that moved it is missing
        if record.change == "replace":
            chain.replaced.add(handle)
            self.unfinished.add(rule.chain)
            return fits
        self._drop_rule(handle)
        chain.replaced.discard(handle)
        return chain.order.remove(handle) and fits

    def add_set(self, record: RulesetRecord) -> bool:
        """Add a set, or change it."""
        old = self.sets.get(record.name)
        if old is not None and old.record.handle == record.handle:
            old.record = record
            return True
        for watch in self.watches:
            watch.drop_set(record.name)
        self.sets[record.name] = Set(record)
        return old is None

    def delete_set(self, record: RulesetRecord) -> bool:
        """Delete a set with its elements."""
        for watch in self.watches:
            watch.drop_set(record.name)
        return self.sets.pop(record.name, None) is not None

    def forget_elements(self) -> None:
        """Forget the elements of sets with a name."""
        self._unwatch()
        for members in self.sets.values():
            if not members.anonymous:
                members.elements.clear()

    def add_elements(self, record: RulesetRecord, anonymous_only: bool) -> bool:
        """Add or change elements of a set."""
        members = self.sets.get(record.name)
        if members is None:
            return False
        if not anonymous_only or members.anonymous:
            for element in record.elements or ():
                key, stored = element_key(element), stored_element(element)
                for watch in self.watches:
                    watch.drop_element(record.name, key, members.elements.get(key))
                    watch.put_element(record.name, key, stored)
                members.elements[key] = stored
        return True

    def delete_elements(self, record: RulesetRecord, anonymous_only: bool) -> bool:
        """Delete elements of a set. One may be gone before: its timeout made no message."""
        members = self.sets.get(record.name)
        if members is None:
            return False
        if not anonymous_only or members.anonymous:
            for element in record.elements or ():
                key = element_key(element)
                old = members.elements.pop(key, None)
                for watch in self.watches:
                    watch.drop_element(record.name, key, old)
        return True

    def add_object(self, record: RulesetRecord) -> bool:
        """Add an object, or change it."""
        self.objects[record.type, record.name] = record
        return True

    def delete_object(self, record: RulesetRecord) -> bool:
        """Delete an object."""
        return self.objects.pop((record.type, record.name), None) is not None

    def add_flowtable(self, record: RulesetRecord) -> bool:
        """Add a flowtable, or devices to it."""
        old = self.flowtables.get(record.name)
        if old is not None and old.handle == record.handle:
            record = with_devices(record, old.devices)
        self.flowtables[record.name] = record
        return True

    def delete_flowtable(self, record: RulesetRecord) -> bool:
        """Delete a flowtable; or, if the change is an update, some of its devices."""
        old = self.flowtables.pop(record.name, None)
        if old is not None and record.change == "update":
            self.flowtables[record.name] = without_devices(old, record.devices)
        return old is not None

    def chain_by_handle(self, handle: int | None) -> Chain | None:
        """A chain by its handle, whatever its name is."""
        if handle is None or handle not in self._names:
            return None
        chain = self.chains.get(self._names[handle])
        return chain if chain is not None and chain.record.handle == handle else None

    def rename_chains(self, names: Mapping[str | None, str | None]) -> None:
        """Rename chains, all at once; no chain has one of the new names, and nothing watches.

        names   old name -> new name
        """
        self._unwatch()
        self.chains = {names.get(name, name): chain for name, chain in self.chains.items()}
        for name, chain in self.chains.items():
            if name != chain.record.chain:
                chain.record = msgspec.structs.replace(chain.record, chain=name)
                if chain.record.handle is not None:
                    self._names[chain.record.handle] = name
        for handle, rule in self.rules.items():
            self.rules[handle] = rewritten(rule, names)
        for members in self.sets.values():
            for key, element in members.elements.items():
                members.elements[key] = renamed(element, names)

    def _rename(self, chain: Chain, new: str | None) -> bool:
        """Rename a chain; False if another one had the name, or if the budget is exhausted.

        In the latter case the rules and elements that have the old name are forgotten.
        """
        old, taken = chain.record.chain, self.chains.get(new)
        if taken is not None:  # its deletion is missing
            self._drop_content(taken)
        for watch in self.watches:
            watch.drop_chain(old)
        self.chains[new] = self.chains.pop(old)
        if old in self.unfinished:
            self.unfinished.remove(old)
            self.unfinished.add(new)
        if self._mentions is None:
            sets = ((name, members.elements) for name, members in self.sets.items())
            self._mentions = mentions_of(self.rules, sets)
            self.watches.append(self._mentions)
        mentions = self._mentions
        shown = dict.fromkeys(mentions.rules(old))
        handles = dict.fromkeys((*chain.order, *shown))
        affordable = self._budget.spend(len(chain.order) + mentions.cost(old))
        names = {old: new}
        for handle in handles:
            rule = self.rules[handle]
            if affordable:
                self._put_rule(handle, rewritten(rule, names, handle in shown))
                continue
            self._drop_rule(handle)
            of = chain if rule.chain == old else self.chains[rule.chain]
            of.order.remove(handle)
            of.replaced.discard(handle)
        for name, keys in mentions.elements(old):
            elements = self.sets[name].elements
            for key in keys:
                element = elements.pop(key) if not affordable else elements[key]
                for watch in self.watches:
                    watch.drop_element(name, key, element)
                if affordable:
                    elements[key] = renamed(element, names)
                    for watch in self.watches:
                        watch.put_element(name, key, elements[key])
        return affordable and taken is None

    def _unwatch(self) -> None:
        self._mentions = None
        self.watches.clear()

    def _put_rule(self, handle: int, rule: RulesetRecord) -> None:
        self.rules[handle] = rule
        for watch in self.watches:
            watch.put_rule(handle, rule)

    def _drop_rule(self, handle: int) -> RulesetRecord:
        for watch in self.watches:
            watch.drop_rule(handle)
        return self.rules.pop(handle)

    def _drop_content(self, chain: Chain) -> None:
        """Forget the rules of a chain, and its handle."""
        for watch in self.watches:
            watch.drop_chain(chain.record.chain)
        for handle in chain.order:
            self._drop_rule(handle)
        if chain.record.handle is not None:
            self._names.pop(chain.record.handle, None)


def _chain_of(rule: RulesetRecord) -> RulesetRecord:
    """A record that stands for the chain of a rule, of which only the name is available."""
    return RulesetRecord(
        source=rule.source,
        layout=rule.layout,
        op="new_chain",
        family=rule.family,
        table=rule.table,
        chain=rule.chain,
    )
