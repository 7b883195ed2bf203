"""Show what is logged now on a live screen: the rate, and the top sources, targets, ports, rules,
networks, interfaces and verdicts.

A SOURCE is live (nflog:5, nfct:, ipl:), a file that grows (--follow), a recording at its own pace
(--speed 1) or a file, which is read at once. Keys: 1 to 8 and the arrows choose what is shown, s
sorts, / types a filter, p pauses, Enter looks into an entry, c counts anew, q ends. The rate is in
records per second; counts are those of packets, also where a record stands for several.

Reading has a thread of its own. Of a live source that is faster than it the kernel drops records:
they are counted, and shown as LOST. --once prints one picture as text, for scripts.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import pylog
from pylog import backends
from pylog.cli import answer_escaped, say
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._joins import add_join_arguments, prepare, with_joins
from pylog.cli._outputs import add_action_argument, given_actions
from pylog.cli._sources import (
    RECORDS,
    Stopping,
    add_live_arguments,
    add_origin_arguments,
    add_source_arguments,
    group_of,
    input_layout,
    opened,
    text_log_options,
)
from pylog.cli._where import add_where_arguments, given_filter
from pylog.cli.replay import _max_gap, _speed
from pylog.cli.stats import _seconds
from pylog.errors import BackendError
from pylog.options import SHOWN
from pylog.reader import Records
from pylog.record import RulesetRecord
from pylog.top.counts import Counts
from pylog.top.picture import once
from pylog.top.reading import Reading
from pylog.zones import TZ, clock_of

USAGE = "[options] SOURCE ..."
HELP = "show what is logged now on a live screen: rate, top sources, ports, rules, losses"
EPILOG = """examples:
  pylog top nflog:5                              live (as root)
  pylog top --follow /var/log/ipf.log            a file that grows
  pylog top --speed 10 nflog.pcap                a recording, ten times as fast
  pylog top --once fw.dump                       one picture as text
  pylog top --once --for 10s nflog:5             of ten seconds
"""
ONCE_S = 2.0
ROWS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog top`."""
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE", help="a log as `pylog read` reads it, live or not"
    )
    add_input_arguments(parser)
    parser.add_argument("--once", action="store_true", help="print one picture as text, and end")
    parser.add_argument(
        "--for", dest="for_s", type=_seconds, metavar="TIME",
        help=f"with --once: read a live source so long (default: {ONCE_S:g}s)",
    )  # fmt: skip
    parser.add_argument(
        "--speed", type=_speed, default=0.0, metavar="N",
        help="replay a recording so many times faster than it was, or max for no waiting (default:"
        " no replay)",
    )  # fmt: skip
    parser.add_argument(
        "--max-gap", type=_max_gap, default=pylog.Replay.MAX_GAP_S, metavar="SECONDS",
        help="with --speed: wait for one record no longer than this; none for no limit (default:"
        f" {pylog.Replay.MAX_GAP_S:g})",
    )  # fmt: skip
    group_of(parser, SHOWN).add_argument(
        "--tz", metavar=TZ.metavar or "NAME", default="UTC", help=f"{TZ.help} (default: UTC)"
    )
    add_action_argument(group_of(parser, RECORDS))
    add_where_arguments(parser)
    add_join_arguments(parser)
    add_origin_arguments(parser)
    add_source_arguments(parser)
    add_live_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog top`."""
    clock = clock_of(arguments.tz)
    wanted = given_filter(arguments)
    if not arguments.once:
        _check_terminal()
        from pylog.top.screen import Top  # needs the extra, before anything is opened
    replays = arguments.speed != 0.0
    title = " ".join(arguments.source)
    arguments.to, arguments.verbose = "text", False
    expand(arguments)
    prepare(arguments, {})
    live = any(backends.is_live(source) for source in arguments.source)
    if replays and live:
        raise ValueError("--speed is for a recording, not for a live source")
    if arguments.for_s is not None and not arguments.once:
        raise ValueError("--for is for --once")
    lasting = live or replays or bool(arguments.follow)
    counts = Counts(own_time=not lasting)
    counts.reset(wanted)
    reading = Reading(
        counts, _sources(arguments, lasting and not replays), given_actions(arguments)
    )
    if arguments.once:
        return _once(arguments, counts, reading, title, lasting)
    app = Top(
        counts, reading, title, clock=clock, tz=arguments.tz,
        wanted="" if wanted is None else wanted.text, rule_text=partial(rule_texts, arguments),
    )  # fmt: skip
    try:
        app.run()
    finally:
        reading.end()
    if reading.error is not None:
        raise reading.error
    return app.return_code or 0


def _check_terminal() -> None:
    if sys.stdout is None or not sys.stdout.isatty() or not sys.stdin.isatty():
        raise ValueError("the screen needs a terminal; --once prints one picture")


def _sources(arguments: argparse.Namespace, together: bool) -> list[Callable[[], Records]]:
    """The functions that open the sources: all together, or one after the other."""
    groups = [arguments.source] if together else [[source] for source in arguments.source]
    return [partial(_opened, arguments, group) for group in groups]


def _opened(arguments: argparse.Namespace, group: Sequence[str]) -> Records:
    if arguments.speed == 0.0:
        joined = with_joins(arguments, opened(arguments, group))
    else:
        (source,) = group
        joined = with_joins(
            arguments,
            pylog.replay(
                source, speed=arguments.speed, max_gap=arguments.max_gap,
                layout=input_layout(arguments), on_error=arguments.on_error,
                **text_log_options(arguments),
            ),
        )  # fmt: skip
    assert isinstance(joined, Records)
    return joined


def _once(
    arguments: argparse.Namespace, counts: Counts, reading: Reading, title: str, lasting: bool
) -> int:
    """Print one picture."""
    with Stopping() as stopping:
        reading.start()
        until = (
            time.monotonic() + (arguments.for_s or ONCE_S) if lasting or arguments.for_s else None
        )
        try:
            while reading.is_alive() and (until is None or time.monotonic() < until):
                reading.join(0.1)
        except SystemExit:  # a signal: the picture of what came so far
            pass
        reading.end()
        status = stopping.status
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    shown = [(view, counts.picture(i)) for i, view in enumerate(counts.views)]
    for line in once(title, shown, width, ROWS, clock_of(arguments.tz), counts.own_time):
        answer_escaped(line)
    if reading.error is not None:
        raise reading.error
    return status


def rule_texts(arguments: argparse.Namespace, prefix: str, group: str | None) -> list[str]:
    """The rules of nftables of this machine that log with a prefix, as nft writes them; none where
    the ruleset cannot be read, or the source is a file."""
    if not any(source.startswith("nflog:") for source in arguments.source):
        return []
    found: list[str] = []
    try:
        with pylog.open("nftables:", netns=arguments.netns) as reader:
            while batch := reader.read_batch(0.5):
                rules = [record for record in batch if isinstance(record, RulesetRecord)]
                found += [
                    f"{rule.table} {rule.chain}: {rule.text}" for rule in rules
                    if f'prefix "{prefix}"' in (rule.text or "")
                    and (group is None or f"group {group}" in (rule.text or ""))
                ]  # fmt: skip
    except TimeoutError:
        pass
    except (BackendError, ValueError, OSError) as error:
        say(str(error))
        return []
    return found
