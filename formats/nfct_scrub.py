"""Conntrack's messages without what identifies hosts and users, for logs that will be published.

Addresses in all tuples are replaced, those of the flow, of its reply, of its master and of NAT, by
the same ones as in NFLOG packets of the same log, and nfacct objects get other names. Masks, ports,
marks, labels, ids, times and the names of helpers stay. Security contexts become empty, and what no
table explains becomes zeros.
"""

from __future__ import annotations

from pylog.formats.netlink import NLA_TYPE_MASK, Table, align, nlattr
from pylog.formats.netlink_scrub import scrubbed
from pylog.formats.netlink_stream import order_of
from pylog.formats.nfct_attributes import (
    ACCT,
    ACCT_NEW,
    ACCT_OVERQUOTA,
    CT_DELETE,
    CT_NEW,
    CT_STATS,
    CT_STATS_CPU,
    CTA,
    EXP_DELETE,
    EXP_NEW,
    EXP_STATS_CPU,
    EXPECT,
    EXPECT_STATS_CPU,
    STATS,
    STATS_CPU,
)
from pylog.formats.plan import BYTEORDER
from pylog.formats.scrub import Scrubber

_TABLES: dict[int, Table] = {
    CT_NEW: CTA, CT_DELETE: CTA, CT_STATS_CPU: STATS_CPU, CT_STATS: STATS, EXP_NEW: EXPECT,
    EXP_DELETE: EXPECT, EXP_STATS_CPU: EXPECT_STATS_CPU, ACCT_NEW: ACCT, ACCT_OVERQUOTA: ACCT,
}  # fmt: skip
"""The table of a message's attributes by nlmsg_type."""


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """The message of `Stream.raw` without addresses.

    Unknown attributes, padding, and what follows a length that does not fit become zeros. The last
    attribute may be cut off.
    """
    order = order_of(layout)
    end = min(len(message), int.from_bytes(message[:4], BYTEORDER[order]))
    table = _TABLES.get(int.from_bytes(message[4:6], BYTEORDER[order]), {})
    out = bytearray(message[:20].ljust(len(message), b"\0"))
    at = 20
    while end - at >= 4:
        size, kind = nlattr[order](message, at)
        if size < 4:
            break
        out[at : at + 4] = message[at : at + 4]
        attribute = table.get(kind & NLA_TYPE_MASK)
        if attribute is not None:
            stop = min(at + size, end)
            out[at + 4 : stop] = scrubbed(attribute, message[at + 4 : stop], order, scrubber)
        at += align(size)
    return bytes(out)
