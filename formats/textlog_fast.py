"""The regular lines of the kernel's LOG, many at once, several times as fast as by the grammar.

What is left of a line behind SRC= without digits is its shape: all lines of a shape have the same
words in the same order. So the lines of a shape are taken together: without capital letters only
their numbers are left between the signs =, and every n-th of these is a column. Numbers, addresses
and records are made of columns, without a step of Python for each line. What stands before SRC= is
the time, a rule and its devices: the grammar (`textlog_kernel`) reads each rule once. A digit where
none belongs leaves no number in its column. The grammar reads such a line, and those of other
shapes: fragments, options, errors, cut lines. A test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import compress, repeat
from typing import Any, NamedTuple

from pylog.formats.textlog_fields import AT_LOCAL, canonical, is_ipv4, is_ipv6
from pylog.formats.textlog_kernel import MOST
from pylog.formats.textlog_shapes import CUT, DIGITS, Shape, shape_of
from pylog.formats.textlog_stamps import Order, Stamps, Timed
from pylog.memo import Bounded, Memo
from pylog.record import PacketRecord
from pylog.record.places import (
    AT_DADDR,
    AT_EXTRA,
    AT_FAMILY,
    AT_OBSERVED,
    AT_OFFSET,
    AT_PREFIX,
    AT_PROTOCOL,
    AT_SADDR,
    AT_SPORT,
    AT_TCP_FLAGS,
    AT_TIMESTAMP,
    Values,
)

_CAPITALS = bytes(range(ord("A"), ord("Z") + 1))
_TOS = re.compile(rb" TOS=(0x[0-9A-F]{2}) PREC=(0x[0-9A-F]{2}) ")
_RULE = re.compile(
    rb"((?:\S*[^\s:] )?kernel(?:: | - - - )(?:\[ *\d+\.\d+\] )?)?"
    rb"((?!rule |ipfw)(?:\[[A-Za-z][\w -]{0,62}\]|[A-Za-z][\w .-]{0,62}):? ?)",
    re.ASCII,
)
"""The host and program of a line, with the kernel's own time, and a prefix of ordinary signs."""
_UPTIME = re.compile(rb"\[ *\d+\.\d+\] ")
_PAD = bytes(15)
"""Numbers are read with up to 16 bytes before them."""
_SAMPLE = "P "
"""A prefix in place of others."""
MOST_SEEN = 65536
"""So many addresses are remembered."""

_SCATTERED = (AT_SPORT, "ip_id", "flow_label", "tcp_seq", "tcp_ack", "icmp_id", "icmp_seq")
"""Numbers that seldom repeat."""

Column = Iterable[Any]


class _Addresses(dict[bytes, str]):
    """Addresses as records have them, by the words of lines; ValueError for a word that is none.

    A full memory forgets everything. The size of a key is bounded by that of a line.
    """

    def __init__(self, is_one: Callable[[str], bool]) -> None:
        """
        is_one   whether text is an address of the family
        """
        super().__init__()
        self._is_one = is_one

    def __missing__(self, word: bytes) -> str:
        text = word[:-1].decode("latin-1")
        address = canonical[text] if ":" in text else text
        if word[-1:] != b" " or address is None or not self._is_one(address):
            raise ValueError("no address")
        if len(self) >= MOST_SEEN:
            self.clear()
        self[word] = address
        return address


class _Hex(dict[bytes, int]):
    """Hexadecimal numbers by their text with blanks behind it; ValueError for other text."""

    def __missing__(self, text: bytes) -> int:
        number = int(text, 16)
        if text[:2] != b"0x" or len(text) > 64:
            raise ValueError("no hexadecimal number")
        if len(self) >= 4096:
            self.clear()
        self[text] = number
        return number


class _Decimal(dict[bytes, int]):
    """Decimal numbers by their text with blanks behind it; ValueError for other text."""

    def __missing__(self, text: bytes) -> int:
        number = int(text)
        if len(text) <= 16:
            if len(self) >= MOST_SEEN:
                self.clear()
            self[text] = number
        return number


class Apart(NamedTuple):
    """Lines taken apart.

    texts       what stands behind CUT in each line
    joined      all texts, each with a line end, behind _PAD and a line end
    groups      the lines of each shape that have a template
    moments     of each line in nanoseconds since 1970, None if that is open
    written     as `timestamp_local` of its record
    templates   the values of a record that its rule and devices determine; None: the grammar must
                read the line
    """

    texts: list[bytes]
    joined: bytes
    groups: list[tuple[Shape, list[int]]]
    moments: list[int | None]
    written: list[str | None]
    templates: list[Values | None]


