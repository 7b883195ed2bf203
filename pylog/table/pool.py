"""A pool of pieces of text, of which lines are put together by their places in it.

A line is a row of places. Arrow's `take` copies the pieces of all rows, one behind the other, so
the bytes it makes are the lines. Numbers, times and addresses are pieces of tables that are always
in the pool: a number of nine digits is two pieces, an IPv4 address two. What only some lines have
is added behind the tables, and forgotten before the next lines.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pylog.formats.columns import Array, Blobs
from pylog.formats.columns.arrays import by_size, gather

EMPTY = 0
"""The place of the piece without bytes."""
_PLAIN = 1
"""The place of the first of the numbers from 0 on, as they are written."""
_GROUP = 10_000
_NUMBERS = 1 << 16
_FOUR = _PLAIN + _NUMBERS
"""That of the first of all groups of four digits."""
_THREE = _FOUR + _GROUP
"""That of the first of all groups of three digits."""
_FIRST = _THREE + 1000
"""That of the first half of an IPv4 address, with a dot behind it."""
_SECOND = _FIRST + _NUMBERS
"""That of the first second half of an IPv4 address."""


@cache
def _tables() -> tuple[Array, Array]:
    """The bytes of the pieces that are always there, and where they end."""
    dots = np.full((_NUMBERS, 1), ord("."), np.uint8), np.ones((_NUMBERS, 1), bool)
    octets, digits = _plain(256, 3)
    high, low = np.divmod(np.arange(_NUMBERS), 256)
    first, second = (octets[high], digits[high]), (octets[low], digits[low])
    tables = [
        [(np.empty((1, 0), np.uint8), np.empty((1, 0), bool))],
        [_plain(_NUMBERS, 5)],
        [(text, np.ones_like(text, bool)) for text in [_digits(_GROUP, 4)]],
        [(text, np.ones_like(text, bool)) for text in [_digits(1000, 3)]],
        [first, dots, second, dots],
        [first, dots, second],
    ]
    data, sizes = [], []
    for parts in tables:
        text, there = (np.concatenate(side, axis=1) for side in zip(*parts, strict=True))
        data.append(text[there])
        sizes.append(np.count_nonzero(there, axis=1))
    return np.concatenate(data), np.cumsum(np.concatenate(sizes)).astype(np.int32)


def _digits(count: int, width: int) -> Array:
    """The numbers below `count` in so many digits, a row each."""
    powers = 10 ** np.arange(width - 1, -1, -1)
    return (np.arange(count)[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def _plain(count: int, width: int) -> tuple[Array, Array]:
    """As _digits, and which digits are no zeros in front."""
    powers = 10 ** np.arange(width - 1, -1, -1)
    powers[-1] = 0
    return _digits(count, width), np.arange(count)[:, None] >= powers


class Pool:
    """Pieces of text: those of the tables, and those that were added since `clear`."""

    def __init__(self) -> None:
        data, ends = _tables()
        self._data = np.empty(2 * len(data), np.uint8)
        self._data[: len(data)] = data
        self._ends = np.zeros(2 * len(ends), np.int32)
        self._ends[1 : len(ends) + 1] = ends
        self._kept = self._used, self._count = len(data), len(ends)
        self._tables = self._kept

    def clear(self) -> None:
        """Forget the pieces that were added."""
        self._used, self._count = self._kept = self._tables

    def keep(self) -> None:
        """Let `forget` keep what was added up to now."""
        self._kept = self._used, self._count

    def forget(self) -> None:
        """Forget the pieces that were added since `keep`."""
        self._used, self._count = self._kept

    def add(self, pieces: Sequence[bytes]) -> int:
        """The place of the first of these pieces; the others follow it."""
        sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
        return self._add(np.frombuffer(b"".join(pieces), np.uint8), np.cumsum(sizes))

    def add_strings(self, strings: pa.Array) -> int:
        """The place of the first of an Arrow array of strings without nulls."""
        _, ends, data = strings.buffers()
        edges = np.frombuffer(ends, np.int32)[strings.offset :][: len(strings) + 1]
        text = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
        return self._add(text[edges[0] : edges[-1]], edges[1:] - edges[0])

    def add_hex(self, blobs: Blobs, rows: Array) -> Array:
        """The place of the hex of each row's bytes."""
        starts, sizes = blobs.starts[rows], blobs.sizes[rows]
        places = np.empty(len(starts), np.int32)
        for size, alike in by_size(sizes):
            if not size:
                places[alike] = EMPTY
                continue
            octets = gather(blobs.data, starts[alike], size)
            text = np.frombuffer(binascii.hexlify(octets.data), np.uint8)
            first = self._add(text, np.arange(1, len(octets) + 1) * (2 * size))
            places[alike] = np.arange(first, first + len(octets), dtype=np.int32)
        return places

    def _add(self, data: Array, ends: Array) -> int:
        place, used = self._count, self._used
        self._count, self._used = place + len(ends), used + len(data)
        if self._used > len(self._data):
            self._data = _larger(self._data, used, self._used)
        if self._count >= len(self._ends):
            self._ends = _larger(self._ends, place + 1, self._count + 1)
        self._data[used : self._used] = data
        self._ends[place + 1 : self._count + 1] = ends + used
        return place

    def lines(self, columns: Sequence[Array | int], count: int) -> tuple[memoryview, Array]:
        """The lines, one behind the other, and where each begins and the last ends.

        columns   of places: an array with one for each line, or one for all
        """
        places = np.empty((count, len(columns)), np.int32)
        for i, column in enumerate(columns):
            places[:, i] = column
        pieces = pa.Array.from_buffers(
            pa.binary(), self._count,
            [None, pa.py_buffer(self._ends[: self._count + 1]),
             pa.py_buffer(self._data[: self._used])],
        )  # fmt: skip
        # pa.array would import pandas, where it is installed
        wanted = pa.Array.from_buffers(pa.int32(), places.size, [None, pa.py_buffer(places)])
        taken = pc.take(pieces, wanted, boundscheck=False)
        _, ends, data = taken.buffers()
        edges = np.frombuffer(ends, np.int32, len(taken) + 1)[:: len(columns)]
        return memoryview(data if data is not None else b"")[: int(edges[-1])], edges


