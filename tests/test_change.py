"""Dumps in which the layout changes: what was appended after an upgrade, or put together by cat."""

from __future__ import annotations

import io
import itertools
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import builders
import effort
import parts
import pytest
import samples
import tables
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import DecodeError, LossRecord
from pylog.cli import info
from pylog.formats import InterfaceNames, Message, NewSection, Stream, ipl, nfulnl, registry
from pylog.record import Record
from pylog.table import schema
from pylog.table.splits import plan

IPL = {
    "5.1": "ipl/v5-1-2-lp64le-filter.ipf.bin",
    "5.1 be": "ipl/v5-1-2-ilp32be-filter.ipf.bin",
    "5.1 nat": "ipl/v5-1-2-lp64le-nat.all.bin",
    "5.0": "ipl/v5-0-3-lp64le-bits.ipf.bin",
    "4.1": "ipl/v4-1-35-lp64le-filter.ipf.bin",
    "3.4": "ipl/v3435-lp64le-filter.ipf.bin",
    "3.4 be": "ipl/v34-lp64be-ipf.bin",
    "3.2": "ipl/v32-lp64le-ipf.bin",
}
PARTS = {name: (samples.FIXTURES / path).read_bytes() for name, path in IPL.items()}
PARTS["nflog"] = (samples.FIXTURES / "nflog/seq.bin").read_bytes()[:12000]
ORDERED = builders.log(">", 7, [(1, {"hw_protocol": 0x0800, "hook": 1}), (2, 9)], family=2)
PARTS["nflog be"] = ORDERED * 40


def layout(name: str) -> str:
    """The layout as which a part is read by itself."""
    with pylog.open(io.BytesIO(PARTS[name])) as reader:
        return reader.layout


def cut(name: str, size: int) -> bytes:
    """The first messages of a part."""
    data = PARTS[name]
    with pylog.open(io.BytesIO(data), raw=True) as reader:
        records = [r.raw for r in reader if not isinstance(r, LossRecord)]
    found = b""
    for octets in records:
        found += octets or b""
        if len(found) >= size:
            break
    return found


def read(data: bytes) -> list[Record]:
    with pylog.open(io.BytesIO(data)) as reader:
        return list(reader)


def facts(records: Sequence[Record], base: int = 0) -> list[tuple[object, ...]]:
    """What has to be the same wherever in a file the records lie."""
    return [(r.timestamp_ns, r.seq, (r.offset or 0) - base)
            for r in records if not isinstance(r, LossRecord)]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second"), effort.sample([*itertools.permutations(PARTS, 2)][::7], 5)
)
def test_records_of_one_layout_after_those_of_another_are_read(first: str, second: str) -> None:
    parts = cut(first, 4000), cut(second, 5000)
    data = b"".join(parts)
    records = read(data)
    expected = facts(read(parts[0])) + [
        (t, s, int(str(at)) + len(parts[0])) for t, s, at in facts(read(parts[1]))
    ]
    assert facts(records) == expected
    assert not any(isinstance(r, LossRecord) and r.size for r in records)


def test_an_upgrade_there_and_back_with_damage_between_is_read() -> None:
    data = (samples.FIXTURES / "ipl/upgraded-4.1-to-5.1.bin").read_bytes()
    records = read(data)
    layouts = [
        (name, len(list(group))) for name, group in itertools.groupby(r.layout for r in records)
    ]
    assert layouts == [("ipl-4.1-lp64le", 20), ("ipl-5.1.2-lp64le", 25)]
    again = data + b"\xff" * 700 + data
    records = read(again)
    assert [r.layout for r in records if not isinstance(r, LossRecord)] == 2 * (
        ["ipl-4.1-lp64le"] * 20 + ["ipl-5.1.2-lp64le"] * 25
    )
    (loss,) = [r for r in records if isinstance(r, LossRecord)]
    assert (loss.offset, loss.size) == (len(data), 700)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 50, b"LPI" * 9])
def test_a_damaged_head_in_the_layout_of_the_fewer_records_costs_the_damage(damage: bytes) -> None:
    old, new = cut("4.1", 1500), PARTS["5.1"]
    data = damage + old[170:] + new if damage else old + new
    records = [r for r in read(data) if not isinstance(r, LossRecord)]
    assert sum(r.layout == "ipl-4.1-lp64le" for r in records) >= len(read(old)) - 2
    assert facts(records)[-len(read(new)) :] == [
        (t, s, int(str(at)) + len(data) - len(new)) for t, s, at in facts(read(new))
    ]


def test_a_named_layout_is_not_changed() -> None:
    data = cut("4.1", 3000) + cut("5.1", 3000)
    with pylog.open(io.BytesIO(data), layout="ipl-4.1-lp64le") as reader:
        assert {record.layout for record in reader} == {"ipl-4.1-lp64le"}
        assert reader.malformed == 1


