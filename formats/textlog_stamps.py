"""The times at the beginning of many lines at once.

Lines of a log begin alike: their times have the same form and size. So a lot of lines is cut at the
size of the first one's time, and times are checked and converted together. Three forms change from
line to line: seconds since the start of the machine, RFC 3339 with microseconds, and that of RFC
3164 in a quiet log. The others are read once for all lines that share them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import NamedTuple

from pylog.memo import Memo


class Timed(NamedTuple):
    """What an envelope says of the time.

    form      of the envelope
    written   the time as it stands there
    moment    in nanoseconds since 1970, None if that is open
    local     as `timestamp_local` of a record
    """

    form: str
    written: str
    moment: int | None
    local: str | None


class Order(Enum):
    """Of lines without a year: whether their moments depend on the lines before them.

    FREE    they have no moments, because their zone is unknown
    MONTH   as long as the month is the same, they do not
    FIRST   they do: the year is open
    """

    FREE = auto()
    MONTH = auto()
    FIRST = auto()


class Lot(NamedTuple):
    """Lines whose times have one form and size.

    kind      what the form says of the envelope, with the priority before it
    size      of the time with what stands before it and the blank behind it
    rows      the lines
    moments   in nanoseconds since 1970, None if that is open
    written   as `timestamp_local` of a record
    skipped   how much stands before the time
    """

    kind: bytes
    size: int
    rows: Sequence[int]
    moments: Sequence[int | None]
    written: Sequence[str | None]
    skipped: int

    def text(self, line: bytes) -> str:
        """The time of a line as it is written."""
        text = line[self.skipped : self.size - 1].decode("latin-1")
        return text.strip("[] ") if text[:1] == "[" else text


_BEGINNING = re.compile(
    rb"(?P<priority><\d{1,3}>(?:1 )?)?(?:(?P<uptime>\[ *\d+\.\d{6}\])"
    rb"|(?P<second>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?P<point>[.,])\d{6}(?P<zone>Z|[+-]\d\d:?\d\d)"
    rb"|(?P<day>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)"
    rb"|(?P<date>[A-Z][a-z]{2} [ \d]\d \S{1,40})|\[[^\]]{1,40}\]|[^\s\[]\S{0,40}) "
)
"""The time of a line, with a priority before it."""
_UPTIMES = re.compile(rb"\[ *\d+\.\d{6}\] ")
_DAYS = re.compile(rb"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ")
MOST_LOTS = 8
"""Into so many lots lines are divided; what is left is for the grammar."""
SECOND = 19
"""The size of a time of RFC 3339 without its fraction."""


class Stamps:
    """Reads the times of lines."""

    def __init__(self, time_of: Callable[[str], Timed]) -> None:
        """
        time_of   the beginning of a line -> what its envelope says of the time
        """
        self._time_of = time_of
        self._seconds: Memo[bytes, int | None] = Memo(self._second)

    def lots(self, lines: Sequence[bytes], order: Order) -> Iterator[Lot]:
        """The lines by the form of their times; those with another one are left out.

        order   of lines without a year
        """
        left: Sequence[int] = range(len(lines))
        for _ in range(MOST_LOTS):
            if not left:
                return
            match = _BEGINNING.match(lines[left[0]])
            if match is None:
                left = left[1:]
                continue
            before, size = match["priority"] or b"", match.end()
            at = len(before)
            rows = [i for i in left if lines[i].startswith(before)] if before else left
            kind = match.lastgroup or ""
            if kind == "uptime":
                lot = self._uptimes(lines, rows, at, size)
            elif kind == "zone":
                lot = self._instants(lines, rows, at, size, match)
            elif kind == "day" and order is Order.FREE:
                lot = self._days(lines, rows, at, size)
            elif kind in ("day", "date") and order is Order.FIRST:
                lot = None
            else:
                lot = self._same(lines, rows, at, size)
                if kind in ("day", "date") and order is Order.MONTH:
                    order = Order.FIRST
            if lot is None or not lot.rows:
                left = left[1:]
                continue
            yield lot._replace(kind=before + b" " + lot.kind)
            if len(lot.rows) == len(left):
                return
            taken = set(lot.rows)
            left = [i for i in left if i not in taken]

    def _uptimes(self, lines: Sequence[bytes], rows: Sequence[int], at: int, size: int) -> Lot:
        """Those that begin with seconds since the start of the machine."""
        rows, texts = _fitting(_UPTIMES, lines, rows, at, size)
        written = b"".join(texts).decode().replace("[", " ").replace("]", " ").split()
        return Lot(b"uptime", size, rows, [None] * len(rows), written, at)

    def _days(self, lines: Sequence[bytes], rows: Sequence[int], at: int, size: int) -> Lot:
        """Those with a time without a year, whose moment is open."""
        texts = [lines[i][at:size] for i in rows]
        names = {text: text[:-1].decode() for text in set(texts) if _DAYS.fullmatch(text)}
        written = [names.get(text) for text in texts]
        if None in written:
            kept = [n for n, name in enumerate(written) if name is not None]
            rows, written = [rows[n] for n in kept], [written[n] for n in kept]
        return Lot(b"day", size, rows, [None] * len(rows), written, at)

    def _instants(
        self,
        lines: Sequence[bytes],
        rows: Sequence[int],
        at: int,
        size: int,
        match: re.Match[bytes],
    ) -> Lot:
        """Those with a time of RFC 3339 with the same zone."""  # fmt: skip
        point, zone = match["point"], match["zone"] + b" "
        middle, end = at + SECOND, size - len(zone)
        rows = [
            i for i in rows if lines[i][end:size] == zone and lines[i][middle : middle + 1] == point
        ]
        fractions = [lines[i][middle + 1 : end] for i in rows]
        if not b"".join(fractions).isdigit():
            pairs = [(i, text) for i, text in zip(rows, fractions, strict=True) if text.isdigit()]
            rows, fractions = [i for i, _ in pairs], [text for _, text in pairs]
        seconds = [self._seconds[lines[i][at:middle] + zone] for i in rows]
        if None in seconds:
            kept = [n for n, second in enumerate(seconds) if second is not None]
            rows, fractions = [rows[n] for n in kept], [fractions[n] for n in kept]
            seconds = [seconds[n] for n in kept]
        moments = [
            second + 1000 * fraction
            for second, fraction in zip(seconds, map(int, fractions), strict=True)
            if second is not None
        ]
        return Lot(point + zone, size, rows, moments, [None] * len(rows), at)

    def _same(self, lines: Sequence[bytes], rows: Sequence[int], at: int, size: int) -> Lot | None:
        """Those with a time of any form, each read once; None if the order of the lines matters."""
        first = lines[rows[0]]
        month, form = first[at : at + 3], ""
        times: dict[bytes, Timed | None] = {}
        taken, moments, written = [], [], []
        for i in rows:
            line = lines[i]
            stamp = line[:size]
            if stamp not in times:
                timed = None
                if stamp[at : at + 3] == month and _BEGINNING.fullmatch(stamp):
                    timed = self._time_of(line.decode("latin-1"))
                    text = stamp[at:-1].decode("latin-1")
                    form = form or timed.form
                    if timed.form != form or not timed.written or text not in (
                        timed.written, f"[{timed.written}]"
                    ):  # fmt: skip
                        timed = None
                times[stamp] = timed
            timed = times[stamp]
            if timed is not None:
                taken.append(i)
                moments.append(timed.moment)
                written.append(timed.local)
        return Lot(form.encode(), size, taken, moments, written, at)

    def _second(self, stamp: bytes) -> int | None:
        """The moment of a time of RFC 3339 without its fraction; None for one of no date."""
        if stamp[10:11] != b"T":  # behind a version of RFC 5424 a blank is the end of the time
            return None
        timed = self._time_of(stamp.decode("latin-1"))
        if timed.written != stamp[:-1].decode("latin-1") or timed.local is not None:
            return None
        return timed.moment


def _fitting(
    pattern: re.Pattern[bytes], lines: Sequence[bytes], rows: Sequence[int], at: int, size: int
) -> tuple[Sequence[int], list[bytes]]:
    """The lines that have a time of the pattern, and these times."""
    texts = [lines[i][at:size] for i in rows]
    if pattern.findall(b"".join(texts)) == texts:
        return rows, texts
    kept = [n for n, text in enumerate(texts) if pattern.fullmatch(text)]
    return [rows[n] for n in kept], [texts[n] for n in kept]
