"""The source toy:PATH: a Unix datagram socket, which this makes, with one message a datagram."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Any

from pylog.backends.base import Backend, Check, Source
from pylog.errors import BackendError
from pylog.options import Option

NAME = "toy"
HELP = "datagrams of the toy, sent to a Unix socket"
OPTIONS = (Option("largest", int, 65536, "the size of the largest datagram", 1, 1 << 20),)


def connect(address: str, options: Mapping[str, Any]) -> list[Backend]:
    """The socket; BackendError when it cannot be made."""
    return [Toy(address, options["largest"])]


def sources() -> list[Source]:
    """That there is such a source everywhere."""
    return [Source("toy:PATH", "the toy's log")]


def checks() -> list[Check]:
    """Whether the system has Unix sockets."""
    return [Check(hasattr(socket, "AF_UNIX"), "Unix sockets can be made")]


class Toy(Backend):
    """The messages that are sent to a socket."""

    live = message_aligned = True
    layout = "toy-1"

    def __init__(self, path: str, largest: int) -> None:
        super().__init__(f"toy:{path}")
        self._path, self._largest = path, largest
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(path)
        except OSError as error:
            self._socket.close()
            raise BackendError(f"cannot make {path}: {error.strerror}") from error

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv(self._largest)
        except BlockingIOError:
            return None

    def _pending(self) -> int:
        try:
            return len(self._socket.recv(self._largest, socket.MSG_PEEK))
        except BlockingIOError:
            return 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def _release(self) -> None:
        self._socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)
