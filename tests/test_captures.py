"""Captures of every kind: what was known when a record was read survives the way out and back."""

from __future__ import annotations

import io
import itertools
import random
import struct
import subprocess
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import builders
import effort
import inprocess
import msgspec
import pytest
import samples
import tables
from hypothesis import given
from hypothesis import strategies as st

import pylog
from pylog import LossRecord, PacketRecord, outputs
from pylog.ahead import REACH
from pylog.batch import Batch
from pylog.formats import ipl, netlink, nfulnl, nfulnl_attributes, pcap_blocks
from pylog.formats.registry import linktypes

START = 1_700_000_000 * 10**9
CAPTURES = samples.FIXTURES / "capture"
MODULES = {"nflog": nfulnl, "ipl": ipl}
DUMPS = [
    dump
    for dump in [*samples.dumps("ipl/*.bin"), *samples.dumps("nflog/*.bin")]
    if dump.stat().st_size < 12_000
]
NFLOG = [d for d in DUMPS if d.parent.name == "nflog"]


def read(data: bytes) -> tuple[list[pylog.Record], pylog.Reader]:
    with pylog.open(io.BytesIO(data), raw=True) as reader:
        return list(reader), reader


def write(records: list[pylog.Record]) -> bytes:
    stream = io.BytesIO()
    output = outputs.open("pcapng", outputs.Target(stream))
    for record in records:
        output.write(Batch([record]))
    output.close()
    return stream.getvalue()


def shape(record: pylog.Record) -> Any:
    """The record's JSON but for its place; and its bytes, of an nlmsghdr only the length."""
    found = msgspec.json.decode(pylog.to_json(record))
    found.pop("offset", None)
    raw = None if isinstance(record, LossRecord) else record.raw
    return found, raw[:4] + raw[16:] if raw is not None and record.source == "nflog" else raw


def counts(reader: pylog.Reader) -> tuple[int, int | None, int]:
    """What a reader counts, but for bad values: a time of capture is not written again."""
    return reader.received, reader.dropped, reader.malformed - reader.flaws.total()


def losses(records: list[pylog.Record]) -> list[LossRecord]:
    return [record for record in records if isinstance(record, LossRecord)]


@dataclass
class Log:
    """Packets of one log, as a capture interface has them."""

    linktype: int
    description: str
    order: str
    packets: list[bytes]


def logs(dump: Path) -> list[Log]:
    """The logs of a dump, each as an interface of a capture has it."""
    with pylog.open(dump, raw=True) as reader:
        found: dict[tuple[str, str], Log] = {}
        for record in reader:
            if isinstance(record, LossRecord) or record.raw is None:
                continue
            module = MODULES[record.source]
            packet, order, _ = module.capture(record.raw, record.layout)
            description = module.described(record.layout, record.log)
            log = Log(module.LINKTYPES[0], description, order or "<", [])
            found.setdefault((record.layout, record.log), log).packets.append(packet)
    return list(found.values())


def link_header(linktype: int, order: str, packet: bytes) -> bytes:
    """What stands before nfgenmsg in a packet of that link type."""
    if linktype == nfulnl.LINKTYPE_NFLOG:
        return b""
    hatype, protocol = netlink.ARPHRD_NETLINK, netlink.NETLINK_NETFILTER
    head = struct.pack(">HH10xH", 4, hatype, protocol)
    if linktype == netlink.LINKTYPE_LINUX_SLL2:
        head = struct.pack(">H6xH10x", protocol, hatype)
    kind = nfulnl_attributes.NFULNL_MSG_PACKET
    return head + struct.pack(order + "IHHII", 16 + len(packet), kind, 0, 0, 0)


def cut(packet: bytes, snaplen: int | None) -> bytes:
    return packet if snaplen is None else packet[:snaplen]


