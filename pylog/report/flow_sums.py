"""The sums of flows: connections and translations that began and ended, and who had them.

A connection is a record of conntrack, or of IPFilter's state log. A translation is a record of an
address or port that was changed: of conntrack that is a connection as well. Bytes and packets are
those of records of an end, which have the counters of the flow, so that none is counted twice.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.report.arrays import coded, combined, sums_of_maps
from pylog.report.ranking import NEVER, Ranking
from pylog.report.timeline import Numbers, Timeline

BEGUN = ("new", "clone")
ENDED = ("destroy", "end", "expire", "flush", "killed", "purge", "remove", "unload")
COLUMNS = ("connections begun", "connections ended", "translations begun", "translations ended",
           "bytes")  # fmt: skip
"""The columns of the timeline; bytes are those of the flows that ended then."""


class FlowSums:
    """The sums of the flows of a period.

    events   (source, event) -> records
    totals   what happened, as in COLUMNS, and packets
    hosts    connections that began, and bytes of those that ended, by source address
    inner    translations that began, and bytes of those that ended, by address before translation
    outer    the same by the address in its place
    """

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str]] = Counter()
        self.totals: Counter[str] = Counter()
        self.lines = Timeline(len(COLUMNS))
        self.hosts, self.inner, self.outer = Ranking(), Ranking(), Ranking()

    def rankings(self) -> tuple[Ranking, ...]:
        """All rankings."""
        return self.hosts, self.inner, self.outer

    def add(self, batch: pa.RecordBatch, seconds: Numbers, local: Numbers) -> None:
        """Add a batch of flows; times as in sums.Rows."""
        events, names = combined(coded(batch.column("source")), coded(batch.column("event")))
        for pair, count in zip(names, np.bincount(events).tolist(), strict=True):
            self.events[pair[0] or "", pair[1] or "unnamed"] += count
        begun, ended = (
            np.array([name[1] in words for name in names])[events] for words in (BEGUN, ENDED)
        )
        by_state = pc.equal(batch.column("flow_type").cast(pa.string()), "state")
        state = pc.fill_null(by_state, False).to_numpy(zero_copy_only=False)
        of_nfct = np.array([name[0] == "nfct" for name in names])[events]
        outer = pc.coalesce(batch.column("nat_saddr"), batch.column("nat_daddr"))
        connection = of_nfct | state
        translation = ~state & (~of_nfct | outer.is_valid().to_numpy(zero_copy_only=False))
        octets = np.where(ended, sums_of_maps(batch.column("bytes")), 0)
        packets = np.where(ended, sums_of_maps(batch.column("packets")), 0)
        marks = [connection & begun, connection & ended, translation & begun, translation & ended]
        weights = [*(mark.astype(np.int64) for mark in marks), octets]
        timed = seconds != NEVER
        for column, (name, each) in enumerate(zip(COLUMNS, weights, strict=True)):
            self.totals[name] += int(each.sum())
            drawn = timed & (each != 0)
            places = np.full(int(drawn.sum()), column, np.int64)
            self.lines.add(seconds[drawn], places, each[drawn])
        self.totals["packets"] += int(packets.sum())
        saddr = batch.column("saddr")
        for ranking, keys, of, first in (
            (self.hosts, saddr, connection, weights[0]),
            (self.inner, saddr, translation, weights[2]),
            (self.outer, outer, translation, weights[2]),
        ):
            mask = pa.array(of & ((first != 0) | (octets != 0)))
            wanted = mask.to_numpy(zero_copy_only=False)
            ranking.add(keys.filter(mask), local[wanted], first[wanted], octets[wanted])

    def merge(self, other: FlowSums) -> None:
        """Add the sums of another part."""
        self.events += other.events
        self.totals += other.totals
        self.lines.merge(other.lines)
        for own, others in zip(self.rankings(), other.rankings(), strict=True):
            own.merge(others)
