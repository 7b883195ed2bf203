"""List the sources that this machine has, and why others are not available."""

from __future__ import annotations

import argparse

from pylog import backends
from pylog.cli import answer, answer_json

HELP = "list the sources that this machine has"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog sources`."""
    parser.add_argument("--json", action="store_true", help="one JSON object a source")


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog sources`."""
    for module in backends.modules().values():
        for found in module.sources():
            if arguments.json:
                shape = {"source": found.source, "text": found.text,
                         "available": found.problem is None, "problem": found.problem}  # fmt: skip
                answer_json(shape)
            else:
                state = "" if found.problem is None else f" - not available: {found.problem}"
                answer(f"{found.source:18} {found.text}{state}")
    return 0
