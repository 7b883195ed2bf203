"""Others can add sources, formats, kinds of record and outputs: a distribution that does so.

tests/toy is built as a wheel and installed into a folder, where pylog finds it; no file of pylog is
touched. Its messages begin with TOY! and are packets, or steps: a kind of record of its own.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import samples
from pylog_toy.format import HEAD, PACKET, STEP, STEP_BODY

import pylog
from pylog import PacketRecord
from pylog.scrub import Scrubbing

TOY = Path(__file__).parent / "toy"
IP = bytes.fromhex("450000210000000040118e97c0000201c63364009c400035000d000068656c6c6f")
VERDICT = 'accept,"'


def packet(seq: int) -> bytes:
    return message(PACKET, seq, IP)


def step(seq: int) -> bytes:
    body = STEP_BODY.build({"handle": 2**63 + seq, "verdict": VERDICT.encode()})
    return message(STEP, seq, body)


def message(type: int, seq: int, body: bytes) -> bytes:
    size = HEAD.sizeof() + len(body)
    head = HEAD.build({"type": type, "size": size, "seq": seq, "time_ns": 10**18 + seq})
    return bytes(head) + body


LOG = [packet(1), step(2), packet(3), step(6), packet(7)]
SEEN = [("packet", 1), ("step", 2), ("packet", 3), ("loss", 4), ("step", 6), ("packet", 7)]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(TOY, folder / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=folder / "toy", check=True,
                   capture_output=True)  # fmt: skip
    (found,) = folder.glob("*.whl")
    return found


def installed(wheel: Path, folder: Path) -> Path:
    """A folder with what is in the wheel, as installers put it there."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def toy(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(wheel, tmp_path_factory.mktemp("installed"))


def distribution(folder: Path, name: str, points: dict[str, str], **modules: str) -> None:
    """Install one more distribution: its entry points by group, and its modules."""
    info = folder / f"{name}-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
    text = "".join(f"[{group}]\n{point}\n" for group, point in points.items())
    (info / "entry_points.txt").write_text(text)
    for module, code in modules.items():
        (folder / f"{module}.py").write_text(code)


def environment(folder: Path) -> dict[str, str]:
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def run(folder: Path, *arguments: object, status: int = 0) -> tuple[str, str]:
    """What pylog writes to standard output and standard error, with a folder of distributions."""
    done = subprocess.run(
        [sys.executable, "-m", "pylog", *map(str, arguments)],
        env=environment(folder), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.toy"
    path.write_bytes(b"".join(LOG))
    return path


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def seen(records: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(record["kind"], record["seq"]) for record in records]


def test_the_source_is_listed_with_those_of_pylog(toy: Path) -> None:
    out, err = run(toy, "sources")
    assert "toy:PATH           the toy's log\n" in out and "nflog:" in out and not err
    assert run(toy, "doctor", "toy")[0] == "ok      toy: Unix sockets can be made\n"
    assert "--largest N" in run(toy, "read", "--help")[0]


def test_the_source_is_read_live(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = [sys.executable, "-m", "pylog", "read", "--to", "json", "-n", str(len(SEEN))]
    reading = subprocess.Popen(
        [*command, f"toy:{path}"],
        env=environment(toy), stdout=subprocess.PIPE,
    )  # fmt: skip
    with reading, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for datagram in LOG:
            sender.sendto(datagram, str(path))
        out, _ = reading.communicate(timeout=30)
    records = objects(out.decode())
    assert reading.returncode == 0 and seen(records) == SEEN
    assert not any("offset" in record for record in records)
    assert not path.exists()


def test_a_dump_is_recognized_and_its_losses_are_records(toy: Path, log: Path) -> None:
    records = objects(run(toy, "read", "--to", "json", log)[0])
    assert seen(records) == SEEN
    assert records[3]["count"] == 2 and records[3]["reason"].startswith("sequence number 6")
    assert records[1] == {
        "kind": "step", "source": "toy", "layout": "toy-1", "offset": len(LOG[0]), "seq": 2,
        "timestamp": "2001-09-09T01:46:40.000000002Z", "verdict": VERDICT,
        "handle": str(2**63 + 2),
    }  # fmt: skip
    assert records[0]["saddr"] == "192.0.2.1"
    out = run(toy, "info", log)[0]
    assert "toy-1\n" in out and "packet 3, step 2, loss 1\n" in out
    log.write_bytes(LOG[0] + b"?" * 30 + LOG[1])
    damaged = objects(run(toy, "read", "--to", "json", log)[0])
    assert [(r["kind"], r.get("size")) for r in damaged] == [
        ("packet", None), ("loss", 30), ("step", None),
    ]  # fmt: skip


def test_text_has_the_names_and_values_of_a_kind_without_words(toy: Path, log: Path) -> None:
    lines = run(toy, "read", log)[0].splitlines()
    assert len(lines) == len(SEEN) and " udp 192.0.2.1:40000 -> 198.51.100.0:53 " in lines[0]
    assert lines[1] == (
        f"2001-09-09T01:46:40.000000002Z step source toy seq 2 verdict {VERDICT} handle {2**63 + 2}"
    )


def test_csv_has_the_fields_of_the_kind_in_its_last_columns(toy: Path, log: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(toy, "read", "--to", "csv", log)[0])))
    assert [(row["kind"], int(row["seq"])) for row in rows] == SEEN
    assert {"verdict", "handle"} <= rows[0].keys()
    assert (rows[1]["verdict"], rows[1]["handle"]) == (VERDICT, str(2**63 + 2))
    assert rows[0]["verdict"] == rows[0]["handle"] == ""


