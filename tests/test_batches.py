"""Reading, decoding and writing many records at a time gives what one at a time gives."""

from __future__ import annotations

import io
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import builders
import effort
import msgspec
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import outputs
from pylog.batch import Batch
from pylog.errors import DecodeError
from pylog.formats import Message, NextSeq, RawBatch, Stream, ipl, nfulnl
from pylog.losses import Losses
from pylog.memo import Memo
from pylog.outputs import Target, pcapng
from pylog.record import (
    KINDS,
    PacketRecord,
    PacketRow,
    Record,
    Row,
    kind_of,
    rfc3339,
    row_of,
    row_type,
)

NFLOG = samples.FIXTURES / "nflog"
TAKE_ROWS = ["csv", "json", "text"]
NFULNL = sorted(NFLOG.glob("*.bin"))


class Once(nfulnl.NfulnlStream):
    """An NfulnlStream that decodes every message by itself."""

    def records(
        self,
        data: bytes,
        messages: Any,
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None = None,
    ) -> None:
        Stream.records(self, data, messages, raw, found, numbers)

    def plain(self, data: bytes, pos: int, items: Any) -> int:
        return pos


def decoded(stream: Stream, data: bytes, raw: bool = False) -> list[Record | str]:
    """The records of all messages, a lot at a time, and the errors of those that are none."""
    messages = [item for item in stream.split(data, True) if isinstance(item, Message)]
    found: list[Any] = []
    while messages:
        batch: list[Any] = []
        try:
            stream.records(data, messages[:7], raw, batch)
        except DecodeError as error:
            found += [*batch, str(error)]
            messages = messages[len(batch) + 1 :]
        else:
            found += batch
            messages = messages[7:]
    return found


@pytest.mark.parametrize("dump", NFULNL, ids=samples.name)
@pytest.mark.parametrize("raw", [False, True])
def test_the_fast_path_decodes_as_the_reference_does(dump: Path, raw: bool) -> None:
    data = dump.read_bytes()
    for _ in range(2):  # what was seen before is remembered
        assert decoded(nfulnl.NfulnlStream("<"), data, raw) == decoded(Once("<"), data, raw)


@pytest.mark.parametrize("dump", NFULNL, ids=samples.name)
def test_changed_messages_are_decoded_alike(dump: Path) -> None:
    """The heads of the good messages are remembered, and nearly fit the changed ones."""
    data = dump.read_bytes()[:20_000]
    fast, once, change = nfulnl.NfulnlStream("<"), Once("<"), effort.chance(dump.name)
    decoded(fast, data)
    for _ in range(effort.number(300)):
        octets = bytearray(data[: change.randrange(1, len(data))])
        for _ in range(change.randrange(1, 4)):
            octets[change.randrange(len(octets))] = change.choice((0, 1, 4, 8, 9, 12, 255))
        for stream in (fast, once):
            stream.base, stream.used, stream.damage = 0, 0, None
        assert decoded(fast, bytes(octets)) == decoded(once, bytes(octets))


PACKET = bytes.fromhex("4500002800010000400600000a0000010a00000200509c40") + bytes(16)
HEAD = st.lists(
    st.sampled_from([
        (10, b"drop \0"), (10, b"x" * 9 + b"\0"), (4, 2), (5, 3), (6, 4), (2, 7), (15, 1),
        (8, {"hw_addrlen": 6, "hw_addr": b"\2\0\0\0\0\1\0\0"}), (16, bytes(14)), (17, 14),
        (8, {"hw_addrlen": 9, "hw_addr": bytes(8)}), (17, 6),
    ]),
    max_size=6,
)  # fmt: skip
REST = st.lists(
    st.sampled_from([
        (3, {"sec": 1_700_000_000, "usec": 5}), (3, {"sec": 1, "usec": 1_000_000}), (11, 1000),
        (14, 100), (12, 5), (13, 6), (19, 2), (99, b"unknown"), (12, 7), (9, PACKET), (9, b""),
        (9, PACKET[:37]), (9, PACKET[:2] + bytes(2) + PACKET[4:]), (16, bytes(14)), (21, bytes(14)),
    ]),
    max_size=6,
)  # fmt: skip


