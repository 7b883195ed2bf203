"""Sets of nftables in words: the elements of an anonymous set in its rule, and single elements.

An interval set of one field has the start of a range and the first value after it as two elements;
here they become one range again. A concatenation has the ends in one element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pylog.formats.nft_statements import STATEMENTS, quoted, verdict
from pylog.formats.nft_types import (
    INTEGER,
    Type,
    Unclear,
    interval,
    number,
    show,
    show_bound,
    types_of,
)
from pylog.formats.nft_values import Concat, Payload, is_swapped, type_of
from pylog.formats.nft_words import OBJECT_TYPES

Element = dict[str, Any]
Sets = Callable[[str], tuple[Any, list[Element]] | None]

_MOST_ELEMENTS = 4096
"""The largest anonymous set that is written in its rule."""
NFT_SET_ANONYMOUS, NFT_SET_INTERVAL = 0x1, 0x4
NFT_SET_ELEM_INTERVAL_END, NFT_SET_ELEM_CATCHALL = 1, 2


class Part(NamedTuple):
    """A field of keys or of data: its type, bytes, and whether it is in network order anyway."""

    type: Type
    size: int
    swapped: bool = False

    def number(self, data: bytes, order: str) -> int:
        """The value of the bytes."""
        if self.swapped and not self.type.string:
            return int.from_bytes(data, "big")
        return number(data, self.type, order)

    def text(self, data: bytes, order: str) -> str:
        """The value in words."""
        return show(self.type, self.number(data, order), self.size * 8)


def parts_of(key: Any) -> list[Part]:
    """The fields of a key that registers hold."""
    values = key.parts if isinstance(key, Concat) else [key]
    return [Part(type_of(value), (value.bits + 7) // 8, is_swapped(value)) for value in values]


def parts_of_types(types: list[Type]) -> list[Part]:
    """The fields of a key or of data, by their types."""
    if len(types) == 1:
        return [Part(types[0], _SIZES.get(types[0].name, 0))]
    return [Part(kind, _SIZES[kind.name]) for kind in types]


def extra(record: Any, name: str) -> Any:
    """A value that a record keeps under the kernel's name."""
    return (getattr(record, "extra", None) or {}).get(name)


class Elements:
    """The sets that a rule uses, in words.

    sets     the record and elements of a set by name, None for one that is not there
    order    the machine's byte order, < or >
    listed   in the order of `nft list`, else of `nft monitor`, which is that of `elements`
    """

    def __init__(self, sets: Sets, order: str, listed: bool) -> None:
        self._sets, self._order, self._listed = sets, order, listed

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
        elements = _shifted(elements, key)
        if len(elements) > _MOST_ELEMENTS:
            return f"{{ [{len(elements)} elements] }}"
        given = None if data is None else parts_of_types(data) if data else []
        texts = set_elements(elements, parts_of(key), given, self._order, record.flags or 0,
                             self._listed)  # fmt: skip
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

    def meter(self, name: str) -> str | None:
        """The words before the braces of a set that only its rule has; None for another.

        nft before 1.0.7 made such sets for meters.
        """
        record, _ = self._set(name)
        if not (record.flags or 0) & NFT_SET_ANONYMOUS:
            return None
        size = (extra(record, "NFTA_SET_DESC") or {}).get("NFTA_SET_DESC_SIZE")
        return f"meter {name} size {size}" if size else f"meter {name}"

    def data_parts(self, name: str) -> list[Part]:
        """The types of what a map gives, as its declaration says."""
        return parts_of_types(types_of(extra(self._set(name)[0], "NFTA_SET_DATA_TYPE")))

    def object_type(self, name: str) -> str | None:
        """The kind of objects that a map gives."""
        return OBJECT_TYPES.get(extra(self._set(name)[0], "NFTA_SET_OBJ_TYPE"))


def _shifted(elements: list[Element], key: Any) -> list[Element]:
    """The elements with keys as values of the field, where they were masked in place."""
    shift = getattr(key, "shift", 0)
    if isinstance(key, Concat):
        for part in key.parts:
            plain = isinstance(part, Payload) and part.type is INTEGER and part.bits % 8
            if getattr(part, "shift", 0) or plain:
                raise Unclear
    if not shift:
        return elements
    shifted = []
    for element in elements:
        text = element["key"]
        value = int(text, 16)
        end = element.get("flags", 0) & NFT_SET_ELEM_INTERVAL_END
        if value & ((1 << shift) - 1) and not end:
            raise Unclear
        value = (value >> shift) + (1 if end and value & ((1 << shift) - 1) else 0)
        shifted.append({**element, "key": f"{value:0{len(text)}x}"})
    return shifted


