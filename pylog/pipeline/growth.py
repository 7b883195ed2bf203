"""How long ago something grew beyond a place: the lag of a stack, whatever the wall clock does.

Samples of the size and of the monotonic time are kept, a bounded number: when there are too many,
every second one is forgotten, and the newer ones are taken more seldom.
"""

from __future__ import annotations

from bisect import bisect_right

SAMPLE_S = 0.1
"""How often a sample is kept at first."""
MOST = 4096


class Growth:
    """The growth of a journal or queue."""

    def __init__(self, size: int, now_s: float) -> None:
        """
        size    how large it is at the beginning
        now_s   by the monotonic clock
        """
        self._sizes, self._times = [size], [now_s]
        self._every_s = SAMPLE_S

    def note(self, size: int, now_s: float) -> None:
        """It has grown to that size at most; sizes never shrink."""
        if size <= self._sizes[-1]:
            return
        if len(self._times) > 1 and now_s - self._times[-1] < self._every_s:
            self._sizes[-1] = size
            return
        self._sizes.append(size)
        self._times.append(now_s)
        if len(self._times) > MOST:
            del self._sizes[1:-1:2], self._times[1:-1:2]
            self._every_s *= 2

    def age_s(self, place: int, now_s: float) -> float:
        """How long ago it grew beyond a place, within the distance of samples; of what was there at
        the beginning, since then.
        """
        at = bisect_right(self._sizes, place)
        if at == len(self._sizes):
            return 0.0
        return max(0.0, now_s - self._times[at])
