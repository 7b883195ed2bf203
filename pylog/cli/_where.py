"""The arguments --where, --since and --until: which records a command takes.

Losses are taken always, unless --where mentions their kind. --since and --until compare the time of
the kernel, or where a record has none, the time of receipt. What is typed without a zone is in that
of --tz, if the command has the option, else in UTC: so it means what the command shows. A record
without a time is left out, and reported.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pylog.cli import say
from pylog.cli._sources import RECORDS, group_of
from pylog.record import rfc3339
from pylog.zones import zone_of

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
-2h, durations as 90s. Times without a zone are UTC.

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
    has_zone = any("--tz" in action.option_strings for action in parser._actions)
    zone = "in the zone of --tz" if has_zone else "UTC"
    group.add_argument(
        "--where", metavar="EXPR",
        help=f"only {what} for which this holds, as 'saddr in 10.0.0.0/8 and dport == 22';"
        " `pylog help filter` explains it. Losses are always shown, unless it mentions their kind",
    )  # fmt: skip
    group.add_argument(
        "--since", metavar="TIME",
        help=f"only {what} from this time on: 2026-11-28T19, 2026-11-28T19:30Z, 2026-11-28, or -2h"
        f" for two hours ago. Without Z or an offset it is {zone}",
    )  # fmt: skip
    group.add_argument("--until", metavar="TIME", help=f"only {what} up to this time")


def time_ns(arguments: argparse.Namespace, option: str) -> int | None:
    """The time that an option states, in nanoseconds since 1970 UTC; None without it.

    Without a zone it is in that of --tz, else in UTC. ValueError.
    """
    text = getattr(arguments, option.strip("-").replace("-", "_"))
    if text is None:
        return None
    from pylog.filter import values  # only where it is needed: it takes a while

    zone = getattr(arguments, "tz", None) or getattr(arguments, "to.tz", None) or "UTC"
    try:
        return values.time_ns(text, time.time_ns(), zone_of(zone))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{option}: {text!r} is not {error}") from None


def given_filter(arguments: argparse.Namespace) -> Filter | None:
    """The filter of the arguments, always the same one; None without them. FilterError, and
    ValueError for a time that is none.

    It puts the limits of time, in nanoseconds since 1970, into `arguments.limits`.
    """
    if not hasattr(arguments, "wanted"):
        arguments.limits = time_ns(arguments, "--since"), time_ns(arguments, "--until")
        arguments.wanted = _filter(arguments)
    wanted: Filter | None = arguments.wanted
    return wanted


def _filter(arguments: argparse.Namespace) -> Filter | None:
    if arguments.where is None and arguments.limits == (None, None):
        return None
    from pylog.filter import Filter  # only where it is needed: it takes a while

    tests = [
        f"(timestamp {operator} {at} or not timestamp and observed {operator} {at})"
        for operator, limit in zip((">=", "<="), arguments.limits, strict=True)
        if limit is not None and (at := rfc3339(limit))
    ]
    if arguments.where is None:
        return Filter(" and ".join(tests))
    wanted = Filter(arguments.where)  # which points at errors in what was typed
    return Filter(" and ".join((f"({arguments.where})", *tests))) if tests else wanted


def report_untimed(arguments: argparse.Namespace, containers: Iterable[str]) -> None:
    """Report how many records the filter left out because they have no time.

    containers   of the logs, see Detection
    """
    wanted = given_filter(arguments)
    if wanted is not None and wanted.untimed:
        from pylog.stats.hints import no_time  # only here

        say(f"left out by the filter: {no_time(wanted.untimed, lacks_zone(arguments, containers))}")


def lacks_zone(arguments: argparse.Namespace, containers: Iterable[str]) -> bool:
    """Whether the times of text logs may lack only a zone that --log-tz would state."""
    return "text" in containers and getattr(arguments, "log_tz", None) is None


def report_filtered(wanted: Filter | None, count: int) -> None:
    """Report how many records a filter left out."""
    if wanted is not None:
        say(f"{count} {'record' if count == 1 else 'records'} left out by the filter")
