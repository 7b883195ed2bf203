"""Records of a ruleset in the words of nft: one line for each entity.

`record_text` writes a table, chain, set, element, object or flowtable with its declaration, and a
rule as it stands in its chain. What nft says in other places is left out: the handle, and the verb
(add, delete). A part whose text is not certain stands in brackets; `formats.nft_rule` says more.

Source: the output of nft 1.1.3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pylog.formats.nft_declarations import chain, flowtable, objects, set_declaration, table
from pylog.formats.nft_elements import (
    NFT_SET_ELEM_CATCHALL,
    NFT_SET_ELEM_INTERVAL_END,
    NFT_SET_INTERVAL,
    Element,
    Part,
    Sets,
    extra,
    key_text,
    parts_of_types,
    set_elements,
    with_details,
)
from pylog.formats.nft_read import user_data
from pylog.formats.nft_rule import ERRORS, rule_text
from pylog.formats.nft_statements import quoted
from pylog.formats.nft_types import HOST_INTEGER, IFINDEX, INTEGER, Unclear, named, types_of
from pylog.formats.plan import BYTEORDER
from pylog.record import RulesetRecord

__all__ = ("ElementTexts", "elements_text", "record_text", "rule_text")

Interfaces = Callable[[int], str | None] | None
_NFTNL_UDATA_SET_KEYBYTEORDER, _NFTNL_UDATA_SET_DATABYTEORDER = 0, 1
_HOST_ENDIAN = 1  # enum byteorder of nft
_VERDICT_MAP = 0xFFFFFF00  # NFT_DATA_VERDICT


def record_text(
    record: RulesetRecord,
    sets: Sets,
    interfaces: Interfaces = None,
    listed: bool = True,
) -> str | None:
    """The text of a record's entity; None for a commit, or for a record that says too little.

    sets         the record and the elements of a set of the record's table, by name
    interfaces   the names of interfaces by number
    listed       as `nft list` writes it, else as `nft monitor`: see nft_rule.rule_text
    """
    order = ">" if record.layout == "nft-be" else "<"
    what = (record.op or "").partition("_")[2]
    try:
        if what == "rule":
            return _rule(record, sets, order, interfaces, listed)
        if what == "set_element":
            held = sets(record.name or "")
            if held is None or record.elements is None:
                return None
            return ElementTexts(held[0], order, interfaces).text(record.elements)
        write = _WRITERS.get(what)
        return None if write is None else write(record)
    except ERRORS:
        return None


def _rule(
    record: RulesetRecord,
    sets: Sets,
    order: str,
    interfaces: Interfaces,
    listed: bool,
) -> str | None:
    if record.expressions is None:
        return None
    text = rule_text(record.expressions, str(record.family), sets, order, interfaces, listed)
    if record.comment is None:
        return text
    try:
        comment = quoted(record.comment)
    except Unclear:
        comment = "[comment]"
    return f"{text} comment {comment}" if text else f"comment {comment}"


@lru_cache(maxsize=256)
def _parts(number: int, size: int, sizes: tuple[int, ...]) -> list[Part]:
    """The fields of a set's key or data: NFTA_SET_KEY_TYPE, its bytes, and the bytes of fields."""
    types = types_of(number)
    if len(types) == 1:
        return [Part(types[0], size)]
    if len(sizes) == len(types):
        return [Part(kind, size) for kind, size in zip(types, sizes, strict=True)]
    return parts_of_types(types)


def key_parts(record: Any) -> list[Part]:
    """The fields of a set's keys, as its declaration says."""
    sizes = (extra(record, "NFTA_SET_DESC") or {}).get("NFTA_SET_DESC_CONCAT") or ()
    parts = _parts(extra(record, "NFTA_SET_KEY_TYPE") or 0, extra(record, "NFTA_SET_KEY_LEN") or 0,
                   tuple(sizes))  # fmt: skip
    return _ordered(parts, record, _NFTNL_UDATA_SET_KEYBYTEORDER)


def data_parts(record: Any) -> list[Part] | None:
    """The fields of what a map gives; None if that is verdicts or objects, or for a set."""
    number = extra(record, "NFTA_SET_DATA_TYPE")
    if not number or number == _VERDICT_MAP:
        return None
    return _ordered(parts_of_types(types_of(number)), record, _NFTNL_UDATA_SET_DATABYTEORDER)


