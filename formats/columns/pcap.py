"""Captures of NFLOG messages, many packets at once: pcap, and enhanced packets of pcapng.

This reads packets that follow each other without options and without other blocks between them.
columns.nfulnl reads the messages in them. Everything else is left to the Stream: other link types,
and interfaces whose clock does not count from 1970 or not in multiples of a nanosecond.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pylog.formats import Message, nfulnl
from pylog.formats.columns import Array, Column, NumberColumn, Repeated
from pylog.formats.columns.arrays import alike, follow, gather, seeming, spaced
from pylog.formats.columns.nfulnl import AHEAD, NfulnlColumns, NfulnlRows
from pylog.formats.columns.packet import SIZE
from pylog.formats.netlink import NFGENMSG, nlattr_head
from pylog.formats.nfulnl import LINKTYPE_NFLOG
from pylog.formats.pcap_blocks import EPB, MAGICS, MAXIMUM_BLOCK, plans
from pylog.formats.pcap_interfaces import Interface, Origin
from pylog.formats.pcap_stream import PcapStream
from pylog.formats.plan import BYTEORDER, Plan
from pylog.record import MAX_SECONDS

LEAST = 8
"""The least size of a packet: nfgenmsg and the header of an attribute."""

FEW = 32
"""Fewer packets in a row are left to the Stream, which is as fast."""

PACKET_HDR = {"nla_len": 8, "nla_type": 1}
"""The header of the kernel's first attribute."""

LATEST_NS = 2**63 - 1
"""The last nanosecond that fits in 64 bits."""


def columns(stream: PcapStream) -> PcapColumns:
    """What reads captures, pcap and pcapng."""
    return PcapColumns(stream)


class CapturedPackets(NamedTuple):
    """Packets that follow each other, and what the capture says about them.

    starts, ends   of what was captured of each, in the data
    nexts          where the next packet begins after each
    interfaces     their places in the list of the section's interfaces
    ticks          of the interface's clock, uint64
    cut            how many bytes were not captured
    """

    starts: Array
    ends: Array
    nexts: Array
    interfaces: Array
    ticks: Array
    cut: Array

    def until(self, irregular: Array) -> CapturedPackets:
        """The packets before the first that is irregular."""
        count = int(irregular.argmax()) if irregular.any() else len(irregular)
        return CapturedPackets(*(values[:count] for values in self))


