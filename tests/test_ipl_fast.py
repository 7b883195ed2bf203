"""IPFilter's packets as the stream decodes them, against a second opinion: construct's parse, and
a loop over the rows of the table.
"""

from __future__ import annotations

import itertools

import effort
import msgspec
import pytest
from hostile import record_of
from hypothesis import given
from hypothesis import strategies as st

from pylog.formats import Message, ipl_layouts, mapping
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_records import packet_log
from pylog.formats.ipl_stream import IplStream
from pylog.formats.packet import swapped
from pylog.record import PacketRecord, Record, Row

LAYOUTS = list(ipl_layouts.layouts())

PROTOCOLS = (6, 17, 1, 2, 58, 132)
FRAGMENTS = (0, 0x4000, 0x8000, 0x2000, 0x2001, 0x0001, 0x1000, 0x1FFF, 0x3FFF)
"""flags_offset: the fast branch takes the first three alone."""
LENGTHS = (None, 0, 47, 49, 1500)
"""What ip_len says: right, none, too few bytes, more than were kept."""
LAYER4 = bytes.fromhex("0b003039000000010000000050120000000000000102030405060708")
"""A port of 0x0b00, which is type 11 and code 0 of ICMP."""


def packet(version: int, protocol: int, bits: int, length: int | None, layer4: bytes) -> bytes:
    """An IPv4 packet; its length is right unless another one is given."""
    length = 20 + len(layer4) if length is None else length
    return bytes((version, 0)) + length.to_bytes(2) + b"\x12\x34" + bits.to_bytes(2) + bytes(
        (64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
    ) + layer4  # fmt: skip


def check(stream: IplStream, data: bytes) -> PacketRecord:
    """That the record in the data is what the reference makes of it; the record."""
    layout = stream.layout_value
    parsed = layout.schema("ipf").parse(data)
    found: list[Record | Row] = []
    stream.records(data, [Message(0, len(data))], True, found)
    (record,) = found
    assert isinstance(record, PacketRecord)
    reference = mapping.reference(packet_log(layout), parsed, bytes(parsed.packet))
    assert record == msgspec.structs.replace(reference, offset=0, raw=data)
    return record


def changeable(layout: Layout, data: bytes) -> list[int]:
    """The places of the bytes that may change: not the magic and the lengths, which find a record.

    Those of the packet come twice.
    """
    plan = layout.plan("ipf")
    kept = set(range(len(layout.magic("ipf"))))
    for name in ("ipl_magic", "ipl_dsize", "fl_hlen", "fl_plen"):
        if name in plan.places:
            leaf = plan.places[name]
            kept |= set(range(leaf.offset, leaf.offset + leaf.size))
    return [*(set(range(len(data))) - kept), *range(plan.size, len(data))]


def lenient(layout: Layout) -> IplStream:
    stream = IplStream(layout)
    stream.lenient = True
    return stream


@pytest.mark.parametrize("abi", sorted({layout.abi.name for layout in LAYOUTS}))
def test_packets_of_every_layout_are_decoded_as_the_reference_does(abi: str) -> None:
    for layout in (layout for layout in LAYOUTS if layout.abi.name == abi):
        stream, chance = lenient(layout), effort.chance(layout.name)
        for protocol, bits in effort.sample(itertools.product(PROTOCOLS, FRAGMENTS)):
            good = packet(0x45, protocol, bits, chance.choice(LENGTHS), LAYER4)
            if layout.host_order_ip:
                good = swapped(good)
            data = record_of(layout, good)
            record = check(stream, data)
            assert (record.fragment is None) == (not bits & 0x3FFF)
            check(stream, record_of(layout, good[: chance.randrange(len(good))]))
            changed = bytearray(data)
            changed[chance.choice(changeable(layout, data))] ^= chance.choice((1, 15, 128, 255))
            check(stream, bytes(changed))


@given(
    st.sampled_from(LAYOUTS), st.sampled_from((0x45, 0x46, 0x4F, 0x44, 0x60, 0x05)),
    st.sampled_from(PROTOCOLS) | st.integers(0, 255),
    st.sampled_from(FRAGMENTS) | st.integers(0, 0xFFFF),
    st.none() | st.integers(0, 0xFFFF), st.binary(max_size=40), st.none() | st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=3),
)  # fmt: skip
def test_any_packet_is_decoded_as_the_reference_does(
    layout: Layout, version: int, protocol: int, bits: int, length: int | None, layer4: bytes,
    cut: int | None, changes: list[tuple[int, int]],
) -> None:  # fmt: skip
    data = bytearray(record_of(layout, packet(version, protocol, bits, length, layer4)[:cut]))
    places = changeable(layout, bytes(data))
    for at, octet in changes:
        data[places[at % len(places)]] ^= octet
    check(lenient(layout), bytes(data))
