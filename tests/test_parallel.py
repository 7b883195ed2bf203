"""Several processes give the rows of one, and none outlives who began them."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import effort
import pytest
import samples

pytest.importorskip("pyarrow")

import parts
import tables

import pylog
from pylog.errors import BackendError, DecodeError
from pylog.table import parallel

NFLOG = samples.FIXTURES / "nflog/seq.bin"
ROOT_ON_PATH = str(Path(pylog.__file__).resolve().parents[1])
WITHOUT_END = """
import sys, pylog
if __name__ == "__main__":
    pylog.read_table(sys.argv[1:], jobs=2)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, and nothing else."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def children() -> Callable[[], list[BaseProcess]]:
    """The processes begun since: those of the Dask cluster of other tests may be here, too."""
    before = set(multiprocessing.active_children())
    return lambda: [child for child in multiprocessing.active_children() if child not in before]


def test_processes_give_the_rows_of_one(
    tmp_path: Path,
    temporary: Path,
    children: Callable[[], list[BaseProcess]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "SIZE", 40_000)
    (tmp_path / "dumps").mkdir()
    dumps = parts.hard_dumps(tmp_path / "dumps")
    for kind in effort.sample(["packet", "loss"], least=1):
        found = tables.plain(pylog.read_table(dumps, kind=kind, jobs=2))
        assert found == parts.hard_rows(dumps, kind)
    assert os.listdir(temporary) == [] and children() == []


def test_who_stops_early_leaves_nothing_behind(
    temporary: Path, children: Callable[[], list[BaseProcess]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "SIZE", 10_000)
    batches = pylog.iter_batches(NFLOG, columns=["seq"], jobs=2)
    assert next(batches).num_rows > 0
    assert os.listdir(temporary) != []
    del batches
    assert os.listdir(temporary) == [] and children() == []


def test_damage_ends_strict_reading_as_it_does_in_one_process(
    temporary: Path, children: Callable[[], list[BaseProcess]]
) -> None:
    dump = samples.FIXTURES / "ipl/damaged.bin"
    with pytest.raises(DecodeError) as single:
        pylog.read_table(dump, on_error="strict")
    with pytest.raises(DecodeError) as several:
        pylog.read_table(dump, on_error="strict", jobs=2)
    assert str(several.value) == str(single.value)
    assert os.listdir(temporary) == [] and children() == []


@pytest.mark.parametrize(("paths", "jobs", "reported"), [
    (NFLOG, 0, "0 jobs, but there must be at least 1"),
    ("-", 2, "standard input cannot be read by several"),
    (io.BytesIO(), 2, "several processes cannot read a file object"),
])  # fmt: skip
def test_what_cannot_be_is_refused(paths: Any, jobs: int, reported: str) -> None:
    with pytest.raises(ValueError, match=reported):
        pylog.read_table(paths, jobs=jobs)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_that_a_process_is_killed_is_reported(
    tmp_path: Path, temporary: Path, children: Callable[[], list[BaseProcess]]
) -> None:
    os.mkfifo(tmp_path / "fifo")  # which nobody writes to: the process waits for ever

    def kill() -> None:
        (child, *_) = parts.until(children)
        os.kill(child.pid, signal.SIGKILL)

    threading.Thread(target=kill).start()
    with pytest.raises(BackendError, match="was killed"):
        pylog.read_table(tmp_path / "fifo", jobs=2)
    assert os.listdir(temporary) == [] and children() == []


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="children are found in /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_who_began_them(tmp_path: Path, sent: signal.Signals) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "temporary").mkdir()
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_END)
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path / "fifo"], stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": ROOT_ON_PATH},
    )  # fmt: skip
    try:
        descriptor = parts.until(lambda: parts.reader_of(tmp_path / "fifo"))
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert children
        parent.send_signal(sent)
        parent.wait(60)
        parts.until(lambda: not any(_runs(child) for child in children))
        os.close(descriptor)
    finally:
        parent.kill()
        parent.wait()
    if sent == signal.SIGINT:  # of the other nobody can clean up
        assert os.listdir(tmp_path / "temporary") == []


def _runs(pid: str) -> bool:
    """Whether there is a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
