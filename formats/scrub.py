"""Replaces what identifies hosts and users in logged bytes, with other bytes of the same length.

A `Scrubber` replaces each address by a new one, always the same, numbered in the order in which
addresses come: IPv4 in 198.18.0.0/15 (RFC 2544) and then 10.0.0.0/8, IPv6 in 2001:db8::/32 (RFC
3849), MACs in 02:00:00:00:00:00/24 (locally administered). Addresses that identify no host stay:
unspecified, loopback, multicast and broadcast. Link-local addresses stay link-local. Payloads
become bytes made of their number. A link header is read by its ARPHRD type: the addresses of
Ethernet and IP tunnels are replaced, other link headers become zeros. Ports, lengths and header
fields stay, and of options only those that are certain to identify no host.

A checksum is updated for the changes that it covers (RFC 1624), so that a good checksum stays good
and a bad one bad, even if the packet was not logged in full. SCTP's CRC32c becomes 0, and so does
everything that no header of RFC 791, 792, 8200, 4443, 4861, 9293, 768, 826 or 2784 explains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from pylog.formats.ip_header import ipv4
from pylog.formats.ip_numbers import (
    AH,
    DESTINATION_OPTIONS,
    ESP,
    EXTENSIONS,
    FRAGMENT,
    GRE,
    HOP_BY_HOP,
    ICMP,
    ICMP6_ERRORS,
    ICMP_ERRORS,
    ICMPV6,
    IPV6,
    ROUTING,
    SCTP,
    TCP,
    UDP,
    UDPLITE,
)
from pylog.formats.scrub_names import Pseudonyms

LIMIT = 1 << 20
"""The most addresses, the most payloads and the most names that can be replaced."""

DEPTH = 8
"""Packets within packets are scrubbed by their headers up to this depth."""

_OPTIONS6 = frozenset((HOP_BY_HOP, DESTINATION_OPTIONS))
"""IPv6 extension headers of options: hop-by-hop and destination."""
_CHECKSUM_AT = {TCP: 16, UDP: 6, UDPLITE: 6, ICMP: 2, ICMPV6: 2}
_HEADER = {TCP: 20, UDP: 8, UDPLITE: 8, GRE: 4, ESP: 8, AH: 12, SCTP: 12}
_ADDRESS_OPTIONS = {7: (3, 4), 131: (3, 4), 137: (3, 4), 68: (4, 8)}
"""IPv4 options with addresses (record route, source routes, timestamp): the place of the first
address, and the distance to the next."""
_HARMLESS = frozenset((68, 148))
"""IPv4 options without addresses: timestamps alone, router alert."""
_HARMLESS6 = frozenset((1, 5, 0xC2))
"""IPv6 options without addresses: padding, router alert, jumbo payload."""
_HOME_ADDRESS = 0xC9
_HARMLESS_TCP = frozenset((2, 3, 4, 5, 8))
"""TCP options without addresses: MSS, window scale, SACK permitted, SACK, timestamps."""
_ND_TARGETS = {135: 1, 136: 1, 137: 2, 130: 1, 131: 1, 132: 1}
"""How many IPv6 addresses follow the first 8 bytes of these ICMPv6 messages (MLD, ND)."""


ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_SIT = 1, 772, 776
_LIKE_ETHERNET = frozenset((ARPHRD_ETHER, ARPHRD_LOOPBACK))
_IP_TUNNELS = frozenset((768, 769, ARPHRD_SIT, 778, 823))
"""ARPHRD_TUNNEL, TUNNEL6, SIT, IPGRE and IP6GRE, whose link header is an IP header."""


def stands_in(address: bytes) -> bool:
    """Whether an address is one of those that Scrubber.address puts in the place of others.

    Those of 10.0.0.0/8 look like real ones.
    """
    if len(address) == 4:
        return address[0] == 198 and address[1] & 0xFE == 18
    return address[:12] in (b"\x20\1\x0d\xb8" + bytes(8), b"\xfe\x80" + bytes(10))


class Scrubber:
    """Replaces addresses, payloads and names; equal values have the same replacement.

    Raises ValueError when there are more than LIMIT addresses, payloads or names.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, dict[bytes, int]] = {}
        self._names, self._processes = Pseudonyms(LIMIT), Pseudonyms(LIMIT, first="p")

    def _number(self, kind: str, value: bytes) -> int:
        """The number of a value among the values of its kind, from 1 on."""
        table = self._numbers.setdefault(kind, {})
        if len(table) >= LIMIT and value not in table:
            raise ValueError(f"more than {LIMIT} different {kind}: scrubbing is for fixtures")
        return table.setdefault(value, len(table) + 1)

    def address(self, address: bytes) -> bytes:
        """The replacement of an IPv4 (4 bytes) or IPv6 (16 bytes) address; zeros otherwise."""
        if len(address) not in (4, 16):
            return bytes(len(address))
        if len(address) == 4:
            if address[0] in (0, 127) or 224 <= address[0] < 240 or address == b"\xff" * 4:
                return address
            number = self._number("IPv4 addresses", address)
            base = 0xC6120000 if number < 1 << 17 else 0x0A000000
            return (base + number).to_bytes(4)
        if address[:12] == bytes(10) + b"\xff\xff":  # ::ffff:a.b.c.d
            return address[:12] + self.address(address[12:])
        if address[0] == 0xFF or int.from_bytes(address) in (0, 1):
            return address
        number = self._number("IPv6 addresses", address)
        link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
        return ((0xFE80 << 112 if link_local else 0x20010DB8 << 96) + number).to_bytes(16)

    def mac(self, address: bytes) -> bytes:
        """The replacement of a link-layer address, of the same size."""
        size = len(address)
        if not any(address) or (size == 6 and address[0] & 1):  # no address; broadcast or multicast
            return address
        number = self._number("MAC addresses", address)
        if size < 6:
            return (number & (1 << 8 * size) - 1).to_bytes(size)
        return b"\x02" + number.to_bytes(size - 1)

    def name(self, name: bytes) -> bytes:
        """The pseudonym of a name in a ruleset, of the same length; see formats.scrub_names."""
        return self._names.name(name)

    def process(self, comm: bytes) -> bytes:
        """The pseudonym of a process, of the same length.

        Processes are numbered apart, because messages and records of a commit come in another
        order: the names of a ruleset have the same pseudonyms in both.
        """
        return self._processes.name(comm)

    def payload(self, data: bytes) -> bytes:
        """Other bytes of the same length."""
        if not any(data):
            return data
        number = self._number("payloads", hashlib.blake2b(data, digest_size=16).digest())
        return hashlib.shake_128(number.to_bytes(8)).digest(len(data))

    def link_header(self, data: bytes, hwtype: int | None = ARPHRD_ETHER) -> bytes:
        """The replacement of a link header: of Ethernet, of an IP tunnel, or else zeros.

        hwtype   the ARPHRD type of its device; None: unknown
        """
        if hwtype in _LIKE_ETHERNET and len(data) >= 14:
            return self.mac(data[:6]) + self.mac(data[6:12]) + data[12:14] + bytes(len(data) - 14)
        # for SIT the kernel also logs the 14 bytes before the outer header (nfnetlink_log.c)
        before = 14 if hwtype == ARPHRD_SIT and not _is_ip_header(data) else 0
        if hwtype in _IP_TUNNELS and _is_ip_header(data[before:]):
            return self.link_header(data[:before]) + self.packet(data[before:])
        return bytes(len(data))

    def link_address(self, address: bytes, hwtype: int | None) -> bytes:
        """The link-layer address of a neighbour: a MAC, the IP address of a tunnel, or zeros."""
        if len(address) == 6 and (hwtype is None or hwtype in _LIKE_ETHERNET):
            return self.mac(address)
        return self.address(address) if hwtype in _IP_TUNNELS else bytes(len(address))

    def packet(self, data: bytes, expected: int = 0, depth: int = 0) -> bytes:
        """The replacement of a packet from the network header on, in network byte order.

        The packet may be cut. If its header is invalid, only the version stays.

        expected   the version that it must have, 4 or 6; 0: either
        depth      how many packets it is nested in
        """
        if not data or depth >= DEPTH:
            return self.payload(data)
        version = data[0] >> 4
        if expected in (0, version):
            if version == 4 and data[0] & 15 >= 5:
                return self._ipv4(data.ljust(20, b"\0"), depth)[: len(data)]
            if version == 6:
                return self._ipv6(data.ljust(40, b"\0"), depth)[: len(data)]
        first = data[0] if version == 4 else data[0] & 0xF0  # a bad header stays bad
        return bytes((first,)) + self.payload(data[1:])

    def arp(self, data: bytes) -> bytes:
        """The replacement of an ARP packet."""
        out, at = bytearray(data), 8
        if len(data) < 8:
            return data
        hardware = self.mac if data[4] == 6 else self.address  # tunnels have IP addresses there
        for size, change in 2 * ((data[4], hardware), (data[5], self.address)):
            part = data[at : at + size]
            out[at : at + size] = change(part) if len(part) == size else bytes(len(part))
            at += size
        out[at:] = bytes(len(data[at:]))
        return bytes(out)

    def _ipv4(self, data: bytes, depth: int) -> bytes:
        head = ipv4(data)
        size = min(head.size, len(data))
        header = bytearray(data[:size])
        for at in (12, 16):
            header[at : at + 4] = self.address(data[at : at + 4])
        self._options(header)
        header[10:12] = _changed(data[10:12], data[:size], bytes(header))
        later = head.fragment & 0x1FFF
        ends = data[12:20], bytes(header[12:20])
        return bytes(header) + self._layer4(head.protocol, data[size:], ends, bool(later), depth)

    def _options(self, header: bytearray) -> None:
        """Replace addresses in IPv4 options; the data of unknown options become zeros."""
        for kind, at, end in _options(header, 20):
            stamps_only = kind == 68 and not any(b & 15 for b in header[at + 3 : at + 4])
            if kind in _ADDRESS_OPTIONS and not stamps_only:
                first, step = _ADDRESS_OPTIONS[kind]
                for place in range(at + first, end, step):
                    part = slice(place, min(place + 4, end))
                    header[part] = self.address(bytes(header[part]))
            elif kind not in _HARMLESS:
                header[at + 2 : end] = bytes(end - at - 2)

    def _options6(self, header: bytearray) -> None:
        """The same for options of IPv6."""
        at = 2
        while at < len(header):
            if header[at] == 0:  # Pad1
                at += 1
                continue
            end = min(at + 2 + sum(header[at + 1 : at + 2]), len(header))
            if header[at] == _HOME_ADDRESS and end - at == 18:
                header[at + 2 : end] = self.address(bytes(header[at + 2 : end]))
            elif header[at] not in _HARMLESS6:
                header[at + 2 : end] = bytes(len(header[at + 2 : end]))
            at = end

    def _ipv6(self, data: bytes, depth: int) -> bytes:
        header = bytearray(data[:40])
        for at in (8, 24):
            header[at : at + 16] = self.address(data[at : at + 16])
        protocol, at, later = data[6], 40, False
        while (protocol in EXTENSIONS or protocol == FRAGMENT) and at + 8 <= len(data):
            if protocol == FRAGMENT:
                size, later = 8, bool(int.from_bytes(data[at + 2 : at + 4]) & 0xFFF8)
            else:
                size = 8 + 8 * data[at + 1]
            part = bytearray(data[at : at + size])
            if protocol == ROUTING:
                for place in range(8, len(part), 16):
                    part[place : place + 16] = self.address(bytes(part[place : place + 16]))
            elif protocol in _OPTIONS6:
                self._options6(part)
            elif protocol != FRAGMENT:  # mobility, host identities
                part[4:] = bytes(len(part[4:]))
            header += part
            protocol, at = data[at], at + size
        ends = data[8:40], bytes(header[8:40])
        return bytes(header) + self._layer4(protocol, data[at:], ends, later, depth)

    def _layer4(
        self, protocol: int, data: bytes, ends: tuple[bytes, bytes], later: bool, depth: int
    ) -> bytes:
        """What follows the IP headers; `ends` are the addresses before and after replacement."""
        if later:
            return self.payload(data)
        if protocol in (4, IPV6):
            return self.packet(data, depth=depth + 1)
        special: dict[int, Callable[[bytes, int], bytes]] = {
            ICMP: self._icmp,
            ICMPV6: self._icmp6,
        }
        if protocol in special:
            out = special[protocol](data, depth)
        else:
            size = _HEADER.get(protocol, 0)
            if protocol == TCP and len(data) > 12:
                size = max(size, (data[12] >> 4) * 4)
            header = bytearray(data[:size])
            if protocol == TCP:
                for kind, start, end in _options(header, 20):
                    if kind not in _HARMLESS_TCP:
                        header[start + 2 : end] = bytes(end - start - 2)
            out = bytes(header) + self.payload(data[size:])
        if protocol == SCTP:
            return out[:8] + bytes(len(out[8:12])) + out[12:]
        at = _CHECKSUM_AT.get(protocol)
        if at is None or at + 2 > len(data) or (protocol == UDP and not any(data[6:8])):
            return out
        pseudo = ends if protocol != ICMP else (b"", b"")
        checksum = _changed(data[at : at + 2], pseudo[0] + data, pseudo[1] + out)
        if protocol == UDP and not any(checksum):
            checksum = b"\xff\xff"
        return out[:at] + checksum + out[at + 2 :]

    def _icmp(self, data: bytes, depth: int) -> bytes:
        kind = data[0] if data else 0
        if kind in ICMP_ERRORS:
            rest = self.address(data[4:8]) if kind == 5 else data[4:8]
            return data[:4] + rest + self.packet(data[8:], depth=depth + 1)
        if kind == 9:  # router advertisement: addresses and preferences
            out = bytearray(data)
            for at in range(8, len(data), 8):
                out[at : at + 4] = self.address(data[at : at + 4])
            return bytes(out)
        return data[:8] + self.payload(data[8:])

    def _icmp6(self, data: bytes, depth: int) -> bytes:
        kind = data[0] if data else 0
        if kind in ICMP6_ERRORS:
            return data[:8] + self.packet(data[8:], depth=depth + 1)
        if 130 <= kind <= 137:
            return self._neighbour(kind, data)
        return data[:8] + self.payload(data[8:])

    def _neighbour(self, kind: int, data: bytes) -> bytes:
        """MLD and neighbour discovery: addresses, then options; unknown options are zeroed."""
        out = bytearray(data)
        at = {133: 8, 134: 16}.get(kind, 8)
        for _ in range(_ND_TARGETS.get(kind, 0)):
            out[at : at + 16] = self.address(data[at : at + 16])
            at += 16
        while at + 2 <= len(data) and data[at + 1] and kind >= 133:
            option, size = data[at], 8 * data[at + 1]
            part = data[at + 2 : at + size]
            if option in (1, 2):
                out[at + 2 : at + size] = self.mac(part) if len(part) == 6 else bytes(len(part))
            elif option == 3 and len(part) == 30:
                out[at + 16 : at + 32] = self.address(data[at + 16 : at + 32])
            else:
                out[at + 2 : at + size] = bytes(len(part))
            at += size
        out[at:] = bytes(len(data[at:]))
        return bytes(out)


