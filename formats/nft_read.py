"""Reads the attributes of nftables' messages by the tables of formats.nft_attributes.

`compiled` makes a table ready for `parse`, which reads a run of attributes into a dict under the
kernel's names: numbers and texts as they are, nested attributes as dicts, and other bytes as their
place in the data. It is what netlink.to_dict is for NFLOG, but it copies no bytes and converts
nothing for JSON, because a commit may have a hundred thousand elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from construct import Struct

from pylog.errors import DecodeError
from pylog.formats.netlink import NLA_TYPE_MASK, OCTETS, PADDING, TEXT, Table, nlattr, text
from pylog.formats.plan import Plan
from pylog.memo import Memo

UNKNOWN = "unknown"
"""The name under which `parse` gives attributes that cannot be read: a list of [number, hex]."""

Compiled = dict[int, tuple[str, int, Any, int]]
"""Number -> name, how to read it, what to read it with, the least size."""
_NUMBER, _TEXT, _OCTETS, _NESTED, _PADDING = range(5)

texts: Memo[bytes, str] = Memo(text)
"""Strings of the kernel by their bytes; names repeat from message to message."""


def compiled(table: Table) -> Compiled:
    """The table, ready for `parse`."""
    made: Compiled = {}
    for number, (name, kind) in table.items():
        if kind is TEXT:
            made[number] = name, _TEXT, None, 0
        elif kind is OCTETS:
            made[number] = name, _OCTETS, None, 0
        elif kind is PADDING:
            made[number] = name, _PADDING, None, 0
        elif isinstance(kind, dict):
            made[number] = name, _NESTED, compiled(kind), 0
        else:
            plan = Plan(Struct("v" / kind))
            made[number] = name, _NUMBER, plan.unpack, plan.size
    return made


class Place(NamedTuple):
    """Where in the data a value lies: data[start:end]."""

    start: int
    end: int


class Parsing(NamedTuple):
    """What reading the attributes of one message needs.

    base     offset of data[0] in the input, for errors
    flaws    values that make no sense are added here, and read as unknown
    cut      the capture kept only the first bytes of the message
    """

    data: bytes
    order: str
    base: int
    flaws: list[DecodeError]
    cut: bool = False


def parse(table: Compiled, parsing: Parsing, start: int, end: int) -> dict[str, Any]:
    """The attributes in data[start:end], by name; DecodeError for a length that does not fit.

    What is not in the table, comes again or is too short for its number is under UNKNOWN. An
    attribute that is empty where a number is expected is left out.
    """
    data, order, base, flaws, cut = parsing
    unpack, found = nlattr[order], dict[str, Any]()
    while start < end:
        if end - start < 4:
            if cut:
                break
            raise DecodeError("nlattr", f"{end - start} bytes left", "at least 4", base + start)
        size, number = unpack(data, start)
        at, stop = start + 4, start + size
        if size < 4 or stop > end:
            if cut and size >= 4:
                break
            raise DecodeError("nla_len", size, f"4 to {end - start}", base + start)
        start += (size + 3) & ~3
        number &= NLA_TYPE_MASK
        name, how, read, least = table.get(number, _NOT_THERE)
        if how == _PADDING:
            continue
        if not name or name in found:
            found.setdefault(UNKNOWN, []).append([number, data[at:stop].hex()])
        elif how == _NUMBER:
            if stop - at >= least:
                found[name] = read(data, at)[0]
            elif at < stop:
                flaws.append(DecodeError(name, f"{stop - at} bytes", f"{least}", base + at))
                found.setdefault(UNKNOWN, []).append([number, data[at:stop].hex()])
        elif how == _TEXT:
            found[name] = texts[data[at:stop]]
        elif how == _OCTETS:
            found[name] = Place(at, stop)
        else:
            try:
                found[name] = parse(read, parsing, at, stop)
            except DecodeError as error:
                flaws.append(error)
                found.setdefault(UNKNOWN, []).append([number, data[at:stop].hex()])
    return found


_NOT_THERE: tuple[str, int, Any, int] = ("", -1, None, 0)


def each(parsing: Parsing, place: Place, number: int, read: Callable[[int, int], Any]) -> list[Any]:
    """A list of attributes that all have the same number, each as `read` gives it.

    An element of another number is a flaw and left out.
    """
    data, order, base, flaws, cut = parsing
    start, end = place
    unpack, found = nlattr[order], []
    while start < end:
        size, kind = unpack(data, start) if end - start >= 4 else (0, 0)
        if size < 4 or start + size > end:
            if cut and (size >= 4 or end - start < 4):
                break
            raise DecodeError("nla_len", size, f"4 to {end - start}", base + start)
        if kind & NLA_TYPE_MASK == number:
            found.append(read(start + 4, start + size))
        else:
            kind &= NLA_TYPE_MASK
            flaws.append(DecodeError("nla_type", kind, number, base + start))
        start += (size + 3) & ~3
    return found


def user_data(octets: bytes) -> dict[int, bytes] | None:
    """The parts of user data by their type: u8 type, u8 length, value; None: it is none of that.

    The kernel does not look at it, so any bytes may stand there.
    """
    parts, at = dict[int, bytes](), 0
    while at < len(octets):
        if at + 2 > len(octets) or at + 2 + octets[at + 1] > len(octets) or octets[at] in parts:
            return None
        end = at + 2 + octets[at + 1]
        parts[octets[at]] = octets[at + 2 : end]
        at = end
    return parts
