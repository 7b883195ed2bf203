"""Time zones: the zone of a name, and RFC 3339 times in it.

Records have their times in UTC. Text for people may have them in another zone, with its offset from
UTC, as in 2023-11-14T23:14:21.123457+01:00. A second is converted once for all its records.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from pylog.memo import Memo
from pylog.nearest import advice
from pylog.options import SHOWN, Option

TZ = Option("tz", str, "UTC", "time zone of the times, as Europe/Oslo, or local", topic=SHOWN)
"""The option of outputs that are text."""

_SECOND = len("2023-11-14T22:14:21")


def zone_of(name: str) -> tzinfo | None:
    """The zone of a name, None for the machine's ("local"); ValueError for what is no zone."""
    if name == "local":
        return None
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        names = ["local", *sorted(available_timezones() | {"UTC"})]
        wanted = name.replace(" ", "_").lower()
        meant = [n for n in names if wanted in (n.lower(), n.rpartition("/")[2].lower())]
        exact = [n for n in meant if n.lower() == wanted] or meant
        hint = f"; did you mean {' or '.join(exact[:3])}?" if exact else advice(name, names)
        raise ValueError(
            f"no time zone {name!r} here; a name is as local, UTC or Europe/Oslo{hint}"
        ) from None


class Clock:
    """Puts times into a zone: `clock.text("2023-11-14T22:14:21.123457Z")`."""

    def __init__(self, zone: tzinfo | None) -> None:
        """`zone` None is the machine's."""
        self._zone = zone
        self._seconds = Memo(self._second)

    def text(self, utc: str) -> str:
        """A time of RFC 3339 in UTC, in the zone."""
        second, offset = self._seconds[utc[:_SECOND]]
        return f"{second}{utc[_SECOND:-1]}{offset}"

    def _second(self, utc: str) -> tuple[str, str]:
        """A second in the zone, and the zone's offset from UTC then."""
        try:
            there = datetime.fromisoformat(f"{utc}+00:00").astimezone(self._zone).isoformat()
        except (OverflowError, OSError, ValueError):  # the zone's last hours of the year 9999
            return utc, "Z"
        return there[:_SECOND], there[_SECOND:]


def clock_of(name: str) -> Clock | None:
    """The clock of a zone; None for UTC, in which times are anyway. ValueError as `zone_of`."""
    zone = zone_of(name)
    return None if zone is UTC else Clock(zone)
