"""What is doubtful about the log rules of a ruleset: what a reader of the log cannot rely on.

The packets of two rules with the same group, prefix and hook cannot be distinguished, unless their
matches exclude each other. A prefix that says "drop" on a rule that drops nothing misleads, and so
does one that says "accept" on a rule that drops. What is sent to a group without a listener is
lost, and a group has one listener only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pylog.formats.nft_loggers import Identity, Logger, Loggers
from pylog.formats.nft_matches import Judged, exclude, judged
from pylog.formats.nft_model import Model
from pylog.record import RulesetRecord

_DROPS = re.compile(r"(?i)(?<![a-z])(drop|dropped|drops|deny|denied|reject|rejected|block|blocked)"
                    r"(?![a-z])")  # fmt: skip
_PASSES = re.compile(r"(?i)(?<![a-z])(accept|accepted|accepts|allow|allowed|pass|passed|permit"
                     r"|permitted)(?![a-z])")  # fmt: skip
_NOT = re.compile(r"(?i)(?<![a-z])(not|no|un|never)(?![a-z])")
NAMED = 3
"""Of rules whose group has no listener, so many are named."""
MOST_COMPARED = 300
"""The matches of more rules that look the same are not compared, since each takes all others."""
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
        matches: dict[Identity, Judged] = {}
        for (_, hook), together in places.items():
            for alike in _overlapping(together, matches, model):
                names = frozenset(logger.identity for logger in alike)
                if names in seen:
                    continue
                seen.add(names)
                listed = "; ".join(_name(logger.rule) for logger in alike)
                what = f'prefix "{prefix}"' if prefix else "no prefix"
                yield (f"these rules cannot be distinguished in the log, because they have group"
                       f" {group}, {what} and hook {hook} in common: {listed}")  # fmt: skip


def _overlapping(
    rules: dict[Identity, Logger], matches: dict[Identity, Judged], model: Model
) -> list[list[Logger]]:
    """The groups of rules that a packet can pass, each with one of the others at least.

    matches   what was seen of rules so far
    """
    if not 1 < len(rules) <= MOST_COMPARED:
        return [list(rules.values())] if len(rules) > 1 else []
    for identity, logger in rules.items():
        if identity not in matches:
            rule = logger.rule
            before = (rule.expressions or [])[: logger.place]
            matches[identity] = judged(before, model, (rule.family, rule.table))
    groups = []
    left = dict.fromkeys(rules)
    while left:
        first = next(iter(left))
        del left[first]
        group, at = [first], 0
        while at < len(group):
            near = [i for i in left if not exclude(matches[group[at]], matches[i])]
            for identity in near:
                del left[identity]
            group, at = group + near, at + 1
        if len(group) > 1:
            groups.append([rules[identity] for identity in rules if identity in set(group)])
    return groups


def _misleading(model: Model) -> Iterator[str]:
    """Prefixes that say "drop" on rules that do not drop, and are not followed by one that does;
    and prefixes that say "accept" on rules that drop.
    """
    for (_, prefix), rules in Loggers(model):
        drops, passes = bool(_DROPS.search(prefix)), bool(_PASSES.search(prefix))
        if drops == passes or _NOT.search(prefix):
            continue
        for logger in rules:
            verdict = _verdict(logger.rule, logger.place)
            if passes:
                misleads = verdict in ("drop", "reject")
            elif verdict is None:
                misleads = not _dropped_next(logger, model)
            else:
                misleads = verdict not in ("drop", "reject", "jump", "goto", "queue")
            if misleads:
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
            yield f"{count} to group {number}, to which nobody listens: {_names(logging)}"


def _names(rules: list[RulesetRecord]) -> str:
    """At most three rules, and how many more there are."""
    listed = "; ".join(_name(rule) for rule in rules[:NAMED])
    return listed if len(rules) <= NAMED else f"{listed}; and {len(rules) - NAMED} more"


def _name(rule: RulesetRecord) -> str:
    return f"{rule.family} {rule.table} {rule.chain} handle {rule.handle}"


def _verdict(rule: RulesetRecord, place: int = 0) -> str | None:
    """The verdict of a rule, from a place among its expressions on."""
    for expression in (rule.expressions or [])[place:]:
        name = expression.get("name")
        if name == "immediate" and expression.get("verdict"):
            return str(expression["verdict"])
        if name == "reject":
            return "reject"
        if name == "target" and expression.get("extension") in ("DROP", "REJECT"):
            return str(expression["extension"]).lower()
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
            return verdict in ("drop", "reject", "jump", "goto")
    base = model.find_chain(rule.family, rule.table, rule.chain)
    if base is None or base.hook is None:
        return True  # what follows is up to the chain that jumped here
    return base.policy == "drop"


_STATEMENTS = ("log", "counter", "immediate", "reject", "target", "limit")


def _matches(expressions: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return [e for e in expressions or () if e.get("name") not in _STATEMENTS]
