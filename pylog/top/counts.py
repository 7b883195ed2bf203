"""Counts of what comes: of all records and by second, and for each view by its key.

Records are counted a batch at a time, each view by itself, which costs about 0.1 us a record and
view. A view has the counts since the beginning, exactly up to a number of keys (see
pylog.stats.result), and those of the last seconds. All methods may be called by several threads.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from pylog.filter import Filter
from pylog.record import LossRecord, Record
from pylog.stats.counted import RecordGroups
from pylog.stats.hints import no_time
from pylog.stats.keys import getter, key
from pylog.stats.losses import LossTally
from pylog.stats.question import Plan, Question
from pylog.stats.result import Answer, Group

SLOT_S = 5
"""Rates are those of the slot of so many seconds that goes on, and of the one before."""
HISTORY_S = 900
"""So many seconds of the past are remembered for the sparkline."""
LAST = 5000
"""So many records are remembered, to look into an entry."""
MOST_KEYS = 20_000
SLOT_KEYS = 10_000


class View(NamedTuple):
    """A view.

    name     in the tab
    by       its keys
    """

    name: str
    by: tuple[str, ...]


VIEWS = (
    View("sources", ("saddr",)),
    View("targets", ("daddr",)),
    View("ports", ("protocol", "dport")),
    View("rules", ("group", "rule", "prefix")),
    View("nets", ("saddr/24",)),
    View("interfaces", ("indev", "outdev")),
    View("verdicts", ("action",)),
)
STATES = {"action": ("action", "event", "op")}
"""What stands for a verdict in records that have none: the event of a flow, the op of a change."""


class Entry(NamedTuple):
    """A line of a view.

    now   how often it was seen per second lately
    """

    group: Group
    now: float


class Picture(msgspec.Struct, frozen=True):
    """The counts at a moment.

    rate        records per second lately; of a file per second of its own time
    seconds     how many records came in each of the last seconds, the newest last
    count       packets or events, and `records`
    verdicts    the greatest of them with their counts
    entries     of the view, in order
    in_all      how many entries the view has
    floor       no entry that is missing was seen more often; 0: none is missing
    losses      what was lost
    lost        the last losses in words, the newest first
    time_ns     the time of the newest record
    ended       why reading ended; "": it goes on
    unknowable  the logs of which losses cannot be seen
    no_time     how many records have no time, in words; "" for none
    """

    rate: float
    seconds: list[int]
    count: int
    records: int
    verdicts: list[tuple[Any, int]]
    entries: list[Entry]
    in_all: int
    floor: int
    losses: str
    lost: list[str]
    time_ns: int | None
    ended: str
    unknowable: list[str] = []
    no_time: str = ""


class Counts:
    """What is counted; `own_time` of a file, whose records have the time of the log.

    unknowable   whether losses of each log cannot be seen
    lacks_zone   whether times of text logs may lack only a zone
    """

    def __init__(
        self, own_time: bool = False, views: Sequence[View] = VIEWS, keys: int = MOST_KEYS
    ) -> None:
        self.views, self.own_time = views, own_time
        self.filter: Filter | None = None
        self.ended = ""
        self.unknowable: dict[str, bool] = {}
        self.lacks_zone = False
        self._keys = keys
        self._plans = [Plan(Question(view.by, keys=keys)) for view in views]
        self._lock = threading.Lock()
        self._getters: dict[type, list[list[Callable[[Any], Any]]]] = {}
        self.reset()

    def reset(self, wanted: Filter | None = None) -> None:
        """Begin again; only records that the filter wants count from here on."""
        with self._lock:
            self.filter = wanted
            self._groups = [RecordGroups(plan, "packet") for plan in self._plans]
            self._slots = [Counter[Any]() for _ in self.views]
            self._before = [Counter[Any]() for _ in self.views]
            self._slot = 0
            self._slot_begun = self._begun = self._now()
            self._history: Counter[int] = Counter()
            self._newest: int | None = None
            self._losses, self._lost = LossTally(), deque[str](maxlen=200)
            self._last: deque[Record] = deque(maxlen=LAST)
            self._records = self._count = self._untimed = 0

    @staticmethod
    def _now() -> float:
        return time.monotonic()

    def feed(self, records: Sequence[Record]) -> None:
        """Count records."""
        with self._lock:
            if self.filter is not None:
                records = [record for record in records if self.filter.matches(record)]
            losses = [record for record in records if isinstance(record, LossRecord)]
            if losses:
                self._losses.add(losses)
                self._lost.extendleft(loss.describe() for loss in losses)
                records = [record for record in records if not isinstance(record, LossRecord)]
            self._turn()
            by_type: dict[type, list[Record]] = {}
            if len(set(map(type, records))) == 1:
                by_type[type(records[0])] = list(records)
            else:
                for record in records:
                    by_type.setdefault(type(record), []).append(record)
            for kind, same in by_type.items():
                self._feed(kind, same)
            self._last.extend(records)

    def _feed(self, kind: Any, records: list[Any]) -> None:
        """Count records of a type."""
        getters = self._getters.get(kind)
        if getters is None:
            getters = self._getters[kind] = [_getters(view, kind) for view in self.views]
        counts = [getattr(record, "count", None) for record in records]
        weights = [count or 1 for count in counts] if any(counts) else None
        times = [r.timestamp_ns if r.timestamp_ns is not None else r.observed_ns for r in records]
        self._untimed += times.count(None)
        newest = max((t for t in times if t is not None), default=None)
        if newest is not None and (self._newest is None or newest > self._newest):
            self._newest = newest
        for i, reads in enumerate(getters):
            columns = [list(map(read, records)) for read in reads]
            keys = list(zip(*columns, strict=True))
            if weights is None:
                counted = Counter(keys)
            else:
                counted = Counter()
                for each, weight in zip(keys, weights, strict=True):
                    counted[each] += weight
            self._groups[i].add_counts(counted, newest)
            self._slots[i].update(counted)
            if len(self._slots[i]) > SLOT_KEYS:
                self._slots[i] = Counter(dict(self._slots[i].most_common(SLOT_KEYS // 2)))
        self._records += len(records)
        self._count += sum(weights) if weights else len(records)
        if self.own_time:
            self._history.update(t // 10**9 for t in times if t is not None)
        else:
            self._history[int(self._now())] += len(records)
        if len(self._history) > 2 * HISTORY_S:
            last = max(self._history)
            self._history = Counter(
                {second: n for second, n in self._history.items() if second > last - HISTORY_S}
            )

    def _turn(self) -> None:
        """Begin another slot if it is time."""
        now = self._now()
        if now - self._slot_begun >= SLOT_S:
            empty = now - self._slot_begun >= 2 * SLOT_S
            for i, slot in enumerate(self._slots):
                self._before[i] = Counter() if empty else slot
                self._slots[i] = Counter()
            self._slot_begun = now - (now - self._slot_begun) % SLOT_S

    def picture(self, view: int, order: str = "count", limit: int = 200) -> Picture:
        """The counts now.

        view    the number of the view whose entries are given
        order   now, count, last or key
        """
        with self._lock:
            self._turn()
            now = self._now()
            seconds = self._seconds(now)
            answer: Answer = self._groups[view].answer()
            elapsed = max(min(now - self._begun, now - self._slot_begun + SLOT_S), 0.5)
            if self.own_time:
                recent: Counter[Any] = Counter()
                rate = sum(seconds) / max(len(seconds), 1)
            else:
                recent = self._slots[view] + self._before[view]
                done = seconds[:-1][-10:] or seconds
                rate = sum(done) / max(min(len(done), now - self._begun), 1)
            entries = [Entry(group, recent.get(group.keys, 0) / elapsed) for group in answer.groups]
            entries.sort(key=_in_order(order))
            verdicts = self._verdicts()
            return Picture(
                rate, seconds, self._count, self._records, verdicts, entries[:limit],
                len(answer.groups), answer.floor, self._losses.text(), list(self._lost)[:limit],
                self._newest, self.ended, [n for n, yes in self.unknowable.items() if yes],
                self._no_time(),
            )  # fmt: skip

    def _no_time(self) -> str:
        count = self._untimed + (0 if self.filter is None else self.filter.untimed)
        return no_time(count, self.lacks_zone) if count else ""

    def _seconds(self, now: float) -> list[int]:
        """The records of each second from the first one remembered on."""
        if not self._history:
            return []
        last = max(self._history) if self.own_time else int(now)
        first = max(min(self._history), last - HISTORY_S)
        return [self._history.get(second, 0) for second in range(first, last + 1)]

    def _verdicts(self) -> list[tuple[Any, int]]:
        names = [view.name for view in self.views]
        if "verdicts" not in names:
            return []
        groups = self._groups[names.index("verdicts")].answer().groups
        greatest = sorted(groups, key=lambda group: -group.count)[:4]
        return [(group.keys[0], group.count) for group in greatest]

    def records_of(self, view: int, keys: tuple[Any, ...], limit: int = 500) -> list[Record]:
        """The last records of an entry among the last LAST, the newest first."""
        with self._lock:
            last = list(self._last)
        found: list[Record] = []
        for record in reversed(last):
            getters = self._getters[type(record)][view]
            if tuple(read(record) for read in getters) == keys:
                found.append(record)
                if len(found) == limit:
                    break
        return found


def _getters(view: View, kind: Any) -> list[Callable[[Any], Any]]:
    """The functions that read the keys of a view from a type of record."""
    found = []
    for name in view.by:
        names = [n for n in STATES.get(name, (name,)) if n in kind.__struct_fields__]
        found.append(getter(key(names[0] if names else name, None), kind))
    return found


def _in_order(order: str) -> Callable[[Entry], Any]:
    if order == "now":
        return lambda entry: (-entry.now, -entry.group.count)
    if order == "last":
        return lambda entry: -(entry.group.last_ns or 0)
    if order == "key":
        return lambda entry: tuple(
            (k is None, isinstance(k, str), k or 0) for k in entry.group.keys
        )
    return lambda entry: (-entry.group.count, str(entry.group.keys))
