"""Random rules of nftables, in nft's language: matches and statements of each family.

`rule` makes one from a random.Random, so that a test is repeatable by its seed. nft refuses some of
them (two protocols that exclude each other); the caller leaves those out.
"""

from __future__ import annotations

import random
from collections.abc import Callable

Make = Callable[[random.Random], str]

FAMILIES = ("inet", "ip", "ip6", "arp", "bridge", "netdev")
_PROTOCOLS = ("tcp", "udp", "icmp", "esp", "sctp", "99")
_STATES = ("new", "established", "related", "invalid", "untracked")
_TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")


def _ipv4(r: random.Random) -> str:
    return f"{r.randint(1, 223)}.{r.randint(0, 255)}.{r.randint(0, 255)}.{r.randint(0, 255)}"


def _ipv4_prefix(r: random.Random) -> str:
    length = r.choice((1, 7, 8, 9, 15, 16, 20, 24, 25, 31, 32))
    base = r.getrandbits(length) << 32 - length
    return f"{'.'.join(str(b) for b in base.to_bytes(4, 'big'))}/{length}"


def _ipv6(r: random.Random) -> str:
    return r.choice(("::1", "fe80::1", "2001:db8::9", f"fd{r.randint(10, 99)}::{r.randint(1, 9)}",
                     "2001:0:0:1::1", "1:2:3:4:5:6:7:8"))  # fmt: skip


def _port(r: random.Random) -> str:
    return str(r.choice((0, 1, 22, 53, 80, 443, 1024, 8080, 65535, r.randint(1, 65535))))


def _port_range(r: random.Random) -> str:
    low = r.randint(0, 65000)
    return f"{low}-{low + r.randint(1, 535)}"


def _mac(r: random.Random) -> str:
    return f"02:{r.randint(0, 99):02d}:00:00:{r.randint(0, 99):02d}:01"


def _name(r: random.Random) -> str:
    return r.choice(('"lo"', '"f0"', '"eth*"', '"wlan0"', '"br-1.5"'))


def _compared(subject: str, value: Make, others: tuple[Make, ...] = ()) -> Make:
    """subject VALUE, != VALUE, or a set of values."""

    def make(r: random.Random) -> str:
        kind = r.random()
        if kind < 0.6:
            return f"{subject} {r.choice(('', '', '!= '))}{r.choice((value, *others))(r)}"
        values = {value(r) for _ in range(r.randint(1, 4))}
        return f"{subject} {r.choice(('', '!= '))}{{ {', '.join(sorted(values))} }}"

    return make


def _ordered(subject: str, low: int, high: int) -> Make:
    def make(r: random.Random) -> str:
        op = r.choice(("", "!= ", "< ", "> ", "<= ", ">= "))
        first = r.randint(low + 1, high - 1)
        if r.random() < 0.2:
            return f"{subject} {first}-{r.randint(first, high)}"
        return f"{subject} {op}{first}"

    return make


def _words(subject: str, *words: str) -> Make:
    return _compared(subject, lambda r: r.choice(words))


def _fixed(*texts: str) -> Make:
    return lambda r: r.choice(texts)


def _flags(r: random.Random) -> str:
    return ",".join(r.sample(_TCP_FLAGS, r.randint(1, 3)))


def _tcp_flags(r: random.Random) -> str:
    mask = r.sample(_TCP_FLAGS, r.randint(2, 4))
    set_bits = r.sample(mask, r.randint(1, len(mask)))
    return r.choice((
        f"tcp flags {_flags(r)}",
        f"tcp flags & ({'|'.join(mask)}) == {'|'.join(set_bits)}",
        f"tcp flags & ({'|'.join(mask)}) != {'|'.join(set_bits)}",
        f"tcp flags & ({'|'.join(mask)}) == 0",
        f"tcp flags == {set_bits[0]}",
        f"tcp flags != {set_bits[0]}",
    ))  # fmt: skip


def _ct_state(r: random.Random) -> str:
    states = r.sample(_STATES, r.randint(1, 3))
    return f"ct state {r.choice(('', '', '!= '))}{','.join(states)}"


