"""The commits to a ruleset of nftables: when, by whom, and what they changed.

The first commits are kept with the first words of each, all others are counted. What pylog learned
of a ruleset by listing it (`via` snapshot) is no change.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pylog.formats.nft_lines import entity_line, mark_of
from pylog.table.rows import records

MOST_COMMITS = 2000
MOST_WORDS = 12
WORDS_LENGTH = 300
"""The most characters of a change that are kept."""


class Commit:
    """A commit.

    second       since 1970, None without a time
    changes      how many records it has, that of the commit itself not counted
    words        the first changes as text
    incomplete   whether records of it were lost
    """

    def __init__(self, record: Any, second: int | None) -> None:
        self.key = (record.generation, record.portid, record.via, second)
        self.second = second
        self.generation, self.process, self.pid = record.generation, record.process, record.pid
        self.uid, self.cmdline, self.via = record.uid, record.cmdline, record.via
        self.changes = 0
        self.words: list[str] = []
        self.incomplete = False


class RuleChanges:
    """The commits of a period.

    commits   the first ones
    more      records of changes that belong to commits that are not kept
    """

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.more = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add a batch of records of a ruleset."""
        via = pc.fill_null(batch.column("via").cast(pa.string()), "")
        batch = batch.filter(pc.not_equal(via, "snapshot"))
        for start in range(0, batch.num_rows, 4096):
            self._add(batch.slice(start, 4096))

    def merge(self, other: RuleChanges) -> None:
        """Add the commits of another part."""
        room = MOST_COMMITS - len(self.commits)
        self.commits += other.commits[:room]
        self.more += other.more + sum(commit.changes for commit in other.commits[room:])

    def _add(self, batch: pa.RecordBatch) -> None:
        for record in records("ruleset", batch):
            row: Any = record
            time_ns = row.timestamp_ns if row.timestamp_ns is not None else row.observed_ns
            second = None if time_ns is None else time_ns // 10**9
            key = (row.generation, row.portid, row.via, second)
            if not self.commits or self.commits[-1].key != key:
                if len(self.commits) >= MOST_COMMITS:
                    self.more += row.op != "new_gen"
                    continue
                self.commits.append(Commit(row, second))
            last = self.commits[-1]
            last.incomplete |= bool(row.incomplete)
            if row.op == "new_gen":
                continue
            last.changes += 1
            if len(last.words) < MOST_WORDS:
                last.words.append(f"{mark_of(row)} {entity_line(row)}"[:WORDS_LENGTH])
