"""Tests try the share of their cases that was asked for, and none of them is skipped in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import effort
import pytest

HERE = Path(__file__).parent


def test_at_effort_1_every_case_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "EFFORT", 1)
    assert effort.sample(range(12345)) == list(range(12345))
    assert effort.number(300) == 300 and effort.number(3) == 3


def test_a_sample_is_a_share_in_order_and_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "EFFORT", 0.1)
    monkeypatch.setattr(effort, "SEED", 1)
    found = effort.sample(range(1000))
    assert len(found) == 100 and found == sorted(set(found))
    assert effort.sample(range(1000)) == found
    monkeypatch.setattr(effort, "SEED", 2)
    assert effort.sample(range(1000)) != found


def test_a_few_cases_are_tried_at_any_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "EFFORT", 0.001)
    assert len(effort.sample(range(1000))) == effort.LEAST
    assert effort.sample(range(effort.LEAST)) == list(range(effort.LEAST))
    assert effort.number(300, least=2) == 2 and effort.number(3) == 3


def test_no_test_has_a_number_of_examples_of_its_own() -> None:
    setting = "max" + "_examples"
    assert [path.name for path in HERE.rglob("*.py") if setting in path.read_text()] == [
        "effort.py"
    ]


@pytest.mark.parametrize("options", [[], ["-n", "1"]], ids=["one process", "pytest-xdist"])
def test_in_ci_a_skip_is_a_failure(options: list[str], tmp_path: Path) -> None:
    if options:
        pytest.importorskip("xdist")
    shutil.copy(HERE / "conftest.py", tmp_path)
    (tmp_path / "test_skipped.py").write_text(
        "import pytest\n"
        "def test_this(): pytest.skip('no root')\n"
        "def test_that(): pytest.importorskip('no_such_package')\n"
        "@pytest.mark.xfail\n"
        "def test_what_is_expected_to_fail(): assert False\n"
    )
    (tmp_path / "test_all_skipped.py").write_text("import pytest; pytest.importorskip('no_such')")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(tmp_path)]
    done = subprocess.run(
        [*command, "--continue-on-collection-errors"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=os.environ | {"CI": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no root" in done.stdout and "no_such_package" in done.stdout
    assert "could not import 'no_such'" in done.stdout and "1 xfailed" in done.stdout
