"""The columns: one Arrow schema for each kind of record, and records put into it.

A column has the name of the record's field, times but for their `_ns`; every column may be null,
which is the record's None. A text that repeats is a dictionary column. Where a field is a name or,
without a name, a number (an interface, a hook, an event...), the number is written as # and the
number, and a name that begins with # gets one more in front: so no two values become one text.

Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; `family` tells an IPv4 address from an IPv6 one that
looks like this. `saddr_text` and the like are their text, made when they are asked for by name. A
time after 2262-04-11 or before 1677-09-22 does not fit into 64 bits of nanoseconds: it is null, and
in `extra` as text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec
import pyarrow as pa

from pylog.formats.packet import octets
from pylog.record import LossRecord, Record, Vlan, json_ready, rfc3339

MAX_NS = 2**63 - 1
"""The last time that a column can hold: 2262-04-11T23:47:16.854775807Z."""

WORD = pa.dictionary(pa.int32(), pa.string())
"""Text that repeats."""
TIME = pa.timestamp("ns", "UTC")
ADDRESS = pa.binary(16)
FRAGMENT = pa.struct(
    [("id", pa.uint32()), ("offset", pa.uint32()), ("more", pa.bool_()), ("dont", pa.bool_())]
)
VLANS = pa.list_(
    pa.struct([("id", pa.uint16()), ("priority", pa.uint8()), ("dei", pa.bool_()),
               ("protocol", pa.uint16())])
)  # fmt: skip
COUNTERS = pa.map_(pa.string(), pa.uint64())

_SHARED = {
    "source": WORD, "layout": WORD, "offset": pa.int64(), "timestamp": TIME, "observed": TIME,
    "seq": pa.uint32(),
}  # fmt: skip
_ENDS = {
    "family": WORD, "protocol": pa.uint8(), "saddr": ADDRESS, "daddr": ADDRESS,
    "sport": pa.uint16(), "dport": pa.uint16(),
}  # fmt: skip
_TYPES: dict[str, dict[str, Any]] = {
    "packet": {
        **_SHARED, "count": pa.uint32(), "action": WORD, "short": pa.bool_(), "direction": WORD,
        "hook": WORD, "rule": pa.int64(), "group": WORD, "prefix": WORD, "reason": WORD,
        "indev": WORD, "outdev": WORD, "physindev": WORD, "physoutdev": WORD, "mark": pa.uint32(),
        "uid": pa.uint32(), "gid": pa.uint32(), "hwaddr": WORD, "hwtype": pa.uint16(),
        "hwheader": WORD, "vlan": VLANS, **_ENDS, "tcp_flags": WORD, "icmp_type": pa.uint8(),
        "icmp_code": pa.uint8(), "fragment": FRAGMENT, "length": pa.int64(),
        "caplen": pa.uint32(), "cut": WORD, "extra": WORD, "payload": pa.binary(),
    },
    "flow": {
        **_SHARED, "count": pa.uint32(), "event": WORD, "flow_type": WORD, "rule": pa.int64(),
        "group": WORD, "indev": WORD, "outdev": WORD, **_ENDS, "icmp_type": pa.uint16(),
        "nat_saddr": ADDRESS, "nat_daddr": ADDRESS, "nat_sport": pa.uint16(),
        "nat_dport": pa.uint16(), "packets": COUNTERS, "bytes": COUNTERS, "extra": WORD,
    },
    "loss": {
        **_SHARED, "count": pa.uint64(), "size": pa.int64(), "queue": WORD, "reason": WORD,
        "extra": WORD,
    },
}  # fmt: skip
TEXTS: dict[str, dict[str, str]] = {
    "packet": {"saddr_text": "saddr", "daddr_text": "daddr"},
    "flow": {f"{name}_text": name for name in ("saddr", "daddr", "nat_saddr", "nat_daddr")},
    "loss": {},
}
"""The columns that are made on request, and of which."""

MAPPED = bytes(10) + b"\xff\xff"
"""What an IPv4 address has in front."""
_NAMED = {"action", "hook", "reason", "indev", "outdev", "physindev", "physoutdev", "family",
          "event", "flow_type"}  # fmt: skip
"""The fields that may be a number in place of a name."""


def schema(kind: str = "packet") -> pa.Schema:
    """The columns of a kind of record: packet, flow or loss; ValueError for another."""
    _check_kind(kind)
    return pa.schema(list(_TYPES[kind].items()))


def chosen(kind: str, columns: Sequence[str] | None) -> pa.Schema:
    """The schema of some of the columns, in their order, those on request among them; None: all.

    Raises ValueError for a column that there is not, with those that there are.
    """
    _check_kind(kind)
    if columns is None:
        return schema(kind)
    known = _TYPES[kind] | dict.fromkeys(TEXTS[kind], WORD)
    if isinstance(columns, str) or not columns or len(set(columns)) < len(columns):
        raise ValueError(
            f"columns is {columns!r}, but must be a list of one or more names, each once"
        )
    for name in columns:
        if name not in known:
            raise ValueError(f"no column {name!r} of {kind} records; there are {', '.join(known)}")
    return pa.schema([(name, known[name]) for name in columns])


def _check_kind(kind: str) -> None:
    if kind not in _TYPES:
        raise ValueError(f"no kind of record {kind!r}; there are {', '.join(_TYPES)}")


def named(value: str | int) -> str:
    """A name, or the number that stands where there is no name, as a text that tells which."""
    return f"#{value}" if isinstance(value, int) or value.startswith("#") else value


def address(text: str) -> bytes:
    """An address as 16 bytes."""
    packed = octets[text]
    return packed if len(packed) == 16 else MAPPED + packed


def batch(kind: str, records: Sequence[Record], wanted: pa.Schema) -> pa.RecordBatch:
    """Records of one kind in the columns of `wanted`, see `chosen`."""
    arrays = []
    for column in wanted:
        field, convert = reading(kind, column.name)
        if column.name == "extra":
            values = [_extra(record) for record in records]
        else:
            values = [getattr(record, field) for record in records]
            if convert is not None:
                values = [None if value is None else convert(value) for value in values]
        arrays.append(pa.array(values, column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


@cache
def reading(kind: str, name: str) -> tuple[str, Callable[[Any], Any] | None]:
    """The field that a column is of, and what makes the column's value of the field's."""
    if name in ("timestamp", "observed"):
        return f"{name}_ns", _time
    if name in TEXTS[kind]:
        return TEXTS[kind][name], None
    if kind == "loss":
        return name, _counted if name == "count" else None
    if _TYPES[kind][name] is ADDRESS:
        return name, address
    if name in ("fragment", "vlan"):
        return name, msgspec.structs.asdict if name == "fragment" else _vlans
    if name in ("packets", "bytes"):
        return name, lambda counters: list(counters.items())
    if name == "extra":
        return name, json_text
    return name, named if name in _NAMED else None


def _time(time_ns: int) -> int | None:
    return time_ns if -MAX_NS <= time_ns <= MAX_NS else None


def _counted(count: int) -> int | None:
    return count if 0 <= count < 2**64 else None


def _vlans(tags: tuple[Vlan, ...]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(tag) for tag in tags]


def _extra(record: Record) -> str | None:
    """What has no column of its own, or does not fit into it, as JSON."""
    extra = None if isinstance(record, LossRecord) else record.extra
    for name, time_ns in (("timestamp", record.timestamp_ns), ("observed", record.observed_ns)):
        if time_ns is not None and _time(time_ns) is None:
            extra = (extra or {}) | {name: rfc3339(time_ns)}
    count = record.count
    if isinstance(record, LossRecord) and count is not None and _counted(count) is None:
        extra = (extra or {}) | {"count": str(count)}
    return None if extra is None else json_text(extra)


def json_text(extra: dict[str, Any]) -> str:
    """What has no column of its own, as text."""
    return msgspec.json.encode(json_ready(extra)).decode()
