"""Where the network header begins in the payload of an NFLOG message, and its EtherType.

A payload begins with the network header, except in netdev egress and ARP output, which log from the
link header on. VLAN tags may come before the network header as well. The kernel does not say which
of these the payload begins with, so its bytes are compared with the other attributes.

Source: net/netfilter/nfnetlink_log.c (__build_packet_message).
"""

from __future__ import annotations

from pylog.formats.nfulnl_fast import LINK_FIRST
from pylog.formats.packet import inner_tags, seeming
from pylog.formats.packet_schemas import (
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_ARP,
    ETHERNET,
    FAMILIES,
)
from pylog.formats.plan import Plan
from pylog.formats.scrub import ARPHRD_ETHER, ARPHRD_LOOPBACK
from pylog.record import Vlan

_ethernet = Plan(ETHERNET)

LINK_HEADER_HOOKS = tuple((family, 1) for family in LINK_FIRST)
"""nfgen_family and hook number of the hooks that log from the link header on."""


def opened(
    family: int,
    hook: int | None,
    hw_protocol: int,
    payload: bytes,
    hwtype: tuple[int] | None,
    hwheader: bytes | None,
    l2hdr: bytes | None,
) -> tuple[int, tuple[Vlan, ...], int, int]:
    """The headers before the network header: the size of the Ethernet header, the VLAN tags, the
    offset of the network header, and its EtherType.
    """
    ethernet = _ethernet_size(family, hook, payload, hw_protocol, l2hdr)
    inner = payload[ethernet:] if ethernet else payload
    if not hw_protocol:
        header = hwheader if hwheader is not None else l2hdr or payload[:ethernet]
        hw_protocol = ethertype_of(hwtype, header) or seeming(inner)
    tags, network, ethertype = inner_tags(inner, hw_protocol)
    return ethernet, tags, ethernet + network, ethertype


def _ethernet_size(
    family: int, hook: int | None, payload: bytes, hw_protocol: int, l2hdr: bytes | None
) -> int:
    """How many bytes of Ethernet header the payload begins with.

    netdev egress and ARP output log from the link header on, everything else from the network
    header. A device without a link header has none there either, so the bytes must decide.
    """
    size = _ethernet.size
    if (family, hook) not in LINK_HEADER_HOOKS or len(payload) < size:
        return 0
    if l2hdr is not None:
        return size if payload.startswith(l2hdr) else 0
    *_, kind = _ethernet.unpack(payload, 0)  # below 0x600: the length of a frame
    if not hw_protocol:
        return size if kind in (seeming(payload[size:]), *_TAGS, ETH_P_ARP) else 0
    return size if kind == hw_protocol or (kind < 0x600 and hw_protocol < 0x600) else 0


_TAGS = (ETH_P_8021Q, ETH_P_8021AD)


def ethertype_of(hwtype: tuple[int] | None, header: bytes) -> int:
    """The EtherType in an Ethernet header; 0 for another header, and for an 802.3 frame."""
    if len(header) != _ethernet.size:
        return 0
    if hwtype is not None and hwtype[0] not in (ARPHRD_ETHER, ARPHRD_LOOPBACK):
        return 0
    *_, kind = _ethernet.unpack(header, 0)
    return int(kind) if kind in FAMILIES or kind in _TAGS else 0
