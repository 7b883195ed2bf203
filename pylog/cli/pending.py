"""Print how many bytes of a log can be read without waiting.

For a log device these are the bytes that the kernel holds (FIONREAD), for a file its unread bytes.
An NFLOG group holds nothing for a listener that comes later.
"""

from __future__ import annotations

import argparse

from pylog.cli import answer
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._sources import add_live_arguments, add_source_arguments, opened

USAGE = "[options] SOURCE ..."
HELP = "print how many bytes can be read without waiting"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog pending`."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="ipl:[DEVICE,...], nflog:GROUP, nftables:, a file, or -",
    )
    add_input_arguments(parser)
    add_source_arguments(parser)
    add_live_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog pending`."""
    expand(arguments)
    with opened(arguments, arguments.source) as records:
        for reader in records.readers():
            answer(f"{reader.backend.title}: {reader.pending()} bytes pending")
    return 0
