"""A format as a table alone: the reference, the stream and the columns make the same of it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from construct import Bytes, Int8ub, Int16ub, Int32ub, Int64ub, Struct
from hypothesis import given
from hypothesis import strategies as st

from pylog.formats import Message, Stream
from pylog.formats import columns as cols
from pylog.formats.columns import arrays
from pylog.formats.columns.mapped import Mapped, MappedRows
from pylog.formats.columns.packet import SIZE
from pylog.formats.mapping import (
    ALL_ONES,
    Mapping,
    Number,
    Packet,
    Words,
    packets,
    reference,
)
from pylog.formats.plan import Plan
from pylog.record import PacketRecord, Record, Row
from pylog.record.places import AT_ACTION, AT_INDEV, AT_RULE, AT_UID

HEADER = Struct("len" / Int16ub, "action" / Int8ub, "pad" / Int8ub, "rule" / Int32ub,
                "uid" / Int32ub, "ifname" / Bytes(8))  # fmt: skip


def explain(action: int, ifname: bytes) -> tuple[str, str]:
    return ("block" if action else "pass"), ifname.rstrip(b"\0").decode()


MAPPING = Mapping("toy", "toy", Plan(HEADER), (
    Number(AT_RULE, "rule", add=1, none=ALL_ONES, of_rule=True),
    Number(AT_UID, "uid", none=ALL_ONES),
    Words((AT_ACTION, AT_INDEV), ("action", "ifname"), explain),
    Packet(),
))  # fmt: skip


class Toy(Stream):
    """Records of a header and a packet."""

    source = layout = "toy"

    def __init__(self) -> None:
        super().__init__()
        self._packets = packets(self, MAPPING)

    def measure(self, data: bytes, pos: int) -> int:
        raise NotImplementedError

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        found: list[Record | Row] = []
        self.records(data, [message], raw, found)
        (record,) = found
        assert isinstance(record, PacketRecord)
        return record

    def records(
        self, data: bytes, messages: Any, raw: bool, found: list[Record | Row], numbers: Any = None
    ) -> None:
        self._packets(data, messages, raw, found, numbers, self.rows)


def packet(protocol: int, fragment: int, more: bytes) -> bytes:
    size = 20 + 20 + len(more)
    head = bytes((0x45, 0)) + size.to_bytes(2) + b"\x12\x34" + fragment.to_bytes(2)
    rest = bytes((64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2))
    return head + rest + bytes(range(20)) + more


FIELDS = st.fixed_dictionaries({
    "len": st.just(0), "pad": st.integers(0, 255), "action": st.integers(0, 1),
    "rule": st.sampled_from((0, 7, 2**32 - 2, 2**32 - 1)),
    "uid": st.sampled_from((0, 1000, 2**31, 2**32 - 1)),
    "ifname": st.sampled_from((b"em0", b"vtnet0", b"")).map(lambda name: name.ljust(8, b"\0")),
})  # fmt: skip
PACKETS = st.builds(
    packet, st.sampled_from((1, 6, 17, 50)), st.sampled_from((0, 0, 0x2000)), st.binary(max_size=9)
) | st.binary(max_size=12)  # fmt: skip


def value(column: Any, i: int) -> Any:
    """A cell of a column, as the record has it."""
    if isinstance(column, cols.NumberColumn):
        valid = column.valid is None or column.valid[i]
        return int(column.values[i]) if valid else None
    if isinstance(column, cols.Repeated):
        return column.values[column.codes[i]]
    if isinstance(column, cols.Blobs):
        start = int(column.starts[i])
        return column.data[start : start + int(column.sizes[i])].tobytes()
    return None


@given(st.lists(st.tuples(FIELDS, PACKETS), min_size=1, max_size=8))
def test_a_table_gives_the_same_records_three_ways(logged: list[tuple[Any, bytes]]) -> None:
    stream, data, messages = Toy(), b"", []
    for fields, content in logged:
        logged_as = HEADER.build(fields) + content
        messages.append(Message(len(data), len(data) + len(logged_as)))
        data += logged_as
    found: list[Record | Row] = []
    stream.lenient = True
    stream.records(data, messages, False, found)
    for (fields, content), message, record in zip(logged, messages, found, strict=True):
        expected = reference(MAPPING, fields, content)
        assert record == msgspec.structs.replace(expected, offset=message.start)
    array = np.frombuffer(data + bytes(SIZE), np.uint8)
    mapped = Mapped(stream, MAPPING)
    starts = np.array([message.start for message in messages])
    ends = np.array([message.end for message in messages])
    heads = arrays.gather(array, starts, mapped.dtype)
    rows = MappedRows(mapped, data, array, starts, ends, heads, np.ones(len(starts), bool))
    plain = [i for i in range(len(messages)) if i not in rows.irregular]
    if not plain:
        return
    for name in ("source", "layout", "offset", "action", "rule", "uid", "indev", "family",
                 "protocol", "sport", "dport", "tcp_flags", "icmp_type", "length", "caplen",
                 "payload", "timestamp_ns", "seq", "count", "extra"):  # fmt: skip
        column = rows.column(name)
        assert [value(column, i) for i in range(len(plain))] == [
            getattr(found[i], name) for i in plain
        ], name


def test_regular_packets_are_read_as_columns() -> None:
    data = HEADER.build({"len": 0, "action": 1, "pad": 0, "rule": 4, "uid": 9,
                         "ifname": b"em0".ljust(8, b"\0")}) + packet(6, 0, b"")  # fmt: skip
    mapped, array = Mapped(Toy(), MAPPING), np.frombuffer(data + bytes(SIZE), np.uint8)
    starts, ends = np.array([0]), np.array([len(data)])
    heads = arrays.gather(array, starts, mapped.dtype)
    rows = MappedRows(mapped, data, array, starts, ends, heads, np.ones(1, bool))
    assert not len(rows.irregular)
    cells = [value(rows.column(name), 0) for name in ("action", "rule", "uid", "indev", "sport")]
    assert cells == ["block", 5, 9, "em0", 1]


def test_a_number_has_at_most_four_bytes() -> None:
    with pytest.raises(ValueError, match="bytes has 8 bytes"):
        Mapping("toy", "toy", Plan(Struct("bytes" / Int64ub)), (Number(AT_UID, "bytes"),))


def test_a_row_of_a_field_that_a_layout_lacks_says_nothing() -> None:
    mapping = Mapping("toy", "toy", Plan(Struct("rule" / Int32ub)), (*MAPPING.rows[:2], Packet()))
    assert [row.field for row in mapping.numbers] == ["rule"]
    record = reference(mapping, {"rule": 1}, packet(6, 0, b""))
    assert isinstance(record, PacketRecord) and (record.rule, record.uid) == (2, None)
