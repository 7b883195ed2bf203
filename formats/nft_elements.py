"""Sets of nftables in words: the elements of an anonymous set in its rule, and single elements.

An interval set of one field has the start of a range and the first value after it as two elements;
here they become one range again. A concatenation has the ends in one element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pylog.formats.nft_statements import STATEMENTS, quoted, verdict
from pylog.formats.nft_types import (
    Type,
    Unclear,
    bit_words,
    interval,
    number,
    show,
    show_bound,
)
from pylog.formats.nft_values import is_swapped, types_of

Element = dict[str, Any]
Sets = Callable[[str], tuple[Any, list[Element]] | None]

NFT_SET_ANONYMOUS, NFT_SET_INTERVAL, NFT_SET_CONCAT = 0x1, 0x4, 0x80
NFT_SET_ELEM_INTERVAL_END, NFT_SET_ELEM_CATCHALL = 1, 2
_OBJECT_TYPES = {
    1: "counter", 2: "quota", 3: "ct_helper", 4: "limit", 7: "ct_timeout", 9: "ct_expectation",
    10: "synproxy",
}  # fmt: skip


def extra(record: Any, name: str) -> Any:
    """A value that a record keeps under the kernel's name."""
    return (getattr(record, "extra", None) or {}).get(name)


class Elements:
    """The sets that a rule uses, in words.

    sets    the record and elements of a set by name, None for one that is not there
    order   the machine's byte order, < or >
    """

    def __init__(self, sets: Sets, order: str) -> None:
        self._sets, self._order = sets, order

    def _set(self, name: str) -> tuple[Any, list[Element]]:
        held = self._sets(name)
        if held is None:
            raise Unclear
        return held

    def __call__(self, name: str, key: Any, data: list[Type] | None) -> str:
        """@name, or the elements of an anonymous set whose key has the types of `key`."""
        if not name.startswith("__"):
            return f"@{name}"
        record, elements = self._set(name)
        types = types_of(key)
        flags = record.flags or 0
        swapped = is_swapped(key) or bool(flags & NFT_SET_INTERVAL and len(types) == 1)
        texts = set_elements(elements, types, data, self._order, flags, swapped)
        if not texts:
            raise Unclear
        return f"{{ {', '.join(texts)} }}"

    def first(self, name: str) -> int | None:
        """The number that is the first key of an anonymous set."""
        if not name.startswith("__"):
            return None
        record, elements = self._set(name)
        if record.flags & NFT_SET_INTERVAL:
            return None
        keys = sorted(e["key"] for e in elements if "key" in e)
        return int(keys[0], 16) if keys else None

    def data_size(self, name: str) -> int:
        """Bytes of what a map gives."""
        record, elements = self._set(name)
        size = extra(record, "NFTA_SET_DATA_LEN")
        return int(size or next((len(e["data"]) // 2 for e in elements if "data" in e), 0))

    def object_type(self, name: str) -> str | None:
        """The kind of objects that a map gives."""
        return _OBJECT_TYPES.get(extra(self._set(name)[0], "NFTA_SET_OBJ_TYPE"))


def set_elements(
    elements: list[Element],
    types: list[Type],
    data: list[Type] | None,
    order: str,
    flags: int,
    swapped: bool,
) -> list[str]:
    """The elements of a set in nft's order.

    swapped   values of a single field are in network order whatever the type says
    """
    whole = [e for e in elements if e.get("flags", 0) & NFT_SET_ELEM_CATCHALL]
    rest = [e for e in elements if not e.get("flags", 0) & NFT_SET_ELEM_CATCHALL]
    if len(types) == 1 and flags & NFT_SET_INTERVAL:
        texts = [
            _with_details(_range(low, high, types[0], size, order), e, data, order)
            for low, high, size, e in _ranges(rest)
        ]
    else:
        texts = [
            _with_details(key_text(e, types, order, swapped), e, data, order)
            for e in _sorted(rest, types, order, swapped)
        ]
    return texts + [_with_details("*", e, data, order) for e in whole]


def _sorted(
    elements: list[Element], types: list[Type], order: str, swapped: bool
) -> list[Element]:
    """In the order of keys as numbers, as nft's list_expr_sort."""
    if len(types) > 1:
        return sorted(elements, key=lambda e: _numbers(e, types, order))
    kind = types[0]
    if kind.bits is None:
        little = kind.host and not swapped and order == "<"
        return sorted(elements, key=lambda e: int.from_bytes(
            bytes.fromhex(e["key"]), "little" if little else "big"))  # fmt: skip
    lowest = []
    for e in elements:
        value = number(bytes.fromhex(e["key"]), kind, order)
        lowest.append(value & -value)
    if len(set(lowest)) < len(lowest):
        raise Unclear
    return [e for _, e in sorted(zip(lowest, elements, strict=True), key=lambda pair: pair[0])]


def _numbers(element: Element, types: list[Type], order: str) -> tuple[int, ...]:
    values = []
    for octets, kind in zip(fields_of(element["key"], types), types, strict=True):
        little = kind.host and order == "<"
        values.append(int.from_bytes(octets, "little" if little else "big"))
    return tuple(values)


def _ranges(elements: list[Element]) -> list[tuple[int, int, int, Element]]:
    """(first, last, bits, element) of each range of an interval set."""
    marks = sorted(
        (int(e["key"], 16), not e.get("flags", 0) & NFT_SET_ELEM_INTERVAL_END, e)
        for e in elements
        if "key" in e
    ) if len({(e["key"], e.get("flags", 0)) for e in elements if "key" in e}) == len(
        elements) else None  # fmt: skip
    if marks is None:
        raise Unclear
    ranges: list[tuple[int, int, int, Element]] = []
    opened: tuple[int, Element] | None = None
    for value, begins, element in marks:
        bits = len(element["key"]) * 4
        if opened is not None:
            ranges.append((opened[0], value - 1, bits, opened[1]))
        opened = (value, element) if begins else None
    if opened is not None:
        bits = len(opened[1]["key"]) * 4
        ranges.append((opened[0], (1 << bits) - 1, bits, opened[1]))
    return ranges


def _range(low: int, high: int, kind: Type, bits: int, order: str) -> str:
    """A range of one field in words; `low` and `high` are the big-endian numbers of the bytes."""
    if kind.string:
        return _names(low, high, kind, bits)
    if low == high:
        return show(kind, low, bits)
    span = high - low + 1
    if kind.prefix and not span & (span - 1) and low % span == 0:
        return f"{show(kind, low, bits)}/{bits - span.bit_length() + 1}"
    return f"{show_bound(kind, low, bits)}-{show_bound(kind, high, bits)}"


def _names(low: int, high: int, kind: Type, bits: int) -> str:
    """A name, or the beginning of names, in an interval set."""
    if low == high:
        return kind.show(low, bits)
    span = high - low + 1
    size = span.bit_length() - 1
    if span & (span - 1) or size % 8 or low % span:
        raise Unclear
    return kind.show(low >> size, bits - size)


def fields_of(key: str, types: list[Type]) -> list[bytes]:
    """The fields of a concatenated key, each padded to 4 bytes."""
    data = bytes.fromhex(key)
    sizes = [_SIZES[kind.name] for kind in types]
    if sum((size + 3) // 4 * 4 for size in sizes) != len(data):
        raise Unclear
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += (size + 3) // 4 * 4
    return parts


_SIZES = {
    "ipv4_addr": 4, "ipv6_addr": 16, "ether_addr": 6, "inet_service": 2, "inet_proto": 1,
    "mark": 4, "ifname": 16, "iface_index": 4, "ether_type": 2, "ct_state": 4, "icmp_type": 1,
    "icmpv6_type": 1, "uid": 4, "gid": 4, "nf_proto": 1, "ct_dir": 1, "ct_status": 4,
    "dscp": 1, "iface_type": 2, "devgroup": 4, "pkt_type": 1, "arp_op": 2, "classid": 4,
    "icmp_code": 1, "icmpv6_code": 1, "tcp_flag": 1, "fib_addrtype": 4, "realm": 4,
}  # fmt: skip
"""Bytes of the types that concatenations are made of."""


def key_text(element: Element, types: list[Type], order: str, swapped: bool = False) -> str:
    """The key of one element, or the range that it is."""
    if len(types) == 1:
        data = bytes.fromhex(element["key"])
        kind = types[0]
        if element.get("key_end"):
            raise Unclear
        value = int.from_bytes(data, "big") if swapped else number(data, kind, order)
        if kind.bits is not None:
            return " | ".join(bit_words(kind, value)) or "0x0"
        return show(kind, value, len(data) * 8)
    lows = fields_of(element["key"], types)
    highs = fields_of(element["key_end"], types) if element.get("key_end") else lows
    words = []
    for low, high, kind in zip(lows, highs, types, strict=True):
        if kind.host and high is not low and not kind.string:
            if low != high:
                raise Unclear
        if low == high:
            words.append(show(kind, number(low, kind, order), len(low) * 8))
        else:
            words.append(_range(int.from_bytes(low, "big"), int.from_bytes(high, "big"), kind,
                                len(low) * 8, order))  # fmt: skip
    return " . ".join(words)


def data_text(element: Element, types: list[Type] | None, order: str) -> str:
    """What a map gives for an element, "" for an element of a set."""
    if "verdict" in element:
        return verdict(element)
    if "object" in element:
        return quoted(element["object"])
    if "data" not in element:
        return ""
    if not types:
        raise Unclear
    if len(types) > 1:
        parts = zip(fields_of(element["data"], types), types, strict=True)
        return " . ".join(show(kind, number(part, kind, order), len(part) * 8)
                          for part, kind in parts)  # fmt: skip
    data, kind = bytes.fromhex(element["data"]), types[0]
    if kind.prefix and len(data) == 2 * _SIZES[kind.name]:
        half = len(data) // 2
        return _range(int.from_bytes(data[:half], "big"), int.from_bytes(data[half:], "big"), kind,
                      half * 8, order)  # fmt: skip
    return show(kind, number(data, kind, order), len(data) * 8)


def _with_details(key: str, element: Element, types: list[Type] | None, order: str) -> str:
    """An element with its timeout, statements, comment and data."""
    text = key
    for inner in element.get("expressions", ()):
        text += f" {STATEMENTS[inner['name']](inner)}"
    if element.get("timeout"):
        text += f" timeout {interval(int(element['timeout']))}"
    if element.get("expires"):
        text += f" expires {interval(int(element['expires']))}"
    if element.get("comment"):
        text += f" comment {quoted(element['comment'])}"
    data = data_text(element, types, order)
    return f"{text} : {data}" if data else text
