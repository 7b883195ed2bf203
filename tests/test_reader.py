"""The reader's manners on files, pipes and compressed input, and what it does with damage."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import lzma
import os
import subprocess
import sys
import threading
import time
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import effort
import pytest
import samples

import pylog
from pylog import BackendError, DecodeError, LossRecord

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
DAMAGED = samples.FIXTURES / "ipl/damaged.bin"
BATCH = samples.FIXTURES / "nflog/batch.bin"


def test_read_gives_one_record_and_none_at_the_end() -> None:
    with pylog.open(FILTER) as reader:
        records = [reader.read() for _ in range(61)]
        assert all(records) and reader.read() is None and reader.read() is None
        assert reader.received == 61


@pytest.mark.parametrize("dump", [FILTER, BATCH])
@pytest.mark.parametrize("size", [2000, 5000, 1 << 20])
def test_read_bytes_gives_complete_records_only(dump: Path, size: int) -> None:
    parts = []
    with pylog.open(dump) as reader:
        while part := reader.read_bytes(size):
            assert len(part) <= size
            parts.append(part)
        assert reader.read_bytes(size) == b""
        received = reader.received
    for part in parts:
        with pylog.open(io.BytesIO(part), layout=reader.layout) as again:
            assert list(again) and again.malformed == 0
    joined = b"".join(parts)
    with pylog.open(io.BytesIO(joined), layout=reader.layout) as again:
        assert len(list(again)) == received
    if dump == FILTER:
        assert joined == dump.read_bytes()


@pytest.mark.parametrize("size", [0, -1, 1, 167])
def test_read_bytes_refuses_a_size_too_small_and_keeps_the_record(size: int) -> None:
    with pylog.open(FILTER) as reader:
        with pytest.raises(ValueError, match="too few"):
            reader.read_bytes(size)
        assert reader.read_bytes(168) == FILTER.read_bytes()[:168]


def test_records_and_bytes_are_taken_from_the_same_queue() -> None:
    with pylog.open(FILTER) as reader:
        first = reader.read()
        reader.read_bytes(168)
        third = next(iter(reader))
        assert first and third and (first.seq, third.seq) == (1, 5)
        assert reader.received == 3 and reader.dropped == 0


def test_pending_counts_down_to_nothing() -> None:
    size = FILTER.stat().st_size
    with pylog.open(FILTER) as reader:
        assert reader.pending() == size
        reader.read()
        assert reader.pending() == size - 168
        for _ in reader:
            pass
        assert reader.pending() == 0


def test_flush_returns_bytes_and_is_not_a_drop() -> None:
    with pylog.open(FILTER) as reader:
        reader.read()
        assert reader.flush() == FILTER.stat().st_size - 168
        assert reader.read() is None and reader.dropped == 0 and reader.received == 1


def test_flush_of_a_pipe_leaves_what_comes_later() -> None:
    data = FILTER.read_bytes()
    into, out = os.pipe()
    with os.fdopen(into, "rb", buffering=0) as source, os.fdopen(out, "wb", buffering=0) as sink:
        sink.write(data[:1000])  # five records and most of a sixth
        with pylog.open(source, layout="ipl-5.1.2-lp64le") as reader:
            assert reader.flush() == 5 * 168
            sink.write(data[1000:1344])
            record = reader.read()
            assert record is not None and record.offset == 840
            assert reader.dropped == 0


def test_a_pipe_gives_each_record_when_it_has_come() -> None:
    data = FILTER.read_bytes()
    into, out = os.pipe()
    with os.fdopen(into, "rb", buffering=0) as source, os.fdopen(out, "wb", buffering=0) as sink:
        sink.write(data[:168])
        with pylog.open(source) as reader:
            for i in range(5):
                record = reader.read()
                assert record is not None and record.offset == 168 * i
                assert not reader.ready
                sink.write(data[168 * (i + 1) : 168 * (i + 2)])


def test_the_kernels_sequence_numbers_tell_what_was_lost() -> None:
    with pylog.open(samples.FIXTURES / "nflog/overrun.bin") as reader:
        losses = [r for r in reader if isinstance(r, LossRecord)]
    (loss,) = losses
    assert (loss.count, loss.seq, loss.log) == (2520, 580, "30")
    assert reader.dropped == 2520 and reader.received == 680


def test_dropped_is_none_where_it_cannot_be_known() -> None:
    with pylog.open(samples.FIXTURES / "ipl/v4-1-35-lp64le-filter.ipf.bin") as reader:
        list(reader)
    assert reader.dropped is None


def test_sequence_numbers_that_begin_anew_are_no_loss() -> None:
    data = FILTER.read_bytes()
    with pylog.open(io.BytesIO(data + data)) as reader:
        assert not any(isinstance(r, LossRecord) for r in reader)


def test_damage_is_reported_in_its_place_and_reading_goes_on() -> None:
    with pylog.open(DAMAGED) as reader:
        records = list(reader)
    places = [(r.offset, r.size) for r in records if isinstance(r, LossRecord) and r.size]
    assert places == [(336, 168), (1008, 168), (2016, 68), (10597, 118)]
    assert (reader.received, reader.malformed, reader.dropped) == (57, 4, 3)
    ends = {r.offset: r for r in records if not isinstance(r, LossRecord)}
    assert 504 in ends and 1176 in ends and 2084 in ends


def test_strict_stops_with_file_offset_field_found_and_expected() -> None:
    with pylog.open(DAMAGED, on_error="strict") as reader:
        assert reader.read() and reader.read()
        for _ in range(2):
            with pytest.raises(DecodeError) as caught:
                reader.read()
            assert str(caught.value) == (
                f"{DAMAGED}: ipl_dsize 0, but expected 168 (head, ipflog and fl_hlen) to 524288"
                " at offset 336"
            )


def test_an_unknown_policy_is_the_callers_error() -> None:
    with pytest.raises(ValueError, match="resync, strict"):
        pylog.open(FILTER, on_error="ignore")  # type: ignore[arg-type]


def test_raw_gives_the_bytes_of_each_record() -> None:
    with pylog.open(FILTER, raw=True) as reader:
        assert b"".join(r.raw or b"" for r in reader) == FILTER.read_bytes()
    with pylog.open(FILTER) as reader:
        assert all(r.raw is None for r in reader)


# Compression


def zstd_compress(data: bytes) -> bytes:
    package = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    zstd = pytest.importorskip(package, reason="needs the extra zstd")
    return bytes(zstd.compress(data))


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstd_compress,
}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressed_input_reads_the_same(name: str, tmp_path: Path) -> None:
    packed = tmp_path / "dump"
    packed.write_bytes(COMPRESSORS[name](FILTER.read_bytes()))
    with pylog.open(packed) as reader:
        assert reader.backend.compression == name  # type: ignore[attr-defined]
        assert pylog.json_lines(reader) == samples.golden(FILTER)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_compressed_file_that_is_cut_off_gives_what_it_has(name: str) -> None:
    data = b"".join(bytes([i % 251, i // 251 % 251]) for i in range(4000))
    packed = COMPRESSORS[name](FILTER.read_bytes() * 20 + data)
    with pylog.open(io.BytesIO(packed[: len(packed) - 1000]), layout="ipl-5.1.2-lp64le") as reader:
        records = list(reader)
    assert isinstance(records[-1], LossRecord) and f"{name} stream" in (records[-1].reason or "")
    with pylog.open(
        io.BytesIO(packed[: len(packed) - 1000]), layout="ipl-5.1.2-lp64le", on_error="strict"
    ) as reader, pytest.raises(DecodeError):  # fmt: skip
        list(reader)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_compressed_file_that_is_damaged_is_reported(name: str) -> None:
    packed = bytearray(COMPRESSORS[name](FILTER.read_bytes()))
    packed[len(packed) // 2] ^= 0x55
    try:
        with pylog.open(io.BytesIO(bytes(packed)), layout="ipl-5.1.2-lp64le") as reader:
            records = list(reader)
    except DecodeError:
        return
    assert isinstance(records[-1], LossRecord) or reader.flaws


def test_without_its_package_zstd_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "backports", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.raises(pylog.BackendUnavailable, match=r"\.\[zstd\]"):
        pylog.open(io.BytesIO(b"\x28\xb5\x2f\xfd" + bytes(20)))


# Sources


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"cannot open .*none: No such file"):
        pylog.open(tmp_path / "none")
    with pytest.raises(BackendError, match="is a directory"):
        pylog.open(tmp_path)


def test_close_ends_reading_and_may_come_twice() -> None:
    reader = pylog.open(FILTER)
    reader.close()
    reader.close()
    assert reader.read() is None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_input() -> None:
    """A pipe of 300 MB of records is read within 150 MB."""
    code = (
        "import pylog, re\n"
        "n = sum(1 for _ in pylog.open('-', layout='ipl-5.1.2-lp64le'))\n"
        "print(n, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    one = (samples.FIXTURES / "ipl/v5-1-2-lp64le-nomatch.ipf.bin").read_bytes()
    # large records, so that many bytes are few records
    schema = large_record(one)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin and child.stdout

        def feed() -> None:
            assert child.stdin
            for _ in range(300):
                child.stdin.write(schema * (1_000_000 // len(schema)))
            child.stdin.close()

        writer = threading.Thread(target=feed)
        writer.start()
        count, peak = map(int, child.stdout.read().split())
        writer.join()
    assert count == 300 * (1_000_000 // len(schema))
    assert peak < 150_000  # KiB


def large_record(dump: bytes) -> bytes:
    """The first record of the dump with a body of 30 KiB, as a kernel with log_all writes it."""
    from pylog.formats.ipl_layouts import named

    schema = named("ipl-5.1.2-lp64le").schema("ipf")
    fields = schema.parse(dump)
    packet = bytearray(fields.packet + bytes(30 * 1024))
    packet[2:4] = len(packet).to_bytes(2)
    body = len(packet) - fields.fl_hlen
    fields["packet"], fields["fl_plen"] = bytes(packet), body & 0xFF
    fields["ipl_dsize"] += 30 * 1024
    return schema.build(fields)


# What read_bytes owes


GARBAGE = FILTER.read_bytes()[:840] + b"GARBAGEGARBAGE" + FILTER.read_bytes()[840:]


def test_read_bytes_gives_what_came_before_damage_and_then_stops() -> None:
    with pylog.open(io.BytesIO(GARBAGE), on_error="strict") as reader:
        assert reader.read_bytes(1 << 20) == FILTER.read_bytes()[:840]
        for _ in range(2):
            with pytest.raises(DecodeError):
                reader.read_bytes(1 << 20)
    with pylog.open(io.BytesIO(GARBAGE)) as reader:
        assert reader.read_bytes(1 << 20) == FILTER.read_bytes()
        assert reader.malformed == 1


def test_an_iterator_keeps_raising_after_damage() -> None:
    with pylog.open(io.BytesIO(GARBAGE), on_error="strict") as reader:
        records = iter(reader)
        assert len([next(records) for _ in range(5)]) == 5
        for _ in range(2):
            with pytest.raises(DecodeError):
                next(records)


def test_read_bytes_reports_a_compressed_stream_that_is_cut_off() -> None:
    packed = zlib.compressobj(wbits=31)
    data = packed.compress(FILTER.read_bytes()) + packed.flush(zlib.Z_SYNC_FLUSH)
    with pylog.open(io.BytesIO(data)) as reader:
        assert reader.read_bytes(1 << 20) == FILTER.read_bytes()
        assert reader.read_bytes(1 << 20) == b"" and reader.malformed == 1
    with pylog.open(io.BytesIO(data), on_error="strict") as reader:
        assert reader.read_bytes(1 << 20) == FILTER.read_bytes()
        with pytest.raises(DecodeError, match="gzip stream"):
            reader.read_bytes(1 << 20)


def test_records_keep_their_order_when_bytes_are_read_between() -> None:
    data = FILTER.read_bytes()
    gap = data[: 168 * 3] + data[168 * 5 :]
    with pylog.open(io.BytesIO(gap)) as reader:
        for _ in range(3):
            reader.read()
        loss = reader.read()
        assert isinstance(loss, LossRecord) and loss.count == 2
        assert reader.read_bytes(168) == gap[168 * 3 : 168 * 4]
        assert reader.dropped == 2 and reader.received == 4


def test_flush_counts_damage() -> None:
    with pylog.open(DAMAGED) as reader:
        reader.flush()
        assert reader.malformed == 4


def test_close_forgets_what_was_read_ahead() -> None:
    reader = pylog.open(FILTER)
    reader.read()
    reader.close()
    assert reader.read() is None and reader.pending() == 0 and reader.read_bytes(1000) == b""


def test_a_text_file_is_the_callers_error() -> None:
    with pytest.raises(TypeError, match="binary"):
        pylog.open(io.StringIO("MLPI"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"path .*binary file object, not"):
        pylog.open(3)  # type: ignore[arg-type]


def test_a_descriptor_that_does_not_block_is_waited_for() -> None:
    data = FILTER.read_bytes()
    into, out = os.pipe()
    os.set_blocking(into, False)
    with os.fdopen(into, "rb", buffering=0) as source, os.fdopen(out, "wb", buffering=0) as sink:
        sink.write(data[:840])
        with pylog.open(source) as reader:
            assert all(reader.read() for _ in range(5))
            threading.Timer(0.2, sink.write, [data[840:1008]]).start()
            record = reader.read()
            assert record is not None and record.offset == 840


def test_the_layout_is_looked_for_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from pylog.detect import detect as real

    calls: list[int] = []

    def counted(head: bytes, final: bool, layout: str | None) -> object:
        calls.append(len(head))
        return real(head, final, layout)

    monkeypatch.setattr("pylog.input.detect", counted)
    monkeypatch.setattr("pylog.input.PATIENCE_S", 0.0)
    monkeypatch.setattr("pylog.backends.capture.Capture.wait", lambda self, timeout: False)
    source = io.BufferedReader(io.BytesIO(b"no log at all " * 1000))
    monkeypatch.setattr("pylog.backends.capture.CHUNK", 100)
    with pytest.raises(DecodeError):
        pylog.open(source)
    assert len(calls) < 12


def test_a_slow_pipe_is_detected_like_the_file(tmp_path: Path) -> None:
    dump = samples.FIXTURES / "ipl/v5-1-2-nounit-nbtv-lp64be-dup.ipf.bin"
    data = dump.read_bytes()
    into, out = os.pipe()
    with os.fdopen(into, "rb", buffering=0) as source, os.fdopen(out, "wb", buffering=0) as sink:

        def feed() -> None:
            for at in range(0, len(data), 100):
                sink.write(data[at : at + 100])
                time.sleep(0.01)
            sink.close()

        writer = threading.Thread(target=feed)
        writer.start()
        with pylog.open(source) as reader:
            assert pylog.json_lines(reader) == samples.golden(dump)
        writer.join()


def test_a_layout_that_stops_fitting_gives_way_to_one_that_agreed_so_far() -> None:
    """64 KiB of records on full seconds read the same with 32- and with 64-bit microseconds."""
    dump = samples.FIXTURES / "ipl/v5-1-2-nounit-nbtv-lp64be-dup.ipf.bin"
    data = dump.read_bytes()
    with pylog.open(dump, raw=True) as reader:
        first, *rest = [record.raw or b"" for record in reader]
    with pylog.open(io.BytesIO(first * 600 + b"".join(rest))) as reader:
        assert "ipl-5.1.2-lp64be-time64-nounit" in reader.detection.layouts[1:]
        records = list(reader)
    assert reader.malformed == 0 and reader.received == 604
    assert reader.layout == "ipl-5.1.2-lp64be-time64-nounit"
    with pylog.open(io.BytesIO(data)) as reader:
        times = [record.timestamp_ns for record in reader]
    assert [record.timestamp_ns for record in records[-4:]] == times[1:]


def test_a_slowly_growing_log_is_read_before_it_is_long() -> None:
    data = FILTER.read_bytes()
    into, out = os.pipe()
    stop = threading.Event()
    with os.fdopen(into, "rb", buffering=0) as source, os.fdopen(out, "wb", buffering=0) as sink:

        def feed() -> None:
            for at in range(0, len(data), 168):
                sink.write(data[at : at + 168])
                if stop.wait(0.2):
                    return

        writer = threading.Thread(target=feed)
        writer.start()
        with pylog.open(source) as reader:
            assert reader.read() is not None
            assert not stop.is_set() and writer.is_alive()
            stop.set()
            writer.join()


def test_damage_does_not_use_up_the_layouts_that_may_still_fit() -> None:
    dump = samples.FIXTURES / "ipl/v5-1-2-nounit-nbtv-lp64be-dup.ipf.bin"
    with pylog.open(dump, raw=True) as reader:
        first, *rest = [record.raw or b"" for record in reader]
    damaged = bytearray(first)
    damaged[4:8] = bytes(4)  # ipl_count
    data = first * 600 + bytes(damaged) + b"".join(rest)
    with pylog.open(io.BytesIO(data)) as reader:
        records = list(reader)
    assert (reader.malformed, reader.received) == (1, 605)
    assert reader.flaws == {"ipl_count": 1} and records[600].count is None


@pytest.mark.parametrize("on_error", ["strict", "resync"])
def test_a_reader_that_met_damage_is_freed(on_error: Literal["strict", "resync"]) -> None:
    def use() -> weakref.ref[pylog.Reader]:
        reader = pylog.open(DAMAGED, on_error=on_error)
        with contextlib.suppress(DecodeError):
            list(reader)
        with contextlib.suppress(DecodeError):
            reader.read_bytes(1 << 20)
        return weakref.ref(reader)

    gone = use()
    gc.collect()
    assert gone() is None


# Compressed pipes


def test_a_compressed_pipe_gives_what_has_come_and_waits_for_the_rest() -> None:
    data = FILTER.read_bytes()
    into, out = os.pipe()
    packer = zlib.compressobj(wbits=31)
    with os.fdopen(into, "rb", buffering=0) as source, os.fdopen(out, "wb", buffering=0) as sink:
        sink.write(packer.compress(data[:840]) + packer.flush(zlib.Z_SYNC_FLUSH))
        with pylog.open(source, layout="ipl-5.1.2-lp64le") as reader:
            assert [reader.read(timeout=5) is not None for _ in range(5)] == [True] * 5
            with pytest.raises(TimeoutError):
                reader.read(timeout=0.1)
            more = packer.compress(data[840:1008]) + packer.flush(zlib.Z_SYNC_FLUSH)
            sink.write(more[:9])
            with pytest.raises(TimeoutError):
                reader.read(timeout=0.1)
            sink.write(more[9:])
            assert reader.read(timeout=5) is not None
            threading.Timer(0.2, reader.close).start()
            assert reader.read() is None


@pytest.mark.parametrize("name", COMPRESSORS)
def test_members_of_a_compressed_file_follow_each_other_with_padding(name: str) -> None:
    data = FILTER.read_bytes()
    pack = COMPRESSORS[name]
    parts = [pack(data[:1000]), bytes(8), pack(b""), pack(data[1000:]), bytes(512)]
    with pylog.open(io.BytesIO(b"".join(parts))) as reader:
        assert pylog.json_lines(reader) == samples.golden(FILTER)
    with pylog.open(io.BytesIO(b"".join(parts) + b"junk at the end")) as reader:
        *records, last = list(reader)
    assert pylog.json_lines(records) == samples.golden(FILTER)
    assert isinstance(last, LossRecord) and f"{name} stream" in (last.reason or "")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", effort.sample(COMPRESSORS, least=1))
def test_a_file_that_unpacks_to_very_much_takes_little_memory(name: str, tmp_path: Path) -> None:
    small, bomb = tmp_path / "small", tmp_path / "bomb"
    small.write_bytes(COMPRESSORS[name](FILTER.read_bytes()))
    bomb.write_bytes(COMPRESSORS[name](FILTER.read_bytes() + bytes(60 << 20)))
    code = (
        "import pylog, re, sys\n"
        "for path in sys.argv[1:]:\n"
        "    n = sum(1 for _ in pylog.open(path))\n"
        "    print(n, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, small, bomb], capture_output=True, text=True, check=True
    )
    (_, before), (count, peak) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert count > 40 and peak - before < 30_000  # KiB