@given(
    st.sampled_from("<>"), st.sampled_from((2, 10, 7, 3, 5, 0)),
    st.sampled_from((0x0800, 0x86DD, 0x0806, 0x8100, 0x88CC, 0)),
    st.lists(st.tuples(HEAD, REST), min_size=1, max_size=5),
)  # fmt: skip
def test_attributes_in_any_order_are_decoded_alike(
    order: str, family: int, ethertype: int, messages: list[tuple[Any, Any]]
) -> None:
    first = (1, {"hw_protocol": ethertype, "hook": 1})
    built = [builders.log(order, 5, [first, *a, *b], family=family) for a, b in messages]
    data = b"".join(m + bytes(-len(m) % 4) for m in built) * 2
    assert decoded(nfulnl.NfulnlStream(order), data) == decoded(Once(order), data)


def test_what_is_remembered_of_heads_is_bounded() -> None:
    stream = nfulnl.NfulnlStream("<")
    for n in range(5000):
        head = [(1, {"hw_protocol": 0x0800, "hook": 1}), (10, b"%d\0" % n), (2, n)]
        message = builders.log("<", 5, [*head, (9, PACKET)], family=2)
        message += bytes(-len(message) % 4)
        assert len(decoded(stream, message)) == 1
    fast = stream._fast
    assert 0 < len(fast._heads) <= 4096 and len(fast._sizes) <= 4096
    assert all(len(sizes) <= 4 for sizes in fast._sizes.values())


def as_live(source: Any, **options: Any) -> pylog.Reader:
    """A reader that takes what it reads for received just now."""
    reader = pylog.open(source, raw=True, **options)
    reader.backend.live = True
    return reader


@pytest.mark.parametrize("dump", NFULNL, ids=samples.name)
@pytest.mark.parametrize("limit", [1, 5, 512])
def test_copies_are_of_the_same_messages_as_records(dump: Path, limit: int) -> None:
    copied = 0
    with as_live(dump) as single, as_live(dump) as reader:
        while batch := reader.read_raw(limit=limit):
            for item in batch:
                if not isinstance(item, RawBatch):
                    again = single.read()
                    assert again is not None
                    assert msgspec.structs.replace(again, observed_ns=item.observed_ns) == item
                    continue
                for like, packet in zip(item.templates, item.packets, strict=True):
                    record = single.read()
                    assert isinstance(record, PacketRecord) and record.raw is not None
                    captured = packet, item.order, len(packet)
                    assert captured == nfulnl.capture(record.raw, record.layout)
                    same = "source", "layout", "group", "indev", "outdev", "physindev", "physoutdev"
                    assert [getattr(like, n) for n in same] == [getattr(record, n) for n in same]
                    numbers = nfulnl.interface_numbers(record.raw, record.layout)
                    assert like.extra == {"ifindex": numbers}
                copied += len(item.packets)
                assert len(item.packets) <= limit
            assert (reader.size, reader.received) == (single.size, single.received)
        assert single.read() is None
    counts = single.dropped, single.malformed, single.received
    assert counts == (reader.dropped, reader.malformed, reader.received)
    assert copied or dump.name != "batch.bin"


def test_a_head_that_begins_like_a_shorter_one_is_remembered_too() -> None:
    stream, head = (
        nfulnl.NfulnlStream("<"),
        [(1, {"hw_protocol": 0x0800, "hook": 1}), (10, b"drop\0\0\0\0")],
    )
    short, long = (builders.log("<", 5, [*head, *more, (12, 1), (9, PACKET)], family=2)
                   for more in ([], [(4, 2), (2, 7)]))  # fmt: skip
    assert len(decoded(stream, short + long + short + long)) == 4
    assert len(stream._fast._heads) == 2


