"""PRINTPKT: the line of a packet, as ulogd prints it.

The form is that of the kernel's LOG target, with ulogd's own flaws: ICMP details follow the code
in place of the type, and INCOMPLETE has no space behind it. Source: util/printpkt.c, measured.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from pylog.ulogd.plugins import PLUGINS
from pylog.ulogd.worker import Filter, Values, View

NAMES = tuple(name.rstrip("?") for name in PLUGINS["PRINTPKT"].needs)
Fields = dict[str, Any]


def line(f: Fields) -> bytes:
    """The line of a packet, with its newline.

    f   the values of the keys in NAMES
    """
    parts: list[bytes] = []
    if f["oob.prefix"] is not None:
        parts.append(b"%s " % f["oob.prefix"])
    parts.append(b"IN=%s OUT=%s " % (f["oob.in"] or b"", f["oob.out"] or b""))
    header = f["raw.mac"]
    parts.append(b"MAC=%s " % (header.hex(":").encode() if isinstance(header, bytes) else b""))
    family, protocol = f["oob.family"], f["oob.protocol"]
    if family == 7:
        body = {0x0800: _ipv4, 0x86DD: _ipv6, 0x0806: _arp}.get(protocol)
        parts.append(body(f) if body else b"PROTO=%d " % (protocol or 0))
    elif family == 2:
        parts.append(_ipv4(f))
    elif family == 10:
        parts.append(_ipv6(f))
    for key, form in (
        ("oob.uid", b"UID=%d "),
        ("oob.gid", b"GID=%d "),
        ("oob.mark", b"MARK=0x%x "),
    ):
        if f[key] is not None:
            parts.append(form % f[key])
    parts.append(b"\n")
    return b"".join(parts)


def _ends(f: Fields) -> bytes:
    text = b""
    for word, key in ((b"SRC", "ip.saddr.str"), (b"DST", "ip.daddr.str")):
        if f[key] is not None:
            text += b"%s=%s " % (word, f[key])
    return text


def _n(f: Fields, key: str) -> int:
    value = f[key]
    return value if isinstance(value, int) else 0


def _ipv4(f: Fields) -> bytes:
    tos, fragment = _n(f, "ip.tos"), _n(f, "ip.fragoff")
    text = _ends(f) + b"LEN=%d TOS=%02X PREC=0x%02X TTL=%d ID=%d " % (
        _n(f, "ip.totlen"), tos & 0x1E, tos & 0xE0, _n(f, "ip.ttl"), _n(f, "ip.id"),
    )  # fmt: skip
    for bit, word in ((0x8000, b"CE "), (0x4000, b"DF "), (0x2000, b"MF ")):
        if fragment & bit:
            text += word
    if fragment & 0x1FFF:
        text += b"FRAG:%d " % (fragment & 0x1FFF)
    return text + _transport(f, _n(f, "ip.protocol"), _IPV4)


def _ipv6(f: Fields) -> bytes:
    text = _ends(f)
    if f["ip6.payloadlen"] is not None:
        text += b"LEN=%d TC=%d HOPLIMIT=%d FLOWLBL=%d " % (
            _n(f, "ip6.payloadlen") + 40, _n(f, "ip6.priority"), _n(f, "ip6.hoplimit"),
            _n(f, "ip6.flowlabel"),
        )  # fmt: skip
    if f["ip6.fragoff"] is not None:
        text += b"FRAG: %d ID: %08x " % (_n(f, "ip6.fragoff"), _n(f, "ip6.fragid"))
    return text + _transport(f, _n(f, "ip6.nexthdr"), _IPV6)


def _transport(
    f: Fields, protocol: int, printers: dict[int, tuple[bytes, str, Callable[[Fields], bytes]]]
) -> bytes:
    if protocol not in printers:
        return b"PROTO=%d " % protocol
    name, key, printer = printers[protocol]
    if protocol in (50, 51):  # ip.protocol, which an IPv6 packet with ESP does not have
        name = b"ESP" if f["ip.protocol"] == 50 else b"AH"
    text = b"PROTO=%s " % name
    return text + (b"INCOMPLETE" if f[key] is None else printer(f))


def _tcp(f: Fields) -> bytes:
    text = b"SPT=%d DPT=%d SEQ=%d ACK=%d WINDOW=%d " % (
        f["tcp.sport"], f["tcp.dport"], f["tcp.seq"], f["tcp.ackseq"], f["tcp.window"],
    )  # fmt: skip
    for flag in ("urg", "ack", "psh", "rst", "syn", "fin"):
        if f[f"tcp.{flag}"]:
            text += flag.upper().encode() + b" "
    return text + b"URGP=%d " % _n(f, "tcp.urgp")


def _udp(f: Fields) -> bytes:
    return b"SPT=%d DPT=%d LEN=%d " % (f["udp.sport"], f["udp.dport"], f["udp.len"])


def _sctp(f: Fields) -> bytes:
    return b"SPT=%d DPT=%d " % (f["sctp.sport"], f["sctp.dport"])


def _icmp(f: Fields) -> bytes:
    code = _n(f, "icmp.code")
    text = b"TYPE=%d CODE=%d " % (f["icmp.type"], code)
    gateway = f["icmp.gateway"]
    gateway = gateway if isinstance(gateway, bytes) else bytes(4)
    if code in (0, 8):
        return text + b"ID=%d SEQ=%d " % (_n(f, "icmp.echoid"), _n(f, "icmp.echoseq"))
    if code == 12:
        return text + b"PARAMETER=%d " % (struct.unpack("<I", gateway)[0] >> 24)
    if code == 5:
        return text + b"GATEWAY=%s " % socket.inet_ntoa(gateway).encode()
    return text


def _icmpv6(f: Fields) -> bytes:
    text = b"TYPE=%d CODE=%d " % (f["icmpv6.type"], f["icmpv6.code"])
    if f["icmpv6.type"] in (128, 129):
        text += b"ID=%d SEQ=%d " % (_n(f, "icmpv6.echoid"), _n(f, "icmpv6.echoseq"))
    return text


def _spi(f: Fields) -> bytes:
    return b"SPI=0x%x " % f["ahesp.spi"]


def _arp(f: Fields) -> bytes:
    text = b""
    for word, key in ((b"SRC", "arp.saddr.str"), (b"DST", "arp.daddr.str")):
        if f[key] is not None:
            text += b"%s=%s " % (word, f[key])
    operation = _n(f, "arp.operation")
    words = {1: b"REQUEST", 2: b"REPLY", 10: b"NAK"}
    text += b"PROTO=ARP "
    if f["arp.operation"] is None:
        return text
    text += words[operation] if operation in words else b"CODE=%d" % operation
    address = f["arp.shwaddr"]
    if operation == 2 and isinstance(address, bytes):
        text += b" REPLY_MAC=" + address.hex(":").encode()
    return text + b" "


_BOTH: dict[int, tuple[bytes, str, Callable[[Fields], bytes]]] = {
    6: (b"TCP", "tcp.sport", _tcp),
    17: (b"UDP", "udp.sport", _udp),
    50: (b"ESP", "ahesp.spi", _spi),
    51: (b"AH", "ahesp.spi", _spi),
    132: (b"SCTP", "sctp.sport", _sctp),
}
_IPV4 = _BOTH | {1: (b"ICMP", "icmp.type", _icmp)}
_IPV6 = _BOTH | {58: (b"ICMPv6", "icmpv6.type", _icmpv6)}


class Printpkt(Filter):
    """The filter PRINTPKT."""

    def interpret(self, values: Values, view: View) -> None:
        fields = dict(zip(NAMES, self.instance.cells(values), strict=True))
        values[self.instance.first] = line(fields)
