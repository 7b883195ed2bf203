"""What commands that write records share: their arguments, the way from a source to an output, and
the progress bar.

The way is one loop, `copy`: for each batch of a source, output.write(batch). The batches are
columns where the output is faster with them and the source is read in bulk, else records.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, TypeVar

from pylog import outputs
from pylog.backends.base import Backend
from pylog.batch import Batch
from pylog.cli import say, stdout
from pylog.cli._sources import (
    AnyLog,
    Stopping,
    add_option,
    check_is_no_log,
    descriptors_of,
    greet,
    is_unreadable,
    paths_of,
    summary,
)
from pylog.decoder import LOT
from pylog.errors import BackendError
from pylog.options import Option
from pylog.outputs._columns import ColumnsOutput
from pylog.reader import Reader, Records
from pylog.record import Record, escape
from pylog.scrub import Scrubbing
from pylog.transports.files import Written

LONG_FILE = 1 << 24
_RELEASE = "to.ipmon_version"
LOOK_S = 1.0
"""How often to look, while nothing comes, whether anybody reads what is written."""

Change = Callable[[Record], Record]
T = TypeVar("T")


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that writes records as they come takes."""
    parser.add_argument(
        "--to", type=_output, choices=outputs.names(), default="text",
        help="what to write (default: text)",
    )  # fmt: skip
    parser.add_argument("-w", "--write", metavar="FILE", help="write there, not to standard output")
    parser.add_argument(
        "--append", action="store_true", help="append to FILE, if the output can be appended to"
    )
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
    add_output_options(parser, outputs.names(), lambda name: f"--to {name}")


def _output(name: str) -> str:
    """The name of an output; an error that says why one cannot be used."""
    if (problem := outputs.problem(name)) is not None:
        raise argparse.ArgumentTypeError(problem)
    return name


def add_output_options(
    parser: argparse.ArgumentParser, names: Iterable[str], called: Callable[[str], str]
) -> None:
    """The options of outputs. One that several outputs have stands once, and is for all of them.

    called   what an output is called in the help
    """
    having: dict[str, tuple[Option, list[str]]] = {}
    for name in names:
        for option in outputs.description(name).options:
            if option.flag != "--layout":  # which add_source_arguments adds
                having.setdefault(option.name, (option, []))[1].append(name)
    groups: dict[tuple[str, ...], Any] = {}
    for option, owners in having.values():
        key = tuple(owners)
        if key not in groups:
            extras = {outputs.description(name).extra for name in owners}
            groups[key] = parser.add_argument_group(
                f"options for {', '.join(map(called, owners))}",
                None if None in extras else f"needs the extra {', '.join(map(str, extras))}",
            )
        add_option(groups[key], option, f"to.{option.name}")


def output_options(
    arguments: argparse.Namespace, name: str, called: Callable[[str], str]
) -> dict[str, Any]:
    """The options of the output that stand on the command line.

    Raises ValueError for another's, and for those that make no sense.
    """
    owners: dict[str, list[str]] = {}
    found: dict[str, Any] = {}
    for other in outputs.names():
        for option in outputs.description(other).options:
            if option.flag == "--layout":
                value = arguments.layout if name == getattr(arguments, "to", None) else None
            else:
                value = getattr(arguments, f"to.{option.name}", None)
            if value is None:
                continue
            if other == name:
                found[option.name] = dict(value) if option.kind is dict else value
            elif option.flag != "--layout":
                owners.setdefault(option.name, []).append(other)
    for option_name, others in owners.items():
        # for other outputs the release says how TCP states are named
        if option_name not in found and f"to.{option_name}" != _RELEASE:
            option = next(
                o for o in outputs.description(others[0]).options if o.name == option_name
            )
            flag = option.flag or f"--{option_name.replace('_', '-')}"
            raise ValueError(f"{flag} is an option of {', '.join(map(called, others))}")
    if getattr(arguments, "scrub", False) and name == "pcapng":
        found.setdefault("machine", False)
    outputs.check(name, found)
    return found