_TRANSPORT: tuple[Make, ...] = (
    _compared("tcp dport", _port, (_port_range,)), _compared("udp dport", _port, (_port_range,)),
    _compared("tcp sport", _port, (_port_range,)), _compared("tcp dport", _port_range),
    _ordered("tcp dport", 1, 60000), _ordered("udp length", 1, 60000), _tcp_flags,
    _ordered("tcp window", 1, 60000), _ordered("tcp doff", 1, 15),
    _compared("meta l4proto", lambda r: r.choice(_PROTOCOLS)),
    _compared("th dport", _port),
    _fixed("tcp option maxseg size 1400", "tcp option sack-perm exists",
           "tcp option window missing"),
    _fixed("esp spi 5", "ah spi 1-9", "sctp dport 9", "dccp type request", "comp cpi 3",
           "udplite dport 5", "sctp chunk init exists"),
)  # fmt: skip
_IP: tuple[Make, ...] = (
    _compared("ip saddr", _ipv4, (_ipv4_prefix,)), _compared("ip daddr", _ipv4, (_ipv4_prefix,)),
    _compared("ip saddr", lambda r: r.choice((_ipv4, _ipv4_prefix))(r)),
    _compared("ip protocol", lambda r: r.choice(_PROTOCOLS)),
    _ordered("ip ttl", 1, 254), _ordered("ip length", 20, 1500), _ordered("ip id", 1, 65000),
    _words("ip dscp", "cs0", "cs1", "af11", "ef", "0x3f"), _words("ip ecn", "ce", "ect0"),
    _fixed("ip frag-off & 0x1fff != 0", "ip version 4", "ip hdrlength 5", "ip checksum 0"),
    _words("icmp type", "echo-request", "echo-reply", "destination-unreachable", "77"),
    _fixed("icmp code 1", "icmp id 5", "icmp type echo-request icmp code 0", "icmp mtu 5"),
    _fixed("ip option lsrr exists"),
)  # fmt: skip
_IP6: tuple[Make, ...] = (
    _compared("ip6 saddr", _ipv6, (lambda r: f"fe80::/{r.choice((10, 64, 65))}",)),
    _compared("ip6 daddr", _ipv6),
    _compared("ip6 nexthdr", lambda r: r.choice(("tcp", "udp", "ipv6-icmp", "59"))),
    _ordered("ip6 hoplimit", 1, 254), _ordered("ip6 length", 1, 1500),
    _words("ip6 dscp", "cs0", "cs1", "af11"),
    _words("icmpv6 type", "echo-request", "nd-neighbor-solicit", "nd-router-advert", "77"),
    _fixed("icmpv6 code 1", "icmpv6 mtu 1280", "frag id 5", "exthdr hbh exists", "hbh nexthdr 6"),
)  # fmt: skip
_META: tuple[Make, ...] = (
    _compared("iifname", _name), _fixed('iif "lo"', 'iif != "lo"'),
    _compared("meta mark", lambda r: hex(r.getrandbits(r.choice((1, 8, 32))))),
    _fixed("meta mark & 0xff == 0x10", "meta mark & 0xffff0000 != 0x10000", "meta mark 1-5"),
    _ordered("meta length", 1, 1500), _words("meta pkttype", "unicast", "broadcast", "multicast"),
    _ordered("meta cpu", 0, 8), _fixed("meta iiftype ether", "iifgroup 5", "meta priority 1:2"),
    _fixed("meta day \"Friday\"", "meta random < 100000", "meta cgroup 5"),
)  # fmt: skip
_CONNECTION: tuple[Make, ...] = (
    _ct_state, _ct_state, _words("ct direction", "original", "reply"),
    _fixed("ct mark 5", "ct mark & 0xf != 1", "ct status dnat,snat", "ct zone 5", "ct label 3",
           'ct helper "ftp"', "ct original packets > 100", "ct expiration 1s-1h",
           "ct reply proto-dst 22", "ct protocol tcp"),
)  # fmt: skip
_ETHER: tuple[Make, ...] = (
    _compared("ether saddr", _mac), _compared("ether daddr", _mac),
    _words("ether type", "ip", "ip6", "arp", "0x1234"),
    _fixed("vlan id 5", "vlan pcp 3", "vlan id 1-9", "meta protocol ip", "meta protocol ip6"),
)  # fmt: skip
_INET: tuple[Make, ...] = (_words("meta nfproto", "ipv4", "ipv6"),)
_CONCAT: tuple[Make, ...] = (
    lambda r: f"ip saddr . tcp dport {{ {_ipv4(r)} . {_port(r)}, {_ipv4(r)} . {_port(r)} }}",
    lambda r: f"meta l4proto . th dport {{ tcp . {_port(r)}, udp . {_port(r)} }}",
    lambda r: f"ip saddr . ip daddr {{ {_ipv4(r)} . {_ipv4_prefix(r)} }}",
    lambda r: f'iifname . tcp dport {{ "lo" . {_port(r)}, "eth0" . {_port(r)} }}',
    lambda r: f"tcp dport vmap {{ {_port(r)} : accept, {_port_range(r)} : jump sub }}",
    lambda r: f"ip saddr vmap {{ {_ipv4(r)} : drop, {_ipv4_prefix(r)} : goto web }}",
    _fixed("ct state vmap { established : accept, invalid : drop }",
           "ip saddr @addresses", "tcp dport != @ports", "ip saddr . tcp dport @pairs"),
)  # fmt: skip
_ARP: tuple[Make, ...] = (
    _words("arp operation", "request", "reply"), _compared("arp saddr ip", _ipv4, (_ipv4_prefix,)),
    _compared("arp daddr ether", _mac), _fixed("arp htype 1", "arp ptype ip", "arp hlen 6"),
)  # fmt: skip
MATCHES: dict[str, tuple[Make, ...]] = {
    "inet": (*_TRANSPORT, *_IP, *_IP6, *_META, *_CONNECTION, *_INET, *_CONCAT,
             _compared("ether saddr", _mac)),
    "ip": (*_TRANSPORT, *_IP, *_META, *_CONNECTION, *_CONCAT),
    "ip6": (*_TRANSPORT, *_IP6, *_META, *_CONNECTION),
    "arp": (*_ARP, *_META),
    "bridge": (*_TRANSPORT, *_IP, *_IP6, *_META, *_ETHER),
    "netdev": (*_TRANSPORT, *_IP, *_IP6, *_META, *_ETHER),
}  # fmt: skip

