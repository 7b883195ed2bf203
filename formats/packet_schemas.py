"""The headers of layers 2 to 4 as construct schemas, and the numbers by which one names the next.

These are the only declarations of the headers. Compiled plans of them read the packets of records
(formats.packet), NumPy types of them read many packets at once (formats.columns.packet).

Sources: RFC 791, 8200, 826, 9293, 768, 792, 4443, 9260, 4302, 4303, 2784, IEEE 802.1Q.
"""

from __future__ import annotations

from typing import Any, Final

from construct import Bytes, Int8ub, Int16ub, Int32ub, Struct

from pylog.formats import ip_numbers

ETHERNET = Struct("dst" / Bytes(6), "src" / Bytes(6), "type" / Int16ub)
VLAN_TAG = Struct("tci" / Int16ub, "type" / Int16ub)
ARP = Struct(
    "htype" / Int16ub, "ptype" / Int16ub, "hlen" / Int8ub, "plen" / Int8ub, "oper" / Int16ub
)
IPV4 = Struct(
    "version_ihl" / Int8ub,
    "tos" / Int8ub,
    "length" / Int16ub,
    "id" / Int16ub,
    "flags_offset" / Int16ub,
    "ttl" / Int8ub,
    "protocol" / Int8ub,
    "checksum" / Int16ub,
    "src" / Bytes(4),
    "dst" / Bytes(4),
)
IPV6 = Struct(
    "version_class_flow" / Int32ub,
    "payload_length" / Int16ub,
    "next_header" / Int8ub,
    "hop_limit" / Int8ub,
    "src" / Bytes(16),
    "dst" / Bytes(16),
)
IPV6_EXTENSION = Struct("next_header" / Int8ub, "length" / Int8ub)
IPV6_FRAGMENT = Struct(
    "next_header" / Int8ub, "reserved" / Int8ub, "offset_more" / Int16ub, "id" / Int32ub
)
TCP = Struct(
    "sport" / Int16ub,
    "dport" / Int16ub,
    "seq" / Int32ub,
    "ack" / Int32ub,
    "offset" / Int8ub,
    "flags" / Int8ub,
    "window" / Int16ub,
    "checksum" / Int16ub,
    "urgent" / Int16ub,
)
UDP = Struct("sport" / Int16ub, "dport" / Int16ub, "length" / Int16ub, "checksum" / Int16ub)
SCTP = Struct("sport" / Int16ub, "dport" / Int16ub, "tag" / Int32ub, "checksum" / Int32ub)
ICMP = Struct("type" / Int8ub, "code" / Int8ub, "checksum" / Int16ub, "rest" / Int32ub)
AH = Struct(
    "next_header" / Int8ub, "length" / Int8ub, "reserved" / Int16ub, "spi" / Int32ub,
    "sequence" / Int32ub,
)  # fmt: skip
ESP = Struct("spi" / Int32ub, "sequence" / Int32ub)
GRE = Struct("flags_version" / Int16ub, "protocol" / Int16ub)
IPV4_TCP = Struct(*IPV4.subcons, "tcp" / TCP)
"""The headers of nearly all packets. UDP has its ports, and ICMP its type and code, where TCP has
its ports."""

SCHEMAS: dict[str, Any] = {
    "vlan": VLAN_TAG, "arp": ARP, "ipv4": IPV4, "ipv6": IPV6, "ipv6 extension": IPV6_EXTENSION,
    "ipv6 fragment": IPV6_FRAGMENT, "tcp": TCP, "udp": UDP, "sctp": SCTP, "icmp": ICMP,
    "icmpv6": ICMP, "ah": AH, "esp": ESP, "gre": GRE,
}  # fmt: skip
"""Every header by its name."""

ETH_P_IP: Final = 0x0800
ETH_P_ARP: Final = 0x0806
ETH_P_IPV6: Final = 0x86DD
ETH_P_8021Q, ETH_P_8021AD = 0x8100, 0x88A8
FAMILIES: dict[int, str] = {ETH_P_IP: "ipv4", ETH_P_IPV6: "ipv6", ETH_P_ARP: "arp"}

HEADER_NAMES: dict[int, str] = {
    ip_numbers.ICMP: "icmp", ip_numbers.TCP: "tcp", ip_numbers.UDP: "udp", ip_numbers.GRE: "gre",
    ip_numbers.ESP: "esp", ip_numbers.AH: "ah", ip_numbers.ICMPV6: "icmpv6",
    ip_numbers.SCTP: "sctp", ip_numbers.UDPLITE: "udp", ip_numbers.FRAGMENT: "ipv6 fragment",
    **dict.fromkeys(ip_numbers.EXTENSIONS, "ipv6 extension"),
}  # fmt: skip
"""The name of a protocol's header in SCHEMAS, by protocol number. UDPLITE has the ports of UDP."""
