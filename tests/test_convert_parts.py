"""pylog convert --jobs and --dask: what one process writes, and nothing half written."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import effort
import pytest
import samples

pytest.importorskip("pyarrow")

import parts
import pyarrow as pa
import pyarrow.parquet as pq
import tables

import pylog
import pylog.cli._progress
from pylog.cli import main
from pylog.table import parallel

NFLOG = samples.FIXTURES / "nflog/seq.bin"
DAMAGED = samples.FIXTURES / "ipl/damaged.bin"


def convert(*arguments: str | Path) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.fixture
def dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with dumps on which cuts are hard to get right, which are cut into many parts."""
    monkeypatch.setattr(parallel, "SIZE", 40_000)
    (tmp_path / "dumps").mkdir()
    return parts.hard_dumps(tmp_path / "dumps")


def rows(path: Path) -> Any:
    """What is in a file, in its order."""
    if path.suffix == ".parquet":
        return tables.plain(pq.read_table(path))
    if path.suffix == ".arrow":
        with pa.ipc.open_file(path) as file:
            return tables.plain(file.read_all())
    if path.suffix == ".sqlite":
        return list(sqlite3.connect(path).iterdump())
    return path.read_bytes()


def without_engines(reported: str) -> list[str]:
    """The lines of standard error that do not say how a log was decoded."""
    return [line for line in reported.splitlines() if ": decoded by " not in line]


@pytest.mark.parametrize("ending", effort.sample(["parquet", "arrow", "sqlite", "jsonl", "csv"], 1))
def test_several_processes_write_what_one_writes(
    dumps: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    single, several = tmp_path / f"one.{ending}", tmp_path / f"several.{ending}"
    assert convert("-v", *sorted(dumps.iterdir()), single) == 0
    reported = without_engines(capsys.readouterr().err)
    assert convert("-v", "--jobs", "2", dumps, several) == 0
    assert rows(several) == rows(single)
    assert without_engines(capsys.readouterr().err) == reported
    assert set(os.listdir(tmp_path)) == {"dumps", single.name, several.name}


def test_losses_are_written_as_well(dumps: Path, tmp_path: Path) -> None:
    assert convert("--jobs", "2", "--kind", "loss", dumps, tmp_path / "a.parquet") == 0
    assert rows(tmp_path / "a.parquet") == parts.hard_rows(dumps, "loss")


def test_strict_reading_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert convert("--on-error", "strict", DAMAGED, "a.parquet") == 1
    reported = capsys.readouterr().err
    assert convert("--jobs", "2", "--on-error", "strict", DAMAGED, "a.parquet") == 1
    assert capsys.readouterr().err == reported
    assert os.listdir(tmp_path) == []


def test_a_log_of_which_nothing_can_be_read_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.jsonl"
    assert convert("--jobs", "2", "--layout", "ipl-5.1.2-lp64be", NFLOG, out) == 1
    assert "no record could be read as ipl-5.1.2-lp64be" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "reported"), [
    (["--jobs", "0", NFLOG, "a.parquet"], "0 jobs, but there must be at least 1"),
    (["--jobs", "2", "-", "a.parquet"], "standard input cannot be read by several"),
    (["--jobs", "2", NFLOG, "a.pcapng"], "--jobs is not for .pcapng"),
    (["--dask", "tcp://127.0.0.1:1", NFLOG, "a.csv"], "--dask writes a data set"),
    (["--dask", "tcp://127.0.0.1:1", "--jobs", "2", NFLOG, "a.parquet"], "--dask writes a data"),
])  # fmt: skip
def test_what_cannot_be_is_refused(
    arguments: list[Any], reported: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert convert(*arguments) == 2
    assert reported in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
@pytest.mark.parametrize(("sent", "ending"), effort.sample(
    itertools.product([signal.SIGINT, signal.SIGTERM], ["parquet", "jsonl"]), least=2
))  # fmt: skip
def test_a_signal_ends_all_processes_and_leaves_nothing(
    tmp_path: Path, sent: signal.Signals, ending: str
) -> None:
    """Also to the processes, as Ctrl-C on a terminal does."""
    os.mkfifo(tmp_path / "fifo")
    process = subprocess.Popen(
        [sys.executable, "-m", "pylog", "convert", "--jobs", "2", NFLOG, tmp_path / "fifo",
         tmp_path / f"out.{ending}"],
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        descriptor = parts.until(lambda: parts.reader_of(tmp_path / "fifo"))
        os.killpg(process.pid, sent)
        _, errors = process.communicate(timeout=60)
        os.close(descriptor)
    finally:
        process.kill()
    assert process.returncode == 128 + sent
    assert errors == b""
    assert os.listdir(tmp_path) == ["fifo"]


def test_the_progress_bar_moves(
    dumps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(pylog.cli._progress, "LONG_FILE", 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for ending in effort.sample(["parquet", "csv"], least=1):
        assert convert("--jobs", "2", dumps, tmp_path / f"a.{ending}") == 0
        assert " files: 100%" in capsys.readouterr().err


# On a Dask cluster


def test_no_scheduler_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    with dask.config.set({"distributed.comm.timeouts.connect": "300ms"}):
        assert convert("--dask", "tcp://127.0.0.1:1", NFLOG, tmp_path / "a.parquet") == 1
    assert "no Dask scheduler at tcp://127.0.0.1:1" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
