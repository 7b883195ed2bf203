"""What the kernel could not keep is counted to the packet, wherever and however much it is.

The truth is the counter in the very rule that logs. Set PYLOG_LONG_RUN_S=60 for the long run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netlab
import pytest

import pylog
from pylog import LossRecord, PacketRecord, Reader, Record

REASON = netlab.missing("nft")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

HERE, PORT = "127.0.0.1", 9
SMALL: dict[str, Any] = {"rcvbuf": 16384, "rcvbuf_max": 16384, "timeout_s": 0.05}
FLOOD = 20_000
RATE = 5_000
LONG_RUN_S = float(os.environ.get("PYLOG_LONG_RUN_S", "3"))
MARKER = b"marker"


def flood(namespace: netlab.Namespace, count: int = FLOOD) -> None:
    """Send packets as fast as there can be, to the end."""
    assert namespace.sender(HERE, PORT, count=count).wait(60) == 0


def here(reader: Reader) -> list[Record]:
    """All that comes without a pause of half a second."""
    found: list[Record] = []
    while True:
        try:
            record = reader.read(timeout=0.5)
        except TimeoutError:
            return found
        assert record is not None
        found.append(record)


def end(namespace: netlab.Namespace, reader: Reader, groups: int = 1) -> list[Record]:
    """One more packet, which shows what was lost before it, and all that comes of it."""
    found: list[Record] = []
    namespace.udp(HERE, PORT, MARKER)
    while groups:
        record = reader.read(timeout=10)
        assert record is not None
        found.append(record)
        groups -= isinstance(record, PacketRecord) and (record.payload or b"").endswith(MARKER)
    return found


def account(reader: Reader, records: list[Record], counted: dict[str, int]) -> None:
    """Each group's numbers go on without a gap that is not told in its place, to the last packet.

    counted   how many packets were logged, by group
    """
    expected: Counter[str] = Counter()
    for record in records:
        if isinstance(record, LossRecord) and record.count is not None:
            assert record.log is not None
            assert record.seq == expected[record.log]
            expected[record.log] += record.count
        elif isinstance(record, PacketRecord):
            assert record.group is not None
            assert record.seq == expected[record.group]
            expected[record.group] += 1
    assert expected == counted
    packets = sum(isinstance(record, PacketRecord) for record in records)
    assert reader.dropped is not None
    assert (reader.received, reader.malformed) == (packets, 0)
    assert reader.received + reader.dropped == sum(counted.values())


@pytest.mark.parametrize(
    ("qthresh", "nlbufsiz"), [(1, 65536), (1, 8192), (10, 8192), (50, 65536), (1000, 131072)]
)
def test_packets_are_received_or_counted_as_lost(qthresh: int, nlbufsiz: int) -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=qthresh, nlbufsiz=nlbufsiz, **SMALL)
        as reader,
    ):  # fmt: skip
        namespace.log_udp(PORT, 5)
        flood(namespace)
        records = here(reader)
        records += end(namespace, reader)
        assert namespace.counted() == [FLOOD + 1]
        account(reader, records, {"5": FLOOD + 1})
        assert (reader.dropped or 0) > FLOOD // 2


def test_two_groups_of_one_reader_are_counted_each() -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5,6", netns=namespace.name, qthresh=1, **SMALL) as reader,
    ):
        namespace.log_udp(PORT, 5, 6)
        flood(namespace)
        records = here(reader)
        records += end(namespace, reader, groups=2)
        assert namespace.counted() == [FLOOD + 1] * 2
        account(reader, records, {"5": FLOOD + 1, "6": FLOOD + 1})
        assert (reader.dropped or 0) > FLOOD // 2


def test_losses_before_the_first_record_of_a_group_are_counted() -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5,6", netns=namespace.name, qthresh=1, **SMALL) as reader,
    ):
        namespace.log_udp(PORT, 5)
        flood(namespace, 1000)
        namespace.nft("flush ruleset")
        namespace.log_udp(PORT, 6)
        flood(namespace, 100)  # there is no room for any of them
        assert {r.group for r in here(reader) if isinstance(r, PacketRecord)} == {"5"}
        losses = [r for r in end(namespace, reader) if isinstance(r, LossRecord)]
        assert [(r.log, r.seq, r.count) for r in losses if r.log == "6"] == [("6", 0, 100)]
        assert namespace.counted() == [101] and reader.dropped == 100


@pytest.mark.parametrize("also", [(), (6,)])
def test_losses_of_a_group_that_says_no_more_are_told_at_the_end(also: tuple[int, ...]) -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5,6", netns=namespace.name, qthresh=1, **SMALL) as reader,
    ):
        namespace.log_udp(PORT, 5, *also)
        flood(namespace, 1000)
        assert here(reader)
        namespace.nft("flush ruleset")
        namespace.log_udp(PORT, 6)
        end(namespace, reader)  # tells what group 6 has lost, but not how much 5 has
        reader.stop()
        losses = list(reader)
        assert losses and all(isinstance(r, LossRecord) and r.reason for r in losses)


@pytest.mark.parametrize("end_of", [Reader.stop, Reader.close])
def test_a_full_receive_buffer_does_not_hold_up_the_end(end_of: Callable[[Reader], None]) -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=1, **SMALL) as reader,
    ):
        namespace.log_udp(PORT, 5)
        flood(namespace, 1000)  # so that there is no room for the kernel's answer either
        started = time.monotonic()
        end_of(reader)
        records = list(reader)
        assert time.monotonic() - started < 3
        assert bool(records) == (end_of is Reader.stop) and namespace.groups() == {}


def test_readers_come_and_go_while_packets_rush_in() -> None:
    with netlab.Namespace() as namespace:
        namespace.log_udp(PORT, 5, 6, 7)
        for _ in range(2):
            namespace.sender(HERE, PORT, count=0)
        netlab.until(lambda: namespace.counted()[0] > 1000, "the senders", 60)
        read = [sys.executable, "-m", "pylog", "read", "nflog:5,6,7", "--netns", namespace.name,
                "--qthresh=1", "--count=1000"]  # fmt: skip
        for options in ([], ["--rcvbuf=16384", "--rcvbuf-max=16384"], []):
            done = subprocess.run([*read, *options], capture_output=True, timeout=20)
            assert done.returncode == 0 and len(done.stdout.splitlines()) == 1000
            assert namespace.groups() == {}


def test_a_flush_ends_while_packets_rush_in() -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name) as reader,
    ):
        namespace.log_udp(PORT, 5)
        senders = [namespace.sender(HERE, PORT, count=0) for _ in range(2)]
        netlab.until(lambda: namespace.counted()[0] > 10_000, "the senders")
        flushed: list[int] = []
        thread = threading.Thread(target=lambda: flushed.append(reader.flush()), daemon=True)
        thread.start()
        thread.join(5)
        ended = not thread.is_alive()
        for sender in senders:
            sender.kill()
        thread.join(10)
        assert ended and flushed[0] > 0 and reader.received == 0


@pytest.mark.parametrize("qthresh", [1, 20])
def test_losses_are_counted_while_reading_goes_on(qthresh: int) -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5,6", netns=namespace.name, qthresh=qthresh, **SMALL) as reader,
    ):
        namespace.log_udp(PORT, 5, 6)
        senders = [namespace.sender(HERE, PORT, count=FLOOD) for _ in range(3)]
        records = here(reader)
        while any(sender.poll() is None for sender in senders):
            records += here(reader)
        records += here(reader)
        records += end(namespace, reader, groups=2)
        counted = 3 * FLOOD + 1
        assert namespace.counted() == [counted] * 2
        account(reader, records, {"5": counted, "6": counted})
        assert reader.dropped and reader.received > 1000


def test_the_receive_buffer_grows_until_nothing_is_lost() -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=1, rcvbuf=16384, rcvbuf_max=8 << 20)
        as reader,
    ):  # fmt: skip
        namespace.log_udp(PORT, 5)
        for _ in range(20):
            before = reader.dropped
            flood(namespace, 1000)
            here(reader)
            end(namespace, reader)
            if before is not None and reader.dropped == before:
                break
        assert before is not None and reader.dropped == before > 0


def test_the_largest_batches_come_whole() -> None:
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name, qthresh=10_000, nlbufsiz=131072) as reader,
    ):
        namespace.log_udp(PORT, 5)
        flood(namespace, 5000)  # several datagrams of netlink of 261,652 bytes
        assert len(here(reader)) == reader.received == 5000
        assert reader.dropped == reader.malformed == 0


def resident() -> int:
    """How many bytes of memory this process has."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def test_a_long_run_loses_nothing_and_memory_stays_flat() -> None:
    count = int(RATE * LONG_RUN_S)
    with (
        netlab.Namespace() as namespace,
        pylog.open("nflog:5", netns=namespace.name) as reader,
    ):
        namespace.log_udp(PORT, 5)
        sender = namespace.sender(HERE, PORT, count=count, rate=RATE)
        deadline = time.monotonic() + 2 * LONG_RUN_S + 10
        warm = 0
        while reader.received < count:
            assert isinstance(reader.read(timeout=5), PacketRecord)
            if not warm and reader.received > count // 3:
                warm = resident()
            assert time.monotonic() < deadline
        grown = resident() - warm
        assert sender.wait(10) == 0
        reader.stop()
        assert list(reader) == []
        assert namespace.counted() == [reader.received] == [count]
        assert reader.dropped == reader.malformed == 0
        assert warm and grown < 8 << 20
