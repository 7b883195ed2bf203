"""How fast pylog is, beside others and beside its targets, as tables in Markdown.

Measured is the pylog of the checkout that this file is in, that of another one with --checkout, or
the installed one with --installed; always by the Python that runs this. Of what is missing here, a
program, root or an extra, the tables tell so. All of it takes about 15 minutes, and `ulogd`, with
two programs and sixteen outputs, half an hour more.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOPICS = {
    "start": "startup.table",
    "decode": "decode.table",
    "filters": "filters.table",
    "peers": "peers.table",
    "bulk": "bulk.table",
    "live": "live.table",
    "loss": "live.overload",
    "run": "throughput.table",
    "rates": "throughput.rates",
    "bounds": "bounds.table",
    "commits": "commits.table",
    "flows": "flows.table",
    "text": "textlog.table",
    "stats": "statistics_of.table",
    "ulogd": "ulogd.table",
}
"""Which function makes the table of each topic."""


def main() -> None:
    parser = argparse.ArgumentParser("python tests/benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=TOPICS, help="that alone; repeatable")
    parser.add_argument("--quick", action="store_true", help="one round of little work")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each contender")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--checkout", type=Path, default=HERE.parents[1], metavar="DIR")
    which.add_argument("--installed", action="store_true")
    arguments = parser.parse_args()
    sys.path.append(str(HERE.parent / "lib"))
    os.environ["PYTHONSAFEPATH"] = "1"  # the programs are not to take what is where they run
    if not arguments.installed:
        checkout = str(arguments.checkout.resolve())
        sys.path.insert(0, checkout)
        os.environ["PYTHONPATH"] = checkout

    from measure import Missing, Scale, Table

    from pylog import memo

    form = "pure" if memo.__file__.endswith(".py") else "compiled"
    scale = (
        Scale(rounds=1, records=40, few=10, seconds=0.5, starts=1) if arguments.quick else Scale()
    )
    if arguments.rounds:
        scale = replace(scale, rounds=arguments.rounds)
    print(f"pylog, {form}; {platform.python_implementation()} {platform.python_version()},"
          f" {platform.system()} {platform.release()}, {os.cpu_count()} CPUs,"
          f" load {os.getloadavg()[0]:.1f}, {scale.rounds} rounds\n")  # fmt: skip
    for topic in arguments.only or TOPICS:
        module, function = TOPICS[topic].split(".")
        try:
            table: Table = getattr(importlib.import_module(module), function)(scale)
            print(table.text(), flush=True)
        except Missing as error:
            print(f"## {topic}\n\nnot measured: {error}\n", flush=True)


if __name__ == "__main__":
    main()
