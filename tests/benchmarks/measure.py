"""Rounds, medians and tables.

Contenders take turns, a round being one turn of each, so that what else the machine does meets all
of them; a ratio is the median of the rounds' own ratios. Times are CPU time, user and system, of
all processes that a contender is made of.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HERE = Path(__file__).resolve().parent


MEMORY, ENOUGH = "/dev/shm", 4 << 30
"""A file system in memory, and how many bytes have to be free there to use it."""


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A new folder for what programs write, in memory if there is room: disks are not measured."""
    roomy = os.path.isdir(MEMORY) and shutil.disk_usage(MEMORY).free > ENOUGH
    return tempfile.TemporaryDirectory(dir=MEMORY if roomy else None)


class Missing(Exception):
    """What a row needs is not there; the text says what."""


@dataclass(frozen=True)
class Scale:
    """How much work there is.

    rounds    turns of each contender
    records   in a file
    few       in a short file
    seconds   that packets are sent for
    starts    of a program in each turn, of which the fastest counts
    """

    rounds: int = 5
    records: int = 50_000
    few: int = 1000
    seconds: float = 4.0
    starts: int = 5


@dataclass
class Row:
    """A line of a table.

    values    one of each round, in the table's unit
    than      the row that it is compared to
    at_most   the target: so many times that
    below     the target in the table's unit
    target    another one, and whether it is met
    note      what else there is to say, or why there are no values
    """

    name: str
    values: Sequence[float] = ()
    than: str = ""
    at_most: float | None = None
    below: float | None = None
    target: str = ""
    note: str = ""


@dataclass
class Table:
    """What a topic has found; `unit` is that of the values."""

    title: str
    rows: list[Row] = field(default_factory=list)
    unit: str = "CPU us/record"

    def text(self) -> str:
        """The table in Markdown."""
        lines = [("", self.unit, "min..max", "per CPU second", "compared", "target", "")]
        lines += [self._line(row) for row in self.rows]
        columns = []
        for head, *cells in zip(*lines, strict=True):
            if any(cells):
                width = max(map(len, (head, *cells)))
                columns.append([cell.ljust(width) for cell in (head, "-" * width, *cells)])
        found = zip(*columns, strict=True)
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in found)

    def _line(self, row: Row) -> tuple[str, ...]:
        if not row.values:
            return (row.name, "none", "", "", "", "", row.note)
        median = statistics.median(row.values)
        times = self._ratio(row)
        return (
            row.name,
            _number(median),
            f"{_number(min(row.values))}..{_number(max(row.values))}" if row.values[1:] else "",
            f"{1e6 / median:,.0f}" if median and self.unit.startswith("CPU us") else "",
            "" if times is None else f"{_times(times)} {row.than.split(': ')[-1]}",
            "; ".join(_targets(row, median, times)),
            row.note,
        )

    def _ratio(self, row: Row) -> float | None:
        """How many times the value of the row that it is compared to."""
        other = next((other for other in self.rows if other.name == row.than), None)
        if other is None or not all(other.values) or not all(row.values) or not other.values:
            return None
        return statistics.median(a / b for a, b in zip(row.values, other.values, strict=True))


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else f"{value:,.0f}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} x" if ratio > 0.5 else f"1/{1 / ratio:.1f} of"


def _targets(row: Row, median: float, times: float | None) -> list[str]:
    """The targets of a row, and whether they are met."""
    found = [row.target] if row.target else []
    if row.at_most is not None and times is not None:
        met = "met" if times <= row.at_most else "MISSED"
        found.append(f"at most {_times(row.at_most)} that: {met}")
    if row.below is not None:
        met = "met" if median <= row.below else "MISSED"
        found.append(f"at most {row.below:.3g}: {met}")
    return found


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


@dataclass(frozen=True)
class Log:
    """A file of so many records, and a short one of the same kind."""

    path: Path
    records: int
    short: Path
    short_records: int


def cpu_us(run: Callable[[Path], object], log: Log) -> float:
    """CPU time per record, in microseconds, of a function that reads a file.

    What a file costs whatever its length, and whatever is made at first use, does not count: it
    runs on the short file before, in the same process, which is its own, and that is taken off.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as process:
        return process.submit(_cpu_us, run, log).result()


def _cpu_us(run: Callable[[Path], object], log: Log) -> float:
    run(log.short)
    took = []
    for path in (log.short, log.path):
        before = _cpu_s()
        run(path)
        took.append(_cpu_s() - before)
    # of few records the clock may see nothing; it counts microseconds of processes that have ended
    return max(took[1] - took[0], 1e-6) / (log.records - log.short_records) * 1e6


def _cpu_s() -> float:
    """The CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def cpu_of(pid: int) -> float:
    """The CPU seconds, user and system, that all threads of a process have used, to the ns."""
    return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED, as clock_getcpuclockid(3) gives it


def program(name: str) -> str:
    """Where a program is; Missing."""
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def compiled(source: str, folder: Path, name: str = "", **macros: object) -> Path:
    """A C program beside this file, compiled with these macros; Missing."""
    made = folder / (name or Path(source).stem)
    defined = [f"-D{macro}={value}" for macro, value in macros.items()]
    command = [program("gcc"), "-O2", *defined, "-o", str(made), str(HERE / source)]
    subprocess.run(command, check=True)
    return made


def two_cpus() -> tuple[int, int]:
    """Two processors: one for who reads, one for who sends; the same if there is but one."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[-1]
