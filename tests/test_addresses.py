"""Addresses are the same text in every table, and their 16 bytes are columns on request."""

from __future__ import annotations

import csv
import json
import random
import sqlite3
from pathlib import Path
from typing import Any
from unittest import mock

import effort
import inprocess
import pytest
import samples
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tables

import pylog
from pylog.batch import Batch
from pylog.cli import main
from pylog.formats.addresses import addresses as text_of
from pylog.formats.columns import Addresses
from pylog.record import KINDS, kind_of
from pylog.table import addresses
from pylog.table.schemas import MAPPED, packed, schema

SEQ = samples.FIXTURES / "nflog/seq.bin"
NAT = samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin"
TABLES = ("parquet", "arrow", "sqlite")


def check_texts(values: list[bytes]) -> None:
    """The texts of 4 or 16 bytes each are those of pylog.formats.addresses."""
    four, six = (
        np.frombuffer(b"".join(v for v in values if len(v) == size), np.uint8).reshape(-1, size)
        for size in (4, 16)
    )
    column = Addresses(four, six, np.array([len(value) == 16 for value in values], bool))
    made = addresses.texts(column)
    made.validate(full=True)
    assert made.to_pylist() == [text_of[value] for value in values]
    assert addresses.packed(column).to_pylist() == [
        value if len(value) == 16 else MAPPED + value for value in values
    ]


GROUP = st.sampled_from((0, 0, 0, 1, 0xF, 0x10, 0xFF, 0x100, 0xFFF, 0x1000, 0xFFFF))
FOUR = st.binary(min_size=4, max_size=4)
SIX = st.binary(min_size=16, max_size=16) | st.lists(GROUP, min_size=8, max_size=8).map(
    lambda groups: b"".join(group.to_bytes(2) for group in groups)
)


@effort.examples(300)
@given(st.lists(FOUR) | st.lists(SIX) | st.lists(FOUR | SIX), st.integers(1, 9))
@example([], 1)
@example([MAPPED + bytes(4), bytes(4), bytes(16)], 2)
@example([bytes(4), *[MAPPED + bytes([n % 5] * 4) for n in range(300)], bytes(4)], 7)
@example([bytes([n % 7] * 16) for n in range(300)], 9)
def test_the_texts_of_a_column_are_those_of_records(values: list[bytes], rows: int) -> None:
    with mock.patch.object(addresses, "ROWS", rows):
        check_texts(values)


def test_zeros_in_any_groups_are_shortened_as_in_records() -> None:
    chance = random.Random(8)
    check_texts([
        b"".join((0 if zeros >> i & 1 else chance.choice((1, 0xFFFF))).to_bytes(2)
                 for i in range(8))
        for zeros in range(256) for _ in range(8)
    ])  # fmt: skip


def test_every_octet_and_every_group_has_its_text() -> None:
    check_texts([bytes([n, 255 - n, n, 7]) for n in range(256)])
    check_texts([n.to_bytes(2) + b"\1" * 14 for n in range(1 << 16)])


