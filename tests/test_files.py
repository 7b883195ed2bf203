"""The files that commands write: their permissions, full disks, and process ids."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import effort
import inprocess
import pytest
import samples

import pylog
from pylog import BackendError
from pylog.cli import convert
from pylog.cli._daemon import PidFile
from pylog.formats.ipl_encode import LAYOUT
from pylog.transports.files import Appended, Written, create

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
ENDINGS = (".jsonl", ".csv", ".pcapng", ".ipl", ".parquet", ".arrow", ".sqlite")
FULL = os.path.exists("/dev/full")
needs_full = pytest.mark.skipif(not FULL, reason="there is no /dev/full")


def run(*arguments: object, umask: int = 0o022) -> subprocess.CompletedProcess[bytes]:
    before = os.umask(umask)
    try:
        return inprocess.run(*arguments)
    finally:
        os.umask(before)


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# Permissions


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The modes of the file beside OUT, at each time that records are written to it."""
    found: list[int] = []
    before = convert._write

    def spy(*arguments: Any) -> bool:
        path = arguments[-1]
        found.append(mode(path))
        assert os.path.getsize(path) == 0
        failed = before(*arguments)
        found.append(mode(path))
        return failed

    monkeypatch.setattr(convert, "_write", spy)
    yield found


@pytest.mark.parametrize(
    ("ending", "umask"),
    list(zip(ENDINGS, [0o077, 0o027, 0o002, 0o077, 0o027, 0o077, 0o007], strict=True)),
)
def test_a_file_has_its_permissions_before_there_is_a_byte_in_it(
    tmp_path: Path, seen: list[int], ending: str, umask: int
) -> None:
    from pylog.cli import main

    out = tmp_path / f"out{ending}"
    before = os.umask(umask)
    try:
        assert main(["convert", str(FILTER), str(out)]) == 0
    finally:
        os.umask(before)
    assert seen == [0o666 & ~umask] * 2 and mode(out) == 0o666 & ~umask


@pytest.mark.parametrize(
    ("ending", "kept"),
    [(".jsonl", 0o600), (".sqlite", 0o640), (".parquet", 0o666), (".csv", 0o444)],
)
def test_what_takes_a_files_place_has_its_permissions_all_the_time(
    tmp_path: Path, seen: list[int], ending: str, kept: int
) -> None:
    from pylog.cli import main

    out = tmp_path / f"out{ending}"
    out.touch()
    out.chmod(kept)
    if kept == 0o444 and os.geteuid() != 0:
        pytest.skip("a file that cannot be written")
    assert main(["convert", "--force", str(FILTER), str(out)]) == 0
    assert seen == [kept] * 2 and mode(out) == kept and out.stat().st_size


def test_a_data_set_that_takes_anothers_place_has_its_permissions(tmp_path: Path) -> None:
    from pylog.dataset import DataSet

    target = tmp_path / "set.parquet"
    target.mkdir()
    target.chmod(0o700)
    with DataSet(str(target), force=True) as made:
        assert mode(made.folder) == 0o700
    assert mode(target) == 0o700
    before = os.umask(0o027)
    try:
        with DataSet(str(tmp_path / "new.parquet")) as made:
            assert mode(made.folder) == 0o750
    finally:
        os.umask(before)


