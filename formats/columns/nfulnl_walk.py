"""The attributes of many NFLOG messages, walked together: one attribute of each in a step.

The walk finds where each attribute is, in any order, and keeps the first bytes of its value, which
are all of it for most. A message is irregular if an attribute is unknown, comes again, is too
short, or goes beyond the message.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from construct import Struct

from pylog.formats.columns import Array
from pylog.formats.columns.arrays import gather, in_a_row
from pylog.formats.netlink import NLA_TYPE_MASK, nlattr_head
from pylog.formats.nfulnl_attributes import ATTRIBUTES, READERS, VLAN
from pylog.formats.nfulnl_table import ATTRIBUTE_NUMBER
from pylog.formats.plan import Plan

LEFT = ("NFULA_CT",)
"""The attributes that are left to the Stream."""

WORD = 4
"""Bytes of a value that are read together with the attribute's header."""

MOST_STEPS = 32
"""A message with more attributes is left to the Stream."""


@cache
def _dtype(name: str) -> np.dtype[Any]:
    """An attribute of fixed size as NumPy has it."""
    kind = ATTRIBUTES[ATTRIBUTE_NUMBER[name]][1]
    plan = Plan(kind if isinstance(kind, Struct) else Struct("value" / kind))
    dtype: np.dtype[Any] = np.dtype(plan.dtype(max(plan.size, WORD)))
    return dtype


VLAN_PART = 8
"""The size of each attribute within NFULA_VLAN, padding included."""
ONE_TAG = 1 << 32
"""Tells a VLAN tag of zeros from none."""


class AttributeKinds:
    """How attributes are read in one byte order, < or >.

    nlattr      dtype of the head of an attribute
    attribute   dtype of the head and the first bytes of the value
    value_at    where the value begins
    least       the least nla_len by attribute number; impossibly large for those left to the Stream
    """

    def __init__(self, order: str) -> None:
        self.nlattr = np.dtype(Plan(nlattr_head(order)).dtype())
        self.value_at: int = self.nlattr.itemsize
        self.attribute = in_a_row(self.nlattr, np.dtype([("word", f"u{WORD}")]))
        self.least = np.full(NLA_TYPE_MASK + 1, 1 << 16, np.int64)
        for number, (name, size, _) in READERS.items():
            if name not in LEFT:
                self.least[number] = self.value_at + max(size, 0)


class Attributes:
    """The attributes of messages; those that are irregular must not be asked for.

    irregular   which of the messages are
    """

    def __init__(self, kinds: AttributeKinds, array: Array, starts: Array, ends: Array) -> None:
        """The attributes of each message lie between `starts` and `ends`."""
        self._kinds, self._array = kinds, array
        self._table, self._words, self.irregular = self._walk(starts, ends)

    def take(self, rows: Array) -> None:
        """Keep only these messages."""
        self._table, self._words = self._table[:, rows], self._words[:, rows]

    def word(self, name: str) -> Array:
        """The first WORD bytes of the values of an attribute, as uint32."""
        words: Array = self._words[ATTRIBUTE_NUMBER[name]]
        return words

    def _walk(self, at: Array, ends: Array) -> tuple[Array, Array, Array]:
        """By attribute number: the place in each message, and the first bytes of the value; and
        which messages are irregular.

        A place is offset | nla_len << 32, or 0 for no such attribute. The first attributes are at
        `at`.
        """
        array, count = self._array, len(ends)
        irregular = np.zeros(count, bool)
        table = np.zeros((max(ATTRIBUTES) + 1) * count, np.int64)
        words_of = np.zeros((max(ATTRIBUTES) + 1) * count, np.uint32)
        seen = np.zeros(count, np.int64)
        rows = np.arange(count)
        for _ in range(MOST_STEPS):
            live = at < ends
            if not live.all():
                at, ends, rows, seen = at[live], ends[live], rows[live], seen[live]
            if not len(rows):
                break
            attribute = gather(array, at, self._kinds.attribute)
            size = attribute["nla_len"].astype(np.int64)
            kind = attribute["nla_type"].astype(np.int64) & NLA_TYPE_MASK
            bit = np.left_shift(1, kind)
            good = (size >= self._kinds.least[kind]) & (size <= ends - at) & (seen & bit == 0)
            if not good.all():
                irregular[rows[~good]] = True
                at, ends, rows, seen = at[good], ends[good], rows[good], seen[good]
                size, kind, bit = size[good], kind[good], bit[good]
                attribute = attribute[good]
            seen |= bit
            slots = kind * count + rows
            table[slots] = at | size << 32
            words_of[slots] = attribute["word"]
            at = at + (size + 3 & ~3)
        else:
            irregular[rows] = True  # these have more attributes
        return table.reshape(-1, count), words_of.reshape(-1, count), irregular

    def place(self, name: str) -> Array:
        """Where the value of an attribute is, in the messages that have it."""
        at: Array = self._table[ATTRIBUTE_NUMBER[name]] & 0xFFFFFFFF
        return at + self._kinds.value_at

    def has(self, name: str) -> Array:
        """Which of the messages have an attribute."""
        present: Array = self._table[ATTRIBUTE_NUMBER[name]] > 0
        return present

    def size(self, name: str) -> Array:
        """How long the value of an attribute is; below 0 where there is none."""
        size: Array = self._table[ATTRIBUTE_NUMBER[name]] >> 32
        return size - self._kinds.value_at

    def fixed(self, name: str) -> tuple[Array, Array]:
        """The values of an attribute of fixed size, and which messages have it (others: noise)."""
        dtype, there = _dtype(name), self.has(name)
        if dtype.itemsize == WORD:
            return self._words[ATTRIBUTE_NUMBER[name]].view(dtype), there
        return gather(self._array, self.place(name), dtype), there

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
        part = in_a_row(self._kinds.nlattr, np.dtype([("value", ">u2"), ("pad", ">u2")]))
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