def set_elements(
    elements: list[Element],
    parts: list[Part],
    data: list[Part] | None,
    order: str,
    flags: int,
    listed: bool,
) -> list[str]:
    """The elements of a set in nft's order; `listed` as in Elements."""
    catchall = [e for e in elements if e.get("flags", 0) & NFT_SET_ELEM_CATCHALL]
    rest = [e for e in elements if not e.get("flags", 0) & NFT_SET_ELEM_CATCHALL]
    if len(parts) == 1 and flags & NFT_SET_INTERVAL:
        texts = [
            with_details(_range(low, high, parts[0].type, size), e, data, order)
            for low, high, size, e in _ranges(rest)
        ]
    else:
        if listed and not flags & NFT_SET_INTERVAL:  # ranges of concatenations are not sorted
            rest = _sorted(rest, parts, order)
        texts = [with_details(key_text(e, parts, order), e, data, order) for e in rest]
    return texts + [with_details("*", e, data, order) for e in catchall]


def _sorted(elements: list[Element], parts: list[Part], order: str) -> list[Element]:
    """As nft's list_expr_sort: by the number that the key is.

    Concatenations and strings are numbers in the machine's order, bitmasks go by their lowest bit.
    Of those with the same one nft writes the last first.
    """
    keys = []
    masks = len(parts) == 1 and parts[0].type.bits is not None
    elements = elements[::-1] if masks else elements
    for element in elements:
        data = bytes.fromhex(element["key"])
        if len(parts) > 1 or parts[0].type.string:
            keys.append(int.from_bytes(data, "little" if order == "<" else "big"))
            continue
        value = parts[0].number(data, order)
        keys.append(value & -value if masks else value)
    if len(set(keys)) < len(keys) and not masks:
        raise Unclear
    return [e for _, e in sorted(zip(keys, elements, strict=True), key=lambda pair: pair[0])]


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


def _range(low: int, high: int, kind: Type, bits: int) -> str:
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


def fields_of(key: str, parts: list[Part]) -> list[bytes]:
    """The fields of a key, of which those of a concatenation are padded to 4 bytes."""
    data = bytes.fromhex(key)
    if len(parts) == 1:
        return [data]
    if sum((part.size + 3) // 4 * 4 for part in parts) != len(data):
        raise Unclear
    fields, at = [], 0
    for part in parts:
        fields.append(data[at : at + part.size])
        at += (part.size + 3) // 4 * 4
    return fields


_SIZES = {
    "ipv4_addr": 4, "ipv6_addr": 16, "ether_addr": 6, "inet_service": 2, "inet_proto": 1,
    "mark": 4, "ifname": 16, "iface_index": 4, "ether_type": 2, "ct_state": 4, "icmp_type": 1,
    "icmpv6_type": 1, "uid": 4, "gid": 4, "nf_proto": 1, "ct_dir": 1, "ct_status": 4,
    "dscp": 1, "iface_type": 2, "devgroup": 4, "pkt_type": 1, "arp_op": 2, "classid": 4,
    "icmp_code": 1, "icmpv6_code": 1, "tcp_flag": 1, "fib_addrtype": 4, "realm": 4,
}  # fmt: skip
"""Bytes of the types that concatenations are made of."""


def key_text(element: Element, parts: list[Part], order: str) -> str:
    """The key of one element, or the range that it is."""
    if len(parts) == 1 and "key_end" not in element:
        data, part = bytes.fromhex(element["key"]), parts[0]
        return show(part.type, part.number(data, order), len(data) * 8)
    lows = fields_of(element["key"], parts)
    if not element.get("key_end"):
        return " . ".join(part.text(low, order) for part, low in zip(parts, lows, strict=True))
    words = []
    for part, low, high in zip(parts, lows, fields_of(element["key_end"], parts), strict=True):
        if low == high:
            words.append(part.text(low, order))
        elif part.type.host and not part.swapped and not part.type.string:
            raise Unclear
        else:
            words.append(_range(int.from_bytes(low, "big"), int.from_bytes(high, "big"), part.type,
                                part.size * 8))  # fmt: skip
    return " . ".join(words)


def data_text(element: Element, parts: list[Part] | None, order: str) -> str:
    """What a map gives for an element, "" for an element of a set."""
    if "verdict" in element:
        return verdict(element)
    if "object" in element:
        return quoted(element["object"])
    if "data" not in element:
        return ""
    if not parts:
        raise Unclear
    data = bytes.fromhex(element["data"])
    if len(parts) == 1:
        kind, half = parts[0].type, len(data) // 2
        if kind.prefix and half == parts[0].size:
            low, high = (int.from_bytes(part, "big") for part in (data[:half], data[half:]))
            return _range(low, high, kind, half * 8)
        parts = [parts[0]._replace(size=len(data))]
    fields = fields_of(element["data"], parts)
    return " . ".join(part.text(field, order) for part, field in zip(parts, fields, strict=True))


def with_details(key: str, element: Element, parts: list[Part] | None, order: str) -> str:
    """An element with its timeout, statements, comment and data."""
    text = key
    for inner in element.get("expressions") or ():
        text += f" {STATEMENTS[inner['name']](inner)}"
    if element.get("timeout"):
        text += f" timeout {interval(int(element['timeout']))}"
    if element.get("expires"):
        text += f" expires {interval(int(element['expires']))}"
    if element.get("comment"):
        text += f" comment {quoted(element['comment'])}"
    data = data_text(element, parts, order)
    return f"{text} : {data}" if data else text
