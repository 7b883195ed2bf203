"""Fields and kinds are declared once: what follows from the declarations, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import effort
import msgspec
import pytest
import samples

import pylog
from pylog import LossRecord, PacketRecord
from pylog.record import KINDS, MAX_SECONDS, BaseRecord, Field, columns_of, fields_of, row_of
from pylog.record.registry import row_type

ROOT = Path(__file__).resolve().parents[1]
DUMPS = ("nflog/batch.bin", "nflog/seq.bin", "ipl/v5-1-2-lp64le-filter.ipf.bin",
         "ipl/v4-1-35-lp64le-nat.nat.bin", "ipl/damaged.bin", "ip/raw.pcap")  # fmt: skip
FIELD = """    protocol: _Protocol = None
    ttl: Annotated[int | None, Field("how many hops are left", "u8", since=6)] = None
"""
WRITE = """
import sys
from pylog.cli import main
out, *dumps = sys.argv[1:]
for number, dump in enumerate(dumps):
    for form in ("json", "text", "csv"):
        assert main(["read", "--to", form, "-w", f"{out}/{number}.{form}", dump]) == 0
from pylog.record import PacketRecord, columns_of
print(*columns_of(PacketRecord))
"""


def with_ttl(folder: Path) -> Path:
    """A copy of pylog with one more field in the middle of a packet, and no other change."""
    shutil.copytree(ROOT / "pylog", folder / "pylog")
    kinds = folder / "pylog/record/kinds.py"
    code = kinds.read_text()
    assert code.count(FIELD.splitlines(True)[0]) == 2  # of packets and flows
    kinds.write_text(code.replace(FIELD.splitlines(True)[0], FIELD, 1))
    return folder


def written(package: Path, out: Path) -> tuple[list[dict[str, str]], list[str]]:
    """What a copy of pylog writes of each dump in three forms, and the columns that it has."""
    out.mkdir()
    dumps = [str(samples.FIXTURES / dump) for dump in DUMPS]
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(out), *dumps],
        capture_output=True, text=True, cwd=out, env={"PYTHONPATH": str(package)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    forms = [
        {form: (out / f"{number}.{form}").read_text() for form in ("json", "text", "csv")}
        for number in range(len(dumps))
    ]
    return forms, done.stdout.split()


def test_a_new_field_in_the_middle_changes_no_other(tmp_path: Path) -> None:
    before, columns = written(ROOT, tmp_path / "before")
    after, more = written(with_ttl(tmp_path / "with_ttl"), tmp_path / "after")
    assert more == [*columns, "ttl"]
    for dump, old, new in zip(DUMPS, before, after, strict=True):
        assert new["json"] == old["json"] and new["text"] == old["text"], dump
        head, *rows = old["csv"].splitlines()
        assert new["csv"].splitlines() == [f"{head},ttl", *(f"{row}," for row in rows)], dump


@pytest.mark.parametrize("dump", effort.sample(samples.dumps(), least=20), ids=samples.name)
def test_every_value_has_the_type_that_is_declared(dump: Path) -> None:
    """Decoders fill records by place: msgspec checks the types only when it reads."""
    with pylog.open(dump, raw=True) as reader:
        for record in reader:
            octets = msgspec.msgpack.encode(record)
            again = msgspec.msgpack.decode(octets, type=type(record))
            assert msgspec.msgpack.encode(again) == octets
    with pylog.open(dump) as reader:
        rows = reader.rows()
        while batch := rows.read_batch():
            for row in batch:
                text = msgspec.json.encode(row)
                assert msgspec.json.encode(msgspec.json.decode(text, type=type(row))) == text


def test_a_row_has_the_fields_of_its_record() -> None:
    for record in KINDS.values():
        row = row_type(record)
        assert row.__struct_fields__ == record.__struct_fields__
        assert row.__struct_config__.tag == record.__struct_config__.tag


def test_a_row_says_what_its_record_says() -> None:
    with pylog.open(samples.FIXTURES / "nflog/batch.bin") as reader:
        rows = reader.rows().read_batch()
    with pylog.open(samples.FIXTURES / "nflog/batch.bin") as reader:
        assert rows == [row_of(record) for record in reader]


def test_every_field_is_explained() -> None:
    for kind in KINDS.values():
        for name, field in fields_of(kind).items():
            assert field.meaning and (field.column or name == "raw"), name


def test_the_first_columns_keep_their_places() -> None:
    assert " ".join(columns_of(*KINDS.values())).startswith(
        "source layout offset timestamp observed seq count action short direction hook rule group"
        " prefix reason indev outdev physindev physoutdev mark uid gid hwaddr hwtype hwheader vlan"
        " family protocol saddr daddr sport dport tcp_flags icmp_type icmp_code fragment length"
        " caplen cut event flow_type nat_saddr nat_daddr nat_sport nat_dport packets bytes size log"
        " extra payload"
    )


# Methods


def test_the_kind_is_the_word_in_the_json() -> None:
    for word, kind in KINDS.items():
        assert kind.kind == word
        assert json.loads(pylog.to_json(kind("ipl", "ipl-5.1.2-lp64le")))["kind"] == word


def test_times_are_datetimes_in_utc() -> None:
    record = PacketRecord("ipl", "x", timestamp_ns=1_700_000_000_123_456_789, observed_ns=-1)
    assert record.timestamp == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert record.observed == datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert PacketRecord("ipl", "x").timestamp is None and LossRecord("ipl", "x").observed is None
    assert LossRecord("ipl", "x", timestamp_ns=0).timestamp == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_time_is_the_one_of_the_json_without_nanoseconds() -> None:
    with pylog.open(samples.FIXTURES / "nflog/tcpdump.pcap") as reader:
        for record in reader:
            row = json.loads(pylog.to_json(record))
            for name, time in (("timestamp", record.timestamp), ("observed", record.observed)):
                text = row.get(name)
                assert time == (None if text is None else datetime.fromisoformat(text))


@pytest.mark.parametrize("time_ns", [(MAX_SECONDS + 1) * 10**9, -62135596801 * 10**9])
def test_a_time_outside_the_years_of_datetime_is_an_overflow(time_ns: int) -> None:
    record = PacketRecord("ipl", "x", timestamp_ns=time_ns)
    with pytest.raises(OverflowError):
        _ = record.timestamp


def test_the_last_time_that_a_decoder_gives_is_a_datetime() -> None:
    record = PacketRecord("ipl", "x", timestamp_ns=MAX_SECONDS * 10**9 + 999_999_999)
    assert record.timestamp == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize("dump", DUMPS)
def test_equal_records_have_equal_hashes(dump: str) -> None:
    with pylog.open(samples.FIXTURES / dump) as reader, pylog.open(reader.backend.name) as again:
        first, second = list(reader), list(again)
    assert first == second and list(map(hash, first)) == list(map(hash, second))
    distinct: list[pylog.Record] = []
    for record in first:
        if record not in distinct:
            distinct.append(record)
    assert len(set(first) | set(second)) == len(distinct)
    assert len(set(map(hash, distinct))) == len(distinct)


@pytest.mark.parametrize(("one", "same"), [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({"a": 1}, {"a": 1.0}),
    ({"a": [1, {"b": []}]}, {"a": [True, {"b": []}]}),
    ({}, {}),
])  # fmt: skip
def test_equal_mappings_give_equal_hashes(one: dict[str, Any], same: dict[str, Any]) -> None:
    records = [PacketRecord("ipl", "x", extra=extra) for extra in (one, same)]
    assert records[0] == records[1] and len(set(records)) == 1
    assert len({*records, PacketRecord("ipl", "x"), PacketRecord("ipl", "x", extra={"c": 1})}) == 3


def test_methods_cost_a_record_no_memory_and_are_no_fields() -> None:
    for kind in KINDS.values():
        names = kind.__struct_fields__
        assert not {"kind", "timestamp", "observed"} & set(names)
        assert not hasattr(kind("ipl", "x"), "__dict__")
        plain = msgspec.defstruct("Plain", list(names), gc=False)
        assert sys.getsizeof(kind("ipl", "x")) == sys.getsizeof(plain(*[None] * len(names)))


class StepRecord(BaseRecord, frozen=True, gc=False, tag="step"):
    """A kind of another distribution."""

    verdict: Annotated[str | None, Field("what the rule decided", "word")] = None


def test_a_kind_of_another_distribution_has_the_methods() -> None:
    step = StepRecord("toy", "toy-1", timestamp_ns=10**9, verdict="drop", extra={"a": 1})
    assert step.kind == "step" and step.observed is None
    assert step.timestamp == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert len({step, StepRecord("toy", "toy-1", timestamp_ns=10**9, verdict="drop",
                                 extra={"a": 1})}) == 1  # fmt: skip
