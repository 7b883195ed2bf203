"""Packets in columns: which of them agree in all but the fields that differ from packet to packet.

Those that agree have lines of one pattern (pylog.table.patterns). A code for each packet says which
do, and a packet of each code gives the values that they have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pylog.formats.columns import (
    Addresses,
    Array,
    Blobs,
    Column,
    NumberColumn,
    Numbered,
    Repeated,
    Rows,
)
from pylog.record import PacketRecord
from pylog.table.patterns import GAPS, number_within

MOST_CODES = 1 << 16
"""How many codes a part of the values that packets have in common may have."""

SIZES = ("length", "caplen")
FEW_SIZES = 8
"""A field of SIZES that has at most so many values is text of patterns."""


class Packets:
    """The columns of the regular messages: which they agree in, and which differ.

    columns   of all fields that have any value; the number in each row of a Numbered is a column of
              its own, named by patterns.number_within
    gaps      the fields that differ from packet to packet
    """

    def __init__(self, rows: Rows, more: Mapping[str, Column | None]) -> None:
        self.columns: dict[str, Column] = {}
        self.gaps = {*GAPS}
        for name in PacketRecord.__struct_fields__:
            column = more[name] if name in more else rows.column(name)
            if isinstance(column, Numbered):
                number = number_within(name, column.key)
                self.gaps.add(number)
                self.columns[number] = NumberColumn(column.numbers, column.valid)
                column = Repeated(column.codes, column.values)
            if column is not None:
                self.columns[name] = column
        self.gaps -= {name for name in SIZES if self._has_few(name)}
        self._is_six = None
        self._places: dict[str, Any] = {}
        saddr = self.columns.get("saddr")
        if isinstance(saddr, Addresses):
            self._is_six = saddr.is_six if saddr.is_six.any() else None

    def _has_few(self, name: str) -> bool:
        """Whether the field has so few values that they may be text of patterns."""
        column = self.columns.get(name)
        if not isinstance(column, NumberColumn) or not len(column.values):
            return False
        values = column.values if column.valid is None else column.values[column.valid]
        if not len(values) or not 0 <= values.min() <= values.max() < MOST_CODES:
            return False
        return bool(np.count_nonzero(np.bincount(values.astype(np.intp))) <= FEW_SIZES)

    def alike(self, chosen: Array | None, count: int) -> tuple[Array, Array]:
        """A code for each row, the same for those that agree, and an example row for each code."""
        rows: Any = slice(None) if chosen is None else chosen
        code, size = np.zeros(count, np.intp), 1
        for part, many in self._parts():
            values = part[rows]
            if (values == values[0]).all():
                continue
            if many is None:
                values, many = _dense(values)
            if size * many > MOST_CODES:
                code, size = _dense(code)
            code = code * many + values
            size *= many
        code, size = _dense(code)
        numbers = np.arange(count) if chosen is None else chosen
        examples = np.empty(size, np.intp)
        examples[code[::-1]] = numbers[::-1]
        return code, examples

    def _parts(self) -> Iterator[tuple[Array, int | None]]:
        """What packets with the same code agree in, each with the number of its values, which are
        those below that number; None: they may be any.
        """
        passed: dict[int, Array] = {}  # by id: these arrays must stay, so that no other gets theirs
        if self._is_six is not None:
            yield self._is_six, 2
        for name, column in self.columns.items():
            parts: list[tuple[Array, int | None]] = []
            if isinstance(column, Repeated):
                if len(column.values) > 1:
                    parts.append((column.codes, len(column.values)))
            else:
                valid = column.valid
                if isinstance(column, NumberColumn) and name not in self.gaps:
                    values = column.values if valid is None else np.where(valid, column.values, 0)
                    parts.append((values, None))
                if valid is not None:
                    parts.append((valid, 2))
            for part, many in parts:
                if id(part) not in passed:
                    passed[id(part)] = part
                    yield part, many

    def example(self, row: int) -> tuple[dict[str, Any], list[str], bool]:
        """The values of a row that others may have, the fields that differ, and whether the
        addresses are IPv6.
        """
        values: dict[str, Any] = {}
        gaps = []
        for name, column in self.columns.items():
            if isinstance(column, Repeated):
                values[name] = column.values[column.codes[row]]
            elif column.valid is not None and not column.valid[row]:
                continue
            elif isinstance(column, Addresses | Blobs) or name in self.gaps:
                gaps.append(name)
            else:
                assert isinstance(column, NumberColumn)
                values[name] = int(column.values[row])
        return values, gaps, bool(self._is_six is not None and self._is_six[row])

    def places_of_four(self, column: Addresses) -> Any:
        """Where the IPv4 address of each row is."""
        if "four" not in self._places:
            self._places["four"] = (
                np.cumsum(~column.is_six) - 1 if len(column.six) else np.arange(len(column.is_six))
            )
        return self._places["four"]

    def places_of_six(self, column: Addresses) -> Any:
        """Where the IPv6 address of each row is."""
        if "six" not in self._places:
            self._places["six"] = np.cumsum(column.is_six) - 1
        return self._places["six"]


def _dense(values: Array) -> tuple[Array, int]:
    """Codes from 0 on for the distinct values, and how many there are."""
    if values.dtype == bool:
        return values, 2
    if values.min() >= 0 and values.max() < MOST_CODES:
        small = values.astype(np.intp, copy=False)
        used = np.bincount(small) > 0
        return (np.cumsum(used) - 1)[small], int(used.sum())
    distinct, codes = np.unique(values, return_inverse=True)
    return codes, len(distinct)
