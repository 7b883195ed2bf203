"""What is not in the counts: records that were lost, and bytes that could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from pylog.record import LossRecord

MOST_REASONS = 100
MOST_TIMES = 1000
OTHER = "other reasons"


class LossTally(msgspec.Struct):
    """What was lost.

    losses    how many losses there were
    records   records that were lost in them, as far as they were counted
    unknown   losses of an unknown number of records
    damaged   damaged places
    size      bytes in them
    cut_off   inputs that end within a record: the rest is not written yet, or was not copied
    reasons   how many losses had each reason
    times     of the losses that have one, in nanoseconds since 1970 UTC, and how many records were
              lost there (None: unknown); only the first MOST_TIMES
    """

    losses: int = 0
    records: int = 0
    unknown: int = 0
    damaged: int = 0
    size: int = 0
    cut_off: int = 0
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    times: list[tuple[int, int | None]] = msgspec.field(default_factory=list)

    def add(self, losses: Iterable[LossRecord]) -> None:
        """Count losses."""
        for loss in losses:
            self._count_reason(_reason(loss), 1)
            if loss.cut_off:
                self.cut_off += 1
                continue
            self.losses += 1
            self.records += loss.count or 0
            if loss.size is not None:
                self.damaged += 1
                self.size += loss.size
            elif loss.count is None:
                self.unknown += 1
            time = loss.observed_ns if loss.timestamp_ns is None else loss.timestamp_ns
            if time is not None and len(self.times) < MOST_TIMES:
                self.times.append((time, loss.count))

    def merge(self, other: LossTally) -> None:
        """Add the losses of another part."""
        for name in ("losses", "records", "unknown", "damaged", "size", "cut_off"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.reasons.items():
            self._count_reason(reason, count)
        self.times = (self.times + other.times)[:MOST_TIMES]

    def _count_reason(self, reason: str, count: int) -> None:
        known = reason in self.reasons or len(self.reasons) < MOST_REASONS
        self.reasons[reason if known else OTHER] += count

    def text(self) -> str:
        """What was lost, in words; "" for nothing."""
        parts = []
        if self.records or self.losses > self.damaged:
            least = "at least " if self.unknown else ""
            number = max(self.records, 1 if self.unknown else 0)
            noun = "record was" if number == 1 else "records were"
            parts.append(f"{least}{number} {noun} lost, in {_times(self.losses - self.damaged)}")
        if self.damaged:
            places = "1 place is" if self.damaged == 1 else f"{self.damaged} places are"
            parts.append(f"{places} damaged, {self.size} bytes")
        if self.cut_off:
            logs = "1 log ends" if self.cut_off == 1 else f"{self.cut_off} logs end"
            parts.append(f"{logs} within a record")
        return "; ".join(parts)


def _times(count: int) -> str:
    return "1 place" if count == 1 else f"{count} places"


def _reason(loss: LossRecord) -> str:
    """The reason without its numbers, which differ from loss to loss."""
    return (loss.reason or "not said").split(" (")[0].split(", but")[0].rstrip("0123456789 ")
