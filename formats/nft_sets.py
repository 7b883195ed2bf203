"""Sets and maps of nftables with their elements, and what identifies an element.

Large sets stay small: most elements are only a key, and are held without a value.
"""

from __future__ import annotations

from typing import Any

from pylog.record.ruleset import RulesetRecord

ElementKey = str | tuple[Any, ...]
"""What identifies an element: its key, with the end of the key and the flags if it has them."""

_ELEMENT_FLAGS = 3  # NFT_SET_ELEM_INTERVAL_END | NFT_SET_ELEM_CATCHALL


class Set:
    """A set or map with its elements; an element that is only a key is held as None."""

    __slots__ = ("elements", "record")

    def __init__(self, record: RulesetRecord) -> None:
        self.record = record
        self.elements: dict[ElementKey, dict[str, Any] | None] = {}

    @property
    def anonymous(self) -> bool:
        """True for a set that a rule has brought along: NFT_SET_ANONYMOUS."""
        return is_anonymous(self.record)

    def copy(self) -> Set:
        """The same set, whose elements change independently."""
        other = Set(self.record)
        other.elements = dict(self.elements)
        return other

    def listed(self) -> list[dict[str, Any]]:
        """The elements, as records have them."""
        return [full_element(key, value) for key, value in self.elements.items()]


def is_anonymous(record: RulesetRecord) -> bool:
    """True for the record of an anonymous set: NFT_SET_ANONYMOUS."""
    return bool((record.flags or 0) & 1)


def element_key(element: dict[str, Any]) -> ElementKey:
    """What identifies an element in its set.

    In an interval set the same key can be the end of one range and the start of the next.
    """
    key, end = element.get("key"), element.get("key_end")
    flags = (element.get("flags") or 0) & _ELEMENT_FLAGS
    if isinstance(key, str) and end is None and not flags:
        return key
    return (key, end, flags)


def stored_element(element: dict[str, Any]) -> dict[str, Any] | None:
    """None for an element that is only a key: most are, and large sets stay small."""
    return None if len(element) == 1 and "key" in element else element


def full_element(key: ElementKey, stored: dict[str, Any] | None) -> dict[str, Any]:
    """An element as records have it."""
    return {"key": key} if stored is None else stored
