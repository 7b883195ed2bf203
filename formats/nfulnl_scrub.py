"""NFLOG messages without what identifies hosts and users, for logs that will be published.

`scrub` replaces the value of every attribute that may hold an address or a payload with other bytes
of the same length, see formats.scrub. What no table explains becomes zeros.
"""

from __future__ import annotations

from pylog.formats.netlink import (
    NLA_TYPE_MASK,
    align,
    nlattr,
)
from pylog.formats.netlink_scrub import scrubbed
from pylog.formats.netlink_stream import order_of
from pylog.formats.nfulnl_attributes import (
    ATTRIBUTES,
    NFULA_HWADDR,
    NFULA_HWHEADER,
    NFULA_HWTYPE,
    NFULA_L2HDR,
    READERS,
)
from pylog.formats.nfulnl_fast import ETHERTYPES, NFULA_PACKET_HDR, NFULA_PAYLOAD
from pylog.formats.nfulnl_payload import ethertype_of, opened
from pylog.formats.packet_schemas import ETH_P_ARP, ETH_P_IP, FAMILIES
from pylog.formats.plan import BYTEORDER
from pylog.formats.scrub import ARPHRD_ETHER, Scrubber


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The message of `Stream.raw` without addresses and payload.

    Unknown attributes, padding, and what follows a length that does not fit become zeros. The last
    attribute may be cut off.
    """
    order = order_of(layout)
    end = min(len(message), int.from_bytes(message[:4], BYTEORDER[order]))
    out = bytearray(message[:20].ljust(len(message), b"\0"))
    places: list[tuple[int, int, int]] = []
    pos = 20
    while end - pos >= 4:
        size, kind = nlattr[order](message, pos)
        if size < 4:
            break
        out[pos : pos + 4] = message[pos : pos + 4]
        places.append((kind & NLA_TYPE_MASK, pos + 4, min(pos + size, end)))
        pos += align(size)
    first: dict[
        int, tuple[int, int]
    ] = {}  # an attribute that comes again is not replaced but zeroed
    for kind, start, stop in places:
        if kind in ATTRIBUTES and kind not in first and stop - start >= READERS[kind][1]:
            first[kind] = start, stop
    attributes = {kind: message[start:stop] for kind, (start, stop) in first.items()}
    for kind, (start, stop) in first.items():
        out[start:stop] = _scrubbed(kind, attributes, message[16], order, scrubber)
    return bytes(out)


def _scrubbed(
    kind: int, attributes: dict[int, bytes], family: int, order: str, scrubber: Scrubber
) -> bytes:
    """The new value of the attribute `kind`; `attributes` are all of the message's."""
    value = attributes[kind]
    hwtype = int.from_bytes(attributes[NFULA_HWTYPE][:2]) if NFULA_HWTYPE in attributes else None
    protocol = int.from_bytes(attributes.get(NFULA_PACKET_HDR, b"")[:2])
    if kind == NFULA_PAYLOAD:
        return _scrubbed_payload(attributes, family, scrubber)
    if kind == NFULA_HWADDR:
        length = min(int.from_bytes(value[:2]), 8)
        address = scrubber.link_address(value[4 : 4 + length], hwtype)
        return (value[:2] + bytes(2) + address).ljust(len(value), b"\0")
    if kind in (NFULA_HWHEADER, NFULA_L2HDR):
        if hwtype is None and len(value) == 14:  # the port of a bridge, if this is Ethernet
            kind_of_frame = int.from_bytes(value[12:])
            fits = kind_of_frame == protocol or ethertype_of(None, value)
            hwtype = ARPHRD_ETHER if fits or max(kind_of_frame, protocol) < 0x600 else None
        return scrubber.link_header(value, hwtype)
    return scrubbed(ATTRIBUTES[kind], value, order, scrubber)


def _scrubbed_payload(attributes: dict[int, bytes], family: int, scrubber: Scrubber) -> bytes:
    """The new payload; it begins with an Ethernet header, VLAN tags or the network header."""
    values = {
        n: READERS[n][2](attributes[n], 0)
        for n in (NFULA_PACKET_HDR, NFULA_HWTYPE)
        if n in attributes
    }
    hw_protocol, hook = values.get(NFULA_PACKET_HDR, (0, None))
    payload = attributes[NFULA_PAYLOAD]
    ethernet, _, network, ethertype = opened(
        family, hook, hw_protocol or ETHERTYPES.get(family, 0), payload,
        values.get(NFULA_HWTYPE), attributes.get(NFULA_HWHEADER), attributes.get(NFULA_L2HDR),
    )  # fmt: skip
    head = scrubber.link_header(payload[:ethernet]) + payload[ethernet:network]
    data = payload[network:]
    if ethertype == ETH_P_ARP:
        return head + scrubber.arp(data)
    if ethertype in FAMILIES:
        return head + scrubber.packet(data, 4 if ethertype == ETH_P_IP else 6)
    return head + scrubber.payload(data)
