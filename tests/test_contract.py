"""Every source has the manners of ipl(4): one suite, on whatever a log can be read from."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import io
import os
import select
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import effort
import fusedev
import netlab
import pytest
import samples

import pylog
import pylog.input
from pylog.backends import ipl as ipl_backend
from pylog.formats import Message, ipl
from pylog.testing import Device, Nflog, packet

LATER_S = 0.05
"""When something happens to a reader that waits: after it has begun to."""
LAYOUT = "ipl-5.1.2-lp64le"
DUMP = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
OLD_LAYOUT = "ipl-3.4.35-lp64le"
OLD_DUMP = samples.FIXTURES / "ipl/v3435-lp64le-filter.ipf.bin"


def records_of(dump: Path, layout: str) -> list[bytes]:
    """The raw records of a dump."""
    data = dump.read_bytes()
    items = ipl.stream(layout).split(data, True)
    return [data[i.start : i.end] for i in items if isinstance(i, Message)]


class Log(ABC):
    """A log that a test can write to and read.

    waits   whether a reader waits for more at its end
    """

    waits = True

    @abstractmethod
    def feed(self, count: int) -> None:
        """Log so many records, which are there to be read when this returns."""

    @abstractmethod
    def open(self, **options: Any) -> pylog.Reader:
        """A reader of the log."""

    @abstractmethod
    def close(self) -> None:
        """Take the log away."""


class DeviceLog(Log):
    """The double of /dev/ipl; the version before 4.1 has a poll that does not tell."""

    def __init__(self, layout: str = LAYOUT, dump: Path = DUMP) -> None:
        self.layout = layout
        self.device = Device(layout, size=1 << 17)
        self.records = records_of(dump, layout)
        self.next = 0

    def feed(self, count: int) -> None:
        for _ in range(count):
            assert self.device.keep(self.records[self.next % len(self.records)])
            self.next += 1

    def open(self, **options: Any) -> pylog.Reader:
        return self.device.open(layout=self.layout, **options)

    def close(self) -> None:
        self.device.close()


class FuseLog(DeviceLog):
    """The same behind the kernel's own open, read, poll and ioctl."""

    def __init__(self, folder: Path) -> None:
        self.layout = LAYOUT
        self.mount = fusedev.Mount(folder, layout=LAYOUT, size=1 << 17)
        self.records = records_of(DUMP, LAYOUT)
        self.next = 0
        if self.mount.problem:
            self.mount.close()
            pytest.skip(self.mount.problem)

    def feed(self, count: int) -> None:
        for _ in range(count):
            assert self.mount.call("keep", self.records[self.next % len(self.records)])
            self.next += 1

    def open(self, **options: Any) -> pylog.Reader:
        # Linux would answer FIONREAD of a file itself
        numbers = {0x4004667F: fusedev.FIONREAD, 0x40047242: fusedev.SIOCIPFFB}
        system = ipl_backend.real_system()._replace(
            platform="freebsd14",
            ioctl=lambda number, request, buffer: fcntl.ioctl(
                number, numbers[request], buffer, True
            ),
        )
        backend = ipl_backend.Device(str(self.mount.path), system)
        return pylog.Reader(backend, layout=LAYOUT, **options)

    def close(self) -> None:
        self.mount.close()


