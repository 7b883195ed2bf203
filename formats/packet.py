"""The logged packet: headers of layers 2 to 4, as far as they were kept.

A log keeps the first 40 to 128 bytes of a packet, so a cut header is the normal case: what is
there is decoded, what is cut is None, and the field `cut` names the header that was cut.

`put_headers` fills in the fields of a record, by compiled plans of formats.packet_schemas. It runs
once for each record, so this module can be compiled. Of an ICMP error it also reads the headers of
the packet that the error quotes. The length that a header states is taken only where it can be
true, see `believed`.

Source: RFC 2675 for the jumbo option; formats.packet_schemas names those of the headers.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as CStruct
from typing import Any, Final

from construct import Int16ub, Struct

from pylog.formats import ip_numbers
from pylog.formats.addresses import addresses, mac
from pylog.formats.ip_numbers import (
    EXTENSIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP6_ERRORS,
    ICMP_ERRORS,
    NO_NEXT_HEADER,
)
from pylog.formats.packet_schemas import (
    AH,
    ARP,
    ESP,
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_ARP,
    ETH_P_IP,
    ETH_P_IPV6,
    GRE,
    ICMP,
    IPV4,
    IPV4_TCP,
    IPV6,
    IPV6_EXTENSION,
    IPV6_FRAGMENT,
    SCTP,
    TCP,
)
from pylog.formats.plan import Plan
from pylog.record import Fragment, PacketRecord, Vlan
from pylog.record.places import (
    AT_CAPLEN,
    AT_CUT,
    AT_DADDR,
    AT_DPORT,
    AT_EXTRA,
    AT_FAMILY,
    AT_FRAGMENT,
    AT_ICMP_CODE,
    AT_ICMP_TYPE,
    AT_LENGTH,
    AT_PROTOCOL,
    AT_SADDR,
    AT_SPORT,
    AT_TCP_FLAGS,
    Values,
    no_values,
)

_ipv4, _ipv6, _arp = Plan(IPV4), Plan(IPV6), Plan(ARP)
_extension, _fragment = Plan(IPV6_EXTENSION), Plan(IPV6_FRAGMENT)
_tcp, _sctp, _icmp = Plan(TCP), Plan(SCTP), Plan(ICMP)
_ah, _esp, _gre = Plan(AH), Plan(ESP), Plan(GRE)
_ipv4_fields = _ipv4.reader(
    ("version_ihl", "length", "id", "flags_offset", "protocol", "src", "dst")
)
_tcp_fields = _tcp.reader(("sport", "dport", "flags"))
IPV4_TCP_NAMES = (
    "version_ihl", "length", "flags_offset", "protocol", "src", "dst", "sport", "dport", "flags",
)  # fmt: skip
IPV4_TCP_SIZE: Final[int] = Plan(IPV4_TCP).size
ipv4_tcp_fields: Final[
    Callable[[bytes, int], tuple[int, Any, int, int, bytes, bytes, Any, Any, int]]
] = Plan(IPV4_TCP).reader(IPV4_TCP_NAMES)
_ports = Plan(Struct("sport" / Int16ub, "dport" / Int16ub))
_u16_pair = CStruct(">HH").unpack_from

JUMBO: Final = 0xC2
"""The option of a hop-by-hop header that states the length of a jumbogram (RFC 2675)."""


def believed(length: int | None, least: int) -> int | None:
    """The length that an IP header states; None if it is below `least`, the bytes that are there.

    Packets that a device will segment (TSO, BIG TCP) may state 0, or a length that does not fit in
    16 bits. A short packet may be followed by padding of the link. No length is better than a wrong
    one.
    """
    return None if length is None or length < least else length


def swapped(packet: bytes) -> bytes:
    """An IPv4 packet with the two bytes of ip_len exchanged, and those of ip_off.

    Some kernels keep these fields in their own byte order, see ipl_layouts.Layout.host_order_ip.
    """
    return (packet[:2] + packet[3:4] + packet[2:3] + packet[4:6] + packet[7:8] + packet[6:7]
            + packet[8:])  # fmt: skip


TCP_FLAGS: Final = tuple(
    "".join(
        letter
        for letter, bit in (("A", 16), ("R", 4), ("S", 2), ("F", 1), ("U", 32), ("P", 8),
                            ("E", 64), ("C", 128))
        if value & bit
    )
    or "-"
    for value in range(256)
)  # fmt: skip
"""The flag letters in ipmon's order, ARSFUPEC; "-" for none."""


