"""The values of a filter: what a word or a quoted text means to a field of a domain.

Each reader takes the text of a value and gives what records hold: nanoseconds for times, numbers
for the names of protocols and services, canonical text for addresses. A text that is no such value
raises a ValueError, whose text says what would be one.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import Any

from pylog.filter.names import Domain
from pylog.formats.ip_numbers import ICMPV6, PROTOCOL_NAMES
from pylog.nearest import advice
from pylog.record import Column, kinds

_INTEGER = re.compile(r"-?(0[xX][0-9a-fA-F]{1,64}|[0-9]{1,80})", re.A)
_DECIMAL = re.compile(r"-?[0-9]{1,80}\.[0-9]{1,80}", re.A)
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](\d{2})(?::(\d{2})(?::(\d{2})(?:\.(\d{1,9})\d*)?)?)?([Zz]|[+-]\d{2}:?\d{2})?)?",
    re.A,
)
_PERIOD = re.compile(r"(?:\d{1,18}(?:\.\d{1,9})?(?:ns|us|ms|s|m|h|d|w))+", re.A)
_PERIOD_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d|w)", re.A)
_UNITS_NS = {
    "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
    "d": 86400 * 10**9, "w": 7 * 86400 * 10**9,
}  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){1,7}|[0-9a-f]{4}(\.[0-9a-f]{4}){2}")
FLAGS = "ARSFUPEC"
"""The letters of TCP flags, in the order in which records have them."""
ACTIONS: Mapping[str, tuple[int, ...]] = {
    "call": (0, 9), "auth": (3,), "preauth": (4,), "account": (5,), "skip": (6,), "divert": (7,),
    "decapsulate": (8,),
}  # fmt: skip
"""Commands of IPFilter's rules whose number is the record's action: FR_CALL and so on in ip_fil.h,
of 4.x and 5.x."""
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_UPPER: dict[Column, int] = {"u8": 2**8 - 1, "u16": 2**16 - 1, "u32": 2**32 - 1, "u64": 2**64 - 1}


def integer(text: str) -> int:
    """A number, decimal or with 0x; ValueError."""
    if _INTEGER.fullmatch(text) is None:
        raise ValueError("a number")
    return int(text, 16 if "x" in text.lower() else 10)


def number(text: str) -> int | float:
    """As `integer`, or a decimal fraction; ValueError."""
    return float(text) if _DECIMAL.fullmatch(text) else integer(text)


def bounded(value: int | float, column: Column | None) -> int | float:
    """The number, which the type of the column can hold; ValueError."""
    most = None if column is None else _UPPER.get(column)
    if most is not None and not 0 <= value <= most:
        raise ValueError(f"a number from 0 to {most}")
    return value


def period_ns(text: str) -> int:
    """A duration as 90s, 1h30m or 500ms, in nanoseconds; ValueError."""
    if _PERIOD.fullmatch(text) is None:
        raise ValueError("a duration as 90s, 1h30m or 500ms")
    total = 0
    for amount, unit in _PERIOD_PART.findall(text):
        units, _, part = amount.partition(".")
        total += int(units) * _UNITS_NS[unit] + int(part.ljust(9, "0")) * _UNITS_NS[unit] // 10**9
    return total


def time_ns(text: str, now_ns: int, zone: tzinfo | None = UTC) -> int:
    """A time in nanoseconds since 1970 UTC: RFC 3339, a date, now, or before now as -2h.

    Minutes and seconds may be missing. ValueError.

    zone   of a time that states none; None is the machine's
    """
    if text == "now":
        return now_ns
    if text[:1] in ("-", "+"):
        sign = -1 if text[0] == "-" else 1
        return now_ns + sign * period_ns(text[1:])
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("a time as 2026-11-28T19:00:00Z, a date, now, or -2h for two hours ago")
    date, hour, minute, second, part, stated = match.groups()
    stated = "+00:00" if stated in ("Z", "z") else stated or ""
    clock = ":".join(number or "00" for number in (hour, minute, second))
    try:
        at = datetime.fromisoformat(f"{date}T{clock}{stated}")
        if not stated:
            at = at.astimezone() if zone is None else at.replace(tzinfo=zone)
        at = at.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"a time that exists ({error})") from None
    return (at - _EPOCH) // timedelta(seconds=1) * 10**9 + int((part or "").ljust(9, "0"))


@cache
def _protocols() -> dict[str, int]:
    numbers = {name: protocol for protocol, name in PROTOCOL_NAMES.items()}
    return numbers | {"icmp6": ICMPV6, "ipv6-icmp": ICMPV6}


def protocol(text: str) -> int:
    """A protocol, by number or name; ValueError."""
    try:
        return integer(text)
    except ValueError:
        pass
    names = _protocols()
    if text.lower() in names:
        return names[text.lower()]
    try:
        return socket.getprotobyname(text)
    except (OSError, ValueError):
        raise ValueError(f"a protocol's number or name{advice(text, names)}") from None


def port(text: str) -> int:
    """A port, by number or by the name of a service of this machine; ValueError."""
    try:
        return integer(text)
    except ValueError:
        pass
    try:
        return socket.getservbyname(text)
    except (OSError, ValueError):
        raise ValueError("a port's number, or the name of a service of this machine") from None


def seconds(text: str) -> int | float:
    """Seconds as a number, or a duration; ValueError."""
    return _period(text, 10**9)


def micros(text: str) -> int | float:
    """Microseconds as a number, or a duration; ValueError."""
    return _period(text, 1000)


def _period(text: str, unit_ns: int) -> int | float:
    try:
        return number(text)
    except ValueError:
        pass
    units, rest = divmod(period_ns(text), unit_ns)
    return units + rest / unit_ns if rest else units


def flags(text: str) -> str:
    """TCP flags in the order in which records have them; "-" for none. ValueError."""
    if text == "-":
        return text
    letters = text.upper()
    if not letters or set(letters) - set(FLAGS):
        raise ValueError(f"letters of {FLAGS}")
    return "".join(letter for letter in FLAGS if letter in letters)


def mac(text: str) -> str:
    """A link-layer address as records have it, if it is one; else the text in lower case."""
    lower = text.lower()
    if _MAC.fullmatch(lower) is None:
        return lower
    digits = re.sub(r"[:.-]", "", lower)
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def boolean(text: str) -> bool:
    """true or false; ValueError."""
    if text.lower() not in _BOOLEANS:
        raise ValueError("true or false")
    return _BOOLEANS[text.lower()]


def hex_octets(text: str) -> bytes:
    """Bytes in hex, which may have colons between them; ValueError."""
    try:
        return bytes.fromhex(text.replace(":", ""))
    except ValueError:
        raise ValueError('bytes in hex, or text in quotes as "GET /"') from None


def kind(text: str) -> str:
    """The word for a kind of record; ValueError."""
    if text not in kinds():
        raise ValueError(f"a kind of record{advice(text, kinds())}")
    return text


NUMBER_READERS: Mapping[Domain, Callable[[str], int | float]] = {
    "number": number, "port": port, "protocol": protocol, "seconds": seconds, "micros": micros,
}  # fmt: skip


def unquoted(text: str) -> str:
    """The text between quotes, where a backslash stands before a quote or another backslash.

    Any other backslash stands for itself.
    """
    return re.sub(r"""\\(["'\\])""", r"\1", text)


def json_key(value: Any) -> tuple[str, Any] | None:
    """A value of JSON with its type, so that 1, true and "1" are three; None for lists, objects."""
    if value is True or value is False:
        return "bool", value
    if isinstance(value, str):
        return "text", value
    return ("number", value) if isinstance(value, int | float) else None


def json_keys(text: str) -> list[tuple[str, Any]]:
    """What a word may stand for, by the type of the value that it is compared with."""
    keys: list[tuple[str, Any]] = [("text", text)]
    if text in ("true", "false"):
        keys.append(("bool", text == "true"))
    with suppress(ValueError):
        keys.append(("number", number(text)))
    return keys
