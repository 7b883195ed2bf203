"""What pylog prints in ipmon's form is, byte for byte, what the ipmon of each release printed."""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import effort
import inprocess
import pytest
import samples

import pylog
from pylog.cli import main
from pylog.errors import DecodeError
from pylog.formats import Message, ipl
from pylog.ipmon.names import PROTOCOLS, icmp, icmp6
from pylog.ipmon.printer import Printer, hex_dump
from pylog.ipmon.release import RELEASES, release_named
from pylog.record import LossRecord

IPL = samples.FIXTURES / "ipl"
TEXTS = sorted(path for path in IPL.glob("*.txt") if path.name != "offsets.txt")

NOT_TOLD = {"v34-ilp32le-nat.bin": "3.4.0", "v5-0-6-lp64le-nat.nat.bin": "5.0.6"}
"""Dumps whose bytes are those of a later release too, which prints other words."""

MEMORY = {
    "v3435-ilp32le-cut.ipf.txt": "a record that is cut off is printed, with bytes of an older one",
    "v34-lp64be-ipf.v.txt": "TCP numbers beyond the logged bytes are those of the next record",
}
"""Where ipmon printed memory that was not of the record."""


def no_host(address: str) -> tuple[str, list[str], list[str]]:
    """A resolver that knows no name."""
    raise OSError(address)


def names_are_as_then() -> bool:
    """Whether the system's services and networks are called as when ipmon was run."""
    try:
        found = [socket.getservbyport(port, "udp") for port in (53, 514, 5353)]
        networks = Path("/etc/networks").read_text()
    except OSError:
        return False
    return found == ["domain", "syslog", "mdns"] and "default" in networks


@pytest.fixture(autouse=True)
def in_gmt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "GMT")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def command(text: Path) -> list[str]:
    """The options of ipmon by which the text was made."""
    _, *options = text.name.removesuffix(".txt").split(".")
    options = [part for part in options if part not in ("ipf", "nat", "state", "all")]
    dump = str(dump_of(text))
    log = next((n for n in ("nat", "state", "all") if dump.endswith(f"{n}.bin")), "ipf")
    sources = {
        "ipf": ["-f", dump], "nat": ["-N", dump], "state": ["-S", dump],
        "all": ["-a", "-f", dump, "-N", dump, "-S", dump],
    }  # fmt: skip
    release = NOT_TOLD.get(Path(dump).name)
    forced = ["--ipmon-version", release] if release else []
    return [*(f"-{part}" for part in options), *forced, *sources[log]]


def dump_of(text: Path) -> Path:
    """The dump that a text is of."""
    stem = text.with_suffix("")
    if stem.with_name(stem.name + ".bin").exists():
        return stem.with_name(stem.name + ".bin")
    return stem.with_suffix(".bin")


