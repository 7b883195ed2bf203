"""Discard what a log holds, and print how many bytes that was, as ipmon -F does.

Of /dev/ipl and its like the kernel does it (SIOCIPFFB), which takes the right to write to the
device. A file is read to its end, and left as it is.
"""

from __future__ import annotations

import argparse

from pylog.cli import answer, pending
from pylog.cli._sources import opened
from pylog.reader import Reader

HELP = "discard what a log device holds"


add_arguments = pending.add_arguments


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog flush`."""
    with opened(arguments, arguments.source) as records:
        for reader in records.readers():
            answer(f"{reader.backend.name}: {flushed(reader)}")
    return 0


def flushed(reader: Reader) -> str:
    """Flush a log, and say what that did."""
    size = reader.flush()
    if reader.backend.live:
        return f"{size} bytes flushed"
    if reader.backend.regular:
        return f"nothing flushed: a file keeps its records ({size} bytes of them)"
    return f"{size} bytes of records read and discarded"
