"""Outputs are found by name, checked without being made, and take records or columns."""

from __future__ import annotations

import io
import itertools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import effort
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import pylog
from pylog import FlowRecord, LossRecord, PacketRecord, outputs
from pylog.batch import Batch
from pylog.cli import main
from pylog.outputs import Description, Target
from pylog.record import KINDS, Fragment, Record, Vlan

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

NAT = samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"

# Source by name

COUNTING = '''
"""An output that connects when it is made."""
import socket, os
from pylog import outputs
from pylog.options import Option

NAME = "counting"
ENDINGS = (".counted",)
OPTIONS = (Option("place", str, "nowhere", "where to"),)

def check(*, place):
    if place == "moon":
        raise ValueError("the moon is too far")

class Output(outputs.Output):
    def __init__(self, target, *, place):
        with open(os.environ["OPENINGS"], "a") as file:
            file.write(place + "\\n")
        self._stream = target.stream

    def write(self, batch):
        self._stream.write(b"x" * len(batch))

    def flush(self):
        self._stream.flush()

    def close(self):
        self.flush()
'''


@pytest.fixture
def openings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of what was opened by an output that lies in a folder of its own."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "counting.py").write_text(COUNTING)
    monkeypatch.setattr(outputs, "__path__", [*outputs.__path__, str(folder)])
    monkeypatch.setenv("OPENINGS", str(tmp_path / "openings"))
    (tmp_path / "openings").touch()
    outputs._collected.cache_clear()
    outputs._modules.cache_clear()
    monkeypatch.delitem(sys.modules, "pylog.outputs.counting", raising=False)
    yield tmp_path / "openings"
    outputs._collected.cache_clear()
    outputs._modules.cache_clear()
    outputs.description.cache_clear()


def test_an_output_is_one_file_and_is_opened_once(
    openings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["read", "--to", "counting", "--place", "here", str(NAT)]) == 0
    assert openings.read_text() == "here\n"
    assert main(["convert", str(NAT), str(tmp_path / "a.counted"), "--place", "there"]) == 0
    assert openings.read_text() == "here\nthere\n"
    with pylog.open(NAT) as reader:
        assert (tmp_path / "a.counted").read_bytes() == b"x" * len(list(reader))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["read", "--help"])
    assert "--place NAME" in capsys.readouterr().out


def test_options_are_checked_before_anything_is_opened(
    openings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["read", "--to", "counting", "--place", "moon", "-w", str(out), str(NAT)]) == 2
    assert main(["convert", str(NAT), str(tmp_path / "a.counted"), "--place", "moon"]) == 2
    assert "the moon is too far" in capsys.readouterr().err
    assert outputs.check("counting", {"place": "here"}) == {"place": "here"}
    assert outputs.check("counting") == {"place": "nowhere"}
    assert openings.read_text() == "" and not out.exists()


