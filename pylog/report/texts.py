"""Numbers, times and spans as a reader has them: 1,234,567, "12.3 MB", "Sun 18 October, 02:00"."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pylog.report.periods import MONTHS

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_SPANS = ((604_800, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def number(count: int | float) -> str:
    """A whole number with commas."""
    return f"{count:,.0f}"


def short(count: int) -> str:
    """A number in at most four characters or so: 987, 1.2k, 35k, 4.5M."""
    for factor, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= factor:
            value = count / factor
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return str(count)


def mean(count: float) -> str:
    """A mean of counts in as few characters: 0.4, 12, 1.2k; empty for none."""
    return short(round(count)) if count >= 9.95 or count == int(count) else f"{count:.1f}"


def octets(count: int) -> str:
    """A number of bytes in decimal units."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return (
        f"{value:.1f} {_UNITS[unit]}" if unit and value < 99.95 else f"{value:.0f} {_UNITS[unit]}"
    )


def percent(part: float, whole: float) -> str:
    """A share, with a decimal where it is small."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "under 0.1 %"
    return f"{share:.1f} %" if share < 99.95 else f"{share:.0f} %"


def span(seconds: int) -> str:
    """A length of time: "3 hours", "1 day and 2 hours"."""
    parts = []
    for size, name in _SPANS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}{'s' * (count != 1)}")
        if len(parts) == 2 or (parts and size >= 3600 and seconds < 60):
            break
    return " and ".join(parts) or "0 seconds"


def per(seconds: int) -> str:
    """How often, for a width of buckets: "by hour", "by 3 hours"."""
    return "by " + span(seconds).removeprefix("1 ")


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 packet"."""
    return f"{number(count)} {noun}{'s' * (count != 1)}"


class Times:
    """Puts seconds since 1970 into words, by the offsets of a zone; see figures()."""

    def __init__(self, offsets: Sequence[Sequence[int]]) -> None:
        self._offsets = offsets

    def local(self, second: int) -> datetime:
        """The time by the clock of the zone."""
        offset = 0
        for start, value in self._offsets:
            if start > second and start != self._offsets[0][0]:
                break
            offset = value
        return self.utc(second + offset)

    @staticmethod
    def utc(second: int) -> datetime:
        """The time by the clock of UTC."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)

    def day(self, second: int) -> str:
        """A date: "Sunday, 18 October 2026"."""
        time = self.local(second)
        return f"{time:%A}, {time.day} {MONTHS[time.month - 1]} {time.year}"

    def minute(self, second: int | None) -> str:
        """A date and time: "2026-10-18 02:00", with seconds if there are any."""
        if second is None:
            return "unknown"
        time = self.local(second)
        return f"{time:%Y-%m-%d %H:%M:%S}".removesuffix(":00")

    def clock(self, second: int) -> str:
        """The time of day: "02:00"."""
        return f"{self.local(second):%H:%M}"
