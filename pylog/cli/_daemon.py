"""`pylog ipmon -D` and -P: a background process, and the file with its id for other programs.

What can fail is tried before the fork, while the error can still be seen; the process id exists
only after it. The file is written under another name in the same folder and renamed when it is
complete. Links are never followed, because others may be allowed to write to the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
from pathlib import Path

from pylog.cli import say
from pylog.errors import BackendError, as_backend_error
from pylog.transports.files import CREATE

PID_FILE = "/var/run/ipmon.pid"
"""Where ipmon -D writes its process id unless -P names another file."""

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class PidFile:
    """The file of a process id, made in two steps: before and after the fork."""

    def __init__(self, path: str) -> None:
        """BackendError when it cannot be written, or exists and holds no process id."""
        self._path = path
        self._text = b""
        self._new: str | None = None
        check_pid_file(path)
        if _is_null(path):  # the way to ask for no file
            return
        folder, name = os.path.split(path)
        new = os.path.join(folder, f".{name}.{os.getpid()}.part")
        with as_backend_error("write", path):
            os.close(os.open(new, CREATE, 0o644))
        self._new = new

    def write(self) -> None:
        """Write the id of this process and give the file its name; BackendError."""
        if self._new is None:
            return
        self._text = b"%d\n" % os.getpid()
        with as_backend_error("write", self._path):
            Path(self._new).write_bytes(self._text)
            check_pid_file(self._path)
            os.replace(self._new, self._path)
        self._new = None

    def remove(self) -> None:
        """Delete the file, if it still holds what was written."""
        if self._new is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._new)
            self._new = None
        with contextlib.suppress(OSError, BackendError):
            if self._text and _held(self._path) == self._text:
                os.unlink(self._path)


def check_pid_file(path: str) -> None:
    """BackendError when the path exists and is not a file with a process id."""
    if _is_null(path):
        return
    text = (_held(path) or b"").strip()
    if text and not text.isdigit():
        raise BackendError(f"cannot write {path}: it holds no process id; -P names a file for it")


def _held(path: str) -> bytes | None:
    """The first bytes of a regular file, None without one.

    BackendError for a link, FIFO or anything else, without waiting for it.
    """
    try:
        with as_backend_error("write", path):
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


def fill_standard_descriptors() -> None:
    """Open /dev/null in place of closed standard streams, so that no other file gets 0 to 2."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def begin(arguments: argparse.Namespace, daemon: bool, stack: contextlib.ExitStack) -> None:
    """Go to the background, if `daemon` and the arguments allow it, and write the process id."""
    if daemon and arguments.file is None and not arguments.syslog:
        say("-D needs OUTPUT or -s: staying in the foreground")
        daemon = False
    path = arguments.pid_file or (PID_FILE if daemon else None)
    pid_file = (
        None if path is None else PidFile(path)
    )  # before the fork: its error can still be seen
    if pid_file is not None:
        stack.callback(pid_file.remove)  # first: a signal may come at any time
    if daemon:
        _to_background(arguments.syslog)
    if pid_file is not None:
        pid_file.write()


def _to_background(syslog: bool) -> None:
    """Continue in a child process without a terminal.

    Notes still go to standard error, but with -s only to a file: a terminal or pipe is closed.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    keep = not syslog or stat.S_ISREG(os.fstat(2).st_mode)
    for descriptor in (0, 1) if keep else (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
