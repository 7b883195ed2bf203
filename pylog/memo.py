"""A memory that cannot be made to grow: what repeats from record to record is computed once.

Whoever sends packets chooses the keys, and how long they are: both their number and their size
are bounded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

ROOM = 1 << 22
"""How many bytes a memory takes, about."""


class Bounded(dict[K, V]):
    """A dict that forgets everything when it is full: `keep` puts one more into it.

    limit   how many keys it holds
    room    how many bytes keys and values take; a larger part of it than 1/16 is not kept
    """

    def __init__(self, limit: int = 4096, room: int = ROOM) -> None:
        super().__init__()
        self._limit, self._room = limit, room
        self._left = room

    def keep(self, key: K, value: V) -> V:
        """Let the key have the value, which is given back."""
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
    """memo[key] is make(key), remembered."""

    def __init__(self, make: Callable[[K], V], limit: int = 4096, room: int = ROOM) -> None:
        super().__init__(limit, room)
        self._make = make

    def __missing__(self, key: K) -> V:
        return self.keep(key, self._make(key))


def weight(value: object) -> int:
    """How many bytes a value takes, about: text, bytes, and what holds them."""
    if isinstance(value, str | bytes):
        return sys.getsizeof(value)
    if isinstance(value, tuple | list):
        return 64 + sum([weight(part) for part in value])
    if isinstance(value, dict):
        return 64 + sum([weight(key) + weight(part) for key, part in value.items()])
    return 8 if value is None else 64
