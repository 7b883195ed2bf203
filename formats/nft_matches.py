"""Whether the matches of a rule contradict a packet that was logged, or those of another rule.

The expressions before a log statement are evaluated on the logged bytes and the interfaces of the
packet. Values that a record does not have, such as the state of its connection, are not judged: the
answer is a contradiction, or none that can be seen. Two rules exclude each other if they compare
the same of these values with constants that differ.

In a scrubbed packet other bytes stand for addresses and content. Only what scrubbing keeps equal in
rules and packets is judged there: complete addresses, and short fields of headers. Whether an
address is in a network cannot be seen any more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pylog.formats.nft_model import Model
from pylog.formats.scrub import stands_in
from pylog.record import PacketRecord

_NFPROTO = {"ipv4": 2, "ipv6": 10, "arp": 3}
_IFNAMSIZ = 16
_ADDRESSES: dict[str | int | None, tuple[tuple[int, int], ...]] = {
    "ipv4": ((12, 16), (16, 20)),
    "ipv6": ((8, 24), (24, 40)),
    "arp": ((14, 18), (24, 28)),
}
"""Where addresses begin and end in the network header; of ARP, for Ethernet and IPv4."""
_TCP, _TCP_HEADER, _UDP_HEADER = 6, 20, 8
_SHORT = 2
"""Values of so many bytes are ports, types and flags; longer ones may stand for others."""
_ANONYMOUS_INTERVAL = 4  # NFT_SET_INTERVAL

Registers = dict[int, bytes]


def contradiction(
    expressions: list[dict[str, Any]], packet: PacketRecord, model: Model, table: tuple[Any, Any]
) -> str | None:
    """The match that the packet cannot have passed, as text; None if there is none to be seen.

    expressions   of the rule, up to the log statement
    table         family and name of the rule's table, to look up sets
    """
    registers: Registers = {}
    meanings: dict[int, str] = {}
    scrubbed = _is_scrubbed(packet)
    for expression in expressions:
        name = expression.get("name")
        if name in ("cmp", "lookup"):
            register = _register(expression.get("sreg"))
            value = registers.get(register)
            if value is None:
                continue
            if name == "cmp":
                held = _compared(value, expression)
            else:
                held = _in_set(value, expression, model, table)
            if held is False:
                return f"{meanings.get(register, 'a value')} differs"
            continue
        target = expression.get("dreg")
        if not isinstance(target, int):
            continue
        target = _register(target)
        loaded = None
        if name == "meta":
            loaded = _meta(str(expression.get("key")), packet)
            meanings[target] = str(expression.get("key"))
        elif name == "payload":
            loaded = _payload(expression, packet)
            if scrubbed and loaded is not None and not _is_kept(expression, packet):
                loaded = None
            meanings[target] = f"{expression.get('base')} header"
        elif name == "bitwise":
            source = _register(expression.get("sreg"))
            value = registers.get(source)
            if not (scrubbed and value is not None and len(value) > _SHORT):
                loaded = _masked(value, expression)
            meanings[target] = meanings.get(source, "a value")
        # a wide register overlaps four narrow ones, whose values are not valid any more
        for other in [key for key in registers if key // 16 == target // 16]:
            del registers[other]
        if loaded is not None:
            registers[target] = loaded
    return None


def _is_scrubbed(packet: PacketRecord) -> bool:
    """Whether addresses of the packet stand for others."""
    places, payload = _ADDRESSES.get(packet.family, ()), packet.payload or b""
    return any(len(payload) >= end and stands_in(payload[at:end]) for at, end in places)


def _is_kept(expression: dict[str, Any], packet: PacketRecord) -> bool:
    """Whether a part of a packet is the same in a scrubbed rule and a scrubbed packet."""
    start, end = expression["offset"], expression["offset"] + expression["len"]
    if expression.get("base") == "transport":
        header = _TCP_HEADER if packet.protocol == _TCP else _UDP_HEADER
        return bool(expression["len"] <= _SHORT and end <= header)
    places = _ADDRESSES.get(packet.family, ())
    if (start, end) in places:
        return True
    return bool(expression["len"] <= _SHORT
                and not any(start < stop and at < end for at, stop in places))  # fmt: skip


Judged = dict[tuple[Any, ...], list[tuple[bool, frozenset[bytes]]]]
"""By what is loaded: whether it must be, or must not be, one of the values."""


def judged(expressions: list[dict[str, Any]], model: Model, table: tuple[Any, Any]) -> Judged:
    """What `contradiction` can see of the matches of a rule, to be compared with another's.

    expressions, table   as those of `contradiction`
    """
    loaded: dict[int, tuple[Any, ...]] = {}
    found: Judged = {}
    for expression in expressions:
        name = expression.get("name")
        if name in ("cmp", "lookup"):
            what = loaded.get(_register(expression.get("sreg")))
            values = None
            if what is not None:
                values = _constants(expression, model, table)
            if what is not None and values is not None:
                found.setdefault(what, []).append(values)
            continue
        target = expression.get("dreg")
        if not isinstance(target, int):
            continue
        target = _register(target)
        new: tuple[Any, ...] | None = None
        if name == "meta" and expression.get("key") in _SEEN:
            new = ("meta", expression["key"])
        elif name == "payload" and expression.get("base") in ("network", "transport"):
            new = ("payload", *(expression.get(field) for field in ("base", "offset", "len")))
        elif name == "bitwise" and expression.get("op", "mask_xor") == "mask_xor":
            source = loaded.get(_register(expression.get("sreg")))
            if source is not None:
                new = (*source, expression.get("mask"), expression.get("xor"))
        for other in [key for key in loaded if key // 16 == target // 16]:
            del loaded[other]
        if new is not None:
            loaded[target] = new
    return found


def exclude(one: Judged, other: Judged) -> bool:
    """Whether no packet passes the matches of both rules."""
    return any(
        _apart(mine, theirs)
        for what in one.keys() & other.keys()
        for mine in one[what]
        for theirs in other[what]
    )


_SEEN = ("iifname", "oifname", "l4proto", "nfproto")
"""What `_meta` knows of a packet."""
_MOST_CONSTANTS = 256


def _constants(
    expression: dict[str, Any], model: Model, table: tuple[Any, Any]
) -> tuple[bool, frozenset[bytes]] | None:
    """Whether a comparison is with being one of some values, or none; None: it is another one."""
    if expression["name"] == "cmp":
        data, op = _octets(expression.get("data")), expression.get("op")
        return None if data is None or op not in ("eq", "ne") else (op == "eq", frozenset([data]))
    keys = _keys_of(expression, model, table)
    if keys is None or len(keys) > _MOST_CONSTANTS:
        return None
    return not expression.get("inverted"), frozenset(map(bytes.fromhex, keys))


def _apart(one: tuple[bool, frozenset[bytes]], other: tuple[bool, frozenset[bytes]]) -> bool:
    """Whether no value is as both say. A shorter constant is the beginning of values."""
    if not one[0]:
        one, other = other, one
    if not one[0]:
        return False
    if other[0]:
        return not any(a.startswith(b) or b.startswith(a) for a in one[1] for b in other[1])
    return all(any(a.startswith(b) for b in other[1]) for a in one[1])


def _register(number: Any) -> int:
    """The place of a register in bytes: NFT_REG_1 to 4 have 16, NFT_REG32_00 to 15 have 4."""
    if not isinstance(number, int):
        return -1
    return number * 16 if number < 8 else 16 + (number - 8) * 4


def _meta(key: str, packet: PacketRecord) -> bytes | None:
    if key in ("iifname", "oifname"):
        device = packet.indev if key == "iifname" else packet.outdev
        return device.encode().ljust(_IFNAMSIZ, b"\0") if isinstance(device, str) else None
    if key == "l4proto" and packet.protocol is not None and packet.fragment is None:
        return bytes([packet.protocol])
    if key == "nfproto" and packet.family in _NFPROTO:
        return bytes([_NFPROTO[str(packet.family)]])
    return None


def _payload(expression: dict[str, Any], packet: PacketRecord) -> bytes | None:
    offset, length = expression.get("offset"), expression.get("len")
    payload = packet.payload
    if not payload or not isinstance(offset, int) or not isinstance(length, int):
        return None
    start = 0
    if expression.get("base") == "transport":
        if packet.family != "ipv4" or packet.fragment is not None:
            return None  # behind extension headers, or in another fragment
        start = (payload[0] & 15) * 4
    elif expression.get("base") != "network":
        return None
    value = payload[start + offset : start + offset + length]
    return value if len(value) == length else None


def _masked(value: bytes | None, expression: dict[str, Any]) -> bytes | None:
    mask, xor = _octets(expression.get("mask")), _octets(expression.get("xor"))
    if value is None or expression.get("op", "mask_xor") != "mask_xor":
        return None
    if mask is None or xor is None or not len(mask) == len(xor) == expression.get("len"):
        return None
    value = value.ljust(len(mask), b"\0")
    return bytes(v & m ^ x for v, m, x in zip(value, mask, xor, strict=False))


def _compared(value: bytes, expression: dict[str, Any]) -> bool | None:
    data, op = _octets(expression.get("data")), expression.get("op")
    if data is None or len(data) > len(value):
        return None
    value = value[: len(data)]
    if op == "eq":
        return value == data
    return value != data if op == "ne" else None


def _in_set(
    value: bytes, expression: dict[str, Any], model: Model, table: tuple[Any, Any]
) -> bool | None:
    """Whether a value is in a set. Only anonymous sets do not change while they are in use."""
    keys = _keys_of(expression, model, table)
    if keys is None or len(next(iter(keys))) != len(value) * 2:
        return None
    return (value.hex() in keys) != bool(expression.get("inverted"))


def _keys_of(
    expression: dict[str, Any], model: Model, table: tuple[Any, Any]
) -> Collection[str] | None:
    """The keys of an anonymous set of single values, as hexadecimal digits; None for another."""
    members = model.find_set(*table, expression.get("set"))
    if members is None or not members.anonymous or not members.elements:
        return None
    if (members.record.flags or 0) & _ANONYMOUS_INTERVAL:
        return None
    keys = [key for key in members.elements if isinstance(key, str)]
    if len(keys) < len(members.elements) or len({len(key) for key in keys}) != 1:
        return None  # a catch-all element, or a concatenation
    return members.elements  # type: ignore[return-value]  # all keys are texts


def _octets(value: Any) -> bytes | None:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else None
    except ValueError:
        return None
