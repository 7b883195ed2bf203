"""Make a report of logs: one page of HTML with pictures and tables, which needs nothing else.

A LOG is a file that pylog read can read, or a Parquet or Arrow file or data set of records. The
page says in sentences what happened, and shows traffic, ports and hours, who was blocked most, what
is new against the period before, flows and NAT, changes of the rules, and what the log lacks. It
loads nothing from elsewhere, runs only its own script, and can be read without one.

With --period the report is about the last month (or day, week...) that the logs have, and compares
it with the one before. A month that has just begun, so that less than a tenth of it is in the logs,
is left to the next report. Without --period, it is about all of the logs.

A log of NFLOG says what became of a packet only with --action.

The names of countries and networks come from files in the format mmdb, given with --geo.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pylog.cli import say, stdout
from pylog.cli._counts import Counting
from pylog.cli._inputs import add_input_arguments
from pylog.cli._outputs import add_action_argument
from pylog.cli._sources import (
    RECORDS,
    Stopping,
    add_source_arguments,
    add_text_log_arguments,
    check_is_no_log,
    check_not_live,
    group_of,
    paths_of,
)
from pylog.cli._where import add_where_arguments, given_filter
from pylog.options import SHOWN
from pylog.record import json_ready
from pylog.transports.files import REPLACE, check_is_free, replacing
from pylog.zones import TZ, clock_of, zone_of

if TYPE_CHECKING:
    from pylog.report.periods import Periods
    from pylog.stats.geo import Geo

USAGE = "[options] LOG ... -o FILE"
HELP = "make a report of logs: one page of HTML for people"
EPILOG = """examples:
  pylog report fw.dump -o report.html
  pylog report fw.dump -o november.html --period 2023-11 --title "Head office"
  pylog report nflog.pcap --action 'drop*=block' --tz Europe/Oslo --to json
"""
TITLE = "Firewall report"
TOP = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog report`."""
    parser.add_argument("source", nargs="+", metavar="LOG", help="a file, directory, glob or URL")
    add_input_arguments(parser)
    parser.add_argument(
        "-o", "--output", dest="write", metavar="FILE",
        help="the file to write (default: standard output)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
    parser.add_argument(
        "--to", dest="form", choices=("html", "json"), default="html",
        help="html, or the same numbers as a JSON object (default: html)",
    )  # fmt: skip
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="report on standard error what was detected, read, damaged and lost",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="how many processes read (default: this one)"
    )
    shown = group_of(parser, SHOWN)
    shown.add_argument("--title", default=TITLE, help=f"of the report (default: {TITLE})")
    shown.add_argument(
        "--period", default="all", metavar="PERIOD",
        help="which period the report is about: the last hour, day, week, month or year of the"
        " logs, or one as 2026, 2026-11, 2026-W48, 2026-11-28 or 2026-11-28T18; or all (default)",
    )  # fmt: skip
    shown.add_argument(
        "--tz", metavar=TZ.metavar or "NAME", default="UTC",
        help="time zone of days, hours and periods, and of times of --since and --until that state"
        " none, as Europe/Oslo, or local (default: UTC)",
    )  # fmt: skip
    shown.add_argument(
        "--top", type=int, default=TOP, metavar="N",
        help=f"how many addresses, ports and rules each list has (default: {TOP})",
    )  # fmt: skip
    shown.add_argument(
        "--geo", action="append", default=[], metavar="FILE",
        help="an mmdb file with the countries or networks of addresses; may be repeated",
    )  # fmt: skip
    add_action_argument(group_of(parser, RECORDS))
    add_where_arguments(parser)
    add_source_arguments(parser)
    add_text_log_arguments(parser)
    parser.set_defaults(origin=False, label=[])


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog report`."""
    from pylog.report.gather import Gathered  # needs the extra, as all of pylog.report
    from pylog.report.periods import Periods

    _check(arguments)
    where = given_filter(arguments)
    periods = Periods(arguments.period, zone_of(arguments.tz))
    if arguments.geo:
        from pylog.stats.geo import Geo

        geo = Geo(arguments.geo)
    else:
        geo = None
    names = [os.path.basename(path.rstrip("/")) or path for path in arguments.source]
    counting = Counting(arguments, partial(Gathered, periods, int(time.time())), where)
    with Stopping() as stopping:
        counting.all(stopping)
    if counting.failed:
        return 1
    _report_untimed(arguments, counting)
    text = _made(arguments, periods, counting, names, geo)
    if arguments.write in (None, "-"):
        output = stdout()
        output.write(text)
        output.flush()
        return 0
    with replacing(arguments.write, arguments.force) as path, open(path, "wb") as file:
        file.write(text)
    return 0


def _report_untimed(arguments: argparse.Namespace, counting: Counting) -> None:
    """Report records without a time; ValueError if there are no others, and times are needed."""
    options = ("--since", "--until", "--period")
    given = (arguments.since, arguments.until, arguments.period != "all" or None)
    needing = ", ".join(o for o, value in zip(options, given, strict=True) if value is not None)
    counted, untimed = counting.aggregate.counted()
    counting.check_times(needing, counted, untimed)
    if untimed + counting.untimed:
        say(counting.no_time(untimed + counting.untimed))


def _made(
    arguments: argparse.Namespace,
    periods: Periods,
    counting: Counting,
    logs: list[str],
    geo: Geo | None,
) -> bytes:
    """The report, as it is written."""
    from pylog.report.figures import Asked, figures
    from pylog.report.page import page
    from pylog.report.sentences import summary
    from pylog.report.tops import Names

    title, where = _readable(arguments.title), _filter_text(arguments)
    asked = Asked(
        title, periods, arguments.tz, where, Names(geo), arguments.top, int(time.time()),
        [_readable(name) for name in logs], not (counting.unknowable or counting.without_losses),
    )  # fmt: skip
    number, now, before = counting.aggregate.result()
    made = figures(asked, number, now, before)
    made["summary"] = [sentence.text for sentence in summary(made)]
    if not sum(made["records"].values()):
        hint = counting.no_verdict()
        if hint:
            say(hint)
        name = made["period"]["name"] or arguments.period
        say(f"the logs have no record of {name}" if name != "all" else "the logs have no record")
    if arguments.form == "json":
        return msgspec.json.encode(json_ready(made)) + b"\n"
    return page(made).encode("utf-8", "backslashreplace")


def _filter_text(arguments: argparse.Namespace) -> str | None:
    """The options that leave out records, as text; times in the zone of the report."""
    from pylog.stats.shown import time_text

    clock = clock_of(arguments.tz)
    limits = [None if at is None else time_text(at, clock) for at in arguments.limits]
    given = [
        f"{word} {value}"
        for word, value in (("", arguments.where), *zip(("from", "to"), limits, strict=True))
        if value is not None
    ]
    return _readable(", ".join(text.strip() for text in given)) or None


def _readable(text: str) -> str:
    """A text of the command line; bytes of it that are not UTF-8 are shown as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _check(arguments: argparse.Namespace) -> None:
    """ValueError or BackendError for arguments that cannot be followed, before a log is read."""
    check_not_live(arguments.source)
    if arguments.top < 1:
        raise ValueError(f"--top is {arguments.top}, but must be 1 or more")
    if "-" in arguments.source:
        raise ValueError("a report is made of files, not of standard input")
    if arguments.write in (None, "-"):
        if arguments.form == "html" and sys.stdout.isatty():
            raise ValueError("a page is not for a terminal: name a file, as -o report.html")
        return
    check_is_no_log(arguments.write, paths_of(arguments.source))
    if not arguments.force:
        check_is_free(arguments.write, REPLACE)
