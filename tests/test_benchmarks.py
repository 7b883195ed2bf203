"""The benchmarks run: as fast as they may, with figures, and the reason where there are none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import effort
import netlab
import pytest

BENCHMARKS = Path(__file__).resolve().parent / "benchmarks"
RUN = (sys.executable, str(BENCHMARKS), "--installed", "--quick", "--only")
ENV = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
"""The pylog that is tested is the installed one."""


def rows(topic: str) -> dict[str, list[str]]:
    """What a topic's table says: the cells of each row by its name."""
    done = subprocess.run([*RUN, topic], capture_output=True, text=True, timeout=300, env=ENV)
    assert done.returncode == 0, done.stderr
    _, _, title, _, head, _, *lines = done.stdout.splitlines()
    assert title.startswith("## ") and head.startswith("| ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line]
    return {name: rest for name, *rest in cells}


def has_figures(found: dict[str, list[str]]) -> None:
    assert found
    for cells in found.values():
        float(cells[0].replace(",", ""))  # whatever it is: the machine may be busy


def has_figures_of_programs(found: dict[str, list[str]]) -> None:
    for name, cells in found.items():
        program = name.split()[0].strip(",")
        if program == "pylog" or shutil.which(program):
            float(cells[0].replace(",", ""))
        else:
            assert cells[0] == "none" and cells[-1] == f"{program} is not installed"


def has_figures_or_reasons(found: dict[str, list[str]]) -> None:
    for name, cells in found.items():
        assert cells[0] != "none" or cells[-1], name
        if name.endswith(": C") and shutil.which("gcc"):  # the limit
            float(cells[0].replace(",", ""))


@pytest.mark.parametrize(("topic", "check"), effort.sample([
    ("start", has_figures), ("decode", has_figures), ("filters", has_figures),
    ("bounds", has_figures), ("commits", has_figures), ("flows", has_figures),
    ("text", has_figures),
    ("stats", has_figures),
    ("peers", has_figures_of_programs), ("bulk", has_figures_or_reasons),
], least=2))  # fmt: skip
def test_a_topic_has_figures(topic: str, check: Callable[[dict[str, list[str]]], None]) -> None:
    check(rows(topic))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("topic", ["live", "loss", "run", "ulogd"])
def test_live_reading_needs_root(topic: str) -> None:
    command = [*RUN, topic] if os.geteuid() else [*netlab.WITHOUT_CAPABILITIES, *RUN, topic]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENV)
    assert done.returncode == 0 and "not measured: needs " in done.stdout
