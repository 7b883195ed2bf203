"""Which times a log of flows covers, and where flows may be hidden.

A log covers the time from its first to its last record. A loss hides what began or ended between
the record before it and the record after it. What began in it stays hidden as long as it lives,
unless a listing follows (via snapshot or repair), which has all living flows. So "nobody had this
address" is an answer only for a time that a log covers, and that no loss reaches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from pylog.record import FlowRecord, LossRecord, Record, rfc3339
from pylog.who.intervals import Intervals

LISTED = ("snapshot", "repair")
"""The values of `via` in records of a listing of all flows."""
LOGS = (None, "nat", "state", "nfct")
"""The logs whose losses hide flows."""
FOREVER = 1 << 63
"""A time after all others, in nanoseconds; with a minus sign before all others."""


MAXIMUM_GAPS = 4096
"""So many gaps of a log are held one by one; later ones are joined to the last of them."""


class Seen(NamedTuple):
    """When something was seen in a log, and at which place: 1 for the first record. Place None: the
    order of records is that of their times.
    """

    time_ns: int
    place: int | None = None


class Listing:
    """A listing of all living flows, which ended at `until_ns`."""

    def __init__(self, until_ns: int) -> None:
        self.until_ns = until_ns


class Gap:
    """A loss: what it lost happened between `start_ns` and `stop_ns`.

    text      what was lost
    place     how many records the log has before it; None: their times tell
    listing   the first one after it, which shows what began in it; None: there was none
    """

    def __init__(self, start_ns: int, stop_ns: int, text: str, place: int | None = None) -> None:
        self.start_ns, self.stop_ns, self.text, self.place = start_ns, stop_ns, text, place
        self.listing: Listing | None = None

    @property
    def hidden_until_ns(self) -> int:
        """Until when a flow may be hidden that began in it."""
        return FOREVER if self.listing is None else max(self.stop_ns, self.listing.until_ns)

    def described(self) -> str:
        """What was lost and when, for people."""
        if self.stop_ns == FOREVER:
            when = "" if self.start_ns == -FOREVER else f" after {rfc3339(self.start_ns)}"
        elif self.start_ns == -FOREVER:
            when = f" before {rfc3339(self.stop_ns)}"
        else:
            when = f" between {rfc3339(self.start_ns)} and {rfc3339(self.stop_ns)}"
        return self.text + when


def hides_flows(loss: LossRecord) -> bool:
    """Whether a loss may be of records of flows."""
    return loss.log in LOGS and loss.source != "nflog"


def loss_text(loss: LossRecord) -> str:
    """What was lost, as text."""
    return f"{loss.amount()} lost{f' of {loss.log}' if loss.log else ''}"


class Coverage:
    """The times of the records of a log, and its losses.

    name       of the log
    first_ns   the earliest time of a record, `last_ns` the latest; None: no record has a time
    flows      how many flow records it has; without any it covers nothing
    nat        whether it would have translated flows: not a log of IPFilter's states only
    begins     whether it has records of flows that begin, so that one without began before the log
    stored     whether its flows are complete ones (`--flows`), which are written when they end
    listed     whether it begins with a listing, so that flows that began before it are in it
    unknown    why its losses are not known; None: they are
    """

    def __init__(self, name: str, unknown: str | None = None) -> None:
        self.name, self.unknown = name, unknown
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.flows = 0
        self.nat = self.begins = self.stored = self.listed = False
        self.gaps: list[Gap] = []
        self.place = 0
        """How many records it has so far."""
        self._at_ns: int | None = None
        """The time of the last record."""
        self._open: list[Gap] = []
        """Gaps whose next record is still to come."""
        self._unlisted: list[Gap] = []
        """Gaps after which no listing came."""
        self._listing: Listing | None = None
        """The listing that goes on."""
        self._hidden: Intervals[Gap] | None = None
        """The gaps, by when they hide flows, once the log has ended."""

    def add(self, record: Record, time_ns: int | None) -> None:
        """Take the next record of the log, and its time."""
        if isinstance(record, LossRecord):
            if hides_flows(record):
                self._lost(record, time_ns)
            return
        self.place += 1
        if time_ns is not None:
            self._extend(time_ns)
        if isinstance(record, FlowRecord):
            self.characterize(record)
        if isinstance(record, FlowRecord) and record.via in LISTED:
            self._list(time_ns)
        else:
            self._listing = None

    def _list(self, time_ns: int | None) -> None:
        """A listing begins or goes on."""
        if time_ns is None:
            return
        if self._listing is None:
            self._listing = Listing(time_ns)
            for gap in self._unlisted:
                gap.listing = self._listing
            self._unlisted.clear()
        self._listing.until_ns = time_ns

    def lose(
        self, text: str, start_ns: int | None, stop_ns: int | None, until_ns: int | None = None
    ) -> None:
        """The log lost something between records of these times; None: before or after all.

        Losses are to be given in the order of their times.

        until_ns   when a listing ended that came after it
        """
        start_ns = -FOREVER if start_ns is None else start_ns
        gap = Gap(start_ns, FOREVER if stop_ns is None else stop_ns, text)
        gap.listing = None if until_ns is None else Listing(until_ns)
        self._append(gap)

    def extend(self, first_ns: int, last_ns: int) -> None:
        """The log has records of these times, which are not all taken one by one."""
        self.first_ns = first_ns if self.first_ns is None else min(first_ns, self.first_ns)
        self.last_ns = last_ns if self.last_ns is None else max(last_ns, self.last_ns)

    def _extend(self, time_ns: int) -> None:
        self._at_ns = time_ns
        if self.first_ns is None or time_ns < self.first_ns:
            self.first_ns = time_ns
        if self.last_ns is None or time_ns > self.last_ns:
            self.last_ns = time_ns
        if self._open:
            for gap in self._open:
                gap.stop_ns = time_ns if gap.stop_ns == FOREVER else max(gap.stop_ns, time_ns)
                if gap.stop_ns < gap.start_ns:  # the clock was set back
                    gap.start_ns, gap.stop_ns = gap.stop_ns, gap.start_ns
            self._open.clear()

    def characterize(self, record: FlowRecord) -> None:
        """Learn from a flow what the log is of."""
        if record.flow_type == "expect":
            return
        if not self.flows and record.via in LISTED:
            self.listed = True
        self.flows += 1
        self.nat = self.nat or record.source != "ipl" or record.flow_type != "state"
        if record.event in ("end", "active"):
            self.begins = self.stored = True
        elif record.event in ("new", "clone"):
            self.begins = True

    def _lost(self, record: LossRecord, time_ns: int | None) -> None:
        self._listing = None
        start_ns = -FOREVER if self._at_ns is None else self._at_ns
        gap = Gap(start_ns, FOREVER, loss_text(record), self.place)
        if time_ns is not None:
            gap.start_ns, gap.stop_ns = min(start_ns, time_ns), time_ns
        self._append(gap)
        self._open.append(gap)
        self._unlisted.append(gap)

    def _append(self, gap: Gap) -> None:
        if len(self.gaps) >= MAXIMUM_GAPS:
            last = self.gaps.pop()
            gap.start_ns, gap.place = min(gap.start_ns, last.start_ns), last.place
            gap.text = "records lost many times"
            for gaps in (self._open, self._unlisted):
                if gaps and gaps[-1] is last:
                    gaps.pop()
        self.gaps.append(gap)

    def end(self) -> None:
        """The log has ended: what comes after a loss at its end is lost for good."""
        for gap in self._open:
            gap.stop_ns = FOREVER
        self._open.clear()
        self._hidden = Intervals((gap.start_ns, gap.hidden_until_ns, gap) for gap in self.gaps)

    # What follows is for a log that has ended

    def hiding(self, start_ns: int, stop_ns: int) -> str | None:
        """Why a flow of that time may be hidden; None: no flow is."""
        if not self.nat:
            return f"{self.name} has no records of NAT"
        if self.unknown is not None:
            return self.unknown
        assert self._hidden is not None
        gap = next(self._hidden.meeting(start_ns, stop_ns), None)
        if gap is None:
            return None
        after = ""
        if gap.listing is None and gap.stop_ns < start_ns:
            after = ", and no listing of the flows followed"
        return gap.described() + after

    def alive_until(self, seen: Seen) -> tuple[int, str]:
        """Until when a flow was certainly there that was there when it was seen, as its end is not
        in the log; and what may hide its end.
        """
        if self.unknown is not None or self.last_ns is None:
            return seen.time_ns, self.unknown or f"{self.name} has no times"
        if seen.place is None and self.place:  # times need not rise from record to record
            after = (i for i, gap in enumerate(self.gaps) if gap.stop_ns > seen.time_ns)
            at = next(after, len(self.gaps))
        elif seen.place is None:
            at = bisect_right(self.gaps, seen.time_ns, key=lambda gap: gap.stop_ns)
        else:
            at = bisect_left(self.gaps, seen.place, key=lambda gap: gap.place or 0)
        if at < len(self.gaps):
            gap = self.gaps[at]
            return max(seen.time_ns, gap.start_ns), gap.described()
        return max(seen.time_ns, self.last_ns), f"{self.name} ends at {rfc3339(self.last_ns)}"

    def alive_since(self, seen: Seen) -> tuple[int, str]:
        """Since when a flow was certainly there that was there when it was seen, as its beginning
        is not in the log; and why that is not certain before.
        """
        if self.unknown is not None or self.first_ns is None:
            return seen.time_ns, self.unknown or f"{self.name} has no times"
        if not self.begins:
            return seen.time_ns, f"{self.name} has no beginnings of flows"
        if seen.place is None:
            at = bisect_left(self.gaps, seen.time_ns, key=lambda gap: gap.start_ns)
        else:
            at = bisect_left(self.gaps, seen.place, key=lambda gap: gap.place or 0)
        if at > 0:
            gap = self.gaps[at - 1]
            return min(seen.time_ns, gap.stop_ns), gap.described()
        return min(seen.time_ns, self.first_ns), f"{self.name} begins at {rfc3339(self.first_ns)}"


class Coverages:
    """What logs that have ended cover together. One without flows or times covers nothing."""

    def __init__(self, logs: Iterable[Coverage]) -> None:
        covering = [
            (log.first_ns, log.last_ns, number, log) for number, log in enumerate(logs)
            if log.flows and log.first_ns is not None and log.last_ns is not None
        ]  # fmt: skip
        self._by_time = Intervals(
            (first_ns, last_ns, (number, log)) for first_ns, last_ns, number, log in covering
        )
        self._firsts = sorted((first_ns, number, log.name) for first_ns, _, number, log in covering)
        self._lasts = sorted((last_ns, -number, log.name) for _, last_ns, number, log in covering)

    def at(self, start_ns: int, stop_ns: int) -> list[Coverage]:
        """The logs, in their order, with records before or at that time and after or at it; only
        those that would have NAT, if there are such.
        """
        met = sorted(self._by_time.meeting(stop_ns, start_ns), key=lambda each: each[0])
        covering = [log for _, log in met]
        return [log for log in covering if log.nat] or covering

    def missing(self, start_ns: int, stop_ns: int) -> str:
        """Why the logs do not cover a time that none of them covers."""
        if not self._firsts:
            return "there are no flows with times in the logs"
        before = bisect_left(self._lasts, (stop_ns,))
        after = bisect_left(self._firsts, (start_ns + 1,))
        parts = []
        if before:
            last_ns, ends, name = self._lasts[before - 1]
            parts.append(f"{name} ends at {rfc3339(last_ns)}")
        if after < len(self._firsts):
            first_ns, begins, name = self._firsts[after]
            if before == 1 and after == len(self._firsts) - 1 and begins == -ends:
                return f"{name} has {rfc3339(first_ns)} to {rfc3339(last_ns)} only"
            parts.append(f"{name} begins at {rfc3339(first_ns)}")
        return " and ".join(parts)
