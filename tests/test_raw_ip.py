"""Captures of IP packets without link headers: records without rules, on every way in and out."""

from __future__ import annotations

import io
import ipaddress
from pathlib import Path

import pytest
import samples
import tables
from builders import pcap_header, pcap_packet

import pylog
from pylog import DecodeError, PacketRecord, outputs, read_table
from pylog.batch import Batch
from pylog.cli import main
from pylog.formats import ip
from pylog.formats.pcap_blocks import (
    interface_block,
    packet_block,
    section_block,
)
from pylog.scrub import Scrubbing

RAW = samples.FIXTURES / "ip/raw.pcap"
TIME = 1_700_000_000 * 10**9


def packets() -> list[bytes]:
    with pylog.open(RAW) as reader:
        return [r.payload for r in reader if isinstance(r, PacketRecord) and r.payload]


FOUR = [data for data in packets() if data[0] >> 4 == 4]
SIX = [data for data in packets() if data[0] >> 4 == 6]


def pcap(linktype: int, some: list[bytes]) -> bytes:
    return pcap_header(linktype) + b"".join(
        pcap_packet(data, TIME + i) for i, data in enumerate(some)
    )


def pcapng(linktype: int, some: list[bytes]) -> bytes:
    blocks = [packet_block(data, TIME + i) for i, data in enumerate(some)]
    return section_block() + interface_block(linktype) + b"".join(blocks)


def read(data: bytes, **options: object) -> list[pylog.Record]:
    with pylog.open(io.BytesIO(data), **options) as reader:  # type: ignore[arg-type]
        return list(reader)


@pytest.mark.parametrize("make", [pcap, pcapng])
@pytest.mark.parametrize(("linktype", "some"), [
    (101, FOUR + SIX), (12, SIX + FOUR), (14, FOUR + SIX), (228, FOUR), (229, SIX),
])  # fmt: skip
def test_packets_of_every_link_type_are_records(
    make: object, linktype: int, some: list[bytes]
) -> None:
    records = read(make(linktype, some))  # type: ignore[operator]
    assert [record.payload for record in records] == some  # type: ignore[union-attr]
    for i, record in enumerate(records):
        assert isinstance(record, PacketRecord)
        assert (record.source, record.layout, record.observed_ns) == ("ip", "raw-ip", TIME + i)
        assert (record.action, record.group, record.hook, record.seq) == (None,) * 4
        version = 6 if record.family == "ipv6" else 4
        assert record.saddr and ipaddress.ip_address(record.saddr).version == version


def test_a_packet_of_another_version_is_a_record_and_reported() -> None:
    with pylog.open(io.BytesIO(pcap(101, [FOUR[0], b"\xf5" + FOUR[0][1:], b"", SIX[0]]))) as reader:
        first, odd, loss, last = list(reader)
    assert isinstance(first, PacketRecord) and first.family == "ipv4"
    assert isinstance(odd, PacketRecord) and odd.family is None
    assert odd.extra == {"bad_header": "version 15"} and reader.malformed == 1
    assert loss.reason == "nothing was captured of a packet of 0 bytes"  # type: ignore[union-attr]
    assert isinstance(last, PacketRecord) and last.family == "ipv6"
    (record,) = read(pcap(228, [SIX[0]]))
    assert isinstance(record, PacketRecord) and record.family == "ipv4" and record.extra


@pytest.mark.parametrize("linktype", [101, 228])
def test_damage_between_packets_is_skipped(linktype: int) -> None:
    data = pcap(linktype, FOUR)
    bad = data[:24] + b"\xff" * 300 + data[24:]
    found = [r for r in read(bad) if isinstance(r, PacketRecord)]
    assert [record.payload for record in found] == FOUR


def test_a_table_has_the_rows_that_a_reader_gives() -> None:
    for data in (RAW.read_bytes(), pcapng(101, FOUR * 40)):
        table = read_table(io.BytesIO(data))
        records = tables.streamed(data)
        assert tables.plain(table) == tables.rows(records, "packet", table.column_names)


def test_records_go_through_pcapng_and_come_back() -> None:
    with pylog.open(RAW, raw=True) as reader:
        records = list(reader)
    written = io.BytesIO()
    output = outputs.open("pcapng", outputs.Target(written))
    output.write(Batch(records))
    output.close()
    again = read(written.getvalue(), raw=True)

    def shape(record: pylog.Record) -> bytes:
        return pylog.to_json(record).split(b'"observed"')[1]

    assert [shape(record) for record in again] == [shape(record) for record in records]
    assert b"ip:" in written.getvalue() and b"raw-ip" in written.getvalue()


def test_packets_become_records_of_ipfilter(tmp_path: Path) -> None:
    path = tmp_path / "log.ipl"
    assert main(["read", "--to", "ipl", "-w", str(path), str(RAW)]) == 0
    found = read(path.read_bytes(), layout="ipl-5.1.2-lp64le")
    for was, now in zip(read(RAW.read_bytes()), found, strict=True):
        assert isinstance(was, PacketRecord) and isinstance(now, PacketRecord)
        for name in ("family", "protocol", "saddr", "daddr", "sport", "dport", "length"):
            assert getattr(was, name) == getattr(now, name)
        assert now.timestamp_ns is not None and was.observed_ns is not None
        assert now.timestamp_ns == was.observed_ns // 1000 * 1000


def test_packets_are_scrubbed() -> None:
    scrubbing = Scrubbing()
    with pylog.open(RAW, raw=True) as reader:
        pairs = [(record, scrubbing.record(record)) for record in reader]
    for was, now in pairs:
        assert isinstance(was, PacketRecord) and isinstance(now, PacketRecord) and now.payload
        assert (was.family, was.protocol, was.caplen) == (now.family, now.protocol, now.caplen)
        assert was.saddr and now.saddr
        if ipaddress.ip_address(was.saddr).is_private and was.saddr != "::":
            assert ipaddress.ip_address(was.saddr).packed not in now.payload


def test_a_replay_gives_the_packets() -> None:
    with pylog.replay(RAW, speed=None) as reader:
        assert len(list(reader)) == 35


def test_packets_one_after_the_other_are_read_if_the_layout_is_named() -> None:
    whole = [data for data in FOUR if int.from_bytes(data[2:4]) == len(data)]
    data = b"".join(whole)
    assert [r.payload for r in read(data, layout="raw-ip")] == whole  # type: ignore[union-attr]
    with pytest.raises(DecodeError):
        read(data)
    damaged = read(data + b"\xff" * 50 + data, layout="raw-ip")
    assert len(damaged) == 2 * len(whole) + 1
    with pytest.raises(ValueError, match="there is raw-ip"):
        ip.stream("raw")


def test_info_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(RAW)]) == 0
    text = capsys.readouterr().out
    assert "layout:         raw-ip" in text and "logs:           ip 35" in text
    assert "ABI" not in text
