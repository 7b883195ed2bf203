"""Compiles the fixed part of a construct schema into one struct.Struct, which is much faster.

The schema is the only place where a layout is written down. `leaves` walks its fixed part once and
lists name, offset and struct code of every scalar; `Plan` makes one `struct.Struct` of them, with
padding skipped. The walk ends at the first part of variable size. construct stays the reference:
tests compare both.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from construct import (
    Array,
    Bytes,
    Construct,
    Default,
    FormatField,
    Renamed,
    Struct,
)

BYTEORDER: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
"""The byte order as int.from_bytes names it, by the sign that struct uses."""

Unpack = Callable[[Any, int], tuple[Any, ...]]


class Leaf(NamedTuple):
    """One scalar of a schema: its name, offset and size in bytes, and its struct code."""

    name: str
    offset: int
    size: int
    code: str
    order: str


def leaves(schema: Any) -> list[Leaf]:
    """The scalars of the schema's fixed part, in order; the rows of an array are name.0, name.1."""
    return [leaf for leaf in _fixed_part(schema) if not leaf.name.startswith("_")]


def _fixed_part(schema: Any) -> list[Leaf]:
    """The leaves, and the padding between and after them, whose names begin with "_"."""
    leaves: list[Leaf] = []
    _walk(schema, "", 0, leaves)
    return leaves


def _walk(schema: Construct[Any, Any], name: str, offset: int, leaves: list[Leaf]) -> int | None:
    """Add the leaves of `schema`; return the offset after it, or None after a variable part."""
    while isinstance(schema, Renamed | Default):
        schema = schema.subcon
    if isinstance(schema, Struct):
        end: int | None = offset
        for part in schema.subcons:
            assert end is not None
            end = _walk(part, part.name or name, end, leaves)
            if end is None:
                return None
        return end
    if isinstance(schema, FormatField):
        order, code = schema.fmtstr[0], schema.fmtstr[1:]
        leaves.append(Leaf(name, offset, schema.length, code, order))
        return offset + schema.length
    if isinstance(schema, Bytes) and isinstance(schema.length, int):
        leaves.append(Leaf(name, offset, schema.length, f"{schema.length}s", "="))
        return offset + schema.length
    if isinstance(schema, Array) and isinstance(schema.count, int):
        end = offset
        for i in range(schema.count):
            assert end is not None
            end = _walk(schema.subcon, f"{name}.{i}", end, leaves)
        return end
    return None


def _numpy_type(leaf: Leaf) -> str:
    if leaf.code.endswith("s"):
        return f"V{leaf.size}"
    return f"{leaf.order}{'u' if leaf.code.isupper() else 'i'}{leaf.size}"


