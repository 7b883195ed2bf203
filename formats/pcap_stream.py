"""Capture files as a stream of messages: what the blocks and packets of pcap and pcapng hold.

Each packet goes to the format of its link type, which finds its messages in it: NFLOG 239, NETLINK
253 (or Linux cooked, 113 and 276), IPFILTER 116. Losses are epb_dropcount, pylog's own notes and,
at the end of a section, what an interface's statistics report in total. Packets of other link types
and unknown blocks are counted in `other`. Where blocks begin and end is in formats.pcap_framing,
their layout in formats.pcap_blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from copy import copy
from itertools import groupby
from operator import attrgetter
from struct import Struct as CStruct

import msgspec

from pylog.errors import DecodeError
from pylog.formats import (
    MAXIMUM_COUNT,
    Damage,
    Dropped,
    DroppedInAll,
    Flaw,
    InterfaceNames,
    Item,
    Message,
    NewSection,
    NextSeq,
    Reported,
    Stream,
)
from pylog.formats.pcap_blocks import (
    EPB,
    EPB_DROPCOUNT,
    IDB,
    ISB,
    ISB_IFDROP,
    ISB_OSDROP,
    MAGICS,
    MAXIMUM_BLOCK,
    MAXIMUM_OCTETS,
    OCTETS,
    OPT_COMMENT,
    PACKETS,
    SPB,
    Magic,
    Note,
    note,
    plans,
    section_host,
)
from pylog.formats.pcap_damage import FILE_NEEDLE, FILES, file_at
from pylog.formats.pcap_framing import CaptureFraming
from pylog.formats.pcap_inner import InnerStreams
from pylog.formats.pcap_interfaces import MAXIMUM, Interface, Origin, options, read_interface
from pylog.formats.plan import BYTEORDER
from pylog.formats.registry import registered
from pylog.record import Record, Row

DROPS = {ISB_IFDROP: "isb_ifdrop", ISB_OSDROP: "isb_osdrop"}
"""The counts of an interface's statistics that are losses."""


