"""What it takes to begin: wall-clock time of whole processes, and of `import pylog` within one."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import inputs
from measure import Row, Scale, Table, interleaved


def wall_ms(runs: int, *arguments: str) -> float:
    """Milliseconds from the start of Python to its end, of the fastest of some runs.

    Other processes only add to the time.
    """
    took = []
    for _ in range(runs):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        took.append(time.perf_counter() - begun)
    return min(took) * 1000


def import_ms(runs: int) -> float:
    """Milliseconds that `import pylog` takes, all that it imports included."""
    command = [sys.executable, "-X", "importtime", "-c", "import pylog"]
    took = []
    for _ in range(runs):
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        match = re.search(r"\| +(\d+) \| pylog$", told, re.MULTILINE)
        assert match, told
        took.append(int(match[1]))
    return min(took) / 1000


def table(scale: Scale) -> Table:
    """Python alone, the import, the help, and finding out what short logs are and reading them."""
    with tempfile.TemporaryDirectory() as folder:
        work = {
            "python -c pass": partial(wall_ms, scale.starts, "-c", "pass"),
            "import pylog": partial(import_ms, scale.starts),
            "pylog --help": partial(wall_ms, scale.starts, "-m", "pylog", "--help"),
        }
        for name in (inputs.IPL_LAYOUTS[0], inputs.NFLOG_LAYOUT):
            path = inputs.log(name, Path(folder), scale.few, scale.few).path
            title = f"pylog read, {scale.few} of {name}"
            work[title] = partial(wall_ms, scale.starts, "-m", "pylog", "read", str(path))
        found, _ = interleaved(work, scale.rounds)
    below = {"import pylog": 80.0, "pylog --help": 150.0} | {n: 150.0 for n in work if ", " in n}
    rows = [Row(name, values, below=below.get(name)) for name, values in found.items()]
    return Table("Start", rows, "wall ms")
