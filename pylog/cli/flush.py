"""Discard the records that a log holds, and print how many bytes they had, as ipmon -F does.

The kernel discards those of a log device (SIOCIPFFB), which takes the right to write to the device.
A file is read to its end and not changed.
"""

from __future__ import annotations

import argparse

from pylog.cli import answer, pending
from pylog.cli._inputs import expand
from pylog.cli._sources import opened
from pylog.reader import Reader

USAGE = "[options] SOURCE ..."
HELP = "discard the records that a log device holds"

add_arguments = pending.add_arguments


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog flush`."""
    expand(arguments)
    with opened(arguments, arguments.source) as records:
        for reader in records.readers():
            answer(f"{reader.backend.title}: {_flush(reader)}")
    return 0


def _flush(reader: Reader) -> str:
    """Flush a log: the result as text."""
    size = reader.flush()
    if reader.backend.live:
        return f"{size} bytes flushed"
    if reader.backend.regular:
        return f"nothing flushed: a file keeps its records ({size} bytes of them)"
    return f"{size} bytes of records read and discarded"
