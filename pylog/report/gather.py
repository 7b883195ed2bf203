"""From record batches to the sums of a period and of the one before it, in one pass.

Only a few periods are held at a time: the last ones that were seen, or the one that was asked for
and the one before it. Gathered is an Aggregate, see pylog.stats: processes may each sum up a part,
and what goes between them does not grow with the log.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from pylog.report.arrays import times
from pylog.report.periods import QUARTER_S, Moment, Periods
from pylog.report.ranking import NEVER
from pylog.report.sums import Rows, Sums
from pylog.table.schemas import schema

COLUMNS = {
    "packet": ["timestamp", "observed", "source", "count", "action", "prefix", "group", "rule",
               "protocol", "saddr", "daddr", "sport", "dport", "tcp_flags", "length"],
    "flow": ["timestamp", "observed", "source", "event", "flow_type", "saddr", "nat_saddr",
             "nat_daddr", "packets", "bytes"],
    "loss": ["timestamp", "observed", "count", "size", "log", "reason"],
}  # fmt: skip
"""The columns that a report needs, by kind of record; of changes of a ruleset it needs all."""
DAY = 86_400
LEAST_PART = 0.1
"""So much of a period must be in the log, that a report is about it."""


class Gathered:
    """The sums by period, and of what has no time.

    sums      by the number of the period
    undated   the sums of records without a time: they belong to any period
    passed    records of other periods, which are in no sum
    """

    def __init__(self, periods: Periods, now: int | None = None) -> None:
        """`now`, in seconds since 1970: a period that begins a day later, or more, is that of a
        wrong clock, and is not the last one unless there is no other. None: there is none such.
        """
        self._periods = periods
        self._latest = None if now is None else periods.number(now + DAY)
        self.sums: dict[int, Sums] = {}
        self.undated = Sums()
        self.passed = 0

    def wanted(self) -> dict[str, list[str]]:
        """As an Aggregate."""
        return COLUMNS | {"ruleset": schema("ruleset").names}

    def add(self, kind: str, batch: pa.RecordBatch) -> None:
        """Add a batch of records of a kind."""
        seconds, timed = times(batch)
        quarters, at = np.unique(seconds[timed] // QUARTER_S, return_inverse=True)
        found = [self._periods.moment(quarter) for quarter in quarters.tolist()]
        dated = np.array([moment is not None for moment in found], bool)
        if not dated.all():  # a time that no calendar has
            timed[timed] = dated[at]
        moments = np.zeros((len(found), len(Moment._fields)), np.int64)
        for number, moment in enumerate(found):
            if moment is not None:
                moments[number] = moment
        each = np.zeros((batch.num_rows, len(Moment._fields)), np.int64)
        each[timed] = moments[at[dated[at]]]
        offsets, days, weekdays, hours, periods = each.T
        rows = Rows(
            batch,
            np.where(timed, seconds, NEVER),
            np.where(timed, seconds + offsets, NEVER),
            days,
            weekdays * 24 + hours,
        )
        if not timed.all():
            self.undated.add(kind, _filtered(rows, ~timed))
        for period in np.unique(periods[timed]).tolist():
            mine = timed & (periods == period)
            if not self._is_wanted(period):
                self.passed += int(mine.sum())
                continue
            own = self.sums.setdefault(period, Sums())
            own.add(kind, rows if mine.all() else _filtered(rows, mine))
            self._forget()

    def merge(self, other: Gathered) -> None:
        """Add the sums of another part."""
        self.passed += other.passed
        self.undated.merge(other.undated)
        for period, sums in other.sums.items():
            if self._is_wanted(period):
                self.sums.setdefault(period, Sums()).merge(sums)
            else:
                self.passed += sums.records.total()
        self._forget()

    def result(self) -> tuple[int | None, Sums, Sums | None]:
        """The number of the period, its sums, and those of the period before it, if there are any.

        The number is None if no record has a time in it. A last period that has just begun is left
        to the next report: at least a tenth of it must be in the log, or nothing before it.
        """
        number = self._periods.wanted
        if number is None:
            number = self._last()
            if number is not None and number - 1 in self.sums and self._has_just_begun(number):
                number -= 1
        sums = Sums()
        if number in self.sums:
            sums.merge(self.sums[number])
        sums.merge(self.undated)
        before = None if number is None else self.sums.get(number - 1)
        return number, sums, before

    def counted(self) -> tuple[int, int]:
        """How many records there were, without losses, and how many of them had no time."""
        sums = (self.undated, *self.sums.values())
        total, untimed = (
            sum(n for kind, n in of.items() if kind != "loss")
            for of in (sum((each.records for each in sums), Counter()), self.undated.records)
        )
        return total + self.passed, untimed

    def _last(self) -> int | None:
        return max([p for p in self.sums if not self._is_ahead(p)] or self.sums, default=None)

    def _is_ahead(self, period: int) -> bool:
        return self._latest is not None and period > self._latest

    def _is_wanted(self, period: int) -> bool:
        wanted = self._periods.wanted
        if wanted is not None:
            return wanted - 1 <= period <= wanted
        last = self._last()
        if last is None or self._is_ahead(last) > self._is_ahead(period):
            return True
        # the last one may have just begun
        return period >= last - 2 and self._is_ahead(last) == self._is_ahead(period)

    def _forget(self) -> None:
        """Forget the periods that are not needed any more."""
        last = self._last()
        if last is None:
            return
        for period in list(self.sums):
            if period < last - 2 or self._is_ahead(period) > self._is_ahead(last):
                self.passed += self.sums.pop(period).records.total()

    def _has_just_begun(self, number: int) -> bool:
        start, end = self._periods.bounds(number)
        last = self.sums[number].last
        return last is not None and last - start < (end - start) * LEAST_PART

    def __getstate__(self) -> dict[str, Any]:
        for sums in (self.undated, *self.sums.values()):
            sums.compact()
        return vars(self)


def _filtered(rows: Rows, mask: Any) -> Rows:
    arrays = (array[mask] for array in rows[1:])
    return Rows(rows.batch.filter(pa.array(mask)), *arrays)
