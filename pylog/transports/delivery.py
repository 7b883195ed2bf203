"""Delivers messages over a stream at least once, also if the connection breaks and is made again.

Messages are gathered into chunks, which are kept until the peer has acknowledged them. When the
connection breaks, a new one is made, and what was not acknowledged is sent again. So a message may
arrive twice, but none is left out. A mark stands behind the messages before it; it is reached when
all of them are acknowledged.

Acknowledged is what the peer's system has taken (TCP). A program that ends without reading what its
system took loses that, and nobody can say how much it was: then there is a warning.

Nothing here has a thread: what a call cannot send in time, the next one sends.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pylog.errors import BackendError
from pylog.notes import notes
from pylog.transports.tls import problem_of

if TYPE_CHECKING:  # which takes a while to import
    from pylog.transports.streams import Stream

CHUNK = 1 << 14
"""How many bytes are sent at once, about: as many as a record of TLS holds."""
AHEAD = 1 << 18
"""How many bytes are made ready for the system."""
FULL, LIMIT = 1 << 22, 1 << 24
"""So many bytes may wait before a call waits for the peer, and so many at most."""
PAUSES_S = (0.05, 1.0)
"""The first pause before a new connection and the longest; each is twice the one before."""


class Delivery:
    """Sends messages to one peer.

    reconnects   how many connections were made after the first
    """

    def __init__(self, connect: Callable[[float], Stream], name: str, longest_s: float) -> None:
        """Connects; BackendError.

        connect     makes a stream until a deadline of the monotonic clock; OSError, EOFError
        name        what errors call the peer
        longest_s   the longest that a call blocks
        """
        self._connect, self._name, self._longest_s = connect, name, longest_s
        self.reconnects = 0
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._waiting: deque[bytes] = deque()
        self._size = 0
        """Of what waits."""
        self._sent: deque[tuple[int, bytes]] = deque()
        """Chunks that are not acknowledged, each with its end on the wire."""
        self._look_at = 64
        """How many of them to have before the system is asked again."""
        self._made = self._acknowledged = 0
        """How many chunks were made, and how many are acknowledged."""
        self._marks: deque[tuple[int, str]] = deque()
        self._reached: str | None = None
        self._failed = False
        try:
            self._stream = connect(time.monotonic() + longest_s)
        except (OSError, EOFError) as error:
            raise BackendError(f"no {name}: {_reason(error)}") from error

    def put(self, messages: Sequence[bytes]) -> None:
        """Send messages, or keep them; waits while too many are kept.

        Raises BackendError if the peer takes nothing, or if there is no connection.
        """
        for message in messages:
            self._gathered.append(message)
            self._gathered_size += len(message)
            if self._gathered_size >= CHUNK:
                self._end_chunk()
        self._push(FULL)

    def _end_chunk(self) -> None:
        if self._gathered:
            self._waiting.append(b"".join(self._gathered))
            self._size += self._gathered_size
            self._made += 1
            self._gathered, self._gathered_size = [], 0

    def flush(self) -> None:
        """Send all that is kept, as far as the peer takes it now; BackendError as `put`."""
        self._end_chunk()
        self._push(FULL)

    def mark(self, position: str) -> None:
        """Set a mark behind all messages so far, and send them as `flush`."""
        self._end_chunk()
        self._marks.append((self._made, position))
        self._push(FULL)

    def confirmed(self) -> str | None:
        """The newest mark that is reached, None for none so far. Does not wait.

        Raises BackendError if the connection has ended and messages are not acknowledged.
        """
        try:
            self._feed()
            self._forget()
        except (OSError, EOFError) as error:
            self._salvage(error)
            if self._made > self._acknowledged:
                raise self._failure(f"{self._name}: {_reason(error)}") from error
        while self._marks and self._marks[0][0] <= self._acknowledged:
            self._reached = self._marks.popleft()[1]
        return self._reached

    def _failure(self, text: str) -> BackendError:
        self._failed = True
        return BackendError(text)

    # Sending

    def _push(self, enough: int) -> None:
        """Send until no more than `enough` bytes wait."""
        deadline = time.monotonic() + self._longest_s
        pause_s, moved = PAUSES_S[0], False
        while True:
            try:
                before = self._size + self._stream.left
                self._feed()
                if len(self._sent) >= self._look_at:
                    self._forget()
                    self._look_at = 2 * len(self._sent) + 64
                moved |= self._size + self._stream.left < before
            except (OSError, EOFError) as error:
                self._salvage(error)
                pause_s = self._renew(error, deadline, pause_s)
                continue
            if self._size <= enough:
                return
            if time.monotonic() >= deadline:
                if moved and self._size <= LIMIT:
                    return
                problem = "is too slow" if moved else "takes nothing"
                raise self._failure(f"{self._name} {problem}: {self._size} bytes wait")
            self._stream.wait(deadline)

    def _feed(self) -> None:
        """Give the system what it takes at once; OSError, EOFError."""
        stream = self._stream
        if not self._sent and self._waiting:
            stream.hear()  # a peer that has ended would lose what is sent now
        while True:
            while self._waiting and stream.left < AHEAD:
                chunk = self._waiting.popleft()
                self._size -= len(chunk)
                try:
                    end = stream.put(chunk)
                except (OSError, EOFError):
                    self._waiting.appendleft(chunk)
                    self._size += len(chunk)
                    raise
                self._sent.append((end, chunk))
            if not stream.push():
                return

    def _forget(self) -> None:
        """Forget what is acknowledged; OSError, EOFError if the connection has ended."""
        try:
            self._stream.acknowledged()
        finally:
            confirmed = self._stream.confirmed
            while self._sent and self._sent[0][0] <= confirmed:
                self._sent.popleft()
                self._acknowledged += 1

    # A connection that broke

    def _salvage(self, error: Exception) -> None:
        """Take back what the broken connection has not delivered."""
        with contextlib.suppress(OSError, EOFError):
            self._forget()
        if isinstance(error, OSError) and error.errno == errno.ECONNRESET:
            notes.warning(
                "%s: the connection was reset; what the peer had taken and not read may be lost",
                self._name,
            )  # fmt: skip
        for _, chunk in reversed(self._sent):
            self._waiting.appendleft(chunk)
            self._size += len(chunk)
        self._sent.clear()
        self._stream.abandon()

    def _renew(self, error: Exception, deadline: float, pause_s: float) -> float:
        """Connect again, after a pause; the next pause. BackendError if there is no time left."""
        while True:
            if time.monotonic() + pause_s >= deadline:
                raise self._failure(f"no {self._name}: {_reason(error)}") from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSES_S[1])
            try:
                self._stream = self._connect(deadline)
            except (OSError, EOFError) as failure:
                error = failure
                continue
            self.reconnects += 1
            return pause_s

    def close(self) -> None:
        """Send the rest, wait until the peer has acknowledged it, and disconnect; after a failure
        disconnect at once.

        Raises BackendError if that takes too long.
        """
        if self._failed:
            self._stream.abandon()
            return
        try:
            self._end_chunk()
            deadline = time.monotonic() + self._longest_s
            self._push(0)
            while self._unacknowledged():
                if time.monotonic() >= deadline:
                    raise self._failure(f"{self._name} has not acknowledged the last messages")
                time.sleep(0.002)
        finally:
            self._stream.close()

    def _unacknowledged(self) -> bool:
        try:
            self._feed()
            self._forget()
        except (OSError, EOFError) as error:
            self._salvage(error)
            if self._made > self._acknowledged:
                raise self._failure(f"{self._name}: {_reason(error)}") from error
        return self._made > self._acknowledged


def _reason(error: Exception) -> str:
    return "it has ended the connection" if isinstance(error, EOFError) else problem_of(error)