def _ordered(parts: list[Part], record: Any, attribute: int) -> list[Part]:
    """The fields of a key or of data; a single number in the order that nft has noted."""
    if len(parts) != 1 or parts[0].type is not INTEGER:
        return parts
    noted = extra(record, "NFTA_SET_USERDATA")
    data = user_data(bytes.fromhex(noted)) if isinstance(noted, str) else None
    order = ">" if record.layout == "nft-be" else "<"
    value = int.from_bytes((data or {}).get(attribute, b""), BYTEORDER[order])
    return [parts[0]._replace(type=HOST_INTEGER)] if value == _HOST_ENDIAN else parts


class ElementTexts:
    """Writes messages about the elements of one set, of which there may be very many.

    declared     the record of the set
    order        the machine's byte order, < or >
    interfaces   the names of interfaces by number
    """

    def __init__(self, declared: RulesetRecord, order: str, interfaces: Interfaces) -> None:
        self._order, self._interfaces = order, interfaces
        self._parts, self._data = key_parts(declared), data_parts(declared)
        self._flags = declared.flags or 0
        self._begin = f"element {declared.family} {declared.table} {declared.name} {{ "
        ranges = bool(self._flags & NFT_SET_INTERVAL) and len(self._parts) == 1
        self._write_all: Callable[[list[Element]], list[str]] = (
            self._ranges if ranges else self._singles
        )
        self._simple = not ranges and self._parts[0].type is not IFINDEX

    def text(self, elements: list[Element]) -> str:
        """The text of a message; a message may hold one end of a range only. Raises ERRORS."""
        if self._simple and len(elements) == 1 and len(elements[0]) == 1:
            return f"{self._begin}{key_text(elements[0], self._parts, self._order)} }}"
        text = f"{self._begin}{', '.join(self._write_all(elements))} }}"
        return named(text, self._interfaces)

    def _singles(self, elements: list[Element]) -> list[str]:
        return [
            with_details("*" if _is_catchall(e) else key_text(e, self._parts, self._order),
                         e, self._data, self._order)
            for e in elements
        ]  # fmt: skip

    def _ranges(self, elements: list[Element]) -> list[str]:
        if len(elements) > 1 and any(_is_end(e) for e in elements):
            return set_elements(elements, self._parts, self._data, self._order, self._flags, True)
        return [self._bound(e) for e in elements]

    def _bound(self, element: Element) -> str:
        """The first value of a range, or the value after it, as the kernel announces them."""
        if _is_catchall(element):
            return with_details("*", element, self._data, self._order)
        swapped = [self._parts[0]._replace(swapped=True)]
        word = "before" if _is_end(element) else "from"
        key = f"[{word}] {key_text(element, swapped, self._order)}"
        return with_details(key, element, self._data, self._order)


def elements_text(declared: RulesetRecord, elements: list[dict[str, Any]]) -> list[str]:
    """All elements of a set as `nft list` writes them; how many there are, if that is not clear.

    declared   the record of the set
    """
    order = ">" if declared.layout == "nft-be" else "<"
    try:
        texts = set_elements(elements, key_parts(declared), data_parts(declared), order,
                             declared.flags or 0, True)  # fmt: skip
        return [named(text, None) for text in texts]
    except ERRORS:
        return [f"[{len(elements)} elements]"] if elements else []


def _is_catchall(element: Element) -> bool:
    return bool(element.get("flags", 0) & NFT_SET_ELEM_CATCHALL)


def _is_end(element: Element) -> bool:
    return bool(element.get("flags", 0) & NFT_SET_ELEM_INTERVAL_END)


def _set(record: RulesetRecord) -> str:
    if record.op == "del_set":
        return f"set {record.family} {record.table} {record.name}"
    key = _types(lambda: key_parts(record), "[key]") or ""
    if extra(record, "NFTA_SET_DATA_TYPE") == _VERDICT_MAP:
        return set_declaration(record, key, "verdict")
    return set_declaration(record, key, _types(lambda: data_parts(record), "[data]"))


def _types(parts: Callable[[], list[Part] | None], unclear: str) -> str | None:
    """The types in words. nft declares numbers and strings by an expression, which is not here."""
    try:
        names = [part.type.name for part in parts() or ()]
    except Unclear:
        return unclear
    return unclear if {"integer", "string"} & {*names} else " . ".join(names) or None


_WRITERS: dict[str, Callable[[RulesetRecord], str]] = {
    "table": table, "chain": chain, "set": _set, "obj": objects, "flowtable": flowtable,
}  # fmt: skip
