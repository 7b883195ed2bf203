"""A connection that lines are sent over, and what of them may be lost when it ends.

A message is delivered when the receiving system has taken it. TCP confirms messages: those that are
not confirmed when the connection ends can be sent again. Of a local socket Linux says how much its
reader has not read yet. UDP answers at most that nobody listens, and that only after the message.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Iterable

from pylog.transports.sockets import has_ended, unconfirmed_size

DATAGRAM = 512
"""The least memory that a waiting datagram takes: SKB_TRUESIZE() of Linux is more."""


class Connection:
    """A connected socket that never blocks.

    socket    to wait on
    refused   how many messages before were answered with a refusal
    """

    def __init__(self, connected: socket.socket, local: bool) -> None:
        """`local`: the receiver is a program of this machine."""
        self.socket = connected
        self.refused = 0
        self._local = local
        self._is_stream = connected.type == socket.SOCK_STREAM
        self._taken = 0
        """How much of the message in hand the system has taken."""
        self._unread = 0
        """How many lines a local receiver had not read when the last one was sent, at most."""
        self._unconfirmed = _Unconfirmed()

    def send(self, message: bytes) -> bool:
        """Give a message, or the rest of it, to the system; whether it took all.

        Raises OSError, and EOFError for a stream that the peer has ended.
        """
        if self._is_stream:
            if not self._taken and has_ended(self.socket):
                raise EOFError
            self._taken += self.socket.send(message[self._taken :])
            if self._taken < len(message):
                return False
            self._taken = 0
            if not self._local:
                self._unconfirmed.add(message, self.socket)
        elif self._local:
            size = unconfirmed_size(self.socket)  # of what is not read, on Linux
            self.socket.send(message.removesuffix(b"\0"))
            self._unread = min(self._unread + 1, size // DATAGRAM) + 1 if size else 0
        else:
            try:
                self.socket.send(message)
            except ConnectionRefusedError:  # the answer to an earlier message
                self.refused += 1
                raise
            if number := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number))  # this machine answers at once
        return True

    def unconfirmed_lines(self) -> int:
        """How many lines the peer's system has not confirmed in full."""
        return self._unconfirmed.lines(self.socket)

    def end(self, error: OSError | None) -> tuple[list[bytes], str]:
        """Close the connection: the messages to send again, and which lines may be lost unread, as
        text, "" if none.

        error   that ended it; None: the peer has ended it in order

        The peer's system answers with a reset if its program had not read everything; a peer that
        ends in order has read all that its system took.
        """
        again: list[bytes] = []
        doubt = ""
        if self._is_stream:
            again = self._unconfirmed.take(self.socket)
            if error is not None and error.errno != errno.EPIPE:
                doubt = "lines that it had taken and not read are lost, and nobody can say how many"
        elif self._unread:
            doubt = f"up to {self._unread} lines that it had taken may be lost unread"
        self.socket.close()
        return again, doubt


class Notice(bytes):
    """A message that is no line, but a report of lines that were dropped."""


def count_lines(messages: Iterable[bytes]) -> int:
    """How many of the messages are lines."""
    return sum(not isinstance(message, Notice) for message in messages)


class _Unconfirmed:
    """The last messages of a TCP connection that the peer's system has not confirmed.

    Linux says how many bytes they are; on other systems nothing is remembered.
    """

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._look_at = 0
        """How many messages to gather before asking the system again."""

    def add(self, message: bytes, connected: socket.socket) -> None:
        self._messages.append(message)
        self._size += len(message)
        if len(self._messages) >= self._look_at:  # so little more is held than by the system
            self._forget_confirmed(connected)
            self._look_at = 2 * len(self._messages) + 256

    def lines(self, connected: socket.socket) -> int:
        """How many lines are not confirmed in full."""
        self._forget_confirmed(connected)
        return count_lines(self._messages)

    def take(self, connected: socket.socket) -> list[bytes]:
        """Remove and return all messages that are not confirmed in full."""
        self._forget_confirmed(connected)
        taken = list(self._messages)
        self._messages.clear()
        self._size = 0
        return taken

    def _forget_confirmed(self, connected: socket.socket) -> None:
        left = unconfirmed_size(connected)
        while self._messages and self._size - len(self._messages[0]) >= left:
            self._size -= len(self._messages.popleft())
