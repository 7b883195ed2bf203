"""What a running pipeline reports, and the socket that `pylog status` asks.

The socket is for its owner alone (mode 0600). Whoever connects gets one JSON object, and the
connection ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pylog.errors import BackendError, as_backend_error
from pylog.pipeline.config import Settings
from pylog.pipeline.sinks import delivery
from pylog.record import rfc3339
from pylog.secrets import Secret

if TYPE_CHECKING:
    from pylog.pipeline.processes import StackProcess
    from pylog.pipeline.run import Run

NAME = "pylog.sock"
HEALTHY_S = 10.0
"""A loop that has not gone round for so long is not healthy."""
LONGEST = 1 << 22
"""The most bytes of an answer."""


def socket_path(settings: Settings) -> str:
    """Where the socket is: as configured, or in the folder that the service manager gives, in the
    journal, or for root in /run.
    """
    if settings.socket is not None:
        return settings.socket
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if not folder and settings.journal is not None:
        folder = str(settings.journal)
    if not folder:
        folder = "/run" if os.access("/run", os.W_OK) else os.environ.get("XDG_RUNTIME_DIR", "/tmp")
    return str(Path(folder) / NAME)


def snapshot(run: Run) -> dict[str, Any]:
    """The state of a pipeline, for JSON: sources, stacks and the journal."""
    receiver, now = run.receiver, time.time()
    journal = receiver.journal
    shape: dict[str, Any] = {
        "pid": os.getpid(),
        "configuration": run.pipeline.path,
        "started": rfc3339(int(run.started * 1e9)),
        "healthy": is_healthy(run),
        "receiving_cpu_s": round(receiver.cpu_s, 6),
        "sources": [_source(run, name) for name in run.pipeline.sources],
        "stacks": [_stack(run, stack, now) for stack in run.stacks.values()],
    }
    if journal is not None:
        shape["journal"] = {
            "folder": str(journal.folder),
            "end": journal.end,
            "removed": journal.removed,
            "unwritten": journal.unwritten,
            "full": journal.is_full,
        }
    return shape


def _source(run: Run, name: str) -> dict[str, Any]:
    source = run.pipeline.sources[name]
    intakes = [intake for intake in run.receiver.intakes if intake.source.name == name]
    failed = run.receiver.failed.get(name)
    state = "open" if intakes else "failed" if failed else "by stacks"
    shape: dict[str, Any] = {"name": name, "from": source.address, "state": state}
    if failed:
        shape["problem"] = failed
    return shape | {
        "receipts": sum(intake.receipts for intake in intakes),
        "bytes": sum(intake.bytes for intake in intakes),
        "overruns": sum(intake.overruns for intake in intakes),
    }


def _stack(run: Run, process: StackProcess, now: float) -> dict[str, Any]:
    stack, counts = process.stack, process.counts
    journal = run.receiver.journal
    behind, lag_s = 0, 0.0
    if process.is_live:
        if journal is not None:
            behind = max(0, journal.end - max(counts.place, counts.confirmed))
        elif process.queue is not None:
            behind = process.queue.waiting
        if behind:
            newest = run.started if counts.observed_ns is None else counts.observed_ns / 1e9
            lag_s = max(0.0, now - newest)
    target = str(stack.target) if isinstance(stack.target, Secret) else stack.target
    shape = msgspec.to_builtins(counts)
    for name in ("place", "confirmed", "file"):
        shape.pop(name, None)
    made: dict[str, Any] = {
        "name": stack.name, "from": list(stack.sources), "to": stack.to, "target": target,
        "delivery": delivery(stack, journal is not None), "state": counts.state,
        "records": 0, "written": 0, "bytes": 0, "left_out": {}, "losses": 0, "lost": 0,
        "refused": 0, "dead": 0, "reconnects": 0, "cpu_s": 0.0,
    }  # fmt: skip
    made |= shape | {
        "cpu_us_per_record": round(counts.cpu_s / counts.records * 1e6, 2) if counts.records else 0,
        "lag_s": round(lag_s, 3),
        "lag_bytes": behind,
        "restarts": process.restarts,
        "dropped_bytes": 0 if process.queue is None else process.queue.dropped,
    }
    if counts.observed_ns is not None:
        made["newest"] = rfc3339(counts.observed_ns)
    made.pop("observed_ns", None)
    if not made.get("problem"):
        made.pop("problem", None)
    return made


def is_healthy(run: Run) -> bool:
    """Whether the loop goes round, every source is open, and no stack has failed."""
    alive = time.monotonic() - run.beat_at < HEALTHY_S
    failed = any(stack.counts.state == "failed" for stack in list(run.stacks.values()))
    return alive and not run.receiver.failed and not failed


class Reporting:
    """The context in which the socket of a pipeline is there."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._path = socket_path(run.pipeline.settings)
        self._listener: socket.socket | None = None

    def __enter__(self) -> Reporting:
        self._listener = _listening(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def acts(self) -> Iterator[tuple[int, Callable[[], None]]]:
        """The descriptor of the socket, and what to do when it is readable."""
        if self._listener is not None:
            yield self._listener.fileno(), self._answer

    def _answer(self) -> None:
        """Give the snapshot to whoever has connected."""
        assert self._listener is not None
        try:
            connected, _ = self._listener.accept()
        except OSError:
            return
        with connected, contextlib.suppress(OSError):
            connected.settimeout(0.2)  # the answer fits into the socket's buffer
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
            connected.sendall(msgspec.json.encode(snapshot(self._run)))


def _listening(path: str) -> socket.socket | None:
    """A socket at a path, in place of one that nobody listens to any more; None where the system
    has no such sockets. BackendError.
    """
    if not hasattr(socket, "AF_UNIX"):
        return None
    with as_backend_error("listen on", path):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
                os.unlink(path)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o177)
            try:
                made.bind(path)
            finally:
                os.umask(before)
            made.listen(8)
            made.setblocking(False)
        except BaseException:
            made.close()
            raise
    return made


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as tried:
        tried.settimeout(1.0)
        try:
            tried.connect(path)
        except OSError:
            return False
        return True


def asked(path: str) -> dict[str, Any]:
    """The snapshot of the pipeline whose socket has that path; BackendError."""
    data = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connected:
            connected.settimeout(5.0)
            connected.connect(path)
            while len(data) < LONGEST and (more := connected.recv(1 << 16)):
                data += more
        shape: dict[str, Any] = msgspec.json.decode(data)
        return shape
    except FileNotFoundError as error:
        raise BackendError(f"no pipeline runs that has the socket {path}") from error
    except OSError as error:
        raise BackendError(f"cannot ask {path}: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise BackendError(f"{path} gave no answer that can be read") from error
