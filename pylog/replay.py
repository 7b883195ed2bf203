"""Replay: a capture or dump read as if it were live.

The records are those that a reader of the live source gave, without offsets; only that they come
from a file. The pace is that of the recording, by the times of receipt, or else the kernel's; but
no record is waited for longer than `max_gap` seconds, and a clock that was set back takes no time.
"""

from __future__ import annotations

import os
import time
from math import inf

from pylog.backends.capture import Capture
from pylog.errors import DecodeError
from pylog.notes import notes
from pylog.reader import OnError, Reader, Records, deadline_of
from pylog.record import LossRecord, Record

ROUND_S = 1.0
"""How long a round of a loop takes at least, unless nothing is waited for."""
LONG_S = 60.0
"""A longer wait is noted."""
STEP_BACK_S = 1.0
"""If a record is older than another before it by more, the clock was set; if not, they are out of
order, as those of several processors may be.
"""
NOTES = 10
"""So many shortened gaps are noted one by one."""


class Replay(Reader):
    """A Reader that gives a recording's records when they are due; `stop` ends it like `close`.

    rounds   how often the recording was begun again
    """

    MAX_GAP_S = 60.0
    replayed = True
    __next__, read_batch = Records.__next__, Records.read_batch  # which wait until one is due,
    read_raw = Records.read_raw  # all of them

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        speed: float | None = 1.0,
        max_gap: float | None = MAX_GAP_S,
        loop: bool = False,
        layout: str | None = None,
        on_error: OnError = "resync",
        raw: bool = False,
    ) -> None:
        """`speed` times the recording's pace, None as fast as it goes; `loop` without an end.

        max_gap   how many seconds to wait for one record at most: 0 for none, None without a limit
        Raises BackendError, DecodeError and ValueError as pylog.open; ValueError for a speed that
        is not above 0, or a gap below 0.
        """
        gap = isinstance(max_gap, int | float) and not isinstance(max_gap, bool)
        if max_gap is not None and not (gap and max_gap >= 0):
            raise ValueError(f"max_gap is {max_gap!r}, but must be 0 or more, or None for no limit")
        number = isinstance(speed, int | float) and not isinstance(speed, bool)
        if speed is not None and not (number and 0 < speed < inf):
            raise ValueError(f"speed is {speed!r}, but must be above 0, or None for no waiting")
        backend = Capture(path)
        try:
            super().__init__(backend, layout=layout, on_error=on_error, raw=raw)
            if loop and not backend.regular:
                raise ValueError(f"{backend.name} cannot be replayed again: it is no regular file")
        except BaseException:
            backend.close()
            raise
        self.rounds = 0
        self._recording = backend
        self._speed = speed
        self._max_gap_s = inf if max_gap is None else max_gap
        self._shortened = 0
        self._loop = loop
        self._held: Record | None = None  # not due yet, and its bytes
        self._held_octets = b""
        self._last_ns: int | None = None  # the times of the record before and of the newest one
        self._newest_ns = 0
        self._due = 0.0  # when the record that is held, or was given last, is due
        self._next_round = 0.0
        self._noted: Record | None = None
        self._before = 0

    @property
    def ready(self) -> bool:
        return super().ready and self._speed is None

    def due_s(self) -> float | None:
        if self._held is None or self._speed is None:
            return None
        return self._due - time.monotonic()

    def _due_at(self, record: Record, speed: float) -> float:
        """When a record is due that comes next, by the monotonic clock."""
        told = record.observed_ns if record.observed_ns is not None else record.timestamp_ns
        if told is None:
            return self._due
        if self._last_ns is None:  # a round takes a second at least
            begun = max(time.monotonic(), self._next_round)
            self._last_ns, self._newest_ns, self._next_round = told, told, begun + ROUND_S
            return begun
        behind_s = (self._newest_ns - told) / 1e9
        if 0 <= behind_s <= STEP_BACK_S:
            return self._due
        gap_s = (told - self._last_ns) / 1e9
        if behind_s < 0:  # also where the clock was set back and is right again
            gap_s = min(gap_s, -behind_s)
        wait_s = max(0.0, gap_s) / speed
        if wait_s > self._max_gap_s:
            wait_s = self._max_gap_s
            self._note_shortened(gap_s)
        self._last_ns, self._newest_ns = told, max(told, self._newest_ns)
        return self._due + wait_s

    def _note_shortened(self, gap_s: float) -> None:
        """Log that a gap is shortened, the first few times."""
        self._shortened += 1
        if self._shortened <= NOTES:
            last = " (others are not noted)" if self._shortened == NOTES else ""
            notes.warning("%s: a gap of %.6g s in the recording is shortened to %g s%s",
                         self.backend.name, gap_s, self._max_gap_s, last)  # fmt: skip

    def read(self, timeout: float | None = None) -> Record | None:
        deadline = deadline_of(timeout)
        if self._held is None:
            self._held = self._following(timeout)
            if self._held is not None and self._speed is not None:
                self._due = self._due_at(self._held, self._speed)
            if self._held is not None and not isinstance(self._held, LossRecord):
                self._held_octets = self.decoder.last_message()
        while not (self.backend.closed or self.backend.stopped):
            due = self.due_s()
            if due is None or due <= 0:
                break
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{self.backend.name}: no record was due in time")
                due = min(due, left)
            if due > LONG_S and self._noted is not self._held:
                self._noted = self._held
                notes.warning("%s: the next record is due in %.3g s", self.backend.name, due)
            self.backend.sleep(due)
        record, self._held, self._held_octets = self._held, None, b""
        if self.backend.closed or self.backend.stopped:
            return None
        return record

    def read_bytes(self, size: int) -> bytes:
        """As Reader.read_bytes, whether the records are due or not."""
        octets = self._held_octets
        if len(octets) > size:
            raise ValueError(f"{size} bytes are too few for the next record of {len(octets)}")
        self._held, self._held_octets = None, b""
        if octets and not (self.backend.regular or super().ready):
            return octets
        try:
            return octets + super().read_bytes(size - len(octets))
        except (ValueError, DecodeError):
            if octets:  # the next one does not fit as well, or its error comes again
                return octets
            raise

    def pending(self) -> int:
        return len(self._held_octets) + super().pending()

    def flush(self) -> int:
        flushed, self._held, self._held_octets = len(self._held_octets), None, b""
        return flushed + super().flush()

    def _following(self, timeout: float | None) -> Record | None:
        """The recording's next record; of a loop's last, the first."""
        record = super().read(timeout)
        if record is not None or not self._loop or self.backend.closed or self.backend.stopped:
            return record
        if self.received == self._before:  # nothing to repeat
            return None
        self._before = self.received
        self.rounds += 1
        self._recording.rewind()
        self.input.restart()
        self.decoder.begin(self.detection)
        self.decoder.losses.restart()
        self._last_ns = None
        return super().read(timeout)