@pytest.mark.parametrize(("name", "options", "message"), [
    ("ipl", {"layout": "ipl-9"}, "ipl-9"),
    ("ipl", {"layout": "ipl-4.1-ilp32le", "af_inet6": 10}, "has no fl_family"),
    ("ipmon", {"tz": "Mars/Olympus"}, "no time zone"),
    ("ipmon", {"ipmon_version": "1.0"}, "1.0"),
    ("parquet", {"columns": "port"}, "no column 'port' of packet records"),
    ("arrow", {"kind": "traces"}, "kind is 'traces'"),
    ("sqlite", {"columns": "dport"}, "--columns is for one kind of record"),
    ("text", {"tz": "Mars/Olympus"}, "no time zone"),
    ("text", {"exclude": "port"}, "no column 'port'"),
    ("csv", {"colums": "dport"}, "csv has no option colums; did you mean columns?"),
    ("json", {"exclude": "sdr"}, r"did you mean saddr\? \(pylog help columns lists all\)"),
])  # fmt: skip
def test_check_refuses_what_open_refuses(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        outputs.check(name, options)
    with pytest.raises(ValueError, match=message):
        outputs.open(name, Target(io.BytesIO(), os.devnull), options)


def test_each_output_is_described() -> None:
    assert outputs.description("parquet") == Description(
        "parquet", (".parquet",), outputs.description("arrow").options, binary=True,
        appends=False, columns=True, extra="arrow",
    )  # fmt: skip
    assert outputs.endings() == {
        ".arrow": "arrow", ".feather": "arrow", ".cef": "cef", ".csv": "csv", ".ipfix": "ipfix",
        ".ipl": "ipl", ".ipmon": "ipmon",
        ".jsonl": "json", ".json": "json", ".ndjson": "json", ".kernel": "kernel",
        ".parquet": "parquet", ".pflog": "pflog",
        ".pcapng": "pcapng", ".pcap": "pcapng", ".sqlite": "sqlite", ".sqlite3": "sqlite",
        ".db": "sqlite", ".txt": "text", ".text": "text", ".log": "text",
    }  # fmt: skip


# read --to a table


def read(*arguments: str | Path) -> int:
    return main(["read", *map(str, arguments)])


@pytest.mark.parametrize(("kind", "more"), effort.sample(itertools.product(
    KINDS, [[], ["-n", "100000"], ["--merge"]]
), least=4))  # fmt: skip
def test_read_writes_the_table_that_convert_writes(
    kind: str, more: list[str], tmp_path: Path
) -> None:
    """In bulk, and by records: with a count or merged they are read one by one."""
    for ending, name in ((".parquet", "parquet"), (".arrow", "arrow"), (".sqlite", "sqlite")):
        one, other = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
        assert main(["convert", "--kind", kind, str(NAT), str(SEQ), str(one)]) == 0
        assert read("--to", name, "--kind", kind, "-w", other, *more, NAT, SEQ) == 0
        assert content(other, "--merge" in more) == content(one, "--merge" in more)


def content(path: Path, any_order: bool) -> list[Any]:
    """The rows of a file; if their order may differ, sorted and without their places."""
    if path.suffix == ".sqlite":
        database = sqlite3.connect(path)
        (name,) = database.execute("SELECT name FROM sqlite_master").fetchone()
        found = [dict(zip([c[0] for c in rows.description], row, strict=True))
                 for rows in [database.execute(f"SELECT * FROM {name}")]
                 for row in rows]  # fmt: skip
    elif path.suffix == ".parquet":
        found = pq.read_table(path).to_pylist()
    else:
        with pa.ipc.open_file(path) as file:
            found = file.read_all().to_pylist()
    return sorted(found, key=str) if any_order else found


def test_a_table_goes_into_a_pipe_too() -> None:
    command = [sys.executable, "-m", "pylog", "read", "--to", "parquet", str(SEQ)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    found = pq.read_table(io.BytesIO(done.stdout))
    assert found.num_rows == pylog.read_table(SEQ).num_rows > 0


def test_a_database_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert read("--to", "sqlite", SEQ) == 2
    assert "sqlite needs a file: name it with -w" in capsys.readouterr().err


# --append


@pytest.mark.parametrize("name", ["text", "json", "csv", "pcapng", "ipl", "ipmon"])
def test_what_is_appended_follows_what_was_there(name: str, tmp_path: Path) -> None:
    for number in range(2):
        out = tmp_path / "out"
        assert read("--to", name, "--append", "-w", out, NAT) == 0
        assert number or out.stat().st_size > 0
    if name == "pcapng":
        with pylog.open(NAT) as once, pylog.open(out) as twice:
            assert len(list(twice)) == 2 * len(list(once))
        return
    assert read("--to", name, "-w", tmp_path / "once", NAT) == 0
    once_ = (tmp_path / "once").read_bytes()
    again = once_.partition(b"\r\n")[2] if name == "csv" else once_
    assert out.read_bytes() == once_ + again


def test_a_table_cannot_be_appended_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    assert read("--to", "parquet", "--append", "-w", tmp_path / "a", NAT) == 2
    assert "--append is not for parquet" in capsys.readouterr().err
    assert read("--append", NAT) == 2
    assert (tmp_path / "a").read_bytes() == b"mine"


# Batches


def without_raw(records: list[Record]) -> list[Record]:
    return [replace(record, raw=None) for record in records]


def in_columns(records: list[Record]) -> Batch:
    batch = Batch(records)
    return Batch.of_columns({kind: batch.columns(kind) for kind in KINDS})


def by_kind(records: list[Record]) -> list[Record]:
    return [record for kind in KINDS.values() for record in records if type(record) is kind]


@pytest.mark.parametrize("dump", effort.sample(samples.dumps(), least=20), ids=samples.name)
def test_columns_become_the_records_again(dump: Path) -> None:
    with pylog.open(dump, raw=True) as reader:
        records = list(reader)
    again = in_columns(records)
    assert again.in_columns and len(again) == len(records)
    assert again.records() == by_kind(without_raw(records))
    assert again.counts() == Batch(records).counts()


def test_the_columns_of_the_bulk_reader_become_the_readers_records() -> None:
    for dump in (NAT, SEQ):
        with pylog.open(dump) as reader:
            records = by_kind(list(reader))
        found = [r for kind in KINDS for columns in pylog.iter_batches(dump, kind=kind)
                 for r in Batch.of_columns({kind: columns}).records()]  # fmt: skip
        assert found == records


NAMES = st.none() | st.text(st.characters(codec="utf-8"), max_size=4) | st.integers(0, 9)
TEXTS = st.none() | st.text(st.characters(codec="utf-8"), max_size=4)
TIMES = st.none() | st.integers(-62135596800 * 10**9, 253402300799 * 10**9 + 999_999_999)
JSON = st.none() | st.dictionaries(
    TEXTS.filter(bool), st.integers(-9, 9) | TEXTS, min_size=1, max_size=2
)  # no format gives an empty mapping
SHORT = st.none() | st.integers(0, 255)
V4 = st.ip_addresses(v=4).map(str)
FRAGMENTS = st.builds(Fragment, SHORT, SHORT, st.booleans(), st.booleans())
VLANS = st.lists(st.builds(Vlan, st.integers(0, 4095), st.integers(0, 7)), max_size=2).map(tuple)


@given(st.lists(
    st.builds(PacketRecord, st.just("ipl"), st.just("x"), timestamp_ns=TIMES, observed_ns=TIMES,
              action=NAMES, hook=NAMES, reason=NAMES, indev=NAMES, physoutdev=NAMES, prefix=TEXTS,
              family=st.sampled_from(["ipv4", None, "arp"]), saddr=V4, extra=JSON,
              fragment=st.none() | FRAGMENTS, vlan=st.none() | VLANS,
              payload=st.none() | st.binary(max_size=3), short=st.none() | st.booleans())
    | st.builds(FlowRecord, st.just("ipl"), st.just("x"), event=NAMES, flow_type=NAMES,
                packets=st.none() | st.dictionaries(st.sampled_from("abc"), st.integers(0, 2**63)))
    | st.builds(LossRecord, st.just("ipl"), st.just("x"), timestamp_ns=TIMES,
                count=st.none() | st.integers(0, 2**70), reason=TEXTS),
    max_size=8,
))  # fmt: skip
def test_whatever_records_hold_columns_give_it_back(records: list[Record]) -> None:
    assert in_columns(records).records() == by_kind(records)


def test_a_batch_gives_the_columns_that_are_asked_for() -> None:
    with pylog.open(NAT) as reader:
        records = list(reader)
    for batch in (Batch(records), in_columns(records)):
        columns = batch.columns("flow", ["saddr", "sport"])
        assert columns.schema.names == ["saddr", "sport"]
        flows = [r for r in records if isinstance(r, FlowRecord)]
        assert columns.to_pydict() == {
            "saddr": [r.saddr for r in flows], "sport": [r.sport for r in flows],
        }  # fmt: skip
    with pytest.raises(ValueError, match="records need the columns source and layout"):
        Batch.of_columns({"flow": columns}).records()
