"""NFLOG: the messages of Linux's nfnetlink_log (nfulnl), from the kernel and to it.

A log message is nlmsghdr, nfgenmsg and NFULA_* attributes (ATTRIBUTES); a config message has
NFULA_CFG_* ones (CONFIG). In a DLT_NFLOG capture (link type 239) the nlmsghdr is missing; in an
nlmon capture (253) a 16-byte link header comes before it, and other subsystems' messages between.

A datagram of one record has no NLMSG_DONE and none has NLM_F_MULTI: the messages are just walked.

Sources: linux/netfilter/nfnetlink_log.h, net/netfilter/nfnetlink_log.c, the tcpdump.org link type
pages; what the kernel really sends was recorded on Linux 6.18.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, partial
from struct import Struct as CStruct
from typing import Any

from construct import Bytes, Default, Int8ub, Int16ub, Int32ub, Int64ub, Struct

from pylog.errors import DecodeError
from pylog.formats import (
    LIMIT,
    Copied,
    Dropped,
    Guess,
    Item,
    Message,
    Needle,
    Numbers,
    cut_off,
    nfct,
    packet,
)
from pylog.formats import Stream as BaseStream
from pylog.formats.netlink import (
    IPV4_ADDRESS,
    IPV6_ADDRESS,
    NFGENMSG,
    NLA_TYPE_MASK,
    NLMSG_DONE,
    NLMSG_OVERRUN,
    OCTETS,
    PADDING,
    TEXT,
    Table,
    align,
    build,
    nlattr,
    nlattr_head,
    nlmsghdr,
    scan,
    text,
    to_dict,
)
from pylog.formats.netlink import message as message_schema
from pylog.formats.nfulnl_usual import (
    ETHERTYPES,
    LINK_FIRST,
    NFULA_PACKET_HDR,
    NFULA_PAYLOAD,
    Usual,
)
from pylog.formats.plan import BYTEORDER, Plan
from pylog.formats.scrub import ARPHRD_ETHER, ARPHRD_LOOPBACK, Scrubber
from pylog.record import MAX_SECONDS, PacketRecord, Record, Row, Vlan, json_ready
from pylog.record.places import (
    AT_DIRECTION,
    AT_EXTRA,
    AT_FAMILY,
    AT_GID,
    AT_GROUP,
    AT_HOOK,
    AT_HWADDR,
    AT_HWHEADER,
    AT_HWTYPE,
    AT_INDEV,
    AT_LAYOUT,
    AT_MARK,
    AT_OBSERVED,
    AT_OFFSET,
    AT_OUTDEV,
    AT_PAYLOAD,
    AT_PHYSINDEV,
    AT_PHYSOUTDEV,
    AT_PREFIX,
    AT_RAW,
    AT_SEQ,
    AT_SOURCE,
    AT_TIMESTAMP,
    AT_UID,
    AT_VLAN,
    no_values,
)

NFNL_SUBSYS_ULOG = 4
NFULNL_MSG_PACKET = NFNL_SUBSYS_ULOG << 8
NFULNL_MSG_CONFIG = NFNL_SUBSYS_ULOG << 8 | 1

LINKTYPE_NFLOG, LINKTYPE_NETLINK = 239, 253
LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2 = 113, 276
LINKTYPES = (LINKTYPE_NFLOG, LINKTYPE_NETLINK, LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2)

NETLINK_NETFILTER, ARPHRD_NETLINK = 12, 824


def _pad(size: int) -> Any:
    return "_pad" / Default(Bytes(size), bytes(size))


LINK_HEADER = Struct(
    "sll_pkttype" / Int16ub, "sll_hatype" / Int16ub, "unused" / Default(Bytes(10), bytes(10)),
    "sll_protocol" / Int16ub,
)  # fmt: skip
"""What stands before the messages in LINKTYPE_NETLINK; sll_protocol is the netlink family.

