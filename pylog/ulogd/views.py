"""A record as ulogd sees it: `Packet`, `Flow` and `Counter`, which `keys` reads.

ulogd takes its values from the kernel's message, so an NFLOG record is its raw message where the
reader kept it: a prefix is bytes there, and an interface a number. A `Message` is read when a stack
needs it, see `messages`. Records of other sources have the same values as far as they say them, so
any log can be replayed. A time that the record does not state is the clock's, as with ulogd.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from pylog.formats.nfulnl_attributes import HOOKS
from pylog.record import CounterRecord, FlowRecord, PacketRecord

FAMILIES = {"ipv4": 2, "ipv6": 10, "arp": 3}
ETHERTYPES = {"ipv4": 0x0800, "ipv6": 0x86DD, "arp": 0x0806}
EVENTS = {"new": 1, "update": 2, "destroy": 4}

_PREFIX, _PAYLOAD, _HWADDR, _HWHEADER, _CT = 10, 9, 8, 16, 18
_NUMBERS = {
    2: "mark",
    4: "indev",
    5: "outdev",
    6: "physindev",
    7: "physoutdev",
    11: "uid",
    12: "seq",
    13: "seq_global",
    14: "gid",
}
"""NFULA_ attributes of 32 bits, by number."""
_HEADS = {"<": struct.Struct("<HH").unpack_from, ">": struct.Struct(">HH").unpack_from}
_U16 = struct.Struct(">H").unpack_from
_U32 = struct.Struct(">I").unpack_from
_STAMP = struct.Struct(">QQ").unpack_from


class Packet:
    """A packet as NFLOG gives it.

    time_us            the kernel's time, which is also `stamp_us`, or the clock's
    indev, outdev      numbers of interfaces, None if absent; in_name and out_name their names
    link_header        bytes, None without one; link_type its ARPHRD_ number
    address            the link address of the sender
    protocol           the EtherType, None if the message has no packet header
    message, entry     present as b"" for keys of raw data that are never shown
    nufw               the words of UNIXSOCK by the rest of their keys
    """

    __slots__ = (
        "address", "entry", "family", "gid", "hook", "in_name", "indev", "label", "link_header",
        "link_type", "mark", "message", "nufw", "out_name", "outdev", "payload",
        "physindev", "physoutdev", "prefix", "protocol", "seq", "seq_global", "stamp_us",
        "time_us", "uid",
    )  # fmt: skip

    def __init__(self, clock_us: int, label: int | None = 0) -> None:
        self.time_us = clock_us
        self.stamp_us: int | None = None
        self.label = label
        self.family: int = 0
        self.link_header: bytes | None = None
        self.payload: bytes | None = None
        self.prefix: bytes | None = None
        self.address: bytes | None = None
        self.message: bytes | None = b""
        self.entry: bytes | None = None
        self.link_type: int = 0
        self.protocol: int | None = None
        self.hook: int | None = None
        self.mark: int | None = None
        self.indev: int | None = None
        self.outdev: int | None = None
        self.physindev: int | None = None
        self.physoutdev: int | None = None
        self.uid: int | None = None
        self.gid: int | None = None
        self.seq: int | None = None
        self.seq_global: int | None = None
        self.in_name: bytes | None = None
        self.out_name: bytes | None = None
        self.nufw: dict[str, Any] = {}


class Message:
    """A packet as a message of NFLOG, not read yet.

    data            from nfgenmsg on
    order           the byte order of lengths and types, < or >
    clock_us        the time of a message that states none
    indev, outdev   the names of its interfaces, or their numbers
    """

    __slots__ = ("clock_us", "data", "indev", "label", "order", "outdev")

    def __init__(
        self, data: bytes, order: str, clock_us: int, label: int | None,
        indev: str | int | None = None, outdev: str | int | None = None,
    ) -> None:  # fmt: skip
        self.data, self.order, self.clock_us, self.label = data, order, clock_us, label
        self.indev, self.outdev = indev, outdev

    @property
    def in_name(self) -> bytes | None:
        return _name(self.indev)

    @property
    def out_name(self) -> bytes | None:
        return _name(self.outdev)

    def packet(self) -> Packet:
        """The packet with all that the message says."""
        packet = Packet(self.clock_us, self.label)
        packet.in_name, packet.out_name = self.in_name, self.out_name
        _read_message(packet, self.data, self.order)
        return packet


def packet_of(record: PacketRecord, clock_us: int, label: int = 0) -> Packet | Message:
    """A packet record as ulogd sees it."""
    if record.raw is not None and record.layout.startswith("nfulnl"):
        order = ">" if record.layout.endswith("be") else "<"
        return Message(record.raw[16:], order, clock_us, label, record.indev, record.outdev)
    packet = Packet(clock_us, label)
    packet.in_name, packet.out_name = _name(record.indev), _name(record.outdev)
    _read_record(packet, record)
    return packet


def _name(device: str | int | None) -> bytes | None:
    return device.encode("utf-8", "surrogateescape") if isinstance(device, str) else None


def _read_message(packet: Packet, data: bytes, order: str) -> None:
    """Take the attributes of an NFLOG message from nfgenmsg on, as libnetfilter_log reads them: the
    last of a kind counts, one that is too short is absent.
    """
    if len(data) < 4:
        return
    packet.family = data[0]
    size, head = len(data), _HEADS[order]
    at, length = 4, 0
    header: bytes | None = None
    while at + 4 <= size:
        full, kind = head(data, at)
        if full < 4 or at + full > size:
            break
        kind &= 0x3FFF
        begin, end = at + 4, at + full
        at += full + 3 & ~3
        number = _NUMBERS.get(kind)
        if number is not None:
            if full >= 8:
                setattr(packet, number, _U32(data, begin)[0])
            continue
        value = data[begin:end]
        if kind == _PAYLOAD:
            packet.payload = value
        elif kind == _PREFIX:
            packet.prefix = value.partition(b"\0")[0]
        elif kind == 1 and len(value) >= 4:
            packet.protocol, packet.hook = _U16(value)[0], value[2]
        elif kind == 3 and len(value) >= 16:
            sec, usec = _STAMP(value)
            if sec:
                packet.time_us = packet.stamp_us = sec * 1_000_000 + usec
        elif kind == _HWADDR and len(value) >= 12:
            packet.address = value[4 : 4 + min(_U16(value)[0], 8)]
        elif kind == 15 and len(value) >= 2:
            packet.link_type = _U16(value)[0]
        elif kind == _HWHEADER:
            header = value
        elif kind == 17 and len(value) >= 2:
            length = _U16(value)[0]
        elif kind == _CT:
            packet.entry = b""
    packet.indev, packet.outdev = packet.indev or None, packet.outdev or None
    if length and header is not None:
        packet.link_header = header[:length]


def _read_record(packet: Packet, record: PacketRecord) -> None:
    """Take what a record of any source says."""
    packet.message = None
    family = record.family
    if isinstance(family, str):
        packet.family, packet.protocol = FAMILIES.get(family, 0), ETHERTYPES.get(family, 0)
    elif family is not None:
        packet.family, packet.protocol = 7, family
    time_ns = record.timestamp_ns
    if time_ns is not None:
        packet.time_us = packet.stamp_us = time_ns // 1000
    packet.payload = record.payload
    if record.prefix is not None:
        packet.prefix = record.prefix.encode("utf-8", "surrogateescape")
    names = HOOKS.get(packet.family, ())
    if isinstance(record.hook, int):
        packet.hook = record.hook
    elif record.hook in names:
        packet.hook = names.index(record.hook)
    packet.mark, packet.uid, packet.gid = record.mark, record.uid, record.gid
    packet.seq = record.seq
    packet.indev = record.indev if isinstance(record.indev, int) else None
    packet.outdev = record.outdev if isinstance(record.outdev, int) else None
    if record.hwheader:
        packet.link_header = bytes.fromhex(record.hwheader)
        packet.link_type = record.hwtype or 0
    if record.hwaddr:
        packet.address = bytes.fromhex(record.hwaddr.replace(":", ""))


class Tuple:
    """One direction of a flow: addresses in network order, ports, counters."""

    __slots__ = ("bytes", "daddr", "dport", "packets", "protocol", "saddr", "sport")

    def __init__(
        self,
        saddr: str | None,
        daddr: str | None,
        protocol: int | None,
        sport: int | None,
        dport: int | None,
    ) -> None:
        self.saddr, self.daddr = _address(saddr), _address(daddr)
        self.protocol, self.sport, self.dport = protocol, sport, dport
        self.packets: int | None = None
        self.bytes: int | None = None


def _address(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        return None


PORTS = frozenset((6, 17, 33, 132, 136))
"""Protocols with ports, as NFCT knows them: TCP, UDP, DCCP, SCTP, UDP-Lite."""


class Flow:
    """A flow as NFCT gives it.

    event   1 new, 2 update, 4 destroy
    """

    def __init__(self, record: FlowRecord, clock_us: int) -> None:
        self.record = record
        protocol = record.protocol
        sport, dport = record.sport, record.dport
        if protocol in (1, 58):
            sport = dport = None
        self.orig = Tuple(record.saddr, record.daddr, protocol, sport, dport)
        self.reply = Tuple(
            record.nat_daddr or record.daddr,
            record.nat_saddr or record.saddr,
            protocol,
            dport if record.nat_dport is None or dport is None else record.nat_dport,
            sport if record.nat_sport is None or sport is None else record.nat_sport,
        )
        for counters, name in ((record.packets, "packets"), (record.bytes, "bytes")):
            for end, word in ((self.orig, "orig"), (self.reply, "reply")):
                setattr(end, name, (counters or {}).get(word, 0))
        self.icmp_type: int | None = None
        self.icmp_code: int | None = None
        if protocol == 1:
            self.icmp_type, self.icmp_code = record.icmp_type, record.icmp_code
        self.mark, self.id = record.mark or 0, record.id
        event = record.event if isinstance(record.event, str) else ""
        self.event = EVENTS.get(event, 4 if event in ("expire", "flush", "remove", "end") else 2)
        self.family = FAMILIES.get(record.family or "", 0) if isinstance(record.family, str) else 0
        self.time_us = clock_us
        self.start_us = None if record.start_ns is None else record.start_ns // 1000
        self.end_us = None if record.stop_ns is None else record.stop_ns // 1000


class Counter:
    """A counter as NFACCT gives it.

    time_us   the clock's, with timestamp=1; else None
    """

    def __init__(self, record: CounterRecord, time_us: int | None) -> None:
        self.record = record
        self.name = (record.name or "").encode("utf-8", "surrogateescape")
        self.packets, self.bytes, self.time_us = record.packets or 0, record.bytes or 0, time_us
