"""What pyproject.toml cannot say: with PYLOG_COMPILE=1 a wheel holds the busiest modules compiled.

They are compiled from their Python source by mypyc; where that cannot be done, for want of a C
compiler, they stay Python. Without the variable nothing is added, and the wheel is one for all
machines.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup

MODULES = (
    "pylog/memo.py",
    "pylog/losses.py",
    "pylog/formats/addresses.py",
    "pylog/formats/packet.py",
    "pylog/formats/mapping.py",
    "pylog/formats/ipl_records.py",
    "pylog/formats/nfulnl_fast.py",
    "pylog/outputs/_text_words.py",
    "pylog/outputs/pcapng.py",
    "pylog/outputs/text.py",
)
COMPILE = os.environ.get("PYLOG_COMPILE") == "1"


def extensions():
    """The modules as C extensions; mypyc needs them where they lie in the wheel."""
    from mypyc.build import mypycify

    stage = Path("build", "mypyc")
    shutil.rmtree(stage, ignore_errors=True)
    for folder, package in (("pylog", "."), ("backends", "backends"), ("formats", "formats")):
        ignored = shutil.ignore_patterns("backends", "formats") if package == "." else None
        shutil.copytree(folder, stage / "pylog" / package, ignore=ignored, dirs_exist_ok=True)
    settings = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    paths = [str(stage / module) for module in MODULES]
    found = mypycify([*settings, *paths], group_name="pylog.compiled", target_dir=str(stage))
    for extension in found:
        extension.optional = True
    return found


setup(
    setup_requires=["mypy[mypyc]>=2.4"] if COMPILE else [],
    ext_modules=extensions() if COMPILE and "bdist_wheel" in sys.argv else [],
)
