"""Write the records of a recording when they are due, as if they were live.

FILE is a capture (pylog capture, tcpdump -i nflog:5 -w) or a dump. The pace follows the times at
which the messages were received, or without them the kernel's times. A pause longer than --max-gap
is shortened, and after a clock that was set back the next record comes at once.
"""

from __future__ import annotations

import argparse

import pylog
from pylog import outputs
from pylog.cli._copy import Copy
from pylog.cli._flows import add_flows_arguments, as_flows, flows_of, prepare_flows
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._joins import add_join_arguments, prepare, with_joins
from pylog.cli._outputs import add_output_arguments, needs_raw, read_options
from pylog.cli._sources import (
    Stopping,
    add_source_arguments,
    add_text_log_arguments,
    check_not_live,
    input_layout,
    text_log_options,
)
from pylog.cli._where import add_where_arguments

USAGE = "[options] FILE ..."
EPILOG = """examples:
  pylog replay nflog.pcap                  at the pace of the recording
  pylog replay --speed max nflog.pcap      without waiting
"""
HELP = "write the records of a recording at its own pace"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog replay`."""
    parser.add_argument(
        "source", nargs="+", metavar="FILE",
        help="a capture or dump, - (standard input), or a directory, glob or URL of them; several"
        " follow each other",
    )  # fmt: skip
    add_input_arguments(parser)
    parser.add_argument(
        "--speed", type=_speed, default=1.0, metavar="N",
        help="so many times faster, or max for no waiting at all (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--max-gap", type=_max_gap, default=pylog.Replay.MAX_GAP_S, metavar="SECONDS",
        help="wait for one record no longer than this; 0 for no waiting at all, none for no limit"
        f" (default: {pylog.Replay.MAX_GAP_S:g})",
    )  # fmt: skip
    parser.add_argument("--loop", action="store_true", help="begin again at the end, for ever")
    add_output_arguments(parser)
    add_where_arguments(parser)
    add_join_arguments(parser)
    add_flows_arguments(parser)
    add_source_arguments(parser)
    add_text_log_arguments(parser)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no speed: a number above 0, or max")
    return speed


def _max_gap(text: str) -> float | None:
    if text == "none":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no gap: seconds, 0 or more, or none")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog replay`."""
    prepare_flows(arguments, outputs.form(arguments.write, arguments.to).name)
    options = read_options(arguments)
    check_not_live(arguments.source)
    expand(arguments)
    prepare(arguments, options)
    if arguments.loop and len(arguments.source) > 1:
        raise ValueError("--loop is for one file")
    flows = flows_of(arguments, merged=False)
    with Stopping() as stopping, Copy(arguments, options, stopping) as copy:
        for source in arguments.source:
            if copy.left == 0 or stopping.status:
                break
            with pylog.replay(
                source,
                speed=arguments.speed,
                max_gap=arguments.max_gap,
                loop=arguments.loop,
                layout=input_layout(arguments),
                on_error=arguments.on_error,
                raw=needs_raw(arguments),
                **text_log_options(arguments),
            ) as records:
                if arguments.raw:
                    records.pass_messages()
                joined = with_joins(arguments, records)
                copy.all(as_flows(joined, flows, source is arguments.source[-1]))
    return copy.exit_status
