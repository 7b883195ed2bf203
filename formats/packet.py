"""The logged packet: headers of layers 2 to 4, as far as they were kept.

A log keeps the first 40 to 128 bytes of a packet, so a cut header is the normal case: what is
there is decoded, what is cut is None, and the field `cut` names the header that was cut.

The construct schemas below are the headers; the compiled plans of `formats.plan` read them. Two
ways in: `put_headers` fills in the fields of a record, fast; `dissect` gives every field of every
header, through construct, for a person.

The length that a header states is believed only where it can be true, see `believed`.

Sources: RFC 791, 2675, 8200, 826, 9293, 768, 792, 4443, 9260, 4302, 4303, 2784, IEEE 802.1Q.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as CStruct
from typing import Any, Final

from construct import Bytes, Int8ub, Int16ub, Int32ub, Struct

from pylog.formats import ip_numbers
from pylog.formats.ip_numbers import (
    EXTENSIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ICMP6_ERRORS,
    ICMP_ERRORS,
    NO_NEXT_HEADER,
)
from pylog.formats.plan import Plan
from pylog.memo import Memo
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

ETHERNET = Struct("dst" / Bytes(6), "src" / Bytes(6), "type" / Int16ub)
VLAN_TAG = Struct("tci" / Int16ub, "type" / Int16ub)
ARP = Struct(
    "htype" / Int16ub, "ptype" / Int16ub, "hlen" / Int8ub, "plen" / Int8ub, "oper" / Int16ub
)
IPV4 = Struct(
    "version_ihl" / Int8ub,
    "tos" / Int8ub,
    "length" / Int16ub,
    "id" / Int16ub,
    "flags_offset" / Int16ub,
    "ttl" / Int8ub,
    "protocol" / Int8ub,
    "checksum" / Int16ub,
    "src" / Bytes(4),
    "dst" / Bytes(4),
)
IPV6 = Struct(
    "version_class_flow" / Int32ub,
    "payload_length" / Int16ub,
    "next_header" / Int8ub,
    "hop_limit" / Int8ub,
    "src" / Bytes(16),
    "dst" / Bytes(16),
)
IPV6_EXTENSION = Struct("next_header" / Int8ub, "length" / Int8ub)
IPV6_FRAGMENT = Struct(
    "next_header" / Int8ub, "reserved" / Int8ub, "offset_more" / Int16ub, "id" / Int32ub
)
TCP = Struct(
    "sport" / Int16ub,
    "dport" / Int16ub,
    "seq" / Int32ub,
    "ack" / Int32ub,
    "offset" / Int8ub,
    "flags" / Int8ub,
    "window" / Int16ub,
    "checksum" / Int16ub,
    "urgent" / Int16ub,
)
UDP = Struct("sport" / Int16ub, "dport" / Int16ub, "length" / Int16ub, "checksum" / Int16ub)
SCTP = Struct("sport" / Int16ub, "dport" / Int16ub, "tag" / Int32ub, "checksum" / Int32ub)
ICMP = Struct("type" / Int8ub, "code" / Int8ub, "checksum" / Int16ub, "rest" / Int32ub)
AH = Struct(
    "next_header" / Int8ub, "length" / Int8ub, "reserved" / Int16ub, "spi" / Int32ub,
    "sequence" / Int32ub,
)  # fmt: skip
ESP = Struct("spi" / Int32ub, "sequence" / Int32ub)
GRE = Struct("flags_version" / Int16ub, "protocol" / Int16ub)

_ipv4, _ipv6, _arp = Plan(IPV4), Plan(IPV6), Plan(ARP)
_extension, _fragment = Plan(IPV6_EXTENSION), Plan(IPV6_FRAGMENT)
_tcp, _sctp, _icmp = Plan(TCP), Plan(SCTP), Plan(ICMP)
_ah, _esp, _gre = Plan(AH), Plan(ESP), Plan(GRE)
_ipv4_fields = _ipv4.reader(
    ("version_ihl", "length", "id", "flags_offset", "protocol", "src", "dst")
)
_tcp_fields = _tcp.reader(("sport", "dport", "flags"))
IPV4_TCP = Struct(*IPV4.subcons, "tcp" / TCP)
"""What nearly all packets have; ports are where those of UDP are, and type and code of ICMP."""
IPV4_TCP_NAMES = (
    "version_ihl", "length", "flags_offset", "protocol", "src", "dst", "sport", "dport", "flags",
)  # fmt: skip
IPV4_TCP_SIZE: Final[int] = Plan(IPV4_TCP).size
ipv4_tcp_fields: Final[
    Callable[[bytes, int], tuple[int, Any, int, int, bytes, bytes, Any, Any, int]]
] = Plan(IPV4_TCP).reader(IPV4_TCP_NAMES)
_ports = Plan(Struct("sport" / Int16ub, "dport" / Int16ub))
_u16_pair = CStruct(">HH").unpack_from

ETH_P_IP: Final = 0x0800
ETH_P_ARP: Final = 0x0806
ETH_P_IPV6: Final = 0x86DD
ETH_P_8021Q, ETH_P_8021AD = 0x8100, 0x88A8
FAMILIES: dict[int, str] = {ETH_P_IP: "ipv4", ETH_P_IPV6: "ipv6", ETH_P_ARP: "arp"}

_JUMBO = 0xC2  # RFC 2675, in a hop-by-hop header


def believed(length: int | None, least: int) -> int | None:
    """The length that an IP header states; None if it is below `least`, the bytes that are there.

    Packets that a device is to cut (TSO, BIG TCP) may have a length of 0, or none of 16 bits; below
    IP a short packet may end in padding of the link. No length is better than a wrong one.
    """
    return None if length is None or length < least else length


# Text of addresses and flags


_OCTET = [str(n) for n in range(256)]


def _address_text(address: bytes) -> str:
    if len(address) == 4:
        a, b, c, d = address
        return f"{_OCTET[a]}.{_OCTET[b]}.{_OCTET[c]}.{_OCTET[d]}"
    return _ipv6_text(address)


def _ipv6_text(address: bytes) -> str:
    """RFC 5952 text, with ::a.b.c.d and ::ffff:a.b.c.d for embedded IPv4 as inet_ntop(3) does."""
    groups = [int.from_bytes(address[i : i + 2]) for i in range(0, 16, 2)]
    best, best_length, start = -1, 1, -1
    for i, group in enumerate([*groups, 1]):
        if group == 0:
            start = i if start < 0 else start
        elif start >= 0:
            if i - start > best_length:
                best, best_length = start, i - start
            start = -1
    words = [f"{group:x}" for group in groups]
    if best == 0 and (best_length == 6 or (best_length == 5 and groups[5] == 0xFFFF)):
        words[6:] = ["{}.{}.{}.{}".format(*address[12:])]
    if best < 0:
        return ":".join(words)
    return f"{':'.join(words[:best])}::{':'.join(words[best + best_length :])}"


addresses: Final = Memo(_address_text, 65536, 1 << 24)
"""addresses[b] is the text of an IPv4 (4 bytes) or IPv6 (16 bytes) address."""


def _address_bytes(text: str) -> bytes:
    from ipaddress import ip_address  # which few need

    return ip_address(text).packed


octets = Memo(_address_bytes, 65536, 1 << 24)
"""octets[text] is the address again; ValueError for what is none."""


def swapped(packet: bytes) -> bytes:
    """An IPv4 packet with the two bytes of ip_len changed over, and those of ip_off.

    So some kernels keep them, see ipl_layouts.Layout.host_order_ip.
    """
    return (packet[:2] + packet[3:4] + packet[2:3] + packet[4:6] + packet[7:8] + packet[6:7]
            + packet[8:])  # fmt: skip


def mac(address: bytes) -> str:
    """A link-layer address as colon-separated hex."""
    return address.hex(":")


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
    """Put what the packet data[start:end] says into the values of a record, from the network
    header on.

    ethertype   ETH_P_IP, ETH_P_IPV6, ETH_P_ARP; another becomes the family, but for 0
    What only some protocols have goes into `extra`, which is replaced then: spi, gre_protocol,
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
    """Say more in `extra`; the dict that is there may be that of other records, too."""
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
    size = (version & 15) * 4  # of a quoted packet more may be there: RFC 4884 pads it
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

    Gives the protocol after them; where its header begins; the offset, in bytes, and more-bit of
    the fragment header, 0 for none but in name, None without one; its id; the header that is cut.
    """
    fragment: int | None = None
    ident, cut = 0, None
    for _ in range(64):  # a chain cannot be longer than the bytes, and no sane one is this long
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

    The option has 4 bytes, a place of 4n + 2, and a value above 65535 (RFC 2675).
    """
    at = start + 2
    if at <= end:
        end = min(end, start + 8 + data[start + 1] * 8)
    while at + 1 < end:
        if data[at] == _JUMBO:
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
    # some ICMP messages are shorter than the 8 bytes of RFC 792; type, code, checksum are not
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

    It is expected to be cut after 8 bytes of its layer 4, which is not reported as a cut.
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
    """The VLAN tags at the start of a payload, where its network header is, and its EtherType.

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
    """The EtherType of a packet by its first byte, for what says it nowhere else; 0 for none."""
    if payload[:1] and 0x45 <= payload[0] <= 0x4F:
        return ETH_P_IP
    return ETH_P_IPV6 if payload[:1] and payload[0] >> 4 == 6 else 0


def dissect(payload: bytes, ethertype: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Every field of every whole header of a packet: [("ipv4", {...}), ("tcp", {...}), ...].

    payload     from the network header on, as `PacketRecord.payload`
    ethertype   default: by the packet's first four bits, 4 or 6

    Through construct, for looking at single packets; a header that is cut is not in the list.
    """
    if ethertype is None:
        ethertype = ETH_P_IPV6 if payload[:1] and payload[0] >> 4 == 6 else ETH_P_IP
    found: list[tuple[str, dict[str, Any]]] = []
    at, following = 0, _LAYER3.get(ethertype, "")
    while following:
        name, schema = following, SCHEMAS[following]
        if at + schema.sizeof() > len(payload) or len(found) > 64:
            break
        fields = {k: v for k, v in schema.parse(payload[at:]).items() if not k.startswith("_")}
        found.append((name, fields))
        at += _size(name, fields)
        following = _following(name, fields)
    return found


