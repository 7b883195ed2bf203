"""Sets of numbers and of addresses, for any number of ranges.

Ranges are sorted and joined where they touch, so that a look-up is one binary search, whether there
are ten ranges or a hundred thousand. Addresses of IPv4 and of IPv6 are kept apart. What an address
gave is remembered by its text, up to a limit, since a log repeats its addresses.
"""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from pylog.formats.addresses import octets
from pylog.memo import Memo


class Ranges:
    """A set of numbers: those from a `low` to its `high`, both included."""

    def __init__(self, pairs: Iterable[tuple[float, float]]) -> None:
        self.lows: list[float] = []
        self.highs: list[float] = []
        for low, high in sorted(pairs):
            if low > high:
                continue
            if self.highs and low <= self.highs[-1] + (type(low) is int):
                self.highs[-1] = max(self.highs[-1], high)
            else:
                self.lows.append(low)
                self.highs.append(high)

    def __contains__(self, number: float) -> bool:
        at = bisect_right(self.lows, number) - 1
        return at >= 0 and number <= self.highs[at]

    def __len__(self) -> int:
        return len(self.lows)


class Network(NamedTuple):
    """Addresses of one family, 4 or 6: the numbers from `low` to `high`."""

    family: int
    low: int
    high: int


WIDTHS = {4: 32, 6: 128}
"""The bits of an address, by family."""


def network(text: str) -> Network:
    """An address, or a prefix as ADDRESS/LENGTH or ADDRESS/MASK; ValueError.

    inet_pton is ten times as fast as ipaddress, which counts for large files.
    """
    address, slash, length = text.partition("/")
    family = 6 if ":" in address else 4
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    try:
        number = int.from_bytes(socket.inet_pton(kind, address))
    except (OSError, ValueError):
        raise ValueError(text) from None
    width = WIDTHS[family]
    if not slash:
        return Network(family, number, number)
    try:
        host = (1 << width - _length(length, family)) - 1
    except ValueError:
        raise ValueError(text) from None
    return Network(family, number & ~host, number | host)


def _length(text: str, family: int) -> int:
    """The length of a prefix, which may be written as a mask of IPv4; ValueError."""
    if text.isascii() and text.isdecimal() and int(text) <= WIDTHS[family]:
        return int(text)
    try:
        mask = int.from_bytes(socket.inet_pton(socket.AF_INET, text))
    except OSError:
        raise ValueError(text) from None
    zeros = (mask ^ 0xFFFFFFFF) + 1
    if family == 6 or zeros & (zeros - 1):
        raise ValueError(text)
    return 33 - zeros.bit_length()


class Networks:
    """A set of addresses. `fits[text]` is whether it has the address."""

    def __init__(self, networks: Iterable[Network]) -> None:
        pairs: dict[int, list[tuple[float, float]]] = {4: [], 6: []}
        for family, low, high in networks:
            pairs[family].append((low, high))
        self.ranges = {family: Ranges(own) for family, own in pairs.items()}
        self.fits: Memo[str, bool] = Memo(self._has, 65536, 1 << 24)

    def _has(self, text: str) -> bool:
        try:
            address = octets[text]
        except ValueError:  # of another distribution's format
            return False
        return int.from_bytes(address) in self.ranges[4 if len(address) == 4 else 6]
