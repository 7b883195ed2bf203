"""What a person, a terminal, a spreadsheet or a JSON reader is shown: lines that are safe."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import FlowRecord, LossRecord, PacketRecord, outputs
from pylog.batch import Batch
from pylog.cli import main
from pylog.formats import ipl_layouts
from pylog.formats.ipl_encode import Encoder
from pylog.formats.pcap_blocks import Note, interface_block, packet_block, section_block
from pylog.outputs._named import every
from pylog.record import escape, escape_json, json_ready, to_json

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
NAT = samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin"
WIDE = "ipl-2.x-lp64be-nounit"
IFNAME = 16
OLD = samples.FIXTURES / "ipl/v2x-lp64be-ipf.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
HOSTILE = "\x1b[2J\r\n\x07\x7f\x85\x9b31m\u202e\u2028\u200b"
ODD_NAME = "l\x1b[2J\r\nog\u202e\x9b\udcff.bin"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Call]:
    """Runs a command in this process: its status, output and errors."""

    def called(*arguments: object) -> tuple[int, str, str]:
        root = logging.getLogger()
        before, root.handlers = root.handlers, []  # so that notes go to standard error
        try:
            status = main([os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments])
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            root.handlers = before
        found = capfdbinary.readouterr()
        return status, found.out.decode(), found.err.decode()

    yield called


def is_safe(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def terminal(*arguments: object) -> str:
    """What comes out of a terminal that a command runs at."""
    leader, follower = pty.openpty()
    attributes = termios.tcgetattr(follower)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(follower, termios.TCSANOW, attributes)
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "pylog", *map(str, arguments)]
    environment = os.environ | {"NO_COLOR": "1"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower,
                          env=environment):  # fmt: skip
        os.close(follower)
        found = b""
        while True:
            try:
                data = os.read(leader, 1 << 16)
            except OSError:
                break
            if not data:
                break
            found += data
    os.close(leader)
    return found.decode()


def with_notes(path: Path, reason: str, name: str, description: bytes = b"nfulnl-le") -> Path:
    """A capture whose comments say what they like."""
    with pylog.open(SEQ, raw=True) as reader:
        record = next(r for r in reader if isinstance(r, PacketRecord))
    assert record.raw is not None
    note = Note(interfaces={1: name, 2: name, 3: name, 4: name, 5: name}, lost=reason).comment()
    blocks = [
        section_block(application="x", order="<"),
        interface_block(239, name="nflog:1", description=description.decode(errors="ignore"),
                        comment=b"", order="<"),
        packet_block(record.raw[16:], 10**18, interface=0, dropped=0, comments=[note], order="<"),
    ]  # fmt: skip
    path.write_bytes(b"".join(blocks))
    return path


# Standard error


@pytest.mark.parametrize("to", [n for n in outputs.names() if not outputs.description(n).place])
def test_a_comment_of_a_capture_forges_no_line_on_standard_error(
    tmp_path: Path, call: Call, to: str
) -> None:
    log = with_notes(tmp_path / "log", f"{HOSTILE}\npylog: all is well", f"eth{HOSTILE}")
    _, out, error = call("read", "-v", "--to", to, "-w", tmp_path / "out", log)
    assert out == "" and is_safe(error) and "\npylog: all is well" not in error
    assert all(line.startswith("pylog: ") for line in error.splitlines())


def test_the_loss_in_a_comment_is_shown_escaped(tmp_path: Path, call: Call) -> None:
    log = with_notes(tmp_path / "log", HOSTILE, "eth0")
    escaped = r"\x1b[2J\r\n\x07\x7f\x85\x9b31m\u202e\u2028\u200b"
    for command in (["ipmon", "-f"], ["read", "--to", "ipmon"]):
        _, _, error = call(*command, log)
        assert escaped in error and is_safe(error)


@pytest.mark.parametrize(
    "command",
    [
        ["read"], ["read", "-v"], ["info"], ["info", "--json"], ["info", "--explain"], ["pending"],
        ["flush"], ["convert", "{}", "{}.none"], ["convert", "{}", "{}.jsonl"],
        ["replay", "--speed", "max"],
        ["read", "--layout", "{}", "{}"], ["read", "--on-error", "strict"], ["{}"],
        ["read", "--on-error", "{}", "{}"], ["read", "-n", "{}", "{}"], ["read", "--{}"],
        ["read", "--to", "{}", "{}"], ["read", "nflog:{}"], ["read", "ipl:{}"],
        ["read", "-w", "{}", "{}"], ["ipmon", "-f", "{}", "-C", "{}"], ["ipmon", "-P", "{}", "-f",
        "{}"], ["ipmon", "-s", "--syslog-to", "{}", "-f", "{}"], ["ipmon", "-sL", "{}"],
        ["ipmon", "-f", "{}", "/none/{}"], ["capture", "-w", "/none/{}", "{}"], ["doctor", "{}"],
        ["read", "--to", "ipl", "--layout", "{}", "{}"], ["read", "--to", "ipmon", "--tz", "{}"],
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("there", [True, False], ids=["a log", "nothing"])
def test_no_file_name_or_argument_breaks_a_line(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, command: list[str], there: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if there:
        with open(os.fsencode(ODD_NAME), "wb") as file:
            file.write(FILTER.read_bytes())
    arguments = [part.replace("{}", ODD_NAME) for part in command]
    if "{}" not in "".join(command):
        arguments.append(ODD_NAME)
    status, out, error = call(*arguments)
    assert status in (0, 1, 2) and is_safe(error)
    assert is_safe(out) or "--json" in command  # which is UTF-8 where nobody looks
    assert there or status
    if status == 1:
        assert error.count("\n") == 1 and error.startswith("pylog: ")


def test_every_note_of_the_library_is_one_safe_line(caplog: pytest.LogCaptureFixture) -> None:
    from pylog.notes import notes

    notes.warning("%s: %d%%", HOSTILE, 5)
    notes.warning(HOSTILE + "%s")
    assert all(message.isprintable() for message in caplog.messages)
    assert caplog.messages[0].endswith(": 5%") and caplog.messages[1].endswith("%s")
    assert [record.funcName for record in caplog.records] == [
        "test_every_note_of_the_library_is_one_safe_line"
    ] * 2


def test_what_other_libraries_log_is_one_safe_line(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pylog.cli import sources

    def run(arguments: object) -> int:
        logging.getLogger("another").warning("a\x1b[2J\nb")
        return 0

    monkeypatch.setattr(sources, "run", run)
    assert call("sources") == (0, "", "pylog: a\\x1b[2J\\nb\n")


def test_the_progress_bar_shows_the_name_escaped(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    long = tmp_path / "l\x1b]0;x\nong"
    long.write_bytes(FILTER.read_bytes() * (18_000_000 // FILTER.stat().st_size))
    out = terminal("read", "--layout", "ipl-5.1.2-lp64le", "-w", tmp_path / "out", long)
    assert r"l\x1b]0;x\nong: 100%" in out and "\x1b]0;" not in out


# Terminals


@pytest.fixture
def hostile_log(tmp_path: Path) -> Path:
    path = tmp_path / "hostile.pcapng"
    return with_notes(path, HOSTILE, f"é{HOSTILE}\U0001f600\U000e0001")


@pytest.mark.parametrize("to", ["text", "json", "csv", "ipmon"])
def test_nothing_but_printable_lines_comes_to_a_terminal(hostile_log: Path, to: str) -> None:
    out = terminal("read", "-v", "--to", to, hostile_log)
    assert is_safe(out.replace("\r\n", "\n")) and len(out) > 100


def test_json_at_a_terminal_is_the_same_json(hostile_log: Path, call: Call) -> None:
    _, plain, _ = call("read", "--to", "json", hostile_log)
    shown = terminal("read", "--to", "json", hostile_log)
    assert "\u202e" in plain and "\\u202e" in shown and "é" in shown and "\\udb40\\udc01" in shown
    assert [json.loads(line) for line in shown.splitlines()] == [
        json.loads(line) for line in plain.split("\n")[:-1]
    ]
    assert [msgspec.json.decode(line) for line in shown.splitlines()] == [
        msgspec.json.decode(line) for line in plain.split("\n")[:-1]
    ]


@given(st.text(), st.text(st.characters(categories=["Cc", "Cf", "Co", "Zl", "Zp", "Zs", "So"])))
def test_escaped_json_is_the_same_json(one: str, other: str) -> None:
    text = msgspec.json.encode({"a": [one, {other: None}]}).decode()
    found = escape_json(text)
    assert found.isprintable() and json.loads(found) == json.loads(text)
    assert msgspec.json.decode(found) == {"a": [one, {other: None}]}


@given(st.text(st.characters()))
def test_escaping_again_changes_nothing(text: str) -> None:
    assert escape(text).isprintable() and escape(escape(text)) == escape(text)


# CSV


def rows(records: list[Any], **options: Any) -> tuple[list[str], list[dict[str, str]]]:
    """The lines of a CSV, and its rows taken apart."""
    stream = io.BytesIO()
    output = outputs.open("csv", outputs.Target(stream), options)
    output.write(Batch(records))
    output.close()
    text = stream.getvalue().decode()
    assert text.endswith("\r\n")
    lines = text.removesuffix("\r\n").split("\r\n")
    return lines, list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_csv_row_is_a_line_without_control_bytes() -> None:
    records = [
        PacketRecord("nflog", "nfulnl-le", prefix="a", extra={"x": HOSTILE}),
        PacketRecord("nflog", "nfulnl-le", prefix=f"1,\"2\"{HOSTILE}", indev="a\r\nb"),
        PacketRecord("nflog", "nfulnl-le", prefix="\udc80 é"),
        LossRecord("pcap", "pcapng", reason="one\r\ntwo"),
    ]  # fmt: skip
    lines, found = rows(records)
    assert len(lines) == 5 == len(found) + 1 and all(line.isprintable() for line in lines)
    assert json.loads(found[0]["extra"]) == {"x": HOSTILE}
    assert found[1]["prefix"] == f'1,"2"{escape(HOSTILE)}' and found[1]["indev"] == r"a\r\nb"
    assert found[2]["prefix"] == r"\udc80 é" and found[3]["reason"] == r"one\r\ntwo"


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=5))
def test_whatever_names_are_csv_has_a_line_for_each_record(names: list[str]) -> None:
    records = [PacketRecord("ipl", "x", prefix=n, reason=n, extra={n: n}) for n in names]
    for options in ({}, {"csv_safe": True}):
        lines, found = rows(records, **options)
        assert len(lines) == len(found) + 1 == len(names) + 1
        assert all(line.isprintable() for line in lines)
        assert [json.loads(row["extra"]) for row in found] == [{n: n} for n in names]


def test_what_has_nothing_to_escape_is_as_it_was() -> None:
    with pylog.open(SEQ) as reader:
        lines, found = rows(list(reader))
    assert found[0]["kind"] and lines[0] == ",".join(every())
    assert all(row["extra"].startswith("{") for row in found if row["extra"])


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"), ("+SUM(A1)", "'+SUM(A1)"), ("-2+3", "'-2+3"), ("@x", "'@x"),
        ("\t=1", r"'\t=1"), ("\r=1", r"'\r=1"), ("-", "'-"), ("--", "'--"), ("+", "'+"),
        ("\uff1d1", "'\uff1d1"), ("-5", "-5"), ("+5", "+5"), ("-0.5", "-0.5"), ("-1e9", "-1e9"),
        ("-9007199254740993", "-9007199254740993"), ("plain", "plain"), ("a=1", "a=1"),
        ("'=1", "'=1"), ("-1x", "'-1x"), ("-٣", "'-٣"), ("", ""),
    ],
)  # fmt: skip
def test_csv_safe_puts_a_sign_before_formulas_only(text: str, cell: str) -> None:
    record = PacketRecord("ipl", "x", prefix=text, rule=-1, group=text)
    _, (row,) = rows([record], csv_safe=True)
    assert (row["prefix"], row["group"], row["rule"]) == (cell, cell, "-1")
    _, (row,) = rows([record])
    assert row["prefix"] == escape(text)


def test_every_way_to_csv_has_the_guard(tmp_path: Path, call: Call) -> None:
    log = with_notes(tmp_path / "log", "=cmd|' /C calc'!A0", "=1+1")
    _, out, _ = call("read", "--to", "csv", "--csv-safe", log)
    assert "'=cmd" in out and ",=cmd" not in out
    for more in ([], ["--jobs", "1"]):
        made = tmp_path / f"out{len(more)}.csv"
        assert call("convert", *more, "--csv-safe", log, made)[0] == 0
        assert made.read_bytes().decode() == out
    assert call("convert", "--csv-safe", log, tmp_path / "out.jsonl")[0] == 2
    assert call("read", "--to", "json", "--csv-safe", log)[0] == 2


# JSON numbers


def numbers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, int) else []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(VALUES)
def test_no_number_in_json_is_beyond_2_to_the_53(value: Any) -> None:
    found = json_ready(value)
    assert all(abs(n) <= 2**53 for n in numbers(msgspec.json.decode(msgspec.json.encode(found))))
    assert json_ready(found) is found or found != found  # nothing is left to change


@given(st.dictionaries(st.text(), VALUES), st.integers(-(2**70), 2**70))
def test_no_record_has_a_larger_number_in_its_json(extra: dict[str, Any], number: int) -> None:
    for record in (
        PacketRecord("ipl", "x", extra=extra),
        FlowRecord("ipl", "x", packets={"in": number}, bytes={"in": number}, extra=extra),
        LossRecord("ipl", "x", count=number, size=number),
    ):
        found = msgspec.json.decode(to_json(record))
        assert all(abs(n) <= 2**53 for n in numbers(found))
        assert pylog.json_lines([record]) == to_json(record) + b"\n"
        if abs(number) > 2**53 and isinstance(record, LossRecord):
            assert found["count"] == found["size"] == str(number)


@pytest.fixture
def large_flags() -> bytes:
    """Records of 2.x on a machine where fl_flags is a u_long of 64 bits, with all in use."""
    plan = ipl_layouts.named("ipl-2.x-lp64be").plan("ipf")
    wide = ipl_layouts.named(WIDE).plan("ipf")
    with pylog.open(OLD, layout="ipl-2.x-lp64be", raw=True) as reader:
        found = [record.raw for record in reader if record.raw]
    changed = []
    for i, raw in enumerate(found[:20]):
        f = dict(zip(plan.names, plan.unpack(raw, 0), strict=True))
        f |= {"fl_flags": f.pop("fl_bits") >> 8 | (0xFFFFFFFF - i) << 32}
        f["fl_ifname"] = f["fl_ifname"].ljust(wide.size, b"\0")[:IFNAME]
        changed.append(wide.pack(f) + raw[plan.size :])
    return b"".join(changed)


def test_large_flags_are_text_in_every_output_and_come_back(
    tmp_path: Path, call: Call, large_flags: bytes
) -> None:
    log = tmp_path / "log"
    log.write_bytes(large_flags)
    layout = WIDE
    with pylog.open(log, layout=layout, raw=True) as reader:
        records = list(reader)
    assert len(records) == 20
    flags = [json.loads(to_json(record))["extra"]["fl_flags"] for record in records]
    assert all(isinstance(words[-1], str) and int(words[-1]) > 2**53 for words in flags)
    _, out, _ = call("read", "--layout", layout, "--to", "json", log)  # the fast path
    assert out.encode() == pylog.json_lines(records)
    assert all(abs(n) <= 2**53 for line in out.splitlines() for n in numbers(json.loads(line)))
    table = pylog.read_table(log, layout=layout)
    assert [json.loads(text)["fl_flags"] for text in table["extra"].to_pylist()] == flags
    assert call("info", "--json", "--layout", layout, log)[0] == 0
    encoder = Encoder(layout)
    again = b"".join(encoder.encode(msgspec.structs.replace(r, raw=None)) for r in records)
    assert again == large_flags and encoder.report() == []


def test_counters_of_a_table_are_text_above_2_to_the_53(tmp_path: Path, call: Call) -> None:
    import sqlite3

    with pylog.open(NAT, raw=True) as reader:
        flow = next(r for r in reader if isinstance(r, FlowRecord) and r.packets)
    assert flow.raw is not None and flow.bytes is not None
    layout = ipl_layouts.named(flow.layout)
    plan = layout.plan("nat")
    f = dict(zip(plan.names, plan.unpack(flow.raw, 0), strict=True))
    f |= {"nl_bytes.0": 2**64 - 1, "nl_bytes.1": 2**53}
    log, out = tmp_path / "log", tmp_path / "out.sqlite"
    log.write_bytes(plan.pack(f))
    assert call("convert", "--layout", flow.layout, log, out)[0] == 0
    with closing(sqlite3.connect(out)) as database:
        ((text,),) = database.execute("SELECT bytes FROM flow")
    assert json.loads(text) == {"in": str(2**64 - 1), "out": 2**53}
