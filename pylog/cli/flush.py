"""Discard what a log holds, and print how many bytes that was, as ipmon -F does.

Of /dev/ipl and its like the kernel does it (SIOCIPFFB), which takes the right to write to the
device. A file is left as it is.
"""

from __future__ import annotations

import argparse

from pylog.cli._sources import add_live_arguments, add_source_arguments, opened

HELP = "discard what a log device holds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog flush`."""
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE", help="ipl:[DEVICE,...], nflog:GROUP, a file, or -"
    )
    add_source_arguments(parser)
    add_live_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog flush`."""
    with opened(arguments, arguments.source) as records:
        for reader in records.readers():
            print(f"{reader.backend.name}: {reader.flush()} bytes flushed")
    return 0
