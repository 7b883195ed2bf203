"""The values that the record of a packet has in IPFIX.

A logged packet is exported as a flow of one packet, or of `count` equal ones, because that is what
collectors store. What NFLOG says beyond IANA's elements (prefix, mark, hook, sequence number) has
the elements that ulogd2 uses for it.
"""

from __future__ import annotations

from typing import Any

from pylog.formats.nfulnl_attributes import HOOKS
from pylog.formats.packet_headers import requested
from pylog.memo import Memo
from pylog.outputs import _ipfix_elements as ie
from pylog.outputs._ipfix_parts import (
    ADDRESSES,
    FAMILY,
    ICMP,
    TRANSLATED,
    Number,
    Octets,
    Part,
    choice_part,
    fitting,
    interface_part,
    number_part,
    range_parts,
    rule_name,
    text_part,
    texts,
    time_of,
    time_parts,
)
from pylog.record import PacketHeaders

_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 0x10, "U": 0x20, "E": 0x40, "C": 0x80}
_NUMBERS = {
    family: {name: bytes((number,)) for number, name in enumerate(hooks)}
    for family, hooks in HOOKS.items()
}
"""The number of each hook in the families of Netfilter."""
_INET = 1


def _flag_bits(letters: str) -> bytes:
    return sum([_FLAGS.get(letter, 0) for letter in letters]).to_bytes(2)


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text.replace(":", ""))
    except ValueError:
        return b""


_tcp_flags, _macs = Memo(_flag_bits), Memo(_hex)


def _source_mac(record: Any) -> bytes | None:
    """The source address of the link: reported alone, or in an Ethernet header."""
    octets = b"" if record.hwaddr is None else _macs[record.hwaddr]
    return octets if len(octets) == 6 else _of_ethernet(record, 6)


def _destination_mac(record: Any) -> bytes | None:
    return _of_ethernet(record, 0)


def _of_ethernet(record: Any, at: int) -> bytes | None:
    """An address of an Ethernet header (ARPHRD_ETHER is 1)."""
    if record.hwheader is None or record.hwtype != 1:
        return None
    header = _macs[record.hwheader]
    return header[at : at + 6] if len(header) >= 14 else None


def _tag(place: int, attribute: str, size: int) -> Octets:
    def octets(record: Any) -> bytes | None:
        tags = record.vlan
        return (
            fitting(getattr(tags[place], attribute), size) if tags and len(tags) > place else None
        )

    return octets


def _packets(record: Any) -> bytes | None:
    return fitting(record.count or 1, 8)


def _octets(record: Any) -> bytes | None:
    return None if record.length is None else fitting(record.length * (record.count or 1), 8)


def _point(record: Any) -> bytes | None:
    """The group of NFLOG, where the packet was observed."""
    group = record.group
    if record.source != "nflog" or group is None or not group.isdecimal() or len(group) > 5:
        return None
    return int(group).to_bytes(8)


def _selector(record: Any) -> bytes | None:
    """The name of the rule: as IPFilter or a join has it, else the prefix it logs with."""
    name = rule_name(record)
    if getattr(record, "rule_handle", None) is not None:
        words = (record.rule_family, record.rule_table, record.rule_chain)
        name = " ".join(str(word) for word in words if word is not None)
        name = f"{name} handle {record.rule_handle}"
    if name is None:
        name = record.prefix
    return texts[name] if name else None


def _fragment_id(record: Any) -> bytes | None:
    fragment = record.fragment
    return None if fragment is None or fragment.id is None else fitting(fragment.id, 4)


