"""Answer who had an address at a time, from logs of flows: what stood behind a translated one.

A LOG is a log of NAT or conntrack: a raw log of IPFilter's NAT or of nfct:, or what pylog wrote of
one as JSON lines, Parquet or Arrow (a file, or the directory of a data set), also with --flows. A
time stands for all that its last digit leaves open: a date for its day, 12:00:01 for that second.

The answer is certain, open (the flow had not ended when the log did), or unknown, with the reason.
It is nobody only if a log covers the time and no loss can hide a flow. The exit status is 0 if
there is an answer to each question, and 1 if nobody had an address, or it is unknown who.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, BinaryIO

import msgspec

import pylog
from pylog.backends.files import opened as opened_file
from pylog.cli import answer, answer_json, say
from pylog.cli._progress import progress
from pylog.cli._sources import (
    add_source_arguments,
    add_text_log_arguments,
    check_not_live,
    text_log_options,
)
from pylog.errors import BackendError
from pylog.outputs._text_words import PROTOCOLS
from pylog.reader import Reader
from pylog.record import FlowRecord
from pylog.who import COPIED, Answer
from pylog.who.questions import Question, question, questions_of
from pylog.who.stored import ask
from pylog.zones import TZ, Clock, clock_of, zone_of

USAGE = "[options] (ADDRESS[:PORT] --at TIME | --from FILE) LOG ..."
HELP = "answer who had an address at a time: what stood behind a translated one"
EPILOG = """examples:
  pylog who 198.51.100.7:40000 --at 2026-11-28T19:26:40Z nat.log
  pylog who [2001:db8::7]:40000 --at 2026-11-28T20:26 --tz Europe/Oslo --within 2 flows.parquet
  pylog who 198.51.100.7:1024-2047 --at 2026-11-28..2026-11-29 --protocol udp flows/
  pylog who --from questions.csv --to json flows.parquet losses.parquet
