"""Values of an index with the versions in which they were in force, by a key.

To ask for an earlier version costs no copy of the index: a value that is gone stays with its last
version until nobody can ask for that any more. What a change costs does not depend on the size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ALIVE = 1 << 62
"""Where a span ends that has not ended."""


class Span(Generic[V]):
    """A value that is in force from version `start` until before version `end`."""

    __slots__ = ("end", "start", "value")

    def __init__(self, value: V, start: int) -> None:
        self.value = value
        self.start, self.end = start, ALIVE


class History:
    """The versions that several Spans have in common, and what has ended in them."""

    __slots__ = ("_ended", "changes", "count", "now", "oldest")

    def __init__(self) -> None:
        self.now = 0
        """The version that changes now."""
        self.oldest = 0
        """The oldest version that is held."""
        self.changes = 0
        """How many there were."""
        self.count = 0
        """How many values are held for earlier versions only."""
        self._ended: deque[tuple[int, int, Spans[Any, Any] | None, Any]] = deque()

    def retire(self, weight: int, spans: Spans[Any, Any] | None = None, key: Any = None) -> None:
        """Note that something ended with this version: the oldest ended span of a key, or more.

        weight   how many values that is
        """
        self.count += weight
        self._ended.append((self.now, weight, spans, key))

    def forget(self, version: int) -> None:
        """Drop what only versions before `version` had."""
        self.oldest = version
        while self._ended and self._ended[0][0] <= version:
            _, weight, spans, key = self._ended.popleft()
            self.count -= weight
            if spans is not None:
                spans.drop_oldest(key)


class Spans(Generic[K, V]):
    """Values by a key, in the order in which they came."""

    __slots__ = ("_alive", "_ended", "_history", "size")

    def __init__(self, history: History) -> None:
        self._history = history
        self._alive: dict[K, dict[Span[V], None]] = {}
        self._ended: dict[K, deque[Span[V]]] = {}
        self.size = 0
        """How many are in force."""

    def add(self, key: K, value: V) -> Span[V]:
        """Put a value in force from this version on."""
        span = Span(value, self._history.now)
        self._alive.setdefault(key, {})[span] = None
        self._history.changes += 1
        self.size += 1
        return span

    def end(self, key: K, span: Span[V]) -> None:
        """Put a value out of force from this version on."""
        history = self._history
        history.changes += 1
        self.size -= 1
        alive = self._alive[key]
        del alive[span]
        if not alive:
            del self._alive[key]
        span.end = history.now
        if span.start < span.end:
            self._ended.setdefault(key, deque()).append(span)
            history.retire(1, self, key)

    def since(self, key: K, version: int) -> Iterator[Span[V]]:
        """The values that are or were in force in that version or later."""
        yield from self._alive.get(key, ())
        for span in reversed(self._ended.get(key, ())):
            if span.end <= version:
                return
            yield span

    def at(self, key: K, version: int) -> Sequence[V]:
        """The values in force in that version."""
        if key not in self._alive and key not in self._ended:
            return ()
        return [span.value for span in self.since(key, version) if span.start <= version]

    def drop_oldest(self, key: K) -> None:
        """Drop the value of a key that ended first."""
        ended = self._ended[key]
        ended.popleft()
        if not ended:
            del self._ended[key]
