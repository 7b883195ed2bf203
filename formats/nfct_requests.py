"""What pylog asks of ctnetlink, and how its listings of flows are marked among the events.

A listing is a dump between two answers to IPCTNL_MSG_CT_GET_STATS. The number of these requests
(nlmsg_seq) says that the listing is pylog's own, what it is for, and where it ends. The events that
came during the dump stand before its end. So a flow that is missing at the end did not live any
more, and had no event of its end. The answers are messages as all others: a capture has them too.

A flow that begins during the dump may be in it and have an event later. `without` leaves it out of
the dump, so that it is not given twice.

Sources: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c
(ctnetlink_stat_ct, ctnetlink_dump_table); runs on Linux 6.18.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import IntEnum
from struct import Struct as CStruct
from typing import NamedTuple

from pylog.errors import DecodeError
from pylog.formats.netlink import (
    NFNL_SUBSYS_CTNETLINK,
    Table,
    align,
    build,
    scan,
)
from pylog.formats.netlink_stream import unpack_nlmsghdr

NFNL_SUBSYS_CTNETLINK_EXP = 2
IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_GET_STATS = 0, 1, 5
NLM_F_MULTI, NLM_F_CREATE, NLM_F_EXCL = 0x2, 0x400, 0x200
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID = 1, 2, 12

CT_NEW = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW
CT_GET = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET
CT_GET_STATS = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS
CT_GET_DYING = NFNL_SUBSYS_CTNETLINK << 8 | 6
"""IPCTNL_MSG_CT_GET_DYING: flows that have ended, but whose end was not received by all."""
EXP_GET = NFNL_SUBSYS_CTNETLINK_EXP << 8 | 1

SEQ = 0xFC706C00
"""The nlmsg_seq of pylog's listings, without its low bits. Other programs number their requests
from 1, or by the seconds since 1970, which are less.
"""

_NONE: Table = {}
_two = {order: CStruct(f"{order}HH").unpack_from for order in "<>"}


class Purpose(IntEnum):
    """What a listing is for; START: there is none, pylog only begins to read."""

    SNAPSHOT, REPAIR, POLL, START = range(4)


class Mark(NamedTuple):
    """What a nlmsg_seq of pylog says.

    is_end     of the answer after a listing; not of the one before it, and of the listing
    reliable   the kernel sends the end of a flow again until it was received
    """

    purpose: Purpose
    is_end: bool = False
    reliable: bool = False

    @property
    def seq(self) -> int:
        """The nlmsg_seq."""
        return SEQ | self.reliable << 3 | self.purpose << 1 | self.is_end


def mark_of(seq: int) -> Mark | None:
    """What a nlmsg_seq says; None for that of another request."""
    if seq & ~0xF != SEQ:
        return None
    return Mark(Purpose(seq >> 1 & 3), bool(seq & 1), bool(seq & 8))


def is_marked(head: bytes) -> bool:
    """Whether the first message of a recording is an answer by which pylog marks its reading."""
    for order in "<>":
        if len(head) >= 16:
            _, kind, _, seq, _ = unpack_nlmsghdr[order](head, 0)
            if kind == CT_GET_STATS and mark_of(seq) is not None:
                return True
    return False


def request(order: str, kind: int, family: int = 0) -> bytes:
    """A request without attributes: CT_GET_STATS, or the dump of flows (CT_GET) or of expectations.

    family   AF_INET (2) or AF_INET6 (10), 0 for both
    """
    return build(_NONE, order, kind, 0, [], family=family)


def tuples(data: bytes, start: int, end: int, order: str) -> int:
    """Where both tuples of a message end, which are its first attributes; 0: it has not both."""
    at, read = start + 20, _two[order]
    for number in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY):
        if end - at < 4:
            return 0
        size, kind = read(data, at)
        if kind & 0x3FFF != number or size < 4:
            return 0
        at += size + 3 & ~3
    return at if at <= end else 0


def begun(events: bytes, order: str) -> Iterator[bytes]:
    """What `without` compares of the flows that begin in the events: the tuples and the id."""
    for start, end, flags in _flows(events, order):
        if flags & NLM_F_CREATE and (key := _key(events, start, end, order)):
            yield key


def without(dump: bytes, order: str, keys: Collection[bytes]) -> bytes:
    """The messages of a dump without those of the flows that `begun` gave."""
    if not keys:
        return dump
    kept, pos = [], 0
    for start, end, _ in _flows(dump, order):
        if _key(dump, start, end, order) in keys:
            kept.append(dump[pos:start])
            pos = align(end)
    return b"".join([*kept, dump[pos:]])


def _flows(data: bytes, order: str) -> Iterator[tuple[int, int, int]]:
    """The start, end and flags of the messages about flows in netlink messages."""
    header, pos = unpack_nlmsghdr[order], 0
    while pos + 20 <= len(data):
        size, kind, flags, *_ = header(data, pos)
        if size < 16 or pos + size > len(data):
            return
        if kind == CT_NEW and size >= 20:
            yield pos, pos + size, flags
        pos += align(size)


def _key(data: bytes, start: int, end: int, order: str) -> bytes:
    after = tuples(data, start, end, order)
    if after:
        try:
            for number, at, stop in scan(data, after, end, order, 0):
                if number == CTA_ID:
                    return data[start + 20 : after] + data[at:stop]
        except DecodeError:
            pass
    return b""
