"""Which flows a reader wants: by family, zone and mark.

A filter of the kernel for these exists for dumps only, and not in all kernels. So records are
compared here. Family and zone of a flow never change. Its mark may: a record is wanted if it has
the mark, and a flow without one has the mark 0.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pylog.record import FlowRecord, Record


class MaskedMark(NamedTuple):
    """The marks m with m & mask == value."""

    value: int
    mask: int = 0xFFFFFFFF


class FlowScope:
    """What is wanted; calling it with a record says whether that is."""

    def __init__(
        self,
        families: Collection[str] | None = None,
        zones: Collection[int] | None = None,
        marks: Sequence[MaskedMark] | None = None,
    ) -> None:
        """None: all.

        families   ipv4, ipv6
        zones      a flow with a zone for each direction is in both
        """
        self._families, self._zones, self._marks = families, zones, marks

    def __bool__(self) -> bool:
        """Whether it leaves out anything."""
        return (self._families, self._zones, self._marks) != (None, None, None)

    def has_flow(self, record: FlowRecord) -> bool:
        """Whether the flow is wanted, whatever its mark is."""
        if self._families is not None and record.family not in self._families:
            return False
        if self._zones is None:
            return True
        extra = record.extra or {}
        zones = (record.zone or 0, extra.get("zone_orig"), extra.get("zone_reply"))
        return any(zone in self._zones for zone in zones)

    def __call__(self, record: Record) -> bool:
        """Whether the record is wanted."""
        if not isinstance(record, FlowRecord) or record.source != "nfct":
            return True
        if not self.has_flow(record):
            return False
        mark = record.mark or 0
        return self._marks is None or any(mark & m.mask == m.value for m in self._marks)
