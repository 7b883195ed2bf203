"""Reads NFLOG messages into the cells of a stack: only the attributes that its plugins read.

The kernel writes the attributes of a message in a fixed order (__build_packet_message). First come
those that the rule and the neighbour determine: the head. The messages of a rule have few heads, so
the cells of a head are remembered by its bytes, and only time, owner, numbers and payload are read
from each message. What a head means is read by `views.Packet`, as is a message in another order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from pylog.memo import Bounded, Memo
from pylog.ulogd.keys import Value
from pylog.ulogd.views import Message, Packet

KEY = 16
"""The first bytes, by which sizes of heads are remembered: they end with the prefix's length."""
SIZES = 4
"""So many of those are tried at most."""

_TIME, _PAYLOAD, _CT = 3, 9, 18
_NUMBERS = {11: "oob.uid", 12: "oob.seq.local", 13: "oob.seq.global", 14: "oob.gid"}
"""NFULA_ attributes of 32 bits behind the head, with their keys."""
_PASSED_OVER = frozenset((19, 20, 21))
"""NFULA_CT_INFO, VLAN and L2HDR, which ulogd does not read."""
_TAIL = frozenset((_TIME, _PAYLOAD, _CT, *_NUMBERS, *_PASSED_OVER))
_HEADS = {"<": struct.Struct("<HH").unpack_from, ">": struct.Struct(">HH").unpack_from}
_U32 = struct.Struct(">I").unpack_from
_STAMP = struct.Struct(">QQ").unpack_from

Reading = Callable[[Any], Value]
"""Reads the value of a key from a view."""


class MessageReader:
    """Reads the messages of one source for one stack."""

    def __init__(self, size: int, wanted: Sequence[tuple[int, str, Reading]]) -> None:
        """
        size     how many cells a record has
        wanted   the cells to fill, each with the name of its key and what reads it from a Packet;
                 a name that is no key stands for what the head determines
        """
        self._size = size
        self._wanted = [(at, read) for at, _, read in wanted]
        cells = {name: at for at, name, _ in wanted}
        # the cell behind the last one takes what no plugin reads, and is emptied again
        self._spare = size
        self._numbers = {n: cells.get(name, size) for n, name in _NUMBERS.items()}
        self._payload = cells.get("raw.pkt", size)
        self._length = cells.get("raw.pktlen", size)
        self._second = cells.get("oob.time.sec", size)
        self._micro = cells.get("oob.time.usec", size)
        self._entry = cells.get("ct", size)
        self._heads: Bounded[bytes, list[Value]] = Bounded()
        self._sizes: Memo[bytes, list[int]] = Memo(lambda key: [])

    def cells(self, message: Message) -> list[Value]:
        """The cells of a message; those of other plugins are empty."""
        data, heads = message.data, self._heads
        for at in self._sizes[data[:KEY]]:
            template = heads.get(data[:at])
            if template is not None:
                break
        else:
            return self._learned(message)
        values = template.copy()
        time_us = message.clock_us
        head, numbers, end = _HEADS[message.order], self._numbers, len(data)
        while at + 4 <= end:
            full, kind = head(data, at)
            if full < 4 or at + full > end:
                break
            kind &= 0x3FFF
            if kind == _PAYLOAD:
                values[self._payload] = data[at + 4 : at + full]
                values[self._length] = full - 4
            elif kind in numbers:
                if full >= 8:
                    values[numbers[kind]] = _U32(data, at + 4)[0]
            elif kind == _TIME:
                if full >= 20:
                    second, micro = _STAMP(data, at + 4)
                    if second:
                        time_us = second * 1_000_000 + micro
            elif kind == _CT:
                values[self._entry] = b""
            elif kind not in _PASSED_OVER:
                return self._learned(message)
            at += full + 3 & ~3
        values[self._second] = time_us // 1_000_000 & 0xFFFFFFFF
        values[self._micro] = time_us % 1_000_000
        values[self._spare] = None
        return values

    def _learned(self, message: Message) -> list[Value]:
        """The cells of a message whose head is new, which is remembered."""
        data, size = message.data, self._head_size(message)
        if size <= len(data):  # otherwise the padding of its last attribute is missing
            template = self._read(Message(data[:size], message.order, 0, message.label).packet())
            template[self._second] = template[self._micro] = None
            self._heads.keep(data[:size], template)
            sizes = self._sizes[data[:KEY]]
            sizes[:] = sorted({size, *sizes[: SIZES - 1]}, reverse=True)
        return self._read(message.packet())

    def _read(self, packet: Packet) -> list[Value]:
        values: list[Value] = [None] * (self._size + 1)
        for at, read in self._wanted:
            values[at] = read(packet)
        return values

    def _head_size(self, message: Message) -> int:
        """How many bytes there are before the first attribute that each message has of its own."""
        data, head, at = message.data, _HEADS[message.order], 4
        while at + 4 <= len(data):
            full, kind = head(data, at)
            if kind & 0x3FFF in _TAIL or full < 4 or at + full > len(data):
                break
            at += full + 3 & ~3
        return at
