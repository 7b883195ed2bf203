"""Several sources as one: the order of time, complete and bounded, whatever the sources do."""

from __future__ import annotations

import asyncio
import heapq
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import builders
import effort
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import BackendError, DecodeError, PacketRecord
from pylog.formats import Message, ipl
from pylog.merge import Merged
from pylog.testing import Device

LAYOUT = "ipl-5.1.2-lp64le"
FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
NAT = samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin"
STATE = samples.FIXTURES / "ipl/v5-1-2-lp64le-state.all.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
DATA = FILTER.read_bytes()
RAW = [DATA[m.start : m.end] for m in ipl.stream(LAYOUT).split(DATA, True) if type(m) is Message]
SEQS = [json.loads(line)["seq"] for line in samples.golden(FILTER).splitlines()]
MERGE = sys.modules["pylog.merge"]  # pylog.merge is the function


def message(second: int | None, mark: int) -> bytes:
    """An NFLOG message with that time, or none, and that mark."""
    attrs: list[tuple[int, Any]] = [(1, {"hw_protocol": 0x800, "hook": 1}), (2, mark)]
    if second is not None:
        attrs.append((3, {"sec": second, "usec": 0}))
    return builders.log("<", 7, attrs, family=2)


def effective(records: list[pylog.Record]) -> list[tuple[int, pylog.Record]]:
    """The records with their times; one without has that of the one before it."""
    last, found = 0, []
    for record in records:
        last = record.timestamp_ns if record.timestamp_ns is not None else last
        found.append((last, record))
    return found


def read_all(*sources: Any, **options: Any) -> list[pylog.Record]:
    """The records, without their origin."""
    with pylog.merge(*sources, origin=False, **options) as reader:
        return list(reader)


@contextmanager
def two_devices(window_s: float) -> Iterator[tuple[Device, Device, Merged]]:
    """Two doubles, and their logs as one."""
    with Device(LAYOUT) as a, Device(LAYOUT) as b:
        readers = [device.open(layout=LAYOUT) for device in (a, b)]
        with Merged(readers, window_s) as merged:
            yield a, b, merged


# The order


@pytest.mark.parametrize(
    "paths",
    [[FILTER, NAT], [NAT, FILTER, STATE], [FILTER, FILTER], [SEQ, FILTER], [FILTER]],
    ids=lambda paths: "+".join(path.name for path in paths),
)
def test_files_are_merged_as_heapq_merges_them(paths: list[Path]) -> None:
    alone = []
    for path in paths:
        with pylog.open(path) as reader:
            alone.append(effective(list(reader)))
    expected = [pylog.to_json(r) for _, r in heapq.merge(*alone, key=lambda pair: pair[0])]
    with pylog.merge(*paths, origin=False) as reader:
        assert [pylog.to_json(record) for record in reader] == expected
        assert reader.received == sum(r.received for r in reader.readers()) == len(expected)
        assert reader.malformed == 0


def test_files_in_order_are_merged_in_order() -> None:
    paths = [samples.FIXTURES / f"ipl/v4-1-35-lp64le-{n}.bin" for n in ("nat.nat", "state.state")]
    times = [record.timestamp_ns or 0 for record in read_all(FILTER, *paths)]
    assert times == sorted(times) and len(times) == 61 + 24 + 20
    assert read_all(FILTER)[0].timestamp_ns != times[0]  # the files do overlap


