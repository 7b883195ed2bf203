"""Count the records of logs: by address, network, port, rule, verdict, country, hour...

A SOURCE is all that `pylog read` reads, and also a Parquet or Arrow file, or a directory of them.
Records are grouped by the fields of --by: those that `pylog help columns` lists; networks of
addresses, as saddr/24, or saddr/24/48 with the length for IPv6; hour (of the day), weekday, day and
month in the zone of --tz; saddr.country, saddr.asn and saddr.network with --geo. A record that
stands for several packets counts as many.

Up to 100,000 groups are counted exactly, or --keys N. Of more groups the heaviest are kept, and the
table says how far each count may be off. Beneath every table stands what it does not contain:
losses above all. A live source is counted until Ctrl-C, or with --for so long.
"""

from __future__ import annotations

import argparse
from functools import partial

from pylog.cli import answer, say
from pylog.cli._counts import Counting
from pylog.cli._inputs import add_input_arguments
from pylog.cli._joins import add_join_arguments, prepare
from pylog.cli._outputs import add_action_argument, count
from pylog.cli._sources import (
    RECORDS,
    Stopping,
    add_live_arguments,
    add_origin_arguments,
    add_source_arguments,
    group_of,
)
from pylog.cli._stats import Shown, write
from pylog.cli._where import add_where_arguments, given_filter, time_ns
from pylog.options import SHOWN
from pylog.stats.keys import TIME_PARTS
from pylog.stats.question import SUMS, Question
from pylog.stats.reports import REPORTS, SCANNED, Report, keep_scanners, questions
from pylog.stats.result import Answer, Group
from pylog.stats.summary import LOSS, Summary
from pylog.units import seconds
from pylog.zones import TZ, clock_of

USAGE = "[options] SOURCE ..."
HELP = "count records by address, port, rule, verdict, hour..., and answer ready questions"
EPILOG = """examples:
  pylog stats --by saddr fw.dump                    who is seen most
  pylog stats --report scanners fw.dump             who tried many ports or hosts
  pylog stats --by saddr/24,action --top 10 fw.dump
  pylog stats --by dport --distinct saddr --where 'action == block' fw.dump
  pylog stats --every 1h --sum length --tz Europe/Oslo fw.dump
  pylog stats --by saddr --new-since 2023-11-14 --to json fw.dump
  pylog stats --by prefix --for 1m nflog:5          a minute of a live group (as root)
"""
TOP = 25
"""So many groups a table shows, unless --top says another number."""


ASKED = ("packet", "flow", "ruleset", "trace", "counter")
"""Kinds of record that are counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog stats`."""
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE",
        help="a log as `pylog read` reads it, live or not, or a file or directory of Parquet",
    )  # fmt: skip
    add_input_arguments(parser)
    parser.add_argument(
        "--by", metavar="FIELD,...", default="",
        help="group by these fields, as saddr/24,action (default: all records together)",
    )  # fmt: skip
    parser.add_argument(
        "--report", choices=tuple(REPORTS), metavar="NAME",
        help="a ready question: "
        + "; ".join(f"{name} ({report.about})" for name, report in REPORTS.items()),
    )  # fmt: skip
    parser.add_argument(
        "--every", metavar="TIME",
        help="and by time, in buckets so long: 10s, 15m, 1h, 1d, 1w (from Monday on), month",
    )  # fmt: skip
    parser.add_argument(
        "--sum", action="append", choices=SUMS, default=[],
        help="also sum the length of packets; or packets, or bytes, of packets and of flows that"
        " have ended; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--distinct", action="append", default=[], metavar="FIELD,...",
        help="also count distinct values of these fields together; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--top", type=count, metavar="N",
        help=f"only the N greatest groups, of each time bucket (default: {TOP} in a table, else"
        " all)",
    )  # fmt: skip
    parser.add_argument(
        "--order", metavar="NAME",
        help="the order of groups: count, a sum, distinct_FIELD, first, last or key (default: the"
        " first sum, or count)",
    )  # fmt: skip
    parser.add_argument(
        "--new-since", metavar="TIME",
        help="only groups that were not seen before this time: 2026-11-28T19, 2026-11-28T19:30Z,"
        " 2026-11-28, or -2h. Without Z or an offset it is in the zone of --tz",
    )  # fmt: skip
    parser.add_argument(
        "--kind", metavar="KIND",
        help=f"which records: {', '.join(ASKED)} (default: the first of these that there are)",
    )  # fmt: skip
    parser.add_argument(
        "--to", dest="form", choices=("table", "json", "csv", "parquet"), default=None,
        help="what to write (default: what the ending of FILE says, else table)",
    )  # fmt: skip
    parser.add_argument("-w", "--write", metavar="FILE", help="write there")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="report on standard error what was detected, read, damaged and lost",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="how many processes decode files (default: this one)"
    )
    parser.add_argument(
        "--for", dest="for_s", type=_seconds, metavar="TIME",
        help="count so long, as 60s or 5m, then answer",
    )  # fmt: skip
    parser.add_argument("--keys", type=int, metavar="N", help="how many groups are counted exactly")
    group_of(parser, SHOWN).add_argument(
        "--tz", metavar=TZ.metavar or "NAME", default="UTC",
        help="time zone of hours, days and buckets, of times in tables, and of those of --since,"
        " --until and --new-since that state none, as Europe/Oslo, or local (default: UTC)",
    )  # fmt: skip
    records = group_of(parser, RECORDS)
    records.add_argument(
        "--geo", action="append", default=[], metavar="FILE",
        help="a local mmdb file, for countries and networks of addresses; may be repeated",
    )  # fmt: skip
    add_action_argument(records)
    add_where_arguments(parser)
    add_join_arguments(parser)
    add_origin_arguments(parser)
    add_source_arguments(parser)
    add_live_arguments(parser)


