"""Pipelines that run: stacks as threads, and the published doubles as sources."""

from __future__ import annotations

import gzip
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import inprocess
import pipelines
import places
import pytest
from pipelines import lines, until

from pylog.errors import BackendError
from pylog.pipeline import stack as stack_module
from pylog.pipeline.config import parsed
from pylog.pipeline.processes import StackProcess
from pylog.pipeline.queues import StackQueue
from pylog.pipeline.reporting import asked
from pylog.pipeline.run import Run
from pylog.testing import Nflog, packet

LOG = Path(__file__).resolve().parents[1] / "fixtures" / "ipl" / "v5-1-2-lp64le-filter.ipf.bin"


@pytest.fixture(autouse=True)
def targets(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, places.Target]]:
    monkeypatch.setattr(stack_module, "COMMIT_S", 0.05)
    monkeypatch.setattr(stack_module, "IDLE_COMMIT_S", 0.02)
    monkeypatch.setattr(stack_module, "REPORT_S", 0.02)
    monkeypatch.setattr(stack_module, "PAUSES_S", (0.02, 0.1))
    with places.registered() as targets:
        yield targets


@pytest.fixture
def kernel() -> Iterator[Nflog]:
    with Nflog() as kernel:
        yield kernel


def configuration(folder: Path, stacks: str, journal: bool = True, more: str = "") -> str:
    """Of a source fw, nflog:5; {} in the text is the folder."""
    own = f'journal = "{folder}/j"' if journal else ""
    text = f'[pylog]\n{own}\nsocket = "{folder}/s"\n{more}\n[sources.fw]\nfrom = "nflog:5"\n'
    return text + stacks.replace("{}", str(folder))


MEMORY = """
[[stacks]]
name = "memory"
from = ["fw"]
to = "memory"
target = "memory:a"
"""
FILE = """
[[stacks]]
name = "file"
from = ["fw"]
target = "{}/f.jsonl"
"""


def file_stack(folder: Path, name: str) -> str:
    """A stack of that name with a file of that name."""
    return FILE.replace("file", name).replace("{}/f", f"{folder}/{name}")


def ports(records: Any) -> list[Any]:
    return [getattr(record, "sport", "loss") for record in records]


def of_file(path: Path) -> list[Any]:
    return [json.loads(line).get("sport", "loss") for line in lines(path)]


def wait_for_lines(path: Path, count: int) -> None:
    until(lambda: len(lines(path)) == count)


def wait_for_state(run: Run, name: str, state: str) -> list[StackProcess]:
    until(lambda: run.stacks[name].counts.state == state)
    return [run.stacks[name]]


def log(kernel: Nflog, numbers: range) -> None:
    until(lambda: 5 in kernel.groups())
    for number in numbers:
        kernel.log(packet(sport=number))


@pytest.mark.parametrize("journal", [True, False])
def test_each_stack_gets_all_records_and_losses(
    tmp_path: Path, kernel: Nflog, targets: dict[str, places.Target], journal: bool
) -> None:
    text = configuration(tmp_path, MEMORY + FILE, journal)
    with pipelines.running(text, kernel) as (run, end):
        log(kernel, range(1, 100))
        kernel.lose(7)
        log(kernel, range(100, 103))
        until(lambda: len(targets["memory:a"].records) == 103)
        until(lambda: len(lines(tmp_path / "f.jsonl")) == 103)
        until(lambda: all(s.counts.lost == 7 for s in run.stacks.values()))
        until(lambda: all(s.counts.written == 103 for s in run.stacks.values()))
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
        shape = asked(str(tmp_path / "s"))
        assert [s["written"] for s in shape["stacks"]] == [103, 103] and shape["healthy"]
        assert shape["stacks"][0]["delivery"] == ("exactly once" if journal else "best effort")
        done = inprocess.text("status", tmp_path / "s")
        assert done.returncode == 0 and "memory" in done.stdout and "103" in done.stdout
        assert end() == 0
    assert ports(targets["memory:a"].records) == of_file(tmp_path / "f.jsonl")
    assert ports(targets["memory:a"].records) == [*range(1, 100), "loss", 100, 101, 102]
    done = inprocess.text("status", tmp_path / "s")
    assert done.returncode == 1 and "No such file" in done.stderr


