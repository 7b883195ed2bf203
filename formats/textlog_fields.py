"""What the grammars of text logs share: addresses, protocols and names as records have them.

Lines are read as Latin-1, so that each byte is a character and offsets are those of the input.
Names and prefixes become UTF-8 here. Addresses are rewritten in the form of RFC 5952, because
programs write IPv6 addresses in several forms.
"""

from __future__ import annotations

import re

from pylog.formats.addresses import addresses, octets
from pylog.formats.ipmon_words import PROTOCOLS
from pylog.memo import Memo
from pylog.record import PacketHeaders, PacketRecord, columns_of
from pylog.record.fields import place
from pylog.record.places import AT_RAW, Values

AT_HOST = place(PacketRecord.host)
AT_LOCAL = place(PacketRecord.timestamp_local)
_EMPTY: Values = [None] * (max(AT_RAW, AT_HOST, AT_LOCAL) + 1)


_SIZES = {"u8": 0xFF, "u16": 0xFFFF, "u32": 0xFFFFFFFF}
LARGEST = {
    name: _SIZES[column] for name, column in columns_of(PacketHeaders).items() if column in _SIZES
}
"""The largest values of the fields on request, which are in `extra`; larger ones are left out."""


def no_values() -> Values:
    """The values of an empty record, up to the time as it was written."""
    return _EMPTY.copy()


_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)


def _canonical(text: str) -> str | None:
    """The address in the form that records have; None for text that is none."""
    if _IPV4.fullmatch(text):
        return text
    try:
        return addresses[octets[text]]
    except ValueError:
        return None


canonical: Memo[str, str | None] = Memo(_canonical, 65536, 1 << 24)
"""canonical[text] is the address as records have it, or None."""


def is_ipv4(text: str) -> bool:
    """Whether text is an IPv4 address as records have it."""
    return _IPV4.fullmatch(text) is not None


def is_ipv6(address: str) -> bool:
    """Whether an address is one of IPv6."""
    return ":" in address


def family_of(address: str) -> str:
    """ipv4 or ipv6, by an address."""
    return "ipv6" if ":" in address else "ipv4"


NUMBERS = {name: number for number, name in PROTOCOLS.items()} | {
    "icmp6": 58, "icmpv6": 58, "ipv6-icmp": 58, "udplite": 136, "ipencap": 4, "ipip": 94,
    "carp": 112, "pfsync": 240, "ipv4": 4,
}  # fmt: skip
"""Protocols by the names that programs give them, in lower case."""


def protocol_number(text: str) -> int | None:
    """The number of a protocol that is written as a name or a number; None if unknown."""
    if text.isdecimal():
        return number(text, 255)
    return NUMBERS.get(text.lower())


def port(text: str) -> int | None:
    """A port that is written as a number; None for a name, or for what is none."""
    return int(text) if text.isdecimal() and len(text) < 6 and int(text) < 65536 else None


def number(text: str, most: int = 0xFFFFFFFF) -> int | None:
    """A decimal number up to `most`; None for text that is none."""
    if not text.isdecimal() or len(text) > 20:
        return None
    value = int(text)
    return value if value <= most else None


def hexadecimal(text: str, most: int = 0xFFFFFFFF) -> int | None:
    """A hexadecimal number up to `most`, with or without 0x; None for text that is none."""
    try:
        value = int(text, 16)
    except ValueError:
        return None
    return value if 0 <= value <= most else None


_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


def utf8(text: str, escaped: bool = False) -> str:
    """Text of the input, whose characters are bytes, as UTF-8.

    escaped   whether \\xHH stands for a byte, as in /dev/kmsg
    """
    if escaped and "\\x" in text:
        text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    if text.isascii():
        return text
    return text.encode("latin-1").decode("utf-8", "backslashreplace")