def test_nobody_may_open_a_file_before_its_permissions_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old"
    old.touch()
    old.chmod(0o640)
    made = []

    def chmod(path: str, wanted: int) -> None:
        made.append((mode(path), wanted))

    monkeypatch.setattr(os, "chmod", chmod)
    create(str(tmp_path / "new"), like=str(old))
    assert made == [(0o600, 0o640)]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["read", "--to", "json", "-w"], "out"),
        (["read", "--to", "pcapng", "-w"], "out"),
        (["capture", "-w"], "out.pcapng"),
        (["capture", "--compress", "-w"], "out.pcapng.gz"),
        (["capture", "--rotate-size", "1k", "-w"], "out-00001.pcapng"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_the_umask_decides_on_every_file(tmp_path: Path, arguments: list[str], name: str) -> None:
    out = tmp_path / re.sub("-00001|.gz", "", name)
    assert run(*arguments, out, FILTER, umask=0o027).returncode == 0
    assert {mode(path) for path in tmp_path.iterdir()} == {0o640}
    assert (tmp_path / name).stat().st_size


# Full disks


@needs_full
@pytest.mark.parametrize(
    "to", effort.sample(["text", "json", "csv", "pcapng", "ipl", "ipmon"], least=3)
)
def test_a_full_disk_is_reported_with_the_file_and_the_count(to: str) -> None:
    message = "pylog: cannot write {}: No space left on device; 0 records written\n"
    done = run("read", "--to", to, "-w", "/dev/full", FILTER)
    assert (done.returncode, done.stderr.decode()) == (1, message.format("/dev/full"))
    process = [sys.executable, "-m", "pylog", "read", "--to", to, str(FILTER)]
    with open("/dev/full", "wb") as full:
        there = subprocess.run(process, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (there.returncode, there.stderr.decode()) == (1, message.format("standard output"))


@needs_full
def test_a_full_disk_under_a_capture_or_ipmon_is_reported_as_well(tmp_path: Path) -> None:
    message = b"cannot write /dev/full: No space left on device; 0 records written\n"
    done = run("capture", "-w", "/dev/full", FILTER)
    assert done.returncode == 1 and done.stderr.endswith(b"pylog: " + message)
    assert b"0 records captured" in done.stderr
    for options in (["/dev/full"], ["-B", "/dev/full", tmp_path / "out"]):
        done = run("ipmon", "-f", FILTER, *options)
        assert (done.returncode, done.stderr) == (1, b"pylog: " + message)
    with open("/dev/full", "wb") as full:
        process = [sys.executable, "-m", "pylog", "ipmon", "-f", str(FILTER)]
        there = subprocess.run(process, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert there.returncode == 1
    assert there.stderr == b"pylog: " + message.replace(b"/dev/full", b"standard output")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    try:
        done = subprocess.run(options, capture_output=True, timeout=10)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"no disk can be mounted: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=10)


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A log that is much longer than that disk."""
    path = tmp_path / "long.bin"
    path.write_bytes(FILTER.read_bytes() * 40)
    return path


def counted(message: bytes, path: Path) -> int:
    match = re.search(
        rf"pylog: cannot write {re.escape(str(path))}: No space left on device;"
        r" (\d+) records? written\n", message.decode(),
    )  # fmt: skip
    assert match is not None, message
    return int(match[1])


def held(path: Path) -> int:
    """How many packets and flows are in a file, all of which must be readable."""
    with pylog.open(path) as reader:
        for _ in reader:
            pass
        assert reader.malformed <= (path.suffix == ".gz")  # which lacks its end
        return reader.received


@pytest.mark.parametrize("to", ["text", "json", "csv", "pcapng", "ipl"])
def test_the_count_is_what_a_full_disk_holds(small: Path, long: Path, to: str) -> None:
    out = small / "out"
    done = run("read", "--layout", LAYOUT, *(["--from-layout", LAYOUT] * (to == "ipl")),
               "--to", to, "-w", out, long)  # fmt: skip
    count = counted(done.stderr, out)
    data = out.read_bytes()
    assert done.returncode == 1
    if to in ("pcapng", "ipl"):
        assert count == (held(out) if data else 0)
    else:
        lines = [line for line in data.decode().splitlines() if "LOST" not in line]
        assert data == b"" or data.endswith(b"\n")
        losses = sum('"kind":"loss"' in line or line.startswith("loss,") for line in lines)
        assert count <= len(lines) and len(lines) - losses - (to == "csv") * bool(data) <= count


@pytest.mark.parametrize("options", [[], ["--compress"], ["--rotate-size", "20k"]])
def test_the_count_of_a_capture_is_what_the_disk_holds(
    small: Path, long: Path, options: list[str]
) -> None:
    out = small / "out.pcapng"
    if "--compress" in options:
        long.write_bytes(long.read_bytes() * 30)
    done = run("capture", "-w", out, *options, "--layout", LAYOUT, long)
    assert done.returncode == 1
    last = max(small.glob("out*"), key=lambda path: path.name)
    assert counted(done.stderr, last) == (held(last) if last.stat().st_size else 0)
    total = sum(held(path) for path in small.glob("out*") if path.stat().st_size)
    assert f"{total} records captured" in done.stderr.decode()
    assert total > 0


def test_a_conversion_that_made_no_file_says_only_why(tmp_path: Path) -> None:
    out = tmp_path / "missing" / "out.jsonl"
    done = run("convert", samples.FIXTURES / "nflog/seq.bin", out)
    assert done.returncode == 1
    assert done.stderr.decode() == f"pylog: cannot write {out}: No such file or directory\n"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_conversion_to_a_full_disk_leaves_nothing(small: Path, long: Path, ending: str) -> None:
    out = small / f"out{ending}"
    long.write_bytes(long.read_bytes() * 6)
    done = run("convert", "--layout", LAYOUT, long, out)
    message = done.stderr.decode()
    assert done.returncode == 1 and message.startswith(f"pylog: cannot write {out}: ")
    assert "; 0 records written, as an incomplete file is removed\n" in message
    assert list(small.iterdir()) == []


def test_the_count_of_ipmons_file_is_what_the_disk_holds(small: Path, long: Path) -> None:
    out = small / "out"
    done = run("ipmon", "--layout", LAYOUT, "-f", long, out)
    lines = out.read_text().splitlines(keepends=True)
    assert counted(done.stderr, out) == sum("missed" not in line for line in lines) > 100
    assert lines[-1].endswith("\n")
    out.unlink()
    done = run("ipmon", "--layout", LAYOUT, "-f", long, "-B", out, "/dev/null")
    assert counted(done.stderr, out) == held(out) > 100


def test_standard_output_is_not_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with open(path, "ab", buffering=0) as stream:
        written = Written("standard output", stream, own=False)
        written.more(3)
        stream.write(b"after")
        message = "No space left on device; at least 3 records"
        with pytest.raises(BackendError, match=message), written.as_backend_error():
            raise OSError(28, os.strerror(28))
    assert path.read_bytes() == b"beforeafter"


def test_a_file_is_cut_back_to_the_records_that_count(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with open(path, "wb") as stream:
        written = Written(str(path), stream, own=True)
        stream.write(b"one")
        written.more(1)
        with pytest.raises(BackendError, match=r"; 1 record written$"), written.as_backend_error():
            stream.write(b"tw")
            stream.flush()
            raise OSError(28, os.strerror(28))
        stream.write(b"what still is in a buffer")
        written.more(1)
        assert written.records == 1
    assert path.read_bytes() == b"one"


def test_what_others_append_to_a_file_is_never_taken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    file = Appended(str(path))
    file.write(b"one\n")
    file._file.write(b"half")
    file._take_back(4)
    assert path.read_bytes() == b"one\n"
    file._file.write(b"half")
    with path.open("ab") as other:
        other.write(b"another's\n")
    file._take_back(4)
    assert path.read_bytes() == b"one\nhalfanother's\n"
    file.close()


# Process ids


@pytest.fixture
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something at the place of a process id's file that is none."""
    path, other = tmp_path / "pid", tmp_path / "other"
    other.write_text("4711\n")
    kind = request.param
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(other)
    elif kind == "link to nothing":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "link to null":
        path.symlink_to(os.devnull)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("no number\n")
    return path


ODD = ["fifo", "link", "link to nothing", "link to null", "folder", "text"]


@pytest.mark.parametrize("odd", ODD, indirect=True)
def test_a_process_id_is_written_to_no_link_fifo_or_other_file(odd: Path) -> None:
    before = {path: os.lstat(path) for path in odd.parent.iterdir()}
    with pytest.raises(BackendError, match=f"^cannot write {odd}: it "):
        PidFile(str(odd))
    assert {path: os.lstat(path) for path in odd.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("odd", "daemon"), [("fifo", ["-D"]), ("link", []), ("link to nothing", ["-D"]), ("text", [])],
    indirect=["odd"],
)  # fmt: skip
def test_ipmon_refuses_an_odd_pid_file_at_once(odd: Path, daemon: list[str]) -> None:
    target = odd.parent / "target"
    done = run("ipmon", *daemon, "-P", odd, "-f", FILTER, target)
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"pylog: cannot write {odd}: it ")
    assert not target.exists() and not (odd.parent / "nothing").exists()
    assert len(list(odd.parent.iterdir())) == 2 - (not (odd.parent / "other").exists())


def test_a_pid_file_appears_complete_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(str(path))
    assert not path.exists()
    file.write()
    assert path.read_text() == f"{os.getpid()}\n" and list(tmp_path.iterdir()) == [path]
    assert mode(path) & 0o022 == 0
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_pid_file_of_another_process_is_left(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("4711\n")
    file = PidFile(str(path))
    assert path.read_text() == "4711\n"
    file.write()
    path.write_text("4712\n")
    file.remove()
    assert path.read_text() == "4712\n"
    PidFile(str(path)).remove()
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_appears_in_between_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "pid", tmp_path / "other"
    other.write_text("precious\n")
    file = PidFile(str(path))
    path.symlink_to(other)
    with pytest.raises(BackendError, match="it is no regular file"):
        file.write()
    file.remove()
    assert other.read_text() == "precious\n" and path.is_symlink()
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_the_sqlite_file_has_no_other_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "out.sqlite"
    assert run("convert", SEQ, out).returncode == 0
    assert list(tmp_path.iterdir()) == [out]
    with contextlib.closing(sqlite3.connect(out)) as database:
        ((count,),) = database.execute("SELECT count(*) FROM packet")
    assert count == sum(
        json.loads(line)["kind"] == "packet" for line in samples.golden(SEQ).splitlines()
    )
