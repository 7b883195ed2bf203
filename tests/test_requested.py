"""Fields on request: what tshark and tcpdump say of the same packets, and every way to ask."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import builders
import effort
import inprocess
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import PacketRecord, outputs
from pylog.batch import Batch
from pylog.formats.packet_headers import requested, tcp_options
from pylog.record import ON_REQUEST, PacketHeaders, fields_of

FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
SEQ = samples.FIXTURES / "nflog/seq.bin"
NAMES = list(fields_of(PacketHeaders))
TSHARK = {
    "ttl": ("ip.ttl", "ipv6.hlim"), "tos": ("ip.dsfield", "ipv6.tclass"), "ip_id": ("ip.id",),
    "flow_label": ("ipv6.flow",), "tcp_seq": ("tcp.seq_raw",), "tcp_ack": ("tcp.ack_raw",),
    "tcp_window": ("tcp.window_size_value",), "udp_length": ("udp.length",),
}  # fmt: skip
RAW_IP = 101


def packets(path: Path) -> list[PacketRecord]:
    """The packets of a log that begin with an IP header and have no header that is cut.

    Of those tshark gives what comes before the cut for some, for others nothing.
    """
    with pylog.open(path) as reader:
        found = [r for r in reader if isinstance(r, PacketRecord) and r.payload and not r.cut]
    return [r for r in found if r.family in ("ipv4", "ipv6") and len(r.payload or b"") >= 20]


def headers(record: PacketRecord) -> PacketHeaders:
    return requested(record.payload, record.family)


def as_capture(records: list[PacketRecord], path: Path) -> Path:
    """A capture of the packets alone, without anything that logged them."""
    blocks = [builders.pcap_packet(record.payload or b"", 0) for record in records]
    path.write_bytes(builders.pcap_header(RAW_IP) + b"".join(blocks))
    return path


def is_own(record: PacketRecord, field: str) -> bool:
    """Whether tshark's first value of a field is the packet's own, not that of one inside it."""
    later = record.fragment is not None and bool(record.fragment.offset)
    own = {"ip": record.family == "ipv4", "ipv6": record.family == "ipv6",
           "tcp": record.protocol == 6 and not later,
           "udp": record.protocol == 17 and not later}  # fmt: skip
    return own[field.partition(".")[0]]


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs the program tshark")
@pytest.mark.parametrize("dump", [FILTER, SEQ, samples.FIXTURES / "ip/raw.pcap"], ids=samples.name)
def test_headers_are_what_tshark_finds(dump: Path, tmp_path: Path) -> None:
    records = packets(dump)
    fields = [field for of in TSHARK.values() for field in of]
    asked = [part for field in fields for part in ("-e", field)]
    command = ["tshark", "-r", str(as_capture(records, tmp_path / "packets.pcap")),
               "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-T", "fields",
               "-E", "occurrence=f", *asked]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [dict(zip(fields, x.split("\t"), strict=True)) for x in done.stdout.splitlines()]
    compared = dict.fromkeys(TSHARK, 0)
    assert len(lines) == len(records) > 0
    for record, line in zip(records, lines, strict=True):
        given = headers(record)
        for name, of in TSHARK.items():
            shown = [line[field] for field in of if is_own(record, field) and line[field]]
            expected = int(shown[0], 0) if shown else None
            assert getattr(given, name) == expected, (name, record)
            compared[name] += expected is not None
    assert sum(compared.values()) >= len(records)


def test_the_fixtures_have_every_field() -> None:
    found = [headers(r) for dump in samples.dumps() for r in packets(dump)]
    for name in NAMES:
        assert any(getattr(one, name) is not None for one in found), name


@pytest.mark.skipif(not shutil.which("tcpdump"), reason="needs the program tcpdump")
def test_tcp_options_are_as_tcpdump_prints_them(tmp_path: Path) -> None:
    records = [r for r in packets(SEQ) if headers(r).tcp_options]
    path = as_capture(records, tmp_path / "packets.pcap")
    done = subprocess.run(["tcpdump", "-nr", str(path)], capture_output=True, text=True, check=True)
    shown = re.findall(r"options \[(.*?)\], ", done.stdout)
    assert len(shown) > 10
    assert [headers(r).tcp_options for r in records] == shown


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        ("020405b4 0402 080a 00000001 00000000 01 030307",
         "mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7"),
        ("0101 050a 00000001 00000002", "nop,nop,sack 1 {1:2}"),
        ("0512 00000001 00000002 00000005 00000009", "sack 2 {1:2}{5:9}"),
        ("0506 00000001", "sack 0x00000001"),
        ("2206 0a0b0c0d", "tfo 0x0a0b0c0d"),
        ("1312 000102030405060708090a0b0c0d0e0f", "md5 000102030405060708090a0b0c0d0e0f"),
        ("fd04 abcd", "unknown-253 0xabcd"),
        ("fd02", "unknown-253"),
        ("0203 05", "mss-bad 0x05"),
        ("01 00 01", "nop,eol"),
        ("01 0204 05", "nop"),
        ("01 0200 05b4", "nop"),
        ("01 02", "nop"),
        ("", ""),
    ],
)  # fmt: skip
def test_tcp_options(octets: str, text: str) -> None:
    assert tcp_options(bytes.fromhex(octets)) == text


def ipv4(upper: bytes, protocol: int = 6, fragment: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0x1C, 20 + len(upper), 0x1234, fragment, 61, protocol,
                       0, bytes(4), bytes(4))  # fmt: skip
    return head + upper


SYN = struct.pack(">HHIIBBHHH", 1, 2, 3, 4, 0x60, 2, 5, 0, 0) + bytes.fromhex("020405b4")


def test_each_field_of_a_cut_packet_stands_alone() -> None:
    packet = ipv4(SYN)
    ends = {"tos": 2, "ip_id": 6, "ttl": 9, "tcp_seq": 28, "tcp_ack": 32, "tcp_window": 36,
            "tcp_options": 44}  # fmt: skip
    expected = {"tos": 0x1C, "ip_id": 0x1234, "ttl": 61, "tcp_seq": 3, "tcp_ack": 4,
                "tcp_window": 5, "tcp_options": "mss 1460"}  # fmt: skip
    for size in range(len(packet) + 1):
        given = requested(packet[:size], "ipv4")
        for name, end in ends.items():
            assert getattr(given, name) == (expected[name] if size >= end else None), (name, size)
    assert given.udp_length is given.flow_label is None


def test_other_packets_have_none_of_them() -> None:
    nothing = PacketHeaders()
    assert requested(None, "ipv4") == requested(b"", "ipv4") == nothing
    assert requested(ipv4(SYN), "arp") == requested(ipv4(SYN), None) == nothing
    assert requested(b"\x65" + ipv4(SYN)[1:], "ipv4") == nothing
    assert requested(ipv4(SYN), "ipv6") == nothing
    later = requested(ipv4(SYN, fragment=5), "ipv4")
    assert (later.ttl, later.tcp_seq) == (61, None)
    quoting = requested(ipv4(bytes.fromhex("0301000000000000") + ipv4(SYN), protocol=1), "ipv4")
    assert (quoting.ttl, quoting.tcp_seq, quoting.tcp_options) == (61, None, None)


@effort.examples(100)
@given(st.binary(max_size=120), st.sampled_from(["ipv4", "ipv6"]))
def test_any_bytes_give_headers(data: bytes, family: str) -> None:
    for first in (data, b"\x45" + data, b"\x60" + data):
        given = requested(first, family)
        assert {type(getattr(given, name)) for name in NAMES} <= {int, str, type(None)}


# Ways to ask


def expected_rows(path: Path) -> list[dict[str, Any]]:
    with pylog.open(path) as reader:
        found = [headers(r) for r in reader if isinstance(r, PacketRecord)]
    return [{name: getattr(one, name) for name in NAMES} for one in found]


@pytest.mark.parametrize("dump", effort.sample(samples.dumps(), least=20), ids=samples.name)
def test_tables_have_them_on_request(dump: Path) -> None:
    """Whichever way the columns are made: in bulk, or of records."""
    pytest.importorskip("pyarrow")
    from pylog.table.schemas import schema

    assert not set(NAMES) & set(schema().names)
    assert pylog.read_table(dump, columns=NAMES).to_pylist() == expected_rows(dump)


def test_rows_can_be_selected_by_them() -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.compute as pc

    table = pylog.read_table(SEQ, columns=["sport"], where=pc.field("udp_length") > 0)
    assert table.num_rows == sum(row["udp_length"] is not None for row in expected_rows(SEQ)) > 0


@pytest.mark.parametrize("dump", [SEQ, FILTER, samples.FIXTURES / "ipl/damaged.bin"],
                         ids=samples.name)  # fmt: skip
def test_json_and_csv_have_the_columns_that_are_asked_for(dump: Path) -> None:
    names = ["daddr", "kind", *NAMES, "reason", "fragment"]
    columns = ",".join(names)
    with pylog.open(dump) as reader:
        records = list(reader)
    written = {}
    for form in ("json", "csv"):
        stream = io.BytesIO()
        output = outputs.open(form, outputs.Target(stream), {"columns": columns})
        output.write(Batch(records))
        output.close()
        written[form] = stream.getvalue().decode()
    objects = [json.loads(line) for line in written["json"].splitlines()]
    rows = list(csv.DictReader(io.StringIO(written["csv"])))
    assert list(rows[0]) == names and len(rows) == len(objects) == len(records)
    expected = iter(expected_rows(dump))
    for record, shown, row in zip(records, objects, rows, strict=True):
        assert list(shown) == [name for name in names if name in shown]
        given = next(expected) if isinstance(record, PacketRecord) else dict.fromkeys(NAMES)
        assert {name: shown.get(name) for name in NAMES} == given
        assert {name: row[name] for name in NAMES} == {
            name: "" if value is None else str(value) for name, value in given.items()
        }
        assert row["kind"] == shown["kind"] and row["daddr"] == shown.get("daddr", "")


def test_the_command_line_chooses_columns(tmp_path: Path) -> None:
    done = inprocess.text("read", "-n", "2", "--to", "csv", "--columns", "dport,action", FILTER)
    assert done.stdout.splitlines() == ["dport,action", "80,pass", "40000,pass"]
    done = inprocess.text("read", "-n", "1", "--to", "json", "--columns", "tcp_seq,ttl", FILTER)
    assert done.stdout == '{"tcp_seq":1000,"ttl":64}\n'
    for name in ("out.csv", "out.jsonl"):
        assert (
            inprocess.text("convert", "--columns", "ttl", FILTER, tmp_path / name).returncode == 0
        )
    found = [row["ttl"] for row in expected_rows(FILTER)]
    assert (tmp_path / "out.csv").read_text().splitlines() == ["ttl", *map(str, found)]
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["ttl"] for line in lines] == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "ipl", "--columns", "ttl"], "--columns is an option of --to arrow, "),
        (["--to", "json", "--columns", "hops"], "(pylog help columns lists all)"),
        (["--to", "csv", "--columns", "ttl,ttl"], "must name each column once"),
    ],
)
def test_columns_that_make_no_sense_are_refused(arguments: list[str], message: str) -> None:
    done = inprocess.text("read", *arguments, FILTER)
    assert done.returncode == 2 and message in done.stderr and not done.stdout


def test_they_are_columns_on_request_of_packets_alone() -> None:
    assert {"packet": PacketHeaders} == ON_REQUEST
    assert not set(NAMES) & set(fields_of(PacketRecord))
