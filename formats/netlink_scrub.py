"""Attributes of netlink messages with other addresses in them, by the tables of formats.netlink.

A table says which values are addresses; they are replaced, at any depth of nesting. Numbers and
names stay. What no table explains becomes zeros, because it may be anything.
"""

from __future__ import annotations

from typing import Any

from pylog.errors import DecodeError
from pylog.formats.netlink import IPV4_ADDRESS, IPV6_ADDRESS, OCTETS, PADDING, TEXT, scan
from pylog.formats.scrub import Scrubber

_KEPT = frozenset(("CTA_LABELS",))
"""Attributes of bytes that stay."""
_CUT = frozenset(("CTA_SECCTX_NAME",))
"""Texts that become empty: a security context may name a user."""
_NAMES = frozenset(("NFACCT_NAME",))
"""Texts that become pseudonyms, as the names of a ruleset do."""
_MASKS = frozenset(("CTA_EXPECT_MASK",))
"""Attributes in which the place of an address holds the bits that count."""


def scrubbed(
    attribute: tuple[str, Any], value: bytes, order: str, scrubber: Scrubber, mask: bool = False
) -> bytes:
    """The value of an attribute with other addresses in it.

    attribute   name and type, as in a table
    mask        what looks like an address is a mask, and stays
    """
    name, kind = attribute
    if kind in (PADDING, OCTETS):
        return value if name in _KEPT else bytes(len(value))
    if kind in (IPV4_ADDRESS, IPV6_ADDRESS):
        if mask:
            return value
        return scrubber.address(value) if len(value) in (4, 16) else bytes(len(value))
    if kind is TEXT:
        word = b"" if name in _CUT else value.split(b"\0", 1)[0]
        if name in _NAMES:
            word = scrubber.name(word)
        return word.ljust(len(value), b"\0")
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
            masked = mask or name in _MASKS
            out[start:stop] = scrubbed(kind[number], part, order, scrubber, masked)
    return bytes(out)
