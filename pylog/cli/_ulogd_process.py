"""The process of `pylog ulogd`: its signals, its pid file, the background and its user.

SIGTERM and SIGINT end it in order, SIGHUP opens files again, SIGUSR2 reads counters at once. The
pid file is locked as long as the process lives, so that a second one sees it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from pylog.errors import BackendError, as_backend_error


class Signals:
    """The context in which signals are noted.

    endings      how often one came that ends the process
    interrupts   how often of them it was SIGINT
    is_start     whether one of those raises SystemExit, as what is being opened may hang
    """

    def __init__(self) -> None:
        self.endings = self.interrupts = 0
        self.is_start = True
        self._came: set[int] = set()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"):
            number = getattr(signal, name)
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # one more must not change how the process ends, which it is about to do
            is_last = self.endings and number in (signal.SIGTERM, signal.SIGINT)
            signal.signal(number, signal.SIG_IGN if is_last else handler)

    @contextlib.contextmanager
    def waking(self, descriptor: int) -> Iterator[None]:
        """The context in which a signal also writes to a descriptor."""
        before = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self.endings += 1
            self.interrupts += number == signal.SIGINT
            if self.is_start:
                self.is_start = False
                raise SystemExit(128 + number)
        self._came.add(number)

    def taken(self) -> set[int]:
        """The signals that came since the last call."""
        came, self._came = self._came, set()
        return came


class PidFile:
    """A file with the process id, locked while it is open."""

    def __init__(self, path: str) -> None:
        """BackendError if it cannot be written or another process holds it."""
        self._path = path
        with as_backend_error("write", path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            os.lockf(self._descriptor, os.F_TLOCK, 0)
        except OSError as error:
            held = os.read(self._descriptor, 32).strip().decode(errors="replace")
            os.close(self._descriptor)
            raise BackendError(f"{path}: process {held} runs already") from error

    def write(self) -> None:
        """Write the process id; BackendError."""
        with as_backend_error("write", self._path):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        """Give the lock back, before a fork, after which it is taken again."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Delete the file."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def to_background() -> None:
    """Go on in a child process without a terminal, in `/`."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


class User:
    """A user to change to."""

    def __init__(self, name: str) -> None:
        """ValueError if there is none."""
        import pwd  # only here: there is none on Windows

        try:
            self._entry = pwd.getpwnam(name)
        except KeyError as error:
            raise ValueError(f"no user {name!r}") from error

    def become(self) -> None:
        """Change to the user and its groups, and give up all capabilities; BackendError."""
        name = self._entry.pw_name
        with as_backend_error("change to the user", name):
            os.initgroups(name, self._entry.pw_gid)
            os.setgid(self._entry.pw_gid)
            os.setuid(self._entry.pw_uid)
