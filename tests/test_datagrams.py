"""Datagrams in capture files, as `pylog capture --datagrams` writes them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inprocess
import netlab
import pytest
import samples
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import LossRecord, PacketRecord
from pylog.formats.netlink_seen import Seen
from pylog.pipeline.recording import Recorded, Recording
from pylog.record import Record
from pylog.testing import Nflog, packet

DUMPS = ("batch.bin", "seq.bin", "overrun.bin", "meta.bin")
SMALL = 4608
"""The smallest receive buffer."""


def taken(file: Recording, source: Recorded) -> int:
    """Put what the source has into the file; how many records."""
    backend, records = source.backend, 0
    while backend.wait(0.0) and (data := backend.receive()):
        records += file.put(source, data, backend.ends, 1_700_000_000_000_000_000)
    return records


def read(stream: io.BytesIO) -> list[Record]:
    with pylog.open(io.BytesIO(stream.getvalue())) as reader:
        return list(reader)


def counts(records: list[Record]) -> list[Any]:
    """The ports of packets, and the counts of losses."""
    return [r.count if isinstance(r, LossRecord) else r.dport for r in records
            if isinstance(r, LossRecord | PacketRecord)]  # fmt: skip


def test_datagrams_are_read_as_the_records_that_live_reading_gives() -> None:
    with Nflog() as nflog, nflog.open("5,6") as reader:
        source, stream = Recorded(reader.backend), io.BytesIO()
        file = Recording(stream, [source])
        for port in (1, 2):
            nflog.log(packet(dport=port, indev="eth0"))
        assert taken(file, source) == 2
        nflog.lose(3)
        nflog.log(packet(dport=3))
        nflog.log(packet(dport=4), group=6)
        assert taken(file, source) == 2
        file.flush()
        assert (source.records, source.dropped, source.uncounted) == (4, 3, 0)
    records = read(stream)
    assert counts(records) == [1, 2, 3, 3, 4]
    first = records[0]
    assert isinstance(first, PacketRecord) and first.indev == "eth0"
    assert first.observed_ns == 1_700_000_000_000_000_000


def test_a_loss_between_two_files_is_in_the_second() -> None:
    with Nflog() as nflog, nflog.open("5") as reader:
        source = Recorded(reader.backend)
        streams = []
        for lost in (2, 3):
            nflog.lose(lost)
            nflog.log(packet(dport=lost))
            streams.append(io.BytesIO())
            file = Recording(streams[-1], [source])
            taken(file, source)
            file.flush()
        assert source.dropped == 5
    assert [counts(read(stream)) for stream in streams] == [[2, 2], [3, 3]]


def test_a_loss_that_no_number_shows_is_in_its_place() -> None:
    with Nflog() as nflog, nflog.open("5", seq=False) as reader:
        source, stream = Recorded(reader.backend), io.BytesIO()
        file = Recording(stream, [source])
        nflog.lose()
        nflog.log(packet(dport=1))
        taken(file, source)
        file.flush()
        assert (source.dropped, source.uncounted) == (None, 1)
    assert sorted(map(str, counts(read(stream)))) == ["1", "None"]


def test_a_loss_at_the_end_is_of_unknown_size() -> None:
    with Nflog() as nflog, nflog.open("5") as reader:
        source, stream = Recorded(reader.backend), io.BytesIO()
        file = Recording(stream, [source])
        nflog.log(packet(dport=1))
        taken(file, source)
        nflog.lose()
        assert taken(file, source) == 0
        source.backend._receive()
        file.end(source)
        file.flush()
        assert source.uncounted == 1
    assert counts(read(stream)) == [1, None]


def test_a_log_in_a_file_has_no_datagrams() -> None:
    seq = samples.FIXTURES / "nflog" / "seq.bin"
    done = inprocess.text("capture", "--datagrams", seq, "-w", "/dev/null")
    assert done.returncode == 2 and "is for live netlink" in done.stderr
    done = inprocess.text("capture", "--datagrams", "-n", "1", seq, "-w", "/dev/null")
    assert done.returncode == 2 and "leave out -n" in done.stderr


@pytest.mark.parametrize("name", DUMPS)
def test_messages_and_gaps_are_counted_as_a_reader_counts_them(name: str) -> None:
    path = samples.FIXTURES / "nflog" / name
    data = path.read_bytes()
    with pylog.open(path) as reader:
        for _ in reader:
            pass
    seen = Seen("<", {})
    for start, end in datagrams(data):
        seen.add(data, start, end)
    assert (seen.records, seen.lost) == (reader.received, reader.dropped or 0)
    assert not seen.malformed


def datagrams(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the datagrams of a dump are: each ends with NLMSG_DONE, or is a single message."""
    start = at = 0
    while at < len(data):
        size, kind, flags = struct.unpack_from("<IHH", data, at)
        at += (size + 3) & ~3
        if kind == 3 or not flags & 2:
            yield start, at
            start = at


@examples(400)
@given(st.binary(max_size=200), st.integers(0, 1 << 16), st.integers(0, 255))
def test_any_bytes_are_counted(tail: bytes, place: int, value: int) -> None:
    """Changed messages and any bytes after them: what is no message is noted as malformed."""
    data = bytearray((samples.FIXTURES / "nflog" / "batch.bin").read_bytes()[:4096])
    data[place % len(data)] = value
    seen = Seen("<", {"5": 0})
    made = bytes(data) + tail
    seen.add(made, 0, len(made))
    assert 0 <= seen.records <= len(made) // 16 and seen.lost >= 0


@pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))
def test_the_kernel_s_datagrams_are_recorded(tmp_path: Path) -> None:
    with netlab.Namespace() as namespace:
        namespace.log_udp(9, 5)
        source = None
        with pylog.open("nflog:5", netns=namespace.name) as reader:
            source, stream = Recorded(reader.backend), io.BytesIO()
            file = Recording(stream, [source])
            for _ in range(5):
                namespace.udp("127.0.0.1", 9, b"x")
            reader.backend.stop()
            while data := reader.backend.receive():
                file.put(source, data, reader.backend.ends, 1)
            file.end(source)
            file.flush()
    assert source.records == 5 and source.dropped == 0
    assert counts(read(stream)) == [9] * 5
