"""Pipelines in trouble: the disk of the journal is full, an output is dead when it is replaced."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pipelines
import places
import pytest
from pipelines import lines, until

from pylog.errors import BackendError
from pylog.pipeline import stack as stack_module
from pylog.pipeline.config import parsed
from pylog.pipeline.letters import DeadLetters
from pylog.pipeline.positions import PositionFile
from pylog.testing import Nflog, packet

CONFIGURATION = """
[pylog]
journal = "{0}/j"
socket = "{0}/s"
drain = "0.3s"
segment_size = "2k"
[sources.fw]
from = "nflog:5"
[[stacks]]
name = "file"
from = ["fw"]
target = "{0}/f.jsonl"
"""
MEMORY = """
[[stacks]]
name = "memory"
from = ["fw"]
to = "memory"
target = "memory:{}"
"""


@pytest.fixture(autouse=True)
def targets(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, places.Target]]:
    for name, value in (("COMMIT_S", 0.05), ("IDLE_COMMIT_S", 0.02), ("REPORT_S", 0.02),
                        ("PAUSES_S", (0.02, 0.1))):  # fmt: skip
        monkeypatch.setattr(stack_module, name, value)
    with places.registered() as targets:
        yield targets


@pytest.fixture
def kernel() -> Iterator[Nflog]:
    with Nflog() as kernel:
        yield kernel


def log(kernel: Nflog, numbers: range) -> None:
    until(lambda: 5 in kernel.groups())
    for number in numbers:
        kernel.log(packet(sport=number))


def test_a_full_disk_is_one_loss_with_all_that_it_cost(
    tmp_path: Path, kernel: Nflog, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = False

    def write(file: int, parts: Any) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.writev(file, parts if isinstance(parts, list) else [parts])

    system = SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
    system.write = system.writev = write
    monkeypatch.setattr("pylog.pipeline.journal.os", system)  # of the journal alone
    path = tmp_path / "f.jsonl"
    with pipelines.running(CONFIGURATION.format(tmp_path), kernel) as (run, end):
        journal = until(lambda: run.receiver.journal)
        log(kernel, range(5))
        until(lambda: len(lines(path)) == 5)
        is_full = True
        for number in range(5, 25):  # most of them after a segment could not be begun
            before = run.receiver.intakes[0].totals.receipts
            log(kernel, range(number, number + 1))
            until(lambda n=before: run.receiver.intakes[0].totals.receipts > n)  # type: ignore[misc]
        assert journal.is_full
        is_full = False
        unwritten = journal.unwritten
        log(kernel, range(25, 30))
        until(lambda: json.loads((lines(path) or [b"{}"])[-1]).get("sport") == 29)
        assert not journal.is_full and end() == 0
    rows = [json.loads(line) for line in lines(path)]
    seen = [row["sport"] for row in rows if row["kind"] == "packet"]
    losses = [(row["reason"], row.get("count")) for row in rows if row["kind"] == "loss"]
    text = f"the disk was full: {unwritten} bytes were not written to the journal"
    assert losses[0] == (text, None)
    assert len(losses) == 2 and losses[1][1] == 30 - len(seen) == 20
    assert seen == [*range(5), *range(25, 30)] and unwritten > 20 * 100


def test_a_dead_output_that_is_replaced_does_not_hold_up_the_new_one(
    tmp_path: Path, kernel: Nflog, targets: dict[str, places.Target]
) -> None:
    targets["memory:a"].fails = 10**9
    text = CONFIGURATION.format(tmp_path) + MEMORY
    current = [parsed(text.format("a"))]
    with pipelines.running(text.format("a"), kernel, reload=lambda: current[0]) as (run, end):
        log(kernel, range(5))
        until(lambda: "memory" in run.stacks)
        until(lambda: run.stacks["memory"].counts.state == "retrying")
        current[0] = parsed(text.format("b"))
        run.reload()
        log(kernel, range(5, 8))
        until(lambda: len(targets["memory:b"].records) == 8)
        until(lambda: not run._leaving)
        assert end() == 0
    assert [getattr(r, "sport", r) for r in targets["memory:b"].records] == list(range(8))


def test_a_new_stack_that_cannot_be_placed_leaves_the_configuration_as_it_was(
    tmp_path: Path, kernel: Nflog, targets: dict[str, places.Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    text = CONFIGURATION.format(tmp_path)
    current = [parsed(text)]
    with pipelines.running(text, kernel, reload=lambda: current[0]) as (run, end):
        log(kernel, range(3))
        until(lambda: len(lines(tmp_path / "f.jsonl")) == 3)
        current[0] = parsed(text + MEMORY.format("a"))

        def full(*_: Any) -> None:
            raise BackendError("cannot write: No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(PositionFile, "write", full)
            run.reload()
            until(lambda: not run._wanted_reload)
            time.sleep(0.05)
            assert set(run.stacks) == {"file"}
        run.reload()
        until(lambda: "memory" in run.stacks)
        log(kernel, range(3, 6))
        until(lambda: len(targets["memory:a"].records) == 3)
        assert end() == 0
    assert len(lines(tmp_path / "f.jsonl")) == 6


def test_dead_letters_go_on_when_a_full_disk_has_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dead.jsonl"
    letters = DeadLetters(path, "a")
    letters.refuse(packet(sport=1), "no")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetters, "_append", staticmethod(full))
        letters.refuse(packet(sport=2), "no")
    letters.refuse(packet(sport=3), "no")
    letters.close()
    assert (letters.refused, letters.written) == (3, 2)
    assert [json.loads(line)["record"]["sport"] for line in lines(path)] == [1, 3]
