"""The modules that setup.py names are compiled where that was asked for, and nowhere else."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ASKED_FOR = os.environ.get("PYLOG_COMPILE") == "1"
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]
HEADER = Path(sysconfig.get_path("include"), "Python.h")
pytestmark = pytest.mark.skipif(
    ASKED_FOR and not (shutil.which(COMPILER) and HEADER.exists()),
    reason=f"needs a C compiler ({COMPILER}) and {HEADER}",
)


def modules() -> list[str]:
    """MODULES of setup.py, as they are imported."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES":
            paths: tuple[str, ...] = ast.literal_eval(node.value)
            return [path.removesuffix(".py").replace("/", ".") for path in paths]
    raise LookupError("setup.py has no MODULES")


@pytest.mark.parametrize("name", modules())
def test_a_module_is_compiled_if_that_was_asked_for(name: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    assert file.endswith(tuple(EXTENSION_SUFFIXES)) == ASKED_FOR


def test_the_version_tells_whether_modules_are_compiled() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pylog", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("pylog ") and done.stdout.endswith("(compiled)\n") == ASKED_FOR
