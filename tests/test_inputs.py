"""What a SOURCE may stand for in every command: directories, globs, URLs."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import builders
import effort
import inprocess
import pytest
import samples

import pylog
from pylog.cli import main

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"


def run(*arguments: object, status: int = 0) -> CompletedProcess[bytes]:
    done = inprocess.run(*arguments)
    assert done.returncode == status, done.stderr.decode()
    return done


def count(path: Path) -> int:
    with pylog.open(path) as reader:
        return sum(1 for _ in reader)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A directory with logs in it and below it, and hidden files."""
    folder = tmp_path / "logs"
    (folder / "b").mkdir(parents=True)
    shutil.copy(FILTER, folder / "c.ipl")
    shutil.copy(SEQ, folder / "b/a.bin")
    shutil.copy(FILTER, folder / "b/b.ipl")
    (folder / ".hidden").write_text("no log")
    return folder


TOTAL = 2 * count(FILTER) + count(SEQ)


def sources(logs: Path) -> list[list[object]]:
    """Three ways to name those logs: a directory, a glob and a URL."""
    return [[logs], [f"{logs}/**/*.[ib]*"], [f"file://{logs}"]]


@pytest.mark.parametrize(("command", "way"), effort.sample(itertools.product(
    ["read", "replay", "info", "convert", "jobs", "capture"], range(3)
), least=6))  # fmt: skip
def test_every_command_reads_what_a_source_stands_for(
    command: str, way: int, logs: Path, tmp_path: Path
) -> None:
    if way == 2:
        pytest.importorskip("fsspec")
    source = sources(logs)[way]
    names = [f"{'file://' * (way == 2)}{logs}/{name}" for name in ("b/a.bin", "b/b.ipl", "c.ipl")]
    out = tmp_path / "out.json"
    if command == "info":
        found = [json.loads(line) for line in run("info", "--json", *source).stdout.splitlines()]
        assert [log["source"] for log in found] == names
        assert sum(sum(log["records"].values()) for log in found) == TOTAL
        return
    if command == "capture":
        run("capture", *source, "-w", tmp_path / "out.pcapng")
        assert count(tmp_path / "out.pcapng") == TOTAL
        return
    if command == "jobs":
        pytest.importorskip("pyarrow")
        assert main(["convert", "--jobs", "2", *map(str, source), str(out)]) == 0
    elif command == "convert":
        run("convert", *source, out)
    else:
        run(command, *["--speed", "max"] * (command == "replay"), *source, "-w", out)
    rows = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert len(rows) == TOTAL
    if command != "replay":
        assert list(dict.fromkeys(row["origin"] for row in rows)) == names