def _options(header: bytearray, at: int) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of the options of IPv4 or TCP from `at` on; zeroes what follows them."""
    while at < len(header) and header[at]:
        if header[at] == 1:  # no operation
            at += 1
            continue
        end = min(at + sum(header[at + 1 : at + 2]), len(header))
        if end < at + 2:
            break
        yield header[at], at, end
        at = end
    header[at:] = bytes(len(header[at:]))


def _is_ip_header(data: bytes) -> bool:
    """Whether the data begins with an IP header, up to its addresses at least."""
    if not data:
        return False
    return (0x45 <= data[0] <= 0x4F and len(data) >= 20) or (data[0] >> 4 == 6 and len(data) >= 40)


def _sum(data: bytes) -> int:
    """The ones' complement sum of 16-bit words."""
    padded = data + bytes(len(data) & 1)
    return sum(memoryview(padded).cast("H")) % 0xFFFF if padded else 0


def _changed(checksum: bytes, before: bytes, after: bytes) -> bytes:
    """The checksum of `after`, given the checksum of `before` (RFC 1624, equation 3)."""
    old = int.from_bytes(checksum, _HOST)
    total = ((old ^ 0xFFFF) - _sum(before) + _sum(after)) % 0xFFFF
    return (total ^ 0xFFFF).to_bytes(2, _HOST)


_HOST: Any = "little" if memoryview(b"\1\0").cast("H")[0] == 1 else "big"
"""The byte order of the words in `_sum`: this machine's, because any order will do (RFC 1071)."""
