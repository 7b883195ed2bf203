"""Capture files: pcap (both byte orders, micro- and nanoseconds, "modified") and pcapng.

`PcapStream` reads the blocks and hands the packets to the format of their link type, which finds
its messages in them: NFLOG 239, NETLINK 253 (or Linux cooked, 113 and 276), IPFILTER 116. A pcapng
interface of IPFILTER names the layout of its records in if_description. Losses are epb_dropcount
and, in all, what an interface's statistics say. Packets of other link types and unknown blocks are
counted in `other`. Blocks are in `formats.pcap_blocks`, interfaces in `formats.pcap_interfaces`,
and what damage is searched for in `formats.pcap_damage`.

A block of pcapng whose length stands at both its ends is stepped over whatever it holds: its
content costs itself alone. A file may follow another one, where a packet or block could begin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from copy import copy
from functools import partial
from itertools import groupby
from operator import attrgetter
from struct import Struct as CStruct

import msgspec

from pylog.errors import DecodeError
from pylog.formats import (
    HEAD,
    MAXIMUM_COUNT,
    CapturedFormat,
    Damage,
    Dropped,
    DroppedInAll,
    Flaw,
    Guess,
    InterfaceNames,
    Item,
    Message,
    NamesKept,
    NewSection,
    NextSeq,
    Reported,
    Stream,
    cut_off,
)
from pylog.formats.pcap_blocks import (
    BYTE_ORDER_MAGIC,
    EPB,
    EPB_DROPCOUNT,
    IDB,
    ISB,
    ISB_IFDROP,
    ISB_OSDROP,
    LOCAL_USE,
    MAGICS,
    MAXIMUM_BLOCK,
    MAXIMUM_OCTETS,
    OCTETS,
    OPT_COMMENT,
    PACKETS,
    PASSED_OVER,
    READ,
    SHB,
    SPB,
    Magic,
    Note,
    linktype_text,
    linktypes_text,
    magic_of,
    note,
    plans,
    refused_text,
    section_host,
)
from pylog.formats.pcap_damage import (
    FILE_NEEDLE,
    FILES,
    PACKET_NEEDLE,
    block_needle,
    file_at,
    is_cut,
    packet_needle,
)
from pylog.formats.pcap_interfaces import (
    MAXIMUM,
    REFUSED,
    Interface,
    Origin,
    options,
    read_interface,
)
from pylog.formats.plan import BYTEORDER
from pylog.formats.registry import registered
from pylog.memo import Bounded
from pylog.record import Record, Row

NAME = "pcap"
LINKTYPES: tuple[int, ...] = ()
LOOKED_FOR = "pcap or pcapng (their magic)"

MAXIMUM_LAYOUTS = 64
"""No more layouts are read in one file."""

DROPS = {ISB_IFDROP: "isb_ifdrop", ISB_OSDROP: "isb_osdrop"}
"""The counts of an interface's statistics that are losses."""

MAGIC_SIZE = 24
"""Bytes of the head of a pcap file."""


