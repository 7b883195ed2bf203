"""The names of a filter: what each one reads of a type of record, and what its values are.

The names are those of the JSON: every declared field, the fields on request, those of joins, parts
of fields with a dot, `kind`, and names of either end, which read several fields. All of it is
derived from the declarations of the fields, so a new field or kind needs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple, get_args

from pylog.record import (
    ON_REQUEST,
    Column,
    Fragment,
    Record,
    Vlan,
    fields_of,
    json_name,
    kind_of,
    kinds,
)
from pylog.record.joined import JoinedRecord

Domain = Literal[
    "number", "port", "protocol", "seconds", "micros", "text", "name", "action", "flags", "mac",
    "time", "address", "bool", "octets", "json", "list", "kind", "object",
]  # fmt: skip
"""What the values of a name are, and so what they can be compared with. An `object` has parts, and
only these can be compared."""

NUMBERS: frozenset[Domain] = frozenset(("number", "port", "protocol", "seconds", "micros"))
TEXTS: frozenset[Domain] = frozenset(("text", "name", "action", "flags", "mac", "kind"))

_BY_COLUMN: dict[Column, Domain] = {
    "word": "text", "name": "name", "time": "time", "address": "address", "bool": "bool",
    "u8": "number", "u16": "number", "u32": "number", "u64": "number", "i64": "number",
    "f64": "number", "octets": "octets", "fragment": "object", "vlan": "object",
    "counters": "object", "json": "list",
}  # fmt: skip
_BY_NAME: dict[str, Domain] = {
    "protocol": "protocol", "sport": "port", "dport": "port", "nat_sport": "port",
    "nat_dport": "port", "action": "action", "tcp_flags": "flags", "hwaddr": "mac",
    "timeout": "seconds", "flow_age": "seconds", "duration_us": "micros", "extra": "object",
}  # fmt: skip
"""Fields whose values have names or units besides what their column says."""

_BASE: dict[Domain, Domain] = {
    **dict.fromkeys(NUMBERS, "number"), "action": "name", "flags": "text", "mac": "text",
    "object": "list",
}  # fmt: skip
"""The domain that the column of such a field must have."""

EITHER: dict[str, tuple[Domain, tuple[str, ...]]] = {
    "addr": ("address", ("saddr", "daddr")),
    "port": ("port", ("sport", "dport")),
    "dev": ("name", ("indev", "outdev", "physindev", "physoutdev")),
    "mac": ("mac", ("hwaddr", "hwheader")),
}
"""Names of either end: the fields that they read."""

_PARTS: dict[Column, dict[str, Domain]] = {
    "fragment": {name: "bool" if name in ("more", "dont") else "number"
                 for name in Fragment.__struct_fields__},
    "vlan": {name: "bool" if name == "dei" else "number" for name in Vlan.__struct_fields__},
}  # fmt: skip

How = Literal["field", "part", "vlan", "header", "ethernet"]


class Read(NamedTuple):
    """One way to values of a record.

    how     field: the attribute itself; part: what `path` leads to in it; vlan: that of each tag;
            header: a field on request; ethernet: both addresses of the attribute `hwheader`
    """

    how: How
    attribute: str
    path: tuple[str, ...] = ()


class Target(NamedTuple):
    """What a name stands for in a type of record.

    column   the type of the column that it reads, if it reads one
    """

    domain: Domain
    reads: tuple[Read, ...]
    column: Column | None = None

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes of the record that it reads; those on request are read of the packet."""
        names: list[str] = []
        for read in self.reads:
            if read.how == "header":
                names += ["payload", "family"]
            else:
                names += [read.attribute, "hwtype"] if read.how == "ethernet" else [read.attribute]
        return tuple(names)


def types() -> list[type[Record]]:
    """The types of record that a filter can meet, those of other distributions included."""
    return [*kinds().values(), JoinedRecord]


@cache
def target(name: str, kind: type[Record]) -> Target | None:
    """What a name stands for in a type of record; None: it has no such field."""
    if name == "kind":
        return Target("kind", ())
    fields = _fields(kind)
    if name in EITHER:
        domain, names = EITHER[name]
        reads = tuple(
            Read("ethernet" if one == "hwheader" else "field", one)
            for one in names if one in kind.__struct_fields__
        )  # fmt: skip
        if reads:
            return Target(domain, reads)
    first, *path = name.split(".")
    if first in fields:
        attribute, column = fields[first]
        domain, named = _BY_COLUMN[column], _BY_NAME.get(first)
        if named is not None and _BASE[named] == domain:
            domain = named
        if not path:
            return Target(domain, (Read("field", attribute),), column)
        return _part(domain, column, attribute, tuple(path))
    headers = ON_REQUEST.get(kind_of(kind))
    if headers is not None and name in headers.__struct_fields__:
        declared = fields_of(headers)[name].column
        assert declared is not None
        return Target(_BY_COLUMN[declared], (Read("header", name),), declared)
    return None


def _part(domain: Domain, column: Column, attribute: str, path: tuple[str, ...]) -> Target | None:
    """What a part of a field stands for; None: there is no such part."""
    if domain != "object":
        return None
    if column == "json":
        return Target("json", (Read("part", attribute, path),))
    if len(path) > 1:
        return None
    if column == "counters":
        return Target("number", (Read("part", attribute, path),))
    part = _PARTS[column].get(path[0])
    how: How = "vlan" if column == "vlan" else "part"
    return None if part is None else Target(part, (Read(how, attribute, path),))


@cache
def _fields(kind: type[Record]) -> dict[str, tuple[str, Column]]:
    """The attribute and the column of each field, by its name in JSON."""
    return {
        json_name(name): (name, field.column)
        for name, field in fields_of(kind).items()
        if field.column is not None
    }


def everything() -> list[str]:
    """All names, for suggestions; of `extra` and counters without their parts."""
    return list(dict.fromkeys(_all()))


def _all() -> Iterator[str]:
    yield "kind"
    for kind in types():
        for name, (_, column) in _fields(kind).items():
            yield name
            yield from (f"{name}.{part}" for part in _PARTS.get(column, ()))
    for headers in ON_REQUEST.values():
        yield from headers.__struct_fields__
    yield from EITHER


assert set(_BY_COLUMN) == set(get_args(Column))
