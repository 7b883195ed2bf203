"""The command line: one module a command, discovered by its file; modules with a leading underscore
are shared.

A command module has `HELP` (one line), `USAGE` (its arguments in a line), `add_arguments(parser)`,
`run(arguments) -> exit status` and, where examples help, `EPILOG`. Its docstring opens its --help.
Records and answers go to standard output, everything else to standard error. Exit status: 0; 1 for
a failure, 2 for wrong usage, 130 for Ctrl-C, 143 for SIGTERM. A closed pipe is no error.

Text for people is escaped in one of four places here: `say` and the handler of loggers write notes,
`answer` and `answer_json` write answers, `Parser` writes argparse's errors, which quote arguments.
`answer_escaped` writes what its caller has escaped. So no file name and no byte of a log can break
a line or control a terminal.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from pylog.cli._parser import parse
from pylog.errors import BackendError, DecodeError
from pylog.record import escape, escape_json, json_ready


class _Line(logging.Formatter):
    """Formats what any library logs as one line."""

    def format(self, record: logging.LogRecord) -> str:
        return f"pylog: {escape(super().format(record))}"


def begin_logging() -> None:
    """Write what any library of this process logs to standard error, as `say` does."""
    handler = logging.StreamHandler()  # to standard error
    handler.setFormatter(_Line())
    logging.basicConfig(handlers=[handler])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    begin_logging()
    arguments = argparse.Namespace()
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        if sys.stdout is None and not _writes_elsewhere(arguments):
            raise BackendError("standard output is closed")
        status = int(arguments.run(arguments))
        if sys.stdout is not None and not _writes_elsewhere(arguments):
            _put("", flush=True)
        return status
    except (DecodeError, BackendError, ValueError) as error:
        for line in _with_options(arguments, error).split("\n"):  # of filters it has several
            say(line)
        detailed = getattr(arguments, "verbose", False) or getattr(arguments, "explain", False)
        if detailed and isinstance(error, DecodeError) and error.details:
            say(error.details)
        among_others = isinstance(error, DecodeError) and error.path in getattr(
            arguments, "expanded", ()
        )
        if among_others and not arguments.skip_unknown:
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


def _with_options(arguments: argparse.Namespace, error: Exception) -> str:
    """The text of an error, with options as they are typed."""
    if isinstance(error, DecodeError):
        return str(error)
    from pylog.cli._typed import as_typed  # only for errors: it imports every output

    try:
        return as_typed(arguments, str(error))
    except ValueError:  # two distributions clash, so that there are no tables of options
        return str(error)


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


def answer_escaped(line: str) -> None:
    """As `answer`, for a line that is escaped already: it may have tabs and colours."""
    _put(line + "\n")


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


def _drop_output() -> None:
    """Discard what could not be written, so that Python does not try again at its exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