"""


class _From(argparse.Action):
    """--from: there is no address then, so that what stands in its place is the first LOG."""

    def __call__(
        self, parser: argparse.ArgumentParser, arguments: Any, value: Any, *_: Any
    ) -> None:
        arguments.questions = value
        for action in parser._actions:
            if action.dest == "source":
                action.required = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog who`."""
    parser.add_argument(
        "address", metavar="ADDRESS",
        help="192.0.2.1, 192.0.2.1:443, a block of ports 192.0.2.1:1024-2047, or"
        " [2001:db8::1]:443; the port of ICMP is its id; not with --from",
    )  # fmt: skip
    parser.add_argument(
        "source", nargs="+", metavar="LOG",
        help="a file, directory, glob or URL, or - (standard input)",
    )  # fmt: skip
    parser.add_argument(
        "--skip-unknown",
        action="store_true",
        help="pass over files that are no logs, and tables without flows, and list them",
    )
    parser.add_argument(
        "--at", metavar="TIME",
        help="when: RFC 3339, as 2026-11-28T19:26:40Z, a date, seconds since 1970, or a range A..B",
    )  # fmt: skip
    parser.add_argument(
        "--from", dest="questions", action=_From, metavar="FILE",
        help="ask the questions of a file, or - (standard input): a line has TIME,ADDRESS[:PORT]"
        " and then, if wanted, PROTOCOL and PEER[:PORT]",
    )  # fmt: skip
    parser.add_argument(
        "--protocol", metavar="PROTOCOL", help="only flows of this protocol: tcp, udp, icmp, 47..."
    )
    parser.add_argument(
        "--peer", metavar="ADDRESS[:PORT]", help="only flows whose other end is this one"
    )
    parser.add_argument(
        "--within", type=float, default=0.0, metavar="SECONDS",
        help="how far the clocks may differ: so much before and after TIME counts, too"
        " (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--where", metavar="EXPR",
        help="only flows for which this holds answer, as 'zone == 5'; `pylog help filter` explains"
        " it",
    )  # fmt: skip
    parser.add_argument(
        "--to", choices=("text", "json"), default="text",
        help="json: an object an answer, in a line (default: text)",
    )  # fmt: skip
    parser.add_argument(
        "--tz", metavar=TZ.metavar or "NAME", default="UTC",
        help="time zone of times without an offset, and of the times shown, but not of json; as"
        " Europe/Oslo, or local (default: UTC)",
    )  # fmt: skip
    add_source_arguments(parser)
    add_text_log_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog who`."""
    clock = clock_of(arguments.tz)
    logs: list[str] = [*(arguments.source or ())]
    if arguments.questions is not None:
        logs.insert(0, arguments.address)
    check_not_live(logs)
    questions = _questions(arguments, logs)
    wanted = _wanted(arguments.where)

    def open_raw(log: str | BinaryIO) -> Reader:
        options: dict[str, Any] = text_log_options(arguments)
        return pylog.open(log, layout=arguments.layout, on_error=arguments.on_error, **options)

    def watch(reader: Reader) -> AbstractContextManager[Any]:
        return progress([reader.backend], False)

    answered: set[int | None] = set()
    answers = ask(questions, logs, open_raw, say, watch, arguments.skip_unknown, wanted)
    for number, of_question in groupby(answers, lambda each: each.number):
        for each in of_question:
            if each.state in ("certain", "open"):
                answered.add(number)
            if arguments.to == "json":
                answer_json(msgspec.to_builtins(each))
            else:
                answer(answer_line(each, clock, len(logs) > 1))
        if each.incomplete and arguments.to == "text":
            answer(f"{each.at} {each.question}: others may be missing; {each.incomplete}")
    return 0 if all(question.number in answered for question in questions) else 1


def _wanted(where: str | None) -> Callable[[FlowRecord], bool] | None:
    """Which flows answer. Raises ValueError for a filter that is wrong, or that asks for a field
    which an answer does not have.
    """
    if where is None:
        return None
    from pylog.filter import Filter  # only where it is needed: it takes a while

    made = Filter(where)
    unheld = sorted(made.mentions("flow") - set(COPIED))
    if unheld:
        raise ValueError(f"--where names {unheld[0]}, but an answer has only {', '.join(COPIED)}")
    return made.matches


def _questions(arguments: argparse.Namespace, logs: list[str]) -> list[Question]:
    """The questions of the arguments; ValueError for what is none."""
    settings: dict[str, Any] = {
        "protocol": arguments.protocol, "peer": arguments.peer, "within_s": arguments.within,
        "zone": zone_of(arguments.tz),
    }  # fmt: skip
    name = arguments.questions
    if name is None:
        if arguments.at is None:
            raise ValueError("--at is needed: at which time?")
        return [question(arguments.address, arguments.at, **settings)]
    if arguments.at is not None:
        raise ValueError("--at is not for --from, whose lines have times")
    if name == "-" and "-" in logs:
        raise ValueError("standard input cannot have both the questions and a log")
    questions = list(questions_of(_lines(name), name, **settings))
    if not questions:
        raise ValueError(f"{name} has no questions: a line is TIME,ADDRESS[:PORT]")
    return questions


def _lines(name: str) -> list[str]:
    if name == "-":
        from pylog.backends.capture import Capture

        source, parts = Capture("-"), []
        while part := source.receive():
            parts.append(part)
        data = b"".join(parts)
    else:
        with opened_file(name) as file:
            data = file.read()
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BackendError(f"{name} is no text: {error}") from None


def answer_line(each: Answer, clock: Clock | None, names_log: bool) -> str:
    """An answer as a line for people.

    clock       puts times into a zone; None: they stay in UTC
    names_log   whether the line names the log
    """
    asked = f"{each.at} {each.question}"
    if each.address is None:
        return f"{asked}: {each.state}" + (f"; {each.reason}" if each.reason else "")
    who = _end(each.address, each.port, each)
    if each.match == "itself":
        who = "itself, not translated"
        if "/" in each.question or _end(each.address, each.port, each) != each.question:
            who = f"itself ({_end(each.address, each.port, each)}), not translated"
    elif each.match == "inside":
        who = f"{who} itself, seen as {_end(each.seen_as, each.seen_as_port, each)}"
    verb = "may have been" if each.state == "unknown" else "was"
    way = "from" if each.match == "destination" else "with" if each.match == "itself" else "to"
    words = [str(each.flow_type)] if each.flow_type not in (None, "nat", "state") else []
    if each.protocol is not None:
        words.append(PROTOCOLS.get(each.protocol, f"proto {each.protocol}"))
    if each.peer is not None:
        words.append(f"{way} {_end(each.peer, each.peer_port, each)}")
    parts = [f"{asked} {verb} {who}: {' '.join(words)}", _span(each, clock)]
    if names_log:
        parts.append(f"in {each.log}")
    line = ", ".join(filter(None, parts))
    if each.reason:
        line += f"; {each.reason}"
    return line


def _end(address: str | None, port: int | None, each: Answer) -> str:
    """An address with its port."""
    if port is None:
        return str(address)
    if each.protocol in (1, 58):
        return f"{address} id {port}"
    return f"[{address}]:{port}" if address and ":" in address else f"{address}:{port}"


def _span(each: Answer, clock: Clock | None) -> str:
    """From when to when the flow was there."""

    def text(time: str | None) -> str:
        return str(time) if clock is None or time is None else clock.text(time)

    start = stop = ""
    if each.start is not None:
        start = f"from {text(each.start)}"
    elif each.start_before is not None:
        start = f"from before {text(each.start_before)}"
    if each.stop is not None:
        stop = f"to {text(each.stop)}"
    elif each.stop_after is not None:
        stop = f"open at {text(each.stop_after)}"
    line = " ".join(filter(None, (start, stop)))
    if each.held_us is not None:
        line += f" ({each.held_us / 1e6:.3f} s)"
    if each.clock == "observed":
        line += ", times as received"
    return line
