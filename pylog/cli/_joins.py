"""The arguments --rules and --with-flows: packets with the rule that logged them, and their flow.

A live NFLOG group is read together with `nftables:`, which has the rules, and `nfct:`, which has
the flows; the records of these sources are then left out.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from pylog import backends, outputs
from pylog.cli._sources import RECORDS, AnyLog, group_of
from pylog.outputs._named import named, with_joined
from pylog.reader import Records
from pylog.record import (
    CounterRecord,
    FlowRecord,
    Record,
    RulesetRecord,
    TraceRecord,
)


class _Joining(NamedTuple):
    """An argument.

    option   its name
    source   the live source that has the other records
    kinds    of these records
    """

    option: str
    source: str
    kinds: tuple[type[Record], ...]


_RULES = _Joining("rules", "nftables", (RulesetRecord, TraceRecord))
_FLOWS = _Joining("with_flows", "nfct", (FlowRecord, CounterRecord))


def add_join_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --rules and --with-flows."""
    group = group_of(parser, RECORDS)
    group.add_argument(
        "--rules", action="store_true",
        help="add to each packet of NFLOG the rule of nftables that logged it, as rule_table,"
        " rule_chain, rule_handle and rule_text, or why that is not sure. The ruleset is read from"
        " the same recording, or live from the kernel; a trace makes it exact:"
        " nftables:+trace+nflog:GROUP",
    )  # fmt: skip
    group.add_argument(
        "--with-flows", action="store_true",
        help="add to each packet of NFLOG its flow of conntrack, as flow_id, flow_state, flow_age"
        " and the other side of its translation as nat_saddr..., or why that is not sure. The flows"
        " are read from the same recordings (use --merge), or live from the kernel",
    )  # fmt: skip


def _chosen(arguments: argparse.Namespace) -> list[_Joining]:
    return [joining for joining in (_RULES, _FLOWS) if getattr(arguments, joining.option)]


def prepare(arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    """Check and complete the arguments: add live sources that were not given, as `added`.

    Raises ValueError for an output that does not have the fields.
    """
    arguments.added = []
    chosen = _chosen(arguments)
    if chosen and not outputs.shows_joins(arguments.to, options):
        option = chosen[0].option.replace("_", "-")
        raise ValueError(
            f"--{option} is for {', '.join(outputs.showing_joins())}, not for {arguments.to}"
        )
    if chosen and arguments.to == "csv" and options.get("columns") is None:
        from pylog.record.joined import FLOW, RULE  # only here: making the type takes a while

        fields = [name for joining in chosen for name in (RULE if joining is _RULES else FLOW)]
        options["columns"] = with_joined(fields)
        named(options["columns"], options.get("exclude"))
    live = [name for source in arguments.source if (name := _live(source)) is not None]
    for joining in chosen:
        if "nflog" in live and joining.source not in live:
            arguments.added.append(f"{joining.source}:")
    arguments.source += arguments.added


def _live(source: str) -> str | None:
    parts = backends.named(source)
    return None if parts is None else parts[0]


def with_joins(arguments: argparse.Namespace, records: AnyLog) -> AnyLog:
    """The records as the arguments want them; without those of sources that were added."""
    chosen = _chosen(arguments)
    if not chosen:
        return records
    from pylog.flows.join import FlowJoin  # only here: the ruleset takes long to import
    from pylog.join import SELECTIONS, Join
    from pylog.joined import Joined

    for joining in chosen:
        assert isinstance(records, Records)
        added = f"{joining.source}:" in arguments.added
        first = records.readers()[arguments.source.index(f"{joining.source}:")] if added else None
        join: Join | FlowJoin = FlowJoin()
        if joining is _RULES:
            at_once = {_live(source) for source in arguments.source} == {"nftables"}
            selected = any(getattr(arguments, name, None) is not None for name in SELECTIONS)
            join = Join(at_once, selected)
        records = Joined(records, join, joining.kinds if added else (), first)
    return records
