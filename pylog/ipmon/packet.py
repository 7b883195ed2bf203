"""A packet record as a line of ipmon's text.

    DD/MM/YYYY HH:MM:SS.uuuuuu [Nx ]IF @GROUP:RULE ACTION SOURCE -> DESTINATION PR PROTOCOL
    len HEADER LENGTH ... K-S K-F IN|OUT MARKS

The line is made from left to right of the fields of the record's C structure and of the logged
bytes. Where releases of ipmon differ, the Release decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pylog.formats.ip_header import ipv4
from pylog.formats.ip_numbers import (
    EXTENSIONS_OF_IPMON,
    FRAGMENT,
    ICMP,
    ICMP_ERRORS,
    ICMPV6,
    TCP,
    UDP,
)
from pylog.formats.ipl_names import NONE32
from pylog.formats.packet import TCP_FLAGS
from pylog.formats.packet import swapped as in_network_order
from pylog.ipmon.names import Names, icmp, icmp6, protocol
from pylog.ipmon.release import Release

LOG_EMERG, LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO = 0, 3, 4, 5, 6
"""Severities of syslog(3)."""

ByteOrder = Literal["little", "big"]

_MARKS = (
    (0x8000, "low-ttl"), (0x800, "OOW"), (0x400, "bad"), (0x10, "NAT"), (0x200, "bad-NAT"),
    (0x4000, "bad-src"), (0x20, "multicast"), (0x40, "broadcast"),
)  # fmt: skip
"""FI_* bits of fl_lflags, in the order in which they are shown."""
_MULTICAST, _BROADCAST, _MBCAST = 0x20, 0x40, 0x80


class _Packet:
    """The numbers in the headers of the logged packet, as ipmon reads them.

    ipmon ignores how much was logged and reads on behind the record. Here zeros are read there.

    machine   byte order of the machine that wrote the record
    swapped   ip_len and ip_off of an IPv4 header are in that order
    """

    def __init__(self, data: bytes, machine: ByteOrder, swapped: bool, release: Release) -> None:
        self._data, self.machine = data, machine
        self.version = data[0] >> 4 if data else 4
        self.fragment = self.id = 0
        if self.version == 6:
            self.source, self.destination = self._bytes(8, 16), self._bytes(24, 16)
            self.header, self.protocol = 40, self._bytes(6, 1)[0]
            self.length = int.from_bytes(self._bytes(4, 2)) + (0 if release.payload_6 else 40)
            if release.walks_ipv6_extensions:
                self._walk()
        else:
            logged = self._bytes(0, 20)
            written = ipv4(logged)
            head = ipv4(in_network_order(logged)) if swapped and machine == "little" else written
            self.source, self.destination = head.source, head.destination
            self.header, self.protocol = head.size, head.protocol
            self.length = written.length if release.prints_as_3_4_0 else head.length
            self.fragment, self.id = head.fragment, head.id
        self.offset = (self.fragment & 0x1FFF) * 8

    def _bytes(self, at: int, size: int) -> bytes:
        return self._data[at : at + size].ljust(size, b"\0")

    def _walk(self) -> None:
        """Skip IPv6 extension headers up to and including a fragment header.

        It stops at the end of the logged bytes, because zeros would be headers without end.
        """
        while self.protocol in EXTENSIONS_OF_IPMON and self.header < len(self._data):
            self.protocol, units = self._bytes(self.header, 2)
            self.header += 8 + 8 * units
        if self.protocol == FRAGMENT:
            self.header += 8

    def at(self, offset: int, size: int) -> bytes:
        """Bytes after the header."""
        return self._bytes(self.header + offset, size)


def action(f: Mapping[str, Any], release: Release) -> tuple[str, int]:
    """The letters for the action of the rule, and the severity for syslog."""
    flags = f["fl_flags"]
    if release.severity_letter_style:
        logged = flags & 0x10
        if flags & 0x8000000:
            return "S", LOG_ERR
        if flags & 0x2:
            return "p" if logged else "P", LOG_NOTICE
        if flags & 0x1:
            return "b" if logged else "B", LOG_WARNING
        return ("n", LOG_NOTICE) if flags & 0x40000000 else ("L", LOG_INFO)
    short = "S" if f["fl_lflags"] & 0x8 else ""
    command = flags & 0xF
    if command == 2:
        letter, level = "p", LOG_ERR if short else LOG_NOTICE
    elif command == 1:
        letter, level = "b", LOG_WARNING
    elif flags & 0x1F == 0x10:
        letter, level = "L", LOG_INFO
    elif flags & 0x40000000:
        letter, level = "n", LOG_ERR if short else LOG_NOTICE
    else:
        letter, level = "?", LOG_EMERG
    return short + letter, level


def line(
    f: Mapping[str, Any],
    data: bytes,
    machine: ByteOrder,
    swapped: bool,
    release: Release,
    names: Names,
    verbose: bool,
) -> tuple[str, int]:
    """The line after the time, and the level for syslog.

    f         the fields of the record, under their C names
    data      the logged bytes
    machine   byte order of the machine that wrote the record
    swapped   whether ip_len and ip_off are in that order
    """
    packet = _Packet(data, machine, swapped, release)
    letters, level = action(f, release)
    loglevel = f.get("fl_loglevel", 0xFFFF)
    words = [
        f"{f['ipl_count']}x " if f["ipl_count"] > 1 else "",
        f"{_interface(f, release)} @{_group(f, release)}:{_rule(f, release)} {letters} ",
        *_headers(packet, "S" in letters, release, names, verbose),
        *_marks(f, release),
    ]
    return "".join(words), level if loglevel == 0xFFFF else loglevel


def text_of(array: bytes) -> str:
    """A C string; bytes that are not UTF-8 are kept as surrogates."""
    return array.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _interface(f: Mapping[str, Any], release: Release) -> str:
    name = text_of(f["fl_ifname"])
    unit = f.get("fl_unit")
    if unit is None or not release.units:
        return name
    if release.four_letters:
        return f"{name[:4]}{unit}"
    return f"{name}{unit}" if name[-1:].isalpha() else name


def _group(f: Mapping[str, Any], release: Release) -> str:
    group = f.get("fl_group", NONE32)
    if release.rules_16bit:
        return str(group & 0xFFFF)
    if isinstance(group, bytes):
        return "-1" if group[:2] == b"\xff\0" else text_of(group) or "0"
    return "-1" if group == NONE32 else str(group)


def _rule(f: Mapping[str, Any], release: Release) -> str:
    rule = f["fl_rule"]
    if release.rules_16bit:
        return str((rule + 1) & 0xFFFF)
    return "-1" if rule == NONE32 else str((rule + 1) & NONE32)


def _headers(
    packet: _Packet, short: bool, release: Release, names: Names, verbose: bool
) -> Iterator[str]:
    """Addresses, protocol and lengths."""
    source, destination = names.host(packet.source), names.host(packet.destination)
    number, header, length = packet.protocol, packet.header & 0xFFFF, packet.length & 0xFFFF
    name = protocol(number) if number else release.protocol_0
    if number in (TCP, UDP) and not packet.offset:
        if short and not release.prints_as_3_4_0:
            yield f"{source} -> {destination} PR {name} len {header} {length}"
            return
        ports = packet.at(0, 4)
        sport, dport = (names.port(int.from_bytes(p), name) for p in (ports[:2], ports[2:]))
        yield f"{source},{sport} -> {destination},{dport} PR {name} len {header} {length}"
        if release.prints_as_3_4_0 and number == UDP:
            yield " "
        if number == TCP:
            yield from _tcp(packet, release, verbose)
        return
    ends = f"{source} -> {destination} PR"
    kinds = packet.at(0, 2)
    if number == ICMPV6 and packet.version == 6 and not release.prints_as_3_4_0:
        yield f"{ends} icmpv6 len {header} {length} icmpv6 {icmp6(*kinds)}"
    elif number == ICMP and packet.version == 4 and not packet.offset:
        what = "{}/{}".format(*kinds) if release.prints_as_3_4_0 else icmp(*kinds)
        yield f"{ends} icmp len {header} {length} icmp {what}"
        if kinds[0] in ICMP_ERRORS:
            yield from _quoted(packet, release, names)
    else:
        yield f"{ends} {name} len {header} ({length})"
        if packet.offset:
            yield _place(release.fragments[0], packet.id, packet.fragment, length - header)


def _tcp(packet: _Packet, release: Release, verbose: bool) -> Iterator[str]:
    letters = TCP_FLAGS[packet.at(13, 1)[0] & (0x3F if release.prints_as_3_4_0 else 0xFF)]
    yield f" -{letters.strip('-')}"
    if verbose:
        sequence = packet.at(4, 8)
        window = packet.at(14, 2)
        yield (
            f" {int.from_bytes(sequence[:4])} {int.from_bytes(sequence[4:])}"
            f" {int.from_bytes(window)}"
        )


def _quoted(packet: _Packet, release: Release, names: Names) -> Iterator[str]:
    """The packet that an ICMP error quotes."""
    quoted = packet.at(8, 20)
    inner = ipv4(quoted)
    size, length, fragment, number = inner.size, inner.length, inner.fragment, inner.protocol
    if release.quoted == "machine" or (release.quoted == "guessed" and length > 1500):
        length = int.from_bytes(quoted[2:4], packet.machine)
    name = protocol(number) if number else release.protocol_0
    head = f" for {names.host(inner.source)}", f" - {names.host(inner.destination)}"
    first = packet.at(8 + packet.header, 4)  # as ipmon, which takes the size of the outer header
    offset = fragment & 0x1FFF
    if release.prints_as_3_4_0 or (number in (TCP, UDP) and not offset):
        sport, dport = (names.port(int.from_bytes(p), name) for p in (first[:2], first[2:]))
        yield f"{head[0]},{sport}{head[1]},{dport} PR {name} len {size} {length}"
    elif number == ICMP and not offset:
        yield f"{head[0]}{head[1]} PR icmp len {size} {length} icmp {first[0]}/{first[1]}"
    else:
        yield f"{head[0]}{head[1]} PR {name} len {size} ({length})"
        if offset:
            yield _place(release.fragments[1], inner.id, fragment, length - size)


def _place(form: str, ident: int, bits: int, size: int) -> str:
    """The place of a fragment in its datagram."""
    more, dont = bits & 0x2000, bits & 0x4000
    return form.format(
        id=ident, size=size & 0xFFFF, offset=(bits & 0x1FFF) * 8, more="+" if more else "",
        dont="-" if dont else "",
    )  # fmt: skip


def _marks(f: Mapping[str, Any], release: Release) -> Iterator[str]:
    """State, fragment and direction flags, tags, and what the filter noticed."""
    flags, lflags = f["fl_flags"], f.get("fl_lflags", 0)
    state, fragments = (0x400, 0x200) if not release.severity_letter_style else (0x1000, 0x800)
    if flags & state:
        yield " K-S"
    if flags & fragments:
        yield " K-F"
    if "fl_dir" in f:
        yield {0: " IN", 1: " OUT"}.get(f["fl_dir"], "")
    elif flags & 0x8:
        yield " IN"
    elif flags & 0x4:
        yield " OUT"
    if not release.shows_marks:
        return
    if f["fl_logtag"]:
        yield f" log-tag {f['fl_logtag'] - 2**32 if f['fl_logtag'] >> 31 else f['fl_logtag']}"
    if any(f["fl_nattag"][:4]):
        yield f" nat-tag {text_of(f['fl_nattag'])}"
    for bit, word in _MARKS:
        if lflags & bit:
            yield f" {word}"
    if lflags & (_MULTICAST | _BROADCAST | _MBCAST) == _MBCAST:
        yield " mbcast"
    if release.reasons and f["fl_breason"]:
        reason = f["fl_breason"]
        yield f" reason:{release.reasons.get(reason, reason)}"