Linux cooked captures (LINKTYPE_LINUX_SLL) of nlmon have the same, with ARPHRD_NETLINK.
"""
LINK_HEADER_2 = Struct(
    "sll_protocol" / Int16ub, _pad(6), "sll_hatype" / Int16ub, _pad(10)
)  # fmt: skip
"""As LINK_HEADER, in LINKTYPE_LINUX_SLL2."""


_VLAN: Table = {1: ("NFULA_VLAN_PROTO", Int16ub), 2: ("NFULA_VLAN_TCI", Int16ub)}
ATTRIBUTES: Table = {
    1: ("NFULA_PACKET_HDR", Struct("hw_protocol" / Int16ub, "hook" / Int8ub, _pad(1))),
    2: ("NFULA_MARK", Int32ub),
    3: ("NFULA_TIMESTAMP", Struct("sec" / Int64ub, "usec" / Int64ub)),
    4: ("NFULA_IFINDEX_INDEV", Int32ub),
    5: ("NFULA_IFINDEX_OUTDEV", Int32ub),
    6: ("NFULA_IFINDEX_PHYSINDEV", Int32ub),
    7: ("NFULA_IFINDEX_PHYSOUTDEV", Int32ub),
    8: ("NFULA_HWADDR", Struct("hw_addrlen" / Int16ub, _pad(2), "hw_addr" / Bytes(8))),
    9: ("NFULA_PAYLOAD", OCTETS),
    10: ("NFULA_PREFIX", TEXT),
    11: ("NFULA_UID", Int32ub),
    12: ("NFULA_SEQ", Int32ub),
    13: ("NFULA_SEQ_GLOBAL", Int32ub),
    14: ("NFULA_GID", Int32ub),
    15: ("NFULA_HWTYPE", Int16ub),
    16: ("NFULA_HWHEADER", OCTETS),
    17: ("NFULA_HWLEN", Int16ub),
    18: ("NFULA_CT", nfct.CTA),
    19: ("NFULA_CT_INFO", Int32ub),
    20: ("NFULA_VLAN", _VLAN),
    21: ("NFULA_L2HDR", OCTETS),
}  # fmt: skip
"""enum nfulnl_attr_type."""

NFULA_HWADDR, NFULA_HWTYPE, NFULA_HWHEADER = 8, 15, 16
NFULA_CT, NFULA_VLAN, NFULA_L2HDR = 18, 20, 21

CONFIG: Table = {
    1: ("NFULA_CFG_CMD", Int8ub),  # NFULNL_CFG_CMD_*
    2: ("NFULA_CFG_MODE", Struct("copy_range" / Int32ub, "copy_mode" / Int8ub, _pad(1))),
    3: ("NFULA_CFG_NLBUFSIZ", Int32ub),  # bytes
    4: ("NFULA_CFG_TIMEOUT", Int32ub),  # 1/100 s
    5: ("NFULA_CFG_QTHRESH", Int32ub),  # records
    6: ("NFULA_CFG_FLAGS", Int16ub),  # NFULNL_CFG_F_*
}  # fmt: skip
"""enum nfulnl_attr_config."""

NFULNL_CFG_CMD_BIND, NFULNL_CFG_CMD_UNBIND = 1, 2
NFULNL_CFG_CMD_PF_BIND, NFULNL_CFG_CMD_PF_UNBIND = 3, 4
NFULNL_COPY_NONE, NFULNL_COPY_META, NFULNL_COPY_PACKET = 0, 1, 2
NFULNL_CFG_F_SEQ, NFULNL_CFG_F_SEQ_GLOBAL, NFULNL_CFG_F_CONNTRACK = 1, 2, 4

_INET_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
HOOKS = {
    2: _INET_HOOKS,  # NFPROTO_IPV4
    10: _INET_HOOKS,  # NFPROTO_IPV6
    1: _INET_HOOKS,  # NFPROTO_INET
    7: _INET_HOOKS[:5],  # NFPROTO_BRIDGE
    5: ("ingress", "egress"),  # NFPROTO_NETDEV
    3: ("input", "output", "forward"),  # NFPROTO_ARP
}
"""Hook names by nfgen_family; the number is the index."""

DIRECTIONS = {
    "prerouting": "in", "input": "in", "ingress": "in", "forward": "forward",
    "output": "out", "postrouting": "out", "egress": "out",
}  # fmt: skip

_BATCH_END = 20
"""Bytes of the NLMSG_DONE that ends a batch: nlmsghdr and nfgenmsg."""

_nlmsghdr = {order: Plan(nlmsghdr(order)).unpack for order in "<>"}
_make_nlmsghdr = {order: Plan(nlmsghdr(order)).pack_values for order in "<>"}
_nlmsg_len = {order: Plan(nlmsghdr(order)).reader(("nlmsg_len",)) for order in "<>"}
_nfgenmsg = Plan(NFGENMSG).unpack
_link_headers = {
    linktype: (Plan(schema).size, Plan(schema).reader(("sll_hatype", "sll_protocol")))
    for linktype, schema in (
        (LINKTYPE_NETLINK, LINK_HEADER),
        (LINKTYPE_LINUX_SLL, LINK_HEADER),
        (LINKTYPE_LINUX_SLL2, LINK_HEADER_2),
    )
}
_ethernet = Plan(packet.ETHERNET)


def _readers() -> dict[int, tuple[str, int, Any]]:
    """number -> (name, size, unpack) of the attributes of fixed size; size -1 for raw bytes."""
    found: dict[int, tuple[str, int, Any]] = {}
    for number, (name, kind) in ATTRIBUTES.items():
        if isinstance(kind, dict) or kind is OCTETS or kind is TEXT:
            found[number] = (name, -1, None)
        else:
            plan = Plan(kind if isinstance(kind, Struct) else Struct("value" / kind))
            found[number] = (name, plan.size, plan.unpack)
    return found


READERS = _readers()


def _head(order: str) -> bytes:
    """The pattern of nlmsg_len, at most LIMIT or so, and nlmsg_type of a log message."""
    kind = re.escape(NFULNL_MSG_PACKET.to_bytes(2, BYTEORDER[order]))
    return (rb"..[\x00-\x10]\x00" if order == "<" else rb"\x00[\x00-\x10]..") + kind


def _needle(order: str) -> bytes:
    """The type of a log message, and that before it; the search begins with what is seldom."""
    return rb"%b(?<=%b)" % (
        re.escape(NFULNL_MSG_PACKET.to_bytes(2, BYTEORDER[order])),
        _head(order),
    )


PLAUSIBLE = 4
"""So many attributes tell whether a captured packet is a message."""
MOST_ATTRIBUTES = 32
"""A message that is found in damage has fewer: each of those there are once, and some to come."""
UNUSED = 64
"""No attribute will have such a number soon."""


def log_message(order: str) -> Struct:
    """The construct schema of a whole log message; the reference that the tests hold us to."""
    return message_schema(ATTRIBUTES, order)


def config_message(order: str) -> Struct:
    """The construct schema of a whole config message."""
    return message_schema(CONFIG, order)


def config(order: str, group: int, attrs: dict[str, Any], **head: int) -> bytes:
    """A config message, e.g. config("<", 5, {"NFULA_CFG_CMD": NFULNL_CFG_CMD_BIND}, flags=5).

    attrs   by their names in CONFIG, in the order in which they are to be sent
    head    family, flags, seq, pid
    """
    numbers = {name: number for number, (name, _) in CONFIG.items()}
    pairs = [(numbers[name], value) for name, value in attrs.items()]
    return build(CONFIG, order, NFULNL_MSG_CONFIG, group, pairs, **head)


def log(order: str, group: int, attrs: list[tuple[int, Any]], **head: int) -> bytes:
    """A log message as the kernel would send it, for tests; `attrs` are (number, value)."""
    return build(ATTRIBUTES, order, NFULNL_MSG_PACKET, group, attrs, **head)


class Stream(BaseStream):
    """Netlink messages in the byte order of the machine that received them.

    Messages without a log record (NLMSG_DONE, acks, config messages) are counted in `other`.
    """

    source = "nflog"
    copies = True
    bare = frozenset((LINKTYPE_NFLOG,))

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.layout = "nfulnl-le" if order == "<" else "nfulnl-be"
        self.needle, self.needle_at, self.needle_size = re.compile(_needle(order), re.S), 4, 2
        self._header = _nlmsghdr[order]
        self._attribute = nlattr[order]
        self._size_and_kind = CStruct(f"{order}IH").unpack_from
        self._usual = Usual(self, order, ATTRIBUTES, READERS, LINKTYPE_NFLOG)

    def measure(self, data: bytes, pos: int) -> int:
        if pos + 16 > len(data):
            return pos + 16
        size, kind, _, _, _ = self._header(data, pos)
        if kind >> 8 not in (0, NFNL_SUBSYS_ULOG) or (kind < 0x100 and kind > NLMSG_OVERRUN):
            raise self.error(pos, "nlmsg_type", f"{kind:#06x}", f"{NFULNL_MSG_PACKET:#06x} (a log"
                             " message) or a control message")  # fmt: skip
        if not 16 <= size <= LIMIT or (kind >> 8 and size < 20) or kind == 0:
            raise self.error(pos, "nlmsg_len", size, f"16 (a log message: 20) to {LIMIT}")
        return self._after(data, pos + size) if size & 3 else pos + int(size)

    def plain(self, data: bytes, pos: int, items: list[Item]) -> int:
        last, read, add = len(data) - 20, self._size_and_kind, items.append
        while pos <= last:
            size, kind = read(data, pos)
            end = pos + size
            if kind != NFULNL_MSG_PACKET or size & 3 or not 20 <= size <= LIMIT or end > last + 20:
                break
            add(Message(pos, end))
            pos = end
        return pos

    def _after(self, data: bytes, end: int) -> int:
        """Where the message after one of odd length begins: padded, or a datagram begun anew."""
        padded = align(end)
        if end > len(data):
            return end
        if padded + 20 > len(data):
            return min(padded, len(data)) if self.final else padded + 20
        for pos in (padded, end):
            size, kind, *_ = self._header(data, pos)
            if kind in (NFULNL_MSG_PACKET, NLMSG_DONE) and size >= 16:
                return pos
        return padded

    def is_cut(self, data: bytes, pos: int) -> bool:
        """As Stream.is_cut: the attributes fill what is there, and none is NFULA_UNSPEC.

        Behind the end of a message of which only the length is wrong, the next one's nlmsg_len
        stands where an attribute would begin: as nla_type 0, or as nla_len 0.
        """
        at = pos + 20
        if len(data) < at or self._size_and_kind(data, pos)[1] != NFULNL_MSG_PACKET:
            return True
        end = pos + int(self._size_and_kind(data, pos)[0])
        while at + 4 <= len(data):
            size, kind = self._attribute(data, at)
            if size < 4 or at + size > end or not kind & NLA_TYPE_MASK:
                return False
            at += align(size)
        return True

    def begins(self, data: bytes, pos: int, final: bool) -> bool | None:
        if pos + 24 <= len(data):  # the cheapest way to tell
            size, kind = self._size_and_kind(data, pos)
            if kind == NFULNL_MSG_PACKET and size >= 24:
                first, _ = self._attribute(data, pos + 20)
                if size > LIMIT or not 4 <= first <= size - 20:
                    return False
        answer = super().begins(data, pos, final)
        if not answer:
            return answer
        # two bytes tell little: the attributes must fill the message too; a kernel writes few
        end, at = pos + int(self._header(data, pos)[0]), pos + 20
        for _ in range(MOST_ATTRIBUTES):
            if end - at < 4:
                return at >= end
            size, _kind = self._attribute(data, at)
            if size < 4 or at + size > end:
                return False
            at += align(size)
        return False

    def accept(self, data: bytes, start: int, end: int, items: list[Item]) -> None:
        size, kind, *_ = self._header(data, start)
        if kind == NFULNL_MSG_PACKET:
            items.append(Message(start, start + size))
        elif kind == NLMSG_OVERRUN:
            items.append(Dropped(self.base + start, None, "NLMSG_OVERRUN"))
        else:
            self.other += 1

    def captured(self, data: bytes, start: int, end: int, origin: Any, items: list[Item]) -> None:
        if origin.linktype in self.bare:
            items.append(Message(start, end, origin))
            return
        size, read = _link_headers[origin.linktype]
        if end - start < size:
            raise self.error(start, "link header", f"{end - start} bytes", size)
        hatype, protocol = read(data, start)
        if hatype != ARPHRD_NETLINK and origin.linktype != LINKTYPE_NETLINK:
            self.foreign += 1
            return
        if protocol != NETLINK_NETFILTER:
            self.other += 1
            return
        start += size
        while start < end:
            if end - start < 16:
                if origin.cut:
                    break
                raise self.error(start, "nlmsghdr", f"{end - start} bytes left", "16")
            size, kind, *_ = self._header(data, start)
            if size < 16 or (start + size > end and not origin.cut):
                raise self.error(start, "nlmsg_len", size, f"16 to {end - start}")
            if kind == NFULNL_MSG_PACKET:
                items.append(Message(start, min(end, start + size), origin))
            else:
                self.other += 1
            start += align(size)
        if end + origin.cut - start > _BATCH_END:  # more than what ends a batch
            reason = f"{end + origin.cut - start} bytes of the datagram were not captured"
            items.append(Dropped(self.base + end, None, reason))

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        at = start + 4
        if linktype in _link_headers:
            header, read = _link_headers[linktype]
            at = start + header
            if at + 16 > end:
                return False
            if at + 16 > len(data):
                return None
            hatype, protocol = read(data, start)
            if protocol != NETLINK_NETFILTER or (
                hatype != ARPHRD_NETLINK and linktype != LINKTYPE_NETLINK
            ):
                return True  # of another subsystem
            size, kind, *_ = self._header(data, at)
            if size < 16 or at + size > end + 3:
                return False
            if kind != NFULNL_MSG_PACKET:
                return True
            at, end = at + 20, at + size
        seen: set[int] = set()
        for _ in range(PLAUSIBLE):
            if end - at < 4:
                return bool(seen)
            if at + 4 > len(data):
                return None
            size, kind = self._attribute(data, at)
            kind &= NLA_TYPE_MASK
            least = READERS[kind][1] if kind in READERS else 0
            if size < 4 or size - 4 < least or kind in seen or not 0 < kind < UNUSED:
                return False
            if at + size > end:  # so may a packet that was cut end
                return bool(kind == NFULA_PAYLOAD)
            seen.add(kind)
            at += align(size)
        return True

    def raw(self, data: bytes, message: Message) -> bytes:
        """The netlink message, padded to 4 bytes; one captured without nlmsghdr is given one.

        One that was cut off by the capture is not padded: nlmsg_len is its length before that.
        """
        body, origin = data[message.start : message.end], message.origin
        cut = 0 if origin is None else origin.cut
        if origin is not None and origin.linktype == LINKTYPE_NFLOG:
            size = 16 + len(body) + cut
            body = _make_nlmsghdr[self.order](size, NFULNL_MSG_PACKET, 0, 0, 0) + body
        elif cut:
            cut = self._header(data, message.start)[0] - len(body)
        return body if cut > 0 else body + bytes(-len(body) % 4)

    def complete(self, data: bytes, message: Message) -> bytes:
        raw = self.raw(data, message)
        if message.origin is None or not message.origin.cut:
            return raw
        return completed(raw, self.order)

    def _scan(
        self, data: bytes, pos: int, end: int, cut: bool = False
    ) -> tuple[list[Any], list[tuple[int, bytes]]]:
        """The attributes in data[pos:end]: values by number, and those without a place there.

        cut   the capture kept only the first bytes of the message: so may the last attribute end
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
        numbers: Numbers | None = None,
    ) -> None:
        self._usual.records(data, messages, raw, found, numbers)

    def copied(self, data: bytes, messages: Iterable[Message], numbers: Numbers) -> Copied | None:
        return self._usual.copied(data, messages, numbers)

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start, end, origin = message.start, message.end, message.origin
        bare = origin is not None and origin.linktype == LINKTYPE_NFLOG
        at = start if bare else start + 16
        if at + 4 > end:
            raise self.error(start, "nfgenmsg", f"{end - at} bytes left", "4")
        family, version, group = _nfgenmsg(data, at)
        slots, unknown = self._scan(data, at + 4, end, origin is not None and origin.cut > 0)
        (
            _, hdr, mark, stamp, indev, outdev, physindev, physoutdev, hwaddr, payload, prefix,
            uid, seq, seq_global, gid, hwtype, hwheader, hwlen, ct, ct_info, vlan, l2hdr,
        ) = slots  # fmt: skip
        interface = self.interface_name
        extra: dict[str, Any] = {"nfgen_family": family}
        if version:
            extra["version"] = version
        hw_protocol, hook_number = hdr if hdr is not None else (0, None)
        hw_protocol = hw_protocol or ETHERTYPES.get(family, 0)
        hook: str | int | None = None
        if hook_number is not None:
            known = HOOKS.get(family, ())
            hook = known[hook_number] if hook_number < len(known) else hook_number
        values = no_values()
        values[AT_EXTRA] = extra
        tags: tuple[Vlan, ...] = ()
        if vlan is not None:
            tags = self._vlan(vlan, at, extra, unknown)
        if payload:
            ethernet, more, network, ethertype = _opened(
                family, hook_number, hw_protocol, payload, hwtype, hwheader, l2hdr
            )
            if ethernet and hwheader is None and l2hdr is None:
                hwheader = payload[:ethernet]
            tags += more
            if network:
                payload = payload[network:]
            packet.put_headers(values, payload, 0, len(payload), ethertype)
            extra = values[AT_EXTRA]
        else:
            values[AT_FAMILY] = packet.FAMILIES.get(hw_protocol, hw_protocol) or None
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
                entry = nfct.entry(ct, 0, len(ct), self.order, self.base + start, flaws)
                extra["NFULA_CT"] = entry
            except DecodeError as error:
                flaws.append(error)
                unknown.append((NFULA_CT, ct))
            for flaw in flaws:
                self.flawed(start, flaw.field, flaw.found, flaw.expected)
        if ct_info is not None:
            extra["NFULA_CT_INFO"] = nfct.INFO.get(ct_info[0], ct_info[0])
        if unknown:
            extra["unknown"] = [[number, value.hex()] for number, value in unknown]
        address = None
        if hwaddr is not None:
            size, octets = hwaddr
            address = packet.mac(octets[:size]) if 0 < size <= 8 else None
            if size > 8:
                extra["NFULA_HWADDR"] = [size, octets.hex()]
        values[AT_SOURCE], values[AT_LAYOUT] = "nflog", self.layout
        values[AT_EXTRA], values[AT_PAYLOAD] = extra, payload or None
        if not self.live:
            values[AT_OFFSET] = self.base + start
        if stamp is not None:
            values[AT_TIMESTAMP] = self._nanoseconds(start, stamp, extra)
        values[AT_OBSERVED] = self.observed_ns if origin is None else origin.observed_ns
        if isinstance(hook, str):
            values[AT_DIRECTION] = DIRECTIONS.get(hook)
        values[AT_HOOK], values[AT_GROUP] = hook, str(group)
        if prefix is not None:
            values[AT_PREFIX] = text(prefix) or None
        for at, number in (
            (AT_INDEV, indev), (AT_OUTDEV, outdev), (AT_PHYSINDEV, physindev),
            (AT_PHYSOUTDEV, physoutdev),
        ):  # fmt: skip
            if number is not None:
                values[at] = interface(number[0])
        for at, number in (
            (AT_SEQ, seq), (AT_MARK, mark), (AT_UID, uid), (AT_GID, gid), (AT_HWTYPE, hwtype)
        ):  # fmt: skip
            if number is not None:
                values[at] = number[0]
        values[AT_HWADDR], values[AT_VLAN] = address, tags or None
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
        found: dict[str, Any] = {}
        try:
            found = to_dict(_VLAN, nested, 0, len(nested), self.order, self.base + at, flaws)
        except DecodeError as error:
            flaws.append(error)
            unknown.append((NFULA_VLAN, nested))
        for flaw in flaws:
            self.flawed(at, flaw.field, flaw.found, flaw.expected)
        if "unknown" in found:
            extra["NFULA_VLAN"] = found["unknown"]
        if "NFULA_VLAN_TCI" not in found:
            return ()
        return (packet.vlan_tag(found["NFULA_VLAN_TCI"], found.get("NFULA_VLAN_PROTO")),)


