"""Where records are from: their origin and host, in the API, the command line and tables."""

from __future__ import annotations

import io
import json
import platform
from pathlib import Path

import inprocess
import pytest
import samples
from msgspec.structs import replace

import pylog
from pylog import outputs
from pylog.batch import Batch
from pylog.formats.pcap_blocks import section_comment, section_host
from pylog.origins import NOWHERE, origin_of, origins_of
from pylog.record import LossRecord, PacketRecord
from pylog.testing import Device

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
TCPDUMP = samples.FIXTURES / "nflog/tcpdump.pcap"
DAMAGED = FILTER.read_bytes()[:500] + bytes(300) + FILTER.read_bytes()[500:]
HERE = platform.node()


def without_origin(record: pylog.Record) -> pylog.Record:
    return replace(record, origin=None, host=None)


def capture_of(path: Path, dump: bytes, host: str) -> Path:
    """A capture of the dump, as pylog writes it on a machine of that name."""
    with pytest.MonkeyPatch.context() as patch, path.open("wb") as stream:
        patch.setattr(platform, "node", lambda: host)
        output = outputs.open("pcapng", outputs.Target(stream, str(path)))
        with pylog.open(io.BytesIO(dump), raw=True) as reader:
            output.write(Batch(list(reader)))
        output.close()
    return path


# The API


@pytest.mark.parametrize("path", [FILTER, SEQ, TCPDUMP], ids=lambda path: path.name)
def test_the_origin_is_given_only_if_it_is_asked_for(path: Path) -> None:
    with pylog.open(path) as reader:
        plain = list(reader)
    with pylog.open(path, origin=True) as reader:
        marked = list(reader)
    with pylog.open(path, origin="fw1") as reader:
        named = [reader.read(), *reader.read_batch(), *reader]
    assert {(r.origin, r.host) for r in plain} == {(None, None)}
    assert {(r.origin, r.host) for r in marked} == {(str(path), None)}
    assert {(r.origin, r.host) for r in named if r is not None} == {("fw1", "fw1")}
    assert list(map(without_origin, marked)) == plain


def test_merged_sources_have_their_origin_and_a_single_one_has_not() -> None:
    with pylog.merge(FILTER, SEQ, labels={str(SEQ): "linux"}) as reader:
        found = {(r.source, r.origin, r.host) for r in reader}
    assert found == {("ipl", str(FILTER), None), ("nflog", "linux", "linux")}
    with pylog.merge(FILTER) as reader:
        assert {r.origin for r in reader} == {None}
    with pylog.merge(FILTER, SEQ, origin=False) as reader:
        assert {r.origin for r in reader} == {None}


def test_losses_have_their_origin(tmp_path: Path) -> None:
    with pylog.open(io.BytesIO(DAMAGED), origin="fw1") as reader:
        losses = [r for r in reader if isinstance(r, LossRecord)]
        assert losses and {loss.origin for loss in losses} == {"fw1"}
    with pylog.open(capture_of(tmp_path / "a", DAMAGED, "alpha"), origin=True) as reader:
        again = [r for r in reader if isinstance(r, LossRecord)]
    assert [loss.size for loss in again] == [loss.size for loss in losses]
    assert {(loss.origin, loss.host) for loss in again if loss.count} <= {
        (str(tmp_path / "a"), "alpha")
    }


def test_rows_have_their_origin() -> None:
    with pylog.open(FILTER, origin=True) as reader:
        rows = reader.rows().read_batch()
    assert rows and {row.origin for row in rows} == {str(FILTER)}


def test_a_live_source_has_the_name_of_this_machine() -> None:
    assert origin_of("ipl:/dev/ipl", True) == ("ipl:/dev/ipl", HERE)
    assert origin_of("ipl:/dev/ipl", "fw1") == ("fw1", HERE)
    with Device("ipl-5.1.2-lp64le") as device:
        assert device.open(layout="ipl-5.1.2-lp64le").decoder is not None


