"""The columns: one Arrow schema for each kind of record, and records put into it.

A column has the name of the record's field, times without their `_ns`. Every column may be null,
which is None in the record. A text that repeats is a dictionary column. Where a field has a name
or, without a name, a number (an interface, a hook, an event...), the number is written as # and the
number, and a name that begins with # gets a second one: so different values have different texts.

Addresses are text, as in the record. Some columns are made only when they are named: `saddr_bytes`
and the like are addresses as 16 bytes, IPv4 as ::ffff:a.b.c.d (`family` tells it from an IPv6
address that looks like this), `ttl` and the like are further fields of the packet's headers. A time
after 2262-04-11 or before 1677-09-22 does not fit into 64 bits of nanoseconds: its column is null,
and `extra` has it as text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec
import pyarrow as pa

from pylog.formats.addresses import octets
from pylog.formats.packet_headers import of_record
from pylog.record import (
    ON_REQUEST,
    Column,
    PacketHeaders,
    PacketRecord,
    Record,
    Vlan,
    columns_of,
    fields_of,
    json_name,
    json_ready,
    kinds,
    no_column,
    rfc3339,
)

MAX_NS = 2**63 - 1
"""The last time that a column can hold: 2262-04-11T23:47:16.854775807Z."""

WORD = pa.dictionary(pa.int32(), pa.string())
"""The type of text that repeats."""
TIME = pa.timestamp("ns", "UTC")
ADDRESS = pa.string()
"""The type of addresses as text."""
PACKED_ADDRESS = pa.binary(16)
"""The type of addresses as bytes."""
FRAGMENT = pa.struct(
    [("id", pa.uint32()), ("offset", pa.uint32()), ("more", pa.bool_()), ("dont", pa.bool_())]
)
VLANS = pa.list_(
    pa.struct([("id", pa.uint16()), ("priority", pa.uint8()), ("dei", pa.bool_()),
               ("protocol", pa.uint16())])
)  # fmt: skip
COUNTERS = pa.map_(pa.string(), pa.uint64())

_TYPES: dict[Column, Any] = {
    "word": WORD,
    "name": WORD,
    "time": TIME,
    "address": ADDRESS,
    "bool": pa.bool_(),
    "u8": pa.uint8(),
    "u16": pa.uint16(),
    "u32": pa.uint32(),
    "u64": pa.uint64(),
    "i64": pa.int64(),
    "f64": pa.float64(),
    "octets": pa.binary(),
    "fragment": FRAGMENT,
    "vlan": VLANS,
    "counters": COUNTERS,
    "json": WORD,
}
"""The Arrow types of the types of columns."""


@cache
def columns(kind: str) -> dict[str, Column]:
    """The columns of a kind, each with its type; all kinds have `extra`, before newer columns."""
    declared = kinds()[kind]
    all_columns = columns_of(declared)
    if "extra" in all_columns:
        return all_columns
    newer = {json_name(name) for name, field in fields_of(declared).items() if field.since > 1}
    first = {name: column for name, column in all_columns.items() if name not in newer}
    return {**first, "extra": "json", **all_columns}


REQUESTED: dict[str, dict[str, Any]] = {
    kind: {name: _TYPES[column] for name, column in columns_of(headers).items()}
    for kind, headers in ON_REQUEST.items()
}
"""The columns of fields on request, and their types."""


@cache
def packed(kind: str) -> dict[str, str]:
    """Column of an address as bytes -> column of the address, of a kind."""
    return {f"{name}_bytes": name for name, column in columns(kind).items() if column == "address"}


MAPPED = bytes(10) + b"\xff\xff"
"""The prefix of an IPv4 address in 16 bytes."""


def schema(kind: str = "packet") -> pa.Schema:
    """The columns of a kind of record, e.g. packet; ValueError for an unknown kind."""
    _check_kind(kind)
    return pa.schema([(name, _TYPES[column]) for name, column in columns(kind).items()])


def chosen(kind: str, names: Sequence[str] | None) -> pa.Schema:
    """The schema of these columns, in their order, also those on request; None: of `schema`.

    Raises ValueError for a column that does not exist, with the names of all that do.
    """
    _check_kind(kind)
    if names is None:
        return schema(kind)
    types = {column.name: column.type for column in schema(kind)} | on_request(kind)
    if isinstance(names, str) or not names or len(set(names)) < len(names):
        raise ValueError(
            f"columns is {names!r}, but must be a list of one or more names, each once"
        )
    for name in names:
        if name not in types:
            raise no_column(name, types, f" of {kind} records")
    return pa.schema([(name, types[name]) for name in names])


def on_request(kind: str) -> dict[str, Any]:
    """The columns that are made only when they are named, with their types."""
    return dict.fromkeys(packed(kind), PACKED_ADDRESS) | REQUESTED.get(kind, {})


def _check_kind(kind: str) -> None:
    if kind not in kinds():
        raise ValueError(f"no kind of record {kind!r}; there are {', '.join(kinds())}")


def named(value: str | int) -> str:
    """A name, or the number in place of a name, as a text that tells them apart."""
    return f"#{value}" if isinstance(value, int) or value.startswith("#") else value


def sixteen(text: str) -> bytes:
    """An address as 16 bytes."""
    address = octets[text]
    return address if len(address) == 16 else MAPPED + address


def batch(kind: str, records: Sequence[Record], wanted: pa.Schema) -> pa.RecordBatch:
    """Records of one kind in the columns of `wanted`, see `chosen`."""
    of_headers = REQUESTED.get(kind, {})
    headers: list[PacketHeaders] = []
    if not of_headers.keys().isdisjoint(wanted.names):
        packets = [record for record in records if isinstance(record, PacketRecord)]
        headers = [of_record(packet) for packet in packets]
    arrays = []
    for column in wanted:
        field, convert = reading(kind, column.name)
        if column.name == "extra":
            values = [_extra(record) for record in records]
        else:
            owners = headers if column.name in of_headers else records
            values = [getattr(owner, field) for owner in owners]
            if convert is not None:
                values = [None if value is None else convert(value) for value in values]
        arrays.append(pa.array(values, column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


@cache
def reading(kind: str, name: str) -> tuple[str, Callable[[Any], Any] | None]:
    """The field of a column, and the conversion of its values, if there is one."""
    if name in packed(kind):
        return packed(kind)[name], sixteen
    if name in REQUESTED.get(kind, {}):
        return name, None
    fields = {json_name(field): field for field in fields_of(kinds()[kind])}
    return fields.get(name, name), _CONVERSIONS.get(columns(kind)[name])


def _time(time_ns: int) -> int | None:
    return time_ns if -MAX_NS <= time_ns <= MAX_NS else None


def _u64(number: int) -> int | None:
    return number if 0 <= number < 2**64 else None


def _vlans(tags: tuple[Vlan, ...]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(tag) for tag in tags]


@cache
def bounded(kind: type[Record]) -> list[tuple[str, Column]]:
    """The fields with values that may not fit into their columns."""
    return [
        (name, field.column)
        for name, field in fields_of(kind).items()
        if field.column in ("time", "u64")
    ]


def _extra(record: Record) -> str | None:
    """`extra` as JSON, with the values that do not fit into their columns."""
    extra: dict[str, Any] | None = getattr(record, "extra", None)
    for name, column in bounded(type(record)):
        value = getattr(record, name)
        if value is not None and _CONVERSIONS[column](value) is None:
            text = rfc3339(value) if column == "time" else str(value)
            extra = (extra or {}) | {json_name(name): text}
    return None if extra is None else json_text(extra)


def json_text(extra: dict[str, Any]) -> str:
    """A mapping of `extra` as JSON."""
    return msgspec.json.encode(json_ready(extra)).decode()


_CONVERSIONS: dict[Column, Callable[[Any], Any]] = {
    "name": named,
    "time": _time,
    "u64": _u64,
    "fragment": msgspec.structs.asdict,
    "vlan": _vlans,
    "counters": lambda counters: list(counters.items()),
    "json": json_text,
}
"""The conversions of fields to columns, by type of column; others need none."""
