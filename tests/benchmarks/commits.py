"""nftables: a large commit as `pylog read --to json` reads it, and the memory that it takes.

A commit is held until its end, so what counts is the peak: 100,000 elements of a set, each in a
message of its own, as the kernel sends them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nftables
from measure import Row, Scale, Table, scratch

from pylog.formats import nft_attributes

ELEMENTS = 100_000
MOST_S, MOST_MB = 3.0, 150
"""The targets: CPU seconds, and MB of memory at the peak."""


def commit(count: int) -> bytes:
    """A commit of a set with so many elements."""
    kernel = nftables.Kernel()
    attrs = [(1, b"fw\0"), (2, b"bad\0"), (3, 0), (4, 7), (5, 4), (16, 2)]
    declared = kernel.message(nft_attributes.NFT_MSG_NEWSET, attrs)
    elements = (kernel.element(b"fw", b"bad", (0x0A000000 + n).to_bytes(4)) for n in range(count))
    return kernel.commit(kernel.table(b"fw"), declared, *elements)


def table(scale: Scale) -> Table:
    """The seconds and the memory of the whole command."""
    count = ELEMENTS if scale.records >= 10_000 else 100
    with scratch() as folder:
        path = Path(folder, "commit.bin")
        path.write_bytes(commit(count))
        rows = []
        for form in ("json", "text"):
            seconds, peaks = [], []
            for _ in range(scale.rounds):
                target = str(Path(folder, f"out.{form}"))
                command = [sys.executable, "-m", "pylog", "read", "--to", form, "--force", "-w",
                           target, str(path)]  # fmt: skip
                process = subprocess.Popen(command)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                assert process.returncode == 0, command
                seconds.append(usage.ru_utime + usage.ru_stime)
                peaks.append(usage.ru_maxrss // 1024)
            note = f"peak {max(peaks)} MB of {MOST_MB}"
            below = MOST_S if form == "json" else None
            rows.append(Row(f"read --to {form}", seconds, below=below, note=note))
    return Table(f"A commit of {count} elements", rows, "CPU s")
