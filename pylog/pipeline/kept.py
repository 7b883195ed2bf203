"""What a stack keeps until its output has confirmed it, where its feeds cannot go back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from pylog.batch import Batch
from pylog.record import Record

KEPT = 100_000
"""How many records are kept at most, before reading stops."""


class Lines:
    """The lines of so many records, by `len`."""

    def __init__(self, data: memoryview, number: int) -> None:
        self.data, self._number = data, number

    def __len__(self) -> int:
        return self._number


Written = Batch | Lines | Sequence[Record]
"""What is written at once: columns, lines, or records or rows."""


class Kept:
    """Lots that were written: those of each commit that is not confirmed, and those after it."""

    def __init__(self) -> None:
        self._commits: deque[tuple[str, list[Written]]] = deque()
        self._fresh: list[Written] = []
        self._records = 0

    @property
    def is_full(self) -> bool:
        return self._records >= KEPT

    def add(self, lot: Written) -> None:
        """Keep what is written after the last commit."""
        self._fresh.append(lot)
        self._records += len(lot)

    def commit(self, position: str) -> None:
        """What was added so far is committed with a position."""
        self._commits.append((position, self._fresh))
        self._fresh = []

    def forget(self, position: str) -> None:
        """All up to the commit with that position is confirmed."""
        if any(position == committed for committed, _ in self._commits):
            while self._commits:
                committed, lots = self._commits.popleft()
                self._records -= sum(map(len, lots))
                if committed == position:
                    return

    def again(self, write: Callable[[Written], None], commit: Callable[[str], None]) -> None:
        """Write and commit again all that is kept."""
        for position, lots in self._commits:
            for lot in lots:
                write(lot)
            commit(position)
        for lot in self._fresh:
            write(lot)