@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.integers(1, 20)), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    )
)
@effort.examples(60)
def test_every_record_comes_once_and_in_its_sources_order(sources: list[list[int | None]]) -> None:
    files = []
    for i, times in enumerate(sources):
        messages = [message(t, 1000 * i + n) for n, t in enumerate(times)]
        files.append(io.BytesIO(b"".join(messages)))
    found = read_all(*files)
    marks = [r.mark for r in found if isinstance(r, PacketRecord) and r.mark is not None]
    for i, times in enumerate(sources):
        own = [mark % 1000 for mark in marks if mark // 1000 == i]
        assert own == list(range(len(times)))
    last: list[list[tuple[int, int]]] = [[] for _ in sources]
    for i, times in enumerate(sources):
        now = 0
        for n, t in enumerate(times):
            now = now if t is None else t
            last[i].append((now, 1000 * i + n))
    merged = [mark for _, mark in heapq.merge(*last, key=lambda pair: pair[0])]
    assert marks == merged


def test_counters_are_those_of_all_sources() -> None:
    overrun, damaged = (samples.FIXTURES / f"nflog/{n}.bin" for n in ("overrun", "damaged"))
    with pylog.merge(overrun, damaged, FILTER) as reader:
        assert reader.dropped is None or reader.dropped == 0
        count = sum(not isinstance(record, pylog.LossRecord) for record in reader)
        assert count == reader.received == 680 + 27 + 61
        assert reader.dropped == sum(r.dropped or 0 for r in reader.readers()) >= 2520
        assert reader.malformed == sum(r.malformed for r in reader.readers()) > 0
    meta = samples.FIXTURES / "ipl/v4-1-35-lp64le-filter.ipf.bin"
    with pylog.merge(meta, meta) as reader:
        assert len(list(reader)) == 122 and reader.dropped is None


# Live sources


def test_a_record_waits_for_a_silent_source_no_longer_than_the_window() -> None:
    with two_devices(0.3) as (a, _, merged):
        a.keep(RAW[5])
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            merged.read(timeout=0.1)
        record = merged.read()
        assert record is not None and record.seq == SEQS[5]
        assert 0.28 < time.monotonic() - start < 3


def test_an_older_record_within_the_window_comes_first_and_a_late_one_still_comes() -> None:
    with two_devices(0.3) as (a, b, merged):
        a.keep(RAW[5])
        timer = threading.Timer(0.1, b.keep, [RAW[2]])
        timer.start()
        first = [merged.read(timeout=5), merged.read(timeout=5)]
        timer.join()
        a.keep(RAW[6])
        b.keep(RAW[3])  # older than what was given
        rest = [merged.read(timeout=5), merged.read(timeout=5)]
    seqs = [SEQS.index(r.seq) for r in (*first, *rest) if r is not None]
    assert seqs == [2, 5, 3, 6]


def test_records_of_both_need_no_waiting() -> None:
    with two_devices(30) as (a, b, merged):
        for record in RAW[:10]:
            a.keep(record)
        b.keep(RAW[10])
        start = time.monotonic()
        found = [merged.read(timeout=5) for _ in range(10)]
        assert [record.seq for record in found if record is not None] == SEQS[:10]
        assert time.monotonic() - start < 5


def test_a_file_does_not_wait_at_every_record_for_a_silent_device() -> None:
    with Device(LAYOUT) as device:
        readers = [device.open(layout=LAYOUT), pylog.open(FILTER)]
        with Merged(readers, window_s=0.2) as merged:
            assert merged.read(timeout=5) is not None
            assert all(merged.read(timeout=0) is not None for _ in range(60))


def test_a_file_and_a_device_are_merged() -> None:
    nat = pylog.open(samples.FIXTURES / "ipl/v4-1-35-lp64le-nat.nat.bin")
    with Device(LAYOUT, size=1 << 17) as device:
        for record in RAW:
            device.keep(record)
        with Merged([device.open(layout=LAYOUT), nat], window_s=0.1) as merged:
            merged.stop()
            found = list(merged)
        times = [record.timestamp_ns or 0 for record in found]
        assert times == sorted(times) and len(found) == 61 + 24


@pytest.mark.parametrize("limit", [10, 100])
def test_what_waits_for_a_silent_source_is_bounded(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MERGE, "LIMIT", limit)
    with Device(LAYOUT, size=1 << 19) as fast, Device(LAYOUT) as silent:
        for i in range(1000):
            fast.keep(RAW[i // 1000])
        readers = [fast.open(layout=LAYOUT), silent.open(layout=LAYOUT)]
        with Merged(readers, window_s=60) as merged:
            start = time.monotonic()
            for given_so_far in range(1000 - limit + 1):
                assert merged.read(timeout=5) is not None
                assert merged.received - given_so_far <= limit + 1
            assert time.monotonic() - start < 20  # the window was not waited for
            with pytest.raises(TimeoutError):
                merged.read(timeout=0.05)
            merged.stop()
            assert len(list(merged)) == limit - 1


@pytest.mark.parametrize("how", ["close", "stop"])
@pytest.mark.parametrize("where", ["thread", "signal"])
def test_a_read_that_waits_is_ended(how: str, where: str) -> None:
    with two_devices(30) as (a, _, merged):
        a.keep(RAW[0])  # held back, as the other is silent
        if where == "thread":
            timer = threading.Timer(0.2, getattr(merged, how))
            timer.start()
            found = list(merged)
            timer.join()
        else:
            before = signal.signal(signal.SIGALRM, lambda *_: getattr(merged, how)())
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                found = list(merged)
            finally:
                signal.signal(signal.SIGALRM, before)
        assert [record.seq for record in found] == ([1] if how == "stop" else [])
        assert merged.read() is None


def test_a_timeout_loses_nothing() -> None:
    with two_devices(0.05) as (a, b, merged):
        for source, raw in ((a, RAW[0]), (b, RAW[1])):
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError, match="in time"):
                    merged.read(timeout=timeout)
            source.keep(raw)
        assert [getattr(merged.read(timeout=5), "seq", None) for _ in range(2)] == SEQS[:2]


def test_flush_discards_what_waits_too() -> None:
    with two_devices(0.2) as (a, b, merged):
        a.keep(RAW[0])
        with pytest.raises(TimeoutError):
            merged.read(timeout=0)  # takes it in
        a.keep(RAW[1])
        b.keep(RAW[2])
        assert merged.pending() == merged.flush() == sum(map(len, RAW[:3]))
        with pytest.raises(TimeoutError):
            merged.read(timeout=0.3)
        assert merged.dropped in (0, None)


def test_asyncio_reads_files_and_devices() -> None:
    async def both() -> tuple[list[int | None], int]:
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0.01)

        with two_devices(0.1) as (a, b, merged):
            loop, task = asyncio.get_running_loop(), asyncio.create_task(other())
            for delay, source, raw in ((0.1, a, RAW[1]), (0.15, b, RAW[0]), (0.5, b, RAW[1])):
                loop.call_later(delay, source.keep, raw)
            loop.call_later(1.0, merged.stop)
            found = [record.seq async for record in merged]
            task.cancel()
            return found, others

    found, others = asyncio.run(both())
    assert found == [SEQS[0], SEQS[1], SEQS[1]] and others > 20

    async def files() -> int:
        with pylog.merge(FILTER, NAT) as merged:
            return len([record async for record in merged])

    assert asyncio.run(files()) == 61 + 41


# Failures


def test_a_source_that_fails_ends_reading_and_the_others_are_closed() -> None:
    with two_devices(0.1) as (a, b, merged):
        a.keep(RAW[0])
        b.keep(RAW[1])
        assert merged.read(timeout=5) is not None
        a.remove()
        with pytest.raises(BackendError, match="/dev/ipl"):
            while merged.read(timeout=5) is not None:
                pass
    assert all(reader.backend.closed for reader in merged.readers())
    assert merged.read() is None


def test_what_came_before_an_error_is_given_first() -> None:
    cut = DATA[: len(RAW[0]) + len(RAW[1])] + b"garbage" * 100
    found: list[int | None] = []
    with (
        pylog.merge(io.BytesIO(cut), FILTER, on_error="strict", layout=LAYOUT) as reader,
        pytest.raises(DecodeError),
    ):
        found.extend(record.seq for record in reader)
    assert found[:3] == [SEQS[0], SEQS[0], SEQS[1]]


def test_a_source_that_cannot_be_opened_closes_those_before_it(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"this is no log " * 100)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for bad, kind in ((tmp_path / "missing", BackendError), (tmp_path / "none", DecodeError)):
        with pytest.raises(kind):
            pylog.merge(FILTER, NAT, bad)
    with pytest.raises(ValueError, match="no source here has an option qthresh"):
        pylog.merge(FILTER, NAT, qthresh=1)
    after = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    assert after == before


def test_files_are_in_order_however_long_reading_takes() -> None:
    with pylog.merge(FILTER, NAT) as reader:
        time.sleep(0.6)  # longer than the window
        times = [record.timestamp_ns or 0 for record in reader]
    with pylog.merge(FILTER, NAT, window_s=1000) as reader:
        assert times == [record.timestamp_ns or 0 for record in reader]


def test_what_is_held_back_is_pending_and_flushed() -> None:
    with two_devices(30) as (a, b, merged):
        for record in RAW[:3]:
            a.keep(record)
        b.keep(RAW[0])
        assert merged.read(timeout=5) is not None
        assert merged.received == 4
        expected = sum(map(len, RAW[:3]))
        assert merged.pending() == merged.flush() == expected
        assert merged.pending() == 0 and merged.received == 1
