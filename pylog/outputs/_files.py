"""An output that goes on from file to file.

An output is made for one file. `OutputFiles` makes it anew for the next one: when a file is full
(--rotate-size, --rotate-time), and at SIGHUP, when logrotate has moved the file away. Both happen
between two batches, after the old file was completed, so that no record is lost or written twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from pylog import outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.notes import notes
from pylog.record import Record, Row
from pylog.transports.ends import End, end_of
from pylog.transports.rotation import File, Files


class OutputFiles(outputs.Output):
    """An output that goes on from file to file.

    The next file is opened for the next record, not before. All errors are BackendError, but for a
    pipe that nobody reads.

    output    the output of the file that is open; None: none is open
    records   how many records were written for certain, to all files
    """

    def __init__(
        self,
        files: Files,
        make: Callable[[File], outputs.Output],
        confirms: bool = True,
    ) -> None:
        """Opens the first file.

        make       makes the output of a file
        confirms   whether records are certain when they are flushed; else when the file is closed
        """
        self._files, self._make, self._confirms = files, make, confirms
        self.output: outputs.Output | None = None
        self._file: File | None = None
        self._unconfirmed = 0
        self.records = 0
        self._begin(files.open())
        assert self.output is not None
        self.takes_rows = self.output.takes_rows
        self.shows_payload = self.output.shows_payload
        self.wanted = self.output.wanted

    def _begin(self, file: File) -> None:
        try:
            with file.written.as_backend_error():
                self.output = self._make(file)
        except BaseException:
            file.close()
            raise
        self._file = file

    @property
    def on_terminal(self) -> bool:
        """Whether the file that is open is a terminal."""
        return self._file is not None and self._file.raw.isatty()

    @property
    def file(self) -> File:
        """The file that is open; there is one after `ready`."""
        assert self._file is not None
        return self._file

    def ready(self) -> outputs.Output:
        """The output to write to: of the file that is open, or else of the next one."""
        if self.output is None:
            self._begin(self._files.open())
        assert self.output is not None
        return self.output

    @contextlib.contextmanager
    def writing(self) -> Iterator[outputs.Output]:
        """The context of writing to the output of the file that is open, or else of the next."""
        output = self.ready()
        with self.file.written.as_backend_error():
            yield output

    def write(self, batch: Batch) -> None:
        with self.writing() as output:
            output.write(batch)

    def write_rows(self, rows: Sequence[Row]) -> None:
        with self.writing() as output:
            output.write_rows(rows)

    def lines_of(self, records: Sequence[Record]) -> bytes:
        return self.ready().lines_of(records)

    def time_text(self, utc: str) -> str:
        return self.ready().time_text(utc)

    def write_lines(self, lines: bytes | memoryview) -> None:
        with self.writing() as output:
            output.write_lines(lines)

    def note_losses(self, seen: bool) -> None:
        if self.output is not None:
            self.output.note_losses(seen)

    def flush(self) -> None:
        if self.output is not None:
            with self.writing() as output:
                output.flush()

    def confirm(self, records: int) -> None:
        """Flush what was written, so many records."""
        self._unconfirmed += records
        self.flush()
        if self._confirms and self._file is not None:
            with self._file.written.as_backend_error():
                self._count()

    def commit(self, position: str) -> None:
        """As Output.commit: what comes later is cut off again if it cannot be written."""
        self.confirm(0)
        self._committed = position

    def add(self, records: int) -> None:
        """So many records were written, and are to be flushed later."""
        self._unconfirmed += records

    def _count(self) -> None:
        """Count the records that were flushed; OSError."""
        assert self._file is not None
        records, self._unconfirmed = self._unconfirmed, 0
        before = self._file.written.records
        self._file.written.more(records)
        self.records += self._file.written.records - before

    def turn(self, hung_up: bool = False) -> None:
        """Between two batches: go on in another file, if it is time to.

        hung_up   whether SIGHUP came, so that the file is to be opened again
        """
        if hung_up:
            self._reopen()
        elif self._file is not None and self._files.is_full(self._file):
            self.flush()
            self.close()

    def _reopen(self) -> None:
        """Go on in the file that has the name now; in the old one, if that cannot be written."""
        if self._files.numbered:
            self.close()
            return
        try:
            file = self._files.open()
        except BackendError as error:
            notes.warning("%s; the file stays as it is", error)
            return
        try:
            self.close()
        except BaseException:
            file.close()
            raise
        self._begin(file)

    def end(self) -> End | None:
        """Where the file that is open ends, after a flush; None: none is open, or it is no regular
        file.
        """
        if self._file is None:
            return None
        with self._file.written.as_backend_error():
            return end_of(self._file)

    def left_s(self) -> float | None:
        """How long the file may still be written to; None: without a limit."""
        return None if self._file is None else self._files.left_s(self._file)

    def close(self) -> None:
        """Complete and close the file that is open."""
        output, file = self.output, self._file
        if output is None or file is None:
            return
        try:
            with file.written.as_backend_error():
                output.close()
                file.finish()
                self._count()
        finally:
            self.output = self._file = None
            file.close()