def test_tables_have_the_kind(toy: Path, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps.parquet"
    err = run(toy, "read", "--to", "parquet", "--kind", "step", "-w", out, log)[1]
    assert err == (
        "pylog: 3 packet records left out: --kind packet writes those\n"
        "pylog: 1 loss record left out: --kind loss writes those\n"
    )
    table = pq.read_table(out)
    assert table.column_names[-5:] == ["verdict", "handle", "extra", "origin", "host"]
    assert table.column("handle").to_pylist() == [2**63 + 2, 2**63 + 6]
    assert table.column("verdict").to_pylist() == [VERDICT, VERDICT]
    err = run(toy, "convert", log, tmp_path / "packets.parquet")[1]
    assert "pylog: 2 step records left out: --kind step writes those\n" in err
    assert pq.read_table(tmp_path / "packets.parquet").num_rows == 3
    run(toy, "convert", log, tmp_path / "all.sqlite")
    with sqlite3.connect(tmp_path / "all.sqlite") as database:
        steps = database.execute("SELECT verdict, handle FROM step ORDER BY seq").fetchall()
    assert steps == [(VERDICT, str(2**63 + 2)), (VERDICT, str(2**63 + 6))]


def test_columns_give_the_records_again(toy: Path, log: Path) -> None:
    code = f"""
import msgspec, pylog
from pylog.batch import Batch
from pylog.record import kinds
records = [r for r in pylog.open({str(log)!r}) if r.__struct_config__.tag == "step"]
late = msgspec.structs.replace(records[0], timestamp_ns=2**63, extra={{"a": 1}})
batch = Batch.of_columns({{"step": Batch([*records, late]).columns("step")}})
assert list(batch.records()) == [*records, late], batch.records()
assert {{type(r) for r in records}} == {{kinds()["step"]}}
"""
    subprocess.run([sys.executable, "-c", code], env=environment(toy), check=True)


def test_the_output_is_used_like_those_of_pylog(toy: Path, log: Path, tmp_path: Path) -> None:
    out = run(toy, "read", "--to", "lines", "--separator", ";", log)[0].splitlines()
    assert len(out) == len(SEEN)
    assert out[1].startswith("kind='step';source='toy';layout='toy-1';")
    run(toy, "convert", log, tmp_path / "a.lines")
    run(toy, "read", log, "-w", tmp_path / "read.lines")
    assert (tmp_path / "read.lines").read_bytes() == (tmp_path / "a.lines").read_bytes()
    assert len((tmp_path / "a.lines").read_text().splitlines()) == len(SEEN)
    run(toy, "read", "--to", "lines", "-w", tmp_path / "b", samples.FIXTURES / "nflog/batch.bin")
    with pylog.open(samples.FIXTURES / "nflog/batch.bin") as reader:
        assert len((tmp_path / "b").read_text().splitlines()) == len(list(reader))


def test_a_capture_holds_the_messages(toy: Path, log: Path, tmp_path: Path) -> None:
    capture = tmp_path / "a.pcapng"
    run(toy, "convert", log, capture)
    records = objects(run(toy, "read", "--to", "json", capture)[0])
    assert seen(records) == SEEN
    assert "toy-1\n" in run(toy, "info", capture)[0]
    scrubbed = objects(run(toy, "read", "--scrub", "--to", "json", capture)[0])
    assert seen(scrubbed) == SEEN and scrubbed[0]["saddr"] == "198.18.0.1"


def test_what_cannot_hold_the_kind_says_so_once(toy: Path, log: Path, tmp_path: Path) -> None:
    for name in ("ipl", "ipmon"):
        err = run(toy, "read", "--to", name, "-w", tmp_path / name, log)[1]
        assert err.count("records left out: step records (2)\n") == 1


def test_a_record_of_a_source_that_cannot_be_scrubbed_is_an_error() -> None:
    with pytest.raises(ValueError, match="packet records of elsewhere cannot be scrubbed"):
        Scrubbing().record(PacketRecord("elsewhere", "none", raw=b""))


def test_pylog_has_nothing_of_the_toy_where_it_is_not_installed(log: Path, tmp_path: Path) -> None:
    assert "toy" not in run(tmp_path, "sources")[0]
    assert "not a log that pylog recognizes" in run(tmp_path, "read", log, status=1)[1]
    code = "import sys, pylog.cli; pylog.cli.main(['sources']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path),
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert "importlib.metadata" not in done.stdout.split()


# Entry points that are wrong

NFLOG = samples.FIXTURES / "nflog/batch.bin"
BROKEN: dict[str, tuple[str, str, list[object]]] = {
    "pylog.sources": ("broken = gone.source", "cannot be imported: ModuleNotFoundError: No module",
                      ["read", "broken:x"]),
    "pylog.outputs": ("broken = empty", "lacks NAME, Output, see OutputModule in pylog.outputs",
                      ["read", "--to", "broken", NFLOG]),
    "pylog.formats": ("broken = kind", "declares the kind 'step', which is no BaseRecord",
                      ["read", "--layout", "broken-1", NFLOG]),
}  # fmt: skip
KIND = "from pylog_toy.format import *\nNAME, KINDS = 'broken', ('step',)\n"


@pytest.mark.parametrize("group", BROKEN)
def test_an_entry_point_that_cannot_be_used_is_reported_and_harms_no_other(
    group: str, wheel: Path, tmp_path: Path
) -> None:
    folder = installed(wheel, tmp_path / "with")
    point, problem, asking = BROKEN[group]
    distribution(folder, "pylog-broken", {group: point}, empty="", kind=KIND)
    named = f"pylog: the entry point {point} of pylog-broken 2.0 in {group} {problem}"
    out, err = run(folder, "read", "--to", "json", NFLOG)
    assert err.startswith(named) and err.count("\n") == 1
    assert out == run(tmp_path, "read", "--to", "json", NFLOG)[0]
    err = run(folder, *asking, status=2)[1]
    assert err.count(problem) == 2 or group == "pylog.formats"


def test_an_entry_point_has_the_name_of_its_module(wheel: Path, tmp_path: Path) -> None:
    folder = installed(wheel, tmp_path / "with")
    distribution(folder, "pylog-other", {"pylog.outputs": "rows = pylog_toy.lines"})
    err = run(folder, "read", NFLOG)[1]
    assert (
        "rows = pylog_toy.lines of pylog-other 2.0 in pylog.outputs has another NAME: lines" in err
    )


LINES = "from pylog_toy.lines import *\n"
FORMAT = "from pylog_toy.format import *\n"
CLASHES = [
    ("pylog.sources", "toy", "from pylog_toy.source import *\n", "source name 'toy'"),
    ("pylog.outputs", "lines", LINES, "output name 'lines'"),
    ("pylog.outputs", "other", f"{LINES}NAME = 'other'\n", "ending '.lines'"),
    ("pylog.formats", "toy", f"{FORMAT}LINKTYPES = ()\n", "format name 'toy'"),
    ("pylog.formats", "other", f"{FORMAT}NAME = 'other'\nKINDS = ()\n", "link type 147"),
    ("pylog.formats", "other",
     f"{FORMAT}NAME, LINKTYPES = 'other', ()\n"
     "class StepRecord(BaseRecord, frozen=True, tag='step'): pass\nKINDS = (StepRecord,)\n",
     "kind of record 'step'"),
]  # fmt: skip


@pytest.mark.parametrize(("group", "name", "code", "claim"), CLASHES)
def test_a_clash_is_an_error_that_names_both(
    group: str, name: str, code: str, claim: str, wheel: Path, tmp_path: Path
) -> None:
    folder = installed(wheel, tmp_path / "with")
    distribution(folder, "pylog-other", {group: f"{name} = other_module"}, other_module=code)
    asking = (
        ["convert", NFLOG, tmp_path / "out.sqlite"] if group != "pylog.sources" else ["sources"]
    )
    err = run(folder, *asking, status=2)[1]
    assert err.count("\n") == 1 and err.endswith(f"both claim the {claim}\n")
    assert "of pylog-toy 1.0" in err and "other_module" in err and "of pylog-other 2.0" in err


def test_an_option_of_pylog_stays_what_it_is(wheel: Path, tmp_path: Path) -> None:
    folder = installed(wheel, tmp_path / "with")
    code = f"{LINES}NAME, ENDINGS = 'other', ()\nOPTIONS = (Option('count', int, 1, 'how many'),)\n"
    distribution(
        folder, "pylog-other", {"pylog.outputs": "other = other_module"}, other_module=code
    )
    out, err = run(folder, "read", "-n", 1, NFLOG)
    assert out.count("\n") == 1
    assert "--count is an option of the command: count is not on the command line" in err
