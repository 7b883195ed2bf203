"""Fields and kinds are declared once: what follows from the declarations, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import effort
import msgspec
import pytest
import samples

import pylog
from pylog.record import KINDS, columns_of, fields_of, row_of
from pylog.record.registry import ROWS

ROOT = Path(__file__).resolve().parents[1]
DUMPS = ("nflog/batch.bin", "nflog/seq.bin", "ipl/v5-1-2-lp64le-filter.ipf.bin",
         "ipl/v4-1-35-lp64le-nat.nat.bin", "ipl/damaged.bin", "ip/raw.pcap")  # fmt: skip
FIELD = """    protocol: _Protocol = None
    ttl: Annotated[int | None, Field("how many hops are left", "u8", since=3)] = None
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
    assert {*KINDS.values()} == {*ROWS}
    for record, row in ROWS.items():
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
