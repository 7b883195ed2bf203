"""Columns of IPFilter's packet log: what the stream decodes, in every layout and of any packet."""

from __future__ import annotations

import effort
import pytest
from hostile import record_of
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import tables
from tables import agree, small_pieces

from pylog.formats import columns, ipl, ipl_layouts
from pylog.formats.ipl_layouts import Layout
from pylog.formats.packet import swapped

LAYOUTS = list(ipl_layouts.layouts())
NAMES = [layout.name for layout in LAYOUTS]


PACKETS = [
    packet for packet in tables.payloads()
    if packet[0] >> 4 in (4, 6) and (packet[0] >> 4 == 6 or packet[0] & 15 >= 5)
]  # fmt: skip
PLAIN = next(p for p in PACKETS if p[0] == 0x45 and p[9] == 6 and not p[7] and len(p) >= 40)


def logged(layout: Layout, packet: bytes) -> bytes:
    """A record of a packet, as the layout's kernel keeps it."""
    is_four = packet[:1] and packet[0] >> 4 == 4
    return record_of(layout, swapped(packet) if layout.host_order_ip and is_four else packet)


def fitting(layout: Layout, packet: bytes) -> bytes:
    """As much of a packet as a record of the layout may have; before 4.0 there is no IPv6."""
    most = 20 + 2 ** (8 * layout.plan("ipf").places["fl_plen"].size) - 1
    if not layout.version.has_magic and packet[0] >> 4 != 4:
        packet = PLAIN
    return packet[:most]


def irregular(name: str, data: bytes) -> int:
    """How many records of a log the columns leave to the stream."""
    reader = columns.of(ipl.stream(name, data))
    assert reader is not None
    rows = reader.read(data, 0, len(data))
    assert rows is not None and len(rows.starts) > 1
    return len(rows.irregular)


@pytest.mark.parametrize("name", effort.sample(NAMES, least=8))
def test_packets_of_every_layout_and_kind_are_regular(name: str) -> None:
    layout = next(layout for layout in LAYOUTS if layout.name == name)
    chosen = effort.sample([packet for packet in PACKETS if len(packet) >= 40], least=60)
    kinds = [fitting(layout, packet) for packet in chosen]
    data = b"".join(logged(layout, packet) for packet in kinds) + logged(layout, PLAIN) * 4
    assert irregular(name, data) == 0
    agree(data, name)


def test_a_body_longer_than_its_length_field_is_regular() -> None:
    layout = next(layout for layout in LAYOUTS if layout.name == "ipl-3.4.35-lp64le")
    packet = bytearray(PLAIN[:40])
    packet[2:4] = (1000).to_bytes(2)
    record = bytearray(logged(layout, bytes(packet)) + bytes(960))
    plan = layout.plan("ipf")
    plan.set(record, "ipl_dsize", len(record))
    plan.set(record, "fl_plen", 980 & 0xFF)
    data = bytes(record) * 5
    assert irregular(layout.name, data) == 0
    agree(data, layout.name)


@st.composite
def logs(draw: st.DrawFn) -> tuple[str, bytes]:
    """A layout, and a log of it: packets with a changed byte or cut short; or it is damaged."""
    layout = draw(st.sampled_from(LAYOUTS))
    log = b""
    for packet in draw(st.lists(st.sampled_from(PACKETS), min_size=2, max_size=12)):
        octets = bytearray(fitting(layout, packet))
        for at, value in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 255)),
                                       max_size=1)):  # fmt: skip
            octets[at % len(octets)] ^= value
        log += logged(layout, bytes(octets[: draw(st.none() | st.integers(1, 80))]))
    if draw(st.booleans()):
        log = tables.spliced(draw, log)
    return layout.name, log + logged(layout, PLAIN) * 3


@effort.examples(60)
@given(logs())
def test_columns_of_any_packets_are_what_the_stream_decodes(log: tuple[str, bytes]) -> None:
    with small_pieces():
        agree(log[1], log[0])