LINK_HEADER_HOOKS = tuple((family, 1) for family in LINK_FIRST)
"""nfgen_family and number of the hooks that log from the link header on."""


def _opened(
    family: int,
    hook: int | None,
    hw_protocol: int,
    payload: bytes,
    hwtype: tuple[int] | None,
    hwheader: bytes | None,
    l2hdr: bytes | None,
) -> tuple[int, tuple[Vlan, ...], int, int]:
    """Where the network header of a payload begins, and what is before it.

    Gives the size of the Ethernet header, the VLAN tags, the offset and the EtherType.
    """
    ethernet = _ethernet_size(family, hook, payload, hw_protocol, l2hdr)
    inner = payload[ethernet:] if ethernet else payload
    if not hw_protocol:
        header = hwheader if hwheader is not None else l2hdr or payload[:ethernet]
        hw_protocol = _ethertype(hwtype, header) or packet.seeming(inner)
    tags, network, ethertype = packet.inner_tags(inner, hw_protocol)
    return ethernet, tags, ethernet + network, ethertype


def _ethernet_size(
    family: int, hook: int | None, payload: bytes, hw_protocol: int, l2hdr: bytes | None
) -> int:
    """How many bytes of Ethernet header the payload begins with.

    netdev egress and ARP output log from the link header on, everything else from the network
    header; a device without a link header has none there either, so the bytes are asked.
    """
    size = _ethernet.size
    if (family, hook) not in LINK_HEADER_HOOKS or len(payload) < size:
        return 0
    if l2hdr is not None:
        return size if payload.startswith(l2hdr) else 0
    *_, kind = _ethernet.unpack(payload, 0)  # below 0x600 it is the length of an 802.3 frame
    if not hw_protocol:
        return size if kind in (packet.seeming(payload[size:]), *_TAGS, packet.ETH_P_ARP) else 0
    return size if kind == hw_protocol or (kind < 0x600 and hw_protocol < 0x600) else 0


