"""Rounds, medians and the table.

Contenders take turns, a round being one turn of each, so that what else the machine does meets all
of them; a ratio is the median of the rounds' own ratios. Times are CPU time, user and system.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HERE = Path(__file__).resolve().parent


class Missing(Exception):
    """What a row needs is not there; the text says what."""


@dataclass
class Row:
    """A line of a table.

    cpu_us    CPU time per record, in microseconds, one a round
    than      the row it is compared to
    at_most   the target: so many times the CPU time of that
    note      what else there is to say, or why there are no figures
    """

    name: str
    cpu_us: list[float] = field(default_factory=list)
    than: str = ""
    at_most: float | None = None
    note: str = ""


def interleaved(
    work: Mapping[str, Callable[[], T]], rounds: int
) -> tuple[dict[str, list[T]], dict[str, str]]:
    """What each contender gives in each round, and why others, which raise Missing, do not."""
    found: dict[str, list[T]] = {name: [] for name in work}
    missing: dict[str, str] = {}
    for _ in range(rounds):
        for name in [name for name in work if name not in missing]:
            try:
                found[name].append(work[name]())
            except Missing as error:
                missing[name] = str(error)
    return found, missing


def ratio(row: Row, rows: Mapping[str, Row]) -> float | None:
    """How many times the CPU time of the row that it is compared to."""
    other = rows.get(row.than)
    if other is None or not other.cpu_us or not row.cpu_us:
        return None
    return statistics.median(a / b for a, b in zip(row.cpu_us, other.cpu_us, strict=True))


def table(title: str, found: list[Row]) -> str:
    """The rows as a table in Markdown."""
    rows = {row.name: row for row in found}
    lines = [("", "CPU us/record", "min..max", "records/CPU s", "ratio", "target", "")]
    for row in found:
        times = ratio(row, rows)
        if row.cpu_us:
            median = statistics.median(row.cpu_us)
            figures = (f"{median:.2f}", f"{min(row.cpu_us):.2f}..{max(row.cpu_us):.2f}",
                       f"{1e6 / median:,.0f}")  # fmt: skip
        else:
            figures = ("-", "", "")
        told = "" if times is None else f"{times:.2f} x {row.than}"
        target = ""
        if row.at_most is not None:
            reached = "" if times is None else "met: " if times <= row.at_most else "MISSED: "
            target = f"{reached}at most {row.at_most:g} x {row.than}"
        lines.append((row.name, *figures, told, target, row.note))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))  # type: ignore[arg-type]
    text = "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in
                     zip(line, widths, strict=True)) + " |" for line in lines)  # fmt: skip
    return f"## {title}\n\n{text}\n"


def cpu_of(pid: int) -> float:
    """The CPU seconds, user and system, that all threads of a process have used, to the ns."""
    return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED, as clock_getcpuclockid(3) gives it


def program(name: str) -> str:
    """Where a program is; Missing."""
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def compiled(source: str, folder: Path) -> Path:
    """A C program beside this file, compiled; Missing."""
    made = folder / Path(source).stem
    subprocess.run([program("gcc"), "-O2", "-o", str(made), str(HERE / source)], check=True)
    return made


def two_cpus() -> tuple[int, int]:
    """Two processors: one for who reads, one for who sends; the same if there is but one."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[-1]
