"""Tables hold what a Reader gives: the same rows in the same order, whatever the input."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import samples
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.compute as pc
import tables

import pylog
from pylog.backends import capture
from pylog.formats.columns import arrays
from pylog.table import bulk, schema
from pylog.table.bulk import Bulk
from pylog.table.schemas import TEXTS
from pylog.table.select import Selection


@contextlib.contextmanager
def small_pieces() -> Iterator[None]:
    """Few bytes at a time, so that a short log takes many windows, stretches and walks."""
    with (
        mock.patch.multiple(bulk, MIN_WINDOW=4096, MAX_WINDOW=8192, STRETCH=1024),
        mock.patch.object(arrays, "SPACING", 512),
    ):
        yield


def agree(data: bytes, layout: str | None = None) -> None:
    """Tables and streamed records of the data are the same."""
    records = tables.streamed(data, layout)
    for kind in tables.KINDS:
        names = [*schema(kind).names, *TEXTS[kind]]
        table = pylog.read_table(io.BytesIO(data), kind=kind, columns=names, layout=layout)
        assert tables.plain(table) == tables.rows(records, kind, names)


@pytest.mark.parametrize("dump", samples.dumps(), ids=samples.name)
def test_a_table_has_the_rows_that_a_reader_gives(dump: Path) -> None:
    agree(dump.read_bytes())


RAW = [
    dump for dump in samples.dumps("*/*.bin")
    if 1000 < dump.stat().st_size < 60000 and "2.x" not in samples.origins()[samples.name(dump)]
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_table_of_a_damaged_log_has_the_rows_that_a_reader_gives(data: st.DataObject) -> None:
    dump = data.draw(st.sampled_from(RAW), label="dump")
    damaged = data.draw(st.composite(tables.spliced)(dump.read_bytes()), label="damaged")
    layout = samples.origins()[samples.name(dump)]["layout"]
    with small_pieces() if data.draw(st.booleans()) else contextlib.nullcontext():
        agree(damaged, layout)


def test_columns_come_in_the_order_asked_for_and_filters_may_name_others() -> None:
    wanted = (pc.field("protocol") == 6) & (pc.field("family") == "ipv4")
    table = pylog.read_table(
        samples.FIXTURES / "nflog/seq.bin", columns=["dport", "saddr_text"], where=wanted
    )
    records = tables.streamed((samples.FIXTURES / "nflog/seq.bin").read_bytes())
    assert table.column_names == ["dport", "saddr_text"]
    assert table.to_pylist() == [
        {"dport": r.dport, "saddr_text": r.saddr}
        for r in records
        if isinstance(r, pylog.PacketRecord) and r.protocol == 6 and r.family == "ipv4"
    ]


def test_a_filter_may_name_text_columns() -> None:
    wanted = pc.field("saddr_text") == "10.1.1.1"
    dump = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
    table = pylog.read_table(dump, columns=["saddr_text"], where=wanted)
    assert set(table.column("saddr_text").to_pylist()) == {"10.1.1.1"}


@pytest.mark.parametrize(("given", "told"), [
    ({"columns": ["nothing"]}, "no column 'nothing' of packet records; there are source, layout"),
    ({"kind": "packets"}, "no kind of record 'packets'; there are packet, flow, loss"),
    ({"where": pc.field("nothing") == 1}, "nothing"),
])  # fmt: skip
def test_what_there_is_not_is_refused(given: dict[str, Any], told: str) -> None:
    dump = samples.FIXTURES / "nflog/seq.bin"
    with pytest.raises(ValueError, match=told):
        pylog.read_table(dump, **given)


def test_several_logs_are_one_table_and_one_schema() -> None:
    logs = [samples.FIXTURES / "nflog/seq.bin", samples.FIXTURES / "ipl/damaged.bin"]
    whole = pylog.read_table(logs)
    assert whole.schema == schema()
    assert pa.concat_tables([pylog.read_table(log) for log in logs]).to_pylist() == (
        whole.to_pylist()
    )


@pytest.mark.parametrize("dump", [
    "ipl/v5-1-2-lp64le-nat.all.bin", "ipl/damaged.bin", "nflog/batch.bin", "nflog/damaged.bin",
])  # fmt: skip
def test_two_parts_make_the_whole_and_the_left_tells_where_the_right_begins(dump: str) -> None:
    path = samples.FIXTURES / dump
    with pylog.open(path) as reader:
        layout = reader.layout
    whole = tables.plain(pylog.read_table(path))
    for cut in range(0, path.stat().st_size + 100, 97):
        with Bulk(capture.connect(path, {})[0], layout=layout, stop=cut) as left:
            before = packets(left)
        assert left.end >= min(cut, path.stat().st_size)
        with Bulk(capture.Part(path, left.end), layout=layout, start=left.end) as right:
            assert before + packets(right) == whole


def packets(bulk: Bulk) -> list[dict[str, Any]]:
    """The rows of the packets, in their order."""
    batches = [batch for _, batch in bulk.batches({"packet": Selection("packet")})]
    return tables.plain(pa.Table.from_batches(batches, schema()))