_TAGS = (packet.ETH_P_8021Q, packet.ETH_P_8021AD)


def _ethertype(hwtype: tuple[int] | None, header: bytes) -> int:
    """The EtherType in a header of Ethernet; 0 for another header, and for one of a frame."""
    if len(header) != _ethernet.size:
        return 0
    if hwtype is not None and hwtype[0] not in (ARPHRD_ETHER, ARPHRD_LOOPBACK):
        return 0
    *_, kind = _ethernet.unpack(header, 0)
    return int(kind) if kind in packet.FAMILIES or kind in _TAGS else 0


def byte_order(body: bytes) -> str:
    """The byte order of a message without nlmsghdr, by its first attribute's type.

    The kernel puts NFULA_PACKET_HDR, 1, first; a type of 256 or more is the other order.
    """
    return "<" if len(body) < 8 or body[7] & 0x3F == 0 else ">"


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """The layout of a packet of a capture file, whose bytes tell the byte order."""
    if linktype == LINKTYPE_NFLOG:
        order = byte_order(packet)
    else:  # the length of the message is the smaller of the two readings
        at = _link_headers[linktype][0]
        size = packet[at : at + 4]
        order = "<" if int.from_bytes(size, "little") <= int.from_bytes(size) else ">"
    return "nfulnl-le" if order == "<" else "nfulnl-be"


