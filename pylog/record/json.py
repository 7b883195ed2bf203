"""Writes records as JSON: times as RFC 3339 text, packet bytes as hex, no raw message.

`row_of` makes a row of a record, and msgspec encodes rows as they are. A number above 2^53 becomes
text, because many readers of JSON hold numbers as doubles. A field that is None is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec

from pylog.memo import Memo
from pylog.record.fields import Column, fields_of
from pylog.record.kinds import Record, Row
from pylog.record.registry import row_type


def escape(text: str) -> str:
    """Text that is safe on a terminal: what is not printable becomes \\n, \\x1b, \\u202e..."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape_json(text: str) -> str:
    """JSON text, without line ends, that is safe on a terminal: the same JSON, with \\u escapes for
    what is not printable, which JSON has in strings only.
    """
    if text.isprintable():
        return text
    units = [c if c.isprintable() else c.encode("utf-16-be", "surrogatepass") for c in text]
    return "".join(
        u
        if isinstance(u, str)
        else "".join(f"\\u{u[i : i + 2].hex()}" for i in range(0, len(u), 2))
        for u in units
    )


_encoder = msgspec.json.Encoder()
_EPOCH = datetime(1970, 1, 1)
_THOUSAND = [f"{n:03}" for n in range(1000)]


def _second_text(second: int) -> str:
    """A second since 1970 as "2023-11-14T22:14:21", in UTC."""
    return (_EPOCH + timedelta(seconds=second)).isoformat()


_seconds = Memo(_second_text)


def rfc3339(timestamp_ns: int) -> str:
    """A time in nanoseconds since 1970 as RFC 3339 UTC text, with 6 or, if needed, 9 decimals."""
    second, part = divmod(timestamp_ns, 1_000_000_000)
    text = f"{_seconds[second]}.{_THOUSAND[part // 1_000_000]}{_THOUSAND[part // 1000 % 1000]}"
    return f"{text}{_THOUSAND[part % 1000]}Z" if part % 1000 else f"{text}Z"


def rfc3339_us(second: int, microsecond: int) -> str:
    """As `rfc3339`, for a second since 1970 and the microsecond in it."""
    return f"{_seconds[second]}.{_THOUSAND[microsecond // 1000]}{_THOUSAND[microsecond % 1000]}Z"


EXACT = 2**53
"""The largest number that every JSON reader holds exactly: many have no integers but doubles."""


def json_ready(value: Any) -> Any:
    """A value with all its parts as JSON can hold them: numbers beyond 2^53 become text, bytes hex.

    Everything that becomes JSON passes here, when it is decoded or when it is written. A value that
    needs no change is returned itself, not a copy.
    """
    if isinstance(value, int):
        return value if -EXACT <= value <= EXACT else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            kind = type(part)  # nearly all parts are texts or small numbers
            if kind is str or (kind is int and -EXACT <= part <= EXACT):
                continue
            if json_ready(part) is not part:
                break
        else:
            return value
        if isinstance(value, dict):
            return {name: json_ready(part) for name, part in value.items()}
        return [json_ready(part) for part in value]
    return value


_CONVERSIONS: dict[Column, Callable[[Any], Any]] = {
    "time": rfc3339,
    "octets": bytes.hex,
    "i64": json_ready,
    "u64": json_ready,
    "counters": json_ready,
    "json": json_ready,
}
"""How a row converts a record's value, by the type of its column; others are not converted."""


def in_row(column: Column | None, value: Any) -> Any:
    """What a row has for a record's value, by the type of its column."""
    if column is None or value is None:
        return None
    return _CONVERSIONS[column](value) if column in _CONVERSIONS else value


@cache
def _row_maker(kind: type[Record]) -> Callable[[Record], Row]:
    """The function that makes rows of the records of a kind."""
    row = row_type(kind)
    hidden, converted = [], []
    for i, field in enumerate(fields_of(kind).values()):
        if field.column is None:
            hidden.append(i)
        elif field.column in _CONVERSIONS:
            converted.append((i, _CONVERSIONS[field.column]))

    def make(record: Record) -> Row:
        values: list[Any] = list(msgspec.structs.astuple(record))
        for i in hidden:
            values[i] = None
        for i, convert in converted:
            if values[i] is not None:
                values[i] = convert(values[i])
        return row(*values)

    return make


def row_of(record: Record) -> Row:
    """The record as JSON and CSV show it."""
    return _row_maker(type(record))(record)


def to_json(record: Record) -> bytes:
    """The record as one JSON object, without a newline."""
    return _encoder.encode(row_of(record))


def json_lines(records: Iterable[Record]) -> bytes:
    """The records as JSON objects, each followed by a newline."""
    return row_lines([row_of(record) for record in records])


def row_lines(rows: Iterable[Row]) -> bytes:
    """As `json_lines`, for rows."""
    return _encoder.encode_lines(rows)
