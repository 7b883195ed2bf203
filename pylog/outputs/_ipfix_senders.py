"""Carries messages of IPFIX to a collector, over UDP or TCP.

A connection is a transport session with templates and sequence numbers of its own. So nothing is
sent again here after a failure: the caller makes the output anew and writes again what was not
confirmed. Over TCP that is what the collector's system has not acknowledged. A datagram is never
acknowledged: it was sent once.
"""

from __future__ import annotations

import errno
import re
import socket
import time
from abc import ABC, abstractmethod
from collections import deque

from pylog.errors import BackendError
from pylog.transports.sockets import (
    Place,
    has_ended,
    reason,
    unconfirmed_size,
    wait_until_writable,
)

PORT = 4739
MOST_OF_UDP = 65507
"""The longest message that a datagram of IPv4 carries."""
ROOM = 1 << 20
"""So many bytes wait for the collector before a call waits for it."""


def receiver_of(address: str) -> Place:
    """The receiver at udp://HOST[:PORT] or tcp://HOST[:PORT]; ValueError."""
    match = re.fullmatch(r"(udp|tcp)://([^/]+)/?", address)
    if match is None:
        raise ValueError(f"{address!r} is no collector: udp://HOST[:PORT] or tcp://HOST[:PORT]")
    return Place(f"{match[1]}:{match[2]}", "collector", PORT)


class Sender(ABC):
    """Sends messages to a collector; all methods raise BackendError."""

    def __init__(self, receiver: Place, longest_s: float) -> None:
        """Connects.

        longest_s   the longest that a call blocks
        """
        self._name, self._longest_s = receiver.name.replace(":", "://", 1), longest_s
        self._reached: str | None = None
        try:
            self._socket = receiver.connected()
        except OSError as error:
            raise self._failure(reason(error)) from error

    def _failure(self, problem: str) -> BackendError:
        return BackendError(f"cannot send to {self._name}: {problem}")

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Send a message, or keep it."""

    def push(self) -> None:
        """Send what was kept, as far as the collector takes it."""
        return

    def mark(self, position: str) -> None:
        """All messages up to a position were given."""
        self._reached = position

    def confirmed(self) -> str | None:
        """The newest position whose messages have arrived, as far as that can be known."""
        return self._reached

    def close(self) -> None:
        self._socket.close()


class Datagrams(Sender):
    """Sends each message as a datagram."""

    def send(self, message: bytes) -> None:
        deadline = time.monotonic() + self._longest_s
        while True:
            try:
                self._socket.send(message)
                return
            except OSError as error:
                full = isinstance(error, BlockingIOError) or error.errno == errno.ENOBUFS
                if not full or time.monotonic() >= deadline:
                    raise self._failure(reason(error)) from error
            wait_until_writable(self._socket)


class Stream(Sender):
    """Sends messages over TCP."""

    def __init__(self, receiver: Place, longest_s: float) -> None:
        super().__init__(receiver, longest_s)
        self._waiting: deque[bytes] = deque()
        self._size = self._sent = 0
        """How many bytes wait, and how many the system has taken."""
        self._marks: deque[tuple[int, str]] = deque()

    def send(self, message: bytes) -> None:
        self._waiting.append(message)
        self._size += len(message)
        if self._size >= ROOM:
            self._push(ROOM // 2)

    def push(self) -> None:
        self._push(None)

    def _push(self, enough: int | None) -> None:
        """Send until no more than `enough` bytes wait; None: what is taken at once."""
        deadline = time.monotonic() + self._longest_s
        while self._feed() and enough is not None and self._size > enough:
            if time.monotonic() >= deadline:
                raise self._failure(f"the collector takes nothing: {self._size} bytes wait")
            wait_until_writable(self._socket)

    def _feed(self) -> bool:
        """Send what the system takes; whether something is left."""
        try:
            if has_ended(self._socket):
                raise self._failure("the collector has closed the connection")
            while self._waiting:
                message = self._waiting[0]
                taken = self._socket.send(message)
                self._sent += taken
                self._size -= taken
                if taken == len(message):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = message[taken:]
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return True
            raise self._failure(reason(error)) from error
        return False

    def mark(self, position: str) -> None:
        self._marks.append((self._sent + self._size, position))

    def confirmed(self) -> str | None:
        self._push(None)
        arrived = self._sent - unconfirmed_size(self._socket)
        while self._marks and self._marks[0][0] <= arrived:
            self._reached = self._marks.popleft()[1]
        return self._reached

    def close(self) -> None:
        """Send the rest; BackendError if the collector does not take it."""
        try:
            self._push(0)
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._failure(reason(error)) from error
        finally:
            self._socket.close()
