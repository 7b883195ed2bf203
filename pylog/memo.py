"""A memory that cannot be made to grow: what repeats from record to record is computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """memo[key] is make(key), remembered.

    It forgets everything when it holds `limit` keys: whoever sends packets chooses the keys.
    """

    def __init__(self, make: Callable[[K], V], limit: int = 4096) -> None:
        super().__init__()
        self._make = make
        self._limit = limit

    def __missing__(self, key: K) -> V:
        if len(self) >= self._limit:
            self.clear()
        value = self[key] = self._make(key)
        return value
