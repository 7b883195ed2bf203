"""Read logs and write their records as text, JSON lines or CSV.

A SOURCE is a file or - for standard input: IPFilter records (ipmon -B, dd of /dev/ipl), netlink
messages of NFLOG, pcap or pcapng with link type NFLOG, NETLINK or IPFILTER; each also compressed
with gzip, xz or zstd. Several are read one after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import pylog
from pylog import outputs
from pylog.cli import add_source_arguments
from pylog.errors import BackendError
from pylog.reader import Reader

HELP = "write the records of logs as text, JSON or CSV"
LONG_FILE = 1 << 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog read`."""
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="a file, or - (standard input)")
    parser.add_argument(
        "--to", choices=outputs.names(), default="text", help="what to write (default: text)"
    )
    parser.add_argument("-w", "--write", metavar="FILE", help="write there, not to standard output")
    parser.add_argument(
        "-n", "--count", type=_count, metavar="COUNT", help="stop after that many records"
    )
    add_source_arguments(parser)
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="tell on standard error what was found, read, damaged and lost",
    )  # fmt: skip


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count: a number, 0 or more")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog read`."""
    left, status = arguments.count, 0
    with contextlib.ExitStack() as opened:
        stream = output = None
        for source in arguments.source:
            if left == 0:
                break
            with pylog.open(source, layout=arguments.layout, on_error=arguments.on_error) as reader:
                if stream is None or output is None:  # not before there is something to write
                    stream = opened.enter_context(_destination(arguments))
                    colour = stream.isatty() and "NO_COLOR" not in os.environ
                    output = outputs.output(arguments.to, stream, colour=colour)
                    opened.callback(output.close)
                try:
                    left = _copy(reader, output, left, stream)
                finally:
                    if arguments.verbose:
                        output.flush()
                        print(summary(source, reader), file=sys.stderr)
                if reader.malformed and not reader.received and left != 0:
                    print(f"pylog: {reader.backend.name}: no record could be read as"
                          f" {reader.layout}", file=sys.stderr)  # fmt: skip
                    status = 1
    return status


def _copy(reader: Reader, output: outputs.Output, left: int | None, stream: BinaryIO) -> int | None:
    """Write the reader's records, at most `left` of them; return how many may still come."""
    with _progress(reader, stream) as progress:
        if left is None:
            for record in reader:
                output.write(record)
                if not reader.ready:
                    output.flush()
                    progress()
            return None
        while left > 0 and (following := reader.read()) is not None:
            output.write(following)
            left -= 1
            if not reader.ready:
                output.flush()
                progress()
    return left


@contextlib.contextmanager
def _destination(arguments: argparse.Namespace) -> Iterator[BinaryIO]:
    """The file to write to; BackendError when it cannot be opened."""
    if arguments.write is None or arguments.write == "-":
        yield sys.stdout.buffer
        return
    logs = [source for source in arguments.source if os.path.exists(source)]
    if os.path.exists(arguments.write) and any(os.path.samefile(x, arguments.write) for x in logs):
        raise BackendError(f"cannot write {arguments.write}: it is a log to be read")
    try:
        stream = open(arguments.write, "wb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise BackendError(f"cannot write {arguments.write}: {error.strerror}") from error
    with stream:
        yield stream


@contextlib.contextmanager
def _progress(reader: Reader, stream: BinaryIO) -> Iterator[Any]:
    """A function that moves the progress bar, if there is to be one.

    There is one for a long file, when standard error is a terminal that the records do not go to,
    and tqdm (the extra `progress`) is installed.
    """
    size = reader.backend.size
    if size is None or size < LONG_FILE or not sys.stderr.isatty() or stream.isatty():
        yield lambda: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda: None
        return
    name = os.path.basename(reader.backend.name)
    with tqdm(total=size, unit="B", unit_scale=True, desc=name, file=sys.stderr) as bar:
        yield lambda: bar.update(reader.backend.position() - bar.n)
        bar.update(reader.backend.position() - bar.n)


def summary(source: str, reader: Reader) -> str:
    """What was read of a source, and what was not, as one line."""
    dropped = "cannot be known" if reader.dropped is None else f"{reader.dropped}"
    name = "standard input" if source == "-" else source
    return (
        f"pylog: {name}: {reader.detection.container}, {reader.layout}: {reader.received} records"
        f" read, damaged places: {reader.malformed}, lost records: {dropped}"
    )
