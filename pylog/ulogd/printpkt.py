"""PRINTPKT: the line of a packet, as ulogd prints it.

The form is that of the kernel's LOG target, with ulogd's own flaws: ICMP details follow the code
in place of the type, and INCOMPLETE has no space behind it. What prints a part is made once for a
stack, with the cells that it reads. Source: util/printpkt.c, measured.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from pylog.memo import Memo
from pylog.ulogd.plugins import PLUGINS
from pylog.ulogd.worker import Filter, Instance, Surroundings, Values, View

NAMES = tuple(name.rstrip("?") for name in PLUGINS["PRINTPKT"].needs)
Print = Callable[[Values], bytes]
"""Prints a part of the line of a packet by its cells."""
Get = Callable[..., Callable[[Values], Any]]
"""What reads the cells of keys, by their names."""

_FRAGMENTS = ((0x8000, b"CE "), (0x4000, b"DF "), (0x2000, b"MF "))
_TCP_FLAGS = ("urg", "ack", "psh", "rst", "syn", "fin")
_OPERATIONS = {1: b"REQUEST", 2: b"REPLY", 10: b"NAK"}


def printer(get: Get) -> Print:
    """What prints the line of a packet, with its newline."""
    link, kind = Memo(_link), get("oob.prefix", "oob.in", "oob.out", "raw.mac")
    family = get("oob.family", "oob.protocol")
    owner = get("oob.uid", "oob.gid", "oob.mark")
    ipv4, ipv6 = _ipv4(get), _ipv6(get)
    families = {2: ipv4, 10: ipv6}
    ethertypes = {0x0800: ipv4, 0x86DD: ipv6, 0x0806: _arp(get)}

    def line(values: Values) -> bytes:
        own, ethertype = family(values)
        text = link[kind(values)]
        if own == 7:
            body = ethertypes.get(ethertype)
            text += body(values) if body else b"PROTO=%d " % (ethertype or 0)
        elif (body := families.get(own)) is not None:
            text += body(values)
        uid, gid, mark = owner(values)
        if uid is not None:
            text += b"UID=%d " % uid
        if gid is not None:
            text += b"GID=%d " % gid
        if mark is not None:
            text += b"MARK=0x%x " % mark
        return text + b"\n"

    return line


def _link(parts: tuple[bytes | None, bytes | None, bytes | None, bytes | None]) -> bytes:
    """The start of a line, which many packets share."""
    prefix, indev, outdev, header = parts
    return b"%sIN=%s OUT=%s MAC=%s " % (
        b"" if prefix is None else prefix + b" ", indev or b"", outdev or b"",
        header.hex(":").encode() if header is not None else b"",
    )  # fmt: skip


def _ends(saddr: bytes | None, daddr: bytes | None) -> bytes:
    text = b"" if saddr is None else b"SRC=%s " % saddr
    return text if daddr is None else text + b"DST=%s " % daddr


def _ipv4(get: Get) -> Print:
    cells = get("ip.saddr.str", "ip.daddr.str", "ip.totlen", "ip.tos", "ip.ttl", "ip.id",
                "ip.fragoff", "ip.protocol")  # fmt: skip
    transport = _transport(get, {1: (b"ICMP", "icmp.type", _icmp)})

    def text(values: Values) -> bytes:
        saddr, daddr, total, tos, ttl, ident, fragment, protocol = cells(values)
        tos, fragment = tos or 0, fragment or 0
        line = _ends(saddr, daddr) + b"LEN=%d TOS=%02X PREC=0x%02X TTL=%d ID=%d " % (
            total or 0, tos & 0x1E, tos & 0xE0, ttl or 0, ident or 0,
        )  # fmt: skip
        if fragment:
            for bit, word in _FRAGMENTS:
                if fragment & bit:
                    line += word
            if fragment & 0x1FFF:
                line += b"FRAG:%d " % (fragment & 0x1FFF)
        return line + transport(values, protocol or 0)

    return text


def _ipv6(get: Get) -> Print:
    cells = get("ip.saddr.str", "ip.daddr.str", "ip6.payloadlen", "ip6.priority",
                "ip6.hoplimit", "ip6.flowlabel", "ip6.fragoff", "ip6.fragid",
                "ip6.nexthdr")  # fmt: skip
    transport = _transport(get, {58: (b"ICMPv6", "icmpv6.type", _icmpv6)})

    def text(values: Values) -> bytes:
        saddr, daddr, size, priority, hops, flow, fragment, ident, protocol = cells(values)
        line = _ends(saddr, daddr)
        if size is not None:
            line += b"LEN=%d TC=%d HOPLIMIT=%d FLOWLBL=%d " % (
                size + 40, priority or 0, hops or 0, flow or 0,
            )  # fmt: skip
        if fragment is not None:
            line += b"FRAG: %d ID: %08x " % (fragment, ident or 0)
        return line + transport(values, protocol or 0)

    return text


Form = tuple[bytes, str, Callable[[Get], Print]]
"""The name of a protocol, a key that is there if its header is complete, and what prints it."""


def _transport(get: Get, more: dict[int, Form]) -> Callable[[Values, int], bytes]:
    printers = {
        number: (b"PROTO=%s " % name, get(key), make(get))
        for number, (name, key, make) in (_BOTH | more).items()
    }
    inner = get("ip.protocol")

    def text(values: Values, protocol: int) -> bytes:
        own = printers.get(protocol)
        if own is None:
            return b"PROTO=%d " % protocol
        word, sign, body = own
        if protocol in (50, 51):  # ip.protocol, which an IPv6 packet with ESP does not have
            word = b"PROTO=ESP " if inner(values)[0] == 50 else b"PROTO=AH "
        return word + (b"INCOMPLETE" if sign(values)[0] is None else body(values))

    return text


def _tcp(get: Get) -> Print:
    numbers = get("tcp.sport", "tcp.dport", "tcp.seq", "tcp.ackseq", "tcp.window")
    flags, urgent = get(*(f"tcp.{flag}" for flag in _TCP_FLAGS)), get("tcp.urgp")
    words = Memo(_words)

    def text(values: Values) -> bytes:
        return b"SPT=%d DPT=%d SEQ=%d ACK=%d WINDOW=%d %sURGP=%d " % (
            *numbers(values), words[flags(values)], urgent(values)[0] or 0,
        )  # fmt: skip

    return text


def _words(flags: tuple[int | None, ...]) -> bytes:
    pairs = zip(_TCP_FLAGS, flags, strict=True)
    return b"".join([flag.upper().encode() + b" " for flag, is_set in pairs if is_set])


def _udp(get: Get) -> Print:
    cells = get("udp.sport", "udp.dport", "udp.len")
    return lambda values: b"SPT=%d DPT=%d LEN=%d " % cells(values)


def _sctp(get: Get) -> Print:
    cells = get("sctp.sport", "sctp.dport")
    return lambda values: b"SPT=%d DPT=%d " % cells(values)


def _icmp(get: Get) -> Print:
    cells = get("icmp.type", "icmp.code", "icmp.echoid", "icmp.echoseq", "icmp.gateway")

    def text(values: Values) -> bytes:
        kind, code, ident, number, gateway = cells(values)
        line: bytes = b"TYPE=%d CODE=%d " % (kind, code)
        if code in (0, 8):
            return line + b"ID=%d SEQ=%d " % (ident or 0, number or 0)
        if code == 12:
            return line + b"PARAMETER=%d " % (struct.unpack("<I", gateway or bytes(4))[0] >> 24)
        if code == 5:
            return line + b"GATEWAY=%s " % socket.inet_ntoa(gateway or bytes(4)).encode()
        return line

    return text


def _icmpv6(get: Get) -> Print:
    cells = get("icmpv6.type", "icmpv6.code", "icmpv6.echoid", "icmpv6.echoseq")

    def text(values: Values) -> bytes:
        kind, code, ident, number = cells(values)
        line: bytes = b"TYPE=%d CODE=%d " % (kind, code)
        return line + b"ID=%d SEQ=%d " % (ident or 0, number or 0) if kind in (128, 129) else line

    return text


def _spi(get: Get) -> Print:
    cells = get("ahesp.spi", "ahesp.spi")
    return lambda values: b"SPI=0x%x " % cells(values)[0]


def _arp(get: Get) -> Print:
    cells = get("arp.saddr.str", "arp.daddr.str", "arp.operation", "arp.shwaddr")

    def text(values: Values) -> bytes:
        saddr, daddr, operation, address = cells(values)
        line = _ends(saddr, daddr) + b"PROTO=ARP "
        if operation is None:
            return line
        line += _OPERATIONS.get(operation) or b"CODE=%d" % operation
        if operation == 2 and address is not None:
            line += b" REPLY_MAC=" + address.hex(":").encode()
        return line + b" "

    return text


_BOTH: dict[int, Form] = {
    6: (b"TCP", "tcp.sport", _tcp),
    17: (b"UDP", "udp.sport", _udp),
    50: (b"ESP", "ahesp.spi", _spi),
    51: (b"AH", "ahesp.spi", _spi),
    132: (b"SCTP", "sctp.sport", _sctp),
}


class Printpkt(Filter):
    """The filter PRINTPKT."""

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        self._line: Print = lambda values: b""

    def prepare(self, needed: frozenset[int]) -> None:
        at = dict(zip(NAMES, self.instance.inputs, strict=True))

        def get(*names: str) -> Callable[[Values], Any]:
            """Reads the cells; the last one, which is empty, stands for a key that is missing."""
            places = [-1 if at[name] is None else at[name] for name in names]
            # with one place itemgetter gives no tuple
            return itemgetter(*places) if len(places) > 1 else itemgetter(*places, -1)

        self._line = printer(get)

    def interpret(self, values: Values, view: View) -> None:
        values[self.instance.first] = self._line(values)
