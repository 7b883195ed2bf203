"""Check whether live logs can be read here: privileges, kernel features, groups in use, limits.

Without NAME, the sources of this operating system are checked. To see whether NFLOG works, a free
group is bound and released. With nftables, the log rules of the ruleset are examined: rules that
cannot be distinguished in the log, prefixes that mislead, groups without a listener. A recording of
nftables can be examined as well. Exit status 0 when everything checked works, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator

import pylog
from pylog import backends
from pylog.backends.base import Check
from pylog.backends.netns import Namespace
from pylog.cli import answer, answer_json
from pylog.errors import BackendError
from pylog.formats.nft_loggers import Loggers
from pylog.formats.nft_model import Model
from pylog.lints import lints
from pylog.reader import Reader
from pylog.record import RulesetRecord

USAGE = "[--json] [--netns NAME] [NAME ...]"
LISTED_S = 0.5
"""How long to wait for more of a listing, which is at hand as soon as the source is open."""
HELP = "check whether live logs can be read here"
MARKS = {True: "ok", False: "FAILED", None: "note"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog doctor`."""
    parser.add_argument(
        "name", nargs="*", metavar="NAME", type=_name,
        help=f"what to check: {', '.join(backends.modules())}, or a recording of nftables",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a result")
    parser.add_argument(
        "--netns", metavar="NAME",
        help="check in this network namespace of Linux: a name of ip-netns, a path or a process id",
    )  # fmt: skip


def _name(text: str) -> str:
    names = backends.modules()
    if text not in names and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog doctor`."""
    if arguments.netns is None:
        return _report(arguments)
    if sys.platform != "linux":
        raise ValueError("--netns is for Linux")
    namespace = Namespace(arguments.netns)
    with contextlib.closing(namespace):
        return namespace.run(lambda: _report(arguments))


def _report(arguments: argparse.Namespace) -> int:
    """Check, in the network namespace of the thread."""
    elsewhere = ("ipl",) if sys.platform == "linux" else ("nflog", "nftables", "nfct")
    names = [name for name in backends.modules() if name not in elsewhere]
    here = sorted(names, key="capture".__eq__)  # files last
    status = 0
    for name in arguments.name or here:
        for check in _checks(name):
            status |= check.ok is False
            if arguments.json:
                answer_json({"name": name, "ok": check.ok, "text": check.text})
            else:
                answer(f"{MARKS[check.ok]:7} {name}: {check.text}")
    return status


def _checks(name: str) -> Iterator[Check]:
    """The results for a source, or for a recording."""
    module = backends.modules().get(name)
    works = True
    for check in () if module is None else module.checks():
        works &= check.ok is not False
        yield check
    if module is None:
        with pylog.open(name) as reader:
            model = _ruleset(reader)
        yield from _examined(model, None)
    elif name == "nftables" and works:
        try:
            with pylog.open("nftables:") as reader:
                model = _ruleset(reader)
        except BackendError as error:
            yield Check(False, str(error))
            return
        from pylog.backends.nflog_proc import instances, owner_text  # only here: Linux

        bound = instances()
        held = None if bound is None else {i.group: owner_text(i.portid) for i in bound}
        yield from _examined(model, held)


def _examined(model: Model, held: dict[int, str] | None) -> Iterator[Check]:
    """What is doubtful about the log rules, after how many there are."""
    count = sum(len(rules) for _, rules in Loggers(model))
    yield Check(None, f"{count} rules log to groups of NFLOG" if count != 1 else
                "1 rule logs to a group of NFLOG")  # fmt: skip
    yield from (Check(None, text) for text in lints(model, held))


def _ruleset(reader: Reader) -> Model:
    """The ruleset at the end of a recording, or the one that a live source begins with."""
    model = Model()
    while True:
        try:
            batch = reader.read_batch(LISTED_S if reader.backend.live else None)
        except TimeoutError:
            break
        for record in batch:
            if isinstance(record, RulesetRecord):
                model.apply(record)
        if not batch:
            break
    model.finish()
    return model
