"""Data types of nftables: how nft writes the value of a register.

A type knows the byte order of its values, and how one is written: as a word, a number, an address.
Bitmasks are written as lists of words. Words are those of nft 1.1 without options, which leaves
services and users as numbers.

Sources: nftables' manual nft(8), `nft describe`, linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address


class Unclear(Exception):
    """The text that nft would print is not certain."""


Show = Callable[[int, int], str]
"""(value, bits) -> text; Unclear if it cannot say."""


@dataclass(frozen=True, slots=True)
class Type:
    """How values are written.

    host      the kernel keeps values in the machine's byte order
    numeric   how a bound of a range is written, where that differs
    bits      of a bitmask: the words by value
    prefix    a mask of leading ones is written as /length
    string    bytes up to a NUL
    """

    name: str
    show: Show
    host: bool = False
    numeric: Show | None = None
    bits: dict[int, str] | None = None
    prefix: bool = False
    string: bool = False


def _decimal(value: int, bits: int) -> str:
    return str(value)


def _hex(digits: int) -> Show:
    return lambda value, bits: f"0x{value:0{digits}x}"


def _words(words: dict[int, str], otherwise: Show = _decimal, quote: str = "") -> Show:
    def show(value: int, bits: int) -> str:
        word = words.get(value)
        return otherwise(value, bits) if word is None else f"{quote}{word}{quote}"

    return show


def _ipv4(value: int, bits: int) -> str:
    if value >> 32:
        raise Unclear
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def _ipv6(value: int, bits: int) -> str:
    """As inet_ntop(3) of glibc, which writes the last 32 bits as IPv4 in compatible addresses."""
    if value >> 128:
        raise Unclear
    if 0xFFFF < value < 1 << 32:
        return f"::{IPv4Address(value)}"
    if value >> 32 == 0xFFFF:
        return f"::ffff:{IPv4Address(value & 0xFFFFFFFF)}"
    return str(IPv6Address(value))


def _lladdr(value: int, bits: int) -> str:
    return value.to_bytes(bits // 8, "big").hex(":")


def _quoted(value: int, bits: int) -> str:
    """A string of the kernel, given as the big-endian number of its bytes."""
    data = value.to_bytes(bits // 8, "big")
    word = data.split(b"\0", 1)[0]
    if not word.isascii() or not word.decode("ascii").isprintable() or b'"' in word:
        raise Unclear
    if len(word) == len(data):  # no NUL: nft matches all names that begin so
        return f'"{word.decode()}*"'
    if word.endswith(b"*"):
        return f'"{word[:-1].decode()}\\*"'
    return f'"{word.decode()}"'


def _classid(value: int, bits: int) -> str:
    """TC_H_MAJ:TC_H_MIN of linux/pkt_sched.h."""
    if value == 0xFFFFFFFF:
        return "root"
    return "none" if value == 0 else f"{value >> 16:x}:{value & 0xFFFF:x}"


def interval(milliseconds: int) -> str:
    """A time span as nft writes it: 1d2h3m4s5ms."""
    rest, parts = milliseconds, ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        count, rest = divmod(rest, size)
        parts += f"{count}{unit}" if count else ""
    return parts + (f"{rest}ms" if rest else "") or "0s"


def _time(value: int, bits: int) -> str:
    return interval(value)


def _seconds(value: int, bits: int) -> str:
    if value % 1000:
        raise Unclear
    return f"{value // 1000}s"


def _unclear(value: int, bits: int) -> str:
    raise Unclear


def _bit(value: int, bits: int) -> str:
    """The number of a conntrack label, which is one bit of 128."""
    if not value or value & (value - 1):
        raise Unclear
    return str(value.bit_length() - 1)


INTERFACE = "\0"
"""Stands before and after the number of an interface, until `named` knows its name. No other text
has it.
"""


def _ifindex(value: int, bits: int) -> str:
    return f"{INTERFACE}{value}{INTERFACE}"


def named(text: str, interfaces: Callable[[int], str | None] | None) -> str:
    """The text with names of interfaces; a number in brackets for one without a name.

    The loopback interface is always number 1.
    """
    parts = text.split(INTERFACE)
    for i in range(1, len(parts), 2):
        number = int(parts[i])
        name = interfaces(number) if interfaces is not None else None
        name = name or ("lo" if number == 1 else None)
        parts[i] = f"[{number}]" if name is None else f'"{name}"'
    return "".join(parts)


PROTOCOLS = {
    0: "ip", 1: "icmp", 2: "igmp", 3: "ggp", 4: "ipencap", 5: "st", 6: "tcp", 8: "egp", 9: "igp",
    12: "pup", 17: "udp", 20: "hmp", 22: "xns-idp", 27: "rdp", 29: "iso-tp4", 33: "dccp",
    36: "xtp", 37: "ddp", 38: "idpr-cmtp", 41: "ipv6", 43: "ipv6-route", 44: "ipv6-frag",
    45: "idrp", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah", 57: "skip", 58: "ipv6-icmp",
    59: "ipv6-nonxt", 60: "ipv6-opts", 73: "rspf", 81: "vmtp", 88: "eigrp", 89: "ospf",
    93: "ax.25", 94: "ipip", 97: "etherip", 98: "encap", 103: "pim", 108: "ipcomp", 112: "vrrp",
    115: "l2tp", 124: "isis", 132: "sctp", 133: "fc", 135: "mobility-header", 136: "udplite",
    137: "mpls-in-ip", 138: "manet", 139: "hip", 140: "shim6", 141: "wesp", 142: "rohc",
    143: "ethernet",
}  # fmt: skip
"""/etc/protocols of Debian, which nft reads."""
ETHER_TYPES = {0x0800: "ip", 0x0806: "arp", 0x86DD: "ip6", 0x8100: "8021q", 0x88A8: "8021ad"}
NFPROTOS = {2: "ipv4", 10: "ipv6"}
ICMP_TYPES = {
    0: "echo-reply", 3: "destination-unreachable", 4: "source-quench", 5: "redirect",
    8: "echo-request", 9: "router-advertisement", 10: "router-solicitation", 11: "time-exceeded",
    12: "parameter-problem", 13: "timestamp-request", 14: "timestamp-reply", 15: "info-request",
    16: "info-reply", 17: "address-mask-request", 18: "address-mask-reply",
}  # fmt: skip
ICMPV6_TYPES = {
    1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem",
    128: "echo-request", 129: "echo-reply", 130: "mld-listener-query", 131: "mld-listener-report",
    132: "mld-listener-done", 133: "nd-router-solicit", 134: "nd-router-advert",
    135: "nd-neighbor-solicit", 136: "nd-neighbor-advert", 137: "nd-redirect",
    138: "router-renumbering", 141: "ind-neighbor-solicit", 142: "ind-neighbor-advert",
    143: "mld2-listener-report",
}  # fmt: skip
_DSCP = {
    0x00: "cs0", 0x08: "cs1", 0x10: "cs2", 0x18: "cs3", 0x20: "cs4", 0x28: "cs5", 0x30: "cs6",
    0x38: "cs7", 0x01: "lephb", 0x0A: "af11", 0x0C: "af12", 0x0E: "af13", 0x12: "af21",
    0x14: "af22", 0x16: "af23", 0x1A: "af31", 0x1C: "af32", 0x1E: "af33", 0x22: "af41",
    0x24: "af42", 0x26: "af43", 0x2C: "va", 0x2E: "ef",
}  # fmt: skip
_MH_TYPES = dict(enumerate((
    "binding-refresh-request", "home-test-init", "careof-test-init", "home-test", "careof-test",
    "binding-update", "binding-acknowledgement", "binding-error", "fast-binding-update",
    "fast-binding-acknowledgement", "fast-binding-advertisement", "experimental-mobility-header",
    "home-agent-switch-message",
)))  # fmt: skip
_DCCP_TYPES = dict(enumerate((
    "request", "response", "data", "ack", "dataack", "closereq", "close", "reset", "sync",
    "syncack",
)))  # fmt: skip
_IGMP_TYPES = {
    17: "membership-query", 18: "membership-report-v1", 22: "membership-report-v2",
    34: "membership-report-v3", 23: "leave-group",
}  # fmt: skip
_ARP_OPERATIONS = {
    1: "request", 2: "reply", 3: "rrequest", 4: "rreply", 8: "inrequest", 9: "inreply", 10: "nak",
}  # fmt: skip
_IFTYPES = {
    1: "ether", 0x200: "ppp", 0x300: "ipip", 0x301: "ipip6", 0x304: "loopback", 0x308: "sit",
    0x30A: "ipgre",
}  # fmt: skip
_ROUTE_TYPES = dict(enumerate((
    "unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable",
    "prohibit",
)))  # fmt: skip
_DAYS = dict(enumerate(("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday",
                        "Saturday")))  # fmt: skip
REJECT_ICMP = {
    0: "net-unreachable", 1: "host-unreachable", 2: "prot-unreachable", 3: "port-unreachable",
    9: "net-prohibited", 10: "host-prohibited", 13: "admin-prohibited",
}  # fmt: skip
REJECT_ICMPV6 = {
    0: "no-route", 1: "admin-prohibited", 3: "addr-unreachable", 4: "port-unreachable",
    5: "policy-fail", 6: "reject-route",
}  # fmt: skip
REJECT_ICMPX = {
    0: "no-route", 1: "port-unreachable", 2: "host-unreachable", 3: "admin-prohibited",
}  # fmt: skip

TCP_FLAGS = {1: "fin", 2: "syn", 4: "rst", 8: "psh", 16: "ack", 32: "urg", 64: "ecn", 128: "cwr"}
CT_STATES = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
CT_STATUS = {1: "expected", 2: "seen-reply", 4: "assured", 8: "confirmed", 16: "snat", 32: "dnat",
             0x200: "dying"}  # fmt: skip
CT_EVENTS = {1 << i: word for i, word in enumerate(
    ("new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "seqadj",
     "secmark", "label"))}  # fmt: skip


def _bitmask(name: str, bits: dict[int, str], host: bool = True) -> Type:
    return Type(name, _unclear, host, bits=bits)


INTEGER = Type("integer", _decimal)
HOST_INTEGER = Type("integer", _decimal, host=True)
XINTEGER = Type("integer", lambda value, bits: f"0x{value:x}")
STRING = Type("string", _quoted, host=True, string=True)
LLADDR = Type("ll_addr", _lladdr)
IPADDR = Type("ipv4_addr", _ipv4, prefix=True)
IP6ADDR = Type("ipv6_addr", _ipv6, prefix=True)
ETHERADDR = Type("ether_addr", _lladdr)
ETHERTYPE = Type("ether_type", _words(ETHER_TYPES, _hex(4)), numeric=_hex(4))
ARP_OP = Type("arp_op", _words(_ARP_OPERATIONS), numeric=_decimal)
INET_PROTO = Type("inet_proto", _words(PROTOCOLS), numeric=_decimal)
INET_SERVICE = Type("inet_service", _decimal)
ICMP_TYPE = Type("icmp_type", _words(ICMP_TYPES), numeric=_decimal)
ICMP_CODE = Type("icmp_code", _decimal)
ICMPV6_TYPE = Type("icmpv6_type", _words(ICMPV6_TYPES), numeric=_decimal)
ICMPV6_CODE = Type("icmpv6_code", _decimal)
IGMP_TYPE = Type("igmp_type", _words(_IGMP_TYPES), numeric=_decimal)
TCP_FLAG = _bitmask("tcp_flag", TCP_FLAGS, host=False)
DCCP_TYPE = Type("dccp_pkttype", _words(_DCCP_TYPES, _hex(2)), numeric=_unclear)
MH_TYPE = Type("mh_type", _words(_MH_TYPES), numeric=_unclear)
TIME = Type("time", _time, host=True, numeric=_seconds)
MARK = Type("mark", _hex(8), host=True, prefix=False)
IFINDEX = Type("iface_index", _ifindex, host=True)
IFTYPE = Type("iface_type", _words(_IFTYPES), host=True, numeric=_decimal)
REALM = Type("realm", _words({0: "cosmos"}, quote='"'), host=True, numeric=_decimal)
CLASSID = Type("classid", _classid, host=True)
UID = Type("uid", _decimal, host=True)
GID = Type("gid", _decimal, host=True)
CT_STATE = _bitmask("ct_state", CT_STATES)
CT_DIR = Type("ct_dir", _words({0: "original", 1: "reply"}), numeric=_decimal)
CT_STATUS_TYPE = _bitmask("ct_status", CT_STATUS)
CT_EVENT = _bitmask("ct_event", CT_EVENTS)
CT_LABEL = Type("ct_label", _bit, host=True, numeric=_unclear)
PKTTYPE = Type("pkt_type", _words({0: "host", 1: "broadcast", 2: "multicast", 3: "other"}),
               host=True, numeric=_decimal)  # fmt: skip
NFPROTO = Type("nf_proto", _words(NFPROTOS), numeric=_decimal)
DEVGROUP = Type("devgroup", _words({0: "default"}, quote='"'), host=True, numeric=_decimal)
DSCP = Type("dscp", _words(_DSCP, _hex(2)), numeric=_hex(2))
ECN = Type("ecn", _words({0: "not-ect", 1: "ect1", 2: "ect0", 3: "ce"}), numeric=_hex(1))
ROUTE_TYPE = Type("fib_addrtype", _words(_ROUTE_TYPES), host=True, numeric=_decimal)
BOOLEAN = Type("boolean", _words({0: "missing", 1: "exists"}, _unclear), numeric=_unclear)
IFNAME = Type("ifname", _quoted, host=True, string=True)
DAY = Type("day", _words(_DAYS, _unclear, quote='"'), numeric=_decimal)
UNCLEAR = Type("", _unclear, host=True)

_BY_NUMBER: dict[int, Type] = {
    2: NFPROTO, 4: INTEGER, 5: STRING, 6: LLADDR, 7: IPADDR, 8: IP6ADDR, 9: ETHERADDR,
    10: ETHERTYPE, 11: ARP_OP, 12: INET_PROTO, 13: INET_SERVICE, 14: ICMP_TYPE, 15: TCP_FLAG,
    16: DCCP_TYPE, 17: MH_TYPE, 18: TIME, 19: MARK, 20: IFINDEX, 21: IFTYPE, 22: REALM,
    23: CLASSID, 24: UID, 25: GID, 26: CT_STATE, 27: CT_DIR, 28: CT_STATUS_TYPE,
    29: ICMPV6_TYPE, 30: CT_LABEL, 31: PKTTYPE, 32: ICMP_CODE, 33: ICMPV6_CODE, 35: DEVGROUP,
    36: DSCP, 37: ECN, 38: ROUTE_TYPE, 39: BOOLEAN, 40: CT_EVENT, 41: IFNAME, 42: IGMP_TYPE,
    45: DAY,
}  # fmt: skip
"""enum datatypes of nft, which a set's key type and data type are made of."""
_TYPE_BITS = 6


