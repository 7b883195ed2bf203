"""ulogd's keys: a view on pylog's records, declared in one table.

Every key has a name and a type, which outputs print by. The keys of sources are views: each row has
the function that reads the value from a `Packet`, `Flow` or `Counter`, which hold a record as ulogd
sees it (pylog.ulogd.views). The keys of filters are computed from other keys; their rows have the
name and the type only. The order of rows is the order in which ulogd's outputs write.

Values are integers, booleans as 0 or 1, bytes for text and raw data, and bytes in network order for
addresses, 4 or 16 of them. None: the key is not valid for this record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

U8, U16, U32, U64, BOOL = "u8", "u16", "u32", "u64", "bool"
TEXT, IP, RAW, LITERAL = "text", "ip", "raw", "literal"
"""The types: ULOGD_RET_UINT8 to UINT64, BOOL, STRING, IPADDR, RAW and RAWSTR."""

NUMBERS = frozenset((U8, U16, U32, U64, BOOL))
"""Types of values that are integers."""

Value = int | bytes | None


class Key(NamedTuple):
    """A key.

    view   reads the value of a source's key from its Packet, Flow or Counter; None: computed
    """

    name: str
    type: str
    view: Callable[[Any], Value] | None = None


PACKET = (
    Key("raw.mac", RAW, lambda p: p.link_header),
    Key("raw.pkt", RAW, lambda p: p.payload),
    Key("raw.pktlen", U32, lambda p: None if p.payload is None else len(p.payload)),
    Key("raw.pktcount", U32, lambda p: 1),
    Key("oob.prefix", TEXT, lambda p: p.prefix),
    Key("oob.time.sec", U32, lambda p: p.time_us // 1_000_000 & 0xFFFFFFFF),
    Key("oob.time.usec", U32, lambda p: p.time_us % 1_000_000),
    Key("oob.mark", U32, lambda p: p.mark or 0),
    Key("oob.ifindex_in", U32, lambda p: p.indev),
    Key("oob.ifindex_out", U32, lambda p: p.outdev),
    Key("oob.hook", U8, lambda p: p.hook),
    Key("raw.mac_len", U16, lambda p: None if p.link_header is None else len(p.link_header)),
    Key("oob.seq.local", U32, lambda p: p.seq),
    Key("oob.seq.global", U32, lambda p: p.seq_global),
    Key("oob.family", U8, lambda p: p.family),
    Key("oob.protocol", U16, lambda p: p.protocol),
    Key("oob.uid", U32, lambda p: p.uid),
    Key("oob.gid", U32, lambda p: p.gid),
    Key("raw.label", U8, lambda p: p.label),
    Key("raw.type", U16, lambda p: None if p.link_header is None else p.link_type),
    Key("raw.mac.saddr", RAW, lambda p: p.address),
    Key("raw.mac.addrlen", U16, lambda p: None if p.address is None else len(p.address)),
    Key("raw", RAW, lambda p: p.message),
    Key("ct", RAW, lambda p: p.entry),
)
"""What NFLOG gives."""

FLOW = (
    Key("orig.ip.saddr", IP, lambda f: f.orig.saddr),
    Key("orig.ip.daddr", IP, lambda f: f.orig.daddr),
    Key("orig.ip.protocol", U8, lambda f: f.orig.protocol),
    Key("orig.l4.sport", U16, lambda f: f.orig.sport),
    Key("orig.l4.dport", U16, lambda f: f.orig.dport),
    Key("orig.raw.pktlen", U64, lambda f: f.orig.bytes),
    Key("orig.raw.pktcount", U64, lambda f: f.orig.packets),
    Key("reply.ip.saddr", IP, lambda f: f.reply.saddr),
    Key("reply.ip.daddr", IP, lambda f: f.reply.daddr),
    Key("reply.ip.protocol", U8, lambda f: f.reply.protocol),
    Key("reply.l4.sport", U16, lambda f: f.reply.sport),
    Key("reply.l4.dport", U16, lambda f: f.reply.dport),
    Key("reply.raw.pktlen", U64, lambda f: f.reply.bytes),
    Key("reply.raw.pktcount", U64, lambda f: f.reply.packets),
    Key("icmp.code", U8, lambda f: f.icmp_code),
    Key("icmp.type", U8, lambda f: f.icmp_type),
    Key("ct.mark", U32, lambda f: f.mark),
    Key("ct.id", U32, lambda f: f.id),
    Key("ct.event", U32, lambda f: f.event),
    Key("flow.start.sec", U32, lambda f: _seconds(f.start_us)),
    Key("flow.start.usec", U32, lambda f: _micro(f.start_us)),
    Key("flow.end.sec", U32, lambda f: _seconds(f.end_us)),
    Key("flow.end.usec", U32, lambda f: _micro(f.end_us)),
    Key("oob.family", U8, lambda f: f.family),
    Key("oob.protocol", U8, lambda f: 0),
    Key("ct", RAW, lambda f: b""),
)
"""What NFCT gives."""

COUNTER = (
    Key("sum.name", TEXT, lambda c: c.name),
    Key("sum.pkts", U64, lambda c: c.packets),
    Key("sum.bytes", U64, lambda c: c.bytes),
    Key("sum", RAW, lambda c: b""),
    Key("oob.time.sec", U32, lambda c: _seconds(c.time_us)),
    Key("oob.time.usec", U32, lambda c: _micro(c.time_us)),
)
"""What NFACCT gives."""

_SOCKET_KEYS = {
    "oob.time.sec": Key("oob.time.sec", U32, lambda p: _seconds(p.stamp_us)),
    "oob.time.usec": Key("oob.time.usec", U32, lambda p: None),
    "oob.mark": Key("oob.mark", U32, lambda p: None),
    "oob.ifindex_in": Key("oob.in", TEXT, lambda p: p.in_name),
    "oob.ifindex_out": Key("oob.out", TEXT, lambda p: p.out_name),
}
SOCKET = (
    *(_SOCKET_KEYS.get(key.name, key) for key in PACKET if key.name not in ("raw", "ct")),
    Key("nufw.user.name", TEXT, lambda p: p.nufw.get("user.name")),
    Key("nufw.user.id", U32, lambda p: p.nufw.get("user.id")),
    Key("nufw.os.name", TEXT, lambda p: p.nufw.get("os.name")),
    Key("nufw.os.rel", TEXT, lambda p: p.nufw.get("os.rel")),
    Key("nufw.os.vers", TEXT, lambda p: p.nufw.get("os.vers")),
    Key("nufw.app.name", TEXT, lambda p: p.nufw.get("app.name")),
)  # fmt: skip
"""What UNIXSOCK gives."""


def _keys(prefix: str, rows: str, types: dict[str, str]) -> tuple[Key, ...]:
    """Keys `prefix.word` for the words of a text `word:type word:type`."""
    pairs = [row.split(":") for row in rows.split()]
    return tuple(Key(f"{prefix}.{name}", types[kind]) for name, kind in pairs)


_SHORT = {"8": U8, "16": U16, "32": U32, "b": BOOL, "ip": IP, "raw": RAW}
HEADERS = (
    *_keys("ip", "saddr:ip daddr:ip protocol:8 tos:8 ttl:8 totlen:16 ihl:8 csum:16 id:16"
           " fragoff:16", _SHORT),
    *_keys("ip6", "payloadlen:16 priority:8 flowlabel:32 hoplimit:8 nexthdr:8 fragoff:16"
           " fragid:32", _SHORT),
    *_keys("tcp", "sport:16 dport:16 seq:32 ackseq:32 window:16 offset:8 reserved:8 urg:b urgp:16"
           " ack:b psh:b rst:b syn:b fin:b res1:b res2:b csum:16", _SHORT),
    *_keys("udp", "sport:16 dport:16 len:16 csum:16", _SHORT),
    *_keys("icmp", "type:8 code:8 echoid:16 echoseq:16 gateway:ip fragmtu:16 csum:16", _SHORT),
    *_keys("icmpv6", "type:8 code:8 echoid:16 echoseq:16 csum:16", _SHORT),
    Key("ahesp.spi", U32),
    Key("oob.protocol", U16),
    *_keys("arp", "hwtype:16 protocoltype:16 operation:16 shwaddr:raw saddr:ip dhwaddr:raw"
           " daddr:ip", _SHORT),
    *_keys("sctp", "sport:16 dport:16 csum:32", _SHORT),
)  # fmt: skip
"""What BASE gives."""

ENDS = ("ip.saddr", "ip.daddr", "orig.ip.saddr", "orig.ip.daddr", "reply.ip.saddr",
        "reply.ip.daddr")  # fmt: skip
"""The addresses that IP2BIN and IP2HBIN convert."""
AS_TEXT = (*ENDS, "arp.saddr", "arp.daddr")
"""The addresses that IP2STR converts."""

NAMES = (Key("oob.in", TEXT), Key("oob.out", TEXT))
ADDRESS_TEXTS = tuple(Key(f"{name}.str", TEXT) for name in AS_TEXT)
ADDRESS_LITERALS = tuple(Key(f"{name}.bin", LITERAL) for name in ENDS)
ADDRESS_NUMBERS = tuple(Key(name.replace("ip.", "ip.h"), IP) for name in ENDS)
LINK = (
    Key("raw.type", U16),
    Key("oob.protocol", U16),
    Key("mac.saddr.str", TEXT),
    Key("mac.daddr.str", TEXT),
    Key("mac.str", TEXT),
)
PRINT = (Key("print", TEXT),)
PASSWORDS = (Key("pwsniff.user", TEXT), Key("pwsniff.pass", TEXT))


def _seconds(time_us: int | None) -> int | None:
    return None if time_us is None else time_us // 1_000_000 & 0xFFFFFFFF


def _micro(time_us: int | None) -> int | None:
    return None if time_us is None else time_us % 1_000_000