class NflogLog(Log):
    """A group of the running kernel, in a namespace."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.namespace = self.stack.enter_context(netlab.Namespace())
        self.namespace.log_udp(9, 5)

    def feed(self, count: int) -> None:
        for _ in range(count):
            self.namespace.udp("127.0.0.1", 9, b"contract")

    def open(self, **options: Any) -> pylog.Reader:
        return pylog.open("nflog:5", netns=self.namespace.name, latency=True, **options)

    def close(self) -> None:
        self.stack.close()


class DoubleLog(Log):
    """The double of NFLOG."""

    def __init__(self) -> None:
        self.nflog = Nflog()

    def feed(self, count: int) -> None:
        for _ in range(count):
            self.nflog.log(packet(protocol="udp", dport=9, data=b"contract"))

    def open(self, **options: Any) -> pylog.Reader:
        return self.nflog.open("5", latency=True, **options)

    def close(self) -> None:
        self.nflog.close()


class PipeLog(Log):
    """A pipe that somebody writes a dump to."""

    def __init__(self) -> None:
        into, out = os.pipe()
        self.source, self.sink = os.fdopen(into, "rb", 0), os.fdopen(out, "wb", 0)
        self.records = records_of(DUMP, LAYOUT)
        self.next = 0

    def feed(self, count: int) -> None:
        for _ in range(count):
            self.sink.write(self.records[self.next % len(self.records)])
            self.next += 1

    def open(self, **options: Any) -> pylog.Reader:
        if not self.next:  # a pipe is told by its first bytes: there must be some
            self.feed(1)
            reader = pylog.open(self.source, layout=LAYOUT, **options)
            assert reader.read_bytes(1 << 16)
            reader.received = 0
            return reader
        return pylog.open(self.source, layout=LAYOUT, **options)

    def close(self) -> None:
        self.source.close()
        self.sink.close()


class FileLog(Log):
    """A capture file, which is all there; what is fed comes before it is opened."""

    waits = False

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.bin"
        self.records = records_of(DUMP, LAYOUT)
        self.count = 0

    def feed(self, count: int) -> None:
        with self.path.open("ab") as file:
            for record in self.records[self.count : self.count + count]:
                file.write(record)
        self.count += count

    def open(self, **options: Any) -> pylog.Reader:
        return pylog.open(self.path, layout=LAYOUT, **options)

    def close(self) -> None:
        self.path.unlink(missing_ok=True)


KINDS = ("device", "old device", "fuse device", "nflog", "nflog double", "pipe", "file")
WAITING = KINDS[:-1]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the waits for more of a short log, and of those between looks at an old device."""
    monkeypatch.setattr(pylog.input, "PATIENCE_S", 0.1)
    monkeypatch.setattr(ipl_backend, "TICK_S", 0.1)


@pytest.fixture
def log(request: pytest.FixtureRequest, tmp_path: Path, soon: None) -> Iterator[Log]:
    kind = request.param
    if kind == "nflog" and (problem := netlab.missing("nft")):
        pytest.skip(problem)
    make: dict[str, Callable[[], Log]] = {
        "device": DeviceLog,
        "old device": lambda: DeviceLog(OLD_LAYOUT, OLD_DUMP),
        "fuse device": lambda: FuseLog(tmp_path / "mount"),
        "nflog": NflogLog,
        "nflog double": DoubleLog,
        "pipe": PipeLog,
        "file": lambda: FileLog(tmp_path),
    }
    if kind == "fuse device":
        (tmp_path / "mount").mkdir()
    made = make[kind]()
    yield made
    made.close()


every_log = pytest.mark.parametrize("log", KINDS, indirect=True)
waiting_log = pytest.mark.parametrize("log", WAITING, indirect=True)


@contextlib.contextmanager
def fed(log: Log, count: int, **options: Any) -> Iterator[pylog.Reader]:
    """A reader of a log that has so many records for it."""
    if log.waits:
        with log.open(**options) as reader:
            log.feed(count)
            yield reader
    else:
        log.feed(count)
        with log.open(**options) as reader:
            yield reader


def take(reader: pylog.Reader, count: int) -> list[pylog.Record]:
    """So many records, each of which comes within five seconds."""
    found = [reader.read(timeout=5) for _ in range(count)]
    assert all(record is not None for record in found)
    return [record for record in found if record is not None]


@every_log
def test_records_come_whole_and_in_order(log: Log) -> None:
    with fed(log, 7, raw=True) as reader:
        records = take(reader, 7)
        assert reader.received == 7 and reader.malformed == 0 and reader.dropped in (0, None)
    numbers = [record.seq for record in records]
    if None not in numbers:
        first = numbers[0]
        assert first is not None
        expected = first
        for record in records:
            assert record.seq == expected
            expected += record.count or 1
    assert all(record.raw for record in records)


@every_log
def test_read_bytes_gives_whole_raw_records_and_pending_counts_them(log: Log) -> None:
    with fed(log, 5, raw=True) as reader:
        pending = reader.pending()
        data = b""
        while len(data) < pending:
            data += reader.read_bytes(1 << 16)
        assert len(data) == pending > 0 and reader.received == 5
        assert reader.pending() == 0


