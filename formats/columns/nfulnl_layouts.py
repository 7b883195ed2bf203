"""Where the attributes of NFLOG messages are, for many messages at once.

A rule, its hook and the kernel's version determine which attributes a message has, in which order
and of which sizes, up to the payload. So the messages of a log have few layouts, which say at which
offsets the values are. Messages that begin alike are expected to have the layouts of earlier ones:
the headers of all attributes are compared at once. Those that have other headers are walked, one
attribute of each in a step. The Stream must decode messages in which an attribute is unknown, comes
again, or is too short.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from construct import Struct

from pylog.formats.columns import Array
from pylog.formats.columns.arrays import BLOCK, alike, equal, gather, in_a_row
from pylog.formats.netlink import NFGENMSG, NLA_TYPE_MASK, align, nlattr_head
from pylog.formats.nfulnl_attributes import ATTRIBUTES, READERS, VLAN
from pylog.formats.nfulnl_table import ATTRIBUTE_NUMBER, DEVICES
from pylog.formats.plan import Plan, plan_of

LEFT = ("NFULA_CT",)
"""The attributes that are left to the Stream."""

DETERMINING = (
    "NFULA_PACKET_HDR", "NFULA_PREFIX", *(row.field for row in DEVICES), "NFULA_HWADDR",
    "NFULA_HWTYPE", "NFULA_HWLEN", "NFULA_HWHEADER", "NFULA_CT_INFO", "NFULA_VLAN", "NFULA_L2HDR",
)  # fmt: skip
"""What a rule, a hook and a neighbour determine: messages that agree in these attributes and their
layout also agree in the fields that come from them."""

MOST_ATTRIBUTES = 32
"""A message with more attributes is left to the Stream."""

BEGINNING = 16
"""The bytes from nfgenmsg on that show which layouts to expect: they end with the length of the
prefix, so that messages of one rule begin alike."""
MOST_EXPECTED = 4
"""How many layouts are expected of messages that begin alike."""

FEW = 64
"""How many messages are walked before the layouts that they have are expected of the others."""

MAXIMUM = 1024
"""At most so many layouts are remembered, since damage may make any number: messages with others
are left to the Stream, and the next time all layouts are forgotten."""

LONGEST_HEAD = 1024
"""Messages whose last header, or last value if it is no payload, ends later are left to the Stream;
a kernel writes about 300 bytes before the payload."""

LONGEST = 255
"""Messages with a longer DETERMINING attribute are left to the Stream; the kernel's are
shorter."""

VLAN_PART = 8
"""The size of each attribute within NFULA_VLAN, padding included."""
ONE_TAG = 1 << 32
"""Tells a VLAN tag of zeros from none."""

_COUNT = max(ATTRIBUTES) + 1
_PAYLOAD = ATTRIBUTE_NUMBER["NFULA_PAYLOAD"]


class Layout(NamedTuple):
    """The attributes of messages that have the same headers; in Tables the same for many layouts.

    heads      the headers, in the bytes from nfgenmsg on; 0 for all other bytes, and for the size
               of NFULA_PAYLOAD if it is last, uint8
    head_mask  0xFF for the bytes of `heads`
    mask       0xFF for the bytes of DETERMINING attributes and nfgenmsg
    last       the offset of the last header
    offsets    of the values, by attribute number; 0 for none
    sizes      of the values, by attribute number; below 0 for none
    """

    heads: Array
    head_mask: Array
    mask: Array
    last: Array
    offsets: Array
    sizes: Array


_NO_BYTES = np.zeros(0, np.uint8)
NO_LAYOUT = Layout(
    _NO_BYTES, _NO_BYTES, _NO_BYTES, np.array(0), np.zeros(_COUNT, np.int64),
    np.full(_COUNT, -1),
)  # fmt: skip
"""That of messages that are left to the Stream."""


class Layouts:
    """The layouts of the messages of one byte order, < or >; number 0 is NO_LAYOUT.

    nlattr   dtype of the header of an attribute
    tables   the layouts, one a row
    """

    def __init__(self, order: str) -> None:
        self.nlattr = np.dtype(Plan(nlattr_head(order)).dtype())
        self._head = np.dtype(f"{order}u4")  # nla_len and nla_type as one number
        self._size_shift, self._kind_shift = (0, 16) if order == "<" else (16, 0)
        self._forget()

    def _forget(self) -> None:
        self._layouts = [NO_LAYOUT]
        self.tables = _together(self._layouts)
        self._numbers: dict[bytes, int] = {}
        self._expected: dict[bytes, tuple[int, ...]] = {}

    def numbers(self, array: Array, bodies: Array, ends: Array) -> Array:
        """The number of each message's layout.

        bodies   where nfgenmsg begins in each
        """
        if max(len(self._layouts), len(self._expected)) >= MAXIMUM:
            self._forget()
        begun = gather(array, bodies, BEGINNING)
        of_row, first = alike([begun])
        beginnings = [begun[row].tobytes() for row in first.tolist()]
        numbers = np.zeros(len(bodies), np.intp)
        left, count = np.arange(len(bodies)), FEW
        while len(left):
            for guesses in self._guesses(beginnings):
                guess = guesses[of_row[left]]
                fits = self._fits(array, bodies[left], ends[left], guess)
                numbers[left] = np.where(fits, guess, 0)
                left = left[~fits]
                if not len(left):
                    return numbers
            walked, left = left[:count], left[count:]
            rows, own = self._walked(array, bodies[walked], ends[walked])
            numbers[walked[rows]] = own
            self._expect(beginnings, of_row[walked[rows]], own)
            count *= FEW
        return numbers

    def _guesses(self, beginnings: list[bytes]) -> Array:
        """The layouts to expect of messages with these beginnings, likely ones first; 0: none."""
        guesses = np.zeros((MOST_EXPECTED, len(beginnings)), np.intp)
        for i, beginning in enumerate(beginnings):
            expected = self._expected.get(beginning, ())
            guesses[: len(expected), i] = expected
        return guesses[guesses.any(axis=1)]

    def _expect(self, beginnings: list[bytes], of_row: Array, numbers: Array) -> None:
        """Expect the layouts of messages with these beginnings from other such messages."""
        pairs = set(zip(of_row.tolist(), numbers.tolist(), strict=True))
        for i, number in sorted(pairs):
            earlier = self._expected.get(beginnings[i], ())
            if number and number not in earlier:
                self._expected[beginnings[i]] = (number, *earlier)[:MOST_EXPECTED]

    def _sizes(self, heads: Array) -> Array:
        return (heads >> self._size_shift & 0xFFFF).astype(np.int64)

    def _kinds(self, heads: Array) -> Array:
        return (heads >> self._kind_shift & NLA_TYPE_MASK).astype(np.int64)

    def _unsized(self, heads: Array) -> Array:
        """The headers of last attributes, as Layout.heads has them."""
        of_payload = self._kinds(heads) == _PAYLOAD
        return np.where(of_payload, heads & np.uint32(0xFFFF << self._kind_shift), heads)

    def _fits(self, array: Array, bodies: Array, ends: Array, numbers: Array) -> Array:
        """Which of the messages have the layouts with these numbers."""
        of, size = self.tables, self.tables.heads.shape[1]
        fits: Array = (numbers > 0) & (bodies + size <= len(array))
        numbers = np.where(fits, numbers, 0)
        places = np.where(fits, bodies, 0)
        for at in range(0, len(bodies), BLOCK):
            block = slice(at, at + BLOCK)
            octets = gather(array, places[block], size)
            octets &= of.head_mask.take(numbers[block], axis=0)
            fits[block] &= equal(octets, of.heads.take(numbers[block], axis=0))
        last = of.last.take(numbers)
        sizes = gather(array, places + last, self.nlattr)["nla_len"].astype(np.int64)
        left = ends - bodies - last
        fits &= (sizes >= self._head.itemsize) & (sizes <= left) & (left <= (sizes + 3 & ~3))
        return fits

    def _walked(self, array: Array, bodies: Array, ends: Array) -> tuple[Array, Array]:
        """Which messages have attributes that fill them, and the numbers of their layouts."""
        count = len(bodies)
        at, rows = bodies + plan_of(NFGENMSG).size, np.arange(count)
        fills = at < ends
        parts: list[Array] = []
        while len(rows):
            live = at < ends
            if not live.all():
                at, ends, rows = at[live], ends[live], rows[live]
                continue
            heads = gather(array, at, self._head)
            sizes = self._sizes(heads)
            good = (sizes >= self._head.itemsize) & (sizes <= ends - at)
            good &= len(parts) < MOST_ATTRIBUTES
            if not good.all():
                fills[rows[~good]] = False
                at, ends, rows = at[good], ends[good], rows[good]
                heads, sizes = heads[good], sizes[good]
            at = at + (sizes + 3 & ~3)
            part = np.zeros(count, np.uint32)
            last = np.flatnonzero(at >= ends)
            heads[last] = self._unsized(heads[last])
            part[rows] = heads
            parts.append(part)
        rows = np.flatnonzero(fills)
        if not len(rows):
            return rows, rows
        codes, first = alike([part[rows] for part in parts])
        examples = np.stack([part[rows[first]] for part in parts], axis=1)
        numbers = np.array([self._number(heads[heads > 0]) for heads in examples])
        if len(self._layouts) > len(self.tables.last):
            self.tables = _together(self._layouts)
        return rows, numbers[codes]

    def _number(self, heads: Array) -> int:
        """The number of the layout of messages with these headers."""
        key = heads.tobytes()
        if key not in self._numbers:
            layout = self._layout(heads)
            if layout is None or len(self._layouts) >= MAXIMUM:
                return 0
            self._numbers[key] = len(self._layouts)
            self._layouts.append(layout)
        return self._numbers[key]

    def _layout(self, given: Array) -> Layout | None:
        """The layout of messages with these headers; None if they are left to the Stream."""
        begin, own = plan_of(NFGENMSG).size, self._head.itemsize
        kinds, lengths = self._kinds(given).tolist(), self._sizes(given).tolist()
        steps = [max(align(length), own) for length in lengths]
        span = begin + sum(steps)
        if span > LONGEST_HEAD:
            return None
        heads, head_mask, mask = (np.zeros(span, np.uint8) for _ in range(3))
        offsets, sizes = np.zeros(_COUNT, np.int64), np.full(_COUNT, -1)
        mask[:begin] = 0xFF
        at = begin
        for head, kind, length, step in zip(given, kinds, lengths, steps, strict=True):
            name, least, _ = READERS.get(kind, ("", 0, None))
            begin, size = at + own, max(0, length - own)
            if not name or name in LEFT or offsets[kind] or (length and size < least):
                return None
            heads[at:begin].view(self._head)[0] = head
            sized = 0xFFFF << self._size_shift if length else 0
            head_mask[at:begin].view(self._head)[0] = sized | 0xFFFF << self._kind_shift
            offsets[kind], sizes[kind] = begin, size
            if name in DETERMINING:
                if size > LONGEST:
                    return None
                mask[begin : begin + size] = 0xFF
            at += step
        last = np.array(at - step)
        return Layout(heads, head_mask, mask, last, offsets, sizes)


def _together(layouts: list[Layout]) -> Layout:
    """Layouts as one, with a row for each; the bytes have a size that is a multiple of 64."""
    span = max(len(layout.heads) for layout in layouts) + 64 & ~63
    tables = []
    for values in zip(*layouts, strict=True):
        if values[0].dtype == np.uint8:
            padded = [value.tobytes().ljust(span, b"\0") for value in values]
            tables.append(np.frombuffer(b"".join(padded), np.uint8).reshape(-1, span))
        else:
            tables.append(np.stack(values))
    return Layout(*tables)


class Attributes:
    """The attributes of messages; those that are irregular must not be asked for.

    irregular   which of the messages are
    """

    def __init__(self, layouts: Layouts, array: Array, bodies: Array, ends: Array) -> None:
        """`bodies` are where nfgenmsg begins in each message."""
        self._nlattr, self._array, self._bodies = layouts.nlattr, array, bodies
        self._numbers = layouts.numbers(array, bodies, ends)
        self._tables = layouts.tables
        reach = self._tables.mask.shape[1]
        self.irregular: Array = (self._numbers == 0) | (bodies + reach > len(array))

    def take(self, rows: Array) -> None:
        """Keep only these messages."""
        self._bodies, self._numbers = self._bodies[rows], self._numbers[rows]

    def place(self, name: str) -> Array:
        """Where the value of an attribute is, in the messages that have it."""
        at: Array = self._tables.offsets[:, ATTRIBUTE_NUMBER[name]].take(self._numbers)
        return at + self._bodies

    def has(self, name: str) -> Array:
        """Which of the messages have an attribute."""
        present: Array = self._tables.sizes[:, ATTRIBUTE_NUMBER[name]] >= 0
        return present.take(self._numbers)

    def size(self, name: str) -> Array:
        """How long the value of an attribute is; below 0 where there is none."""
        sizes: Array = self._tables.sizes[:, ATTRIBUTE_NUMBER[name]].take(self._numbers)
        if ATTRIBUTE_NUMBER[name] != _PAYLOAD:
            return sizes
        header = self._nlattr.itemsize
        heads = gather(self._array, np.maximum(self.place(name) - header, 0), self._nlattr)
        return np.where(sizes < 0, sizes, heads["nla_len"] - np.int64(header))

    def fixed(self, name: str) -> tuple[Array, Array]:
        """The values of an attribute of fixed size, and which messages have it (others: noise)."""
        return gather(self._array, self.place(name), _dtype(name)), self.has(name)

    def determining(self, rows: Any) -> tuple[Array, Array]:
        """The DETERMINING attributes of these messages with nfgenmsg, as rows of bytes in which all
        other bytes are 0, and the numbers of their layouts.
        """
        numbers = self._numbers[rows]
        octets = gather(self._array, self._bodies[rows], self._tables.mask.shape[1])
        octets &= self._tables.mask.take(numbers, axis=0)
        return octets, numbers

    def vlan_tags(self) -> tuple[Array, Array]:
        """The VLAN tag of each message: ONE_TAG | EtherType << 16 | tci, or 0 for none; and which
        messages have a tag as the kernel writes it, or none.
        """
        has, sizes = self.has("NFULA_VLAN"), self.size("NFULA_VLAN")
        tags, good = np.zeros(len(has), np.int64), np.ones(len(has), bool)
        size = len(VLAN) * VLAN_PART
        good[has & (sizes != size)] = False
        rows = np.flatnonzero(has & good & ~self.irregular)
        if not len(rows):
            return tags, good
        part = in_a_row(self._nlattr, np.dtype([("value", ">u2"), ("pad", ">u2")]))
        places = self.place("NFULA_VLAN")[rows]
        parts = gather(self._array, places, size).view(part)
        kinds = parts["nla_type"] & NLA_TYPE_MASK
        complete = (parts["nla_len"] == VLAN_PART - 2).all(axis=1) & (kinds[:, 0] != kinds[:, 1])
        good[rows] = complete & np.isin(kinds, list(VLAN)).all(axis=1)
        numbers = {name: number for number, (name, _) in VLAN.items()}
        values = parts["value"].astype(np.int64)
        is_tci = kinds == numbers["NFULA_VLAN_TCI"]
        tags[rows] = ONE_TAG | np.where(is_tci, values, values << 16).sum(axis=1)
        return tags, good


@cache
def _dtype(name: str) -> np.dtype[Any]:
    """An attribute of fixed size as NumPy has it."""
    kind = ATTRIBUTES[ATTRIBUTE_NUMBER[name]][1]
    plan = Plan(kind if isinstance(kind, Struct) else Struct("value" / kind))
    dtype: np.dtype[Any] = np.dtype(plan.dtype())
    return dtype
