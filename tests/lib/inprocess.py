"""The command `pylog` in the process of the test, which takes a tenth of the time of a new one.

Standard input, output and error are pipes, as a process has them whose output is captured. What
needs a process is not for here: signals, closed streams, limits, terminals, daemons.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from pylog.cli import main

with contextlib.suppress(ImportError):
    import pyarrow

    pyarrow.array([0])  # imports pandas, which commands refuse, and tests of Dask need


def run(*arguments: object, stdin: bytes | Path = b"") -> CompletedProcess[bytes]:
    """The exit status of a command line and what it printed; a path is standard input itself."""
    line = [str(argument) for argument in arguments]
    if "--jobs" in line:  # the process that it starts must not hold the pipes open
        resource_tracker.ensure_running()
    (printed, out), (said, error) = os.pipe(), os.pipe()
    with ThreadPoolExecutor(3) as threads:
        if isinstance(stdin, Path):
            given = os.open(stdin, os.O_RDONLY)
        else:
            given, to_give = os.pipe()
            threads.submit(_write, to_give, stdin)
        found = [threads.submit(_read, descriptor) for descriptor in (printed, said)]
        with _streams(given, out, error), _own_logging():
            try:
                status = main(line)
            except SystemExit as left:
                status = int(left.code or 0)
        return CompletedProcess(line, status, found[0].result(), found[1].result())


def text(*arguments: object) -> CompletedProcess[str]:
    """As `run`; what it printed is text."""
    done = run(*arguments)
    return CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@contextlib.contextmanager
def _streams(given: int, out: int, error: int) -> Iterator[None]:
    """Have sys.stdin and so on, as Python makes them, of the descriptors, which are closed."""
    with (
        open(given, encoding="utf-8") as stdin,
        open(out, "w", encoding="utf-8") as stdout,
        open(error, "w", encoding="utf-8", errors="backslashreplace") as stderr,
        mock.patch.multiple(sys, stdin=stdin, stdout=stdout, stderr=stderr),
    ):
        yield


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """Let the command make its handler of what is logged, which pytest's own would prevent."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = before


def _write(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb") as stream:
        stream.write(data)


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as stream:
        return stream.read()
