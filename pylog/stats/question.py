"""A question: what records are grouped by, and what is counted of each group.

A Question holds texts and numbers only, as the command line has them, so that it can be sent to
other processes. `Plan` is what they mean: keys, with the functions that read them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pylog.flows.counters import by_direction
from pylog.flows.living import ENDS
from pylog.nearest import advice
from pylog.record import FlowRecord, Record, kinds
from pylog.stats.geo import Geo
from pylog.stats.keys import KIND, TIME, Key, bucket_key, getter, has_column, key
from pylog.zones import zone_of

SUMS = ("length", "packets", "bytes")
"""What can be summed: bytes of packets as their IP headers say; packets, and bytes, of packets and
of flows that have ended."""

NUMBERS = ("count", "at_most", "records", "first", "last")
"""The columns of an answer beside keys, sums and counts of distinct values."""

MOST_KEYS = 100_000
"""So many groups are counted exactly; of more the heaviest are kept, see `Group`. With half as many
again a log of distinct addresses took more than 300 MB.
"""
FLOW_COLUMNS = (
    "source", "layout", "event", "flow_type", "packets", "bytes", "saddr", "daddr", "sport",
    "dport", "nat_saddr", "nat_daddr", "nat_sport", "nat_dport",
)  # fmt: skip
"""The columns of flows by which their counters are read."""
MOST_PAIRS = 2
"""For each group that is counted exactly, so many distinct values are on average."""


class Question(msgspec.Struct, frozen=True):
    """What is asked of records.

    by         the keys of groups, see pylog.stats.keys; none: one group of all
    every      the length of time buckets, as 1h, which become the first key; None: no buckets
    sums       of SUMS: what is summed
    distinct   fields whose distinct values are counted together, e.g. (("daddr", "dport"),);
               null is a value only where there are several fields
    zone       the time zone of hours, days and buckets
    geo        mmdb files, for countries and networks
    keys       so many groups are counted exactly; None: MOST_KEYS
    """

    by: tuple[str, ...] = ()
    every: str | None = None
    sums: tuple[str, ...] = ()
    distinct: tuple[tuple[str, ...], ...] = ()
    zone: str = "UTC"
    geo: tuple[str, ...] = ()
    keys: int | None = None


class Plan:
    """What a question means.

    keys       of groups, that of time buckets first
    distinct   the keys of each list of distinct values
    """

    def __init__(self, question: Question) -> None:
        """ValueError for what is no key, sum, zone or length of time, BackendError for a file of
        `geo`."""
        zone = zone_of(question.zone)
        geo = Geo(question.geo) if question.geo else None
        self.question = question
        self.keys = [key(name, zone, geo) for name in question.by]
        if question.every is not None:
            self.keys.insert(0, bucket_key(question.every, zone))
        self.distinct = [[key(name, zone, geo) for name in names] for names in question.distinct]
        if len({each.name for each in self.keys}) < len(self.keys):
            raise ValueError(f"--by {','.join(question.by)} has a field twice")
        for name in question.by:
            if name in (*NUMBERS, *question.sums):
                raise ValueError(f"records are not grouped by {name}: the answer has it of groups")
        for name in question.sums:
            if name not in SUMS:
                raise ValueError(f"no sum {name!r}{advice(name, SUMS)}")
        if question.keys is not None and question.keys < 2:
            raise ValueError(f"keys is {question.keys}, but must be 2 or more")

    def fits(self, kind: str) -> bool:
        """Whether records of a kind have a field that groups are made by."""
        if kind == "loss":
            return False
        named = [each for each in self.keys if each.column not in (KIND, TIME)]
        return not named or any(has_column(kind, each.column) for each in named)

    def columns(self, kind: str) -> list[str]:
        """The columns of a kind that are read, without those that it lacks."""
        names = [each.column for keys in (self.keys, *self.distinct) for each in keys]
        names = [name for name in names if name not in (KIND, TIME)]
        names += ["timestamp", "observed", "count"]
        if "length" in self.question.sums:
            names.append("length")
        if {"packets", "bytes"} & set(self.question.sums):
            names += ["length", *(FLOW_COLUMNS if kind == "flow" else ())]
        return [name for name in dict.fromkeys(names) if has_column(kind, name)]


def summed(name: str, kind: str) -> Callable[[Any], int]:
    """The function from a record of a kind to what it adds to a sum."""
    if kind == "flow" and name in ("packets", "bytes"):
        return _packets_of_flow if name == "packets" else _bytes_of_flow
    if kind == "packet":
        return _weight if name == "packets" else _bytes_of_packet
    return _nothing


def weight(record: Any) -> int:
    """How many packets or events a record stands for."""
    count = getattr(record, "count", None)
    return 1 if count is None else int(count)


_weight = weight


def _nothing(record: Any) -> int:
    return 0


def _bytes_of_packet(record: Any) -> int:
    return max(record.length or 0, 0) * weight(record)


def _packets_of_flow(record: FlowRecord) -> int:
    return _total(record, 0)


def _bytes_of_flow(record: FlowRecord) -> int:
    return _total(record, 1)


ENDED = frozenset((*ENDS, "end", "active"))
"""Events of flows whose counters are summed: those of others are counted again later."""


def _total(record: FlowRecord, which: int) -> int:
    if record.event not in ENDED:
        return 0
    counters = by_direction(record, record.flow_type)[which]
    if counters is None:
        return 0
    return counters["total"] if "total" in counters else sum(counters.values())


def getters(keys: Sequence[Key], kind: type[Record]) -> list[Callable[[Any], Any]]:
    """The functions from a record of a type to its values of keys."""
    return [getter(each, kind) for each in keys]


def kinds_asked(plan: Plan) -> list[str]:
    """The kinds of record that the question fits."""
    return [kind for kind in kinds() if plan.fits(kind)]
