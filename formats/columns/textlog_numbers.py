"""The numbers and addresses of lines of LOG, read together for all lines of a shape.

The separators of a shape - blanks, signs = and the dots of IPv4 addresses - are in each of its
lines, in the same order. Their places are searched for once in all bytes. Between two of them lies
either a word of the shape, whose size must be equal, or a number, which must have digits only. So
a line that passes has exactly the words of its shape, because a shape is the line without digits.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pylog.formats.columns import Array
from pylog.formats.columns.arrays import gather
from pylog.formats.ip_numbers import ICMPV6
from pylog.formats.textlog_fast import Apart
from pylog.formats.textlog_shapes import Shape
from pylog.record.places import AT_DADDR, AT_SADDR

LINES = 1024
"""How many lines are read at a time: so few that their numbers stay in the cache."""
ADDRESS_SIZE = 39
"""The size of an IPv6 address as the kernel writes it: eight groups of four digits."""


class Parsed(NamedTuple):
    """What was read of lines, by their number; the rows of lines that are not regular are noise.

    regular     which lines were read
    codes       the place of the shape of each in `shapes`
    shapes      family, protocol and TCP flags
    numbers     by place in the record or name in `extra`: the numbers, and where there is one
    addresses   by place: as 4 octets, as 16 octets, and whether it has 16
    """

    regular: Array
    codes: Array
    shapes: list[tuple[str, int, str | None]]
    numbers: dict[int | str, tuple[Array, Array]]
    addresses: dict[int, tuple[Array, Array, Array]]


class Form(NamedTuple):
    """Where what stands in the lines of a shape. A token is what ends before a separator.

    separators   uint8
    words        the tokens that are words, and `sizes` their sizes
    octets       the tokens that are octets of IPv4 addresses
    decimals     the tokens that are numbers, and `most` the largest value of each
    hexadecimals the tokens that are 0x and two digits
    six          the tokens that are IPv6 addresses
    mark         the token of MARK=, or -1
    protocol     the token of PROTO=
    """

    separators: Array
    words: Array
    sizes: Array
    octets: Array
    decimals: Array
    most: Array
    hexadecimals: Array
    six: list[int]
    mark: int
    protocol: int


@lru_cache(256)
def form_of(shape: Shape) -> Form:
    """Where what stands in the lines of a shape."""
    parts = re.split(rb"([ =])", shape.text)
    separators, words, sizes = bytearray(), [], []
    octets: list[int] = []
    decimals, most, hexadecimals, six = [], [], [], []
    mark = protocol = -1
    seen = 0
    for at in range(0, len(parts), 2):
        token = len(separators)
        after = parts[at + 1] if at + 1 < len(parts) else b"\n"
        if at and parts[at - 1] != b"=":
            words.append(token)
            sizes.append(len(parts[at]))
        elif seen < 2:
            if shape.family == "ipv4":
                octets += range(token, token + 4)
                separators += b"..."
            else:
                six.append(token)
        else:
            number = shape.numbers[seen - 2]
            if number is None:
                protocol = token
                words.append(token)
                sizes.append(len(parts[at]) + (shape.protocol == ICMPV6))
            elif number.base == 10:
                decimals.append(token)
                most.append(number.most)
            elif number.place in HEXADECIMAL:
                hexadecimals.append(token)
                words.append(token)
                sizes.append(4)
            else:
                mark = token
        seen += at == 0 or parts[at - 1] == b"="
        separators += after
    return Form(
        np.frombuffer(bytes(separators), np.uint8), np.array(words), np.array(sizes),
        np.array(octets, np.intp), np.array(decimals, np.intp), np.array(most, np.uint64),
        np.array(hexadecimals, np.intp), six, mark, protocol,
    )  # fmt: skip


def parsed(apart: Apart, few: int) -> Parsed:
    """What the lines of regular shapes say; shapes of fewer than `few` lines are left out."""
    array, count = np.frombuffer(apart.joined, np.uint8), len(apart.texts)
    is_separator = array == ord(" ")
    for other in b"=.\n":
        is_separator |= array == other
    sizes = np.fromiter(map(len, apart.texts), np.int64, count)
    places = np.cumsum(sizes + 1) - sizes - 1 + len(apart.joined) - int(sizes.sum()) - count
    reader = _Reader(array, places, np.flatnonzero(is_separator))
    shapes: dict[tuple[str, int, str | None], int] = {}
    for shape, numbers in apart.groups:
        rows = np.array(numbers, np.int64)
        if len(rows) < few:
            continue
        key = shape.family, shape.protocol, shape.flags
        reader.codes[rows] = shapes.setdefault(key, len(shapes))
        for at in range(0, len(rows), LINES):
            reader.read(shape, rows[at : at + LINES])
    return Parsed(reader.regular, reader.codes, list(shapes), reader.numbers, reader.addresses)


class _Reader:
    """Reads lines of shapes."""

    def __init__(self, array: Array, texts: Array, separators: Array) -> None:
        """
        texts        where what stands behind SRC= begins in each line
        separators   where all separators of the lines are
        """
        count = len(texts)
        self._array, self._texts, self._separators = array, texts, separators
        self._firsts = np.searchsorted(separators, texts)
        self.regular = np.zeros(count, bool)
        self.codes = np.zeros(count, np.intp)
        self.numbers: dict[int | str, tuple[Array, Array]] = {}
        self.addresses = {
            place: (np.zeros((count, 4), np.uint8), np.zeros((count, 16), np.uint8),
                    np.zeros(count, bool))
            for place in (AT_SADDR, AT_DADDR)
        }  # fmt: skip

    def read(self, shape: Shape, rows: Array) -> None:
        """Read lines of a shape."""
        form, array = form_of(shape), self._array
        index = self._firsts[rows][:, None] + np.arange(len(form.separators))
        places = self._separators.take(index, mode="clip")
        good = (array.take(places) == form.separators).all(axis=1)
        sizes = np.diff(places, axis=1, prepend=self._texts[rows][:, None] - 1) - 1
        good &= (sizes[:, form.words] == form.sizes).all(axis=1)
        if shape.protocol == ICMPV6:
            good &= array.take(places[:, form.protocol] - 1) == ord("6")
        octets, fits = _octets(array, places[:, form.octets], sizes[:, form.octets])
        good &= fits.all(axis=1)
        decimals, fits = decimal_numbers(array, places[:, form.decimals], sizes[:, form.decimals])
        good &= (fits & (decimals <= form.most)).all(axis=1)
        hexadecimals, fits = _two_digits(array, places[:, form.hexadecimals])
        good &= fits.all(axis=1)
        six = []
        for token in form.six:
            address, valid = _six(array, places[:, token] - ADDRESS_SIZE)
            good &= valid & (sizes[:, token] == ADDRESS_SIZE)
            six.append(address)
        marks = None
        if form.mark >= 0:
            marks, valid = self._marks(places[:, form.mark], sizes[:, form.mark])
            good &= valid
        if not good.all():
            rows, octets = rows[good], octets[good]
            decimals, hexadecimals = decimals[good], hexadecimals[good]
            six = [address[good] for address in six]
            marks = None if marks is None else marks[good]
        self.regular[rows] = True
        self._keep(shape, rows, decimals, hexadecimals, marks)
        for i, place in enumerate((AT_SADDR, AT_DADDR)):
            own_four, own_six, is_six = self.addresses[place]
            if six:
                own_six[rows], is_six[rows] = six[i], True
            else:
                own_four[rows] = octets[:, 4 * i : 4 * i + 4]

    def _keep(
        self, shape: Shape, rows: Array, decimals: Array, hexadecimals: Array, marks: Array | None
    ) -> None:
        """Put the numbers of lines into their columns."""
        decimal = hexadecimal = 0
        for number in shape.numbers:
            if number is None:
                continue
            if number.base == 10:
                values = decimals[:, decimal]
                decimal += 1
            elif number.place in HEXADECIMAL:
                values = hexadecimals[:, hexadecimal]
                hexadecimal += 1
            else:
                assert marks is not None
                values = marks
            if number.place == "prec":
                self.numbers["tos"][0][rows] |= values
                continue
            if number.place not in self.numbers:
                count = len(self.regular)
                self.numbers[number.place] = np.zeros(count, np.int64), np.zeros(count, bool)
            numbers, valid = self.numbers[number.place]
            numbers[rows] = values
            valid[rows] = values != 0 if number.only_if_set else True

    def _marks(self, ends: Array, sizes: Array) -> tuple[Array, Array]:
        """The numbers after MARK=, and where there is one."""
        marks, valid = np.zeros(len(ends), np.int64), np.zeros(len(ends), bool)
        seen: dict[bytes, int] = {}
        for i, (end, size) in enumerate(zip(ends.tolist(), sizes.tolist(), strict=True)):
            text = self._array[end - min(size, 11) : end].tobytes()
            if text not in seen:
                seen[text] = int(text, 16) if _MARK.fullmatch(text) else -1
            marks[i], valid[i] = seen[text], seen[text] >= 0
        return marks, valid


HEXADECIMAL = ("tos", "prec", "tcp_reserved")
"""Numbers that are written as 0x and two digits."""
_MARK = re.compile(rb"0x[0-9A-Fa-f]{1,8}")
_NIBBLES = np.full(256, 0xFF, np.uint8)
_NIBBLES[list(b"0123456789abcdef")] = range(16)
_NIBBLES[list(b"ABCDEF")] = range(10, 16)
_LEAST = np.array([256, 0, 10, 100, 256], np.uint32)
"""The least octet by its digits: it has no zeros before them."""
_SMALL_MASKS = np.array([0, 0xFF000000, 0xFFFF0000, 0xFFFFFF00], np.uint32)
_SMALL_FILLS = np.array([0x30303030, 0x303030, 0x3030, 0x30], np.uint32)

_ZEROS = 0x3030303030303030
_SHIFTS = [8 * (8 - size) for size in range(9)]
_MASKS = np.array([2**64 - 2**shift if shift < 64 else 0 for shift in _SHIFTS], np.uint64)
_FILLS = np.array([_ZEROS & (2**shift - 1) for shift in _SHIFTS], np.uint64)
"""What keeps the last bytes of eight, and what stands for the others: the digit 0."""


def _octets(array: Array, ends: Array, sizes: Array) -> tuple[Array, Array]:
    """The octets of IPv4 addresses that end at these places, and which are octets."""
    word = gather(array, ends - 4, "<u4")
    word &= _SMALL_MASKS.take(sizes, mode="clip")
    word |= _SMALL_FILLS.take(sizes, mode="clip")
    high = word & np.uint32(0xF0F0F0F0)
    fits = ((word + np.uint32(0x06060606)) & np.uint32(0xF0F0F0F0) | high) == np.uint32(0x30303030)
    word &= np.uint32(0x0F0F0F0F)
    numbers = (word >> np.uint32(8) & np.uint32(15)) * np.uint32(100)
    numbers += (word >> np.uint32(16) & np.uint32(15)) * np.uint32(10)
    numbers += word >> np.uint32(24)
    fits &= (numbers <= 255) & (numbers >= _LEAST.take(sizes, mode="clip"))
    return numbers.astype(np.uint8), fits


def decimal_numbers(array: Array, ends: Array, sizes: Array) -> tuple[Array, Array]:
    """The numbers of up to ten digits that end at these places, and which are numbers.

    At least eight bytes are before each end, and sixteen if it has more than eight digits.
    """
    numbers, fits = _eight(array, ends, np.minimum(sizes, 8))
    fits &= (sizes > 0) & (sizes <= 10)
    long = sizes > 8
    if long.any():
        high, digits = _eight(array, np.maximum(ends[long] - 8, 8), np.minimum(sizes[long] - 8, 8))
        numbers[long] += high * np.uint64(100_000_000)
        fits[long] &= digits
    return numbers, fits


def _eight(array: Array, ends: Array, sizes: Array) -> tuple[Array, Array]:
    """The numbers of up to eight digits, which are multiplied together, and which are numbers.

    Each step joins neighbours: digits to pairs, pairs to fours, fours to eight.
    """
    word = gather(array, ends - 8, "<u8")
    word &= _MASKS.take(sizes, mode="clip")
    word |= _FILLS.take(sizes, mode="clip")
    high = word & np.uint64(0xF0F0F0F0F0F0F0F0)
    over = ((word + np.uint64(0x0606060606060606)) & np.uint64(0xF0F0F0F0F0F0F0F0)) | high
    fits = over == np.uint64(_ZEROS)
    word -= np.uint64(_ZEROS)
    word = (word * np.uint64(10) + (word >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    word = (word * np.uint64(100) + (word >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    word = (word * np.uint64(10000) + (word >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    return word, fits


def _two_digits(array: Array, ends: Array) -> tuple[Array, Array]:
    """The numbers that are written as 0x and two digits, and which are."""
    word = gather(array, ends - 4, "<u4")
    high = _NIBBLES.take(word >> np.uint32(16) & np.uint32(0xFF))
    low = _NIBBLES.take(word >> np.uint32(24))
    fits = (word & np.uint32(0xFFFF) == int.from_bytes(b"0x", "little")) & (high < 16) & (low < 16)
    return (high << np.uint8(4) | low).astype(np.int64), fits


def _six(array: Array, starts: Array) -> tuple[Array, Array]:
    """The IPv6 addresses in eight groups of four digits, as octets, and which are."""
    text = gather(array, np.minimum(starts, len(array) - ADDRESS_SIZE), ADDRESS_SIZE)
    colons = text[:, 4::5]
    nibbles = _NIBBLES.take(np.delete(text, np.s_[4::5], axis=1))
    fits = (colons == ord(":")).all(axis=1) & (nibbles < 16).all(axis=1)
    return nibbles[:, ::2] << np.uint8(4) | nibbles[:, 1::2], fits
