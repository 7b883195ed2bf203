"""The times of a text log, as far as the log does not say: the zone, the year, its last moment.

A line of a text log may lack the zone and the year (formats.textlog_times). The user may state
both. A year that nobody states is the newest in which no line lies after the file was last written.
That of the first line depends on how often the year changes in the rest, so a file is read once
before for its months, if the zone is stated: without it no time becomes a moment.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pylog.backends.base import Backend
from pylog.formats.textlog_times import LATE, STEP, LogTimes, month_of
from pylog.memo import Memo
from pylog.zones import zone_of

_EPOCH = datetime(1970, 1, 1)
_MONTH = re.compile(rb"(?:<\d{1,3}>)?([A-Za-z\x80-\xff]{2,10}\.?) [ \d]\d \d\d:\d\d:\d\d")
_BEGINNING = 32
"""The month of a line stands in so many bytes."""


def utc_of(name: str) -> Callable[[int], int]:
    """The function from the local time of a zone to UTC, both in seconds since 1970.

    Of an hour that comes twice, when clocks are set back, it is the first. ValueError for a zone
    that does not exist.
    """
    zone = zone_of(name)
    if zone is UTC:
        return int

    def utc(second: int) -> int:
        try:
            local = _EPOCH + timedelta(seconds=second)
            there = local.astimezone() if zone is None else local.replace(tzinfo=zone)
            return int(there.timestamp())
        except (OverflowError, ValueError, OSError):  # the first or last day of all years
            return second

    return Memo(utc).__getitem__


def times_of(backend: Backend) -> LogTimes:
    """What is known of the times of a backend's log."""
    latest = backend.modified_s
    return LogTimes(
        zone=None if backend.log_tz is None else utc_of(backend.log_tz),
        year=backend.year,
        latest=int(time.time() if latest is None else latest),
    )


class Months:
    """Counts how often the year changes in a text log, by the months of its lines."""

    def __init__(self) -> None:
        self.steps = 0
        self._month = 0
        self._rest = b""
        self._beginning = b"\n"
        """How the last line with a month begins, up to its month."""

    def feed(self, data: bytes) -> None:
        """Take the bytes that come next."""
        data = self._rest + data
        for text in data.split(b"\n"):
            if text.startswith(self._beginning) or (match := _MONTH.match(text)) is None:
                continue
            month = month_of(match[1].decode("latin-1"))
            if not month:
                continue
            if self._month - month >= STEP:
                self.steps += 1
            elif (self._month, month) == LATE:
                continue
            self._month, self._beginning = month, text[: match.end(1)]
        line = data.rfind(b"\n") + 1
        self._rest = data[line:] if len(data) - line < _BEGINNING else b" "
