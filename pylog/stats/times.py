"""Parts of time in a zone: buckets of a length, hours of the day, days.

Each is computed of the start of a granule, a minute or a second, so that all records of a granule
share it. Buckets follow the clock of the zone: a day begins at its midnight, a week on Monday, also
where the clock is set forward or back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo

from pylog.memo import Memo

SECOND, MINUTE = 10**9, 60 * 10**9
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_EPOCH = datetime(1970, 1, 1)
_MONDAY = datetime(1970, 1, 5)


class TimePart:
    """A part of a time: `part[ns // part.granule_ns]` for nanoseconds since 1970.

    None stands for a time that no calendar has.
    """

    def __init__(
        self, of: Callable[[datetime], str | int], zone: tzinfo | None, granule_ns: int = MINUTE
    ) -> None:
        """`zone` None is the machine's."""
        self.granule_ns = granule_ns
        self._of, self._zone = of, zone
        self._memo = Memo(self._compute)

    def __getitem__(self, granule: int) -> str | int | None:
        return self._memo[granule]

    def _compute(self, granule: int) -> str | int | None:
        try:
            return self._of(datetime.fromtimestamp(granule * self.granule_ns // SECOND, self._zone))
        except (OverflowError, OSError, ValueError):
            return None


def hour(zone: tzinfo | None) -> TimePart:
    """The hour of the day, 0 to 23."""
    return TimePart(lambda time: time.hour, zone)


def weekday(zone: tzinfo | None) -> TimePart:
    """The day of the week, Mon to Sun."""
    return TimePart(lambda time: WEEKDAYS[time.weekday()], zone)


def day(zone: tzinfo | None) -> TimePart:
    """The date, as 2026-11-29."""
    return TimePart(lambda time: time.date().isoformat(), zone)


def month(zone: tzinfo | None) -> TimePart:
    """The month, as 2026-11."""
    return TimePart(lambda time: time.date().isoformat()[:7], zone)


def bucket(every: str, zone: tzinfo | None) -> TimePart:
    """The start, in nanoseconds since 1970, of the bucket of a time.

    every   as 10s, 5m, 1h, 1d, 1w or month; ValueError for anything else
    """
    if every in ("month", "1month"):
        return TimePart(_month_start, zone)
    match = re.fullmatch(r"(\d{1,6})([smhdw])", every)
    if not match or not int(match[1]):
        raise ValueError(
            f"{every!r} is no length of time; it is a number and s, m, h, d or w, as 15m, or month"
        )
    seconds = int(match[1]) * UNITS[match[2]]
    origin = _MONDAY if match[2] == "w" else _EPOCH

    def start(time: datetime) -> int:
        elapsed = time.replace(tzinfo=None, fold=0) - origin
        begun = origin + timedelta(seconds=elapsed // timedelta(seconds=seconds) * seconds)
        if seconds < 60:  # no clock is set by less than a minute
            return int(time.timestamp()) // seconds * seconds * SECOND
        return int(begun.replace(tzinfo=time.tzinfo, fold=time.fold).timestamp()) * SECOND

    return TimePart(start, zone, MINUTE if seconds % 60 == 0 else SECOND)


def _month_start(time: datetime) -> int:
    begun = time.replace(day=1, hour=0, minute=0, second=0, fold=0)
    return int(begun.timestamp()) * SECOND
