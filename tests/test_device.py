"""The double of /dev/ipl keeps the rules of ip_log.c, on real dumps."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import effort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import FIXTURES

from pylog.backends import ipl as backend
from pylog.errors import BackendUnavailable, DecodeError
from pylog.formats import Message, ipl
from pylog.formats.ipl_layouts import layouts
from pylog.record import LossRecord, PacketRecord
from pylog.testing import Device

# name of a dump, its layout and log, sizeof(iplog_t) as ip_log.c was compiled
DUMPS = [
    ("v5-1-2-lp64le-filter.ipf", "ipl-5.1.2-lp64le", "ipf", 48),
    ("v5-1-2-ilp32be-filter.ipf", "ipl-5.1.2-ilp32be", "ipf", 28),
    ("v5-1-2-nounit-nbtv-ilp32le8-filter.ipf", "ipl-5.1.2-ilp32le8-time64-nounit", "ipf", 40),
    ("v5-1-2-nounit-nbtv-lp64be-nat.all", "ipl-5.1.2-lp64be-time64-nounit", "nat", 48),
    ("v5-1-2-lp64be-state.all", "ipl-5.1.2-lp64be", "state", 48),
    ("v5-0-3-lp64le-nat.all", "ipl-5.0.3-lp64le", "nat", 40),
    ("v4-1-35-ilp32be-nat.all", "ipl-4.1-ilp32be", "nat", 24),
    ("v4-1-35-illumos-lp64le-filter.ipf", "ipl-4.1-illumos-lp64le-name32", "ipf", 40),
    ("v3435-lp64le-filter.ipf", "ipl-3.4.35-lp64le", "ipf", 40),
    ("v3435-lp64be-state.state", "ipl-3.4.35-lp64be", "state", 40),
    ("v34-ilp32le-ipf", "ipl-3.4.0-ilp32le", "ipf", 24),
    ("v34-lp64be-ipf", "ipl-3.4.0-lp64be", "ipf", 40),
    ("v32-lp64le-nat", "ipl-3.2-lp64le", "nat", 48),
    ("v31-lp64be-ipf", "ipl-3.1-lp64be", "ipf", 40),
]
each_dump = pytest.mark.parametrize(
    ("name", "layout", "log", "head"), DUMPS, ids=[name for name, *_ in DUMPS]
)
FILTER = ("v5-1-2-lp64le-filter.ipf", "ipl-5.1.2-lp64le")
FILTER_BE = ("v5-1-2-ilp32be-filter.ipf", "ipl-5.1.2-ilp32be")
DUP = ("v5-1-2-lp64le-dup.ipf", "ipl-5.1.2-lp64le")
EVERYTHING = 1 << 20


def dump(name: str) -> bytes:
    return (FIXTURES / "ipl" / f"{name}.bin").read_bytes()


def records(name: str, layout: str, log: str = "ipf") -> list[bytes]:
    """The records of a dump that are of the log."""
    data, stream = dump(name), ipl.stream(f"{layout}:{log}")
    found = [item for item in stream.split(data, True) if isinstance(item, Message)]
    return [data[m.start : m.end] for m in found if stream.message_log(data, m) == log]


def numbers(data: bytes, layout: str) -> list[tuple[int | None, int | None]]:
    """ipl_seqnum and ipl_count of the records."""
    stream = ipl.stream(layout)
    found = [item for item in stream.split(data, True) if isinstance(item, Message)]
    decoded = [stream.decode(data, message) for message in found]
    return [(record.seq, record.count) for record in decoded]


class Client:
    """A program that has the device open."""

    def __init__(self, device: Device, flags: int = os.O_RDONLY, path: str = "/dev/ipl") -> None:
        self.system = device.system
        self.requests = backend.IOCTLS["freebsd"]
        self.number = self.system.open(path, flags)

    def read(self, size: int = 8192) -> bytes:
        return self.system.read(self.number, size)

    def ask(self, request: int, size: int = 4) -> int:
        """The integer that an ioctl gives."""
        buffer = bytearray(b"\xff" * size)
        assert self.system.ioctl(self.number, request, buffer) == 0
        return int.from_bytes(buffer, sys.byteorder)

    def pending(self) -> int:
        return self.ask(self.requests.fionread)

    def flush(self) -> int:
        return self.ask(self.requests.siocipffb)

    def poll(self, timeout_s: float = 0) -> bool:
        ready = bool(select.select([self.number], [], [], timeout_s)[0])
        poller = select.poll()
        poller.register(self.number, select.POLLIN)
        assert bool(poller.poll(0)) == ready
        return ready

    def close(self) -> None:
        self.system.close(self.number)


@contextmanager
def refused(number: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == number, caught.value


@contextmanager
def asleep(client: Client) -> Iterator[list[bytes | OSError]]:
    """What a read gives that another thread began; it must have ended when the block ends."""
    found: list[bytes | OSError] = []

    def read() -> None:
        try:
            found.append(client.read())
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    time.sleep(0.05)
    assert not found
    yield found
    thread.join(5)
    assert not thread.is_alive()


# What read gives


@each_dump
def test_read_gives_what_was_logged_in_order(name: str, layout: str, log: str, head: int) -> None:
    logged = records(name, layout, log)
    with Device(layout, log, size=EVERYTHING) as device:
        client = Client(device)
        assert device.replay(dump(name)) == len(logged) > 2
        assert client.read(EVERYTHING) == b"".join(logged)
        assert not client.poll() or layout.startswith("ipl-3")


@each_dump
def test_read_gives_whole_records_for_every_size(
    name: str, layout: str, log: str, head: int
) -> None:
    logged = records(name, layout, log)[:3]
    ends = [sum(map(len, logged[: i + 1])) for i in range(3)]
    for size in effort.sample(range(head, ends[-1] + 2), least=30):
        with Device(layout, log) as device:
            client = Client(device)
            assert device.replay(b"".join(logged)) == 3
            fits = sum(end <= size for end in ends)
            assert client.read(size) == b"".join(logged[:fits])
            assert client.pending() == sum(map(len, logged[fits:]))
            assert client.read(8192 if fits < 3 else 0) == b"".join(logged[fits:])


@each_dump
def test_read_refuses_less_than_a_header(name: str, layout: str, log: str, head: int) -> None:
    with Device(layout, log) as device:
        client = Client(device)
        for _ in ("empty", "filled"):
            assert client.read(0) == b""
            for size in (-1, *range(1, head)):
                with refused(errno.EINVAL):
                    client.read(size)
            device.replay(dump(name))
        assert client.read(head) == b""  # the buffer is too small for the first record, which stays
        assert client.read(8192).startswith(records(name, layout, log)[0])


@pytest.mark.parametrize(
    ("layout", "limit"),
    [
        ("ipl-5.1.2-lp64le", 32768),
        ("ipl-5.0.6-lp64le", 32768),
        ("ipl-5.0.5-lp64le", 8192),
        ("ipl-4.1-ilp32be", 8192),
        ("ipl-3.4.0-ilp32le", 8192),
        ("ipl-3.4.35-lp64le", None),
    ],
)
def test_read_refuses_more_than_the_kernel_of_that_version_does(
    layout: str, limit: int | None
) -> None:
    with Device(layout) as device:
        client = Client(device)
        for size in (8193, 32768, 32769, 0x80000, sys.maxsize):
            if limit is not None and size > limit:
                with refused(errno.EINVAL):
                    client.read(size)
            else:
                assert device.read_now(client.number, size) is None


@pytest.mark.parametrize(
    ("size", "read_limit", "limit"), [(4096, None, 4096), (4096, 8192, 8192), (None, 500, 500)]
)
def test_read_limit_is_the_size_unless_it_is_told(
    size: int | None, read_limit: int | None, limit: int
) -> None:
    with Device(size=size, read_limit=read_limit) as device:
        client = Client(device)
        device.replay(dump(FILTER[0]))
        with refused(errno.EINVAL):
            client.read(limit + 1)
        assert client.read(limit)


def test_filter_that_is_not_enabled_gives_eio() -> None:
    for layout in ("ipl-5.1.2-lp64le", "ipl-4.1-lp64le"):
        with Device(layout) as device:
            client = Client(device, os.O_RDWR)
            device.enabled = False
            for size in (0, 1, 8192, EVERYTHING):
                with refused(errno.EIO):
                    client.read(size)
            with refused(errno.EIO):
                client.pending()
            with refused(errno.EIO):
                client.flush()
            device.enabled = True
            assert client.pending() == 0


def test_filter_of_3_x_is_read_although_not_enabled() -> None:
    with Device("ipl-3.4.35-lp64le") as device:
        device.enabled = False
        device.replay(dump("v3435-lp64le-filter.ipf"))
        assert Client(device).read(8192)


def test_2_x_is_a_ring_of_bytes() -> None:
    data = dump("v2x-lp64be-ipf")
    with Device("ipl-2.x-lp64be") as device:
        client = Client(device)
        kept = device.replay(data)
        logged = b"".join(records("v2x-lp64be-ipf", "ipl-2.x-lp64be")[:kept])
        found = b""
        for size in (1, 7, 100, 8192):
            assert client.pending() == len(logged) - len(found)
            found += client.read(size)
        assert found == logged
        with refused(errno.EINVAL):
            client.read(8193)


# Waiting


@each_dump
def test_sleeping_read_is_woken_by_a_record(name: str, layout: str, log: str, head: int) -> None:
    first = records(name, layout, log)[0]
    with Device(layout, log) as device:
        client = Client(device)
        with asleep(client) as found:
            device.keep(first)
        assert found == [first]


def test_sleeping_read_does_not_care_about_o_nonblock() -> None:
    with Device() as device:
        client = Client(device, os.O_RDONLY | os.O_NONBLOCK)
        with asleep(client) as found:
            device.keep(records(*FILTER)[0])
        assert found == [records(*FILTER)[0]]


def test_sleeping_read_ends_in_a_signal_handler_that_raises() -> None:
    class Stop(Exception):
        pass

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with Device() as device:
            client = Client(device)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Stop):
                client.read()
            device.keep(records(*FILTER)[0])  # nothing is locked
            assert client.read() == records(*FILTER)[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_poll_says_whether_there_is_a_record() -> None:
    first, second, *_ = records(*FILTER)
    with Device() as device:
        early, late = Client(device, os.O_RDWR), Client(device)
        assert not early.poll() and not late.poll()
        device.keep(first)
        device.keep(second)
        later = Client(device)
        assert early.poll() and late.poll() and later.poll()
        assert late.read(len(first)) == first
        assert early.poll() and late.poll() and later.poll()
        assert early.read(48) == b""
        assert early.poll() and late.poll() and later.poll()
        assert early.read() == second
        assert not early.poll() and not late.poll() and not later.poll()
        device.keep(first)
        assert later.poll()
        assert early.flush() == len(first)
        assert not early.poll() and not late.poll() and not later.poll()


def test_poll_wakes_up() -> None:
    with Device() as device:
        client = Client(device)
        timer = threading.Timer(0.05, device.keep, [records(*FILTER)[0]])
        timer.start()
        assert client.poll(5)
        timer.join()


@pytest.mark.parametrize(("layout", "poll"), [("ipl-3.4.35-lp64le", None), (FILTER[1], False)])
def test_poll_of_a_kernel_without_it_always_says_yes(layout: str, poll: bool | None) -> None:
    with Device(layout, poll=poll) as device:
        client = Client(device, os.O_RDWR)
        assert client.poll()
        client.flush()
        assert client.poll()


def test_removed_device_is_gone_for_all() -> None:
    with Device() as device:
        client, other = Client(device, os.O_RDWR), Client(device)
        device.replay(dump(FILTER[0]))
        client.flush()
        with asleep(client) as found:
            device.remove()
        (error,) = found
        assert isinstance(error, OSError) and error.errno == errno.ENXIO
        assert other.poll()
        for call in (other.read, other.pending, client.flush, lambda: other.read(0)):
            with refused(errno.ENXIO):
                call()
        with refused(errno.ENOENT):
            Client(device)
        other.close()


def test_end_of_the_block_wakes_up_and_closes_all() -> None:
    device = Device()
    client = Client(device)
    with asleep(client) as found, device:
        pass
    (error,) = found
    assert isinstance(error, OSError) and error.errno == errno.ENXIO
    with refused(errno.EBADF):
        os.fstat(client.number)
    device.close()


# What the kernel does with a new record


@each_dump
def test_full_ring_keeps_the_oldest(name: str, layout: str, log: str, head: int) -> None:
    logged = records(name, layout, log)
    for room in (len(logged[0]) - 1, sum(map(len, logged[:2])), sum(map(len, logged[:3])) - 1):
        expected: list[bytes] = []
        for record in logged:
            if sum(map(len, expected)) + len(record) <= room:
                expected.append(record)
        with Device(layout, log, size=room, read_limit=8192) as device:
            client = Client(device)
            answers = [device.keep(record) for record in logged]
            assert answers.count(True) == len(expected)
            events = [count or 1 for _, count in numbers(b"".join(logged), f"{layout}:{log}")]
            lost = [n for n, kept in zip(events, answers, strict=True) if not kept]
            assert device.dropped == sum(lost)
            assert client.pending() == sum(map(len, expected))
            if expected:
                assert client.read(8192) == b"".join(expected)


@pytest.mark.parametrize(("name", "layout"), [FILTER, FILTER_BE])
def test_sequence_numbers_count_dropped_events(name: str, layout: str) -> None:
    logged = [r for r in records(name, layout) if len(r) == len(records(name, layout)[0])][:6]
    with Device(layout, size=2 * len(logged[0])) as device:
        client = Client(device)
        assert [device.log(record) for record in logged[:5]] == [True, True, False, False, False]
        assert device.dropped == 3
        assert numbers(client.read(2 * len(logged[0])), layout) == [(1, 1), (2, 1)]
        device.log(logged[5])
        assert numbers(client.read(2 * len(logged[0])), layout) == [(6, 1)]


def test_reader_can_tell_the_numbers_of_folded_events() -> None:
    first, second, *_ = records(*FILTER)
    with Device() as device:
        client = Client(device)
        for record in (first, first, first, second, first):
            assert device.log(record)
        data = client.read()
        assert numbers(data, FILTER[1]) == [(1, 3), (4, 1), (5, 1)]


def test_folding_changes_nothing_but_the_count() -> None:
    first = records(*FILTER)[0]
    with Device(*FILTER[1:]) as device:
        client = Client(device)
        device.log(first)
        later = first[:16] + b"\xff" + first[17:40] + b"\xff" + first[41:]  # and another ipl_next
        device.log(later)
        data = client.read()
        assert numbers(data, FILTER[1]) == [(1, 2)]
        assert data[:4] + data[16:] == first[:4] + first[16:]


def test_packets_that_differ_in_any_byte_do_not_fold() -> None:
    first = records(*FILTER)[0]
    for at in (48 + 4, 48 + 61, len(first) - 1):  # fl_rule, fl_dir, the packet's last byte
        other = bytearray(first)
        other[at] ^= 1
        with Device() as device:
            device.log(first)
            device.log(bytes(other))
            assert numbers(Client(device).read(), FILTER[1]) == [(1, 1), (2, 1)]


def test_event_folds_into_a_kept_record_only_if_that_is_the_newest() -> None:
    first, second, *_ = records(*FILTER)
    (seq, count) = numbers(second, FILTER[1])[0]
    assert seq is not None and count is not None
    with Device() as device:
        device.log(first)
        device.keep(second)
        device.log(first)
        device.keep(second)
        device.log(second)
        assert numbers(Client(device).read(), FILTER[1]) == [
            (1, 1), (seq, count), (seq + count, 1), (seq, count + 1)
        ]  # fmt: skip


def test_record_that_was_read_folds_no_more() -> None:
    first, second, *_ = records(*FILTER)
    with Device() as device:
        client = Client(device)
        device.log(first)
        client.read()
        device.log(first)
        assert numbers(client.read(), FILTER[1]) == [(2, 1)]
        device.log(second)
        device.log(first)
        client.read(len(second))
        device.log(first)  # the newest is still there
        assert numbers(client.read(), FILTER[1]) == [(4, 2)]


def test_full_ring_from_5_0_6_on_does_not_fold_either() -> None:
    first = records(*FILTER)[0]
    with Device(size=len(first)) as device:
        assert device.log(first)
        assert not device.log(first)
        assert numbers(Client(device).read(len(first)), FILTER[1]) == [(1, 1)]


def test_full_ring_before_5_0_6_still_folds() -> None:
    layout = "ipl-4.1-lp64le"
    first, second, *_ = records("v4-1-35-lp64le-filter.ipf", layout)
    assert len(second) <= len(first) + 8
    with Device(layout, size=len(first)) as device:
        assert device.log(first) and device.log(first)
        assert not device.log(second)
        # ipllog() remembers the packet before it looks for room, so this is counted in the first
        assert device.log(second)
        assert device.dropped == 1
        assert numbers(Client(device).read(len(first)), layout) == [(None, 3)]


def test_flushed_record_folds_no_more() -> None:
    first = records(*FILTER)[0]
    with Device() as device:
        client = Client(device, os.O_RDWR)
        device.log(first)
        client.flush()
        device.log(first)
        assert numbers(client.read(), FILTER[1]) == [(2, 1)]


def test_folding_can_be_off() -> None:
    first = records(*FILTER)[0]
    with Device(fold=False) as device:
        device.log(first)
        device.log(first)
        assert numbers(Client(device).read(), FILTER[1]) == [(1, 1), (2, 1)]


@pytest.mark.parametrize("log", ["nat", "state"])
def test_nat_and_state_records_do_not_fold(log: str) -> None:
    first = records(f"v5-1-2-lp64le-{log}.all", FILTER[1], log)[0]
    with Device(log=log) as device:
        device.log(first)
        device.log(first)
        assert numbers(Client(device).read(), FILTER[1]) == [(1, 1), (2, 1)]


def later_fragment(name: str, layout: str) -> bytes:
    """A fragment that is not the first of its datagram."""
    stream = ipl.stream(layout)
    for data in records(name, layout):
        record = stream.decode(data, Message(0, len(data)))
        assert isinstance(record, PacketRecord)
        if record.fragment and record.fragment.offset:
            return data
    raise AssertionError(f"no fragment in {name}")


@pytest.mark.parametrize(
    ("name", "layout", "stored"),
    [
        (*FILTER, 2),
        ("v4-1-35-lp64le-filter.ipf", "ipl-4.1-lp64le", 2),
        ("v3435-lp64le-filter.ipf", "ipl-3.4.35-lp64le", 1),
    ],
)
def test_later_fragments_do_not_fold_from_4_1_on(name: str, layout: str, stored: int) -> None:
    fragment = later_fragment(name, layout)
    with Device(layout) as device:
        device.log(fragment)
        device.log(fragment)
        assert len(Client(device).read(8192)) == stored * len(fragment)


def test_events_of_a_real_log_are_numbered_and_folded_as_the_kernel_did() -> None:
    """dup is what the kernel made of equal packets; unfolded and logged again, it is the same."""
    for name, layout in (
        DUP,
        ("v5-0-6-lp64le-dup.ipf", "ipl-5.0.6-lp64le"),
        ("v5-1-2-nounit-nbtv-lp64be-dup.ipf", "ipl-5.1.2-lp64be-time64-nounit"),
        ("v4-1-35-lp64be-dup.ipf", "ipl-4.1-lp64be"),
        ("v4-1-35-nounit-ilp32le-dup.ipf", "ipl-4.1-ilp32le-nounit"),
    ):
        logged = records(name, layout)
        counts = [count or 1 for _, count in numbers(dump(name), layout)]
        with Device(layout) as device:
            for record, count in zip(logged, counts, strict=True):
                for _ in range(count):
                    assert device.log(record)
            assert Client(device).read(8192) == dump(name), name
            assert max(counts) > 1


def test_log_continues_the_numbers_of_a_replayed_dump() -> None:
    with Device() as device:
        client = Client(device)
        device.replay(dump(DUP[0]))
        (seq, count) = numbers(client.read(), DUP[1])[-1]
        assert seq is not None and count is not None
        device.log(records(*DUP)[0])
        assert numbers(client.read(), DUP[1]) == [(seq + count, 1)]


def test_log_takes_only_a_whole_record_of_its_log() -> None:
    first, second, *_ = records(*FILTER)
    state = records("v5-1-2-lp64le-state.all", FILTER[1], "state")[0]
    big_endian = records(*FILTER_BE)[0]
    with Device() as device:
        for wrong in (b"", first[:-1], first + b"\0", first + second, state, big_endian):
            for call in (device.log, device.keep):
                with pytest.raises(DecodeError):
                    call(wrong)
        with pytest.raises(DecodeError):
            device.replay(dump("damaged"))
        assert device.dropped == Client(device).pending() == 0


def test_device_of_no_layout_or_log_is_refused() -> None:
    for options in (("ipl-9-lp64le",), ("ipl-5.1.2-lp64le", "auth"), ("ipl-2.x-lp64be", "nat")):
        with pytest.raises(ValueError):
            Device(*options)
    with pytest.raises(ValueError):
        Device(platform="vms")


# ioctl and open


@each_dump
def test_fionread_is_what_reads_then_give(name: str, layout: str, log: str, head: int) -> None:
    with Device(layout, log) as device:
        client = Client(device)
        device.replay(dump(name))
        total = pending = client.pending()
        found = 0
        while pending:
            data = client.read(1000)
            assert data
            found += len(data)
            assert client.pending() == pending - len(data)
            pending -= len(data)
        assert found == total > 0


def test_fionread_of_3_x_on_lp64_stores_eight_bytes() -> None:
    first = records("v3435-lp64le-filter.ipf", "ipl-3.4.35-lp64le")[0]
    with Device("ipl-3.4.35-lp64le") as device:
        device.keep(first)
        client = Client(device)
        assert client.ask(client.requests.fionread, 8) == len(first)


@pytest.mark.parametrize(
    ("layout", "log"),
    [("ipl-3.4.35-lp64le", "nat"), ("ipl-3.4.0-ilp32le", "ipf"), ("ipl-4.1-lp64le", "ipf")],
)
def test_fionread_of_the_others_stores_four_bytes(layout: str, log: str) -> None:
    with Device(layout, log) as device:
        client = Client(device)
        buffer = bytearray(b"\xff" * 8)
        client.system.ioctl(client.number, client.requests.fionread, buffer)
        assert buffer == bytes(4) + b"\xff" * 4


def test_siocipffb_gives_the_bytes_flushed() -> None:
    with Device() as device:
        client = Client(device, os.O_RDWR)
        device.replay(dump(FILTER[0]))
        used = client.pending()
        assert client.flush() == used > 0
        assert client.flush() == client.pending() == device.dropped == 0
        assert device.read_now(client.number, 8192) is None


def test_siocipffb_needs_a_descriptor_open_for_writing() -> None:
    with Device() as device:
        reader, writer = Client(device, os.O_RDONLY), Client(device, os.O_WRONLY)
        device.replay(dump(FILTER[0]))
        used = reader.pending()
        with refused(errno.EPERM):
            reader.flush()
        assert reader.pending() == used
        with refused(errno.EBADF):
            writer.read()
        assert writer.flush() == used


def test_unknown_request_is_refused() -> None:
    with Device() as device:
        client = Client(device, os.O_RDWR)
        with refused(errno.EINVAL):
            client.ask(0x40047243)


def test_only_the_device_can_be_opened() -> None:
    with Device(path="/dev/ipnat", log="nat") as device:
        with pytest.raises(FileNotFoundError):
            Client(device)
        client = Client(device, path="/dev/ipnat")
        client.close()
        for call in (client.read, client.pending, client.close):
            with refused(errno.EBADF):
                call()


def test_descriptors_are_all_closed_again() -> None:
    def opened() -> int:
        return len(os.listdir("/dev/fd"))

    before = opened()
    with Device() as device:
        for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDONLY):
            Client(device, flags)
        assert opened() > before
    assert opened() == before


# Everything together


@effort.examples(200)
@given(
    layout=st.sampled_from([FILTER, FILTER_BE]),
    fold=st.booleans(),
    size=st.integers(100, 2000),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("log"), st.integers(0, 5)),
            st.tuples(st.just("read"), st.integers(0, 1000)),
            st.tuples(st.just("flush"), st.just(0)),
        ),
        max_size=60,
    ),
)
def test_every_event_is_read_flushed_dropped_or_queued(
    layout: tuple[str, str], fold: bool, size: int, steps: list[tuple[str, int]]
) -> None:
    logged = records(*layout)
    head = 48 if layout == FILTER else 28
    queued: list[tuple[int, int, bytes]] = []  # number, count, record
    events = dropped = flushed = 0
    read: list[tuple[int | None, int | None]] = []
    with Device(layout[1], size=size, read_limit=4096, fold=fold) as device:
        client = Client(device, os.O_RDWR)
        for step, value in steps:
            if step == "log":
                events += 1
                record = logged[value]
                fits = sum(len(r) for _, _, r in queued) + len(record) <= size
                assert device.log(record) is fits
                if not fits:
                    dropped += 1
                elif fold and queued and queued[-1][2] == record:
                    number, count, _ = queued[-1]
                    queued[-1] = number, count + 1, record
                else:
                    queued.append((events, 1, record))
            elif step == "flush":
                assert client.flush() == sum(len(r) for _, _, r in queued)
                flushed += sum(count for _, count, _ in queued)
                queued.clear()
            elif value and value < head:
                with refused(errno.EINVAL):
                    client.read(value)
            elif queued or not value:
                data = client.read(value)
                found = numbers(data, layout[1])
                taken, queued = queued[: len(found)], queued[len(found) :]
                assert found == [(number, count) for number, count, _ in taken]
                assert len(data) == sum(len(r) for _, _, r in taken) <= value
                assert not queued or len(data) + len(queued[0][2]) > value
                read += found
            else:
                assert device.read_now(client.number, value) is None
            assert client.poll() == bool(queued)
            assert client.pending() == sum(len(r) for _, _, r in queued)
        counted = sum(count or 0 for _, count in read)
        left = sum(count for _, count, _ in queued)
        assert counted + flushed + device.dropped + left == events
        assert device.dropped == dropped
        assert [n for n, _ in read] == sorted({n for n, _ in read if n is not None})


def test_events_of_many_threads_are_all_there() -> None:
    first = records(*FILTER)[0]
    with Device(fold=False) as device:
        client = Client(device)
        threads = [
            threading.Thread(target=lambda: [device.log(first) for _ in range(300)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        seen: list[int] = []
        while len(seen) + device.dropped < 1200:
            if client.poll(0.1):
                seen += [seq or 0 for seq, _ in numbers(client.read(), FILTER[1])]
        for thread in threads:
            thread.join()
        assert len(set(seen)) == len(seen) and seen == sorted(seen)
        assert device.read_now(client.number, 8192) is None


def test_every_layout_has_its_device() -> None:
    for layout in layouts():
        for log in layout.logs:
            with Device(layout.name, log) as device:
                assert Client(device).pending() == 0


# A Reader of it


@pytest.mark.parametrize(("name", "layout", "log", "head"), DUMPS[::4])
def test_reader_gives_the_records_of_a_replayed_dump(
    name: str, layout: str, log: str, head: int
) -> None:
    with Device(layout, log, size=EVERYTHING, read_limit=8192) as device:
        logged = records(name, layout, log)
        device.replay(dump(name))
        named = layout if log == "ipf" else f"{layout}:{log}"
        with device.open(layout=named, raw=True) as reader:
            found = [reader.read(timeout=5) for _ in logged]
            assert [getattr(record, "raw", None) for record in found] == logged
            assert reader.received == len(logged) and not reader.malformed and reader.pending() == 0
            with pytest.raises(TimeoutError):
                reader.read(timeout=0.01)


def test_reader_tells_what_the_kernel_dropped() -> None:
    first, second, third, *_ = records(*FILTER)
    with (
        Device(size=len(first) + len(second), read_limit=8192) as device,
        device.open(layout=FILTER[1]) as reader,
    ):
        for record in (first, second, third):
            device.log(record)
        assert [type(reader.read(timeout=5)) for _ in range(2)] == [PacketRecord] * 2
        device.log(third)
        loss = reader.read(timeout=5)
        assert isinstance(loss, LossRecord) and loss.count == 1
        assert reader.dropped == device.dropped == 1


def test_reader_of_a_device_that_cannot_be_opened() -> None:
    device = Device()
    device.close()
    with pytest.raises(BackendUnavailable):
        device.open()
