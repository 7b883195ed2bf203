"""The answers to several questions, counted in one pass over records or columns.

An `Aggregate` is anything that takes columns, can be sent from process to process, and can be
merged: `passes` reads logs into it. A `Summary` is one, and takes records as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from pylog.record import LossRecord, Record, kind_of, kinds
from pylog.stats.counted import RecordGroups
from pylog.stats.losses import LossTally
from pylog.stats.question import Plan, Question
from pylog.stats.result import Answer

if TYPE_CHECKING:  # which needs the extra
    import pyarrow as pa

    from pylog.stats.columns import ColumnGroups

LOSS = "loss"


class Aggregate(Protocol):
    """What is made of many records: it takes columns, and is sent between processes by pickle."""

    def wanted(self) -> Mapping[str, Sequence[str]]:
        """The columns that are needed, by kind of record."""
        ...

    def add(self, kind: str, batch: pa.RecordBatch) -> None:
        """Take the records of a kind, with the columns of `wanted`; a table may lack columns."""
        ...

    def merge(self, other: Self) -> None:
        """Take what another was made of; that one is not used any more."""
        ...


class Summary:
    """The answers to questions; all records of a pass are either columns or records.

    counts    how many records of each kind there were
    untimed   how many records of kinds that are asked for had no time
    losses    what was lost
    """

    def __init__(self, questions: Sequence[Question], kinds_wanted: Iterable[str] = ()) -> None:
        """As a Plan of each question.

        kinds_wanted   kinds of record; none: all that have a field that is asked for
        """
        self.plans = [Plan(question) for question in questions]
        self._only = frozenset(kinds_wanted)
        self._groups: list[dict[str, RecordGroups | ColumnGroups]] = [{} for _ in questions]
        self.counts: Counter[str] = Counter()
        self.untimed = 0
        self.losses = LossTally()

    def _is_asked(self, plan: Plan, kind: str) -> bool:
        return plan.fits(kind) and (not self._only or kind in self._only)

    def wanted(self) -> dict[str, list[str]]:
        """As an Aggregate: also the columns of losses."""
        from pylog.table.schemas import schema

        found = {LOSS: schema(LOSS).names}
        for kind in kinds():
            if kind != LOSS:
                names = [name for plan in self.plans if self._is_asked(plan, kind)
                         for name in plan.columns(kind)]  # fmt: skip
                found[kind] = list(dict.fromkeys(names)) or ["timestamp"]
        return found

    def add(self, kind: str, batch: pa.RecordBatch) -> None:
        """As an Aggregate."""
        from pylog.stats.columns import ColumnGroups
        from pylog.table import rows
        from pylog.table.where import untimed

        self.counts[kind] += batch.num_rows
        if kind == LOSS:
            lost = rows.records(LOSS, batch)
            self.losses.add(loss for loss in lost if isinstance(loss, LossRecord))
            return
        if any(self._is_asked(plan, kind) for plan in self.plans):
            self.untimed += untimed(batch)
        for plan, by_kind in zip(self.plans, self._groups, strict=True):
            if self._is_asked(plan, kind):
                groups = by_kind.get(kind)
                if groups is None:
                    groups = by_kind[kind] = ColumnGroups(plan, kind)
                assert isinstance(groups, ColumnGroups)
                groups.add(batch)

    def add_records(self, records: Sequence[Record]) -> None:
        """Take records."""
        by_kind: dict[str, list[Record]] = {}
        counts = Counter(map(kind_of, records))
        if len(counts) == 1:
            by_kind[next(iter(counts))] = list(records)
        else:
            for record in records:
                by_kind.setdefault(kind_of(record), []).append(record)
        self.counts += counts
        for kind, same in by_kind.items():
            if kind == LOSS:
                self.losses.add(loss for loss in same if isinstance(loss, LossRecord))
                continue
            if any(self._is_asked(plan, kind) for plan in self.plans):
                self.untimed += sum(r.timestamp_ns is None and r.observed_ns is None for r in same)
            for plan, groups_of in zip(self.plans, self._groups, strict=True):
                if self._is_asked(plan, kind):
                    groups = groups_of.get(kind)
                    if groups is None:
                        groups = groups_of[kind] = RecordGroups(plan, kind)
                    assert isinstance(groups, RecordGroups)
                    groups.add(same)

    def merge(self, other: Summary) -> None:
        """As an Aggregate."""
        self.counts += other.counts
        self.untimed += other.untimed
        self.losses.merge(other.losses)
        for own, others in zip(self._groups, other._groups, strict=True):
            for kind, groups in others.items():
                held: Any = own.get(kind)
                if held is None:
                    own[kind] = groups
                else:
                    held.merge(groups)

    def kinds_of(self, number: int) -> list[str]:
        """The kinds of which a question has records, packets first."""
        return [kind for kind in kinds() if kind in self._groups[number]]

    def answer(
        self,
        number: int = 0,
        kind: str | None = None,
        limit: int | None = None,
        order: str | None = None,
        least: Mapping[str, int] | None = None,
    ) -> Answer:
        """The answer to a question.

        kind    of the records; None: the first of `kinds_of`
        limit   of the groups at least those that `Answer.top` gives for this limit and order; None:
                all
        least   at least the groups that have one of these numbers, or more, see `Answer.values`
        """
        if kind is None:
            kind = next(iter(self.kinds_of(number)), next(iter(sorted(self._only)), "packet"))
        groups = self._groups[number].get(kind)
        if groups is None:
            groups = RecordGroups(self.plans[number], kind)
        return groups.answer(limit, order, least)

    def examples(
        self, number: int, kind: str, keys: tuple[Any, ...], place: int, limit: int
    ) -> list[tuple[Any, ...]]:
        """The least of the distinct values of a group, so many at most.

        place   of the list of distinct values in Question.distinct
        """
        groups = self._groups[number].get(kind)
        return [] if groups is None else groups.examples(keys, place, limit)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"plans": [plan.question for plan in self.plans]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"plans": list(map(Plan, state["plans"]))}