class Plan:
    """The fixed part of a schema as one compiled struct.

    names    the scalars, in the order in which `unpack` gives them
    places   the leaf of each name
    size     of the fixed part in bytes
    unpack   (data, offset) -> values; raises struct.error when fewer than `size` bytes are left
    pack_values   (*values) -> the fixed part, padding being zeros
    """

    def __init__(self, schema: Any) -> None:
        fixed = _fixed_part(schema)
        last = fixed[-1]
        self.leaves = [leaf for leaf in fixed if not leaf.name.startswith("_")]
        self.names = tuple(leaf.name for leaf in self.leaves)
        self.places = {leaf.name: leaf for leaf in self.leaves}
        self.size = last.offset + last.size
        self._struct = struct.Struct(self._format(self.leaves, self.size))
        self.unpack: Unpack = self._struct.unpack_from
        self.pack_values = self._struct.pack

    @staticmethod
    def _format(chosen: Sequence[Leaf], size: int) -> str:
        orders = {leaf.order for leaf in chosen if leaf.code not in "BbC" and leaf.order != "="}
        if len(orders) > 1:
            raise ValueError("fields of both byte orders: declare the minor ones as Bytes")
        code, at = (orders.pop() if orders else "="), 0
        for leaf in chosen:
            if leaf.size:
                code += "x" * (leaf.offset - at)
                at = leaf.offset + leaf.size
            code += leaf.code
        return code + "x" * (size - at)

    def dtype(self, size: int | None = None, names: Sequence[str] | None = None) -> Any:
        """The scalars as NumPy's dtype takes them; bytes are of type V.

        size    of a record; None: of the fixed part, or up to the end of the last of `names`
        names   only these
        """
        chosen = self.leaves if names is None else [self.places[name] for name in names]
        end = self.size if names is None else max(leaf.offset + leaf.size for leaf in chosen)
        return {
            "names": [leaf.name for leaf in chosen],
            "formats": [_numpy_type(leaf) for leaf in chosen],
            "offsets": [leaf.offset for leaf in chosen],
            "itemsize": size or end,
        }

    def pack(self, fields: Mapping[str, Any]) -> bytes:
        """The fixed part with the values of `fields`, by name; padding is zeros."""
        return self.pack_values(*[fields[name] for name in self.names])

    def get(self, data: bytes | bytearray, name: str) -> int:
        """The number in a field of the data."""
        leaf = self.places[name]
        order = BYTEORDER.get(leaf.order, "big")
        return int.from_bytes(data[leaf.offset : leaf.offset + leaf.size], order)

    def set(self, data: bytearray, name: str, value: int) -> None:
        """Write a number into a field of the data."""
        leaf = self.places[name]
        octets = value.to_bytes(leaf.size, BYTEORDER.get(leaf.order, "big"))
        data[leaf.offset : leaf.offset + leaf.size] = octets

    def reader(self, names: Sequence[str]) -> Unpack:
        """A function (data, offset) -> the values of `names`, None for a name not in the schema."""
        chosen = [leaf for leaf in self.leaves if leaf.name in names]
        unpack: Unpack = struct.Struct(self._format(chosen, self.size)).unpack_from
        have = [leaf.name for leaf in chosen]
        if have == list(names):
            return unpack
        if have == list(names[: len(have)]):
            lacking = (None,) * (len(names) - len(have))
            return lambda data, offset: unpack(data, offset) + lacking
        pick = itemgetter(*(have.index(n) if n in have else len(have) for n in names))
        return lambda data, offset: pick((*unpack(data, offset), None))

    def keyed(
        self, singly: Sequence[str], together: Sequence[str]
    ) -> tuple[Unpack, Callable[[tuple[bytes, ...]], tuple[Any, ...]]]:
        """Two functions: (data, offset) -> the values of `singly`, then runs of bytes; and
        runs -> the values of `together`, None for a name not in the schema.

        A run is the bytes of adjacent fields of `together`. Equal runs have equal values, so they
        are a key to what was made of them before. A field of `singly` that is not in the schema is
        b"". All fields of `singly` must lie before the runs.
        """
        runs = self._runs(together)
        chosen = [self.places.get(name, Leaf(name, 0, 0, "0s", "=")) for name in singly]
        chosen += [Leaf("", start, end - start, f"{end - start}s", "=") for start, end in runs]
        offsets = [leaf.offset for leaf in chosen if leaf.size]
        unpack: Unpack
        if offsets == sorted(offsets):
            unpack = struct.Struct(self._format(chosen, self.size)).unpack_from
        else:
            places = sorted(range(len(chosen)), key=lambda i: chosen[i].offset)
            code = self._format([chosen[i] for i in places], self.size)
            sort = itemgetter(*(places.index(i) for i in range(len(chosen))))
            unpack_sorted = struct.Struct(code).unpack_from
            unpack = lambda data, offset: sort(unpack_sorted(data, offset))  # noqa: E731
        read = self.reader(together)

        def values(octets: tuple[bytes, ...]) -> tuple[Any, ...]:
            data = bytearray(self.size)
            for (start, end), run in zip(runs, octets, strict=True):
                data[start:end] = run
            return read(data, 0)

        return unpack, values

    def _runs(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """Start and end of each stretch of adjacent fields."""
        runs: list[tuple[int, int]] = []
        for leaf in self.leaves:
            if leaf.name in names:
                end = leaf.offset + leaf.size
                if runs and runs[-1][1] == leaf.offset:
                    runs[-1] = runs[-1][0], end
                else:
                    runs.append((leaf.offset, end))
        return runs

    def cut(self, data: bytes, start: int, end: int) -> tuple[Any, ...]:
        """As `unpack`, for a header of which only data[start:end] was kept; the rest is None."""
        kept = end - start
        values = self._struct.unpack(data[start:end][: self.size].ljust(self.size, b"\0"))
        pairs = zip(self.leaves, values, strict=True)
        return tuple(v if leaf.offset + leaf.size <= kept else None for leaf, v in pairs)


@cache
def plan_of(schema: Any) -> Plan:
    """The plan of a schema that is a constant of its module, made once."""
    return Plan(schema)
