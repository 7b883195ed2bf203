"""The rules of a ruleset that log to NFLOG groups, by group and prefix, and what can reach them.

A log statement is an expression of nftables, or a target of xtables compat (NFLOG of iptables,
nflog of ebtables). A packet can have met a rule if a base chain with its family, hook and interface
leads to the rule's chain by jumps, and if no match before the log statement contradicts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pylog.formats.nft_matches import contradiction
from pylog.formats.nft_model import Model
from pylog.formats.nft_tables import Table
from pylog.record import PacketRecord
from pylog.record.ruleset import RulesetRecord

_FAMILIES = {2: ("ip", "inet"), 10: ("ip6", "inet"), 3: ("arp",), 7: ("bridge",), 5: ("netdev",)}
"""The families of tables that see packets of an nfgen_family."""

Identity = tuple[Any, Any, Any, Any]
"""Family, table, chain and handle of a rule."""


class Logger(NamedTuple):
    """A rule with a log statement, and the base chains that lead to it."""

    rule: RulesetRecord
    place: int
    """Of the log statement among the expressions."""
    bases: tuple[RulesetRecord, ...]

    @property
    def identity(self) -> Identity:
        """What identifies the rule while its table exists."""
        return (self.rule.family, self.rule.table, self.rule.chain, self.rule.handle)


Logging = dict[tuple[str, str], list[Logger]]
"""The log rules of a table by group and prefix."""


class Loggers:
    """The log rules of a ruleset as it is now: see LogHistory for one that changes."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tables = {key: _logging(table) for key, table in model.tables.items()}

    def __iter__(self) -> Iterator[tuple[tuple[str, str], list[Logger]]]:
        """The rules of each group and prefix."""
        together: Logging = {}
        for logging in self._tables.values():
            for statement, rules in logging.items():
                together.setdefault(statement, []).extend(rules)
        return iter(together.items())

    def candidates(self, packet: PacketRecord) -> list[Logger]:
        """The rules that can have logged the packet."""
        statement = (packet.group or "", packet.prefix or "")
        return [
            logger
            for logging in self._tables.values()
            for logger in logging.get(statement, ())
            if self._may_be(logger, packet)
        ]

    def _may_be(self, logger: Logger, packet: PacketRecord) -> bool:
        return any(passes(base, packet) for base in logger.bases) and matches(
            logger.rule, logger.place, packet, self._model
        )


def _logging(table: Table) -> Logging:
    rules = [(rule, statements) for rule in table.rules.values()
             if (statements := log_statements(rule))]  # fmt: skip
    reached = reaching(table) if rules else {}
    bases = {name: tuple(reached.get(name, ())) for name in {rule.chain for rule, _ in rules}}
    logging: Logging = {}
    for rule, statements in rules:
        for place, statement in statements:
            logger = Logger(rule, place, bases[rule.chain])
            logging.setdefault(statement, []).append(logger)
    return logging


def log_statements(rule: RulesetRecord) -> list[tuple[int, tuple[str, str]]]:
    """The log statements of a rule that send to NFLOG: place, and group and prefix."""
    statements = []
    for place, expression in enumerate(rule.expressions or ()):
        name = expression.get("name")
        if name == "log" or (
            name == "target" and expression.get("extension") in ("NFLOG", "nflog")
        ):
            group = expression.get("group")
            if group is not None:  # without a group: to the kernel's own log
                statements.append((place, (str(group), str(expression.get("prefix") or ""))))
    return statements


def logs(rule: RulesetRecord, group: str | None, prefix: str | None) -> bool:
    """Whether a rule logs to this group with this prefix."""
    wanted = (group or "", prefix or "")
    return any(statement == wanted for _, statement in log_statements(rule))


def matches(rule: RulesetRecord, place: int, packet: PacketRecord, model: Model) -> bool:
    """Whether a packet of that family can have come to a log statement in its rule."""
    family = (packet.extra or {}).get("nfgen_family")
    if family in _FAMILIES and rule.family not in _FAMILIES[family]:
        return False
    before = (rule.expressions or [])[:place]
    return contradiction(before, packet, model, (rule.family, rule.table)) is None


def reaching(table: Table) -> dict[str | None, list[RulesetRecord]]:
    """The base chains that lead to each chain by jumps and gotos, by the name of the chain.

    Of base chains with the same hook and devices one stands for all.
    """
    targets: dict[str | None, set[str | None]] = {}
    maps: dict[str | None, set[str]] = {}
    for rule in table.rules.values():
        targets.setdefault(rule.chain, set()).update(_targets(rule, table, maps))
    places: dict[tuple[Any, ...], list[str | None]] = {}
    for name, chain in table.chains.items():
        if chain.record.hook is not None:
            place = (chain.record.hook, *(chain.record.devices or ()))
            places.setdefault(place, []).append(name)
    reached: dict[str | None, list[RulesetRecord]] = {}
    for left in places.values():
        base, seen = table.chains[left[0]].record, set(left)
        while left:
            here = left.pop()
            reached.setdefault(here, []).append(base)
            new = targets.get(here, set()) - seen
            seen |= new
            left += new
    return reached


def links(rule: RulesetRecord) -> Iterator[str | tuple[Any]]:
    """What a rule can lead to: names of chains, and names of sets, each in a tuple."""
    for expression in rule.expressions or ():
        chain = expression.get("chain")
        if isinstance(chain, str):
            yield chain
        if "set" in expression:
            yield (expression["set"],)


def _targets(rule: RulesetRecord, table: Table, maps: dict[str | None, set[str]]) -> Iterator[str]:
    """The chains that a rule jumps to, also by a verdict map; `maps` keeps those of each map."""
    for link in links(rule):
        if isinstance(link, str):
            yield link
            continue
        (name,) = link
        if name not in maps:
            members = table.sets.get(name)
            maps[name] = {
                element["chain"]
                for element in (() if members is None else members.elements.values())
                if element is not None and isinstance(element.get("chain"), str)
            }
        yield from maps[name]


def passes(base: RulesetRecord, packet: PacketRecord) -> bool:
    """Whether a packet can be in a base chain, by hook and device."""
    if packet.hook is not None and base.hook != packet.hook:
        return False
    device = packet.outdev if base.hook == "egress" else packet.indev
    return not (base.devices and isinstance(device, str) and device not in base.devices)