def cells(kind: str, path: Path, name: str) -> list[Any]:
    """A column of a file that convert made."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).column(name).to_pylist())
    if path.suffix == ".arrow":
        with pa.ipc.open_file(path) as file:
            return list(file.read_all().column(name).to_pylist())
    if path.suffix == ".sqlite":
        rows = sqlite3.connect(path).execute(f'SELECT "{name}" FROM {kind}')
        return [value for (value,) in rows]
    with path.open(newline="") as file:
        return [row[name] or None for row in csv.DictReader(file) if row["kind"] == kind]


@pytest.mark.parametrize(("dump", "kind", "names"), [
    (SEQ, "packet", ("saddr", "daddr")),
    (NAT, "flow", ("saddr", "daddr", "nat_saddr", "nat_daddr")),
])  # fmt: skip
def test_addresses_are_text_in_all_files_alike(
    dump: Path, kind: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    records = [r for r in tables.streamed(dump.read_bytes()) if kind_of(r) == kind]
    for form in (*TABLES, "csv"):
        out = tmp_path / f"a.{form}"
        options = ["--kind", kind] if form != "csv" else []
        assert main(["convert", *options, str(dump), str(out)]) == 0
        for name in names:
            assert cells(kind, out, name) == [getattr(record, name) for record in records]


@pytest.mark.parametrize("form", TABLES)
def test_their_bytes_are_columns_on_request(form: str, tmp_path: Path) -> None:
    out = tmp_path / f"a.{form}"
    columns = "daddr_bytes,saddr,saddr_bytes"
    options = ["--kind", "packet", "--columns", columns]
    assert main(["convert", *options, str(SEQ), str(out)]) == 0
    records = tables.streamed(SEQ.read_bytes())
    assert {"ipv4", "ipv6"} <= {getattr(record, "family", None) for record in records}
    for name in columns.split(","):
        assert cells("packet", out, name) == [tables.value(record, name) for record in records]
    if form == "sqlite":
        types = sqlite3.connect(out).execute("SELECT name, type FROM pragma_table_info('packet')")
        assert types.fetchall() == [
            ("daddr_bytes", "BLOB"), ("saddr", "TEXT"), ("saddr_bytes", "BLOB")
        ]  # fmt: skip


def test_the_types_are_strings_and_16_bytes() -> None:
    for kind in KINDS:
        names = list(packed(kind))
        assert not set(names) & set(schema(kind).names)
        for name in names:
            assert schema(kind).field(name.removesuffix("_bytes")).type == pa.string()
            table = pylog.read_table(NAT, kind=kind, columns=[name])
            assert table.schema.field(name).type == pa.binary(16)
    assert list(packed("packet")) == ["saddr_bytes", "daddr_bytes"]
    assert list(packed("flow")) == [
        "saddr_bytes", "daddr_bytes", "nat_saddr_bytes", "nat_daddr_bytes"
    ]  # fmt: skip


def test_records_come_back_from_the_bytes_as_well() -> None:
    make = pylog.PacketRecord
    records = [
        make("nflog", "x", family="ipv4", saddr="192.0.2.1", daddr="10.0.0.1"),
        make("nflog", "x", family="ipv6", saddr="::ffff:192.0.2.1", daddr="2001:db8::1"),
        make("nflog", "x", family="ipv6"),
    ]
    for names in (["saddr", "daddr"], ["saddr_bytes", "daddr_bytes"], ["saddr", "daddr_bytes"],
                  ["saddr_bytes", "saddr", "daddr"]):  # fmt: skip
        held = Batch(records).columns("packet", ["source", "layout", "family", *names])
        assert Batch.of_columns({"packet": held}).records() == records


def test_filters_take_addresses_as_text_or_as_bytes() -> None:
    (address,) = {"10.66.1.2"} & set(pylog.read_table(SEQ).column("saddr").to_pylist())
    whole = pylog.read_table(SEQ, columns=["saddr"])
    count = whole.column("saddr").to_pylist().count(address)
    octets = pa.scalar(tables.packed(address), pa.binary(16))
    prefix = pc.starts_with(pc.field("saddr"), "10.66.1.")
    for where in (pc.field("saddr") == address, pc.field("saddr_bytes") == octets):
        assert pylog.read_table(SEQ, columns=["dport"], where=where).num_rows == count > 0
    assert pylog.read_table(SEQ, columns=["dport"], where=prefix).num_rows >= count


def test_the_error_for_an_old_name_says_the_new_one(tmp_path: Path) -> None:
    expected = "no column 'saddr_text' of packet records: 'saddr' is the address as text"
    for options in ({"columns": ["saddr_text"]}, {"where": pc.field("saddr_text") == "10.0.0.1"}):
        with pytest.raises(ValueError, match=expected):
            pylog.read_table(SEQ, **options)
    with pytest.raises(ValueError, match="no column 'nat_daddr_text' of flow records: 'nat_daddr'"):
        pylog.read_table(NAT, kind="flow", columns=["nat_daddr_text"])
    with pytest.raises(
        ValueError, match="no column 'dport_text' of packet records; did you mean dport"
    ):
        pylog.read_table(SEQ, columns=["dport_text"])
    for form in ("parquet", "csv", "json"):
        run = inprocess.run("read", "--to", form, "--columns", "saddr_text", str(SEQ))
        assert run.returncode == 2 and b"'saddr' is the address as text" in run.stderr


@pytest.mark.parametrize("form", ["csv", "json"])
def test_bytes_are_columns_of_tables_only(form: str) -> None:
    run = inprocess.run("read", "--to", form, "--columns", "daddr_bytes", str(SEQ))
    assert run.returncode == 2
    assert (b"no column 'daddr_bytes': only parquet, arrow and sqlite have it; 'daddr' is the"
            b" address as text") in run.stderr  # fmt: skip
    run = inprocess.run("read", "--to", form, "--columns", "daddr", str(SEQ))
    first = run.stdout.splitlines()[form == "csv"]
    found = json.loads(first)["daddr"] if form == "json" else first.decode()
    assert found == tables.streamed(SEQ.read_bytes())[0].daddr  # type: ignore[union-attr]
