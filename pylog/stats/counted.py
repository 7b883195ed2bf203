"""Groups of records that come one by one: of live sources and pipes, and without the extra `arrow`.

Exact up to a number of groups; beyond it see pylog.stats.result. `pylog.stats.columns` does the
same with columns, many records at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest
from typing import Any

from pylog.record import Record, kind_of
from pylog.stats.question import MOST_KEYS, MOST_PAIRS, Plan, getters, summed
from pylog.stats.result import Answer, Group, in_order

Keys = tuple[Any, ...]
ABSENT = (None,)
"""A record without the only field of a list has no value of it, as in SQL."""
GUARD, COUNT, RECORDS, FIRST, LAST, SUMS = range(6)
"""The places of a group's numbers; GUARD is its counter in the summary, COUNT what was seen."""


class RecordGroups:
    """The groups of the records of a kind."""

    def __init__(self, plan: Plan, kind: str) -> None:
        self.plan, self.kind = plan, kind
        self._limit = plan.question.keys or MOST_KEYS
        self._groups: dict[Keys, list[Any]] = {}
        self._distinct: list[dict[Keys, set[Keys]]] = [{} for _ in plan.distinct]
        self._pairs = [0] * len(plan.distinct)
        self._readers: dict[type, Any] = {}
        self.count = self.records = self.floor = self.distinct_floor = 0
        self.sums = [0] * len(plan.question.sums)

    def add(self, records: Iterable[Record]) -> None:
        """Count records of the kind."""
        groups = self._groups
        width = len(self.plan.question.sums)
        of_type: type | None = None
        for record in records:
            if type(record) is not of_type:
                of_type = type(record)
                keys, sums, distinct = self._reading(of_type)
                single = keys[0] if len(keys) == 1 else None
            key = (single(record),) if single else tuple([read(record) for read in keys])
            weight = getattr(record, "count", None)
            weight = 1 if weight is None else weight
            time = record.timestamp_ns
            if time is None:
                time = record.observed_ns
            group = groups.get(key)
            if group is None:
                groups[key] = group = [0, 0, 0, time, time, *[0] * width]
            group[GUARD] += weight
            group[COUNT] += weight
            group[RECORDS] += 1
            if time is not None:
                if group[FIRST] is None:
                    group[FIRST] = group[LAST] = time
                elif time > group[LAST]:
                    group[LAST] = time
                elif time < group[FIRST]:
                    group[FIRST] = time
            for i, read in enumerate(sums):
                value = read(record)
                group[SUMS + i] += value
                self.sums[i] += value
            for i, reads in enumerate(distinct):
                value = tuple([read(record) for read in reads])
                if value == ABSENT:
                    continue
                values = self._distinct[i].setdefault(key, set())
                before = len(values)
                values.add(value)
                self._pairs[i] += len(values) - before
            self.count += weight
            self.records += 1
            if len(groups) > self._limit:
                self._drop()
            if distinct and max(self._pairs) > self._limit * MOST_PAIRS:
                self._drop_pairs()

    def add_counts(self, counts: Mapping[Keys, int], time_ns: int | None) -> None:
        """Count records whose keys are counted already; without sums and distinct values.

        time_ns   the time of the last of them
        """
        groups = self._groups
        for key, count in counts.items():
            group = groups.get(key)
            if group is None:
                groups[key] = [count, count, count, time_ns, time_ns]
            else:
                group[GUARD] += count
                group[COUNT] += count
                group[RECORDS] += count
                group[LAST] = time_ns
            self.count += count
        self.records += sum(counts.values())
        if len(groups) > self._limit:
            self._drop()

    def _reading(self, kind: Any) -> Any:
        """The functions that read keys, sums and distinct values of a type of record."""
        reading = self._readers.get(kind)
        if reading is None:
            name = kind_of(kind)
            sums: list[Callable[[Any], int]] = [
                summed(each, name) for each in self.plan.question.sums
            ]
            keys = getters(self.plan.keys, kind)
            distinct = [getters(each, kind) for each in self.plan.distinct]
            reading = self._readers[kind] = keys, sums, distinct
        return reading

    def merge(self, other: RecordGroups) -> None:
        """Add the groups of other records, which may not be used any more."""
        for key, numbers in other._groups.items():
            group = self._groups.get(key)
            if group is None:
                self._groups[key] = numbers
                continue
            for place in (GUARD, COUNT, RECORDS, *range(SUMS, len(group))):
                group[place] += numbers[place]
            times = [t for t in (group[FIRST], group[LAST], numbers[FIRST], numbers[LAST])
                     if t is not None]  # fmt: skip
            if times:
                group[FIRST], group[LAST] = min(times), max(times)
        for i, values in enumerate(other._distinct):
            for key, pairs in values.items():
                own = self._distinct[i].setdefault(key, set())
                self._pairs[i] -= len(own)
                own |= pairs
                self._pairs[i] += len(own)
        self.count += other.count
        self.records += other.records
        self.floor += other.floor
        self.distinct_floor += other.distinct_floor
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        if len(self._groups) > self._limit:
            self._drop()

    def _drop(self) -> None:
        """Drop the lightest groups: half of those that may be there remain."""
        kept = self._limit // 2
        guards = nlargest(kept + 1, (group[GUARD] for group in self._groups.values()))
        least = guards[-1]
        self.floor += least
        lost = 0
        for key, group in list(self._groups.items()):
            group[GUARD] -= least
            if group[GUARD] <= 0:
                del self._groups[key]
                for i, values in enumerate(self._distinct):
                    size = len(values.pop(key, ()))
                    self._pairs[i] -= size
                    lost = max(lost, size)
        self.distinct_floor += lost

    def _drop_pairs(self) -> None:
        """Drop the distinct values of the groups that have the fewest of them."""
        for i, values in enumerate(self._distinct):
            if self._pairs[i] <= self._limit * MOST_PAIRS:
                continue
            lost, most = 0, self._limit * MOST_PAIRS // 2
            *others, largest = sorted(values, key=lambda key: len(values[key]))
            for key in others:
                if self._pairs[i] <= most:
                    break
                size = len(values.pop(key))
                self._pairs[i] -= size
                lost = max(lost, size)
            while self._pairs[i] > most:
                values[largest].pop()
                self._pairs[i] -= 1
                lost += 1
            self.distinct_floor += lost

    def examples(self, key: Keys, place: int, limit: int) -> list[Keys]:
        """The least of the distinct values of a group, so many at most.

        place   of the list of distinct values in Question.distinct
        """
        return sorted(self._distinct[place].get(key, ()), key=in_order)[:limit]

    def answer(
        self,
        limit: int | None = None,
        order: str | None = None,
        least: Mapping[str, int] | None = None,
    ) -> Answer:
        """The groups so far; all of them, whatever is asked for."""
        groups = [
            Group(
                key, n[COUNT], max(n[COUNT], n[GUARD] + self.floor), n[RECORDS], n[FIRST], n[LAST],
                tuple(n[SUMS:]), tuple(len(values.get(key, ())) for values in self._distinct),
            )
            for key, n in self._groups.items()
        ]  # fmt: skip
        return Answer(
            self.plan.question, self.kind, groups, self.count, self.records, tuple(self.sums),
            self.floor, self.distinct_floor, len(groups),
        )  # fmt: skip
