"""Python records of many messages at once: their columns as lists, which the constructor takes.

Values that repeat are made once, and all records share them, except for `extra`, since whoever gets
a record may change it. No row of Python code runs for each record: `map` calls the constructor, so
a record costs a third less than by the Stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Any

import numpy as np

from pylog.errors import DecodeError
from pylog.formats import Message, Stream
from pylog.formats.addresses import addresses
from pylog.formats.columns import (
    Addresses,
    Array,
    Blobs,
    Column,
    Columns,
    NumberColumn,
    Numbered,
    Repeated,
    Rows,
)
from pylog.formats.columns.arrays import alike
from pylog.record import PacketRecord, Record

FIELDS = PacketRecord.__struct_fields__


def packets(rows: Rows) -> list[PacketRecord]:
    """The records of the regular messages, in order, without `raw`."""
    columns = [rows.column(name) for name in FIELDS]
    last = max(i for i, column in enumerate(columns) if column is not None)
    values = [repeat(None) if column is None else values_of(column) for column in columns]
    return list(map(PacketRecord, *values[: last + 1]))


def values_of(column: Column) -> Iterable[Any]:
    """The values of a column as the records have them; without an end if all are the same."""
    if isinstance(column, NumberColumn):
        return _where(column.valid, column.values)
    if isinstance(column, Repeated):
        if any(isinstance(value, dict) for value in column.values):
            return _copies(column.codes, column.values)
        if all(value == column.values[0] for value in column.values):
            return repeat(column.values[0])
        return _chosen(column.codes, column.values)
    if isinstance(column, Numbered):
        copies = _copies(column.codes, column.values)
        rows = np.flatnonzero(column.valid)
        for i, number in zip(rows.tolist(), column.numbers[rows].tolist(), strict=True):
            copies[i][column.key] = number
        return copies
    if isinstance(column, Addresses):
        return _addresses(column)
    assert isinstance(column, Blobs)
    return _octets(column)


def _where(valid: Array | None, values: Array) -> Iterable[Any]:
    """The values as Python objects, None where they are not valid."""
    if valid is None or valid.all():
        listed: list[Any] = values.tolist()
        return listed
    if not valid.any():
        return repeat(None)
    objects = values.astype(object)
    objects[~valid] = None
    listed = objects.tolist()
    return listed


def _chosen(codes: Array, values: Sequence[Any]) -> list[Any]:
    """The value of each code."""
    objects = np.empty(len(values), object)
    for i, value in enumerate(values):
        objects[i] = value
    chosen: list[Any] = objects.take(codes).tolist()
    return chosen


def _copies(codes: Array, values: Sequence[Any]) -> list[Any]:
    """Copies of the value of each code: a mapping, or None."""
    if all(value is not None and _is_flat(value) for value in values):
        return list(map(dict.copy, _chosen(codes, values)))
    ways = [None if value is None else dict.copy if _is_flat(value) else _copy for value in values]
    pairs = zip(_chosen(codes, ways), _chosen(codes, values), strict=True)
    return [None if copy is None else copy(value) for copy, value in pairs]


def _is_flat(mapping: dict[str, Any]) -> bool:
    return not any(isinstance(value, dict | list) for value in mapping.values())


def _copy(value: Any) -> Any:
    """A copy of mappings and lists in each other."""
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list) else value


def _addresses(column: Addresses) -> Iterable[Any]:
    """The addresses as text, each distinct one made once."""
    if not len(column.six):
        objects = _texts(column.four)
    elif not len(column.four):
        objects = _texts(column.six)
    else:
        objects = np.empty(len(column.is_six), object)
        objects[~column.is_six], objects[column.is_six] = _texts(column.four), _texts(column.six)
    return _where(column.valid, objects)


def _texts(octets: Array) -> Array:
    parts = octets.view(np.uint32 if octets.shape[1] == 4 else np.uint64)
    codes, first = alike([*parts.T])
    distinct = [addresses[octets[i].tobytes()] for i in first.tolist()]
    texts: Array = np.array(distinct, object).take(codes)
    return texts


def _octets(column: Blobs) -> Iterable[Any]:
    data = column.data.base if isinstance(column.data.base, bytes) else column.data.tobytes()
    ends = column.starts + column.sizes
    pairs = zip(column.starts.tolist(), ends.tolist(), strict=True)
    blobs: list[Any] = [data[start:end] for start, end in pairs]
    for i in [] if column.valid is None else np.flatnonzero(~column.valid).tolist():
        blobs[i] = None
    return blobs


def records(
    reads: Columns, stream: Stream, data: bytes, messages: Sequence[Message]
) -> list[Record | None]:
    """The records of messages that follow each other: of the first of them, as far as columns are
    made of these. None for one that cannot be decoded.
    """
    rows = reads.read(data, messages[0].start, messages[-1].start + 1)
    if rows is None or rows.starts.tolist() != [m.start for m in messages[: len(rows.starts)]]:
        return []
    made: list[Record | None] = [None] * len(rows.starts)
    regular = np.delete(np.arange(len(made)), rows.irregular)
    if not len(regular):
        return []
    for i, record in zip(regular.tolist(), packets(rows), strict=True):
        made[i] = record
    for i in rows.irregular.tolist():
        with suppress(DecodeError):
            made[i] = stream.decode(data, messages[i])
    return made
