"""The wall clock jumps while a pipeline runs: nothing is deleted, held back or doubled for it."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pylog.clock import SETTLED_S, EvenClock
from pylog.outputs import _sql
from pylog.pipeline import journal as journal_module
from pylog.pipeline.growth import MOST, Growth
from pylog.pipeline.journal import Journal
from pylog.pipeline.segments import segments
from pylog.pipeline.stages import Settings, Stages
from pylog.testing import packet

YEAR_S = 365 * 86_400.0


class Clock:
    """A wall clock and a monotonic one that a test sets."""

    def __init__(self) -> None:
        self.wall_s, self.monotonic_s = 1_700_000_000.0, 50.0

    def wall(self) -> float:
        return self.wall_s

    def monotonic(self) -> float:
        return self.monotonic_s

    def go_on(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S])
def test_a_jump_counts_when_it_has_lasted_a_day(jump_s: float) -> None:
    clock = Clock()
    even = EvenClock(clock.wall, clock.monotonic)
    clock.go_on(10)
    before = even.now()
    assert before == clock.wall_s
    clock.wall_s += jump_s
    assert even.now() == before and even.is_ahead() == (jump_s > 0)
    clock.go_on(SETTLED_S - 10)
    assert even.now() == before + SETTLED_S - 10
    clock.go_on(20)
    assert even.now() == clock.wall_s and not even.is_ahead()


def test_a_clock_that_comes_back_was_never_away_and_a_slewed_one_is_followed() -> None:
    clock = Clock()
    even = EvenClock(clock.wall, clock.monotonic)
    for _ in range(20):
        clock.go_on(SETTLED_S / 10)
        clock.wall_s += YEAR_S
        even.now()
        clock.wall_s -= YEAR_S
        assert even.now() == clock.wall_s
    for _ in range(100):  # a drift
        clock.go_on(60)
        clock.wall_s += 1
        assert even.now() == clock.wall_s


def test_lag_is_what_the_monotonic_clock_says() -> None:
    growth = Growth(100, 10.0)
    for step in range(1, 11):
        growth.note(100 + 10 * step, 10.0 + step)
    assert growth.age_s(200, 25.0) == 0 and growth.age_s(50, 25.0) == 15.0
    assert growth.age_s(199, 25.0) == 5.0  # the last ten bytes came at 20
    assert growth.age_s(190, 25.0) == 5.0 and growth.age_s(189, 25.0) == 6.0


def test_samples_of_growth_are_few_and_good_enough() -> None:
    growth = Growth(0, 0.0)
    for step in range(1, 50_000):
        growth.note(step, step / 10)
    assert len(growth._times) <= MOST + 1
    for place in (0, 1, 777, 25_000, 49_000):
        assert growth.age_s(place, 5000.0) == pytest.approx(5000 - (place + 1) / 10, abs=13)


def passed(stages: Stages, *seconds: float) -> list[float]:
    """The times of the records that pass, of records that are the same but for their times."""
    records = [packet(sport=5, observed_ns=int(s * 1e9), timestamp_ns=int(s * 1e9))
               for s in seconds]  # fmt: skip
    return [(r.observed_ns or 0) / 1e9 for r in stages.apply(records)]


def test_a_limited_rate_goes_on_from_the_new_time() -> None:
    stages = Stages(Settings(rate=2))
    assert passed(stages, 100, 100, 100, 100.5) == [100, 100, 100.5]
    back = passed(stages, 50, 50.5, 51, 51)  # no records for 50 seconds would be a loss
    assert back == [50.5, 51]
    ahead = passed(stages, *[1e6] * 5)
    assert ahead == [1e6] * 2  # a jump ahead gives no more than a second does


def test_a_repeated_record_is_new_when_the_clock_went_back() -> None:
    stages = Stages(Settings(dedup=10))
    assert passed(stages, 100, 105, 50, 55, 61, 1e6, 1e6 + 5) == [100, 50, 61, 1e6]


def test_clocks_of_two_sources_that_differ_do_not_undo_a_rate() -> None:
    stages = Stages(Settings(rate=1))
    records = [packet(sport=n, observed_ns=10**18, timestamp_ns=10**18 + n % 2 * 10**13)
               for n in range(100)]  # fmt: skip
    assert len(stages.apply(records)) == 1


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S])
def test_a_jump_removes_no_segment_and_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    clock = Clock()
    clock.wall_s = time.time()  # that of the files
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    even = partial(EvenClock, clock.wall, clock.monotonic)
    monkeypatch.setattr(journal_module, "EvenClock", even)

    def opened() -> Journal:
        return Journal(tmp_path, segment_size=100, size=None, age_s=3600, header=lambda: b"h" * 8)

    def append(journal: Journal) -> None:
        assert journal.ready() and journal.append([b"x" * 200]) == 0

    journal = opened()
    monkeypatch.setattr(journal_module, "valid_end", lambda path: path.stat().st_size)
    append(journal)
    journal.close()
    for segment in segments(tmp_path):
        os.utime(segment.path, (clock.wall_s, clock.wall_s))
    journal = opened()
    append(journal)
    append(journal)
    clock.wall_s += jump_s
    clock.go_on(60)
    append(journal)
    assert len(segments(tmp_path)) == 4  # of before, and of now
    clock.go_on(3600)
    append(journal)
    assert len(segments(tmp_path)) == 3 and journal.removed == 2 * 208
    journal.close()


def test_old_records_of_a_database_stay_while_the_clock_is_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, pruned = Clock(), []

    class Database:
        def prune(self, tables: Any, days: int) -> bool:
            pruned.append(days)
            return False

    output: Any = object.__new__(_sql.DatabaseOutput)
    output._keep_days, output._tables, output._database = 3, {}, Database()
    output._clock = EvenClock(clock.wall, clock.monotonic)
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    output._pruned = clock.monotonic_s - _sql.PRUNE_S
    output._prune()
    clock.wall_s += YEAR_S
    for _ in range(int(SETTLED_S / _sql.PRUNE_S)):
        clock.go_on(_sql.PRUNE_S)
        output._prune()
    assert pruned == [3]
    clock.go_on(_sql.PRUNE_S)
    output._prune()
    assert pruned == [3, 3]
