"""The socket of a running pipeline, which `pylog status` asks.

The socket is for its owner alone (mode 0600). Whoever connects gets one JSON object, and the
connection ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pylog.errors import BackendError, as_backend_error
from pylog.pipeline.config import Settings
from pylog.pipeline.state import snapshot

if TYPE_CHECKING:
    from pylog.pipeline.run import Run

NAME = "pylog.sock"
LONGEST = 1 << 22
"""The most bytes of an answer."""


def socket_path(settings: Settings) -> str:
    """Where the socket is: as configured, or in the journal, in the folder that the service manager
    gives, or for root in /run.
    """
    if settings.socket is not None:
        return settings.socket
    folder = "" if settings.journal is None else str(settings.journal)
    folder = folder or os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if not folder:
        folder = "/run" if os.access("/run", os.W_OK) else os.environ.get("XDG_RUNTIME_DIR", "/tmp")
    return str(Path(folder) / NAME)


def asked_path(settings: Settings) -> str:
    """Where the socket of a running pipeline is: as `socket_path`, or that of the service."""
    service = Path("/run/pylog", NAME)
    if settings.socket is None and settings.journal is None and service.is_socket():
        return str(service)
    return socket_path(settings)


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
        if os.path.basename(path) == NAME:  # in a journal that no live source has made
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
