"""Logs that were made to be hard: a valid beginning, and then bytes that cost time or memory.

`LOGS` has a beginning for every format, generation of layouts and byte order, `FILLINGS` what may
follow it. Both are the same in every run.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import builders
import nftables
from builders import pcap_header, pcap_packet

from pylog.formats import ipl_layouts, netlink, nfct_attributes, nft_attributes, nfulnl_attributes
from pylog.formats.ipl_encode import Encoder
from pylog.formats.ipl_layouts import Layout
from pylog.formats.packet import swapped
from pylog.formats.pcap_blocks import (
    interface_block,
    packet_block,
    section_block,
)
from pylog.formats.plan import BYTEORDER
from pylog.record import PacketRecord

PACKET = bytes.fromhex(
    "4500002812340000400600000a0000010a0000029c400050000000010000000050020000" + "00000000"
)
SECOND = 1_700_000_000
NFLOG, NETLINK, IPFILTER = 239, 253, 116


@dataclass(frozen=True)
class Log:
    """A log of one format.

    layout   its name
    begun    what the log begins with: a capture's head, then records
    record   a record of the log as it lies in it
    least    the smallest message that has a valid head
    magics   byte strings by which messages are recognized
    """

    layout: str
    begun: bytes
    record: bytes
    least: bytes
    magics: tuple[bytes, ...]


def nflog_message(order: str, size: int = len(PACKET)) -> bytes:
    """An NFLOG message of a TCP packet."""
    attributes = [
        (1, {"hw_protocol": 0x0800, "hook": 1}),
        (10, b"in \0"),
        (4, 2),
        (9, PACKET.ljust(size, b"\0")),
    ]
    return builders.log(order, 5, attributes, family=2)


def ipl_record(name: str) -> bytes:
    """A record of IPFilter of the same packet."""
    layout = ipl_layouts.named(name)
    packet = swapped(PACKET) if layout.host_order_ip else PACKET
    fields = PacketRecord(
        source="ipl", layout=name, family="ipv4", payload=packet, seq=1, direction="in",
        timestamp_ns=SECOND * 10**9, action="block", rule=1, indev="em0",
        extra={"fl_flags": ["FR_BLOCK", "FR_LOG"]},
    )  # fmt: skip
    return Encoder(layout).encode(fields)


@cache
def _template(name: str) -> bytes:
    return ipl_record(name)


def record_of(layout: Layout, content: bytes) -> bytes:
    """A record of a packet, whose bytes are as the layout's kernel keeps them."""
    plan = layout.plan("ipf")
    head = bytearray(_template(layout.name)[: plan.size])
    hlen = min(20, len(content))
    for name, value in (("ipl_dsize", plan.size + len(content)), ("fl_hlen", hlen),
                        ("fl_plen", len(content) - hlen)):  # fmt: skip
        if name in plan.places:
            plan.set(head, name, value)
    return bytes(head) + content


def _netlink(order: str) -> Log:
    name = "nfulnl-le" if order == "<" else "nfulnl-be"
    message = nflog_message(order)
    least = builders.log(order, 5, [], family=2)
    kind = struct.pack(order + "H", nfulnl_attributes.NFULNL_MSG_PACKET)
    return Log(name, message * 8, message, least, (kind, struct.pack(order + "IH", 20, 0x400)))


def _nft(order: str) -> Log:
    kernel = nftables.Kernel(order)
    chain, rule = kernel.chain(b"t", b"in", 2), kernel.rule(b"t", b"in", 3, b"ssh")
    begun = b"".join(kernel.commit(kernel.table(b"t"), chain, rule) for _ in range(4))
    kind = struct.pack(order + "H", nft_attributes.NFT_MSG_NEWRULE)
    least = kernel.message(nft_attributes.NFT_MSG_NEWGEN, [])
    name = "nft-le" if order == "<" else "nft-be"
    return Log(name, begun, rule, least, (kind, struct.pack(order + "IH", 20, 0xA06)))


def _nfct(order: str) -> Log:
    def way(ports: tuple[int, int], ends: tuple[bytes, bytes]) -> Any:
        ip = [{"nla_type": n, "value": end} for n, end in enumerate(ends, 1)]
        proto = [{"nla_type": n, "value": v} for n, v in enumerate((17, *ports), 1)]
        return [{"nla_type": 1, "value": ip}, {"nla_type": 2, "value": proto}]

    ends = b"\x0a\0\0\1", b"\xc0\0\2\1"
    attributes = [(1, way((5, 53), ends)), (2, way((53, 5), ends[::-1])), (12, 7), (3, 8), (7, 30)]
    event = netlink.build(nfct_attributes.CTA, order, 0x100, 0, attributes, family=2, flags=0x600)
    least = netlink.build({}, order, 0x102, 0, [], family=2)
    kind = struct.pack(order + "H", nfct_attributes.CT_NEW)
    name = "ctnetlink-le" if order == "<" else "ctnetlink-be"
    return Log(name, event * 8, event, least, (kind, struct.pack(order + "IH", 20, 0x102)))


def _ipl(name: str) -> Log:
    record = ipl_record(name)
    layout = ipl_layouts.named(name)
    size = layout.plan("ipf").size
    least = bytearray(record[:size])
    for field, value in (("ipl_dsize", size), ("fl_plen", 0), ("fl_hlen", 0)):
        place = layout.plan("ipf").places.get(field)
        if place is not None:
            part = value.to_bytes(place.size, BYTEORDER[layout.abi.order])
            least[place.offset : place.offset + place.size] = part
    magics = (layout.magic("ipf") or PACKET[:1], b"LPI" if layout.abi.order == "<" else b"IPL")
    return Log(name, record * 8, record, bytes(least), magics)


