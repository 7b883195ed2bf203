"""Tell whether live logs can be read here: privileges, kernel features, groups in use, limits.

Without NAME, what belongs to this kind of system is looked at. To see whether NFLOG works, a free
group is bound and given back. Exit status 0 when all that was looked at would work, 1 when not.
"""

from __future__ import annotations

import argparse
import sys

from pylog import backends
from pylog.cli import answer, answer_json

HELP = "tell whether live logs can be read here"
MARKS = {True: "ok", False: "FAILED", None: "note"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog doctor`."""
    parser.add_argument(
        "name", nargs="*", metavar="NAME", type=_name,
        help=f"what to look at: {', '.join(backends.modules())}",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a finding")


def _name(text: str) -> str:
    if text not in backends.modules():
        known = ", ".join(backends.modules())
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog doctor`."""
    elsewhere = "ipl" if sys.platform == "linux" else "nflog"
    names = [name for name in backends.modules() if name != elsewhere]
    here = sorted(names, key="capture".__eq__)
    status = 0
    for name in arguments.name or here:
        for check in backends.modules()[name].checks():
            status |= check.ok is False
            if arguments.json:
                shape = {"name": name, "ok": check.ok, "text": check.text}
                answer_json(shape)
            else:
                answer(f"{MARKS[check.ok]:7} {name}: {check.text}")
    return status
