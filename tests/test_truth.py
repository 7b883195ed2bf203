"""pylog says what ipmon, tshark and ulogd2 say of the same packets."""

from __future__ import annotations

import csv
import gzip
import io
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import builders
import ipmon
import pytest
import samples
import ulogd
from builders import parse

import pylog
from pylog import FlowRecord, LossRecord, PacketRecord
from pylog.formats import nfulnl_fast
from pylog.formats.packet_dissect import dissect
from pylog.formats.packet_schemas import FAMILIES

WITH_TEXT = [dump for dump in samples.dumps("ipl/*") if dump.with_suffix(".txt").exists()]
WITH_FIELDS = [dump for dump in samples.dumps("ipl/*") if dump.with_suffix(".fields").exists()]


def order(record: object) -> int:
    """Where ipmon -a prints a record of a file with all three logs."""
    if isinstance(record, FlowRecord):
        return 2 if record.flow_type == "state" else 1
    return 0


@pytest.mark.parametrize("dump", WITH_TEXT, ids=samples.name)
def test_ipl_records_are_what_ipmon_printed(dump: Path) -> None:
    release = samples.origins()[samples.name(dump)]["release"]
    with pylog.open(dump) as reader:
        records = list(reader)
    text = dump.with_suffix(".txt").read_text("latin-1").splitlines()
    lines = [line for line in text if not ipmon.MISSED.match(line)]
    body = [record for record in records if not isinstance(record, LossRecord)]
    if ".all." in dump.name:
        body.sort(key=order)
    if "cut.ipf" in dump.name:
        assert isinstance(records[-1], LossRecord) and records[-1].size
        del lines[len(body) :]  # 3.4.35 prints the cut record too, with what lies after the file
    assert len(body) == len(lines)
    for line, record in zip(lines, body, strict=True):
        said = ipmon.said(line)
        assert ipmon.says(record, release, said) == said, line
    missed = [match for line in text if (match := ipmon.MISSED.match(line))]
    # the first record of a new ipmon is always "missed 1: 0 1"
    told = sum(int(match[1]) for match in missed if match.groups()[2:] != ("0", "1"))
    assert told == sum(r.count or 0 for r in records if isinstance(r, LossRecord))


@pytest.mark.parametrize("dump", WITH_FIELDS, ids=samples.name)
def test_oldest_layouts_hold_the_values_that_were_written(dump: Path) -> None:
    with pylog.open(dump) as reader:
        records = list(reader)
    lines = dump.with_suffix(".fields").read_text().splitlines()
    little = "le" in reader.layout.split("-")[2]
    assert len(records) == len(lines)
    for line, record in zip(lines, records, strict=True):
        wrote = dict(re.findall(r"(\w+)=(\S*)", line))
        second = int(wrote["sec"]) * 10**9 + int(wrote["usec"]) * 1000
        assert record.timestamp_ns == second, line
        assert record.count in (int(wrote["count"]), None), line  # 2.x has no count
        if isinstance(record, PacketRecord):
            assert (record.indev or record.outdev) == wrote["if"] + wrote.get("unit", ""), line
            payload = record.payload or b""
            packet = bytes.fromhex(wrote["pkt"])
            if little and packet[0] >> 4 == 4:
                packet = packet[:2] + packet[3:1:-1] + packet[4:6] + packet[7:5:-1] + packet[8:]
            assert payload == packet, line
            rule = int(wrote["rule"])
            none = 0xFFFF if reader.layout < "ipl-3.4" else 0xFFFFFFFF
            expected = None if rule == none else rule + 1
            assert record.rule == expected, line
        elif isinstance(record, FlowRecord) and record.flow_type != "state":
            octets = bytes.fromhex(wrote["inip"])
            assert record.saddr == ".".join(map(str, octets)), line
            assert record.sport == int(wrote["inport"], 16), line
            assert record.dport == int(wrote["origport"], 16), line
            if record.bytes:
                assert record.bytes["total"] == int(wrote["bytes"]), line
        else:
            assert isinstance(record, FlowRecord)
            assert record.bytes and record.bytes["total"] == int(wrote["bytes"]), line
            assert record.protocol == int(wrote["p"]), line


# NFLOG

TCPDUMP = samples.FIXTURES / "nflog/tcpdump.pcap"
SEQ = samples.FIXTURES / "nflog/seq.bin"