def capture(message: bytes, layout: str) -> tuple[bytes, str, int]:
    """The packet as which a capture file holds a message of `Stream.raw`, its byte order and its
    original length.

    A packet has no nlmsghdr and no padding. Of bytes that are no message the rest is kept.
    """
    order = "<" if layout == "nfulnl-le" else ">"
    if len(message) >= 16:
        (size,) = _nlmsg_len[order](message, 0)
        if size > 16:
            packet = message[16:size]
            return packet, order, max(size - 16, len(packet))
    return message[16:], order, max(len(message) - 16, 0)


def completed(message: bytes, order: str) -> bytes:
    """A message of `Stream.raw` that a capture cut off, with the lengths of what is left of it.

    Of an attribute that was cut off only NFULA_PAYLOAD is kept, whose packet tells its own length.
    """
    unpack, pos = nlattr[order], 20
    while len(message) - pos >= 4:
        size, kind = unpack(message, pos)
        if size < 4:
            break
        if pos + size > len(message):
            if kind & NLA_TYPE_MASK == NFULA_PAYLOAD:
                head = nlattr_head(order).build({"nla_len": len(message) - pos, "nla_type": kind})
                message = message[:pos] + head + message[pos + 4 :]
                pos = len(message)
            break
        pos += align(size)
    message = message[:pos]
    head = len(message).to_bytes(4, BYTEORDER[order])
    return head + message[4:] + bytes(-len(message) % 4)


