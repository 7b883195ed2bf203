"""The file of a process id, which other programs read.

It is made complete beside its place and never follows a link, as others may write to its folder.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pylog.errors import BackendError
from pylog.transports.files import CREATE

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


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
            os.close(os.open(new, CREATE, 0o644))
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
