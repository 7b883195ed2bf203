"""The lines of many packets at once, for outputs that write a line for each.

What few values stand for, such as the rule, the interfaces and the protocol, is text of a pattern
(pylog.table.patterns), once for all packets that agree in it (pylog.table.packets). What differs
from packet to packet is looked up in tables (pylog.table.pool). So no packet costs a call in
Python. Packets for which the output has no pattern are left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pylog.formats.columns import Addresses, Array, Blobs, Column, NumberColumn, Rows
from pylog.record import rfc3339
from pylog.table.addresses import texts
from pylog.table.packets import Packets, Texts
from pylog.table.patterns import MAXIMUM, LineForm, Pattern, Patterns
from pylog.table.pool import EMPTY, Pool, decimals, distinct_of, four_octets, three_digits

ROWS = 8192
"""How many lines are put together at a time: so few that their pieces stay in the cache."""

EACH, SPARE = 4, 64
"""A pattern is learnt where EACH packets agree in it, and otherwise one for SPARE packets: to learn
one takes as long as to write several packets. Those without a pattern are left to the output.
"""

_Text = bytes | list[bytes]
"""A text of all lines, or one of each pattern."""


class Text(NamedTuple):
    """Lines one behind the other: line i is data[edges[i] : edges[i + 1]]."""

    data: memoryview
    edges: Array


class Made(NamedTuple):
    """The lines of packets, in their order, and the numbers of those that the output must write."""

    texts: list[Text]
    left: Array


class Lines:
    """Makes the lines of an output."""

    def __init__(self, form: LineForm, change: Callable[[Any], Any] | None = None) -> None:
        """`change` is made to each record before it is written; None: none."""
        self._form = form
        self._patterns = Patterns(form, change)
        self._pool = Pool()

    def of(
        self, rows: Rows, more: Mapping[str, Column | None], chosen: Array | None = None
    ) -> Made:
        """The lines of the regular messages, all packets.

        more     columns that are not made of the messages; None: all are None
        chosen   the numbers of those that are wanted, ascending; None: all
        """
        count = len(rows.starts) - len(rows.irregular) if chosen is None else len(chosen)
        numbers = np.arange(count) if chosen is None else chosen
        if not count:
            return Made([], numbers)
        packets = Packets(rows, more)
        codes, examples = packets.alike(chosen, count)
        patterns = self._patterns_of(packets, codes, examples)
        order = _order([pattern for pattern in patterns if pattern is not None])
        have = np.array([_fits(pattern, order) for pattern in patterns])
        if not have.any():
            return Made([], numbers)
        left = numbers[:0]
        if not have.all():
            kept = have[codes]
            left, chosen = numbers[~kept], numbers[kept]
            codes, count = (np.cumsum(have) - 1)[codes[kept]], len(chosen)
        fitting = [p for p, fits in zip(patterns, have, strict=True) if p is not None and fits]
        form = _Form(self._form, self._pool, packets, chosen, codes, fitting, order)
        return Made([form.text(at, min(at + ROWS, count)) for at in range(0, count, ROWS)], left)

    def _patterns_of(self, packets: Packets, codes: Array, examples: Array) -> list[Pattern | None]:
        """The pattern of each code; None: those packets are left to the output."""
        self._patterns.spare = min(self._patterns.spare + len(codes) / SPARE, MAXIMUM)
        pays = np.bincount(codes) >= EACH
        tried = np.arange(len(examples)) if len(examples) <= MAXIMUM else np.flatnonzero(pays)
        patterns: list[Pattern | None] = [None] * len(examples)
        of_tried = self._patterns.of(
            [*packets.columns], packets.examples(examples[tried]), pays[tried].tolist()
        )
        for i, pattern in zip(tried.tolist(), of_tried, strict=True):
            patterns[i] = pattern
        return patterns


class _Form:
    """How the lines of packets with patterns are put together: texts, and gaps between them."""

    def __init__(
        self, form: LineForm, pool: Pool, packets: Packets, chosen: Array | None, codes: Array,
        patterns: Sequence[Pattern], order: Sequence[str],
    ) -> None:  # fmt: skip
        """
        chosen   the numbers of the packets; None: all
        codes    the pattern of each
        order    the gaps of all patterns
        """
        self._line_form, self._pool, self._packets = form, pool, packets
        self._chosen, self._codes = chosen, codes
        self._times: dict[str, list[Array]] = {}
        self._has: dict[str, Array | None] = {}
        aligned = [_aligned(pattern, order) for pattern in patterns]
        pool.clear()
        parts: list[_Text | str] = []
        for i, name in enumerate(order):
            has = np.array([name in pattern.gaps for pattern in patterns])
            self._has[name] = None if has.all() else has
            parts += _alternatives([texts[i] for texts in aligned]), name
            if name.endswith("_ns"):
                tail = self._time(name)
                parts.append(_alternatives([tail if there else b"" for there in has.tolist()]))
        parts.append(_alternatives([texts[-1] for texts in aligned]))
        self._parts = [
            part if isinstance(part, str) else self._added(part)
            for part in _joined(parts, len(patterns))
        ]
        pool.keep()

    def _time(self, name: str) -> bytes:
        """Prepare the pieces of a time; the text behind it, if it is the same of all."""
        column = self._packets.columns[name]
        assert isinstance(column, NumberColumn)
        times, has = self._of(column.values), self._has[name]
        if has is not None:
            times = np.where(has[self._codes], times, 0)
        seconds = times // 1_000_000_000
        parts = (times - seconds * 1_000_000_000).astype(np.uint32)
        codes, distinct = distinct_of(seconds)
        made = [self._line_form.time_text(rfc3339(second * 10**9)) for second in distinct]
        split = [text.rpartition(".000000") for text in made]
        micros = parts // np.uint32(1000)
        high = micros // np.uint32(1000)
        first = self._pool.add([f"{before}.".encode() for before, _, _ in split])
        pieces = [codes + np.int32(first), three_digits(high),
                  three_digits(micros - high * np.uint32(1000))]  # fmt: skip
        nanos = parts - micros * np.uint32(1000)
        if nanos.any():
            pieces.append(np.where(nanos > 0, three_digits(nanos), np.int32(EMPTY)))
        tails = [after.encode() for _, _, after in split]
        self._times[name] = pieces
        if len({*tails}) == 1:
            return tails[0]
        pieces.append(codes + np.int32(self._pool.add(tails)))
        return b""

    def _of(self, values: Array) -> Array:
        return values if self._chosen is None else values[self._chosen]

    def _added(self, text: _Text) -> int | Array:
        """The place of a text, or of that of each pattern."""
        if isinstance(text, bytes):
            return self._pool.add([text])
        numbers = {piece: i for i, piece in enumerate(dict.fromkeys(text))}
        first = self._pool.add([*numbers])
        return np.array([first + numbers[piece] for piece in text], np.int32)

    def text(self, start: int, stop: int) -> Text:
        """The lines of the packets from the first of these numbers to before the other."""
        self._pool.forget()
        rows = slice(start, stop) if self._chosen is None else self._chosen[start:stop]
        codes = self._codes[start:stop]
        columns: list[Array | int] = []
        for part in self._parts:
            if isinstance(part, int):
                columns.append(part)
            elif isinstance(part, str):
                has = self._has[part]
                there = None if has is None else has[codes]
                pieces: Iterable[Array] = (
                    [piece[start:stop] for piece in self._times[part]]
                    if part in self._times
                    else self._pieces(part, rows, there)
                )
                columns += (p if there is None else np.where(there, p, EMPTY) for p in pieces)
            else:
                columns.append(part[codes])
        return Text(*self._pool.lines(columns, len(codes)))

    def _pieces(self, name: str, rows: Any, there: Array | None) -> Iterator[Array]:
        """The places of a field's pieces.

        there   where the field has a value; None: everywhere
        """
        column, pool = self._packets.columns[name], self._pool
        if isinstance(column, Texts):
            yield column.codes[rows].astype(np.int32) + np.int32(pool.add(column.texts))
        elif isinstance(column, Blobs):
            yield pool.add_hex(column, rows)
        elif isinstance(column, Addresses):
            yield from self._addresses(column, rows)
        else:
            assert isinstance(column, NumberColumn)
            values = column.values[rows]
            yield from decimals(values if there is None else np.where(there, values, 0))

    def _addresses(self, column: Addresses, rows: Any) -> Iterator[Array]:
        packets, is_six = self._packets, column.is_six[rows]
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


def _order(patterns: Sequence[Pattern]) -> list[str]:
    """The gaps of all patterns, in an order that fits as many as possible."""
    order: list[str] = []
    for gaps in dict.fromkeys(pattern.gaps for pattern in patterns):
        at = 0
        for name in gaps:
            if name not in order:
                order.insert(at, name)
            at = order.index(name) + 1
    return order


def _fits(pattern: Pattern | None, order: Sequence[str]) -> bool:
    """Whether there is a pattern whose gaps are in this order."""
    return pattern is not None and [n for n in order if n in pattern.gaps] == [*pattern.gaps]


def _aligned(pattern: Pattern, order: Sequence[str]) -> list[bytes]:
    """The texts of a pattern, before each gap of the order and at the end."""
    before = dict(zip(pattern.gaps, pattern.texts, strict=False))
    return [*(before.get(name, b"") for name in order), pattern.texts[-1]]


def _alternatives(of_patterns: list[bytes]) -> _Text:
    """The texts of patterns; one if they are the same."""
    return of_patterns[0] if len({*of_patterns}) == 1 else of_patterns


def _joined(parts: Sequence[_Text | str], patterns: int) -> list[_Text | str]:
    """The parts of a line, with texts that follow each other as one, and without empty ones."""
    joint: list[_Text | str] = []
    for part in parts:
        if isinstance(part, str) or not joint or isinstance(last := joint[-1], str):
            joint.append(part)
        elif isinstance(part, bytes) and isinstance(last, bytes):
            joint[-1] = last + part
        else:
            before, after = ([t] * patterns if isinstance(t, bytes) else t for t in (last, part))
            joint[-1] = [a + b for a, b in zip(before, after, strict=True)]
    return [part for part in joint if part != b""]
