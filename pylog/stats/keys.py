"""What records are grouped by: a field, or what is derived from one.

A key names a field of JSON; or the network of an address (`saddr/24`, with the length for IPv6
after another slash, `saddr/24/48`); or its `country`, `asn` or `network` (`saddr.country`); or a
part of the time (`hour`, `weekday`, `day`, `month`); or `kind`. A derived key is a function of one
value, which is called once for each distinct one of a batch. The same functions serve records and
columns, so both give the same groups.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import tzinfo
from functools import partial
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from pylog.formats.addresses import addresses, octets
from pylog.memo import Memo
from pylog.record import (
    ON_REQUEST,
    Column,
    Record,
    all_columns,
    columns_of,
    fields_of,
    json_name,
    kinds,
    no_column,
)
from pylog.record.joined import JoinedRecord
from pylog.stats import times
from pylog.stats.geo import PARTS, Geo

Form = Literal["text", "number", "bool", "time"]
"""The form of a key's values; a time is a number of nanoseconds since 1970 UTC."""

FORMS: dict[Column, Form] = {
    "word": "text", "name": "text", "address": "text", "json": "text", "bool": "bool",
    "u8": "number", "u16": "number", "u32": "number", "u64": "number", "i64": "number",
    "time": "time",
}  # fmt: skip
TIME_PARTS = {
    "hour": times.hour, "weekday": times.weekday, "day": times.day, "month": times.month,
}  # fmt: skip
ALIASES = {"verdict": "action"}
KIND, TIME, BUCKET = "kind", "time", "bucket"
"""The kind of the record, the time of the record, and the name of the key of --every."""
IPV6_PREFIX = 64
"""The length of an IPv6 network, where only that for IPv4 is given."""


class Key(NamedTuple):
    """A key.

    name     as it is typed
    column   that it is derived from; KIND for the kind, TIME for the time of the record
    form     of its values
    derive   from a value of the column, or a granule of time, to the key's; None: the value itself
    part     of a time, if that is what it is
    """

    name: str
    column: str
    form: Form
    derive: Callable[[Any], Any] | None = None
    part: times.TimePart | None = None


def key(name: str, zone: tzinfo | None, geo: Geo | None = None) -> Key:
    """The key of a name; ValueError for a name that is none.

    zone   in which hours and days are; None: the machine's
    """
    if name == KIND:
        return Key(name, KIND, "text")
    if name in TIME_PARTS:
        part = TIME_PARTS[name](zone)
        return Key(name, TIME, "number" if name == "hour" else "text", part=part)
    base, slash, lengths = name.partition("/")
    if slash:
        four, six = _lengths(name, lengths)
        column = _column(base, name)
        if all_columns().get(column) != "address":
            raise ValueError(f"{base} has no networks: only addresses have, as saddr/24")
        return Key(name, column, "text", Memo(partial(network, four=four, six=six)).__getitem__)
    base, dot, part_name = name.partition(".")
    if dot and part_name in PARTS:
        column = _column(base, name)
        if all_columns().get(column) != "address":
            raise ValueError(
                f"{base} has no {part_name}: only addresses have, as saddr.{part_name}"
            )
        if geo is None:
            raise ValueError(f"{name} needs --geo FILE, an mmdb file")
        return Key(name, column, "text", partial(geo.part, part_name))
    column = _column(name, name)
    form = FORMS.get(_columns()[column])
    if form is None:
        raise ValueError(f"records cannot be grouped by {name}: it is no single value")
    return Key(name, column, form)


def bucket_key(every: str, zone: tzinfo | None) -> Key:
    """The key of the buckets of --every; ValueError for what is no length of time."""
    return Key(BUCKET, TIME, "time", part=times.bucket(every, zone))


def network(address: str, four: int, six: int) -> str | None:
    """The network of an address, as 192.0.2.0/24; an address of full length has no slash.

    None for a text of a damaged table that is no address.
    """
    try:
        raw = octets[address]
    except ValueError:
        return None
    length = four if len(raw) == 4 else six
    bits = len(raw) * 8
    if length == bits:
        return address
    number = int.from_bytes(raw, "big") >> (bits - length) << (bits - length)
    return f"{addresses[number.to_bytes(len(raw), 'big')]}/{length}"


def _lengths(name: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})(?:/(\d{1,3}))?", text)
    if match:
        first, second = int(match[1]), match[2]
        if second is not None and first <= 32 and int(second) <= 128:
            return first, int(second)
        if second is None and first <= 32:
            return first, IPV6_PREFIX
        if second is None and first <= 128:
            return 32, first
    raise ValueError(
        f"{name} names no networks: it is as saddr/24, or saddr/24/48 with the length for IPv6"
    )


def _column(name: str, key_name: str) -> str:
    name = ALIASES.get(name, name)
    names = _columns()
    if name not in names:
        keys = [*names, *TIME_PARTS, *ALIASES, KIND]
        raise no_column(name if name != key_name else key_name, keys)
    return name


def _columns() -> dict[str, Column]:
    """The columns of all kinds, those of joins and on request included."""
    requested = columns_of(*ON_REQUEST.values())
    return {**requested, **columns_of(JoinedRecord), **all_columns()}


def has_column(kind: str, column: str) -> bool:
    """Whether records of a kind have a column."""
    if column in (KIND, TIME) or column in columns_of(kinds()[kind]):
        return True
    headers = ON_REQUEST.get(kind)
    return headers is not None and column in headers.__struct_fields__


def getter(wanted: Key, kind: type[Record]) -> Callable[[Any], Any]:
    """The function from a record of a type to its value of a key, as columns have it."""
    if wanted.column == KIND:
        name = kind.kind
        return lambda record: name
    if wanted.part is not None:
        part = wanted.part
        size = part.granule_ns

        def of_time(record: Any) -> Any:
            time = record.timestamp_ns
            time = record.observed_ns if time is None else time
            return None if time is None else part[time // size]

        return of_time
    attributes = {json_name(name): name for name in fields_of(kind)}
    column, derive = wanted.column, wanted.derive
    if column not in attributes:
        headers = ON_REQUEST.get(kind.kind)
        if headers is None or column not in headers.__struct_fields__:
            return lambda record: None
        from pylog.formats.packet_headers import of_record

        return lambda record: getattr(of_record(record), column)
    attribute, declared = attributes[column], _columns()[column]
    if derive is not None:

        def derived(record: Any) -> Any:
            value = getattr(record, attribute)
            return None if value is None else derive(value)

        return derived
    if declared == "name":
        names = Memo(_named)
        return lambda record: names[getattr(record, attribute)]
    if declared == "json":
        return lambda record: _json(getattr(record, attribute))
    return attrgetter(attribute)


def _named(value: str | int | None) -> str | None:
    """As table.schemas.named, which needs the extra."""
    if value is None:
        return None
    return f"#{value}" if isinstance(value, int) or value.startswith("#") else value


def _json(value: Any) -> str | None:
    import msgspec

    return None if value is None else msgspec.json.encode(value).decode()
