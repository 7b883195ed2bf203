"""Pseudonyms of names, of the same length: what tables, chains, sets and processes are called.

Names are numbered in the order in which they come, as addresses are in formats.scrub, so a
pseudonym says nothing of the name but its length. The same name always has the same pseudonym, and
two names never share one: the candidates of a length are every name of that length. The first are
legal identifiers of nft that are no keywords: n001, n002, ... A name that the kernel itself made
from a template, such as __set3, stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from string import ascii_lowercase, ascii_uppercase, digits

_LETTERS = ascii_lowercase + ascii_uppercase
_KEPT = re.compile(rb"__(?:set|map|objmap|chain)\d+")
"""Names of anonymous sets, maps and chains: nft sends __set%d, and the kernel puts a number in its
place (nf_tables_set_alloc_name, nf_tables_addchain)."""
_NUMBERED = re.compile(rb"[A-Za-z]\d*")
_IDENTIFIER = re.compile(rb"[A-Za-z][0-9A-Z_]*")
_LONGEST = 255
"""NFT_NAME_MAXLEN without the NUL; the kernel refuses longer names."""
_DIGITS = 7
"""Longer numbers never come, because fewer names can have a pseudonym."""
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


class Pseudonyms:
    """Gives names their pseudonyms.

    limit   the most names that can have one; ValueError for more
    first   the letter that pseudonyms begin with, as long as there are enough
    """

    def __init__(self, limit: int, first: str = "n") -> None:
        self._limit, self._first = limit, first
        self._given: dict[bytes, bytes] = {}
        self._left: dict[int, Iterator[bytes]] = {}
        """The candidates of each length that no name has."""
        self._skipped: dict[int, bytes] = {}
        """By the length, a candidate that no name has because it was the name itself."""

    def name(self, name: bytes) -> bytes:
        """The pseudonym of a name, which has no NUL; zeros if it is longer than a kernel's."""
        given = self._given.get(name)
        if given is not None:
            return given
        if not name or _KEPT.fullmatch(name):
            return name
        if len(name) > _LONGEST:
            return bytes(len(name))
        if len(self._given) >= self._limit:
            raise ValueError(f"more than {self._limit} different names: scrubbing is for fixtures")
        given = self._given[name] = self._next(name)
        return given

    def _next(self, name: bytes) -> bytes:
        """The next candidate of a length; the name itself only if no other is left."""
        size = len(name)
        skipped = self._skipped.pop(size, None)
        if skipped is not None:
            return skipped
        left = self._left.setdefault(size, _candidates(size, self._first))
        candidate = next(left)
        if candidate == name:
            other = next(left, None)
            if other is not None:
                self._skipped[size], candidate = candidate, other
        return candidate


def name_bytes(text: str) -> bytes:
    """The bytes of a name that netlink.text has decoded."""
    return _ESCAPED.sub(lambda escape: bytes.fromhex(escape[1].decode()), text.encode())


def _candidates(size: int, first: str) -> Iterator[bytes]:
    """Every name of `size` bytes without NUL, each once, the plainest first.

    No keyword of nft is a letter with digits, or has an upper-case letter. Only where more than
    1,900 names have two bytes can one be a keyword, or no identifier.
    """
    letters = first + _LETTERS.replace(first, "")
    for letter in letters:
        if size == 1:
            yield letter.encode()
            continue
        width = size - 1
        for number in range(1, 10 ** min(width, _DIGITS)):
            yield f"{letter}{number:0{width}}".encode()
        yield f"{letter}{0:0{width}}".encode()
    rest = (digits + ascii_uppercase + "_").encode()
    for octets in product(letters.encode(), *[rest] * (size - 1)):
        if not _NUMBERED.fullmatch(bytes(octets)):
            yield bytes(octets)
    every = (_LETTERS + digits + "_").encode()
    every += bytes(octet for octet in range(1, 256) if octet not in every)
    for octets in product(every, repeat=size):
        if not _IDENTIFIER.fullmatch(bytes(octets)):
            yield bytes(octets)