def put_headers(values: Values, data: bytes, start: int, end: int, ethertype: int) -> None:
    """Put the headers of the packet data[start:end], from the network header on, into the values
    of a record.

    ethertype   ETH_P_IP, ETH_P_IPV6 or ETH_P_ARP; another number becomes the family, 0 is unknown

    What only few protocols have goes into `extra`, which is replaced then: spi, gre_protocol,
    arp_..., and `inner`, the headers of the packet that an ICMP error quotes.
    """
    values[AT_CAPLEN] = end - start
    if ethertype == ETH_P_IP:
        _put_ipv4(values, data, start, end, 0)
    elif ethertype == ETH_P_IPV6:
        _put_ipv6(values, data, start, end, 0)
    elif ethertype == ETH_P_ARP:
        _put_arp(values, data, start, end)
    elif ethertype:
        values[AT_FAMILY] = ethertype


def _put_extra(values: Values, more: dict[str, Any]) -> None:
    """Add to `extra`, in a new dict: other records may share the present one."""
    extra = values[AT_EXTRA]
    values[AT_EXTRA] = extra | more if extra else more


def _put_ipv4(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    values[AT_FAMILY] = "ipv4"
    if end - start < 20:
        _, _, length, ident, bits, _, protocol, _, src, dst = _ipv4.cut(data, start, end)
        values[AT_PROTOCOL] = protocol
        values[AT_SADDR] = None if src is None else addresses[src]
        values[AT_DADDR] = None if dst is None else addresses[dst]
        values[AT_FRAGMENT] = None if bits is None else _ipv4_fragment(ident, bits)
        values[AT_LENGTH] = believed(length, 20)
        values[AT_CUT] = "ipv4"
        return
    version, length, ident, bits, protocol, src, dst = _ipv4_fields(data, start)
    if not 0x45 <= version <= 0x4F:
        bad = f"version {version >> 4}, header length {(version & 15) * 4}"
        _put_extra(values, {"bad_header": bad})
        return
    values[AT_PROTOCOL] = protocol
    values[AT_SADDR], values[AT_DADDR] = addresses[src], addresses[dst]
    if bits & 0x3FFF:
        values[AT_FRAGMENT] = _ipv4_fragment(ident, bits)
    after = start + (version & 15) * 4
    size = (version & 15) * 4  # a quoted packet may be longer than it states: RFC 4884 pads it
    values[AT_LENGTH] = believed(length, size if depth else max(size, end - start))
    if after > end:
        values[AT_CUT] = "ipv4 options"
    elif not bits & 0x1FFF:  # a later fragment has no header
        layer4 = _LAYER4.get(protocol)
        if layer4 is not None:
            layer4(values, data, after, end, depth)


def _ipv4_fragment(ident: int | None, bits: int) -> Fragment | None:
    if not bits & 0x3FFF:
        return None
    return Fragment(ident, (bits & 0x1FFF) * 8, bool(bits & 0x2000), bool(bits & 0x4000))


def _put_ipv6(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    values[AT_FAMILY] = "ipv6"
    if end - start < 40:
        _, stated, protocol, _, src, _dst = _ipv6.cut(data, start, end)
        values[AT_PROTOCOL] = protocol
        values[AT_SADDR] = None if src is None else addresses[src]
        if stated or (stated == 0 and protocol == NO_NEXT_HEADER):
            values[AT_LENGTH] = 40 + stated
        values[AT_CUT] = "ipv6"
        return
    first, payload_length, protocol, _, src, dst = _ipv6.unpack(data, start)
    if first >> 28 != 6:
        _put_extra(values, {"bad_header": f"version {first >> 28}"})
        return
    length: int | None = 40 + payload_length
    if payload_length == 0 and protocol != NO_NEXT_HEADER:
        length = _jumbo_length(data, start + 40, end) if protocol == HOP_BY_HOP else None
    length = believed(length, 40 if depth else end - start)
    after, bits, ident, cut = start + 40, None, 0, None
    if protocol in EXTENSIONS or protocol == FRAGMENT:
        protocol, after, bits, ident, cut = ipv6_chain(data, after, end, protocol)
        if payload_length == 0 and bits is not None:  # a jumbogram has no fragments
            length = None
    values[AT_PROTOCOL] = protocol
    values[AT_SADDR], values[AT_DADDR] = addresses[src], addresses[dst]
    values[AT_LENGTH] = length
    if bits:
        values[AT_FRAGMENT] = Fragment(ident, bits & 0xFFF8, bool(bits & 1))
        if bits & 0xFFF8:  # a later fragment has no header
            return
    if cut:
        values[AT_CUT] = cut
        return
    layer4 = _LAYER4.get(protocol)
    if layer4 is not None:
        layer4(values, data, after, end, depth)


def ipv6_chain(
    data: bytes, after: int, end: int, protocol: int
) -> tuple[int, int, int | None, int, str | None]:
    """Pass over the extension headers in data[after:end], the first of which is `protocol`.

    Gives the protocol after them; where its header begins; the offset in bytes, with the more-bit,
    of the fragment header (0 if the packet is not fragmented, None without such a header); its id;
    and the name of the header that is cut, or None.
    """
    fragment: int | None = None
    ident, cut = 0, None
    for _ in range(64):  # no sane chain is longer
        if protocol in EXTENSIONS:
            if after + 2 > end:
                cut = "ipv6 extension"
                break
            following, units = _extension.unpack(data, after)
            size = 8 + units * 8
        elif protocol == FRAGMENT:
            if after + 8 > end:
                cut = "ipv6 fragment"
                break
            following, _, bits, number = _fragment.unpack(data, after)
            if bits & 0xFFF9:
                fragment, ident = bits & 0xFFF9, number
            elif fragment is None:
                fragment = 0
            size = 8
        else:
            break
        protocol = following
        after += size
        if fragment is not None and fragment & 0xFFF8:
            break
        if after > end:
            cut = "ipv6 extension"
            break
    return protocol, after, fragment, ident, cut


def _jumbo_length(data: bytes, start: int, end: int) -> int | None:
    """The length of a packet by the jumbo option of the hop-by-hop header at `start`, or None.

    The option has 4 bytes, begins at 4n + 2, and its value is above 65535 (RFC 2675).
    """
    at = start + 2
    if at <= end:
        end = min(end, start + 8 + data[start + 1] * 8)
    while at + 1 < end:
        if data[at] == JUMBO:
            value = int.from_bytes(data[at + 2 : at + 6])
            valid = data[at + 1] == 4 and at + 6 <= end and (at - start) % 4 == 2
            return 40 + value if valid and value > 0xFFFF else None
        at += 1 if data[at] == 0 else 2 + data[at + 1]
    return None


def _put_arp(values: Values, data: bytes, start: int, end: int) -> None:
    values[AT_FAMILY] = "arp"
    if end - start < 8:
        values[AT_CUT] = "arp"
        return
    htype, ptype, hlen, plen, oper = _arp.unpack(data, start)
    extra: dict[str, Any] = {"arp_oper": oper}
    at, fields = start + 8, []
    for size in (hlen, plen, hlen, plen):
        fields.append(data[at : at + size] if at + size <= end else None)
        at += size
    sha, spa, tha, tpa = fields
    if sha is not None and htype == 1:
        extra["arp_sha"] = mac(sha)
    if tha is not None and htype == 1:
        extra["arp_tha"] = mac(tha)
    is_ip = ptype == ETH_P_IP and plen == 4
    values[AT_SADDR] = addresses[spa] if is_ip and spa else None
    values[AT_DADDR] = addresses[tpa] if is_ip and tpa else None
    values[AT_CUT] = "arp" if at > end else None
    _put_extra(values, extra)


# Layer 4, up to the packet's end; depth 1 is a packet that an ICMP error quotes


def _put_tcp(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    if end - start >= 20:
        values[AT_SPORT], values[AT_DPORT], flags = _tcp_fields(data, start)
        values[AT_TCP_FLAGS] = TCP_FLAGS[flags]
        return
    sport, dport, _, _, _, flags, *_rest = _tcp.cut(data, start, end)
    values[AT_SPORT], values[AT_DPORT] = sport, dport
    values[AT_TCP_FLAGS] = None if flags is None else TCP_FLAGS[flags]
    values[AT_CUT] = None if depth and dport is not None else "tcp"


def _put_udp(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    if end - start >= 8:
        values[AT_SPORT], values[AT_DPORT] = _u16_pair(data, start)
        return
    values[AT_SPORT], values[AT_DPORT] = _ports.cut(data, start, end)
    values[AT_CUT] = "udp"


def _put_sctp(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    sport, dport = _ports.cut(data, start, end)
    values[AT_SPORT], values[AT_DPORT] = sport, dport
    if end - start < _sctp.size and not (depth and dport is not None):
        values[AT_CUT] = "sctp"


def _put_icmp(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    _put_types(values, data, start, end, depth, ICMP_ERRORS, "icmp")


def _put_icmp6(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    _put_types(values, data, start, end, depth, ICMP6_ERRORS, "icmpv6")


def _put_types(
    values: Values, data: bytes, start: int, end: int, depth: int, errors: frozenset[int], name: str
) -> None:
    kind, code, _, _ = _icmp.cut(data, start, end)
    values[AT_ICMP_TYPE], values[AT_ICMP_CODE] = kind, code
    if end - start < 4:
        values[AT_CUT] = name
    # a few ICMP messages are shorter than the 8 bytes of RFC 792; type, code, checksum are not
    elif end - start >= 8 and kind in errors and depth == 0 and start + 8 < end:
        _put_extra(values, {"inner": _quoted(data, start + 8, end)})


_QUOTED = [
    (name, place)
    for place, name in enumerate(PacketRecord.__struct_fields__)
    if name in ("family", "protocol", "saddr", "daddr", "sport", "dport", "tcp_flags",
                "icmp_type", "icmp_code", "fragment", "length", "cut")
]  # fmt: skip
"""The fields of a quoted packet."""


def _quoted(data: bytes, start: int, end: int) -> dict[str, Any]:
    """The headers of the packet that an ICMP error quotes.

    Routers quote 8 bytes of layer 4, so what is missing after them is not reported as a cut.
    """
    values = no_values()
    if data[start] >> 4 == 6:
        _put_ipv6(values, data, start, end, 1)
    else:
        _put_ipv4(values, data, start, end, 1)
    inner = {name: values[at] for name, at in _QUOTED if values[at] is not None}
    return inner | (values[AT_EXTRA] or {})


def _put_esp(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    spi, sequence = _esp.cut(data, start, end)
    if sequence is None and not depth:
        values[AT_CUT] = "esp"
    if spi is not None:
        _put_extra(values, {"spi": spi})


def _put_ah(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    following, _, _, spi, sequence = _ah.cut(data, start, end)
    if sequence is None and not depth:
        values[AT_CUT] = "ah"
    extra = {"ah_next_header": following, "spi": spi}
    extra = {name: value for name, value in extra.items() if value is not None}
    if extra:
        _put_extra(values, extra)


def _put_gre(values: Values, data: bytes, start: int, end: int, depth: int) -> None:
    _, protocol = _gre.cut(data, start, end)
    if protocol is None:
        values[AT_CUT] = "gre"
    else:
        _put_extra(values, {"gre_protocol": protocol})


_LAYER4 = {
    ip_numbers.ICMP: _put_icmp,
    ip_numbers.TCP: _put_tcp,
    ip_numbers.UDP: _put_udp,
    ip_numbers.GRE: _put_gre,
    ip_numbers.ESP: _put_esp,
    ip_numbers.AH: _put_ah,
    ip_numbers.ICMPV6: _put_icmp6,
    ip_numbers.SCTP: _put_sctp,
    ip_numbers.UDPLITE: _put_udp,  # the same ports
}


def vlan_tag(tci: int, protocol: int | None) -> Vlan:
    """A VLAN tag from its 16 bits (IEEE 802.1Q: priority 3, DEI 1, id 12) and its EtherType."""
    return Vlan(tci & 0xFFF, tci >> 13, bool(tci & 0x1000), protocol)


def inner_tags(payload: bytes, ethertype: int) -> tuple[tuple[Vlan, ...], int, int]:
    """The VLAN tags at the start of a payload, where its network header begins, and its EtherType.

    A payload of EtherType 0x8100 or 0x88a8 begins with the tag's 16 bits and the next EtherType.
    """
    tags: tuple[Vlan, ...] = ()
    start = 0
    while ethertype in (ETH_P_8021Q, ETH_P_8021AD) and start + 4 <= len(payload):
        tci, following = _u16_pair(payload, start)
        tags += (vlan_tag(tci, ethertype),)
        start, ethertype = start + 4, following
    return tags, start, ethertype


def seeming(payload: bytes) -> int:
    """The EtherType of a packet by its first byte, where nothing else states it; 0 for none."""
    if payload[:1] and 0x45 <= payload[0] <= 0x4F:
        return ETH_P_IP
    return ETH_P_IPV6 if payload[:1] and payload[0] >> 4 == 6 else 0
