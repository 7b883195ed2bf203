"""Counts the records that were lost, and says before which record each loss stands.

There are three signs of a loss. A gap in a log's sequence numbers tells how many records are
missing, and where. A report with a count, as of a capture file, is used where there is no number to
compare; a number outweighs it. An overrun of the system tells that records were lost, but not how
many: it waits until later numbers of all logs that it may have hit have shown their gaps. If such
numbers cannot come, it is reported as a loss of unknown size, so that no sign is ever dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pylog.formats import MAXIMUM_COUNT, Dropped, DroppedInAll, NextSeq, Reported
from pylog.record import LossRecord, Record

Continues = Callable[[int], bool]
"""Whether a record with that number comes soon after, in the same log of a capture."""

MIXED = "mixed: numbers of several logs alternate here, so that losses cannot be counted"
"""The reason of a loss record that reports mixed numbers, see Jumps."""

MOST_JUMPS = 64
"""How many jumps of a log are remembered."""

HALF = 0x80000000
"""A number that is this far ahead of the expected one, or more, is behind it: numbers have 32 bits.
Then the log was counted anew from its start."""


class Losses:
    """The losses of one source.

    dropped    records lost so far; None as long as the source has neither numbers nor reports
    uncounted  losses so far of an unknown number of records
    first      the first number of each log whose numbers before it were not seen
    """

    def __init__(self, first: Mapping[str, int], numbered: bool = False) -> None:
        """
        first      by log, the number that its first record must have
        numbered   every record has a number, so that no loss is missed
        """
        self.dropped: int | None = 0 if numbered else None
        self.uncounted = 0
        self.first: dict[str, int] = {}
        self._expected = NextSeq(first)
        self._announced: Dropped | None = None
        """A report with a count, until a record or the end comes."""
        self._overrun: Dropped | None = None
        """A report without a count, until it is given or numbers have replaced it."""
        self._overrun_logs: set[str] = set()
        """Logs whose next number is still to show what the overrun cost; none: no number can."""
        self._received_since = False
        """Whether bytes were received after the overrun, so that their numbers show its gap."""
        self._jumps: dict[tuple[int, str], Jumps] = {}
        self._by_interface: dict[int, int] = {}
        """Records lost so far, by the interface of a capture."""

    @classmethod
    def from_state(
        cls,
        expected: Mapping[str, int],
        first: dict[str, int],
        dropped: int | None,
        uncounted: int,
        announced: Dropped | None,
        overrun: Dropped | None,
        overrun_logs: Iterable[str],
    ) -> Losses:
        """Losses in that state, before more bytes are received."""
        made = cls(expected)
        made.first, made.dropped, made.uncounted = first, dropped, uncounted
        made._announced, made._overrun, made._overrun_logs = announced, overrun, set(overrun_logs)
        made._received_since = True
        return made

    def __reduce__(self) -> tuple[Callable[..., Losses], tuple[Any, ...]]:
        """How it is pickled, also in its compiled form, which has no __dict__."""
        return Losses.from_state, (self._expected, self.first, self.dropped, self.uncounted,
                                   self._announced, self._overrun, self._overrun_logs)  # fmt: skip

    def resumed(self) -> Losses:
        """What to go on with in the rest of the source, which counts its losses from 0."""
        return Losses.from_state(
            self._expected, {}, None, 0, self._announced, self._overrun, self._overrun_logs
        )

    # Signs of a loss

    @property
    def has_announced(self) -> bool:
        """Whether a report is not given yet."""
        return self._announced is not None or self._overrun is not None

    def received(self) -> None:
        """Bytes were received; what is in them was sent after the overrun, if there was one."""
        self._received_since = True

    def overrun(self, reason: str, logs: Iterable[str]) -> None:
        """Some of the logs lost records, in what was received last or after it."""
        self._overrun, self._overrun_logs = Dropped(0, None, reason), set(logs)
        self._received_since = False

    def announce(self, item: Dropped) -> None:
        """Records were lost before what comes next."""
        if item.count is None:
            self._overrun, self._overrun_logs = item, set()
        else:
            before = self._announced.count or 0 if self._announced else 0
            count = min(before + item.count, MAXIMUM_COUNT)
            self._announced = Dropped(item.offset, count, item.reason, item.interface)

    def reported(self, item: Reported) -> None:
        """The file has a loss record of its own here.

        The gap that it stands for is not reported again. A gap of another place or size still is,
        so that a loss record in a file cannot hide one.
        """
        loss = item.loss
        if loss.count is None:
            self.uncounted += loss.size is None and loss.reason != MIXED
            return
        self._count(item.interface, loss.count)
        if loss.seq is not None and loss.log is not None and loss.count < HALF:
            numbers = self._expected.of(item.interface)
            if numbers.setdefault(loss.log, loss.seq) == loss.seq:
                numbers[loss.log] = _after(loss.seq, loss.count)

    def restart(self) -> None:
        """Another recording begins: any number may come next."""
        self._expected = NextSeq()
        self._jumps.clear()
        self._by_interface.clear()

    # Records without a loss before them: many at a time

    def numbers(self) -> NextSeq | None:
        """The numbers of records that need no look by `before`; None while every record does.

        `follow` takes them back when records have come.
        """
        if self._announced is not None or (self._overrun is not None and not self._overrun_logs):
            return None
        # the first number of all is for `before`, which then knows that losses can be counted
        expected = self._expected if self.dropped is not None else NextSeq()
        if self._overrun is None:
            return expected
        # of what came with the overrun no number replaces it, so only gaps need a look
        logs = self._overrun_logs if self._received_since else ()
        unaffected = NextSeq({k: n for k, n in expected.items() if k not in logs})
        unaffected.unnumbered = False
        return unaffected

    def follow(self, numbers: NextSeq) -> None:
        """Records have come in order, after which `numbers` are expected."""
        if numbers is self._expected:
            return
        self._expected |= numbers
        for interface, own in numbers.by_interface.items():
            self._expected.of(interface).update(own)

    def passed(self, log: str, following: int, interface: int | None = None) -> None:
        """Records of a log came in order, after which the number `following` is expected."""
        self._expected.of(interface)[log] = following

    # Parts of a source that are read at the same time

    def agrees(self, later: Losses) -> bool:
        """Whether `later`, which did not know these, has reported what it had to."""
        return not self.has_announced and all(
            _missing(self._expected.get(log), seq) == 0 for log, seq in later.first.items()
        )

    def then(self, later: Losses) -> Losses:
        """What to go on with after these and `later`, with which they agree."""
        joined = later.resumed()
        joined._expected = NextSeq(self._expected | later._expected)
        return joined

    # Losses out

    def before(
        self, record: Record, interface: int | None = None, continues: Continues | None = None
    ) -> LossRecord | None:
        """The next loss to report before the record; None: the record is next.

        interface   of a capture, by Interface.number: it has numbers of its own
        continues   looks ahead in the capture
        """
        replaced_later = record.seq is not None and self._overrun_logs
        if self._overrun is not None and self._announced is None and not replaced_later:
            overrun, self._overrun = self._overrun, None
            return self._loss(record, None, None, overrun.reason)
        if record.seq is None:
            return self._give_announced(record, interface)
        return self._by_number(record, record.seq, interface, continues)

    def overrun_before(self, record: Record) -> LossRecord | None:
        """The overrun that no number can replace, before a record whose number comes later."""
        if self._overrun is None or self._overrun_logs or self._announced is not None:
            return None
        overrun, self._overrun = self._overrun, None
        return self._loss(record, None, None, overrun.reason)

    def _by_number(
        self, record: Record, seq: int, interface: int | None, continues: Continues | None
    ) -> LossRecord | None:
        """As `before`, for a record with a number."""
        log, numbers = record.log or "", self._expected.of(interface)
        self.dropped = self.dropped or 0
        self._replace_overrun(log)
        jumps = None if interface is None else self._jumps.get((interface, log))
        if jumps is not None and jumps.mixed:  # numbers cannot outweigh a report here
            numbers[log] = _after(seq, record.count or 1)
            return self._give_announced(record, interface)
        expected = numbers.get(log)
        if expected is None:  # what was announced came right before the record
            count = self._announced.count or 0 if self._announced else 0
            expected = (seq - count) & 0xFFFFFFFF
            if interface is None:
                self.first.setdefault(log, seq)
        else:
            count = _missing(expected, seq)
            if seq != expected and interface is not None and continues is not None:
                jumps = jumps or self._jumps.setdefault((interface, log), Jumps())
                if jumps.show_mixed(expected, seq, count, continues):
                    self._count(interface, -jumps.left.get(seq, 0))  # was not lost after all
                    return self._loss(record, None, None, MIXED)
        self._announced = None
        if count:
            numbers[log] = seq
            reason = f"sequence number {seq}, but expected {expected}"
            return self._loss(record, count, expected, reason, interface)
        numbers[log] = _after(seq, record.count or 1)
        return None

    def _replace_overrun(self, log: str) -> None:
        """A number of the log has come: its gap tells what the overrun cost the log."""
        if self._overrun_logs and self._received_since:
            self._overrun_logs.discard(log)
            if not self._overrun_logs:
                self._overrun = None

    def _give_announced(self, record: Record, interface: int | None) -> LossRecord | None:
        """The announced loss before the record, which is then given; None: there is none."""
        announced, self._announced = self._announced, None
        if announced is None:
            return None
        return self._loss(record, announced.count, None, announced.reason, interface)

    def unreported(self, item: DroppedInAll, layout: str, placed: bool) -> LossRecord | None:
        """What an interface of a capture lost in all, without what was reported of it already.

        layout   of an interface without packets
        """
        count = item.count - self._by_interface.get(item.interface, 0)
        if count <= 0:
            return None
        self._count(item.interface, count)
        return LossRecord(
            source=item.source or "capture",
            layout=item.layout or layout,
            offset=item.offset if placed else None,
            count=count,
            reason=item.reason,
        )

    def at_end(self, source: str, layout: str, placed: bool) -> LossRecord | None:
        """The next loss to report after the last record; None: there is no more.

        placed   whether the loss has an offset
        """
        item = self._announced or self._overrun
        if item is None:
            return None
        if item is self._announced:
            self._announced = None
            self._count(item.interface, item.count or 0)
        else:
            self._overrun = None
            self.uncounted += 1
        return LossRecord(source=source, layout=layout, offset=item.offset if placed else None,
                          count=item.count, reason=item.reason)  # fmt: skip

    def _count(self, interface: int | None, count: int) -> None:
        """`count` more records are lost, of an interface of a capture if there is one."""
        self.dropped = (self.dropped or 0) + count
        if interface is not None:
            self._by_interface[interface] = self._by_interface.get(interface, 0) + count

    def _loss(
        self, record: Record, count: int | None, seq: int | None, reason: str,
        interface: int | None = None,
    ) -> LossRecord:  # fmt: skip
        """The loss of `count` records before the record; None: their number is unknown."""
        if count is not None:
            self._count(interface, count)
        elif reason != MIXED:  # it hides losses, but is none
            self.uncounted += 1
        return LossRecord(
            source=record.source,
            layout=record.layout,
            offset=record.offset,
            timestamp_ns=record.timestamp_ns,
            observed_ns=record.observed_ns,
            seq=seq,
            count=count,
            log=None if count is None else record.log,
            reason=reason,
        )


class Jumps:
    """Jumps in the numbers of one log in one interface of a capture.

    A jump is a loss, or the capture was merged from those of several machines, and a log of the
    same name goes on with its own numbers. The numbers that follow tell which.

    left    the number that was expected at a jump -> how many records were reported lost there
    mixed   whether logs alternate, so that a jump is no sign of a loss
    """

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.mixed = False

    def show_mixed(self, expected: int, seq: int, count: int, continues: Continues) -> bool:
        """Whether a jump shows that logs alternate; if not, `count` records are lost there.

        It does if it leads back to where an earlier one began, or if the number that it skipped
        comes soon.
        """
        if seq in self.left or continues(expected):
            self.mixed = True
            return True
        self.left[expected] = count
        if len(self.left) > MOST_JUMPS:
            del self.left[next(iter(self.left))]
        return False


def _after(seq: int, count: int) -> int:
    """The number after `count` records from `seq` on."""
    return (seq + count) & 0xFFFFFFFF


def _missing(expected: int | None, seq: int) -> int:
    """How many records of a log are lost if its next number is `seq`; 0 if none is expected."""
    if expected is None:
        return 0
    count = (seq - expected) & 0xFFFFFFFF
    return 0 if count >= HALF else count
