"""Replay: the records of a recording, and its pace."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import builders
import inprocess
import msgspec
import pytest
import samples

import pylog
from pylog import BackendError, DecodeError, PacketRecord
from pylog.backends.base import Backend
from pylog.formats import pcap_blocks
from pylog.merge import Merged

pytest_plugins = ["pytester"]

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
START = 1_700_000_000 * 10**9
SECOND = 10**9


def capture(*times: int | None, kernel: bool = False) -> bytes:
    """A pcapng whose messages have these times, and the marks 0, 1, 2...

    kernel   the times are NFULA_TIMESTAMP, nobody noted those of receipt
    """
    note = pcap_blocks.Note(unobserved=True).comment() if kernel else b""
    data = pcap_blocks.section_block()
    data += pcap_blocks.interface_block(239, name="nflog:7", comment=note)
    for mark, time_ns in enumerate(times):
        attrs: list[tuple[int, Any]] = [(1, {"hw_protocol": 0x800, "hook": 1}), (2, mark)]
        if kernel and time_ns is not None:
            attrs.append((3, {"sec": time_ns // SECOND, "usec": time_ns % SECOND // 1000}))
        message = builders.log("<", 7, attrs, family=2)
        data += pcap_blocks.packet_block(message[16:], time_ns or 0)
    return data


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes `capture(...)` to a file."""

    def write(*times: int | None, **options: Any) -> Path:
        path = tmp_path / "recording.pcapng"
        path.write_bytes(capture(*times, **options))
        return path

    return write


