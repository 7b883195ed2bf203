"""Patterns that find the next packet, block or file in a damaged capture file.

A block of pcapng has a type to search for, and its length at both ends confirms it. A packet of
pcap has neither, so the pattern asks for small numbers in its header, and for the way in which
packets of its link type begin. The patterns find candidates at the speed of `re`, and
formats.pcap_framing checks those few.
"""

from __future__ import annotations

import re
from functools import cache

from pylog.formats import Stream
from pylog.formats.pcap_blocks import (
    BYTE_ORDER_MAGIC as BOM,
)
from pylog.formats.pcap_blocks import (
    EPB,
    OPT_END,
    PACKET_OPTIONS,
    PB,
    PCAP_MAGICS,
    READ,
    SHB,
    Magic,
    magic_of,
    plans,
)
from pylog.formats.pcap_interfaces import Interface
from pylog.formats.plan import BYTEORDER


def file_at(data: bytes, pos: int) -> Magic | None:
    """The magic of the file that begins at `pos`, where MAGIC_SIZE bytes are; None without one."""
    magic = magic_of(data[pos : pos + 12])
    if magic is not None and magic.container == "pcap":
        major = plans(magic.order)["pcap"].unpack(data, pos)[1]
        return magic if major == 2 else None
    return magic


PACKET_NEEDLE = 16
"""How many bytes of a packet the needle of pcap covers, beside its header."""
_ATTRIBUTE = (
    rb"(?:[\x04-\xff]\x00|.[\x01-\xff])[\x00-\x3f][\x00\x40\x80]"
    rb"|(?:\x00[\x04-\xff]|[\x01-\xff].)[\x00\x40\x80][\x00-\x3f]"
)
"""The head of an attribute in either byte order: a length of 4 or more, a low number."""
_SLL = rb"\x00[\x00-\x07]\x03\x38.{10}\x00[\x00-\x1f]"
"""struct sockaddr_ll of ARPHRD_NETLINK, less its address."""
_BODIES = {
    239: rb"[\x00-\x0c]\x00..(?:%b)" % _ATTRIBUTE,  # nfgenmsg before it
    113: _SLL,
    253: _SLL,
}
"""The beginning of a packet of pcap, by link type."""
_MAGICS = b"|".join(
    [re.escape(magic.to_bytes(4, order)) + (2).to_bytes(2, order)
     for magic in PCAP_MAGICS for order in BYTEORDER.values()]
    + [re.escape(SHB.to_bytes(4)) + b"...." + re.escape(BOM.to_bytes(4, order))
       for order in BYTEORDER.values()]
)  # fmt: skip
FILES, FILE_NEEDLE = re.compile(_MAGICS, re.S), 12
"""The beginning of a file: its magic and version, or the byte-order magic; and the size of that."""


def _small(most: int, order: str) -> bytes:
    """The pattern of a 32-bit number up to `most`, exact in its two upper bytes only."""
    upper, second = most >> 24, 0xFF if most >> 24 else most >> 16
    first = rb"[\x00-\x%02x]" % upper
    return (
        first + rb"[\x00-\x%02x].." % second
        if order == ">"
        else (rb"..[\x00-\x%02x]" % second + first)
    )


def packet_needle(
    interface: Interface, order: str, head: int, stream: Stream | None
) -> re.Pattern[bytes]:
    """The pattern of a packet of pcap: small numbers, and a packet of its link type; or of a file.

    stream   of the packets' format, if their layout is named
    """
    fraction, caplen = _small(interface.units - 1, order), _small(interface.longest, order)
    magics = [] if stream is None else stream.magics
    default = b"(?:%b)" % b"|".join(map(re.escape, magics))
    body = rb".{%d}%b" % (head - 16, _BODIES.get(interface.linktype, default))
    packet = rb"....%b(?!\x00{4})%b....%b" % (fraction, caplen, body)
    return re.compile(rb"%b|%b" % (packet, _MAGICS), re.S)


@cache
def block_needle(order: str) -> re.Pattern[bytes]:
    """The pattern of a block or file, FILE_NEEDLE bytes of it: the type of a block that is read,
    with a length that it can have.
    """
    kinds = (kind.to_bytes(4, BYTEORDER[order]) for kind in sorted(READ - {SHB}))
    length = rb"(?![\x00-\x0b]\x00{3})...[\x00\x01]"  # 12 to 2 * MAXIMUM_BLOCK
    if order == ">":
        length = rb"(?!\x00{3}[\x00-\x0b])[\x00\x01]..."
    blocks = b"(?:%b)%b" % (b"|".join(map(re.escape, kinds)), length)
    return re.compile(b"%b|%b" % (blocks, _MAGICS), re.S)


def is_cut(data: bytes, pos: int, order: str) -> bool:
    """As Stream.is_cut, for the block of pcapng at `pos`.

    It has room for the packet, and only options follow the packet.
    """
    plan, option = plans(order)["enhanced packet"], plans(order)["option"]
    if pos + plan.size > len(data):
        return True
    kind, size, _, _, _, caplen, length = plan.unpack(data, pos)
    at, end = pos + plan.size + (caplen + 3 & ~3), pos + size
    if kind not in (EPB, PB) or caplen > length or at + 4 > end:
        return False
    while at + option.size <= len(data) and at + 4 < end:
        code, size = option.unpack(data, at)
        if code not in PACKET_OPTIONS or (code == OPT_END and at + 8 != end):
            return False
        at += option.size + (size + 3 & ~3)
    return bool(at + 4 <= end)
