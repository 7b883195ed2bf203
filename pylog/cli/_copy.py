"""The way of records from a source to an output: one loop, `copy`.

For each batch of a source, output.write(batch). The batches are columns where the output is faster
with them and the source is read in bulk, else records.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypeVar

from pylog import outputs
from pylog.actions import Actions
from pylog.batch import Batch
from pylog.cli import say, stdout
from pylog.cli._live import LiveLines, live_lines
from pylog.cli._outputs import (
    Change,
    changes,
    coloured,
    noting_actions,
    report_no_verdict,
    report_unmatched,
)
from pylog.cli._places import OutputPlace
from pylog.cli._progress import progress
from pylog.cli._sources import (
    AnyLog,
    Stopping,
    check_is_no_log,
    descriptors_of,
    greet,
    is_unreadable,
    losses_are_seen,
    paths_of,
    summary,
)
from pylog.cli._where import given_filter, report_filtered, report_untimed
from pylog.decoder import LOT
from pylog.errors import BackendError
from pylog.open_log import OpenLog
from pylog.outputs._files import OutputFiles
from pylog.reader import Reader, Records, Rows
from pylog.records import Filtered, FilteredRows
from pylog.transports.files import REPLACE, check_is_free, is_special, replacing
from pylog.transports.rotation import File, Files, Manner

if TYPE_CHECKING:
    from pylog.filter import Filter
    from pylog.table.ordered import Piece
    from pylog.table.select import Selection

LOOK_S = 1.0
"""How often to check, while no records come, whether anybody still reads the output, and whether it
is time for another file.
"""

MEASURED = 10_000
"""The CPU time of fewer records is mostly that of starting, and not shown."""

T = TypeVar("T")


class Copy(contextlib.ExitStack):
    """Writes records to the output of the arguments, which is opened before the first record.

    The file that -w names is checked at once. What grows is written in place; at SIGHUP it is
    opened again by its name. What is of use only when it is complete is written beside and renamed.

    left      how many records may still be written, None for any number
    written   how many records were written
    """

    def __init__(
        self, arguments: argparse.Namespace, options: Mapping[str, Any], stopping: Stopping
    ) -> None:
        """
        options   of the output, as _outputs.read_options gives them
        """
        super().__init__()
        self._arguments, self._options = arguments, options
        self._stopping = stopping
        self._description = outputs.description(arguments.to)
        self._output: OutputFiles | OutputPlace | None = None
        self._changes = changes(arguments)
        self._actions = noting_actions(arguments)
        self._filter = given_filter(arguments)
        self.left: int | None = arguments.count
        self.written = 0
        self._failed = False
        self._cpu_before = time.process_time()
        self._containers: set[str] = set()
        self.callback(self._report)
        self._files = None if arguments.target is not None else self._of_arguments()
        self._filtered: Filtered | None = None
        self._reopens = bool(self._files and self._files.reopens and self._description.appends)
        stopping.reopens = self._reopens or (self._filter is not None and self._filter.files)

    def _report(self) -> None:
        """Report what was not written because the log does not say it."""
        report_unmatched(self._actions)
        report_untimed(self._arguments, self._containers)
        if not self.written:
            report_no_verdict(self._actions)

    def _of_arguments(self) -> Files:
        """The files of the arguments; BackendError for one that must not be written, ValueError
        for one that other columns stand in."""
        arguments = self._arguments
        path = arguments.write
        logs: list[str | int] = [*paths_of(arguments.source)]
        if "-" in arguments.source:
            with contextlib.suppress(OSError, AttributeError):  # it is closed
                logs.append(sys.stdin.fileno())
        if path is None or path == "-":
            if (self._description.binary or arguments.suffix) and _is_terminal(sys.stdout):
                raise ValueError(f"{arguments.to} is not for a terminal: name a file with -w")
            check_is_no_log(None, logs)
            standard = stdout()
            path = "-"
        else:
            check_is_no_log(path, logs)
            standard = None
        if self._description.needs_path and is_special(path):
            raise BackendError(f"cannot write {path}: {arguments.to} needs a regular file")
        if not (self._description.appends or arguments.force or standard):
            check_is_free(path, REPLACE)
        manner: Manner = "refuse"
        if arguments.append or arguments.force:
            manner = "append" if arguments.append else "replace"
        files = Files(
            path, manner, suffix=arguments.suffix, size=arguments.rotate_size,
            age_s=arguments.rotate_time, standard=standard,
        )  # fmt: skip
        if arguments.append:
            outputs.check_appending(arguments.to, files.before(), self._options)
        return files

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
        output = self._output
        assert output is not None
        self._stopping.records = records
        greet(records)
        source, left_out = records, 0
        if self._filter is not None and isinstance(records, Records):
            source = self._filtered = records.where(self._filter, actions=self._actions)
        lines = self._live_lines(source)
        try:
            left_out = copy(
                source, output if self._description.appends else output.ready(),
                changes=self._changes, actions=self._actions, where=self._filter, limit=self.left,
                confirm=self._confirm, idle=self._idle, on_terminal=output.on_terminal,
                lines=lines,
            )  # fmt: skip
        finally:
            self._stopping.records = None
            if self._arguments.verbose:
                output.flush()
                for reader in records.readers():
                    say(summary(reader))
                if self._filtered is not None:
                    left_out += self._filtered.left_out
                if lines is not None:
                    say(lines.text())
                report_filtered(self._filter, left_out)
        for reader in records.readers():
            output.note_losses(losses_are_seen(reader))
            self._containers.add(reader.detection.container)
            if self.left != 0 and is_unreadable(reader):
                self._failed = True

    def _live_lines(self, records: AnyLog) -> LiveLines | None:
        """What reads a live source for an output that makes lines; None: records are read."""
        output, arguments = self._output, self._arguments
        single = isinstance(records, Reader | Filtered) and len(records.readers()) == 1
        if not single or self._changes or self.left is not None:
            return None
        if not (isinstance(output, OutputFiles) and output.takes_rows):
            return None
        if not outputs.makes_lines(arguments.to, self._options):
            return None
        assert isinstance(records, Reader | Filtered)
        return live_lines(records, output, self._actions)

    def _open(self, records: AnyLog) -> None:
        if self._files is None:
            self._output = OutputPlace(
                self._arguments.to, self._arguments.target, dict(self._options)
            )
            self.callback(self._output.close)
            return
        named = self._arguments.write not in (None, "-")
        check_is_no_log(self._arguments.write if named else None, descriptors_of(records))
        if named and not self._description.appends:
            path = self.enter_context(replacing(self._arguments.write, self._arguments.force))
            self._files = Files(path, "replace", shown=self._arguments.write)
            self.callback(self._remove_if_unread, path)
        self._output = OutputFiles(self._files, self._made, self._description.appends)
        self.callback(self._output.close)

    def _remove_if_unread(self, path: str) -> None:
        """Remove what would be complete, if nothing of a log could be read."""
        if self._failed and not self.written and not is_special(path):
            os.unlink(path)

    def _made(self, file: File) -> outputs.Output:
        """The output of a file."""
        path = None if self._arguments.write in (None, "-") else file.path
        colour = coloured(self._arguments, file.stream)
        target = outputs.Target(file.stream, path, colour, file.appending)
        return outputs.open(self._arguments.to, target, self._options)

    @contextlib.contextmanager
    def _confirm(self, records: int) -> Iterator[None]:
        """The context of writing so many records, which count when the file holds them."""
        assert self._output is not None
        with self._output.writing():
            yield
        self._output.confirm(records)
        self.written += records
        if self.left is not None:
            self.left -= records
        self._turn()

    def _turn(self) -> None:
        """Go on to another file if it is time; after SIGHUP, open and read files again."""
        assert self._output is not None
        hung_up = self._stopping.hung_up()
        if hung_up and self._filtered is not None:
            try:
                self._filtered.reload()
            except ValueError as error:
                say(f"the filter stays as it was: {str(error).partition(chr(10))[0]}")
        self._output.turn(hung_up and self._reopens)

    def _idle(self) -> None:
        """While no records come; BrokenPipeError when nobody reads the output any more."""
        assert self._output is not None
        output = self._output
        file = output.file.raw if isinstance(output, OutputFiles) and output.output else None
        if file is not None and _reader_is_gone(file):
            raise BrokenPipeError
        self._turn()


def copy(
    records: AnyLog,
    output: outputs.Output,
    *,
    changes: Sequence[Change] = (),
    actions: Actions | None = None,
    where: Filter | None = None,
    limit: int | None = None,
    confirm: Callable[[int], contextlib.AbstractContextManager[None]] | None = None,
    idle: Callable[[], None] | None = None,
    on_terminal: bool = False,
    lines: LiveLines | None = None,
) -> int:
    """Write the records of a source, `limit` at most, each changed by all `changes`. Gives how many
    records of a log in bulk the filter left out.

    actions       what prefixes stand for
    where         the filter of a log in bulk; other records are filtered already
    confirm       makes the context in which so many records are written
    idle          is called now and then while no records come
    on_terminal   whether the output is a terminal
    lines         what reads a live source in place of `records`
    """
    context: Callable[[int], contextlib.AbstractContextManager[Any]]
    context = contextlib.nullcontext if confirm is None else confirm
    backends = [reader.backend for reader in records.readers()]
    with progress(backends, on_terminal) as move:
        if lines is not None:
            return _copy_live(lines, output, context, idle)
        rows: Rows | FilteredRows | None = None
        if isinstance(records, Reader | Filtered) and output.takes_rows and not changes:
            rows = records.rows(output.shows_payload) if records.gives_rows else None
        if rows is not None:
            assert isinstance(records, Records)
            for lot in _lots(records, rows.read_batch, limit, idle, move):
                if actions is not None:
                    lot = [actions.record(row) for row in lot]
                with context(len(lot)):
                    output.write_rows(lot)
            return 0
        if output.wanted is None and not isinstance(records, Records):
            return _copy_lines(records, output, actions, where, context, move)
        selections: dict[str, Selection] = {}
        if output.wanted is not None and not isinstance(records, Records):
            from pylog.table.select import Selection  # needs the extra, as the output does

            selections = {
                kind: Selection(kind, names, where, actions)
                for kind, names in output.wanted.items()
            }
        for batch in _batches(records, output, changes, actions, selections, limit, idle, move):
            with context(len(batch)):
                output.write(batch)
        return sum(selection.left_out for selection in selections.values())


def _copy_live(
    lines: LiveLines,
    output: outputs.Output,
    context: Callable[[int], contextlib.AbstractContextManager[Any]],
    idle: Callable[[], None] | None,
) -> int:
    """As `copy`, of a live source into an output that makes lines."""
    for lot in lines.lots():
        if not lot.number:
            if idle is not None:
                idle()
            continue
        with context(lot.number):
            if lot.lines is not None:
                output.write_lines(lot.lines)
            else:
                output.write_rows(lot.rows)
    return lines.left_out


def _copy_lines(
    records: OpenLog,
    output: outputs.Output,
    actions: Actions | None,
    where: Filter | None,
    context: Callable[[int], contextlib.AbstractContextManager[Any]],
    move: Callable[[], None],
) -> int:
    """As `copy`, of a log in bulk into an output that makes lines."""
    from pylog.table.bulk import Bulk  # needs the extra

    assert isinstance(records, Bulk)
    for piece in records.lines(output, where, actions):
        with context(piece.number):
            write_piece(output, piece)
        move()
    return records.left_out


def write_piece(output: outputs.Output, piece: Piece) -> None:
    """Write consecutive records of a log in bulk: their lines, or themselves."""
    if piece.lines is not None:
        output.write_lines(piece.lines)
    else:
        output.write(Batch(piece.records))


def _batches(
    records: AnyLog,
    output: outputs.Output,
    changes: Sequence[Change],
    actions: Actions | None,
    selections: Mapping[str, Selection],
    limit: int | None,
    idle: Callable[[], None] | None,
    move: Callable[[], None],
) -> Iterator[Batch]:
    """The batches that `copy` writes, where it does not write rows.

    selections   of a log in bulk: the wanted columns and rows of each kind
    """
    if output.wanted is not None:
        from pylog.table.bulk import Bulk  # needs the extra, as the output does

        if isinstance(records, Bulk):
            for kind, columns in records.batches(selections):
                yield Batch.of_columns({kind: columns})
                move()
            output.leave_out(records.counts)
            return
    assert isinstance(records, Records)
    for lot in _lots(records, records.read_batch, limit, idle, move):
        for change in changes:
            lot = [change(record) for record in lot]
        if actions is not None:
            lot = [actions.record(record) for record in lot]
        yield Batch(lot)


def _lots(
    records: Records,
    read: Callable[[float | None, int], list[T]],
    left: int | None,
    idle: Callable[[], None] | None,
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
            if idle is not None:
                idle()
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


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
