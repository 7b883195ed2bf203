"""nftables messages without what identifies hosts and users, for logs that will be published.

`scrub` replaces the values in elements and expressions that may be addresses, the headers of traced
packets, comments, and names of tables, chains, sets, objects, flowtables and processes, by other
bytes of the same length, see formats.scrub. A message does not say what a value is: one of 4 bytes
may be an IPv4 address, of 6 a MAC, of 16 an IPv6 address or the name of an interface, and longer
ones are taken as fields of 4 bytes, unless the rule shows that it is none of these
(nft_scrub_values). Masks and small numbers stay. Names of interfaces and prefixes
of log statements stay, as they do in NFLOG, so that a rule and its packets still fit. Kernel
pointers, and what no table explains, become zeros.
"""

from __future__ import annotations

import re
from typing import Any

from pylog.errors import DecodeError
from pylog.formats.netlink import (
    NLA_TYPE_MASK,
    OCTETS,
    PADDING,
    TEXT,
    Table,
    align,
    nlattr,
    scan,
    text,
    to_dict,
)
from pylog.formats.netlink_stream import order_of
from pylog.formats.nft_attributes import (
    ELEMENT,
    LIST,
    NFT_MSG_TRACE,
    OBJECT,
    OBJECT_DATA,
    SET_FIELD,
    TRACE,
)
from pylog.formats.nft_entities import TABLES
from pylog.formats.nft_expressions import (
    EXPRESSIONS,
    LOGGERS,
    NFTA_EXPR_DATA,
    NFTA_EXPR_NAME,
    log_info,
)
from pylog.formats.nft_read import user_data
from pylog.formats.nft_scrub_values import INTERFACE, NUMBER, kinds
from pylog.formats.nft_trace import is_complete
from pylog.formats.plan import BYTEORDER
from pylog.formats.scrub import ARPHRD_ETHER, Scrubber

_EXPRESSION: Table = {NFTA_EXPR_NAME: ("NFTA_EXPR_NAME", TEXT), NFTA_EXPR_DATA: ("data", OCTETS)}
_LISTS: dict[str, Table | Any] = {
    "NFTA_HOOK_DEVS": TEXT, "NFTA_FLOWTABLE_HOOK_DEVS": TEXT, "NFTA_SET_DESC_CONCAT": SET_FIELD,
    "NFTA_SET_EXPRESSIONS": _EXPRESSION,
    "NFTA_SET_ELEM_EXPRESSIONS": _EXPRESSION, "expressions": _EXPRESSION,
    "NFTA_SET_ELEM_LIST_ELEMENTS": ELEMENT,
}  # fmt: skip
"""Attributes that are lists, and what their elements are."""
_SINGLE = {
    "NFTA_SET_EXPR": _EXPRESSION, "NFTA_SET_ELEM_EXPR": _EXPRESSION, "expression": _EXPRESSION,
}  # fmt: skip
_VALUES = ("NFTA_DATA_VALUE", "value")
_USER_DATA = ("NFTA_TABLE_USERDATA", "NFTA_CHAIN_USERDATA", "NFTA_RULE_USERDATA",
              "NFTA_OBJ_USERDATA", "NFTA_SET_ELEM_USERDATA", "NFTA_SET_USERDATA")  # fmt: skip
