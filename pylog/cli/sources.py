"""List the sources of this machine, and why others are not available."""

from __future__ import annotations

import argparse

from pylog import backends
from pylog.cli import answer, answer_json

USAGE = "[--json]"
HELP = "list the sources of this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog sources`."""
    parser.add_argument("--json", action="store_true", help="one JSON object a source")


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog sources`."""
    for module in backends.modules().values():
        for name, text, problem in module.sources():
            if arguments.json:
                answer_json({"source": name, "text": text, "available": problem is None,
                             "problem": problem})  # fmt: skip
            else:
                state = "" if problem is None else f" - not available: {problem}"
                answer(f"{name:18} {text}{state}")
    return 0
