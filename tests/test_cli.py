"""The commands, as a user runs them."""

from __future__ import annotations

import csv
import fcntl
import gzip
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import effort
import inprocess
import pytest
import samples

from pylog.outputs._named import every
from pylog.record import escape

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
DAMAGED = samples.FIXTURES / "ipl/damaged.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"


def run(
    *arguments: object, stdin: bytes = b"", status: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run pylog, expect an exit status, and give what it printed."""
    done = inprocess.run(*arguments, stdin=stdin)
    assert done.returncode == status, done.stderr.decode()
    return done


@pytest.mark.parametrize("dump", [FILTER, DAMAGED, SEQ])
def test_read_to_json_prints_the_golden_lines(dump: Path) -> None:
    assert run("read", "--to", "json", dump).stdout == samples.golden(dump)


def test_read_writes_text_for_people() -> None:
    lines = run("read", FILTER).stdout.decode().splitlines()
    assert len(lines) == 61
    assert lines[0] == (
        "2023-11-14T22:14:21.123457Z pass in fxp0 tcp 10.1.1.1:40000 -> 192.0.2.10:80 S len 40"
        " @0:3 x3"
    )


def test_read_writes_csv_with_a_header_and_stable_columns() -> None:
    rows = list(csv.DictReader(io.StringIO(run("read", "--to", "csv", SEQ).stdout.decode())))
    assert len(rows) == 827 and tuple(rows[0]) == every()
    objects = [json.loads(line) for line in samples.golden(SEQ).splitlines()]
    for row, obj in zip(rows, objects, strict=True):
        for name, value in obj.items():
            if isinstance(value, str | int) and not isinstance(value, bool):
                assert row[name] == str(value)
        assert row["extra"] == json.dumps(obj["extra"], separators=(",", ":"), ensure_ascii=False)


def test_count_stops_after_that_many_records_over_all_sources() -> None:
    assert len(run("read", "-n", "3", FILTER).stdout.splitlines()) == 3
    assert len(run("read", "-n", "64", FILTER, FILTER).stdout.splitlines()) == 64
    assert run("read", "-n", "0", FILTER).stdout == b""


def test_write_goes_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("read", "--to", "json", "-w", out, FILTER).stdout == b""
    assert out.read_bytes() == samples.golden(FILTER)
    done = run("read", "-w", tmp_path / "none" / "out", FILTER, status=1)
    assert b"cannot write" in done.stderr


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_may_be_compressed(pack: type) -> None:
    data = pack(FILTER.read_bytes())
    assert run("read", "--to", "json", "-", stdin=data).stdout == samples.golden(FILTER)
    reported = json.loads(run("info", "--json", "-", stdin=data).stdout)
    assert reported["layout"] == "ipl-5.1.2-lp64le" and reported["records"] == {"packet": 61}


def test_strict_stops_and_says_where() -> None:
    done = run("read", "--on-error", "strict", DAMAGED, status=1)
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.decode() == (
        f"pylog: {DAMAGED}: ipl_dsize 0, but expected 168 (head, ipflog and fl_hlen) to 524288"
        " at offset 336\n"
    )


def test_verbose_ends_in_a_summary() -> None:
    done = run("read", "-v", DAMAGED)
    engine, read, end, written = done.stderr.decode().splitlines()
    assert engine == f"pylog: {DAMAGED}: decoded by rows, since it is shorter than 8 MiB"
    assert "cut off at offset 10597, within its last record" in end
    assert read == (
        f"pylog: {DAMAGED}: raw, ipl-5.1.2-lp64le: 57 records read, damaged places: 4,"
        " lost records: 3"
    )
    assert written == f"pylog: {len(done.stdout.splitlines())} records written"


def test_without_records_the_summary_tells_no_time(tmp_path: Path) -> None:
    done = run("read", "-v", "-n", "0", DAMAGED)
    assert done.stderr.decode().splitlines()[-1] == "pylog: 0 records written"


def test_what_is_no_log_fails_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello, this is not a firewall log\n" * 40)
    for name in ("read", "info"):
        done = run(name, tmp_path / "x", status=1)
        assert done.stdout == b"" and len(done.stderr.splitlines()) == 1
        assert b": this is text; " in done.stderr and b"magic" not in done.stderr
    done = run("read", "-v", tmp_path / "x", status=1)
    assert b"IPFilter records (the magic" in done.stderr.splitlines()[1]
    assert b"No such file" in run("read", tmp_path / "none", status=1).stderr


def test_wrong_usage_is_2(tmp_path: Path) -> None:
    assert b"no layout" in run("read", "--layout", "vax", FILTER, status=2).stderr
    assert b"no output 'xml'" in run("read", "--to", "xml", FILTER, status=2).stderr
    run("read", status=2)
    run("read", "-n", "-1", FILTER, status=2)


def test_a_closed_pipe_is_no_error() -> None:
    done = shell(f"PYLOG read --to json {SEQ} {SEQ} | head -n 1")
    assert done.stderr == b"" and len(done.stdout.splitlines()) == 1


def test_info_tells_what_is_in_a_log() -> None:
    text = run("info", samples.FIXTURES / "ipl/v5-1-2-lp64le-state.all.bin").stdout.decode()
    for line in (
        "container:      raw",
        "layout:         ipl-5.1.2-lp64le",
        "version:        IPFilter 5.1.0 and later (FreeBSD 10 and later, NetBSD 7 and later)",
        "ABI:            lp64le",
        "logs:           ipf 9, state 20",
        "records:        packet 9, flow 20",
        "lost records:   0",
        "damage:         none",
    ):
        assert line in text.splitlines(), text
    assert "evidence" not in text


def test_info_explains_itself() -> None:
    dump = samples.FIXTURES / "ipl/v4-1-35-lp64le-filter.ipf.bin"
    text = run("info", "--explain", dump).stdout.decode()
    assert "61 of 61 IPv4 header checksums right" in text
    assert "decoded identically by:\n    ipl-4.1-lp64le-time64" in text
    assert "would fit less well (bytes explained, score):\n    ipl-5.0.3-lp64le" in text


def test_info_tells_damage_and_losses() -> None:
    reported = json.loads(run("info", "--json", DAMAGED).stdout)
    assert reported["damage"][0] == {
        "offset": 336, "size": 168,
        "reason": "ipl_dsize 0, but expected 168 (head, ipflog and fl_hlen) to 524288",
    }  # fmt: skip
    assert (reported["malformed"], reported["malformed_bytes"], reported["dropped"]) == (4, 522, 3)
    reported = json.loads(run("info", "--json", samples.FIXTURES / "nflog/overrun.bin").stdout)
    assert reported["dropped"] == 2520 and reported["logs"] == {"group 30": 680}
    assert reported["container"] == "netlink" and reported["other_messages"] == 68


def test_help_names_every_command_and_option() -> None:
    text = run("--help").stdout.decode()
    assert "read" in text and "info" in text
    text = run("read", "--help").stdout.decode()
    for option in ("--to", "--write", "--count", "--layout", "--on-error", "--verbose"):
        assert option in text
    assert run("--version").stdout.startswith(b"pylog ")


def terminal(*arguments: object) -> bytes:
    """What pylog writes when standard output and standard error are a terminal."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    pylog = [sys.executable, "-m", "pylog", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    with subprocess.Popen(pylog, stdout=child, stderr=child, env=environment) as process:
        os.close(child)
        found = b""
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:
                break
            if not part:
                break
            found += part
        os.close(parent)
        assert process.wait(60) == 0
    return found


def test_colour_is_for_terminals_only() -> None:
    assert b"\x1b[32mpass\x1b[0m" in terminal("read", "-n", "1", FILTER)
    assert b"\x1b" not in run("read", FILTER).stdout


def test_a_long_file_shows_progress_on_a_terminal(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    long = tmp_path / "long"
    long.write_bytes(FILTER.read_bytes() * (18_000_000 // FILTER.stat().st_size))
    out = terminal("read", "-w", tmp_path / "out", long)
    assert b"long: 100%" in out


def test_control_bytes_never_reach_the_terminal() -> None:
    assert escape("a\x1b[2Jb\n\u202e\u0085") == "a\\x1b[2Jb\\n\\u202e\\x85"
    data = FILTER.read_bytes().replace(b"fxp0", b"\x1b]0;")
    out = run("read", "--layout", "ipl-5.1.2-lp64le", "-", stdin=data).stdout
    assert b"\x1b" not in out and b"\\x1b]0;" in out


def test_info_and_read_agree_on_every_fixture() -> None:
    dumps = effort.sample(samples.dumps(), least=25)
    reported = [json.loads(line) for line in run("info", "--json", *dumps).stdout.splitlines()]
    assert len(reported) == len(dumps)
    for dump, answer in zip(dumps, reported, strict=True):
        lines = samples.golden(dump).splitlines()
        assert sum(answer["records"].values()) == len(lines), dump
        several = answer["layout"].startswith("netlink-")  # messages of several formats
        assert several or answer["layout"].partition(":")[0] in answer["layouts"], dump


def shell(line: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command in which PYLOG stands for the command."""
    line = line.replace("PYLOG", f"{sys.executable} -m pylog")
    return subprocess.run(line, shell=True, capture_output=True, timeout=60)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("line", "file", "count"),
    [
        ("PYLOG read {} > /dev/full", "standard output", "; 0 records written"),
        ("PYLOG info {} > /dev/full", "standard output", ""),
        ("PYLOG read {} -w /dev/full", "/dev/full", "; 0 records written"),
    ],
)
def test_a_full_disk_is_an_error_of_one_line(line: str, file: str, count: str) -> None:
    done = shell(line.format(SEQ))
    message = f"pylog: cannot write {file}: No space left on device{count}\n"
    assert (done.returncode, done.stderr.decode()) == (1, message)


def test_closed_standard_streams_are_named() -> None:
    assert b"standard output is closed" in shell(f"PYLOG read {FILTER} >&-").stderr
    assert b"standard input is closed" in shell("PYLOG read - <&-").stderr


def test_write_never_destroys_a_log_or_a_file_in_vain(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(FILTER.read_bytes())
    assert b"it is a log to be read" in run("read", log, "-w", log, status=1).stderr
    assert log.read_bytes() == FILTER.read_bytes()
    keep = tmp_path / "keep"
    keep.write_text("x")
    run("read", tmp_path / "none", "-w", keep, status=1)
    run("read", keep, "-w", log, status=1)
    assert keep.read_text() == "x" and log.read_bytes() == FILTER.read_bytes()


def test_a_file_name_that_is_not_utf8_is_shown(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff.bin"
    with open(odd, "wb") as file:
        file.write(FILTER.read_bytes())
    done = shell(f"PYLOG info --json {tmp_path}/*.bin")
    assert json.loads(done.stdout)["source"].endswith("\\xff.bin")


def test_a_log_of_which_nothing_can_be_read_is_a_failure() -> None:
    done = run("read", "--layout", "ipl-5.1.2-lp64be", FILTER, status=1)
    assert b"no record could be read as ipl-5.1.2-lp64be" in done.stderr


def test_csv_has_a_column_for_every_json_name() -> None:
    names = {"kind"}
    for dump in samples.dumps():
        for line in samples.golden(dump).splitlines():
            names |= json.loads(line).keys()
    assert names <= set(every())


def test_a_capture_without_packets_is_named_and_its_losses_are_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from builders import pcap_header

    from pylog.cli import main
    from pylog.formats.pcap_blocks import interface_block, section_block

    log = tmp_path / "log"
    for data in (pcap_header(239), section_block() + interface_block(239)):
        log.write_bytes(data)
        assert main(["read", str(log)]) == 0
        assert capsys.readouterr() == ("", f"pylog: {log}: no packet in it\n")
        assert main(["capture", "-w", str(tmp_path / "out"), str(log)]) == 0
        message = capsys.readouterr().err
        assert "0 records captured, lost records: cannot be known" in message
        assert f"pylog: {log}: no packet in it\n" in message
        assert main(["info", str(log)]) == 0
        assert "lost records:   cannot be known\n" in capsys.readouterr().out
        (tmp_path / "out").unlink()


def test_one_damaged_place_is_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pylog.cli import main

    log = tmp_path / "log"
    log.write_bytes((samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin").read_bytes()[:-8])
    assert main(["info", str(log)]) == 0
    assert "damage:         1 place, " in capsys.readouterr().out
