"""Bounded memories: what repeats from record to record is computed once.

Whoever sends packets chooses the keys and their length, so both the number of the keys and their
size are bounded. A full memory forgets everything, so that a hit needs no bookkeeping.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

ROOM = 1 << 22
"""About how many bytes a memory takes at most."""


class Bounded(dict[K, V]):
    """A dict that `keep` adds to, and that forgets everything when it is full.

    limit   how many keys it holds
    room    about how many bytes its keys and values take; more than 1/16 of it at once is not kept
    """

    def __init__(self, limit: int = 4096, room: int = ROOM) -> None:
        super().__init__()
        self._limit, self._room = limit, room
        self._left = room

    def keep(self, key: K, value: V) -> V:
        """Add a key with its value, and return the value."""
        size = weight(key) + weight(value)
        if size > self._room // 16:
            return value
        self._left -= size
        if len(self) >= self._limit or self._left < 0:
            self.clear()
            self._left = self._room - size
        self[key] = value
        return value


class Memo(Bounded[K, V]):
    """A function with a memory: memo[key] is make(key)."""

    def __init__(self, make: Callable[[K], V], limit: int = 4096, room: int = ROOM) -> None:
        super().__init__(limit, room)
        self._make = make

    def __missing__(self, key: K) -> V:
        return self.keep(key, self._make(key))


def weight(value: object) -> int:
    """About how many bytes a value takes: text, bytes, and what holds them."""
    if isinstance(value, str | bytes):
        return sys.getsizeof(value)
    if isinstance(value, tuple | list):
        return 64 + sum([weight(part) for part in value])
    if isinstance(value, dict):
        return 64 + sum([weight(key) + weight(part) for key, part in value.items()])
    return 8 if value is None else 64