@every_log
def test_a_size_too_small_leaves_the_record_in_place(log: Log) -> None:
    with fed(log, 2) as reader:
        with pytest.raises(ValueError, match="16 bytes are too few"):
            reader.read_bytes(16)
        assert len(take(reader, 2)) == 2


@every_log
def test_flush_returns_bytes_and_is_not_a_drop(log: Log) -> None:
    with fed(log, 4) as reader:
        pending = reader.pending()
        assert reader.flush() == pending > 0
        assert reader.pending() == 0 and reader.dropped in (0, None)
        if log.waits:
            log.feed(1)
            (record,) = take(reader, 1)
            assert not isinstance(record, pylog.LossRecord)


@waiting_log
def test_a_read_waits_no_longer_than_its_timeout_and_loses_nothing(log: Log) -> None:
    with fed(log, 1) as reader:
        take(reader, 1)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            reader.read(timeout=0.1)
        with pytest.raises(TimeoutError):
            reader.read(timeout=0)
        assert 0.09 < time.monotonic() - begun < 3
        log.feed(2)
        assert len(take(reader, 2)) == 2


@waiting_log
def test_a_read_waits_for_the_next_record(log: Log) -> None:
    with fed(log, 1) as reader:
        take(reader, 1)
        later = threading.Timer(LATER_S, log.feed, [1])
        later.start()
        assert reader.read() is not None
        later.join()


@waiting_log
def test_close_from_another_thread_wakes_a_read(log: Log) -> None:
    with fed(log, 1) as reader:
        take(reader, 1)
        closer = threading.Timer(LATER_S, reader.close)
        closer.start()
        assert reader.read() is None
        closer.join()
        assert reader.read() is None and reader.pending() == 0


@waiting_log
@pytest.mark.parametrize("how", ["close", "stop"])
def test_a_signal_handler_wakes_a_read(log: Log, how: str) -> None:
    with fed(log, 1) as reader:
        take(reader, 1)
        before = signal.signal(signal.SIGALRM, lambda *_: getattr(reader, how)())
        signal.setitimer(signal.ITIMER_REAL, LATER_S)
        try:
            assert reader.read() is None
        finally:
            signal.signal(signal.SIGALRM, before)


@waiting_log
def test_an_exception_from_a_signal_handler_leaves_the_reader_usable(log: Log) -> None:
    def interrupt(*_: object) -> None:
        raise InterruptedError("by the test")

    with fed(log, 1) as reader:
        take(reader, 1)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with pytest.raises(InterruptedError, match="by the test"):
                signal.setitimer(signal.ITIMER_REAL, LATER_S)
                reader.read()
        finally:
            signal.signal(signal.SIGALRM, before)
        log.feed(1)
        assert len(take(reader, 1)) == 1


@every_log
def test_stop_still_gives_what_is_there(log: Log) -> None:
    with fed(log, 6) as reader:
        take(reader, 1)
        reader.stop()
        rest = list(reader)
        assert len(rest) == 5 and reader.received == 6


@every_log
def test_close_may_come_twice_and_ends_iteration(log: Log) -> None:
    with fed(log, 3) as reader:
        seen = 0
        for _ in reader:
            seen += 1
            reader.close()
        assert seen == 1
        reader.close()


@waiting_log
def test_the_descriptor_is_readable_when_there_is_something(log: Log) -> None:
    with fed(log, 1) as reader:
        take(reader, 1)
        log.feed(1)
        assert select.select([reader.fileno()], [], [], 5)[0]


@every_log
def test_asyncio_reads_and_lets_others_run(log: Log) -> None:
    """While a reader waits, another coroutine logs something for it, and stops it later."""

    async def both() -> tuple[int, int]:
        ticks = seen = 0

        async def tick(reader: pylog.Reader) -> None:
            nonlocal ticks
            while True:
                ticks += 1
                if log.waits and ticks == 10:
                    log.feed(2)
                if log.waits and ticks == 20:
                    reader.stop()
                await asyncio.sleep(0.01)

        with fed(log, 3) as reader:
            ticking = asyncio.create_task(tick(reader))
            async for _ in reader:
                seen += 1
            ticking.cancel()
            return seen, ticks

    seen, ticks = asyncio.run(both())
    assert seen == (5 if log.waits else 3)
    assert ticks >= (20 if log.waits else 1)


