"""How often each key occurs, with a trend over time, in bounded memory.

Rows of (key, time, sums) are grouped by Arrow whenever many have gathered. If too many are left,
first the times become coarser, and then the rarest keys are dropped. Up to about 200,000 keys all
counts are exact. Beyond that a count may be too low by at most `error`, which the report shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.report.timeline import WIDTHS, Numbers

MOST_ROWS = 400_000
TREND = 64
"""The most points of a trend that are held when there are too many rows."""
NEVER = -(2**62)
"""The time of what has none."""


class Ranking:
    """Sums by key.

    error   how much too low a count may be; 0 as long as all keys are held
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self.error = 0
        self._most = most
        self._width = 60
        self._parts: list[pa.Table] = []
        self._rows = 0
        self._totals: dict[Any, tuple[int, int]] | None = None

    def add(self, keys: pa.Array, seconds: Numbers, first: Numbers, second: Numbers) -> None:
        """Add rows; those with a null key are left out.

        seconds   the time of each, NEVER for none
        first     what the ranking goes by, as packets
        second    another sum, as blocked packets or bytes
        """
        at = np.where(seconds == NEVER, NEVER, seconds // self._width * self._width)
        part = pa.table({"key": keys, "at": at, "first": first, "second": second})
        if keys.null_count:
            part = part.filter(pc.is_valid(part["key"]))
        if part.num_rows:
            self._keep(_grouped(part))

    def merge(self, other: Ranking) -> None:
        """Add another ranking."""
        self.error += other.error
        self._width = max(self._width, other._width)
        for part in other._parts:
            self._keep(part)

    def totals(self) -> dict[Any, tuple[int, int]]:
        """The sums of each key, those with the highest first sum first."""
        if not self._parts:
            return {}
        if self._totals is None:
            table = pa.concat_tables(self._parts).group_by(["key"], use_threads=False)
            table = table.aggregate([("first", "sum"), ("second", "sum")])
            table = table.sort_by(
                [("first_sum", "descending"), ("second_sum", "descending"), ("key", "ascending")]
            )
            columns = [table[name].to_pylist() for name in ("key", "first_sum", "second_sum")]
            self._totals = {key: (one, two) for key, one, two in zip(*columns, strict=True)}
        return self._totals

    def trends(self, keys: Sequence[Any], start: int, width: int, count: int) -> list[list[int]]:
        """The first sums of keys over time: `count` buckets of `width` seconds from `start` on."""
        trends = np.zeros((len(keys), count), np.int64)
        if not self._parts or not keys:
            return trends.tolist()
        table = pa.concat_tables(self._parts)
        wanted = pa.array(keys, table["key"].type)
        rows = table.filter(pc.is_in(table["key"], value_set=wanted))
        place = pc.index_in(rows["key"], value_set=wanted).to_numpy()
        number = (rows["at"].to_numpy() - start) // width
        inside = (number >= 0) & (number < count)
        np.add.at(trends, (place[inside], number[inside]), rows["first"].to_numpy()[inside])
        return trends.tolist()

    @property
    def width(self) -> int:
        """The least width of a trend, in seconds."""
        return self._width

    def compact(self) -> None:
        """Group all rows that are held."""
        if not self._parts:
            return
        table = self._regrouped(pa.concat_tables(self._parts))
        if table.num_rows > self._most // 2:
            distinct = len(pc.unique(table["at"]))
            while distinct > TREND and self._width < WIDTHS[-1]:
                self._width = WIDTHS[WIDTHS.index(self._width) + 1]
                table = self._regrouped(table)
                distinct = len(pc.unique(table["at"]))
        if table.num_rows > self._most // 2:
            table = self._without_rare(table)
        self._parts, self._rows = [table], table.num_rows

    def _keep(self, part: pa.Table) -> None:
        self._totals = None
        self._parts.append(part)
        self._rows += part.num_rows
        if self._rows > self._most:
            self.compact()

    def _regrouped(self, table: pa.Table) -> pa.Table:
        at = table["at"].to_numpy()
        at = np.where(at == NEVER, NEVER, at // self._width * self._width)
        return _grouped(table.set_column(1, "at", pa.array(at)))

    def _without_rare(self, table: pa.Table) -> pa.Table:
        """The rows of the most frequent keys, as many as there is room for."""
        totals = table.group_by(["key"], use_threads=False).aggregate(
            [("first", "sum"), ("first", "count")]
        )
        totals = totals.sort_by([("first_sum", "descending")])
        room = np.cumsum(totals["first_count"].to_numpy()) <= self._most // 2
        kept = totals.filter(pa.array(room))
        self.error += int(totals["first_sum"][kept.num_rows].as_py())
        return table.filter(pc.is_in(table["key"], value_set=kept["key"].combine_chunks()))


def _grouped(table: pa.Table) -> pa.Table:
    sums = [("first", "sum"), ("second", "sum")]
    made = table.group_by(["key", "at"], use_threads=False).aggregate(sums)
    return made.select(["key", "at", "first_sum", "second_sum"]).rename_columns(
        ["key", "at", "first", "second"]
    )