class PcapStream(Stream):
    """The messages in a capture file, pcap or pcapng.

    layout   for packets of LINKTYPE_IPFILTER whose interface does not name their layout; `named`:
             for the others too
    """

    source = "capture"
    columns_module = "pylog.formats.columns.pcap"

    def __init__(self, inner_layout: str | None = None, named: bool = False) -> None:
        super().__init__()
        self.container = ""
        self.order = "<"
        self.head = ""
        """The plan of what begins a packet of pcap."""
        self.interfaces: list[Interface] = []
        """Of the section; a packet names its own by the place in this list."""
        self.linktypes: Counter[int] = Counter()
        """How many packets there were of each link type."""
        self.undetermined: set[int] = set()
        """Link types of packets whose layout nothing tells, so that they were damage."""
        self._declared = 0
        """How many interfaces there were in the file."""
        self.hosts: Bounded[int, str] = Bounded()
        self._host: str | None = None
        """The machine that logged the section."""
        self._unsure = False
        """Whether an interface of the section may have been lost, and those after it shifted."""
        self._damaged = self._before = b""
        """The first bytes of the damage, as many as a block's head has; the last ones so far."""
        self.skipping: tuple[int, int, bytes] | None = None
        """Of a long block that is not read: its offset, its end, and its last bytes so far."""
        self._names = NamesKept()
        self._inner_layout = inner_layout
        self._named = named
        self._inner: dict[tuple[int, str], Stream] = {}

    def clone(self) -> PcapStream:
        """Another stream, in the same state, to look ahead with."""
        other = copy(self)
        other.interfaces = [copy(interface) for interface in self.interfaces]
        other.linktypes, other._inner = Counter(), dict(self._inner)
        other._names = copy(self._names)
        return other

    @property
    def layouts(self) -> list[str]:
        """The layouts of the messages so far."""
        layouts = [layout for stream in self._inner.values() for layout in stream.layouts]
        return list(dict.fromkeys(layouts))

    # Framing

    def split(self, data: bytes, final: bool) -> list[Item]:
        items: list[Item] = []
        skipped = self._skip(data, final, items) if self.skipping is not None else 0
        if skipped:
            self.base += self.used
            self.used = skipped
            if self.skipping is not None:
                return items
            items += super().split(data[skipped:], final)
            self.base -= skipped
            self.used += skipped
            for item in items:
                if isinstance(item, Message):
                    item.start += skipped
                    item.end += skipped
        else:
            items += super().split(data, final)
        if final:
            self._end_section(items)
        return items

    def measure(self, data: bytes, pos: int) -> int:
        if not self.container or data[pos : pos + 4] in MAGICS:
            if pos + MAGIC_SIZE > len(data):
                return pos + MAGIC_SIZE
            magic = file_at(data, pos)
            if magic is not None:
                is_pcap = magic.container == "pcap"
                return pos + MAGIC_SIZE if is_pcap else self._measure_block(data, pos)
            if not self.container:
                raise self._no_file(data, pos)
        return self._measure_packet(data, pos) if self._is_pcap else self._measure_block(data, pos)

    def _no_file(self, data: bytes, pos: int) -> DecodeError:
        """Why no capture file begins at `pos`."""
        if (magic := magic_of(data[pos : pos + 12])) is not None:
            major = plans(magic.order)["pcap"].unpack(data, pos)[1]
            return self.error(pos + 4, "version_major", major, 2)
        found = data[pos : pos + 4].hex(" ")
        return self.error(pos, "magic", found, "that of pcap or pcapng")

    @property
    def _is_pcap(self) -> bool:
        return self.container == "pcap"

    def _begin(self, magic: Magic, data: bytes, pos: int) -> None:
        """A file or section begins at `pos`: learn its container, byte order and interface."""
        order = magic.order
        self.container, self.head, self.order = magic.container, magic.head, order
        self._header = plans(order)["block"].unpack
        self._unsure, self.interfaces, self._names = False, [], NamesKept()
        if self._is_pcap:
            packet = plans(order)[magic.head]
            self._packet, self._packet_size = packet.unpack, packet.size
            *_, snaplen, network = plans(order)["pcap"].unpack(data, pos)
            interface = Interface(self._declared, network & 0xFFFF, snaplen, units=magic.units)
            self._declare(interface)
            module = registered().by_linktype.get(interface.linktype)
            inner = None if module is None else self.named_stream(module, interface)
            self.needle = packet_needle(interface, order, packet.size, inner)
            self.needle_size = packet.size + PACKET_NEEDLE
        else:
            self.needle, self.needle_size = block_needle(order), FILE_NEEDLE

    def _measure_packet(self, data: bytes, pos: int) -> int:
        size = self._packet_size
        if pos + size > len(data):
            return pos + size
        _, fraction, caplen, *_ = self._packet(data, pos)
        interface = self.interfaces[0]
        limit = interface.longest
        if caplen > limit:
            raise self.error(pos + 8, "caplen", caplen, f"at most {limit}")
        if not caplen and not any(data[pos : pos + size]):
            raise self.error(pos, "packet header", f"{size} zero bytes", "a time and a length")
        end = pos + size + int(caplen)
        if fraction >= interface.units and end <= len(data):  # a bad time, or no packet
            packet = self.damage is None and self._is_packet(data, pos + size, end)
            if not packet:
                raise self.error(
                    pos + 4, "fraction of a second", fraction, f"below {interface.units}"
                )
        return end

    def _measure_block(self, data: bytes, pos: int) -> int:
        if pos + 12 > len(data):
            return pos + 12
        order = self.order
        if data.startswith(SHB.to_bytes(4), pos):  # the section may have another byte order
            magic = magic_of(data[pos : pos + 12])
            if magic is None:
                raise self.error(pos + 8, "byte-order magic", data[pos + 8 : pos + 12].hex(" "),
                                 f"{BYTE_ORDER_MAGIC:#x}")  # fmt: skip
            order = magic.order
        kind, size = plans(order)["block"].unpack(data, pos)
        is_long = kind in PASSED_OVER or kind in LOCAL_USE
        most = 0xFFFFFFFF if is_long else MAXIMUM_BLOCK
        if not 12 <= size <= most:
            raise self.error(pos + 4, "block length", size, f"12 to {most}")
        # Some writers leave the padding out of the length, but not out of the file.
        end = pos + (int(size) + 3 & ~3)
        if end <= len(data):
            again = int.from_bytes(data[end - 4 : end], BYTEORDER[order])
            if again != size:
                raise self.error(end - 4, "block length at its end", again, size)
        elif end - pos > MAXIMUM_BLOCK and self.damage is None and not self.final:
            self.skipping = (self.base + pos, self.base + end, b"")
        return end

    def _skip(self, data: bytes, final: bool, items: list[Item]) -> int:
        """Pass over a long block that is not read; how many bytes of the data are its own."""
        assert self.skipping is not None
        start, end, tail = self.skipping
        at = self.base + self.used
        count = min(end - at, len(data))
        tail = (tail + data[max(0, count - 4) : count])[-4:]
        self.skipping = (start, end, tail)
        if count == end - at or final:
            self.skipping = None
            size = int.from_bytes(tail, BYTEORDER[self.order])
            if at + count < end:
                error = DecodeError("message", f"cut off after {at + count - start} bytes",
                                    f"at least {end - start}", start)  # fmt: skip
                items.append(Damage(start, at + count - start, error))
            elif end - 3 <= start + size <= end:
                self.other += 1
            else:
                error = DecodeError("block length at its end", size, end - start, end - 4)
                items.append(Damage(start, end - start, error))
        return count

    def is_cut(self, data: bytes, pos: int) -> bool:
        """As Stream.is_cut: the lengths of the packet at `pos` fit each other.

        In pcap its length before it was captured bounds caplen. In pcapng the block has room for
        caplen bytes, and what follows them are options.
        """
        if self._is_pcap:
            if pos + self._packet_size > len(data):
                return True
            _, _, caplen, length, *_ = self._packet(data, pos)
            return bool(caplen <= length)
        return is_cut(data, pos, self.order)

    def begins(self, data: bytes, pos: int, final: bool) -> bool | None:
        if data[pos : pos + 4] in MAGICS and (
            pos + MAGIC_SIZE > len(data) or file_at(data, pos) is not None
        ):
            return self._begins_file(data, pos, final)
        if self._is_pcap:
            return self._begins_packet(data, pos, final)
        return super().begins(data, pos, final)

    def _is_packet(self, data: bytes, start: int, end: int) -> bool:
        """Whether data[start:end] decodes as a packet of pcap; of unknown link types all do."""
        linktype, items = self.interfaces[0].linktype, list[Item]()
        module = registered().by_linktype.get(linktype)
        if module is None:
            return True
        try:
            stream = self.inner_stream(module, data, start, end, self.interfaces[0])
            stream.base, stream.lenient = self.base, True
            stream.captured(data, start, end, Origin(linktype, stream, 0, {}), items)
            for item in items:
                if isinstance(item, Message):
                    stream.decode(data, item)
        except DecodeError:
            return False
        return bool(items)

    def _begins_packet(self, data: bytes, pos: int, final: bool) -> bool | None:
        """As `begins`, for pcap, whose packets have no magic: what one holds must begin well too.

        Only the beginning is looked at: a packet that claims a megabyte costs no more than others.
        """
        (interface,), size, head = self.interfaces, len(data), self._packet_size
        if pos + head > size:
            return False if final else None
        _, _, caplen, length, *_ = self._packet(data, pos)
        start, limit = pos + head, interface.longest
        end = start + caplen
        if not 0 < caplen <= length or caplen > limit:
            return False
        if end + head <= size and data[end : end + 4] not in MAGICS:
            _, fraction, caplen, *_ = self._packet(data, end)
            if caplen > limit or fraction >= interface.units:
                return False
        module = registered().by_linktype.get(interface.linktype)
        if module is not None:
            try:
                stream = interface.stream or self.inner_stream(
                    module, data, start, min(end, start + 64), interface
                )
            except DecodeError:
                return False
            answer = stream.plausible(data, start, end, interface.linktype)
            if not answer:
                return False if final else answer
        return True if end + head <= size else end == size if final else None

    def _begins_file(self, data: bytes, pos: int, final: bool) -> bool | None:
        """As `begins`, for the head of a file or section: what follows may have another order."""
        try:
            complete = self.measure(data, pos) <= len(data)
        except DecodeError:
            return False
        return True if complete else False if final else None

    def _resync(self, data: bytes, pos: int, final: bool, items: list[Item]) -> int:
        assert self.damage is not None
        offset = self.damage.offset
        if self.base + pos == offset:
            self._damaged, self._before = data[pos : pos + 8], b""
        found = super()._resync(data, pos, final, items)
        self._before = (self._before + data[pos:found])[-4:]
        if self.damage is None and not self._is_pcap:
            self._note_lost_interfaces(self.base + found - offset, self._before)
        return found

    def _note_lost_interfaces(self, size: int, last: bytes) -> None:
        """Keep the place of an interface that was declared in `size` bytes of damage.

        last   the last four of them
        If either of its lengths says that they were one block, its type says whether it was one.
        """
        lengths = [int.from_bytes(b, BYTEORDER[self.order]) for b in (self._damaged[4:8], last)]
        kind = int.from_bytes(self._damaged[:4], BYTEORDER[self.order])
        if size not in [length + 3 & ~3 for length in lengths] or kind not in READ | PASSED_OVER:
            self._unsure = True
        elif kind == IDB:
            self._declare(self._refused("its block was damaged"))

    # Blocks

    def plain(self, data: bytes, pos: int, items: list[Item]) -> int:
        if self.container == "pcapng":
            return self._plain_blocks(data, pos, items)
        return self._plain_packets(data, pos, items) if self._is_pcap else pos

    def _plain_blocks(self, data: bytes, pos: int, items: list[Item]) -> int:
        """Take enhanced packets without options."""
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
        """Take packets of pcap."""
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
        except DecodeError as error:  # of this block alone: the frame tells where it ends
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
        """Take the head of a pcap file or of a section of pcapng."""
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
        """The machine that logged the section which data[start:end] begins, if pylog wrote it."""
        first = start + plans(order)["section"].size
        try:
            for code, at, stop in options(data, first, end - 4, order, self.base):
                if code == OPT_COMMENT and (host := section_host(data[at:stop])) is not None:
                    return host
        except DecodeError:  # the section can be read all the same
            pass
        return None

    def _declare(self, interface: Interface) -> None:
        if self._host is None:
            self.hosts.pop(self._declared, None)  # a clone may have seen it otherwise
        else:
            self.hosts.keep(self._declared, self._host)
        self._declared += 1
        self.interfaces.append(interface)

    def _note(self, data: bytes, start: int, end: int, items: list[Item]) -> Note | None:
        """The note in the comment data[start:end]; the loss that it reports is an item.

        A number that nothing real can have is damage, and then nothing of the note counts: a file
        may claim anything, also less than nothing to cancel what was lost.
        """
        found = note(data[start:end])
        if found is None:
            return None
        impossible = found.impossible()
        if impossible is not None:
            name, value, expected = impossible
            error = self.error(start, f"{name} in a comment", value, expected)
            self._damage(items, start, end, error)
            return None
        loss = found.loss()
        if loss is not None:
            interface = None
            if found.interface is not None and found.interface < len(self.interfaces):
                interface = self.interfaces[found.interface]
                interface.reported += loss.count or 0
            number = None if interface is None else interface.number
            items.append(Reported(self.base + start, loss, number))
        elif found.octets and items and isinstance(items[-1], Reported):
            before = items[-1].loss
            size = len(before.raw or b"")
            if size and size % OCTETS == 0 and size < MAXIMUM_OCTETS:
                raw = (before.raw or b"") + (found.damaged() or b"")
                items[-1].loss = msgspec.structs.replace(before, raw=raw)
        return found

    def _count(self, data: bytes, start: int, end: int, name: str, items: list[Item]) -> int:
        """The 64-bit count in data[start:end]; one that nothing real can have is damage, and 0."""
        count = int.from_bytes(data[start:end], BYTEORDER[self.order])
        if count <= MAXIMUM_COUNT:
            return count
        error = self.error(start, name, count, f"0 to {MAXIMUM_COUNT}")
        self._damage(items, start, end, error)
        return 0

    def _refused(self, reason: str) -> Interface:
        return Interface(self._declared, REFUSED, refused=reason)

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
                found = self._note(data, first, last, items)
                if found is not None and found.lost and found.source is None:
                    own = self.interfaces[number].number if number < len(self.interfaces) else None
                    items.append(Dropped(self.base + start, found.count, found.lost, own))
            elif code in counts and last - first == 8:
                counts[code] = self._count(data, first, last, DROPS[code], items)
        if number < len(self.interfaces):
            ifdrop, osdrop = counts.values()
            self.interfaces[number].dropped = self.base + start, ifdrop, osdrop
        self.other += 1

    def _end_section(self, items: list[Item]) -> None:
        """Report what the last statistics of each interface say that it dropped in all."""
        for interface in self.interfaces:
            if interface.dropped is None:
                continue
            offset, ifdrop, osdrop = interface.dropped
            interface.dropped = None
            module = registered().by_linktype.get(interface.linktype)
            if ifdrop + osdrop and module is not None:
                layouts = [s for (linktype, _), s in self._inner.items()
                           if linktype == interface.linktype]  # fmt: skip
                stream = interface.stream or (layouts[0] if layouts else None)
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
        observed_ns = error = None
        try:
            for code, first, last in options(
                data, first_option, end - 4 if kind != SPB else 0, self.order, self.base
            ):
                if code == EPB_DROPCOUNT and kind == EPB and last - first == 8:
                    lost = self._count(data, first, last, "epb_dropcount", items)
                elif code == OPT_COMMENT:
                    found = self._note(data, first, last, items)
                    if found is None:
                        continue
                    if found.interfaces:
                        kept = (other.names for other in self.interfaces)
                        forgotten = self._names.add(found.interfaces, kept)
                        items.append(InterfaceNames(interface.names, found.interfaces, forgotten))
                    if found.lost is None:
                        observed_ns = found.observed if found.observed is not None else observed_ns
                    elif found.source is None:
                        items.append(Dropped(self.base + start, None, found.lost, interface.number))
        except DecodeError as wrong:  # the packet itself is there
            error = wrong
        if lost and interface.linktype in registered().by_linktype:
            # pylog writes notes for itself and the count for others: it covers what notes report
            interface.claimed += lost
            lost = interface.claimed - interface.reported
            if lost > 0:
                interface.reported += lost
                reason = "told by the capture file"
                items.append(Dropped(self.base + start, lost, reason, interface.number))
        before = len(items)
        self._accept_packet(data, at, at + caplen, interface, ticks, f["len"], items)
        if observed_ns is not None and interface.observed:
            for item in items[before:]:
                if isinstance(item, Message | Damage) and item.origin is not None:
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
            reason = f"nothing was captured of a packet of {length} bytes"
            items.append(Dropped(self.base + start, None, reason, interface.number))
            return
        before = len(items)
        origin = None
        try:
            stream = interface.stream or self.inner_stream(module, data, start, end, interface)
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
        """Report a value of which the next message goes without, if the packet holds one."""
        if interface.linktype in registered().by_linktype:
            items.append(Flaw(self.base + pos, self.error(pos, field, found, expected)))

    def inner_stream(
        self, module: CapturedFormat, data: bytes, start: int, end: int, interface: Interface
    ) -> Stream:
        """The stream of the packet's format: as the interface names it, or as its bytes tell."""
        named = self.named_stream(module, interface)
        if named is not None:
            return named
        linktype = interface.linktype
        try:
            name = module.captured_layout(data[start:end], linktype, self.base + start)
        except DecodeError:
            self.undetermined.add(linktype)
            raise
        if (linktype, name) not in self._inner:
            self._inner[linktype, name] = module.stream(name)
        return self._inner[linktype, name]

    def named_stream(self, module: CapturedFormat, interface: Interface) -> Stream | None:
        """The stream of the packets' format as the interface names it, or else the user."""
        if interface.stream is not None:
            return interface.stream
        linktype = interface.linktype
        if not interface.description and not self._inner_layout:
            return None
        names = [interface.description, self._inner_layout or ""]
        for name in reversed(names) if self._named else names:
            stream = self._inner.get((linktype, name)) if name else None
            if name and stream is None and len(self._inner) < MAXIMUM_LAYOUTS:
                try:
                    make = getattr(module, "captured_stream", module.stream)
                    stream = self._inner.setdefault((linktype, name), make(name))
                except ValueError:  # a description that is no layout, a layout of another format
                    continue
            if stream is not None:
                interface.stream = stream
                return stream
        return None

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
        """The stream of the message's own format, set up to decode it."""
        inner, names = origin.stream, origin.names
        inner.base, inner.live = self.base, self.live
        inner.rows, inner.wants_payload = self.rows, self.wants_payload
        inner.lenient = self.lenient
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
"""What has to be the same for messages to be decoded together."""


