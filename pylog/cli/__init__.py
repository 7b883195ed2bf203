"""The command line: one module a command, found by its file; `_sources` is what they share, and
`_ipmon` the job of the longest.

A command module has `HELP` (one line), `add_arguments(parser)` and `run(arguments) -> exit status`.
Records and answers go to standard output, everything else to standard error. Exit status: 0; 1 for
a failure, 2 for wrong usage, 130 for Ctrl-C, 143 for SIGTERM. A closed pipe is no error.

What a person sees passes through one of four places here, where it is escaped: `say` and the
handler of loggers write notes, `answer` and `answer_json` answers; `_Parser` has argparse's errors,
which quote arguments. So no file name and no byte of a log breaks a line or reaches a terminal.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, NoReturn

import msgspec

import pylog
from pylog import memo
from pylog.errors import BackendError, DecodeError
from pylog.record import escape, escape_json, json_ready

DESCRIPTION = """Read firewall packet logs: binary records of BSD IPFilter (/dev/ipl, ipmon -B) and
of Linux NFLOG (live groups, netlink dumps, pcap and pcapng captures), from any machine on any
machine."""


class _Parser(argparse.ArgumentParser):
    """Its errors are one line, whatever they quote."""

    def error(self, message: str) -> NoReturn:
        super().error(escape(message))


class _Line(logging.Formatter):
    """What any library logs, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        return f"pylog: {escape(super().format(record))}"


class _Version(argparse.Action):
    """Prints the version, which is looked up for nothing else."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        compiled = "" if memo.__file__.endswith(".py") else " (compiled)"
        print(f"pylog {pylog.__version__}{compiled}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = argparse.Namespace()
    try:
        arguments = _parser(sys.argv[1:] if argv is None else argv).parse_args(argv)
        if sys.stdout is None and not _writes_elsewhere(arguments):
            raise BackendError("standard output is closed")
        status = int(arguments.run(arguments))
        if sys.stdout is not None:
            _put("", flush=True)
        return status
    except (DecodeError, BackendError, ValueError) as error:
        say(str(error))
        asked = getattr(arguments, "verbose", False) or getattr(arguments, "explain", False)
        if asked and isinstance(error, DecodeError) and error.details:
            say(error.details)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader of our output is gone; nothing more can be written, not even at exit
        _drop_output()
        return 0
    except OSError as error:
        say(error.strerror or str(error))
        _drop_output()
        return 1


def _writes_elsewhere(arguments: argparse.Namespace) -> bool:
    """Whether the command needs no standard output: -w of read, OUTPUT and -s of ipmon."""
    found = vars(arguments)
    named = found.get("write") not in (None, "-") or found.get("file") is not None
    return named or bool(found.get("syslog"))


def say(text: str) -> None:
    """Tell the user something, on standard error; nobody if that is closed or full."""
    if sys.stderr is not None:
        try:
            print(f"pylog: {escape(text)}", file=sys.stderr)
        except OSError:
            sys.stderr = None  # Python would try again at its exit


def answer(*lines: str) -> None:
    """Write lines to standard output, for people."""
    _put("".join(f"{escape(line)}\n" for line in lines))


def answer_json(shape: Any) -> None:
    """Write a JSON object to standard output, as a line."""
    text = msgspec.json.encode(json_ready(shape)).decode()
    _put((escape_json(text) if sys.stdout.isatty() else text) + "\n")


def _put(text: str, flush: bool = False) -> None:
    """Write to standard output; BackendError, but for a pipe that nobody reads."""
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise BackendError(f"cannot write standard output: {error.strerror or error}") from error


def stdout() -> BinaryIO:
    """Standard output for bytes, all of which it writes.

    An unbuffered one (PYTHONUNBUFFERED) may write a part of them when a signal comes.
    """
    found = sys.stdout.buffer
    if isinstance(found, io.RawIOBase):
        return open(found.fileno(), "wb", closefd=False)
    return found


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command line: of the command that is named, or else of their names alone.

    Importing every command and its outputs takes longer than reading a short log.
    """
    handler = logging.StreamHandler()  # what is logged goes to standard error
    handler.setFormatter(_Line())
    logging.basicConfig(handlers=[handler])
    names = command_names()
    chosen = next((argument for argument in argv if not argument.startswith("-")), "")
    named_first = chosen in names and argv[0] == chosen
    return build_parser([chosen] if named_first else names, [chosen])


def command_names() -> list[str]:
    """The names of all commands."""
    return [e.name for e in pkgutil.iter_modules(__path__) if not e.name.startswith("_")]


def build_parser(names: Sequence[str], complete: Sequence[str]) -> argparse.ArgumentParser:
    """A parser with these commands, of which the `complete` ones have their arguments."""
    parser = _Parser(prog="pylog", description=DESCRIPTION)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in names:
        module = importlib.import_module(f"{__name__}.{name}")
        command = commands.add_parser(
            name, help=module.HELP, description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        if name in complete:
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _drop_output() -> None:
    """Let Python's exit not try again to write what could not be written."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
