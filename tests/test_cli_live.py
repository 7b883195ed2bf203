"""The commands for live work under adverse conditions: signals, closed streams, full disks."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import effort
import inprocess
import netlab
import pytest
import samples

import pylog

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
ROOT = str(Path(pylog.__file__).resolve().parents[1])
PYLOG = [sys.executable, "-m", "pylog"]
needs_lab = pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))


def process(*arguments: str | Path, redirected: str = "") -> subprocess.CompletedProcess[str]:
    """What a process of pylog does, with redirections of a shell."""
    line = ["sh", "-c", f'exec "$@" {redirected}', "sh", *PYLOG, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def records(path: Path) -> list[pylog.Record]:
    with pylog.open(path) as reader:
        return list(reader)


# Files to write


def test_a_full_disk_is_told_with_the_files_name_and_what_was_captured() -> None:
    done = inprocess.text("capture", SEQ, "-w", "/dev/full")
    assert done.returncode == 1
    assert "pylog: cannot write /dev/full: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_may_not_grow_holds_whole_blocks(tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    path = tmp_path / "limited.pcapng"
    done = subprocess.run([*PYLOG, "capture", str(SEQ), "-w", str(path)], preexec_fn=limit,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 1 and f"cannot write {path}: File too large" in done.stderr
    assert "records captured" in done.stderr
    assert 50_000 < path.stat().st_size <= 100_000
    packets = records(path)
    assert all(isinstance(record, pylog.PacketRecord) for record in packets)
    assert [record.seq for record in packets] == list(range(len(packets))) and len(packets) > 100
    assert f"{len(packets)} records captured" in done.stderr


def test_the_reader_of_a_fifo_that_goes_away_is_an_error(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["head", "-c", "1000", str(fifo)], stdout=subprocess.DEVNULL):
        done = process("capture", SEQ, SEQ, "-w", fifo)
    assert done.returncode == 1 and "Broken pipe" in done.stderr


def test_a_slow_fifo_gets_every_byte(tmp_path: Path) -> None:
    fifo, out = tmp_path / "fifo", tmp_path / "out.pcapng"
    os.mkfifo(fifo)
    script = f"exec 3<{fifo}; sleep 1; cat <&3 >{out}"
    with subprocess.Popen(["sh", "-c", script]) as reader:
        done = process("capture", SEQ, "-w", fifo)
        assert reader.wait(30) == 0
    assert done.returncode == 0
    assert [r.seq for r in records(out)] == [r.seq for r in records(SEQ)]


@pytest.mark.parametrize(
    ("name", "numbered"),
    [
        ("fw.pcapng", "fw-00001.pcapng"),
        ("fw.2026.pcapng", "fw.2026-00001.pcapng"),
        ("fw.pcapng.gz", "fw-00001.pcapng.gz"),
        ("fw", "fw-00001"),
    ],
)
def test_the_number_of_a_rotated_file_stands_before_its_suffix(
    tmp_path: Path, name: str, numbered: str
) -> None:
    assert (
        inprocess.text("capture", FILTER, "-w", tmp_path / name, "--rotate-size", "1G").returncode
        == 0
    )
    assert [path.name for path in tmp_path.iterdir()] == [numbered]
    assert len(records(tmp_path / numbered)) == 61


def test_directories_and_wrong_sizes_are_refused(tmp_path: Path) -> None:
    for target in (tmp_path, f"{tmp_path}/new/"):
        done = inprocess.text("capture", FILTER, "-w", target)
        assert done.returncode == 1 and "is a directory; name a file in it" in done.stderr
    for option, value in (("--rotate-size", "0"), ("--rotate-time", "1w"), ("--duration", "x")):
        done = inprocess.text("capture", FILTER, "-w", tmp_path / "x", option, value)
        assert done.returncode == 2 and "a number above 0" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_flag_for_compression_takes_no_source_for_its_value(tmp_path: Path) -> None:
    done = inprocess.text("capture", "--compress", FILTER, "-w", tmp_path / "x")
    assert done.returncode == 0 and len(records(tmp_path / "x.gz")) == 61


# Streams


def test_closed_standard_streams_do_not_spoil_the_output(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    done = process("capture", FILTER, "-w", "-", redirected=f"2>&- >{path}")
    assert done.returncode == 0 and len(records(path)) == 61
    done = process("capture", FILTER, "-w", tmp_path / "closed.pcapng", redirected=">&-")
    assert done.returncode == 0 and len(records(tmp_path / "closed.pcapng")) == 61
    done = process("read", "-v", "--to", "json", FILTER, redirected="2>&-")
    assert done.stdout.encode() == samples.golden(FILTER)


# Signals and time


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_wait_for_a_later_source(
    tmp_path: Path, number: int, status: int
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    line = [*PYLOG, "read", "--to", "json", str(FILTER), str(fifo)]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        read = b"".join(process.stdout.readline() for _ in range(61))
        time.sleep(0.3)  # it opens the FIFO now
        process.send_signal(number)
        assert process.wait(10) == status
    assert samples.without_origin(read) == samples.golden(FILTER)


@pytest.mark.parametrize("option", ["--duration", "--rotate-time"])
def test_a_time_of_months_is_fine(tmp_path: Path, option: str) -> None:
    assert (
        inprocess.text("capture", FILTER, "-w", tmp_path / "x.pcapng", option, "90d").returncode
        == 0
    )


@pytest.mark.parametrize("window", ["nan", "-1"])
def test_a_window_that_makes_no_sense_is_refused(window: str) -> None:
    done = inprocess.text("read", "--merge", FILTER, FILTER, f"--window={window}")
    assert done.returncode == 2 and "--window is" in done.stderr and not done.stdout
    assert inprocess.text("read", "--merge", FILTER, FILTER, "--window=inf").returncode == 0


@needs_lab
def test_a_duration_ends_a_capture_in_a_flood(tmp_path: Path) -> None:
    with netlab.Namespace() as namespace:
        namespace.log_udp(9, 5)
        namespace.sender("127.0.0.1", 9, count=0)
        netlab.until(lambda: namespace.counted()[0] > 1000, "the sender")
        started = time.monotonic()
        done = process("capture", "nflog:5", "--netns", namespace.name, "--duration", "1",
                   "--rcvbuf", "1000000", "--rcvbuf-max", "1000000",
                   "-w", tmp_path / "flood.pcapng")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - started < 15
        assert namespace.groups() == {}


# Options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["read", "nflog"], "a live source is written nflog:GROUP, nftables:, nfct: or ipl:DEVICE"),
        (["read", "foo:5"], "a live source is written nflog:GROUP, nftables:, nfct: or ipl:DEVICE"),
        (["read", "ipl:/dev/null"], "it is no log device of IPFilter"),
        (["read", "ipl:"], "there is no /dev/ipl: Linux has no IPFilter"),
        (["info", "ipl:/dev/null"], "is live and has no end"),
        (["doctor", "foo"], "'foo' is none of capture, nfct, ipl, nflog"),
        (["read", str(FILTER), "--qthresh", "5"], "--qthresh is for nflog:GROUP, not for a file"),
        (["replay", str(FILTER), "--speed", "0"], "'0' is no speed"),
        (["flush", "nflog:70000"], "'70000' is no group"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(arguments: list[str], message: str) -> None:
    done = inprocess.text(*arguments)
    assert done.returncode in (1, 2) and message in done.stderr and "Traceback" not in done.stderr


def test_pending_and_flush_of_a_file() -> None:
    size = FILTER.stat().st_size
    assert inprocess.text("pending", FILTER).stdout == f"{FILTER}: {size} bytes pending\n"
    kept = f"{FILTER}: nothing flushed: a file keeps its records ({size} bytes of them)"
    assert inprocess.text("flush", FILTER, SEQ).stdout.splitlines()[0] == kept


@needs_lab
def test_doctor_and_sources_tell_what_this_machine_has() -> None:
    with pylog.open("nflog:4321"):
        done = inprocess.text("doctor", "nflog")
    assert done.returncode == 0 and "NFLOG works" in done.stdout
    assert f"group 4321 is taken by {Path('/proc/self/comm').read_text().strip()}" in done.stdout
    assert f"(process {os.getpid()}, " in done.stdout
    done = inprocess.text("doctor", "ipl", "--json")
    assert done.returncode == 1 and '"ok":false' in done.stdout
    done = inprocess.text("sources")
    assert done.returncode == 0
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert "not available" in lines["ipl:"] and "not available" not in lines["nflog:GROUP"]


@needs_lab
def test_doctor_says_what_is_missing_without_privilege() -> None:
    done = subprocess.run([*netlab.WITHOUT_CAPABILITIES, *PYLOG, "doctor", "nflog"],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 1
    assert "FAILED  nflog: cannot bind NFLOG group" in done.stdout
    assert "it takes CAP_NET_ADMIN" in done.stdout


@pytest.mark.parametrize("command", effort.sample([
    ["replay", "--speed", "max", "log.bin"],
    ["read", "capture:log.bin"],
    ["read", "ipl:log.bin"],
    ["read", "./log.bin"],
    ["read", "-"],
], least=3))  # fmt: skip
def test_a_log_is_never_written_over_by_what_is_read_of_it(
    tmp_path: Path, command: list[str]
) -> None:
    log = tmp_path / "log.bin"
    log.write_bytes(FILTER.read_bytes())
    with log.open("rb") as stdin:
        done = subprocess.run([*PYLOG, *command, "-w", "log.bin"], cwd=tmp_path, stdin=stdin,
                              env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True,
                              text=True, timeout=60)  # fmt: skip
    assert done.returncode == 1 and "it is a log to be read" in done.stderr
    assert log.read_bytes() == FILTER.read_bytes()


def test_a_dead_standard_error_ends_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = process(
        "read", "-v", "--to", "json", FILTER, FILTER, "-w", out, redirected="2>/dev/full"
    )
    assert done.returncode == 0
    assert samples.without_origin(out.read_bytes()) == samples.golden(FILTER) * 2


def test_a_capture_of_several_counts_what_it_wrote(tmp_path: Path) -> None:
    done = inprocess.text("capture", FILTER, SEQ, "-n", "1", "-w", tmp_path / "one.pcapng")
    assert done.stderr.startswith("pylog: 2 sources: 1 records captured, lost records: ")
    assert len(records(tmp_path / "one.pcapng")) == 1


@needs_lab
def test_the_end_of_the_reader_of_the_output_ends_a_quiet_source() -> None:
    with netlab.Namespace() as namespace:
        namespace.log_udp(9, 5)
        line = [*PYLOG, "read", "nflog:5", "--netns", namespace.name, "--latency"]
        with (
            subprocess.Popen(line, stdout=subprocess.PIPE) as process,
            subprocess.Popen(["head", "-n", "1"], stdin=process.stdout) as head,
        ):
            assert process.stdout is not None
            process.stdout.close()
            netlab.until(lambda: 5 in namespace.groups(), "pylog", 30)
            namespace.udp("127.0.0.1", 9)
            assert head.wait(20) == 0
            assert process.wait(20) == 0  # nothing more was logged
        assert namespace.groups() == {}


@needs_lab
def test_whoever_waits_at_a_terminal_is_told_so() -> None:
    with netlab.Namespace() as namespace:
        ours, theirs = pty.openpty()
        line = [*PYLOG, "read", "nflog:5", "--netns", namespace.name]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=theirs) as process:
            message = os.read(ours, 1000).decode()
            assert message.strip() == "pylog: waiting for records of nflog:5; Ctrl-C ends"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        os.close(ours)
        os.close(theirs)


@needs_lab
def test_a_live_group_and_a_dump_are_read_as_one() -> None:
    with netlab.Namespace() as namespace:
        namespace.log_udp(9, 5)
        sources = ["nflog:5", f"ipl:{FILTER}", "--layout", "ipl-5.1.2-lp64le"]
        options = ["--netns", namespace.name, "--latency", "--to", "json", "-n", "62"]
        line = [*PYLOG, "read", *sources, *options]
        with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            dump = b"".join(process.stdout.readline() for _ in range(61))
            # all of it is older than what comes now
            assert samples.without_origin(dump) == samples.golden(FILTER)
            namespace.udp("127.0.0.1", 9, b"live")
            (last,) = process.stdout.readlines()
            assert b'"source":"nflog"' in last and process.wait(20) == 0