@pytest.mark.parametrize("dump", [*NFULNL, samples.FIXTURES / "ipl/damaged.bin"], ids=samples.name)
def test_a_capture_of_copies_is_like_a_capture_of_records(
    dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_789)
    files = []
    for copies in (False, True):
        stream = io.BytesIO()
        out = pcapng.Output(Target(stream), machine=False)
        with as_live(dump) as reader:
            while batch := reader.read_raw(limit=7) if copies else reader.read_batch(limit=7):
                for item in batch:
                    if isinstance(item, RawBatch):
                        out.write_raw(item)
                    else:
                        out.write(Batch([item]))
        out.close()
        files.append(stream.getvalue())
    assert files[0] == files[1]


def message(*attrs: tuple[int, Any], longer: int = 0) -> bytes:
    """A message of group 5 with a few attributes before its payload; `longer` by zeros."""
    head = (1, {"hw_protocol": 0x0800, "hook": 1})
    built = bytearray(builders.log("<", 5, [head, *attrs, (9, PACKET)], family=2))
    built[:4] = (len(built) + longer).to_bytes(4, "little")
    return bytes(built) + bytes(longer) + bytes(-(len(built) + longer) % 4)


@pytest.mark.parametrize("bad", [message((3, {"sec": 1, "usec": 2_000_000})), b"\xff" * 40])
def test_copies_stop_where_strict_reading_stops(bad: bytes) -> None:
    damaged = io.BytesIO(message((10, b"x\0")) * 5 + bad + message((10, b"x\0")) * 5)
    with as_live(damaged, on_error="strict") as reader:
        assert sum(len(i.packets) for i in reader.read_raw() if isinstance(i, RawBatch)) == 4
        for _ in range(2):
            with pytest.raises(DecodeError):
                reader.read_raw()
        assert reader.received == 5


def test_a_closed_reader_gives_no_copies() -> None:
    with as_live(NFLOG / "batch.bin") as reader:
        assert reader.read_raw(limit=3)
        reader.close()
        assert reader.read_raw() == []


def test_copies_are_waited_for_no_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, message())
    clock, waits = [100.0], list[float]()

    def wait(timeout_s: float) -> bool:
        waits.append(timeout_s)
        clock[0] += 0.75 * timeout_s
        return len(waits) == 1

    with open(reading, "rb") as pipe, as_live(pipe, layout="nfulnl-le") as reader:
        assert len(reader.read_batch()) == 1
        os.write(writing, struct.pack("<IHHII", 16, 3, 0, 0, 0))  # NLMSG_DONE: no record
        monkeypatch.setattr(reader.backend, "wait", wait)
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        with pytest.raises(TimeoutError):
            reader.read_raw(timeout=1.0)
    os.close(writing)
    assert waits == [1.0, 0.25]


@pytest.mark.parametrize("longer", [1, 2, 3])
def test_bytes_too_many_are_damage_whether_the_head_was_remembered_or_not(longer: int) -> None:
    data = message() * 2 + message(longer=longer)
    found = decoded(nfulnl.NfulnlStream("<"), data)
    assert found == decoded(Once("<"), data)
    assert isinstance(found[2], str) and "nlattr" in found[2]


def test_a_long_head_is_not_remembered() -> None:
    stream, long = nfulnl.NfulnlStream("<"), message((16, bytes(4096)))
    assert len(decoded(stream, long * 3)) == 3 and not stream._fast._heads


