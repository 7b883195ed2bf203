"""Each release of ipmon prints in its own way: the texts of eight real programs, and the rules."""

from __future__ import annotations

import csv
import itertools
import lzma
import time
from collections.abc import Iterator
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Any

import effort
import msgspec
import pytest
import samples
from hypothesis import Phase, given
from hypothesis import strategies as st

import pylog
from pylog import FlowRecord, PacketRecord
from pylog.cli import main
from pylog.formats import Message, ipl, ipl_layouts, ipl_names
from pylog.formats.ipl_encode import Encoder
from pylog.formats.scrub import Scrubber
from pylog.ipmon.printer import Printer
from pylog.ipmon.release import RELEASES, release_named
from pylog.ipmon.state import as_of
from pylog.record import Record

TEXTS = samples.FIXTURES / "ipmon/fuzz.tsv.xz"
CASES = samples.FIXTURES / "ipmon/cases.tsv"
IPL = samples.FIXTURES / "ipl"
STATES = IPL / "v4-1-35-lp64le-state.state.bin"
NAT_5 = IPL / "v5-1-2-lp64le-nat.all.bin"
STATES_5 = IPL / "v5-1-2-lp64le-state.all.bin"
PACKETS_4, PACKETS_5 = IPL / "v4-1-35-lp64le-filter.ipf.bin", IPL / "v5-1-2-lp64le-filter.ipf.bin"


@cache
def records(path: Path) -> list[PacketRecord | FlowRecord]:
    """The records of a fixture, with their bytes."""
    with pylog.open(path, raw=True) as reader:
        return [record for record in reader if isinstance(record, PacketRecord | FlowRecord)]


def tcp_state() -> FlowRecord:
    """A state record of TCP, of 4.1."""
    return next(r for r in records(STATES) if isinstance(r, FlowRecord) and r.protocol == 6)


@pytest.fixture(autouse=True)
def in_gmt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "GMT")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def fuzzed() -> dict[tuple[str, str, str], list[tuple[str, str]]]:
    """(release, option, layout) -> the records, in hex, and what ipmon printed of them."""
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for line in lzma.decompress(TEXTS.read_bytes()).decode().splitlines():
        release, option, layout, record, text = line.split("\t")
        found.setdefault((release, option, layout), []).append((record, text))
    return found


def cases() -> list[dict[str, str]]:
    with CASES.open() as rows:
        return list(csv.DictReader(rows, delimiter="\t"))


