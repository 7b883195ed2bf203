"""The argument --rules: packets with the rule of nftables that logged them.

A live NFLOG group is read together with `nftables:`, which has the rules; the records of the
ruleset are then left out.
"""

from __future__ import annotations

import argparse
from typing import Any

from pylog import backends
from pylog.cli._sources import RECORDS, AnyLog, group_of
from pylog.join import Join
from pylog.joined import Joined
from pylog.outputs._named import every, named
from pylog.reader import Records
from pylog.record.joined import JOINED

OUTPUTS = ("text", "json", "csv")
"""The outputs that have the fields of the rule."""
SELECTIONS = ("families", "tables", "chains", "since_gen")
"""The options of nftables: that leave out records of the ruleset."""


def add_rules_argument(parser: argparse.ArgumentParser) -> None:
    """Add --rules."""
    group_of(parser, RECORDS).add_argument(
        "--rules", action="store_true",
        help="add to each packet of NFLOG the rule of nftables that logged it, as rule_table,"
        " rule_chain, rule_handle and rule_text, or why that is not sure. The ruleset is read from"
        " the same recording, or live from the kernel; a trace makes it exact:"
        " nftables:+trace+nflog:GROUP",
    )  # fmt: skip


def prepare(arguments: argparse.Namespace, options: dict[str, Any]) -> bool:
    """Check and complete the arguments; gives whether only packets are wanted.

    Raises ValueError for an output that does not have the fields.
    """
    if arguments.to not in OUTPUTS:
        raise ValueError(f"--rules is for {', '.join(OUTPUTS)}, not for {arguments.to}")
    if arguments.to == "csv" and options.get("columns") is None:
        options["columns"] = ",".join((*every(), *JOINED))
        named(options["columns"], options.get("exclude"))
    live = [name for source in arguments.source if (name := _live(source)) is not None]
    if "nflog" in live and "nftables" not in live:
        arguments.added = ["nftables:"]
        arguments.source += arguments.added
        return True
    return False


def _live(source: str) -> str | None:
    parts = backends.named(source)
    return None if parts is None else parts[0]


def with_rules(arguments: argparse.Namespace, records: AnyLog, alone: bool) -> Records:
    """The records with rules; only packets and losses if they stand `alone`."""
    assert isinstance(records, Records)
    selected = any(getattr(arguments, name, None) is not None for name in SELECTIONS)
    at_once = {_live(source) for source in arguments.source} == {"nftables"}
    first = records.readers()[arguments.source.index("nftables:")] if alone else None
    return Joined(records, Join(at_once, selected), alone, first)
