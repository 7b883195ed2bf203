"""Regular lines of the kernel's LOG, many at once, as the columns of tables.

`textlog_fast` groups lines by their shapes and reads what stands before SRC=. Lines of a shape have
the same separators in the same order, so the places of all their numbers are a matrix, and eight
digits at a time become numbers in NumPy. What lies between the numbers must have the size that it
has in the shape: then it is what the shape says. All other lines are irregular, and the Stream
reads them, in their order. The last line of the data waits for the next one, which may say that it
was repeated.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from pylog.formats import Message
from pylog.formats.columns import (
    Addresses,
    Array,
    Column,
    NumberColumn,
    Numbers,
    Repeated,
    Rows,
)
from pylog.formats.columns.textlog_numbers import Parsed, parsed
from pylog.formats.items import Item
from pylog.formats.textlog_fast import Apart
from pylog.formats.textlog_shapes import CUT
from pylog.formats.textlog_stamps import Order
from pylog.formats.textlog_stream import State, TextStream
from pylog.record import PacketHeaders, PacketRecord
from pylog.record.places import AT_DADDR, AT_SADDR, Values

MOST = 1 << 20
"""How many bytes are read at a time: of more, the columns do not stay in the cache."""
FEW = 8
"""Fewer lines of a shape are left to the Stream, which is as fast."""
NAMES = PacketRecord.__struct_fields__
SHAPED = {"family": 0, "protocol": 1, "tcp_flags": 2}
"""The fields that a shape says."""
EXTRA = (
    "tos", "ttl", "ip_id", "flow_label", "icmp_id", "icmp_seq", "udp_length", "tcp_seq", "tcp_ack",
    "tcp_window", "tcp_reserved", "tcp_urgent",
)  # fmt: skip
"""The names in `extra`, in their order."""
REQUESTED = frozenset(PacketHeaders.__struct_fields__)


def columns(stream: TextStream) -> TextColumns:
    """What reads text logs."""
    return TextColumns(stream)


class TextColumns:
    """Reads the lines of a stream."""

    def __init__(self, stream: TextStream) -> None:
        self.stream = stream

    def read(self, data: bytes, pos: int, stop: int) -> TextRows | None:
        """As pylog.formats.columns.Columns.read."""
        if self.stream.live or self.stream.prompt:
            return None
        stop = min(stop, pos + MOST)
        while True:
            rows = self._read(data, pos, stop)
            if isinstance(rows, TextRows) or rows is None:
                return rows
            stop = rows  # a line there reports a loss

    def _read(self, data: bytes, pos: int, stop: int) -> TextRows | int | None:
        """As `read`, or the place of a line before which reading must end."""
        stop = data.rfind(b"\n", pos, stop)
        last = data.rfind(b"\n", pos, max(stop, pos))
        while last > 0 and _goes_on(data[last + 1 : stop]):
            stop, last = last, data.rfind(b"\n", pos, last)
        if last < 0:
            return None
        stream, stop = self.stream, last + 1
        state, order = stream.begin(), stream.order()
        heads, texts, starts = _cut(data[pos:stop])
        apart = stream.fast.apart(heads, texts, order)
        calendar = stream.state().calendar
        read = parsed(apart, FEW)
        starts += pos
        for i in np.flatnonzero(~read.regular).tolist():
            if i and b"repeated" in data[starts[i] : starts[i + 1]]:
                read.regular[i - 1] = False  # both are read in their order
        irregular = np.flatnonzero(~read.regular)
        if len(irregular) >= len(texts) // 2:
            stream.restore(state)
            return None
        items: list[Item] = []
        spans = zip(starts[irregular].tolist(), starts[irregular + 1].tolist(), strict=True)
        after = pos
        for start, end in spans:
            if start != after:  # the line before it is a regular one
                stream.restore(State(stream.other, None, stream.state().calendar))
            before, after = len(items), end
            stream.take(data[start : end - 1], start, end, items)
            if len(items) > before and not isinstance(items[-1], Message):
                stream.restore(state)
                return start if start > pos else None
        other, last_calendar = stream.other - state.other, stream.state().calendar
        stream.restore(state)
        if order is Order.MONTH and last_calendar != calendar:
            return None
        stream.restore(State(state.other, None, last_calendar))
        return TextRows(stream, starts, apart, read, items, other)


class TextRows(Rows):
    """Lines that follow each other."""

    def __init__(
        self, stream: TextStream, starts: Array, apart: Apart, read: Parsed,
        items: list[Item], other: int,
    ) -> None:  # fmt: skip
        """`items` are the messages of irregular lines, `other` is how many lines have no record."""
        rows = np.flatnonzero(read.regular)
        messages = np.array(
            [(item.start, item.end) for item in items if isinstance(item, Message)], np.int64
        ).reshape(-1, 2)
        both = np.concatenate([starts[rows], messages[:, 0]])
        places = np.argsort(both, kind="stable")
        self.starts = both[places]
        self.ends = np.concatenate([starts[rows + 1], messages[:, 1]])[places]
        self.irregular = np.flatnonzero(places >= len(rows))
        self.after, self.other = int(starts[-1]), other
        self._stream, self._base = stream, stream.base
        self._line_starts = starts
        self._apart, self._parsed, self._rows = apart, read, rows
        self._decoded = False

    def message(self, i: int) -> Message:
        """As pylog.formats.columns.Rows.message. The Stream then has its record."""
        message = super().message(i)
        if not self._decoded and i not in self.irregular:
            self._decoded = True
            offsets = (self._line_starts + self._base).tolist()
            records = self._stream.fast.made(self._apart, offsets, None)
            starts = self._line_starts.tolist()
            made = ((starts[i], records[i]) for i in self._rows.tolist())
            self._stream.keep((start, record) for start, record in made if record is not None)
        return message

    def logs(self) -> Repeated:
        """As pylog.formats.columns.Rows.logs."""
        return Repeated(np.zeros(len(self._rows), np.intp), [(None, "")])

    def on_request(self) -> dict[str, NumberColumn]:
        """As pylog.formats.columns.Rows.on_request."""
        return {name: column for name, column in self._extra.items() if name in REQUESTED}

    def column(self, name: str) -> Column | None:
        """As pylog.formats.columns.Rows.column."""
        parsed, rows = self._parsed, self._rows
        if name == "offset":
            return NumberColumn(self._line_starts[rows] + self._base)
        if name == "timestamp_ns":
            return self._moments()
        if name == "timestamp_local":
            codes, values = _coded(self._of_regular(self._apart.written))
            return None if values == [None] else Repeated(codes, values)
        if name in SHAPED:
            values = [shape[SHAPED[name]] for shape in parsed.shapes]
            return Repeated(parsed.codes[rows], values)
        if name in ("saddr", "daddr"):
            return self._addresses(AT_SADDR if name == "saddr" else AT_DADDR)
        if name == "extra":
            return Numbers(self._extra)
        place = NAMES.index(name)
        if place in parsed.numbers:
            return self._number(place)
        codes, templates = self._templates
        if place >= len(templates[0]):
            return None
        values = [template[place] for template in templates]
        return Repeated(codes, values) if any(v is not None for v in values) else None

    @cached_property
    def _templates(self) -> tuple[Array, list[Values]]:
        """The template of each line."""
        templates: list[Any] = self._of_regular(self._apart.templates)
        numbers = list(map(id, templates))
        distinct = dict(zip(numbers, templates, strict=True))
        places = {number: i for i, number in enumerate(distinct)}
        codes = np.fromiter(map(places.__getitem__, numbers), np.intp, len(numbers))
        return codes, list(distinct.values())

    @cached_property
    def _extra(self) -> dict[str, NumberColumn]:
        """The numbers in `extra`, in its order."""
        return {name: self._number(name) for name in EXTRA if name in self._parsed.numbers}

    def _of_regular(self, values: list[Any]) -> list[Any]:
        """The values of the regular lines."""
        if len(self._rows) == len(values):
            return values
        return [values[i] for i in self._rows.tolist()]

    def _number(self, place: int | str) -> NumberColumn:
        values, valid = self._parsed.numbers[place]
        there = valid[self._rows]
        return NumberColumn(values[self._rows], None if there.all() else there)

    def _moments(self) -> NumberColumn | None:
        moments = self._of_regular(self._apart.moments)
        if None not in moments:
            return NumberColumn(np.array(moments, np.int64))
        valid = np.array([moment is not None for moment in moments])
        if not valid.any():
            return None
        return NumberColumn(np.array([moment or 0 for moment in moments], np.int64), valid)

    def _addresses(self, place: int) -> Addresses:
        four, six, is_six = self._parsed.addresses[place]
        own = is_six[self._rows]
        return Addresses(four[self._rows[~own]], six[self._rows[own]], own)


def _goes_on(line: bytes) -> bool:
    """Whether a line may change the record of the one before it."""
    return b"repeated" in line or (b" > " in line and b"rule " not in line)


def _cut(data: bytes) -> tuple[list[bytes], list[bytes], Array]:
    """Lines, cut in two at CUT, and where each begins, with the end of the last."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    starts = np.concatenate([[0], ends + 1])
    places = _places(data)
    if len(places) == len(ends) and (places > starts[:-1]).all() and (places < ends).all():
        cuts, begins = places.tolist(), starts.tolist()
        heads = [data[start:cut] for start, cut in zip(begins, cuts, strict=False)]
        texts = [data[cut + len(CUT) : end - 1] for cut, end in zip(cuts, begins[1:], strict=True)]
        return heads, texts, starts
    cut = [line.partition(CUT) for line in data.split(b"\n")[:-1]]
    return [head for head, _, _ in cut], [text for _, _, text in cut], starts


def _places(data: bytes) -> Array:
    """Where CUT is in the data, which ends with a line end: compared four bytes at a time."""
    word = int.from_bytes(CUT[:4], "little")
    every = [
        np.flatnonzero(np.frombuffer(data, "<u4", (len(data) - at) // 4, at) == word) * 4 + at
        for at in range(4) if len(data) >= at + 4
    ]  # fmt: skip
    places = np.sort(np.concatenate(every)) if every else np.empty(0, np.int64)
    behind = np.frombuffer(data, np.uint8).take(places + 4, mode="clip")
    return np.compress(behind == CUT[4], places)


def _coded(values: list[Any]) -> tuple[Array, list[Any]]:
    """A code for each value, and the distinct values."""
    places = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return np.fromiter(map(places.__getitem__, values), np.intp, len(values)), list(places)