def test_a_single_file_of_a_directory_has_no_origin(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    shutil.copy(FILTER, tmp_path / "logs/a.ipl")
    assert run("read", "--to", "json", tmp_path / "logs").stdout == samples.golden(FILTER)


def test_urls_of_any_file_system_are_read(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://logs/fw.ipl", "wb") as file:
        file.write(FILTER.read_bytes())
    done = run("read", "--to", "json", "memory://logs/fw.ipl")
    assert done.stdout == samples.golden(FILTER)
    with pylog.open("memory://logs/fw.ipl") as reader:
        assert len(list(reader)) == count(FILTER)
    assert (
        b"is a URL: it cannot be followed"
        in run("read", "--follow", "memory://logs/fw.ipl", status=2).stderr
    )
    assert b"cannot open memory://none: " in run("read", "memory://none", status=1).stderr


def test_a_label_of_a_directory_is_that_of_its_files(logs: Path) -> None:
    done = run("read", "--to", "json", "--label", f"site={logs}", logs, SEQ)
    origins = {json.loads(line)["origin"] for line in done.stdout.splitlines()}
    assert origins == {"site", str(SEQ)}


def test_a_name_with_the_characters_of_a_glob_is_a_file_first(tmp_path: Path) -> None:
    path = tmp_path / "a[1].ipl"
    shutil.copy(FILTER, path)
    assert run("read", "--to", "json", path).stdout == samples.golden(FILTER)
    assert run("read", "--to", "json", f"capture:{tmp_path}").stdout == samples.golden(FILTER)


@pytest.mark.parametrize("command", ["read", "info", "replay", "pending"])
def test_a_source_that_names_no_file_is_an_error(command: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", f"{tmp_path}/*.ipl"):
        said = run(command, source, status=1).stderr.decode()
        assert said == f"pylog: {source} names no file\n"
    assert b"No such file" in run(command, tmp_path / "none", status=1).stderr


@pytest.mark.parametrize("command", ["read", "info", "replay", "convert", "capture"])
def test_files_that_are_no_logs_are_passed_over_on_request(
    command: str, logs: Path, tmp_path: Path
) -> None:
    (logs / "README.txt").write_text("what is in here\n")
    (logs / "b/empty").touch()
    line: list[object] = [command, logs]
    more: dict[str, list[object]] = {
        "convert": [tmp_path / "out.json"],
        "capture": ["-w", tmp_path / "out.pcapng"],
        "replay": ["--speed", "max"],
    }
    line += more.get(command, [])
    said = run(*line, status=1).stderr.decode()
    assert said.splitlines()[-1] == "pylog: --skip-unknown passes over files that are no logs"
    for path in tmp_path.glob("out*"):
        path.unlink()
    done = run(*line, "--skip-unknown")
    assert "pylog: 2 files are no logs, and passed over\n" in done.stderr.decode()
    if command != "capture":
        said = run(
            *line, *["--force"] * (command == "convert"), "--skip-unknown", "-v"
        ).stderr.decode()
        assert f"passed over: {logs}/README.txt, {logs}/b/empty\n" in said


@pytest.mark.parametrize("command", ["read", "replay", "info", "convert", "capture"])
def test_an_empty_file_among_several_is_a_note(command: str, logs: Path, tmp_path: Path) -> None:
    """Also one of which nothing is left when it is unpacked."""
    (logs / "b/b2").touch()
    (logs / "b/b3.gz").write_bytes(gzip.compress(b""))
    out: list[object] = [tmp_path / "out.json"] * (command == "convert")
    out += ["-w", tmp_path / "out.pcapng"] * (command == "capture")
    out += ["--speed", "max"] * (command == "replay")
    for source in ([logs], [f"{logs}/**/*"], [*sorted(logs.rglob("*.*")), logs / "b/b2"]):
        for path in tmp_path.glob("out*"):
            path.unlink()
        sources = [s for s in source if not (isinstance(s, Path) and s.name == ".hidden")]
        said = run(command, *sources, *out).stderr.decode().splitlines()
        assert said[0].endswith(": empty, and passed over")
        assert f"{logs}/b/b2" in said[0] and f"{logs}/b/b3.gz" in said[0]
        assert not any("--follow" in line for line in said)


def test_empty_files_alone_are_an_error(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    said = run("read", tmp_path, status=1).stderr.decode().splitlines()
    assert said[1:] == ["pylog: no log is left to be read"]
    said = run("read", tmp_path / "a", status=1).stderr.decode().splitlines()
    assert said == [f"pylog: {tmp_path}/a: the input is empty; pylog read --follow waits for the"
                    " first record"]  # fmt: skip


def test_the_label_and_origins_do_not_depend_on_empty_files(logs: Path) -> None:
    empty = logs / "b/b2"
    empty.touch()
    done = run("read", "--to", "json", "--label", f"x={empty}", empty, logs / "c.ipl")
    assert all(json.loads(line)["origin"] for line in done.stdout.splitlines())


@pytest.mark.parametrize("place", ["b/a", "b/c", "d"])
@pytest.mark.parametrize("command", ["read", "info", "convert"])
def test_captures_of_other_link_types_are_passed_over_on_request(
    command: str, place: str, logs: Path, tmp_path: Path
) -> None:
    (logs / place).write_bytes(
        builders.pcap_header(linktype=1) + builders.pcap_packet(bytes(60), 1)
    )
    out: list[object] = [tmp_path / "out.json"] * (command == "convert")
    said = run(command, "--skip-unknown", logs, *out).stderr.decode()
    assert said == "pylog: 1 file is no log, and passed over\n"
    for path in out:
        assert len(Path(str(path)).read_text().splitlines()) == TOTAL


def test_several_processes_read_what_is_left(logs: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (logs / "b/a").write_bytes(
        builders.pcap_header(linktype=1) + builders.pcap_packet(bytes(60), 1)
    )
    (logs / "b/b2").touch()
    out = tmp_path / "out.json"
    assert main(["convert", "--jobs", "1", "--skip-unknown", str(logs), str(out)]) == 0
    assert len(out.read_text().splitlines()) == TOTAL


def test_the_advice_is_not_given_to_those_who_follow_it(logs: Path) -> None:
    (logs / "b/b.ipl").write_bytes(FILTER.read_bytes()[:40])
    assert b"--skip-unknown" in run("read", logs, status=1).stderr
    assert b"--skip-unknown" not in run("read", "--skip-unknown", logs, status=1).stderr


def test_what_is_a_log_and_cannot_be_read_is_never_passed_over(logs: Path) -> None:
    (logs / "d.ipl").write_bytes(FILTER.read_bytes()[:40])
    said = run("read", "--skip-unknown", logs, status=1).stderr.decode()
    assert f"{logs}/d.ipl: " in said and "passed over\n" not in said
    if os.geteuid():
        (logs / "d.ipl").chmod(0)
        assert b"cannot open" in run("read", "--skip-unknown", logs, status=1).stderr


def test_a_directory_without_a_log_is_an_error(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    (text / "README.txt").write_text("what is in here\n")
    assert b"README.txt: this is text" in run("read", text, status=1).stderr
    said = run("read", "--skip-unknown", text, FILTER, status=1).stderr.decode()
    assert said == f"pylog: {text}: none of its 1 files is a log\n"
    said = run("read", "--skip-unknown", text / "README.txt", status=1).stderr.decode()
    assert said.endswith("pylog: no log is left to be read\n")


def test_several_recordings_are_replayed_one_after_the_other(logs: Path) -> None:
    done = run("replay", "--speed", "max", "--to", "json", logs / "c.ipl", logs / "c.ipl")
    assert len(done.stdout.splitlines()) == 2 * count(FILTER)
    said = run("replay", "--loop", logs, status=2).stderr
    assert said == b"pylog: --loop is for one file\n"