def described(layout: str, log: str) -> str:
    """The layout's name as a capture file has to say it."""
    return layout


_INTERFACES = {4: "indev", 5: "outdev", 6: "physindev", 7: "physoutdev"}


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """The numbers of the interfaces in a message of `Stream.raw`, by the record's names."""
    unpack = nlattr["<" if layout == "nfulnl-le" else ">"]
    found, pos, end = {}, 20, len(message)
    while end - pos >= 8:
        size, kind = unpack(message, pos)
        name = _INTERFACES.get(kind & NLA_TYPE_MASK)
        if name is not None:
            found[name] = int.from_bytes(message[pos + 4 : pos + 8])
        elif size < 4:
            break
        pos += align(size)
    return found


def stream(name: str, head: bytes = b"") -> Stream:
    """The stream of a layout name, nfulnl-le or nfulnl-be; ValueError for another."""
    orders = {"nfulnl-le": "<", "nfulnl-be": ">"}
    if name not in orders:
        raise ValueError(f"no layout {name!r}; there are {' and '.join(orders)}")
    return Stream(orders[name])


def known_layouts() -> list[str]:
    """The names of all layouts."""
    return ["nfulnl-le", "nfulnl-be"]


CHAIN = 3
"""How many messages that follow each other make it sure that those of another layout begin."""


