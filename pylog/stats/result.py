"""Groups of records, and which of them are shown, in which order.

Counts are exact as long as there were not more groups than are counted exactly. Then the lightest
groups are dropped, in the mergeable form of the space-saving algorithm (Agarwal, Cormode et al.,
Mergeable Summaries, 2012, section 3: it is that of Misra and Gries). A group that was dropped and
came back counts from there: it has at least `count`, and at most `at_most`. No group that is not in
the result has more than `floor`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pylog.stats.keys import BUCKET
from pylog.stats.question import Question


class Group(msgspec.Struct, frozen=True, gc=False):
    """A group.

    keys       its values, that of the time bucket first: nanoseconds since 1970 UTC
    count      packets or events that its records stand for
    at_most    how many they are at most; equal to `count` where that is exact
    records    how many records it has
    first_ns   the time of its first record, in nanoseconds since 1970 UTC; None: without times
    last_ns    that of the last one
    sums       in the order of Question.sums
    distinct   how many distinct values there are, in the order of Question.distinct
    """

    keys: tuple[Any, ...]
    count: int
    at_most: int
    records: int
    first_ns: int | None
    last_ns: int | None
    sums: tuple[int, ...]
    distinct: tuple[int, ...]


class Answer(msgspec.Struct):
    """The groups of the records of a kind.

    question        that was asked
    kind            of the records
    groups          in the order of their keys
    count           of all records, as that of a group
    records         how many there were
    sums            of all records
    floor           no group that is missing has a greater count; 0: none is missing
    distinct_floor  so many distinct values of a group may be missing; 0: none
    in_all          how many groups there are, of which `groups` may be the greatest
    """

    question: Question
    kind: str
    groups: list[Group]
    count: int
    records: int
    sums: tuple[int, ...]
    floor: int = 0
    distinct_floor: int = 0
    in_all: int = 0

    @property
    def names(self) -> list[str]:
        """The names of the keys."""
        return [*([BUCKET] if self.question.every else []), *self.question.by]

    def values(self) -> dict[str, Callable[[Group], int]]:
        """The numbers of a group by name: count, sums, distinct counts."""
        found: dict[str, Callable[[Group], int]] = {"count": lambda group: group.count}
        for i, name in enumerate(self.question.sums):
            found[name] = lambda group, i=i: group.sums[i]  # type: ignore[misc]
        for i, names in enumerate(self.question.distinct):
            found[distinct_name(names)] = lambda group, i=i: group.distinct[i]  # type: ignore[misc]
        return found

    def top(self, limit: int | None = None, order: str | None = None) -> list[Group]:
        """The groups with the greatest numbers, so many at most; of each time bucket.

        order   the name of the number, see `values`; "first" and "last" for the order of time,
                "key" for that of the keys; None: the first sum or else the count. ValueError
        """
        every = self.question.every is not None
        groups = sorted(self.groups, key=_in_order(order, self.values(), self.question))
        if every:
            groups.sort(key=lambda group: (group.keys[0] is None, group.keys[0] or 0))
        if limit is None or not every:
            return groups[:limit]
        shown: Counter[Any] = Counter()
        chosen = []
        for group in groups:
            shown[group.keys[0]] += 1
            if shown[group.keys[0]] <= limit:
                chosen.append(group)
        return chosen

    def keep(self, wanted: Callable[[Group], bool]) -> None:
        """Keep the groups that are wanted only."""
        self.groups = list(filter(wanted, self.groups))
        self.in_all = len(self.groups)
        self.count = sum(group.count for group in self.groups)
        self.records = sum(group.records for group in self.groups)
        sums = [group.sums for group in self.groups]
        self.sums = tuple(map(sum, zip(*sums, strict=True))) or (0,) * len(self.sums)


ORDERS = ("first", "last", "key")


def _in_order(
    order: str | None, values: dict[str, Callable[[Group], int]], question: Question
) -> Callable[[Group], Any]:
    if order is None:
        order = question.sums[0] if question.sums else "count"
    if order == "first":
        return lambda group: (group.first_ns is None, group.first_ns or 0, _key(group))
    if order == "last":
        return lambda group: (group.last_ns is None, -(group.last_ns or 0), _key(group))
    if order == "key":
        return _key
    if order not in values:
        raise ValueError(f"no order {order!r}; there are {', '.join((*values, *ORDERS))}")
    value = values[order]
    return lambda group: (-value(group), _key(group))


def _key(group: Group) -> tuple[Any, ...]:
    return in_order(group.keys)


def in_order(keys: Sequence[Any]) -> tuple[Any, ...]:
    """Keys in a form that can be compared: numbers before texts, None last."""
    return tuple(
        (2, "") if key is None else (0, key) if isinstance(key, int) else (1, key) for key in keys
    )


def distinct_name(names: Sequence[str]) -> str:
    """The name of a count of distinct values."""
    return f"distinct_{'_'.join(names)}"