@pytest.mark.parametrize(
    ("sources", "asked", "labels", "message"),
    [
        (["a"], None, {"b": "x"}, "label 'x' is for b, which is not read; read are a"),
        (["a"], None, {"a": ""}, "a label is empty"),
    ],
)
def test_labels_that_make_no_sense_are_refused(
    sources: list[str], asked: bool | None, labels: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        origins_of(sources, asked, labels)


def test_origins_are_automatic_with_several() -> None:
    assert origins_of(["a"]) == [NOWHERE]
    assert origins_of(["a", Path("b")]) == [("a", None), ("b", None)]
    assert origins_of(["a", "b"], asked=False) == [NOWHERE, NOWHERE]
    assert origins_of([io.BytesIO()], asked=True) == [("a file object", None)]
    assert origins_of(["a\udcff"], asked=True) == [("a\\xff", None)]


# Captures


def test_a_capture_says_its_host(tmp_path: Path) -> None:
    one = capture_of(tmp_path / "one", FILTER.read_bytes(), "alpha, beta")
    two = capture_of(tmp_path / "two", SEQ.read_bytes(), "gamma")
    both = tmp_path / "both"
    both.write_bytes(one.read_bytes() + two.read_bytes() + TCPDUMP.read_bytes())
    with pylog.open(both, origin="label") as reader:
        hosts = {(r.source, r.host) for r in reader if isinstance(r, PacketRecord)}
    assert hosts == {("ipl", "alpha, beta"), ("nflog", "gamma"), ("nflog", "label")}
    with pylog.open(both) as reader:
        assert {r.host for r in reader} == {None}
    pytest.importorskip("pyarrow")
    table = pylog.read_table(both, origin=True)
    counts = {v["values"]: v["counts"] for v in table["host"].value_counts().to_pylist()}
    with pylog.open(both, origin=True) as reader:
        expected = [r.host for r in reader if isinstance(r, PacketRecord)]
    assert counts == {host: expected.count(host) for host in set(expected)}
    assert table["host"].to_pylist() == expected


@pytest.mark.parametrize("host", ["fw1", "fw1.example.org", "a, b", "höst"])
def test_the_comment_of_a_section_names_the_host(host: str) -> None:
    assert section_host(section_comment(host, "2026").encode()) == host


@pytest.mark.parametrize("comment", [b"", b"host ", b"host x", b"a host x, begun", b"pylog {}"])
def test_the_comment_of_another_program_names_no_host(comment: bytes) -> None:
    assert section_host(comment) is None


# Tables


@pytest.mark.parametrize("jobs", [1, 2])
def test_tables_of_several_files_have_the_origin(jobs: int) -> None:
    pytest.importorskip("pyarrow")
    paths, labels = [str(FILTER), str(SEQ)], {str(SEQ): "linux"}
    for kind in ("packet", "loss")[: 3 - jobs]:
        table = pylog.read_table(paths, kind=kind, jobs=jobs, labels=labels)
        expected = []
        for path in paths:
            with pylog.open(path) as reader:
                records = [r for r in reader if isinstance(r, PacketRecord) == (kind == "packet")]
            expected += [(labels.get(path, path), labels.get(path))] * len(records)
        found = zip(table["origin"].to_pylist(), table["host"].to_pylist(), strict=True)
        assert list(found) == expected
    assert pylog.read_table(paths[0], jobs=jobs)["origin"].null_count


def test_rows_can_be_selected_by_their_origin() -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.compute as pc

    where = pc.field("origin") == str(SEQ)
    table = pylog.read_table([FILTER, SEQ], columns=["source"], where=where)
    assert set(table["source"].to_pylist()) == {"nflog"} and table.num_rows == 827


# The command line


def test_the_command_line_says_origins() -> None:
    done = inprocess.text("read", "--label", f"fw={FILTER}", FILTER, SEQ)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2023-11-14T22:14:21.123457Z [fw] pass in fxp0 tcp ")
    assert all("[fw] " in line or f"[{SEQ}] " in line for line in lines)
    assert "[" not in inprocess.text("read", "-n", "1", FILTER).stdout
    done = inprocess.text("read", "--origin", "--to", "json", "-n", "1", FILTER)
    assert json.loads(done.stdout)["origin"] == str(FILTER)
    done = inprocess.text("read", "--origin", "--to", "csv", "-n", "1", FILTER)
    assert f",{FILTER}," in done.stdout.splitlines()[1]


def test_a_label_of_another_source_is_refused() -> None:
    done = inprocess.text("read", "--label", "fw=other", FILTER)
    assert done.returncode == 2
    assert done.stderr == f"pylog: label 'fw' is for other, which is not read; read are {FILTER}\n"
    done = inprocess.text("read", "--label", "fw", FILTER)
    assert done.returncode == 2 and "'fw' is not NAME=SOURCE" in done.stderr


@pytest.mark.parametrize("jobs", [[], ["--jobs", "2"]], ids=" ".join)
def test_convert_says_origins(tmp_path: Path, jobs: list[str]) -> None:
    if jobs:
        pytest.importorskip("pyarrow")
    out = tmp_path / "out.jsonl"
    done = inprocess.text("convert", *jobs, "--label", f"fw={FILTER}", FILTER, SEQ, out)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(r["source"], r["origin"], r.get("host")) for r in rows} == {
        ("ipl", "fw", "fw"), ("nflog", str(SEQ), None),
    }  # fmt: skip
