"""A memory that cannot be made to grow: what repeats from record to record is computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(dict[K, V]):
    """A dict that forgets everything when it holds `limit` keys: `keep` puts one more into it.

    Whoever sends packets chooses the keys.
    """

    def __init__(self, limit: int = 4096) -> None:
        super().__init__()
        self._limit = limit

    def keep(self, key: K, value: V) -> V:
        """Let the key have the value, which is given back."""
        if len(self) >= self._limit:
            self.clear()
        self[key] = value
        return value


class Memo(Bounded[K, V]):
    """memo[key] is make(key), remembered."""

    def __init__(self, make: Callable[[K], V], limit: int = 4096) -> None:
        super().__init__(limit)
        self._make = make

    def __missing__(self, key: K) -> V:
        if len(self) >= self._limit:
            self.clear()
        value = self[key] = self._make(key)
        return value
