"""From NumPy to Arrow: the columns that a format made of regular messages, as a batch.

Numbers are not copied: an Arrow array is made over the NumPy buffer. Values that repeat become a
dictionary, or are taken from an array that has each of them once. Addresses become text, see
pylog.table.addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.formats.columns import (
    Addresses,
    Blobs,
    Column,
    NumberColumn,
    Numbered,
    Numbers,
    Repeated,
    Rows,
)
from pylog.formats.packet_headers import requested
from pylog.record import PacketHeaders
from pylog.table.addresses import packed, texts
from pylog.table.schemas import ADDRESS, REQUESTED, TIME, WORD, json_text, reading


def batch_of(rows: Rows, wanted: pa.Schema, more: Mapping[str, Column | None]) -> pa.RecordBatch:
    """The regular messages, all packets, in the columns of `wanted`.

    more   columns that are not made of the messages; None: all are None
    """
    count = len(rows.starts) - len(rows.irregular)
    arrays = []
    on_request = REQUESTED["packet"]
    stated = rows.on_request()
    needs = stated is None and not on_request.keys().isdisjoint(wanted.names)
    headers = _headers(rows) if needs else []
    for column in wanted:
        if stated is not None and column.name in on_request:
            number = stated.get(column.name)
            arrays.append(pa.nulls(count, column.type) if number is None
                          else _array(number, column.type))  # fmt: skip
            continue
        if column.name in on_request:
            arrays.append(pa.array([getattr(h, column.name) for h in headers], column.type))
            continue
        field, convert = reading("packet", column.name)
        values = more[field] if field in more else rows.column(field)
        if values is None:
            arrays.append(pa.nulls(count, column.type))
        elif isinstance(values, Repeated):
            converted = [v if v is None or convert is None else convert(v) for v in values.values]
            arrays.append(_repeated(Repeated(values.codes, converted), column.type))
        elif isinstance(values, Numbered):
            arrays.append(_numbered(values, column.type))
        elif isinstance(values, Numbers):
            arrays.append(_objects(values, count))
        else:
            arrays.append(_array(values, column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


def _headers(rows: Rows) -> list[PacketHeaders]:
    """The fields on request of each regular message."""
    family, payload = rows.column("family"), rows.column("payload")
    if payload is None:
        return [PacketHeaders()] * (len(rows.starts) - len(rows.irregular))
    assert isinstance(family, Repeated) and isinstance(payload, Blobs)
    families = [family.values[code] for code in family.codes.tolist()]
    data = memoryview(payload.data.data)
    return [
        requested(bytes(data[start : start + size]), of)
        for start, size, of in zip(
            payload.starts.tolist(), payload.sizes.tolist(), families, strict=True
        )
    ]


def _array(column: Column, kind: pa.DataType) -> pa.Array:
    """Numbers, addresses and bytes as an Arrow array."""
    if isinstance(column, Addresses):
        array = texts(column) if kind == ADDRESS else packed(column)
        if column.valid is None:
            return array
        buffers = [_bits(column.valid), *array.buffers()[1:]]
        return pa.Array.from_buffers(kind, len(array), buffers)
    if isinstance(column, Blobs):
        return _blobs(column, kind)
    assert isinstance(column, NumberColumn)
    dtype = np.dtype("int64" if kind == TIME else str(kind))
    values = column.values.astype(dtype, copy=False)
    return pa.Array.from_buffers(kind, len(values), [_bits(column.valid), _buffer(values)])


def _blobs(column: Blobs, kind: pa.DataType) -> pa.Array:
    """Bytes that lie apart in a buffer: an array with the gaps between them, without the gaps."""
    edges = np.zeros(2 * len(column.starts) + 1, np.int32)
    edges[:-1:2] = column.starts
    edges[1::2] = column.starts + column.sizes
    edges[-1] = edges[-2] if len(edges) > 1 else 0
    buffers = [None, _buffer(edges), _buffer(column.data)]
    pieces = pa.Array.from_buffers(kind, len(edges) - 1, buffers)
    none = None if column.valid is None else ~column.valid
    return pieces.take(pa.array(np.arange(0, len(edges) - 1, 2), mask=none))


def _repeated(column: Repeated, kind: pa.DataType) -> pa.Array:
    """Values that repeat, as a dictionary array for WORD, else as an array of all values."""
    if kind != WORD:
        if all(value is None for value in column.values):
            return pa.nulls(len(column.codes), kind)
        codes = _array(NumberColumn(column.codes), pa.int64())
        return pa.array(column.values, kind).take(codes)
    numbers = {v: i for i, v in enumerate(dict.fromkeys(v for v in column.values if v is not None))}
    places = np.array([numbers.get(v, -1) for v in column.values], np.int32)
    if not numbers:
        return pa.nulls(len(column.codes), kind)
    codes = places.take(column.codes)
    valid = codes >= 0 if places.min() < 0 else None
    indices = pa.Array.from_buffers(pa.int32(), len(codes), [_bits(valid), _buffer(codes)])
    return pa.DictionaryArray.from_arrays(indices, pa.array(numbers, pa.string()), safe=False)


def _numbered(column: Numbered, kind: pa.DataType) -> pa.Array:
    """Mappings as JSON, each with a number of its own."""
    texts = [json_text(value) for value in column.values]
    parts = [text.partition(f'"{column.key}":') for text in texts]
    # the number ends at the next comma, or where the mapping ends
    begins = pa.array([before + key for before, key, _ in parts], pa.string())
    ends = pa.array([after.lstrip("0123456789") for _, _, after in parts], pa.string())
    codes = pa.array(column.codes)
    numbers = pa.array(column.numbers.astype(np.int64), mask=~column.valid).cast(pa.string())
    joined = pc.binary_join_element_wise(
        begins.take(codes), numbers, ends.take(codes), "", null_handling="replace"
    )
    places = pa.array(np.arange(len(codes), dtype=np.int32))
    return pa.DictionaryArray.from_arrays(places, joined, safe=False)


def _objects(column: Numbers, count: int) -> pa.Array:
    """Mappings of names to numbers as JSON."""
    parts: list[Any] = []
    for name, (values, valid) in column.columns.items():
        numbers = _array(NumberColumn(values, valid), pa.int64()).cast(pa.string())
        parts.append(pc.binary_join_element_wise(f'"{name}":', numbers, ""))
    joined = pc.binary_join_element_wise(*parts, ",", null_handling="skip")
    texts = pc.binary_join_element_wise("{", joined, "}", "")
    places = _array(NumberColumn(np.arange(count)), pa.int32())
    return pa.DictionaryArray.from_arrays(places, texts, safe=False)


def _buffer(values: Any) -> pa.Buffer:
    return pa.py_buffer(np.ascontiguousarray(values))


def _bits(valid: Any) -> pa.Buffer | None:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