_VERDICTS = ("accept", "drop", "continue", "return", "jump sub", "goto web")
STATEMENTS: tuple[Make, ...] = (
    _fixed("counter", "counter packets 5 bytes 700"),
    lambda r: f"limit rate {r.choice(('', 'over '))}{r.randint(1, 99)}/"
              f"{r.choice(('second', 'minute', 'hour', 'day', 'week'))}",
    lambda r: f"limit rate {r.randint(1, 2000)} {r.choice(('bytes', 'kbytes', 'mbytes'))}/second",
    lambda r: f"quota {r.choice(('', 'over '))}{r.randint(1, 3000)} kbytes",
    lambda r: f"quota {r.randint(1, 3000)} bytes",
    lambda r: f'log prefix "p{r.randint(1, 9)}: " group {r.randint(0, 9)}',
    _fixed('log prefix "a" level info', "log", "log level debug flags all", "log flags tcp options",
           "log group 5 snaplen 64 queue-threshold 3"),
    lambda r: f"meta mark set {hex(r.getrandbits(32))}",
    _fixed("meta mark set meta mark | 0x10", "meta mark set meta mark & 0xff", "meta nftrace set 1",
           "meta priority set 1:5"),
)  # fmt: skip
_STATEFUL: tuple[Make, ...] = (
    _fixed("ct mark set 5", "ct mark set meta mark", "ct count over 10",
           "meta mark set tcp dport map { 1 : 5, 7-9 : 6 }", "meta mark set ct mark",
           "numgen inc mod 4 1", "meta mark set numgen random mod 8"),
)  # fmt: skip


def _rejects(family: str) -> tuple[str, ...]:
    both = ("reject", "reject with tcp reset")
    if family == "ip":
        return (*both, "reject with icmp host-unreachable", "reject with icmp port-unreachable")
    if family == "ip6":
        return (*both, "reject with icmpv6 no-route")
    if family in ("inet", "bridge", "netdev"):
        return (*both, "reject with icmpx admin-prohibited", "reject with icmp net-unreachable",
                "reject with icmpv6 addr-unreachable")  # fmt: skip
    return ()


def rule(r: random.Random, family: str) -> str:
    """Up to three matches, up to two statements, and perhaps a verdict and a comment."""
    statements = STATEMENTS + (_STATEFUL if family in ("inet", "ip", "ip6") else ())
    parts = [r.choice(MATCHES[family])(r) for _ in range(r.choice((0, 1, 1, 2, 2, 3, 4)))]
    effects = [r.choice(statements)(r) for _ in range(r.choice((0, 0, 1, 2)))]
    if parts and effects and r.random() < 0.2:  # a statement between matches keeps those before it
        parts.insert(r.randint(0, len(parts)), effects.pop())
    parts += effects
    if r.random() < 0.7 or not parts:
        parts.append(r.choice((*_VERDICTS, *_rejects(family))))
    if r.random() < 0.1:
        parts.append('comment "some words"')
    return " ".join(parts)


SETS = "\n".join(
    f"add set {family} t addresses {{ type ipv4_addr; flags interval; }}\n"
    f"add set {family} t ports {{ type inet_service; }}\n"
    f"add set {family} t pairs {{ type ipv4_addr . inet_service; }}"
    for family in ("inet", "ip")
) + "\n"  # fmt: skip
"""The sets that rules name, for a table t of each family that has them."""
