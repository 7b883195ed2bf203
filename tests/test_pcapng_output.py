"""What the pcapng output writes is read back as it was, complete or cut, by pylog and by tshark."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import builders
import effort
import inprocess
import msgspec
import netlab
import pytest
import samples

import pylog
from pylog import DecodeError, LossRecord, PacketRecord, outputs
from pylog.batch import Batch
from pylog.formats import MAXIMUM_INTERFACES, Message, nfulnl, pcap_blocks

START = 1_700_000_000 * 10**9
FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
EPB = 6
OLD_FLOWS = [
    path
    for path in samples.dumps("ipl/v3*")
    if path.name.endswith(("nat.bin", "state.bin")) and "ipf" not in path.name
]


def write(records: Iterable[pylog.Record]) -> bytes:
    stream = io.BytesIO()
    output = outputs.open("pcapng", outputs.Target(stream))
    for record in records:
        output.write(Batch([record]))
    output.close()
    return stream.getvalue()


def read(source: Any, **options: Any) -> list[pylog.Record]:
    with pylog.open(io.BytesIO(source) if isinstance(source, bytes) else source, raw=True,
                    **options) as reader:  # fmt: skip
        return list(reader)


def shape(record: pylog.Record) -> Any:
    """The record's JSON but for its place."""
    row = msgspec.json.decode(pylog.to_json(record))
    row.pop("offset", None)
    return row


def message(mark: int, *attrs: tuple[int, Any], group: int = 7) -> bytes:
    head: list[tuple[int, Any]] = [(1, {"hw_protocol": 0x800, "hook": 1}), (2, mark)]
    return builders.log("<", group, [*head, *attrs], family=2)


def named(*rows: tuple[int, dict[int, str]], group: int = 7) -> list[pylog.Record]:
    """Records of messages with that indev, received while interfaces had those names."""
    found = []
    streams: dict[int, nfulnl.NfulnlStream] = {}
    for mark, (index, names) in enumerate(rows):
        if id(names) not in streams:
            streams[id(names)] = nfulnl.NfulnlStream("<")
        stream = streams[id(names)]
        stream.live, stream.observed_ns = True, START + mark
        stream.interface_name = lambda index, names=names: names.get(index, index)  # type: ignore[misc]
        data = message(mark, (4, index), (6, index + 1), group=group)
        (item,) = stream.split(data, True)
        assert isinstance(item, Message)
        found.append(stream.decode(data, item, raw=True))
    return found


def lost(count: int | None = None, reason: str = "no buffer space") -> LossRecord:
    return LossRecord(source="nflog", layout="nfulnl-le", observed_ns=START, count=count,
                      log=None if count is None else "7", reason=reason)  # fmt: skip


