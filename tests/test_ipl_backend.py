"""The backend of IPFilter's log devices, on the double: every layout, every limit, every errno."""

from __future__ import annotations

import errno
import logging
import os
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import effort
import msgspec
import pytest
import samples

import pylog
from pylog import BackendError, BackendUnavailable, DecodeError, LossRecord
from pylog.backends import ipl as backend
from pylog.formats import Message, ipl, ipl_layouts
from pylog.testing import Device

LAYOUT = "ipl-5.1.2-lp64le"
FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
OLD = samples.FIXTURES / "ipl/v3435-lp64le-filter.ipf.bin"
LOGS = [
    (path, log)
    for path in samples.dumps("ipl/*")
    for log in ("ipf", "nat", "state")
    if path.name.endswith((f"{log}.bin", f"-{log}.all.bin"))
    or (log == "ipf" and path.name.endswith(".all.bin"))
]
EVERYTHING = 1 << 19


def records_of(path: Path, layout: str = LAYOUT, log: str = "ipf") -> list[bytes]:
    """The raw records of a dump that are of the log."""
    data, stream = path.read_bytes(), ipl.stream(f"{layout}:{log}")
    found = [item for item in stream.split(data, True) if isinstance(item, Message)]
    return [data[m.start : m.end] for m in found if stream.message_log(data, m) == log]


def shape(record: pylog.Record) -> Any:
    """What a live reader and one of a file must agree on; the layout may have several names."""
    reported = msgspec.json.decode(pylog.to_json(record))
    return {k: v for k, v in reported.items() if k not in ("offset", "observed", "layout")}


def sized_record(size: int) -> bytes:
    """The first record of the dump, with a body that makes it so large, as log_all logs it."""
    schema = ipl_layouts.named(LAYOUT).schema("ipf")
    fields = schema.parse(FILTER.read_bytes())
    packet = bytearray(fields.packet + bytes(size - fields.ipl_dsize))
    packet[2:4] = len(packet).to_bytes(2)
    fields["packet"], fields["ipl_dsize"] = bytes(packet), size
    fields["fl_plen"] = (len(packet) - fields.fl_hlen) & 0xFF
    return schema.build(fields)


class Calls:
    """The system calls of a double, counted, and refused where a test says so.

    limit     the largest read, besides the double's own
    reads     (size, what it gave or the errno) of each read
    opened    the flags of each open
    """

    def __init__(self, device: Device) -> None:
        self._real = device.system
        self.limit = 1 << 30
        self.reads: list[tuple[int, bytes | int]] = []
        self.opened: list[int] = []
        self.asked = 0
        self.refuse_writing: int | None = None
        self.system = self._real._replace(open=self._open, read=self._read, ioctl=self._ioctl)

    def _open(self, path: str, flags: int) -> int:
        self.opened.append(flags & (os.O_WRONLY | os.O_RDWR))
        if self.opened[-1] and self.refuse_writing is not None:
            raise OSError(self.refuse_writing, os.strerror(self.refuse_writing), path)
        return self._real.open(path, flags)

    def _read(self, descriptor: int, size: int) -> bytes:
        try:
            if size > self.limit:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            data = self._real.read(descriptor, size)
        except OSError as error:
            self.reads.append((size, error.errno or 0))
            raise
        self.reads.append((size, data))
        return data

    def _ioctl(self, descriptor: int, request: int, buffer: bytearray) -> int:
        self.asked += 1
        return self._real.ioctl(descriptor, request, buffer)

    @property
    def refused(self) -> int:
        return sum(answer == errno.EINVAL for _, answer in self.reads)

    def reader(self, **options: Any) -> pylog.Reader:
        source = backend.Device("/dev/ipl", self.system)
        return pylog.Reader(source, **{"layout": LAYOUT, **options})


@contextmanager
def later(seconds: float, action: Any, *arguments: Any) -> Iterator[None]:
    timer = threading.Timer(seconds, action, arguments)
    timer.start()
    yield
    timer.join()


# Every layout


