"""`--to ipl` on the command line: layouts, pipes as ipmon reads them, and what is reported."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import samples
from inprocess import run

import pylog
from pylog import outputs
from pylog.formats import Message, ipl
from pylog.testing import Device

IPL = samples.FIXTURES / "ipl"
FILTER = IPL / "v5-1-2-lp64le-filter.ipf.bin"
MIXED = IPL / "v4-1-35-ilp32be-nat.all.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
PYLOG = [sys.executable, "-m", "pylog"]


def records(path: Path, layout: str | None = None) -> list[pylog.Record]:
    with pylog.open(path, layout=layout) as reader:
        return list(reader)


@pytest.mark.parametrize(
    "dump", [FILTER, MIXED, IPL / "v3435-lp64le-nat.nat.bin"], ids=samples.name
)
def test_the_same_layout_gives_the_same_bytes(dump: Path, tmp_path: Path) -> None:
    with pylog.open(dump) as reader:
        layout = reader.layout
    done = run("read", "--to", "ipl", "--layout", layout, "-w", tmp_path / "out", dump)
    assert (tmp_path / "out").read_bytes() == dump.read_bytes()
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)


def test_the_default_layout_is_freebsds(tmp_path: Path) -> None:
    assert run("read", "--to", "ipl", "-w", tmp_path / "out", SEQ).returncode == 0
    with pylog.open(tmp_path / "out") as reader:
        assert reader.layout == "ipl-5.1.2-lp64le"
        assert not any(isinstance(record, pylog.LossRecord) for record in reader)


def test_layout_is_that_of_the_output_and_from_layout_that_of_the_input(tmp_path: Path) -> None:
    big = run("read", "--to", "ipl", "--layout", "ipl-4.1-ilp32be", FILTER).stdout
    options = ("--to", "ipl", "--from-layout", "ipl-4.1-ilp32be", "--layout", "ipl-5.1-lp64be")
    done = run("read", *options, "-", stdin=big)
    (tmp_path / "out").write_bytes(done.stdout)
    after = records(tmp_path / "out", "ipl-5.1.2-lp64be")
    before = records(FILTER)
    assert len(after) == len(before)
    for a, b in zip(after, before, strict=True):
        assert isinstance(a, pylog.PacketRecord) and isinstance(b, pylog.PacketRecord)
        assert (a.payload, a.action, a.rule, a.group) == (b.payload, b.action, b.rule, b.group)
    both = run("read", "--layout", "ipl-4.1-ilp32be", "--from-layout", "ipl-4.1-ilp32be", FILTER)
    assert both.returncode == 2 and b"--layout and --from-layout name the same" in both.stderr
    wrong = run("read", "--to", "ipl", "--layout", "ipl-9.9-lp64le", FILTER)
    assert wrong.returncode == 2 and b"a layout is ipl-VERSION-ABI" in wrong.stderr


def test_before_4_0_a_file_holds_one_log(tmp_path: Path) -> None:
    done = run("read", "--to", "ipl", "--layout", "ipl-3.4.35-lp64le", "-w", tmp_path / "o", MIXED)
    assert b"records left out: nat records in a file of the ipf log (24)" in done.stderr
    assert done.returncode == 0
    assert {type(record) for record in records(tmp_path / "o")} == {pylog.PacketRecord}


def test_the_log_of_such_a_file_may_be_named(tmp_path: Path) -> None:
    done = run(
        "read", "--to", "ipl", "--layout", "ipl-3.4.35-lp64le:nat", "-w", tmp_path / "o", MIXED
    )
    assert done.returncode == 0 and b" records in a file of the nat log (" in done.stderr
    assert {type(record) for record in records(tmp_path / "o")} == {pylog.FlowRecord}


@pytest.mark.parametrize(("layout", "message"), [
    ("ipl-4.1-illumos-lp64le", "no system writes ipl-4.1-illumos-lp64le; there are"
     " ipl-4.1-illumos-lp64le-name32"),
    ("ipl-3.4.35-ilp32le-time64", "there are ipl-3.4.35-ilp32le, ipl-3.4.35-ilp32le-nounit"),
    ("ipl-3.4.35-lp64le:rules", "has no log 'rules'; it has ipf, nat, state"),
])  # fmt: skip
def test_a_layout_that_could_not_be_detected_is_not_written(
    tmp_path: Path, layout: str, message: str
) -> None:
    done = run("read", "--to", "ipl", "--layout", layout, "-w", tmp_path / "o", FILTER)
    assert done.returncode == 2 and message in done.stderr.decode()
    assert not (tmp_path / "o").exists()


def test_a_file_is_not_emptied_before_the_options_are_known_to_be_right(tmp_path: Path) -> None:
    target = tmp_path / "o"
    target.write_text("kept")
    for options in (
        ["ipl", "--layout", "x"],
        ["ipl", "--action", "a=deny"],
        ["ipmon", "--tz", "x"],
    ):
        assert run("read", "--to", *options, "-w", target, FILTER).returncode == 2
        assert target.read_text() == "kept"


@pytest.mark.parametrize("command", [["read", "--to", "ipl"], ["ipmon", "-f"]])
def test_a_log_is_not_appended_to_itself(tmp_path: Path, command: list[str]) -> None:
    log = tmp_path / "log"
    log.write_bytes(FILTER.read_bytes())
    with log.open("ab") as file:
        done = subprocess.run([sys.executable, "-m", "pylog", *command, log], stdout=file,
                              stderr=subprocess.PIPE, timeout=60)  # fmt: skip
    assert done.returncode == 1
    assert b"cannot write standard output: it is a log to be read" in done.stderr
    assert log.read_bytes() == FILTER.read_bytes()


def test_a_loss_of_the_input_is_reported_with_its_place(tmp_path: Path) -> None:
    data = FILTER.read_bytes()
    done = run("read", "--to", "ipl", "-w", tmp_path / "o", "-", stdin=data + b"x" * 99)
    assert f"lost 99 bytes at offset {len(data)}: ".encode() in done.stderr
    assert (tmp_path / "o").read_bytes() == data


def test_what_the_layout_cannot_hold_is_reported_with_its_count(tmp_path: Path) -> None:
    done = run("read", "--to", "ipl", "--layout", "ipl-3.4.35-lp64le", "-w", tmp_path / "o", FILTER)
    line = done.stderr.decode()
    with pylog.open(FILTER) as reader:
        found = [record for record in reader if isinstance(record, pylog.PacketRecord)]
    tags = sum("fl_logtag" in (record.extra or {}) for record in found)
    groups = sum(record.group == "vpn" for record in found)
    assert f"fl_logtag ({tags})" in line and f"fl_group ({groups})" in line and tags and groups
    assert line.startswith("pylog: ipl-3.4.35-lp64le: not held: ")


def test_options_are_those_of_the_output_that_is_asked_for() -> None:
    for options, message in (
        (("--to", "json", "--tz", "UTC"), "--tz is an option of --to ipmon, "),
        (("--to", "json", "--body", "0"), "--body is an option of --to ipl"),
        (("--to", "ipl", "--action", "drop"), "PATTERN=VALUE"),
        (("--to", "ipl", "--action", "a=deny"), "no action 'deny'; there are pass, block, log"),
        (("--to", "ipl", "--body", "-1"), "body is -1, but must be a whole number from 0 to 65535"),
        (("--to", "ipl", "--fl-group", "rule"), "--fl-group"),
    ):
        done = run("read", *options, FILTER)
        assert done.returncode == 2 and message in done.stderr.decode(), options
        assert not done.stdout
    with pytest.raises(ValueError, match="no output 'iplog'"):
        outputs.description("iplog")


def test_binary_records_are_not_for_a_terminal() -> None:
    assert outputs.description("ipl").binary and outputs.description("pcapng").binary
    assert outputs.description("ipmon").raw and not outputs.description("ipmon").binary


@pytest.mark.parametrize(
    ("layout", "size"), [("ipl-5.1.2-lp64le", 32768), ("ipl-4.1-ilp32le", 8192)]
)
def test_whoever_reads_a_pipe_as_ipmon_does_gets_complete_records(
    layout: str, size: int, tmp_path: Path
) -> None:
    """ipmon reads as much as its buffer holds, and drops what is not complete in it."""
    many = b"".join([SEQ.read_bytes()] * 4)
    (tmp_path / "many").write_bytes(many)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = [*PYLOG, "read", "--to", "ipl", "--layout", layout, "-w", str(fifo),
               str(tmp_path / "many")]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as writer:
        stream, taken, found = ipl.stream(layout), [], 0
        descriptor = os.open(fifo, os.O_RDONLY)
        try:
            while chunk := os.read(descriptor, size):
                taken.append(len(chunk))
                items: list[Message] = []
                stream.captured(chunk, 0, len(chunk), None, items)  # type: ignore[arg-type]
                found += len(items)
                if len(taken) < 5:
                    time.sleep(0.05)  # let the pipe fill up
        finally:
            os.close(descriptor)
        assert writer.wait(30) == 0
    assert found > 3000 and max(taken) > 4096


def test_a_pipe_that_nobody_reads_any_more_is_no_error(tmp_path: Path) -> None:
    shell = f"{sys.executable} -m pylog read --to ipl {SEQ} {SEQ} {SEQ} | head -c 100 >/dev/null"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and done.returncode == 0


def test_replay_writes_records_too(tmp_path: Path) -> None:
    done = run("replay", "--speed", "max", "--to", "ipl", "-w", tmp_path / "out", FILTER)
    assert done.returncode == 0 and (tmp_path / "out").read_bytes() == FILTER.read_bytes()


def test_the_double_of_the_device_logs_records_of_linux() -> None:
    with pylog.open(SEQ) as reader:
        packets = [r for r in reader if isinstance(r, pylog.PacketRecord) and r.family == "ipv4"]
    with Device(size=1 << 19, fold=False) as device:
        for packet in packets[:50]:
            assert device.log(packet)
        with pytest.raises(ValueError, match="has no room for no IP packet"):
            device.log(pylog.PacketRecord("nflog", "nfulnl-le", family="arp"))
        with device.open(layout="ipl-5.1.2-lp64le") as live:
            read = [live.read() for _ in range(50)]
    assert [r.saddr for r in read if isinstance(r, pylog.PacketRecord)] == [
        p.saddr for p in packets[:50]
    ]
    assert [r.seq for r in read if r is not None] == list(range(1, 51))


def test_a_growing_file_is_followed(tmp_path: Path) -> None:
    data = FILTER.read_bytes()
    path = tmp_path / "log"
    path.write_bytes(data[:200])
    reader = pylog.open(path, layout="ipl-5.1.2-lp64le", follow=True)
    found: list[pylog.Record] = []
    thread = threading.Thread(target=lambda: found.extend(reader))
    thread.start()
    with path.open("ab", buffering=0) as log:
        for at in range(200, len(data), 97):  # records are cut anywhere
            log.write(data[at : at + 97])
    deadline = time.monotonic() + 20
    while len(found) < 61 and time.monotonic() < deadline:
        time.sleep(0.02)
    reader.stop()
    thread.join(20)
    reader.close()
    assert not thread.is_alive()
    assert [r.seq for r in found] == [r.seq for r in records(FILTER)]


def test_a_compressed_file_cannot_be_followed(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "log.gz").write_bytes(gzip.compress(FILTER.read_bytes()))
    with pytest.raises(ValueError, match="is compressed: it cannot be followed"):
        pylog.open(tmp_path / "log.gz", follow=True)


def test_a_fifo_is_followed_from_writer_to_writer(tmp_path: Path) -> None:
    data, fifo = FILTER.read_bytes(), tmp_path / "fifo"
    os.mkfifo(fifo)
    found: list[pylog.Record] = []

    def read() -> None:
        with pylog.open(fifo, layout="ipl-5.1.2-lp64le", follow=True) as reader:
            for record in reader:
                found.append(record)
                if len(found) == 61:
                    break

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    for part in (data[:500], data[500:5000], data[5000:]):
        with fifo.open("wb") as writer:
            writer.write(part)
    thread.join(30)
    assert [r.seq for r in found] == [r.seq for r in records(FILTER)]
