"""Text of network and link-layer addresses, remembered for each distinct address.

Records have addresses as text, and a log repeats a few of them: looking one up is several times as
fast as making it. Both tables are bounded, because whoever sends packets chooses the addresses.
"""

from __future__ import annotations

from typing import Final

from pylog.memo import Memo

_OCTET = [str(n) for n in range(256)]


def _address_text(address: bytes) -> str:
    if len(address) == 4:
        a, b, c, d = address
        return f"{_OCTET[a]}.{_OCTET[b]}.{_OCTET[c]}.{_OCTET[d]}"
    return _ipv6_text(address)


def _ipv6_text(address: bytes) -> str:
    """RFC 5952 text, with ::a.b.c.d and ::ffff:a.b.c.d for embedded IPv4 as inet_ntop(3) does."""
    groups = [int.from_bytes(address[i : i + 2]) for i in range(0, 16, 2)]
    best, best_length, start = -1, 1, -1
    for i, group in enumerate([*groups, 1]):
        if group == 0:
            start = i if start < 0 else start
        elif start >= 0:
            if i - start > best_length:
                best, best_length = start, i - start
            start = -1
    words = [f"{group:x}" for group in groups]
    if best == 0 and (best_length == 6 or (best_length == 5 and groups[5] == 0xFFFF)):
        words[6:] = ["{}.{}.{}.{}".format(*address[12:])]
    if best < 0:
        return ":".join(words)
    return f"{':'.join(words[:best])}::{':'.join(words[best + best_length :])}"


addresses: Final = Memo(_address_text, 65536, 1 << 24)
"""addresses[b] is the text of an IPv4 (4 bytes) or IPv6 (16 bytes) address."""


def _address_bytes(text: str) -> bytes:
    from ipaddress import ip_address  # imported here because few programs need it

    return ip_address(text).packed


octets = Memo(_address_bytes, 65536, 1 << 24)
"""octets[text] is the address as bytes; ValueError for a text that is no address."""


def mac(address: bytes) -> str:
    """A link-layer address as colon-separated hex."""
    return address.hex(":")
