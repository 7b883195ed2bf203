"""Counts the messages of netlink datagrams without decoding them, and what NFLOG's numbers show.

For a capture of datagrams as received: it needs to know how many records it has, and how many the
kernel lost, and nothing else. The kernel numbers the messages of a group in their order, and a
datagram has those of one group (nfulnl_log_packet), so the numbers of its first message and its
last show a gap before them, and that there is none between. If they do not agree with the number of
messages, each message is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import NamedTuple

from pylog.formats.netlink import NLMSG_DONE
from pylog.formats.nfulnl_attributes import NFULNL_MSG_PACKET

HALF = 0x80000000
"""A number that is this far ahead of the expected one, or more, is behind it."""

NLMSG_MIN_TYPE = 0x10
"""Smaller types are those of netlink itself, as NLMSG_DONE."""

_NFULA_SEQ, _SEQ_LENGTH = 12, 8
_HEADERS = 20
"""nlmsghdr and nfgenmsg."""


class Run(NamedTuple):
    """Log messages of one group in a datagram, whose numbers follow each other.

    log      the group
    first    the number of the first
    starts   where each begins in the data
    sizes    the length of each
    """

    log: str
    first: int
    starts: list[int]
    sizes: list[int]


class Runs:
    """Finds runs in datagrams of an order, "<" or ">"."""

    def __init__(self, order: str) -> None:
        self._head = Struct(order + "IH").unpack_from
        self._attribute = Struct(order + "HH").unpack_from

    def of(self, data: bytes, start: int, end: int) -> Run | None:
        """The messages of the datagram data[start:end]; None: they are not one run."""
        head, at = self._head, start
        starts: list[int] = []
        sizes: list[int] = []
        while at + 16 <= end:
            size, kind = head(data, at)
            if kind == NFULNL_MSG_PACKET:
                starts.append(at)
                sizes.append(size)
            elif kind != NLMSG_DONE:
                return None
            if size < 16:
                return None
            at += (size + 3) & ~3
        if at != end or not starts:
            return None
        log, first = self._numbered(data, starts[0])
        if first is None or (log, (first + len(starts) - 1) & 0xFFFFFFFF) != self._numbered(
            data, starts[-1]
        ):
            return None
        return Run(log, first, starts, sizes)

    def _numbered(self, data: bytes, start: int) -> tuple[str, int | None]:
        """The group of a message, and its number if it has one."""
        group = str(int.from_bytes(data[start + 18 : start + 20]))
        end = start + self._head(data, start)[0]
        at, attribute = start + _HEADERS, self._attribute
        while at + 4 <= end:
            size, kind = attribute(data, at)
            if kind == _NFULA_SEQ and size == _SEQ_LENGTH and at + size <= end:
                return group, int.from_bytes(data[at + 4 : at + 8])
            if size < 4:
                break
            at += (size + 3) & ~3
        return group, None


class Seen(Runs):
    """The messages of one source.

    records   how many messages there were, but for those of netlink itself
    lost      how many more the numbers of groups have skipped
    malformed   datagrams whose lengths do not add up
    groups    the groups that have been numbered since `groups` was emptied last
    """

    def __init__(self, order: str, first: Mapping[str, int]) -> None:
        """
        order   of the bytes, "<" or ">"
        first   the number of the first record of each group
        """
        super().__init__(order)
        self.records = self.lost = self.malformed = 0
        self.groups: set[str] = set()
        self._next = dict(first)

    def add(self, data: bytes, start: int, end: int) -> int:
        """Count the messages of a datagram, data[start:end]; how many records are lost before it.

        Losses between its messages are counted as well, and not in the result.
        """
        head, at, starts = self._head, start, list[int]()
        packets = 0
        while at + 16 <= end:
            size, kind = head(data, at)
            if size < 16 or at + size > end:
                break
            if kind >= NLMSG_MIN_TYPE:
                starts.append(at)
                packets += kind == NFULNL_MSG_PACKET
            at += (size + 3) & ~3
        self.malformed += at < end
        self.records += len(starts)
        if not packets:
            return 0
        if packets < len(starts):
            starts = [at for at in starts if head(data, at)[1] == NFULNL_MSG_PACKET]
        return self._account(data, starts)

    def _account(self, data: bytes, starts: list[int]) -> int:
        group, first = self._numbered(data, starts[0])
        if first is None:
            return 0
        before = self._missing(group, first)
        other, last = self._numbered(data, starts[-1])
        if other != group or last != (first + len(starts) - 1) & 0xFFFFFFFF:
            for at in starts[1:]:
                group, number = self._numbered(data, at)
                if number is not None:
                    self._missing(group, number)
        else:
            self._next[group] = (last + 1) & 0xFFFFFFFF
        return before

    def _missing(self, group: str, number: int) -> int:
        """How many records are lost before this one, by its number."""
        expected = self._next.get(group, number)
        self._next[group] = (number + 1) & 0xFFFFFFFF
        self.groups.add(group)
        gap = (number - expected) & 0xFFFFFFFF
        gap = gap if gap < HALF else 0
        self.lost += gap
        return gap
