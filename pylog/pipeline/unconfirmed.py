"""The records that an output has not confirmed, where they cannot be read again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from pylog.record import Record

MOST = 100_000
"""How many records are kept; then no more are read."""

Lot = Sequence[Record]


class Unconfirmed:
    """Lots of records in their order, with the positions of the commits between them."""

    def __init__(self) -> None:
        self._committed: deque[tuple[str, list[Lot]]] = deque()
        self._fresh: list[Lot] = []
        """After the last commit."""
        self._count = 0

    @property
    def is_full(self) -> bool:
        return self._count >= MOST

    def add(self, records: Lot) -> None:
        self._fresh.append(records)
        self._count += len(records)

    def commit(self, position: str) -> None:
        """All lots so far are before this position."""
        self._committed.append((position, self._fresh))
        self._fresh = []

    def forget(self, position: str) -> None:
        """What is before the position of a commit is confirmed."""
        if any(position == committed for committed, _ in self._committed):
            while self._committed:
                committed, lots = self._committed.popleft()
                self._count -= sum(map(len, lots))
                if committed == position:
                    return

    def __iter__(self) -> Iterator[tuple[str | None, list[Lot]]]:
        """Each commit with the lots before it; None: those that are not committed."""
        yield from self._committed
        yield None, self._fresh
