"""Read logs and write their records as text, JSON lines, CSV, pcapng, ipl or ipmon's text.

A SOURCE is a file or - for standard input: IPFilter records (ipmon -B, dd of /dev/ipl), netlink
messages of NFLOG, pcap or pcapng with link type NFLOG, NETLINK, IPFILTER or RAW; each also
compressed with gzip, xz, bzip2 or zstd. Or it is live: nflog:GROUP[,GROUP...] on Linux,
ipl:[DEVICE,...] on BSD, Solaris and illumos. Files are read one after the other, with --merge in
the order of time; so is everything as soon as a live source is among it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

from pylog import outputs
from pylog.cli import say, stdout
from pylog.cli._files import Written
from pylog.cli._sources import (
    Stopping,
    add_live_arguments,
    add_option,
    add_source_arguments,
    check_is_no_log,
    descriptors_of,
    greet,
    is_live,
    is_unreadable,
    opened,
    paths_of,
    summary,
)
from pylog.errors import BackendError
from pylog.reader import LOT, Reader, Records
from pylog.record import Record, Row, escape
from pylog.scrub import Scrubbing

HELP = "write the records of logs as text, JSON, CSV, pcapng, IPFilter's log or ipmon's text"
LONG_FILE = 1 << 24
_RELEASE = "ipmon.ipmon_version"
LOOK_S = 1.0
"""How often to look, while nothing comes, whether anybody reads what is written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog read`."""
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE",
        help="a file, - (standard input), nflog:GROUP[,GROUP...] or ipl:[DEVICE,...]",
    )  # fmt: skip
    add_output_arguments(parser)
    parser.add_argument(
        "--merge", action="store_true", help="read files in the order of time, not one by one"
    )
    add_source_arguments(parser)
    add_live_arguments(parser)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that writes records takes."""
    parser.add_argument(
        "--to", choices=outputs.names(), default="text", help="what to write (default: text)"
    )
    parser.add_argument("-w", "--write", metavar="FILE", help="write there, not to standard output")
    parser.add_argument(
        "-n", "--count", type=count, metavar="COUNT", help="stop after that many records"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="tell on standard error what was found, read, damaged and lost",
    )  # fmt: skip
    parser.add_argument(
        "--scrub", action="store_true",
        help="put other addresses, MACs and payloads in place, and blank kernel pointers: for logs"
        " that are to be published",
    )  # fmt: skip
    parser.add_argument(
        "--from-layout", metavar="NAME",
        help="the layout of the input, when --layout is that of the output (--to ipl)",
    )  # fmt: skip
    for name in outputs.names():
        if options := outputs.options(name):
            group = parser.add_argument_group(f"options for --to {name}")
            for option in options:
                if option.flag != "--layout":  # which add_source_arguments adds
                    add_option(group, option, f"{name}.{option.name}")


def output_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the output that stand on the command line; ValueError for another's."""
    found: dict[str, Any] = {}
    for name in outputs.names():
        for option in outputs.options(name):
            dest = "layout" if option.flag == "--layout" else f"{name}.{option.name}"
            value = getattr(arguments, dest, None)
            if value is None or (name != arguments.to and dest == "layout"):
                continue
            if dest == _RELEASE and name != arguments.to:
                continue  # for others it says how TCP states are named
            if name != arguments.to:
                flag = option.flag or f"--{option.name.replace('_', '-')}"
                raise ValueError(f"{flag} is an option of --to {name}")
            found[option.name] = dict(value) if option.kind is dict else value
    if arguments.scrub and arguments.to == "pcapng":
        found.setdefault("machine", False)
    return found


def needs_raw(arguments: argparse.Namespace) -> bool:
    """Whether records are to be read with their raw bytes."""
    return arguments.scrub or outputs.needs_raw(arguments.to)


def count(text: str) -> int:
    """A number of records on the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count: a number, 0 or more")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog read`."""
    sources: list[str] = arguments.source
    output_options(arguments)  # what is wrong with them is to be told before anything is read
    live = any(is_live(source) for source in sources)
    together = arguments.merge or live or bool(arguments.follow)
    raw = needs_raw(arguments)
    with Stopping() as stopping, Copy(arguments, stopping) as copy:
        for some in [sources] if together else [[source] for source in sources]:
            if copy.left == 0 or stopping.status:
                break
            with opened(arguments, some, raw) as records:
                copy.all(records)
        if arguments.verbose:
            say(copy.summary())
    return copy.exit_status


def _naming(arguments: argparse.Namespace) -> Callable[[Record], Record] | None:
    """What names TCP states as the release does that was given with another output than ipmon's."""
    release = getattr(arguments, _RELEASE, None)
    if release is None or arguments.to == "ipmon":
        return None
    from pylog.ipmon.edition import edition  # only here: few need them
    from pylog.ipmon.state import as_of

    return partial(as_of, edition=edition(release))


