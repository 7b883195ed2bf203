"""The rules of /dev/ipl through the system calls of a real kernel: the double served by FUSE."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import effort
import pytest
from samples import FIXTURES

from pylog.formats import Message, ipl

if sys.platform != "linux" or os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
    pytest.skip("needs Linux, root and /dev/fuse", allow_module_level=True)

from fusedev import FIONREAD, SIOCIPFFB, Mount

DUMPS = [
    ("v5-1-2-lp64le-filter.ipf", "ipl-5.1.2-lp64le", 48, 32768),
    ("v5-1-2-ilp32be-filter.ipf", "ipl-5.1.2-ilp32be", 28, 32768),
    ("v4-1-35-lp64be-nattag.ipf", "ipl-4.1-lp64be", 40, 8192),
]
FILTER = DUMPS[0]
each_dump = pytest.mark.parametrize(
    ("name", "layout", "head", "limit"), DUMPS, ids=[name for name, *_ in DUMPS]
)
Mounts = Callable[..., Mount]


def records(name: str, layout: str) -> list[bytes]:
    data = (FIXTURES / "ipl" / f"{name}.bin").read_bytes()
    found = ipl.stream(layout).split(data, True)
    return [data[item.start : item.end] for item in found if isinstance(item, Message)]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounts]:
    """Makes mounted devices, which are unmounted again."""
    with ExitStack() as stack:

        def make(**options: Any) -> Mount:
            made = stack.enter_context(Mount(tmp_path, **options))
            if made.problem is not None:
                pytest.skip(f"FUSE cannot be mounted: {made.problem}")
            return made

        yield make


@contextmanager
def opened(mount: Mount, flags: int = os.O_RDONLY) -> Iterator[int]:
    number = os.open(mount.path, flags)
    try:
        yield number
    finally:
        os.close(number)


@contextmanager
def refused(number: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == number, caught.value


def ask(number: int, request: int) -> int:
    buffer = bytearray(4)
    fcntl.ioctl(number, request, buffer, True)
    return int.from_bytes(buffer, sys.byteorder)


def readable(number: int, timeout_s: float = 0) -> bool:
    poller = select.poll()
    poller.register(number, select.POLLIN)
    found = poller.poll(timeout_s * 1000)
    assert found in ([], [(number, select.POLLIN)])
    return bool(found)


@each_dump
def test_read_gives_whole_records(
    mount: Mounts, name: str, layout: str, head: int, limit: int
) -> None:
    first, second, third, *_ = records(name, layout)
    device = mount(layout=layout)
    with opened(device) as number:
        for size in effort.sample(range(len(first) - 1, len(first) + len(second) + 1)):
            assert device.call("replay", first + second + third) == 3
            fits = b"".join([first, second][: (size >= len(first)) + (size >= len(first + second))])
            assert os.read(number, size) == fits
            assert os.read(number, limit) == (first + second + third)[len(fits) :]


@each_dump
def test_read_refuses_buffers_of_the_wrong_size(
    mount: Mounts, name: str, layout: str, head: int, limit: int
) -> None:
    first, device = records(name, layout)[0], mount(layout=layout)
    with opened(device) as number:
        for _ in ("empty", "filled"):
            assert os.read(number, 0) == b""
            for size in (1, head - 1, limit + 1, 1 << 16):
                with refused(errno.EINVAL):
                    os.read(number, size)
            device.call("keep", first)
        assert os.read(number, head) == b""  # too small for the first record, which stays
        assert os.read(number, limit) == first + first


def test_sleeping_read_is_woken_by_a_record(mount: Mounts) -> None:
    first = records(*FILTER[:2])[0]
    device = mount()
    with opened(device, os.O_RDONLY | os.O_NONBLOCK) as number:
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.append(os.read(number, 8192)), daemon=True)
        thread.start()
        time.sleep(0.2)
        assert not found
        device.call("keep", first)
        thread.join(5)
        assert found == [first]


def test_sleeping_read_ends_in_a_signal_handler_that_raises(mount: Mounts) -> None:
    class Stop(Exception):
        pass

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop

    first = records(*FILTER[:2])[0]
    device = mount()
    before = signal.signal(signal.SIGALRM, stop)
    try:
        with opened(device) as number:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Stop):
                os.read(number, 8192)
            device.call("keep", first)
            assert os.read(number, 8192) == first  # the read that ended took nothing
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_poll_says_whether_there_is_a_record(mount: Mounts) -> None:
    first = records(*FILTER[:2])[0]
    device = mount()
    with opened(device) as number, opened(device) as other:
        assert not readable(number) and not readable(other)
        timer = threading.Timer(0.2, device.call, ["keep", first])
        timer.start()
        assert readable(number, 5)
        timer.join()
        assert readable(other)
        assert select.select([number], [], [], 0)[0]
        assert os.read(other, 48) == b""
        assert readable(number)
        assert os.read(other, 8192) == first
        assert not readable(number) and not readable(other)


def test_fionread_and_siocipffb(mount: Mounts) -> None:
    logged = records(*FILTER[:2])
    device = mount()
    with opened(device) as reader, opened(device, os.O_RDWR) as writer:
        device.call("replay", b"".join(logged))
        assert ask(reader, FIONREAD) == sum(map(len, logged))
        assert os.read(reader, len(logged[0])) == logged[0]
        assert ask(reader, FIONREAD) == sum(map(len, logged[1:]))
        with refused(errno.EPERM):
            ask(reader, SIOCIPFFB)
        assert ask(writer, SIOCIPFFB) == sum(map(len, logged[1:]))
        assert ask(writer, SIOCIPFFB) == ask(reader, FIONREAD) == 0
        assert not readable(reader)
        with refused(errno.EINVAL):
            ask(reader, 0x80047243)


def test_full_ring_drops_the_newest(mount: Mounts) -> None:
    first, second, *_ = records(*FILTER[:2])
    device = mount(size=len(first))
    with opened(device) as number:
        assert device.call("log", first)
        assert not device.call("log", second)
        assert os.read(number, len(first))[12:] == first[12:]


def test_removed_device_is_gone(mount: Mounts) -> None:
    device = mount()
    with opened(device) as number:
        errors: list[int | None] = []

        def read() -> None:
            try:
                os.read(number, 8192)
            except OSError as error:
                errors.append(error.errno)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        time.sleep(0.2)
        assert not errors
        device.call("remove")
        thread.join(5)
        assert errors == [errno.ENXIO]
        assert readable(number)
        with refused(errno.ENXIO):
            ask(number, FIONREAD)
