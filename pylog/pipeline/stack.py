"""The work of one stack: read lots, apply the stages, write, commit, and try again after failures.

With a journal a failure costs nothing: the output is opened again, and reading begins anew after
what it has confirmed. Without one, lots that are not confirmed are kept in memory and written
again; if they become too many, reading stops, and the receiver counts what it has no room for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import msgspec

from pylog import engine, outputs
from pylog.backends.base import readable
from pylog.batch import Batch
from pylog.errors import BackendError, DecodeError
from pylog.notes import notes
from pylog.outputs._files import OutputFiles
from pylog.pipeline.channel import Channel, Counts
from pylog.pipeline.config import Stack
from pylog.pipeline.feeds import Feeds, JournalFeed, Lot, QueueFeed
from pylog.pipeline.forms import columns_of, lines_of, takes_rows
from pylog.pipeline.keeping import Keeping
from pylog.pipeline.kept import Kept, Lines, Written
from pylog.pipeline.letters import DeadLetters
from pylog.pipeline.parts import Parts
from pylog.pipeline.positions import Position, parsed
from pylog.pipeline.stages import Stages
from pylog.pipeline.tally import Tally, losses

COMMIT_S, COMMIT_RECORDS = 1.0, 20_000
"""What was written is committed after that time, or so many records."""
IDLE_COMMIT_S = 0.2
"""The same when no more records are at hand."""
GATHER_S, GATHER_BYTES = 0.2, 1 << 20
"""Where packets become columns, what comes is gathered so long, or until there is so much."""
REPORT_S = 0.5
"""How often counts are reported."""
PAUSES_S = (0.2, 30.0)
"""The first and the longest pause after a failure; each is twice the one before."""
CONFIRM_S = 0.1
"""How often to ask whether the peer has confirmed more, while nothing else happens."""
LAST_S = 5.0
"""How long to wait at the end for the peer to confirm."""
NOTE_S = 60.0
"""The same failure is noted no more often than this."""


class StackRun:
    """A stack that runs.

    counts   what it has done so far
    """

    def __init__(
        self,
        stack: Stack,
        channel: Channel,
        *,
        open_output: Callable[[outputs.Refuse], outputs.Output],
        make_feeds: Callable[[outputs.Output, Stages], Feeds],
        begin: Callable[[outputs.Output, Feeds], Position],
        keeping: Keeping,
        letters: DeadLetters,
        tally: Tally,
        longest_s: float = 0.0,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        """
        open_output   opens the output
        make_feeds    makes the feeds for it, with new decoders
        begin         where an output that was just opened is to go on
        keeping       keeps positions that the output does not store
        tally         counts by source
        longest_s     how long records that become lines may wait for others, see engine.Pace
        """
        self.counts = Counts(sources=tally.counts)
        self._stack, self._channel = stack, channel
        self._open_output, self._make_feeds, self._begin = open_output, make_feeds, begin
        self._letters, self._cpu_s = letters, cpu_s
        self._keeping = keeping
        self._stages = Stages(stack.stages)
        self._takes_rows = False
        self._gathers, self._read_at = False, 0.0
        """Whether what comes is gathered, and when to read again."""
        self._pace: engine.Pace | None = None
        self._longest_s = longest_s
        self.counts.start_cpu_s = cpu_s()
        self._feeds: Feeds | None = None
        self._output: outputs.Output | None = None
        self._kept = Kept()
        self._uncommitted = 0
        self._moved = self._unflushed = False
        """Whether anything was read after the last commit; written after the last flush."""
        self._last: str | None = None
        """The position of the last commit."""
        self._noted, self._noted_at = "", -NOTE_S
        """The failure that was noted last, and when."""
        self._committed_at = 0.0
        self._reported_at = 0.0
        self._is_news = True
        """Whether counts have changed after they were reported."""
        self._pause_s = PAUSES_S[0]
        self._waiting_at: int | None = None
        self._ending: tuple[int | None] | None = None
        self._stopped = self._reopens = False
        self._opened = self._reconnected = 0
        """How often an output was opened; how often those that are closed connected again."""

    # The loop

    def run(self) -> bool:
        """Work until the end; whether all was delivered."""
        while not self._stopped:
            try:
                self._work()
                return self._ended()
            except (BackendError, DecodeError, OSError) as error:
                self._fail(str(error))
            except (ValueError, MemoryError) as error:
                self._close_output()
                self.counts.state, self.counts.problem = "failed", str(error)
                self._report(True)
                notes.error("stack %s: %s", self._stack.name, error)
                return False
        self._close_output()
        self._report(True)
        return False

    def _ended(self) -> bool:
        """All feeds have ended, or the receiver is gone; whether all was delivered."""
        feeds = self._feeds
        problems = [] if feeds is None else [f.failure for f in feeds.all if f.failure is not None]
        self.counts.state = "failed" if problems else "ended"
        self.counts.problem = "; ".join(problems)
        self._report(True)
        return not self._stopped and not problems

    def _work(self) -> None:
        """Open the output and write to it until all feeds have ended."""
        self._keeping.mend()
        output = self._output = self._open_output(self._letters.refuse)
        self._takes_rows = takes_rows(output, self._stack, self._stages)
        self._opened += 1
        feeds = self._feeds
        if feeds is None or feeds.goes_back:
            if feeds is not None:
                feeds.close()
            feeds = self._feeds = self._make_feeds(output, self._stages)
            begin = self._begin(output, feeds)
            feeds.seek(begin)
            self._keeping.begin(str(begin))
            self.counts.place = self.counts.confirmed = feeds.position().place
            self._uncommitted, self._moved, self._last = 0, False, output.confirmed()
            if self._ending is not None:
                self._end_feeds(feeds)
        else:
            self._write_again(output)
        of_journal = feeds.all == [feeds.live]
        self._gathers = of_journal and bool(columns_of(output, self._stack, self._stages))
        makes_lines = of_journal and lines_of(self._stack, self._stages) is not None
        self._pace = engine.Pace(self._longest_s) if makes_lines else None
        self.counts.state, self.counts.problem = "running", ""
        self._committed_at = time.monotonic()
        while not self._stopped:
            self._listen()
            if self._reopens:
                self._reopen(output)
            lot = None if self._is_full() or self._gather_s() > 0 else feeds.read()
            if lot is not None:
                self._take(output, lot)
                self._rest(lot.size)
            elif feeds.ended:
                self._finish(output, feeds)
                return
            self._commit_if_due(output, feeds, idle=lot is None)
            self._report()
            if lot is None:
                self._wait(output, feeds)
        self._commit(output, feeds, last=True)
        self._confirm(output, feeds)
        if isinstance(output, OutputFiles):
            output.close()

    def _rest(self, size: int) -> None:
        """After so many bytes were read, say when to read again."""
        now = time.monotonic()
        if self._gathers:
            self._read_at = now + GATHER_S if size < GATHER_BYTES else now
        elif self._pace is not None:
            self._pace.read(size, now)
            self._read_at = now + self._pace.rest_s

    def _gather_s(self) -> float:
        """How long to gather what comes before it is read."""
        return 0.0 if self._ending is not None else self._read_at - time.monotonic()

    def _is_full(self) -> bool:
        return self._kept.is_full

    def _take(self, output: outputs.Output, lot: Lot) -> None:
        counts = self.counts
        counts.records += len(lot.records) + lot.left_out
        counts.records += sum(columns.num_rows for columns in lot.columns)
        counts.records += sum(map(len, lot.lines))
        self._stages.left_out["where"] += lot.left_out
        counts.bytes += lot.size
        for name in lot.stale:
            self._channel.send("refresh", name)
        lots: list[Written] = [Batch.of_columns({"packet": columns}) for columns in lot.columns]
        for each in (lot.records, *lot.lines):
            if isinstance(each, Lines):
                lots.append(each)
                continue
            number, lost = losses(each)
            counts.losses += number
            counts.lost += lost
            if records := self._stages.apply(each):
                lots.append(records)
        for written in lots:
            if self._keeps:
                self._kept.add(written)
            self._write(output, written)
            counts.written += len(written)
        if lot.observed_ns is not None:
            counts.observed_ns = lot.observed_ns
        self._moved = self._is_news = True

    @property
    def _keeps(self) -> bool:
        feeds = self._feeds
        return feeds is not None and not feeds.goes_back

    def _write(self, output: outputs.Output, records: Written) -> None:
        self._keeping.before_writing(output)
        if isinstance(records, Batch):
            output.write(records)
        elif isinstance(records, Lines):
            output.write_lines(records.data)
        elif self._takes_rows:
            rows: Any = records
            output.write_rows(rows)
        else:
            output.write(Batch(records))
        self._uncommitted += len(records)
        self._unflushed = True

    def _write_again(self, output: outputs.Output) -> None:
        """Write what the output has not confirmed, after it was opened again."""
        stored = output.position()
        if stored is not None:
            self._kept.forget(stored)
        self._last = output.confirmed()

        def commit(position: str) -> None:
            output.commit(position)
            self._last = position

        self._kept.again(lambda lot: self._write(output, lot), commit)

    # Commits

    def _commit_if_due(self, output: outputs.Output, feeds: Feeds, *, idle: bool) -> None:
        since = time.monotonic() - self._committed_at
        if self._uncommitted >= COMMIT_RECORDS or (
            self._moved and since >= (IDLE_COMMIT_S if idle else COMMIT_S)
        ):
            self._commit(output, feeds)
        elif idle and self._unflushed:
            output.flush()
            self._unflushed = False
        if isinstance(output, OutputFiles):
            output.turn()
        self._confirm(output, feeds)

    def _commit(self, output: outputs.Output, feeds: Feeds, *, last: bool = False) -> None:
        self._committed_at = time.monotonic()
        position = str(feeds.position())
        if not self._moved or (position == self._last and not last):
            return  # with joins, records may come before the position moves
        output.commit(position)
        self._keeping.committed(output)
        self._last = position
        if self._keeps:
            self._kept.commit(position)
        self._uncommitted, self._moved, self._unflushed = 0, False, False
        self.counts.place = feeds.position().place

    def _confirm(self, output: outputs.Output, feeds: Feeds) -> None:
        """See what the output has confirmed, and keep that position."""
        confirmed = output.confirmed()
        if confirmed is None:
            return
        if self._keeps:
            self._kept.forget(confirmed)
        self._keeping.confirmed(confirmed)
        place = _place_of(confirmed)
        if place > self.counts.confirmed:
            self.counts.confirmed = place
            self._is_news = True
            self._pause_s = PAUSES_S[0]

    def _finish(self, output: outputs.Output, feeds: Feeds) -> None:
        """All feeds have ended: commit, wait for confirmation, close."""
        self._commit(output, feeds, last=True)
        deadline = time.monotonic() + LAST_S
        if isinstance(output, Parts):
            output.complete()
        while output.confirmed() != self._last and time.monotonic() < deadline:
            time.sleep(CONFIRM_S / 2)
        self._confirm(output, feeds)
        self._output = None
        output.close()
        self._keeping.complete()
        self._reconnected += output.reconnects
        self._confirm(output, feeds)
        feeds.close()
        self._letters.close()

    # Failures

    def _fail(self, problem: str) -> None:
        """Close the output, and pause before it is opened again."""
        self._close_output()
        self.counts.state = "retrying"
        now = time.monotonic()
        if problem != self._noted or now - self._noted_at >= NOTE_S:
            notes.warning("stack %s: %s; trying again", self._stack.name, problem)
            self._noted, self._noted_at = problem, now
        self.counts.problem = problem
        self.counts.failures += 1
        until = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSES_S[1])
        self._report(True)
        while not self._stopped and (left := until - time.monotonic()) > 0:
            self._listen(min(left, REPORT_S))
            self._report()

    def _close_output(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            self._reconnected += output.reconnects
            with contextlib.suppress(Exception):
                output.close()

    # What the receiver says

    def _listen(self, wait_s: float = 0.0) -> None:
        """Take the messages of the receiver."""
        channel = self._channel
        if wait_s:
            _readable(channel, wait_s)
        if channel.unsent:
            channel.flush()
        for kind, body in channel.receive():
            if kind == "end":
                self._ending = (msgspec.json.decode(body, type=int | None),)
                if self._feeds is not None:
                    self._end_feeds(self._feeds)
            elif kind == "reopen":
                self._reopens = True
            elif kind == "wake":
                self._waiting_at = None
        self._stopped = self._stopped or channel.ended

    def _end_feeds(self, feeds: Feeds) -> None:
        assert self._ending is not None
        (until,) = self._ending
        if isinstance(feeds.live, JournalFeed | QueueFeed) and until is not None:
            feeds.live.until = until
        feeds.end()

    def _reopen(self, output: outputs.Output) -> None:
        """Open files again by their names, and read again what the filter names."""
        self._reopens = False
        if isinstance(output, OutputFiles):
            output.turn(hung_up=True)
        self._letters.reopen()
        try:
            self._stages.reload()
        except (ValueError, OSError, BackendError) as error:
            notes.warning("stack %s: %s; the filter stays as it is", self._stack.name, error)

    def _wait(self, output: outputs.Output, feeds: Feeds) -> None:
        """Wait for more, or until something is due."""
        if (gather_s := self._gather_s()) > 0:
            _readable(self._channel, gather_s)
            return
        timeout_s = REPORT_S if self._is_news else 10 * REPORT_S
        if self._moved:
            timeout_s = min(timeout_s, IDLE_COMMIT_S)
        elif output.confirmed() != self._last:
            timeout_s = REPORT_S if isinstance(output, Parts) else CONFIRM_S
        if isinstance(output, OutputFiles) and (left := output.left_s()) is not None:
            timeout_s = min(timeout_s, left)
        live = feeds.live
        if isinstance(live, JournalFeed) and self._waiting_at != live.place:
            self._waiting_at = live.place
            self._channel.send("waiting", live.place)
        if self._is_full():
            _readable(self._channel, CONFIRM_S)
        else:
            feeds.wait([self._channel.fileno()], timeout_s)

    def _report(self, now: bool = False) -> None:
        if not now and time.monotonic() - self._reported_at < REPORT_S:
            return
        self._reported_at, self._is_news = time.monotonic(), False
        counts = self.counts
        counts.left_out = dict(self._stages.left_out)
        counts.refused, counts.dead = self._letters.refused, self._letters.written
        counts.cpu_s = self._cpu_s()
        own = 0 if self._output is None else self._output.reconnects
        counts.reconnects = max(0, self._opened - 1) + self._reconnected + own
        if not self._channel.unsent:
            self._channel.send("counts", counts)


def _place_of(position: str) -> int:
    made = parsed(position)
    return 0 if made is None else made.place


def _readable(channel: Channel, timeout_s: float) -> None:
    readable([channel.fileno()], timeout_s)