def read_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """As `output_options`, for a command with the arguments of `add_output_arguments`."""
    there = outputs.description(arguments.to)
    named = arguments.write not in (None, "-")
    if arguments.append and not (named and there.appends):
        why = "needs -w FILE" if there.appends else f"is not for {arguments.to}"
        raise ValueError(f"--append {why}")
    if there.needs_path and not named:
        raise ValueError(f"{arguments.to} needs a file: name it with -w")
    return output_options(arguments, arguments.to, "--to {}".format)


def needs_raw(arguments: argparse.Namespace) -> bool:
    """Whether records are to be read with their raw bytes."""
    return arguments.scrub or outputs.description(arguments.to).raw


def changes(arguments: argparse.Namespace) -> list[Change]:
    """What is to be done with each record before it is written."""
    found = [_naming(arguments), Scrubbing().record if arguments.scrub else None]
    return [change for change in found if change is not None]


def _naming(arguments: argparse.Namespace) -> Change | None:
    """What names TCP states as the release does that was given with another output than ipmon's."""
    release = getattr(arguments, _RELEASE, None)
    if release is None or arguments.to == "ipmon":
        return None
    from pylog.ipmon.release import release_named  # only here: few need them
    from pylog.ipmon.state import as_of

    return partial(as_of, release=release_named(release))


