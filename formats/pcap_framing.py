"""Where the blocks and packets of a capture file begin and end, pcap and pcapng.

A block of pcapng states its length at both ends. If they agree it is stepped over whatever it
holds, so bad content costs only that block. A packet of pcap has no magic and one length, so after
damage what it holds is checked as well. A file may follow another one wherever a packet or block
could begin. formats.pcap_damage has the patterns that damage is searched with.

Interfaces are kept here because packets name theirs by its place in the section: damage that may
have held the declaration of an interface makes the numbers after it unreliable.
"""

from __future__ import annotations

from pylog.errors import DecodeError
from pylog.formats import Damage, Item, Message, NamesKept, Stream
from pylog.formats.pcap_blocks import (
    BYTE_ORDER_MAGIC,
    IDB,
    LOCAL_USE,
    MAGICS,
    MAXIMUM_BLOCK,
    PASSED_OVER,
    READ,
    SHB,
    Magic,
    magic_of,
    plans,
)
from pylog.formats.pcap_damage import (
    FILE_NEEDLE,
    PACKET_NEEDLE,
    block_needle,
    file_at,
    is_cut,
    packet_needle,
)
from pylog.formats.pcap_inner import InnerStreams
from pylog.formats.pcap_interfaces import MAXIMUM, REFUSED, Interface, Origin
from pylog.formats.plan import BYTEORDER
from pylog.formats.registry import registered
from pylog.memo import Bounded

MAGIC_SIZE = 24
"""Bytes of the header of a pcap file."""


class CaptureFraming(Stream):
    """The part of PcapStream that steps from packet to packet and from block to block.

    inner        the streams of the packets' formats
    order        byte order of the file or section, < or >
    head         the name of the plan of a pcap packet's header
    interfaces   of the section; a packet names its own by the place in this list
    skipping     of a long block that is not read: its offset, its end, and its last bytes so far
    """

    def __init__(self, inner: InnerStreams) -> None:
        super().__init__()
        self.inner = inner
        self.container = ""
        self.order = "<"
        self.head = ""
        self.interfaces: list[Interface] = []
        self._declared = 0
        """How many interfaces the file has declared."""
        self.hosts: Bounded[int, str] = Bounded()
        self.namespaces: Bounded[int, str | int] = Bounded(MAXIMUM)
        self._host: str | None = None
        """The machine that logged the section."""
        self._unsure = False
        """Whether damage may have held an interface of the section, so that later ones moved."""
        self._damaged = self._before = b""
        """The first bytes of the damage, as many as a block's header has; its last ones so far."""
        self.skipping: tuple[int, int, bytes] | None = None
        self._names = NamesKept()

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
        """The error that no capture file begins at `pos`."""
        if (magic := magic_of(data[pos : pos + 12])) is not None:
            major = plans(magic.order)["pcap"].unpack(data, pos)[1]
            return self.error(pos + 4, "version_major", major, 2)
        magic_bytes = data[pos : pos + 4].hex(" ")
        return self.error(pos, "magic", magic_bytes, "that of pcap or pcapng")

    @property
    def _is_pcap(self) -> bool:
        return self.container == "pcap"

    def _begin(self, magic: Magic, data: bytes, pos: int) -> None:
        """Begin the file or section at `pos`: take over its container, byte order and interface."""
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
            stream = None if module is None else self.inner.named(module, interface)
            self.needle = packet_needle(interface, order, packet.size, stream)
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
        """Pass over a long block that is not read; gives how many bytes of the data it covers."""
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

        In pcap the original length bounds caplen. In pcapng the block has room for caplen bytes,
        and only options follow them.
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
        """Whether data[start:end] decodes as a packet of pcap; True for unknown link types."""
        linktype, items = self.interfaces[0].linktype, list[Item]()
        module = registered().by_linktype.get(linktype)
        if module is None:
            return True
        try:
            stream = self.inner.of_packet(module, data, start, end, self.interfaces[0], self.base)
            stream.base, stream.lenient = self.base, True
            stream.captured(data, start, end, Origin(linktype, stream, 0, {}), items)
            for item in items:
                if isinstance(item, Message):
                    stream.decode(data, item)
        except DecodeError:
            return False
        return bool(items)

    def _begins_packet(self, data: bytes, pos: int, final: bool) -> bool | None:
        """As `begins`, for pcap. Its packets have no magic, so what one holds is checked as well.

        Only the beginning is checked: a packet that claims a megabyte costs no more than others.
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
                stream = interface.stream or self.inner.of_packet(
                    module, data, start, min(end, start + 64), interface, self.base
                )
            except DecodeError:
                return False
            answer = stream.plausible(data, start, end, interface.linktype)
            if not answer:
                return False if final else answer
        return True if end + head <= size else end == size if final else None

    def _begins_file(self, data: bytes, pos: int, final: bool) -> bool | None:
        """As `begins`, for the header of a file or section, which may change the byte order."""
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
        end = super()._resync(data, pos, final, items)
        self._before = (self._before + data[pos:end])[-4:]
        if self.damage is None and not self._is_pcap:
            self._note_lost_interfaces(self.base + end - offset, self._before)
        return end

    def _note_lost_interfaces(self, size: int, last: bytes) -> None:
        """Keep the place of an interface that was declared in `size` bytes of damage.

        last   the last four bytes of the damage
        Where either of its lengths shows that the damage was one block, the block's type decides.
        """
        lengths = [int.from_bytes(b, BYTEORDER[self.order]) for b in (self._damaged[4:8], last)]
        kind = int.from_bytes(self._damaged[:4], BYTEORDER[self.order])
        if size not in [length + 3 & ~3 for length in lengths] or kind not in READ | PASSED_OVER:
            self._unsure = True
        elif kind == IDB:
            self._declare(self._refused("its block was damaged"))

    def _declare(self, interface: Interface) -> None:
        if self._host is None:
            self.hosts.pop(self._declared, None)  # a clone may have set another
        else:
            self.hosts.keep(self._declared, self._host)
        if interface.netns is not None:
            self.namespaces.keep(self._declared, interface.netns)
        self._declared += 1
        self.interfaces.append(interface)

    def _refused(self, reason: str) -> Interface:
        return Interface(self._declared, REFUSED, refused=reason)
