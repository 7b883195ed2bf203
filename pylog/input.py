"""The input: receives the bytes of a backend for a decoder, and detects what they are.

A file is recognized by its first HEAD bytes. A pipe or a growing log may take long to give that
many, so after PATIENCE_S seconds fewer bytes are enough, if they are recognized. Bytes that were
received for detection, or to look ahead at a jump in the numbers, wait in `head` until the decoder
is fed; nothing is received twice.
"""

from __future__ import annotations

import time

from pylog.backends.base import Backend
from pylog.decoder import Decoder
from pylog.detect import detect, is_no_log
from pylog.errors import DecodeError
from pylog.formats import HEAD
from pylog.notes import notes
from pylog.record import Record

PATIENCE_S = 1.0
"""How many seconds to wait for the first HEAD bytes before fewer are enough."""

PEEK_S = 0.1
"""How many seconds at a time to wait for a pipe when looking ahead."""


def left_s(deadline: float | None) -> float | None:
    """How many seconds are left until a deadline; 0 after it, None without a deadline."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class Input:
    """Receives for a decoder. Deadlines are times of the monotonic clock.

    head    bytes that were received, but that the decoder was not fed
    final   whether the end was received
    taken   how many bytes `take` gave so far
    enough  how many bytes of a regular file `take` gives, unless it ends before
    """

    def __init__(self, backend: Backend, decoder: Decoder, layout: str | None) -> None:
        """
        layout   the layout's name, in place of detection
        """
        self._backend, self._decoder, self._layout = backend, decoder, layout
        self.restart()
        self.taken = self.enough = 0
        self._peek_s = PATIENCE_S

    def restart(self) -> None:
        """The backend is at its start."""
        self.head = b""
        self.final = self._failure_given = False
        self._tried = 0  # so many bytes were not recognized
        self._patience: float | None = None

    def detect(self, deadline: float | None) -> bool:
        """Detect what the first bytes are; False if a deferred backend ended before any came.

        Waits for HEAD bytes, but not for long: a log may grow slowly.
        Raises TimeoutError at the deadline, and keeps the bytes that have come.
        """
        backend = self._backend
        if not self.head:
            self.head = self._receive(deadline)
        more = self.head
        if self._patience is None:
            self._patience = time.monotonic() + PATIENCE_S
        while True:
            final = not more
            if final and backend.deferred and not self.head:
                self.final = True
                return False
            decided = backend.deferred and self._layout is not None
            if not final and len(self.head) < HEAD and not decided:
                left = max(0.0, self._patience - time.monotonic())
                # a failed detection is tried again only with twice as many bytes
                if len(self.head) < 2 * self._tried or (left and self._wait(left, deadline)):
                    more = self._receive(deadline)
                    self.head += more
                    continue
            try:
                detection = detect(self.head, final or decided, self._layout)
            except DecodeError as error:
                self._tried = len(self.head)
                if final and backend.proceed():
                    notes.warning("%s; another file has its name now", error)
                    self.restart()
                    return self.detect(deadline)
                if final or len(self.head) >= HEAD or is_no_log(self.head):
                    raise self._unrecognized(error, final) from None
                more = self._receive(deadline)
                self.head += more
                continue
            self._decoder.begin(detection)
            if backend.live and self._layout is None:
                same = "".join(f", or {name}, which reads them alike"
                               for name in detection.layouts[1:])  # fmt: skip
                notes.warning("%s: read as %s%s (%s)", backend.title, detection.layouts[0], same,
                             "; ".join(detection.evidence))  # fmt: skip
            return True

    def _unrecognized(self, error: DecodeError, final: bool) -> DecodeError:
        """The error of an input that is no log, or of which nothing could be decompressed."""
        backend = self._backend
        error.path = backend.name
        if not self.head and not self.may_grow:
            error.advice = ""
        if final and backend.failure is not None and not self.head:
            return backend.failure.copy_for_raising(backend.name)
        return error

    def take(self, deadline: float | None) -> bytes:
        """The bytes to feed next, waiting for them; b"" at the end. TimeoutError."""
        more, self.head = self.head or self._receive(deadline), b""
        while more and len(more) < self.enough and (further := self._backend.receive()):
            more += further
        self.final = not more
        self.taken += len(more)
        return more

    def _receive(self, deadline: float | None) -> bytes:
        """The next bytes of the backend; TimeoutError when none come before the deadline."""
        left = left_s(deadline)
        if left is not None and not self._backend.wait(left):
            raise TimeoutError(f"{self._backend.title}: no record came in time")
        return self._backend.receive()

    def _wait(self, timeout_s: float, deadline: float | None) -> bool:
        """As the backend's wait, but TimeoutError at the deadline if that comes first."""
        left = left_s(deadline)
        if left is not None and left < timeout_s:
            if not self._backend.wait(left):
                raise TimeoutError(f"{self._backend.title}: no record came in time")
            return True
        return self._backend.wait(timeout_s)

    def peek(self, offset: int, size: int) -> tuple[bytes, bool]:
        """As ahead.Peek; the offset is where the bytes begin that the decoder is fed next.

        It waits for a slow source PEEK_S at a time, and PATIENCE_S in all.
        """
        final = self.final
        while not final and len(self.head) < size:
            if not self._backend.regular:
                start = time.monotonic()
                has_more = self._backend.wait(min(PEEK_S, self._peek_s))
                self._peek_s -= time.monotonic() - start
                if not has_more:
                    break
            more = self._backend.receive()
            self.head += more
            final = not more
        return self.head, final

    def end(self) -> Record | None:
        """The next record to give at the end; the last is a loss for an input that ended in an
        error.
        """
        if self._backend.closed:
            return None
        record = self._decoder.end()
        if record is not None:
            return record
        failure = self._backend.failure
        if failure is None or self._failure_given:
            return None
        self._failure_given = True
        return self._decoder.failed(failure)

    @property
    def may_grow(self) -> bool:
        """Whether it is a file that could be followed, but is not."""
        backend = self._backend
        compressed = getattr(backend, "compression", None) is not None
        return not compressed and backend.size is not None and not backend.deferred