def printed(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> bytes:
    assert main(["ipmon", *arguments]) == 0
    return capfdbinary.readouterr().out


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_the_text_is_ipmons(
    text: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = command(text)
    if {"-n", "-np"} & set(options) and not names_are_as_then():
        pytest.skip("needs Debian's /etc/services and /etc/networks")
    monkeypatch.setattr(socket, "gethostbyaddr", no_host)
    ours, theirs = printed(capfdbinary, *options), text.read_bytes()
    if text.name not in MEMORY:
        assert ours == theirs
        return
    lines = ours.splitlines(), theirs.splitlines()
    differing = [(a, b) for a, b in zip(*lines, strict=False) if a != b]
    assert len(differing) + abs(len(lines[0]) - len(lines[1])) == 1
    flags = re.compile(rb" -[A-Z]*( \d+ \d+ \d+)?(?= )")
    for a, b in differing:  # the rest of the line is as ipmon has it
        assert flags.sub(b"", b) == flags.sub(b"", a)


def test_every_dump_that_ipmon_printed_is_compared() -> None:
    assert {dump_of(text).exists() for text in TEXTS} == {True}
    assert len(TEXTS) >= 63
    assert {dump_of(text).name for text in TEXTS} >= set(NOT_TOLD)
    assert {text.name for text in TEXTS} >= set(MEMORY)


@pytest.mark.parametrize(
    "text",
    [t for t in TEXTS if t.name.count(".") <= 2 and ".all." not in t.name
     and t.name not in MEMORY],
    ids=lambda path: path.name,
)  # fmt: skip
def test_read_to_ipmon_gives_the_plain_form_in_utc(
    text: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    dump = dump_of(text)
    release = NOT_TOLD.get(dump.name)
    forced = ["--ipmon-version", release] if release else []
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    assert main(["read", "--to", "ipmon", *forced, str(dump)]) == 0
    assert capfdbinary.readouterr().out == text.read_bytes()


def test_times_are_those_of_the_zone_asked_for(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    dump = str(IPL / "v4-1-35-lp64le-filter.ipf.bin")
    assert main(["read", "--to", "ipmon", "--tz", "Asia/Kolkata", "-n", "1", dump]) == 0
    assert capfdbinary.readouterr().out.startswith(b"15/11/2023 03:44:21.123457 3x fxp0 ")
    assert main(["read", "--to", "ipmon", "--tz", "Nowhere/Atall", dump]) == 2
    assert b"no time zone 'Nowhere/Atall'" in capfdbinary.readouterr().err


def test_another_release_can_be_asked_for(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    dump = str(IPL / "v5-1-2-lp64le-filter.ipf.bin")
    new = printed(capfdbinary, "-f", dump)
    old = printed(capfdbinary, "--ipmon-version", "4.1.0", "-f", dump)
    assert b"(frag 4321:1480@1480+)" in new and b" frag +1480@1480" in old
    assert b"missed" in new and b"missed" not in old
    assert main(["ipmon", "--ipmon-version", "6.7", "-f", dump]) == 2
    assert b"no ipmon '6.7'; there are 3.4.0, ..., 3.4.35; 4.1.0, " in capfdbinary.readouterr().err


@functools.cache
def records_of(dump: Path) -> list[pylog.Record]:
    with pylog.open(dump, raw=True) as reader:
        return [record for record in reader if not isinstance(record, LossRecord)]


@pytest.mark.parametrize("release", RELEASES)
def test_every_log_can_be_printed_as_any_release(release: str) -> None:
    """Records are converted first, so that their bits mean the same."""
    letters = {"pass": "pP", "block": "bB"}
    for dump in effort.sample(samples.dumps("ipl/*"), least=15):
        printer = Printer(release=RELEASES[release], zone=UTC, verbose=True, packet=True)
        found = records_of(dump)
        entries = [printer.entry(record) for record in found]
        assert entries.count(None) == printer._other.refused.total() if printer._other else 0
        for record, entry in zip(found, entries, strict=True):
            if entry is None or not isinstance(record, pylog.PacketRecord):
                continue
            word = entry.line.split(" -> ")[0].split("@", 1)[1].split()[1]
            short = record.short or "FI_SHORT" in (record.extra or {}).get("fl_lflags", ())
            if record.action in letters and not short:
                assert word in letters[str(record.action)], entry.line
            assert f"{record.saddr}" in entry.line and f"{record.daddr}" in entry.line
            assert entry.raw == record.raw


def test_releases_are_known_by_their_numbers_and_those_of_layouts() -> None:
    assert list(RELEASES) == sorted(RELEASES, key=lambda name: [int(n) for n in name.split(".")])
    assert (
        release_named("master") is RELEASES["5.1.2"] and release_named("4.1") is RELEASES["4.1.25"]
    )
    assert release_named("2.x") is RELEASES["3.4.0"]


def test_gaps_are_told_from_the_first_number_on(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    with pylog.open(IPL / "v5-1-2-lp64le-filter.ipf.bin", raw=True) as reader:
        records = [r for r in reader if not isinstance(r, LossRecord)]
    kept = records[:2] + records[7:9]
    (tmp_path / "gap.bin").write_bytes(b"".join(record.raw or b"" for record in kept))
    lines = printed(capfdbinary, "-f", str(tmp_path / "gap.bin")).decode().splitlines()
    missed = [line for line in lines if line.startswith("missed")]
    after = (kept[1].seq or 0) + (kept[1].count or 0)
    assert missed == [
        "missed 1 ipf log entries: 0 1",
        f"missed {(kept[2].seq or 0) - after} ipf log entries: {after} {kept[2].seq}",
    ]
    assert lines.index(missed[1]) == 3


def test_damage_is_told_beside_the_text() -> None:
    done = inprocess.run("read", "--to", "ipmon", IPL / "damaged.bin")
    assert b"lost 168 bytes at offset 336: ipl_dsize 0, but expected 168" in done.stderr
    assert all(re.match(rb"\d\d/\d\d/\d{4} |missed ", line) for line in done.stdout.splitlines())


def test_records_of_linux_are_printed_in_the_newest_form(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    dump = str(samples.FIXTURES / "nflog/seq.bin")
    assert main(["read", "--to", "ipmon", dump]) == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    with pylog.open(dump) as reader:
        packets = [r for r in reader if isinstance(r, pylog.PacketRecord)]
    packets = [record for record in packets if record.family in ("ipv4", "ipv6")]
    reported = [line for line in lines if not line.startswith("missed")]
    assert len(reported) == sum(record.payload is not None for record in packets) > 700
    form = r"\d\d/\d\d/\d{4} [\d:.]+ \S+ @\S+:-1 S?L \S+ -> \S+ PR \S+ len \d+ \(?\d+"
    assert all(re.match(form, line) for line in reported)
    assert sum(" OUT" in line for line in reported) == sum(
        r.direction == "out" for r in packets if r.payload
    )


def test_a_dump_is_sixteen_bytes_a_line() -> None:
    lines = hex_dump(bytes(range(48, 48 + 20)))
    assert [len(line) for line in lines] == [47 + 8 + 16, 47 + 8 + 4]
    assert lines[1] == "40 41 42 43".ljust(47 + 8) + "@ABC"


def test_words_for_icmp_are_ipmons() -> None:
    assert (
        icmp(3, 3) == "unreach/port" and icmp(3, 8) == "unreach/8" and icmp(3, 10) == "unreach/10"
    )
    assert icmp(40, 7) == "icmptype(40)/7" and icmp(12, 1) == "paramprob/optmissing"
    assert icmp6(1, 4) == "unreach/noport" and icmp6(135, 0) == "neighborsolicit/0"
    assert icmp6(138, 255) == "routerrenumber/seqnum_reset" and icmp6(99, 1) == "icmpv6type(99)/1"


def test_protocols_are_those_of_the_systems_list() -> None:
    listed = Path("/etc/protocols")
    if not listed.exists():
        pytest.skip("needs /etc/protocols")
    rows = [line.partition("#")[0].split() for line in listed.read_text().splitlines()]
    theirs: dict[int, str] = {}
    for row in rows:
        if len(row) > 1:
            theirs.setdefault(int(row[1]), row[0])
    assert {n: name for n, name in PROTOCOLS.items() if theirs.get(n, name) != name} == {}


def test_names_are_looked_up_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    asked: list[str] = []

    def answer(address: str) -> tuple[str, list[str], list[str]]:
        asked.append(address)
        return f"host-{address}", [], []

    monkeypatch.setattr(socket, "gethostbyaddr", answer)
    dump = str(IPL / "v5-1-2-lp64le-filter.ipf.bin")
    printed(capfdbinary, "-vxXb", "-f", dump)
    assert not asked
    text = printed(capfdbinary, "-n", "-p", "-f", dump).decode()
    assert " host-10.1.1.1,40000 -> host-192.0.2.10,80 " in text
    assert len(asked) == len(set(asked)) > 5


def test_a_record_without_its_bytes_is_refused() -> None:
    with pylog.open(IPL / "v5-1-2-lp64le-filter.ipf.bin") as reader:
        record = next(reader)
    with pytest.raises(ValueError, match="raw=True"):
        Printer().entry(record)


def test_no_bytes_of_a_record_can_break_the_printer() -> None:
    """The first record of each log in every fixture, with each byte changed, is still printed."""
    printed_ones = 0
    for dump in samples.dumps("ipl/*"):
        printer, seen = Printer(verbose=True, header=True, packet=True, zone=UTC), set()
        with pylog.open(dump, raw=True) as reader:
            for record in reader:
                log, raw = record.log, record.raw
                if isinstance(record, LossRecord) or raw is None or log is None or log in seen:
                    continue
                seen.add(log)
                stream = ipl.stream(ipl.described(record.layout, log))
                for at in effort.sample(range(len(raw))):
                    for value in (0, 255, raw[at] ^ 0x80):
                        changed = raw[:at] + bytes((value,)) + raw[at + 1 :]
                        try:
                            other = stream.decode(changed, Message(0, len(changed)), raw=True)
                        except (DecodeError, KeyError):  # no record of that log any more
                            continue
                        entry = printer.entry(other)
                        assert entry is not None and entry.text().endswith(b"\n")
                        printed_ones += 1
    assert printed_ones > effort.number(10_000)


@pytest.mark.skipif(not shutil.which("date"), reason="needs the program date")
def test_local_time_is_the_machines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    os.environ["TZ"] = "EST5EDT,M3.2.0,M11.1.0"
    time.tzset()
    text = printed(capfdbinary, "-f", str(IPL / "v4-1-35-lp64le-filter.ipf.bin")).decode()
    message = subprocess.run(
        ["date", "-d", "@1700000061", "+%d/%m/%Y %H:%M:%S"], capture_output=True, text=True
    ).stdout.strip()
    assert text.startswith(message)