def test_a_log_that_may_have_lost_something_does_not_hold_up_the_others() -> None:
    stream, losses = nfulnl.NfulnlStream("<"), Losses({"5": 0, "6": 0})

    def record(group: int, seq: int) -> Record:
        head = (1, {"hw_protocol": 0x0800, "hook": 1})
        data = builders.log("<", group, [head, (12, seq), (9, PACKET)], family=2)
        (message,) = stream.split(data, True)
        assert isinstance(message, Message)
        return stream.decode(data, message)

    assert losses.before(record(5, 0)) is None and losses.numbers() == {"5": 1, "6": 0}
    losses.received()
    losses.overrun("it overran", ["5", "6"])
    numbers = losses.numbers()  # what came with the overrun continues its log, or shows a gap
    assert numbers == {"5": 1, "6": 0} and not numbers.unnumbered
    losses.received()
    numbers = losses.numbers()
    assert numbers == {} and not numbers.unnumbered
    lost = losses.before(record(5, 3))
    assert lost is not None and lost.count == 2
    assert losses.before(record(5, 3)) is None
    numbers = losses.numbers()  # of 6 nothing is heard
    assert numbers == {"5": 4} and numbers.pass_on(record(5, 4)) and not numbers.unnumbered
    losses.follow(numbers)
    assert losses.before(record(6, 0)) is None
    assert losses.numbers() == {"5": 5, "6": 1} and losses.numbers().unnumbered  # type: ignore[union-attr]


# Reading


@pytest.mark.parametrize("dump", samples.dumps("*/*[dsq].*"), ids=samples.name)
@pytest.mark.parametrize("limit", [1, 3, 512])
def test_batches_hold_the_same_records_in_the_same_order(dump: Path, limit: int) -> None:
    with pylog.open(dump) as reader:
        expected = list(reader)
        counts = reader.received, reader.malformed, reader.dropped
    found: list[Record] = []
    with pylog.open(dump) as reader:
        while batch := reader.read_batch(limit=limit):
            assert len(batch) <= limit
            found += batch
        assert reader.read_batch() == []
        assert (reader.received, reader.malformed, reader.dropped) == counts
    assert found == expected


def test_a_batch_of_none_is_the_callers_error() -> None:
    with pylog.open(NFLOG / "seq.bin") as reader:
        for read in (reader.read_batch, reader.read_raw):
            with pytest.raises(ValueError, match="limit is 0"):
                read(limit=0)


@pytest.mark.parametrize("name", ["ipl/damaged.bin", "nflog/seq.bin"])
@pytest.mark.parametrize("seed", effort.sample(range(30), least=3))
def test_all_ways_of_reading_may_alternate(name: str, seed: int) -> None:
    """The records are those of the file, whoever takes them, and all are counted as they go."""
    choose = random.Random(seed)
    with pylog.open(samples.FIXTURES / name, raw=True) as reader:
        left: list[Record] = list(reader)
        received = reader.received
    with pylog.open(samples.FIXTURES / name, raw=True) as reader:
        for _ in range(20):
            found: list[Record | None] = []
            match choose.choice(("read", "next", "batch", "bytes", "pending")):
                case "read":
                    found = [reader.read()]
                case "next":
                    found = [next(reader, None)]
                case "batch":
                    found = [*reader.read_batch(limit=choose.randrange(1, 6))]
                case "bytes":
                    octets = reader.read_bytes(4096)
                    while octets:
                        record = left.pop(0)
                        if not isinstance(record, pylog.LossRecord):
                            assert record.raw and octets.startswith(record.raw)
                            octets = octets[len(record.raw) :]
                case "pending":
                    packets = [r for r in left if not isinstance(r, pylog.LossRecord)]
                    assert reader.pending() >= sum(len(r.raw or b"") for r in packets)
            for one in found:
                while left and isinstance(left[0], pylog.LossRecord) and one != left[0]:
                    left.pop(0)  # read_bytes counted it
                assert one == (left.pop(0) if left else None)
        rest = list(reader)
        assert left[len(left) - len(rest) :] == rest
        assert reader.received == received


def test_a_merged_reader_and_a_replay_give_batches_too() -> None:
    dump = NFLOG / "seq.bin"
    with pylog.open(dump) as reader:
        expected = [msgspec.structs.replace(record, offset=None) for record in reader]
    for records in (pylog.merge(dump, window_s=0), pylog.replay(dump, speed=None)):
        with records:
            found: list[Record] = []
            while batch := records.read_batch(limit=4):
                assert len(batch) <= 4
                found += [msgspec.structs.replace(record, offset=None) for record in batch]
        assert found == expected