def types_of(number: int) -> list[Type]:
    """The types that NFTA_SET_KEY_TYPE or NFTA_SET_DATA_TYPE names, several for a concatenation.

    Raises Unclear for one that is not listed.
    """
    parts: list[Type] = []
    while number:
        kind = _BY_NUMBER.get(number & (1 << _TYPE_BITS) - 1)
        if kind is None:
            raise Unclear
        parts.insert(0, kind)
        number >>= _TYPE_BITS
    if not parts:
        raise Unclear
    return parts


def number(data: bytes, kind: Type, order: str) -> int:
    """The value of a register; a string's bytes are read in their order."""
    little = kind.host and not kind.string and order == "<"
    return int.from_bytes(data, "little" if little else "big")


def bit_words(kind: Type, value: int) -> list[str]:
    """The words of the bits that are set, lowest first; bits without a word as hex."""
    assert kind.bits is not None
    words = []
    bit = 1
    while bit <= value:
        if value & bit:
            words.append(kind.bits.get(bit, f"0x{bit:x}"))
        bit <<= 1
    return words


def show(kind: Type, value: int, bits: int) -> str:
    """A value alone; a bitmask as nft writes an expression of it."""
    if kind.bits is not None:
        return " | ".join(bit_words(kind, value)) or "0x0"
    return kind.show(value, bits)


def show_bound(kind: Type, value: int, bits: int) -> str:
    """A bound of a range."""
    if kind.bits is not None:
        raise Unclear
    return (kind.numeric or kind.show)(value, bits)
