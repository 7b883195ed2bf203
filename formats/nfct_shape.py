"""The shape of a message of conntrack: what is the same in all messages with the same attributes.

A `Shape` is made of one message, by the tables of `nfct_attributes`. It knows where each value with
a place in the record lies, and compiles these places into one struct; it is no second statement of
the layout. A message with anything unusual (an attribute that comes twice, a tuple without ports, a
length that no table has) has no shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from struct import Struct as CStruct
from typing import Any, NamedTuple

from construct import Struct

from pylog.errors import DecodeError
from pylog.formats.netlink import NFGENMSG, OCTETS, PADDING, TEXT, Table, scan
from pylog.formats.netlink_stream import unpack_nlmsghdr
from pylog.formats.nfct_attributes import CT_DELETE, CT_NEW, CTA
from pylog.formats.nfct_flow import AT_EVENT, AT_FAMILY, FAMILIES, FIELDS, INVERSE, Values, event_of
from pylog.formats.plan import Plan

LEAST, LONGEST = 60, 1024
"""No shorter or longer message has a shape; Linux 6.18 writes 128 to about 400 bytes."""

_TUPLE = ("saddr", "daddr", "protocol", "sport", "dport", "icmp_type", "icmp_code", "zone")
_IN_TUPLE = {
    "CTA_IP_V4_SRC": "saddr", "CTA_IP_V6_SRC": "saddr", "CTA_IP_V4_DST": "daddr",
    "CTA_IP_V6_DST": "daddr", "CTA_PROTO_NUM": "protocol", "CTA_PROTO_SRC_PORT": "sport",
    "CTA_PROTO_DST_PORT": "dport", "CTA_PROTO_ICMP_ID": "sport", "CTA_PROTO_ICMPV6_ID": "sport",
    "CTA_PROTO_ICMP_TYPE": "icmp_type", "CTA_PROTO_ICMPV6_TYPE": "icmp_type",
    "CTA_PROTO_ICMP_CODE": "icmp_code", "CTA_PROTO_ICMPV6_CODE": "icmp_code",
    "CTA_TUPLE_ZONE": "zone",
}  # fmt: skip
"""The place of a value in a tuple."""
_PORTS = {"saddr", "daddr", "protocol", "sport", "dport"}
_ICMP = {"saddr", "daddr", "protocol", "sport", "icmp_type", "icmp_code"}
_NEITHER = {"saddr", "daddr", "protocol"}

PLACES = (
    *(f"orig {name}" for name in _TUPLE), *(f"reply {name}" for name in _TUPLE), "CTA_ZONE",
    "CTA_ID", "CTA_STATUS", "CTA_TIMEOUT", "CTA_COUNTERS_ORIG CTA_COUNTERS_PACKETS",
    "CTA_COUNTERS_ORIG CTA_COUNTERS_BYTES", "CTA_COUNTERS_REPLY CTA_COUNTERS_PACKETS",
    "CTA_COUNTERS_REPLY CTA_COUNTERS_BYTES", "CTA_TIMESTAMP CTA_TIMESTAMP_START",
    "CTA_TIMESTAMP CTA_TIMESTAMP_STOP", "CTA_MARK", "CTA_TIMESTAMP_EVENT",
)  # fmt: skip
"""What `Shape.unpack` gives, in its order, which is that of a destroy event."""
_COUNTERS = tuple(place for place in PLACES if place.startswith("CTA_COUNTERS"))
_PLACED = frozenset(("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY", *(name.split()[0] for name in PLACES)))
"""The attributes of a message whose values all have places."""


_nfgenmsg = Plan(NFGENMSG).unpack


class Irregular(Exception):
    """A message has no shape."""


class Has(NamedTuple):
    """Which of the values that may be missing a shape has."""

    zone: bool
    id: bool
    status: bool
    timeout: bool
    counters: bool
    start: bool
    stop: bool
    mark: bool
    time: bool
    zone_orig: bool
    zone_reply: bool


class _Leaf(NamedTuple):
    """A value: its place, where it lies in the message, its size and struct code; the IP version
    that its attribute is for.
    """

    place: str
    at: int
    size: int
    code: str
    version: int | None


class Shape:
    """What messages with the same attributes have in common.

    mask, bits   number & mask == bits for a message that has the shape, where number is made of
                 its bytes from nfgenmsg on, the first byte being the least
    unpack       (data, start of the message) -> the values of PLACES, b"" for one that is missing
    rest         (data, start of the message) -> the attributes without places; None: there are none
    has          which values are there
    ports        whether the tuples have ports
    inverse      of ICMP: the type of a reply by that of the request
    values       of the record, as far as the shape determines them
    is_event, destroys   by its type and flags
    """

    def __init__(self, order: str, message: bytes) -> None:
        """Raises Irregular."""
        if not LEAST <= len(message) <= LONGEST:
            raise Irregular
        size, kind, flags, _, _ = unpack_nlmsghdr[order](message, 0)
        number, version, res_id = _nfgenmsg(message, 16)
        family = FAMILIES.get(number)
        if kind not in (CT_NEW, CT_DELETE) or size != len(message) or family is None:
            raise Irregular
        if version or res_id:
            raise Irregular
        heads: list[int] = []
        runs: list[tuple[int, int]] = []
        try:
            leaves = list(_leaves(CTA, message, 20, size, order, (), heads, runs))
        except DecodeError as error:
            raise Irregular from error
        places = {leaf.place for leaf in leaves}
        self.has = _has(places)
        versions = {leaf.version for leaf in leaves} - {None}
        if len(places) < len(leaves) or versions != {4 if family == "ipv4" else 6}:
            raise Irregular
        parts = [
            {place.split()[1] for place in places if place.startswith(way)} - {"zone"}
            for way in ("orig", "reply")
        ]
        if parts[0] != parts[1] or parts[0] not in (_PORTS, _ICMP, _NEITHER):
            raise Irregular
        self.ports = parts[0] == _PORTS
        self.inverse = INVERSE[family] if parts[0] == _ICMP else None
        mask = bytearray(size)
        for at in (16, *heads):
            mask[at : at + 4] = b"\xff\xff\xff\xff"
        self.mask = int.from_bytes(mask[16:], "little")
        self.bits = int.from_bytes(message[16:], "little") & self.mask
        self.unpack = _unpacker(leaves)
        self.rest = _cutter(runs)
        event = event_of(kind, flags)
        self.is_event, self.destroys = event != "dump", event == "destroy"
        self.values: Values = [None] * len(FIELDS)
        self.values[AT_EVENT], self.values[AT_FAMILY] = event, family


def _leaves(
    table: Table,
    message: bytes,
    start: int,
    end: int,
    order: str,
    path: tuple[str, ...],
    heads: list[int],
    runs: list[tuple[int, int]],
) -> Iterator[_Leaf]:
    """The values with places in message[start:end].

    Adds to `heads` where each attribute begins, and to `runs` start and end of each run of
    attributes without places, which are of the first level only.
    """
    seen = set()
    for number, at, stop in scan(message, start, end, order, 0):
        heads.append(at - 4)
        name, kind = table.get(number, ("", None))
        if not path and name not in _PLACED:
            begins = runs.pop()[0] if runs and runs[-1][1] == at - 4 else at - 4
            runs.append((begins, min((stop + 3) & ~3, end)))
            continue
        if kind is None or name in seen or kind in (TEXT, OCTETS):
            raise Irregular
        if kind is PADDING or (at == stop and not isinstance(kind, dict)):
            continue
        seen.add(name)
        if isinstance(kind, dict):
            yield from _leaves(kind, message, at, stop, order, (*path, name), heads, runs)
            continue
        (leaf,) = Plan(Struct("v" / kind)).leaves
        place = " ".join((*path, name))
        if path and path[0] in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY"):
            place = f"{path[0].removeprefix('CTA_TUPLE_').lower()} {_IN_TUPLE[name]}"
        if stop - at != leaf.size or place not in PLACES:
            raise Irregular
        version = 6 if "V6_" in name else 4 if "_V4_" in name or "_ICMP_" in name else None
        yield _Leaf(place, at, leaf.size, leaf.code, version)


def _has(places: set[str]) -> Has:
    counters = [place in places for place in _COUNTERS]
    if any(counters) != all(counters):
        raise Irregular
    return Has(
        "CTA_ZONE" in places, "CTA_ID" in places, "CTA_STATUS" in places, "CTA_TIMEOUT" in places,
        all(counters), "CTA_TIMESTAMP CTA_TIMESTAMP_START" in places,
        "CTA_TIMESTAMP CTA_TIMESTAMP_STOP" in places, "CTA_MARK" in places,
        "CTA_TIMESTAMP_EVENT" in places, "orig zone" in places, "reply zone" in places,
    )  # fmt: skip


def _unpacker(leaves: list[_Leaf]) -> Callable[[bytes, int], tuple[Any, ...]]:
    """A function as Shape.unpack."""
    by_place = {leaf.place: leaf for leaf in leaves}
    order = [place for place in PLACES if place in by_place]
    in_order = order == [leaf.place for leaf in leaves]
    slots = PLACES if in_order else tuple(leaf.place for leaf in leaves)
    code, at = ">", 0
    for slot in slots:
        leaf = by_place.get(slot)
        if leaf is None:
            code += "0s"
        else:
            code += f"{leaf.at - at}x{leaf.code}"
            at = leaf.at + leaf.size
    unpack = CStruct(code).unpack_from
    if in_order:
        return unpack
    missing = len(slots)
    pick = itemgetter(*(slots.index(p) if p in by_place else missing for p in PLACES))
    return lambda data, start: pick((*unpack(data, start), b""))


def _cutter(runs: list[tuple[int, int]]) -> Callable[[bytes, int], bytes] | None:
    """A function as Shape.rest."""
    if not runs:
        return None
    if len(runs) == 1:
        ((first, last),) = runs
        return lambda data, start: data[start + first : start + last]
    return lambda data, start: b"".join([data[start + a : start + b] for a, b in runs])
