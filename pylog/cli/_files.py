"""Files that commands write: made with their final permissions, and honest when a disk is full.

`Written` counts the records that a file holds for certain. When one more cannot be written, the
file is cut back to those, and the error has its name, the reason and the count. A process id's
file is made complete beside its place and never follows a link, as others may write to its folder.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pylog.errors import BackendError

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def create(path: str, like: str | None = None) -> None:
    """Make an empty file that does not exist yet; OSError.

    like   a file whose permissions it gets, if that exists; else the umask says which. It has
           them before there is a byte in it, and nobody has more until then.
    """
    mode = None
    if like is not None:
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(like).st_mode)
    descriptor = os.open(path, _CREATE, 0o666 if mode is None else mode & 0o600)
    try:
        if mode is not None:
            os.chmod(path, mode)
    finally:
        os.close(descriptor)


def count_text(records: int) -> str:
    """So many records, as an error tells them."""
    return f"{records} record{'s' * (records != 1)}"


class Written:
    """How much of a file is written for certain.

    records   how many are in it
    """

    def __init__(
        self, name: str, stream: BinaryIO | None, own: bool, *, keep_pipe: bool = False
    ) -> None:
        """`own`: the file is the command's, which may cut it back; else it is standard output.

        Without a stream the caller flushes. `keep_pipe`: a FIFO that nobody reads is an error.
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
        """Bring what was written so far, with so many more records, to the system; OSError.

        After an error no more are counted.
        """
        if self._failed:
            return
        if self._stream is not None:
            self._stream.flush()
        self.records += records
        if self._stream is not None and self._size is not None:
            self._size = self._stream.tell()

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Around what writes: OSError becomes BackendError, with the file's name and the count.

        A pipe that nobody reads is left to the caller. After an error nothing more gets into the
        file, whatever is still in a buffer.
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


class PidFile:
    """The file of a process id.

    Made in two steps, as a daemon needs it: what cannot be is found before it goes to the
    background, and the id is known only after that.
    """

    def __init__(self, path: str) -> None:
        """BackendError when it cannot be written, or is anything but a file with a process id."""
        self._path = path
        self._text = b""
        self._new: str | None = None
        check_pid_file(path)
        if _is_null(path):  # which is how to say: none
            return
        folder, name = os.path.split(path)
        new = os.path.join(folder, f".{name}.{os.getpid()}.part")
        with _told(path):
            os.close(os.open(new, _CREATE, 0o644))
        self._new = new

    def write(self) -> None:
        """Write this process's id: the file appears complete; BackendError."""
        if self._new is None:
            return
        self._text = b"%d\n" % os.getpid()
        with _told(self._path):
            Path(self._new).write_bytes(self._text)
            check_pid_file(self._path)
            os.replace(self._new, self._path)
        self._new = None

    def remove(self) -> None:
        """Take the file away, if it is still the one that was written."""
        if self._new is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._new)
            self._new = None
        with contextlib.suppress(OSError, BackendError):
            if self._text and _held(self._path) == self._text:
                os.unlink(self._path)


def check_pid_file(path: str) -> None:
    """BackendError when there is something that a process id must not take the place of."""
    if _is_null(path):
        return
    found = _held(path)
    if found is not None and found.strip() and not found.strip().isdigit():
        raise BackendError(f"cannot write {path}: it holds no process id; -P names a file for it")


def _held(path: str) -> bytes | None:
    """The first bytes of a regular file, None where there is nothing; BackendError for a link,
    FIFO or whatever else there is, at once.
    """
    try:
        with _told(path):
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(os.open(path, _READ), "rb") as file:
                    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                        return file.read(32)
    except BackendError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    raise BackendError(
        f"cannot write {path}: it is no regular file; a process id is not written to a link, FIFO"
        " or device"
    )


def _is_null(path: str) -> bool:
    with contextlib.suppress(OSError):
        return not os.path.islink(path) and os.path.samefile(path, os.devnull)
    return False


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackendError(f"cannot write {path}: {error.strerror or error}") from error
