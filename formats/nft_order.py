"""The order of the rules of a chain, as a linked list of their handles.

Every change costs the same, however many rules there are: a rule is put at the head, at the end or
after another one, and removed. The rule before a new one may be announced later in the same commit;
the new rule waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator


class Order:
    """Handles in order, each of them once; those without a place count as last."""

    __slots__ = ("_before", "_late", "_next", "_waits_for")

    def __init__(self) -> None:
        # None stands for both ends: the head is the next of None, the last is before None
        self._next: dict[int | None, int | None] = {None: None}
        self._before: dict[int | None, int | None] = {None: None}
        self._late: dict[int, dict[int, None]] = {}
        """By the rule that is not there yet: those that stand after it."""
        self._waits_for: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._next) - 1 + len(self._waits_for)

    def __iter__(self) -> Iterator[int]:
        """The handles in order; those without a place stand at the end."""
        following, handle = self._next, self._next[None]
        while handle is not None:
            yield handle
            handle = following[handle]
        for late in self._late.values():
            yield from late

    def copy(self) -> Order:
        """The same order, which changes independently; none waits in it."""
        other = Order()
        other._next, other._before = dict(self._next), dict(self._before)
        for handle in self._late_ones():
            other._put(handle, other._before[None])
        return other

    def place(self, handle: int, change: str | None, position: int | None) -> None:
        """Put a new rule where its message says: after the rule `position`, or at an end."""
        if position is None:
            self._put(handle, None if change == "insert" else self._before[None])
        elif position in self._next:
            self._put(handle, position)
        else:
            self._late.setdefault(position, {})[handle] = None
            self._waits_for[handle] = position
            return
        placed = [handle]
        while placed and self._late:  # insert A, add B, insert C: A waits for C
            before = placed.pop()
            late = list(self._late.pop(before, ()))
            for waiting in reversed(late):
                del self._waits_for[waiting]
                self._put(waiting, before)
            placed += late

    def remove(self, handle: int) -> bool:
        """Remove a rule; False if it is not here."""
        if handle in self._next:
            before, following = self._before.pop(handle), self._next.pop(handle)
            self._next[before], self._before[following] = following, before
            return True
        position = self._waits_for.pop(handle, None)
        if position is None:
            return False
        del self._late[position][handle]
        if not self._late[position]:
            del self._late[position]
        return True

    def finish(self) -> bool:
        """Place what still waits, at the end; False if a rule waited in vain."""
        if not self._late:
            return True
        for handle in self._late_ones():
            self._put(handle, self._before[None])
        self._late.clear()
        self._waits_for.clear()
        return False

    def _late_ones(self) -> list[int]:
        return [handle for late in self._late.values() for handle in late]

    def _put(self, handle: int, before: int | None) -> None:
        following = self._next[before]
        self._next[before] = self._before[following] = handle
        self._next[handle], self._before[handle] = following, before
