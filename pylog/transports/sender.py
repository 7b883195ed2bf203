"""Sends lines to a socket, from a queue of bounded size that a thread empties.

A line is sent at once, without waiting. If the receiver does not take it, it waits in the queue,
and as long as lines wait, a thread sends them and renews the connection. If the queue is full, the
sender waits while the receiver takes lines, and at most PATIENCE_S after the last one; then lines
are dropped, counted and reported. So a stalled receiver costs lines, but never stops the reading.
`close` ends within DRAIN_S.

A line is delivered when the receiving system has taken it, see Connection. If the receiver ends
without reading all that its system took, nobody can say how many lines that were: then the loss is
reported without a number.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable

from pylog.errors import BackendError
from pylog.notes import notes
from pylog.transports.connection import Connection, Notice, count_lines
from pylog.transports.sockets import TICK_S, Place, has_ended, reason, wait_until_writable

QUEUE_LINES, QUEUE_SIZE = 10_000, 1 << 24
"""How many lines, and how many bytes, wait at most."""
PATIENCE_S = 5.0
"""How long a receiver may take nothing before lines are dropped, and before `close` gives up."""
FILE_PATIENCE_S = 30.0
"""The same for lines of a file, which does not overflow in that time as a kernel's log does."""
DRAIN_S = 30.0
"""How long `close` takes at most, with a receiver that takes lines slowly."""
REPORT_S = 10.0
"""How often a growing number of undelivered lines is reported."""
RETRY_S = (0.1, 5.0)
"""The first and the longest pause before a new connection; each pause is twice the one before."""


