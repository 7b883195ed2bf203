"""What the columns of all formats are made with: gathering, chaining and grouping in NumPy.

`gather` copies structures from any places in the data, `follow` finds the places where messages
begin, and `alike` groups rows with equal bytes, so that each distinct value is decoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pylog.formats.columns import Array

SPACING = 1 << 13
"""The distance in bytes between the starts of the stretches that are walked at the same time."""


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


def follow(
    pos: int, stop: int, find: Callable[[int, int], int], after: Callable[[Array], Array]
) -> tuple[Array, int]:
    """Where the messages begin that follow each other from `pos` on, and where the next would.

    stop    no message begins there or later
    find    (place, limit) -> the first place between them where a message seems to begin; -1: none
    after   places -> where the message at each ends; -1 where there is none

    Many stretches are walked at the same time, each from a place that `find` gave to the next one.
    If the walk of a stretch passes over the place where the next began, that place was no message,
    and the earlier walk goes on.
    """
    places = [find(near, min(near + SPACING, stop)) for near in range(pos + SPACING, stop, SPACING)]
    seeming = np.array([at for at in places if at >= 0], np.int64)
    anchors = np.array([pos, *_chained(seeming, stop, after)])
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
    starts = np.sort(np.concatenate(walked))
    met = ends[:-1] == anchors[1:]
    return (starts, int(ends[-1])) if met.all() else _joined(starts, anchors, ends, stop, after)


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

    parts   one or more arrays with an integer for each row; codes and rows are of type intp
    """
    varying = [part.astype(np.uint64) for part in parts if not (part == part[0]).all()]
    if not varying:
        return np.zeros(len(parts[0]), np.intp), np.zeros(1, np.intp)
    mixed = varying[0]
    for i, part in enumerate(varying[1:]):
        mixed = (mixed * _ODD[i % len(_ODD)] ^ (mixed >> np.uint64(29))) + part
    codes, rows = _coded(mixed)
    if len(varying) > 1 and any((part != part[rows][codes]).any() for part in varying):
        codes, rows = _coded(np.stack(varying, axis=1).view(f"V{8 * len(varying)}").ravel())
    return codes, rows


_ODD = [np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)]


def words(rows: Array, mask: Array | None = None) -> list[Array]:
    """Rows of bytes as arrays of uint64, for `alike`: only the words that are not equal everywhere.

    rows   of a size that is a multiple of 8
    mask   uint8, 0 for the bytes that do not count
    """
    matrix = np.ascontiguousarray(rows).view(np.uint64).reshape(len(rows), -1)
    different = np.zeros(matrix.shape[1], np.uint64)
    for at in range(0, len(matrix), 2048):  # this many rows stay in the L1 cache
        different |= np.bitwise_or.reduce(matrix[at : at + 2048] ^ matrix[0], axis=0)
    counting = different if mask is None else different & mask.view(np.uint64)
    return [
        matrix[:, i] if mask is None else matrix[:, i] & mask.view(np.uint64)[i]
        for i in np.flatnonzero(counting)
    ] or [np.zeros(len(rows), np.uint64)]


def _coded(values: Array) -> tuple[Array, Array]:
    """As `alike`, for a single array."""
    order = np.argsort(values)
    ordered = values[order]
    new = np.empty(len(values), bool)
    new[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
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
