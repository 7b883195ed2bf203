"""Offline: pylog beside tshark and tcpdump on the same capture of link type NFLOG.

All are run as programs, each on a long and on a short capture, whose difference is what a record
costs, without the start of the program. Both are so long that pylog decodes them by columns.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import inputs
from measure import Row, Scale, Table, cpu_us, interleaved, program, scratch

PYLOG = (sys.executable, "-m", "pylog", "read")
PROGRAMS = {
    "tshark -T json": ("tshark", "-n", "-T", "json", "-r"),
    "tshark, text": ("tshark", "-n", "-r"),
    "tcpdump, text": ("tcpdump", "-n", "-r"),
    "pylog read --to text": (*PYLOG, "--to", "text"),
    "pylog read --to json": (*PYLOG, "--to", "json"),
}


def run(command: tuple[str, ...], path: Path) -> None:
    """Run a program on a capture, whose packets it writes to a file."""
    program(command[0])
    with Path(f"{path}.out").open("wb") as out, Path(f"{path}.err").open("wb") as errors:
        subprocess.run([*command, str(path)], stdout=out, stderr=errors, check=True)


def table(scale: Scale) -> Table:
    """All programs on the capture."""
    with scratch() as folder:
        long, short = 3 * scale.records, max(scale.records, scale.few)
        log = inputs.log(inputs.PCAP, Path(folder), long, short)
        work = {name: partial(cpu_us, partial(run, cmd), log) for name, cmd in PROGRAMS.items()}
        found, missing = interleaved(work, scale.rounds)
    rows = [Row(name, found[name], note=missing.get(name, "")) for name in PROGRAMS]
    for row in rows[1:]:
        row.than = rows[0].name
    rows[-1].at_most = 1 / 50
    return Table("Offline, a capture of link type NFLOG", rows)