class PcapColumns:
    """Reads the packets of a capture that hold NFLOG messages."""

    def __init__(self, stream: PcapStream) -> None:
        self.stream = stream
        self._messages: dict[str, NfulnlColumns] = {}
        self._names: dict[int, dict[int, str]] = {}
        """The names that interfaces of the capture had when `decode` was last used."""

    def read(self, data: bytes, pos: int, stop: int) -> CapturedRows | None:
        """As pylog.formats.columns.Columns.read."""
        stream, array = self.stream, np.frombuffer(data, np.uint8)
        packets = self._follow(data, array, pos, stop)
        if packets is None or not len(packets.starts):
            return None
        codes, rows = alike([packets.interfaces])
        numbers = packets.interfaces[rows].tolist()
        interfaces = [stream.interfaces[number] for number in numbers]
        first = interfaces[codes[0]]
        if not _is_regular(first):
            return None
        start, end = int(packets.starts[0]), int(packets.ends[0])
        inner = stream.inner.of_packet(nfulnl, data, start, end, first, stream.base)
        assert isinstance(inner, nfulnl.NfulnlStream)
        named, unnamed = np.array([self._are_of(inner, i) for i in interfaces]).T
        good = named[codes]
        if unnamed.any():
            little = array[packets.starts + 7] & 0x3F == 0  # as in nfulnl.byte_order
            good |= unnamed[codes] & (little == (inner.order == "<"))
        latest = np.array([_latest_ticks(i) for i in interfaces], np.uint64)
        packets = packets.until(~good | (packets.ticks > latest[codes]))
        if len(packets.starts) < FEW:
            return None
        inner.base = stream.base
        self._forget_if_renamed(dict(zip(numbers, interfaces, strict=True)))
        if inner.layout not in self._messages:
            self._messages[inner.layout] = NfulnlColumns(inner, stream)
        return CapturedRows(self._messages[inner.layout], data, packets, codes, interfaces)

    def _follow(self, data: bytes, array: Array, pos: int, stop: int) -> CapturedPackets | None:
        """The packets of declared interfaces, of any link type."""
        stream = self.stream
        if stream.skipping is not None:
            return None
        if stream.container == "pcapng":
            name, find = "enhanced packet", _blocks
        elif stream.head in ("pcap packet", "modified pcap packet"):
            name, find = stream.head, _packets
        else:  # before the header of the file
            return None
        head = np.dtype(plans(stream.order)[name].dtype())
        stop = min(stop, len(data) - SIZE) - head.itemsize  # this much of each may be read
        if pos >= stop:
            return None
        packets = find(stream, head, data, array, pos, stop)
        return packets.until(packets.interfaces >= len(stream.interfaces))

    def _are_of(self, inner: nfulnl.NfulnlStream, interface: Interface) -> tuple[bool, bool]:
        """Whether the stream reads an interface's packets: by name, or if their bytes agree."""
        if not _is_regular(interface):
            return False, False
        named = self.stream.inner.named(nfulnl, interface)
        return named is inner, named is None

    def _forget_if_renamed(self, interfaces: dict[int, Interface]) -> None:
        """Forget what `decode` made of messages when interfaces had other names."""
        names = {number: dict(interface.names) for number, interface in interfaces.items()}
        if any(self._names.get(number, now) != now for number, now in names.items()):
            for messages in self._messages.values():
                messages.decoded_once.clear()
            self._names.clear()
        self._names.update(names)


def _is_regular(interface: Interface) -> bool:
    """Whether the packets of an interface are read here."""
    counts = 10**9 % interface.units == 0 and not interface.offset_s
    return interface.linktype == LINKTYPE_NFLOG and counts


def _latest_ticks(interface: Interface) -> int:
    """The last time that a record can have; the Stream reports packets with later times."""
    if not interface.observed:
        return 2**64 - 1
    return min((MAX_SECONDS + 1) * interface.units, 2**64) - 1