def blocks(data: bytes) -> list[tuple[int, int, int]]:
    """(type, start, end) of each block, by their lengths alone."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((int.from_bytes(data[at : at + 4], "little"), at, at + size))
        at += size
    return found


# There and back


def roundtrip(dump: Path) -> None:
    with pylog.open(dump, raw=True) as reader:
        first = list(reader)
    data = write(first)
    with pylog.open(io.BytesIO(data), raw=True) as again:
        second = list(again)
    assert [shape(record) for record in second] == [shape(record) for record in first]
    for counter in ("received", "dropped"):
        assert getattr(again, counter) == getattr(reader, counter)
    # a time of capture that makes no sense is not written again
    assert again.malformed - again.flaws.total() == reader.malformed - reader.flaws.total()
    packets = [
        [r.raw for r in records if not isinstance(r, LossRecord)] for records in (first, second)
    ]
    assert packets[0] == packets[1]
    times = [r.observed_ns for r in first if not isinstance(r, LossRecord)]
    assert [r.observed_ns for r in second if not isinstance(r, LossRecord)] == times


@pytest.mark.parametrize(
    "dump", effort.sample([d for d in samples.dumps() if d not in OLD_FLOWS], 15), ids=samples.name
)
def test_every_fixture_comes_back_as_it_was(dump: Path) -> None:
    roundtrip(dump)


@pytest.mark.parametrize("dump", effort.sample(OLD_FLOWS, least=4), ids=samples.name)
def test_logs_whose_layout_does_not_tell_them_come_back_as_they_were(dump: Path) -> None:
    roundtrip(dump)


TWICE = ["nflog/seq.bin", "nflog/overrun.bin", "nflog/tcpdump.pcap", "ipl/v2x-lp64be-ipf.bin",
         "ipl/v5-1-2-nounit-nbtv-lp64be-nat.all.bin"]  # fmt: skip
DAMAGED = ["nflog/damaged.bin", "ipl/damaged.bin", "ipl/v3435-ilp32le-cut.ipf.bin"]


@pytest.mark.parametrize("name", [*TWICE, *DAMAGED])
def test_what_was_read_back_is_written_as_the_same_packets(name: str) -> None:
    data = write(read(samples.FIXTURES / name))
    again = write(read(data))
    packets = [[file[a:b] for kind, a, b in blocks(file) if kind == EPB] for file in (data, again)]
    assert packets[0] == packets[1] and packets[0]


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_bytes_are_kept(name: str) -> None:
    dump = samples.FIXTURES / name
    bad = [r.raw for r in read(dump) if isinstance(r, LossRecord) and r.size]
    again = [r.raw for r in read(write(read(dump))) if isinstance(r, LossRecord) and r.size]
    assert bad == again and any(bad)


def test_a_record_without_its_bytes_is_refused() -> None:
    with pylog.open(FILTER) as reader, pytest.raises(ValueError, match="read with raw=True"):
        write(reader)


@pytest.mark.parametrize(
    "second",
    [0, 1, 4_294_967_296, 18446744074, 2 * 10**11],
)
def test_any_time_of_the_kernel_can_be_written(second: int) -> None:
    (record,) = read(message(0, (3, {"sec": second, "usec": 5})))
    (again,) = read(write([record]))
    assert again.timestamp_ns == second * 10**9 + 5000 and again.observed_ns is None


# Losses


@pytest.mark.parametrize(
    ("losses", "counts"),
    [
        ([lost(5)], [5]),
        ([lost(5), lost(7)], [5, 7]),
        ([lost(None)], [None]),
        ([lost(2**40)], [2**40]),
        ([], []),
        ([lost(5), lost(None)], [5, None]),
    ],
)
def test_losses_come_back_where_they_were(losses: list[Any], counts: list[int | None]) -> None:
    a, b = named((3, {}), (3, {}))
    found = read(write([a, *losses, b]))
    inner = found[1:-1]
    assert [r.count for r in inner if isinstance(r, LossRecord)] == counts
    assert len(inner) == len(counts) and all(r.count for r in losses) == (None not in counts)
    if counts == [None]:
        assert isinstance(inner[0], LossRecord) and inner[0].reason == "no buffer space"


@pytest.mark.parametrize("count", [None, 5])
def test_losses_after_the_last_packet_come_back(count: int | None) -> None:
    found = read(write([*named((3, {})), lost(count)]))
    assert [r.count for r in found if isinstance(r, LossRecord)] == [count]


# Names of interfaces


def many(count: int) -> list[tuple[int, dict[int, str]]]:
    names = {n: f"port{n // 2}" if n % 2 else f"if{n // 2}" for n in range(2 * count)}
    return [(i * 2, names) for i in range(count)]


ETH, WLAN = {3: "eth0", 4: "br0"}, {3: "wlan0"}


@pytest.mark.parametrize(
    "rows",
    [
        [(3, ETH)] * 3,
        [(3, ETH), (3, WLAN | {4: "br0"}), (3, ETH)],
        [(3, {}), (3, ETH), (9, {})],
        [(3, {3: 'a"\\\n\x1b\u00e9'}), (3, {3: "\\xff"})],
        many(MAXIMUM_INTERFACES // 2 + 300) + many(5),
        [(3, ETH), (3, {}), (3, WLAN)],
    ],
    ids=["same", "renamed", "late", "odd", "more than are kept", "gone"],
)
def test_names_of_interfaces_come_back_with_the_packets(rows: list[Any]) -> None:
    records = [record for pair in zip(named(*rows), named(*rows, group=9), strict=True)
               for record in pair]  # fmt: skip
    found = read(write(records))
    assert [(r.indev, r.physindev) for r in found if isinstance(r, PacketRecord)] == [
        (r.indev, r.physindev) for r in records if isinstance(r, PacketRecord)
    ]
    assert read(write(found)) == found


# Files that end suddenly, or were made by someone else


@pytest.mark.parametrize("dump", [FILTER, SEQ], ids=samples.name)
def test_a_file_cut_anywhere_has_all_its_complete_packets(dump: Path) -> None:
    records = read(dump)[:60]
    data = write(records)
    ends = [end for kind, _, end in blocks(data) if kind == EPB]
    last = effort.sample(range(ends[-2], ends[-1]))
    anywhere = effort.chance().sample(range(ends[0], len(data)), effort.number(60))
    for cut in (*last, *anywhere):
        complete = sum(end <= cut for end in ends)
        options = {} if cut % 10 == 0 else {"layout": records[0].layout}  # which is faster
        found = [r for r in read(data[:cut], **options) if isinstance(r, PacketRecord)]
        assert [shape(r) for r in found] == [shape(r) for r in records[:complete]]


DEEP = b'{"x":' + b"[" * 30000 + b"]" * 30000 + b"}"


@pytest.mark.parametrize(
    "note",
    [b"{", b"", b"null", b"[]", b"5", b'{"interfaces":{"3":5}}', b'{"interfaces":[]}',
     b'{"lost":5}', b'{"interfaces":{"-":"a"}}', b'{"interfaces":{"1e99":"a"}}',
     b'{"lost":"\\ud800"}', b'{"unobserved":"yes"}', b'{"future":[1,2]}',
     b'{"lost":"\xff\xfe"}', DEEP],
    ids=lambda note: note[:12].decode("latin-1"),
)  # fmt: skip
def test_a_note_that_makes_no_sense_is_ignored(note: bytes) -> None:
    comment = b"pylog " + note
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239, comment=comment)
    for mark in range(2):
        data += pcap_blocks.packet_block(message(mark, (4, 3))[16:], START, comments=[comment, b""])
    assert [getattr(r, "indev", None) for r in read(data)] == [3, 3]
    assert read(write(read(data)))


def test_notes_however_large_are_read_within_bounds() -> None:
    comment = pcap_blocks.Note({i: f"i{i}" for i in range(4200)}).comment()
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    for mark in range(2):
        data += pcap_blocks.packet_block(message(mark, (4, 3))[16:], START, comments=[comment[:-1]])
        data += pcap_blocks.packet_block(message(mark, (4, 3))[16:], START, comments=[comment])
    assert [getattr(r, "indev", None) for r in read(data)] == [3, "i3", "i3", "i3"]


def test_a_large_block_before_the_first_packet_is_passed_over() -> None:
    """Such as the secrets or the names that Wireshark keeps with a capture."""
    size = (70_000).to_bytes(4, "little")
    other = b"\x0a\0\0\0" + size + bytes(70_000 - 12) + size
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239) + other
    data += pcap_blocks.packet_block(message(1)[16:], START)
    assert len(read(data)) == 1


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs the program tshark")
@pytest.mark.parametrize("name", ["seq.bin", "batch.bin", "overrun.bin", "tcpdump.pcap"])
def test_tshark_finds_the_same_packets(name: str, tmp_path: Path) -> None:
    records = read(samples.FIXTURES / "nflog" / name)
    path = tmp_path / "out.pcapng"
    path.write_bytes(write(records))
    done = subprocess.run(
        ["tshark", "-r", path, "-T", "fields", "-e", "frame.number", "-e", "nflog.prefix"],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    found = [line.split("\t")[1] for line in done.stdout.decode().splitlines()]
    packets = [r for r in records if isinstance(r, PacketRecord)]
    assert found == [record.prefix or "" for record in packets]


# The command


def capture(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = inprocess.run("capture", *arguments)
    assert done.returncode == status, done.stderr.decode()
    return done


def test_capture_writes_what_is_read_and_counts(tmp_path: Path) -> None:
    complete, limited, none = (tmp_path / f"{n}.pcapng" for n in ("complete", "limited", "none"))
    done = capture(FILTER, "-w", complete)
    assert b"61 records captured, lost records: 0" in done.stderr
    assert [shape(r) for r in read(complete)] == [shape(r) for r in read(FILTER)]
    capture(FILTER, "-w", limited, "-n", 7)
    assert [shape(r) for r in read(limited)] == [shape(r) for r in read(FILTER)[:7]]
    capture(FILTER, "-w", none, "-n", 0)
    assert [kind for kind, *_ in blocks(none.read_bytes())] == [0x0A0D0D0A]


@pytest.mark.parametrize(("option", "suffix"), [("gzip", ".gz"), ("zstd", ".zst"), (None, "")])
def test_rotation_numbers_on_after_what_is_there(
    option: str | None, suffix: str, tmp_path: Path
) -> None:
    if option == "zstd":
        pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")
    (tmp_path / f"fw-00041.pcapng{suffix}").write_bytes(b"there")
    name = "fw.pcapng.zst" if option == "zstd" else "fw.pcapng"
    packed = ["--compress"] if option else []
    capture(SEQ, SEQ, "-w", tmp_path / name, "--rotate-size", "10k", *packed)
    files = sorted(tmp_path.iterdir())
    assert files[0].read_bytes() == b"there" and len(files) > 2
    numbers = [int(path.name.split("-")[1][:5]) for path in files]
    assert numbers == list(range(41, 41 + len(files)))
    assert all(path.name.endswith(".pcapng" + suffix) for path in files)
    assert sum(len(read(path)) for path in files[1:]) == 2 * 827
    assert all(path.stat().st_size >= 10_000 for path in files[1:-1])


def open_files(process: int) -> list[str]:
    """The paths of the files that a process has open."""
    return [os.path.realpath(entry) for entry in Path(f"/proc/{process}/fd").iterdir()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_rotation_by_time_ends_a_file_although_nothing_comes(tmp_path: Path) -> None:
    raw = FILTER.read_bytes()
    process = [sys.executable, "-m", "pylog", "capture", "-", "-w", str(tmp_path / "fw.pcapng"),
               "--rotate-time", "1", "--layout", "ipl-5.1.2-lp64le"]  # fmt: skip
    with subprocess.Popen(process, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(raw[:5000])
        child.stdin.flush()
        first = tmp_path / "fw-00001.pcapng"
        netlab.until(lambda: first.exists() and str(first) not in open_files(child.pid),
                     "the end of the first file", 60)  # fmt: skip
        child.stdin.write(raw[5000:])
        child.stdin.close()
        assert child.wait(20) == 0
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["fw-00001.pcapng", "fw-00002.pcapng"]
    found = [[r for r in read(path) if isinstance(r, PacketRecord)] for path in files]
    assert 20 < len(found[0]) < 40 and len(found[0]) + len(found[1]) == 61


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "fw.pcapng"
    path.write_bytes(b"precious")
    for number in (1, 2):
        numbered = tmp_path / f"fw-0000{number}.pcapng"
        assert (
            f"fw.pcapng exists: writing {numbered}" in capture(FILTER, "-w", path).stderr.decode()
        )
        assert len(read(numbered)) == 61
    assert path.read_bytes() == b"precious"
    usage = capture(FILTER, "-w", "-", "--rotate-size", "1k", status=2)
    assert b"cannot be rotated" in usage.stderr
    for bad in ("0", "-1", "1x", "k"):
        capture(FILTER, "-w", tmp_path / "new", f"--rotate-size={bad}", status=2)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("packed", [[], ["--compress"]])
def test_standard_output_takes_a_capture(packed: list[str]) -> None:
    data = capture(FILTER, "-w", "-", *packed).stdout
    plain = gzip.decompress(data) if packed else data
    assert len(read(plain)) == 61


def test_a_capture_that_is_killed_has_what_was_received(tmp_path: Path) -> None:
    path = tmp_path / "fw.pcapng"
    raw = FILTER.read_bytes()
    command = [sys.executable, "-m", "pylog", "capture", "-", "-w", str(path),
               "--layout", "ipl-5.1.2-lp64le"]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        child.stdin.write(raw)
        child.stdin.flush()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (not path.exists() or path.stat().st_size < 10_000):
            time.sleep(0.05)
        child.kill()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    assert len([r for r in read(path) if isinstance(r, PacketRecord)]) == 61
    assert os.path.getsize(path) % 4 == 0


def test_a_cut_before_the_first_packet_is_reported() -> None:
    data = write(read(FILTER))
    with pytest.raises(DecodeError):
        read(data[:10])


def test_recordings_that_are_joined_keep_their_losses() -> None:
    with pylog.open(samples.FIXTURES / "nflog/seq.bin", raw=True) as reader:
        packets = list(reader)
    loss = LossRecord(source="nflog", layout="nfulnl-le", seq=0, count=10, log="10", reason="x")
    first, second = write(packets[:400]), write([loss, *packets[10:50]])
    found = read(first + second)
    assert [r.count for r in found if isinstance(r, LossRecord)] == [10]
    assert len(found) == 441
    unknown = LossRecord(source="nflog", layout="nfulnl-le", reason="nobody knows")
    found = read(write([*packets[:5], unknown]) + write(packets[10:12]))
    assert [isinstance(r, LossRecord) for r in found] == [False] * 5 + [True] + [False] * 2
    found = read(write([*packets[:5], unknown, *packets[5:7]]))  # among numbers without a gap
    assert [isinstance(r, LossRecord) for r in found] == [False] * 5 + [True] + [False] * 2
    huge = LossRecord(source="nflog", layout="nfulnl-le", count=2**40, log="10")
    found = read(write([huge, *packets[:1]]))
    assert [r.count for r in found if isinstance(r, LossRecord)] == [2**40]


def test_losses_of_both_kinds_after_the_last_packet_come_back() -> None:
    found = read(write([*named((3, {})), lost(5), lost(None)]))
    assert [r.count for r in found if isinstance(r, LossRecord)] == [5, None]


@pytest.mark.skipif(not shutil.which("tcpdump"), reason="needs the program tcpdump")
def test_packets_of_the_other_byte_order_are_in_a_section_of_theirs(tmp_path: Path) -> None:
    little = read(samples.FIXTURES / "nflog/seq.bin")[:3]
    attributes: list[tuple[int, Any]] = [
        (1, {"hw_protocol": 0x800, "hook": 1}),
        (10, b"big\0"),
        (9, (little[2].payload if isinstance(little[2], PacketRecord) else b"") or b""),
    ]
    big = read(builders.log(">", 7, attributes, family=2) * 3)
    assert [r.layout for r in big] == ["nfulnl-be"] * 3
    path = tmp_path / "both.pcapng"
    path.write_bytes(write([*little, *big]))
    assert [r.layout for r in read(path)] == ["nfulnl-le"] * 3 + ["nfulnl-be"] * 3
    path.write_bytes(write(big))
    done = subprocess.run(["tcpdump", "-nr", str(path)], capture_output=True, text=True, timeout=60)
    assert len(done.stdout.splitlines()) == 3 and "[|nflog]" not in done.stdout


def test_records_without_a_packet_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    writer = outputs.open("pcapng", outputs.Target(io.BytesIO()))
    for _ in range(3):
        writer.write(Batch([PacketRecord("conntrack", "x", raw=b"1")]))
    writer.close()
    assert "3 packet records of conntrack left out" in caplog.text