class _Templates(dict[bytes, Values | None]):
    """The templates of a lot, by what stands between the time and SRC=."""

    def __init__(
        self, make: Callable[[bytes, bytes, str, bytes], Values | None], kind: bytes, stamp: bytes,
        written: str,
    ) -> None:  # fmt: skip
        """
        make      makes a template of the other arguments and a key
        stamp     the time of one of the lines, as `written`
        """
        super().__init__()
        self._make = make
        self._given = kind, stamp, written

    def __missing__(self, rest: bytes) -> Values | None:
        template = self[rest] = self._make(*self._given, rest)
        return template


RuleOf = Callable[[str, str], Values | None]


class Fast:
    """Reads regular lines."""

    def __init__(self, rule_of: RuleOf, time_of: Callable[[str], Timed]) -> None:
        """
        rule_of   a line up to SRC=, and its time as written -> the values that it determines, but
                  for its time; None if the grammar must read such lines
        time_of   a line up to SRC= -> what its envelope says of the time
        """
        self._rule_of = rule_of
        self._stamps = Stamps(time_of)
        self._rules: Bounded[tuple[bytes, bytes, bytes], Values | None] = Bounded()
        """Templates by the form of the time, what follows it up to IN=, and what follows that."""
        self._four, self._six = _Addresses(is_ipv4), _Addresses(is_ipv6)
        self._hex, self._decimal, self._shapes = _Hex(), _Decimal(), Memo(shape_of)

    def records(
        self,
        lines: Sequence[bytes],
        offsets: Sequence[int | None],
        observed_ns: int | None,
        order: Order = Order.FREE,
    ) -> list[PacketRecord | None]:
        """The records of lines without their ends; None: the grammar must read the line.

        order   of lines without a year
        """  # fmt: skip
        parts = [line.partition(CUT) for line in lines]
        heads, texts = [head for head, _, _ in parts], [text for _, _, text in parts]
        return self.made(self.apart(heads, texts, order), offsets, observed_ns)

    def made(
        self, apart: Apart, offsets: Sequence[int | None], observed_ns: int | None
    ) -> list[PacketRecord | None]:
        """The records of lines that were taken apart; None: the grammar must read the line."""
        made: list[PacketRecord | None] = [None] * len(apart.texts)
        for shape, rows in apart.groups:
            self._take(shape, rows, apart, offsets, observed_ns, made)
        return made

    def apart(self, heads: list[bytes], texts: list[bytes], order: Order) -> Apart:
        """Lines without their ends, taken apart; they are cut in two at CUT.

        order   of lines without a year
        """  # fmt: skip
        count = len(texts)
        joined = b"\n".join([_PAD, *texts, b""])
        shapes = joined.translate(None, DIGITS).split(b"\n")[1:-1]
        groups: dict[bytes, list[int]] = {}
        for i, text in enumerate(shapes):
            if text in groups:
                groups[text].append(i)
            elif text:
                groups[text] = [i]
        regular = [(shape, rows) for text, rows in groups.items() if (shape := self._shapes[text])]
        apart = Apart(texts, joined, [], [None] * count, [None] * count, [None] * count)
        if not regular:
            return apart
        self._read_heads(heads, [rows for _, rows in regular], order, apart)
        templates, most = apart.templates, MOST - len(CUT)
        if None in templates or max(map(len, heads)) + max(map(len, texts)) >= most:
            for shape, rows in regular:
                fit = [
                    i for i in rows
                    if templates[i] is not None and len(heads[i]) + len(texts[i]) < most
                ]  # fmt: skip
                if fit:
                    apart.groups.append((shape, fit))
        else:
            apart.groups.extend(regular)
        return apart

    def _take(
        self,
        shape: Shape,
        rows: list[int],
        apart: Apart,
        offsets: Sequence[int | None],
        observed_ns: int | None,
        made: list[PacketRecord | None],
    ) -> None:
        """Make the records of lines of a shape. Where one is irregular, halves are tried."""
        try:
            columns = self._columns(shape, [apart.texts[i] for i in rows])
        except ValueError:  # a word that is no value
            if len(rows) > 1:
                half = len(rows) // 2
                for part in (rows[:half], rows[half:]):
                    self._take(shape, part, apart, offsets, observed_ns, made)
            return
        templates: list[Values] = [apart.templates[i] for i in rows]  # type: ignore[misc]
        first = templates[0]
        values: list[Column]
        if all(template is first for template in templates):
            values = [repeat(value) for value in first]
        else:
            values = list(zip(*templates, strict=True))
        values[AT_TIMESTAMP] = [apart.moments[i] for i in rows]
        values[AT_LOCAL] = [apart.written[i] for i in rows]
        values[AT_OFFSET], values[AT_OBSERVED] = [offsets[i] for i in rows], repeat(observed_ns)
        values[AT_FAMILY], values[AT_PROTOCOL] = repeat(shape.family), repeat(shape.protocol)
        values[AT_TCP_FLAGS] = repeat(shape.flags)
        for place, column in columns.items():
            values[place] = column
        for i, record in zip(rows, map(PacketRecord, *values), strict=True):
            made[i] = record

    def _columns(self, shape: Shape, texts: list[bytes]) -> dict[int, list[Any]]:
        """The columns of lines of one shape, which begin at the value of SRC=; ValueError."""
        joined = b"=".join(texts)
        if b"= " in joined:
            raise ValueError("no value")
        parts = joined.translate(None, _CAPITALS).split(b"=")
        step = len(shape.numbers) + 2
        addresses = self._four if shape.family == "ipv4" else self._six
        get = addresses.__getitem__
        columns: dict[int, list[Any]] = {
            AT_SADDR: list(map(get, parts[::step])), AT_DADDR: list(map(get, parts[1::step]))
        }  # fmt: skip
        if shape.tos:
            given = _TOS.findall(joined)
            if len(given) != len(texts):
                raise ValueError("other words")
            parts[3::step], parts[4::step] = zip(*given, strict=True)
        extra: dict[str, list[int]] = {}
        for at, number in enumerate(shape.numbers, 2):
            column = parts[at::step]
            if number is None:
                if column.count(shape.between) != len(texts):
                    raise ValueError("other words")
                continue
            convert: Callable[[bytes], int] = int
            if number.base == 16:
                convert = self._hex.__getitem__
            elif number.place not in _SCATTERED:
                convert = self._decimal.__getitem__
            numbers = list(map(convert, column))
            if max(numbers) > number.most:
                raise ValueError("too large")
            if isinstance(number.place, int):
                columns[number.place] = numbers
            elif number.place == "prec":
                if any(numbers):
                    extra["tos"] = [a | b for a, b in zip(extra["tos"], numbers, strict=True)]
            elif not number.only_if_set or any(numbers):
                extra[number.place] = numbers
        columns[AT_EXTRA] = _dicts(extra)
        return columns

    # What stands before SRC=

    def _read_heads(
        self, heads: list[bytes], groups: list[list[int]], order: Order, apart: Apart
    ) -> None:
        """Put the times and templates of the lines in groups."""
        rows = groups[0] if len(groups) == 1 else sorted([i for group in groups for i in group])
        if len(rows) < len(heads):
            heads = [heads[i] for i in rows]
        for lot in self._stamps.lots(heads, order):
            own, size = lot.rows, lot.size
            chosen = heads if len(own) == len(heads) else [heads[at] for at in own]
            first = chosen[0]
            seen = _Templates(self._template, lot.kind, first[:size], lot.text(first))
            templates = [seen[head[size:]] for head in chosen]
            values = lot.moments, lot.written, templates
            if len(own) == len(apart.texts):
                apart.moments[:], apart.written[:], apart.templates[:] = values
                continue
            moments, written, of_line = apart.moments, apart.written, apart.templates
            for at, moment, text, template in zip(own, *values, strict=True):
                i = rows[at]
                moments[i], written[i], of_line[i] = moment, text, template

    def _template(self, kind: bytes, stamp: bytes, written: str, rest: bytes) -> Values | None:
        """The values that a rule and its devices determine.

        kind      of a Lot
        stamp     what stands before the rule: the time, as `written`
        rest      what stands between that and SRC=
        """
        rule, _, devices = rest.partition(b"IN=")
        match = _RULE.fullmatch(rule)
        if match is not None and b"kernel: " not in match[2]:
            program = _UPTIME.sub(b"", match[1] or b"")
            template = self._shared((kind, program, devices), stamp, written, True)
            if template is not None:
                values = template.copy()
                values[AT_PREFIX] = match[2].decode()
                return values
        return self._shared((kind, b" " + rule, devices), stamp, written)

    def _shared(
        self, key: tuple[bytes, bytes, bytes], stamp: bytes, written: str, sample: bool = False
    ) -> Values | None:
        """The values of a rule, remembered; of a `sample` with another prefix."""
        if key in self._rules:
            return self._rules[key]
        _, rule, devices = key
        if CUT in devices:
            return None
        rule = rule + _SAMPLE.encode() if sample else rule[1:]
        values = self._rule_of((stamp + rule + b"IN=" + devices).decode("latin-1") + " ", written)
        if sample and values is not None and values[AT_PREFIX] != _SAMPLE:
            values = None
        return self._rules.keep(key, values)


def _dicts(columns: dict[str, list[int]]) -> list[dict[str, int]]:
    """The value of `extra` of each line."""
    unset = [name for name in ("tcp_reserved", "tcp_urgent") if name in columns]
    names = list(columns)
    if len(names) == 4 and not unset:
        one, two, three, four = names
        return [
            {one: a, two: b, three: c, four: d}
            for a, b, c, d in zip(*columns.values(), strict=True)
        ]
    made = [
        dict(zip(names, numbers, strict=True)) for numbers in zip(*columns.values(), strict=True)
    ]
    for name in unset:
        for extra in compress(made, [not number for number in columns[name]]):
            del extra[name]
    return made