class Sender:
    """Sends lines, each as a message, to a place.

    made      lines given to `put` so far
    dropped   how many of them are lost; lines that still wait do not count
    waiting   how many lines wait
    doubtful  whether a receiver ended without reading lines, which count as delivered
    """

    def __init__(
        self, place: Place, name: str, notice: Callable[[str], bytes], live: bool = True
    ) -> None:
        """Connects.

        name     what notes call the receiver: "syslog at /dev/log"
        notice   makes the message that reports to the receiver how many lines were dropped
        live     whether the lines come from a log that overflows when it is not read in time

        Raises BackendError where nobody listens.
        """
        self._place, self._name, self._notice = place, name, notice
        self._patience_s = PATIENCE_S if live else FILE_PATIENCE_S
        self.made = self.dropped = 0
        self.doubtful = False
        self._changed = threading.Condition(threading.RLock())  # guards everything below
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._noticed = 0
        """How many of the dropped lines were reported to the receiver itself."""
        self._thread: threading.Thread | None = None
        self._closing = self._ended = False
        self._closed_s = 0.0
        self._moved_s = 0.0
        """When the queue last became shorter, or began."""
        self._report_s = 0.0
        self._problem = ""
        self._stalled = False
        """Whether it was reported that no lines are taken."""
        try:
            self._connection: Connection | None = Connection(place.connected(), place.unix)
        except OSError as error:
            raise BackendError(f"no {name}: {reason(error)}") from error

    @property
    def waiting(self) -> int:
        return count_lines(self._queue)

    def _disconnect(self, error: OSError | None) -> None:
        """The connection has ended, by an error or in order; send again what it did not deliver."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._problem = reason(error) if error is not None else "it closed the connection"
        again, doubt = connection.end(error)
        self._queue.extendleft(reversed(again))
        self._size += sum(map(len, again))
        if connection.refused:
            self._drop(connection.refused)
        if doubt:
            self.doubtful = True
            notes.warning("%s: %s; %s", self._name, self._problem, doubt)

    # Sending

    def put(self, message: bytes) -> None:
        """Deliver a message, or queue it.

        Waits only while the queue is full, and at most `PATIENCE_S` after the receiver took a line
        (`FILE_PATIENCE_S` if it is not live). Then a line without room is dropped.
        """
        with self._changed:
            self.made += 1
            has_room = False
            try:
                has_room = self._wait_for_room(len(message))
            finally:  # also if a signal ends the wait, and the program
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
        """Wait until the queue has room for `size` bytes; whether it has."""
        while self._queue and (len(self._queue) >= QUEUE_LINES or self._size + size > QUEUE_SIZE):
            left_s = self._moved_s + self._patience_s - time.monotonic()
            if left_s <= 0 or self._closing:
                return False
            self._changed.wait(left_s)
        return not self._closing

    def _push(self, tries: int = 1) -> bool:
        """Send what is taken at once; whether all was.

        tries   how many connections may be used; only a local one is made here, in no time
        """
        while self._queue:
            if self._connection is None:
                tries -= 1
                if not self._place.unix or tries <= 0:
                    return False
                try:
                    self._connection = Connection(self._place.connected(), self._place.unix)
                except OSError as error:
                    self._problem = reason(error)
                    return False
            try:
                if self._connection.send(self._queue[0]):
                    self._pop()
            except EOFError:
                self._disconnect(None)
            except (BlockingIOError, InterruptedError):
                self._problem = "it does not read"
                return False
            except OSError as error:
                if error.errno == errno.EMSGSIZE:  # the line is too long
                    self._pop()
                    self._drop(1)
                elif error.errno == errno.ENOBUFS:  # the socket is full, on BSD
                    self._problem = "it does not read"
                    return False
                else:
                    self._disconnect(error)
        return True

    def _pop(self) -> None:
        """Remove the first message of the queue."""
        self._size -= len(self._queue.popleft())
        self._moved_s = time.monotonic()
        self._stalled = False
        self._changed.notify_all()

    def _send_rest(self) -> None:
        """What the thread does: send until no line waits or `close` gives up."""
        pause_s = RETRY_S[0]
        while True:
            with self._changed:
                if self._push() or self._closed():
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._report_stall()
                connection, closing = self._connection, self._closing
            if connection is not None:
                pause_s = RETRY_S[0]
                wait_until_writable(connection.socket)
                continue
            with self._changed:
                if closing:  # without long pauses
                    self._changed.wait_for(lambda: self._ended, RETRY_S[0])
                else:
                    self._changed.wait_for(lambda: self._closing, pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])
            self._connect_again()

    def _connect_again(self) -> None:
        """Renew the connection if possible; without the lock, because it may take long."""
        try:
            made = self._place.connected()
        except OSError as error:
            self._problem = reason(error)
            return
        with self._changed:
            if self._closed():
                made.close()
            else:
                self._connection = Connection(made, self._place.unix)

    # What is not delivered

    def _drop(self, lines: int) -> None:
        """Count lines as lost, and report the number from time to time as it grows."""
        self.dropped += lines
        self._stalled = True  # no report of its own is needed any more
        now_s = time.monotonic()
        if now_s >= self._report_s:
            self._report_s = now_s + REPORT_S
            notes.warning("%s so far (%s)", self._undelivered(), self._problem or "too long")

    def _undelivered(self) -> str:
        return f"{self._name}: {self.dropped} of {self.made} lines not delivered"

    def _report_stall(self) -> None:
        """Report once that the receiver takes nothing, before a line is lost."""
        if not self._stalled and time.monotonic() - self._moved_s >= PATIENCE_S:
            self._stalled = True
            notes.warning("%s takes no lines (%s): %d wait, and %d can", self._name,
                         self._problem, self.waiting, QUEUE_LINES)  # fmt: skip

    def _report_in_place(self) -> None:
        """Queue a report to the receiver in the place of the lines that were dropped."""
        if self.dropped > self._noticed:
            lost, self._noticed = self.dropped - self._noticed, self.dropped
            text = f"{lost} lines before this one were not delivered, {self.dropped} so far"
            self._enqueue(Notice(self._notice(text)))

    # The end

    def _closed(self) -> bool:
        """Whether `close` has given up: the lines that still wait are lost."""
        return self._ended or (self._closing and time.monotonic() >= self._end_s())

    def _end_s(self) -> float:
        """When `close` gives up, as things stand."""
        return min(self._closed_s + DRAIN_S, max(self._moved_s, self._closed_s) + PATIENCE_S)

    def close(self) -> None:
        """Deliver the lines that wait, within `DRAIN_S` and while they are taken; then disconnect.

        The rest is counted in `dropped`, which is reported. Lines put later are dropped.
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
                    self._report_s = float("inf")  # the report below is the last
                    self._drop(lost)
                if self._connection is not None:
                    self._connection.socket.close()
                self._connection = None
                self._changed.notify_all()
                if self.dropped:
                    notes.warning("%s (%s)", self._undelivered(), self._problem or "too long")

    def _wait_for_confirmation(self) -> None:
        """Wait until the peer's system has confirmed all lines; report if it does not."""
        while self._connection is not None and (left := self._connection.unconfirmed_lines()):
            if self._closed():
                self.doubtful = True
                notes.warning("%s: it has not confirmed the last %d lines", self._name, left)
                return
            try:
                ended = has_ended(self._connection.socket)
            except OSError as error:
                self._disconnect(error)
                return
            if ended:
                self._disconnect(None)
                return
            self._changed.wait(TICK_S / 10)