def pcapng(parts: list[Log], snaplens: list[int | None], order: str = "<") -> bytes:
    """A section with an interface for each log, whose packets come in turn."""
    data = pcap_blocks.section_block(order=order)
    for log in parts:
        data += pcap_blocks.interface_block(log.linktype, description=log.description, order=order)
    time = START
    for row in zip_longest(*(log.packets for log in parts)):
        for number, packet in enumerate(row):
            if packet is not None:
                time += 1_234_567
                data += pcap_blocks.packet_block(
                    cut(packet, snaplens[number]), time, number, length=len(packet), order=order
                )
    return data


def pcap(log: Log, linktype: int, snaplen: int | None, magic: int) -> bytes:
    """A pcap file of NFLOG messages, of any kind of head."""
    data = struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    time = START
    for message in log.packets:
        packet = link_header(linktype, log.order, message) + message
        kept = cut(packet, snaplen)
        time += 1_234_567
        fraction = time % 10**9
        if magic != pcap_blocks.MAGIC_NSEC:
            fraction //= 1000
        data += struct.pack("<IIII", time // 10**9, fraction, len(kept), len(packet))
        if magic == pcap_blocks.MAGIC_MODIFIED:
            data += struct.pack("<IHBx", 2, 0x800, 4)
        data += kept
    return data


NFULNL = builders.log("<", 7, [(1, {"hw_protocol": 0x800, "hook": 1}), (10, b"in ")], family=2)[16:]
SECTION = pcap_blocks.section_block()
INTERFACE = pcap_blocks.interface_block(239)
PACKET = pcap_blocks.packet_block(NFULNL, START)


def numbered(seq: int, time_ns: int = START, interface: int = 0, dropped: int = 0) -> bytes:
    """A block with a packet of a sequence number."""
    head: list[tuple[int, Any]] = [(1, {"hw_protocol": 0x800, "hook": 1}), (12, seq)]
    packet = builders.log("<", 7, head, family=2)[16:]
    return pcap_blocks.packet_block(packet, time_ns, interface, dropped=dropped)


def kinds(records: list[pylog.Record]) -> str:
    """p for each packet, l for each loss."""
    return "".join("l" if isinstance(record, LossRecord) else "p" for record in records)


def lengths(data: bytes) -> list[tuple[int, int]]:
    """Captured and original length of each packet of a pcapng file that was written here."""
    found, at, (plan, kind) = [], 0, (pcap_blocks.plans("<")["enhanced packet"], pcap_blocks.EPB)
    while at < len(data):
        number, size = struct.unpack_from("<II", data, at)
        if number == kind:
            *_, caplen, length = plan.unpack(data, at)
            found.append((caplen, length))
        at += size
    return found


# Cut by a snap length


def test_a_packet_cut_by_the_snap_length_keeps_its_original_length(tmp_path: Path) -> None:
    source = CAPTURES / "snaplen-128.pcap"
    records, _ = read(source.read_bytes())
    assert lengths(write(records)) == [(128, 280)] * 4
    for arguments in (
        ["read", "--to", "pcapng", "-w", "a.pcapng"],
        ["read", "--to", "pcapng", "--scrub", "-w", "b.pcapng"],
        ["replay", "--speed", "max", "--to", "pcapng", "-w", "c.pcapng"],
    ):
        target = tmp_path / arguments[-1]
        done = inprocess.run(*arguments[:-1], target, source)
        assert done.returncode == 0, done.stderr
        assert lengths(target.read_bytes()) == [(128, 280)] * 4, arguments


def test_read_bytes_gives_messages_that_are_complete_in_themselves() -> None:
    source = CAPTURES / "snaplen-128.pcap"
    with pylog.open(source) as reader:
        octets = reader.read_bytes(1 << 16)
    whole, _ = read(source.read_bytes())
    again, reader = read(octets)
    assert kinds(again) == "pppp" and reader.malformed == 0
    for first, second in zip(whole, again, strict=True):
        assert isinstance(first, PacketRecord) and isinstance(second, PacketRecord)
        for name in ("length", "caplen", "payload", "timestamp_ns", "prefix", "saddr", "dport"):
            assert getattr(first, name) == getattr(second, name)


@pytest.mark.parametrize(("name", "snaplen"), effort.sample(itertools.product(
    ["v5-1-2-lp64le-filter.ipf.bin", "v3435-lp64le-filter.ipf.bin"], [40, 100, 130, 170, 200]
), least=4))  # fmt: skip
def test_records_of_ipl_that_were_cut_are_read_as_far_as_they_go(name: str, snaplen: int) -> None:
    (log,) = logs(samples.FIXTURES / "ipl" / name)
    whole, _ = read(pcapng([log], [None]))
    some, reader = read(pcapng([log], [snaplen]))
    for first, second, packet in zip(whole, some, log.packets, strict=True):
        if not isinstance(second, PacketRecord):
            continue  # not even its head is there
        assert isinstance(first, PacketRecord)
        assert (first.timestamp_ns, first.rule, first.indev) == (
            second.timestamp_ns, second.rule, second.indev,
        )  # fmt: skip
        assert second.raw == packet[:snaplen]
        assert (first.payload or b"").startswith(second.payload or b"")
    if snaplen >= 170:
        assert "l" not in kinds(some)
    assert reader.received + reader.malformed == len(log.packets)


def test_what_a_snap_length_leaves_of_a_datagram_is_reported() -> None:
    message = link_header(253, "<", NFULNL) + NFULNL
    datagram = message + message[16:] * 3
    data = SECTION + pcap_blocks.interface_block(253)
    data += pcap_blocks.packet_block(
        datagram[: len(message)], START, length=len(datagram)
    ) + pcap_blocks.packet_block(message, START)
    records, _ = read(data)
    assert kinds(records) == "plp"
    assert losses(records)[0].reason == (
        f"{3 * (len(message) - 16)} bytes of the datagram were not captured"
    )


# NextSeq of several machines


def test_merged_captures_of_two_hosts_report_no_loss() -> None:
    records, reader = read((CAPTURES / "mergecap-two-hosts.pcapng").read_bytes())
    assert kinds(records) == "p" * 10 and reader.dropped == 0


def test_logs_that_alternate_in_one_interface_are_reported_once_and_not_counted() -> None:
    records, reader = read((CAPTURES / "mixed.pcap").read_bytes())
    assert kinds(records) == "pl" + "p" * 9 and reader.dropped == 0
    (mixed,) = losses(records)
    assert mixed.count is None and "mixed" in (mixed.reason or "")


@pytest.mark.parametrize("turns", [(1, 1), (3, 1), (50, 7), (200, 1), (1, 400)])
def test_how_often_each_host_logs_makes_no_difference(turns: tuple[int, int]) -> None:
    numbers, data = [100, 90_000], SECTION + INTERFACE
    for _ in range(4):
        for host in (0, 1):
            for _ in range(turns[host]):
                data += numbered(numbers[host])
                numbers[host] += 1
    records, reader = read(data)
    assert [loss.count for loss in losses(records)] == [None] and reader.dropped == 0


def test_a_loss_within_one_log_is_still_counted() -> None:
    data = SECTION + INTERFACE * 2
    for seq in (1, 2, 5, 6):
        data += numbered(seq, interface=0) + numbered(seq + 70, interface=1)
    records, reader = read(data)
    assert [loss.count for loss in losses(records)] == [2, 2] and reader.dropped == 4


def test_a_count_that_was_invented_between_two_logs_is_taken_back() -> None:
    """The first log goes on too late for the loss not to be reported."""
    data = SECTION + INTERFACE + numbered(1)
    data += b"".join(numbered(5000 + i) for i in range(REACH // len(numbered(1)) + 10))
    data += numbered(2)
    records, reader = read(data)
    assert [loss.count for loss in losses(records)] == [4998, None] and reader.dropped == 0


def test_a_drop_count_is_reported_where_numbers_alternate_and_cannot_confirm_it() -> None:
    data = SECTION + INTERFACE
    for seq, dropped in ((1, 0), (500, 4), (2, 0), (501, 0), (502, 3), (3, 0)):
        data += numbered(seq, dropped=dropped)
    records, reader = read(data)
    assert kinds(records) == "pllppplpp" and reader.dropped == 7
    assert [loss.count for loss in losses(records)] == [None, 4, 3]
    table = pylog.read_table(io.BytesIO(data), kind="loss")
    assert table["count"].to_pylist() == [None, 4, 3]


@pytest.mark.parametrize("size", effort.sample([100, 1000, 70_000], least=1))
def test_a_pipe_gives_the_same_as_a_file(size: int) -> None:
    numbers, data = [100, 90_000], SECTION + INTERFACE
    for _ in range(300):
        for host in (0, 1, 1):
            data += numbered(numbers[host])
            numbers[host] += 1
    process = subprocess.Popen(
        [sys.executable, "-m", "pylog", "read", "--to", "json", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = process.communicate(data)
    expected = pylog.json_lines(read(data)[0])
    assert out == expected
    with pylog.open(Slow(data, size)) as reader:  # type: ignore[arg-type]
        assert pylog.json_lines(reader) == expected


class Slow(io.RawIOBase):
    """A source that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = io.BytesIO(data), size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(self._size)


# Blocks and interfaces of pcapng


def test_a_block_with_an_intact_frame_is_stepped_over_whatever_it_holds() -> None:
    bad = bytearray(PACKET)
    bad[20:24] = b"\xff\xff\xff\x00"  # a captured length beyond the block
    options = PACKET[:-4] + b"\4\0\xff\x00" + PACKET[-4:]
    broken = bytearray(options)
    broken[4:8] = broken[-4:] = len(options).to_bytes(4, "little")
    records, reader = read(SECTION + INTERFACE + PACKET + bad + PACKET + broken + PACKET)
    assert kinds(records) == "plpplp" and reader.malformed == 2
    damage = losses(records)
    assert damage[0].size == len(bad) and damage[1].size == 4


def test_a_refused_interface_keeps_its_number() -> None:
    refused = bytearray(pcap_blocks.interface_block(239))
    refused[18] = 99  # an option that is longer than the block
    data = SECTION + refused + INTERFACE
    data += pcap_blocks.packet_block(NFULNL, START, 0) + pcap_blocks.packet_block(NFULNL, START, 1)
    records, _ = read(data)
    assert kinds(records) == "llp"
    assert "interface 0, which was refused" in (losses(records)[1].reason or "")
    assert records[-1].observed_ns == START


@pytest.mark.parametrize("at", [4, 6, -4, -2])
def test_a_lost_interface_keeps_its_number(at: int) -> None:
    lost = bytearray(pcap_blocks.interface_block(239))
    lost[at] ^= 0x7F
    slow = bytearray(pcap_blocks.interface_block(239))
    slow[slow.index(b"\x09", 16)] = 9
    data = SECTION + bytes(lost) + bytes(slow)
    data += pcap_blocks.packet_block(NFULNL, START, 0) + pcap_blocks.packet_block(NFULNL, START, 1)
    records, _ = read(data)
    assert kinds(records) == "llp" and records[-1].observed_ns == START


def test_interfaces_after_damage_of_unknown_kind_are_not_believed() -> None:
    """What was there may have been an interface: then the numbers after it have shifted."""
    data = SECTION + INTERFACE + PACKET + b"\xee" * 44 + INTERFACE
    data += pcap_blocks.packet_block(NFULNL, START, 1) + PACKET
    records, _ = read(data)
    assert kinds(records) == "pllp"


def test_times_of_any_resolution_are_read() -> None:
    for resolution in (0, 6, 9, 18, 63, 100, 127, 0x80, 0x8A, 0xBF, 0xC0, 0xFF):
        block = bytearray(INTERFACE)
        block[block.index(b"\x09\0\x01\0") + 4] = resolution
        units = (2 if resolution & 0x80 else 10) ** (resolution & 0x7F)
        ticks = 5 * units if 5 * units < 1 << 64 else (1 << 64) - 1
        (record,), _ = read(SECTION + bytes(block) + pcap_blocks.packet_block(NFULNL, ticks))
        assert record.observed_ns == ticks * 10**9 // units


def test_sections_of_another_major_version_are_refused() -> None:
    other = bytearray(SECTION)
    other[12] = 2
    with pytest.raises(pylog.DecodeError, match="version_major 2"):
        read(bytes(other) + INTERFACE + PACKET)
    good = SECTION + INTERFACE + PACKET
    records, _ = read(good + bytes(other) + INTERFACE + PACKET + good)
    assert kinds(records) == "plp"
    assert losses(records)[0].size == len(other + INTERFACE + PACKET)


def test_lengths_that_leave_out_the_padding_are_accepted() -> None:
    packet = builders.log("<", 7, [(9, b"E" * 22)], family=2)[16:-2]
    block = bytearray(pcap_blocks.packet_block(packet, START))
    block[4:8] = block[-4:] = (len(block) - 2).to_bytes(4, "little")
    records, reader = read(SECTION + INTERFACE + block * 3 + PACKET)
    assert kinds(records) == "pppp" and reader.malformed == 0


@pytest.mark.parametrize("kind", [4, 10, 0xBAD, 0x40000BAD, 0x80000001])
@pytest.mark.parametrize("size", [40, 17 << 20])
def test_blocks_that_are_not_read_have_any_size_and_are_not_kept(kind: int, size: int) -> None:
    frame = struct.pack("<II", kind, size)
    data = SECTION + INTERFACE + PACKET
    data += frame + bytes(size - 12) + frame[4:] + PACKET
    most = 0

    class Counted(Slow):
        def read(self, size: int = -1) -> bytes:
            nonlocal most
            most = max([most, *(reader.decoder.incomplete for reader in held)])
            return super().read(size)

    held: list[pylog.Reader] = []
    with pylog.open(Counted(data, 1 << 16), layout="nfulnl-le") as reader:  # type: ignore[arg-type]
        held.append(reader)
        assert kinds(list(reader)) == "pp" and reader.malformed == 0
    assert most < 1 << 17
    for cut_at in (len(data) - len(PACKET) - 2, len(data) - len(PACKET) - size // 2):
        assert kinds(read(data[:cut_at])[0]) == "pl"


def test_what_interfaces_dropped_in_all_is_one_loss_after_their_last_packet() -> None:
    def statistics(ifdrop: int, osdrop: int, interface: int = 0) -> bytes:
        body = struct.pack("<III", interface, 0, 0)
        for code, count in ((5, ifdrop), (7, osdrop)):
            body += struct.pack("<HHQ", code, 8, count)
        size = len(body) + 16
        return struct.pack("<II", 5, size) + body + bytes(4) + struct.pack("<I", size)

    data = SECTION + INTERFACE + PACKET + statistics(1, 0) + PACKET + statistics(3, 4)
    records, reader = read(data)
    assert kinds(records) == "ppl" and reader.dropped == 7 and losses(records)[0].count == 7
    records, reader = read(data + SECTION + INTERFACE + PACKET + statistics(2, 0))
    assert kinds(records) == "pplpl" and reader.dropped == 9
    # a gap in the numbers, and a count in a block, tell of the same losses
    data = SECTION + INTERFACE + numbered(1) + numbered(4) + statistics(2, 3)
    records, reader = read(data)
    assert [loss.count for loss in losses(records)] == [2, 3] and reader.dropped == 5
    data = SECTION + INTERFACE + pcap_blocks.packet_block(NFULNL, START, dropped=5)
    assert [r.count for r in losses(read(data + statistics(5, 0))[0])] == [5]


# Other link types and files one after the other


@pytest.mark.parametrize("linktype", [113, 276])
def test_cooked_captures_of_other_devices_are_refused(linktype: int) -> None:
    order = ">HH10xH" if linktype == 113 else ">H6xH10x"
    numbers = (0, 1, 0x800) if linktype == 113 else (0x800, 1)
    packet = struct.pack(order, *numbers) + bytes(60)
    data = builders.pcap_header(linktype) + builders.pcap_packet(packet, START) * 3
    named = rf"link type {linktype} \(LINUX_SLL without netlink messages\); "
    with pytest.raises(pylog.DecodeError, match=named):
        read(data)


def test_any_files_may_follow_each_other() -> None:
    (log,) = logs(samples.FIXTURES / "nflog/damaged.bin")[:1]
    parts = [pcapng([log], [None])]
    parts += [pcap(log, 239, None, magic) for magic in pcap_blocks.PCAP_MAGICS]
    parts += [pcap(log, linktype, None, pcap_blocks.MAGIC_USEC) for linktype in (113, 253, 276)]
    count = len(log.packets)
    for first in parts:
        for second in parts:
            records, reader = read(first + second)
            assert reader.received == 2 * count and reader.malformed == 0 and not losses(records)


@pytest.mark.parametrize("dump", sorted(CAPTURES.glob("*.pcap*")), ids=samples.name)
def test_tables_of_captures_have_the_rows_of_a_reader(dump: Path) -> None:
    packets, others = tables.streamed(dump.read_bytes()), dump.read_bytes()
    for kind in ("packet", "loss"):
        table = pylog.read_table(io.BytesIO(others), kind=kind)
        assert tables.plain(table) == tables.rows(packets, kind, table.column_names)


def test_tables_of_merged_captures_have_the_rows_of_a_reader() -> None:
    numbers, data = [100, 90_000], SECTION + INTERFACE * 2
    for turn in range(600):
        host = turn // 40 % 2
        skipped = 5 * (turn == 300)
        numbers[host] += skipped
        data += numbered(numbers[host], interface=host)
        numbers[host] += 1
    data = data + data.replace(struct.pack("<I", 1), struct.pack("<I", 1))
    for kind in ("packet", "loss"):
        table = pylog.read_table(io.BytesIO(data), kind=kind)
        assert tables.plain(table) == tables.rows(tables.streamed(data), kind, table.column_names)


# Any of it, by chance


SNAPLENS = (None, None, 600, 128, 96, 64, 40, 24)


def capture(seed: int) -> bytes:
    """Capture files of the fixtures, one after another: cut, merged and damaged by chance."""
    chance = random.Random(seed)
    data = b""
    for _ in range(chance.randint(1, 3)):
        if chance.random() < 0.5:
            dumps = chance.sample(DUMPS, chance.randint(1, 2))
            parts = [log for dump in dumps for log in logs(dump)]
            orders = {log.order for log in parts if log.linktype == nfulnl.LINKTYPE_NFLOG}
            order = min(orders, default="<")
            parts = [log for log in parts if log.order == order or log.linktype != 239]
            data += pcapng(parts, [chance.choice(SNAPLENS) for _ in parts], order)
        else:
            log = chance.choice(logs(chance.choice(NFLOG)))
            linktype = chance.choice(linktypes(nfulnl))
            magic = chance.choice(sorted(pcap_blocks.PCAP_MAGICS))
            data += pcap(log, linktype, chance.choice(SNAPLENS), magic)
    damaged = bytearray(data)
    for _ in range(chance.randint(0, 3)):
        damaged[chance.randrange(40, len(damaged))] = chance.randrange(256)
    return bytes(damaged)


@effort.examples(40)
@given(st.integers(0, 2**32 - 1))
def test_what_is_known_of_a_capture_survives_the_way_out_and_back(seed: int) -> None:
    try:
        first, reader = read(capture(seed))
    except pylog.DecodeError:  # the damage is in the head of the file
        return
    if not first:
        return
    second, again = read(write(first))
    assert [shape(record) for record in second] == [shape(record) for record in first]
    assert counts(again) == counts(reader)
