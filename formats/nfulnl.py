"""NFLOG: the messages of Linux's nfnetlink_log (nfulnl).

A log message is nlmsghdr, nfgenmsg and NFULA_* attributes (`nfulnl_attributes`).
`NfulnlStream` is the NFLOG part of a netlink stream: its message type, and the record that a
message becomes. In a
DLT_NFLOG capture (link type 239) the nlmsghdr is missing; nlmon captures (253), which hold other
subsystems' messages too, come through `formats.mixed`.

Sources: linux/netfilter/nfnetlink_log.h, net/netfilter/nfnetlink_log.c, the tcpdump.org link type
pages; recordings of what Linux 6.18 sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pylog.errors import DecodeError
from pylog.formats import Message, NextSeq, RawBatch, netlink_stream, nfct_attributes
from pylog.formats.netlink import (
    NFGENMSG,
    NFNL_SUBSYS_ULOG,
    NLA_TYPE_MASK,
    align,
    nlattr,
    nlmsghdr,
    to_dict,
)
from pylog.formats.netlink_stream import (
    Layouts,
    NetlinkStream,
    name_of,
    order_of,
    unpack_nlmsghdr,
)
from pylog.formats.nfulnl_attributes import (
    NFULA_CT,
    NFULA_VLAN,
    NFULNL_MSG_PACKET,
    READERS,
    VLAN,
)
from pylog.formats.nfulnl_fast import ETHERTYPES, NFULA_PAYLOAD, FastPath
from pylog.formats.nfulnl_payload import opened
from pylog.formats.nfulnl_table import (
    ADDRESS,
    ATTRIBUTE_NUMBER,
    DEVICES,
    HOOK,
    NUMBERS,
    PREFIX,
)
from pylog.formats.packet import put_headers, vlan_tag
from pylog.formats.packet_schemas import FAMILIES
from pylog.formats.plan import Plan
from pylog.record import MAX_SECONDS, PacketRecord, Record, Row, Vlan, json_ready
from pylog.record.places import (
    AT_DIRECTION,
    AT_EXTRA,
    AT_FAMILY,
    AT_GROUP,
    AT_HOOK,
    AT_HWADDR,
    AT_HWHEADER,
    AT_LAYOUT,
    AT_OBSERVED,
    AT_OFFSET,
    AT_PAYLOAD,
    AT_PREFIX,
    AT_RAW,
    AT_SOURCE,
    AT_TIMESTAMP,
    AT_VLAN,
    no_values,
)

if TYPE_CHECKING:
    from pylog.formats.scrub import Scrubber

NAME = "nfulnl"
SUBSYSTEM = NFNL_SUBSYS_ULOG
LINKTYPE_NFLOG = 239
LINKTYPES: tuple[int, ...] = (LINKTYPE_NFLOG,)
LOOKED_FOR = "netlink messages of NFLOG (a chain of nlmsghdr with attributes that fill them)"

_make_nlmsghdr = {order: Plan(nlmsghdr(order)).pack_values for order in "<>"}
_nfgenmsg = Plan(NFGENMSG).unpack
_NUMBERS = [(row.place, ATTRIBUTE_NUMBER[row.field]) for row in NUMBERS]
_DEVICES = [(row.place, ATTRIBUTE_NUMBER[row.field]) for row in DEVICES]


class NfulnlStream(NetlinkStream):
    """Log messages; see NetlinkStream."""

    source = "nflog"
    gives_raw = True
    columns_module = "pylog.formats.columns.nfulnl"
    one_message_linktypes = frozenset(LINKTYPES)
    types = frozenset((NFULNL_MSG_PACKET,))
    noun = "log message"
    sizes = MappingProxyType({number: size for number, (_, size, _) in READERS.items()})
    cuttable = NFULA_PAYLOAD

    def __init__(self, order: str) -> None:
        super().__init__(order)
        self.layout = name_of("nfulnl", order)

    @cached_property
    def _fast(self) -> FastPath:  # of the many streams that detection tries, few decode
        return FastPath(self, self.order, LINKTYPE_NFLOG)

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        return self.plausible_attributes(data, start + 4, end)

    def raw(self, data: bytes, message: Message) -> bytes:
        """As NetlinkStream.raw; a message that was captured without nlmsghdr gets one."""
        origin = message.origin
        if origin is None or origin.linktype != LINKTYPE_NFLOG:
            return super().raw(data, message)
        body = data[message.start : message.end]
        size = 16 + len(body) + origin.cut
        body = _make_nlmsghdr[self.order](size, NFULNL_MSG_PACKET, 0, 0, 0) + body
        return body if origin.cut else body + bytes(-len(body) % 4)

    def _scan(
        self, data: bytes, pos: int, end: int, cut: bool = False
    ) -> tuple[list[Any], list[tuple[int, bytes]]]:
        """The attributes in data[pos:end]: the values by number, and (number, bytes) of others.

        cut   the capture kept only the first bytes of the message, so the last attribute may be cut
        """
        slots: list[Any] = [None] * 22
        unknown: list[tuple[int, bytes]] = []
        unpack, readers = self._attribute, READERS
        while pos < end:
            if end - pos < 4:
                if cut:
                    break
                raise self.error(pos, "nlattr", f"{end - pos} bytes left", "at least 4")
            size, kind = unpack(data, pos)
            kind &= NLA_TYPE_MASK
            if size < 4 or pos + size > end:
                if not cut or size < 4:
                    raise self.error(pos, "nla_len", size, f"4 to {end - pos}")
                size = end - pos
                if kind != NFULA_PAYLOAD:
                    break
            reader = readers.get(kind)
            if reader is None or slots[kind] is not None:
                unknown.append((kind, data[pos + 4 : pos + size]))
            elif reader[2] is None:
                slots[kind] = data[pos + 4 : pos + size]
            elif size - 4 < reader[1]:
                self.flawed(pos, reader[0], f"{size - 4} bytes", f"{reader[1]}")
                unknown.append((kind, data[pos + 4 : pos + size]))
            else:
                slots[kind] = reader[2](data, pos + 4)
            pos += (size + 3) & ~3
        return slots, unknown

    def records(
        self,
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None = None,
    ) -> None:
        self._fast.records(data, messages, raw, found, numbers)

    def raw_batch(
        self, data: bytes, messages: Iterable[Message], numbers: NextSeq
    ) -> RawBatch | None:
        return self._fast.raw_batch(data, messages, numbers)

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start, end, origin = message.start, message.end, message.origin
        headerless = origin is not None and origin.linktype == LINKTYPE_NFLOG
        at = start if headerless else start + 16
        if at + 4 > end:
            raise self.error(start, "nfgenmsg", f"{end - at} bytes left", "4")
        family, version, group = _nfgenmsg(data, at)
        slots, unknown = self._scan(data, at + 4, end, origin is not None and origin.cut > 0)
        (
            _, hdr, _, stamp, _, _, _, _, hwaddr, payload, prefix, _, _, seq_global, _, hwtype,
            hwheader, hwlen, ct, ct_info, vlan, l2hdr,
        ) = slots  # fmt: skip
        interface = self.interface_name
        extra: dict[str, Any] = {"nfgen_family": family}
        if version:
            extra["version"] = version
        hw_protocol, hook_number = hdr if hdr is not None else (0, None)
        hw_protocol = hw_protocol or ETHERTYPES.get(family, 0)
        values = no_values()
        if hook_number is not None:
            values[AT_HOOK], values[AT_DIRECTION] = HOOK.explain(family, hook_number)
        values[AT_EXTRA] = extra
        tags: tuple[Vlan, ...] = ()
        if vlan is not None:
            tags = self._vlan(vlan, at, extra, unknown)
        if payload:
            ethernet, more, network, ethertype = opened(
                family, hook_number, hw_protocol, payload, hwtype, hwheader, l2hdr
            )
            if ethernet and hwheader is None and l2hdr is None:
                hwheader = payload[:ethernet]
            tags += more
            if network:
                payload = payload[network:]
            put_headers(values, payload, 0, len(payload), ethertype)
            extra = values[AT_EXTRA]
        else:
            values[AT_FAMILY] = FAMILIES.get(hw_protocol, hw_protocol) or None
        if hwheader is None:
            hwheader = l2hdr
        elif l2hdr is not None and l2hdr != hwheader:
            extra["NFULA_L2HDR"] = l2hdr.hex()
        if hwlen is not None and (hwheader is None or hwlen[0] != len(hwheader)):
            extra["NFULA_HWLEN"] = hwlen[0]
        if seq_global is not None:
            extra["NFULA_SEQ_GLOBAL"] = seq_global[0]
        if ct is not None:
            flaws: list[DecodeError] = []
            try:
                entry = nfct_attributes.entry(ct, 0, len(ct), self.order, self.base + start, flaws)
                extra["NFULA_CT"] = entry
            except DecodeError as error:
                flaws.append(error)
                unknown.append((NFULA_CT, ct))
            for flaw in flaws:
                self.flawed(start, flaw.field, flaw.found, flaw.expected)
        if ct_info is not None:
            extra["NFULA_CT_INFO"] = nfct_attributes.INFO.get(ct_info[0], ct_info[0])
        if unknown:
            extra["unknown"] = [[number, value.hex()] for number, value in unknown]
        if hwaddr is not None:
            size, octets = hwaddr
            (values[AT_HWADDR],) = ADDRESS.explain(size, octets)
            if size > len(octets):
                extra["NFULA_HWADDR"] = [size, octets.hex()]
        values[AT_SOURCE], values[AT_LAYOUT] = "nflog", self.layout
        values[AT_EXTRA], values[AT_PAYLOAD] = extra, payload or None
        if not self.live:
            values[AT_OFFSET] = self.base + start
        if stamp is not None:
            values[AT_TIMESTAMP] = self._nanoseconds(start, stamp, extra)
        values[AT_OBSERVED] = self.observed_ns if origin is None else origin.observed_ns
        values[AT_GROUP] = str(group)
        if prefix is not None:
            (values[AT_PREFIX],) = PREFIX.explain(prefix)
        for place, attribute in _DEVICES:
            if slots[attribute] is not None:
                values[place] = interface(slots[attribute][0])
        for place, attribute in _NUMBERS:
            if slots[attribute] is not None:
                values[place] = slots[attribute][0]
        values[AT_VLAN] = tags or None
        values[AT_HWHEADER] = hwheader.hex() if hwheader else None
        if raw:
            values[AT_RAW] = self.raw(data, message)
        return PacketRecord(*values)

    def _nanoseconds(self, pos: int, stamp: tuple[int, int], extra: dict[str, Any]) -> int | None:
        sec, usec = stamp
        if sec > MAX_SECONDS or usec >= 1_000_000:
            self.flawed(pos, "NFULA_TIMESTAMP", f"{sec} s {usec} us",
                        "a time before the year 10000, and less than 1000000 us")  # fmt: skip
            extra["NFULA_TIMESTAMP"] = [json_ready(sec), json_ready(usec)]
            return None
        return sec * 1_000_000_000 + usec * 1000

    def _vlan(
        self, nested: bytes, at: int, extra: dict[str, Any], unknown: list[tuple[int, bytes]]
    ) -> tuple[Vlan, ...]:
        flaws: list[DecodeError] = []
        fields: dict[str, Any] = {}
        try:
            fields = to_dict(VLAN, nested, 0, len(nested), self.order, self.base + at, flaws)
        except DecodeError as error:
            flaws.append(error)
            unknown.append((NFULA_VLAN, nested))
        for flaw in flaws:
            self.flawed(at, flaw.field, flaw.found, flaw.expected)
        if "unknown" in fields:
            extra["NFULA_VLAN"] = fields["unknown"]
        if "NFULA_VLAN_TCI" not in fields:
            return ()
        return (vlan_tag(fields["NFULA_VLAN_TCI"], fields.get("NFULA_VLAN_PROTO")),)


def byte_order(body: bytes) -> str:
    """The byte order of a message without nlmsghdr, by the type of its first attribute.

    The kernel puts NFULA_PACKET_HDR (1) first; a type of 256 or more is in the other order.
    """
    return "<" if len(body) < 8 or body[7] & 0x3F == 0 else ">"


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """The layout of a packet of a capture file, by its bytes."""
    return name_of("nfulnl", byte_order(packet))


def capture(message: bytes, layout: str) -> tuple[bytes, str, int]:
    """The packet with which a capture file holds a message of `Stream.raw`, its byte order and its
    original length.

    A packet has no nlmsghdr and no padding. Bytes that are not a message keep what follows the
    first 16.
    """
    order = order_of(layout)
    if len(message) >= 16:
        size = unpack_nlmsghdr[order](message, 0)[0]
        if size > 16:
            packet = message[16:size]
            return packet, order, max(size - 16, len(packet))
    return message[16:], order, max(len(message) - 16, 0)


_INTERFACES = {4: "indev", 5: "outdev", 6: "physindev", 7: "physoutdev"}


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """The numbers of the interfaces in a message of `Stream.raw`, by the record's names."""
    unpack = nlattr[order_of(layout)]
    numbers, pos, end = {}, 20, len(message)
    while end - pos >= 8:
        size, kind = unpack(message, pos)
        name = _INTERFACES.get(kind & NLA_TYPE_MASK)
        if name is not None:
            numbers[name] = int.from_bytes(message[pos + 4 : pos + 8])
        elif size < 4:
            break
        pos += align(size)
    return numbers


STREAM = NfulnlStream
_layouts = Layouts("nfulnl", NfulnlStream)
stream, layout_names, cut = _layouts.stream, _layouts.layout_names, _layouts.cut
probe, resumes, resume = _layouts.probe, _layouts.resumes, _layouts.resume
described = netlink_stream.described


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """See nfulnl_scrub."""
    from pylog.formats import nfulnl_scrub  # only here: reading does not need it

    return nfulnl_scrub.scrub(message, layout, scrubber)
