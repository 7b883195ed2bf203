"""ipfw: packets that FreeBSD's ipfw gave to BPF, in captures of its interface ipfw0.

They are Ethernet frames. Of a packet that ipfw saw on layer 3 there is no link header, so ipfw
makes one up: the texts DDDDDD and SSSSSS in place of addresses. A capture of Ethernet is taken for
ipfw's only if it has such frames, since any other device has Ethernet, too. No frame says its rule,
action, interface or direction.

Source: ipfw_bpf_tap in FreeBSD's ip_fw_bpf.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pylog.formats import Guess, Item, Message, Stream
from pylog.formats.addresses import mac
from pylog.formats.ip_header import stated_length
from pylog.formats.packet import inner_tags, put_headers, seeming
from pylog.formats.packet_schemas import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, ETHERNET
from pylog.formats.plan import Plan
from pylog.record import PacketRecord, Record
from pylog.record.places import (
    AT_HWADDR,
    AT_HWHEADER,
    AT_LAYOUT,
    AT_OBSERVED,
    AT_OFFSET,
    AT_PAYLOAD,
    AT_RAW,
    AT_SOURCE,
    AT_TIMESTAMP,
    AT_VLAN,
    no_values,
)

if TYPE_CHECKING:
    from pylog.formats.scrub import Scrubber

NAME = "ipfw"
LINKTYPE_ETHERNET = 1
LINKTYPES: tuple[int, ...] = (LINKTYPE_ETHERNET,)
LAYOUT = "ipfw-ethernet"
LOOKED_FOR = ""
PARTLY = True
MADE_UP = b"DDDDDDSSSSSS"
"""The destination and source of a frame that had no link header."""

_ethernet = Plan(ETHERNET)


class IpfwStream(Stream):
    """Frames of ipfw0, of a capture.

    certain   whether all frames are ipfw's; otherwise only those with made-up addresses
    """

    source = "ipfw"
    layout = LAYOUT

    def __init__(self, certain: bool) -> None:
        super().__init__()
        self.one_message_linktypes = frozenset(LINKTYPES if certain else ())

    def measure(self, data: bytes, pos: int) -> int:
        raise self.error(pos, "ethernet", "frames outside a capture", "pcap or pcapng")

    def captured(self, data: bytes, start: int, end: int, origin: Any, items: list[Item]) -> None:
        if data.startswith(MADE_UP, start):
            items.append(Message(start, end, origin))
        else:
            self.foreign += 1

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        if start + _ethernet.size > len(data):
            return None
        return _ethernet.unpack(data, start)[2] in (ETH_P_IP, ETH_P_IPV6, ETH_P_ARP)

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start, end, origin = message.start, message.end, message.origin
        at = start + _ethernet.size
        if at > end:
            raise self.error(start, "ethernet", f"{end - start} bytes", f"{_ethernet.size} or more")
        _, source, ethertype = _ethernet.unpack(data, start)
        values = no_values()
        values[AT_SOURCE], values[AT_LAYOUT] = self.source, self.layout
        if not self.live:
            values[AT_OFFSET] = self.base + start
        values[AT_TIMESTAMP] = values[AT_OBSERVED] = (
            self.observed_ns if origin is None else origin.observed_ns
        )
        if not data.startswith(MADE_UP, start):
            values[AT_HWADDR], values[AT_HWHEADER] = mac(source), data[start:at].hex()
        payload = data[at:end]
        tags, network, ethertype = inner_tags(payload, ethertype)
        payload = payload[network:]
        values[AT_VLAN], values[AT_PAYLOAD] = tags or None, payload or None
        if raw:
            values[AT_RAW] = data[start:end]
        put_headers(values, payload, 0, len(payload), ethertype)
        record = PacketRecord(*values)
        if record.extra and "bad_header" in record.extra:
            self.flawed(at, "IP header", record.extra["bad_header"], "that of its EtherType")
        return record


STREAM = IpfwStream


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """The only layout."""
    return LAYOUT


def captured_stream(name: str) -> IpfwStream:
    """The stream of the frames of a capture that is known to be ipfw's."""
    if name != LAYOUT:
        raise ValueError(f"no layout {name!r}; there is {LAYOUT}")
    return IpfwStream(certain=True)


def examined(packets: Iterable[bytes], linktype: int, order: str) -> tuple[str, list[str]] | None:
    """The layout of the packets of a capture, if any of them has made-up addresses."""
    count = sum(packet.startswith(MADE_UP) for packet in packets)
    if not count:
        return None
    frames = "frame has" if count == 1 else "frames have"
    return LAYOUT, [f"{count} {frames} the addresses DDDDDD and SSSSSS, which ipfw makes up"]


def capture(message: bytes, layout: str) -> tuple[bytes, str, int]:
    """The packet with which a capture file of any byte order holds a message, the message itself;
    and its original length, by the length in its IP header.
    """
    at, length = _ethernet.size, len(message)
    if seeming(message[at : at + 1]) and length >= at + 6:
        length = max(length, at + stated_length(message, at))
    return message, "", length


def described(layout: str, log: str) -> str:
    """The layout's name as a capture file has to state it."""
    return layout


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """None: a frame does not name an interface."""
    return {}


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The frame without addresses and payload; a frame of another protocol than IP and ARP becomes
    zeros behind its header.
    """
    at = _ethernet.size
    head, rest = message[:at], message[at:]
    if not message.startswith(MADE_UP):
        head = b"".join(scrubber.mac(part) for part in (head[:6], head[6:12])) + head[12:]
    _, network, ethertype = inner_tags(rest, int.from_bytes(message[12:14]))
    tags, packet = rest[:network], rest[network:]
    if ethertype in (ETH_P_IP, ETH_P_IPV6):
        packet = scrubber.packet(packet)
    else:
        packet = scrubber.arp(packet) if ethertype == ETH_P_ARP else bytes(len(packet))
    return head + tags + packet


def stream(name: str, head: bytes = b"") -> IpfwStream:
    """The stream of the layout ipfw-ethernet, of frames with made-up addresses; ValueError for
    another name.
    """
    if name != LAYOUT:
        raise ValueError(f"no layout {name!r}; there is {LAYOUT}")
    return IpfwStream(certain=False)


def layout_names() -> list[str]:
    """The names of all layouts."""
    return [LAYOUT]


def cut(data: bytes) -> str | None:
    """None: outside a capture there are no frames."""
    return None


def probe(head: bytes, final: bool) -> list[Guess]:
    """None: outside a capture there are no frames."""
    return []
