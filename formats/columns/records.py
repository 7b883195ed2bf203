"""Python records of many messages at once: their columns as lists, which the constructor takes.

Values that repeat are made once, and all records share them, except for `extra`, since whoever gets
a record may change it. No row of Python code runs for each record: `map` calls the constructor, so
a record costs a third less than by the Stream.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
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
)
from pylog.formats.columns.arrays import alike
from pylog.record import PacketRecord, Record

FIELDS = PacketRecord.__struct_fields__


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
    return [make() for make in _chosen(codes, [_copier(value) for value in values])]


def _copier(value: Any) -> Callable[[], Any]:
    """What makes copies of a mapping or list, with copies of those in it; of None it gives None."""
    if value is None:
        return lambda: None
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    nested = [(key, _copier(part)) for key, part in parts if isinstance(part, dict | list)]
    if not nested:
        copy: Callable[[], Any] = value.copy
        return copy

    def copied() -> Any:
        copy = value.copy()
        for key, make in nested:
            copy[key] = make()
        return copy

    return copied


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


class Made:
    """The records of messages that follow each other, made a few at a time: those that are used
    while they are still in the cache cost less.
    """

    def __init__(
        self, reads: Columns, stream: Stream, data: bytes, messages: Sequence[Message]
    ) -> None:
        """Of the first of the messages, as far as columns are made of these."""
        self._stream, self._data, self._messages = stream, data, messages
        self._count, self._irregular, self._values = 0, list[int](), list[Any]()
        rows = reads.read(data, messages[0].start, messages[-1].start + 1)
        if rows is None or len(rows.irregular) == len(rows.starts):
            return
        if rows.starts.tolist() != [message.start for message in messages[: len(rows.starts)]]:
            return
        self._count, self._irregular = len(rows.starts), rows.irregular.tolist()
        columns = [rows.column(name) for name in FIELDS]
        last = max(i for i, column in enumerate(columns) if column is not None)
        self._values = [
            repeat(None) if column is None else values_of(column) for column in columns[: last + 1]
        ]

    def __len__(self) -> int:
        return self._count

    def take(self, start: int, stop: int) -> list[Record]:
        """The records from number `start` to `stop`, or to one that cannot be decoded."""
        stop = min(stop, self._count)
        first, last = (bisect_left(self._irregular, at) for at in (start, stop))
        begin, end = start - first, stop - last
        parts = [part[begin:end] if isinstance(part, list) else part for part in self._values]
        made: list[Any] = list(map(PacketRecord, *parts)) if begin < end else []
        for i in self._irregular[first:last]:
            try:
                made.insert(i - start, self._stream.decode(self._data, self._messages[i]))
            except DecodeError:
                return made[: i - start]
        return made
