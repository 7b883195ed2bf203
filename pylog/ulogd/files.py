"""Files that outputs append to, buffered as stdio does: 4096 bytes at a time, or each record.

Two outputs may write to one file, as with ulogd; their blocks then alternate. A write that fails
is an error that names the file; a part of a record is cut off again.
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

    sync   flush after each record
    """

    def __init__(self, path: str, sync: bool) -> None:
        """BackendError when it cannot be opened.

        /dev/stdout is standard output itself, which cannot be opened by its name if it is a socket,
        as that of a service is.
        """
        self._file = _Standard() if path == "/dev/stdout" else Appended(path)
        self._sync = sync
        self._buffer = b""

    @property
    def is_empty(self) -> bool:
        return not self._buffer and (
            isinstance(self._file, _Standard) or os.path.getsize(self._file.path) == 0
        )

    def write(self, data: bytes) -> None:
        """Append a record; BackendError."""
        self._buffer += data
        if self._sync:
            self.flush()
        elif len(self._buffer) > BLOCK:
            size = len(self._buffer) // BLOCK * BLOCK
            full, self._buffer = self._buffer[:size], self._buffer[size:]
            self._file.write(full)

    def flush(self) -> None:
        """Write what is buffered; BackendError."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            self._file.write(data)

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