def test_strict_reading_goes_on_with_another_layout_and_stops_at_damage() -> None:
    data = cut("4.1", 3000) + cut("5.1", 3000)
    expected = facts(read(data))
    with pylog.open(io.BytesIO(data), on_error="strict") as reader:
        assert facts(list(reader)) == expected
    damaged = io.BytesIO(data + bytes(300))
    with pylog.open(damaged, on_error="strict") as reader, pytest.raises(DecodeError):
        list(reader)


def test_the_last_record_alone_may_have_another_layout() -> None:
    last = cut("5.1", 1)
    records = read(PARTS["4.1"] + last)
    assert [r.layout for r in records[-2:]] == ["ipl-4.1-lp64le", layout("5.1")]


def test_numbers_begin_anew_where_another_layout_begins() -> None:
    first = cut("5.1", 3000)
    second = b"".join(
        message for message in parts.messages(PARTS["5.1 nat"], ipl.stream(layout("5.1 nat")))[3:]
    )
    records = read(first + cut("4.1", 2000) + second)
    assert not [r for r in records if isinstance(r, LossRecord) and r.count]


def test_a_pipe_and_other_ways_give_what_a_file_gives(tmp_path: Path) -> None:
    data = cut("3.4", 4000) + b"\0" * 99 + cut("5.1", 9000) + cut("nflog", 5000) + cut("4.1", 4000)
    path = tmp_path / "dump"
    path.write_bytes(data)
    records = read(data)
    read_end, write_end = os.pipe()

    def write() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as file:
            for at in range(0, len(data), 777):
                file.write(data[at : at + 777])

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(read_end, "rb", buffering=0) as file, pylog.open(file) as reader:
        assert list(reader) == records
    thread.join()
    for kind in ("packet", "loss"):
        names = schema(kind).names
        assert tables.plain(pylog.read_table(path, kind=kind)) == tables.rows(records, kind, names)
    with pylog.open(path) as reader:
        octets = b""
        while more := reader.read_bytes(3000):
            octets += more
    assert facts(read(octets))[0][:2] == facts(records)[0][:2]
    assert len(facts(read(octets))) == len(facts(records))


@given(st.data())
@effort.examples(25)
def test_the_layouts_do_not_depend_on_how_the_bytes_are_cut(data: st.DataObject) -> None:
    chosen = [data.draw(st.sampled_from(sorted(PARTS))) for _ in range(3)]
    dump = b"".join(PARTS[name][: data.draw(st.integers(300, 4000))] for name in chosen)
    complete = found_in(dump, [len(dump)])
    for size in (97, data.draw(st.integers(30, 3000))):
        assert found_in(dump, list(range(size, len(dump) + size, size))) == complete


def found_in(dump: bytes, cuts: list[int]) -> list[tuple[str, object, object]]:
    """The items in a dump of which the bytes up to each cut have come, and their layouts."""
    stream: Stream = nfulnl.NfulnlStream("<")
    stream.others = registry.resuming
    found: list[tuple[str, object, object]] = []
    at = 0
    for end in cuts:
        while True:
            data = dump[at:end]
            for item in stream.split(data, end >= len(dump)):
                if isinstance(item, Message):
                    found.append((stream.name, at + item.start, at + item.end))
                elif not isinstance(item, NewSection | InterfaceNames):
                    found.append((stream.name, item.offset, getattr(item, "size", 0)))
            at += stream.used
            if not stream.following:
                break
            (stream, *_), base = stream.following, stream.base + stream.used
            stream.base, stream.others = base, registry.resuming
    return found


def test_splits_of_a_dump_with_several_layouts_give_what_one_process_gives(tmp_path: Path) -> None:
    chosen = random.Random(5)
    dump = b""
    for _ in range(9):
        name = chosen.choice(("4.1", "5.1", "3.4", "nflog", "5.1 be"))
        dump += cut(name, chosen.randrange(500, 9000)) + chosen.choice((b"", b"\1" * 77))
    path = tmp_path / "dump"
    path.write_bytes(dump)
    for n, kind in ((3, "packet"), (7, "loss")):
        assert parts.decoded(plan(path, n), kind).rows == parts.whole(path, kind)
        assert parts.records(plan(path, n)) == read(dump)


def test_info_lists_the_layouts_with_their_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    path = samples.FIXTURES / "ipl/upgraded-4.1-to-5.1.bin"
    with pylog.open(path) as reader:
        found, _ = info.describe(reader)
    assert found["ranges"] == [
        {"layout": "ipl-4.1-lp64le", "start": 0, "end": 3350},
        {"layout": "ipl-5.1.2-lp64le", "start": 3350, "end": 7880},
    ]