STREAM = PcapStream


def stream(name: str, head: bytes = b"") -> PcapStream:
    """A capture's layouts are those of its packets: it has none to be named; ValueError."""
    raise ValueError(f"no layout {name!r} of a capture file itself")


def layout_names() -> list[str]:
    """None of its own: a capture's layouts are those of its packets."""
    return []


def cut(data: bytes) -> str | None:
    """What the bytes lack, if they end within the header of a capture file."""
    if data.startswith(SHB.to_bytes(4)) and len(data) < 12:
        return cut_off("the first block of pcapng", 28, len(data), exact=False)
    magic = magic_of(data[:12])
    if magic is None:
        return None
    if magic.container == "pcap":
        return cut_off("the header of pcap", 24, len(data)) if len(data) < 24 else None
    _, size = plans(magic.order)["block"].unpack(data, 0)
    return cut_off("the first block of pcapng", size, len(data)) if len(data) < size else None


def probe(head: bytes, final: bool) -> list[Guess]:
    """Read the first bytes as a capture; DecodeError for one without packets that pylog knows."""
    if magic_of(head[:12]) is None:
        return []
    trial = PcapStream()
    if final and cut(head) is not None:
        return []
    items = trial.split(head, final)
    if not trial.container:
        for item in items:
            if isinstance(item, Damage):
                raise item.error.copy_for_raising()
        return []  # nothing but the beginning of its header
    known = [t for t in trial.linktypes if t in registered().by_linktype]
    present = trial.linktypes or {i.linktype: 0 for i in trial.interfaces}
    all_foreign = trial.foreign and trial.foreign == trial.linktypes.total()
    if present and (all_foreign or not (known or present.keys() & registered().by_linktype)):
        expected = linktypes_text(registered().by_linktype)
        found = " and ".join(refused_text(t) for t in sorted(present))
        raise DecodeError("link type", f"this is a capture of link type {found}", expected, 0,
                          advice=f"pylog reads {expected}")  # fmt: skip
    layout, evidence, layouts = None, [], list(trial.layouts)
    rivals: list[tuple[str, int, int]] = []
    unnamed = [i for i in items if isinstance(i, Damage) and i.error.field == "if_description"]
    if unnamed:
        joined = b"".join(head[d.offset : d.offset + d.size] for d in unnamed)
        modules = {registered().by_linktype[linktype].NAME for linktype in trial.undetermined}
        guesses = [g for n in sorted(modules) for g in registered().by_name[n].probe(joined, True)]
        if len(guesses) > 1:
            raise DecodeError("layout", " or ".join(g.layouts[0] for g in guesses),
                              "one; name it with --layout", 0)  # fmt: skip
        for guess in guesses:
            layout, layouts = guess.layouts[0], guess.layouts
            evidence, rivals = list(guess.evidence), list(guess.rivals)
    messages = sum(isinstance(item, Message) for item in items)
    if not messages and not final and len(head) < HEAD and (unnamed or not trial.linktypes):
        return []  # there is no packet yet to tell its layout by
    return [
        Guess(
            stream=partial(PcapStream, layout),
            container=trial.container,
            layouts=layouts,
            messages=messages or len(unnamed),
            explained=len(head),
            evidence=[
                f"{trial.container} magic, packets of link type "
                + ", ".join(f"{linktype_text(t)}: {n}" for t, n in sorted(trial.linktypes.items())),
                *evidence,
            ],
            rivals=rivals,
        )
    ]
