"""Capture files: written and read in every form, by pylog and by tshark, whole and damaged."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import builders
import effort
import hostile
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import DecodeError, LossRecord, PacketRecord
from pylog.formats import Message, netlink, nfulnl_attributes, pcap, pcap_blocks
from pylog.formats.pcap_stream import PcapStream

TIME = 1700000000_123456789
NFLOG = builders.log(
    "<", 7, [(1, {"hw_protocol": 0x800, "hook": 1}), (10, b"hi "), (2, 9)], family=2
)
needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="needs the program tshark")


def read(data: bytes, **options: Any) -> list[Any]:
    with pylog.open(io.BytesIO(data), **options) as reader:
        return list(reader)


@pytest.mark.parametrize("nanoseconds", [True, False])
@pytest.mark.parametrize("order", "<>")
def test_pcap_is_read_as_it_was_written(order: str, nanoseconds: bool) -> None:
    data = builders.pcap_header(239, order=order, nanoseconds=nanoseconds)
    for i in range(3):
        data += builders.pcap_packet(NFLOG[16:], TIME + i, order=order, nanoseconds=nanoseconds)
    records = read(data)
    assert [r.mark for r in records] == [9, 9, 9]
    exact = TIME + 2 if nanoseconds else TIME // 1000 * 1000
    assert records[2].observed_ns == exact and records[2].prefix == "hi "


@pytest.mark.parametrize("order", "<>")
def test_pcapng_is_read_as_it_was_written(order: str) -> None:
    data = pcap_blocks.section_block(application="test", os="none", comment="x", order=order)
    data += pcap_blocks.interface_block(1, name="eth0", order=order)
    data += pcap_blocks.interface_block(239, name="nflog:7", order=order)
    data += pcap_blocks.packet_block(b"an ethernet frame", TIME, interface=0, order=order)
    data += pcap_blocks.packet_block(NFLOG[16:], TIME, interface=1, order=order)
    data += pcap_blocks.packet_block(NFLOG[16:], TIME + 1, interface=1, dropped=5, order=order)
    with pylog.open(io.BytesIO(data)) as reader:
        first, lost, second = list(reader)
    assert isinstance(lost, LossRecord) and lost.count == 5 and lost.log == "7"
    assert (first.observed_ns, second.observed_ns) == (TIME, TIME + 1)
    assert reader.other == 1 and reader.dropped == 5


def test_sections_of_both_byte_orders_follow_each_other() -> None:
    data = b""
    for order in "<><":
        data += pcap_blocks.section_block(order=order) + pcap_blocks.interface_block(
            239, order=order
        )
        data += pcap_blocks.packet_block(NFLOG[16:], TIME, order=order)
    assert [r.mark for r in read(data)] == [9, 9, 9]


def test_nflog_packets_of_the_other_byte_order_are_told_by_themselves() -> None:
    big = builders.log(">", 7, [(1, {"hw_protocol": 0x800, "hook": 1}), (2, 9)], family=2)
    data = builders.pcap_header(239) + builders.pcap_packet(NFLOG[16:], TIME)
    records = read(data + builders.pcap_packet(big[16:], TIME))
    assert [(r.layout, r.mark) for r in records] == [("nfulnl-le", 9), ("nfulnl-be", 9)]


def test_losses_are_told_once_where_sequence_numbers_tell_them_too() -> None:
    def numbered(seq: int) -> bytes:
        return builders.log("<", 7, [(1, {"hw_protocol": 0x800, "hook": 1}), (12, seq)])[16:]

    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    data += pcap_blocks.packet_block(numbered(1), TIME) + pcap_blocks.packet_block(
        numbered(5), TIME, dropped=3
    )
    losses = [r for r in read(data) if isinstance(r, LossRecord)]
    assert [(r.count, r.seq) for r in losses] == [(3, 2)]


IPL = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"


def ipl_capture(description: str) -> bytes:
    raw = IPL.read_bytes()
    with pylog.open(IPL, raw=True) as reader:
        records = [r.raw for r in reader]
    assert b"".join(r or b"" for r in records) == raw
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(
        116, name="ipl0", description=description
    )
    return data + b"".join(pcap_blocks.packet_block(r or b"", TIME) for r in records)


@pytest.mark.parametrize("description", ["ipl-5.1.2-lp64le", "", "the log of a firewall"])
def test_ipl_records_in_pcapng(description: str) -> None:
    records = read(ipl_capture(description))
    with pylog.open(IPL) as reader:
        expected = list(reader)
    assert len(records) == len(expected) == 61
    for a, b in zip(records, expected, strict=True):
        assert isinstance(a, PacketRecord) and isinstance(b, PacketRecord)
        assert (a.saddr, a.timestamp_ns, a.extra) == (b.saddr, b.timestamp_ns, b.extra)
        assert a.observed_ns == TIME and a.layout == "ipl-5.1.2-lp64le"


def test_read_bytes_of_a_capture_gives_messages_as_the_kernel_does() -> None:
    with pylog.open(io.BytesIO(ipl_capture(""))) as reader:
        assert reader.read_bytes(1 << 20) == IPL.read_bytes()
    data = builders.pcap_header(239) + builders.pcap_packet(NFLOG[16:], TIME) * 2
    with pylog.open(io.BytesIO(data)) as reader:
        assert read(reader.read_bytes(1000))[1].mark == 9


def link_header(protocol: int) -> bytes:
    return netlink.LINK_HEADER.build(
        {"sll_pkttype": 4, "sll_hatype": 824, "sll_protocol": protocol}
    )


@pytest.mark.parametrize("order", "<>")
def test_nlmon_captures_hold_whole_messages_among_others(order: str) -> None:
    log = builders.log(order, 7, [(1, {"hw_protocol": 0x800, "hook": 1}), (2, 9)])
    data = builders.pcap_header(253, order=order)
    data += builders.pcap_packet(link_header(0) + log, TIME, order=order)  # rtnetlink: not ours
    data += builders.pcap_packet(link_header(12) + log + log, TIME, order=order)
    data += builders.pcap_packet(
        link_header(12) + nfulnl_attributes.config(order, 7, {}), TIME, order=order
    )
    with pylog.open(io.BytesIO(data)) as reader:
        assert [r.mark for r in reader if isinstance(r, PacketRecord)] == [9, 9]
        assert reader.other == 2


def test_a_message_cut_by_the_snaplen_gives_what_is_there() -> None:
    payload = bytes.fromhex("4500003c00004000400600000a0000010a000002") + bytes(40)
    message = builders.log("<", 7, [(1, {"hw_protocol": 0x800, "hook": 1}), (9, payload)], family=2)
    message = message[16:]
    for keep in range(len(message) - 1, 12, -1):
        data = builders.pcap_header(239) + builders.pcap_packet(
            message[:keep], TIME, length=len(message)
        )
        (record,) = read(data)
        assert isinstance(record, PacketRecord) and record.hook == "input"
        if keep > 50:
            assert record.saddr == "10.0.0.1"


@pytest.mark.parametrize("linktype", [1, 113, 127, 9999])
def test_other_link_types_are_named_in_the_error(linktype: int) -> None:
    data = builders.pcap_header(linktype) + builders.pcap_packet(bytes(60), TIME)
    with pytest.raises(DecodeError) as caught:
        read(data)
    text = str(caught.value)
    assert str(linktype) in text and "239 (NFLOG)" in text and "116 (IPFILTER)" in text
    assert linktype == 9999 or pcap_blocks.LINKTYPE_NAMES[linktype] in text
    assert text.endswith(
        "; pylog reads link types 1 (ETHERNET of ipfw0), 12, 14, 101 (RAW), 17 (OLD_PFLOG),"
        " 113 and 276 (LINUX_SLL of nlmon), 116 (IPFILTER), 117 (PFLOG), 228 (IPV4), 229 (IPV6),"
        " 239 (NFLOG), 253 (NETLINK)"
    )


def blocks() -> list[bytes]:
    found = [pcap_blocks.section_block(), pcap_blocks.interface_block(239, name="n")]
    return found + [pcap_blocks.packet_block(NFLOG[16:], TIME + i) for i in range(6)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:4] + b"\0\0\0\0" + b[8:],
        lambda b: b[:4] + b"\xff\xff\xff\x7f" + b[8:],
        lambda b: b[:-4] + b"\0\0\0\0",
        lambda b: b[8:],
        lambda b: b[:8] + b"\xff\0\0\0" + b[12:],
        lambda b: b[:20] + b"\xff\xff\0\0" + b[24:],
    ],
)
def test_a_damaged_block_costs_one_packet(damage: Any) -> None:
    parts = blocks()
    parts[4] = damage(parts[4])
    records = read(b"".join(parts))
    losses = [r for r in records if isinstance(r, LossRecord)]
    assert len(losses) == 1 and losses[0].size
    assert sum(isinstance(r, PacketRecord) for r in records) == 5


def test_a_damaged_pcap_packet_costs_no_more_than_two() -> None:
    parts = [builders.pcap_packet(NFLOG[16:], TIME + i * 10**9) for i in range(9)]
    parts[3] = parts[3][:8] + b"\xff\xff\xff\x7f" + parts[3][12:]
    records = read(builders.pcap_header(239) + b"".join(parts))
    assert sum(isinstance(r, LossRecord) for r in records) == 1
    assert sum(isinstance(r, PacketRecord) for r in records) >= 7


@effort.examples(300)
@given(st.data())
def test_any_changed_byte_gives_records_damage_or_a_clear_error(data: st.DataObject) -> None:
    whole = bytearray(b"".join(blocks()))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(whole)))
    try:
        for record in read(bytes(whole[:end])):
            pylog.to_json(record)
    except DecodeError:
        return


def test_every_byte_of_a_pcapng_may_change() -> None:
    whole = b"".join(blocks())
    for at in effort.sample(range(len(whole))):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        try:
            read(bytes(changed))
        except DecodeError:
            continue


@needs_tshark
def test_tshark_reads_what_pylog_writes(tmp_path: Path) -> None:
    data = pcap_blocks.section_block(hardware="h", os="o", application="pylog")
    data += pcap_blocks.interface_block(239, name="nflog:7", description="d")
    data += pcap_blocks.packet_block(NFLOG[16:], TIME, dropped=3) + pcap_blocks.packet_block(
        NFLOG[16:], TIME + 5
    )
    (tmp_path / "a.pcapng").write_bytes(data)
    old = builders.pcap_header(239, order=">", nanoseconds=False)
    (tmp_path / "b.pcap").write_bytes(old + builders.pcap_packet(NFLOG[16:], TIME, order=">",
                                                           nanoseconds=False))  # fmt: skip
    netlink = builders.pcap_header(253) + builders.pcap_packet(link_header(12) + NFLOG, TIME)
    (tmp_path / "c.pcap").write_bytes(netlink)

    def fields(name: str, *wanted: str) -> list[str]:
        asked = [part for field in wanted for part in ("-e", field)]
        command = ["tshark", "-r", str(tmp_path / name), "-T", "fields", *asked]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert fields("a.pcapng", "frame.time_epoch", "nflog.prefix", "frame.interface_name") == [
        "1700000000.123456789\thi \tnflog:7", "1700000000.123456794\thi \tnflog:7",
    ]  # fmt: skip
    assert fields("b.pcap", "frame.time_epoch", "nflog.res_id") == ["1700000000.123456000\t7"]
    assert fields("c.pcap", "netlink.hdr_len") == [str(len(NFLOG))]


def test_a_pcapng_of_tshark_holds_the_records_of_its_pcap() -> None:
    with pylog.open(samples.FIXTURES / "nflog/tshark.pcapng") as reader:
        records = [json.loads(pylog.to_json(r)) for r in reader]
    assert [r["prefix"] for r in records] == ["to nlmon "] * 6
    assert {r["dport"] for r in records} == {5301}


def test_a_time_stamp_resolution_of_2_to_the_power() -> None:
    option = struct.pack("<HH", 9, 1) + b"\x8a\0\0\0" + bytes(4)  # 2^-10 s
    body = struct.pack("<HHI", 239, 0, 0) + option
    size = len(body) + 12
    interface = struct.pack("<II", 1, size) + body + struct.pack("<I", size)
    data = (
        pcap_blocks.section_block()
        + interface
        + pcap_blocks.packet_block(NFLOG[16:], 1700000000 << 10 | 512)
    )
    assert read(data)[0].observed_ns == 1700000000_500000000


def test_simple_packets_have_no_time() -> None:
    body = NFLOG[16:]
    size = 16 + len(body)
    simple = struct.pack("<III", 3, size, len(body)) + body + struct.pack("<I", size)
    (record,) = read(pcap_blocks.section_block() + pcap_blocks.interface_block(239) + simple)
    assert record.mark == 9 and record.observed_ns is None


def test_probe_of_a_stream_says_how_many_packets_of_each_kind() -> None:
    (guess,) = pcap.probe((samples.FIXTURES / "nflog/tcpdump.pcap").read_bytes(), True)
    assert guess.messages == 827 and "239 (NFLOG): 827" in guess.evidence[0]
    stream = guess.stream()
    assert isinstance(stream, PcapStream) and stream.layouts == []
    assert all(isinstance(i, Message) for i in stream.split(b"".join(blocks()), True))


def test_a_pcap_of_another_major_version_is_refused() -> None:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 3, 4, 0, 0, 65535, 239)
    with pytest.raises(DecodeError):
        read(head + bytes(40))


def test_damage_before_a_new_section_does_not_cost_the_section() -> None:
    first = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    first += pcap_blocks.packet_block(NFLOG[16:], TIME)
    second = pcap_blocks.section_block(order=">") + pcap_blocks.interface_block(239, order=">")
    second += pcap_blocks.packet_block(NFLOG[16:], TIME, order=">") * 5
    records = read(first + b"XXXXXXXX" + second)
    assert sum(isinstance(r, PacketRecord) for r in records) == 6
    assert sum(isinstance(r, LossRecord) for r in records) == 1


def test_an_interface_that_names_its_layout_is_believed() -> None:
    old = samples.FIXTURES / "ipl/v4-1-35-lp64le-filter.ipf.bin"
    with pylog.open(old, raw=True) as reader:
        records = [r.raw or b"" for r in reader][:20]
    data = pcap_blocks.section_block()
    data += pcap_blocks.interface_block(116, description="ipl-4.1-lp64le")
    data += pcap_blocks.interface_block(116)
    data += b"".join(pcap_blocks.packet_block(r, TIME) for r in records)
    with pylog.open(IPL, raw=True) as reader:
        for r in reader:
            data += pcap_blocks.packet_block(r.raw or b"", TIME, interface=1)
    layouts = [r.layout for r in read(data)]
    assert layouts == ["ipl-4.1-lp64le"] * 20 + ["ipl-5.1.2-lp64le"] * 61


def test_an_absurd_drop_count_is_damage_and_its_packet_is_read() -> None:
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    block = pcap_blocks.packet_block(NFLOG[16:], TIME, dropped=12345)
    data += block.replace(struct.pack("<Q", 12345), b"\xff" * 8)
    damage, packet = read(data)
    assert isinstance(damage, LossRecord) and damage.count is None and damage.size == 8
    assert damage.reason == f"epb_dropcount {2**64 - 1}, but expected 0 to {2**63 - 1}"
    assert isinstance(packet, PacketRecord)


def test_the_largest_drop_count_stays_a_number_that_json_can_hold() -> None:
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    data += pcap_blocks.packet_block(NFLOG[16:], TIME, dropped=2**64 - 1)
    loss = read(data)[0]
    assert loss.count == 2**63 - 1
    assert b'"count":"9223372036854775807"' in pylog.to_json(loss)


def test_every_drop_count_is_told_whatever_follows_it() -> None:
    data = pcap_blocks.section_block() + pcap_blocks.interface_block(239)
    data += pcap_blocks.interface_block(1)
    data += pcap_blocks.packet_block(b"bad", TIME, dropped=3)
    data += pcap_blocks.packet_block(NFLOG[16:], TIME, dropped=4)
    data += pcap_blocks.packet_block(b"ethernet", TIME, interface=1, dropped=100)  # not ours
    data += pcap_blocks.packet_block(b"bad", TIME, dropped=9)
    with pylog.open(io.BytesIO(data)) as reader:
        counts = [r.count for r in reader if isinstance(r, LossRecord) and r.count]
    assert counts == [7, 9] and reader.dropped == 16
    with pylog.open(io.BytesIO(data)) as reader:
        reader.read_bytes(1000)
        reader.read_bytes(1000)
        assert reader.dropped == 16


def test_info_of_a_capture_without_packets(tmp_path: Path) -> None:
    with pylog.open(io.BytesIO(builders.pcap_header(239))) as reader:
        assert list(reader) == [] and reader.layout == "pcap"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("linktype", [116, 239, 253])
def test_few_places_of_hostile_bytes_are_looked_at_as_packets_of_pcap(
    linktype: int, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What costs time in damage is what Python does, once for each place that seems a packet."""
    looked = 0
    begins = PcapStream.begins

    def counted(self: PcapStream, data: bytes, pos: int, final: bool) -> bool | None:
        nonlocal looked
        looked += 1
        return begins(self, data, pos, final)

    monkeypatch.setattr(PcapStream, "begins", counted)
    log = hostile.log(f"pcap {linktype} {'le' if order == '<' else 'be'}")
    size = 100_000
    for name, most in (("zeros", 0), ("ff", 0), ("random", 40), ("low bytes", 30_000)):
        looked = 0
        data = log.begun + b"\xff" * 16 + hostile.FILLINGS[name](log, size) + log.record * 3
        with pylog.open(io.BytesIO(data), layout=log.layout) as reader:
            kinds = [record.__struct_config__.tag for record in reader]
        assert kinds[:9] == ["packet"] * 8 + ["loss"] and kinds[-3:] == ["packet"] * 3, name
        assert name == "low bytes" or len(kinds) == 12, name
        assert looked <= most + 4, name


def test_a_packet_that_claims_much_costs_no_more_than_others() -> None:
    """A snaplen in the head allows packets of 16 MiB: none of them is decoded to be found."""
    attributes = struct.pack("<HH", 4, 9) * 2
    packet = struct.pack("<IIII", 1, 1, 1 << 20, 1 << 20) + b"\2\0\0\5" + attributes
    data = builders.pcap_header(239, snaplen=1 << 24, nanoseconds=False) + b"\xff" * 16
    data += packet * (300_000 // len(packet))
    before = time.process_time()
    with pylog.open(io.BytesIO(data), layout="nfulnl-le") as reader:
        assert [record.__struct_config__.tag for record in reader] == ["loss"]
    assert time.process_time() - before < 3


def test_a_pcap_head_of_zeros_is_damage_and_not_thousands_of_empty_packets() -> None:
    log = hostile.log("pcap 239 le")
    data = log.begun + bytes(160_000) + log.record * 2
    with pylog.open(io.BytesIO(data)) as reader:
        records = list(reader)
    (loss,) = [record for record in records if isinstance(record, LossRecord)]
    assert len(records) == 11 and loss.offset == len(log.begun) and loss.size == 160_000