@pytest.mark.parametrize(
    ("path", "log"), effort.sample(LOGS, least=20), ids=lambda x: getattr(x, "name", x)
)
def test_a_device_gives_the_records_that_its_dump_has(
    path: Path, log: str, caplog: pytest.LogCaptureFixture
) -> None:
    layout = samples.origins()[samples.name(path)]["layout"]
    with pylog.open(path) as reader:
        complete = [r for r in reader if not isinstance(r, LossRecord) and r.log == log]
    raw = records_of(path, layout, log)
    assert len(raw) == len(complete) > 0
    # a state log alone does not tell that its TCP states have illumos' numbers
    named = layout if log == "state" and "illumos" in layout else None
    with Device(layout, log, size=EVERYTHING) as device, caplog.at_level(logging.WARNING, "pylog"):
        for record in raw:
            assert device.keep(record)
        with device.open(layout=named) as reader:
            reader.stop()
            live = list(reader)
    assert [shape(record) for record in live] == [shape(record) for record in complete]
    assert all(r.offset is None and r.observed_ns is not None for r in live)
    if named is not None:
        return
    # one log alone may have several names, and the whole dump's is one of them
    names = [name.partition(":")[0] for name in reader.detection.layouts]
    assert {record.layout for record in complete} <= set(names)
    (note,) = [r.getMessage() for r in caplog.records]
    assert note.startswith(f"ipl:/dev/ipl: read as {reader.detection.layouts[0]}")
    assert "records chain by their lengths over" in note


