"""Replay: reads a capture or dump as if it were live.

The records are those that a reader of the live source gave, without offsets. Each is given when it
is due: the pace is that of the recording, by the times of receipt, or else by the kernel's. No
record is waited for longer than `max_gap` seconds, and a clock that was set back costs no time.
"""

from __future__ import annotations

import os
import time
from math import inf

from pylog.backends.capture import Capture, check_times
from pylog.errors import DecodeError
from pylog.notes import notes
from pylog.open_log import OnError
from pylog.reader import Reader, Records
from pylog.record import LossRecord, Record
from pylog.records import deadline_of

ROUND_S = 1.0
"""How long a round of a loop takes at least, unless the speed is None."""
LONG_S = 60.0
"""A longer wait is noted."""
STEP_BACK_S = 1.0
"""A record that is older than the newest so far by more shows that the clock was set. One that is
older by less is out of order, as records of several processors may be.
"""
NOTES = 10
"""How many shortened gaps are noted."""


class Replay(Reader):
    """A Reader that gives a recording's records when they are due; `stop` ends it like `close`.

    rounds   how often the recording was begun again
    """

    MAX_GAP_S = 60.0
    replayed = True
    # of a Reader these give what is decoded, of Records what `read` gives: what is due
    __next__, read_batch, read_raw = Records.__next__, Records.read_batch, Records.read_raw

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
        log_tz: str | None = None,
        year: int | None = None,
    ) -> None:
        """
        speed     how many times faster than the recording; None: without waiting
        max_gap   how many seconds to wait for a record at most; 0: none, None: without a limit
        loop      begin again at the end, without end
        Raises BackendError, DecodeError and ValueError as pylog.open; ValueError for a speed that
        is not above 0, or a gap below 0.
        """
        gap = isinstance(max_gap, int | float) and not isinstance(max_gap, bool)
        if max_gap is not None and not (gap and max_gap >= 0):
            raise ValueError(f"max_gap is {max_gap!r}, but must be 0 or more, or None for no limit")
        number = isinstance(speed, int | float) and not isinstance(speed, bool)
        if speed is not None and not (number and 0 < speed < inf):
            raise ValueError(f"speed is {speed!r}, but must be above 0, or None for no waiting")
        check_times(log_tz, year)
        backend = Capture(path)
        backend.log_tz, backend.year = log_tz, year
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
        self._held: Record | None = None
        """The next record, which is not due yet."""
        self._held_octets = b""
        self._last_ns: int | None = None
        """The recorded time of the record before; None: a round begins."""
        self._newest_ns = 0
        self._due = 0.0
        """When the record that is held, or was given last, is due, by the monotonic clock."""
        self._next_round = 0.0
        self._noted: Record | None = None
        """The record of which a long wait was noted."""
        self._received_before = 0
        """Records received before this round."""

    @property
    def ready(self) -> bool:
        return super().ready and self._speed is None

    def due_s(self) -> float | None:
        if self._held is None or self._speed is None:
            return None
        return self._due - time.monotonic()

    def _due_at(self, record: Record, speed: float) -> float:
        """When the next record is due, by the monotonic clock."""
        time_ns = record.timestamp_ns if record.observed_ns is None else record.observed_ns
        if time_ns is None:
            return self._due
        if self._last_ns is None:
            start = max(time.monotonic(), self._next_round)
            self._last_ns, self._newest_ns, self._next_round = time_ns, time_ns, start + ROUND_S
            return start
        behind_s = (self._newest_ns - time_ns) / 1e9
        if 0 <= behind_s <= STEP_BACK_S:
            return self._due
        gap_s = (time_ns - self._last_ns) / 1e9
        if behind_s < 0:  # a clock that was set back may be set right again: no gap from there
            gap_s = min(gap_s, -behind_s)
        wait_s = max(0.0, gap_s) / speed
        if wait_s > self._max_gap_s:
            wait_s = self._max_gap_s
            self._note_shortened(gap_s)
        self._last_ns, self._newest_ns = time_ns, max(time_ns, self._newest_ns)
        return self._due + wait_s

    def _note_shortened(self, gap_s: float) -> None:
        """Note that a gap is shortened, the first NOTES times."""
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
        """As Reader.read_bytes, also of records that are not due yet."""
        octets = self._held_octets
        if len(octets) > size:
            raise ValueError(f"{size} bytes are too few for the next record of {len(octets)}")
        self._held, self._held_octets = None, b""
        if octets and not (self.backend.regular or super().ready):
            return octets
        try:
            return octets + super().read_bytes(size - len(octets))
        except (ValueError, DecodeError):
            if octets:  # the next record does not fit, or the next call raises its error again
                return octets
            raise

    def pending(self) -> int:
        return len(self._held_octets) + super().pending()

    def flush(self) -> int:
        flushed, self._held, self._held_octets = len(self._held_octets), None, b""
        return flushed + super().flush()

    def _following(self, timeout: float | None) -> Record | None:
        """The recording's next record; in a loop, the first follows the last."""
        record = super().read(timeout)
        if record is not None or not self._loop or self.backend.closed or self.backend.stopped:
            return record
        if self.received == self._received_before:  # nothing to repeat
            return None
        self._received_before = self.received
        self.rounds += 1
        self._recording.rewind()
        self.input.restart()
        self.decoder.begin(self.detection)
        self.decoder.losses.restart()
        self._last_ns = None
        return super().read(timeout)
