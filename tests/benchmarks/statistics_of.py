"""pylog stats: the whole command on a log of IPFilter, wall-clock, and its memory at its end.

Both are those of a process of its own. The target of 1.5 s is for 1,000,000 records on two
processors that nothing else uses: compare rows of one run on a busy machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import inputs
from measure import Row, Scale, Table, interleaved

RECORDS = 20
"""Times as many records as elsewhere: 1,000,000."""
QUESTIONS = {
    "--by saddr": ["--by", "saddr"],
    "--by saddr --jobs 2": ["--by", "saddr", "--jobs", "2"],
    "--by saddr/24,action --sum length": ["--by", "saddr/24,action", "--sum", "length"],
    "--every 1s --by dport --distinct saddr": ["--every", "1s", "--by", "dport", "--distinct",
                                               "saddr"],
    "--report scanners": ["--report", "scanners"],
}  # fmt: skip
SECONDS, MEMORY_MB = 1.5, 300
"""The targets of `--by saddr`."""


def wall_s(path: Path, arguments: list[str]) -> tuple[float, float]:
    """Seconds from the start of the command to its end, and the most memory that it had, in MB.

    Modules are compiled once, into the folder of the log, as those of an installed pylog are.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(path.parent)
    begun = time.perf_counter()
    command = [sys.executable, "-m", "pylog", "stats", "--top", "10", *arguments, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    assert not status
    return time.perf_counter() - begun, used.ru_maxrss / 1024


def table(scale: Scale) -> Table:
    """Questions about a log, beside the start of the command."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        log = inputs.log(inputs.IPL_LAYOUTS[0], Path(name), scale.records * RECORDS, scale.few)
        wall_s(log.short, QUESTIONS["--by saddr"])
        work = {f"{log.short_records:,} records --by saddr":
                partial(wall_s, log.short, QUESTIONS["--by saddr"])}  # fmt: skip
        for title, arguments in QUESTIONS.items():
            work[f"{log.records:,} records {title}"] = partial(wall_s, log.path, arguments)
        found, _ = interleaved(work, scale.rounds)
    rows = []
    for title, measured in found.items():
        row = Row(title, [seconds for seconds, _ in measured])
        memory = max(size for _, size in measured)
        row.note = f"{memory:.0f} MB of memory"
        if title.endswith("records --by saddr") and log.records >= 1_000_000 and len(rows) == 1:
            row.below = SECONDS
            row.note += f", at most {MEMORY_MB}: {'met' if memory <= MEMORY_MB else 'MISSED'}"
        rows.append(row)
    return Table("Statistics", rows, "wall s")
