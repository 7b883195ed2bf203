"""The files that commands write: what their names say, and what becomes of those that exist."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import inprocess
import pytest
import samples

import pylog
from pylog import BackendError, outputs
from pylog.cli import main
from pylog.outputs import Form, form, form_of
from pylog.transports.rotation import Files, Manner

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
ZSTD = "backports.zstd" if sys.version_info < (3, 14) else "compression.zstd"


def run(*arguments: object, status: int = 0) -> str:
    """What a command says on standard error."""
    done = inprocess.run(*arguments)
    assert done.returncode == status, done.stderr.decode()
    return done.stderr.decode()


def seqs(path: Path) -> list[int]:
    """The numbers of the packets in a file of JSON lines or a capture."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line)["seq"] for line in data.splitlines()]


WANTED = [json.loads(line)["seq"] for line in samples.golden(SEQ).splitlines()]


# Names: one vocabulary


@pytest.mark.parametrize(("path", "to", "made"), [
    (None, None, Form("text")), ("-", None, Form("text")), ("fw", None, Form("text")),
    ("fw.day", None, Form("text")), ("fw.log", None, Form("text")),
    ("fw.gz", None, Form("text", ".gz")),
    ("fw.json", None, Form("json")), ("fw.JSONL", None, Form("json")),
    ("fw.ndjson.zst", None, Form("json", ".zst")), ("fw.csv.gz", None, Form("csv", ".gz")),
    ("fw.feather", None, Form("arrow")), ("fw.db", None, Form("sqlite")),
    ("fw.pcap", None, Form("pcapng")), ("fw.ipmon", None, Form("ipmon")),
    (None, "jsonl", Form("json")), (None, "json.gz", Form("json", ".gz")),
    ("-", "txt", Form("text")), ("fw", "feather", Form("arrow")),
    ("fw", "csv.gz", Form("csv", ".gz")),
    ("fw.json", "ndjson", Form("json")), ("fw.gz", "csv", Form("csv", ".gz")),
    ("fw.log", "json", Form("json")), ("fw.txt", "ipmon", Form("ipmon")),
    ("fw.bin", "ipl", Form("ipl")), ("/dev/null", "parquet", Form("parquet")),
    ("fw.json.gz", "json.gz", Form("json", ".gz")),
])  # fmt: skip
def test_the_form_is_that_of_the_ending_or_of_to(
    path: str | None, to: str | None, made: Form
) -> None:
    assert form(path, to) == made


@pytest.mark.parametrize(("path", "to", "problem"), [
    ("fw.csv", "json", "--to says json, but the ending of fw.csv says csv"),
    ("fw.parquet", "text", "--to says text, but the ending of fw.parquet says parquet"),
    ("fw.log", "ipl", "--to says ipl, but the ending of fw.log says text"),
    ("fw.json", "json.gz", "--to says json.gz, but fw.json does not end in .gz"),
    ("fw.json.zst", "json.gz", "--to says json.gz, but fw.json.zst does not end in .gz"),
    ("fw.parquet.gz", None, "fw.parquet.gz: parquet is not written with .gz"),
    (None, "arrow.zst", "arrow.zst: arrow is not written with .zst"),
    (None, "xml", "no output 'xml'; there are arrow, cef, csv, "),
])  # fmt: skip
def test_a_contradiction_names_both(path: str | None, to: str | None, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}"):
        form(path, to)


def test_every_ending_is_a_name_of_its_output() -> None:
    for ending, name in outputs.endings().items():
        assert form(None, ending[1:]) == form_of(f"x{ending}") == form(f"x{ending}") == Form(name)


