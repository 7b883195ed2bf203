"""What pylog asks of nftables, and where the answers belong among the events of its group.

A listing is the dumps of all entities between two answers to GETGEN. The kernel dumps while the
ruleset may change, so a listing counts only if all its messages have one generation and none has
NLM_F_DUMP_INTR. `Listing` checks this. `place` gives the place of a listing among events that were
received meanwhile, and `newer` leaves out those that it contains already.

Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c, nfnetlink.c; runs on Linux
6.18.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pylog.errors import DecodeError
from pylog.formats.netlink import (
    NFGENMSG,
    NFNL_SUBSYS_NFTABLES,
    OCTETS,
    Table,
    align,
    build,
    scan,
    to_dict,
)
from pylog.formats.netlink_stream import unpack_nlmsghdr
from pylog.formats.nft_attributes import (
    GENERATION,
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETFLOWTABLE,
    NFT_MSG_GETOBJ,
    NFT_MSG_GETRULE,
    NFT_MSG_GETSET,
    NFT_MSG_GETSETELEM,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWGEN,
    NFT_MSG_NEWSET,
    NFT_MSG_TRACE,
    NLM_F_DUMP_INTR,
)
from pylog.formats.plan import Plan

NLM_F_DUMP = 0x300
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 0x10, 0x11

KINDS = (NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN, NFT_MSG_GETSET, NFT_MSG_GETOBJ, NFT_MSG_GETFLOWTABLE,
         NFT_MSG_GETRULE)  # fmt: skip
"""What to dump, in this order; after the sets come the elements of each. Rules refer to all others,
so they are last.
"""

_NONE: Table = {}
_NAMES: Table = {1: ("NFTA_SET_TABLE", OCTETS), 2: ("NFTA_SET_NAME", OCTETS)}
"""The names of a set as the kernel gives them. In a request for its elements they are
NFTA_SET_ELEM_LIST_TABLE and NFTA_SET_ELEM_LIST_SET, which have the same numbers.
"""

_nfgenmsg = Plan(NFGENMSG).unpack


class Head(NamedTuple):
    """The fixed part of a message of nftables at data[start:end].

    kind         NFT_MSG_*
    generation   the low 16 bits of the generation
    """

    start: int
    end: int
    kind: int
    flags: int
    family: int
    generation: int


def heads(data: bytes, order: str) -> Iterator[Head]:
    """The messages of nftables in netlink messages, each padded to 4 bytes; others are skipped."""
    header, pos = unpack_nlmsghdr[order], 0
    while pos + 20 <= len(data):
        size, kind, flags, *_ = header(data, pos)
        if size < 16 or pos + size > len(data):
            return
        if kind >> 8 == NFNL_SUBSYS_NFTABLES and size >= 20:
            family, _version, generation = _nfgenmsg(data, pos + 16)
            yield Head(pos, pos + size, kind, flags, family, generation)
        pos += align(size)


# Requests


def request(order: str, kind: int) -> bytes:
    """A request without attributes: GETGEN, or the dump of a kind of entity in all families."""
    return build(_NONE, order, kind, 0, [])


def batch(order: str, messages: list[bytes]) -> list[bytes]:
    """The messages between those that begin and end a transaction.

    An empty transaction changes nothing. It takes the mutex of commits (nf_tables_valid_genid), so
    when it has ended, the events of all commits before it were sent.
    """
    ends = [
        build(_NONE, order, kind, NFNL_SUBSYS_NFTABLES, [])
        for kind in (NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END)
    ]
    return [ends[0], *messages, ends[1]]


# Answers


def generation_of(data: bytes, order: str) -> int | None:
    """The generation that the answer to GETGEN, or an event, states; None for another message."""
    for head in heads(data, order):
        if head.kind == NFT_MSG_NEWGEN:
            return _generation(data, head, order)
    return None


def _generation(data: bytes, head: Head, order: str) -> int | None:
    try:
        fields = to_dict(GENERATION, data, head.start + 20, head.end, order, 0)
    except DecodeError:
        return None
    generation: int | None = fields.get("NFTA_GEN_ID")
    return generation


def elements_requests(dump: bytes, order: str) -> list[bytes]:
    """The requests for the elements of each set in a dump of sets."""
    requests = []
    for head in heads(dump, order):
        if head.kind == NFT_MSG_NEWSET:
            found = scan(dump, head.start + 20, head.end, order, 0)
            names = [(n, dump[at:stop]) for n, at, stop in found if n in _NAMES]
            requests.append(build(_NAMES, order, NFT_MSG_GETSETELEM, 0, names, family=head.family))
    return requests


class Listing:
    """A listing in progress: `add` each dump, then `end` says whether it is consistent.

    All messages are checked at the end, because the listing must be faster than the next commit.
    """

    def __init__(self, order: str, generation: int) -> None:
        """`generation` is the answer to GETGEN before the first dump."""
        self._order, self._generation = order, generation
        self._dumps: list[bytes] = []

    def add(self, dump: bytes) -> bool:
        """Add the answer to a dump request; False if its first message shows a commit already."""
        self._dumps.append(dump)
        first = next(heads(dump, self._order), None)
        return first is None or self._agrees(first)

    def end(self, answer: bytes) -> bytes | None:
        """The messages, closed by the answer to another GETGEN; None if the ruleset changed.

        NLMSG_DONE and NLMSG_ERROR are left out. All requests must have had LISTING_SEQ, which says
        in a capture that the listing is complete.
        """
        if generation_of(answer, self._order) != self._generation:
            return None
        parts = []
        for dump in self._dumps:
            start = end = 0
            for head in heads(dump, self._order):
                if not self._agrees(head):
                    return None
                if head.start != end:
                    parts.append(dump[start:end])
                    start = head.start
                end = align(head.end)
            parts.append(dump[start:end])
        return b"".join([*parts, answer])

    def _agrees(self, head: Head) -> bool:
        interrupted = head.flags & NLM_F_DUMP_INTR
        return not interrupted and head.generation == self._generation & 0xFFFF


# Listings among events


def is_newer(generation: int, than: int) -> bool:
    """Whether a generation comes after another one; they are counted modulo 2^32."""
    return 0 < (generation - than) & 0xFFFFFFFF < 1 << 31


def place(events: bytes, order: str, generation: int) -> int | None:
    """Where in the events the ruleset had that generation: after the last change that is not newer.

    None: all changes are newer, or there is none.
    """
    at = None
    for head in heads(events, order):
        # as is_newer, by the 16 bits that entities have
        if head.kind != NFT_MSG_TRACE and (generation - head.generation) & 0xFFFF < 0x8000:
            at = align(head.end)
    return at


def newer(events: bytes, order: str, generation: int) -> bytes:
    """The events without the changes of the ruleset up to that generation."""
    limit = place(events, order, generation)
    if limit is None:
        return events
    kept, pos = [], 0
    for head in heads(events[:limit], order):
        if head.kind != NFT_MSG_TRACE:
            kept.append(events[pos : head.start])
            pos = align(head.end)
    return b"".join([*kept, events[pos:]])