class PcapStream(CaptureFraming):
    """The messages in a capture file, pcap or pcapng.

    linktypes   how many packets there were of each link type
    """

    source = "capture"
    columns_module = "pylog.formats.columns.pcap"

    def __init__(self, layout: str | None = None, named: bool = False) -> None:
        """`layout` and `named` as for InnerStreams."""
        super().__init__(InnerStreams(layout, named))
        self.linktypes: Counter[int] = Counter()

    def clone(self) -> PcapStream:
        other = copy(self)
        other.interfaces = [copy(interface) for interface in self.interfaces]
        other.linktypes, other.inner = Counter(), self.inner.clone()
        other._names = copy(self._names)
        return other

    @property
    def grouped(self) -> bool:  # type: ignore[override]
        """As Stream.grouped, of the packets so far."""
        return self.inner.grouped

    @property
    def layouts(self) -> list[str]:
        return self.inner.layouts

    def split(self, data: bytes, final: bool) -> list[Item]:
        items = super().split(data, final)
        if final:
            self._end_section(items)
        return items

    # Blocks

    def plain(self, data: bytes, pos: int, items: list[Item]) -> int:
        if self.container == "pcapng":
            return self._plain_blocks(data, pos, items)
        return self._plain_packets(data, pos, items) if self._is_pcap else pos

    def _plain_blocks(self, data: bytes, pos: int, items: list[Item]) -> int:
        """Take enhanced packets without options, from `pos` on."""
        plan, end_of = plans(self.order)["enhanced packet"], CStruct(f"{self.order}I").unpack_from
        unpack, head, interfaces = plan.unpack, plan.size, self.interfaces
        last = len(data) - head
        while pos <= last:
            kind, size, number, high, low, caplen, length = unpack(data, pos)
            at, end = pos + head, pos + size
            if kind != EPB or number >= len(interfaces) or end > len(data):
                break
            if size != head + (caplen + 3 & ~3) + 4 or size > MAXIMUM_BLOCK:
                break
            if end_of(data, end - 4)[0] != size or interfaces[number].refused:
                break
            self._accept_packet(
                data, at, at + caplen, interfaces[number], high << 32 | low, length, items
            )
            pos = end
        return pos

    def _plain_packets(self, data: bytes, pos: int, items: list[Item]) -> int:
        """Take packets of pcap, from `pos` on."""
        (interface,), unpack, head = self.interfaces, self._packet, self._packet_size
        limit, units, last = interface.longest, interface.units, len(data) - head
        while pos <= last:
            sec, fraction, caplen, length, *_ = unpack(data, pos)
            at = pos + head
            end = at + caplen
            if not 0 < caplen <= limit or fraction >= units or end > len(data):
                break
            if data[pos : pos + 4] in MAGICS:
                break
            self._accept_packet(data, at, end, interface, sec * units + fraction, length, items)
            pos = end
        return pos

    def accept(self, data: bytes, start: int, end: int, items: list[Item]) -> None:
        if data[start : start + 4] in MAGICS and (magic := file_at(data, start)) is not None:
            self._accept_beginning(magic, data, start, end, items)
            return
        if self._is_pcap:
            sec, fraction, _, size, *_ = self._packet(data, start)
            interface = self.interfaces[0]
            ticks: int | None = sec * interface.units + fraction
            if fraction >= interface.units:
                ticks = None
                self._flaw(start + 4, "fraction of a second", fraction,
                           f"below {interface.units}", interface, items)  # fmt: skip
            at = start + self._packet_size
            self._accept_packet(data, at, end, interface, ticks, size, items)
            return
        kind = self._header(data, start)[0]
        try:
            if kind == IDB:
                self._accept_interface(data, start, end)
            elif kind in PACKETS:
                self._accept_block(kind, data, start, end, items)
            elif kind == ISB:
                self._accept_statistics(data, start, end, items)
            else:
                self.other += 1
        except DecodeError as error:  # of this block alone: its frame shows where it ends
            self._damage(items, start, end, error)

    def _damage(
        self, items: list[Item], start: int, end: int, error: DecodeError,
        origin: Origin | None = None,
    ) -> None:  # fmt: skip
        # a traceback would keep this frame, and so the data, alive
        error = error.with_traceback(None)
        items.append(Damage(self.base + start, end - start, error, origin))

    def _accept_beginning(
        self, magic: Magic, data: bytes, start: int, end: int, items: list[Item]
    ) -> None:
        """Take the header of a pcap file or of a section of pcapng."""
        if magic.container == "pcapng":
            major = plans(magic.order)["section"].unpack(data, start)[3]
            if major != 1:
                self._end_section(items)
                self.interfaces, self.needle, self.needle_size = [], FILES, FILE_NEEDLE
                raise self.error(start + 12, "version_major", major, 1)
        if self.container:
            self._end_section(items)
            items.append(NewSection())
        is_section = magic.container == "pcapng"
        self._host = self._host_of(magic.order, data, start, end) if is_section else None
        self._begin(magic, data, start)

    def _host_of(self, order: str, data: bytes, start: int, end: int) -> str | None:
        """The machine that the section header data[start:end] names, if pylog wrote it."""
        first = start + plans(order)["section"].size
        try:
            for code, at, stop in options(data, first, end - 4, order, self.base):
                if code == OPT_COMMENT and (host := section_host(data[at:stop])) is not None:
                    return host
        except DecodeError:  # the section can be read all the same
            pass
        return None

    def _note(self, data: bytes, start: int, end: int, items: list[Item]) -> Note | None:
        """The note of pylog in the comment data[start:end]; a loss that it reports is an item.

        An impossible number is damage, and then the note does not count at all: a file may claim
        anything, even a negative loss that cancels others.
        """
        own = note(data[start:end])
        if own is None:
            return None
        impossible = own.impossible()
        if impossible is not None:
            name, value, expected = impossible
            error = self.error(start, f"{name} in a comment", value, expected)
            self._damage(items, start, end, error)
            return None
        loss = own.loss()
        if loss is not None:
            interface = None
            if own.interface is not None and own.interface < len(self.interfaces):
                interface = self.interfaces[own.interface]
                interface.reported += loss.count or 0
            number = None if interface is None else interface.number
            items.append(Reported(self.base + start, loss, number))
        elif own.octets and items and isinstance(items[-1], Reported):
            before = items[-1].loss
            size = len(before.raw or b"")
            if size and size % OCTETS == 0 and size < MAXIMUM_OCTETS:
                raw = (before.raw or b"") + (own.damaged() or b"")
                items[-1].loss = msgspec.structs.replace(before, raw=raw)
        return own

    def _count(self, data: bytes, start: int, end: int, name: str, items: list[Item]) -> int:
        """The 64-bit count in data[start:end]; 0 for an impossible one, which is damage."""
        count = int.from_bytes(data[start:end], BYTEORDER[self.order])
        if count <= MAXIMUM_COUNT:
            return count
        error = self.error(start, name, count, f"0 to {MAXIMUM_COUNT}")
        self._damage(items, start, end, error)
        return 0

    def _accept_interface(self, data: bytes, start: int, end: int) -> None:
        if len(self.interfaces) >= MAXIMUM:
            raise self.error(start, "interface", len(self.interfaces), f"below {MAXIMUM}")
        try:
            interface = read_interface(data, start, end, self.order, self.base, self._declared)
        except DecodeError as error:
            self._declare(self._refused(error.reason))
            raise
        if self._unsure:
            interface = self._refused("another one may have been lost before it")
        self._declare(interface)

    def _accept_statistics(self, data: bytes, start: int, end: int, items: list[Item]) -> None:
        plan = plans(self.order)["statistics"]
        if end - start < plan.size + 4:
            raise self.error(start, "statistics block", f"{end - start} bytes", plan.size + 4)
        number = plan.unpack(data, start)[2]
        counts, order = dict.fromkeys(DROPS, 0), self.order
        for code, first, last in options(data, start + plan.size, end - 4, order, self.base):
            if code == OPT_COMMENT:
                own = self._note(data, first, last, items)
                if own is not None and own.lost and own.source is None:
                    of = self.interfaces[number].number if number < len(self.interfaces) else None
                    items.append(Dropped(self.base + start, own.count, own.lost, of))
            elif code in counts and last - first == 8:
                counts[code] = self._count(data, first, last, DROPS[code], items)
        if number < len(self.interfaces):
            ifdrop, osdrop = counts.values()
            self.interfaces[number].dropped = self.base + start, ifdrop, osdrop
        self.other += 1

    def _end_section(self, items: list[Item]) -> None:
        """Report what each interface dropped in total, by its last statistics."""
        for interface in self.interfaces:
            if interface.dropped is None:
                continue
            offset, ifdrop, osdrop = interface.dropped
            interface.dropped = None
            module = registered().by_linktype.get(interface.linktype)
            if ifdrop + osdrop and module is not None and self._is_read(interface):
                stream = interface.stream or self.inner.of_linktype(interface.linktype)
                items.append(
                    DroppedInAll(
                        offset, ifdrop + osdrop,
                        f"the interface's statistics: {ifdrop} dropped by the interface,"
                        f" {osdrop} by the system", interface.number,
                        None if stream is None else stream.source,
                        None if stream is None else stream.layout,
                    )
                )  # fmt: skip

    def _accept_block(
        self, kind: int, data: bytes, start: int, end: int, items: list[Item]
    ) -> None:
        name = PACKETS[kind]
        plan = plans(self.order)[name]
        if end - start < plan.size + 4:
            raise self.error(start, f"{name} block", f"{end - start} bytes", plan.size + 4)
        f = dict(zip(plan.names, plan.unpack(data, start), strict=True))
        number = f.get("interface", 0)
        if number >= len(self.interfaces):
            raise self.error(start + 8, "interface", number, f"below {len(self.interfaces)}")
        interface = self.interfaces[number]
        if interface.refused:
            raise self.error(
                start + 8, "interface", f"{number}, which was refused ({interface.refused})",
                "one that can be read",
            )  # fmt: skip
        at = start + plan.size
        snaplen = interface.snaplen or f["len"]
        caplen = f.get("caplen", min(f["len"], snaplen, end - 4 - at))
        if at + caplen > end - 4:
            raise self.error(start, "captured length", caplen, f"at most {end - 4 - at}")
        ticks = f["high"] << 32 | f["low"] if "high" in f else None
        lost = f.get("drops", 0)
        lost = 0 if lost == 0xFFFF else lost
        first_option = at + (caplen + 3 & ~3)
        observed_ns = error = process = None
        try:
            for code, first, last in options(
                data, first_option, end - 4 if kind != SPB else 0, self.order, self.base
            ):
                if code == EPB_DROPCOUNT and kind == EPB and last - first == 8:
                    lost = self._count(data, first, last, "epb_dropcount", items)
                elif code == OPT_COMMENT:
                    own = self._note(data, first, last, items)
                    if own is None:
                        continue
                    if own.interfaces:
                        kept = (other.names for other in self.interfaces)
                        forgotten = self._names.add(own.interfaces, kept)
                        items.append(InterfaceNames(interface.names, own.interfaces, forgotten))
                    if own.tells_process:
                        process = own
                    if own.lost is None:
                        observed_ns = own.observed if own.observed is not None else observed_ns
                    elif own.source is None:
                        items.append(Dropped(self.base + start, None, own.lost, interface.number))
        except DecodeError as wrong:  # the packet itself is intact
            error = wrong
        if lost and self._is_read(interface):
            # pylog writes notes for itself and the count for other programs: the count includes
            # what the notes report
            interface.claimed += lost
            lost = interface.claimed - interface.reported
            if lost > 0:
                interface.reported += lost
                reason = "reported by the capture file"
                items.append(Dropped(self.base + start, lost, reason, interface.number))
        before = len(items)
        self._accept_packet(data, at, at + caplen, interface, ticks, f["len"], items)
        for item in items[before:] if observed_ns is not None or process is not None else ():
            if isinstance(item, Message | Damage) and item.origin is not None:
                item.origin.process = process
                if observed_ns is not None and interface.observed:
                    item.origin.observed_ns = observed_ns
        if error is not None:
            self._damage(items, first_option, end - 4, error)

    def _accept_packet(
        self, data: bytes, start: int, end: int, interface: Interface, ticks: int | None,
        length: int, items: list[Item],
    ) -> None:  # fmt: skip
        """Take the packet data[start:end], of `length` bytes before it was captured."""
        linktype = interface.linktype
        self.linktypes[linktype] += 1
        module = registered().by_linktype.get(linktype)
        if module is None:
            self.other += 1
            return
        if start == end:
            if not self._is_read(interface):
                self.other += 1
                return
            reason = f"nothing was captured of a packet of {length} bytes"
            items.append(Dropped(self.base + start, None, reason, interface.number))
            return
        before = len(items)
        origin = None
        try:
            stream = interface.stream or self.inner.of_packet(
                module, data, start, end, interface, self.base
            )
            observed_ns = interface.observed_ns(ticks)
            if observed_ns is None and ticks is not None and interface.observed:
                self._flaw(start, "time of capture", f"{ticks} ticks of 1/{interface.units} s",
                           "a time from 1970 to 9999", interface, items)  # fmt: skip
            cut = length - end + start
            origin = Origin(
                linktype, stream, interface.number, interface.names, observed_ns,
                cut if cut > 0 else 0,
            )  # fmt: skip
            if linktype in stream.one_message_linktypes:
                items.append(Message(start, end, origin))
                return
            stream.base = self.base
            other, foreign = stream.other, stream.foreign
            stream.captured(data, start, end, origin, items)
            self.other += stream.other - other
            if stream.foreign > foreign:
                self.foreign += 1
                self.other += 1
        except DecodeError as error:
            at = items[-1].end if len(items) > before and isinstance(items[-1], Message) else start
            self._damage(items, at, end, error, origin)

    def _flaw(
        self, pos: int, field: str, found: object, expected: str, interface: Interface,
        items: list[Item],
    ) -> None:  # fmt: skip
        """Report a value that the next message lacks, if the packet is of a format."""
        if self._is_read(interface):
            items.append(Flaw(self.base + pos, self.error(pos, field, found, expected)))

    def _is_read(self, interface: Interface) -> bool:
        """Whether a format reads the packets of the interface."""
        module = registered().by_linktype.get(interface.linktype)
        if module is None or not getattr(module, "PARTLY", False):
            return module is not None
        return self.inner.named(module, interface) is not None

    # Messages

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        return self._inner_of(message.origin).decode(data, message, raw)

    def records(
        self,
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None = None,
    ) -> None:
        for _, alike in groupby(messages, _decoder):
            run = list(alike)
            before, origin = len(found), run[0].origin
            own = None if numbers is None else numbers.of(origin.interface)
            self._inner_of(origin).records(data, run, raw, found, own)
            if len(found) < before + len(run):
                return

    def _inner_of(self, origin: Origin) -> Stream:
        """The stream of the message's format, set up to decode it."""
        inner, names = origin.stream, origin.names
        inner.base, inner.live = self.base, self.live
        inner.rows, inner.wants_payload = self.rows, self.wants_payload
        inner.lenient, inner.deciding = self.lenient, self.deciding
        inner.interface_name = (lambda index: names.get(index, index)) if names else int
        return inner

    def raw(self, data: bytes, message: Message) -> bytes:
        inner: Stream = message.origin.stream
        return inner.raw(data, message)

    def complete(self, data: bytes, message: Message) -> bytes:
        inner: Stream = message.origin.stream
        inner.base = self.base
        return inner.complete(data, message)


_decoder = attrgetter("origin.stream", "origin.interface")
"""Messages that agree in this are decoded together."""
