"""Compressed logs: what can be decompressed is read, and the same however the bytes come."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import effort
import pytest
import samples
import tables

import pylog
from pylog import DecodeError, LossRecord
from pylog.backends import unpack
from pylog.record import Record
from pylog.table import schema

DUMP = (samples.FIXTURES / "nflog/batch.bin").read_bytes()
HALF = DUMP[: len(DUMP) // 2], DUMP[len(DUMP) // 2 :]


def zstd_compress(data: bytes) -> bytes:
    package = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    zstd = pytest.importorskip(package, reason="needs the extra zstd")
    packed: bytes = zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstd_compress,
}
SKIPPABLE = b"\x52\x2a\x4d\x18\5\0\0\0hello"
"""A frame of zstd that has no data."""


class Pieces(io.RawIOBase):
    """A file object that gives so many bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size, self._at = data, size, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        taken = self._data[self._at : self._at + self._size]
        self._at += len(taken)
        return taken


def unpacked(packed: bytes, size: int) -> tuple[bytes, bool]:
    """What is made of the bytes, so many at a time, and whether there was an error."""
    name = unpack.compression(packed)
    assert name is not None
    unpacker, found = unpack.Unpacker(name), []
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    try:
        for piece in [*pieces, b""]:
            if piece:
                unpacker.feed(piece)
            else:
                unpacker.end()
            while unpacker.more:
                found.append(unpacker.take())
    except unpacker.errors:
        return b"".join(found), True
    return b"".join(found), False


def damaged(packed: bytes, seed: int) -> Iterator[bytes]:
    """The bytes cut off, or with one of them changed, at places all over them.

    The places are always the same: at a few others, such as between members, nothing is missed.
    """
    chosen = random.Random(seed)
    for _ in range(12):
        yield packed[: chosen.randrange(12, len(packed))]
        at = chosen.randrange(12, len(packed))
        yield packed[:at] + bytes((packed[at] ^ (1 << chosen.randrange(8)),)) + packed[at + 1 :]
    for at in (1, 2, 5, 9, 14, 30):  # checksums and indices are at the end
        yield packed[:-at] + bytes((packed[-at] ^ 0x10,)) + packed[len(packed) - at + 1 :]
    yield packed + b"garbage behind it"


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("members", [1, 2])
def test_what_is_decompressed_does_not_depend_on_how_the_bytes_come(
    name: str, members: int
) -> None:
    data = DUMP[:9000]
    packed = PACK[name](data[:4000]) + PACK[name](data[4000:]) if members > 1 else PACK[name](data)
    for bad in effort.sample(damaged(packed, members)):
        found = [unpacked(bad, size) for size in (1, 7, 100, len(bad))]
        assert found.count(found[0]) == len(found)
        if packed.startswith(bad):
            assert data.startswith(found[0][0]) and found[0][1]


