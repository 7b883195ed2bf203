"""Netlink messages and their attributes: the envelope that NFLOG and conntrack share.

A message is `struct nlmsghdr` in the byte order of the machine, then (in netfilter's subsystems)
`struct nfgenmsg`, then attributes: length and type in the machine's order, the value, and padding
to 4 bytes. Values are in network order. A table says what the attributes hold:

    {number: (name, type)}

The type is a construct schema of fixed size, another table (nested attributes), TEXT, OCTETS or
PADDING. `attributes` makes a construct schema of a table, for parsing and building. `to_dict` reads
by the same tables, faster and with errors that name the place; `scan` only lists the attributes.

Sources: linux/netlink.h, linux/rtnetlink.h, linux/netfilter/nfnetlink.h, netlink(7), RFC 3549.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from construct import (
    Aligned,
    Bytes,
    Construct,
    Default,
    FocusedSeq,
    GreedyBytes,
    GreedyRange,
    Int8ub,
    Int16ub,
    Int16ul,
    Int32sb,
    Int32sl,
    Int32ub,
    Int32ul,
    NullTerminated,
    Prefixed,
    Struct,
    Switch,
    Terminated,
)

from pylog.errors import DecodeError
from pylog.formats.addresses import addresses
from pylog.formats.plan import BYTEORDER, Plan
from pylog.record import json_ready

LINKTYPE_NETLINK, LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2 = 253, 113, 276
ARPHRD_NETLINK = 824

NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 2, 3, 4
NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_CTNETLINK_EXP, NFNL_SUBSYS_ULOG = 1, 2, 4
NFNL_SUBSYS_ACCT, NFNL_SUBSYS_NFTABLES = 7, 10
"""Of NETLINK_NETFILTER: the upper byte of nlmsg_type."""
RTM_NEWLINK, RTM_DELLINK, IFLA_IFNAME = 16, 17, 3
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_CREATE = 0x1, 0x2, 0x4, 0x400
NLA_TYPE_MASK = 0x3FFF
"""Without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

TEXT = NullTerminated(GreedyBytes, require=False)
"""A string, with or without the NUL that the kernel counts."""
OCTETS = GreedyBytes
IPV4_ADDRESS, IPV6_ADDRESS = Bytes(4), Bytes(16)
PADDING = Bytes(0)
"""An empty attribute that aligns the 64-bit value of the next (nla_align_64bit)."""

Table = dict[int, tuple[str, Any]]


LINK_HEADER = Struct(
    "sll_pkttype" / Int16ub, "sll_hatype" / Int16ub, "unused" / Default(Bytes(10), bytes(10)),
    "sll_protocol" / Int16ub,
)  # fmt: skip
"""The header before the messages in LINKTYPE_NETLINK; sll_protocol is the netlink family.

Linux cooked captures (LINKTYPE_LINUX_SLL) of nlmon have the same header, with ARPHRD_NETLINK.
"""
LINK_HEADER_2 = Struct(
    "sll_protocol" / Int16ub, "_pad" / Default(Bytes(6), bytes(6)), "sll_hatype" / Int16ub,
    "_pad" / Default(Bytes(10), bytes(10)),
)  # fmt: skip
"""The same for LINKTYPE_LINUX_SLL2."""


@cache
def nlmsghdr(order: str) -> Struct:
    """struct nlmsghdr; `order` is < or >."""
    u32, u16 = (Int32ul, Int16ul) if order == "<" else (Int32ub, Int16ub)
    return Struct(
        "nlmsg_len" / u32,
        "nlmsg_type" / u16,
        "nlmsg_flags" / Default(u16, 0),
        "nlmsg_seq" / Default(u32, 0),
        "nlmsg_pid" / Default(u32, 0),
    )


NFGENMSG = Struct(
    "nfgen_family" / Default(Int8ub, 0), "version" / Default(Int8ub, 0), "res_id" / Int16ub
)
"""struct nfgenmsg; res_id, the group of NFLOG, is in network order."""


