"""pylog convert: what OUT holds, and that nobody ever sees half of it."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import effort
import pytest
import samples

from pylog.record import KINDS

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
import tables

import pylog
from pylog.cli import main
from pylog.table import schema

NAT = samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin"
NFLOG = samples.FIXTURES / "nflog/seq.bin"


def same(a: pa.Table, b: pa.Table) -> bool:
    """Whether two tables hold the same, however their dictionaries are numbered."""
    return a.schema == b.schema and tables.plain(a) == tables.plain(b)


def convert(*arguments: str | Path) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.mark.parametrize("dump", [NAT, NFLOG], ids=samples.name)
@pytest.mark.parametrize("kind", KINDS)
def test_parquet_and_arrow_files_hold_the_table(dump: Path, kind: str, tmp_path: Path) -> None:
    complete = pylog.read_table(dump, kind=kind)
    assert convert(dump, tmp_path / "a.parquet", "--kind", kind) == 0
    assert same(pq.read_table(tmp_path / "a.parquet"), complete)
    assert convert(dump, tmp_path / "a.arrow", "--kind", kind) == 0
    with pa.ipc.open_file(tmp_path / "a.arrow") as file:
        assert tables.plain(file.read_all()) == tables.plain(complete)


def test_columns_are_those_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    assert convert(NFLOG, out, "--columns", "dport,saddr") == 0
    assert same(pq.read_table(out), pylog.read_table(NFLOG, columns=["dport", "saddr"]))


def test_an_sqlite_file_has_a_table_for_each_kind(tmp_path: Path) -> None:
    assert convert(NAT, tmp_path / "a.sqlite") == 0
    database = sqlite3.connect(tmp_path / "a.sqlite")
    records = tables.streamed(NAT.read_bytes())
    flows = [r for r in records if isinstance(r, pylog.FlowRecord)]
    packets = [r for r in records if isinstance(r, pylog.PacketRecord)]
    found = database.execute("SELECT timestamp, saddr, dport, packets ->> 'out' FROM flow")
    assert found.fetchall() == [
        (pylog.rfc3339(r.timestamp_ns or 0), r.saddr, r.dport, (r.packets or {}).get("out"))
        for r in flows
    ]
    assert database.execute("SELECT payload, seq FROM packet").fetchall() == [
        (r.payload, r.seq) for r in packets
    ]
    assert database.execute("SELECT count(*) FROM loss").fetchall() == [(0,)]


@pytest.mark.parametrize("dump", [NAT, NFLOG], ids=samples.name)
def test_other_files_are_what_read_writes(dump: Path, tmp_path: Path) -> None:
    assert convert(dump, tmp_path / "a.jsonl") == 0
    assert (tmp_path / "a.jsonl").read_bytes() == samples.golden(dump)
    for name, ending in (("csv", "csv"), ("ipl", "ipl")):
        other = tmp_path / f"b-{name}"
        assert main(["read", "--to", name, "-w", str(other), str(dump)]) == 0
        assert convert(dump, tmp_path / f"a.{ending}") == 0
        assert (tmp_path / f"a.{ending}").read_bytes() == other.read_bytes()
    assert convert(dump, tmp_path / "a.pcapng") == 0
    columns = [name for name in schema().names if name not in ("offset", "observed")]
    again = pylog.read_table(tmp_path / "a.pcapng", columns=columns)
    assert same(again, pylog.read_table(dump, columns=columns))


def test_several_logs_become_one_file(tmp_path: Path) -> None:
    assert convert(NAT, NFLOG, tmp_path / "a.parquet") == 0
    assert same(pq.read_table(tmp_path / "a.parquet"), pylog.read_table([NAT, NFLOG]))


def test_what_is_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for command in (["convert"], ["convert", "--jobs", "1"], ["read", "--to", "parquet", "-w"]):
        out, dump = str(tmp_path / f"{len(command)}.parquet"), str(NAT)
        order = [dump, out] if command[0] == "convert" else [out, dump]
        assert main([*command, *order]) == 0
        assert caplog.messages == ["24 flow records left out: --kind flow writes those"]
        caplog.clear()


@pytest.mark.parametrize(("arguments", "reported", "status"), [
    (["a.xml"], "a.xml must end in .arrow, .cef, .csv, .ipfix, .ipl, .ipmon, .jsonl, .kernel", 2),
    (["a.ipl", "--columns", "dport"],
     "--columns is an option of .arrow, .csv, .jsonl, .parquet, .sqlite", 2),
    (["a.sqlite", "--columns", "dport"], "--columns is for one kind of record", 2),
    (["a.parquet", "--columns", "port"], "no column 'port' of packet records", 2),
    (["there.parquet"], "there.parquet: it exists; --force replaces it", 1),
    (["none/a.parquet"], "none/a.parquet: No such file or directory", 1),
])  # fmt: skip
def test_what_cannot_be_is_refused_and_leaves_nothing(
    arguments: list[str], reported: str, status: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("there.parquet").write_bytes(b"mine")
    assert convert(NAT, *arguments) == status
    assert reported in capsys.readouterr().err
    assert [(p.name, p.read_bytes()) for p in Path().iterdir()] == [("there.parquet", b"mine")]


def test_a_log_is_not_written_over(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "log.ipl"
    log.write_bytes(NAT.read_bytes())
    assert convert(log, log, "--force") == 1
    assert "it is a log to be read" in capsys.readouterr().err
    assert log.read_bytes() == NAT.read_bytes()


def test_force_replaces_a_file_when_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    out.write_bytes(b"old")
    damaged = samples.FIXTURES / "ipl/damaged.bin"
    assert convert(damaged, out, "--force", "--on-error", "strict") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"] and out.read_bytes() == b"old"
    assert convert(damaged, out, "--force") == 0
    assert same(pq.read_table(out), pylog.read_table(damaged))


@pytest.mark.skipif(sys.platform == "win32", reason="signals end a process at once there")
@pytest.mark.parametrize(("ending", "number"), effort.sample(itertools.product(
    ["parquet", "arrow", "sqlite", "jsonl", "csv", "pcapng", "ipl"],
    [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if sys.platform != "win32" else [],
), least=3))  # fmt: skip
def test_an_interrupted_conversion_leaves_nothing(
    ending: str, number: signal.Signals, tmp_path: Path
) -> None:
    process = start([sys.executable, "-m", "pylog", "convert", "-", str(tmp_path / f"a.{ending}")])
    assert process.stdin is not None
    process.stdin.write(NAT.read_bytes() * 40)
    process.stdin.flush()
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(tmp_path.iterdir()) != []
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("ending", ["parquet", "sqlite", "jsonl"])
def test_a_log_that_cannot_be_read_replaces_nothing(ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"a.{ending}"
    wrong = ("--layout", "ipl-5.1.2-lp64le")
    assert convert(NFLOG, out, *wrong) == 1
    assert list(tmp_path.iterdir()) == []
    out.write_bytes(b"old")
    assert convert(NFLOG, out, "--force", *wrong) == 1
    assert [p.name for p in tmp_path.iterdir()] == [out.name] and out.read_bytes() == b"old"


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions as Unix has them")
def test_what_replaces_a_file_has_its_permissions(tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    out.write_bytes(b"old")
    out.chmod(0o640)
    assert convert(NFLOG, out, "--force") == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")
@pytest.mark.parametrize(
    "ending", effort.sample(["parquet", "arrow", "sqlite", "jsonl", "csv", "pcapng"], least=3)
)
def test_a_full_disk_is_told(ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"a.{ending}"
    command = f"ulimit -f 1; trap '' XFSZ; {sys.executable} -m pylog convert {NFLOG} {out}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"pylog: cannot write {out}: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def test_without_the_extra_its_name_is_told(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from pylog.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "convert", str(NAT), str(tmp_path / "a.parquet")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "pip install '.[arrow]'" in done.stderr
    assert list(tmp_path.iterdir()) == []
