"""Sizes, times and rates as people write them: 100M, 5m, 100/s."""

from __future__ import annotations

import re

SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _scaled(text: str, units: dict[str, int], what: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]?)", text)
    if not match or match[2] not in units or float(match[1]) == 0:
        letters = ", ".join(unit for unit in units if unit)
        raise ValueError(f"{text!r} is no {what}: a number above 0, and {letters}")
    return float(match[1]) * units[match[2]]


def size(text: str) -> int:
    """A number of bytes; ValueError."""
    return int(_scaled(text, SIZES, "size"))


def seconds(text: str) -> float:
    """A time in seconds; ValueError."""
    return _scaled(text, TIMES, "time")


def rate(text: str) -> float:
    """A number a second, as 100/s, 6/m; ValueError."""
    number, slash, unit = text.partition("/")
    if not slash or not re.fullmatch(r"\d+(?:\.\d+)?", number) or not float(number):
        raise ValueError(f"{text!r} is no rate: a number above 0, / and s, m, h or d")
    if unit not in TIMES or not unit:
        raise ValueError(f"{text!r} is no rate: after / must be s, m, h or d")
    return float(number) / TIMES[unit]