def printed(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> list[str]:
    """The lines that `pylog ipmon` prints of records, without those on missing ones."""
    assert main(["ipmon", *options, str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if not line.startswith("missed ")]


@pytest.mark.parametrize("key", fuzzed(), ids="/".join)
def test_fuzzed_records_are_printed_as_the_real_program_printed_them(
    key: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release, option, layout = key
    rows = fuzzed()[key]
    dump = tmp_path / "dump.bin"
    dump.write_bytes(b"".join(bytes.fromhex(record) for record, _ in rows))
    lines = printed(capsys, dump, "--ipmon-version", release, "--layout", layout, option)
    assert lines == [text for _, text in rows]
    assert len(lines) >= 9


def test_the_fuzzed_records_are_of_eight_releases_and_three_logs() -> None:
    assert len({release for release, _, _ in fuzzed()}) == 8
    assert {option for _, option, _ in fuzzed()} == {"-f", "-N", "-S"}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_what_was_once_printed_wrongly_is_right(
    case: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "dump.bin"
    dump.write_bytes(bytes.fromhex(case["record"]))
    options = [] if case["release"] == "-" else ["--ipmon-version", case["release"]]
    options += [] if case["layout"] == "-" else ["--layout", case["layout"]]
    (line,) = printed(capsys, dump, *options, case["option"])
    assert case["text"] in line


# Releases


@pytest.mark.parametrize(("release", "row"), [
    ("3.4.1", "3.4.0"), ("3.4.28", "3.4.0"), ("3.4.34", "3.4.29"), ("4.1.2", "4.1.0"),
    ("4.1.12", "4.1.3"), ("4.1.15", "4.1.13"), ("4.1.19", "4.1.16"), ("4.1.20", "4.1.20"),
    ("4.1.24", "4.1.20"), ("4.1.35", "4.1.25"), ("5.0.2", "5.0.0"), ("5.0.4", "5.0.3"),
    ("5.0.7", "5.0.6"), ("5.1.1", "5.1.0"), ("5.1.2", "5.1.2"), ("5.1", "5.1.2"),
    ("4.1-illumos", "4.1.25"), ("3.3", "3.4.0"), ("master", "5.1.2"),
])  # fmt: skip
def test_a_release_between_two_change_points_is_as_the_older(release: str, row: str) -> None:
    assert release_named(release) is RELEASES[row]


@pytest.mark.parametrize("release", [
    "", "6.7", "4.1.36", "3.4.36", "5.0.8", "5.1.3", "4.0.1", "4.1.x", "4.1.20.1", "v4.1.20",
    "4.1.-1", "4.1.1000000", "٤.1.20", "4.1.20 ", "-5.1.2", "newest",
])  # fmt: skip
def test_a_release_that_there_is_not_is_an_error_that_lists_those_there_are(
    release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"no ipmon .*; there are 3\.4\.0, .*4\.1\.35; .*master"):
        release_named(release)
    if release:
        for command in (["ipmon", f"--ipmon-version={release}", "-S"], ["read"],
                        ["read", "--to", "ipmon"]):  # fmt: skip
            if command[0] == "read":
                command.append(f"--ipmon-version={release}")
            assert main([*command, str(STATES)]) == 2
            assert len(capsys.readouterr().err.splitlines()) == 1


def test_every_change_point_changes_something() -> None:
    rows = list(RELEASES.values())
    for before, row in itertools.pairwise(rows):
        assert before._replace(name=row.name) != row
    assert [row.name for row in rows] == list(RELEASES)


# TCP states


def state_of(release: str, *states: int, event: int = 0) -> bytes:
    """A state record of 4.1 with those TCP states."""
    schema = ipl_layouts.named(f"ipl-{release}-lp64le").schema("state")
    values = schema.parse(tcp_state().raw or b"")
    return bytes(schema.build(values | {"isl_state": bytes(states), "isl_type": event}))


def states_in(path: Path, **options: Any) -> list[Any]:
    with pylog.open(path, **options) as reader:
        (record,) = reader
    assert isinstance(record, FlowRecord) and record.extra is not None
    return list(record.extra["isl_state"])


@pytest.mark.parametrize(("layout", "names"), [
    (None, ["SYN_RECEIVED", "CLOSED"]), ("ipl-4.1-lp64le", ["SYN_RECEIVED", "CLOSED"]),
    ("ipl-4.1.35-lp64le", ["SYN_RECEIVED", "CLOSED"]),
    ("ipl-4.1.0-lp64le", ["SYN_SENT", "TIME_WAIT"]),
    ("ipl-4.1.13-lp64le", ["SYN_SENT", "TIME_WAIT"]),
    ("ipl-4.1-illumos-lp64le-name32", ["SYN_SENT", "TIME_WAIT"]),
    ("ipl-4.1-solaris-lp64le-name32", ["SYN_SENT", "TIME_WAIT"]),
])  # fmt: skip
def test_tcp_states_have_the_names_of_the_layouts_release(
    layout: str | None, names: list[str], tmp_path: Path
) -> None:
    dump = tmp_path / "dump.bin"
    dump.write_bytes(state_of("4.1", 2, 11))
    assert states_in(dump, layout=layout) == names
    pytest.importorskip("pyarrow")
    from pylog import read_table

    table = read_table(dump, kind="flow", layout=layout)
    assert all(f'"{name}"' in table["extra"][0].as_py() for name in names)


def test_a_dump_of_states_alone_is_not_ambiguous_for_their_names(tmp_path: Path) -> None:
    dump = tmp_path / "dump.bin"
    dump.write_bytes(state_of("4.1", 2, 11) * 3)
    with pylog.open(dump) as reader:
        assert reader.layout == "ipl-4.1-lp64le"
        assert "ipl-4.1-illumos-lp64le-name32" in reader.detection.layouts


@pytest.mark.parametrize(("release", "names"), [
    ("4.1.0", '["SYN_SENT","TIME_WAIT"]'), ("4.1.19", '["SYN_SENT","TIME_WAIT"]'),
    ("4.1.20", '["SYN_RECEIVED","CLOSED"]'), ("5.1.2", '["SYN_RECEIVED","CLOSED"]'),
])  # fmt: skip
def test_the_release_names_the_states_where_the_bytes_do_not(
    release: str, names: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    dump = tmp_path / "dump.bin"
    dump.write_bytes(state_of("4.1", 2, 11))
    assert main(["read", "--to", "json", "--ipmon-version", release, str(dump)]) == 0
    assert f'"isl_state":{names}'.encode() in capfdbinary.readouterr().out


def test_the_release_does_not_rename_what_the_layout_says() -> None:
    for dump in (STATES_5, IPL / "v4-1-35-illumos-lp64be-state.all.bin"):
        for record in records(dump):
            assert as_of(record, RELEASES["4.1.0"]) is record


ALL_STATES = dict.fromkeys([*ipl_names.TCP_STATES_4, *ipl_names.TCP_STATES_3])


@pytest.mark.parametrize("layout", [
    "ipl-5.1.2-lp64le", "ipl-4.1-lp64be", "ipl-4.1.0-lp64le", "ipl-4.1-illumos-lp64be-name32",
    "ipl-4.1-solaris-ilp32le-name32",
])  # fmt: skip
@pytest.mark.parametrize("name", ALL_STATES)
def test_a_tcp_state_keeps_its_name_in_every_layout(layout: str, name: str) -> None:
    extra = {"isl_state": [name, "CLOSED"]}
    record = msgspec.structs.replace(tcp_state(), raw=None, extra=extra)
    encoder = Encoder(layout)
    data = encoder.encode(record)
    found = ipl.stream(layout).decode(data, Message(0, len(data)))
    assert isinstance(found, FlowRecord) and found.extra == extra
    assert not encoder.lost


@pytest.mark.parametrize(("release", "states", "word"), [
    ("4.1.19", (5, 0), "EXPIRE"), ("4.1.19", (0, 6), "CLOSE"), ("4.1.20", (4, 0), "EXPIRE"),
    ("4.1.20", (5, 0), "CLOSE"), ("4.1.35", (0, 11), "CLOSE"), ("4.1.0", (11, 0), "CLOSE"),
])  # fmt: skip
def test_an_expired_connection_is_closed_above_established(
    release: str, states: tuple[int, int], word: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    dump = tmp_path / "dump.bin"
    dump.write_bytes(state_of("4.1", *states, event=0xFFFF))
    (line,) = printed(capsys, dump, "--ipmon-version", release, "-S")
    assert f" STATE:{word} " in line


@pytest.mark.parametrize(("name", "word"), [("ESTABLISHED", "EXPIRE"), ("CLOSE_WAIT", "CLOSE")])
@pytest.mark.parametrize("release", RELEASES)
def test_states_of_5_have_the_numbers_of_the_release_they_are_printed_as(
    release: str, name: str, word: str
) -> None:
    encoder = Encoder("ipl-5.1.2-lp64le")
    extra = {"isl_state": [name, name]}
    record = msgspec.structs.replace(tcp_state(), raw=None, event="expire", extra=extra)
    data = encoder.encode(record)
    again = ipl.stream("ipl-5.1.2-lp64le").decode(data, Message(0, len(data)), True)
    entry = Printer(release=RELEASES[release], zone=UTC).entry(again)
    assert entry is not None and f" STATE:{word} " in entry.line


# NAT, addresses, lengths


def changed(raw: bytes, layout: str, log: str, **values: Any) -> Record:
    """A record with other values in some fields."""
    schema = ipl_layouts.named(layout).schema(log)
    data = bytes(schema.build(schema.parse(raw) | values))
    return ipl.stream(ipl.described(layout, log)).decode(data, Message(0, len(data)), True)


def first(path: Path, log: str) -> tuple[bytes, str]:
    """The bytes of the first record of a log, and their layout."""
    record = next(record for record in records(path) if record.log == log)
    return record.raw or b"", record.layout


@pytest.mark.parametrize("kind", range(64))
def test_nat_of_5_has_three_ends_for_the_four_old_kinds_only(kind: int) -> None:
    record = changed(*first(NAT_5, "nat"), "nat", nl_type=kind)
    entry = Printer(zone=UTC).entry(record)
    assert entry is not None
    assert ("[" in entry.line) == (kind in (1, 2, 3, 4))
    assert entry.line.count(",") == (3 if kind in (1, 2, 3, 4) else 4)


@pytest.mark.parametrize("version", [0, 1, 5, 7, 255])
@pytest.mark.parametrize("log", ["nat", "state"])
def test_an_address_of_no_known_version_is_shown_as_ipv6(log: str, version: int) -> None:
    raw, layout = first(STATES_5 if log == "state" else NAT_5, log)
    fields = {"isl_v": version} if log == "state" else {"nl_v": bytes((version, version))}
    record = changed(raw, layout, log, **fields)
    assert isinstance(record, FlowRecord) and record.family == "ipv6"
    assert ":" in str(record.saddr)
    entry = Printer(zone=UTC).entry(record)
    assert entry is not None and f" {record.saddr}" in entry.line
    scrubbed = ipl.scrub(record.raw or b"", layout, Scrubber())
    other = ipl.stream(layout).decode(scrubbed, Message(0, len(scrubbed)))
    assert isinstance(other, FlowRecord) and other.family == "ipv6"
    assert other.saddr is not None and other.saddr != record.saddr
    for target in ("ipl-5.1.2-lp64be", "ipl-5.0.6-lp64le"):
        data = Encoder(target).encode(msgspec.structs.replace(record, raw=None))
        again = ipl.stream(target).decode(data, Message(0, len(data)))
        assert isinstance(again, FlowRecord)
        assert (again.saddr, again.daddr, again.extra) == (record.saddr, record.daddr, record.extra)


def headers_of(size: int, data: bytes) -> PacketRecord:
    """A packet record of 5.1.2 of which so many bytes were logged."""
    raw, name = first(PACKETS_5, "ipf")
    layout = ipl_layouts.named(name)
    plan = layout.plan("ipf")
    values = dict(zip(plan.names, plan.unpack(raw, 0), strict=True))
    values |= {"ipl_dsize": plan.size + size, "fl_hlen": size, "fl_plen": 0, "fl_lflags": 0}
    raw = plan.pack(values) + data[:size]
    found = ipl.stream(layout.name).decode(raw, Message(0, len(raw)), True)
    assert isinstance(found, PacketRecord)
    return found


ICMP_ERROR = bytes.fromhex(
    "45000038000000003f01000001020304050607080303000000000000"
    "45000024000000003f11000005060708010203041389003500100000"
)


@pytest.mark.parametrize("size", effort.sample(range(1, len(ICMP_ERROR))))
def test_what_was_not_logged_is_printed_as_zeros(size: int) -> None:
    padded = headers_of(len(ICMP_ERROR), ICMP_ERROR[:size].ljust(len(ICMP_ERROR), b"\0"))
    entries = [Printer(zone=UTC).entry(r) for r in (headers_of(size, ICMP_ERROR), padded)]
    assert entries[0] is not None and entries[1] is not None
    assert entries[0].line == entries[1].line


@effort.examples(150, phases=[Phase.generate])
@given(
    st.sampled_from(list(RELEASES)),
    st.integers(1, 80),
    st.sampled_from([b"\x45", b"\x40", b"\x4f", b"\x60"]),
    st.sampled_from([0, 1, 6, 17, 44, 50, 51, 58, 60, 135, 255]),
    st.binary(min_size=90, max_size=90),
)
def test_any_header_is_printed_as_every_release(
    release: str, size: int, version: bytes, protocol: int, rest: bytes
) -> None:
    data = bytearray(version + rest)
    data[9 if version < b"\x60" else 6] = protocol
    printer = Printer(release=RELEASES[release], zone=UTC, verbose=True, packet=True, header=True)
    entry = printer.entry(headers_of(size, bytes(data)))
    if entry is None:
        assert "records left out: " in printer.report()[0]
    else:
        assert " -> " in entry.line


# Conversion


@pytest.mark.parametrize(("layout", "target"), [
    ("ipl-4.1-lp64le", "ipl-4.1-lp64be"), ("ipl-4.1-illumos-lp64le-name32", "ipl-4.1-lp64be"),
    ("ipl-4.1-lp64le", "ipl-4.1-solaris-lp64be-name32"), ("ipl-4.1.0-lp64le", "ipl-4.1-lp64le"),
    ("ipl-5.0.3-lp64le", "ipl-5.1.2-lp64be"), ("ipl-5.1.2-lp64le", "ipl-5.0.0-lp64le"),
])  # fmt: skip
@pytest.mark.parametrize("command", range(16))
def test_a_command_without_a_name_keeps_its_number_where_numbers_mean_the_same(
    layout: str, target: str, command: int
) -> None:
    source = Encoder(layout).encode(msgspec.structs.replace(records(PACKETS_4)[0], raw=None))
    before = changed(source, layout, "ipf", fl_flags=0x8000 | 0x10 | command)
    encoder = Encoder(target)
    data = encoder.encode(before)
    assert ipl_layouts.named(target).schema("ipf").parse(data).fl_flags == 0x8010 | command
    assert not [what for what in encoder.lost if what.startswith("fl_flags")]


def test_a_nat_tag_without_text_is_kept() -> None:
    raw, layout = first(PACKETS_5, "ipf")
    tag = b"\0abc".ljust(16, b"\0")
    record = changed(raw, layout, "ipf", fl_nattag=tag)
    for target in ("ipl-5.1.2-lp64be", "ipl-4.1-lp64le", "ipl-4.1-illumos-lp64le-name32"):
        data = Encoder(target).encode(record)
        assert ipl_layouts.named(target).schema("ipf").parse(data).fl_nattag == tag
    old = Encoder("ipl-3.4.35-lp64le")
    assert old.encode(record) and old.lost["fl_nattag"] == 1
    untagged = changed(raw, layout, "ipf", fl_nattag=bytes(4) + b"neverwritten")
    data = Encoder("ipl-5.1.2-lp64be").encode(untagged)
    assert ipl_layouts.named("ipl-5.1.2-lp64be").schema("ipf").parse(data).fl_nattag == bytes(16)


def test_the_family_asked_for_is_in_records_of_that_layout_too(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    dump = samples.FIXTURES / "nflog/seq.bin"
    first_copy, second = tmp_path / "first.bin", tmp_path / "second.bin"
    assert main(["read", "--to", "ipl", "-w", str(first_copy), str(dump)]) == 0
    again = ["read", "--to", "ipl", "--af-inet6", "10", "-w", str(second), str(first_copy)]
    assert main(again) == 0
    families = []
    for path in (first_copy, second):
        with pylog.open(path) as reader:
            packets = [record for record in reader if isinstance(record, PacketRecord)]
        families.append([(r.family, (r.extra or {}).get("fl_family")) for r in packets])
    assert set(families[0]) == {("ipv4", 2), ("ipv6", 28)}
    assert set(families[1]) == {("ipv4", 2), ("ipv6", 10)}
    for path, family in ((first_copy, 28), (second, 10)):  # the real ones compare it with theirs
        same = tmp_path / f"same-{family}.bin"
        assert main(["read", "--to", "ipl", "-w", str(same), str(path)]) == 0
        assert same.read_bytes() == path.read_bytes(), family
    capfdbinary.readouterr()
    options = ["--layout", "ipl-4.1-lp64le", "--af-inet6", "10"]
    assert main(["read", "--to", "ipl", "-w", str(tmp_path / "x"), *options, str(dump)]) == 2
    assert (
        b"ipl-4.1-lp64le has no fl_family, which --af-inet6 is for" in capfdbinary.readouterr().err
    )


@pytest.mark.parametrize("release", ["4.1.0", "4.1.13", "4.1.35"])
def test_an_interface_without_a_number_gets_none_in_4_1(release: str) -> None:
    record = next(r for r in records(PACKETS_5) if r.indev)
    record = msgspec.structs.replace(record, indev="lo", raw=None)
    data = Encoder("ipl-4.1-lp64le").encode(record)
    found = ipl.stream("ipl-4.1-lp64le").decode(data, Message(0, len(data)), True)
    assert isinstance(found, PacketRecord) and found.indev == "lo"
    for printer in (Printer(zone=UTC), Printer(release=release_named(release), zone=UTC)):
        entry = printer.entry(found)
        assert entry is not None and " lo @" in entry.line


def test_the_unit_of_4_1_0_is_shown_as_that_release_did() -> None:
    dump = IPL / "v4-1-0-lp64le-nattag.ipf.bin"
    for release, name in ((None, "fxp0"), ("4.1.0", "fxp0"), ("4.1.35", "fxp")):
        printer = Printer(release=release_named(release) if release else None, zone=UTC)
        entries = [printer.entry(record) for record in records(dump)]
        shown = {entry.line.split(" @")[0].split()[-1] for entry in entries if entry is not None}
        assert name in shown, (release, shown)
