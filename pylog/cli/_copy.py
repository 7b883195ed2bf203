"""The way of records from a source to an output: one loop, `copy`.

For each batch of a source, output.write(batch). The batches are columns where the output is faster
with them and the source is read in bulk, else records.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, TypeVar

from pylog import outputs
from pylog.actions import Actions
from pylog.batch import Batch
from pylog.cli import say, stdout
from pylog.cli._outputs import Change, changes, coloured, given_actions, read_options
from pylog.cli._progress import progress
from pylog.cli._sources import (
    AnyLog,
    Stopping,
    check_is_no_log,
    descriptors_of,
    greet,
    is_unreadable,
    paths_of,
    summary,
)
from pylog.decoder import LOT
from pylog.errors import as_backend_error
from pylog.outputs._columns import ColumnsOutput
from pylog.reader import Reader, Records
from pylog.transports.files import Written

LOOK_S = 1.0
"""How often to check, while no records come, whether anybody still reads the output."""

MEASURED = 10_000
"""The CPU time of fewer records is mostly that of starting, and not shown."""

T = TypeVar("T")


class Copy(contextlib.ExitStack):
    """Writes records to the output of the arguments, which is opened before the first record.

    left      how many records may still be written, None for any number
    written   how many records were written
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
        self._actions = given_actions(arguments)
        self.left: int | None = arguments.count
        self.written = 0
        self._failed = False
        self._cpu_before = time.process_time()

    @property
    def exit_status(self) -> int:
        return self._stopping.status or int(self._failed)

    def summary(self) -> str:
        """The records written and, of many, their CPU time: of pylog, and of the system for it."""
        used = time.process_time() - self._cpu_before
        if self.written < MEASURED:
            return f"{self.written} records written"
        each = f"{used / self.written * 1e6:.1f} us of CPU time each"
        return f"{self.written} records written, {each}"

    def all(self, records: AnyLog) -> None:
        """Write the records until their end, or until a signal."""
        if self._output is None:
            self._open(records)
        assert self._output is not None and self._file is not None and self._stream is not None
        self._stopping.records = records
        greet(records)
        try:
            copy(
                records, self._output, changes=self._changes, actions=self._actions,
                limit=self.left, confirm=self._confirm, stream=self._stream,
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
        colour = coloured(self._arguments, stream)
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
        """The context of writing so many records, which count when the file holds them."""
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
    actions: Actions | None = None,
    limit: int | None = None,
    confirm: Callable[[int], contextlib.AbstractContextManager[None]] | None = None,
    stream: BinaryIO | None = None,
) -> None:
    """Write the records of a source, `limit` at most, each changed by all `changes`.

    actions   what prefixes stand for
    confirm   makes the context in which so many records are written
    stream    the stream of the output, if it may be a pipe or a terminal

    Raises BrokenPipeError when nobody reads the stream any more, even if no records come.
    """
    context = contextlib.nullcontext if confirm is None else confirm
    backends = [reader.backend for reader in records.readers()]
    with progress(backends, stream is not None and stream.isatty()) as move:
        if type(records) is Reader and output.takes_rows and not changes:
            rows = records.rows(output.shows_payload)
            for lot in _lots(records, rows.read_batch, limit, stream, move):
                if actions is not None:
                    lot = [actions.record(row) for row in lot]
                with context(len(lot)):
                    output.write_rows(lot)
            return
        for batch in _batches(records, output, changes, actions, limit, stream, move):
            with context(len(batch)):
                output.write(batch)


def _batches(
    records: AnyLog,
    output: outputs.Output,
    changes: Sequence[Change],
    actions: Actions | None,
    limit: int | None,
    stream: BinaryIO | None,
    move: Callable[[], None],
) -> Iterator[Batch]:
    """The batches that `copy` writes, where it does not write rows."""
    if isinstance(output, ColumnsOutput):
        from pylog.table.bulk import Bulk  # needs the extra, as the output does
        from pylog.table.select import Selection

        if isinstance(records, Bulk):
            wanted = {
                kind: Selection(kind, names, actions=actions)
                for kind, names in output.wanted.items()
            }
            for kind, columns in records.batches(wanted):
                yield Batch.of_columns({kind: columns})
                move()
            output.leave_out(records.counts)
            return
    assert isinstance(records, Records)
    for lot in _lots(records, records.read_batch, limit, stream, move):
        for change in changes:
            lot = [change(record) for record in lot]
        if actions is not None:
            lot = [actions.record(record) for record in lot]
        yield Batch(lot)


def _lots(
    records: Records,
    read: Callable[[float | None, int], list[T]],
    left: int | None,
    stream: BinaryIO | None,
    move: Callable[[], None],
) -> Iterator[list[T]]:
    """The lists that `read` gives until the end, at most `left` records in all."""
    live = not all(reader.backend.regular for reader in records.readers())
    while left is None or left > 0:
        if not records.ready:
            move()
        try:
            lot = read(LOOK_S if live else None, min(left or LOT, LOT))
        except TimeoutError:
            if stream is not None and _reader_is_gone(stream):
                raise BrokenPipeError from None
            continue
        if not lot:
            return
        yield lot
        if left is not None:
            left -= len(lot)


def _reader_is_gone(stream: BinaryIO) -> bool:
    """Whether the stream is a pipe whose reading end is closed."""
    if not hasattr(select, "poll"):
        return False
    poller = select.poll()
    poller.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poller.poll(0))


@contextlib.contextmanager
def _destination(arguments: argparse.Namespace, records: AnyLog) -> Iterator[BinaryIO]:
    """The stream to write to; BackendError when it cannot be opened, or is a log to be read."""
    logs: list[str | int] = [*paths_of(arguments.source), *descriptors_of(records)]
    if arguments.write is None or arguments.write == "-":
        if outputs.description(arguments.to).binary and sys.stdout.isatty():
            raise ValueError(f"{arguments.to} is not for a terminal: name a file with -w")
        check_is_no_log(None, logs)
        yield stdout()
        return
    check_is_no_log(arguments.write, logs)
    with as_backend_error("write", arguments.write):
        stream: Any = open(arguments.write, "ab" if arguments.append else "wb")  # noqa: SIM115 - closed below
    with stream:
        yield stream
