"""Discard what a log holds, and print how many bytes that was, as ipmon -F does.

Of /dev/ipl and its like the kernel does it (SIOCIPFFB), which takes the right to write to the
device. A file is left as it is.
"""

from __future__ import annotations

import argparse

from pylog.cli import answer, pending
from pylog.cli._sources import opened

HELP = "discard what a log device holds"


add_arguments = pending.add_arguments


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog flush`."""
    with opened(arguments, arguments.source) as records:
        for reader in records.readers():
            answer(f"{reader.backend.name}: {reader.flush()} bytes flushed")
    return 0
