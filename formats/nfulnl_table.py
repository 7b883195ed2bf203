"""How the attributes of a log message become fields of its record: the one table of NFLOG.

A row names the place of a field and the attribute that it comes from (see formats.mapping). The
loop over the rows is in NfulnlStream.decode. columns.nfulnl has the same rows for many messages at
once: Numbers and the Time as arrays, Words once for each distinct value. The packet, what is in
front of it, and `extra` are not in the table, since they depend on several attributes.
"""

from __future__ import annotations

from pylog.formats.addresses import mac
from pylog.formats.mapping import Number, Time, Words
from pylog.formats.netlink import text
from pylog.formats.nfulnl_attributes import ATTRIBUTES, DIRECTIONS, HOOKS
from pylog.record.places import (
    AT_DIRECTION,
    AT_GID,
    AT_HOOK,
    AT_HWADDR,
    AT_HWTYPE,
    AT_INDEV,
    AT_MARK,
    AT_OUTDEV,
    AT_PHYSINDEV,
    AT_PHYSOUTDEV,
    AT_PREFIX,
    AT_SEQ,
    AT_UID,
)

ATTRIBUTE_NUMBER = {name: number for number, (name, _) in ATTRIBUTES.items()}


def prefix_of(octets: bytes) -> tuple[str | None]:
    """The prefix of a rule, which is None if it is empty."""
    return (text(octets) or None,)


def address_of(size: int, octets: bytes) -> tuple[str | None]:
    """The link address of a neighbour; None if there is none, or none that fits."""
    return (mac(octets[:size]) if 0 < size <= len(octets) else None,)


def hook_of(family: int, number: int) -> tuple[str | int, str | None]:
    """The hook, by its name or else its number, and the direction."""
    hooks = HOOKS.get(family, ())
    if number >= len(hooks):
        return number, None
    return hooks[number], DIRECTIONS.get(hooks[number])


NUMBERS = (
    Number(AT_MARK, "NFULA_MARK"),
    Number(AT_UID, "NFULA_UID"),
    Number(AT_GID, "NFULA_GID"),
    Number(AT_SEQ, "NFULA_SEQ"),
    Number(AT_HWTYPE, "NFULA_HWTYPE"),
)
DEVICES = (
    Number(AT_INDEV, "NFULA_IFINDEX_INDEV"),
    Number(AT_OUTDEV, "NFULA_IFINDEX_OUTDEV"),
    Number(AT_PHYSINDEV, "NFULA_IFINDEX_PHYSINDEV"),
    Number(AT_PHYSOUTDEV, "NFULA_IFINDEX_PHYSOUTDEV"),
)
"""Interfaces: the field has the name that the stream knows, or else the number."""
TIME = Time("sec", "usec")
"""Of NFULA_TIMESTAMP."""
PREFIX = Words((AT_PREFIX,), ("NFULA_PREFIX",), prefix_of)
ADDRESS = Words((AT_HWADDR,), ("NFULA_HWADDR",), address_of)
"""The words that one attribute determines, whose value `explain` takes."""
HOOK = Words((AT_HOOK, AT_DIRECTION), ("nfgen_family", "hook"), hook_of)