@pytest.mark.parametrize("record", range(0, 57, 8))
@pytest.mark.parametrize("path", [FILTER, OLD], ids=samples.name)
def test_one_record_is_enough_to_tell_a_layout_that_has_a_magic(
    path: Path, record: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pylog.input.PATIENCE_S", 0.0)
    layout = samples.origins()[samples.name(path)]["layout"]
    with Device(layout) as device, device.open() as reader:
        device.keep(records_of(path, layout)[record])
        found = reader.read(timeout=0)
    assert found is not None and found.layout == layout


WRONG = [
    ("v5-1-2-lp64le-filter.ipf", "ipl-5.1.2-lp64be"),
    ("v5-1-2-lp64le-filter.ipf", "ipl-5.1.2-lp64le-nounit"),
    ("v5-1-2-lp64le-filter.ipf", "ipl-4.1-lp64le"),
    ("v5-1-2-lp64le-filter.ipf", "ipl-3.4.35-lp64le"),
    ("v4-1-35-lp64le-filter.ipf", "ipl-5.1.2-lp64le"),
    ("v3435-lp64le-filter.ipf", "ipl-3.4.0-lp64le"),
    ("v5-1-2-lp64le-filter.ipf", "ipl-3.1-lp64le"),
]


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_wrong_layout_is_told_at_once(name: str, wrong: str, count: int) -> None:
    path = samples.FIXTURES / f"ipl/{name}.bin"
    right = samples.origins()[f"ipl/{name}.bin"]["layout"]
    raw = records_of(path, right)[:count]
    for on_error in ("resync", "strict"):
        with Device(right, size=EVERYTHING) as device:
            for record in raw:
                device.keep(record)
            with device.open(layout=wrong, on_error=on_error) as reader:
                if on_error == "strict":
                    with pytest.raises(DecodeError):
                        reader.read(timeout=0.1)
                    continue
                loss = reader.read(timeout=0.1)
                assert isinstance(loss, LossRecord) and loss.size
                assert reader.malformed == 1 and reader.received == 0


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_wrong_layout_never_gives_records_that_look_right(name: str, wrong: str) -> None:
    right = samples.origins()[f"ipl/{name}.bin"]["layout"]
    raw = records_of(samples.FIXTURES / f"ipl/{name}.bin", right)
    sizes, malformed = 0, 0
    with Device(right, size=EVERYTHING) as device, device.open(layout=wrong) as reader:
        for record in raw:
            device.keep(record)
        reader.stop()
        for found in reader:
            sizes += found.size or 0 if isinstance(found, LossRecord) else 0
            malformed += isinstance(found, LossRecord) and found.size is not None
    assert malformed == reader.malformed > 0 and sizes > sum(map(len, raw)) // 2


# How much a read asks for


@pytest.mark.parametrize(
    ("size", "limit"),
    [(8192, None), (32768, None), (40000, None), (EVERYTHING, None), (1000, None), (32768, 8192),
     (8192, 32768), (65536, 300), (65536, 5000)],
)  # fmt: skip
def test_the_size_of_a_read_is_found_by_asking_a_few_times(size: int, limit: int | None) -> None:
    raw = records_of(FILTER)
    with Device(LAYOUT, size=size, read_limit=limit) as device:
        calls = Calls(device)
        with calls.reader() as reader:
            got = []
            for record in raw * 10:
                if not device.keep(record):
                    got += [reader.read(timeout=5) for _ in range(min(3, device.dropped))]
                got += [reader.read(timeout=5)] if reader.ready or len(got) % 2 else []
            early = calls.refused
            assert early <= 20 + 19  # halved from 2^19, and closed in on
            while reader.ready or reader.pending():
                got.append(reader.read(timeout=5))
            lost = [r for r in got if isinstance(r, LossRecord)]
            assert calls.refused == early and all(r.count for r in lost)
            assert reader.received == len(got) - len(lost) > 100 and reader.malformed == 0


@pytest.mark.parametrize("limit", [8192, 32768, 40000, 50001])
@pytest.mark.parametrize("part", [0.5, 0.51, 0.9, 1.0])
def test_a_record_larger_than_half_the_limit_is_read(limit: int, part: float) -> None:
    """A read of too few bytes gives none, which is not the end."""
    with Device(LAYOUT, size=EVERYTHING, read_limit=limit) as device:
        calls = Calls(device)
        with calls.reader() as reader:
            device.keep(sized_record(168))
            assert reader.read(timeout=5) is not None
            device.keep(sized_record(int(limit * part)))
            device.keep(sized_record(168))
            large, small = reader.read(timeout=5), reader.read(timeout=5)
            assert isinstance(large, pylog.PacketRecord) and isinstance(small, pylog.PacketRecord)
            assert large.caplen == int(limit * part) - 128 and small.caplen == 40
            assert calls.refused <= 20 + 19
            refused = calls.refused
            for _ in range(5):
                device.keep(sized_record(int(limit * part)))
                assert reader.read(timeout=5) is not None
            assert calls.refused == refused


def test_a_record_larger_than_any_read_is_an_error_that_flush_ends() -> None:
    with Device(LAYOUT, size=EVERYTHING, read_limit=1000) as device:
        calls = Calls(device)
        with calls.reader() as reader:
            device.keep(sized_record(5000))
            for _ in range(2):
                with pytest.raises(BackendError, match=r"larger than the 1000 bytes .* flush"):
                    reader.read(timeout=5)
            assert reader.pending() == 5000 and reader.flush() == 5000
            device.keep(sized_record(900))
            assert isinstance(reader.read(timeout=5), pylog.PacketRecord)
            assert calls.refused <= 20 + 19


def test_a_log_that_is_made_smaller_is_read_on() -> None:
    with Device(LAYOUT, size=EVERYTHING, read_limit=32768) as device:
        calls = Calls(device)
        with calls.reader() as reader:
            for limit in (32768, 8192, 3000, 1000):
                calls.limit = limit
                for _ in range(20):
                    device.keep(sized_record(700))
                assert len([reader.read(timeout=5) for _ in range(20)]) == 20
            assert reader.received == 80 and calls.refused <= 4 * 20


def test_nothing_is_not_the_end() -> None:
    """5.x gives 0 bytes while its log is not initialised."""
    with Device(LAYOUT) as device:
        calls = Calls(device)
        empty = [True]

        def ioctl(number: int, request: int, buffer: bytearray) -> int:
            answer = calls.system.ioctl(number, request, buffer)
            buffer[0] |= bool(empty)
            return answer

        def read(number: int, size: int) -> bytes:
            return b"" if empty and empty.pop() else calls.system.read(number, size)

        system = calls.system._replace(ioctl=ioctl, read=read)
        with pylog.Reader(backend.Device("/dev/ipl", system), layout=LAYOUT) as reader:
            with pytest.raises(TimeoutError):
                reader.read(timeout=0.1)
            assert not empty
            device.keep(sized_record(168))
            assert isinstance(reader.read(timeout=5), pylog.PacketRecord)


# What the system refuses


@pytest.mark.parametrize(
    ("number", "kind", "sentence"),
    [
        (errno.ENXIO, BackendUnavailable, "IPFilter is not loaded, or has no log of that kind"),
        (errno.ENOENT, BackendUnavailable, "No such file or directory"),
        (errno.EACCES, BackendError, "run as its owner, root, or let the group read it"),
        (errno.EPERM, BackendError, "run as root"),
        (errno.EBUSY, BackendError, r"another program \(ipmon\?\) has it"),
        (errno.EIO, BackendError, "Input/output error"),
    ],
)
def test_a_device_that_cannot_be_opened_is_told_with_what_helps(
    number: int, kind: type[BackendError], sentence: str
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    with Device() as device, pytest.raises(BackendError, match=sentence) as caught:
        backend.Device("/dev/ipl", device.system._replace(open=refuse))
    assert type(caught.value) is kind and isinstance(caught.value.__cause__, OSError)
    assert str(caught.value).startswith("cannot open /dev/ipl for reading: ")


def test_a_filter_that_is_not_enabled_is_told() -> None:
    with Device(LAYOUT) as device, device.open(layout=LAYOUT) as reader:
        device.enabled = False
        with pytest.raises(BackendError, match=r"not enabled \(ipf -E\)"):
            reader.read(timeout=5)
        device.enabled = True
        device.keep(sized_record(168))
        assert isinstance(reader.read(timeout=5), pylog.PacketRecord)


@pytest.mark.parametrize("poll", [True, False])
def test_a_device_that_is_taken_away_ends_a_read_that_waits(
    poll: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "TICK_S", 0.02)
    with (
        Device(LAYOUT, poll=poll) as device,
        device.open(layout=LAYOUT) as reader,
        later(0.2, device.remove),
        pytest.raises(BackendError, match=r"/dev/ipl: .*; IPFilter .*is being unloaded"),
    ):
        reader.read()


def test_only_flush_opens_the_device_for_writing() -> None:
    with Device(LAYOUT) as device:
        calls = Calls(device)
        with calls.reader() as reader:
            device.keep(sized_record(168))
            reader.read(timeout=5)
            device.keep(sized_record(200))
            assert calls.opened == [os.O_RDONLY]
            assert reader.flush() == 200
            assert calls.opened == [os.O_RDONLY, os.O_WRONLY]
            for number in (errno.EPERM, errno.EACCES):
                calls.refuse_writing = number
                device.keep(sized_record(200))
                with pytest.raises(
                    BackendError, match=r"for writing, which flushing takes: .*root"
                ):
                    reader.flush()
                assert isinstance(reader.read(timeout=5), pylog.PacketRecord)


# What FIONREAD and poll say


@pytest.mark.parametrize("layout", ["ipl-3.4.35-lp64le", "ipl-5.1.2-lp64le", "ipl-4.1-ilp32be"])
def test_pending_is_what_is_queued(layout: str) -> None:
    """3.4 stores a size_t where an int is asked for."""
    names = {"3": "v3435-lp64le-filter", "5": "v5-1-2-lp64le-filter", "4": "v4-1-35-ilp32be-nat"}
    path = next(samples.FIXTURES.glob(f"ipl/{names[layout[4]]}*.bin"))
    raw = records_of(path, layout)[:3]
    with Device(layout) as device, device.open(layout=layout) as reader:
        assert reader.pending() == 0
        for record in raw:
            device.keep(record)
        assert reader.pending() == sum(map(len, raw))


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("size", [4, 8])
def test_both_sizes_of_fionread_are_understood_in_both_byte_orders(
    order: Any, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ioctl(descriptor: int, request: int, buffer: bytearray) -> int:
        buffer[:size] = (74000).to_bytes(size, order)
        return 0

    with Device() as device:
        source = backend.Device("/dev/ipl", device.system._replace(ioctl=ioctl))
        monkeypatch.setattr(sys, "byteorder", order)
        assert source.pending() == 74000
        monkeypatch.undo()
        source.close()


def test_a_kernel_whose_poll_does_not_tell_is_asked_at_every_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "TICK_S", 0.05)
    with Device("ipl-3.4.35-lp64le") as device:
        calls = Calls(device)
        with calls.reader(layout="ipl-3.4.35-lp64le") as reader:
            started = time.monotonic()
            with later(0.5, device.keep, records_of(OLD, "ipl-3.4.35-lp64le")[0]):
                assert isinstance(reader.read(), pylog.PacketRecord)
            assert time.monotonic() - started > 0.45 and 5 < calls.asked < 40


# What the ring drops


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("every", [1, 7, 40])
def test_every_event_is_received_or_known_to_be_dropped(fold: bool, every: int) -> None:
    raw = records_of(FILTER)
    with Device(LAYOUT, size=3000, fold=fold) as device, device.open(layout=LAYOUT) as reader:
        records = []
        for i in range(281 + 1):
            device.log(raw[i // 2 % len(raw)])  # each twice, to fold
            # the last one shows what was dropped before it
            while (i % every == 0 or i > 280) and (reader.ready or reader.pending()):
                records.append(reader.read(timeout=5))
    losses = [r for r in records if isinstance(r, LossRecord)]
    kept = [r for r in records if r is not None and not isinstance(r, LossRecord)]
    assert sum(loss.count or 0 for loss in losses) == reader.dropped == device.dropped
    assert bool(losses) == (every > 20 or (every == 7 and device.dropped > 0))
    assert sum(record.count or 0 for record in kept) + device.dropped == 282
    assert any(record.count == 2 for record in kept) == (fold and every > 1)


def test_received_and_dropped_are_what_was_logged() -> None:
    raw = records_of(FILTER)
    with Device(LAYOUT, size=3000, fold=False) as device, device.open(layout=LAYOUT) as reader:
        logged = 0
        for _ in range(5):
            for event in raw:
                device.log(event)
            while reader.pending():
                reader.read(timeout=5)
            logged += len(raw)
        device.log(raw[0])  # shows what was dropped after the last one
        reader.read(timeout=5)
        reader.read(timeout=5)
        assert device.dropped > 100
        assert (reader.dropped, reader.received) == (device.dropped, logged + 1 - device.dropped)


# Addresses


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.path.exists("/dev/ipl"), reason="BSD"
)
@pytest.mark.parametrize("source", ["ipl:", "ipl:/dev/ipl", "ipl:/dev/ipnat,/dev/ipl"])
def test_a_system_without_the_device_says_so(source: str) -> None:
    device = "/dev/ipnat" if "nat" in source else "/dev/ipl"
    with pytest.raises(BackendUnavailable, match=f"there is no {device}: Linux has no IPFilter"):
        pylog.merge(source)


def test_a_file_or_fifo_may_stand_for_the_device(tmp_path: Path) -> None:
    golden = samples.golden(FILTER)
    with pylog.open(f"ipl:{FILTER}") as reader:
        assert pylog.json_lines(reader) == golden
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with later(0.0, fifo.write_bytes, FILTER.read_bytes()), pylog.open(f"ipl:{fifo}") as reader:
        assert pylog.json_lines(reader) == golden


def test_several_devices_are_for_merge(tmp_path: Path) -> None:
    nat = samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin"
    with pytest.raises(ValueError, match=r"2 logs: pylog\.merge"):
        pylog.open(f"ipl:{FILTER},{nat}")
    with pylog.merge(f"ipl:{FILTER},{nat}") as reader:
        assert len(list(reader)) == reader.received == 61 + 41


def test_the_requests_are_those_that_the_macros_make() -> None:
    """FIONREAD is _IOR('f', 127, int), SIOCIPFFB _IOR('r', 66, int), as sys/ioccom.h has _IOR."""

    def ior(out: int, group: str, number: int) -> int:
        return out | 4 << 16 | ord(group) << 8 | number

    for system, requests in backend.IOCTLS.items():
        if system != "linux":
            assert requests[1:] == (ior(0x40000000, "f", 127), ior(0x40000000, "r", 66))
    linux = backend.IOCTLS["linux"]  # asm-generic/ioctl.h has another bit; FIONREAD is its own
    assert linux.siocipffb == ior(0x80000000, "r", 66)
    assert sys.platform != "linux" or linux.fionread == termios.FIONREAD