SCHEMAS: dict[str, Any] = {
    "vlan": VLAN_TAG, "arp": ARP, "ipv4": IPV4, "ipv6": IPV6, "ipv6 extension": IPV6_EXTENSION,
    "ipv6 fragment": IPV6_FRAGMENT, "tcp": TCP, "udp": UDP, "sctp": SCTP, "icmp": ICMP,
    "icmpv6": ICMP, "ah": AH, "esp": ESP, "gre": GRE,
}  # fmt: skip
_LAYER3 = {**FAMILIES, ETH_P_8021Q: "vlan", ETH_P_8021AD: "vlan"}
NAMES = {number: ip_numbers.PROTOCOL_NAMES[number] for number in _LAYER4} | {
    ip_numbers.ICMPV6: "icmpv6", ip_numbers.UDPLITE: "udp", FRAGMENT: "ipv6 fragment",
    **dict.fromkeys(EXTENSIONS, "ipv6 extension"),
}  # fmt: skip
"""The schema of the header of a protocol, by its name in SCHEMAS."""


def _size(name: str, fields: dict[str, Any]) -> int:
    """How many bytes a header takes, from its own length field where it has one."""
    if name == "ipv4":
        return max(20, int(fields["version_ihl"] & 15) * 4)
    if name == "ipv6 extension":
        return 8 + 8 * int(fields["length"])
    if name == "ah":
        return 8 + 4 * int(fields["length"])
    return int(SCHEMAS[name].sizeof())


def _following(name: str, fields: dict[str, Any]) -> str:
    """The name of the header after this one; "" where pylog knows none, or there is none."""
    if name == "vlan":
        return _LAYER3.get(fields["type"], "")
    if name == "ipv4":
        later = fields["flags_offset"] & 0x1FFF or fields["version_ihl"] >> 4 != 4
        return "" if later else NAMES.get(fields["protocol"], "")
    if name == "ipv6 fragment" and fields["offset_more"] & 0xFFF8:
        return ""
    if name in ("icmp", "icmpv6"):
        errors = ICMP_ERRORS if name == "icmp" else ICMP6_ERRORS
        return ("ipv4" if name == "icmp" else "ipv6") if fields["type"] in errors else ""
    return NAMES.get(fields.get("next_header", -1), "")
