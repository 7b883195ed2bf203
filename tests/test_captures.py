"""Captures of every kind: what was known when a record was read survives the way out and back."""

from __future__ import annotations

import io
import random
import struct
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
import samples
from hypothesis import given, settings
from hypothesis import strategies as st

import pylog
from pylog import LossRecord, outputs
from pylog.formats import ipl, nfulnl, pcap_blocks
from pylog.record import queue_of

START = 1_700_000_000 * 10**9
CAPTURES = samples.FIXTURES / "capture"
MODULES = {"nflog": nfulnl, "ipl": ipl}
DUMPS = [d for d in samples.dumps() if d.suffix == ".bin" and d.stat().st_size < 12_000]
NFLOG = [d for d in DUMPS if d.parent.name == "nflog"]


def read(data: bytes) -> tuple[list[pylog.Record], pylog.Reader]:
    with pylog.open(io.BytesIO(data), raw=True) as reader:
        return list(reader), reader


def write(records: list[pylog.Record]) -> bytes:
    stream = io.BytesIO()
    output = outputs.output("pcapng", stream)
    for record in records:
        output.write(record)
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
            description = module.described(record.layout, queue_of(record))
            log = Log(module.LINKTYPES[0], description, order or "<", [])
            found.setdefault((record.layout, queue_of(record)), log).packets.append(packet)
    return list(found.values())


def link_header(linktype: int, order: str, packet: bytes) -> bytes:
    """What stands before nfgenmsg in a packet of that link type."""
    if linktype == nfulnl.LINKTYPE_NFLOG:
        return b""
    hatype, protocol = nfulnl.ARPHRD_NETLINK, nfulnl.NETLINK_NETFILTER
    head = struct.pack(">HH10xH", 4, hatype, protocol)
    if linktype == nfulnl.LINKTYPE_LINUX_SLL2:
        head = struct.pack(">H6xH10x", protocol, hatype)
    kind = nfulnl.NFULNL_MSG_PACKET
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
            linktype = chance.choice(nfulnl.LINKTYPES)
            magic = chance.choice(sorted(pcap_blocks.PCAP_MAGICS))
            data += pcap(log, linktype, chance.choice(SNAPLENS), magic)
    damaged = bytearray(data)
    for _ in range(chance.randint(0, 3)):
        damaged[chance.randrange(40, len(damaged))] = chance.randrange(256)
    return bytes(damaged)


@settings(max_examples=40, deadline=None)
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
