"""The arguments of commands that write files one after the other, see outputs._files."""

from __future__ import annotations

import argparse

from pylog import units


def add_rotation_arguments(parser: argparse._ActionsContainer) -> None:
    """The arguments that say when a file is full."""
    parser.add_argument(
        "--rotate-size", type=_size, metavar="SIZE",
        help="begin a new file when one has that many bytes, also with k, M, G; the files have"
        " numbers: fw-00001.log, fw-00002.log",
    )  # fmt: skip
    parser.add_argument(
        "--rotate-time", type=seconds, metavar="TIME",
        help="begin a new file when one is that old, in seconds, or with s, m, h, d",
    )  # fmt: skip


def _size(text: str) -> int:
    try:
        return units.size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def seconds(text: str) -> float:
    """A time of the command line, in seconds."""
    try:
        return units.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
