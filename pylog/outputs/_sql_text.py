"""Rows of a batch as text: what COPY of PostgreSQL and INSERT of MySQL take.

All is done by column, in Arrow: a text that repeats is escaped once, and the rows are joined
without a loop in Python. Only structures are made one by one. The bytes of a lot of rows are a part
of a single buffer, so a database can be given any consecutive rows of them without a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.outputs._sql_tables import Column, Table
from pylog.record import json_ready

LOT_BYTES = 1 << 23
"""How large the columns are, about, of which rows are made at a time."""
LOT_ROWS = 8192
"""How many rows are made at a time."""


@dataclass(frozen=True)
class Style:
    """How a database writes values.

    opening, closing   the ends of a text
    start, end         the ends of a row
    comma              between two values
    null               the absent value
    escapes            of a text, in this order: each is a text and what stands for it
    octets             the ends of bytes, which are hex
    boolean            words for false and true
    zone               what follows the digits of a time in UTC
    """

    opening: str
    closing: str
    start: str
    end: str
    comma: str
    null: str
    escapes: tuple[tuple[str, str], ...]
    octets: tuple[str, str]
    zone: str


class Rows:
    """Rows as text, one after the other.

    columns   the rows as columns, of which the text was made
    """

    def __init__(self, columns: pa.RecordBatch, text: pa.Array) -> None:
        self.columns = columns
        _, offsets, data = text.buffers()
        start = text.offset
        self._offsets = np.frombuffer(offsets, np.int64)[start : start + len(text) + 1]
        self._data = memoryview(data) if data is not None else memoryview(b"")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def bytes(self, start: int, stop: int) -> memoryview:
        """The text of rows."""
        return self._data[self._offsets[start] : self._offsets[stop]]

    def size(self, start: int, stop: int) -> int:
        """How long the text of rows is."""
        return int(self._offsets[stop] - self._offsets[start])

    def fitting(self, start: int, stop: int, size: int) -> int:
        """The end of the rows from `start` on that are at most so long together; one at least."""
        end = int(np.searchsorted(self._offsets, self._offsets[start] + size, "right")) - 1
        return max(start + 1, min(stop, end))


def lots(columns: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The rows in parts that are not too large."""
    rows = columns.num_rows
    each = max(1, min(LOT_ROWS, rows * LOT_BYTES // max(columns.nbytes, 1)))
    for start in range(0, rows, each):
        yield columns.slice(start, each)


def rows(table: Table, columns: pa.RecordBatch, now_ns: int, style: Style) -> Rows:
    """The rows of a table.

    now_ns   the time of records that have none
    """
    texts = [_text(columns.column(column.source), column, style) for column in table.columns]
    texts.append(_quoted(_times(times(columns, now_ns), style), style))
    texts = [text.cast(pa.large_string()) for text in texts]
    texts[0] = _around(pc.fill_null(texts[0], style.null), style.start, "")
    texts[-1] = _around(pc.fill_null(texts[-1], style.null), "", style.end)
    joined = pc.binary_join_element_wise(
        *_absent_as_one(texts, style), pa.scalar(style.comma, pa.large_string()),
        null_handling="replace", null_replacement=style.null,
    )  # fmt: skip
    return Rows(columns, joined)


def _absent_as_one(texts: list[pa.Array], style: Style) -> Iterator[pa.Array | pa.Scalar]:
    """The texts of columns, with those that are absent from all rows and stand side by side as one
    text: joining takes time for each column.
    """
    for absent, group in groupby(texts, lambda text: text.null_count == len(text)):
        if absent:
            yield pa.scalar(style.comma.join(style.null for _ in group), pa.large_string())
        else:
            yield from group


def times(columns: pa.RecordBatch, now_ns: int) -> pa.Array:
    """The column `time`, as numbers of nanoseconds."""
    given = [columns.column(name).cast(pa.int64()) for name in ("timestamp", "observed")]
    return pc.coalesce(*given, pa.scalar(now_ns, pa.int64()))


def structures(values: pa.Array) -> list[str | None]:
    """Structures as JSON; a map, which pyarrow gives as pairs, is an object."""
    plain = dict if pa.types.is_map(values.type) else _as_it_is
    return [
        None if value is None else msgspec.json.encode(json_ready(plain(value))).decode()
        for value in values.to_pylist()
    ]


def _as_it_is(value: Any) -> Any:
    return value


def _text(values: pa.Array, column: Column, style: Style) -> pa.Array:
    """The values of a column as text, null where they are."""
    if values.null_count == len(values):
        return pa.nulls(len(values), pa.string())
    kind = values.type
    if pa.types.is_timestamp(kind):
        numbers = values.cast(pa.int64())
        if column.type == "i64":
            return numbers.cast(pa.string())
        return _quoted(_times(numbers, style), style)
    if pa.types.is_nested(kind):
        values = pa.array(structures(values), pa.string())
    elif pa.types.is_dictionary(kind):
        if len(values.dictionary) <= len(values):
            return _escaped(values.dictionary, style).take(values.indices)
        values = values.dictionary.take(values.indices)
    elif pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _around(_hex(values), *style.octets)
    if pa.types.is_string(values.type):
        return _escaped(values, style)
    return values.cast(pa.string())


def _escaped(values: pa.Array, style: Style) -> pa.Array:
    """Texts as the database reads them."""
    data = values.buffers()[2]
    if data is not None:
        octets = data.to_pybytes() if data.size < LOT_BYTES else None
        for text, stands in style.escapes:
            if octets is None or text.encode() in octets:
                values = pc.replace_substring(values, text, stands)
    return _quoted(values, style)


def _quoted(values: pa.Array, style: Style) -> pa.Array:
    return _around(values, style.opening, style.closing)


def _around(values: pa.Array, before: str, after: str) -> pa.Array:
    """Texts with others before and after; null stays null."""
    if not before and not after:
        return values
    ends = [pa.scalar(end, values.type) for end in (before, after, "")]
    return pc.binary_join_element_wise(ends[0], values, *ends[1:])


def _times(numbers: pa.Array, style: Style) -> pa.Array:
    """Nanoseconds since 1970 as text with six decimals, cut off as those of clocks are."""
    before = pc.less(numbers, 0)  # which division would round up
    cut = pc.divide(numbers, 1000)
    if pc.any(before).as_py():
        back = pc.and_(before, pc.not_equal(pc.multiply(cut, 1000), numbers))
        cut = pc.subtract(cut, back.cast(pa.int64()))
    texts = cut.cast(pa.timestamp("us")).cast(pa.string())
    return _around(texts, "", style.zone) if style.zone else texts


def _hex(values: pa.Array) -> pa.Array:
    """Bytes as hex."""
    if pa.types.is_fixed_size_binary(values.type):
        values = values.cast(pa.binary())
    offsets = np.frombuffer(values.buffers()[1], np.int32)
    offsets = offsets[values.offset : values.offset + len(values) + 1].astype(np.int64)
    data = values.buffers()[2]
    octets = b"" if data is None else memoryview(data)[offsets[0] : offsets[-1]].hex().encode()
    valid = None if not values.null_count else pc.is_valid(values)
    text = pa.LargeStringArray.from_buffers(
        len(values), pa.py_buffer((offsets - offsets[0]) * 2), pa.py_buffer(octets)
    )
    return text if valid is None else pc.if_else(valid, text, pa.scalar(None, pa.large_string()))