@waiting_log
def test_a_task_that_is_cancelled_leaves_the_reader_usable(log: Log) -> None:
    async def cancelled(reader: pylog.Reader) -> None:
        async def next_record() -> pylog.Record:
            return await anext(aiter(reader))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(next_record(), LATER_S)

    with fed(log, 1) as reader:
        take(reader, 1)
        asyncio.run(cancelled(reader))
        log.feed(1)
        assert len(take(reader, 1)) == 1


@waiting_log
def test_other_coroutines_may_ask_while_one_waits(log: Log) -> None:
    async def ask(reader: pylog.Reader) -> list[int]:
        async def next_record() -> pylog.Record:
            return await anext(aiter(reader))

        waiting = asyncio.create_task(next_record())
        await asyncio.sleep(LATER_S)
        found = [reader.pending()]
        log.feed(1)
        assert await asyncio.wait_for(waiting, 5)
        return [*found, reader.flush()]

    with fed(log, 1) as reader:
        take(reader, 1)
        assert asyncio.run(ask(reader)) == [0, 0]


@waiting_log
def test_close_from_another_thread_wakes_asyncio(log: Log) -> None:
    async def wait(reader: pylog.Reader) -> int:
        threading.Timer(LATER_S, reader.close).start()
        return len([record async for record in reader])

    with fed(log, 1) as reader:
        take(reader, 1)
        assert asyncio.run(asyncio.wait_for(wait(reader), 10)) == 0


@waiting_log
def test_a_child_that_ends_after_fork_leaves_the_log_to_its_parent(log: Log) -> None:
    with fed(log, 1) as reader:
        take(reader, 1)
        child = os.fork()
        if not child:
            reader.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        log.feed(1)
        assert len(take(reader, 1)) == 1


@waiting_log
def test_a_reader_is_not_read_by_two_at_a_time(log: Log) -> None:
    with fed(log, 1) as reader:
        take(reader, 1)
        problems: list[BaseException] = []

        def again(*_: object) -> None:
            try:
                reader.read(timeout=1)
            except BaseException as error:
                problems.append(error)
            reader.close()

        before = signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, 0.2)  # when the reader certainly waits
        try:
            assert reader.read() is None
        finally:
            signal.signal(signal.SIGALRM, before)
        assert isinstance(problems[0], RuntimeError)


def test_a_file_object_in_memory_is_read_asynchronously() -> None:
    async def count() -> int:
        with pylog.open(io.BytesIO(DUMP.read_bytes())) as reader:
            return len([record async for record in reader])

    assert asyncio.run(count()) == len(records_of(DUMP, LAYOUT))


# What readers leave behind


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")


@needs_proc
@pytest.mark.parametrize("log", ["device", "nflog", "nflog double", "pipe", "file"], indirect=True)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_descriptors_are_given_back_with_and_without_close(log: Log) -> None:
    with fed(log, 1) as reader:
        take(reader, 1)
    gc.collect()
    before = descriptors()
    doubles = DeviceLog | DoubleLog  # which close what was opened when they are closed
    for closed in (True, False) if not isinstance(log, doubles) else (True,):
        for _ in range(3):
            if isinstance(log, PipeLog):  # which is told by what is in it
                log.feed(1)
            reader = log.open()
            with contextlib.suppress(TimeoutError):
                reader.read(timeout=0)
            if closed:
                reader.close()
            del reader
            gc.collect()
        assert descriptors() == before, closed


@needs_proc
def test_a_merged_reader_is_closed_by_another_thread_at_any_time() -> None:
    before = descriptors()
    for i in effort.sample(range(200), least=50):
        with Device(LAYOUT) as a, Device(LAYOUT) as b:
            a.keep(records_of(DUMP, LAYOUT)[0])
            merged = pylog.Merged([device.open(layout=LAYOUT) for device in (a, b)], 10)
            closer = threading.Timer(i / 20_000, merged.close)
            closer.start()
            assert merged.read(timeout=20) is None
            closer.join()
    assert descriptors() == before


