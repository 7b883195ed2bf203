"""Records of a ruleset in the words of nft: one line for each entity.

`record_text` writes a table, chain, set, element, object or flowtable with its declaration, and a
rule as it stands in its chain. What nft says in other places is left out: the handle, and the verb
(add, delete). A part whose text is not certain stands in brackets; `formats.nft_rule` says more.

Source: the output of nft 1.1.3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from pylog.formats.nft_declarations import chain, flowtable, objects, set_declaration, table
from pylog.formats.nft_elements import (
    NFT_SET_ELEM_CATCHALL,
    NFT_SET_ELEM_INTERVAL_END,
    NFT_SET_INTERVAL,
    Part,
    Sets,
    extra,
    key_text,
    parts_of_types,
    set_elements,
    with_details,
)
from pylog.formats.nft_rule import ERRORS, rule_text
from pylog.formats.nft_statements import quoted
from pylog.formats.nft_types import Unclear, named, types_of
from pylog.record import RulesetRecord

__all__ = ("elements_text", "record_text", "rule_text")

_VERDICT_MAP = 0xFFFFFF00  # NFT_DATA_VERDICT


def record_text(
    record: RulesetRecord,
    sets: Sets,
    interfaces: Callable[[int], str | None] | None = None,
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
            return named(_elements(record, sets, order), interfaces)
        write = _WRITERS.get(what)
        return None if write is None else write(record)
    except ERRORS:
        return None


def _rule(
    record: RulesetRecord,
    sets: Sets,
    order: str,
    interfaces: Callable[[int], str | None] | None,
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


@cache
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
    return _parts(extra(record, "NFTA_SET_KEY_TYPE") or 0, extra(record, "NFTA_SET_KEY_LEN") or 0,
                  tuple(sizes))  # fmt: skip


def data_parts(record: Any) -> list[Part] | None:
    """The fields of what a map gives; None if that is verdicts or objects, or for a set."""
    number = extra(record, "NFTA_SET_DATA_TYPE")
    if not number or number == _VERDICT_MAP:
        return None
    return parts_of_types(types_of(number))


def _elements(record: RulesetRecord, sets: Sets, order: str) -> str:
    """The elements of a message, which may hold one end of a range only."""
    where = f"element {record.family} {record.table} {record.name}"
    held = sets(record.name or "")
    elements = record.elements
    if held is None or elements is None:
        return f"{where} {{ [{len(elements or ())} elements] }}"
    declared, parts = held[0], key_parts(held[0])
    data = data_parts(declared)
    flags = declared.flags or 0
    if not flags & NFT_SET_INTERVAL or len(parts) > 1:
        texts = [_element(e, parts, data, order) for e in elements]
    elif any(e.get("flags", 0) & NFT_SET_ELEM_INTERVAL_END for e in elements) and len(elements) > 1:
        texts = set_elements(elements, parts, data, order, flags, True)
    else:
        texts = [_bound(e, parts, data, order) for e in elements]
    return f"{where} {{ {', '.join(texts)} }}"


def elements_text(declared: RulesetRecord, elements: list[dict[str, Any]]) -> list[str]:
    """All elements of a set as `nft list` writes them; how many there are, if that is not clear.

    declared   the record of the set
    """
    order = ">" if declared.layout == "nft-be" else "<"
    try:
        return set_elements(elements, key_parts(declared), data_parts(declared), order,
                            declared.flags or 0, True)  # fmt: skip
    except ERRORS:
        return [f"[{len(elements)} elements]"] if elements else []


def _element(element: dict[str, Any], parts: list[Part], data: list[Part] | None,
             order: str) -> str:  # fmt: skip
    if element.get("flags", 0) & NFT_SET_ELEM_CATCHALL:
        return with_details("*", element, data, order)
    return with_details(key_text(element, parts, order), element, data, order)


def _bound(element: dict[str, Any], parts: list[Part], data: list[Part] | None,
           order: str) -> str:  # fmt: skip
    """The first value of a range, or the value after it, as the kernel announces them."""
    if element.get("flags", 0) & NFT_SET_ELEM_CATCHALL:
        return with_details("*", element, data, order)
    swapped = [parts[0]._replace(swapped=True)]
    word = "before" if element.get("flags", 0) & NFT_SET_ELEM_INTERVAL_END else "from"
    key = f"[{word}] {key_text(element, swapped, order)}"
    return with_details(key, element, data, order)


def _set(record: RulesetRecord) -> str:
    if record.op == "del_set":
        return f"set {record.family} {record.table} {record.name}"
    try:
        key = " . ".join(part.type.name for part in key_parts(record))
    except Unclear:
        key = "[key]"
    if extra(record, "NFTA_SET_DATA_TYPE") == _VERDICT_MAP:
        return set_declaration(record, key, "verdict")
    try:
        data = data_parts(record)
        word = None if data is None else " . ".join(part.type.name for part in data)
    except Unclear:
        word = "[data]"
    return set_declaration(record, key, word)


_WRITERS: dict[str, Callable[[RulesetRecord], str]] = {
    "table": table, "chain": chain, "set": _set, "obj": objects, "flowtable": flowtable,
}  # fmt: skip
