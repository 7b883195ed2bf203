"""Memories: what repeats is computed once, and nobody can make them grow."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import builders
import effort
import pytest
import samples

import pylog
from pylog.cli import info
from pylog.formats.pcap_blocks import interface_block, packet_block, section_block
from pylog.memo import Memo, weight

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc"
)


def test_a_memo_makes_each_value_once_and_is_bounded_by_number() -> None:
    made: list[int] = []

    def make(key: int) -> str:
        made.append(key)
        return str(key)

    memo = Memo(make, 10)
    assert [memo[3], memo[3], made] == ["3", "3", [3]]
    for key in range(1000):
        memo[key]
        assert len(memo) <= 10


def test_a_memo_is_bounded_by_bytes() -> None:
    memo: Memo[tuple[bytes, int], str] = Memo(lambda key: key[0].hex(), 4096, 100_000)
    for number in range(400):
        key = bytes(1000), number
        assert memo[key] == bytes(1000).hex()
        assert sum(weight(k) + weight(v) for k, v in memo.items()) <= 100_000
    assert len(memo) > 10
    before = dict(memo)
    assert memo[bytes(90_000), 0] == bytes(90_000).hex()
    assert memo == before  # one value does not drive all the others out


def long_prefixes() -> Iterator[bytes]:
    """Messages, each with a prefix of 60 kB of its own."""
    for number in range(1100):
        prefix = b"%d" % number + b"x" * 60_000 + b"\xff" * 1000  # of which each is four letters
        yield builders.log("<", 5, [(1, {"hw_protocol": 0x0800, "hook": 1}), (10, prefix)])


def long_payloads() -> Iterator[bytes]:
    for number in range(1400):
        attributes = [(1, {"hw_protocol": 0x0800, "hook": 1}), (2, 9), (5, number)]
        yield builders.log("<", 5, [*attributes, (9, b"\x45" + bytes(50_000))])


def interfaces() -> Iterator[bytes]:
    """A section of many interfaces, each with a long name."""
    yield section_block()
    yield interface_block(239, name="x" * 60_000) * 1000
    for _ in range(8):
        yield interface_block(239) * 10_000
    yield packet_block(builders.log("<", 5, [(2, 9)])[16:], 10**18)


def names() -> Iterator[bytes]:
    """Notes of many long names of interfaces."""
    yield section_block() + interface_block(239)
    packet = builders.log("<", 5, [(4, 1)])[16:]
    for number in range(1200):
        comment = b'pylog {"interfaces":{"%d":"%s"}}' % (number, b"y" * 60_000)
        yield packet_block(packet, 10**18, comments=[comment])


PEAKS = """
import contextlib, re, sys
from pylog.cli import main
sys.argv[0] = "pylog"
for command, path in zip(sys.argv[1::2], sys.argv[2::2]):
    with open("/dev/null", "w") as nowhere, contextlib.redirect_stdout(nowhere):
        assert main([command, path]) == 0
    with open("/proc/self/status") as status:
        print(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1])
"""
"""Prints the peak of the memory, in KiB, after each pair of command and path."""


@needs_proc
@pytest.mark.parametrize(
    "made", effort.sample([long_prefixes, long_payloads, interfaces, names], least=2)
)
def test_a_small_file_that_unpacks_to_much_takes_little_memory(
    made: Callable[[], Iterator[bytes]], tmp_path: Path
) -> None:
    """At most three quarters of what is unpacked, on top of what a short file takes."""
    path, short = tmp_path / "log.gz", samples.FIXTURES / "nflog/batch.bin"
    with gzip.open(path, "wb", compresslevel=1) as file:
        size = sum(file.write(part) for part in made())
    pairs = [(command, log) for log in (short, path) for command in ("read", "info")]
    command = [sys.executable, "-c", PEAKS, *(str(word) for pair in pairs for word in pair)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, before, *peaks = map(int, done.stdout.split())
    assert size > 60_000_000
    for peak in peaks:
        assert peak - before < 45_000  # KiB


def test_info_counts_many_names_together_and_exactly() -> None:
    data = b"".join(builders.log("<", n, [(4, n + 1)]) for n in range(1500))
    with pylog.open(io.BytesIO(data)) as reader:
        found, _ = info.describe(reader)
    for counts in (found["interfaces"], found["logs"]):
        assert len(counts) == info.NAMES + 1 and sum(counts.values()) == 1500
        assert counts[info.MORE] == 1500 - info.NAMES
