"""Offline: what the stages of reading a log cost, for several layouts and containers.

    construct        parsing with the construct schema, the reference, which nothing uses to read
    split            finding the messages
    split, decode    and making a record of each by itself
    loop             for record in pylog.open(path), looking at the addresses
    read --to ...    the whole command, writing a file

`distinct` traffic has no address and port twice. The layout is named each time: to find it out
takes as long for a long log as for a short one, see startup.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import builders
import inputs
from builders import parse
from measure import Row, Scale, Table, cpu_us, interleaved, scratch

import pylog
from pylog.cli import main
from pylog.detect import detect
from pylog.formats import HEAD, Message, Stream, ipl_layouts

SOME = 2000
"""Records that construct reads, which takes long."""

LOGS = [
    *((name, False) for name in inputs.LOGS),
    (inputs.IPL_LAYOUTS[0], True),
    (inputs.NFLOG_LAYOUT, True),
]
"""Which log, and whether of distinct traffic."""

JSON_US = {"ipl": 1e6 / 350_000, "nfulnl": 1e6 / 220_000}
"""The targets of read --to json."""


def split(layout: str, path: Path) -> tuple[bytes, Stream, list[Message]]:
    data = path.read_bytes()
    stream = detect(data[:HEAD], len(data) <= HEAD, layout).stream()
    return data, stream, [i for i in stream.split(data, True) if isinstance(i, Message)]


def decode(layout: str, path: Path) -> None:
    data, stream, messages = split(layout, path)
    for message in messages:
        stream.decode(data, message)


def construct(layout: str, path: Path) -> None:
    """Of raw messages: a capture's own blocks are not in the schema."""
    data, _, messages = split(layout, path)
    if layout == inputs.NFLOG_LAYOUT:
        parsed = partial(parse, builders.log_message("<"))
    else:
        parsed = ipl_layouts.named(layout).schema("ipf").parse
    for message in messages:
        parsed(data[message.start : message.end])


def loop(layout: str, path: Path) -> None:
    with pylog.open(path, layout=layout) as reader:
        for record in reader:
            if isinstance(record, pylog.PacketRecord):
                assert record.saddr and record.daddr


def read(form: str, layout: str, path: Path) -> None:
    """The command pylog read --to FORM, less Python's start."""
    options = ["--layout", layout, "--to", form, "--force", "-w", f"{path}.{form}"]
    assert main(["read", str(path), *options]) == 0


STAGES = {
    "split": split,
    "split, decode": decode,
    "loop": loop,
    **{f"read --to {form}": partial(read, form) for form in ("json", "text", "csv")},
}


def table(scale: Scale) -> Table:
    """All stages of all logs."""
    rows, work = [], {}
    with scratch() as folder:
        for name, distinct in LOGS:
            title = f"{name}, distinct" if distinct else name
            log = inputs.log(name, Path(folder), scale.records, scale.few, distinct)
            first = f"{title}: construct"
            if name in inputs.RAW:
                rows.append(Row(first))
                records = min(SOME, scale.records)
                some = inputs.log(name, Path(folder), records, scale.few, distinct)
                work[first] = partial(cpu_us, partial(construct, name), some)
            for stage, run in STAGES.items():
                below = JSON_US[name.split("-")[0]] if stage == "read --to json" else None
                rows.append(Row(f"{title}: {stage}", than=first, below=below))
                work[rows[-1].name] = partial(cpu_us, partial(run, inputs.layout(name)), log)
        found, _ = interleaved(work, scale.rounds)
        for row in rows:
            row.values = found[row.name]
        for path in Path(folder).glob(f"* {scale.records} *.json"):
            assert path.read_bytes().count(b"\n") == scale.records
    return Table("Offline, by layout", rows)
