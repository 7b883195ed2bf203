"""Records that are made of columns are those that rows give: the same values, types and order.

A Reader of a long file makes its records of columns. Here it does so of short logs too, good,
damaged and mixed ones, and must give the same as a Reader that does not, also in its counts.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import effort
import pytest
import samples
import tables
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numpy")

import numpy as np

import pylog
from pylog import decoder
from pylog.formats.columns import arrays, nfulnl_layouts, records
from pylog.record import PacketRecord

ORIGINS = samples.origins()
DUMPS = [dump for dump in samples.dumps("*/*.bin") if dump.parent.name in ("nflog", "ipl")]
SHORT = [dump for dump in DUMPS if 1000 < dump.stat().st_size < 60000]


@contextlib.contextmanager
def even_few() -> Iterator[list[int]]:
    """Records are made of columns even if there are few. Gives how many messages had columns."""
    counts: list[int] = []

    class Counted(records.Made):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            counts.append(len(self))

    with (
        mock.patch.object(decoder, "LEAST_OF_COLUMNS", 2),
        mock.patch.object(decoder, "LOT_OF_COLUMNS", 100),
        mock.patch.object(records, "Made", Counted),
    ):
        yield counts


def read(data: bytes, layout: str | None, by_columns: bool) -> tuple[Any, ...]:
    """All records of a log as they are written out, the types of their values, and the counts."""
    with pylog.open(io.BytesIO(data), layout=layout) as reader:
        reader.decoder.by_columns = by_columns
        made = list(reader)
        counts = reader.received, reader.dropped, reader.uncounted, reader.malformed, reader.flaws
    types = [[type(getattr(record, name)) for name in record.__struct_fields__] for record in made]
    return made, types, counts


def agree(data: bytes, layout: str | None = None) -> int:
    """Compare both ways; how many messages had columns."""
    expected = read(data, layout, by_columns=False)
    with even_few() as counts:
        assert read(data, layout, by_columns=True) == expected
    return sum(counts)


@pytest.mark.parametrize("dump", effort.sample(DUMPS, least=12), ids=samples.name)
def test_records_of_columns_are_those_of_rows(dump: Path) -> None:
    agree(dump.read_bytes(), ORIGINS[samples.name(dump)]["layout"])


@effort.examples(60)
@given(st.data())
def test_a_damaged_log_gives_the_same_records_of_columns(data: st.DataObject) -> None:
    dump = data.draw(st.sampled_from(SHORT), label="dump")
    damaged = data.draw(st.composite(tables.spliced)(dump.read_bytes()), label="damaged")
    agree(damaged, ORIGINS[samples.name(dump)]["layout"])


def test_all_messages_of_a_mixed_recording_have_columns_though_its_numbers_begin_anew() -> None:
    recording = next(dump for dump in DUMPS if dump.name == "seq.bin").read_bytes()
    made, _, _ = read(recording, None, by_columns=False)
    packets = sum(type(record) is PacketRecord for record in made)
    # the last messages are too near the end
    assert agree(recording * 2) >= 2 * packets - 10


def test_no_record_shares_its_extra_with_another() -> None:
    recording = next(dump for dump in DUMPS if dump.name == "seq.bin").read_bytes()
    with even_few():
        made, _, _ = read(recording, None, by_columns=True)
    extras = [record.extra for record in made if type(record) is PacketRecord and record.extra]
    parts = [part for extra in extras for part in (extra, *extra.values())]
    parts = [part for part in parts if isinstance(part, dict | list)]
    assert len({id(part) for part in parts}) == len(parts)


def test_a_long_file_gives_records_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "long.bin"
    recording = next(dump for dump in DUMPS if dump.name == "seq.bin").read_bytes()
    path.write_bytes(recording)
    with mock.patch("pylog.engine.OF_RECORDS", 1), even_few() as counts, pylog.open(path) as reader:
        assert reader.decoder.by_columns
        made = list(reader)
    assert made == read(recording, None, by_columns=False)[0]
    assert sum(counts) > len(made) // 2


def test_rows_with_equal_sums_have_codes_of_their_own() -> None:
    rows = [np.array([1, 2, 1, 3, 2]), np.array([7, 7, 7, 7, 8])]
    with mock.patch.object(arrays, "_factors", lambda count: np.zeros(count, np.uint64)):
        codes, first = arrays.alike(rows)
    pairs = list(zip(*(part.tolist() for part in rows), strict=True))
    assert [pairs[first[code]] for code in codes] == pairs
    assert len(first) == len(set(pairs))


def attribute(kind: int, octets: bytes) -> bytes:
    return struct.pack("<HH", 4 + len(octets), kind) + octets + bytes(-len(octets) % 4)


def test_a_log_of_messages_that_all_differ_in_their_layouts_is_read_in_bounded_memory() -> None:
    packet = bytes.fromhex("4500001c00010000401100000a0000010a000002003500350008" + "0000")
    messages = []
    for i in range(1500):
        seq, prefix, header = (
            attribute(12, i.to_bytes(4)),
            attribute(10, b"p" * (i % 200 + 1) + b"\0"),
            attribute(16, bytes(60000 if i == 700 else i // 200)),
        )
        parts = attribute(1, bytes.fromhex("08000100")) + prefix + header + seq
        body = bytes([2, 0, 0, 5]) + parts + attribute(9, packet)
        messages.append(struct.pack("<IHHII", 16 + len(body), 0x400, 0, 0, 0) + body)
    with (
        mock.patch.object(nfulnl_layouts, "MAXIMUM", 100),
        mock.patch.object(nfulnl_layouts, "_together", wraps=nfulnl_layouts._together) as together,
    ):
        assert agree(b"".join(messages), "nfulnl-le") > 1000
        shapes = [call.args[0] for call in together.call_args_list]
    assert max(map(len, shapes)) <= 100
    assert max(len(of.heads) for layouts in shapes for of in layouts) <= nfulnl_layouts.LONGEST_HEAD
