"""The command line: one module a command, discovered by its file; modules with a leading underscore
are shared.

A command module has `HELP` (one line), `add_arguments(parser)` and `run(arguments) -> exit status`.
Records and answers go to standard output, everything else to standard error. Exit status: 0; 1 for
a failure, 2 for wrong usage, 130 for Ctrl-C, 143 for SIGTERM. A closed pipe is no error.

Text for people is escaped in one of four places here: `say` and the handler of loggers write notes,
`answer` and `answer_json` write answers, `_Parser` writes argparse's errors, which quote arguments.
So no file name and no byte of a log can break a line or control a terminal.
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
    """A parser whose errors are one line, whatever they quote."""

    def error(self, message: str) -> NoReturn:
        super().error(escape(message))


class _Line(logging.Formatter):
    """Formats what any library logs as one line."""

    def format(self, record: logging.LogRecord) -> str:
        return f"pylog: {escape(super().format(record))}"


class _Version(argparse.Action):
    """Prints the version, which takes time to look up and is needed only here."""

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
        if sys.stdout is not None and not _writes_elsewhere(arguments):
            _put("", flush=True)
        return status
    except (DecodeError, BackendError, ValueError) as error:
        say(str(error))
        detailed = getattr(arguments, "verbose", False) or getattr(arguments, "explain", False)
        if detailed and isinstance(error, DecodeError) and error.details:
            say(error.details)
        if isinstance(error, DecodeError) and error.path in getattr(arguments, "expanded", ()):
            say("--skip-unknown passes over files that are no logs")
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # nobody reads the output any more; nothing can be written to it, not even at exit
        _drop_output()
        return 0
    except OSError as error:
        say(error.strerror or str(error))
        _drop_output()
        return 1


def _writes_elsewhere(arguments: argparse.Namespace) -> bool:
    """Whether the command needs no standard output: -w of read, OUTPUT and -s of ipmon."""
    given = vars(arguments)
    named = given.get("write") not in (None, "-") or given.get("file") is not None
    return named or bool(given.get("syslog"))


def say(text: str) -> None:
    """Write a note to standard error, if that is neither closed nor full."""
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
    """Write to standard output; BrokenPipeError for a pipe that nobody reads, else BackendError."""
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
    """Standard output for bytes, which writes all of them.

    With PYTHONUNBUFFERED it is a raw stream, whose write may stop halfway at a signal: that one is
    opened again with a buffer.
    """
    stream = sys.stdout.buffer
    if isinstance(stream, io.RawIOBase):
        return open(stream.fileno(), "wb", closefd=False)
    return stream


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command line, with the arguments of the command that it names.

    Only that command is imported: importing all of them takes longer than reading a short log.
    """
    parser = _Parser(prog="pylog", description=DESCRIPTION)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    handler = logging.StreamHandler()  # to standard error
    handler.setFormatter(_Line())
    logging.basicConfig(handlers=[handler])
    names = [e.name for e in pkgutil.iter_modules(__path__) if not e.name.startswith("_")]
    chosen = next((argument for argument in argv if not argument.startswith("-")), None)
    for name in argv[:1] if chosen in names and argv[0] == chosen else names:
        module = importlib.import_module(f"{__name__}.{name}")
        command = commands.add_parser(
            name, help=module.HELP, description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        if name == chosen:
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _drop_output() -> None:
    """Discard what could not be written, so that Python does not try again at its exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