@cache
def nlmsgerr(order: str) -> Struct:
    """struct nlmsgerr, the body of NLMSG_ERROR: a negative errno (0: an ack), and the header of the
    message that is answered.
    """
    return Struct("error" / (Int32sl if order == "<" else Int32sb), "msg" / nlmsghdr(order))


@cache
def nlattr_head(order: str) -> Struct:
    """struct nlattr, which begins an attribute."""
    u16 = Int16ul if order == "<" else Int16ub
    return Struct("nla_len" / u16, "nla_type" / u16)


@cache
def ifinfomsg(order: str) -> Struct:
    """struct ifinfomsg, which begins a message about a network interface."""
    number = Int32sl if order == "<" else Int32sb
    return Struct("_family" / Default(Bytes(4), bytes(4)), "ifi_index" / number,
                  "_flags" / Default(Bytes(8), bytes(8)))  # fmt: skip


_ifinfomsg = {order: Plan(ifinfomsg(order)) for order in "<>"}
_verdict = {order: (Plan(nlmsghdr(order)).unpack, Plan(nlmsgerr(order)).unpack) for order in "<>"}


def attributes(table: Table, order: str) -> Construct[Any, Any]:
    """The construct schema of a run of attributes: a list of {nla_type, value}.

    The value of an attribute that is not in the table is bytes. The last attribute must be padded.
    A schema is made once for each table, which must be a constant of its module.
    """
    made = _made.get((id(table), order))
    if made is not None and made[0] is table:
        return made[1]
    u16 = Int16ul if order == "<" else Int16ub
    values = {
        number: attributes(kind, order) if isinstance(kind, dict) else kind
        for number, (_, kind) in table.items()
    }
    attribute = Struct(
        "nla_type" / u16,
        "value" / Switch(lambda this: this.nla_type & NLA_TYPE_MASK, values, default=GreedyBytes),
    )
    padded = Aligned(4, Prefixed(u16, attribute, includelength=True))
    schema: Construct[Any, Any] = FocusedSeq("found", "found" / GreedyRange(padded), Terminated)
    _made[id(table), order] = table, schema
    return schema


_made: dict[tuple[int, str], tuple[Table, Construct[Any, Any]]] = {}


def build(
    table: Table,
    order: str,
    nlmsg_type: int,
    group: int,
    attrs: list[tuple[int, Any]],
    *,
    family: int = 0,
    flags: int = 0,
    seq: int = 0,
    pid: int = 0,
) -> bytes:
    """A message with its length filled in; `attrs` are (number, value as the table's type)."""
    genmsg = NFGENMSG.build({"nfgen_family": family, "version": 0, "res_id": group})
    body = attributes(table, order).build([{"nla_type": n, "value": v} for n, v in attrs])
    head = {"nlmsg_len": 20 + len(body), "nlmsg_type": nlmsg_type, "nlmsg_flags": flags,
            "nlmsg_seq": seq, "nlmsg_pid": pid}  # fmt: skip
    return nlmsghdr(order).build(head) + genmsg + body


def numbered(message: bytes, order: str, flags: int, seq: int) -> bytes:
    """The message with other nlmsg_flags and nlmsg_seq."""
    byteorder = BYTEORDER[order]
    head = flags.to_bytes(2, byteorder) + (seq & 0xFFFFFFFF).to_bytes(4, byteorder)
    return message[:6] + head + message[12:]


def verdict(data: bytes, order: str) -> tuple[int, int] | None:
    """The nlmsg_seq that an NLMSG_ERROR message answers, and the errno (0 for an ack).

    None for any other message.
    """
    if len(data) < 36 or _verdict[order][0](data, 0)[1] != NLMSG_ERROR:
        return None
    error, *_, seq, _pid = _verdict[order][1](data, 16)
    return seq, -error