class CapturedRows(NfulnlRows):
    """Messages in packets that follow each other."""

    def __init__(
        self, messages: NfulnlColumns, data: bytes, packets: CapturedPackets, codes: Array,
        interfaces: list[Interface],
    ) -> None:  # fmt: skip
        """`codes` are the places of the packets' interfaces in `interfaces`."""
        self._captured, self._interfaces = packets, interfaces
        self._codes = codes[: len(packets.starts)]
        scales = np.array([10**9 // i.units if i.observed else 0 for i in interfaces])
        latest = LATEST_NS // np.maximum(scales, 1)
        self._scales = scales[self._codes]
        timely = packets.ticks <= latest.astype(np.uint64)[self._codes]
        super().__init__(messages, data, packets.starts, packets.ends, packets.starts, timely)
        self.after, self.other = int(packets.nexts[-1]), 0

    def message(self, i: int) -> Message:
        """As pylog.formats.columns.Rows.message."""
        interface = self._interfaces[self._codes[i]]
        observed_ns = interface.observed_ns(int(self._captured.ticks[i]))
        cut, stream = int(self._captured.cut[i]), self._columns.stream
        origin = Origin(LINKTYPE_NFLOG, stream, interface.number, interface.names, observed_ns, cut)
        return Message(int(self.starts[i]), int(self.ends[i]), origin)

    def column(self, name: str) -> Column | None:
        """As pylog.formats.columns.Rows.column."""
        if name == "observed_ns":
            scales = self._scales[self._rows]
            ticks = self._captured.ticks[self._rows].astype(np.int64)
            return NumberColumn(ticks * scales, scales > 0)
        return super().column(name)

    def logs(self) -> Repeated:
        """As pylog.formats.columns.Rows.logs: each interface has numbers of its own."""
        inner, codes = super().logs(), self._codes[self._rows]
        pairs, rows = alike([inner.codes, codes])
        return Repeated(
            pairs,
            [
                (self._interfaces[codes[row]].number, inner.values[inner.codes[row]][1])
                for row in rows.tolist()
            ],
        )

    def _more_determining(self) -> list[Array]:
        """The capture's interface: each may have its own interface names."""
        return [self._captured.interfaces[self._rows]]


def _cut(heads: Array) -> Array:
    """How many bytes of each packet were not captured."""
    cut: Array = np.maximum(heads["len"].astype(np.int64) - heads["caplen"], 0)
    return cut


def _blocks(
    stream: PcapStream, head: np.dtype[Any], data: bytes, array: Array, pos: int, stop: int
) -> CapturedPackets:
    """The packets of pcapng from `pos` on, in blocks that begin before `stop`."""
    frame = np.dtype(plans(stream.order)["block"].dtype())
    kind, last = EPB.to_bytes(4, BYTEORDER[stream.order]), len(data) - AHEAD

    def after(places: Array) -> Array:
        heads = gather(array, places, frame)
        size = heads["total_length"].astype(np.int64)
        good = (heads["type"] == EPB) & (size >= head.itemsize + LEAST) & (size & 3 == 0)
        good &= (size <= MAXIMUM_BLOCK) & (places + size <= last)
        return np.where(good, places + size, -1)

    places, end = follow(pos, stop, seeming(data, pos, stop, kind, 0), after)
    nexts = np.append(places, end)[1:]
    heads = gather(array, places, head)
    starts, sizes = places + head.itemsize, heads["caplen"].astype(np.int64)
    again = gather(array, nexts - 4, heads["total_length"].dtype)
    fits = (starts + (sizes + 3 & ~3) + 4 == nexts) & (again == heads["total_length"])
    ticks = heads["high"].astype(np.uint64) << np.uint64(32) | heads["low"]
    cut = _cut(heads)
    packets = CapturedPackets(starts, starts + sizes, nexts, heads["interface"], ticks, cut)
    return packets.until(~fits | (sizes < LEAST))


def _packets(
    stream: PcapStream, head: np.dtype[Any], data: bytes, array: Array, pos: int, stop: int
) -> CapturedPackets:
    """The packets of pcap from `pos` on whose headers begin before `stop`."""
    (interface,) = stream.interfaces
    magics = np.array(
        [int.from_bytes(magic, BYTEORDER[stream.order]) for magic in MAGICS], np.uint32
    )
    longest, last = interface.longest, len(data) - AHEAD
    order = nfulnl.byte_order(data[pos + head.itemsize : pos + head.itemsize + LEAST])
    first_attribute = nlattr_head(order).build(PACKET_HDR)
    attribute_at = head.itemsize + Plan(NFGENMSG).size

    def find(near: int, limit: int) -> int:
        end = limit + attribute_at + len(first_attribute) - 1
        place = data.find(first_attribute, near + attribute_at, end)
        return place - attribute_at if place >= 0 else -1

    def after(places: Array) -> Array:
        heads = gather(array, places, head)
        size = heads["caplen"].astype(np.int64)
        following = places + head.itemsize + size
        good = (size >= LEAST) & (size <= longest) & (heads["fraction"] < interface.units)
        good &= ~np.isin(heads["sec"], magics)  # another file may begin
        return np.where(good & (following <= last), following, -1)

    starts, end = follow(pos, stop, spaced(pos, stop, find), after)
    heads = gather(array, starts, head)
    ticks = heads["sec"].astype(np.uint64) * np.uint64(interface.units) + heads["fraction"]
    numbers, cut = np.zeros(len(starts), np.uint32), _cut(heads)
    nexts = np.append(starts, end)[1:]
    return CapturedPackets(starts + head.itemsize, nexts, nexts, numbers, ticks, cut)
