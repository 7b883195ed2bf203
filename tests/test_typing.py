"""mypy --strict passes over programs that use the API, and over every example in the documentation.

So no example takes a field of a record that may be a loss. The environment `lint` of tox runs this
file after mypy, whose results are then at hand in the cache.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import examples
import pytest

import pylog

ROOT = examples.ROOT
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None, reason="mypy is not installed: tox -e lint has it"
)


def mypy(*paths: Path) -> str:
    """What mypy --strict reports of files, with the settings of pyproject.toml."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *map(str, paths)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr + done.stdout
    return done.stdout


def test_programs_that_use_the_api_pass() -> None:
    assert mypy(ROOT / "tests/typed/api.py", ROOT / "tests/typed/testing.py") == ""


def test_a_program_uses_every_public_name() -> None:
    code = (ROOT / "tests/typed/api.py").read_text()
    assert set(re.findall(r"pylog\.(\w+)", code)) - {"opne"} >= set(dir(pylog))


def test_every_example_passes(tmp_path: Path) -> None:
    programs = examples.of_pages() | examples.of_docstrings()
    assert any(name.startswith("README") for name in programs) and "pylog___init___1" in programs
    paths = []
    for name, code in programs.items():
        paths.append(tmp_path / f"{name}.py")
        paths[-1].write_text(code)
    assert mypy(*paths) == ""


def test_an_example_that_dies_at_a_loss_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "dies.py"
    path.write_text('import pylog\n\nfor record in pylog.open("x"):\n    print(record.saddr)\n')
    assert 'Item "LossRecord" of' in mypy(path)