def test_commands_take_the_same_names(tmp_path: Path) -> None:
    golden = samples.golden(FILTER)
    for name in ("a.json", "a.jsonl", "a.ndjson"):
        run("read", FILTER, "-w", tmp_path / name)
        run("convert", FILTER, tmp_path / f"c{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"c{name}").read_bytes() == golden
    for to in ("json", "jsonl", "ndjson"):
        assert inprocess.run("read", "--to", to, FILTER).stdout == golden
    run("replay", "--speed", "max", FILTER, "-w", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes().startswith(b"kind,")
    assert "the ending of x.csv says csv" in run(
        "read", "--to", "json", "-w", "x.csv", FILTER, status=2
    )
    said = run("capture", FILTER, "-w", "x.json", status=2)
    assert said.startswith("pylog: capture writes pcapng, but the ending of x.json says json")
    assert not Path("x.csv").exists() and not Path("x.json").exists()


@pytest.mark.parametrize("to", ["parquet", "arrow", "sqlite"])
def test_a_table_is_never_text(to: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    run("read", SEQ, "-w", tmp_path / f"x.{to}")
    run("convert", SEQ, tmp_path / f"y.{to}")
    with (tmp_path / f"x.{to}").open("rb") as x, (tmp_path / f"y.{to}").open("rb") as y:
        assert x.read(6) == y.read(6) and not x.read(20).startswith(b"20")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"x.{to}", f"y.{to}"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_hold_the_same(suffix: str, tmp_path: Path) -> None:
    if suffix == ".zst":
        pytest.importorskip(ZSTD)
    golden = samples.golden(SEQ)

    def unpacked(path: Path) -> bytes:
        from pylog.backends.capture import Capture

        backend = Capture(path)
        try:
            return b"".join(iter(backend.receive, b""))
        finally:
            backend.close()

    for command in (["read", SEQ, "-w"], ["convert", SEQ], ["convert", "--jobs", "2", SEQ]):
        out = tmp_path / f"{len(command)}.json{suffix}"
        assert main([*map(str, command), str(out)]) == 0
        assert unpacked(out) == golden and len(out.read_bytes()) < len(golden) / 4
    run("read", SEQ, "--append", "-w", out)
    assert unpacked(out) == golden * 2
    printed = tmp_path / "printed"
    printed.write_bytes(inprocess.run("read", "--to", f"json{suffix}", SEQ).stdout)
    assert unpacked(printed) == golden


# What exists


@pytest.mark.parametrize("name", ["x.log", "x.json", "x.csv", "x.pcapng", "x.ipl", "x.parquet"])
@pytest.mark.parametrize("command", ["read", "replay", "convert"])
def test_a_file_that_exists_is_refused_unless_asked_for(
    command: str, name: str, tmp_path: Path
) -> None:
    out, once = tmp_path / name, tmp_path / f"once-{name}"
    line = {"read": ["read", FILTER, "-w"], "convert": ["convert", FILTER],
            "replay": ["replay", "--speed", "max", FILTER, "-w"]}[command]  # fmt: skip
    run(*line, once)
    out.write_bytes(b"precious")
    said = run(*line, out, status=1)
    assert said.startswith(f"pylog: cannot write {out}: it exists; --force replaces it")
    assert ("--append" in said) is (command != "convert" and name != "x.parquet")
    assert out.read_bytes() == b"precious"
    run(*line, out, "--force")
    if name in ("x.log", "x.json", "x.csv", "x.ipl") and command != "replay":
        assert out.read_bytes() == once.read_bytes()
    assert out.stat().st_size == once.stat().st_size
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_is_refused_even_if_it_leads_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "x.json"
    link.symlink_to(tmp_path / "nowhere")
    assert "it exists" in run("read", FILTER, "-w", link, status=1)
    assert "it exists" in run("convert", FILTER, link, status=1)
    assert not (tmp_path / "nowhere").exists()


def test_what_is_refused_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    out = tmp_path / "x.log"
    out.touch()
    assert "it exists" in run("read", tmp_path / "none", "-w", out, status=1)


@pytest.mark.parametrize(("options", "problem"), [
    (["--append"], "--append needs -w FILE"), (["--force"], "--force needs -w FILE"),
    (["--rotate-size", "1k"], "--rotate-size needs -w FILE"),
    (["--append", "--force", "-w", "x"], "--force is not for --append"),
    (["--force", "--rotate-time", "1h", "-w", "x"], "--force is not for files with numbers"),
    (["--append", "-w", "x.parquet"], "--append is not for parquet"),
    (["--rotate-time", "1h", "-w", "x.db"], "--rotate-time is not for sqlite"),
    (["--rotate-size", "1k", "-w", "/dev/null"], "/dev/null cannot be rotated"),
])  # fmt: skip
def test_options_without_a_sense_are_refused(options: list[str], problem: str) -> None:
    assert problem in run("read", FILTER, *options, status=2)
    assert not Path("x").exists()


def test_what_is_no_regular_file_is_not_refused(tmp_path: Path) -> None:
    for to in ("text", "json.gz", "pcapng", "parquet"):
        run("read", FILTER, "--to", to, "-w", "/dev/null")
    run("read", FILTER, "--append", "-w", "/dev/null")
    assert "sqlite needs a regular file" in run(
        "read", FILTER, "--to", "sqlite", "-w", "/dev/null", status=1
    )
    for number, command in enumerate((["read", FILTER, "-w"], ["convert", FILTER])):
        fifo = tmp_path / f"{number}.json"
        os.mkfifo(fifo)
        got: list[bytes] = []
        reader = threading.Thread(target=lambda fifo=fifo, got=got: got.append(fifo.read_bytes()))
        reader.start()
        run(*command, fifo)
        reader.join(20)
        assert got == [samples.golden(FILTER)] and fifo.is_fifo()


def test_a_table_appears_when_it_is_complete(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "x.parquet"
    seen: list[str] = []
    fifo = tmp_path / "in"
    os.mkfifo(fifo)

    def write() -> None:
        with fifo.open("wb") as writer:
            writer.write(SEQ.read_bytes())
            writer.flush()
            while not list(tmp_path.glob(".x.parquet.*.part")):
                time.sleep(0.01)
            seen.extend(path.name for path in tmp_path.iterdir())

    writer = threading.Thread(target=write)
    writer.start()
    run("read", fifo, "-w", out, "-n", "700")
    writer.join(20)
    assert "x.parquet" not in seen and len(seen) == 2
    assert pylog.read_table(SEQ).slice(0, 700).num_rows == 700
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "x.parquet"]


def test_an_incomplete_table_replaces_nothing(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "x.parquet"
    out.write_bytes(b"precious")
    damaged = samples.FIXTURES / "ipl/damaged.bin"
    run("read", damaged, "--on-error", "strict", "--force", "-w", out, status=1)
    assert out.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [out]
    run("read", SEQ, "--layout", "ipl-5.1.2-lp64le", "--force", "-w", out, status=1)
    assert out.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [out]


# Rotation


@pytest.mark.parametrize("name", ["fw.json", "fw.json.gz", "fw"])
def test_files_have_numbers_after_those_that_are_there(name: str, tmp_path: Path) -> None:
    stem, dot, ending = name.partition(".")
    there = tmp_path / f"{stem}-00041{dot}{ending}"
    there.write_bytes(b"there")
    size = "2k" if name.endswith(".gz") else "100k"
    run("read", "--to", "json", SEQ, SEQ, "-w", tmp_path / name, "--rotate-size", size)
    files = sorted(tmp_path.iterdir())
    assert files[0] == there and there.read_bytes() == b"there" and len(files) > 3
    numbers = range(41, 41 + len(files))
    assert [p.name for p in files] == [f"{stem}-{n:05}{dot}{ending}" for n in numbers]
    assert [*itertools.chain(*map(seqs, files[1:]))] == WANTED * 2
    least = 2_000 if name.endswith(".gz") else 100_000
    assert all(path.stat().st_size >= least for path in files[1:-1])


def test_every_file_of_csv_has_the_header(tmp_path: Path) -> None:
    run("read", SEQ, "-w", tmp_path / "fw.csv", "--rotate-size", "50k")
    files = sorted(tmp_path.iterdir())
    rows = [list(csv.DictReader(io.StringIO(path.read_text()))) for path in files]
    assert len(files) > 1
    assert [int(row["seq"]) for part in rows for row in part] == WANTED


def test_appending_goes_on_in_the_last_file_until_it_is_full(tmp_path: Path) -> None:
    line = ["read", "--append", "-w", tmp_path / "fw.json", "--rotate-size", "50k", FILTER]
    for _ in range(4):
        run(*line)
    golden = samples.golden(FILTER)
    files = sorted(tmp_path.iterdir())
    assert b"".join(path.read_bytes() for path in files) == golden * 4
    assert 1 < len(files) < 4 and all(path.stat().st_size >= 50_000 for path in files[:-1])


def test_a_file_is_full_after_some_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("pylog.transports.rotation.time.monotonic", lambda: now[0])
    files = Files(str(tmp_path / "fw"), "refuse", age_s=60)
    file = files.open()
    assert files.left_s(file) == 60 and not files.is_full(file)
    now[0] += 60
    assert files.left_s(file) == 0 and files.is_full(file)
    file.close()


@pytest.mark.parametrize(("manner", "names"), [
    ("refuse", ["fw"]), ("append", ["fw"]), ("replace", ["fw"]), ("number", ["fw", "fw-00001"]),
])  # fmt: skip
def test_a_file_is_opened_again_by_its_name(
    manner: Manner, names: list[str], tmp_path: Path
) -> None:
    files = Files(str(tmp_path / "fw"), manner)
    for text in (b"one", b"two"):
        with files.open().raw as raw:
            raw.write(text)
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert b"".join(p.read_bytes() for p in sorted(tmp_path.iterdir())) == b"onetwo"
    if manner == "refuse":
        with pytest.raises(BackendError, match="it exists"):
            Files(str(tmp_path / "fw"), manner)


# SIGHUP


needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")
LAYOUT = "ipl-5.1.2-lp64le"
DATA = FILTER.read_bytes()


def until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not there() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert there()


@needs_signals
@pytest.mark.parametrize("ending", ["json", "json.gz", "csv", "log", "pcapng", "ipl", "ipmon"])
def test_no_record_is_lost_or_written_twice_when_files_are_moved_away(
    ending: str, tmp_path: Path
) -> None:
    """A stream of records, and many renames, each followed by SIGHUP, as logrotate does."""
    out = tmp_path / f"fw.{ending}"
    options = ["--from-layout", LAYOUT] * (ending == "ipl")
    with started("read", "-", "-w", out, "--layout", LAYOUT, *options) as child:
        feed(child, DATA)
        until(out.exists)
        sent = threading.Event()

        def send() -> None:
            for _ in range(10):
                for at in range(0, len(DATA), 1000):
                    feed(child, DATA[at : at + 1000])
                    time.sleep(0.001)
            sent.set()

        thread = threading.Thread(target=send)
        thread.start()
        turn = 0
        while not sent.is_set() or turn < 5:
            out.rename(tmp_path / f"{turn:03}.{ending}")
            child.send_signal(signal.SIGHUP)
            until(out.exists)
            turn += 1
            time.sleep(0.02)
        thread.join(60)
        ends(child)
    files = [*sorted(tmp_path.glob(f"[0-9]*.{ending}")), out]
    assert len(files) > 5
    _is_once(files, ending, 11)


def started(*arguments: object) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "pylog", *map(str, arguments)]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def feed(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None
    child.stdin.write(data)
    child.stdin.flush()


def ends(child: subprocess.Popen[bytes], status: int = 0) -> str:
    """What a process said that ends because its input does."""
    assert child.stdin is not None and child.stderr is not None
    child.stdin.close()
    said = child.stderr.read().decode()
    assert child.wait(60) == status, said
    return said


@needs_signals
def test_a_file_that_cannot_be_opened_again_is_written_on(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    out = folder / "fw.json"
    with started("read", "-", "-w", out, "--layout", LAYOUT) as child:
        feed(child, DATA)
        until(out.exists)
        folder.rename(tmp_path / "old")
        child.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        feed(child, DATA)
        said = ends(child)
    assert (
        said == f"pylog: cannot write {out}: No such file or directory; the file stays as it is\n"
    )
    _is_once([tmp_path / "old/fw.json"], "json", 2)


@needs_signals
def test_a_capture_begins_a_new_file(tmp_path: Path) -> None:
    out = tmp_path / "fw.pcapng"
    with started("capture", "-", "-w", out, "--layout", LAYOUT) as child:
        for number, name in enumerate(["fw.pcapng", "fw-00001.pcapng"]):
            feed(child, DATA)
            until(out.exists)
            time.sleep(0.2)
            if number == 0:
                out.rename(tmp_path / "000.pcapng")
            child.send_signal(signal.SIGHUP)
            until((tmp_path / name).exists)
        feed(child, DATA)
        ends(child)
    files = [tmp_path / name for name in ("000.pcapng", "fw.pcapng", "fw-00001.pcapng")]
    assert sorted(files) == sorted(tmp_path.iterdir())
    _is_once(files, "pcapng", 3)


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    caught = re.search(r"^SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


@needs_signals
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("options", [[], ["-w", "/dev/null"], ["-w", "x.parquet"]])
def test_what_cannot_be_opened_again_ends(options: list[str], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    options = [option.replace("x.", f"{tmp_path}/x.") for option in options]
    line = [sys.executable, "-m", "pylog", "read", "-v", "-", "--layout", LAYOUT, *options]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        feed(child, DATA)
        until(lambda: catches(child.pid, signal.SIGHUP))
        child.send_signal(signal.SIGHUP)
        assert child.wait(60) == 128 + signal.SIGHUP
    if "parquet" in options[-1:]:
        assert pylog.read_table(tmp_path / "x.parquet").num_rows


@needs_signals
def test_a_terminal_that_goes_away_ends_what_was_begun_there(tmp_path: Path) -> None:
    import pty

    out = tmp_path / "fw.json"
    log = tmp_path / "log"
    log.write_bytes(DATA)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "pylog", "read", "--follow", str(log),
                                  "-w", str(out), "--layout", LAYOUT])  # fmt: skip
    until(lambda: out.exists() and out.read_bytes() == samples.golden(FILTER))
    os.close(terminal)  # which sends SIGHUP
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP


def _is_once(files: list[Path], ending: str, times: int) -> None:
    """Whether the files hold the log so often, one after the other."""
    if ending in ("pcapng", "ipl"):
        found = []
        for file in files:
            if file.stat().st_size:
                with pylog.open(file) as reader:
                    found += [r.seq for r in reader if isinstance(r, pylog.PacketRecord)]
    elif ending in ("json", "json.gz"):
        rows = [json.loads(line) for file in files for line in _lines(file)]
        found = [row["seq"] for row in rows if row["kind"] == "packet"]
    elif ending == "csv":
        found = []
        for file in files:
            table = list(csv.DictReader(io.StringIO(file.read_text())))
            found += [int(row["seq"]) for row in table if row["kind"] == "packet"]
            assert file.read_text().startswith("kind,") and file.read_text().count("kind,") == 1
    else:
        lines = [line for file in files for line in _lines(file) if b"missed" not in line]
        lines = [line for line in lines if b"LOST" not in line]
        once = inprocess.run("read", FILTER, "--to", "ipmon" if ending == "ipmon" else "text")
        assert lines == [x for x in once.stdout.splitlines() if b"missed" not in x] * times
        return
    with pylog.open(FILTER) as reader:
        assert found == [r.seq for r in reader if isinstance(r, pylog.PacketRecord)] * times


def _lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
