"""Messages to a socket, from a queue of bounded size that a thread empties.

A message is sent at once, without waiting. What the receiver does not take waits in the queue, and
as long as there is a queue a thread sends from it and makes the connection anew. When the queue is
full, the sender waits as long as the receiver takes messages, but at most `PATIENCE_S` after the
last one that it took (longer for what waits by itself, as a file does); then messages are dropped
and counted. So a stalled receiver costs messages and says so; it does not stop the reading. `close`
ends within `DRAIN_S`.

A message is delivered when the receiving system has taken it. TCP confirms: what the peer's system
had not confirmed when the connection broke is sent again. Of bytes that a peer's system took and
its program never read, nobody learns how many they were: it is reported that there were some, where
a stream is reset, or a local receiver is gone that had not read everything when the last message
was sent.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from pylog.errors import BackendError
from pylog.notes import notes
from pylog.transports.sockets import (
    TICK_S,
    Place,
    has_ended,
    reason,
    unconfirmed_size,
    wait_until_writable,
)

QUEUE_LINES = 10_000
QUEUE_SIZE = 1 << 24
"""What waits at most, in lines and in bytes."""
PATIENCE_S = 5.0
"""How long a receiver may take nothing before lines are dropped, and before `close` gives up."""
FILE_PATIENCE_S = 30.0
"""How long before lines of a file are dropped: it does not overflow meanwhile, as a kernel does."""
DRAIN_S = 30.0
"""How long `close` takes at most, with a receiver that takes lines slowly."""
REPORT_S = 10.0
"""How often a growing number of undelivered lines is reported."""
RETRY_S = (0.1, 5.0)
"""The pause before the first new connection, and the longest; it doubles from one to the other."""
DATAGRAM = 512
"""What a datagram takes at least while it waits for its reader: SKB_TRUESIZE() of Linux is more."""


class Sender:
    """Sends lines, each as one message, to a place.

    made      lines given to `put` so far
    dropped   those of them that were not delivered; those that still wait are not among them
    waiting   how many wait
    doubtful  whether a receiver ended with lines unread, which count as delivered
    """

    def __init__(
        self, place: Place, name: str, notice: Callable[[str], bytes], live: bool = True
    ) -> None:
        """Connects.

        name     what the receiver is in messages for people: "syslog at /dev/log"
        notice   makes the message that reports to the receiver how many lines were dropped
        live     whether the lines are of what is lost when it is not read in time

        Raises BackendError where nobody listens.
        """
        self._place, self._name, self._notice = place, name, notice
        self._patience_s = PATIENCE_S if live else FILE_PATIENCE_S
        self.made = self.dropped = 0
        self.doubtful = False
        self._changed = threading.Condition(threading.RLock())  # guards everything below
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._at = 0
        """How much of the first message of the queue this connection has taken."""
        self._sent = _Unconfirmed()
        self._unread = 0
        """How many lines a local receiver may not have read, when the last one was sent."""
        self._noticed = 0
        """How many of the dropped lines were reported to the receiver itself."""
        self._thread: threading.Thread | None = None
        self._closing = self._ended = False
        self._closed_s = 0.0
        self._moved_s = 0.0
        """When the queue began, or last became shorter."""
        self._report_s = 0.0
        self._problem = ""
        self._stalled = False
        """Whether it was reported that no lines are taken."""
        try:
            self._socket: socket.socket | None = place.connected()
        except OSError as error:
            raise BackendError(f"no {name}: {reason(error)}") from error

    @property
    def waiting(self) -> int:
        return _lines(self._queue)

    # Connections

    def _disconnect(self, error: OSError | None) -> None:
        """The connection is gone, by an error or by its end; what it did not deliver is sent again.

        The peer's system answers with a reset when there was something that its program had not
        read; one that ends in order has read all that its system took.
        """
        connection, self._socket = self._socket, None
        if connection is None:
            return
        self._problem = reason(error) if error is not None else "it closed the connection"
        if connection.type == socket.SOCK_STREAM:
            again = self._sent.take(connection)
            self._queue.extendleft(reversed(again))
            self._size += sum(map(len, again))
            if error is not None and error.errno != errno.EPIPE:
                self._doubt("lines that it had taken and not read are lost, and nobody can say"
                            " how many")  # fmt: skip
        elif self._unread:
            self._doubt(f"up to {self._unread} lines that it had taken may be lost unread")
        self._at = self._unread = 0
        self._sent = _Unconfirmed()
        connection.close()

    def _doubt(self, what: str) -> None:
        self.doubtful = True
        notes.warning("%s: %s; %s", self._name, self._problem, what)

    # Sending

    def put(self, message: bytes) -> None:
        """Deliver a message, or queue it.

        Waits only while the queue is full, and not longer than `PATIENCE_S` after the receiver took
        a line, `FILE_PATIENCE_S` if it is not live. A line for which there is no room then is
        counted in `dropped`.
        """
        with self._changed:
            self.made += 1
            has_room = False
            try:
                has_room = self._wait_for_room(len(message))
            finally:  # a signal may end the wait, and the program
                if not has_room:
                    self._drop(1)
            if has_room:
                self._report_in_place()
                self._enqueue(message)

    def _enqueue(self, message: bytes) -> None:
        """Send a message, or queue it behind what waits."""
        if not self._queue:
            self._moved_s = time.monotonic()
        self._queue.append(message)
        self._size += len(message)
        if self._thread is None:
            self._push(tries=2)
            if self._queue:
                self._thread = threading.Thread(target=self._send_rest, daemon=True)
                self._thread.start()

    def _wait_for_room(self, size: int) -> bool:
        """Wait until the queue has room for so many bytes; whether it has."""
        while self._queue and (len(self._queue) >= QUEUE_LINES or self._size + size > QUEUE_SIZE):
            left_s = self._moved_s + self._patience_s - time.monotonic()
            if left_s <= 0 or self._closing:
                return False
            self._changed.wait(left_s)
        return not self._closing

    def _push(self, tries: int = 1) -> bool:
        """Send what is taken at once; whether all was.

        tries   how many connections may be used; a new one is made only where that takes no time
        """
        while self._queue:
            if self._socket is None:
                tries -= 1
                if not self._place.unix or tries <= 0:
                    return False
                try:
                    self._socket = self._place.connected()
                except OSError as error:
                    self._problem = reason(error)
                    return False
            try:
                self._send_first(self._socket)
            except (BlockingIOError, InterruptedError):
                self._problem = "it does not read"
                return False
            except OSError as error:
                if error.errno == errno.EMSGSIZE:  # the line's own fault
                    self._pop()
                    self._drop(1)
                elif error.errno == errno.ENOBUFS:  # a full socket, on BSD
                    self._problem = "it does not read"
                    return False
                else:
                    self._disconnect(error)
        return True

    def _send_first(self, connection: socket.socket) -> None:
        """Give the first message of the queue, or what is left of it, to the system; OSError."""
        message = self._queue[0]
        if connection.type == socket.SOCK_STREAM:
            if not self._at and has_ended(connection):
                self._disconnect(None)
                return
            self._at += connection.send(message[self._at :])
            if self._at < len(message):
                return
            if not self._place.unix:
                self._sent.add(message, connection)
        elif self._place.unix:
            size = unconfirmed_size(connection)  # what is not read, on Linux
            connection.send(message.removesuffix(b"\0"))
            self._unread = min(self._unread + 1, size // DATAGRAM) + 1 if size else 0
        else:
            try:
                connection.send(message)
            except ConnectionRefusedError:  # which is the answer to an earlier one
                self._drop(1)
                raise
            if number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number))  # this machine answers at once
        self._pop()

    def _pop(self) -> None:
        """The first message needs no more care."""
        self._size -= len(self._queue.popleft())
        self._at = 0
        self._moved_s = time.monotonic()
        self._stalled = False
        self._changed.notify_all()

    def _send_rest(self) -> None:
        """The thread: send what waits, until there is nothing or `close` gives up."""
        pause_s = RETRY_S[0]
        while True:
            with self._changed:
                if self._push() or self._closed():
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._report_stall()
                connection, closing = self._socket, self._closing
            if connection is not None:
                pause_s = RETRY_S[0]
                wait_until_writable(connection)
                continue
            with self._changed:
                if closing:  # there is no time for long pauses
                    self._changed.wait_for(lambda: self._ended, RETRY_S[0])
                else:
                    self._changed.wait_for(lambda: self._closing, pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])
            self._connect_again()

    def _connect_again(self) -> None:
        """Make the connection anew, if it can be; without the lock, as it may take a while."""
        try:
            made = self._place.connected()
        except OSError as error:
            self._problem = reason(error)
            return
        with self._changed:
            if self._closed():
                made.close()
            else:
                self._socket = made

    # What is not delivered

    def _drop(self, lines: int) -> None:
        """So many lines are lost; the number is reported as it grows."""
        self.dropped += lines
        self._stalled = True  # which needs no report of its own any more
        now_s = time.monotonic()
        if now_s >= self._report_s:
            self._report_s = now_s + REPORT_S
            notes.warning("%s so far (%s)", self._undelivered(), self._problem or "too long")

    def _undelivered(self) -> str:
        return f"{self._name}: {self.dropped} of {self.made} lines not delivered"

    def _report_stall(self) -> None:
        """Say once that nothing is taken, before there is a loss."""
        if not self._stalled and time.monotonic() - self._moved_s >= PATIENCE_S:
            self._stalled = True
            notes.warning("%s takes no lines (%s): %d wait, and %d can", self._name,
                         self._problem, self.waiting, QUEUE_LINES)  # fmt: skip

    def _report_in_place(self) -> None:
        """Put a report of the lines that were dropped where they would have been."""
        if self.dropped > self._noticed:
            lost, self._noticed = self.dropped - self._noticed, self.dropped
            text = f"{lost} lines before this one were not delivered, {self.dropped} so far"
            self._enqueue(_Notice(self._notice(text)))

    # The end

    def _closed(self) -> bool:
        """Whether `close` waits no longer: what is still in the queue is lost."""
        return self._ended or (self._closing and time.monotonic() >= self._end_s())

    def _end_s(self) -> float:
        """When `close` gives up, as things stand."""
        return min(self._closed_s + DRAIN_S, max(self._moved_s, self._closed_s) + PATIENCE_S)

    def close(self) -> None:
        """Deliver what waits, within `DRAIN_S` and while it is taken; then let go of the socket.

        What is left is counted in `dropped`, which is reported. Lines sent later are dropped.
        """
        with self._changed:
            if self._closing:
                return
            self._closed_s = time.monotonic()
            self._closing = True
            try:
                self._report_in_place()
                self._changed.notify_all()
                while self._queue and not self._closed():
                    self._changed.wait(max(0.0, min(TICK_S, self._end_s() - time.monotonic())))
                self._wait_for_confirmation()
            finally:
                self._ended = True
                lost = self.waiting
                self._queue.clear()
                self._size = 0
                if lost:
                    self._report_s = float("inf")  # of which the last report tells
                    self._drop(lost)
                if self._socket is not None:
                    self._socket.close()
                self._socket = None
                self._changed.notify_all()
                if self.dropped:
                    notes.warning("%s (%s)", self._undelivered(), self._problem or "too long")

    def _wait_for_confirmation(self) -> None:
        """Wait until the peer's system has confirmed what it was sent; say if it does not."""
        while self._socket is not None and (left := self._sent.lines(self._socket)):
            if self._closed():
                self.doubtful = True
                notes.warning("%s: it has not confirmed the last %d lines", self._name, left)
                return
            if has_ended(self._socket):
                self._sent.take(self._socket)
                self._drop(left)
                return
            self._changed.wait(TICK_S / 10)