def _seconds(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog stats`."""
    clock = clock_of(arguments.tz)
    if arguments.kind is not None and arguments.kind not in ASKED:
        raise ValueError(f"no kind {arguments.kind!r}; there are {', '.join(ASKED)}")
    shown = Shown(arguments)
    report = REPORTS[arguments.report] if arguments.report else None
    asked = _asked(arguments, report)
    kind = arguments.kind or (report.kind if report else "") or None
    make = partial(Summary, asked, [kind] if kind else [])
    if report is not None and report.where:
        given = arguments.where
        arguments.where = report.where if given is None else f"({given}) and ({report.where})"
    since_ns = time_ns(arguments, "--new-since")
    arguments.to = "text"  # as `prepare` expects it
    if {"origin", "host"} & {name for each in asked for name in each.by}:
        arguments.origin = True
    prepare(arguments, {})
    counting = Counting(arguments, make, given_filter(arguments))
    with Stopping() as stopping:
        counting.all(stopping, arguments.for_s)
        status = stopping.status
    summary: Summary = counting.aggregate
    needing = _needing_times(arguments, asked)
    counted = sum(n for of_kind, n in summary.counts.items() if of_kind != LOSS)
    counting.check_times(needing, counted, summary.untimed)
    sections = []
    for number, _ in enumerate(asked):
        title = report.sections[number].title if report else ""
        order = arguments.order or (report.sections[number].order if report else None)
        limit = arguments.top or (TOP if shown.form == "table" else None)
        scanners = arguments.report == "scanners"
        of_section = summary.answer(
            number, kind, None if since_ns is not None else limit, order,
            SCANNED if scanners else None,
        )  # fmt: skip
        if since_ns is not None:
            of_section.keep(partial(_is_new, since_ns=since_ns))
        if scanners:
            keep_scanners(of_section)
        groups = of_section.top(limit, order)
        evidence = _evidence(summary, number, of_section, groups) if scanners else []
        sections.append((title, of_section, groups, evidence))
    write(shown, sections, summary, counting, clock)
    tell = answer if shown.form == "table" and not arguments.write else say
    if not any(groups for _, _, groups, _ in sections):
        missing = counting.no_verdict() or (report.missing if report is not None else "")
        if missing:
            tell(missing)
    untimed = summary.untimed + counting.untimed
    if untimed and needing:
        tell(f"{needing}: {counting.no_time(untimed)}")
    return status or int(counting.failed)


def _asked(arguments: argparse.Namespace, report: Report | None) -> list[Question]:
    """The questions of the arguments; ValueError for those that do not go together."""
    if report is not None:
        for name in ("by", "sum", "distinct"):
            if getattr(arguments, name):
                raise ValueError(f"--{name} is not for --report, which has its own")
        return questions(report, arguments.tz, arguments.every, arguments.keys)
    by = tuple(filter(None, (name.strip() for name in arguments.by.split(","))))
    distinct = tuple(
        dict.fromkeys(tuple(map(str.strip, names.split(","))) for names in arguments.distinct)
    )
    return [
        Question(by, arguments.every, tuple(dict.fromkeys(arguments.sum)), distinct, arguments.tz,
                 tuple(arguments.geo), arguments.keys)
    ]  # fmt: skip


def _is_new(group: Group, since_ns: int) -> bool:
    return group.first_ns is not None and group.first_ns >= since_ns


def _needing_times(arguments: argparse.Namespace, asked: list[Question]) -> str:
    """The options that need the times of records, as they are typed; "" for none."""
    names = [f"--{name}" for name in ("since", "until", "every", "new_since")
             if getattr(arguments, name) is not None]  # fmt: skip
    if arguments.report and asked[0].every is not None and arguments.every is None:
        names.append(f"--report {arguments.report}")
    parts = [name for name in asked[0].by if name in TIME_PARTS]
    if parts:
        names.append(f"--by {','.join(parts)}")
    return ", ".join(names).replace("_", "-")


EXAMPLES = 8


def _evidence(
    summary: Summary, number: int, of_section: Answer, groups: list[Group]
) -> list[tuple[list[int], list[str]]]:
    """Ports and hosts that scanners touched: the least of each, for each group."""
    found = []
    for group in groups:
        ports, hosts = (
            [value for (value,) in summary.examples(number, of_section.kind, group.keys, place,
                                                    EXAMPLES)]
            for place in (0, 1)
        )  # fmt: skip
        found.append((ports, hosts))
    return found
