"""The question who had an address at a time: its parts as values, and how they are written.

An address is `192.0.2.1`, `192.0.2.1:443`, `192.0.2.1:1024-2047` (a port block), or for IPv6
`2001:db8::1`, `[2001:db8::1]:443`. A time is RFC 3339, or seconds since 1970, or a range A..B. It
stands for all that its last digit leaves open: a date for its day, T12 for that hour, 12:00:01 for
that second, and 12:00:01.5 for a tenth of it. So a report that rounds its times asks the right
question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from pylog.formats.addresses import addresses, octets
from pylog.formats.ip_numbers import PROTOCOL_NAMES
from pylog.nearest import advice
from pylog.record import MAX_SECONDS

S_NS = 1_000_000_000
MINUTE_NS = 60 * S_NS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<part>\d{1,9}))?)?)?"
    r" ?(?P<zone>[Zz]|[+-]\d\d:?\d\d)?)?"
)
_SECONDS = re.compile(r"@?(?P<second>\d{1,12})(?:\.(?P<part>\d{1,9}))?")
PROTOCOLS = {name: number for number, name in PROTOCOL_NAMES.items()}


class Endpoint(NamedTuple):
    """An address, and its ports from `low` to `high`; None: any port, and flows without ports."""

    address: str
    low: int | None = None
    high: int | None = None

    def has(self, address: str | None, port: int | None) -> bool:
        """Whether it is this address, with one of these ports."""
        if address != self.address:
            return False
        if self.low is None or self.high is None:
            return True
        return port is not None and self.low <= port <= self.high


class Question(NamedTuple):
    """Who had `of` at a time from `start_ns` to `stop_ns`, both included, since 1970?

    protocol   by number; None: any
    peer       the other end of the flow; None: any
    text, at   the address and the time as they were asked
    number     which of several questions it is, from 1
    """

    of: Endpoint
    start_ns: int
    stop_ns: int
    protocol: int | None = None
    peer: Endpoint | None = None
    text: str = ""
    at: str = ""
    number: int | None = None

    def within(self, tolerance_ns: int) -> Question:
        """The question with a time that is longer on either side."""
        return self._replace(
            start_ns=self.start_ns - tolerance_ns, stop_ns=self.stop_ns + tolerance_ns
        )


def question(
    address: str,
    at: str,
    *,
    protocol: str | None = None,
    peer: str | None = None,
    within_s: float = 0,
    zone: tzinfo | None = UTC,
    number: int | None = None,
) -> Question:
    """The question that these texts ask; ValueError for what cannot be one of them.

    within_s   how many seconds the clocks may differ
    zone       of a time without an offset; None: the machine's
    """
    if not 0 <= within_s <= MAX_SECONDS:
        raise ValueError(f"within is {within_s}, but must be a number of seconds, 0 or more")
    start_ns, stop_ns = period(at, zone)
    return Question(
        endpoint(address), start_ns, stop_ns,
        None if protocol is None else protocol_number(protocol),
        None if peer is None else endpoint(peer),
        address, at, number,
    ).within(round(within_s * S_NS))  # fmt: skip


def endpoint(text: str) -> Endpoint:
    """ADDRESS, ADDRESS:PORT or ADDRESS:PORT-PORT; ValueError for anything else."""
    bracketed = re.fullmatch(r"\[(?P<address>[^\]]*)\](?::(?P<ports>.*))?", text)
    if bracketed is not None:
        address, ports = bracketed["address"], bracketed["ports"]
    elif text.count(":") == 1:
        address, _, ports = text.partition(":")
    else:
        address, ports = text, None
    try:
        if "%" in address:
            raise ValueError
        name = addresses[octets[address]]
    except ValueError:
        raise ValueError(
            f"{text!r} is no address: write 192.0.2.1, 192.0.2.1:443, 192.0.2.1:1024-2047 or"
            " [2001:db8::1]:443"
        ) from None
    if ports is None:
        return Endpoint(name)
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", ports)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not low <= high <= 65535:
        raise ValueError(f"{text!r} has the port {ports!r}, but a port is 0 to 65535, a block A-B")
    return Endpoint(name, low, high)


def protocol_number(text: str) -> int:
    """The number of a protocol by its name, or its number as text; ValueError for no protocol."""
    if re.fullmatch(r"\d{1,3}", text) and int(text) < 256:
        return int(text)
    number = PROTOCOLS.get(text.lower())
    if number is None:
        hint = advice(text.lower(), PROTOCOLS) or "; a protocol has a name, as tcp, or a number"
        raise ValueError(f"no protocol {text!r}{hint}")
    return number


def period(text: str, zone: tzinfo | None = UTC) -> tuple[int, int]:
    """The first and last nanosecond of a time or of a range A..B; ValueError for anything else.

    zone   of a time without an offset; None: the machine's
    """
    first, dots, second = text.partition("..")
    start_ns, stop_ns = _time(first.strip(), zone)
    if dots:
        stop_ns = _time(second.strip(), zone)[1]
    if stop_ns < start_ns:
        raise ValueError(f"the time {text!r} ends before it begins")
    return start_ns, stop_ns


def _time(text: str, zone: tzinfo | None) -> tuple[int, int]:
    """The first and last nanosecond of a time."""
    match = _TIME.fullmatch(text)
    if match is None:
        match = _SECONDS.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is no time such as 2026-11-28T19:39:30Z, or a range of two with .. in"
                " between"
            )
        start = int(match["second"]) * S_NS
        length = S_NS
    else:
        start, length = _of_date(text, match, zone)
    part = match["part"]
    if part is not None:
        start, length = start + int(part.ljust(9, "0")), 10 ** (9 - len(part))
    if start > MAX_SECONDS * S_NS:
        raise ValueError(f"the time {text!r} is after the year 9999")
    return start, start + length - 1


def _of_date(text: str, match: re.Match[str], zone: tzinfo | None) -> tuple[int, int]:
    """The second of a date and time, in nanoseconds, and how long the unit is that it names."""
    hour, minute, second = match["hour"], match["minute"], match["second"]
    leap = second == "60"  # stands for the second before it, as in POSIX
    try:
        time = datetime.fromisoformat(
            f"{match['date']}T{hour or '00'}:{minute or '00'}:{'59' if leap else second or '00'}"
        )
        start = _since_1970(time, match["zone"], zone, text)
        if hour is None:
            next_day = _since_1970(time + timedelta(days=1), None, zone, text)
            return start, next_day - start  # of 23 or 25 hours, if clocks change
    except (OverflowError, OSError):
        raise ValueError(f"the time {text!r} is out of range") from None
    except ValueError as error:
        raise ValueError(f"{text!r} is no time: {error}") from None
    length = S_NS if second is not None else MINUTE_NS if minute is not None else 60 * MINUTE_NS
    return start, length


def _since_1970(time: datetime, offset: str | None, zone: tzinfo | None, text: str) -> int:
    """Nanoseconds since 1970 of a local time; ValueError for one that is ambiguous."""
    if offset in ("Z", "z"):
        time = time.replace(tzinfo=UTC)
    elif offset is not None:
        time = datetime.fromisoformat(f"{time.isoformat()}{offset}")
    else:
        both = [time.replace(fold=fold, tzinfo=zone) for fold in (0, 1)]
        if zone is None:
            both = [each.astimezone() for each in both]
        if both[0].utcoffset() != both[1].utcoffset():
            raise ValueError("clocks change then, so that it needs an offset, as in 02:30:00+01:00")
        time = both[0]
    return (time - _EPOCH) // timedelta(seconds=1) * S_NS


def questions_of(
    lines: Iterable[str],
    name: str,
    *,
    protocol: str | None = None,
    peer: str | None = None,
    within_s: float = 0,
    zone: tzinfo | None = UTC,
) -> Iterator[Question]:
    """The questions of a file: TIME, ADDRESS[:PORT], and if wanted PROTOCOL and PEER[:PORT].

    Columns are separated by commas, semicolons, tabs or spaces; "" and - stand for no value. Empty
    lines, what follows a # and a first line with the names of columns are passed over. `protocol`
    and `peer` are of lines that have none. ValueError names the file (`name`) and the line.
    """
    number = 0
    for at, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip().lstrip("\ufeff")
        if not text or (number == 0 and re.match(r"\W?(time|at|date)\b", text, re.I)):
            continue
        separator = next((mark for mark in ",;\t" if mark in text), None)
        words = [word.strip().strip('"') for word in text.split(separator)]
        if separator is None and len(words) > 2 and re.match(r"\d\d:\d\d", words[1]):
            words[:2] = [" ".join(words[:2])]  # a space between date and time
        given: list[str | None] = [None if word in ("", "-") else word for word in words]
        number += 1
        try:
            if not 2 <= len(words) <= 4 or given[0] is None or given[1] is None:
                raise ValueError("not TIME,ADDRESS[:PORT][,PROTOCOL[,PEER[:PORT]]]")
            third, fourth = (*given[2:], None, None)[:2]
            yield question(
                given[1], given[0], protocol=third or protocol, peer=fourth or peer,
                within_s=within_s, zone=zone, number=number,
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{name}, line {at}: {error}") from None
