"""The sums of losses: how many records were lost, when, and how each loss was seen.

The first losses are kept one by one; of all others only the counts, in total and over time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pylog.report.arrays import coded, numbers
from pylog.report.ranking import NEVER
from pylog.report.timeline import Numbers, Timeline

MOST_KEPT = 1000


class Loss(NamedTuple):
    """A loss.

    second   when it was seen, since 1970; None if it has no time
    records  lost records; None if that is unknown
    size     of bytes that could not be read, if that is what was lost
    """

    second: int | None
    records: int | None
    size: int | None
    log: str | None
    reason: str | None


class LossSums:
    """The losses of a period.

    records     lost records, of losses with a count
    uncounted   losses of an unknown number of records, among them places that could not be read
    octets      bytes that could not be read
    kept        the first losses
    lines       lost records, and losses without a count, over time
    """

    def __init__(self) -> None:
        self.records = self.uncounted = self.octets = self.losses = self.untimed = 0
        self.kept: list[Loss] = []
        self.lines = Timeline(2)

    def add(self, batch: pa.RecordBatch, seconds: Numbers) -> None:
        """Add a batch of losses; a log that is only cut off has lost nothing."""
        reasons = coded(batch.column("reason"))
        cut_off = [" cut off" in (reason or "").partition(",")[0] for reason in reasons.values]
        lost = ~np.array(cut_off)[reasons.codes]
        batch, seconds = batch.filter(pa.array(lost)), seconds[lost]
        counts, sizes = numbers(batch.column("count"), 0), numbers(batch.column("size"), 0)
        counted = batch.column("count").is_valid().to_numpy(zero_copy_only=False)
        timed = seconds != NEVER
        self.losses += batch.num_rows
        self.records += int(counts.sum())
        self.uncounted += int((~counted).sum())
        self.octets += int(sizes.sum())
        self.untimed += int((~timed).sum())
        zeros = np.zeros(int(timed.sum()), np.int64)
        self.lines.add(seconds[timed], zeros, counts[timed])
        self.lines.add(seconds[timed], zeros + 1, (~counted)[timed].astype(np.int64))
        few = batch.slice(0, MOST_KEPT - len(self.kept))
        for row, second in zip(few.to_pylist(), seconds.tolist(), strict=False):
            self.kept.append(
                Loss(None if second == NEVER else second, row["count"], row["size"], row["log"],
                     row["reason"])
            )  # fmt: skip

    def merge(self, other: LossSums) -> None:
        """Add the losses of another part."""
        self.losses += other.losses
        self.records += other.records
        self.uncounted += other.uncounted
        self.octets += other.octets
        self.untimed += other.untimed
        self.kept = (self.kept + other.kept)[:MOST_KEPT]
        self.lines.merge(other.lines)