class Clock:
    """A clock that only sleeping moves; `slept` has the pauses."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, backend: Backend, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: made.now)
        patch.setattr(Backend, "sleep", lambda self, seconds: made.sleep(self, seconds))
        yield made


def marks(records: Any) -> list[int | None]:
    return [record.mark for record in records if isinstance(record, PacketRecord)]


@contextmanager
def later(seconds: float, action: Callable[[], object]) -> Iterator[None]:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    yield
    timer.join()


# What comes


@pytest.mark.parametrize("dump", samples.dumps(), ids=samples.name)
def test_the_records_are_those_of_the_file_without_offsets(dump: Path) -> None:
    expected = []
    for line in samples.golden(dump).splitlines():
        row = msgspec.json.decode(line)
        row.pop("offset", None)
        expected.append(msgspec.json.encode(row))
    with pylog.replay(dump, speed=None) as reader:
        assert pylog.json_lines(reader).splitlines() == expected
    assert reader.received == int(samples.origins()[samples.name(dump)]["records"])


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "name", ["ipl/v5-1-2-lp64le-nat.all.bin", "ipl/damaged.bin", "nflog/tshark.pcapng",
             "nflog/overrun.bin", "ipl/v31-ilp32le-ipf.bin"],
)  # fmt: skip
def test_a_loop_gives_the_same_records_round_after_round(
    name: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_bytes(pack((samples.FIXTURES / name).read_bytes()))
    with pylog.replay(path, speed=None) as reader:
        once = pylog.json_lines(reader).splitlines()
        counts = reader.received, reader.malformed, reader.dropped
    with pylog.replay(path, speed=None, loop=True) as reader:
        for round_ in range(4):
            found = [reader.read() for _ in once]
            assert [pylog.to_json(r) for r in found if r is not None] == once
            assert reader.rounds == round_
        received, malformed, dropped = counts
        assert (reader.received, reader.malformed) == (4 * received, 4 * malformed)
        assert reader.dropped == (None if dropped is None else 4 * dropped)


@pytest.mark.parametrize("data", [capture(), capture(START)[:-8]], ids=["empty", "cut"])
def test_rounds_without_a_record_end_a_loop(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.pcapng"
    path.write_bytes(data)
    with pylog.replay(path, speed=None, loop=True) as reader:
        assert len(list(reader)) <= 1 and reader.rounds == 0 and reader.received == 0


def test_a_pipe_is_replayed_but_not_again(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (
        later(0, lambda: fifo.write_bytes(FILTER.read_bytes())),
        pylog.replay(fifo, speed=None) as reader,
    ):
        assert len(list(reader)) == 61
    with (
        later(0, lambda: fifo.write_bytes(FILTER.read_bytes())),
        pytest.raises(ValueError, match="cannot be replayed again: it is no regular file"),
    ):
        pylog.replay(fifo, loop=True)


@pytest.mark.parametrize("speed", [0, -1, -0.5, float("nan")])
def test_a_speed_that_makes_no_sense_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        pylog.replay(FILTER, speed=speed)


def test_what_cannot_be_opened_is_an_error_as_of_open(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="No such file"):
        pylog.replay(tmp_path / "none")
    (tmp_path / "text").write_text("no log " * 100)
    with pytest.raises(DecodeError, match="this is text; "):
        pylog.replay(tmp_path / "text")
    damaged = samples.FIXTURES / "ipl/damaged.bin"
    with pylog.replay(damaged, speed=None, on_error="strict") as reader, pytest.raises(DecodeError):
        list(reader)


# When it comes


@pytest.mark.parametrize("kernel", [False, True], ids=["receipt", "kernel"])
@pytest.mark.parametrize("speed", [0.5, 1, 10])
def test_pauses_are_those_of_the_recording(
    speed: float, kernel: bool, recording: Callable[..., Path], clock: Clock
) -> None:
    offsets = [0, 1, 1, 61, 3661]
    path = recording(*[START + s * SECOND for s in offsets], kernel=kernel)
    with pylog.replay(path, speed=speed, max_gap=None) as reader:
        came = []
        for record in reader:
            assert isinstance(record, PacketRecord)
            came.append(clock.now - 1000)
            assert (record.observed_ns is None) == kernel
    assert came == pytest.approx([s / speed for s in offsets])
    assert len(clock.slept) == 3


def test_a_clock_that_was_set_back_makes_no_pause(
    recording: Callable[..., Path], clock: Clock
) -> None:
    with pylog.replay(recording(START, START - 60 * SECOND, START + SECOND)) as reader:
        assert marks(reader) == [0, 1, 2]
    assert clock.slept == pytest.approx([1.0])


@pytest.mark.parametrize(("offsets", "came"), [
    ([0, 1, 1.7e9, 1.7e9 + 1], [0, 1, 61, 62]),  # a clock that was set forward
    ([0, 1, 1e6, 2, 3], [0, 1, 61, 61, 62]),  # and back again
    ([0, 1, -3600, -3599, -3598, -3590], [0, 1, 1, 2, 3, 11]),  # set back: the pace goes on
    ([0, 1, -3600, -3599, 2, 3], [0, 1, 1, 2, 3, 4]),  # and set right
    ([0, 30, 0.1, 30.1, 0.2, 30.2], [0, 30, 30, 30.1, 30.1, 30.2]),  # two clocks
    ([0, 1, 0.9, 0.95, 1.1], [0, 1, 1, 1, 1.1]),  # out of order
    ([0, 100, 1000], [0, 60, 120]),
])  # fmt: skip
def test_no_record_is_waited_for_longer_than_a_minute(
    offsets: list[float], came: list[float], recording: Callable[..., Path], clock: Clock
) -> None:
    path = recording(*[START + round(s * SECOND) for s in offsets])
    with pylog.replay(path) as reader:
        found = [clock.now - 1000 for _ in reader]
    assert found == pytest.approx(came)


@pytest.mark.parametrize(("max_gap", "came"), [
    (None, [0, 10, 1010]), (0, [0, 0, 0]), (5, [0, 5, 10]), (1.5, [0, 1.5, 3]), (50, [0, 5, 55]),
])  # fmt: skip
def test_the_longest_gap_can_be_chosen(
    max_gap: float | None, came: list[float], recording: Callable[..., Path], clock: Clock
) -> None:
    path = recording(START, START + 10 * SECOND, START + 1010 * SECOND)
    with pylog.replay(path, max_gap=max_gap, speed=2 if max_gap == 50 else 1) as reader:
        assert [clock.now - 1000 for _ in reader] == pytest.approx(came)


@pytest.mark.parametrize("max_gap", [-1, float("nan"), True, "1"])
def test_a_gap_that_makes_no_sense_is_refused(max_gap: Any) -> None:
    with pytest.raises(ValueError, match="but must be 0 or more, or None for no limit"):
        pylog.replay(FILTER, max_gap=max_gap)


def test_shortened_gaps_are_noted_a_few_times(
    recording: Callable[..., Path], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with pylog.replay(recording(*[START + n * 100 * SECOND for n in range(30)])) as reader:
        assert len(marks(reader)) == 30
    assert len(caplog.messages) == 10
    assert "a gap of 100 s in the recording is shortened to 60 s" in caplog.messages[0]
    assert caplog.messages[-1].endswith("(others are not noted)")


def test_asyncio_waits_no_longer_than_the_longest_gap(recording: Callable[..., Path]) -> None:
    async def read() -> list[int | None]:
        with pylog.replay(recording(START, START + 3600 * SECOND), max_gap=0.2) as reader:
            return marks([record async for record in reader])

    start = time.monotonic()
    assert asyncio.run(read()) == [0, 1]
    assert time.monotonic() - start > 0.19


def test_merged_replays_keep_their_pace_and_their_longest_gap(tmp_path: Path) -> None:
    paths = [tmp_path / "a.pcapng", tmp_path / "b.pcapng"]
    paths[0].write_bytes(capture(START, START + 3600 * SECOND))
    paths[1].write_bytes(capture(40 * SECOND, 40 * SECOND + SECOND // 10, START))
    replays = [pylog.replay(path, max_gap=0.3) for path in paths]
    with Merged(list(replays), window_s=0.01) as reader:
        start, used = time.monotonic(), time.process_time()
        records = list(reader)
        took, used = time.monotonic() - start, time.process_time() - used
    assert Counter(marks(records)) == {0: 2, 1: 2, 2: 1}
    assert 0.39 < took < 10 and used < took / 2


def test_the_command_takes_the_longest_gap(recording: Callable[..., Path]) -> None:
    path = recording(START, START + 3600 * SECOND)
    done = run("replay", path, "--max-gap", "0.1")
    assert done.stdout.count(b"\n") == 2
    assert b"a gap of 3600 s in the recording is shortened to 0.1 s" in done.stderr
    for text in ("-1", "inf", "nan", "long"):
        done = run("replay", path, "--max-gap", text, status=2)
        assert b"is no gap: seconds, 0 or more, or none" in done.stderr


def test_records_without_a_time_come_with_the_one_before(
    recording: Callable[..., Path], clock: Clock
) -> None:
    with pylog.replay(recording(None, START, None, START + SECOND, kernel=True)) as reader:
        came = [(record.timestamp_ns, clock.now - 1000) for record in reader]
    assert [t for _, t in came] == pytest.approx([0, 0, 0, 1])


def test_every_round_of_a_loop_has_the_pace(recording: Callable[..., Path], clock: Clock) -> None:
    with pylog.replay(recording(START, START + 2 * SECOND), loop=True) as reader:
        came = []
        for _ in range(6):
            reader.read()
            came.append(clock.now - 1000)
    assert came == pytest.approx([0, 2, 2, 4, 4, 6])


def test_pace_on_the_real_clock(recording: Callable[..., Path]) -> None:
    with pylog.replay(recording(START, START + 4 * SECOND), speed=10) as reader:
        start = time.monotonic()
        assert marks(reader) == [0, 1]
    assert 0.39 < time.monotonic() - start < 4


def test_a_timeout_leaves_the_record_for_later(
    recording: Callable[..., Path], clock: Clock
) -> None:
    with pylog.replay(recording(START, START + 10 * SECOND)) as reader:
        assert reader.read(timeout=0) is not None
        for _ in range(4):
            with pytest.raises(TimeoutError, match="no record was due in time"):
                reader.read(timeout=2)
        record = reader.read(timeout=2.1)
        assert isinstance(record, PacketRecord) and record.mark == 1
        assert clock.now == pytest.approx(1010) and reader.received == 2
        assert reader.read(timeout=2) is None


@pytest.mark.parametrize("how", ["close", "stop"])
@pytest.mark.parametrize("where", ["thread", "signal"])
def test_a_pause_is_ended(how: str, where: str, recording: Callable[..., Path]) -> None:
    with pylog.replay(recording(START, START + 3600 * SECOND)) as reader:
        assert reader.read() is not None
        start = time.monotonic()
        if where == "thread":
            with later(0.2, getattr(reader, how)):
                assert reader.read() is None
        else:
            before = signal.signal(signal.SIGALRM, lambda *_: getattr(reader, how)())
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                assert reader.read() is None
            finally:
                signal.signal(signal.SIGALRM, before)
        assert 0.15 < time.monotonic() - start < 10 and reader.read() is None


def test_asyncio_waits_for_the_pace_and_lets_others_run(recording: Callable[..., Path]) -> None:
    async def both() -> tuple[list[int | None], int]:
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0.01)

        task = asyncio.create_task(other())
        path = recording(START, START + 2 * SECOND, START + 5 * SECOND)
        with pylog.replay(path, speed=10) as reader:
            found = [record async for record in reader]
        task.cancel()
        return marks(found), others

    start = time.monotonic()
    found, others = asyncio.run(both())
    assert found == [0, 1, 2] and others > 10 and 0.45 < time.monotonic() - start < 5


def test_read_bytes_and_flush_take_the_record_that_was_not_due(
    recording: Callable[..., Path],
) -> None:
    path = recording(START, START + 3600 * SECOND, START + 7200 * SECOND)
    with pylog.replay(path) as reader:
        assert reader.read() is not None
        with pytest.raises(TimeoutError):
            reader.read(timeout=0)
        reader.flush()
        assert reader.read(timeout=0) is None


# The command, and the fixtures for pytest


def run(
    *arguments: object, status: int = 0, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    done = inprocess.run(*arguments, stdin=stdin)
    assert done.returncode == status, done.stderr.decode()
    return done


def test_the_command_writes_what_is_recorded(recording: Callable[..., Path]) -> None:
    done = run("replay", "--speed", "max", "--to", "json", FILTER)
    lines = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    golden = [msgspec.json.decode(line) for line in samples.golden(FILTER).splitlines()]
    assert lines == [{k: v for k, v in o.items() if k != "offset"} for o in golden]
    text = run("replay", "--speed", "max", FILTER).stdout
    assert text == run("read", FILTER).stdout
    path = recording(START, START + 10 * SECOND)
    assert len(run("replay", "--speed", "100", path).stdout.splitlines()) == 2


def test_the_command_loops_until_there_are_enough(recording: Callable[..., Path]) -> None:
    path = recording(START, START + SECOND, START + 2 * SECOND)
    done = run("replay", "--speed", "max", "--loop", "-n", "8", "--to", "json", path)
    found = [msgspec.json.decode(line)["mark"] for line in done.stdout.splitlines()]
    assert found == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "fast", ""])
def test_the_command_refuses_a_speed_that_makes_no_sense(speed: str) -> None:
    assert b"is no speed" in run("replay", f"--speed={speed}", FILTER, status=2).stderr


def test_the_command_replays_standard_input_once() -> None:
    data = FILTER.read_bytes()
    done = run("replay", "--speed", "max", "-", stdin=data)
    assert len(done.stdout.splitlines()) == 61
    assert b"no regular file" in run("replay", "--loop", "-", stdin=data, status=2).stderr


def test_the_fixtures_serve_other_peoples_tests(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["pylog.testing.plugin"]')
    pytester.makepyfile(
        f"""
        import pytest
        import pylog

        readers, devices = [], []

        def test_replays(pylog_replay):
            reader = pylog_replay({str(FILTER)!r}, loop=True)
            readers.append(reader)
            assert [reader.read() is not None for _ in range(70)] == [True] * 70

        def test_it_was_closed():
            assert readers[0].backend.closed and readers[0].read() is None

        def test_options_are_those_of_replay(pylog_replay):
            with pytest.raises(ValueError, match="speed"):
                pylog_replay({str(FILTER)!r}, speed=0)

        def test_device(ipl_device):
            device = ipl_device("ipl-5.1.2-lp64le", size=1 << 17)
            devices.append(device)
            assert device.replay(open({str(FILTER)!r}, "rb").read()) == 61
            with device.open(layout="ipl-5.1.2-lp64le") as reader:
                reader.stop()
                assert len(list(reader)) == 61

        def test_it_was_removed():
            with pytest.raises(pylog.BackendError):
                devices[0].open()
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=5)
