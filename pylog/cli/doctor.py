"""Check whether live logs can be read here: privileges, kernel features, groups in use, limits.

Without NAME, the sources of this operating system are checked. To see whether NFLOG works, a free
group is bound and released. Exit status 0 when everything checked works, else 1.
"""

from __future__ import annotations

import argparse
import sys

from pylog import backends
from pylog.cli import answer, answer_json

USAGE = "[--json] [NAME ...]"
HELP = "check whether live logs can be read here"
MARKS = {True: "ok", False: "FAILED", None: "note"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog doctor`."""
    parser.add_argument(
        "name", nargs="*", metavar="NAME", type=_name,
        help=f"what to check: {', '.join(backends.modules())}",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a result")


def _name(text: str) -> str:
    names = backends.modules()
    if text not in names:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog doctor`."""
    elsewhere = ("ipl",) if sys.platform == "linux" else ("nflog", "nftables")
    names = [name for name in backends.modules() if name not in elsewhere]
    here = sorted(names, key="capture".__eq__)  # files last
    status = 0
    for name in arguments.name or here:
        for check in backends.modules()[name].checks():
            status |= check.ok is False
            if arguments.json:
                answer_json({"name": name, "ok": check.ok, "text": check.text})
            else:
                answer(f"{MARKS[check.ok]:7} {name}: {check.text}")
    return status