_NAMES = frozenset((
    "NFTA_TABLE_NAME", "NFTA_CHAIN_TABLE", "NFTA_CHAIN_NAME", "NFTA_RULE_TABLE",
    "NFTA_RULE_CHAIN", "NFTA_SET_TABLE", "NFTA_SET_NAME",
    "NFTA_SET_ELEM_LIST_TABLE", "NFTA_SET_ELEM_LIST_SET", "NFTA_SET_ELEM_OBJREF",
    "NFTA_OBJ_TABLE", "NFTA_OBJ_NAME", "NFTA_SECMARK_CTX", "NFTA_FLOWTABLE_TABLE",
    "NFTA_FLOWTABLE_NAME", "NFTA_TRACE_TABLE", "NFTA_TRACE_CHAIN", "NFTA_VERDICT_CHAIN",
    "chain", "set", "object", "flowtable",
))  # fmt: skip
"""Attributes of text that are names which an administrator chose, in messages and expressions."""
_HARMLESS = frozenset((0, 1, 2, 6))
"""Types of user data of a set that are small numbers: byte orders, auto-merge, intervals."""
_SET_COMMENT = 7
_POINTER = re.compile(rb"\b(0x)?([0-9a-fA-F]{8,})\b")
"""The name of a set's type is that of a symbol of the kernel, or its address without kallsyms."""
_INTERFACE = re.compile(rb"[A-Za-z0-9][\w.:@-]*\0+")
"""The name of an interface that fills a value of IFNAMSIZ bytes. No IPv6 address in use reads so:
its first byte would be 0x30 to 0x7a, and only zeros would follow the text."""
_BEGINNING = re.compile(rb"[\w.:@-]+")
"""The beginning of names of interfaces, as in iifname "eth*"."""
_IFNAMSIZ = _WIDE = 16
_DEPTH = 8
"""Expressions in expressions are read up to this depth."""


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The message of `Stream.raw` without addresses, comments and packets.

    Unknown attributes, padding, and what follows a length that does not fit become zeros. The last
    attribute may be cut off.
    """
    order = order_of(layout)
    end = min(len(message), int.from_bytes(message[:4], BYTEORDER[order]))
    out = bytearray(message[:20].ljust(len(message), b"\0"))
    kind = int.from_bytes(message[4:6], BYTEORDER[order])
    table = TRACE if kind == NFT_MSG_TRACE else TABLES.get(kind)
    if table is None:
        return bytes(out)
    scrubbing = _Scrubbing(order, scrubber)
    pos, values = 20, dict[int, tuple[int, int]]()
    while end - pos >= 4:
        size, number = nlattr[order](message, pos)
        if size < 4:
            break
        out[pos : pos + 4] = message[pos : pos + 4]
        stop, number = min(pos + size, end), number & NLA_TYPE_MASK
        if number in table and number not in values:
            values[number] = pos + 4, stop
        pos += align(size)
    if kind == NFT_MSG_TRACE:
        scrubbing.packet(message, out, values)
    if table is OBJECT:
        at, stop = values.get(3, (0, 0))
        object_type = int.from_bytes(message[at : min(at + 4, stop)])
        scrubbing.object_data = OBJECT_DATA.get(object_type, {})
    for number, (at, stop) in values.items():
        name, form = table[number]
        if name not in _PACKET:
            out[at:stop] = scrubbing.value(name, form, message[at:stop], 0)
    return bytes(out)


_PACKET = ("NFTA_TRACE_LL_HEADER", "NFTA_TRACE_NETWORK_HEADER", "NFTA_TRACE_TRANSPORT_HEADER")


class _Scrubbing:
    """Scrubs the attributes of one message."""

    def __init__(self, order: str, scrubber: Scrubber) -> None:
        self._order, self._scrubber = order, scrubber
        self.object_data: Table = {}
        """The table of NFTA_OBJ_DATA in the message."""
        self._kind: str | None = None
        """What the values in the present expression are."""

    def packet(self, message: bytes, out: bytearray, values: dict[int, tuple[int, int]]) -> None:
        """Scrub the headers of a packet."""
        link, network, transport = (values.get(number) for number in (7, 8, 9))
        if link is not None:
            octets = message[link[0] : link[1]]
            out[link[0] : link[1]] = self._scrubber.link_header(octets, ARPHRD_ETHER)
        if network is None:
            return
        octets = message[network[0] : network[1]]
        follows = b""
        if transport is not None and is_complete(octets):
            follows = message[transport[0] : transport[1]]
        ethertype_is_arp = octets[:2] == b"\0\1" and octets[4:6] == b"\6\4"
        change = self._scrubber.arp if ethertype_is_arp else self._scrubber.packet
        scrubbed = change(octets + follows)
        out[network[0] : network[1]] = scrubbed[: len(octets)]
        if follows and transport is not None:
            out[transport[0] : transport[1]] = scrubbed[len(octets) :]

    def value(self, name: str, kind: Any, value: bytes, depth: int) -> bytes:
        """The new value of an attribute, at any depth of nesting."""
        if name in _VALUES:
            return self._register(value)
        if name in _USER_DATA:
            return self._user_data(value, name == "NFTA_SET_USERDATA")
        if name == "NFTA_RULE_EXPRESSIONS":
            return self._rule(value, depth)
        if name in _LISTS:
            return self._attributes({LIST: (name + " element", _LISTS[name])}, value, depth)
        if name in _SINGLE:
            return self._attributes(_SINGLE[name], value, depth)
        if name == "NFTA_OBJ_DATA":
            return self._attributes(self.object_data, value, depth)
        if kind is TEXT:
            word = value.split(b"\0", 1)[0]
            if name in _NAMES:
                word = self._scrubber.name(word)
            elif name == "NFTA_GEN_PROC_NAME":
                word = self._scrubber.process(word)
            elif name == "NFTA_SET_TYPE":
                word = _POINTER.sub(_blank, word)
            return word.ljust(len(value), b"\0")
        if isinstance(kind, dict):
            return self._attributes(kind, value, depth)
        if kind is OCTETS or kind is PADDING:
            return bytes(len(value))
        size = kind.sizeof()
        return value[:size].ljust(len(value), b"\0") if len(value) >= size else bytes(len(value))

    def _attributes(self, table: Table, value: bytes, depth: int) -> bytes:
        out = bytearray(len(value))
        try:
            parts = scan(value, 0, len(value), self._order, 0)
        except DecodeError:
            return bytes(len(value))
        if table is _EXPRESSION:
            names = [value[at:stop] for number, at, stop in parts if number == NFTA_EXPR_NAME]
            name = names[-1].split(b"\0", 1)[0].decode("ascii", "replace") if names else ""
            fields = EXPRESSIONS.get(name, {}) if depth < _DEPTH else {}
            table = {NFTA_EXPR_NAME: ("NFTA_EXPR_NAME", TEXT), NFTA_EXPR_DATA: ("data of", fields)}
        if table is EXPRESSIONS["target"]:
            return self._xtables(value, parts)
        seen: set[int] = set()
        for number, at, stop in parts:
            out[at - 4 : at] = value[at - 4 : at]
            is_list = LIST in table and table[LIST][0].endswith(" element")
            if number in table and (is_list or number not in seen):
                seen.add(number)
                out[at:stop] = self.value(*table[number], value[at:stop], depth + 1)
        return bytes(out)

    def _rule(self, value: bytes, depth: int) -> bytes:
        """The expressions of a rule."""
        out = bytearray(len(value))
        try:
            listed = scan(value, 0, len(value), self._order, 0)
        except DecodeError:
            return bytes(out)
        rule = [self._fields(value[at:stop]) for _, at, stop in listed]
        for (number, at, stop), self._kind in zip(listed, kinds(rule), strict=True):
            out[at - 4 : at] = value[at - 4 : at]
            if number == LIST:
                out[at:stop] = self._attributes(_EXPRESSION, value[at:stop], depth + 2)
        self._kind = None
        return bytes(out)

    def _fields(self, expression: bytes) -> tuple[str, dict[str, Any]]:
        """The kernel's name of an expression, and its attributes; none if they are damaged."""
        name, data = "", b""
        try:
            for number, at, stop in scan(expression, 0, len(expression), self._order, 0):
                if number == NFTA_EXPR_NAME:
                    name = text(expression[at:stop])
                elif number == NFTA_EXPR_DATA:
                    data = expression[at:stop]
            return name, to_dict(EXPRESSIONS.get(name, {}), data, 0, len(data), self._order, 0, [])
        except DecodeError:
            return name, {}

    def _xtables(self, value: bytes, parts: list[tuple[int, int, int]]) -> bytes:
        """A match or target of xtables or ebtables: of one that logs, group and prefix stay."""
        out = bytearray(len(value))
        table, extension, seen = EXPRESSIONS["target"], "", set[int]()
        for number, at, stop in parts:
            out[at - 4 : at] = value[at - 4 : at]
            if number not in table or number in seen:
                continue
            seen.add(number)
            name, kind = table[number]
            if name == "extension":
                extension = text(value[at:stop])
            if name == "info" and extension in LOGGERS:
                out[at:stop] = _log_info(value[at:stop], extension, self._order)
            else:
                out[at:stop] = self.value(name, kind, value[at:stop], _DEPTH)
        return bytes(out)

    def _register(self, value: bytes) -> bytes:
        """What a register is compared with, or the key or data of an element."""
        size = len(value)
        if (self._kind == NUMBER and size <= _WIDE) or (
            self._kind == INTERFACE and _BEGINNING.fullmatch(value)
        ):
            return value
        if size == _IFNAMSIZ and _INTERFACE.fullmatch(value):
            return value
        if size in (4, 16) and not _is_mask(value):
            return self._scrubber.address(value)
        if size == 6:
            return self._scrubber.mac(value)
        if size > 4 and size % 4 == 0:
            return self._concatenation(value)
        if size < 3 or _is_mask(value):
            return value  # a port, a protocol
        return self._scrubber.payload(value)

    def _concatenation(self, value: bytes) -> bytes:
        """Names of interfaces, which stay, and fields of four bytes."""
        out, at = b"", 0
        while at < len(value):
            name = value[at : at + _IFNAMSIZ]
            if len(name) == _IFNAMSIZ and _INTERFACE.fullmatch(name):
                out += name
                at += _IFNAMSIZ
            else:
                out += self._field(value[at : at + 4])
                at += 4
        return out

    def _field(self, value: bytes) -> bytes:
        """Four bytes of a concatenation; numbers of up to 16 bits are followed by zeros."""
        if _is_mask(value) or not any(value[2:]):
            return value
        return self._scrubber.address(value)

    def _user_data(self, value: bytes, of_set: bool) -> bytes:
        """User data: text of the same length in place of a comment."""
        parts = user_data(value)
        if parts is None:
            return bytes(len(value))
        comment = _SET_COMMENT if of_set else 0
        out = b""
        for number, part in parts.items():
            if number == comment:
                part = b"x" * (len(part) - 1) + b"\0" if part else part
            elif not of_set or number not in _HARMLESS:
                part = bytes(len(part))
            out += bytes((number, len(part))) + part
        return out


def _log_info(info: bytes, extension: str, order: str) -> bytes:
    """The `info` of a target that logs, without what follows its prefix; zeros if it is short."""
    plan = log_info(order, extension)
    if len(info) < plan.size:
        return bytes(len(info))
    out = bytearray(len(info))
    for leaf in plan.leaves:  # without padding
        octets = info[leaf.offset : leaf.offset + leaf.size]
        if leaf.name == "prefix":
            octets = octets.split(b"\0", 1)[0].ljust(leaf.size, b"\0")
        out[leaf.offset : leaf.offset + leaf.size] = octets
    return bytes(out)


def _blank(pointer: re.Match[bytes]) -> bytes:
    """An address of the kernel as text, without its digits."""
    return (pointer[1] or b"") + b"0" * len(pointer[2])


def _is_mask(value: bytes) -> bool:
    """Whether only the first bits are set, as in a netmask; also none, or all."""
    bits = f"{int.from_bytes(value):0{8 * len(value)}b}"
    return "01" not in bits
