"""What was lost: told by gaps in sequence numbers, by a capture file, or by a system that overran.

A number is believed before a word: where a log numbers its records, a gap tells how many are
missing, and where. A count that is told stands where there is no number to compare. That something
was lost, but not how much, is kept as a doubt, until a later number of each log that it may be of
has settled it, or the end has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pylog.formats import MAXIMUM_COUNT, Dropped, DroppedInAll, NextSeq, Reported
from pylog.record import LossRecord, Record

Continues = Callable[[int], bool]
"""Whether the log of a record in a capture has, soon after the record, one with that number."""

MOST_CHAINS = 64
"""So many numbers of a log are remembered at which a chain of numbers was left."""


@dataclass
class _Chains:
    """Where the numbers of one log in one interface of a capture were left, and how.

    left    the number that was to come next there -> how many records were then reported lost
    mixed   whether several chains alternate: then no number can tell of a loss
    """

    left: dict[int, int] = field(default_factory=dict)
    mixed: bool = False


class Losses:
    """The losses of one source, found record by record.

    dropped    records known to be lost so far; None as long as nothing can tell
    uncounted  losses so far of an unknown number of records
    first      the first number of each log of which no number was known
    """

    def __init__(self, first: Mapping[str, int], numbered: bool = False) -> None:
        """`first` has the number that a log's first record has to have, where that is known.

        numbered   every record has a number, so that no loss goes unseen
        """
        self.dropped: int | None = 0 if numbered else None
        self.uncounted = 0
        self._expected = NextSeq(first)
        self.first: dict[str, int] = {}
        self._announced: Dropped | None = None
        self._doubt: Dropped | None = None
        self._doubtful: set[str] = set()  # logs that the doubt may be of; none: it is the file's
        self._batch = self._doubtful_batch = 0
        self._chains: dict[tuple[int, str], _Chains] = {}
        self._by_interface: dict[int, int] = {}  # of a capture: how many records it lost so far

    @property
    def has_announced(self) -> bool:
        """Whether a loss was told of which no record has said it yet."""
        return self._announced is not None or self._doubt is not None

    def received(self) -> None:
        """More bytes have come: what is in them was sent after the doubts so far."""
        self._batch += 1

    def overrun(self, reason: str, logs: Iterable[str]) -> None:
        """Some of the logs lost something, among what has just been received or after it."""
        self._doubt = Dropped(0, None, reason)
        self._doubtful, self._doubtful_batch = set(logs), self._batch

    def announce(self, item: Dropped) -> None:
        """Something was lost before what comes next."""
        if item.count is None:
            self._doubt, self._doubtful = item, set()
        else:
            before = self._announced.count or 0 if self._announced else 0
            count = min(before + item.count, MAXIMUM_COUNT)
            self._announced = Dropped(item.offset, count, item.reason, item.interface)

    def reported(self, item: Reported) -> None:
        """A loss was reported before, by whoever wrote the file: a gap that is the same is not
        found again. Any other gap is, so that a report cannot hide one.
        """
        loss = item.loss
        if loss.count is None:
            self.uncounted += loss.size is None and loss.reason != MIXED
            return
        self._count(item.interface, loss.count)
        if loss.seq is not None and loss.log is not None and loss.count < 0x80000000:
            numbers = self._expected.of(item.interface)
            if numbers.setdefault(loss.log, loss.seq) == loss.seq:
                numbers[loss.log] = (loss.seq + loss.count) & 0xFFFFFFFF

    def restart(self) -> None:
        """From here on any number may come next."""
        self._expected = NextSeq()
        self._chains.clear()
        self._by_interface.clear()

    def numbers(self) -> NextSeq | None:
        """The numbers that may come next without a word; None while there is something to tell.

        Give them back to `follow` when records have come. A record for which they do not allow is
        for `before`.
        """
        if self._announced is not None or (self._doubt is not None and not self._doubtful):
            return None
        known = self._expected if self.dropped is not None else NextSeq()
        if self._doubt is None:
            return known
        sure = NextSeq({log: n for log, n in known.items() if log not in self._doubtful})
        sure.unnumbered = False
        return sure

    def follow(self, numbers: NextSeq) -> None:
        """Records have come in order, and `numbers` are to come next."""
        if numbers is self._expected:  # they are here already
            return
        self._expected |= numbers
        for interface, own in numbers.by_interface.items():
            self._expected.of(interface).update(own)

    def passed(self, log: str, following: int, interface: int | None = None) -> None:
        """Records of a log came in order, and `following` is the number that is to come next."""
        self._expected.of(interface)[log] = following

    def resumed(self) -> Losses:
        """The same, to go on with elsewhere: what was lost so far is not counted again."""
        return _again(self._expected, {}, None, self._announced, self._doubt, self._doubtful)

    def __reduce__(self) -> tuple[Callable[..., Losses], tuple[Any, ...]]:
        """How it is pickled, also in its compiled form."""
        state = (self._expected, self.first, self.dropped, self._announced, self._doubt,
                 self._doubtful, self.uncounted)  # fmt: skip
        return _again, state

    def agrees(self, later: Losses) -> bool:
        """Whether `later`, begun without knowing of these, has told what it would have told."""
        return not self.has_announced and all(
            _missing(self._expected.get(log), seq) == 0 for log, seq in later.first.items()
        )

    def then(self, later: Losses) -> Losses:
        """What is known after these and `later`, with which they agree."""
        other = later.resumed()
        other._expected = NextSeq(self._expected | later._expected)
        return other

    def before(
        self, record: Record, interface: int | None = None, continues: Continues | None = None
    ) -> LossRecord | None:
        """What was lost before the record, one thing at a call; None: the record is next.

        interface   of a capture, by Interface.number: it has numbers of its own
        continues   looks ahead in the capture
        """
        for_good = record.seq is None or not self._doubtful  # no number will settle the doubt
        if self._doubt is not None and for_good and self._announced is None:
            doubt, self._doubt = self._doubt, None
            return self._loss(record, None, None, doubt.reason)
        announced, self._announced = self._announced, None
        if record.seq is None:
            if announced is None:
                return None
            return self._loss(record, announced.count, None, announced.reason, interface)
        return self._by_number(record, record.seq, announced, interface, continues)

    def _by_number(
        self, record: Record, seq: int, announced: Dropped | None, interface: int | None,
        continues: Continues | None,
    ) -> LossRecord | None:  # fmt: skip
        log, numbers = record.log or "", self._expected.of(interface)
        expected = numbers.get(log)
        if self.dropped is None:
            self.dropped = 0
        self._settle(log)
        if expected is not None:
            count = _missing(expected, seq)
            if seq != expected and interface is not None and continues is not None:
                key = interface, log
                mixed = self._is_of_another_chain(key, seq, expected, count, continues)
                if mixed:
                    numbers[log] = seq
                    return self._loss(record, None, None, MIXED)
                if mixed is not None:
                    numbers[log] = (seq + (record.count or 1)) & 0xFFFFFFFF
                    if announced is None:
                        return None
                    return self._loss(record, announced.count, None, announced.reason, interface)
        else:  # the numbers before are not known
            if interface is None:
                self.first.setdefault(log, seq)
            count = announced.count or 0 if announced else 0
            expected = (seq - count) & 0xFFFFFFFF
        if count:
            numbers[log] = seq
            reason = f"sequence number {seq}, but expected {expected}"
            return self._loss(record, count, expected, reason, interface)
        numbers[log] = (seq + (record.count or 1)) & 0xFFFFFFFF
        return None

    def _is_of_another_chain(
        self, key: tuple[int, str], seq: int, expected: int, count: int, continues: Continues
    ) -> bool | None:
        """Whether a number goes on with another chain of numbers than the one before it did.

        None: it does not. True: it does, and that is to be reported, once.
        """
        chains = self._chains.setdefault(key, _Chains())
        if chains.mixed:
            return False
        if seq in chains.left or continues(expected):
            self._count(key[0], -chains.left.get(seq, 0))  # these were not lost after all
            chains.mixed = True
            return True
        chains.left[expected] = count
        if len(chains.left) > MOST_CHAINS:
            del chains.left[next(iter(chains.left))]
        return None

    def in_all(self, item: DroppedInAll, layout: str, placed: bool) -> LossRecord | None:
        """What an interface of a capture lost beyond what was reported of it already.

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

    def _count(self, interface: int | None, count: int) -> None:
        """So many more records are lost, of an interface of a capture if there is one."""
        self.dropped = (self.dropped or 0) + count
        if interface is not None:
            self._by_interface[interface] = self._by_interface.get(interface, 0) + count

    def _settle(self, log: str) -> None:
        """A number of the log tells what it has lost until here."""
        if self._doubtful and self._batch > self._doubtful_batch:
            self._doubtful.discard(log)
            if not self._doubtful:
                self._doubt = None

    def at_end(self, source: str, layout: str, placed: bool) -> LossRecord | None:
        """What was told to be lost after the last record, one thing at a call.

        placed   whether the loss has an offset
        """
        item = self._announced or self._doubt
        if item is None:
            return None
        if item is self._announced:
            self._announced = None
            self._count(item.interface, item.count or 0)
        else:
            self._doubt = None
            self.uncounted += 1
        return LossRecord(source=source, layout=layout, offset=item.offset if placed else None,
                          count=item.count, reason=item.reason)  # fmt: skip

    def _loss(
        self, record: Record, count: int | None, seq: int | None, reason: str,
        interface: int | None = None,
    ) -> LossRecord:  # fmt: skip
        """`count` records were lost before the record; None: nobody knows how many."""
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


MIXED = "mixed: numbers of several logs alternate here, so that losses cannot be counted"


def _missing(expected: int | None, seq: int) -> int:
    """How many records of a log are lost if the next number is `seq`; 0 if none is expected."""
    if expected is None:
        return 0
    count = (seq - expected) & 0xFFFFFFFF
    return 0 if count >= 0x80000000 else count  # counted anew from the start


def _again(
    expected: dict[str, int],
    first: dict[str, int],
    dropped: int | None,
    announced: Dropped | None,
    doubt: Dropped | None,
    doubtful: set[str],
    uncounted: int = 0,
) -> Losses:
    """Losses in a state; what comes next was sent after the doubts."""
    losses = Losses(expected)
    losses.first, losses.dropped, losses.uncounted = first, dropped, uncounted
    losses._announced, losses._doubt, losses._doubtful = announced, doubt, set(doubtful)
    losses._batch = 1
    return losses
