"""Network namespaces of Linux: open one by name, path or process id, and run code in it.

setns(2) changes the namespace of a thread, so each call runs in a new thread that ends with it: the
caller's threads never leave their own namespace. The namespace is held open by its descriptor, and
stays the same if its name is deleted or reused.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from pylog.errors import BackendError, BackendUnavailable

T = TypeVar("T")

NEEDED = "reading netlink needs Linux and the package pyroute2"


class Namespace:
    """A network namespace, held open until `close`."""

    def __init__(self, netns: str | int | None) -> None:
        """`netns` is a name of ip-netns, a path or a process id; None: the process's own.

        Raises BackendError when it does not exist.
        """
        self._file = None
        if netns is None:
            return
        if isinstance(netns, int) or netns.isdecimal():
            self._path, what = f"/proc/{netns}/ns/net", f"no process {netns}"
        elif "/" in netns:
            self._path, what = netns, "no such file"
        else:
            self._path = f"/var/run/netns/{netns}"
            folder = "/var/run/netns"
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            what = f"there are {', '.join(names)}" if names else "ip netns lists none"
        try:
            self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise BackendError(
                f"no network namespace {netns!r}: {what} ({error.strerror}: {self._path})"
            ) from error

    def run(self, call: Callable[[], T]) -> T:
        """The result of `call`, run in the namespace; BackendError for an OSError."""
        if self._file is None:
            try:
                return call()
            except OSError as error:
                raise BackendError(f"netlink: {error.strerror}") from error
        try:
            from pyroute2 import netns
        except ImportError as error:
            raise BackendUnavailable(NEEDED) from error
        number = self._file.fileno()
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                netns.setns(number)
                results.append(call())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, name="pylog-netns")
        thread.start()
        thread.join()
        for problem in errors:
            if isinstance(problem, PermissionError):
                raise BackendError(f"cannot enter the network namespace {self._path}: it takes"
                                   " CAP_SYS_ADMIN (run as root)") from problem  # fmt: skip
            if isinstance(problem, OSError):
                reason = os.strerror(problem.errno) if problem.errno else str(problem)
                if problem.errno == errno.EINVAL:
                    reason += "; it is no network namespace"
                text = f"cannot use the network namespace {self._path}: {reason}"
                raise BackendError(text) from problem
            raise problem
        return results[0]

    def close(self) -> None:
        """Close the descriptor that holds the namespace."""
        if self._file is not None:
            self._file.close()
