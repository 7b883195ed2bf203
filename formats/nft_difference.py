"""The records that lead from one ruleset to another: what changed without being announced.

The tables are compared by their names and handles, their content likewise. Rules keep their order:
each new one says which rule stands before it. Values that packets change, such as counters, make no
difference. The records stand in the order of a commit: deletions of rules, sets, objects, chains
and the table, then the new entities.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Mapping
from typing import Any

import msgspec

from pylog.formats.nft_sets import Set, full_element
from pylog.formats.nft_tables import Chain, Table
from pylog.record.ruleset import RulesetRecord

_COMPARED = (
    "family", "table", "chain", "name", "handle", "type", "hook", "priority", "policy", "flags",
    "comment",
)  # fmt: skip

# What the kernel changes by itself, by the name of the expression or of the object's type.
_COUNTED = {
    "counter": {"packets", "bytes"},
    "quota": {"consumed", "flags"},  # NFT_QUOTA_F_DEPLETED is set by the kernel
    "last": {"set", "msecs"},
    "connlimit": set[str](),
}


def difference(
    old: Mapping[Any, Table], new: Mapping[Any, Table], via: str | None, observed_ns: int | None
) -> list[RulesetRecord]:
    """The records that lead from the old tables to the new ones."""
    records: list[RulesetRecord] = []
    for key, table in old.items():
        other = new.get(key)
        if other is None or other.record.handle != table.record.handle:
            records += _gone(table, Table(table.record), {})
            records.append(_deleted(table.record))
    for key, table in new.items():
        before = old.get(key)
        if before is None or before.record.handle != table.record.handle:
            records.append(_made(table.record))
            before = Table(table.record)
        elif not _equal(before.record, table.record):
            records.append(_made(table.record, "update"))
        records += _in_table(before, table)
    return [_stamped(record, via, observed_ns) for record in records]


def _in_table(old: Table, new: Table) -> Iterator[RulesetRecord]:
    """The records that lead from the content of a table to its new content."""
    kept = _kept_chains(old, new)
    yield from _gone(old, new, kept)
    renamed = [chain for chain in new.chains.values() if kept.get(_identity(chain)) not in
               (None, chain.record.chain)]  # fmt: skip
    if renamed:  # its rules, and those that jump to it, have the new name
        old = old.copy()
        for name, chain in list(old.chains.items()):
            if _identity(chain) not in kept:
                del old.chains[name]
        old.rename_chains({kept[_identity(chain)]: chain.record.chain for chain in renamed})
    for chain in renamed:
        yield _made(chain.record, "update")
        same = old.chains[chain.record.chain]
        same.record = msgspec.structs.replace(chain.record, devices=same.record.devices)
    yield from _new(old, new, {_identity(chain) for chain in old.chains.values()} & kept.keys())


def _identity(chain: Chain) -> int | str | None:
    return chain.record.chain if chain.record.handle is None else chain.record.handle


def _kept_chains(old: Table, new: Table) -> dict[int | str | None, str | None]:
    """The chains of both tables, by their handles, with their old names.

    One that has taken the name of another that is still there counts as a new chain.
    """
    names = {_identity(chain): name for name, chain in old.chains.items()}
    kept = {}
    there = {_identity(chain) for chain in new.chains.values()}
    for name, chain in new.chains.items():
        identity = _identity(chain)
        if identity in names and (
            names[identity] == name
            or name not in old.chains
            or _identity(old.chains[name]) not in there
        ):
            kept[identity] = names[identity]
    return kept


def _gone(old: Table, new: Table, kept: Container[int | str | None]) -> Iterator[RulesetRecord]:
    """What the new table does not have: rules, sets, objects, flowtables, chains."""
    for chain in old.chains.values():
        for handle in chain.handles():
            if handle not in new.rules or _identity(chain) not in kept:
                yield _deleted(old.rules[handle])
    for name, members in old.sets.items():
        other = new.sets.get(name)
        if other is None or other.record.handle != members.record.handle:
            yield _deleted(members.record)
    for key, record in old.objects.items():
        if key not in new.objects or new.objects[key].handle != record.handle:
            yield _deleted(record)
    for name, record in old.flowtables.items():
        if name not in new.flowtables or new.flowtables[name].handle != record.handle:
            yield _deleted(record)
    for chain in old.chains.values():
        if _identity(chain) not in kept:
            yield _deleted(chain.record)


def _new(old: Table, new: Table, kept: Container[int | str | None]) -> Iterator[RulesetRecord]:
    """What the old table does not have, or has otherwise."""
    chains = [(old.chains[chain.record.chain] if _identity(chain) in kept else None, chain)
              for chain in new.chains.values()]  # fmt: skip
    for same, chain in chains:
        yield from _of_device(same.record if same else None, chain.record)
    for name, members in new.sets.items():
        before = old.sets.get(name)
        if before is None or before.record.handle != members.record.handle:
            yield _made(members.record)
            before = Set(members.record)
        elif not _equal(before.record, members.record):
            yield _made(members.record, "update")
        yield from _elements(before, members)
    for key, record in new.objects.items():
        earlier = old.objects.get(key)
        if earlier is None or earlier.handle != record.handle:
            yield _made(record)
        elif not _equal(earlier, record):
            yield _made(record, "update")
    for name, record in new.flowtables.items():
        earlier = old.flowtables.get(name)
        replaced = earlier is not None and earlier.handle != record.handle
        yield from _of_device(None if replaced else earlier, record)
    for same, chain in chains:
        yield from _rules(old, new, same, chain)


def _of_device(old: RulesetRecord | None, record: RulesetRecord) -> Iterator[RulesetRecord]:
    """The new state of a chain or flowtable; a change of devices names only those devices."""
    if old is None:
        yield _made(record)
        return
    before, after = dict.fromkeys(old.devices or ()), dict.fromkeys(record.devices or ())
    gone = [name for name in before if name not in after]
    added = [name for name in after if name not in before]
    if gone:
        yield msgspec.structs.replace(_deleted(old), change="update", devices=gone)
    if added or not _equal(old, record):
        yield msgspec.structs.replace(_made(record, "update"), devices=added or None)


def _elements(old: Set, new: Set) -> Iterator[RulesetRecord]:
    gone = [full_element(key, value) for key, value in old.elements.items()
            if key not in new.elements]  # fmt: skip
    added = [
        full_element(key, value)
        for key, value in new.elements.items()
        if key not in old.elements or not _equal_elements(old.elements[key], value)
    ]
    for op, elements in (("del_set_element", gone), ("new_set_element", added)):
        if elements:
            record = new.record
            yield RulesetRecord(
                source=record.source, layout=record.layout, observed_ns=record.observed_ns,
                op=op, family=record.family, table=record.table, name=record.name,
                elements=elements,
            )  # fmt: skip


def _rules(old: Table, new: Table, same: Chain | None, chain: Chain) -> Iterator[RulesetRecord]:
    """New and replaced rules of a chain, each with the rule before it."""
    handles = chain.handles()
    places = {handle: n for n, handle in enumerate(same.handles() if same else ())}
    # The kernel never moves a rule: if the order differs, the rules are made again.
    kept = [handle for handle in handles if handle in places]
    moved = any(places[a] > places[b] for a, b in itertools.pairwise(kept))
    if moved:
        yield from (_deleted(old.rules[handle]) for handle in kept)
    previous: int | None = None
    for n, handle in enumerate(handles):
        rule = new.rules[handle]
        if handle not in places or moved:
            last = n == len(handles) - 1
            yield msgspec.structs.replace(
                rule,
                op="new_rule",
                change="append" if last else "insert",
                position=None if last else previous,
            )
        elif not _equal(old.rules[handle], rule):
            yield msgspec.structs.replace(_deleted(old.rules[handle]), change="replace")
            yield msgspec.structs.replace(rule, op="new_rule", change="replace", position=previous)
        previous = handle


def _deleted(record: RulesetRecord) -> RulesetRecord:
    """The deletion of what the record describes."""
    return msgspec.structs.replace(
        record, op="del_" + str(record.op).partition("_")[2], change="delete", position=None,
        observed_ns=None, offset=None, timestamp_ns=None, seq=None, raw=None,
    )  # fmt: skip


def _made(record: RulesetRecord, change: str | None = None) -> RulesetRecord:
    return msgspec.structs.replace(record, change=change)


def _stamped(record: RulesetRecord, via: str | None, observed_ns: int | None) -> RulesetRecord:
    """The record without the commit that its entity came with."""
    return msgspec.structs.replace(
        record, via=via, generation=None, pid=None, process=None, portid=None, uid=None,
        cmdline=None, cgroup=None, incomplete=None, partial=None,
        observed_ns=record.observed_ns if record.observed_ns is not None else observed_ns,
    )  # fmt: skip


def _equal(one: RulesetRecord, other: RulesetRecord) -> bool:
    """True if the two describe the same, whatever was counted in between."""
    return all(getattr(one, name) == getattr(other, name) for name in _COMPARED) and (
        _steady(one.expressions) == _steady(other.expressions)
    )


def _equal_elements(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(_steady({**one, "expires": None}) == _steady({**other, "expires": None}))


def _steady(value: Any) -> Any:
    """The value without what the kernel changes by itself."""
    if isinstance(value, list):
        return [_steady(part) for part in value]
    if isinstance(value, dict):
        counted = _COUNTED.get(value.get("name", ""), ())
        return {name: _steady(part) for name, part in value.items() if name not in counted}
    return value