def count(text: str) -> int:
    """A number of records on the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count: a number, 0 or more")
    return int(text)


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
        self._appends = outputs.description(arguments.to).appends
        self._changes = changes(arguments)
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

    def all(self, records: AnyLog) -> None:
        """Write the records to their end, or to where a signal ends them."""
        if self._output is None:  # not before there is something to write
            self._open(records)
        assert self._output is not None and self._file is not None and self._stream is not None
        self._stopping.records = records
        greet(records)
        try:
            copy(
                records, self._output, changes=self._changes, limit=self.left,
                confirm=self._confirm, stream=self._stream,
            )  # fmt: skip
        finally:
            self._stopping.records = None
            if self._arguments.verbose:
                with self._file.as_backend_error():
                    self._output.flush()
                for reader in records.readers():
                    say(summary(reader))
        for reader in records.readers():
            if self.left != 0 and is_unreadable(reader):
                self._failed = True

    def _open(self, records: AnyLog) -> None:
        options = read_options(self._arguments)
        stream = self._stream = self.enter_context(_destination(self._arguments, records))
        name = self._arguments.write
        own = name not in (None, "-")
        colour = stream.isatty() and "NO_COLOR" not in os.environ
        appending = self._arguments.append and stream.tell() > 0
        target = outputs.Target(stream, name if own else None, colour, appending)
        self._file = Written(name if own else "standard output", stream, own)
        with self._file.as_backend_error():
            self._output = outputs.open(self._arguments.to, target, options)
        self.callback(self._close, self._output, self._file)

    def _close(self, output: outputs.Output, file: Written) -> None:
        with file.as_backend_error():
            output.close()
            if not self._appends:
                file.more(self.written)

    @contextlib.contextmanager
    def _confirm(self, records: int) -> Iterator[None]:
        """Around what writes so many records: they count when the file holds them."""
        assert self._output is not None and self._file is not None
        with self._file.as_backend_error():
            yield
            self._output.flush()
            if self._appends:
                self._file.more(records)
        self.written += records
        if self.left is not None:
            self.left -= records


def copy(
    records: AnyLog,
    output: outputs.Output,
    *,
    changes: Sequence[Change] = (),
    limit: int | None = None,
    confirm: Callable[[int], contextlib.AbstractContextManager[None]] | None = None,
    stream: BinaryIO | None = None,
) -> None:
    """Write the records of a source, `limit` at most, each changed by all `changes`.

    confirm   makes a context around what writes so many records
    stream    what the output writes to, where it may be a pipe or a terminal

    Raises BrokenPipeError when nobody reads the stream any more, though nothing comes.
    """
    context = contextlib.nullcontext if confirm is None else confirm
    backends = [reader.backend for reader in records.readers()]
    with progress(backends, stream is not None and stream.isatty()) as move:
        if type(records) is Reader and output.takes_rows and not changes:
            rows = records.rows(output.shows_payload)
            for some in _lots(records, rows.read_batch, limit, stream, move):
                with context(len(some)):
                    output.write_rows(some)
            return
        for batch in _batches(records, output, changes, limit, stream, move):
            with context(len(batch)):
                output.write(batch)


def _batches(
    records: AnyLog,
    output: outputs.Output,
    changes: Sequence[Change],
    limit: int | None,
    stream: BinaryIO | None,
    move: Callable[[], None],
) -> Iterator[Batch]:
    """What `copy` writes, but for rows."""
    if isinstance(output, ColumnsOutput):
        from pylog.table.bulk import Bulk  # needs the extra, as the output does
        from pylog.table.select import Selection

        if isinstance(records, Bulk):
            wanted = {kind: Selection(kind, names) for kind, names in output.wanted.items()}
            for kind, columns in records.batches(wanted):
                yield Batch.of_columns({kind: columns})
                move()
            output.leave_out(records.counts)
            return
    assert isinstance(records, Records)
    for some in _lots(records, records.read_batch, limit, stream, move):
        for change in changes:
            some = [change(record) for record in some]
        yield Batch(some)


def _lots(
    records: Records,
    read: Callable[[float | None, int], list[T]],
    left: int | None,
    stream: BinaryIO | None,
    move: Callable[[], None],
) -> Iterator[list[T]]:
    """What `read` gives until the end, at most `left` records."""
    live = not all(reader.backend.regular for reader in records.readers())
    while left is None or left > 0:
        if not records.ready:
            move()
        try:
            some = read(LOOK_S if live else None, min(left or LOT, LOT))
        except TimeoutError:
            if stream is not None and _reader_is_gone(stream):
                raise BrokenPipeError from None
            continue
        if not some:
            return
        yield some
        if left is not None:
            left -= len(some)


def _reader_is_gone(stream: BinaryIO) -> bool:
    """Whether nobody can read any more what is written to the stream, a pipe."""
    if not hasattr(select, "poll"):
        return False
    poller = select.poll()
    poller.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poller.poll(0))


@contextlib.contextmanager
def _destination(arguments: argparse.Namespace, records: AnyLog) -> Iterator[BinaryIO]:
    """The file to write to; BackendError when it cannot be opened, or is a log to be read."""
    logs: list[str | int] = [*paths_of(arguments.source), *descriptors_of(records)]
    if arguments.write is None or arguments.write == "-":
        if outputs.description(arguments.to).binary and sys.stdout.isatty():
            raise ValueError(f"{arguments.to} is not for a terminal: name a file with -w")
        check_is_no_log(None, logs)
        yield stdout()
        return
    check_is_no_log(arguments.write, logs)
    try:
        mode = "ab" if arguments.append else "wb"
        stream: Any = open(arguments.write, mode)  # noqa: SIM115 - closed below
    except OSError as error:
        raise BackendError(f"cannot write {arguments.write}: {error.strerror}") from error
    with stream:
        yield stream


@contextlib.contextmanager
def progress(backends: Sequence[Backend], on_terminal: bool) -> Iterator[Any]:
    """A function that moves the progress bar, if there is to be one, see `bar`."""
    sizes = [backend.size for backend in backends if backend.size is not None]
    size = sum(sizes) if len(sizes) == len(backends) else 0
    with bar(size, backends[0].name, on_terminal) as move:

        def move_on() -> None:
            move(sum(backend.position() for backend in backends))

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
