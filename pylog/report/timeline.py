"""Counts over time in columns, with bounded memory: the lines of a chart, the cells of a fireplot.

The span of a log is not known before its end. So a timeline begins with buckets of a second, and
takes wider ones whenever there are too many; each width divides the next. Only buckets that have
something are held: a record with a wrong clock costs a bucket, not the resolution of all others.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

WIDTHS = (1, 5, 10, 30, 60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_419_200)
"""Widths of buckets in seconds, up to four weeks."""
MOST_BUCKETS = 8192

Numbers = npt.NDArray[np.int64]


class Timeline:
    """Sums by bucket and column.

    width     of the buckets in seconds
    columns   how many columns there are; it may grow
    buckets   start of a bucket in seconds since 1970 -> the sums of the columns
    """

    def __init__(self, columns: int, most: int = MOST_BUCKETS) -> None:
        self.width = WIDTHS[0]
        self.columns = columns
        self.buckets: dict[int, Numbers] = {}
        self._most = most

    def add(self, seconds: Numbers, columns: Numbers, weights: Numbers) -> None:
        """Add weights at times, each to a column."""
        if not len(seconds):
            return
        starts = seconds // self.width * self.width
        distinct, at = np.unique(starts, return_inverse=True)
        while len(distinct) > self._most and self.width < WIDTHS[-1]:
            self._widen()
            distinct, at = np.unique(seconds // self.width * self.width, return_inverse=True)
        cells = at * self.columns + columns
        sums = exact_sums(cells, weights, len(distinct) * self.columns)
        for start, row in zip(
            distinct.tolist(), sums.reshape(len(distinct), self.columns), strict=True
        ):
            self._add(start, row)
        while len(self.buckets) > self._most and self.width < WIDTHS[-1]:
            self._widen()

    def merge(self, other: Timeline, places: Numbers | None = None) -> None:
        """Add another timeline.

        places   the column here of each column there; None: the same
        """
        while self.width < other.width:
            self._widen()
        for start, row in other.buckets.items():
            if places is not None:
                moved = np.zeros(self.columns, np.int64)
                np.add.at(moved, places[: len(row)], row)
                row = moved
            self._add(start // self.width * self.width, row)
        while len(self.buckets) > self._most and self.width < WIDTHS[-1]:
            self._widen()

    def grow(self, columns: int) -> None:
        """Have so many columns, the new ones empty."""
        self.columns = max(self.columns, columns)

    def array(self, start: int, width: int, count: int) -> Numbers:
        """The sums of `count` buckets of `width` seconds from `start` on, as [bucket, column].

        `width` must be one of WIDTHS, and no smaller than that of the timeline. What lies outside
        is left out.
        """
        made = np.zeros((count, self.columns), np.int64)
        for at, row in self.buckets.items():
            number = (at - start) // width
            if 0 <= number < count:
                made[number, : len(row)] += row
        return made

    def _add(self, start: int, row: Numbers) -> None:
        held = self.buckets.get(start)
        if held is None:
            self.buckets[start] = row.copy()
        elif len(held) < len(row):
            self.buckets[start] = row.copy()
            self.buckets[start][: len(held)] += held
        else:
            held[: len(row)] += row

    def _widen(self) -> None:
        self.width = WIDTHS[WIDTHS.index(self.width) + 1]
        held, self.buckets = self.buckets, {}
        for start, row in held.items():
            self._add(start // self.width * self.width, row)


def exact_sums(cells: Numbers, weights: Numbers, size: int) -> Numbers:
    """The sums of weights by cell, also where they are too large for floats to be exact."""
    if int(np.abs(weights).sum()) < 2**53:
        return np.bincount(cells, weights, minlength=size).astype(np.int64)
    sums = np.zeros(size, np.int64)
    np.add.at(sums, cells, weights)
    return sums


def width_for(span: int, most: int, least: Iterable[int] = ()) -> int:
    """The smallest width with which a span in seconds has at most so many buckets.

    least   widths of timelines: the result is no smaller
    """
    floor = max(least, default=0)
    for width in WIDTHS:
        if width >= floor and span <= width * most:
            return width
    return WIDTHS[-1]