def resumes() -> list[Needle]:
    """What a log message carries, in either byte order."""
    return [Needle(re.compile(_needle(order), re.S), 4, 2) for order in "<>"]


def resume(data: bytes, pos: int, final: bool, before: BaseStream) -> list[BaseStream] | None:
    """The stream of the byte order in which messages follow each other from `pos` on."""
    for order in "<>":
        kind = NFULNL_MSG_PACKET.to_bytes(2, BYTEORDER[order])
        if not data.startswith(kind, pos + 4):
            continue
        stream, at = _measuring(order), pos
        stream.final = final
        for count in range(CHAIN):
            answer = stream.begins(data, at, final)
            if answer is None:
                return None
            if not answer:
                break
            at = stream.measure(data, at)
            if count + 1 == CHAIN or at == len(data):
                return [Stream(order)]
    return []


@cache
def _measuring(order: str) -> Stream:
    """A stream that only measures: to make one takes as long as to measure a thousand messages."""
    return Stream(order)


def probe(head: bytes, final: bool) -> list[Guess]:
    """Try both byte orders on the first bytes of an input."""
    guesses = []
    for order, name in (("<", "nfulnl-le"), (">", "nfulnl-be")):
        trial, messages, explained = Stream(order), 0, 0
        trial.lenient = True
        for item in trial.split(head, final):
            if isinstance(item, Message):
                try:
                    trial.decode(head, item)
                except DecodeError:
                    continue
                messages += 1
                explained += align(item.end - item.start)
        if messages:
            explained = min(len(head), explained + 20 * trial.other)
            guesses.append(
                Guess(
                    stream=partial(Stream, order),
                    container="netlink",
                    layouts=[name],
                    messages=messages,
                    explained=explained,
                    evidence=[
                        f"{messages} log messages whose attributes fill them exactly, over"
                        f" {explained} of {len(head)} bytes"
                    ],
                )
            )
    return sorted(guesses, key=lambda g: -g.explained)[:1]


