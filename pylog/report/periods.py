"""Calendar periods in a time zone: which one a time is in, its bounds and its name.

Consecutive periods of a kind have consecutive numbers, so the one before is easy to name. Times are
looked up by quarter of an hour: all offsets of zones from UTC are multiples of one. All records of
a quarter so share one lookup.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from typing import Any, Literal, NamedTuple

from pylog.memo import Memo
from pylog.nearest import advice

Kind = Literal["all", "hour", "day", "week", "month", "year"]
KINDS: tuple[Kind, ...] = ("all", "hour", "day", "week", "month", "year")
QUARTER_S = 900
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December")  # fmt: skip

_FORMS: dict[Kind, str] = {
    "hour": r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d)",
    "day": r"(\d{4})-(\d\d)-(\d\d)",
    "week": r"(\d{4})-W(\d\d)",
    "month": r"(\d{4})-(\d\d)",
    "year": r"(\d{4})",
}


class Moment(NamedTuple):
    """A quarter of an hour in the zone.

    offset_s   of the zone's clock from UTC
    day        its date, as date.toordinal()
    weekday    0 for Monday
    """

    offset_s: int
    day: int
    weekday: int
    hour: int
    period: int


class Periods:
    """The periods of a kind in a zone.

    kind     of the periods; "all" has one, which never ends
    wanted   the number of the one that is asked for; None: the last one of the log
    """

    def __init__(self, text: str, zone: tzinfo | None) -> None:
        """`text` is a kind, or a period as 2026, 2026-11, 2026-W48, 2026-11-28 or 2026-11-28T18.

        zone   None is the machine's

        ValueError for any other text.
        """
        self._text = text
        self.zone = zone
        self.wanted: int | None = None
        self.kind: Kind = "all"
        if text in KINDS:
            self.kind = text
        else:
            self.kind, start = _named(text)
            self.wanted = self._number(start)
        self._moments: Memo[int, Moment | None] = Memo(self._moment)

    def __reduce__(self) -> tuple[Any, ...]:
        return Periods, (self._text, self.zone)

    def moment(self, quarter: int) -> Moment | None:
        """The quarter of an hour of that number since 1970; None for a time without a date."""
        return self._moments[quarter]

    def number(self, second: int) -> int:
        """The number of the period of a second since 1970."""
        return self._number(self.local(second))

    def bounds(self, number: int) -> tuple[int, int]:
        """The first second of a period, and that of the next, since 1970."""
        return self._start(number), self._start(number + 1)

    def name(self, number: int) -> str:
        """A period's name for people, as "November 2026"."""
        start = self._first(number)
        if self.kind == "hour":
            return f"{start:%Y-%m-%d %H}:00 to {start + timedelta(hours=1):%H}:00"
        if self.kind == "week":
            year, week, _ = start.isocalendar()
            return f"week {week} of {year}"
        if self.kind == "month":
            return f"{MONTHS[start.month - 1]} {start.year}"
        return f"{start.year}" if self.kind == "year" else f"{start:%Y-%m-%d}"

    def local(self, second: int) -> datetime:
        """A second since 1970 in the zone."""
        time = datetime.fromtimestamp(second, self.zone)
        return time if self.zone is not None else time.astimezone()

    def _moment(self, quarter: int) -> Moment | None:
        try:
            time = self.local(quarter * QUARTER_S)
        except (OverflowError, OSError, ValueError):
            return None
        offset = time.utcoffset() or timedelta(0)
        return Moment(
            int(offset.total_seconds()), time.toordinal(), time.weekday(), time.hour,
            self._number(time),
        )  # fmt: skip

    def _number(self, time: datetime) -> int:
        days = time.toordinal()
        return {
            "all": 0,
            "hour": days * 24 + time.hour,
            "day": days,
            "week": (days - 1) // 7,  # the first day of the calendar is a Monday
            "month": time.year * 12 + time.month - 1,
            "year": time.year,
        }[self.kind]

    def _first(self, number: int) -> datetime:
        """The local time at which a period begins, without a zone."""
        if self.kind == "hour":
            return datetime.fromordinal(number // 24) + timedelta(hours=number % 24)
        if self.kind == "month":
            return datetime(number // 12, number % 12 + 1, 1)
        if self.kind == "year":
            return datetime(number, 1, 1)
        return datetime.fromordinal(number * 7 + 1 if self.kind == "week" else number)

    def _start(self, number: int) -> int:
        first = self._first(number)
        return int((first.replace(tzinfo=self.zone) if self.zone else first).timestamp())


def _named(text: str) -> tuple[Kind, datetime]:
    """The kind of a period that is written as a date, and its start."""
    for kind, form in _FORMS.items():
        match = re.fullmatch(form, text)
        if match is None:
            continue
        numbers = [int(part) for part in match.groups()]
        try:
            if kind == "week":
                return kind, datetime.fromisocalendar(numbers[0], numbers[1], 1)
            year, month, day, hour = [*numbers, *(1, 1, 0)[len(numbers) - 1 :]]
            return kind, datetime(year, month, day, hour)
        except ValueError as error:
            raise ValueError(f"{text} is no {kind}: {error}") from None
    raise ValueError(
        f"no period {text!r}{advice(text, KINDS)}; it is one of {', '.join(KINDS)}, or as 2026,"
        " 2026-11, 2026-W48, 2026-11-28 or 2026-11-28T18"
    )
