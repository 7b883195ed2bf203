"""Pipelines in the process of a test: stacks are threads, sources are doubles.

What needs processes (signals, kill) starts `pylog run` itself.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pylog import backends
from pylog.backends import nflog as nflog_backend
from pylog.backends.base import Backend
from pylog.options import resolve
from pylog.pipeline.config import Pipeline, parsed
from pylog.pipeline.run import Run
from pylog.pipeline.worker import work
from pylog.testing import Nflog


class Thread:
    """A stack that is run by a thread, as processes.Handle."""

    def __init__(self, control: socket.socket, data: socket.socket | None) -> None:
        self.status: int | None = None
        self._control = control
        self._thread = threading.Thread(target=self._work, args=(control, data), daemon=True)
        self._thread.start()

    def _work(self, control: socket.socket, data: socket.socket | None) -> None:
        status = 1
        try:
            status = work(control, data, time.thread_time)
        finally:
            self.status = status

    def poll(self) -> int | None:
        return self.status

    def kill(self) -> None:
        """Let it end as when the receiver is gone."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)


def spawn(name: str, control: socket.socket, data: socket.socket | None) -> Thread:
    return Thread(control, data)


def connecting(kernel: Nflog) -> Callable[[str, Mapping[str, Any]], list[Backend]]:
    """As backends.connect, with a double in place of the kernel's NFLOG."""

    def connect(address: str, options: Mapping[str, Any]) -> list[Backend]:
        name, _, rest = address.partition(":")
        if name != "nflog":
            return backends.connect(address, options)
        values = resolve(nflog_backend.NAME, nflog_backend.OPTIONS, options)
        groups = nflog_backend.groups_of(rest)
        return [nflog_backend.Nflog(groups, values, kernel.system)]

    return connect


@contextlib.contextmanager
def running(
    text: str | Pipeline, kernel: Nflog | None = None, **settings: Any
) -> Iterator[tuple[Run, Callable[[], int]]]:
    """The context in which a pipeline runs in a thread; gives it, and what ends it in order."""
    pipeline = text if isinstance(text, Pipeline) else parsed(text)
    connect = backends.connect if kernel is None else connecting(kernel)
    run = Run(pipeline, connect=connect, spawn=spawn, **settings)
    status: list[int | BaseException] = []

    def work() -> None:
        try:
            status.append(run.run())
        except BaseException as error:
            status.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def end() -> int:
        run.stop()
        thread.join(30)
        assert status, "the pipeline did not end"
        if isinstance(status[0], BaseException):
            raise status[0]
        return status[0]

    try:
        yield run, end
    finally:
        run.stop()
        thread.join(30)


def until(condition: Callable[[], Any], what: str = "", timeout_s: float = 20.0) -> Any:
    """The condition's value once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, what or "not in time"
        time.sleep(0.005)
    return value


def lines(path: Path) -> list[bytes]:
    """The lines of a file, [] without one."""
    return path.read_bytes().splitlines() if path.exists() else []