def test_a_file_object_of_which_nobody_else_holds_on_stays_open(soon: None) -> None:
    into, out = os.pipe()
    with os.fdopen(out, "wb", 0) as sink:
        sink.write(records_of(DUMP, LAYOUT)[0])
        reader = pylog.open(os.fdopen(into, "rb"), layout=LAYOUT)
        gc.collect()
        assert reader.read(timeout=5) is not None
        sink.write(records_of(DUMP, LAYOUT)[1])
        assert reader.read(timeout=5) is not None
        reader.close()


def test_waiting_takes_no_time_of_the_processor() -> None:
    """Of a merged reader one of whose sources has ended, and after fork()."""

    async def wait(merged: pylog.Merged) -> None:
        with contextlib.suppress(TimeoutError):
            async for _ in merged:
                pass

    async def bounded(merged: pylog.Merged) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wait(merged), 0.4)

    with Device(LAYOUT) as device:
        ended, sink = os.pipe()
        os.write(sink, records_of(DUMP, LAYOUT)[0])
        os.close(sink)
        source = os.fdopen(ended, "rb")
        readers = [device.open(layout=LAYOUT), pylog.open(source, layout=LAYOUT)]
        with pylog.Merged(readers, 0.1) as merged:
            begun = time.process_time()
            asyncio.run(bounded(merged))
            assert time.process_time() - begun < 0.2
        source.close()
        with device.open(layout=LAYOUT) as reader:
            with pytest.raises(TimeoutError):
                reader.read(timeout=0)
            child = os.fork()
            if not child:
                reader.close()
                os._exit(0)
            os.waitpid(child, 0)
            begun = time.process_time()
            with pytest.raises(TimeoutError):
                reader.read(timeout=0.4)
            assert time.process_time() - begun < 0.2


@pytest.mark.parametrize("timeout", [1e10, float("inf"), 2147484])
def test_a_timeout_may_be_as_long_as_one_likes(timeout: float) -> None:
    with Device(LAYOUT) as device, device.open(layout=LAYOUT) as reader:
        threading.Timer(LATER_S, device.keep, [records_of(DUMP, LAYOUT)[0]]).start()
        assert reader.read(timeout=timeout) is not None
        with pytest.raises(ValueError, match="timeout is nan"):
            reader.read(timeout=float("nan"))


def test_two_coroutines_do_not_read_one_reader() -> None:
    async def both(reader: pylog.Reader) -> tuple[int | BaseException, int | BaseException]:
        async def count() -> int:
            return len([record async for record in reader])

        asyncio.get_running_loop().call_later(LATER_S, reader.stop)
        return await asyncio.wait_for(asyncio.gather(count(), count(), return_exceptions=True), 10)

    with Device(LAYOUT) as device, device.open(layout=LAYOUT) as reader:
        device.keep(records_of(DUMP, LAYOUT)[0])
        found = asyncio.run(both(reader))
    assert any(isinstance(result, RuntimeError) for result in found)
    assert any(isinstance(result, int) for result in found)


def test_the_child_reads_on_when_the_parent_closes_after_fork(soon: None) -> None:
    into, out = os.pipe()
    os.write(out, records_of(DUMP, LAYOUT)[0])
    with os.fdopen(into, "rb", 0) as source:
        reader = pylog.open(source, layout=LAYOUT)
        assert reader.read(timeout=5) is not None
        with pytest.raises(TimeoutError):
            reader.read(timeout=0)
        told, tell = os.pipe()
        closed, close = os.pipe()
        child = os.fork()
        if not child:
            os.read(closed, 1)  # the parent has closed its reader
            begun = time.process_time()
            with contextlib.suppress(TimeoutError):
                reader.read(timeout=0.4)
            os.write(tell, b"idle" if time.process_time() - begun < 0.2 else b"busy")
            os._exit(0)
        reader.close()
        os.write(close, b"!")
        os.waitpid(child, 0)
        assert os.read(told, 4) == b"idle"
    for number in (out, told, tell, closed, close):
        os.close(number)


def test_a_device_may_be_closed_before_its_reader() -> None:
    device = Device(LAYOUT)
    reader = device.open(layout=LAYOUT)
    device.close()
    reader.close()
