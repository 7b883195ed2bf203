"""Network namespaces of Linux: naming one, and doing something in it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from pylog.errors import BackendError

T = TypeVar("T")


def namespace_path(netns: str | int | None) -> str | None:
    """The file of a namespace that is given by name, path or process id; BackendError."""
    if netns is None:
        return None
    if isinstance(netns, int) or netns.isdecimal():
        path, what = f"/proc/{netns}/ns/net", f"no process {netns}"
    elif "/" in netns:
        path, what = netns, "no such file"
    else:
        path = f"/var/run/netns/{netns}"
        known = sorted(os.listdir("/var/run/netns")) if os.path.isdir("/var/run/netns") else []
        what = f"there are {', '.join(known)}" if known else "ip netns knows none"
    try:
        os.stat(path)
    except OSError as error:
        raise BackendError(
            f"no network namespace {netns!r}: {what} ({error.strerror}: {path})"
        ) from error
    return path


def in_namespace(path: str | None, call: Callable[[], T]) -> T:
    """What `call` gives in the network namespace; in a thread of its own, which alone enters it."""
    if path is None:
        try:
            return call()
        except OSError as error:
            raise BackendError(f"NFLOG: {error.strerror}") from error
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        from pyroute2 import netns

        try:
            netns.setns(path, flags=0)
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="pylog-netns")
    thread.start()
    thread.join()
    for problem in errors:
        if isinstance(problem, BackendError):
            raise problem
        if isinstance(problem, PermissionError):
            raise BackendError(f"cannot enter the network namespace {path}: it takes CAP_SYS_ADMIN"
                               " (run as root)") from problem  # fmt: skip
        if isinstance(problem, OSError):
            reason = os.strerror(problem.errno) if problem.errno else str(problem)
            if problem.errno == errno.EINVAL:
                reason += "; it is no network namespace"
            raise BackendError(f"cannot use the network namespace {path}: {reason}") from problem
        raise problem
    return results[0]