def links(data: bytes, order: str) -> dict[int, str]:
    """The names of interfaces, by number, in RTM_NEWLINK and RTM_DELLINK messages."""
    header, link = _verdict[order][0], _ifinfomsg[order]
    names, pos = {}, 0
    while len(data) - pos >= 16:
        size, kind, *_ = header(data, pos)
        end = pos + size
        if size < 16 or end > len(data):
            break
        if kind in (RTM_NEWLINK, RTM_DELLINK) and size >= 16 + link.size:
            (index,) = link.unpack(data, pos + 16)
            for number, at, stop in scan(data, pos + 16 + link.size, end, order, 0):
                if number == IFLA_IFNAME:
                    names[index] = text(data[at:stop])
        pos += align(size)
    return names


def align(size: int) -> int:
    """NLMSG_ALIGN and NLA_ALIGN: up to a multiple of 4."""
    return (size + 3) & ~3


nlattr = {order: Plan(nlattr_head(order)).unpack for order in "<>"}
"""struct nlattr: (data, offset) -> length and type with its flags, by byte order."""


def scan(data: bytes, start: int, end: int, order: str, base: int) -> list[tuple[int, int, int]]:
    """The attributes in data[start:end] as (type without flags, value's start, value's end).

    base   offset of data[0] in the input, for the DecodeError of a length that does not fit
    """
    unpack = nlattr[order]
    found = []
    while start < end:
        if end - start < 4:
            raise DecodeError("nlattr", f"{end - start} bytes left", "at least 4", base + start)
        size, kind = unpack(data, start)
        if size < 4 or start + size > end:
            raise DecodeError("nla_len", size, f"4 to {end - start}", base + start)
        found.append((kind & NLA_TYPE_MASK, start + 4, start + size))
        start += (size + 3) & ~3
    return found


@cache
def _plan(schema: Any) -> tuple[Plan, bool]:
    return Plan(Struct("v" / schema) if not isinstance(schema, Struct) else schema), isinstance(
        schema, Struct
    )


def to_dict(
    table: Table,
    data: bytes,
    start: int,
    end: int,
    order: str,
    base: int,
    flaws: list[DecodeError] | None = None,
) -> dict[str, Any]:
    """Attributes as a JSON-ready mapping under the kernel's names.

    Numbers stay numbers (text above 2^53), addresses and strings become text, other bytes hex, and
    nested attributes nested mappings. An attribute that is not in the table, or that comes again,
    is kept in "unknown" as [number, hex]. Padding is left out; so is any empty attribute where a
    number is expected. Raises DecodeError for lengths that do not fit. With a list of `flaws` it
    does so only for the lengths of these attributes themselves; other errors are added to the list,
    and the attribute is kept in "unknown".
    """
    found: dict[str, Any] = {}
    for number, at, stop in scan(data, start, end, order, base):
        name, kind = table.get(number, ("", None))
        fixed = kind is not None and not isinstance(kind, dict) and kind not in (TEXT, OCTETS)
        if kind is PADDING or (at == stop and fixed):
            continue
        try:
            if kind is None or name in found:
                found.setdefault("unknown", []).append([number, data[at:stop].hex()])
            elif isinstance(kind, dict):
                found[name] = to_dict(kind, data, at, stop, order, base, flaws)
            elif kind is TEXT:
                found[name] = text(data[at:stop])
            elif kind is OCTETS:
                found[name] = data[at:stop].hex()
            else:
                found[name] = _fixed(name, kind, data, at, stop, base)
        except DecodeError as error:
            if flaws is None:
                raise
            flaws.append(error)
            found.setdefault("unknown", []).append([number, data[at:stop].hex()])
    return found


def _fixed(name: str, kind: Any, data: bytes, at: int, stop: int, base: int) -> Any:
    plan, is_struct = _plan(kind)
    if stop - at < plan.size:
        raise DecodeError(name, f"{stop - at} bytes", f"{plan.size}", base + at)
    if kind is IPV4_ADDRESS or kind is IPV6_ADDRESS:
        return addresses[data[at : at + plan.size]]
    values = [json_ready(v) for v in plan.unpack(data, at)]
    return dict(zip(plan.names, values, strict=True)) if is_struct else values[0]


def text(value: bytes) -> str:
    """A kernel string up to its NUL; bytes that are not UTF-8 stay visible as \\xNN."""
    return value.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
