"""A Dask cluster of several processes reads and writes what one process does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import samples

pytest.importorskip("pyarrow")

import parts
import pyarrow as pa
import pyarrow.parquet as pq
import tables

import pylog
from pylog.cli import main
from pylog.errors import BackendError, DecodeError
from pylog.table import parallel

NFLOG = samples.FIXTURES / "nflog/seq.bin"
CLUSTER = """
import sys
import dask
from distributed import LocalCluster
if __name__ == "__main__":
    dask.config.set({"distributed.worker.profile.enabled": False})  # it samples all the time
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


if TYPE_CHECKING:
    import pylog.dask


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Dask, which takes seconds to import, is so by the one process that runs these tests."""
    pytest.importorskip("dask.dataframe")
    pytest.importorskip("distributed")
    import pylog.dask  # noqa: F401


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a Dask scheduler that has two processes.

    It has a process of its own, so that tests which count descriptors, threads or children see
    nothing of it, and ends with this file's tests, since it needs much even when it rests.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()  # its end


@pytest.fixture(scope="module")
def client(scheduler: str) -> Iterator[Any]:
    import distributed

    with distributed.Client(scheduler) as client:
        yield client


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of dumps on which cuts are hard to get right."""
    return parts.hard_dumps(tmp_path_factory.mktemp("dumps"))


def in_data_set(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The rows of a data set, which has nothing but its parts."""
    names = sorted(os.listdir(folder))
    assert names == [f"part-{n:06}.parquet" for n in range(len(names))]
    tables_ = [pq.read_table(folder / name) for name in names]
    return tables.plain(pa.concat_tables(tables_).select(pylog.table.schema(kind).names))


@pytest.mark.parametrize("kind", ["packet", "loss"])
def test_partitions_hold_the_rows_of_one_process(client: Any, dumps: Path, kind: str) -> None:
    frame = pylog.dask.read(dumps, n=20, kind=kind)
    assert frame.npartitions > 15
    found = pa.Table.from_pandas(frame.compute(), preserve_index=False)
    assert tables.plain(found.cast(pylog.table.schema(kind))) == parts.hard_rows(dumps, kind)


def test_without_a_cluster_it_is_the_same(dumps: Path) -> None:
    import dask

    with dask.config.set(scheduler="synchronous"):
        frame = pylog.dask.read(dumps, n=5, columns=["dport", "action"])
        assert list(frame.columns) == ["dport", "action"]
        assert frame.dport.sum().compute() == sum(
            r["dport"] or 0 for r in parts.hard_rows(dumps, "packet")
        )
        wanted = pylog.dask.read(dumps, n=5, where="dport & 1 and not uid")
        assert len(wanted) == sum(
            (r["dport"] or 0) & 1 and r["uid"] is None for r in parts.hard_rows(dumps, "packet")
        )


def test_what_is_not_exact_reads_only_what_is_near_the_cuts(client: Any, dumps: Path) -> None:
    rows = len(parts.hard_rows(dumps, "loss"))
    assert len(pylog.dask.read(dumps / "3.bin", n=9, kind="loss", exact=False)) == 999 - 8
    assert len(pylog.dask.read(dumps, n=9, kind="loss")) == rows


@pytest.mark.parametrize("kind", ["packet", "loss"])
def test_a_data_set_holds_the_rows_of_one_process(
    client: Any, dumps: Path, tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "out.parquet"
    there: list[bool] = []
    pylog.dask.write(
        client, dumps, str(target), n=20, kind=kind,
        done=lambda split, end: there.append(target.exists()),
    )  # fmt: skip
    assert len(there) > 15 and not any(there)  # before the last one nothing is to be seen
    assert in_data_set(target, kind) == parts.hard_rows(dumps, kind)
    assert os.listdir(tmp_path) == ["out.parquet"]


def test_a_worker_that_is_killed_is_no_loss(client: Any, dumps: Path, tmp_path: Path) -> None:
    workers = set(client.run(os.getpid).values())
    done: list[int] = []

    def kill(split: object, end: object) -> None:
        if not done:
            os.kill(min(workers), signal.SIGKILL)
        done.append(1)

    pylog.dask.write(client, dumps, str(tmp_path / "out.parquet"), n=40, done=kill)
    assert len(done) > 30
    assert in_data_set(tmp_path / "out.parquet", "packet") == parts.hard_rows(dumps, "packet")
    client.wait_for_workers(2)
    assert set(client.run(os.getpid).values()) != workers


def test_of_what_fails_nothing_is_left(client: Any, dumps: Path, tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"4\.bin: nla_len 65535"):
        pylog.dask.write(
            client, dumps / "4.bin", str(tmp_path / "out.parquet"), n=8, on_error="strict"
        )
    assert os.listdir(tmp_path) == []


def test_what_is_there_is_kept_unless_it_is_to_go(client: Any, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    pylog.dask.write(client, NFLOG, str(target), n=2)
    with pytest.raises(BackendError, match="is there already"):
        pylog.dask.write(client, NFLOG, str(target), n=3)
    assert len(os.listdir(target)) == 2
    pylog.dask.write(client, NFLOG, str(target), n=3, force=True)
    assert len(os.listdir(target)) == 3
    assert os.listdir(tmp_path) == ["out.parquet"]


def test_a_data_set_in_a_store_is_whole_when_it_says_so(client: Any, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    target = f"file://{tmp_path}/out.parquet"
    there: list[str] = []
    pylog.dask.write(
        client, f"file://{NFLOG}", target, n=6,
        done=lambda split, end: there.extend(os.listdir(tmp_path / "out.parquet")),
    )  # fmt: skip
    assert "part-000000.parquet" in there and "_SUCCESS" not in there
    (tmp_path / "out.parquet/_SUCCESS").unlink()
    assert in_data_set(tmp_path / "out.parquet", "packet") == parts.whole(NFLOG, "packet")
    damaged = samples.FIXTURES / "nflog/damaged.bin"
    with pytest.raises(DecodeError):
        pylog.dask.write(client, damaged, f"{target}2", n=6, on_error="strict")
    assert os.listdir(tmp_path) == ["out.parquet"]


def test_convert_writes_what_one_process_writes(
    scheduler: str, dumps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(parallel, "SIZE", 200_000)
    single, several = tmp_path / "one.parquet", tmp_path / "several.parquet"
    assert convert("-v", *sorted(dumps.iterdir()), single) == 0
    reported = re.sub(r"(?m)^.*: decoded by (?:columns|rows,.*)\n", "", capsys.readouterr().err)
    assert convert("-v", "--dask", scheduler, dumps, several) == 0
    assert capsys.readouterr().err == reported
    found = pa.concat_tables([pq.read_table(part) for part in sorted(several.iterdir())])
    assert tables.plain(found) == tables.plain(pq.read_table(single))
    assert convert("--dask", scheduler, dumps, several) == 1
    assert "is there already" in capsys.readouterr().err
    assert convert("--dask", scheduler, "--force", "--columns", "dport", NFLOG, several) == 0
    assert pq.read_table(several / "part-000000.parquet").column_names == ["dport"]
    verdicts = ("--force", "--action", "nd*=block", "--exclude", "payload", NFLOG)
    assert convert(*verdicts, single) == convert("--dask", scheduler, *verdicts, several) == 0
    found = pq.read_table(several / "part-000000.parquet")
    assert found["action"].to_pylist().count("block") == 200 and "payload" not in found.schema.names
    assert tables.plain(found) == tables.plain(pq.read_table(single))


def convert(*arguments: str | Path) -> int:
    return main(["convert", *map(str, arguments)])
