"""Columns back to records: the inverse of table.schemas.batch, exact for every field but `raw`.

A value that its column cannot hold is in `extra` as text (see table.schemas), and goes back to its
field.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa

from pylog.formats.addresses import addresses
from pylog.record import Fragment, Record, Vlan, fields_of, json_name, kinds
from pylog.table.schemas import (
    MAPPED,
    MAX_NS,
    PACKED_ADDRESS,
    REQUESTED,
    TIME,
    bounded,
    columns,
    named,
    packed,
    reading,
)

_EPOCH = datetime(1970, 1, 1)


def records(kind: str, batch: pa.RecordBatch) -> list[Record]:
    """The records of columns; ValueError without the columns `source` and `layout`.

    A field without its column is None.
    """
    names = batch.schema.names
    if "source" not in names or "layout" not in names:
        raise ValueError(f"records need the columns source and layout; there are {names}")
    families = batch.column("family").to_pylist() if "family" in names else None
    fields: dict[str, list[Any]] = {}
    for name in names:
        if name == "extra" or name in REQUESTED.get(kind, {}):  # made from the payload
            continue
        if packed(kind).get(name) not in names:
            fields[reading(kind, name)[0]] = values(kind, name, batch.column(name), families)
    if "extra" in names:
        _put_back(kind, fields, _each(batch.column("extra"), _extra))
    make: Callable[..., Record] = kinds()[kind]
    rows = zip(*fields.values(), strict=True)
    return [make(**dict(zip(fields, row, strict=True))) for row in rows]


def values(kind: str, name: str, column: pa.Array, families: list[Any] | None = None) -> list[Any]:
    """The values of a column as the field has them.

    families   of the rows, which tell addresses as bytes apart
    """
    if column.type == TIME:
        return _each(column.cast(pa.int64()))
    if column.type == PACKED_ADDRESS:
        octets = column.to_pylist()
        return list(map(_address, octets, families or [None] * len(octets)))
    declared = columns(kind).get(name)
    if name == "extra":
        return _each(column, _extra)
    if declared == "json":
        return _each(column, msgspec.json.decode)
    if declared == "fragment":
        return _each(column, lambda value: Fragment(**value))
    if declared == "vlan":
        return _each(column, lambda value: tuple(Vlan(**tag) for tag in value))
    if pa.types.is_map(column.type):
        return _each(column, dict)
    return _each(column, unnamed if reading(kind, name)[1] is named else None)


def _each(column: pa.Array, convert: Callable[[Any], Any] | None = None) -> list[Any]:
    items: list[Any] = column.to_pylist()
    return [v if v is None or convert is None else convert(v) for v in items]


def unnamed(text: str) -> str | int:
    """The inverse of schemas.named."""
    if not text.startswith("#"):
        return text
    return text[1:] if text.startswith("##") else int(text[1:])


def _address(octets: bytes | None, family: str | None) -> str | None:
    if octets is None:
        return None
    mapped = octets.startswith(MAPPED) and family != "ipv6"
    return addresses[octets[12:] if mapped else octets]


def _extra(text: str) -> dict[str, Any]:
    """The mapping of `extra`, in which the packet that an ICMP error quotes may be a fragment."""
    extra: dict[str, Any] = msgspec.json.decode(text)
    inner = extra.get("inner")
    if isinstance(inner, dict) and isinstance(inner.get("fragment"), dict):
        inner["fragment"] = msgspec.convert(inner["fragment"], Fragment)
    return extra


def _put_back(kind: str, fields: dict[str, list[Any]], extras: list[Any]) -> None:
    """Add `extra` to the fields, and move values that only it could hold to their own fields."""
    for row, extra in enumerate(extras):
        if extra is None:
            continue
        moved = False
        for field, column in bounded(kinds()[kind]):
            name, held = json_name(field), fields.get(field)
            if held is not None and held[row] is None and name in extra:
                value = _unheld(extra[name]) if column == "time" else int(extra[name])
                if value is not None:
                    held[row] = value
                    del extra[name]
                    moved = True
        if moved and not extra:
            extras[row] = None
    if "extra" in fields_of(kinds()[kind]):
        fields["extra"] = extras


def _unheld(text: Any) -> int | None:
    """The time in an RFC 3339 text, if no column can hold it; None for anything else."""
    if not isinstance(text, str) or not text.endswith("Z"):
        return None
    second, _, part = text[:-1].partition(".")
    try:
        elapsed = (datetime.fromisoformat(second) - _EPOCH) // timedelta(seconds=1)
        time_ns = elapsed * 1_000_000_000 + int(part.ljust(9, "0"))
    except ValueError:
        return None
    return None if -MAX_NS <= time_ns <= MAX_NS else time_ns
