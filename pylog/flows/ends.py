"""The ends of packets and flows: addresses and ports, on either side of a translation.

A packet of a translated flow can be logged before or after the translation, and on the way back,
so a flow has up to six forms of ends. ICMP has no ports: the identifier of a query takes the place
of both, and an error has the ends of the packet that it quotes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pylog.formats.packet_headers import echo_id
from pylog.record import FlowRecord, PacketRecord

ICMP = (1, 58)
"""The protocols ICMP and ICMPv6."""


class Ends(NamedTuple):
    """Where a packet comes from and goes to. Both ports of an ICMP query are its identifier."""

    protocol: int | None
    saddr: str | None
    sport: int | None
    daddr: str | None
    dport: int | None

    def reverse(self) -> Ends:
        """The ends of an answer."""
        return Ends(self.protocol, self.daddr, self.dport, self.saddr, self.sport)


class Sides(NamedTuple):
    """The ends of a flow's packets as they are sent, and after the translation."""

    sent: Ends
    translated: Ends

    def all(self) -> Iterator[tuple[Ends, str, Ends]]:
        """The ends that a packet can have, its direction, and its ends on the other side.

        A packet between the translation of its destination and that of its source has a third form.
        """
        sent, translated = self
        between = sent._replace(daddr=translated.daddr, dport=translated.dport)
        yield sent, "original", translated
        yield translated, "original", sent
        yield translated.reverse(), "reply", sent.reverse()
        yield sent.reverse(), "reply", translated.reverse()
        yield between, "original", translated
        yield between.reverse(), "reply", sent.reverse()


def sides_of(record: FlowRecord) -> Sides | None:
    """The ends of a flow; None if the record lacks its addresses."""
    if record.saddr is None or record.daddr is None:
        return None
    is_icmp = record.protocol in ICMP
    sent = Ends(record.protocol, record.saddr, record.sport, record.daddr,
                record.sport if is_icmp else record.dport)  # fmt: skip
    if record.nat_saddr is None and record.nat_daddr is None:
        return Sides(sent, sent)
    sport = sent.sport if record.nat_sport is None else record.nat_sport
    dport = sent.dport if record.nat_dport is None else record.nat_dport
    return Sides(
        sent,
        Ends(record.protocol, record.nat_saddr or record.saddr, sport,
             record.nat_daddr or record.daddr, sport if is_icmp else dport),
    )  # fmt: skip


def ends_of_packet(packet: PacketRecord) -> Ends | None:
    """The ends of a packet, or of the packet that an ICMP error quotes; None if they are cut off.

    A later fragment has no ports.
    """
    get = (packet.extra or {}).get("inner", {}).get
    if packet.protocol in ICMP and get("saddr") is not None:
        protocol, sport = get("protocol"), get("sport")
        ends = Ends(protocol, get("saddr"), sport, get("daddr"), get("dport"))
        return ends if protocol not in ICMP else None
    if packet.saddr is None or packet.daddr is None or packet.cut:
        return None
    if packet.fragment is not None and packet.fragment.offset:
        return None
    if packet.protocol in ICMP:
        number = echo_id(packet.payload, packet.family)
        return None if number is None else Ends(packet.protocol, packet.saddr, number, packet.daddr,
                                                number)  # fmt: skip
    return Ends(packet.protocol, packet.saddr, packet.sport, packet.daddr, packet.dport)


def ends_of_tuple(entry: Any) -> Ends | None:
    """The ends in a tuple of NFULA_CT."""
    if not isinstance(entry, dict):
        return None
    addresses, protocol = entry.get("CTA_TUPLE_IP", {}), entry.get("CTA_TUPLE_PROTO", {})
    saddr, daddr = (
        addresses.get(f"CTA_IP_V4_{end}") or addresses.get(f"CTA_IP_V6_{end}")
        for end in ("SRC", "DST")
    )
    if saddr is None or daddr is None:
        return None
    number = protocol.get("CTA_PROTOICMP_ID", protocol.get("CTA_PROTOICMPV6_ID"))
    sport = protocol.get("CTA_PROTO_SRC_PORT", number)
    dport = protocol.get("CTA_PROTO_DST_PORT", number)
    return Ends(protocol.get("CTA_PROTO_NUM"), saddr, sport, daddr, dport)


def other_side(sides: Sides, ends: Ends | None, direction: str) -> dict[str, Any]:
    """The fields nat_*, for a packet with these ends and direction."""
    if sides.sent == sides.translated:
        return {}
    other = next(
        (far for form, word, far in sides.all() if (form, word) == (ends, direction)), None
    )
    if other is None:  # the ends were not logged
        return {}
    return {"nat_saddr": other.saddr, "nat_sport": other.sport, "nat_daddr": other.daddr,
            "nat_dport": None if other.protocol in ICMP else other.dport}  # fmt: skip
