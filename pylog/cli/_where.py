"""The arguments --where, --since and --until: which records a command takes.

Losses are taken always, unless --where mentions their kind. --since and --until compare the time of
the kernel, or where a record has none, the time of receipt.
"""

from __future__ import annotations

import argparse

from pylog.cli import say
from pylog.cli._sources import RECORDS, group_of
from pylog.filter import Filter
from pylog.filter.values import time_ns
from pylog.record import rfc3339


def add_where_arguments(
    parser: argparse.ArgumentParser, what: str = "records", title: str = RECORDS
) -> None:
    """Add the arguments.

    what    the command filters
    title   of their group in the help
    """
    group = group_of(parser, title)
    group.add_argument(
        "--where", metavar="EXPR",
        help=f"only {what} for which this holds, as 'saddr in 10.0.0.0/8 and dport == 22';"
        " `pylog help filter` explains it. Losses are always shown, unless it mentions their kind",
    )  # fmt: skip
    group.add_argument(
        "--since", metavar="TIME", type=_time,
        help=f"only {what} from this time on: 2026-11-28T19:00Z, 2026-11-28, or -2h for two hours"
        " ago",
    )  # fmt: skip
    group.add_argument("--until", metavar="TIME", type=_time, help=f"only {what} up to this time")


def _time(text: str) -> str:
    """A time as the filter language has it, as RFC 3339."""
    import time

    try:
        return rfc3339(time_ns(text, time.time_ns()))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from None


def given_filter(arguments: argparse.Namespace) -> Filter | None:
    """The filter of the arguments; None without them. FilterError."""
    tests = [
        f"(timestamp {operator} {limit} or not timestamp and observed {operator} {limit})"
        for operator, limit in ((">=", arguments.since), ("<=", arguments.until))
        if limit is not None
    ]
    if arguments.where is None:
        return Filter(" and ".join(tests)) if tests else None
    wanted = Filter(arguments.where)  # which points at errors in what was typed
    return Filter(" and ".join((f"({arguments.where})", *tests))) if tests else wanted


def report_filtered(wanted: Filter | None, count: int) -> None:
    """Report how many records a filter left out."""
    if wanted is not None:
        say(f"{count} {'record' if count == 1 else 'records'} left out by the filter")