def number(text: str) -> int | None:
    """tshark's number, None for an empty cell."""
    return int(text, 0) if text else None


def first(text: str) -> str:
    """The outermost of what tshark found in nested headers."""
    return text.split("|")[0]


def read(path: Path) -> list[PacketRecord]:
    with pylog.open(path) as reader:
        return [record for record in reader if isinstance(record, PacketRecord)]


def tshark_rows() -> list[dict[str, str]]:
    text = gzip.decompress((samples.FIXTURES / "nflog/tcpdump.tshark.tsv.gz").read_bytes())
    lines = io.StringIO(text.decode("latin-1"))
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


HOOKS = {5: ("ingress", "egress"), 3: ("input", "output", "forward")}
INET = ("prerouting", "input", "forward", "output", "postrouting", "ingress")


def test_nflog_attributes_are_what_tshark_found() -> None:
    records, rows = read(TCPDUMP), tshark_rows()
    assert len(records) == len(rows) == 827
    for record, row in zip(records, rows, strict=True):
        extra = record.extra or {}
        family = number(row["nflog.family"]) or 0
        hook = HOOKS.get(family, INET)[number(row["nflog.hook"]) or 0]
        assert extra["nfgen_family"] == family
        assert (record.group, record.hook) == (row["nflog.res_id"], hook)
        for name in ("indev", "outdev", "physindev", "physoutdev"):
            assert getattr(record, name) == number(row[f"nflog.ifindex_{name}"])
        assert (record.uid, record.gid) == (number(row["nflog.uid"]), number(row["nflog.gid"]))
        assert (record.prefix or "") == row["nflog.prefix"]
        assert record.timestamp_ns == nanoseconds(row["nflog.timestamp"])
        seconds, _, fraction = row["frame.time_epoch"].partition(".")
        assert record.observed_ns == int(seconds) * 10**9 + int(fraction)
        protocol = number(row["nflog.protocol"]) or 0
        if protocol != 0x8100:
            assert record.family == FAMILIES.get(protocol, protocol)
        unnamed(record, row)


