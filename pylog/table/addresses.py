"""A column of addresses, as text or as 16 bytes in each row.

The text of each octet of an IPv4 address, or of each group of an IPv6 address, is looked up in a
table. Its cells have a fixed size, padded with zero bytes. Without the zero bytes, the cells of all
rows are the texts one after the other, as an Arrow array of strings has them. So no row costs a
call in Python, and an address that is new costs no more than one that repeats. The texts are those
of pylog.formats.addresses.

They are plain strings, not a dictionary, so that filters may use functions of text on them. If they
repeat, the text of each distinct one is made once and copied.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pyarrow as pa

from pylog.formats.addresses import addresses
from pylog.formats.columns import Addresses, Array
from pylog.table.schemas import MAPPED, PACKED_ADDRESS

ROWS = 4096
"""How many rows have cells at a time: so few that the cells stay in the cache of the processor."""


SAMPLE = 1024
"""How many addresses show whether they repeat: if half of them do, each distinct one becomes text
once, and its text is copied (a third of the time of IPv4, a fifth of that of IPv6); if not, looking
for equal ones is in vain."""


def texts(column: Addresses) -> pa.Array:
    """The addresses as strings."""
    if not len(column.six):
        return _each(column.four, _four_cells)
    if not len(column.four):
        return _each(column.six, _six_cells)
    places = np.empty(len(column.is_six), np.int32)
    places[~column.is_six] = np.arange(len(column.four), dtype=np.int32)
    places[column.is_six] = np.arange(len(column.four), len(places), dtype=np.int32)
    parts = [_each(column.four, _four_cells), _each(column.six, _six_cells)]
    return pa.concat_arrays(parts).take(_indices(places))


def packed(column: Addresses) -> pa.Array:
    """The addresses as 16 bytes, IPv4 as ::ffff:a.b.c.d."""
    rows = np.empty((len(column.is_six), 16), np.uint8)
    rows[:, :12] = np.frombuffer(MAPPED, np.uint8)
    rows[~column.is_six, 12:] = column.four
    rows[column.is_six] = column.six
    return pa.Array.from_buffers(PACKED_ADDRESS, len(rows), [None, pa.py_buffer(rows)])


def _each(octets: Array, cells_of: Callable[[Array], tuple[Array, Array]]) -> pa.Array:
    """The strings of the rows, of which each distinct one is made once if many are equal."""
    if not len(octets) or len(_distinct(octets[:SAMPLE])[0]) * 2 > min(SAMPLE, len(octets)):
        return _strings(octets, cells_of)
    distinct, codes = _distinct(octets)
    return _strings(distinct, cells_of).take(codes)


def _distinct(octets: Array) -> tuple[Array, pa.Array]:
    """The distinct rows, and the place of each row among them."""
    width = octets.shape[1]
    kind = pa.uint32() if width == 4 else PACKED_ADDRESS  # numbers are compared faster
    rows = pa.Array.from_buffers(kind, len(octets), [None, pa.py_buffer(octets)])
    coded = rows.dictionary_encode()
    _, values = coded.dictionary.buffers()
    distinct = np.frombuffer(values, np.uint8, width * len(coded.dictionary)).reshape(-1, width)
    return distinct, coded.indices


def _indices(places: Array) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(places), [None, pa.py_buffer(places)])


def _strings(octets: Array, cells_of: Callable[[Array], tuple[Array, Array]]) -> pa.Array:
    """The strings whose cells and sizes `cells_of` makes of some rows."""
    ends = np.zeros(len(octets) + 1, np.int32)
    parts = []
    for at in range(0, len(octets), ROWS):
        cells, sizes = cells_of(octets[at : at + ROWS])
        ends[at + 1 : at + 1 + ROWS] = sizes
        parts.append(cells.tobytes().translate(None, b"\0"))
    np.cumsum(ends, out=ends)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(parts))]
    return pa.Array.from_buffers(pa.string(), len(octets), buffers)


def _four_cells(four: Array) -> tuple[Array, Array]:
    by_octet, sizes_of = _octets()
    cells = by_octet.take(four).view(np.uint8)
    cells[:, 0] = 0  # the first dot
    ones = np.uint32(0x01010101)  # times this, the highest byte is the sum of all four
    sums = sizes_of.take(four).view(np.uint32).ravel() * ones >> np.uint32(24)
    return cells, sums.astype(np.int32) - 1


def _six_cells(octets: Array) -> tuple[Array, Array]:
    by_group, sizes_of = _groups()
    masks, corrections = _zeros()
    groups = octets.view(">u2").astype(np.uint16)
    zeros = np.packbits((groups == 0).ravel())
    masked = by_group.take(groups)
    masked &= masks.take(zeros, axis=0)
    cells = masked.view(np.uint8)
    ones = np.uint64(0x0101010101010101)  # times this, the highest byte is the sum of all eight
    sums = sizes_of.take(groups).view(np.uint64).ravel() * ones >> np.uint64(56)
    sizes = sums.astype(np.int32) + corrections.take(zeros)
    embeds = (zeros & 0xFE == 0xFC) | ((zeros >> 3 == 0x1F) & (groups[:, 5] == 0xFFFF))
    for i in np.flatnonzero(embeds).tolist():  # rare: ::a.b.c.d and ::ffff:a.b.c.d
        text = addresses[octets[i].tobytes()].encode()
        sizes[i] = len(text)
        cells[i] = np.frombuffer(text.ljust(cells.shape[1], b"\0"), np.uint8)
    return cells, sizes


@cache
def _octets() -> tuple[Array, Array]:
    """By octet: ".255" in a uint32, and its size."""
    texts = [f".{octet}".encode() for octet in range(256)]
    cells = np.frombuffer(b"".join(text.ljust(4, b"\0") for text in texts), np.uint32)
    return cells, np.array([len(text) for text in texts], np.uint8)


@cache
def _groups() -> tuple[Array, Array]:
    """By group: ":ffff" in a uint64, without leading zeros, and its size."""
    count = 1 << 16
    cells, sizes = np.zeros((count, 8), np.uint8), np.full(count, 5, np.uint8)
    cells[:, 0] = ord(":")
    digits = np.arange(count, dtype=">u2").tobytes().hex().encode()
    cells[:, 1:5] = np.frombuffer(digits, np.uint8).reshape(count, 4)
    for place, limit in ((1, 0x1000), (2, 0x100), (3, 0x10)):
        cells[:limit, place] = 0
        sizes[:limit] -= 1
    return cells.view(np.uint64).ravel(), sizes


@cache
def _zeros() -> tuple[Array, Array]:
    """By a bit for each group that is 0: a mask for the cells, and what it does to their size.

    The first colon goes, and the longest run of two or more zeros (RFC 5952, 4.2) leaves one colon,
    to which that of the next group is added. A run at the end leaves two.
    """
    masks, corrections = np.full((256, 8, 8), 0xFF, np.uint8), np.zeros(256, np.int32)
    for zeros in range(256):
        runs = [
            (size, -start)
            for start in range(8)
            for size in range(2, 9 - start)
            if (zeros << start & 0xFF) >> 8 - size == (1 << size) - 1
        ]
        size, start = max(runs, default=(0, 0))
        start = -start
        if start > 0 or not size:
            masks[zeros, 0, 0] = 0
            corrections[zeros] -= 1
        if size:
            last = start + size - 1
            masks[zeros, start : last + 1] = 0
            colons = [start, last] if last == 7 else [start]
            masks[zeros, colons, 0] = 0xFF
            corrections[zeros] += len(colons) - 2 * size
    return masks.view(np.uint64).reshape(256, 8), corrections