def test_a_pipeline_goes_on_where_it_was_and_reports_the_time_between(
    tmp_path: Path, kernel: Nflog, targets: dict[str, places.Target]
) -> None:
    text = configuration(tmp_path, MEMORY + FILE)
    for number in range(3):
        with pipelines.running(text, kernel) as (_, end):
            log(kernel, range(10 * number, 10 * number + 10))
            want = 10 + 11 * number
            wait_for_lines(tmp_path / "f.jsonl", want)
            assert end() == 0
    expected = [*range(10), "loss", *range(10, 20), "loss", *range(20, 30)]
    assert of_file(tmp_path / "f.jsonl") == expected == ports(targets["memory:a"].records)
    loss = json.loads(lines(tmp_path / "f.jsonl")[10])
    assert loss["reason"].startswith("pylog did not run from ") and "count" not in loss
    # a new stack may begin in the past
    again = text + file_stack(tmp_path, "g") + "start = 'oldest'\n"
    with pipelines.running(again, kernel) as (_, end):
        until(lambda: len(lines(tmp_path / "g.jsonl")) >= 33)
        assert end() == 0
    assert of_file(tmp_path / "g.jsonl") == [*expected, "loss"]


def test_an_output_that_fails_delays_nobody_else_and_loses_nothing(
    tmp_path: Path, kernel: Nflog, targets: dict[str, places.Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    target = targets["memory:a"]
    for journal in (True, False):
        target.records.clear()
        target.positions.clear()
        target.fails = 10**6
        folder = tmp_path / str(journal)
        folder.mkdir()
        text = configuration(folder, MEMORY + FILE, journal)
        with pipelines.running(text, kernel) as (run, end):
            log(kernel, range(20))
            wait_for_lines(folder / "f.jsonl", 20)
            counts = [process.counts for process in wait_for_state(run, "memory", "retrying")]
            assert counts[0].problem == "memory is out of order"
            target.fails = 0
            until(lambda: len(target.records) == 20)
            for number in range(20, 40):
                log(kernel, range(number, number + 1))
                target.fails = number % 3
                time.sleep(0.005)
            target.fails = 0
            until(lambda: len(target.records) == 40)
            assert end() == 0
        assert ports(target.records) == list(range(40)) == of_file(folder / "f.jsonl")


def test_refused_records_go_to_a_file_with_the_reason(
    tmp_path: Path, kernel: Nflog, targets: dict[str, places.Target]
) -> None:
    targets["memory:a"].refuses = 81
    with pipelines.running(configuration(tmp_path, MEMORY), kernel) as (run, end):
        until(lambda: kernel.groups())
        for port in (80, 81, 82):
            kernel.log(packet(dport=port))
        until(lambda: len(targets["memory:a"].records) == 2)
        until(lambda: run.stacks["memory"].counts.refused == 1)
        assert end() == 0
    (letter,) = [json.loads(line) for path in (tmp_path / "j" / "dead").iterdir()
                 for line in lines(path)]  # fmt: skip
    assert letter["reason"] == "port 81 is not wanted" and letter["record"]["dport"] == 81


def test_data_sets_have_complete_parts_and_each_record_once(tmp_path: Path, kernel: Nflog) -> None:
    stack = FILE.replace("f.jsonl", "set") + 'to = "json.gz"\npartition = "hour"\n'
    text = configuration(tmp_path, stack + 'rotate_time = "0.1s"\n')
    hour = 3600 * 10**9
    sent = []
    for number in range(3):
        with pipelines.running(text, kernel) as (_, end):
            until(lambda: kernel.groups())
            for port in range(6):
                sent.append(100 * number + port + 1)
                kernel.log(packet(sport=sent[-1], timestamp_ns=10**18 + port % 2 * hour))
                time.sleep(0.02)
            assert end() == 0
    parts = sorted((tmp_path / "set").rglob("*.gz"))
    rows = [json.loads(row) for part in parts
            for row in gzip.decompress(part.read_bytes()).splitlines()]  # fmt: skip
    assert sorted(row["sport"] for row in rows if row["kind"] == "packet") == sent
    assert sum(row["kind"] == "loss" for row in rows) == 2
    assert {part.parent.name for part in parts} >= {"hour=01", "hour=02"}
    assert not list((tmp_path / "set").rglob("*.part"))


def test_sighup_changes_what_has_changed_and_reopens_files(
    tmp_path: Path, kernel: Nflog, targets: dict[str, places.Target]
) -> None:
    text = configuration(tmp_path, MEMORY + FILE)
    current = [parsed(text)]
    with pipelines.running(text, kernel, reload=lambda: current[0]) as (run, end):
        log(kernel, range(5))
        until(lambda: len(lines(tmp_path / "f.jsonl")) == 5)
        before = run.stacks["memory"], run.stacks["file"]
        os.rename(tmp_path / "f.jsonl", tmp_path / "f.jsonl.1")
        run.reload()
        until(lambda: (tmp_path / "f.jsonl").exists())
        assert (run.stacks["memory"], run.stacks["file"]) == before
        log(kernel, range(5, 8))
        until(lambda: len(lines(tmp_path / "f.jsonl")) == 3)
        changed = text.replace('target = "memory:a"', 'target = "memory:a"\nevery = 2')
        changed += file_stack(tmp_path, "m")
        current[0] = parsed(changed)
        run.reload()
        until(lambda: "m" in run.stacks and not run._leaving)
        assert run.stacks["file"] is before[1] and run.stacks["memory"] is not before[0]
        log(kernel, range(8, 12))
        until(lambda: len(lines(tmp_path / "m.jsonl")) == 4)
        until(lambda: len(targets["memory:a"].records) == 10)
        current[0] = parsed(changed.replace('from = "nflog:5"', 'from = "nflog:5"\nqthresh = 7'))
        run.reload()
        until(lambda: len(lines(tmp_path / "m.jsonl")) == 5)  # the loss between
        log(kernel, range(12, 14))
        until(lambda: len(lines(tmp_path / "f.jsonl")) == 10)
        assert end() == 0
    assert of_file(tmp_path / "f.jsonl") == [*range(5, 12), "loss", 12, 13]
    assert ports(targets["memory:a"].records) == [*range(8), 8, 10, "loss", 12]


def test_a_queue_that_is_full_counts_what_it_drops(tmp_path: Path, kernel: Nflog) -> None:
    limit = 80_000
    text = configuration(tmp_path, FILE, False, f'queue = "{limit}"\n')
    with pipelines.running(text, kernel) as (run, end):
        log(kernel, range(10))
        until(lambda: len(lines(tmp_path / "f.jsonl")) == 10)
        queue = run.stacks["file"].queue
        assert isinstance(queue, StackQueue)
        pump, queue.pump = queue.pump, lambda: None  # type: ignore[method-assign]
        log(kernel, range(10, 500))
        until(lambda: queue.dropped and run.receiver.totals("fw").receipts)
        queue.pump = pump  # type: ignore[method-assign]
        log(kernel, range(500, 501))
        until(lambda: of_file(tmp_path / "f.jsonl")[-1:] == [500])
        assert end() == 0
    rows = [json.loads(line) for line in lines(tmp_path / "f.jsonl")]
    losses = [row for row in rows if row["kind"] == "loss"]
    assert losses[0]["reason"].startswith("the queue of the stack was full: ")
    assert sum(row.get("count", 0) for row in losses) + len(rows) - len(losses) == 501


def test_files_are_read_by_stacks_and_the_pipeline_ends_with_them(tmp_path: Path) -> None:
    text = f"""
    [pylog]
    socket = "{tmp_path}/s"
    [sources.old]
    from = "{LOG}"
    [sources.other]
    from = "{LOG}"
    [[stacks]]
    name = "a"
    from = ["old", "other"]
    target = "{tmp_path}/a.jsonl"
    [[stacks]]
    name = "b"
    from = "old"
    where = "dport == 80"
    target = "{tmp_path}/b.csv"
    columns = "saddr,dport"
    rename = {{ saddr = "src" }}
    """
    with pipelines.running(text) as (run, _):
        until(lambda: all(stack.done for stack in run.stacks.values()))
    rows = [json.loads(line) for line in lines(tmp_path / "a.jsonl")]
    assert sorted({row["origin"] for row in rows}) == ["old", "other"] and len(rows) == 122
    read = lines(tmp_path / "b.csv")
    assert read[0] == b"src,dport" and len(read) == 7
    missing = text.replace(f'from = "{LOG}"', f'from = "{tmp_path}/none"', 1)
    with pipelines.running(missing) as (run, end):
        until(lambda: all(stack.done for stack in run.stacks.values()))
        assert end() == 1


def test_a_source_that_cannot_be_opened_ends_the_start(tmp_path: Path, kernel: Nflog) -> None:
    with (
        kernel.open("5"),
        pipelines.running(configuration(tmp_path, FILE), kernel) as (_, end),
        pytest.raises(BackendError, match="cannot bind"),
    ):
        end()