class _Notice(bytes):
    """A message that is no line, but a report of lines that were dropped."""


def _lines(messages: Iterable[bytes]) -> int:
    return sum(not isinstance(message, _Notice) for message in messages)


class _Unconfirmed:
    """The last messages of a TCP connection, as long as the peer's system has not confirmed them.

    How many bytes that are, Linux tells; elsewhere there are none.
    """

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._look_at = 0

    def add(self, message: bytes, connection: socket.socket) -> None:
        self._messages.append(message)
        self._size += len(message)
        if len(self._messages) >= self._look_at:  # so that it holds little more than the system
            self._forget_confirmed(connection)
            self._look_at = 2 * len(self._messages) + 256

    def lines(self, connection: socket.socket) -> int:
        """How many lines are not confirmed in full."""
        self._forget_confirmed(connection)
        return _lines(self._messages)

    def _forget_confirmed(self, connection: socket.socket) -> None:
        left = unconfirmed_size(connection)
        while self._messages and self._size - len(self._messages[0]) >= left:
            self._size -= len(self._messages.popleft())

    def take(self, connection: socket.socket) -> list[bytes]:
        """Those that are not confirmed, of which nobody has to care any more here."""
        self._forget_confirmed(connection)
        taken = list(self._messages)
        self._messages.clear()
        self._size = 0
        return taken