def _pcap(linktype: int, order: str, nanoseconds: bool) -> Log:
    name, body = _body(linktype, order)
    head = pcap_header(linktype, order=order, nanoseconds=nanoseconds)

    def packet(data: bytes) -> bytes:
        return pcap_packet(data, SECOND * 10**9, order=order, nanoseconds=nanoseconds)

    record = packet(body)
    return Log(name, head + record * 8, record, packet(b""), (head[:4], record[:12]))


def _pcapng(linktype: int, order: str) -> Log:
    name, body = _body(linktype, order)
    head = section_block(order=order)
    interface = interface_block(linktype, description=name, order=order)

    def packet(data: bytes) -> bytes:
        return packet_block(data, SECOND * 10**9, order=order)

    record = packet(body)
    magics = (record[:4], head[:12], record[:8], interface)
    return Log(name, head + interface + record * 8, record, packet(b""), magics)


def _body(linktype: int, order: str) -> tuple[str, bytes]:
    """The layout of a capture's packets, and one of them."""
    if linktype == IPFILTER:
        name = "ipl-5.1.2-lp64le" if order == "<" else "ipl-5.1.2-lp64be"
        return name, ipl_record(name)
    name = "nfulnl-le" if order == "<" else "nfulnl-be"
    message = nflog_message(order)
    if linktype == NFLOG:
        return name, message[16:]
    cooked = {"sll_pkttype": 0, "sll_hatype": 824, "sll_protocol": netlink.NETLINK_NETFILTER}
    return name, netlink.LINK_HEADER.build(cooked) + message


IPL = tuple(
    f"ipl-{version}-{abi}"
    for version in ipl_layouts.VERSIONS
    for abi in (("lp64le", "ilp32be") if "-" not in version else ("lp64le-name32", "lp64be-name32"))
)
"""A layout of each release and byte order."""

MAKERS: Mapping[str, Callable[[], Log]] = {
    "netlink le": partial(_netlink, "<"),
    "netlink be": partial(_netlink, ">"),
    "nft le": partial(_nft, "<"),
    "nft be": partial(_nft, ">"),
    "nfct le": partial(_nfct, "<"),
    "nfct be": partial(_nfct, ">"),
    **{name: partial(_ipl, name) for name in IPL},
    **{
        f"pcap {linktype} {'le' if order == '<' else 'be'}{' ns' if ns else ''}": partial(
            _pcap, linktype, order, ns
        )
        for linktype in (NFLOG, NETLINK, IPFILTER)
        for order in "<>"
        for ns in ((False, True) if linktype == NFLOG else (False,))
    },
    **{
        f"pcapng {linktype} {'le' if order == '<' else 'be'}": partial(_pcapng, linktype, order)
        for linktype in (NFLOG, NETLINK, IPFILTER)
        for order in "<>"
    },
}


@cache
def log(name: str) -> Log:
    """The log of a format's name."""
    return MAKERS[name]()


def _random(log: Log, size: int) -> bytes:
    return random.Random(1).randbytes(size)


def _small_numbers(log: Log, size: int) -> bytes:
    """Words of small numbers: lengths, counts and types that are all in range."""
    chosen = random.Random(2)
    return b"".join(
        struct.pack(chosen.choice("<>") + "I", chosen.choice((0, 1, 4, 6, 16, 20, 28, 32, 40, 255)))
        for _ in range(size // 4 + 1)
    )[:size]


def _low_bytes(log: Log, size: int) -> bytes:
    return bytes(random.Random(3).choices((0, 0, 0, 1, 2, 3, 4), k=size))


def _halves(log: Log, size: int) -> bytes:
    record = log.record
    return _repeated(record[: len(record) // 2], size)


def _flipped(log: Log, size: int, every: int) -> bytes:
    octets = bytearray(_repeated(log.record, size))
    for at in range(0, size, every):
        octets[at] ^= 0xFF
    return bytes(octets)


def _heads(log: Log, size: int) -> bytes:
    """Heads of records, each cut off by the next one."""
    return _repeated(log.record[:24], size)


def _far(log: Log, size: int) -> bytes:
    """Records that claim to go on far beyond the next one, and cannot be what they claim."""
    return _repeated(log.record[: len(log.record) - 9] + b"\xff" * 5, size)


def _repeated(part: bytes, size: int) -> bytes:
    return (part * (size // len(part) + 1))[:size]


FILLINGS: Mapping[str, Callable[[Log, int], bytes]] = {
    "zeros": lambda log, size: bytes(size),
    "ff": lambda log, size: b"\xff" * size,
    "random": _random,
    "small numbers": _small_numbers,
    "low bytes": _low_bytes,
    "two bytes": lambda log, size: _repeated(b"\3\0", size),
    "four bytes": lambda log, size: _repeated(b"\4\0\0\0", size),
    "tiny messages": lambda log, size: _repeated(log.least, size),
    "tiny, shifted": lambda log, size: b"\xff" + _repeated(log.least, size),
    "heads": _heads,
    "first magic": lambda log, size: _repeated(log.magics[0], size),
    "other magics": lambda log, size: _repeated(log.magics[-1], size),
    "halves": _halves,
    "far": _far,
    "flipped 7": lambda log, size: _flipped(log, size, 7),
    "flipped 97": lambda log, size: _flipped(log, size, 97),
}
"""What follows the beginning of a log, and its size in bytes."""
