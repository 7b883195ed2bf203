"""Print the ruleset of nftables as of a moment of a recording, or what changed between two moments.

SOURCE is a recording of `nftables:` (a capture or dump), or nftables: itself for the ruleset of
this machine. A moment is a generation, as in `pylog read`, or a time. What was there before a
recording began is shown only if it begins with a snapshot, as those of pylog do.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from pylog import backends
from pylog.cli import answer_escaped, say, stdout
from pylog.cli._outputs import coloured
from pylog.cli._sources import (
    OF_NFTABLES,
    add_live_arguments,
    add_source_arguments,
    opened,
)
from pylog.join import SELECTIONS
from pylog.outputs._text_words import diff_coloured
from pylog.reader import Records
from pylog.record import Record, RulesetRecord, escape, json_lines
from pylog.ruleset import Moment, Moments, Wanted, changes, compared, listing, moment

LISTED_S = 1.0
"""How long to wait for more of a snapshot, which is at hand as soon as a source is open."""

USAGE = "[options] SOURCE"
HELP = "print the ruleset of nftables as of a moment, or what changed between two"
EPILOG = """examples:
  pylog ruleset fw.pcapng                        at the end of the recording
  pylog ruleset --at 681 fw.pcapng               after generation 681
  pylog ruleset --diff 680..682 fw.pcapng        what changed in between
  pylog ruleset --diff 2026-11-28T19:00Z.. fw.pcapng
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog ruleset`."""
    parser.add_argument("source", metavar="SOURCE", help="a recording, - or nftables:")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--at", metavar="MOMENT", type=_moment,
        help="the ruleset after this generation, or at this time (default: at the end)",
    )  # fmt: skip
    which.add_argument(
        "--diff", metavar="A..B", type=_two,
        help="what changed between two moments; without A from the beginning, without B to the end",
    )  # fmt: skip
    parser.add_argument(
        "--to", choices=("text", "json"), default="text",
        help="json: the ruleset, or the changes, as records, one a line (default: text)",
    )  # fmt: skip
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto",
        help="colours of changes; auto: on a terminal, unless NO_COLOR is set (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--where", metavar="EXPR",
        help="only entities and changes for which this holds, as 'chain == input and text contains"
        " drop'; `pylog help filter` explains it",
    )  # fmt: skip
    add_source_arguments(parser)
    add_live_arguments(parser, OF_NFTABLES)


def _moment(text: str) -> Moment:
    try:
        return moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _two(text: str) -> tuple[Moment, Moment, bool]:
    """Both moments, and whether the first one is the beginning."""
    first, dots, second = text.partition("..")
    if not dots:
        raise argparse.ArgumentTypeError(f"{text!r} is not A..B")
    return _moment(first) if first else None, _moment(second) if second else None, not first


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog ruleset`."""
    first, second, from_start = arguments.diff or (None, arguments.at, False)
    wanted = _wanted(arguments.where)
    moments = Moments([first, second])
    live = backends.is_live(arguments.source)
    if live and (arguments.diff or arguments.at):
        raise ValueError(f"{arguments.source} is live: moments are those of a recording")
    with opened(arguments, [arguments.source]) as records:
        moments.read(_snapshot(records) if live else records)
    for loss in moments.lost:
        say(loss)
    new = moments.at(second)
    selected = any(getattr(arguments, name, None) is not None for name in SELECTIONS)
    if not moments.complete and not (live and selected):
        say("no snapshot: what was there before the first record is not shown")
    if arguments.diff is None:
        _write(arguments, filter(wanted, new.records()), listing(new, wanted))
    else:
        old = moments.beginning if from_start else moments.at(first)
        _write(arguments, filter(wanted, changes(old, new)), compared(old, new, wanted))
    return 0


def _wanted(where: str | None) -> Wanted:
    """Which records are wanted; FilterError."""
    if where is None:
        return lambda record: True
    from pylog.filter import Filter  # only where it is needed: it takes a while

    return Filter(where).matches


def _snapshot(records: Records) -> Iterator[Record]:
    """The snapshot with which a live source begins."""
    while True:
        try:
            batch = records.read_batch(LISTED_S)
        except TimeoutError:
            return
        for record in batch:
            if not isinstance(record, RulesetRecord) or record.via != "snapshot":
                return
            yield record
        if not batch:
            return


def _write(
    arguments: argparse.Namespace, records: Iterable[RulesetRecord], lines: Iterator[str]
) -> None:
    if arguments.to == "json":
        stdout().write(json_lines([*records]))
        return
    colour = coloured(arguments, stdout())
    for line in lines:
        text = line.lstrip("\t")
        indent, text = line[: len(line) - len(text)], escape(text)
        mark = text[:1] if colour else ""
        answer_escaped(indent + (diff_coloured(mark, text) if mark in ("+", "-", "~") else text))
