"""A program that begins `pylog run` by fork, with all modules imported: Python needs a second of
processor time for that, and so for each process of a pipeline after each of hundreds of kills.

It reads commands from standard input: `run CONFIG` begins a pipeline, and prints its process;
`wait` prints the status with which that ended. What begins the processes of stacks is a fork as
well. A process of a stack keeps no descriptor of the pipeline, as if it had been started. Nothing
gives up the privileges of root, which the disks and databases of the tests need; else all is as
`pylog run` has it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from pylog import backends, outputs
from pylog.cli import begin_logging
from pylog.pipeline import config, worker
from pylog.pipeline.run import Run

USED = ("confluent_kafka", "lark", "numpy", "psycopg", "pyarrow.parquet", "pylog.backends.nflog",
        "pylog.pipeline.journal_reader", "pylog.pipeline.parts", "pylog.table.rows",
        "pylog.table.schemas", "pyroute2", "pymysql", "sqlite3", "ssl")  # fmt: skip

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Child:
    """A process of a stack, as processes.Handle."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


def spawn(name: str, control: socket.socket, data: socket.socket | None) -> Child:
    own = [end for end in (control, data) if end is not None]
    kept = [end.fileno() for end in own]
    pid = forked(lambda: _work(name, kept))
    for end in own:
        end.close()
    return Child(pid)


def _work(name: str, kept: list[int]) -> int:
    Path("/proc/self/comm").write_text(name)
    low = 3
    for descriptor in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(low, descriptor)
        low = descriptor + 1
    return worker.main(kept[0], kept[1] if kept[1:] else None)


def forked(call: Callable[[], int]) -> int:
    """The process in which a function is called, whose result is its exit status."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        status = call()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def run(path: str) -> int:
    """As `pylog run`, until its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    begin_logging()
    return Run(config.load(path), spawn=spawn).run()


def main() -> None:
    backends.modules()
    for name in outputs.names():
        outputs.description(name)
    for name in USED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    print("ready", flush=True)
    pid = 0
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        if command == "run":
            pid = forked(lambda path=path: run(path))  # type: ignore[misc]
            print(pid, flush=True)
        else:
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
