"""The numbers of IP protocols in one place: protocols, their names, ICMP errors, extensions.

Formats, outputs and ipmon's text share them. Where programs or kernels differ on purpose, each set
has a name that says whose it is.

Sources: IANA protocol-numbers, RFC 792, 4443, 8200; ip_log.c and ipmon.c of IPFilter.
"""

from __future__ import annotations

ICMP, TCP, UDP, IPV6, GRE, ESP, AH, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 41, 47, 50, 51, 58, 132, 136
HOP_BY_HOP, ROUTING, FRAGMENT, NO_NEXT_HEADER, DESTINATION_OPTIONS = 0, 43, 44, 59, 60
MOBILITY, HIP, SHIM6 = 135, 139, 140

PROTOCOL_NAMES = {
    ICMP: "icmp", 2: "igmp", TCP: "tcp", UDP: "udp", IPV6: "ipv6", ROUTING: "ipv6-route",
    FRAGMENT: "ipv6-frag", 46: "rsvp", GRE: "gre", ESP: "esp", AH: "ah",
    ICMPV6: "icmpv6", NO_NEXT_HEADER: "ipv6-nonxt", DESTINATION_OPTIONS: "ipv6-opts",
    88: "eigrp", 89: "ospf", 94: "ipip", 103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp",
    SCTP: "sctp", UDPLITE: "udplite", 137: "mpls-in-ip",
}  # fmt: skip
"""Names of common protocols; pylog.ipmon.names has those that differ in ipmon."""

ICMP_ERRORS = frozenset((3, 4, 5, 11, 12))
"""Types of ICMP that quote the packet that caused them (RFC 792)."""
ICMP6_ERRORS = frozenset((1, 2, 3, 4))
"""Types of ICMPv6 that do so (RFC 4443)."""

EXTENSIONS = frozenset((HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, MOBILITY, HIP, SHIM6))
"""IPv6 extension headers that begin with next header and length. FRAGMENT is separate, and AH
counts as a protocol."""
EXTENSIONS_OF_IPFILTER = frozenset((HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, MOBILITY))
"""Those that IPFilter's kernel steps over to find where the headers end (ip_log.c)."""
EXTENSIONS_OF_IPMON = EXTENSIONS_OF_IPFILTER | {AH}
"""The extension headers that ipmon steps over. It reads the length of AH as that of an extension,
which is wrong."""
