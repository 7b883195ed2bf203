"""nftables: changes of the ruleset (NFNLGRP_NFTABLES) and steps of packets (NFNLGRP_NFTRACE).

A message is nlmsghdr, nfgenmsg and attributes (`nft_attributes`). Each message becomes one record:
of an entity that was made, changed or deleted (`nft_entities`), of a commit (NEWGEN), or of a
packet's step (`nft_trace`). A message about an entity does not say which commit it belongs to and
who made it: the NEWGEN at the end of the commit does, see `nft_commits`.

Sources: linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c; recordings of what Linux 6.18
sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pylog.formats import Message, netlink_stream, nft_entities, nft_trace
from pylog.formats.netlink import NFGENMSG, NFNL_SUBSYS_NFTABLES, align
from pylog.formats.netlink_stream import Layouts, NetlinkStream, name_of
from pylog.formats.nft_attributes import NFT_MSG_TRACE
from pylog.formats.nft_read import Parsing, Place
from pylog.formats.plan import Plan
from pylog.record import Record, RulesetRecord, TraceRecord

if TYPE_CHECKING:
    from pylog.formats.scrub import Scrubber

NAME = "nftables"
SUBSYSTEM = NFNL_SUBSYS_NFTABLES
LINKTYPES: tuple[int, ...] = ()
LOOKED_FOR = "netlink messages of nftables (a chain of nlmsghdr with attributes that fill them)"

_nfgenmsg = Plan(NFGENMSG).unpack
_ELEMENTS = 3
"""NFTA_SET_ELEM_LIST_ELEMENTS."""


class NftStream(NetlinkStream):
    """Messages about the ruleset, its generations, and packets that pass it; see NetlinkStream."""

    source = "nftables"
    types = frozenset((*nft_entities.KINDS, NFT_MSG_TRACE))
    noun = "nftables message"
    grouped = True

    def __init__(self, order: str) -> None:
        super().__init__(order)
        self.layout = name_of("nft", order)
        self._alike = b"\0"
        """The bytes of a message about an element, from nlmsg_type up to the list of elements."""
        self._alike_values: list[Any] = []
        """The values of that message's record, without elements."""

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        start, end, origin = message.start, message.end, message.origin
        if data.startswith(self._alike, start + 4) and not (raw or origin):
            record = self._of_same_set(data, start, end)
            if record is not None:
                return record
        at = start + 16
        if end - at < 4:
            raise self.error(start, "nfgenmsg", f"{end - at} bytes left", "4")
        _, kind, flags, _, portid = self._header(data, start)
        family, version, _ = _nfgenmsg(data, at)
        cut = origin is not None and origin.cut > 0
        parsing = Parsing(data, self.order, self.base, [], cut)
        values: list[Any]
        places: Any
        if kind == NFT_MSG_TRACE:
            values = nft_trace.step(parsing, at + 4, end, family, self.interface_name)
            places = nft_trace
        else:
            header = nft_entities.Header(kind, flags, portid, family)
            values = nft_entities.entity(parsing, at + 4, end, header)
            places = nft_entities
        for flaw in parsing.flaws:
            self.flawed(start, flaw.field, flaw.found, flaw.expected)
        if version:
            values[places.AT_EXTRA] = (values[places.AT_EXTRA] or {}) | {"version": version}
        values[places.AT_SOURCE], values[places.AT_LAYOUT] = "nftables", self.layout
        values[places.AT_OBSERVED] = self.observed_ns if origin is None else origin.observed_ns
        if not self.live:
            values[places.AT_OFFSET] = self.base + start
        if raw:
            values[places.AT_RAW] = self.raw(data, message)
        if kind == NFT_MSG_TRACE:
            return TraceRecord(*values)
        record = RulesetRecord(*values)
        if record.elements and len(record.elements) == 1 and not (raw or origin):
            self._remember(data, start, end, values)
        return record

    def _remember(self, data: bytes, start: int, end: int, values: list[Any]) -> None:
        """Remember the message, if its list of elements is the last of its attributes."""
        at = start + 20
        while end - at >= 8:
            size, number = self._attribute(data, at)
            if number == _ELEMENTS:
                if at + size == end and values[nft_entities.AT_EXTRA] is None:
                    self._alike, self._alike_values = data[start + 4 : at], values
                return
            at += align(size)

    def _of_same_set(self, data: bytes, start: int, end: int) -> Record | None:
        """The record of a message that begins as the one that is remembered; None: it has not only
        a key.
        """
        at = start + 4 + len(self._alike)
        if end - at < 4:
            return None
        size, number = self._attribute(data, at)
        if number != _ELEMENTS or at + size != end:
            return None
        element = nft_entities.only_key(data, Place(at + 4, end), self.order)
        if not element:
            return None
        values = self._alike_values.copy()
        values[nft_entities.AT_ELEMENTS] = element
        values[nft_entities.AT_OBSERVED] = self.observed_ns
        values[nft_entities.AT_OFFSET] = None if self.live else self.base + start
        return RulesetRecord(*values)


STREAM = NftStream
_layouts = Layouts("nft", NftStream)
stream, layout_names, cut = _layouts.stream, _layouts.layout_names, _layouts.cut
probe, resumes, resume = _layouts.probe, _layouts.resumes, _layouts.resume
capture, described = netlink_stream.capture, netlink_stream.described
interface_numbers = nft_trace.interface_numbers


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """Never asked: formats.mixed owns the link types."""
    raise TypeError("packets of nftables have the link type of netlink")


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """See nft_scrub."""
    from pylog.formats import nft_scrub  # only here: reading does not need it

    return nft_scrub.scrub(message, layout, scrubber)