def nanoseconds(text: str) -> int | None:
    """tshark's "Nov 21, 2026 00:11:01.267098000 UTC" in nanoseconds."""
    if not text:
        return None
    whole, _, fraction = text.removesuffix(" UTC").partition(".")
    moment = datetime.strptime(whole, "%b %d, %Y %H:%M:%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + int(fraction)


def unnamed(record: PacketRecord, row: dict[str, str]) -> None:
    """Compare the attributes that tshark only shows as bytes."""
    known = {1, 3, 4, 5, 6, 7, 9, 10, 11, 14}
    types = [int(kind) for kind in row["nflog.tlv_type"].split("|")]
    values = row["nflog.tlv_value"].split("|")
    for kind, value in zip((k for k in types if k not in known), values, strict=False):
        if kind == 2:
            assert record.mark == int(value, 16)
        elif kind == 8:
            assert (record.hwaddr or "").replace(":", "") == value[8 : 8 + 2 * int(value[:4], 16)]
        elif kind == 15:
            assert record.hwtype == int(value, 16)
        elif kind in (16, 21):
            assert record.hwheader == value
        elif kind == 20:
            tci = int(value[8:12], 16) if value[4:8] == "0002" else int(value[-8:-4], 16)
            assert record.vlan and (record.vlan[0].id == tci & 0xFFF or int(value[8:12], 16))


def test_nflog_packets_are_what_tshark_dissected() -> None:
    compared = 0
    for record, row in zip(read(TCPDUMP), tshark_rows(), strict=True):
        if (number(row["nflog.family"]), number(row["nflog.hook"])) in ((5, 1), (3, 1)):
            continue  # tshark takes the Ethernet header for the network header there
        if record.family not in FAMILIES.values():
            continue  # LLC, an unknown EtherType: neither goes on
        ethertype = next(number for number, name in FAMILIES.items() if name == record.family)
        found = dict(reversed(dissect(record.payload or b"", ethertype)))
        compared += 1
        if record.family == "arp":
            assert record.extra and record.extra["arp_oper"] == number(row["arp.opcode"])
            assert record.saddr == row["arp.src.proto_ipv4"]
            assert record.daddr == row["arp.dst.proto_ipv4"]
            assert record.extra["arp_sha"] == row["arp.src.hw_mac"]
            continue
        if record.family == "ipv4":
            ip = found["ipv4"]
            stated = number(first(row["ip.len"])) or 0  # one packet ends in padding of the link
            assert record.length == (stated if stated >= (record.caplen or 0) else None)
            assert (ip["id"], ip["ttl"]) == (
                number(first(row["ip.id"])),
                number(first(row["ip.ttl"])),
            )
            assert ip["tos"] == number(first(row["ip.dsfield"]))
            offset = record.fragment.offset if record.fragment else 0
            assert offset == 8 * (number(first(row["ip.frag_offset"])) or 0)
            assert record.protocol == number(first(row["ip.proto"]))
            ends = first(row["ip.src"]), first(row["ip.dst"])
        else:
            ip = found["ipv6"]
            assert record.length == 40 + (number(first(row["ipv6.plen"])) or 0)
            assert ip["next_header"] == number(first(row["ipv6.nxt"]))
            assert ip["hop_limit"] == number(first(row["ipv6.hlim"]))
            ends = first(row["ipv6.src"]), first(row["ipv6.dst"])
        assert (record.saddr, record.daddr) == ends
        if not record.fragment:  # tshark puts fragments together before it goes on
            layer4(record, row, found)
    assert compared == 726


def layer4(record: PacketRecord, row: dict[str, str], found: dict[str, Any]) -> None:
    if record.cut:  # tshark says nothing then
        assert record.cut in ("tcp", "udp") and not row["tcp.flags"] and not row["udp.srcport"]
        return
    for protocol, name in ((6, "tcp"), (17, "udp")):
        if record.protocol == protocol:
            assert record.sport == number(first(row[f"{name}.srcport"]))
            assert record.dport == number(first(row[f"{name}.dstport"]))
    if record.protocol == 6:
        bits = number(first(row["tcp.flags"])) or 0
        letters = zip("ARSFUPEC", (16, 4, 2, 1, 32, 8, 64, 128), strict=True)
        assert record.tcp_flags == ("".join(c for c, bit in letters if bits & bit) or "-")
        assert found["tcp"]["seq"] == number(first(row["tcp.seq_raw"]))
        assert found["tcp"]["window"] == number(first(row["tcp.window_size_value"]))
    for protocol, name in ((1, "icmp"), (58, "icmpv6")):
        if record.protocol == protocol:
            assert record.icmp_type == number(first(row[f"{name}.type"]))
            assert record.icmp_code == number(first(row[f"{name}.code"]))


def test_nflog_records_are_what_ulogd_wrote() -> None:
    wrote = gzip.decompress((samples.FIXTURES / "nflog/seq.ulogd.jsonl.gz").read_bytes())
    records, objects = read(SEQ), ulogd.objects(wrote)
    assert len(records) == len(objects) == 827
    for record, said in zip(records, objects, strict=True):
        ours, theirs = ulogd.views(record, said)
        assert ours == theirs


def test_conntrack_entries_are_what_conntrack_printed() -> None:
    records = read(samples.FIXTURES / "nflog/conntrack.bin")
    lines = (samples.FIXTURES / "nflog/conntrack.txt").read_text().splitlines()
    assert len(records) == len(lines) == 5
    for record, line in zip(records, lines, strict=True):
        entry = (record.extra or {})["NFULA_CT"]
        pairs = re.findall(r"(\w+)=([0-9a-f.:]+)", line)
        for side, direction in enumerate(("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY")):
            address, protocol = entry[direction].values()
            assert list(address.values()) == [
                [v for k, v in pairs if k == end][side] for end in ("src", "dst")
            ]
            if protocol["CTA_PROTO_NUM"] in (6, 17):
                ports = protocol["CTA_PROTO_SRC_PORT"], protocol["CTA_PROTO_DST_PORT"]
                assert [str(p) for p in ports] == [
                    [v for k, v in pairs if k == end][side] for end in ("sport", "dport")
                ]
        told = dict(pairs)
        assert str(entry["CTA_ID"]) == told["id"] and str(entry["CTA_MARK"]) == told["mark"]
        assert ("ASSURED" in entry["CTA_STATUS"]) == ("[ASSURED]" in line)
        assert ("SEEN_REPLY" in entry["CTA_STATUS"]) == ("[UNREPLIED]" not in line)
        if "CTA_PROTOINFO" in entry:
            assert entry["CTA_PROTOINFO"]["CTA_PROTOINFO_TCP"]["CTA_PROTOINFO_TCP_STATE"] in line
        assert f"packets={entry['CTA_COUNTERS_ORIG']['CTA_COUNTERS_PACKETS']}" in line
        assert record.extra and record.extra["NFULA_CT_INFO"] == "NEW"


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs the program tshark")
def test_the_packets_that_tshark_misreads_in_nflog_it_reads_alike_as_ethernet(
    tmp_path: Path,
) -> None:
    """Those logged from the Ethernet header on, given to tshark as the frames they are."""
    with pylog.open(SEQ, raw=True) as reader:
        records = [r for r in reader if isinstance(r, PacketRecord) and from_ethernet(r)]
    assert len(records) == 92
    capture = builders.pcap_header(1)
    for record in records:
        attributes = parse(builders.log_message("<"), record.raw or b"").attributes
        frame = next(a.value for a in attributes if a.nla_type == nfulnl_fast.NFULA_PAYLOAD)
        capture += builders.pcap_packet(frame, 0)
    (tmp_path / "frames.pcap").write_bytes(capture)
    names = [
        "ip.src", "ip.dst", "ip.proto", "ip.len", "ipv6.src", "ipv6.dst", "ipv6.plen", "eth.src",
        "arp.src.proto_ipv4", "arp.dst.proto_ipv4", "tcp.srcport", "tcp.dstport", "udp.srcport",
        "udp.dstport", "icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code",
    ]  # fmt: skip
    asked = [part for name in names for part in ("-e", name)]
    whole = ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]  # read fragments singly
    command = ["tshark", "-r", str(tmp_path / "frames.pcap"), *whole, "-T", "fields",
               "-E", "aggregator=|", *asked]  # fmt: skip
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in text.splitlines()]
    assert len(rows) == len(records)
    kinds = set()
    for record, row in zip(records, rows, strict=True):
        kinds.add((record.family, record.protocol))
        assert mac((record.hwheader or "")[12:24]) == row["eth.src"]
        ends = ("arp.src.proto_ipv4", "arp.dst.proto_ipv4")
        if record.family == "ipv4":
            ends = ("ip.src", "ip.dst")
            assert record.length == number(first(row["ip.len"]))
            assert record.protocol == number(first(row["ip.proto"]))
        elif record.family == "ipv6":
            ends = ("ipv6.src", "ipv6.dst")
            assert record.length == 40 + (number(first(row["ipv6.plen"])) or 0)
        said = tuple(first(row[end]) or None for end in ends)
        assert (record.saddr, record.daddr) == said
        for protocol, layer in ((6, "tcp"), (17, "udp")):
            if record.protocol == protocol and not record.cut:
                assert record.sport == number(first(row[f"{layer}.srcport"]))
                assert record.dport == number(first(row[f"{layer}.dstport"]))
        for protocol, layer in ((1, "icmp"), (58, "icmpv6")):
            if record.protocol == protocol and not record.fragment:
                assert record.icmp_type == number(first(row[f"{layer}.type"]))
                assert record.icmp_code == number(first(row[f"{layer}.code"]))
    assert {("ipv4", 6), ("ipv4", 17), ("ipv4", 1), ("ipv6", 58), ("arp", None)} <= kinds


def from_ethernet(record: PacketRecord) -> bool:
    """Whether the kernel logged the packet from its Ethernet header on."""
    return ((record.extra or {})["nfgen_family"], record.hook) in ((5, "egress"), (3, "output"))


def mac(digits: str) -> str:
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def test_packets_of_a_raw_capture_are_what_tshark_dissected() -> None:
    raw = samples.FIXTURES / "ip/raw.pcap"
    with raw.with_suffix(".tshark.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with pylog.open(raw) as reader:
        records = list(reader)
    for record, row in zip(records, rows, strict=True):
        assert isinstance(record, PacketRecord) and record.caplen == number(row["frame.cap_len"])
        six = record.family == "ipv6"
        ends = ("ipv6.src", "ipv6.dst") if six else ("ip.src", "ip.dst")
        assert (record.saddr, record.daddr) == tuple(row[end] for end in ends)
        length = 40 + (number(row["ipv6.plen"]) or 0) if six else number(row["ip.len"])
        assert record.length == length
        for protocol, layer in ((6, "tcp"), (17, "udp")):
            if record.protocol == protocol and not record.fragment:
                ports = tuple(number(row[f"{layer}.{port}"]) for port in ("srcport", "dstport"))
                assert (record.sport, record.dport) == ports
