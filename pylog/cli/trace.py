"""Show what packets went through: chains, rules that matched, jumps, policies, and the verdict.

A SOURCE is a recording of nftables:+trace, or nftables:+trace itself (the default) on this machine.
The kernel traces packets on which a rule has set `meta nftrace set 1`. --add installs such a rule
for as long as the command runs, in a table of its own that the kernel removes with the process,
however that ends; then only packets with all of the given properties are traced.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import sys
import time

from pylog import backends
from pylog.cli import answer_escaped, answer_json, say, stdout
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._outputs import coloured, count
from pylog.cli._sources import (
    OF_NFTABLES,
    Stopping,
    add_live_arguments,
    add_source_arguments,
    greet,
    is_unreadable,
    opened,
)
from pylog.cli._where import add_where_arguments, given_filter, report_untimed
from pylog.formats.nft_trace_rule import Match, messages
from pylog.outputs._text_trail import trail_lines
from pylog.record import Record
from pylog.trails import Trail, Trails, decided, trail_object
from pylog.zones import TZ, clock_of

USAGE = "[options] [SOURCE ...]"
HELP = "show what packets went through in the ruleset of nftables, and what decided"
EPILOG = """examples:
  pylog trace fw.pcapng                          the packets of a recording
  pylog trace --add --proto tcp --dport 22       live, as root: trace such packets until Ctrl-C
  pylog trace --add --saddr 192.0.2.7 -n 1       the next packet from there
"""
LIVE = "nftables:+trace"
LOOK_S = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog trace`."""
    parser.add_argument(
        "source", nargs="*", metavar="SOURCE",
        help=f"a recording, - or a live source with +trace (default: {LIVE})",
    )  # fmt: skip
    add_input_arguments(parser)
    parser.add_argument(
        "--to", choices=("text", "json"), default="text",
        help="json: an object a packet, in a line (default: text)",
    )  # fmt: skip
    parser.add_argument(
        "-n", "--count", type=count, metavar="COUNT", help="stop after that many packets"
    )
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto",
        help="colours of verdicts; auto: on a terminal, unless NO_COLOR is set (default: auto)",
    )  # fmt: skip
    parser.add_argument("--tz", metavar=TZ.metavar or "NAME", default="UTC",
                        help=f"{TZ.help}; not of json (default: UTC)")  # fmt: skip
    add_where_arguments(parser, "packets, by their fields and those of the step that decided,")
    rule = parser.add_argument_group("tracing packets")
    rule.add_argument(
        "--add", action="store_true", help="install a rule that traces packets, while this runs"
    )
    rule.add_argument("--saddr", metavar="ADDRESS", help="from this address or network")
    rule.add_argument("--daddr", metavar="ADDRESS", help="to this address or network")
    rule.add_argument("--proto", metavar="PROTOCOL", help="of this protocol: tcp, udp, icmp...")
    rule.add_argument(
        "--dport", type=_port, metavar="PORT", help="to this port, or that of a service"
    )
    rule.add_argument("--iif", metavar="DEVICE", help="that come in by this interface")
    add_source_arguments(parser)
    add_live_arguments(parser, OF_NFTABLES)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog trace`."""
    clock = clock_of(arguments.tz)
    arguments.source = arguments.source or [LIVE]
    live = any(backends.is_live(source) for source in arguments.source)
    _check_traced(arguments.source)
    given = [name for name in Match._fields if getattr(arguments, name) is not None]
    if given and not arguments.add:
        raise ValueError(f"--{given[0]} is for --add")
    if arguments.add and not live:
        raise ValueError("--add is for a live source")
    match = Match(**{name: getattr(arguments, name) for name in Match._fields})
    if arguments.add:
        _check(match, arguments.netns)
    expand(arguments)
    trails = Trails(in_order=not live)
    left: int | None = arguments.count
    wanted = given_filter(arguments)
    empty = True
    colour = coloured(arguments, stdout())

    def show(ended: list[Trail]) -> None:
        nonlocal left, empty
        empty &= not ended
        if wanted is not None:
            ended = [trail for trail in ended if wanted.matches(decided(trail))]
        for trail in ended if left is None else ended[:left]:
            if arguments.to == "json":
                answer_json(trail_object(trail))
            else:
                for line in trail_lines(trail, colour, clock):
                    answer_escaped(line)
            if left is not None:
                left -= 1

    failed = False
    with contextlib.ExitStack() as stack:
        stopping = stack.enter_context(Stopping())
        records = stack.enter_context(opened(arguments, arguments.source))
        if arguments.add:
            stack.enter_context(_rule(match, arguments.netns))
        stopping.records = records
        rule = "" if arguments.add else "a rule must set meta nftrace set 1, as --add does; "
        greet(records, "traced packets", rule)
        while left is None or left > 0:
            try:
                batch: list[Record] = records.read_batch(LOOK_S if live else None)
            except TimeoutError:
                show(trails.left(time.time_ns()))
                continue
            show(list(trails.feed(batch)) if batch else trails.end())
            if not batch:
                failed = any(is_unreadable(reader) for reader in records.readers())
                break
        status = stopping.status
    report_untimed(arguments, ())
    if empty and not (live or failed or status or left == 0):
        say(f"no traces in it: a recording of {LIVE} has them, of packets on which a rule has set"
            " meta nftrace set 1")  # fmt: skip
    return status or int(failed)


def _port(text: str) -> int:
    if text.lstrip("-").isdecimal():
        return int(text)
    try:
        return socket.getservbyname(text)
    except (OSError, ValueError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number nor a service of this machine"
        ) from None


def _check_traced(sources: list[str]) -> None:
    """ValueError for a live source that never has a trace."""
    for source in sources:
        name, address = backends.named(source) or ("capture", "")
        if name != "capture" and not (name == "nftables" and "trace" in address.split("+")):
            raise ValueError(f"{source} has no traces: write {LIVE}{_groups(name, address)}")


def _groups(name: str, address: str) -> str:
    """The NFLOG groups of a source as a part of an address of nftables."""
    if name == "nflog":
        return f", or {LIVE}+nflog:{address} for both" if address else ""
    return "" if name != "nftables" or not address else address


def _check(match: Match, netns: str | None) -> None:
    """ValueError for packets that cannot be selected, or that cannot come."""
    try:
        messages("pylog", match, "<")
    except ValueError as error:
        names = "|".join(Match._fields)
        text = re.sub(rf"\b({names}) (?=is |\S+ (and|are) )", r"--\1 ", str(error))
        raise ValueError(text) from None
    if match.iif is not None and sys.platform == "linux":
        from pylog.backends.nft_trace_rule import interfaces  # only here: needs Linux

        there = interfaces(netns)
        if match.iif not in there:
            where = "here" if netns is None else f"in {netns}"
            raise ValueError(
                f"--iif is {match.iif!r}, but the interfaces {where} are {', '.join(there)}"
            )


def _rule(match: Match, netns: str | None) -> contextlib.AbstractContextManager[object]:
    from pylog.backends.nft_trace_rule import TraceRule  # only here: needs Linux

    rule = TraceRule(match, netns)
    say(f"tracing by table inet {rule.table}, which ends with this command")
    return rule
