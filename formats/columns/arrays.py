"""What the columns of all formats are made with: gathering, chaining and grouping in NumPy.

`gather` copies structures from any places in the data, `follow` finds the places where messages
begin, and `alike` groups rows with equal bytes, so that each distinct value is decoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any

import numpy as np

from pylog.formats.columns import Array

SPACING = 1 << 13
"""The distance in bytes between the starts of the stretches that are walked at the same time."""


BLOCK = 2048
"""How many rows of bytes are looked at at a time, so that they stay in the cache."""


def gather(data: Array, places: Array, kind: Any) -> Array:
    """A copy of what lies at the places: values of the dtype `kind`, or rows of that many bytes.

    All must lie within the data, an array of uint8.
    """
    dtype = np.dtype(f"V{kind}" if isinstance(kind, int) else kind)
    opaque = np.dtype(f"V{dtype.itemsize}")
    overlapping = np.ndarray((len(data) - dtype.itemsize + 1,), opaque, data, 0, (1,))
    copied = overlapping[places]
    if isinstance(kind, int):
        return copied.view(np.uint8).reshape(len(places), kind)
    return copied.view(dtype)


def in_a_row(*parts: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of structures that follow each other without a gap."""
    names: list[str] = []
    formats, offsets, size = [], [], 0
    for part in parts:
        for name, field in (part.fields or {}).items():
            names.append(name)
            formats.append(field[0])
            offsets.append(size + field[1])
        size += part.itemsize
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def seeming(data: bytes, pos: int, stop: int, pattern: bytes, at: int) -> Array:
    """The places from `pos` on, in steps of 4 bytes, that have the pattern of 4 bytes at `at`."""
    words = np.frombuffer(data, np.uint32, max(0, stop - pos + 3) // 4, pos + at)
    return np.flatnonzero(words == np.frombuffer(pattern, np.uint32)[0]) * 4 + pos


def spaced(pos: int, stop: int, find: Callable[[int, int], int]) -> Array:
    """Places where messages seem to begin, one in each SPACING bytes from pos + SPACING on.

    find   (place, limit) -> the first such place between them; -1: none
    """
    places = [find(near, min(near + SPACING, stop)) for near in range(pos + SPACING, stop, SPACING)]
    return np.array([at for at in places if at >= 0], np.int64)


def follow(
    pos: int, stop: int, places: Array, after: Callable[[Array], Array]
) -> tuple[Array, int]:
    """Where the messages begin that follow each other from `pos` on, and where the next would.

    stop     no message begins there or later
    places   where messages seem to begin, ascending: all, or only one here and there
    after    places -> where the message at each ends; -1 where there is none

    From all these places messages are walked at the same time, each walk to the next place. If a
    walk passes over the next place, that was no message, and fewer places are tried.
    """
    starts, anchors, ends = _walked(pos, stop, places[(places > pos) & (places < stop)], after)
    if (ends[:-1] == anchors[1:]).all():
        return starts, int(ends[-1])
    apart = anchors.searchsorted(np.arange(pos + SPACING, stop, SPACING))
    apart = np.unique(apart[apart < len(anchors)])
    starts, anchors, ends = _walked(pos, stop, _chained(anchors[apart], stop, after), after)
    met = ends[:-1] == anchors[1:]
    return (starts, int(ends[-1])) if met.all() else _joined(starts, anchors, ends, stop, after)


def _walked(
    pos: int, stop: int, places: Array, after: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    """The messages between `pos` and the places, the places with `pos`, and where the walk from
    each has ended.
    """
    anchors = np.concatenate([[pos], places])
    limits = np.append(anchors[1:], stop)
    ends = anchors.copy()
    walked = []
    live = np.arange(len(anchors))
    while len(live):
        here = ends[live]
        following = after(here)
        good = following > here
        if not good.all():
            live, here, following = live[good], here[good], following[good]
        walked.append(here)
        ends[live] = following
        live = live[following < limits[live]]
    starts = walked[0] if len(walked) == 1 else np.sort(np.concatenate(walked))
    return starts, anchors, ends


def _chained(places: Array, stop: int, after: Callable[[Array], Array]) -> Array:
    """The places where a message seems to begin, and another one after it."""
    second = after(places)
    beyond = second >= stop
    third = after(np.where((second > places) & ~beyond, second, places))
    return places[beyond | ((second > places) & (third > second))]


def _joined(
    starts: Array, anchors: Array, ends: Array, stop: int, after: Callable[[Array], Array]
) -> tuple[Array, int]:
    """As `follow`, for stretches that do not all meet: walk on singly from where they do not."""
    parts, i, at = [], 0, int(anchors[0])
    edges = np.append(starts.searchsorted(anchors), len(starts))
    while at < stop:
        i = int(anchors.searchsorted(at))
        if i < len(anchors) and anchors[i] == at and ends[i] > at:
            parts.append(starts[edges[i] : edges[i + 1]])
            at = int(ends[i])
            continue
        here = np.array([at])
        following = int(after(here)[0])
        if following <= at:
            break
        parts.append(here)
        at = following
    return np.concatenate([np.empty(0, np.int64), *parts]), at


def alike(parts: Sequence[Array]) -> tuple[Array, Array]:
    """Which rows agree in all parts: a code for each row, and an example row for each code.

    parts   arrays with an integer for each row, or with rows of bytes, uint8, whose size is a
            multiple of 8; codes and rows are of type intp
    """
    if len(parts) == 1 and parts[0].ndim == 1:
        return _coded(parts[0])
    return grouped(len(parts[0]), lambda rows: beside([part[rows] for part in parts]))


def beside(parts: Sequence[Array]) -> Array:
    """The parts, as for `alike`, in rows of uint64."""
    matrices = [
        part.view(np.uint64) if part.ndim > 1 else part.astype(np.uint64)[:, None] for part in parts
    ]
    return np.concatenate(matrices, axis=1)


def grouped(count: int, rows_of: Callable[[Any], Array]) -> tuple[Array, Array]:
    """As `alike`, for as many rows as `count`.

    rows_of   a slice or places -> these rows, of uint64. It is asked for a few at a time, and
              twice, since large arrays cost more: they do not stay in the cache
    """
    sums = np.empty(count, np.uint64)
    for at in range(0, count, BLOCK):
        rows = rows_of(slice(at, at + BLOCK))
        sums[at : at + BLOCK] = np.einsum("ij,j->i", rows, _factors(rows.shape[1]))
    codes, first = _coded(sums)
    examples = rows_of(first)
    for at in range(0, count, BLOCK):
        block = slice(at, at + BLOCK)
        if not np.array_equal(rows_of(block), examples.take(codes[block], axis=0)):
            # unequal rows with equal sums: whoever sends packets can make such
            _, first, codes = np.unique(
                rows_of(slice(count)), axis=0, return_index=True, return_inverse=True
            )
            return codes.ravel(), first
    return codes, first


@cache
def _factors(count: int) -> Array:
    chance = Random(1)
    return np.array([chance.getrandbits(64) | 1 for _ in range(count)], np.uint64)


def equal(rows: Array, others: Array) -> Array:
    """Which rows of bytes equal the others; their size is a multiple of 64."""
    same = (rows.view(np.uint64) == others.view(np.uint64)).view(np.uint64)
    good: Array = np.ones(len(rows), bool)
    for i in range(same.shape[1]):
        good &= same[:, i] == 0x0101010101010101
    return good


def _coded(values: Array) -> tuple[Array, Array]:
    """As `alike`, for a single array."""
    if (values == values[0]).all():
        return np.zeros(len(values), np.intp), np.zeros(1, np.intp)
    order = np.argsort(values)
    ordered = values[order]
    new = np.empty(len(values), bool)
    new[0] = True
    new[1:] = ordered[1:] != ordered[:-1]  # rows of bytes, too, which np.not_equal does not take
    codes = np.empty(len(values), np.intp)
    codes[order] = np.cumsum(new) - 1
    return codes, order[new]


def by_size(sizes: Array) -> list[tuple[int, Any]]:
    """Each distinct size, with an index of the rows that have it."""
    if not len(sizes):
        return []
    if (sizes == sizes[0]).all():
        return [(int(sizes[0]), slice(None))]
    small = (
        sizes.astype(np.uint16) if sizes.max() < 1 << 16 else sizes
    )  # these are sorted much faster
    order = np.argsort(small, kind="stable")
    ordered = small[order]
    edges = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return [(int(sizes[rows[0]]), rows) for rows in np.split(order, edges)]
