"""Files that outputs append to, buffered as stdio does: about 4096 bytes at a time, or each record.

A write that fails is an error that names the file, and what it was to write is counted as lost. A
file then ends with a complete record. Only exact files are written in blocks of 4096 bytes, as
ulogd's, which may end within a record; where two outputs write to one file, its blocks alternate.
"""

from __future__ import annotations

import os
import sys

from pylog.errors import BackendError
from pylog.transports.files import Appended

BLOCK = 4096
"""st_blksize, which is the size of stdio's buffer."""


class File:
    """A file to append to.

    lost   how many records it could not write, besides those that `write` raised an error for
    """

    lost = 0

    def __init__(self, path: str, sync: bool, exact: bool = False) -> None:
        """
        sync    flush after each record
        exact   write blocks as ulogd does

        BackendError when it cannot be opened. /dev/stdout is standard output itself, which cannot
        be opened by its name if it is a socket, as that of a service is.
        """
        self._file = _Standard() if path == "/dev/stdout" else Appended(path)
        self._sync, self._exact = sync, exact
        self._buffer = b""
        self._records = 0
        """How many are in the buffer, one perhaps in part."""

    @property
    def is_empty(self) -> bool:
        return not self._buffer and (
            isinstance(self._file, _Standard) or os.path.getsize(self._file.path) == 0
        )

    def write(self, data: bytes) -> None:
        """Append a record; BackendError if it is lost."""
        full = len(self._buffer) + len(data) > BLOCK
        if full and not self._exact:
            self.flush()
        self._buffer += data
        self._records += 1
        if self._sync or (full and self._exact):
            try:
                self._put(0 if self._sync else len(self._buffer) % BLOCK)
            except BackendError:
                self.lost -= 1
                raise

    def flush(self) -> None:
        """Write what is buffered; BackendError, and then all of it is lost."""
        if self._buffer:
            self._put(0)

    def _put(self, left: int) -> None:
        """Write what is buffered but the last `left` bytes; BackendError, and then all of it is
        lost.
        """
        data, self._buffer = self._buffer, b""
        records, self._records = self._records, int(left > 0)
        try:
            self._file.write(data[: len(data) - left])
        except BackendError:
            self.lost += records
            self._records = 0
            raise
        self._buffer = data[len(data) - left :]

    def reopen(self) -> None:
        """Go on in the file that now has the path; BackendError, and the old one stays."""
        self.flush()
        self._file.reopen()

    def close(self) -> None:
        """Write what is buffered and close; BackendError."""
        try:
            self.flush()
        finally:
            self._file.close()


class _Standard:
    """Standard output, written as an Appended is."""

    def write(self, data: bytes) -> None:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # nobody reads it any more, which ends the command in order
            raise
        except OSError as error:
            raise BackendError(f"cannot write standard output: {error.strerror}") from error

    def reopen(self) -> None:
        """It has no name to be opened by."""

    def close(self) -> None:
        """It is left open."""
