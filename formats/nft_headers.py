"""Header fields and keys that nftables rules load, under the names that nft has for them.

A rule loads bits of a packet by base and offset; which header they belong to follows from what the
rule matched before. HEADERS has the fields of each header with their place and type, META, CT and
the tables after them the keys of other expressions.

Sources: nft(8); RFCs 791, 8200, 826, 9293, 768, 792, 4443, 9260, 4340, 4302, 4303, 3173; IEEE
802.1Q; linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from typing import NamedTuple

from pylog.formats import nft_types as t
from pylog.formats.nft_types import Type

LINK, NETWORK, TRANSPORT = "link", "network", "transport"


class HeaderField(NamedTuple):
    """A field: its name in nft, offset and size in bits, type, and what it needs of ICMP."""

    name: str
    offset: int
    bits: int
    type: Type
    icmp_type: int | None = None


class Header(NamedTuple):
    """A header: base, size in bits (0: it has no header above it at the same base), fields.

    key     the field that names the next header
    upper   the next header by the value of the key
    """

    name: str
    base: str
    bits: int
    key: str | None
    fields: tuple[HeaderField, ...]


def _header(name: str, base: str, key: str | None, *fields: HeaderField, bits: int = 0) -> Header:
    return Header(name, base, bits, key, fields)


_F = HeaderField
_PORTS = (_F("sport", 0, 16, t.INET_SERVICE), _F("dport", 16, 16, t.INET_SERVICE))

HEADERS: dict[str, Header] = {h.name: h for h in (
    _header("ether", LINK, "type",
            _F("daddr", 0, 48, t.ETHERADDR), _F("saddr", 48, 48, t.ETHERADDR),
            _F("type", 96, 16, t.ETHERTYPE), bits=112),
    _header("vlan", LINK, "type",
            _F("pcp", 0, 3, t.INTEGER), _F("dei", 3, 1, t.INTEGER), _F("id", 4, 12, t.INTEGER),
            _F("type", 16, 16, t.ETHERTYPE), bits=32),
    _header("ip", NETWORK, "protocol",
            _F("version", 0, 4, t.INTEGER), _F("hdrlength", 4, 4, t.INTEGER),
            _F("dscp", 8, 6, t.DSCP), _F("ecn", 14, 2, t.ECN), _F("length", 16, 16, t.INTEGER),
            _F("id", 32, 16, t.INTEGER), _F("frag-off", 48, 16, t.XINTEGER),
            _F("ttl", 64, 8, t.INTEGER), _F("protocol", 72, 8, t.INET_PROTO),
            _F("checksum", 80, 16, t.INTEGER), _F("saddr", 96, 32, t.IPADDR),
            _F("daddr", 128, 32, t.IPADDR)),
    _header("ip6", NETWORK, "nexthdr",
            _F("version", 0, 4, t.INTEGER), _F("dscp", 4, 6, t.DSCP), _F("ecn", 10, 2, t.ECN),
            _F("flowlabel", 12, 20, t.INTEGER), _F("length", 32, 16, t.INTEGER),
            _F("nexthdr", 48, 8, t.INET_PROTO), _F("hoplimit", 56, 8, t.INTEGER),
            _F("saddr", 64, 128, t.IP6ADDR), _F("daddr", 192, 128, t.IP6ADDR)),
    _header("arp", NETWORK, None,
            _F("htype", 0, 16, t.INTEGER), _F("ptype", 16, 16, t.ETHERTYPE),
            _F("hlen", 32, 8, t.INTEGER), _F("plen", 40, 8, t.INTEGER),
            _F("operation", 48, 16, t.ARP_OP), _F("saddr ether", 64, 48, t.ETHERADDR),
            _F("saddr ip", 112, 32, t.IPADDR), _F("daddr ether", 144, 48, t.ETHERADDR),
            _F("daddr ip", 192, 32, t.IPADDR)),
    _header("tcp", TRANSPORT, None, *_PORTS,
            _F("sequence", 32, 32, t.INTEGER), _F("ackseq", 64, 32, t.INTEGER),
            _F("doff", 96, 4, t.INTEGER), _F("reserved", 100, 4, t.INTEGER),
            _F("flags", 104, 8, t.TCP_FLAG), _F("window", 112, 16, t.INTEGER),
            _F("checksum", 128, 16, t.INTEGER), _F("urgptr", 144, 16, t.INTEGER)),
    _header("udp", TRANSPORT, None, *_PORTS,
            _F("length", 32, 16, t.INTEGER), _F("checksum", 48, 16, t.INTEGER)),
    _header("udplite", TRANSPORT, None, *_PORTS,
            _F("csumcov", 32, 16, t.INTEGER), _F("checksum", 48, 16, t.INTEGER)),
    _header("sctp", TRANSPORT, None, *_PORTS,
            _F("vtag", 32, 32, t.INTEGER), _F("checksum", 64, 32, t.INTEGER)),
    _header("dccp", TRANSPORT, None, *_PORTS, _F("type", 67, 4, t.DCCP_TYPE)),
    _header("ah", TRANSPORT, None, _F("nexthdr", 0, 8, t.INET_PROTO),
            _F("hdrlength", 8, 8, t.INTEGER), _F("reserved", 16, 16, t.INTEGER),
            _F("spi", 32, 32, t.INTEGER), _F("sequence", 64, 32, t.INTEGER)),
    _header("esp", TRANSPORT, None,
            _F("spi", 0, 32, t.INTEGER), _F("sequence", 32, 32, t.INTEGER)),
    _header("comp", TRANSPORT, None, _F("nexthdr", 0, 8, t.INET_PROTO),
            _F("flags", 8, 8, t.XINTEGER), _F("cpi", 16, 16, t.INTEGER)),
    _header("icmp", TRANSPORT, "type",
            _F("type", 0, 8, t.ICMP_TYPE), _F("code", 8, 8, t.ICMP_CODE),
            _F("checksum", 16, 16, t.INTEGER), _F("id", 32, 16, t.INTEGER, 8),
            _F("sequence", 48, 16, t.INTEGER, 8), _F("gateway", 32, 32, t.INTEGER, 5),
            _F("mtu", 48, 16, t.INTEGER, 3)),
    _header("icmpv6", TRANSPORT, "type",
            _F("type", 0, 8, t.ICMPV6_TYPE), _F("code", 8, 8, t.ICMPV6_CODE),
            _F("checksum", 16, 16, t.INTEGER), _F("parameter-problem", 32, 32, t.INTEGER, 4),
            _F("mtu", 32, 32, t.INTEGER, 2), _F("id", 32, 16, t.INTEGER, 128),
            _F("sequence", 48, 16, t.INTEGER, 128), _F("max-delay", 32, 16, t.INTEGER, 130)),
    _header("igmp", TRANSPORT, None,
            _F("type", 0, 8, t.IGMP_TYPE), _F("mrt", 8, 8, t.INTEGER),
            _F("checksum", 16, 16, t.INTEGER), _F("group", 32, 32, t.INTEGER)),
    _header("th", TRANSPORT, None, *_PORTS),
)}  # fmt: skip

_TRANSPORTS = {
    1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 50: "esp", 51: "ah", 58: "icmpv6",
    108: "comp", 132: "sctp", 136: "udplite",
}  # fmt: skip
_NETWORKS = {0x0800: "ip", 0x86DD: "ip6", 0x0806: "arp", 0x8100: "vlan", 0x88A8: "vlan"}
UPPER: dict[str, dict[int, str]] = {
    "ether": _NETWORKS,
    "netdev": _NETWORKS,
    "vlan": _NETWORKS,
    "inet": {2: "ip", 10: "ip6"},
    "ip": _TRANSPORTS,
    "ip6": _TRANSPORTS,
}
"""The header that a value of the key names."""
L4PROTO = _TRANSPORTS
START = {
    "ip": (NETWORK, "ip"), "ip6": (NETWORK, "ip6"), "arp": (NETWORK, "arp"),
    "inet": (LINK, "inet"), "bridge": (LINK, "ether"), "netdev": (LINK, "netdev"),
}  # fmt: skip
"""By family: the base and header that a rule begins with; inet and netdev stand for none."""


class Key(NamedTuple):
    """A key of meta, ct and the like: its words, type and size in bits."""

    text: str
    type: Type
    bits: int


META = {
    "len": Key("meta length", t.HOST_INTEGER, 32),
    "protocol": Key("meta protocol", t.ETHERTYPE, 16),
    "priority": Key("meta priority", t.CLASSID, 32),
    "mark": Key("meta mark", t.MARK, 32),
    "iif": Key("iif", t.IFINDEX, 32),
    "oif": Key("oif", t.IFINDEX, 32),
    "iifname": Key("iifname", t.IFNAME, 128),
    "oifname": Key("oifname", t.IFNAME, 128),
    "iiftype": Key("meta iiftype", t.IFTYPE, 16),
    "oiftype": Key("meta oiftype", t.IFTYPE, 16),
    "skuid": Key("meta skuid", t.UID, 32),
    "skgid": Key("meta skgid", t.GID, 32),
    "nftrace": Key("meta nftrace", t.HOST_INTEGER, 8),
    "rtclassid": Key("meta rtclassid", t.REALM, 32),
    "nfproto": Key("meta nfproto", t.NFPROTO, 8),
    "l4proto": Key("meta l4proto", t.INET_PROTO, 8),
    "ibrname": Key("meta ibrname", t.IFNAME, 128),
    "obrname": Key("meta obrname", t.IFNAME, 128),
    "pkttype": Key("meta pkttype", t.PKTTYPE, 8),
    "cpu": Key("meta cpu", t.HOST_INTEGER, 32),
    "iifgroup": Key("iifgroup", t.DEVGROUP, 32),
    "oifgroup": Key("oifgroup", t.DEVGROUP, 32),
    "cgroup": Key("meta cgroup", t.HOST_INTEGER, 32),
    "random": Key("meta random", t.INTEGER, 32),
    "ipsec": Key("meta ipsec", t.BOOLEAN, 8),
    "iifkind": Key("meta iifkind", t.IFNAME, 128),
    "oifkind": Key("meta oifkind", t.IFNAME, 128),
    "ibrpvid": Key("meta ibrpvid", t.HOST_INTEGER, 16),
    "ibrvproto": Key("meta ibrvproto", t.ETHERTYPE, 16),
    "time": Key("meta time", t.UNCLEAR, 64),
    "day": Key("meta day", t.DAY, 8),
    "hour": Key("meta hour", t.UNCLEAR, 32),
    "sdif": Key("meta sdif", t.IFINDEX, 32),
    "sdifname": Key("meta sdifname", t.IFNAME, 128),
    "broute": Key("meta broute", t.HOST_INTEGER, 8),
}
CT = {
    "state": Key("state", t.CT_STATE, 32),
    "direction": Key("direction", t.CT_DIR, 8),
    "status": Key("status", t.CT_STATUS_TYPE, 32),
    "mark": Key("mark", t.MARK, 32),
    "expiration": Key("expiration", t.TIME, 32),
    "helper": Key("helper", t.STRING, 128),
    "l3proto": Key("l3proto", t.NFPROTO, 8),
    "protocol": Key("protocol", t.INET_PROTO, 8),
    "proto-src": Key("proto-src", t.INET_SERVICE, 16),
    "proto-dst": Key("proto-dst", t.INET_SERVICE, 16),
    "label": Key("label", t.CT_LABEL, 128),
    "packets": Key("packets", t.HOST_INTEGER, 64),
    "bytes": Key("bytes", t.HOST_INTEGER, 64),
    "avgpkt": Key("avgpkt", t.HOST_INTEGER, 64),
    "zone": Key("zone", t.HOST_INTEGER, 16),
    "event": Key("event", t.CT_EVENT, 32),
    "src_ip": Key("ip saddr", t.IPADDR, 32),
    "dst_ip": Key("ip daddr", t.IPADDR, 32),
    "src_ip6": Key("ip6 saddr", t.IP6ADDR, 128),
    "dst_ip6": Key("ip6 daddr", t.IP6ADDR, 128),
    "id": Key("id", t.INTEGER, 32),
}
RT = {
    "classid": Key("rt classid", t.REALM, 32),
    "nexthop4": Key("rt ip nexthop", t.IPADDR, 32),
    "nexthop6": Key("rt ip6 nexthop", t.IP6ADDR, 128),
    "tcpmss": Key("rt mtu", t.HOST_INTEGER, 16),
    "ipsec": Key("rt ipsec", t.BOOLEAN, 8),
}
SOCKET = {
    "transparent": Key("socket transparent", t.HOST_INTEGER, 8),
    "mark": Key("socket mark", t.MARK, 32),
    "wildcard": Key("socket wildcard", t.HOST_INTEGER, 8),
}
XFRM = {
    "daddr_ip": Key("ip daddr", t.IPADDR, 32),
    "daddr_ip6": Key("ip6 daddr", t.IP6ADDR, 128),
    "saddr_ip": Key("ip saddr", t.IPADDR, 32),
    "saddr_ip6": Key("ip6 saddr", t.IP6ADDR, 128),
    "reqid": Key("reqid", t.HOST_INTEGER, 32),
    "spi": Key("spi", t.INTEGER, 32),
}
FIB_FLAGS = ((1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (16, "oif"))
FIB_PRESENT = 32  # NFTA_FIB_F_PRESENT
FIB = {
    "oif": Key("oif", t.IFINDEX, 32),
    "oifname": Key("oifname", t.IFNAME, 128),
    "type": Key("type", t.ROUTE_TYPE, 32),
}

TCP_OPTIONS = {
    0: "eol", 1: "nop", 2: "maxseg", 3: "window", 4: "sack-perm", 5: "sack", 8: "timestamp",
    19: "md5sig", 30: "mptcp", 34: "fastopen",
}  # fmt: skip
IP_OPTIONS = {7: "rr", 131: "lsrr", 137: "ssrr", 148: "ra"}
EXTENSION_HEADERS = {0: "hbh", 43: "rt", 44: "frag", 60: "dst", 135: "mh"}
SCTP_CHUNKS = {
    0: "data", 1: "init", 2: "init-ack", 3: "sack", 4: "heartbeat", 5: "heartbeat-ack",
    6: "abort", 7: "shutdown", 8: "shutdown-ack", 9: "error", 10: "cookie-echo",
    11: "cookie-ack", 12: "ecne", 13: "cwr", 14: "shutdown-complete", 128: "asconf-ack",
    130: "re-config", 192: "forward-tsn", 193: "asconf", 194: "i-forward-tsn",
}  # fmt: skip
_KIND = (_F("kind", 0, 8, t.INTEGER), _F("length", 8, 8, t.INTEGER))
_TYPE = (_F("type", 0, 8, t.INTEGER), _F("length", 8, 8, t.INTEGER))
_NEXT = (_F("nexthdr", 0, 8, t.INET_PROTO), _F("hdrlength", 8, 8, t.INTEGER))
_ROUTE = (*_TYPE, _F("ptr", 16, 8, t.INTEGER), _F("addr", 24, 32, t.IPADDR))
_CHUNK = (_F("type", 0, 8, t.INTEGER), _F("flags", 8, 8, t.INTEGER),
          _F("length", 16, 16, t.INTEGER))  # fmt: skip
EXTHDR_FIELDS: dict[tuple[str, int], tuple[HeaderField, ...]] = {
    ("tcp_option", 2): (*_KIND, _F("size", 16, 16, t.INTEGER)),
    ("tcp_option", 3): (*_KIND, _F("count", 16, 8, t.INTEGER)),
    ("tcp_option", 4): _KIND,
    ("tcp_option", 5): (*_KIND, _F("left", 16, 32, t.INTEGER), _F("right", 48, 32, t.INTEGER)),
    ("tcp_option", 8): (*_KIND, _F("tsval", 16, 32, t.INTEGER), _F("tsecr", 48, 32, t.INTEGER)),
    ("tcp_option", 19): _KIND,
    ("tcp_option", 34): _KIND,
    ("ip_option", 7): _ROUTE,
    ("ip_option", 131): _ROUTE,
    ("ip_option", 137): _ROUTE,
    ("ip_option", 148): (*_TYPE, _F("value", 16, 16, t.INTEGER)),
    ("ipv6", 0): _NEXT,
    ("ipv6", 60): _NEXT,
    ("ipv6", 43): (*_NEXT, _F("type", 16, 8, t.INTEGER), _F("seg-left", 24, 8, t.INTEGER),
                   _F("srh last-entry", 32, 8, t.INTEGER), _F("srh flags", 40, 8, t.INTEGER),
                   _F("srh tag", 48, 16, t.INTEGER), _F("srh sid[1]", 64, 128, t.IP6ADDR)),
    ("ipv6", 44): (_F("nexthdr", 0, 8, t.INET_PROTO), _F("reserved", 8, 8, t.INTEGER),
                   _F("frag-off", 16, 13, t.INTEGER), _F("reserved2", 29, 2, t.INTEGER),
                   _F("more-fragments", 31, 1, t.INTEGER), _F("id", 32, 32, t.INTEGER)),
    ("ipv6", 135): (*_NEXT, _F("type", 16, 8, t.MH_TYPE), _F("reserved", 24, 8, t.INTEGER),
                    _F("checksum", 32, 16, t.INTEGER)),
    ("sctp", 0): (*_CHUNK, _F("tsn", 32, 32, t.INTEGER), _F("stream", 64, 16, t.INTEGER),
                  _F("ssn", 80, 16, t.INTEGER), _F("ppid", 96, 32, t.INTEGER)),
    ("sctp", 1): (*_CHUNK, _F("init-tag", 32, 32, t.INTEGER), _F("a-rwnd", 64, 32, t.INTEGER),
                  _F("num-outbound-streams", 96, 16, t.INTEGER),
                  _F("num-inbound-streams", 112, 16, t.INTEGER),
                  _F("initial-tsn", 128, 32, t.INTEGER)),
    ("sctp", 3): (*_CHUNK, _F("cum-tsn-ack", 32, 32, t.INTEGER)),
}  # fmt: skip
"""Fields of extension headers and options by the kind of header and its number."""
