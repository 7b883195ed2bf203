"""The arguments --where, --since and --until: which records a command takes.

Losses are taken always, unless --where mentions their kind. --since and --until compare the time of
the kernel, or where a record has none, the time of receipt.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from pylog.cli import say
from pylog.cli._sources import RECORDS, group_of
from pylog.record import rfc3339

if TYPE_CHECKING:
    from pylog.filter import Filter

FILTER = """\
A filter is one or more tests of the fields of a record:

  action == block and saddr in 10.0.0.0/8 and dport in {22, 23, 8000..8100}
  prefix matches "^drop" and not indev == lo
  tcp_flags has S and not (tcp_flags has A) or timestamp > -2h
  mark & 0xff00 == 0x1200

Names: the fields that `pylog help columns` lists; a part of one, as fragment.offset or
extra.NFULA_CT_INFO; kind; and for either end addr, port, dev and mac. A name alone asks whether the
record has the field. A comparison with an absent field is false.

Operators: == != < <= > >= in "not in" contains startswith matches has; and or not && || ! ( ).
matches takes a regular expression of RE2 and needs the extra filter; has asks for TCP flags and for
members of lists; FIELD & MASK takes bits of a number, and alone asks whether one of them is set.

Values: numbers, words, "quoted text", addresses, prefixes, names of protocols and services, ranges
a..b, sets {a, b}, sets of the lines of a file @FILE, times as 2026-11-28T19:00Z, 2026-11-28, now or
-2h, durations as 90s.

The grammar:
"""
"""What `pylog help filter` says, before the grammar."""


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
    from pylog.filter.values import time_ns  # only where it is needed: it takes a while

    try:
        return rfc3339(time_ns(text, time.time_ns()))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not {error}") from None


def given_filter(arguments: argparse.Namespace) -> Filter | None:
    """The filter of the arguments; None without them. FilterError."""
    if arguments.where is None and arguments.since is None and arguments.until is None:
        return None
    from pylog.filter import Filter  # only where it is needed: it takes a while

    tests = [
        f"(timestamp {operator} {limit} or not timestamp and observed {operator} {limit})"
        for operator, limit in ((">=", arguments.since), ("<=", arguments.until))
        if limit is not None
    ]
    if arguments.where is None:
        return Filter(" and ".join(tests))
    wanted = Filter(arguments.where)  # which points at errors in what was typed
    return Filter(" and ".join((f"({arguments.where})", *tests))) if tests else wanted


def report_filtered(wanted: Filter | None, count: int) -> None:
    """Report how many records a filter left out."""
    if wanted is not None:
        say(f"{count} {'record' if count == 1 else 'records'} left out by the filter")
