"""The wall clock for what deletes by age: jumps of the clock do not count until they have lasted.

A machine whose clock is set a year ahead by mistake would else delete all that is younger than a
year, and could not take it back. So the time goes on evenly from what the clock showed first; a
clock that has been another one for a day is believed. Being slewed, as NTP does, is no jump.
"""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP_S = 5.0
"""A difference between two looks at the clock that is no jump."""
SETTLED_S = 86_400.0
"""For how long a clock that has jumped must go on evenly until it is believed."""


class EvenClock:
    """Seconds since 1970, without jumps."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()
        """What the wall clock shows when the monotonic one shows 0."""
        self._other: tuple[float, float] | None = None
        """The offset after a jump, and since when by the monotonic clock it is so."""

    def now(self) -> float:
        """The time; it is to be asked for now and then, so that a slow drift is no jump."""
        at = self._monotonic()
        offset = self._wall() - at
        if abs(offset - self._offset) <= JUMP_S:
            self._offset, self._other = offset, None
        elif self._other is None or abs(offset - self._other[0]) > JUMP_S:
            self._other = offset, at
        elif at - self._other[1] >= SETTLED_S:
            self._offset, self._other = offset, None
        else:
            self._other = offset, self._other[1]
        return at + self._offset

    def is_ahead(self) -> bool:
        """Whether the wall clock has jumped ahead, and nobody knows yet whether it is right."""
        return self._wall() > self.now() + JUMP_S
