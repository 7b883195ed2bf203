"""From logs to the sums of a period and of the one before it, in one pass over their columns.

Only two periods are held at a time: the last one that was seen (or the one that was asked for) and
the one before. With several processes each sums up its splits, and the sums are merged, so what
goes between processes does not grow with the log.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pylog.actions import Actions
from pylog.filter import Filter
from pylog.open_log import OnError
from pylog.report.arrays import times
from pylog.report.periods import QUARTER_S, Moment, Periods
from pylog.report.ranking import NEVER
from pylog.report.sums import Rows, Sums
from pylog.table.bulk import Bulk
from pylog.table.parallel import ROWS, Pool
from pylog.table.select import Selection
from pylog.table.splits import End, Split, SplitReader, plan
from pylog.zones import zone_of

COLUMNS: Mapping[str, Sequence[str] | None] = {
    "packet": ["timestamp", "observed", "source", "count", "action", "prefix", "group", "rule",
               "protocol", "saddr", "daddr", "dport", "length"],
    "flow": ["timestamp", "observed", "source", "event", "flow_type", "saddr", "nat_saddr",
             "nat_daddr", "packets", "bytes"],
    "loss": ["timestamp", "observed", "count", "size", "log", "reason"],
    "ruleset": None,
}  # fmt: skip
"""The kinds of records that a report shows, and the columns that it needs; None: all."""
SUMS = "sums"
"""The file in which a process leaves its sums."""


@dataclass(frozen=True)
class Wanted:
    """What a report is about; it goes to other processes as it is.

    period    see Periods
    tz        the name of the zone
    """

    period: str = "all"
    tz: str = "UTC"
    where: Filter | None = None
    actions: Actions | None = None
    layout: str | None = None
    on_error: OnError = "resync"

    def periods(self) -> Periods:
        """The periods; ValueError for a bad one, or no time zone."""
        return Periods(self.period, zone_of(self.tz))

    def selections(self) -> dict[str, Selection]:
        """The columns and rows of each kind of records; ValueError for a bad filter."""
        return {
            kind: Selection(kind, names, self.where, self.actions)
            for kind, names in COLUMNS.items()
        }


class Gathered:
    """The sums by period, and of what has no time.

    sums      by the number of the period
    undated   the sums of records without a time: they belong to any period
    passed    records of other periods, which are in no sum
    """

    def __init__(self, periods: Periods) -> None:
        self._periods = periods
        self.sums: dict[int, Sums] = {}
        self.undated = Sums()
        self.passed = 0

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

        The number is None if no record has a time in it.
        """
        number = self._periods.wanted if self._periods.wanted is not None else self._last()
        sums = Sums()
        if number in self.sums:
            sums.merge(self.sums[number])
        sums.merge(self.undated)
        before = None if number is None else self.sums.get(number - 1)
        return number, sums, before

    def compact(self) -> None:
        """Take as little memory as possible."""
        for sums in (self.undated, *self.sums.values()):
            sums.compact()

    def _last(self) -> int | None:
        return max(self.sums, default=None)

    def _is_wanted(self, period: int) -> bool:
        last = self._last() if self._periods.wanted is None else self._periods.wanted
        if last is None:
            return True
        return period >= last - 1 if self._periods.wanted is None else last - 1 <= period <= last

    def _forget(self) -> None:
        """Forget the periods that are not needed any more."""
        last = self._last()
        for period in [p for p in self.sums if last is not None and p < last - 1]:
            self.passed += self.sums.pop(period).records.total()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_periods"}

    def belongs_to(self, periods: Periods) -> None:
        """Give it its periods again, after it came from another process."""
        self._periods = periods


def add_log(gathered: Gathered, bulk: Bulk, selections: Mapping[str, Selection]) -> Iterator[None]:
    """Add all records of a log, a batch at each step."""
    for kind, batch in bulk.batches(selections):
        gathered.add(kind, batch)
        yield


def by_processes(
    gathered: Gathered, wanted: Wanted, paths: Sequence[str], jobs: int, folder: str | None = None
) -> Iterator[tuple[Split, End]]:
    """Add all records of logs, which processes sum up: the splits as they are done.

    folder   for files of the processes; None: that of temporary files
    """
    with Pool(jobs, folder) as pool:
        # few splits: sums take as long to merge as a few MB to decode
        splits = plan(paths, 2 * jobs, layout=wanted.layout, on_error=wanted.on_error)
        for split, part, end in pool.folders(splits, _Work(wanted)):
            with open(os.path.join(part, SUMS), "rb") as file:
                sums: Gathered = pickle.load(file)  # of our own process
            sums.belongs_to(wanted.periods())
            gathered.merge(sums)
            yield split, end


@dataclass(frozen=True)
class _Work:
    """Sums up a split, in a process of its own."""

    wanted: Wanted

    def __call__(self, split: Split, folder: str) -> End:
        selections = self.wanted.selections()
        gathered = Gathered(self.wanted.periods())
        with SplitReader(split) as reader:
            for kind, batch in reader.batches(selections, ROWS):
                gathered.add(kind, batch)
            end = reader.ended()
        end.tally.left_out = sum(selection.left_out for selection in selections.values())
        gathered.compact()
        with open(os.path.join(folder, SUMS), "wb") as file:
            pickle.dump(gathered, file, pickle.HIGHEST_PROTOCOL)
        return end


def _filtered(rows: Rows, mask: Any) -> Rows:
    arrays = (array[mask] for array in rows[1:])
    return Rows(rows.batch.filter(pa.array(mask)), *arrays)
