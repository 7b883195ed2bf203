"""Files that records are written to: those that grow, and those that are written once.

Both get their final permissions before there is a byte in them. `replacing` is for files that are
of use only when they are complete: they are written beside and renamed. `Appended` is a log that
another program may move away, so it can be reopened. `Written` counts the records that a file
certainly holds: if the disk becomes full, the file is cut back to complete records, and the error
has its name, the reason and the count. pylog.transports.rotation has files that follow each other.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from pylog.errors import BackendError

REPLACE = "--force replaces it"
"""What to do about a file that exists."""

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
"""Flags to open a file that must not exist yet."""


def create(path: str, like: str | None = None) -> None:
    """Make an empty file that does not exist yet; OSError.

    like   a file whose permissions it gets, if that exists; else the umask decides. It has them
           before it has a byte, and never wider ones before that.
    """
    mode = None
    if like is not None:
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(like).st_mode)
    descriptor = os.open(path, CREATE, 0o666 if mode is None else mode & 0o600)
    try:
        if mode is not None:
            os.chmod(path, mode)
    finally:
        os.close(descriptor)


def is_special(path: str) -> bool:
    """Whether a path is a pipe, a terminal, /dev/null and the like, which can be written to but
    neither replaced nor appended to.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_is_free(path: str, advice: str) -> None:
    """BackendError for a path that something has already; `advice` says what to do then."""
    if os.path.lexists(path) and not is_special(path):
        raise BackendError(f"cannot write {path}: it exists; {advice}")


def check_is_no_directory(path: str) -> None:
    """BackendError for a directory, which no file can be written over."""
    if os.path.isdir(path) or path.endswith("/"):
        raise BackendError(f"cannot write {path}: it is a directory; name a file in it")


@contextlib.contextmanager
def replacing(out: str, force: bool) -> Iterator[str]:
    """The path of a new file, which is renamed to `out` at the end of the context.

    After an exception it is removed; if it was deleted meanwhile, nothing happens. It gets the
    permissions of the file that it replaces. What is no regular file (a pipe, /dev/null) is not
    replaced: then its own path is given.

    Raises BackendError for a file that exists, unless `force`, and for one that cannot be written.
    """
    check_is_no_directory(out)
    if is_special(out):
        yield out
        return
    if not force:
        check_is_free(out, REPLACE)
    folder, name = os.path.split(out)
    path = os.path.join(folder, f".{name}.{os.getpid()}.part")
    try:
        try:
            create(path, like=out)
        except OSError as error:
            raise BackendError(f"cannot write {out}: {error.strerror or error}") from error
        try:
            yield path
            if not os.path.exists(path):
                return
            check_is_no_directory(out)
            if not force:
                check_is_free(out, REPLACE)
            os.replace(path, out)
        except OSError as error:
            raise BackendError(
                f"cannot write {out}: {error.strerror or error}; 0 records written, as an"
                " incomplete file is removed"
            ) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def count_text(records: int) -> str:
    """A number of records as errors show it: "1 record"."""
    return f"{records} record{'s' * (records != 1)}"


class Written:
    """Counts what is certainly written to a file.

    records   how many records are in it
    """

    def __init__(
        self, name: str, stream: BinaryIO | None, own: bool, *, keep_pipe: bool = False
    ) -> None:
        """
        stream      the file; None: the caller flushes it
        own         the file is the command's, which may cut it back; else it is standard output
        keep_pipe   a FIFO that nobody reads is an error
        """
        self._keep_pipe = keep_pipe
        self._name, self._stream = name, stream
        self.records = 0
        self._failed = False
        self._size: int | None = None
        if own and stream is not None:
            with contextlib.suppress(OSError, ValueError):
                if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    self._size = stream.tell()

    def more(self, records: int) -> None:
        """Flush what was written, which is `records` more; OSError.

        After an error nothing more is counted.
        """
        if self._failed:
            return
        if self._stream is not None:
            self._stream.flush()
        self.records += records
        if self._stream is not None and self._size is not None:
            self._size = self._stream.tell()

    @contextlib.contextmanager
    def as_backend_error(self) -> Iterator[None]:
        """Wraps code that writes: OSError becomes BackendError, with the file's name and the count.

        BrokenPipeError is left to the caller, unless `keep_pipe`. After an error nothing more gets
        into the file, whatever a buffer still holds.
        """
        try:
            yield
        except OSError as error:
            if isinstance(error, BrokenPipeError) and not self._keep_pipe:
                raise
            self._give_up()
            least = "" if self._size is not None or not self.records else "at least "
            raise BackendError(
                f"cannot write {self._name}: {error.strerror or error};"
                f" {least}{count_text(self.records)} written"
            ) from error

    def _give_up(self) -> None:
        self._failed = True
        with contextlib.suppress(OSError, ValueError):
            descriptor = 1 if self._stream is None else self._stream.fileno()
            if self._size is not None:
                os.ftruncate(descriptor, self._size)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)


class Appended:
    """A file to append to, which `reopen` opens anew after it was moved away.

    records   how many were written since it was opened
    """

    def __init__(self, path: str) -> None:
        """Raises BackendError when it cannot be written."""
        self.path = path
        self.records = 0
        self._file = self._open()

    def _open(self) -> BinaryIO:
        try:
            return open(self.path, "ab", buffering=0)
        except OSError as error:
            raise BackendError(f"cannot write {self.path}: {error.strerror}") from error

    def write(self, data: bytes, records: int = 1) -> None:
        """Append data that holds `records` records, without a buffer; BackendError."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._take_back(len(data) - len(left))
            raise BackendError(
                f"cannot write {self.path}: {error.strerror}; {count_text(self.records)} written"
            ) from error
        self.records += records

    def _take_back(self, size: int) -> None:
        """Cut the last `size` bytes, part of a record, unless another program wrote after them."""
        with contextlib.suppress(OSError):
            end = self._file.tell()
            if size and os.fstat(self._file.fileno()).st_size == end:
                self._file.truncate(end - size)

    def reopen(self) -> None:
        """Go on in the file that now has the path; BackendError, and the old file stays, if it
        cannot be opened.
        """
        file = self._open()
        self._file.close()
        self._file, self.records = file, 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