@pytest.mark.parametrize("name", PACK)
def test_long_members_do_not_depend_on_it_either(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their compressed bytes are not kept; up to STEP bytes before an error may be lost."""
    monkeypatch.setattr(unpack, "KEPT", 1000)
    chosen = random.Random(1)
    data = bytes(chosen.choices(range(64), k=8000))
    packed = PACK[name](data)
    assert unpacked(packed, 13) == unpacked(packed, len(packed)) == (data, False)
    for bad in effort.sample(damaged(packed, 3)):
        found = [unpacked(bad, size) for size in (1, 7, 999, 1001, len(bad))]
        assert found.count(found[0]) == len(found)
    cut = unpacked(packed[:-2], 100)[0]  # the data is all there, but not the end of the stream
    assert cut == data


@pytest.mark.parametrize("name", PACK)
def test_a_wrong_checksum_costs_no_record(name: str, tmp_path: Path) -> None:
    """Nor a byte, but for bzip2's library, which keeps the last one of the block to itself."""
    given = DUMP[:-1] if name == "bzip2" else DUMP
    packed = bytearray(PACK[name](DUMP))
    at = {"gzip": -6, "xz": -36, "bzip2": 10, "zstd": -2}[name]
    if name == "xz":  # the check follows the block, of which the index tells the size
        at = len(packed) - 12 - (int.from_bytes(packed[-8:-4], "little") + 1) * 4 - 3
    packed[at] ^= 0x40
    path = tmp_path / "log"
    path.write_bytes(packed)
    records = list(pylog.open(path))
    assert records[:-1] == list(pylog.open(io.BytesIO(given)))
    loss = records[-1]
    assert isinstance(loss, LossRecord) and loss.offset == len(given)
    assert str(loss.reason).startswith(f"{name} stream ")


def through_a_pipe(packed: bytes, size: int) -> list[Record]:
    """The records when another thread writes the bytes to a pipe."""
    read_end, write_end = os.pipe()

    def write() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as file:
            for at in range(0, len(packed), size):
                file.write(packed[at : at + size])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with os.fdopen(read_end, "rb", buffering=0) as file, pylog.open(file) as reader:
            return list(reader)
    finally:
        thread.join()


@pytest.mark.parametrize("name", PACK)
def test_every_way_to_read_a_damaged_file_gives_the_same(name: str, tmp_path: Path) -> None:
    packed = PACK[name](HALF[0]) + PACK[name](HALF[1])
    for number, bad in enumerate(list(damaged(packed, 7))[::7]):
        path = tmp_path / f"{number}"
        path.write_bytes(bad)
        try:
            with pylog.open(path) as reader:
                records = list(reader)
        except DecodeError as error:  # a changed block of bzip2 is all changed
            assert name == "bzip2" or unpacked(bad, 61) == (b"", True)
            with pytest.raises(DecodeError, match=re.escape(error.reason)):
                pylog.open(Pieces(bad, 61))  # type: ignore[arg-type]
            with pytest.raises(DecodeError, match=re.escape(error.reason)):
                pylog.read_table(path)
            continue
        assert sum(f"{name} stream" in str(getattr(r, "reason", "")) for r in records) == 1
        assert list(pylog.open(Pieces(bad, 61))) == records  # type: ignore[arg-type]
        assert through_a_pipe(bad, 3000) == records
        assert tables.plain(pylog.read_table(path, columns=["offset", "mark"])) == tables.rows(
            records, "packet", ["offset", "mark"]
        )
        assert tables.plain(pylog.read_table(path, kind="loss")) == tables.rows(
            records, "loss", schema("loss").names
        )
        with pylog.open(path) as reader:
            octets = b""
            while more := reader.read_bytes(4096):
                octets += more
            assert reader.malformed == sum(
                isinstance(r, LossRecord) and r.count is None for r in records
            )
        again = [r for r in records if not isinstance(r, LossRecord)]
        assert len(list(pylog.open(io.BytesIO(octets)))) == len(again) if octets else not again


@pytest.mark.parametrize("name", PACK)
def test_members_follow_each_other_and_may_be_padded(name: str) -> None:
    members = [PACK[name](part) for part in HALF]
    between = {"zstd": SKIPPABLE}.get(name, bytes(8))
    expected = list(pylog.open(io.BytesIO(DUMP)))
    started = SKIPPABLE if name == "zstd" else b""
    for packed in (b"".join(members), started + members[0] + between + members[1] + bytes(512)):
        for size in (50, 1 << 20):
            assert list(pylog.open(Pieces(packed, size))) == expected  # type: ignore[arg-type]


def test_a_bomb_is_decompressed_a_piece_at_a_time() -> None:
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        packed = pack(bytes(1 << 25))
        unpacker = unpack.Unpacker(str(unpack.compression(packed)))
        unpacker.feed(packed)
        largest = size = 0
        while unpacker.more:
            found = len(unpacker.take())
            largest, size = max(largest, found), size + found
        assert largest <= unpack.CHUNK and size == 1 << 25


@pytest.mark.parametrize("name", PACK)
def test_long_members_follow_each_other(name: str) -> None:
    """zlib tells twice what follows a member of which more than a piece was taken."""
    data = (samples.FIXTURES / "nflog/seq.bin").read_bytes() * 5
    assert len(data) > 2 * unpack.CHUNK
    packed = PACK[name](data) * 2
    unpacker = unpack.Unpacker(str(unpack.compression(packed)))
    unpacker.feed(packed)
    taken = b""
    while unpacker.more and len(taken) < 3 * len(data):
        taken += unpacker.take()
    assert taken == data * 2
