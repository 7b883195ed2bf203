"""The blocks in which received bytes travel: those of a pcapng file, in a journal and in queues.

A section begins with its header and an interface for each source, which says how the source's
messages are to be decoded. Each packet is what a backend received, as it is: messages
of netlink behind a link header (253), records of IPFilter (116). A loss that no sequence number
will show is a comment in statistics of the interface, in its place. So Wireshark and `pylog read`
open what is written here, and writing looks at no message.

A datagram is a packet, as in a capture of nlmon. Wireshark refuses packets of more than 262,144
bytes: what a source has joined is cut between messages if it is longer.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from struct import Struct as CStruct

import msgspec

import pylog
from pylog.detect import Detection, stream_for
from pylog.formats import Message
from pylog.formats.netlink import ARPHRD_NETLINK, LINK_HEADER, LINKTYPE_NETLINK, NETLINK_NETFILTER
from pylog.formats.pcap_blocks import (
    EPB,
    Note,
    interface_block,
    name_notes,
    packet_block,
    plans,
    section_block,
    section_comment,
    short_name,
    statistics_block,
)
from pylog.formats.pcap_interfaces import MAXIMUM
from pylog.formats.registry import linktypes, registered
from pylog.record import rfc3339

ORDER = "<" if sys.byteorder == "little" else ">"
"""The byte order of the blocks: that of this machine, as its messages have."""
LARGEST = 1 << 18
"""The most bytes of a packet (WTAP_MAX_PACKET_SIZE_STANDARD of Wireshark)."""
LINKTYPE_USER = 147
"""LINKTYPE_USER0, for messages of a format that no capture file holds."""
MARK = b"pylog-source "
"""The beginning of the comment that holds a SourceInfo."""
MOST_SOURCES = MAXIMUM

_LINK_HEADER = LINK_HEADER.build(
    {"sll_pkttype": 0, "sll_hatype": ARPHRD_NETLINK, "sll_protocol": NETLINK_NETFILTER}
)
_pack = plans(ORDER)["enhanced packet"].pack_values
_HEAD = plans(ORDER)["enhanced packet"].size
_TAILS = [CStruct(f"{ORDER}{pad}xI").pack for pad in range(4)]
"""What packs the end of a packet, by how many bytes of padding it needs."""


@cache
def detection_of(layout: str) -> Detection:
    """The detection of a layout; ValueError if there is none of that name."""
    return stream_for(layout)


class SourceInfo(msgspec.Struct, omit_defaults=True):
    """How the messages of an interface are decoded.

    name         of the source in the configuration; `part` counts its logs, if it has several
    address      as nflog:5
    session      which opening of the source it is: its numbers begin anew with each
    layouts      that read the messages alike so far; the first is used
    begun        whether the session begins here, so that its first records have the numbers `logs`
    logs         the first number of each log of a session
    numbered, accountable   as of a Backend
    options      of the source that are given
    """

    name: str
    address: str
    session: int
    layouts: list[str]
    part: int = 0
    begun: bool = False
    logs: dict[str, int] = {}
    numbered: bool = False
    accountable: bool = True
    options: dict[str, bool | int | float | str | dict[str, str] | None] = {}

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.part

    @property
    def source(self) -> str:
        """What records of it have as `source`."""
        return detection_of(self.layouts[0]).stream().source

    def comment(self) -> bytes:
        return MARK + msgspec.json.encode(self)


def info_of(comment: bytes) -> SourceInfo | None:
    """The SourceInfo in the comment of an interface; None if it is another comment."""
    if not comment.startswith(MARK):
        return None
    try:
        info = msgspec.json.decode(comment[len(MARK) :], type=SourceInfo)
        for layout in info.layouts or [""]:
            detection_of(layout)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    return info


@cache
def linktype_of(layout: str) -> int:
    """The link type of packets that hold several messages of a layout."""
    module = registered().by_source.get(detection_of(layout).stream().source)
    if module is None:
        return LINKTYPE_USER
    types = linktypes(module)
    return LINKTYPE_NETLINK if LINKTYPE_NETLINK in types else types[0]


def section(sources: Sequence[SourceInfo]) -> bytes:
    """The header of a section, and the interfaces of its sources, in their order."""
    clocks = f"{rfc3339(time.time_ns())}, monotonic clock {time.monotonic_ns()} ns"
    head = section_block(
        hardware=platform.machine(),
        os=f"{platform.system()} {platform.release()}",
        application=f"pylog {pylog.__version__}",
        comment=section_comment(platform.node(), clocks),
        order=ORDER,
    )
    return head + b"".join(
        interface_block(
            linktype_of(info.layouts[0]), name=info.address, description=info.layouts[0],
            comment=info.comment(), order=ORDER,
        )
        for info in sources
    )  # fmt: skip


def loss_block(number: int, info: SourceInfo, reason: str, size: int | None = None) -> bytes:
    """A loss of an unknown number of records of an interface, in its place.

    size   how many bytes were lost, if that is certain
    """
    now = time.time_ns()
    note = Note(lost=reason[:6000], source=info.source, layout=info.layouts[0], size=size,
                observed=now, interface=number)  # fmt: skip
    return statistics_block(
        number, now, received=0, dropped=0, comments=[note.comment()], order=ORDER
    )


def name_comments(names: Mapping[int, str | int]) -> list[bytes]:
    """The comments that give names of network interfaces to the packets from theirs on."""
    texts = {n: short_name(name) for n, name in names.items() if isinstance(name, str)}
    return [note.comment() for note in name_notes(dict(sorted(texts.items())))]


class Packer:
    """Makes the packets of one interface of what is received of its source."""

    def __init__(self, number: int, info: SourceInfo) -> None:
        self._number, self._layout = number, info.layouts[0]
        is_netlink = linktype_of(self._layout) == LINKTYPE_NETLINK
        self._link = _LINK_HEADER if is_netlink else b""
        self._room = LARGEST - len(self._link)

    def packed(
        self, data: bytes, ends: Sequence[int], observed_ns: int, comments: Sequence[bytes] = ()
    ) -> list[bytes | memoryview]:
        """The parts of the packets that hold the data, to be written one after the other: three for
        each packet.

        ends      where datagrams end in the data; () if nobody can tell
        comments  of the first packet, which then is a single part and two empty ones
        """
        link, number, pack = self._link, self._number, _pack
        high, low = observed_ns >> 32, observed_ns & 0xFFFFFFFF
        fixed, view = len(link), memoryview(data)
        parts: list[bytes | memoryview] = []
        start = 0
        for end in self._cuts(data, ends):
            piece = view[start:end]
            start = end
            if comments:
                block = packet_block(link + piece, observed_ns, number, comments=comments,
                                     order=ORDER)  # fmt: skip
                parts += block, b"", b""
                comments = ()
                continue
            kept = fixed + len(piece)
            pad = -kept & 3
            size = _HEAD + kept + pad + 4
            parts += (
                pack(EPB, size, number, high, low, kept, kept) + link,
                piece,
                _TAILS[pad](size),
            )
        return parts

    def _cuts(self, data: bytes, ends: Sequence[int]) -> Iterable[int]:
        """Where to cut the data: at the ends of datagrams, or if those are unclear, between
        messages where it is too long for one packet.
        """
        if ends and ends[-1] == len(data):
            return ends
        if len(data) <= self._room:
            return (len(data),)
        return self._between_messages(data)

    def _between_messages(self, data: bytes) -> Iterator[int]:
        room, start, last = self._room, 0, 0
        for end in self._message_ends(data):
            if end - start > room and last > start:
                yield last
                start = last
            last = end
        if start < len(data):
            yield len(data)

    def _message_ends(self, data: bytes) -> list[int]:
        """Where messages end; this is needed only for what a queue of the source has joined."""
        stream = detection_of(self._layout).stream()
        items = stream.split(data, True)
        ends = [(i.end + 3) & ~3 for i in items if isinstance(i, Message)]
        return [end for end in ends if end < len(data)] + [len(data)]
