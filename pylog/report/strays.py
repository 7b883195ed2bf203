"""The span of a report's pictures, without the records of wrong clocks.

A machine whose clock is not set yet says 1970; one with a wrong clock says 2106. A record of it
would stretch the axis of time over years of nothing. So such records are counted and left out of
all pictures, and the page says how many there are.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from pylog.report.periods import Periods
from pylog.report.sums import Sums

DAY = 86_400
STRAY = 0.001
"""A share of records so small does not stretch the axis of time over a span that is otherwise
empty: their clock was wrong. Of MANY records one may be such.
"""
MANY = 100
EARLIEST = 631_152_000
"""1990: a clock that was not set yet says 1970 or 1980."""


def drawn(periods: Periods, number: int | None, now: Sums, made: int) -> tuple[int, int, int]:
    """The span of the pictures in seconds, and how many packets lie outside of it.

    It is that of the period, or as much of it as is over; or of all records but for a few strays
    and those of clocks that were not set: before 1990, or later than the report.
    """
    if now.first is None or now.last is None:
        return 0, 1, 0
    if periods.kind != "all" and number is not None:
        begin, end = periods.bounds(number)
        return begin, end if made >= end else min(end, now.last + 1), 0
    starts = sorted(now.lines.buckets)
    if not starts:
        return now.first, now.last + 1, 0
    sums = np.array([int(now.lines.buckets[at].sum()) for at in starts])
    least, most = (bisect_left(starts, time) for time in (EARLIEST, made + DAY))
    if least >= most:
        least, most = 0, len(starts)
    running = np.cumsum(sums[least:most])
    few = running[-1] * STRAY / 2
    if running[-1] >= MANY:
        few = max(few, 1.0)
    low = least + int(np.searchsorted(running, few, side="right"))
    high = least + int(np.searchsorted(running, running[-1] - few, side="left"))
    low, high = min(low, most - 1), min(high, most - 1)
    core = starts[high] + now.lines.width - starts[low]
    while low > least and starts[low] - starts[low - 1] <= core:
        low -= 1  # no longer without a record than all others together
    while high < most - 1 and starts[high + 1] - starts[high] <= core:
        high += 1
    begin = starts[low] if low else now.first
    end = starts[high] + now.lines.width if high < len(starts) - 1 else now.last + 1
    return begin, end, int(sums[:low].sum() + sums[high + 1 :].sum())