def _larger(array: Array, used: int, needed: int) -> Array:
    """An array with room for more, that begins with what is in use."""
    larger = np.empty(needed * 3 // 2, array.dtype)
    larger[:used] = array[:used]
    return larger


def decimals(values: Array) -> list[Array]:
    """The places of numbers from 0 on, in pieces."""
    most = int(values.max(initial=0))
    if most < _NUMBERS:
        return [_PLAIN + values.astype(np.int32)]
    if most < _NUMBERS * _GROUP:
        values = values.astype(np.uint32)
    high, low = np.divmod(values, values.dtype.type(_GROUP))
    last = low.astype(np.int32)
    leading = decimals(high)
    if int(high.min()) > 0:
        return [*leading, last + np.int32(_FOUR)]
    short = high == 0
    last += np.where(short, np.int32(_PLAIN), np.int32(_FOUR))
    return [*(np.where(short, np.int32(EMPTY), piece) for piece in leading), last]


def three_digits(values: Array) -> Array:
    """The places of numbers below 1000, with zeros in front."""
    return _THREE + values.astype(np.int32)


def four_octets(octets: Array) -> list[Array]:
    """The places of IPv4 addresses, of arrays in (rows, 4): two pieces."""
    halves = octets.view(">u2").astype(np.int32)
    return [_FIRST + halves[:, 0], _SECOND + halves[:, 1]]


def distinct_of(seconds: Array) -> tuple[Array, list[int]]:
    """A code for each of some mostly ascending numbers, and the number of each code."""
    new = np.flatnonzero(seconds[1:] != seconds[:-1]) + 1
    runs = seconds[np.concatenate(([0], new))]
    codes = np.zeros(len(seconds), np.int32)
    codes[new] = 1
    distinct, of_runs = np.unique(runs, return_inverse=True)
    codes = of_runs.astype(np.int32)[np.cumsum(codes)]
    return codes, distinct.tolist()