def cut(data: bytes) -> str | None:
    """What the bytes lack, if they end within a first log message."""
    for order in "<>":
        if len(data) < 6:
            continue
        size = int.from_bytes(data[:4], BYTEORDER[order])
        kind = int.from_bytes(data[4:6], BYTEORDER[order])
        if kind == NFULNL_MSG_PACKET and max(20, len(data) + 1) <= size <= LIMIT:
            return cut_off("the first message", size, len(data))
    return None


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The message of `Stream.raw` without addresses and payload.

    Zeros are what nobody knows: unknown attributes, padding, and what follows a length that does
    not fit. The last attribute may be cut off.
    """
    order = "<" if layout == "nfulnl-le" else ">"
    end = min(len(message), int.from_bytes(message[:4], BYTEORDER[order]))
    out = bytearray(message[:20].ljust(len(message), b"\0"))
    places: list[tuple[int, int, int]] = []
    pos = 20
    while end - pos >= 4:
        size, kind = nlattr[order](message, pos)
        if size < 4:
            break
        out[pos : pos + 4] = message[pos : pos + 4]
        places.append((kind & NLA_TYPE_MASK, pos + 4, min(pos + size, end)))
        pos += align(size)
    first: dict[int, tuple[int, int]] = {}  # what comes again does not count
    for kind, start, stop in places:
        if kind in ATTRIBUTES and kind not in first and stop - start >= READERS[kind][1]:
            first[kind] = start, stop
    attributes = {kind: message[start:stop] for kind, (start, stop) in first.items()}
    for kind, (start, stop) in first.items():
        out[start:stop] = _scrubbed(kind, attributes, message[16], order, scrubber)
    return bytes(out)


def _scrubbed(
    kind: int, attributes: dict[int, bytes], family: int, order: str, scrubber: Scrubber
) -> bytes:
    """The value of an attribute, whose number is `kind`; `attributes` are those of the message."""
    value = attributes[kind]
    hwtype = int.from_bytes(attributes[NFULA_HWTYPE][:2]) if NFULA_HWTYPE in attributes else None
    protocol = int.from_bytes(attributes.get(NFULA_PACKET_HDR, b"")[:2])
    if kind == NFULA_PAYLOAD:
        return _scrubbed_payload(attributes, family, scrubber)
    if kind == NFULA_HWADDR:
        length = min(int.from_bytes(value[:2]), 8)
        address = scrubber.link_address(value[4 : 4 + length], hwtype)
        return (value[:2] + bytes(2) + address).ljust(len(value), b"\0")
    if kind in (NFULA_HWHEADER, NFULA_L2HDR):
        if hwtype is None and len(value) == 14:  # a bridge's port, if this is a header of Ethernet
            kind_of_frame = int.from_bytes(value[12:])
            known = kind_of_frame == protocol or _ethertype(None, value)
            hwtype = ARPHRD_ETHER if known or max(kind_of_frame, protocol) < 0x600 else None
        return scrubber.link_header(value, hwtype)
    return _scrubbed_addresses(ATTRIBUTES[kind], value, order, scrubber)


def _scrubbed_payload(attributes: dict[int, bytes], family: int, scrubber: Scrubber) -> bytes:
    """The payload; it begins with Ethernet's header, VLAN tags or the network header."""
    values = {
        n: READERS[n][2](attributes[n], 0)
        for n in (NFULA_PACKET_HDR, NFULA_HWTYPE)
        if n in attributes
    }
    hw_protocol, hook = values.get(NFULA_PACKET_HDR, (0, None))
    payload = attributes[NFULA_PAYLOAD]
    ethernet, _, network, ethertype = _opened(
        family, hook, hw_protocol or ETHERTYPES.get(family, 0), payload,
        values.get(NFULA_HWTYPE), attributes.get(NFULA_HWHEADER), attributes.get(NFULA_L2HDR),
    )  # fmt: skip
    head = scrubber.link_header(payload[:ethernet]) + payload[ethernet:network]
    data = payload[network:]
    if ethertype == packet.ETH_P_ARP:
        return head + scrubber.arp(data)
    if ethertype in packet.FAMILIES:
        return head + scrubber.packet(data, 4 if ethertype == packet.ETH_P_IP else 6)
    return head + scrubber.payload(data)


def _scrubbed_addresses(
    attribute: tuple[str, Any], value: bytes, order: str, scrubber: Scrubber
) -> bytes:
    """An attribute's value with other addresses in it, however deep."""
    name, kind = attribute
    if kind in (PADDING, OCTETS):
        return value if name == "CTA_LABELS" else bytes(len(value))
    if kind in (IPV4_ADDRESS, IPV6_ADDRESS):
        return scrubber.address(value) if len(value) in (4, 16) else bytes(len(value))
    if kind is TEXT:
        return value.split(b"\0", 1)[0].ljust(len(value), b"\0")
    if not isinstance(kind, dict):
        size = kind.sizeof()
        return value[:size].ljust(len(value), b"\0") if len(value) >= size else bytes(len(value))
    out = bytearray(len(value))
    try:
        parts = scan(value, 0, len(value), order, 0)
    except DecodeError:
        return bytes(len(value))
    for number, start, stop in parts:
        out[start - 4 : start] = value[start - 4 : start]
        if number in kind:
            part = value[start:stop]
            out[start:stop] = _scrubbed_addresses(kind[number], part, order, scrubber)
    return bytes(out)
