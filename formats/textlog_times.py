"""Times in text logs: what was written, and the moment that it stands for if that can be told.

A line may lack the year, the zone or the date. pylog does not guess a zone: without `LogTimes.zone`
only lines that state theirs have a moment. A missing year is the newest one in which no line lies
after `LogTimes.latest`; a step back of months begins a new year. Clocks and time zones are outside
of formats, so the conversion is a function that is handed in.

Source: RFC 3164, RFC 5424, dmesg(1), journalctl(1); the calendar is the proleptic Gregorian one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from pylog.record import MAX_SECONDS

MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_ABROAD = (
    "jän jan janv ene gen sty tammi", "feb febr févr fev lut helmi", "mär märz mars mrt mar maalis",
    "apr avr abr kwi huhti", "mai maj mei may mag maj touko", "jun juni juin giu cze kesä",
    "jul juli juil lug lip heinä", "aug août ago sie elo", "sep sept set wrz syys",
    "okt oct ott out paź loka", "nov lis marras", "dez dec déc des dic gru joulu",
)  # fmt: skip
"""How months are abbreviated in German, French, Spanish, Italian, Portuguese, Dutch, Swedish,
Danish, Norwegian, Polish and Finnish. dmesg -T and journalctl write times in the user's language.
"""
_MONTHS_ABROAD = {
    written: number
    for number, names in enumerate(_ABROAD, 1)
    for name in names.split()
    for form in (name, name.capitalize())
    for written in (form, form.encode().decode("latin-1"))
}


def month_of(name: str) -> int:
    """The number of a month by its abbreviation, whose characters are bytes; 0 if unknown."""
    return MONTHS.get(name) or _MONTHS_ABROAD.get(name.removesuffix("."), 0)


DAY = 86400
SLACK = DAY
"""A line may lie so many seconds after the latest moment: its zone may be ahead of UTC."""
STEP = 6
"""A step back of so many months begins a new year; a smaller one is a line out of order."""
LATE = 1, 12
"""December after January is a line of the old year that came late."""


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date of the Gregorian calendar."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def civil_year(second: int) -> int:
    """The year of a second since 1970."""
    year = 1970 + second // 31556952
    while days_from_civil(year + 1, 1, 1) * DAY <= second:
        year += 1
    while days_from_civil(year, 1, 1) * DAY > second:
        year -= 1
    return year


class LogTimes(msgspec.Struct):
    """What a text log does not say of its times.

    zone     from a local time in seconds since 1970 to seconds since 1970 UTC; None: unknown
    year     of the first line without one; None: the newest that fits
    latest   a moment, in seconds since 1970, after which no line lies; None: unknown
    steps    how many times the year changes in the log, if that was counted before
    """

    zone: Callable[[int], int] | None = None
    year: int | None = None
    latest: int | None = None
    steps: int = 0


class When(NamedTuple):
    """The time of a line.

    written    as it stands there
    second     since 1970, UTC if `zoned`, else local; of a line without a year the second since
               the start of the year 1972, in which all dates exist; None: no date
    fraction   nanoseconds
    zoned      whether the line states the zone
    month      of a line without a year, else 0
    """

    written: str
    second: int | None = None
    fraction: int = 0
    zoned: bool = False
    month: int = 0
    day: int = 0


NEVER = When("")


def fraction_ns(digits: str | None) -> int:
    """The nanoseconds of decimals, without their point."""
    return int(digits[:9].ljust(9, "0")) if digits else 0


def clock_seconds(text: str) -> int:
    """The seconds of HH:MM:SS."""
    return int(text[:2]) * 3600 + int(text[3:5]) * 60 + int(text[6:8])


def offset_seconds(text: str) -> int:
    """The seconds of an offset from UTC: Z, +01:00 or +0100."""
    if text in ("Z", "z"):
        return 0
    seconds = int(text[1:3]) * 3600 + int(text[-2:]) * 60
    return -seconds if text[0] == "-" else seconds


def dated(
    written: str, date: tuple[int, int, int], clock: str, digits: str | None, zone: str | None
) -> When:
    """A time with a date; `zone` is its offset from UTC, if it states it."""
    year, month, day = date
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return When(written)
    second = days_from_civil(year, month, day) * DAY + clock_seconds(clock)
    if zone:
        second -= offset_seconds(zone)
    return When(written, second, fraction_ns(digits), bool(zone))


def yearless(written: str, month: str, day: str, clock: str, digits: str | None) -> When:
    """A time without a year, as RFC 3164 has it."""
    number, of_month = month_of(month), int(day)
    if not number or not 1 <= of_month <= 31:
        return When(written)
    return When(written, clock_seconds(clock), fraction_ns(digits), False, number, of_month)


class Calendar:
    """Finds the moments of a log's lines, one after the other."""

    def __init__(self, times: LogTimes) -> None:
        self._times = times
        self._year: int | None = None
        self._month = 0

    @property
    def state(self) -> tuple[int | None, int]:
        """Year and month of the last line without a year, on which the next depends."""
        return self._year, self._month

    @state.setter
    def state(self, state: tuple[int | None, int]) -> None:
        self._year, self._month = state

    def moment(self, when: When) -> int | None:
        """The moment in nanoseconds since 1970; None if it cannot be told."""
        second = when.second
        if second is None:
            return None
        if when.month:
            if self._times.zone is None:
                return None
            year = self._year_of(when)
            second += days_from_civil(year, when.month, when.day) * DAY
        if not when.zoned:
            if self._times.zone is None:
                return None
            second = self._times.zone(second)
        if not 0 <= second <= MAX_SECONDS:
            return None
        return second * 1_000_000_000 + when.fraction

    def _year_of(self, when: When) -> int:
        """The year of a line without one."""
        if self._year is None:
            self._year = self._first_year(when)
        elif self._month - when.month >= STEP:
            self._year += 1
        elif (self._month, when.month) == LATE:
            return self._year - 1
        self._month = when.month
        return self._year

    def _first_year(self, when: When) -> int:
        times = self._times
        if times.year is not None:
            return times.year
        if times.latest is None:
            return 1970
        year = civil_year(times.latest + SLACK)
        if not times.steps:
            second = days_from_civil(year, when.month, when.day) * DAY + (when.second or 0)
            return year - (second > times.latest + SLACK)
        return year - times.steps
