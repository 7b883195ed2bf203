"""Files that records are written to.

`create` makes a file with its final permissions. `Appended` is a log that another program may move
away, so it can be reopened. `Numbered` names the files of a rotation. `Written` counts the records
that a file certainly holds: if the disk becomes full, the file is cut back to complete records, and
the error has its name, the reason and the count.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from pylog.errors import BackendError

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


class Numbered:
    """Makes the files of a rotation: fw-00001.pcapng, fw-00002.pcapng and so on for fw.pcapng.

    Numbers go on after those of files that exist.
    """

    def __init__(self, path: str, suffixes: Sequence[str] = (), *, single: bool = False) -> None:
        """`suffixes`, as .gz, stay behind the ending; `single`: a single file without a number."""
        self._path, self._single, self._number = Path(path), single, 0
        suffix = next((suffix for suffix in suffixes if self._path.name.endswith(suffix)), "")
        self._stem, ending = os.path.splitext(self._path.name.removesuffix(suffix))
        self._ending = ending + suffix
        self._name = path

    def create(self) -> tuple[BinaryIO, str]:
        """The next file, open, and its path; BackendError. A regular file that exists is never
        overwritten; a device or FIFO is written to.
        """
        while True:
            path = self._name if self._single else self._next_path()
            special = os.path.exists(path) and not os.path.isfile(path)
            try:
                return (open(path, "wb") if special else open(path, "xb")), path
            except FileExistsError as error:
                if not self._single:
                    continue
                raise BackendError(f"cannot write {path}: it exists; remove it first, or name"
                                   " another file") from error  # fmt: skip
            except OSError as error:
                raise BackendError(f"cannot write {path}: {error.strerror}") from error

    def _next_path(self) -> str:
        if not self._number:
            pattern = re.compile(re.escape(self._stem) + r"-(\d{5,})" + re.escape(self._ending))
            names = [path.name for path in self._path.parent.glob("*")]
            numbers = [int(match[1]) for name in names if (match := pattern.fullmatch(name))]
            self._number = max(numbers, default=0)
        self._number += 1
        return str(self._path.with_name(f"{self._stem}-{self._number:05}{self._ending}"))
