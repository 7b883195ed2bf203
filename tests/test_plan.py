"""The planner: one struct of a construct schema, nothing more and nothing less."""

from __future__ import annotations

import pytest
from construct import Bytes, Default, Int8ub, Int16ub, Int32ub, Int32ul, Int64ul, Struct, this

from pylog.formats.plan import Plan, leaves

SCHEMA = Struct(
    "a" / Int8ub,
    "_pad1" / Default(Bytes(3), bytes(3)),
    "b" / Int32ul,
    "inner" / Struct("c" / Int64ul[2], "d" / Bytes(3)),
    "_tail" / Default(Bytes(1), b"\0"),
    "rest" / Bytes(this.a),
)


def test_leaves_have_names_offsets_and_codes() -> None:
    assert [(x.name, x.offset, x.size, x.code) for x in leaves(SCHEMA)] == [
        ("a", 0, 1, "B"), ("b", 4, 4, "L"), ("c.0", 8, 8, "Q"), ("c.1", 16, 8, "Q"),
        ("d", 24, 3, "3s"),
    ]  # fmt: skip


def test_the_fixed_part_ends_at_the_first_variable_field() -> None:
    assert Plan(SCHEMA).size == 28


def test_unpack_skips_padding_and_reader_orders_names() -> None:
    plan = Plan(SCHEMA)
    data = b"?" + bytes(range(28))
    assert plan.unpack(data, 1)[0] == 0
    assert plan.unpack(data, 1)[1] == 0x07060504
    assert plan.reader(("d", "none", "a"))(data, 1) == (bytes([24, 25, 26]), None, 0)
    assert plan.reader(("a", "b"))(data, 1) == (0, 0x07060504)
    assert plan.reader(("a", "b", "none", "no"))(data, 1) == (0, 0x07060504, None, None)


def test_a_cut_header_gives_none_for_what_is_cut() -> None:
    plan = Plan(SCHEMA)
    assert plan.cut(bytes(range(28)), 0, 8)[:3] == (0, 0x07060504, None)
    assert plan.cut(bytes(range(28)), 0, 7)[:2] == (0, None)


def test_two_byte_orders_in_one_struct_are_refused() -> None:
    with pytest.raises(ValueError, match="byte orders"):
        Plan(Struct("a" / Int32ub, "b" / Int32ul))


def test_single_bytes_have_no_order() -> None:
    assert Plan(Struct("a" / Int8ub, "b" / Int32ul)).unpack(b"\1\2\0\0\0", 0) == (1, 2)
    assert Plan(Struct("a" / Int16ub)).unpack(b"\1\2", 0) == (0x102,)


def test_fields_that_go_together_are_taken_as_bytes_and_read_later() -> None:
    plan = Plan(SCHEMA)
    data = b"?" + bytes(range(28))
    read, values = plan.keyed(("a", "none"), ("b", "c.0", "d"))
    first, lacking, *runs = read(data, 1)
    assert (first, lacking) == (0, b"")
    assert runs == [bytes(range(4, 16)), bytes(range(24, 27))]  # b and c.0 are neighbours
    assert values(tuple(runs)) == plan.reader(("b", "c.0", "d"))(data, 1)
    read, _ = plan.keyed(("b", "a"), ("d",))  # in the order that is asked for
    assert read(data, 1) == (0x07060504, 0, bytes(range(24, 27)))
