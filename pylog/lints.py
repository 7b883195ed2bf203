"""What is doubtful about the log rules of a ruleset: what a reader of the log cannot rely on.

The packets of two rules with the same group, prefix and hook cannot be distinguished. A prefix that
says "drop" on a rule that drops nothing misleads. What is sent to a group without a listener is
lost, and a group has one listener only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pylog.formats.nft_loggers import Logger, Loggers
from pylog.formats.nft_model import Model
from pylog.record import RulesetRecord

_DROPS = re.compile(r"(?i)(?<![a-z])(drop|dropped|drops|deny|denied|reject|rejected|block|blocked)"
                    r"(?![a-z])")  # fmt: skip
_NOT = re.compile(r"(?i)(?<![a-z])(not|no|un|never)(?![a-z])")
_LAYERS = {"ip": ("ipv4",), "ip6": ("ipv6",), "inet": ("ipv4", "ipv6")}


def lints(model: Model, listeners: Mapping[int, str] | None = None) -> list[str]:
    """The remarks on a ruleset.

    listeners   the process that holds each NFLOG group, as text; None: that is not available
    """
    return [*_alike(model), *_misleading(model), *_unheard(model, listeners)]


def _alike(model: Model) -> Iterator[str]:
    """Rules whose packets look the same: by group, prefix, and where they meet them."""
    for (group, prefix), rules in Loggers(model):
        places: dict[tuple[str, Any], dict[tuple[Any, ...], Logger]] = {}
        for logger in rules:
            for base in logger.bases:
                for layer in _LAYERS.get(str(base.family), (str(base.family),)):
                    devices = base.devices if base.devices else [""]
                    for device in devices:
                        place = (layer, f"{base.hook} {device}".strip())
                        places.setdefault(place, {})[logger.identity] = logger
        seen: set[frozenset[Any]] = set()
        for (_, hook), alike in places.items():
            names = frozenset(alike)
            if len(alike) > 1 and names not in seen:
                seen.add(names)
                listed = "; ".join(_name(logger.rule) for logger in alike.values())
                what = f'prefix "{prefix}"' if prefix else "no prefix"
                yield (f"these rules cannot be distinguished in the log, because they have group"
                       f" {group}, {what} and hook {hook} in common: {listed}")  # fmt: skip


def _misleading(model: Model) -> Iterator[str]:
    """Prefixes that say "drop" on rules that do not drop, and are not followed by one that does."""
    for (_, prefix), rules in Loggers(model):
        if not _DROPS.search(prefix) or _NOT.search(prefix):
            continue
        for logger in rules:
            verdict = _verdict(logger.rule, logger.place)
            if verdict in ("drop", "jump", "goto", "queue") or (
                verdict is None and _dropped_next(logger, model)
            ):
                continue
            does = "no verdict" if verdict is None else f"the verdict {verdict}"
            yield f'the prefix "{prefix}" is misleading: {_name(logger.rule)} has {does}'


def _unheard(model: Model, listeners: Mapping[int, str] | None) -> Iterator[str]:
    groups: dict[int, list[RulesetRecord]] = {}
    for (group, _), rules in Loggers(model):
        if group.isdecimal():
            groups.setdefault(int(group), []).extend(logger.rule for logger in rules)
    if listeners is None:
        return
    for number, logging in sorted(groups.items()):
        count = "1 rule logs" if len(logging) == 1 else f"{len(logging)} rules log"
        if number in listeners:
            yield f"{count} to group {number}, which {listeners[number]} holds"
        else:
            yield f"{count} to group {number}, to which nobody listens: {_name(logging[0])}"


def _name(rule: RulesetRecord) -> str:
    return f"{rule.family} {rule.table} {rule.chain} handle {rule.handle}"


def _verdict(rule: RulesetRecord, place: int = 0) -> str | None:
    """The verdict of a rule, from a place among its expressions on; reject counts as drop."""
    for expression in (rule.expressions or [])[place:]:
        name = expression.get("name")
        if name == "immediate" and expression.get("verdict"):
            return str(expression["verdict"])
        if name == "reject":
            return "drop"
        if name == "target" and expression.get("extension") in ("DROP", "REJECT"):
            return "drop"
        if name == "lookup" and expression.get("dreg") == 0:
            return "jump"  # by a verdict map
    return None


def _dropped_next(logger: Logger, model: Model) -> bool:
    """Whether what the rule logs is dropped by the next rule, or by the policy after the last.

    The next rule must match whatever this one does: with the same matches, or without any.
    """
    rule = logger.rule
    rules = model.rules_of(rule.family, rule.table, rule.chain)
    at = next(n for n, other in enumerate(rules) if other.handle == rule.handle)
    matches = _matches(rule.expressions)
    for other in rules[at + 1 :]:
        theirs = _matches(other.expressions)
        if theirs and theirs != matches:
            return False
        verdict = _verdict(other)
        if verdict is not None:
            return verdict in ("drop", "jump", "goto")
    base = model.find_chain(rule.family, rule.table, rule.chain)
    if base is None or base.hook is None:
        return True  # what follows is up to the chain that jumped here
    return base.policy == "drop"


_STATEMENTS = ("log", "counter", "immediate", "reject", "target", "limit")


def _matches(expressions: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return [e for e in expressions or () if e.get("name") not in _STATEMENTS]