class Copy(contextlib.ExitStack):
    """Writes records to where the arguments say, which is opened for the first of them.

    left      how many records may still be written, None for any number
    written   how many were
    """

    def __init__(self, arguments: argparse.Namespace, stopping: Stopping) -> None:
        super().__init__()
        self._arguments = arguments
        self._stopping = stopping
        self._stream: BinaryIO | None = None
        self._output: outputs.Output | None = None
        self._file: Written | None = None
        self._scrubbing = Scrubbing() if arguments.scrub else None
        self._naming = _naming(arguments)
        self.left: int | None = arguments.count
        self.written = 0
        self._failed = False
        self._begun = time.process_time()

    @property
    def exit_status(self) -> int:
        return self._stopping.status or int(self._failed)

    def summary(self) -> str:
        """What it took to read and write them: CPU time of pylog and of the system for it."""
        used = time.process_time() - self._begun
        each = f", {used / self.written * 1e6:.1f} us of CPU time each" if self.written else ""
        return f"{self.written} records written{each}"

    def all(self, records: Records) -> None:
        """Write the records to their end, or to where a signal ends them."""
        if self._stream is None:  # not before there is something to write
            options = output_options(self._arguments)
            # tells what is wrong with the options before a file is emptied
            outputs.output(self._arguments.to, io.BytesIO(), given=options)
            self._stream = self.enter_context(_destination(self._arguments, records))
            colour = self._stream.isatty() and "NO_COLOR" not in os.environ
            self._output = outputs.output(self._arguments.to, self._stream, colour, options)
            name = self._arguments.write
            own = name not in (None, "-")
            self._file = Written(name if own else "standard output", self._stream, own)
            self.callback(self._close, self._output, self._file)
        assert self._output is not None and self._file is not None
        self._stopping.records = records
        greet(records)
        try:
            with progress(records, self._stream.isatty()) as move:
                self._copy(records, self._output, self._stream, self._file, move)
        finally:
            self._stopping.records = None
            if self._arguments.verbose:
                with self._file.told():
                    self._output.flush()
                for reader in records.readers():
                    say(summary(reader))
        for reader in records.readers():
            if self.left != 0 and is_unreadable(reader):
                self._failed = True

    @staticmethod
    def _close(output: outputs.Output, file: Written) -> None:
        with file.told():
            output.close()

    def _copy(
        self,
        records: Records,
        output: outputs.Output,
        stream: BinaryIO,
        file: Written,
        progress: Any,
    ) -> None:
        live = not all(reader.backend.regular for reader in records.readers())
        unchanged = not self._scrubbing and self._naming is None
        rows = None
        if output.takes_rows and type(records) is Reader and unchanged:
            rows = records.rows(output.shows_payload)
        while self.left is None or self.left > 0:
            if not records.ready:
                progress()
            timeout, limit = LOOK_S if live else None, min(self.left or LOT, LOT)
            try:
                if rows is not None:
                    written = self._write_rows(rows.read_batch(timeout, limit), output, file)
                else:
                    written = self._write(records.read_batch(timeout, limit), output, file)
            except TimeoutError:
                if _reader_is_gone(stream):
                    raise BrokenPipeError from None
                continue
            if not written:
                return
            self.written += written
            if self.left is not None:
                self.left -= written

    def _write(self, batch: list[Record], output: outputs.Output, file: Written) -> int:
        """Write records; how many they are."""
        if self._naming is not None:
            batch = [self._naming(record) for record in batch]
        if self._scrubbing is not None:
            batch = [self._scrubbing.record(record) for record in batch]
        if batch:
            with file.told():
                output.write_batch(batch)
                output.flush()
                file.more(len(batch))
        return len(batch)

    def _write_rows(self, batch: list[Row], output: outputs.Output, file: Written) -> int:
        """Write rows; how many they are."""
        if batch:
            with file.told():
                output.write_rows(batch)
                output.flush()
                file.more(len(batch))
        return len(batch)


def _reader_is_gone(stream: BinaryIO) -> bool:
    """Whether nobody can read any more what is written to the stream, a pipe."""
    if not hasattr(select, "poll"):
        return False
    poller = select.poll()
    poller.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poller.poll(0))


@contextlib.contextmanager
def _destination(arguments: argparse.Namespace, records: Records) -> Iterator[BinaryIO]:
    """The file to write to; BackendError when it cannot be opened, or is a log to be read."""
    logs: list[str | int] = [*paths_of(arguments.source), *descriptors_of(records)]
    if arguments.write is None or arguments.write == "-":
        if outputs.is_binary(arguments.to) and sys.stdout.isatty():
            raise ValueError(f"{arguments.to} is not for a terminal: name a file with -w")
        check_is_no_log(None, logs)
        yield stdout()
        return
    check_is_no_log(arguments.write, logs)
    try:
        stream = open(arguments.write, "wb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise BackendError(f"cannot write {arguments.write}: {error.strerror}") from error
    with stream:
        yield stream


@contextlib.contextmanager
def progress(records: Records, on_terminal: bool) -> Iterator[Any]:
    """A function that moves the progress bar, if there is to be one, see `bar`."""
    found = [reader.backend for reader in records.readers()]
    sizes = [backend.size for backend in found if backend.size is not None]
    size = sum(sizes) if len(sizes) == len(found) else 0
    with bar(size, found[0].name, on_terminal) as move:

        def move_on() -> None:
            move(sum(backend.position() for backend in found))

        yield move_on
        move_on()


@contextlib.contextmanager
def bar(size: int, name: str, on_terminal: bool) -> Iterator[Callable[[int], None]]:
    """A function that moves a progress bar to a place in `size` bytes, if there is to be a bar.

    There is one for a long file, when standard error is a terminal that the records do not go to
    (`on_terminal`), and tqdm (the extra `progress`) is installed.
    """
    if size < LONG_FILE or not sys.stderr.isatty() or on_terminal:
        yield lambda at: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda at: None
        return
    with tqdm(
        total=size, unit="B", unit_scale=True, desc=escape(os.path.basename(name)), file=sys.stderr
    ) as shown:

        def move(at: int) -> None:
            shown.update(at - shown.n)

        yield move
