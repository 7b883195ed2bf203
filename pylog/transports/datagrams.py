"""Sends messages as datagrams: each once, as best effort.

If the system takes none, because a local receiver does not read, the call waits. If a local
receiver was started again, its socket is connected anew. A host that refuses a datagram says so
after the datagram, if at all.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence

from pylog.errors import BackendError
from pylog.transports.addresses import Address
from pylog.transports.sockets import TICK_S
from pylog.transports.tls import problem_of

_GONE = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.ENOENT, errno.EPIPE,
         errno.EBADF)  # fmt: skip


class Datagrams:
    """Sends to one address.

    reconnects   how many sockets were made after the first
    """

    def __init__(self, address: Address, longest_s: float, made: socket.socket) -> None:
        """
        longest_s   the longest that a call blocks
        made        the connected socket
        """
        self._address, self._longest_s = address, longest_s
        self.reconnects = 0
        self._use(made)

    def _use(self, made: socket.socket) -> None:
        """Send through this socket from here on."""
        self._socket = made
        self._send: Callable[[bytes], object] = made.send
        if self._address.scheme == "udp":
            self._send = self._send_udp

    def put(self, messages: Sequence[bytes]) -> list[int]:
        """Send messages; the places of those that are too long for a datagram, and were not sent.

        BackendError if the receiver is gone, or takes nothing in time.
        """
        deadline = time.monotonic() + self._longest_s
        too_long = []
        for place, message in enumerate(messages):
            while True:
                try:
                    self._send(message)
                    break
                except (BlockingIOError, InterruptedError):
                    self._wait(deadline)
                except OSError as error:
                    if error.errno == errno.EMSGSIZE:
                        too_long.append(place)
                        break
                    if error.errno == errno.ENOBUFS:
                        self._wait(deadline)
                    elif error.errno in _GONE and self._address.scheme == "unix":
                        self._renew(error, deadline)
                    else:
                        raise BackendError(f"{self._address}: {problem_of(error)}") from error
        return too_long

    def _send_udp(self, message: bytes) -> None:
        self._socket.send(message)
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:  # this machine answers at once
            raise OSError(number, os.strerror(number))

    def _wait(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            raise BackendError(f"{self._address} takes nothing")
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_WRITE)
            if selector.select(TICK_S):
                time.sleep(0.0005)  # BSDs call a full socket writable, too

    def _renew(self, error: OSError, deadline: float) -> None:
        """Connect again to a receiver that was started again; BackendError if it was not."""
        from pylog.transports.connecting import connected

        self._socket.close()
        while True:
            try:
                self._use(connected(self._address, deadline))
            except OSError as failure:
                error = failure
            else:
                self.reconnects += 1
                return
            if time.monotonic() + TICK_S >= deadline:
                raise BackendError(f"no {self._address}: {problem_of(error)}") from error
            time.sleep(TICK_S)

    def close(self) -> None:
        self._socket.close()
