"""Intervals of time, and which of them have a time in common with another one.

They are sorted by their starts. Beside them lies a tree with the latest stop of each half, quarter
and so on of the list, so that a search passes over all parts that had ended before: it costs what
it gives, and not what the list holds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Intervals(Generic[T]):
    """Things with a start and a stop, both included; a stop may lie before its start.

    given   of each its start, its stop and what it is
    """

    def __init__(self, given: Iterable[tuple[int, int, T]]) -> None:
        ordered = sorted(given, key=lambda each: each[0])
        self._starts = [start for start, _, _ in ordered]
        self._things = [thing for _, _, thing in ordered]
        leaves = 1
        while leaves < len(ordered):
            leaves *= 2
        self._leaves = leaves
        lowest = min((stop for _, stop, _ in ordered), default=0) - 1
        stops = [lowest] * leaves + [stop for _, stop, _ in ordered]
        stops += [lowest] * (2 * leaves - len(stops))
        for node in range(leaves - 1, 0, -1):
            stops[node] = max(stops[2 * node], stops[2 * node + 1])
        self._stops = stops
        """Node 1 is the root, 2n and 2n + 1 the children of node n; the last half are leaves."""

    def meeting(self, low: int, high: int) -> Iterator[T]:
        """Those that start at `high` or before and stop at `low` or after; the last to start comes
        first.
        """
        end = bisect_right(self._starts, high)
        stops, leaves = self._stops, self._leaves
        nodes = [(1, 0, leaves)]
        while nodes:
            node, first, size = nodes.pop()
            if first >= end or stops[node] < low:
                continue
            if node >= leaves:
                yield self._things[first]
                continue
            half = size // 2
            nodes += ((2 * node, first, half), (2 * node + 1, first + half, half))
