"""The content of one nftables table: chains, rules in order, sets, elements, objects, flowtables.

Each `add_` or `delete_` method applies one record, as the kernel announces changes: deletions are
short, a renamed chain keeps its handle, and a change of devices names only those devices. The
methods return whether the record agrees with the content, so that a caller sees that messages are
missing. Records are shared and never changed; a merged one is a new record.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pylog.record.ruleset import RulesetRecord

ElementKey = str | tuple[Any, ...]
"""What identifies an element: its key, with the end of the key and the flags if it has them."""

_ELEMENT_FLAGS = 3  # NFT_SET_ELEM_INTERVAL_END | NFT_SET_ELEM_CATCHALL


class Chain:
    """A chain with the handles of its rules in order."""

    __slots__ = ("_hint", "_waiting", "order", "record", "replaced")

    def __init__(self, record: RulesetRecord) -> None:
        self.record = record
        self.order: list[int] = []
        self.replaced: set[int] = set()
        """Rules whose new half has not arrived; they keep their place until then."""
        self._waiting: dict[int, list[int]] = {}
        self._hint = 0  # where the last rule was put: the next one often stands after it

    def copy(self) -> Chain:
        """The same chain, whose rules change independently."""
        other = Chain(self.record)
        other.order = self.handles()
        return other

    def handles(self) -> list[int]:
        """The handles of the rules in order; those without a place stand at the end."""
        if not self._waiting:
            return list(self.order)
        return [*self.order, *(handle for late in self._waiting.values() for handle in late)]

    def place(self, handle: int, change: str | None, position: int | None) -> None:
        """Put a new rule where its message says.

        The position is the rule before it in the final state of the commit. That rule may be
        announced later in the same commit, and the new rule waits for it.
        """
        if position is not None:
            at = self._find(position)
            if at is None:
                self._waiting.setdefault(position, []).append(handle)
                return
            at += 1
        else:
            at = 0 if change == "insert" else len(self.order)
        self.order.insert(at, handle)
        self._hint = at
        while handle in self._waiting:  # insert A, add B, insert C: A waits for C
            late = self._waiting.pop(handle)
            self.order[at + 1 : at + 1] = late
            at, handle = at + 1, late[0]

    def remove(self, handle: int) -> bool:
        """Remove a rule; False if it is not here."""
        at = self._find(handle)
        if at is not None:
            del self.order[at]
            return True
        for position, late in self._waiting.items():
            if handle in late:
                late.remove(handle)
                if not late:
                    del self._waiting[position]
                return True
        return False

    def finish(self) -> bool:
        """Place what still waits, at the end; False if a rule waited in vain."""
        if self._waiting:
            self.order = self.handles()
            self._waiting = {}
            return False
        return True

    def _find(self, handle: int) -> int | None:
        order, hint = self.order, self._hint
        if hint < len(order) and order[hint] == handle:
            return hint
        if order and order[-1] == handle:
            return len(order) - 1
        return order.index(handle) if handle in order else None


class Set:
    """A set or map with its elements; an element that is only a key is held as None."""

    __slots__ = ("elements", "record")

    def __init__(self, record: RulesetRecord) -> None:
        self.record = record
        self.elements: dict[ElementKey, dict[str, Any] | None] = {}

    @property
    def anonymous(self) -> bool:
        """True for a set that a rule has brought along: NFT_SET_ANONYMOUS."""
        return is_anonymous(self.record)

    def copy(self) -> Set:
        """The same set, whose elements change independently."""
        other = Set(self.record)
        other.elements = dict(self.elements)
        return other

    def listed(self) -> list[dict[str, Any]]:
        """The elements, as records have them."""
        return [full_element(key, value) for key, value in self.elements.items()]


class Table:
    """A table: its own record, and all that is in it."""

    __slots__ = (
        "_names", "chains", "flowtables", "objects", "record", "rules", "sets", "unfinished",
    )  # fmt: skip

    def __init__(self, record: RulesetRecord) -> None:
        self.record = record
        self.chains: dict[str | None, Chain] = {}
        self._names: dict[int, str | None] = {}
        """Of chains, by their handles; also of those that are gone."""
        self.rules: dict[int, RulesetRecord] = {}
        """Every rule by its handle; the chains have the order."""
        self.sets: dict[str | None, Set] = {}
        self.objects: dict[tuple[Any, str | None], RulesetRecord] = {}
        """Objects by type and name: two types may use the same name."""
        self.flowtables: dict[str | None, RulesetRecord] = {}
        self.unfinished: set[str | None] = set()
        """Chains in which a rule waits for its place or for its new half."""

    def copy(self) -> Table:
        """The same table, which changes independently."""
        other = Table(self.record)
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
            complete = chain.finish() and not chain.replaced and complete
            for handle in chain.replaced:
                chain.remove(handle)
                self.rules.pop(handle, None)
            chain.replaced.clear()
        self.unfinished.clear()
        return complete

    def add_chain(self, record: RulesetRecord) -> bool:
        """Add a chain; or rename it, change its policy or add devices to it."""
        old = self.chains.get(record.chain)
        if old is None and record.handle is not None:
            old = self.chain_by_handle(record.handle)
            if old is not None:
                self._rename(old.record.chain, record.chain)
        if record.handle is not None:
            self._names[record.handle] = record.chain
        if old is None or old.record.handle != record.handle:
            for handle in () if old is None else old.handles():
                self.rules.pop(handle, None)
            self.chains[record.chain] = Chain(record)
            return old is None
        old.record = _with_devices(record, old.record.devices)
        return True

    def delete_chain(self, record: RulesetRecord) -> bool:
        """Delete a chain with its rules; or, if the change is an update, some of its devices."""
        if record.change == "update":
            chain = self.chains.get(record.chain)
            if chain is None:
                return False
            chain.record = _without_devices(chain.record, record.devices)
            return True
        gone = self.chains.pop(record.chain, None)
        for handle in gone.handles() if gone else ():
            self.rules.pop(handle, None)
        return gone is not None

    def add_rule(self, record: RulesetRecord) -> bool:
        """Add a rule at its place, or replace the one that has its handle."""
        handle, chain, fits = record.handle, self.chains.get(record.chain), True
        if handle is None:
            return False
        if chain is None:  # the message of the chain is missing
            chain, fits = Chain(_chain_of(record)), False
            self.chains[record.chain] = chain
        old = self.rules.get(handle)
        self.rules[handle] = record
        if old is not None:
            if old.chain == record.chain:
                fits = fits and handle in chain.replaced
                chain.replaced.discard(handle)
                return fits
            elsewhere = self.chains.get(old.chain)
            if elsewhere is not None:
                elsewhere.remove(handle)
            fits = False
        chain.place(handle, record.change, record.position)
        self.unfinished.add(record.chain)
        return fits and record.change != "replace"

    def delete_rule(self, record: RulesetRecord) -> bool:
        """Delete a rule; the old half of a replacement keeps its place for the new one."""
        handle, chain = record.handle, self.chains.get(record.chain)
        if handle is None or chain is None or handle not in self.rules:
            return False
        if record.change == "replace":
            chain.replaced.add(handle)
            self.unfinished.add(record.chain)
            return True
        gone = self.rules.pop(handle)
        if gone.chain != record.chain:  # the message that moved it is missing
            chain = self.chains.get(gone.chain, chain)
        chain.replaced.discard(handle)
        return chain.remove(handle) and gone.chain == record.chain

    def add_set(self, record: RulesetRecord) -> bool:
        """Add a set, or change it."""
        old = self.sets.get(record.name)
        if old is not None and old.record.handle == record.handle:
            old.record = record
            return True
        self.sets[record.name] = Set(record)
        return old is None

    def delete_set(self, record: RulesetRecord) -> bool:
        """Delete a set with its elements."""
        return self.sets.pop(record.name, None) is not None

    def add_elements(self, record: RulesetRecord, anonymous_only: bool) -> bool:
        """Add or change elements of a set."""
        members = self.sets.get(record.name)
        if members is None:
            return False
        if not anonymous_only or members.anonymous:
            for element in record.elements or ():
                members.elements[element_key(element)] = stored_element(element)
        return True

    def delete_elements(self, record: RulesetRecord, anonymous_only: bool) -> bool:
        """Delete elements of a set. One may be gone before: its timeout made no message."""
        members = self.sets.get(record.name)
        if members is None:
            return False
        if not anonymous_only or members.anonymous:
            for element in record.elements or ():
                members.elements.pop(element_key(element), None)
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
            record = _with_devices(record, old.devices)
        self.flowtables[record.name] = record
        return True

    def delete_flowtable(self, record: RulesetRecord) -> bool:
        """Delete a flowtable; or, if the change is an update, some of its devices."""
        old = self.flowtables.pop(record.name, None)
        if old is not None and record.change == "update":
            self.flowtables[record.name] = _without_devices(old, record.devices)
        return old is not None

    def chain_by_handle(self, handle: int | None) -> Chain | None:
        """A chain by its handle, whatever its name is."""
        if handle is None or handle not in self._names:
            return None
        chain = self.chains.get(self._names[handle])
        return chain if chain is not None and chain.record.handle == handle else None

    def _rename(self, old: str | None, new: str | None) -> None:
        # The kernel refers to chains by pointer, so that all rules show the new name at once.
        taken = self.chains.get(new)  # its deletion is missing
        for handle in () if taken is None else taken.handles():
            self.rules.pop(handle, None)
        self.chains[new] = self.chains.pop(old)
        if old in self.unfinished:
            self.unfinished.add(new)
        for handle, rule in self.rules.items():
            chain = new if rule.chain == old else rule.chain
            expressions = _renamed(rule.expressions, old, new)
            if chain != rule.chain or expressions is not rule.expressions:
                self.rules[handle] = msgspec.structs.replace(
                    rule, chain=chain, expressions=expressions, text=None
                )
        for members in self.sets.values():
            for key, element in members.elements.items():
                if element is not None and element.get("chain") == old:
                    members.elements[key] = {**element, "chain": new}


def is_anonymous(record: RulesetRecord) -> bool:
    """True for the record of an anonymous set: NFT_SET_ANONYMOUS."""
    return bool((record.flags or 0) & 1)


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


def element_key(element: dict[str, Any]) -> ElementKey:
    """What identifies an element in its set.

    In an interval set the same key can be the end of one range and the start of the next.
    """
    key, end = element.get("key"), element.get("key_end")
    flags = (element.get("flags") or 0) & _ELEMENT_FLAGS
    if isinstance(key, str) and end is None and not flags:
        return key
    return (key, end, flags)


def stored_element(element: dict[str, Any]) -> dict[str, Any] | None:
    """None for an element that is only a key: most are, and large sets stay small."""
    return None if len(element) == 1 and "key" in element else element


def full_element(key: ElementKey, stored: dict[str, Any] | None) -> dict[str, Any]:
    """An element as records have it."""
    return {"key": key} if stored is None else stored


def _with_devices(record: RulesetRecord, old: list[str] | None) -> RulesetRecord:
    """The record with the devices of both; its own text names only its own."""
    if not old or (record.devices and set(old) <= set(record.devices)):
        return record
    devices = [*old, *(name for name in record.devices or () if name not in old)]
    return msgspec.structs.replace(record, devices=devices, text=None)


def _without_devices(record: RulesetRecord, gone: list[str] | None) -> RulesetRecord:
    devices = [name for name in record.devices or () if name not in (gone or ())]
    return msgspec.structs.replace(record, devices=devices, text=None)


def _renamed(value: Any, old: str | None, new: str | None) -> Any:
    """The value with a chain renamed in every verdict; the same object if there is none."""
    if isinstance(value, list):
        parts = [_renamed(part, old, new) for part in value]
        same = all(part is before for part, before in zip(parts, value, strict=True))
        return value if same else parts
    if isinstance(value, dict):
        changed = {}
        for name, part in value.items():
            renamed = new if name == "chain" and part == old else _renamed(part, old, new)
            if renamed is not part:
                changed[name] = renamed
        return {**value, **changed} if changed else value
    return value
