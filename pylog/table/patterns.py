"""What lines of packets have in common, learnt from examples that the output itself writes.

A pattern is a line with gaps, where the fields stand that differ from packet to packet: times,
addresses, ports, sizes, bytes. To learn one, the output writes the line of a record that has a mark
in each of these fields: a value that stands nowhere else. The text between the marks is the
pattern, so a line made of it is the line that the output would write. Each example is written twice
with other marks: where the results differ in more than the marks, there is no pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import cycle
from string import ascii_letters, digits
from typing import Any, NamedTuple, Protocol

import msgspec

from pylog.record import PacketRecord, Record, rfc3339


class LineForm(Protocol):
    """What an output that writes a line for each packet has, so that many are made at once."""

    def lines_of(self, records: Sequence[Record]) -> bytes:
        """The lines of records, each with its end. A line depends on nothing but its record."""

    def time_text(self, utc: str) -> str:
        """A time of RFC 3339 in UTC as a line has it: with the same decimals."""


class Pattern(NamedTuple):
    """`texts[0]`, the field `gaps[0]`, `texts[1]` and so on; one more text than gaps."""

    texts: tuple[bytes, ...]
    gaps: tuple[str, ...]


class Marks(NamedTuple):
    """Values of the fields that differ, of which no other field has the text."""

    numbers: dict[str, int]
    times: dict[str, int]
    four: dict[str, str]
    six: dict[str, str]
    payload: bytes
    within: int


MARKS = (
    Marks(
        {"offset": 7100000000000017, "seq": 4200000019, "sport": 61537, "dport": 62539,
         "length": 8300000021, "caplen": 3900000023},
        {"timestamp_ns": 1111111111135791000, "observed_ns": 1222222222246802000},
        {"saddr": "251.7.3.91", "daddr": "252.9.5.93"},
        {"saddr": "f0a1:b2c3:d4e5:f607:1829:3a4b:5c6d:7e8f",
         "daddr": "f1a2:b3c4:d5e6:f708:192a:3b4c:5d6e:7f81"},
        bytes.fromhex("9ea15ea2c0dec0df"),
        6100000041,
    ),
    Marks(
        {"offset": 7200000000000029, "seq": 4100000031, "sport": 63541, "dport": 64553,
         "length": 8400000037, "caplen": 3800000039},
        {"timestamp_ns": 1333333333357913000, "observed_ns": 1444444444468024000},
        {"saddr": "253.11.13.95", "daddr": "254.15.17.97"},
        {"saddr": "f2a3:b4c5:d6e7:f809:1a2b:3c4d:5e6f:7182",
         "daddr": "f3a4:b5c6:d7e8:f90a:1b2c:3d4e:5f61:7283"},
        bytes.fromhex("9da35da4c1dec1df"),
        6200000053,
    ),
)  # fmt: skip

GAPS = (*MARKS[0].numbers, *MARKS[0].times, *MARKS[0].four, "payload")
"""The fields that differ from packet to packet."""

GAP = msgspec.msgpack.Ext(0, b"")
"""In place of a value that differs from packet to packet."""

TEXT = 1
"""The code of a gap for texts of a form."""

_WITHIN = ":"

MOST_TEXT = 1 << 14
"""How many bytes the texts of a pattern have at most, so that many lines fit into memory."""

FEW = 64
"""How many patterns may be learnt at first although that does not pay."""

MAXIMUM = 4096
"""How many patterns are remembered: senders of packets may choose what they depend on."""


def _is_text(value: Any) -> bool:
    return isinstance(value, msgspec.msgpack.Ext) and value.code == TEXT


def number_within(field: str, key: str) -> str:
    """The name of the gap for a number that differs, within the mapping that a field holds."""
    return field + _WITHIN + key


def text_gap(form: str) -> msgspec.msgpack.Ext:
    """The gap for all texts of a form."""
    return msgspec.msgpack.Ext(TEXT, form.encode())


def form_of(text: str) -> str:
    """The form of a text, which all texts have with letters and digits at the same places."""
    return text.translate(_FORMS)


_FORMS = dict.fromkeys(map(ord, ascii_letters), "a") | dict.fromkeys(map(ord, digits), "0")


def _text_mark(form: str, start: int) -> str:
    """A text of that form which stands nowhere else."""
    letters, numbers = cycle("QxJzWkVq"[start:] + "Yj"), cycle("7391846205"[start:] + "8")
    return "".join(
        next(letters) if sign == "a" else next(numbers) if sign == "0" else sign for sign in form
    )


class Patterns:
    """The patterns of an output.

    spare   how many patterns may be learnt although that does not pay
    """

    def __init__(self, form: LineForm, change: Callable[[Any], Any] | None) -> None:
        """`change` is made to each record before it is written; None: none."""
        self._form, self._change = form, change
        self._learnt: dict[bytes, Pattern | None] = {}
        self.spare = float(FEW)

    def of(
        self, names: Sequence[str], examples: Sequence[tuple[Any, ...]], pays: Sequence[bool]
    ) -> list[Pattern | None]:
        """The pattern of packets that agree with each example; None: the output has none for them.

        names      of fields
        examples   the value of each, None or GAP; last whether the addresses are IPv6
        pays       whether it pays to learn the pattern of each
        """
        encode, fields = msgspec.msgpack.Encoder().encode, "\0".join(names).encode()
        patterns = []
        for example, learns in zip(examples, pays, strict=True):
            key = fields + encode(example)
            if key not in self._learnt and (learns or self.spare >= 1):
                self.spare -= not learns
                if len(self._learnt) >= MAXIMUM:
                    self._learnt.clear()
                pairs = [*zip(names, example, strict=False)]
                values = {
                    name: v for name, v in pairs
                    if v is not None and not isinstance(v, msgspec.msgpack.Ext)
                }  # fmt: skip
                gaps = [name for name, v in pairs if isinstance(v, msgspec.msgpack.Ext)]
                texts = {name: v.data.decode() for name, v in pairs if _is_text(v)}
                first, second = (
                    self._learn(values, gaps, texts, example[-1], marks) for marks in MARKS
                )
                fits = first == second and sum(map(len, first.texts if first else ())) <= MOST_TEXT
                self._learnt[key] = first if fits else None
            patterns.append(self._learnt.get(key))
        return patterns

    def _learn(
        self, values: dict[str, Any], gaps: Sequence[str], texts: dict[str, str], six: bool,
        marks: Marks,
    ) -> Pattern | None:  # fmt: skip
        """The pattern by an example with these marks; None if a mark is there twice.

        texts   the forms of the gaps for texts
        """
        addresses = marks.six if six else marks.four
        all_marks: dict[str, Any] = {
            **marks.numbers, **marks.times, **addresses, "payload": marks.payload,
        }  # fmt: skip
        start = MARKS.index(marks)
        all_marks |= {name: _text_mark(form, start) for name, form in texts.items()}
        values = values | {name: all_marks[name] for name in gaps if _WITHIN not in name}
        for i, name in enumerate(gaps):
            field, within, key = name.partition(_WITHIN)
            if within:
                all_marks[name] = marks.within + i * 1_000_003
                values[field] = values[field] | {key: all_marks[name]}
        record = PacketRecord(**values)
        if self._change is not None:
            record = self._change(record)
        line = self._form.lines_of([record])
        written = {}
        for name in gaps:
            text = all_marks[name]
            if name in marks.times:
                text = self._form.time_text(rfc3339(text))
            elif name == "payload":
                text = text.hex()
            written[str(text).encode()] = name
        parts = re.split(b"(" + b"|".join(map(re.escape, written)) + b")", line) if gaps else [line]
        there = [written[mark] for mark in parts[1::2]]
        return None if len(set(there)) < len(there) else Pattern(tuple(parts[::2]), tuple(there))
