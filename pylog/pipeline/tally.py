"""Counts what a stack reads of each of its sources, where it has several.

With one source the counts of the stack are those of the source, and nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pylog.pipeline.channel import SourceCounts
from pylog.record import LossRecord, LossRow

LOSSES: set[type] = {LossRecord, LossRow}


def losses(records: Sequence[Any]) -> tuple[int, int]:
    """How many losses are among records or rows, and how many records those count."""
    if not LOSSES & set(map(type, records)):
        return 0, 0
    counts = [int(record.count or 0) for record in records if type(record) in LOSSES]
    return len(counts), sum(counts)


class Tally:
    """The counts of a stack by the name of the source; {} where it has only one."""

    def __init__(self, sources: Sequence[str]) -> None:
        several = len(sources) > 1
        self.counts = {name: SourceCounts() for name in sources} if several else {}

    def add(self, source: str, records: Sequence[Any], size: int, others: int = 0) -> None:
        """Count records that were read, and the bytes that they were made of.

        others   how many more are in columns
        """
        counts = self.counts.get(source)
        if counts is None:
            return
        number, lost = losses(records)
        counts.records += len(records) + others
        counts.bytes += size
        counts.losses += number
        counts.lost += lost

    def leave_out(self, source: str, number: int) -> None:
        """Count records that were left out before they were decoded."""
        if source in self.counts:
            self.counts[source].records += number
