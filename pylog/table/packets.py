"""Packets in columns: which of them agree in all but the fields that differ from packet to packet.

Those that agree have lines of one pattern (pylog.table.patterns). A code for each packet says which
do, and a packet of each code gives the values that they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pylog.formats.columns import (
    Addresses,
    Array,
    Blobs,
    Column,
    NumberColumn,
    Numbered,
    Numbers,
    Repeated,
    Rows,
)
from pylog.record import PacketRecord
from pylog.table.patterns import GAP, GAPS, number_within

MOST_CODES = 1 << 16
"""Numbers below it get their codes from a table."""

SIZES = ("length", "caplen")
FEW_SIZES = 8
"""A field of SIZES that has at most so many values, all below MOST_CODES, is text of patterns."""


class Packets:
    """The columns of the regular messages: which they agree in, and which differ.

    columns   of all fields that have any value; the number in each row of a Numbered is a column of
              its own, named by patterns.number_within
    gaps      the fields that differ from packet to packet
    """

    def __init__(self, rows: Rows, more: Mapping[str, Column | None]) -> None:
        self.columns: dict[str, NumberColumn | Repeated | Addresses | Blobs] = {}
        self.gaps = {*GAPS}
        for name in PacketRecord.__struct_fields__:
            column = more[name] if name in more else rows.column(name)
            if isinstance(column, Numbered):
                number = number_within(name, column.key)
                self.gaps.add(number)
                self.columns[number] = NumberColumn(column.numbers, column.valid)
                column = Repeated(column.codes, column.values)
            assert not isinstance(column, Numbers)  # of text logs, whose lines are made by rows
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
        codes, size = np.zeros(count, np.intp), 1
        for part, many in self._parts():
            values = part if chosen is None else part[chosen]
            if (values == values[0]).all():
                continue
            if not many:
                values, many = _dense(values)
            if size * many > MOST_CODES:
                codes, size = _dense(codes)
            codes = codes * many + values
            size *= many
        codes, size = _dense(codes)
        examples = np.empty(size, np.intp)
        examples[codes[::-1]] = (np.arange(count) if chosen is None else chosen)[::-1]
        return codes, examples

    def _parts(self) -> list[tuple[Array, int]]:
        """What packets with the same code agree in: numbers below the second one; 0: any."""
        parts: dict[int, tuple[Array, int]] = {}  # by id: fields may share an array
        if self._is_six is not None:
            parts[id(self._is_six)] = self._is_six, 2
        for name, column in self.columns.items():
            if isinstance(column, Repeated):
                if len(column.values) > 1:
                    parts[id(column.codes)] = column.codes, len(column.values)
                continue
            valid = column.valid
            if valid is not None:
                parts[id(valid)] = valid, 2
            if isinstance(column, NumberColumn) and name not in self.gaps:
                values = column.values if valid is None else np.where(valid, column.values, 0)
                parts[id(values)] = values, 0
        return [*parts.values()]

    def examples(self, rows: Array) -> list[tuple[Any, ...]]:
        """The values of these rows that others may have: of each column, and last whether the
        addresses are IPv6. None where the record has none, GAP where it differs from packet to
        packet.
        """
        columns: list[list[Any]] = []
        for name, column in self.columns.items():
            if isinstance(column, Repeated):
                values = [column.values[code] for code in column.codes[rows].tolist()]
            elif isinstance(column, NumberColumn) and name not in self.gaps:
                values = column.values[rows].tolist()
            else:
                values = [GAP] * len(rows)
            if not isinstance(column, Repeated) and column.valid is not None:
                there = column.valid[rows].tolist()
                values = [v if has else None for v, has in zip(values, there, strict=True)]
            columns.append(values)
        six = [False] * len(rows) if self._is_six is None else self._is_six[rows].tolist()
        return [*zip(*columns, six, strict=True)]

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
    if values.min() >= 0 and values.max() < MOST_CODES:
        used = np.bincount(values.astype(np.intp, copy=False)) > 0
        return (np.cumsum(used) - 1)[values], int(used.sum())
    distinct, codes = np.unique(values, return_inverse=True)
    return codes, len(distinct)
