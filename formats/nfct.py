"""Conntrack: the messages of ctnetlink, and of nfacct beside it.

A message is nlmsghdr, nfgenmsg and attributes (`nfct_attributes`). An event (new, update, destroy)
or an entry of a listing becomes a FlowRecord, see `nfct_flow`, and so does an expectation;
statistics and nfacct objects become CounterRecords, see `nfct_counters`. Each message becomes its
record by itself. Requests, which captures of nlmon hold as well, have no record.

Sources: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c,
nfnetlink_acct.c; recordings of what Linux 6.18 sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pylog.errors import DecodeError
from pylog.formats import Message, NextSeq, netlink_stream
from pylog.formats.netlink import (
    NFGENMSG,
    NFNL_SUBSYS_ACCT,
    NFNL_SUBSYS_CTNETLINK,
    NFNL_SUBSYS_CTNETLINK_EXP,
    NLM_F_MULTI,
    NLM_F_REQUEST,
    align,
    to_dict,
)
from pylog.formats.netlink_stream import Layouts, NetlinkStream, name_of
from pylog.formats.nfct_attributes import (
    ACCT,
    ACCT_NEW,
    ACCT_OVERQUOTA,
    CT_DELETE,
    CT_NEW,
    CT_STATS,
    CT_STATS_CPU,
    EXP_DELETE,
    EXP_NEW,
    EXP_STATS_CPU,
    EXPECT,
    EXPECT_STATS_CPU,
    STATS,
    STATS_CPU,
    entry,
)
from pylog.formats.nfct_counters import object_fields, statistics_fields
from pylog.formats.nfct_fast import FastPath
from pylog.formats.nfct_flow import (
    AT_END_REASON,
    AT_EVENT,
    AT_EXTRA,
    AT_LAYOUT,
    AT_OBSERVED,
    AT_OFFSET,
    AT_RAW,
    AT_SOURCE,
    AT_TIMEOUT,
    FIELDS,
    Values,
    end_reason,
    event_of,
    expectation,
    flow,
)
from pylog.formats.nfct_requests import SEQ
from pylog.formats.plan import Plan
from pylog.record import CounterRecord, FlowRecord, Record, Row

if TYPE_CHECKING:
    from pylog.formats.scrub import Scrubber

NAME = "nfct"
SUBSYSTEM = (NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_CTNETLINK_EXP, NFNL_SUBSYS_ACCT)
LINKTYPES: tuple[int, ...] = ()
LOOKED_FOR = "netlink messages of conntrack (a chain of nlmsghdr with attributes that fill them)"

_nfgenmsg = Plan(NFGENMSG).unpack
_STATISTICS = {
    CT_STATS: (STATS, "conntrack"),
    CT_STATS_CPU: (STATS_CPU, "conntrack cpu {}"),
    EXP_STATS_CPU: (EXPECT_STATS_CPU, "conntrack expect cpu {}"),
}
"""The table of the attributes, and the name of the counter."""


class NfctStream(NetlinkStream):
    """Events of flows and entries of listings; see NetlinkStream."""

    source = "nfct"
    types = frozenset((CT_NEW, CT_DELETE, CT_STATS_CPU, CT_STATS, EXP_NEW, EXP_DELETE,
                       EXP_STATS_CPU, ACCT_NEW, ACCT_OVERQUOTA))  # fmt: skip
    noun = "conntrack message"
    skipped_flags = NLM_F_REQUEST
    marks = frozenset((CT_STATS,))

    def __init__(self, order: str) -> None:
        super().__init__(order)
        self.layout = name_of("ctnetlink", order)
        self._sign = SEQ.to_bytes(4)[:3] if order == ">" else SEQ.to_bytes(4, "little")[1:]

    @cached_property
    def _fast(self) -> FastPath:  # of the many streams that detection tries, few decode
        return FastPath(self, self.order)

    def notice(self, data: bytes) -> None:
        """Once pylog has marked a listing, flows are compared with it (nfct_living)."""
        self.grouped = self.grouped or self._sign in data

    def records(
        self,
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None = None,
    ) -> None:
        if numbers is not None and not numbers.unnumbered:  # no message has a number
            super().records(data, messages, raw, found, numbers)
        else:
            self._fast.records(data, messages, raw, found)

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start, end, origin = message.start, message.end, message.origin
        at = start + 20
        if end < at:
            raise self.error(start, "nfgenmsg", f"{max(0, end - start - 16)} bytes left", "4")
        _, kind, _, _, _ = self._header(data, start)
        if origin is not None and origin.cut > 0:
            end = self._complete_end(data, at, end)
        flaws: list[DecodeError] = []
        made: FlowRecord | CounterRecord
        if kind in (CT_NEW, CT_DELETE, EXP_NEW, EXP_DELETE):
            values = self._flow(data, start, end, flaws)
            values[AT_OBSERVED] = self.observed_ns if origin is None else origin.observed_ns
            values[AT_OFFSET] = None if self.live else self.base + start
            if raw:
                values[AT_RAW] = self.raw(data, message)
            made = FlowRecord(*values)
        else:
            fields = self._counter(data, start, end, flaws)
            made = CounterRecord(
                self.source, self.layout, None if self.live else self.base + start,
                observed_ns=self.observed_ns if origin is None else origin.observed_ns,
                raw=self.raw(data, message) if raw else None, **fields,
            )  # fmt: skip
        for flaw in flaws:
            self.flawed(start, flaw.field, flaw.found, flaw.expected)
        return made

    def _complete_end(self, data: bytes, at: int, end: int) -> int:
        """Where the last attribute ends that a capture kept completely."""
        while end - at >= 4:
            size, _ = self._attribute(data, at)
            if size < 4 or at + size > end:
                break
            at = min(at + align(size), end)
        return at

    def _flow(self, data: bytes, start: int, end: int, flaws: list[DecodeError]) -> Values:
        """The values of a flow's record, but those of its place."""
        _, kind, flags, _, portid = self._header(data, start)
        family, version, res_id = _nfgenmsg(data, start + 16)
        values: Values = [None] * len(FIELDS)
        values[AT_SOURCE], values[AT_LAYOUT] = self.source, self.layout
        values[AT_EVENT] = event_of(kind, flags)
        if kind in (EXP_NEW, EXP_DELETE):
            fields = to_dict(EXPECT, data, start + 20, end, self.order, self.base, flaws)
            expectation(values, fields, family)
        else:
            fields = entry(data, start + 20, end, self.order, self.base, flaws)
            flow(values, fields, family)
            if values[AT_EVENT] == "destroy":
                values[AT_END_REASON] = end_reason(portid, values[AT_TIMEOUT])
        more = _rest_of_header(version, res_id)
        if portid and values[AT_EVENT] != "dump":  # of an answer it is the program that asked
            more["nlmsg_pid"] = portid
        if more:
            values[AT_EXTRA] = (values[AT_EXTRA] or {}) | more
        return values

    def _counter(
        self, data: bytes, start: int, end: int, flaws: list[DecodeError]
    ) -> dict[str, Any]:
        """The fields of a counter's record, but those of its place."""
        _, kind, flags, _, _ = self._header(data, start)
        _, version, res_id = _nfgenmsg(data, start + 16)
        if kind in _STATISTICS:
            table, name = _STATISTICS[kind]
            fields = to_dict(table, data, start + 20, end, self.order, self.base, flaws)
            made = statistics_fields(fields, name.format(res_id))
            made["event"], res_id = "dump", 0 if "{}" in name else res_id
        else:
            fields = to_dict(ACCT, data, start + 20, end, self.order, self.base, flaws)
            made = object_fields(fields)
            made["event"] = "dump" if flags & NLM_F_MULTI else "quota"
        more = _rest_of_header(version, res_id)
        if more:
            made["extra"] = (made["extra"] or {}) | more
        return made


def _rest_of_header(version: int, res_id: int) -> dict[str, Any]:
    """What nfgenmsg says beside the family, for `extra`: mostly nothing."""
    return {name: n for name, n in (("version", version), ("res_id", res_id)) if n}


STREAM = NfctStream
_layouts = Layouts("ctnetlink", NfctStream)
stream, layout_names, cut = _layouts.stream, _layouts.layout_names, _layouts.cut
probe, resumes, resume = _layouts.probe, _layouts.resumes, _layouts.resume
capture, described = netlink_stream.capture, netlink_stream.described


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """Never asked: formats.mixed owns the link types."""
    raise TypeError("packets of conntrack have the link type of netlink")


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """None: no message of conntrack names an interface."""
    return {}


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """See nfct_scrub."""
    from pylog.formats import nfct_scrub  # only here: reading does not need it

    return nfct_scrub.scrub(message, layout, scrubber)
