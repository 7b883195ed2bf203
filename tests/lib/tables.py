"""What tables are to hold: the same records as plain Python values, made in the plain way."""

from __future__ import annotations

import io
import ipaddress
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

import pylog
from pylog.record import Record

KINDS = ("packet", "flow", "loss")


def streamed(data: bytes, layout: str | None = None) -> list[Record]:
    """The records of a log as a Reader gives them."""
    with pylog.open(io.BytesIO(data), layout=layout) as reader:
        return list(reader)


def rows(records: Iterable[Record], kind: str, columns: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of a table of those records that are of a kind."""
    chosen = [r for r in records if type(r).__struct_config__.tag == kind]
    return [{name: value(record, name) for name in columns} for record in chosen]


def value(record: Any, name: str) -> Any:
    """What a column holds of a record, as `Table.to_pylist` gives it with times as integers."""
    if name in ("timestamp", "observed"):
        return getattr(record, f"{name}_ns")
    if name.endswith("_text"):
        return getattr(record, name.removesuffix("_text"))
    found = getattr(record, name)
    if found is None:
        return None
    if name in ("saddr", "daddr", "nat_saddr", "nat_daddr"):
        address = ipaddress.ip_address(found)
        return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed
    if name == "fragment":
        return {n: getattr(found, n) for n in ("id", "offset", "more", "dont")}
    if name == "vlan":
        return [{n: getattr(t, n) for n in ("id", "priority", "dei", "protocol")} for t in found]
    if name in ("packets", "bytes"):
        return list(found.items())
    if name == "extra":
        found = json.loads(pylog.to_json(record))["extra"]
        return json.dumps(found, separators=(",", ":"), ensure_ascii=False)
    return f"#{found}" if isinstance(found, int) and is_text(record, name) else found


def is_text(record: Any, name: str) -> bool:
    """Whether the field may hold a name in place of a number."""
    return "str" in str(type(record).__annotations__[name])


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table, with times as integers."""
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.int64()))
    found: list[dict[str, Any]] = table.to_pylist()
    return found
