"""How long the stages of offline decoding take: python tests/benchmarks/offline.py [RECORDS]

Builds its inputs from the fixtures, runs every stage in turn for a few rounds in one process, and
prints medians of CPU time per record and their ratio to the first stage. Ratios are what to quote:
the machine's speed drops out of them.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pylog
from pylog.formats import Message, Stream, ipl, nfulnl
from pylog.formats.netlink import parse
from pylog.outputs import output

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
ROUNDS = 5


def stages(data: bytes, stream: Callable[[], Stream], reference: Callable[[bytes], object]) -> (
    dict[str, Callable[[], None]]
):  # fmt: skip
    """The stages for one dump, from the cheapest to the whole command."""

    def split() -> None:
        stream().split(data, True)

    def decode() -> None:
        one = stream()
        for item in one.split(data, True):
            if isinstance(item, Message):
                one.decode(data, item)

    def write(name: str) -> None:
        with pylog.open(io.BytesIO(data)) as reader:
            out = output(name, io.BytesIO())
            for record in reader:
                out.write(record)
            out.close()

    def construct() -> None:
        one = stream()
        for item in one.split(data, True)[:500]:
            if isinstance(item, Message):
                reference(data[item.start : item.end])

    return {
        "split": split,
        "decode": decode,
        "read --to json": lambda: write("json"),
        "read --to text": lambda: write("text"),
        "read --to csv": lambda: write("csv"),
        "construct alone": construct,
    }


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    layout = ipl.stream("ipl-5.1.2-lp64le").layout_value
    inputs = {
        "ipl-5.1.2-lp64le": (
            "ipl/v5-1-2-lp64le-filter.ipf.bin", lambda: ipl.Stream(layout),
            layout.schema("ipf").parse,
        ),
        "nfulnl-le": (
            "nflog/seq.bin", lambda: nfulnl.Stream("<"),
            lambda raw: parse(nfulnl.log_message("<"), raw),
        ),
    }  # fmt: skip
    for name, (file, stream, reference) in inputs.items():
        one = (FIXTURES / file).read_bytes()
        of_one = sum(isinstance(i, Message) for i in stream().split(one, True))
        data = one * max(1, records // of_one)
        total = of_one * max(1, records // of_one)
        work = stages(data, stream, reference)
        times: dict[str, list[float]] = {stage: [] for stage in work}
        for _ in range(ROUNDS):
            for stage, run in work.items():
                count = min(500, total) if stage == "construct alone" else total
                start = time.process_time()
                run()
                times[stage].append((time.process_time() - start) / count * 1e6)
        first = statistics.median(times["split"])
        print(f"{name}, {total} records of {len(one) / of_one:.0f} bytes")
        for stage, found in times.items():
            median = statistics.median(found)
            print(f"    {stage:18}{median:9.2f} us/record{median / first:9.1f} x split")


if __name__ == "__main__":
    main()
