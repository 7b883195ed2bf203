"""Packets in columns: which of them agree in all but the fields that differ from packet to packet.

Those that agree have lines of one pattern (pylog.table.patterns). A code for each packet says which
do, and a packet of each code gives the values that they have in common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
from pylog.table.patterns import GAP, GAPS, form_of, number_within, text_gap

MOST_CODES = 1 << 16
SPARSE = 4
"""Numbers get their codes from a table if it has at most so many places for each, else by sorting.
"""

SIZES = ("length", "caplen")
FEW_SIZES = 8
"""A field of SIZES that has at most so many values, all below MOST_CODES, is text of patterns."""


TEXTS = ("timestamp_local",)
FEW_TEXTS = 16
"""A field of TEXTS with at most so many values is text of patterns."""
PLAIN = re.compile(r"[A-Za-z0-9 :.+-]{1,64}")
"""A text that no output changes, but by its form: one with blanks may be in quotes."""


class Texts(NamedTuple):
    """In each row one of many texts, `texts[code]`, or None.

    codes   intp; noise where there is None
    forms   the place in `named` of the form of the text in each row
    named   the forms: a gap for the texts of a form, None for None
    """

    codes: Array
    texts: Sequence[bytes]
    forms: Array
    named: Sequence[Any]


Plain = NumberColumn | Repeated | Addresses | Blobs | Texts


class Packets:
    """The columns of the regular messages: which they agree in, and which differ.

    columns   of all fields that have any value; the numbers in each row of a Numbered or Numbers
              are columns of their own, named by patterns.number_within
    gaps      the fields that differ from packet to packet
    """

    def __init__(self, rows: Rows, more: Mapping[str, Column | None]) -> None:
        self.columns: dict[str, Plain] = {}
        self.gaps = {*GAPS}
        for name in PacketRecord.__struct_fields__:
            column = more[name] if name in more else rows.column(name)
            if isinstance(column, Numbered):
                self._add_number(name, column.key, NumberColumn(column.numbers, column.valid))
                column = Repeated(column.codes, column.values)
            elif isinstance(column, Numbers):
                for key, numbers in column.columns.items():
                    self._add_number(name, key, numbers)
                column = _mappings(column, len(rows.starts) - len(rows.irregular))
            texts = _texts(column) if name in TEXTS and isinstance(column, Repeated) else None
            if column is not None:
                self.columns[name] = texts or column
        self.gaps -= {name for name in SIZES if self._has_few(name)}
        self._is_six = None
        self._places: dict[str, Any] = {}
        saddr = self.columns.get("saddr")
        if isinstance(saddr, Addresses):
            self._is_six = saddr.is_six if saddr.is_six.any() else None

    def _add_number(self, field: str, key: str, numbers: NumberColumn) -> None:
        """Add the numbers of a key of the mappings in a field."""
        name = number_within(field, key)
        self.gaps.add(name)
        self.columns[name] = numbers

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
            if isinstance(column, Texts):
                parts[id(column.forms)] = column.forms, len(column.named)
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
            elif isinstance(column, Texts):
                values = [column.named[form] for form in column.forms[rows].tolist()]
            elif isinstance(column, NumberColumn) and name not in self.gaps:
                values = column.values[rows].tolist()
            else:
                values = [GAP] * len(rows)
            if not isinstance(column, Repeated | Texts) and column.valid is not None:
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


def _mappings(column: Numbers, count: int) -> Repeated:
    """The mappings in each row, by the names that they have; all numbers are 0."""
    codes = np.zeros(count, np.intp)
    for i, (_, valid) in enumerate(column.columns.values()):
        codes += (1 << i) * (np.ones(count, np.intp) if valid is None else valid)
    distinct, places = np.unique(codes, return_inverse=True)
    names = [*column.columns]
    return Repeated(
        places.astype(np.intp, copy=False),
        [{name: 0 for i, name in enumerate(names) if code >> i & 1} for code in distinct.tolist()],
    )


def _texts(column: Repeated) -> Texts | None:
    """The texts of a column by their forms; None if they are few, or not plain."""
    texts = [text or "" for text in column.values]
    if len(texts) <= FEW_TEXTS or not all(PLAIN.fullmatch(text) for text in texts if text):
        return None
    formed = [*map(form_of, texts)]
    places = {form: i for i, form in enumerate(dict.fromkeys(formed))}
    forms = np.array([places[form] for form in formed], np.intp)
    named = [text_gap(form) if form else None for form in places]
    return Texts(column.codes, [text.encode() for text in texts], forms[column.codes], named)


def _dense(values: Array) -> tuple[Array, int]:
    """Codes from 0 on for the distinct values, and how many there are."""
    if values.min() >= 0 and values.max() < SPARSE * len(values):
        used = np.bincount(values.astype(np.intp, copy=False)) > 0
        return (np.cumsum(used) - 1)[values], int(used.sum())
    distinct, codes = np.unique(values, return_inverse=True)
    return codes, len(distinct)
