"""Words for the values in expressions of nftables: keys, operators, types and families.

The kernel has numbers. The words are those that nft has for them, or the names of the enums
without their prefix.

Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

META_KEYS = (
    "len", "protocol", "priority", "mark", "iif", "oif", "iifname", "oifname", "iiftype",
    "oiftype", "skuid", "skgid", "nftrace", "rtclassid", "secmark", "nfproto", "l4proto",
    "ibrname", "obrname", "pkttype", "cpu", "iifgroup", "oifgroup", "cgroup", "random", "ipsec",
    "iifkind", "oifkind", "ibrpvid", "ibrvproto", "time", "day", "hour", "sdif", "sdifname",
    "broute", "ibrhwaddr",
)  # fmt: skip
"""enum nft_meta_keys."""
CT_KEYS = (
    "state", "direction", "status", "mark", "secmark", "expiration", "helper", "l3proto", "src",
    "dst", "protocol", "proto-src", "proto-dst", "label", "packets", "bytes", "avgpkt", "zone",
    "event", "src_ip", "dst_ip", "src_ip6", "dst_ip6", "id",
)  # fmt: skip
"""enum nft_ct_keys."""
OBJECT_TYPES = {
    1: "counter", 2: "quota", 3: "ct_helper", 4: "limit", 5: "connlimit", 6: "tunnel",
    7: "ct_timeout", 8: "secmark", 9: "ct_expectation", 10: "synproxy",
}  # fmt: skip
"""NFT_OBJECT_*."""
_FAMILIES = {0: "unspec", 1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


def _numbered(*words: str) -> dict[int, str]:
    return dict(enumerate(words))


WORDS: dict[str, dict[str, dict[int, str]]] = {
    "payload": {"base": _numbered("link", "network", "transport", "inner", "tunnel")},
    "cmp": {"op": _numbered("eq", "ne", "lt", "le", "gt", "ge")},
    "bitwise": {"op": _numbered("mask_xor", "lshift", "rshift", "and", "or", "xor")},
    "range": {"op": _numbered("eq", "ne")},
    "byteorder": {"op": _numbered("ntoh", "hton")},
    "meta": {"key": _numbered(*META_KEYS)},
    "ct": {"key": _numbered(*CT_KEYS), "direction": _numbered("original", "reply")},
    "limit": {"type": _numbered("packets", "bytes")},
    "reject": {"type": _numbered("icmp", "tcp_reset", "icmpx")},
    "nat": {"type": _numbered("snat", "dnat"), "family": _FAMILIES},
    "tproxy": {"family": _FAMILIES},
    "fwd": {"nfproto": _FAMILIES},
    "dynset": {"op": _numbered("add", "update", "delete")},
    "objref": {"type": OBJECT_TYPES},
    "exthdr": {"op": _numbered("ipv6", "tcp_option", "ip_option", "sctp", "dccp")},
    "fib": {"result": {1: "oif", 2: "oifname", 3: "type"}},
    "rt": {"key": _numbered("classid", "nexthop4", "nexthop6", "tcpmss", "ipsec")},
    "socket": {"key": _numbered("transparent", "mark", "wildcard", "cgroupv2")},
    "xfrm": {
        "key": {1: "daddr_ip", 2: "daddr_ip6", 3: "saddr_ip", 4: "saddr_ip6", 5: "reqid",
                6: "spi"},
        "direction": _numbered("in", "out", "forward"),
    },
    "tunnel": {"key": _numbered("path", "id")},
    "numgen": {"type": _numbered("inc", "random")},
    "hash": {"type": _numbered("jhash", "symhash")},
}  # fmt: skip
"""The words of values, by expression and field. A value without a word stays a number."""
