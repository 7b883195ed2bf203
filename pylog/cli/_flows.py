"""The argument --flows: one record for each flow, in place of one for each of its events."""

from __future__ import annotations

import argparse

from pylog import outputs
from pylog.cli._sources import RECORDS, AnyLog, group_of
from pylog.flows import LIMIT, Flows
from pylog.flows.reader import Flowed
from pylog.reader import Records

ONE_KIND = ("parquet", "arrow")
"""The outputs that hold one kind of record."""
ONLY = {"nfct:": "flow", "nftables:": "ruleset"}
"""Live sources without packets, and the kind of record that they give."""


def add_flows_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --flows and its options."""
    group = group_of(parser, RECORDS)
    group.add_argument(
        "--flows", action="store_true",
        help="one record for each flow of conntrack, and of IPFilter's NAT and state logs, when it"
        " has ended: start, last packet, why it ended, counters by orig and reply. Flows that go on"
        " are reported when reading ends",
    )  # fmt: skip
    group.add_argument(
        "--active-timeout", type=float, metavar="SECONDS",
        help="with --flows, report a flow that goes on each time it has lived so long, with what"
        " was counted since the last report (default: never)",
    )  # fmt: skip
    group.add_argument(
        "--flow-limit", type=int, metavar="N",
        help="with --flows, hold so many living flows; when there are more, the oldest is reported"
        f" early, as evicted (default: {LIMIT})",
    )  # fmt: skip


def prepare_flows(arguments: argparse.Namespace, output: str) -> None:
    """Check the arguments for an output. If it holds one kind of record, and the sources have no
    packets, --kind becomes the kind that they have.

    Raises ValueError for an option without --flows or with a bad value, and for an output that
    writes the source's bytes.
    """
    if output in ONE_KIND and getattr(arguments, "to.kind") is None:
        setattr(arguments, "to.kind", _only_kind(arguments))
    if not arguments.flows:
        for name in ("active_timeout", "flow_limit"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} needs --flows")
        return
    if outputs.description(output).raw:
        raise ValueError(f"--flows is not for {output}, which is made of the kernel's own records")
    limit, active_s = arguments.flow_limit, arguments.active_timeout
    if limit is not None and limit < 1:
        raise ValueError(f"--flow-limit is {limit}, but must be 1 or more")
    if active_s is not None and not 0 < active_s < float("inf"):
        raise ValueError(f"--active-timeout is {active_s:g}, but must be more than 0")
    events = getattr(arguments, "events", None)
    if events is not None and "destroy" not in map(str.strip, events.split(",")):
        raise ValueError(f"--flows needs the events destroy, but --events is {events}")


def _only_kind(arguments: argparse.Namespace) -> str | None:
    """The kind of record that is certain to be all that the sources have; None: there may be
    packets."""
    if arguments.flows:
        return "flow"
    kinds = {ONLY.get(source) for source in arguments.source}
    return kinds.pop() if len(kinds) == 1 else None


def flows_of(arguments: argparse.Namespace, merged: bool) -> Flows | None:
    """The table of flows that the arguments ask for; None without --flows.

    merged   whether the sources are merged; else they are parts of one log
    """
    if not arguments.flows:
        return None
    limit = LIMIT if arguments.flow_limit is None else arguments.flow_limit
    return Flows(limit, arguments.active_timeout, by_origin=merged)


def as_flows(records: AnyLog, flows: Flows | None, last: bool = True) -> AnyLog:
    """The flows of records; the records if there is no table of flows."""
    if flows is None:
        return records
    assert isinstance(records, Records)
    return Flowed(records, flows, last)