# Writing


FILES = [name for name in outputs.names() if not outputs.description(name).place]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("dump", ["ipl/damaged.bin", "nflog/seq.bin"])
def test_a_batch_is_written_like_its_records(name: str, dump: str, tmp_path: Path) -> None:
    with pylog.open(samples.FIXTURES / dump, raw=True) as reader:
        records = list(reader)
    given_options = {"machine": False} if name == "pcapng" else {}
    paths = tmp_path / "one", tmp_path / "many"
    single = [[record] for record in records]
    several = [records[:1], records[1:5], [], records[5:]]
    for path, batches in zip(paths, (single, several), strict=True):
        with path.open("wb") as stream:
            output = outputs.open(name, Target(stream, str(path)), given_options)
            for batch in batches:
                output.write(Batch(batch))
            output.close()
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_row_of_a_record_has_text_for_times_and_bytes() -> None:
    record = PacketRecord("nflog", "nfulnl-le", timestamp_ns=5, payload=b"\1", raw=b"\2")
    row = row_of(record)
    assert isinstance(row, PacketRow)
    assert (row.timestamp_ns, row.payload, row.raw) == (
        "1970-01-01T00:00:00.000000005Z",
        "01",
        None,
    )
    assert (record.timestamp_ns, record.payload, record.raw) == (5, b"\1", b"\2")


@given(st.integers(0, 253402300799 * 10**9 + 999_999_999))
def test_times_have_six_decimals_or_nine(time_ns: int) -> None:
    text = rfc3339(time_ns)
    second, _, fraction = text.removesuffix("Z").partition(".")
    assert len(second) == 19 and len(fraction) == (9 if time_ns % 1000 else 6)
    assert int(fraction.ljust(9, "0")) == time_ns % 10**9


# Memory


def test_a_memo_forgets_everything_when_it_is_full() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return -key

    memo = Memo(make, 3)
    assert [memo[n] for n in (1, 2, 3, 1)] == [-1, -2, -3, -1] and made == [1, 2, 3]
    assert memo[4] == -4 and len(memo) == 1
    assert memo[1] == -1 and made == [1, 2, 3, 4, 1]


def test_records_of_a_rule_are_remembered_by_what_they_share() -> None:
    """Not by the packet: its lengths are another's choice."""
    from pylog.formats import ipl_records

    data = (samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin").read_bytes()
    stream = ipl.stream("ipl-5.1.2-lp64le")
    rules = ipl_records.packet_log(stream.layout_value).explained
    rules.clear()
    records = decoded(stream, data)
    assert 0 < len(rules) < len(records)


@pytest.mark.parametrize("dump", effort.sample(samples.dumps()), ids=samples.name)
@pytest.mark.parametrize("name", TAKE_ROWS)
def test_rows_are_written_like_records(name: str, dump: Path) -> None:
    streams = io.BytesIO(), io.BytesIO()
    plain, other = (outputs.open(name, Target(stream)) for stream in streams)
    with pylog.open(dump) as records, pylog.open(dump) as reader:
        rows = reader.rows(other.shows_payload)
        while batch := rows.read_batch():
            assert all(type(row) is row_type(KINDS[kind_of(row)]) for row in batch)
            other.write_rows(batch)
        while plain_batch := records.read_batch():
            plain.write(Batch(plain_batch))
    plain.close()
    other.close()
    assert streams[0].getvalue() == streams[1].getvalue()


def test_the_outputs_that_take_rows_are_these() -> None:
    streamed = [name for name in FILES if not outputs.description(name).needs_path]
    opened = {name: outputs.open(name, Target(io.BytesIO())) for name in streamed}
    assert [name for name, output in opened.items() if output.takes_rows] == TAKE_ROWS