def _fragment_offset(record: Any) -> bytes | None:
    fragment = record.fragment
    if fragment is None or fragment.offset is None:
        return None
    return fitting(fragment.offset // 8, 2)


def _fragment_flags(record: Any) -> bytes | None:
    fragment = record.fragment
    return None if fragment is None else bytes((fragment.dont << 6 | fragment.more << 5,))


def _flags(record: Any) -> bytes | None:
    return None if record.tcp_flags is None else _tcp_flags[record.tcp_flags]


def _sequence(record: Any) -> bytes | None:
    return fitting(record.seq, 4) if record.source == "nflog" and record.seq is not None else None


_FRAGMENT = ("fragment",)


def packet_parts(interface: Number, times: str) -> list[Part]:
    """The parts of a packet.

    interface   numbers interfaces
    times       milliseconds or nanoseconds
    """
    when = ("timestamp_ns", "observed_ns")
    return [
        *time_parts(),
        *range_parts(times, (when, when), time_of, time_of, ("", "")),
        *FAMILY, *ADDRESSES,
        Part(("count",), (ie.packetDeltaCount,), _packets, "1 if absent", always=True),
        Part(("length", "count"), (ie.octetDeltaCount,), _octets, "`length` times `count`"),
        number_part("length", ie.ipTotalLength),
        Part(("tcp_flags",), (ie.tcpControlBits,), _flags),
        *ICMP,
        Part(_FRAGMENT, (ie.fragmentIdentification,), _fragment_id),
        Part(_FRAGMENT, (ie.fragmentOffset,), _fragment_offset, "in units of 8 bytes"),
        Part(_FRAGMENT, (ie.fragmentFlags,), _fragment_flags, "0x40 DF, 0x20 MF"),
        choice_part("action", ie.firewallEvent, {"block": 3}, "3 (denied) for block"),
        choice_part("action", ie.forwardingStatus, {"pass": 64, "block": 129},
                    "64 (forwarded) for pass, 129 (ACL deny) for block"),
        choice_part("direction", ie.flowDirection, {"in": 0, "out": 1}, "0 for in, 1 for out"),
        interface_part("indev", ie.ingressInterface, interface),
        interface_part("outdev", ie.egressInterface, interface),
        interface_part("physindev", ie.ingressPhysicalInterface, interface),
        interface_part("physoutdev", ie.egressPhysicalInterface, interface),
        Part(("hwaddr", "hwheader"), (ie.sourceMacAddress,), _source_mac, always=True),
        Part(("hwheader",), (ie.destinationMacAddress,), _destination_mac),
        Part(("vlan",), (ie.dot1qVlanId,), _tag(0, "id", 2), "of the outermost tag"),
        Part(("vlan",), (ie.dot1qPriority,), _tag(0, "priority", 1)),
        Part(("vlan",), (ie.dot1qCustomerVlanId,), _tag(1, "id", 2), "of the second tag"),
        Part(("vlan",), (ie.dot1qCustomerPriority,), _tag(1, "priority", 1)),
        Part(("group",), (ie.observationPointId,), _point, "the NFLOG group"),
        Part(("rule", "group", "prefix"), (ie.selectorName,), _selector,
             "the rule that `--rules` names, of IPFilter `@GROUP:RULE`, else `prefix`",
             always=True),
        text_part("prefix", ie.prefix),
        number_part("mark", ie.mark),
        Part(("hook",), (ie.hook,), _hook_number, "the kernel's number"),
        Part(("seq",), (ie.seqLocal,), _sequence, "of NFLOG"),
        text_part("uid", ie.userName),
    ]  # fmt: skip


def _hook_number(record: Any) -> bytes | None:
    hook = record.hook
    if isinstance(hook, int):
        return fitting(hook, 1)
    family = record.extra.get("nfgen_family", _INET) if record.extra else _INET
    return _NUMBERS.get(family, _NUMBERS[_INET]).get(hook)


JOINED = (*TRANSLATED, number_part("flow_id", ie.flowId))
"""The parts of a packet that was joined with its flow."""


class Headers:
    """The fields on request of the packet that was asked for last."""

    def __init__(self) -> None:
        self._of: Any = None
        self._headers = PacketHeaders()

    def __getitem__(self, record: Any) -> PacketHeaders:
        if record is not self._of:
            self._of, self._headers = record, requested(record.payload, record.family)
        return self._headers


_REQUESTED = {
    "ttl": ie.ipTTL, "tos": ie.ipClassOfService, "flow_label": ie.flowLabelIPv6,
    "tcp_seq": ie.tcpSequenceNumber, "tcp_ack": ie.tcpAcknowledgementNumber,
    "tcp_window": ie.tcpWindowSize, "udp_length": ie.udpMessageLength,
}  # fmt: skip


def header_parts() -> list[Part]:
    """The parts that are made of fields on request."""
    headers = Headers()

    def part(name: str, element: ie.Element) -> Part:
        made = number_part(name, element)
        return made._replace(octets=lambda record: made.octets(headers[record]))

    def identification(record: Any) -> bytes | None:
        """The IPv4 identification of a packet that is no fragment."""
        ident = headers[record].ip_id
        return None if ident is None or record.fragment is not None else fitting(ident, 4)

    ident = Part(("ip_id",), (ie.fragmentIdentification,), identification)
    return [*(part(name, element) for name, element in _REQUESTED.items()), ident]


def section_part(most: int) -> Part:
    """The part that is the logged packet itself, `most` bytes of it."""

    def octets(record: Any) -> bytes | None:
        if not record.payload:
            return None
        section: bytes = record.payload[:most]
        size = len(section)
        return (bytes((size,)) if size < 255 else b"\xff" + size.to_bytes(2)) + section

    return Part(("payload",), (ie.ipHeaderPacketSection,), octets)
