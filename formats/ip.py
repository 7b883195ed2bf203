"""Captures of IP packets without a link header, taken from a device and not from a firewall.

A packet of these link types is a record without rule, hook or interface. Link type 101 (RAW) and
its aliases hold both versions of IP, which the first four bits show; 228 holds IPv4, 229 IPv6.
Outside a capture the packets follow each other, each as long as its header says. This is read only
if the layout is named, since any bytes may look like it.

Sources: the tcpdump.org link type list; pcap-linktype(7).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pylog.errors import DecodeError
from pylog.formats import Guess, Message, Stream
from pylog.formats.ip_header import stated_length
from pylog.formats.packet import put_headers, seeming
from pylog.formats.packet_schemas import ETH_P_IP, ETH_P_IPV6, IPV4, IPV6
from pylog.record import PacketRecord, Record
from pylog.record.places import (
    AT_EXTRA,
    AT_LAYOUT,
    AT_OBSERVED,
    AT_OFFSET,
    AT_PAYLOAD,
    AT_RAW,
    AT_SOURCE,
    no_values,
)

if TYPE_CHECKING:
    from pylog.formats.scrub import Scrubber

NAME = "ip"
LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6 = 101, 228, 229
DLT_RAW = (12, 14)
"""The numbers of LINKTYPE_RAW on BSD and OpenBSD, which programs may write into files."""
LINKTYPES: tuple[int, ...] = (LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6, *DLT_RAW)
LAYOUT = "raw-ip"
LOOKED_FOR = ""

_ETHERTYPES = {LINKTYPE_IPV4: ETH_P_IP, LINKTYPE_IPV6: ETH_P_IPV6}
_LEAST = {ETH_P_IP: IPV4.sizeof(), ETH_P_IPV6: IPV6.sizeof()}
"""The least size of a packet."""


class IpStream(Stream):
    """IP packets, of a capture or directly following each other."""

    source = "ip"
    layout = LAYOUT
    one_message_linktypes = frozenset(LINKTYPES)
    needle, needle_size = re.compile(b"[\x45-\x4f\x60-\x6f]"), 1

    def measure(self, data: bytes, pos: int) -> int:
        ethertype = seeming(data[pos : pos + 1])
        if not ethertype:
            raise self.error(pos, "ip_v", data[pos] >> 4, "4 or 6")
        least = _LEAST[ethertype]
        if pos + least > len(data):
            return pos + least
        size = stated_length(data, pos)
        if size < least:
            at = 2 if ethertype == ETH_P_IP else 4
            raise self.error(pos + at, "ip_len", size, f"{least} or more")
        return pos + size

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        if start >= len(data):
            return None
        ethertype = seeming(data[start : start + 1])
        return bool(ethertype) and ethertype == _ETHERTYPES.get(linktype, ethertype)

    def complete(self, data: bytes, message: Message) -> bytes:
        packet = self.raw(data, message)
        ethertype = seeming(packet)
        if not ethertype or _length(packet) <= len(packet) or len(packet) < _LEAST[ethertype]:
            return packet
        if ethertype == ETH_P_IP:
            return packet[:2] + len(packet).to_bytes(2) + packet[4:]
        return packet[:4] + (len(packet) - _LEAST[ethertype]).to_bytes(2) + packet[6:]

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start, end, origin = message.start, message.end, message.origin
        payload, values = data[start:end], no_values()
        values[AT_SOURCE], values[AT_LAYOUT] = self.source, self.layout
        if not self.live:
            values[AT_OFFSET] = self.base + start
        values[AT_OBSERVED] = self.observed_ns if origin is None else origin.observed_ns
        values[AT_PAYLOAD] = payload or None
        if raw:
            values[AT_RAW] = payload
        linktype = LINKTYPE_RAW if origin is None else origin.linktype
        ethertype = _ETHERTYPES.get(linktype) or seeming(payload)
        put_headers(values, payload, 0, len(payload), ethertype)
        if not ethertype:
            values[AT_EXTRA] = {"bad_header": f"version {payload[0] >> 4 if payload else 0}"}
        record = PacketRecord(*values)
        if record.extra and "bad_header" in record.extra:
            self.flawed(start, "IP header", record.extra["bad_header"], "that of version 4 or 6")
        return record


STREAM = IpStream


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """The only layout."""
    return LAYOUT


def capture(message: bytes, layout: str) -> tuple[bytes, str, int]:
    """The packet with which a capture file of any byte order holds a message, the message itself;
    and its original length, by the length in its header.
    """
    return message, "", max(len(message), _length(message))


def _length(packet: bytes) -> int:
    """The length that the packet's header states; 0 without a valid header."""
    try:
        return IpStream().measure(packet, 0)
    except (DecodeError, IndexError):
        return 0


def described(layout: str, log: str) -> str:
    """The layout's name as a capture file has to state it."""
    return layout


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """None: a packet does not name an interface."""
    return {}


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The packet without addresses and payload."""
    return scrubber.packet(message)


def stream(name: str, head: bytes = b"") -> IpStream:
    """The stream of the layout raw-ip; ValueError for another name."""
    if name != LAYOUT:
        raise ValueError(f"no layout {name!r}; there is {LAYOUT}")
    return IpStream()


def layout_names() -> list[str]:
    """The names of all layouts."""
    return [LAYOUT]


def cut(data: bytes) -> str | None:
    """None: outside a capture packets are read only if the layout is named."""
    return None


def probe(head: bytes, final: bool) -> list[Guess]:
    """None: outside a capture packets are read only if the layout is named."""
    return []
