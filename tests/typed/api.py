"""A program that uses the public API, for type checkers: tests/test_typing.py runs mypy over it.

It is checked, and never run. An error that must be one has `type: ignore`, and mypy reports an
ignored line that is none.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Unpack, assert_type

import pylog


def by_kind(record: pylog.Record) -> str:
    """`kind` tells the kinds apart, as isinstance does."""
    if record.kind == "packet":
        assert_type(record, pylog.PacketRecord)
        assert_type(record.kind, Literal["packet"])
        return f"{record.saddr} {record.dport} {record.action} {record.vlan} {record.fragment}"
    if record.kind == "flow":
        assert_type(record, pylog.FlowRecord)
        return f"{record.nat_saddr}"
    if record.kind == "ruleset":
        assert_type(record, pylog.RulesetRecord)
        return f"{record.op} {record.table} {record.generation}"
    if record.kind == "trace":
        assert_type(record, pylog.TraceRecord)
        return f"{record.id} {record.chain} {record.verdict}"
    if record.kind == "counter":
        assert_type(record, pylog.CounterRecord)
        return f"{record.name} {record.packets} {record.quota}"
    assert_type(record, pylog.LossRecord)
    return f"{record.count} {record.describe()}"


def by_match(record: pylog.Record) -> str | None:
    match record:
        case pylog.PacketRecord(saddr=saddr, dport=22):
            return saddr
        case pylog.LossRecord():
            return record.describe()
    return None


def every_kind(record: pylog.Record) -> None:
    assert_type(record.timestamp, datetime | None)
    assert_type(record.observed, datetime | None)
    assert_type(record.timestamp_ns, int | None)
    print(record.log, record.source, record.layout, record.origin, record.host, {record: 1})
    _ = record.saddr  # type: ignore[union-attr]  # a loss has none
    record.seq = 1  # type: ignore[misc]  # records do not change


def files(path: Path) -> None:
    for source in (path, str(path), io.BytesIO(path.read_bytes())):
        with pylog.open(source, layout="nfulnl-le", on_error="strict", raw=True) as reader:
            assert_type(reader, pylog.Reader)
            for record in reader:
                assert_type(record, pylog.Record)
            for packet in reader.packets():
                assert_type(packet, pylog.PacketRecord)
            assert_type(reader.read(timeout=1), pylog.Record | None)
            assert_type(reader.read_batch(), list[pylog.Record])
            assert_type(reader.read_bytes(1 << 16), bytes)
            assert_type(reader.dropped, int | None)
            print(reader.received, reader.malformed, reader.uncounted, reader.flaws, reader.ready)
            print(reader.pending(), reader.flush(), reader.fileno(), reader.cut_off)
            reader.stop()
    with pylog.replay(path, speed=None, max_gap=None, loop=True) as replayed:
        assert_type(replayed, pylog.Replay)
    with pylog.merge(path, "nflog:5", window_s=1, labels={"nflog:5": "fw"}, qthresh=1) as merged:
        assert_type(merged, pylog.Merged)


def live(**options: Unpack[pylog.SourceOptions]) -> pylog.Reader:
    """Options can be passed on, and are checked."""
    pylog.open("nflog:5", netns="fw", copy_mode="meta", timeout_s=0.5, conntrack=True)
    pylog.open("nflog:5", netns=1234, rcvbuf=1 << 20, rcvbuf_max=1 << 24, latency=True)
    pylog.open("fw.dump", follow=True)
    pylog.open("nflog:5", qthres=1)  # type: ignore[call-arg]
    pylog.open("nflog:5", qthresh="1")  # type: ignore[arg-type]
    pylog.open("nflog:5", copy_mode="all")  # type: ignore[arg-type]
    pylog.open("nflog:5", on_error="ignore")  # type: ignore[arg-type]
    of_another_distribution: dict[str, Any] = {"largest": 4096}
    pylog.open("toy:/run/toy", **of_another_distribution)
    return pylog.open("nflog:5", **options)


async def with_asyncio() -> None:
    async with pylog.open("nflog:5") as reader, pylog.merge("a", "b") as merged:
        async for record in reader:
            assert_type(record, pylog.Record)
        async for packet in merged.packets():
            assert_type(packet, pylog.PacketRecord)


def text(records: list[pylog.Record]) -> Iterator[bytes]:
    assert_type(pylog.to_json(records[0]), bytes)
    assert_type(pylog.rfc3339(1_700_000_000_000_000_000), str)
    assert_type(pylog.__version__, str)
    yield pylog.json_lines(records)


def tables(path: os.PathLike[str]) -> None:
    table = pylog.read_table([path], kind="packet", columns=["dport"], jobs=2, origin=True)
    for batch in pylog.iter_batches(path, rows=1000):
        print(batch.num_rows, table.num_rows)
    pylog.read_table(path, column=["dport"])  # type: ignore[call-arg]


def errors() -> None:
    try:
        pylog.opne("x")  # type: ignore[attr-defined]
    except pylog.DecodeError as error:
        print(error.field, error.found, error.expected, error.offset, error.path, error.advice)
    except pylog.BackendUnavailable as unavailable:
        assert_type(unavailable, pylog.BackendUnavailable)
    except pylog.BackendError as problem:
        print(problem.__cause__)


def parts() -> None:
    print(pylog.Fragment(offset=8, more=True), pylog.Vlan(id=7, priority=1))
    print(pylog.PacketRecord("nflog", "nfulnl-le", dport=22), pylog.FlowRecord("ipl", "x"))


if __name__ == "__main__":
    asyncio.run(with_asyncio())
