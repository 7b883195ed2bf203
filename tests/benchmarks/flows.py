"""Conntrack: what the events of flows cost, and how many times less than by the reference.

Each flow has other addresses and ports, and three events: new, update and destroy of TCP, as Linux
6.18 sent them, with NAT, counters and times.

    decode             NfctStream.decode alone, the reference
    records            as a reader makes records
    rows               as outputs of text, JSON and CSV read them
    read --to json     the whole command, writing a file
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import conntrack
from measure import Log, Row, Scale, Table, cpu_us, interleaved, scratch

from pylog.cli import main
from pylog.formats import Message, nfct

MOST_US = 1e6 / 60_000
"""The target of records."""


def _events() -> list[bytes]:
    """The first events of each kind of a TCP flow that was translated."""
    found: dict[Any, bytes] = {}
    data = conntrack.unpacked("full.cat")
    stream = nfct.NfctStream("<")
    for item in stream.split(data, True):
        if isinstance(item, Message):
            record: Any = stream.decode(data, item)
            if record.flow_type == "map" and record.protocol == 6:
                found.setdefault(record.event, data[item.start : item.end])
    return [found[event] for event in ("new", "update", "destroy")]


def write(path: Path, count: int) -> None:
    """A recording of so many events."""
    events = _events()
    inside = bytes((10, 1, 0, 2))
    with path.open("wb") as file:
        for n in range(count):
            event = events[n % 3]
            flow = n // 3
            at = event.index(b"\6\0\2\0") + 4  # CTA_PROTO_SRC_PORT
            port = event[at : at + 2]
            event = event.replace(inside, bytes((10, *flow.to_bytes(3))))
            event = event.replace(b"\6\0\2\0" + port, b"\6\0\2\0" + (flow & 0xFFFF).to_bytes(2))
            event = event.replace(b"\6\0\3\0" + port, b"\6\0\3\0" + (flow & 0xFFFF).to_bytes(2))
            file.write(event)


def by_decode(path: Path) -> None:
    data, stream = path.read_bytes(), nfct.NfctStream("<")
    for item in stream.split(data, True):
        if isinstance(item, Message):
            stream.decode(data, item)


def by_records(rows: bool, path: Path) -> None:
    data, stream = path.read_bytes(), nfct.NfctStream("<")
    stream.rows = rows
    items = [item for item in stream.split(data, True) if isinstance(item, Message)]
    for at in range(0, len(items), 1000):
        stream.records(data, items[at : at + 1000], False, [])


def command(path: Path) -> None:
    """The command, less Python's start."""
    assert main(["read", str(path), "--to", "json", "--force", "-w", f"{path}.json"]) == 0


def table(scale: Scale) -> Table:
    """All ways to read the same events."""
    rows = [
        Row("decode"),
        Row("records", than="decode", at_most=0.25, below=MOST_US),
        Row("rows", than="decode", at_most=0.3),
        Row("read --to json", than="decode"),
    ]
    runs = (by_decode, partial(by_records, False), partial(by_records, True), command)
    with scratch() as folder:
        log = Log(Path(folder, "long"), scale.records, Path(folder, "short"), scale.few)
        write(log.path, log.records)
        write(log.short, log.short_records)
        work = {row.name: partial(cpu_us, run, log) for row, run in zip(rows, runs, strict=True)}
        found, _ = interleaved(work, scale.rounds)
    for row in rows:
        row.values = found[row.name]
    return Table("Events of conntrack", rows)
