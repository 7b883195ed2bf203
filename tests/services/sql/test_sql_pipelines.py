"""Pipelines into databases: each record once, over restarts of pylog and of the server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import databases
import effort
import pipelines
import pytest
from pipelines import until

from pylog.pipeline import stack as stack_module
from pylog.testing import Nflog, packet


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "IDLE_COMMIT_S", 0.02)
    monkeypatch.setattr(stack_module, "PAUSES_S", (0.02, 0.1))


@pytest.fixture
def kernel() -> Iterator[Nflog]:
    with Nflog() as kernel:
        yield kernel


def configuration(lab: databases.Lab, folder: Path) -> str:
    return f"""
[pylog]
journal = "{folder}/j"
socket = "{folder}/s"
[sources.fw]
from = "nflog:5"
[[stacks]]
name = "database"
from = ["fw"]
to = "{lab.name}"
target = "{lab.address}"
kind = "packet"
"""


@pytest.mark.parametrize("lab", effort.sample(["postgresql", "mysql", "sqlite"], 1), indirect=True)
def test_a_pipeline_writes_each_record_once(
    lab: databases.Lab, kernel: Nflog, tmp_path: Path
) -> None:
    lab.open().close()  # so that there are tables
    text = configuration(lab, tmp_path)
    for number in range(2):
        with pipelines.running(text, kernel) as (_, end):
            until(lambda: kernel.groups())
            for port in range(100 * number, 100 * number + 40):
                kernel.log(packet(sport=port))
            if lab.name == "sqlite":
                assert end() == 0
                continue
            lab.crash()
            kernel.log(packet(sport=100 * number + 40))
            until(partial(all_there, lab, 41 * number + 41))
            assert end() == 0
    count = 40 if lab.name == "sqlite" else 41
    ports = sorted(row["sport"] for row in lab.rows("packet"))
    assert ports == [*range(count), *range(100, 100 + count)]


def all_there(lab: databases.Lab, count: int) -> bool:
    return lab.count("packet") >= count
