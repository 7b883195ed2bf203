"""The sums of one period, of all that its report shows, made of one pass over record batches.

Sums are added up batch by batch, and sums of parts of a log are merged, so that processes can share
the work. Memory does not grow with the log: texts that a log decides (prefixes) are counted by name
up to a limit, addresses as a Ranking holds them.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pylog.report.arrays import coded, combined, numbers
from pylog.report.flow_sums import FlowSums
from pylog.report.loss_sums import LossSums
from pylog.report.ranking import NEVER, Ranking
from pylog.report.reach import Reach
from pylog.report.rule_changes import RuleChanges
from pylog.report.timeline import Numbers, Timeline, exact_sums

BLOCK = "block"
"""The action of packets that did not pass."""
UNNAMED = "no verdict"
"""The label of packets without an action and a prefix."""
OTHERS = "others"
MOST_LABELS = 64
PER_OCTAVE = 6
MOST_CELLS = 1024
"""Buckets of the fireplot: more than are drawn, so that they are narrow enough."""
LONGEST = 200
"""Characters of a prefix that count: in a text log it may be as long as a line."""
NO_PORT = 1 << 16
"""In place of the port, for protocols without ports."""


def _edges() -> list[int]:
    """The lower ends of the ranges of ports in a fireplot, and the end of the last one."""
    ends = {round(2 ** (step / PER_OCTAVE)) for step in range(16 * PER_OCTAVE + 1)}
    return sorted(ends)


EDGES = _edges()
"""Equal steps on a logarithmic scale, where there are as many ports; port 0 is in the first."""
RANGES = len(EDGES) - 1


class Rows(NamedTuple):
    """A batch of records of one kind and period.

    seconds   since 1970; of rows without a time NEVER
    local     the same by the clock of the zone
    days      dates as ordinals
    hours     hours of the week, from 0 (Monday, midnight)
    """

    batch: pa.RecordBatch
    seconds: Numbers
    local: Numbers
    days: Numbers
    hours: Numbers


class Sums:
    """The sums of a period.

    records      how many there were of each kind
    packets      how many packets they stand for
    labels       verdict or prefix -> how many packets
    verdicts     whether there was a packet with an action
    lines        packets by label: column i is that of the label i
    fire         packets by range of ports, two columns each: passed or unknown, and blocked
    days         (date as ordinal, label) -> packets
    hours        packets, and blocked packets, by hour of the week
    reach        how many ports and addresses each source has tried
    first, last  the seconds of the first and the last record with a time
    """

    def __init__(self) -> None:
        self.records: Counter[str] = Counter()
        self.packets = self.blocked = self.octets = self.untimed = 0
        self.labels: Counter[str] = Counter()
        self.verdicts = False
        self.lines = Timeline(1)
        self.fire = Timeline(2 * RANGES, MOST_CELLS)
        self.days: Counter[tuple[int, str]] = Counter()
        self.hours = np.zeros((2, 168), np.int64)
        self.sources, self.targets = Ranking(), Ranking()
        self.services, self.rules = Ranking(), Ranking()
        self.reach = Reach()
        self.first: int | None = None
        self.last: int | None = None
        self.flows = FlowSums()
        self.losses = LossSums()
        self.changes = RuleChanges()
        self._columns: dict[str, int] = {}

    @property
    def columns(self) -> list[str]:
        """The labels of the columns of `lines`."""
        return list(self._columns)

    def add(self, kind: str, rows: Rows) -> None:
        """Add the records of a batch."""
        self.records[kind] += rows.batch.num_rows
        if kind == "loss":
            self.losses.add(rows.batch, rows.seconds)
            return
        timed = rows.seconds[rows.seconds != NEVER]
        if len(timed):
            self._extend(int(timed.min()), int(timed.max()))
        if kind == "packet":
            self._add_packets(rows)
        elif kind == "flow":
            self.flows.add(rows.batch, rows.seconds, rows.local)
        elif kind == "ruleset":
            self.changes.add(rows.batch)

    def merge(self, other: Sums) -> None:
        """Add the sums of another part."""
        self.records += other.records
        self.packets += other.packets
        self.blocked += other.blocked
        self.octets += other.octets
        self.untimed += other.untimed
        self.labels += other.labels
        self.verdicts |= other.verdicts
        places = np.array([self._column(label) for label in other.columns] or [0], np.int64)
        self.lines.grow(max(1, len(self._columns)))
        self.lines.merge(other.lines, places)
        self.fire.merge(other.fire)
        self.days += other.days
        self.hours += other.hours
        for own, others in zip(self._rankings(), other._rankings(), strict=True):
            own.merge(others)
        self.reach.merge(other.reach)
        if other.first is not None and other.last is not None:
            self._extend(other.first, other.last)
        self.flows.merge(other.flows)
        self.losses.merge(other.losses)
        self.changes.merge(other.changes)

    def compact(self) -> None:
        """Take as little memory as possible, as before the sums go to another process."""
        for ranking in (*self._rankings(), *self.flows.rankings()):
            ranking.compact()

    def _rankings(self) -> tuple[Ranking, ...]:
        return self.sources, self.targets, self.services, self.rules

    def _extend(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def _column(self, label: str) -> int:
        """The column of a label in `lines`; new labels beyond the limit share one."""
        if label not in self._columns and len(self._columns) >= MOST_LABELS:
            label = OTHERS
        return self._columns.setdefault(label, len(self._columns))

    def _add_packets(self, rows: Rows) -> None:
        batch = rows.batch
        weights = numbers(batch.column("count"), 1)
        action, prefix = coded(batch.column("action")), coded(batch.column("prefix"))
        self.packets += int(weights.sum())
        lengths = numbers(batch.column("length"), 0)
        self.octets += int((weights.astype(float) * lengths).sum())  # exact up to 2^53
        self.verdicts |= batch.column("action").null_count < batch.num_rows
        is_block = np.array([value == BLOCK for value in action.values])[action.codes]
        blocked = weights * is_block
        self.blocked += int(blocked.sum())
        self._add_labels(rows, weights, *combined(action, prefix))
        timed = rows.seconds != NEVER
        self.untimed += int(weights[~timed].sum())
        for row, each in zip(self.hours, (weights, blocked), strict=True):
            row += exact_sums(rows.hours[timed], each[timed], 168)
        self._add_ports(rows, timed, weights, blocked)
        self.sources.add(batch.column("saddr"), rows.local, weights, blocked)
        self.targets.add(batch.column("daddr"), rows.local, weights, blocked)
        self.reach.add(batch)
        shares, names = combined(
            coded(batch.column("source")), coded(batch.column("group")),
            coded(batch.column("rule")), prefix,
        )  # fmt: skip
        rules = pa.array([rule_name(*name) for name in names], pa.string())
        self.rules.add(rules.take(pa.array(shares)), rows.local, weights, blocked)

    def _add_labels(
        self, rows: Rows, weights: Numbers, pairs: Numbers, names: list[tuple[str, str]]
    ) -> None:
        """Add to the sums by verdict or prefix."""
        labels = [label_of(*pair) for pair in names]
        columns = np.array([self._column(label) for label in labels], np.int64)[pairs]
        by_column = exact_sums(columns, weights, len(self._columns)).tolist()
        names_of = self.columns
        self.labels.update({names_of[i]: n for i, n in enumerate(by_column) if n})
        self.lines.grow(len(self._columns))
        timed = rows.seconds != NEVER
        self.lines.add(rows.seconds[timed], columns[timed], weights[timed])
        days, at = np.unique(rows.days[timed], return_inverse=True)
        cells = exact_sums(at * len(names_of) + columns[timed], weights[timed],
                           len(days) * len(names_of))  # fmt: skip
        for cell in np.flatnonzero(cells).tolist():
            day, column = divmod(cell, len(names_of))
            self.days[int(days[day]), names_of[column]] += int(cells[cell])

    def _add_ports(self, rows: Rows, timed: Numbers, weights: Numbers, blocked: Numbers) -> None:
        """Add to the fireplot and the ranking of services."""
        ports = numbers(rows.batch.column("dport"), NO_PORT)
        drawn = timed & (ports != NO_PORT)
        ranges = np.searchsorted(EDGES, ports[drawn], side="right") - 1
        ranges = np.clip(ranges, 0, RANGES - 1) * 2
        seconds, passed = rows.seconds[drawn], (weights - blocked)[drawn]
        self.fire.add(seconds, ranges, passed)
        self.fire.add(seconds, ranges + 1, blocked[drawn])
        protocols = rows.batch.column("protocol")
        services = numbers(protocols, 0) * (2 * NO_PORT) + ports
        absent = protocols.is_null().to_numpy(zero_copy_only=False)
        self.services.add(pa.array(services, mask=absent), rows.local, weights, blocked)


def label_of(action: str | None, prefix: str | None) -> str:
    """What a packet is counted as over time: its action, or without one its prefix."""
    return action or (prefix or "").rstrip()[:LONGEST] or UNNAMED


def rule_name(
    source: str | None, group: str | None, rule: int | None, prefix: str | None
) -> str | None:
    """The name of the rule that logged a packet, as pylog read shows it; None without one."""
    if prefix and prefix.strip():
        return prefix.rstrip()[:LONGEST]
    if rule is not None:
        return f"@{group or ('-1' if source in ('ipl', 'ipmon') else '')}:{rule}"
    return f"group {group}" if group else None
