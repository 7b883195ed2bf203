"""How fast pylog is, beside others: python tests/benchmarks [--only NAME] [--quick] [--rounds N]

Measured is the pylog of the checkout that this file is in, of another one with --checkout, or the
installed one with --installed, always run by the interpreter that runs this.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOPICS = ("live", "loss")


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=TOPICS, help="that alone, repeatable")
    parser.add_argument("--quick", action="store_true", help="little work: to see that it runs")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each contender")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--checkout", type=Path, default=HERE.parents[1], metavar="DIR")
    where.add_argument("--installed", action="store_true")
    arguments = parser.parse_args()
    sys.path.append(str(HERE.parent / "lib"))
    if not arguments.installed:
        found = str(arguments.checkout.resolve())
        sys.path.insert(0, found)
        os.environ["PYTHONPATH"] = found

    import live
    from measure import table

    for topic in arguments.only or TOPICS:
        rounds = arguments.rounds or (1 if arguments.quick else 5)
        seconds = 0.5 if arguments.quick else live.SECONDS
        rows = {"live": live.live, "loss": live.loss}[topic](rounds, seconds)
        print(table(topic, rows), flush=True)


if __name__ == "__main__":
    main()
