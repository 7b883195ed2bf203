"""The lines of many packets at once, for outputs that write a line for each.

What few values stand for, such as the rule, the interfaces and the protocol, is text of a pattern
(pylog.table.patterns), once for all packets that agree in it. What differs from packet to packet is
looked up in tables (pylog.table.pool). So no packet costs a call in Python. Packets for which the
output has no pattern are left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pylog.formats.columns import Addresses, Array, Blobs, Column, NumberColumn, Repeated, Rows
from pylog.record import PacketRecord, rfc3339
from pylog.table.addresses import texts
from pylog.table.patterns import GAPS, LineForm, Pattern, Patterns
from pylog.table.pool import EMPTY, Pool, decimals, distinct_of, four_octets, three_digits

ROWS = 8192
"""How many lines are put together at a time: so few that their pieces stay in the cache."""

MOST_CODES = 1 << 16
"""How many codes a part of the values that packets have in common may have."""

SIZES = ("length", "caplen")
FEW_SIZES = 8
"""A field of SIZES that has at most so many values is text of patterns."""

FEW, EACH = 64, 4
"""How many patterns a run of packets may need: FEW, and one more for EACH so many packets."""


class Text(NamedTuple):
    """Lines one behind the other: line i is data[edges[i] : edges[i + 1]]."""

    data: memoryview
    edges: Array


class Lines:
    """Makes the lines of an output."""

    def __init__(self, form: LineForm, change: Callable[[Any], Any] | None = None) -> None:
        """`change` is made to each record before it is written; None: none."""
        self._form = form
        self._patterns = Patterns(form, change)
        self._pool = Pool()

    def of(
        self, rows: Rows, more: Mapping[str, Column | None], chosen: Array | None = None
    ) -> list[Text] | None:
        """The lines of the regular messages, all packets, in their order; None: the output must
        write them one by one.

        more     columns that are not made of the messages; None: all are None
        chosen   the numbers of those that are wanted; None: all
        """
        count = len(rows.starts) - len(rows.irregular) if chosen is None else len(chosen)
        if not count:
            return []
        packets = _Packets(rows, more)
        codes, examples = packets.alike(chosen, count)
        if len(examples) > FEW + count // EACH:
            return None
        patterns = []
        for row in examples.tolist():
            pattern = self._patterns.of(*packets.example(row))
            if pattern is None:
                return None
            patterns.append(pattern)
        order = _order(patterns)
        if order is None:
            return None
        made = []
        for start in range(0, count, ROWS):
            part = slice(start, start + ROWS)
            of_part: Any = (
                slice(start, min(start + ROWS, count)) if chosen is None else chosen[part]
            )
            made.append(self._text(packets, of_part, codes[part], patterns, order))
        return made

    def _text(
        self, packets: _Packets, rows: Any, codes: Array, patterns: list[Pattern], order: list[str]
    ) -> Text:
        """The lines of some rows."""
        pool = self._pool
        pool.clear()
        aligned = [_aligned(pattern, order) for pattern in patterns]
        first = pool.add([text for texts in aligned for text in texts])
        width = len(order) + 1
        base = codes.astype(np.int32) * np.int32(width) + np.int32(first)
        columns: list[Array | int] = []
        for i in range(width):
            if len({texts[i] for texts in aligned}) == 1:
                if aligned[0][i]:
                    columns.append(first + i)
            else:
                columns.append(base + np.int32(i))
            if i < len(order):
                has = np.array([order[i] in pattern.gaps for pattern in patterns])
                there = None if has.all() else has[codes]
                for piece in self._pieces(packets, order[i], rows, there):
                    columns.append(
                        piece if there is None else np.where(there, piece, np.int32(EMPTY))
                    )
        return Text(*pool.lines(columns, len(codes)))

    def _pieces(
        self, packets: _Packets, name: str, rows: Any, there: Array | None
    ) -> Iterator[Array | int]:
        """The places of a field's pieces.

        there   where the field has a value; None: everywhere
        """
        column, pool = packets.columns[name], self._pool
        if isinstance(column, Blobs):
            yield pool.add_hex(column, rows)
        elif isinstance(column, Addresses):
            yield from self._addresses(packets, column, rows)
        else:
            assert isinstance(column, NumberColumn)
            values = column.values[rows]
            if there is not None:
                values = np.where(there, values, 0)
            yield from self._times(values) if name.endswith("_ns") else decimals(values)

    def _times(self, times: Array) -> Iterator[Array | int]:
        seconds, parts = np.divmod(times, 1_000_000_000)
        codes, distinct = distinct_of(seconds)
        made = [self._form.time_text(rfc3339(second * 10**9)) for second in distinct]
        split = [text.rpartition(".000000") for text in made]
        first = self._pool.add([f"{before}.".encode() for before, _, _ in split])
        yield codes + np.int32(first)
        micros, nanos = np.divmod(parts.astype(np.uint32), np.uint32(1000))
        high, low = np.divmod(micros, np.uint32(1000))
        yield three_digits(high)
        yield three_digits(low)
        if nanos.any():
            yield np.where(nanos > 0, three_digits(nanos), np.int32(EMPTY))
        first = self._pool.add([after.encode() for _, _, after in split])
        yield first if len({after for _, _, after in split}) == 1 else codes + np.int32(first)

    def _addresses(self, packets: _Packets, column: Addresses, rows: Any) -> Iterator[Array | int]:
        is_six = column.is_six[rows]
        if not is_six.any():
            yield from four_octets(column.four[packets.places_of_four(column)[rows]])
            return
        six = column.six[packets.places_of_six(column)[rows][is_six]]
        strings = texts(Addresses(np.empty((0, 4), np.uint8), six, np.ones(len(six), bool)))
        first, second = (np.full(len(is_six), EMPTY, np.int32) for _ in range(2))
        first[is_six] = self._pool.add_strings(strings) + np.arange(len(six), dtype=np.int32)
        if not is_six.all():
            four = column.four[packets.places_of_four(column)[rows][~is_six]]
            first[~is_six], second[~is_six] = four_octets(four)
        yield first
        yield second


class _Packets:
    """The columns of the regular messages: which they agree in, and which differ.

    columns   of all fields that have any value
    gaps      the fields that differ from packet to packet
    """

    def __init__(self, rows: Rows, more: Mapping[str, Column | None]) -> None:
        self.columns: dict[str, Column] = {}
        for name in PacketRecord.__struct_fields__:
            column = more[name] if name in more else rows.column(name)
            if column is not None:
                self.columns[name] = column
        self.gaps = {*GAPS} - {name for name in SIZES if self._has_few(name)}
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
        if len(values) and not 0 <= values.min() <= values.max() < MOST_CODES:
            return False
        return bool(np.count_nonzero(np.bincount(values.astype(np.intp))) <= FEW_SIZES)

    def alike(self, chosen: Array | None, count: int) -> tuple[Array, Array]:
        """A code for each row, the same for those that agree, and an example row for each code."""
        rows: Any = slice(None) if chosen is None else chosen
        parts: dict[int, Array] = {}
        for name, column in self.columns.items():
            if isinstance(column, Repeated):
                if len(column.values) > 1:
                    parts[id(column.codes)] = column.codes
            elif isinstance(column, NumberColumn):
                valid = column.valid
                if name not in self.gaps:
                    values = column.values
                    parts[id(values)] = values if valid is None else np.where(valid, values, 0)
                if valid is not None:
                    parts[id(valid)] = valid
        if self._is_six is not None:
            parts[id(self._is_six)] = self._is_six
        code, size = np.zeros(count, np.intp), 1
        for part in parts.values():
            values = part[rows]
            if (values == values[0]).all():
                continue
            coded, many = _dense(values)
            if size * many > MOST_CODES:
                code, size = _dense(code)
            code = code * many + coded
            size *= many
        code, size = _dense(code)
        numbers = np.arange(count) if chosen is None else chosen
        examples = np.empty(size, np.intp)
        examples[code[::-1]] = numbers[::-1]
        return code, examples

    def example(self, row: int) -> tuple[dict[str, Any], list[str], bool]:
        """The values of a row that others may have, the fields that differ, and whether the
        addresses are IPv6.
        """
        values: dict[str, Any] = {}
        gaps = []
        for name, column in self.columns.items():
            if isinstance(column, Repeated):
                values[name] = column.values[column.codes[row]]
            elif isinstance(column, NumberColumn) and (
                column.valid is not None and not column.valid[row]
            ):
                values[name] = None
            elif name in self.gaps:
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
        return values.astype(np.intp), 2
    if values.min() >= 0 and values.max() < MOST_CODES:
        small = values.astype(np.intp, copy=False)
        used = np.bincount(small) > 0
        return (np.cumsum(used) - 1)[small], int(used.sum())
    distinct, codes = np.unique(values, return_inverse=True)
    return codes, len(distinct)


def _order(patterns: Sequence[Pattern]) -> list[str] | None:
    """The gaps of all patterns in an order that fits each; None: there is none."""
    order: list[str] = []
    for gaps in dict.fromkeys(pattern.gaps for pattern in patterns):
        at = 0
        for name in gaps:
            if name not in order:
                order.insert(at, name)
            at = order.index(name) + 1
    fits = all([n for n in order if n in p.gaps] == list(p.gaps) for p in patterns)
    return order if fits else None


def _aligned(pattern: Pattern, order: Sequence[str]) -> list[bytes]:
    """The texts of a pattern, before each gap of the order and at the end."""
    before = dict(zip(pattern.gaps, pattern.texts, strict=False))
    return [*(before.get(name, b"") for name in order), pattern.texts[-1]]
