"""Words of text lines, whether a line has columns or not: protocols, ends, colours, fragments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pylog.formats.ip_numbers import PROTOCOL_NAMES
from pylog.record import Fragment

PROTOCOLS = PROTOCOL_NAMES | {0: "hopopt", 4: "ipip"}
"""Names of common IP protocols (IANA); others are shown by number."""

_COLOURS = {"pass": "\x1b[32m", "block": "\x1b[31m", "lost": "\x1b[33m"}
_DIFF_COLOURS = {"+": "\x1b[32m", "-": "\x1b[31m", "~": "\x1b[33m", "@": "\x1b[1m"}
_PLAIN = "\x1b[0m"


def colour_of(mark: str, text: str) -> str:
    """A text in the colour of an action, or of "lost"; other marks have none."""
    return f"{_COLOURS[mark]}{text}{_PLAIN}" if mark in _COLOURS else text


def fragment_text(fragment: Fragment) -> str:
    """The number of a fragment, its offset, and + if more follow."""
    return f"{fragment.id}@{fragment.offset}{'+' if fragment.more else ''}"


def diff_coloured(mark: str, text: str) -> str:
    """A line in the colour of its sign in a diff: + - or ~, and @ for a heading."""
    return f"{_DIFF_COLOURS[mark]}{text}{_PLAIN}"


def protocol_words(record: Any) -> Iterator[str]:
    """The name of the protocol, or its number."""
    if record.protocol is not None:
        yield PROTOCOLS.get(record.protocol, f"proto {record.protocol}")
    elif record.family == "arp":
        yield "arp"
    elif isinstance(record.family, int):
        yield f"ethertype {record.family:#06x}"


def end_text(address: str | None, port: int | str | None) -> str:
    """An address and a port, which is text where it has the name of its service."""
    if address is None:
        return "?"
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def address_words(
    saddr: str | None, sport: int | str | None, daddr: str | None, dport: int | str | None
) -> Iterator[str]:
    """Source and destination, if there is either."""
    if saddr is not None or daddr is not None:
        yield f"{end_text(saddr, sport)} -> {end_text(daddr, dport)}"
