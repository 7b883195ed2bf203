"""Columns of Arrow as NumPy arrays: codes of texts, numbers, and the sums of maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.report.timeline import Numbers


class Coded(NamedTuple):
    """A column as numbers.

    codes    the place of each row's value in `values`
    values   distinct values; the last one is None, also if no row has it
    """

    codes: Numbers
    values: list[Any]


def coded(column: pa.Array) -> Coded:
    """The codes of a column."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = [*column.dictionary.to_pylist(), None]
    codes = column.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
    return Coded(codes.astype(np.int64), values)


def combined(*columns: Coded) -> tuple[Numbers, list[tuple[Any, ...]]]:
    """The rows of several columns together: the number of each row's combination, and those."""
    cells = columns[0].codes
    for column in columns[1:]:
        cells = cells * len(column.values) + column.codes
    distinct, numbers = np.unique(cells, return_inverse=True)
    combinations = []
    for cell in distinct.tolist():
        places = []
        for column in reversed(columns[1:]):
            cell, place = divmod(cell, len(column.values))
            places.append(place)
        places.append(cell)
        places.reverse()
        combinations.append(
            tuple(column.values[place] for column, place in zip(columns, places, strict=True))
        )
    return numbers.astype(np.int64), combinations


MOST = 2**47
"""A greater number (of bytes: 140 TB) counts as this one, so that sums of a batch stay numbers."""


def numbers(column: pa.Array, absent: int) -> Numbers:
    """A column of whole numbers; `absent` stands for those that are not there."""
    kind = pa.uint64() if pa.types.is_uint64(column.type) else pa.int64()
    most = pa.scalar(MOST, kind)
    bounded = pc.min_element_wise(column.cast(kind), most, skip_nulls=False)
    made: Numbers = pc.fill_null(bounded.cast(pa.int64()), absent).to_numpy(zero_copy_only=False)
    return made


def times(batch: pa.RecordBatch) -> tuple[Numbers, Numbers]:
    """Seconds since 1970, of the kernel or else of the receipt, and whether there is a time."""
    column = pc.coalesce(batch.column("timestamp"), batch.column("observed")).cast(pa.int64())
    there = column.is_valid().to_numpy(zero_copy_only=False)
    seconds = pc.fill_null(column, 0).to_numpy(zero_copy_only=False) // 1_000_000_000
    return seconds, there


def sums_of_maps(column: pa.Array) -> Numbers:
    """The sum of the values of each map of counters; 0 for none."""
    sums = np.zeros(len(column), np.int64)
    lengths = column.offsets.to_numpy()
    sizes = np.diff(lengths)
    values = numbers(column.items, 0)[lengths[0] : lengths[-1]]
    np.add.at(sums, np.repeat(np.arange(len(column)), sizes), values)
    return sums
