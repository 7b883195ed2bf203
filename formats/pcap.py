"""Capture files: pcap (both byte orders, micro- and nanoseconds) and pcapng.

`Stream` reads the blocks and hands the packets to the format of their link type, which finds its
messages in them: NFLOG 239, NETLINK 253, IPFILTER 116. A pcapng interface of IPFILTER names the
layout of its records in if_description. epb_dropcount tells losses. Packets of other link types
and unknown blocks are counted in `other`. The blocks themselves are in `formats.pcap_blocks`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache, partial
from itertools import groupby
from operator import attrgetter
from struct import Struct as CStruct
from types import ModuleType

import msgspec

from pylog.errors import DecodeError
from pylog.formats import (
    HEAD,
    Begun,
    Damage,
    Dropped,
    Guess,
    Interfaces,
    Item,
    Message,
    Numbers,
    modules,
)
from pylog.formats import Stream as BaseStream
from pylog.formats.pcap_blocks import (
    BYTE_ORDER_MAGIC,
    EPB,
    EPB_DROPCOUNT,
    IDB,
    IF_DESCRIPTION,
    IF_NAME,
    IF_TSOFFSET,
    IF_TSRESOL,
    ISB,
    MAXIMUM_BLOCK,
    MAXIMUM_SNAPLEN,
    OPT_COMMENT,
    OPT_END,
    PB,
    SHB,
    SPB,
    container,
    linktype_text,
    note,
    plans,
)
from pylog.formats.plan import BYTEORDER
from pylog.record import MAX_SECONDS, Record

LINKTYPES = ()

MAXIMUM_INTERFACES = 1 << 16
"""A section has no more interfaces: each is kept, and 20 bytes make one."""
MAXIMUM_LAYOUTS = 64
"""No more layouts are read in one file."""
LONGEST_NAME = 255
"""So many bytes are kept of the name of an interface and of its description."""


class Interface(msgspec.Struct):
    """An interface of a capture: pcap has one, pcapng any number in each section.

    units   time stamps count 1/units seconds, from `offset_s` seconds after 1970
    stream  of the packets' format, where the interface names their layout
    """

    linktype: int
    snaplen: int = 0
    name: str = ""
    description: str = ""
    units: int = 1_000_000
    offset_s: int = 0
    observed: bool = True
    names: dict[int, str] = {}
    stream: BaseStream | None = None

    def observed_ns(self, ticks: int | None) -> int | None:
        """When a packet was received; None: that is not told, or is no time that a record has."""
        if ticks is None or not self.observed:
            return None
        if self.units == 10**9 and not self.offset_s:
            return ticks  # of 64 bits, so before the year 9999
        since = ticks * 10**9 // self.units
        observed_ns = self.offset_s * 10**9 + since
        return observed_ns if 0 <= observed_ns < (MAX_SECONDS + 1) * 10**9 else None


class Origin(msgspec.Struct, gc=False):
    """Where a message was captured: link type and time of capture; `cut` by the snaplen.

    stream   the stream of the format that it is of
    names    of interfaces, by number
    """

    linktype: int
    stream: BaseStream
    names: dict[int, str]
    observed_ns: int | None = None
    cut: bool = False


class Stream(BaseStream):
    """The messages in a capture file, pcap or pcapng.

    layout   for packets of LINKTYPE_IPFILTER whose interface does not name their layout; `named`:
             for the others too
    """

    source = "capture"

    def __init__(self, inner_layout: str | None = None, named: bool = False) -> None:
        super().__init__()
        self.container = ""
        self.order = "<"
        self.interfaces: list[Interface] = []
        self.linktypes: Counter[int] = Counter()
        """How many packets there were of each link type."""
        self._inner_layout = inner_layout
        self._named = named
        self._head_at = 0
        self._inner: dict[tuple[int, str], BaseStream] = {}

    @property
    def layouts(self) -> list[str]:
        """The layouts of the messages so far."""
        return list(dict.fromkeys(stream.layout for stream in self._inner.values()))

    # Framing

    def measure(self, data: bytes, pos: int) -> int:
        if not self.container:
            if pos + 24 > len(data):
                return pos + 24
            self._begin(data, pos)
            return pos + 24 if self._is_pcap else self._measure_block(data, pos)
        if self._is_pcap:
            return self._measure_packet(data, pos)
        return self._measure_block(data, pos)

    @property
    def _is_pcap(self) -> bool:
        return self.container == "pcap"

    def _begin(self, data: bytes, pos: int) -> None:
        """Learn container and byte order from the first bytes."""
        kind = container(data[pos : pos + 12])
        if kind is None:
            raise self.error(pos, "magic", data[pos : pos + 4].hex(" "), "that of pcap or pcapng")
        name, order, units = kind
        if name == "pcap":
            _, major, *_, snaplen, network = plans(order)["pcap"].unpack(data, pos)
            if major != 2:
                raise self.error(pos + 4, "version_major", major, 2)
            self.interfaces = [Interface(network & 0xFFFF, snaplen, units=units)]
        self.container, self._head_at = name, self.base + pos
        self._set_order(order)

    def _set_order(self, order: str) -> None:
        self.order = order
        self._header = plans(order)["block"].unpack
        self._packet = plans(order)["pcap packet"].unpack
        if self.container == "pcapng":
            packet = EPB.to_bytes(4, BYTEORDER[order])
            section = SHB.to_bytes(4)
            self.needle = re.compile(re.escape(packet) + b"|" + re.escape(section))
            self.needle_size = 4
        else:
            self.needle = _packet_needle(self.interfaces[0], order)
            self.needle_size = PACKET_NEEDLE

    def _measure_packet(self, data: bytes, pos: int) -> int:
        if pos + 16 > len(data):
            return pos + 16
        _, fraction, caplen, _ = self._packet(data, pos)
        interface = self.interfaces[0]
        limit = self.longest(interface)
        if caplen > limit:
            raise self.error(pos + 8, "caplen", caplen, f"at most {limit}")
        if not caplen and not any(data[pos : pos + 16]):
            raise self.error(pos, "packet header", "16 zero bytes", "a time and a length")
        if fraction >= interface.units:
            raise self.error(pos + 4, "fraction of a second", fraction, f"below {interface.units}")
        return pos + 16 + int(caplen)

    @staticmethod
    def longest(interface: Interface) -> int:
        """How many bytes a packet of pcap may have."""
        return min(max(interface.snaplen & 0x7FFFFFFF, MAXIMUM_SNAPLEN), MAXIMUM_BLOCK)

    def _measure_block(self, data: bytes, pos: int) -> int:
        if pos + 12 > len(data):
            return pos + 12
        kind, size = self._header(data, pos)
        order = self.order
        if kind == SHB:  # the section may have another byte order
            found = container(data[pos : pos + 12])
            if found is None:
                raise self.error(pos + 8, "byte-order magic", data[pos + 8 : pos + 12].hex(" "),
                                 f"{BYTE_ORDER_MAGIC:#x}")  # fmt: skip
            order = found[1]
            size = plans(order)["block"].unpack(data, pos)[1]
        if size < 12 or size % 4 or size > MAXIMUM_BLOCK:
            raise self.error(pos + 4, "block length", size, f"12 to {MAXIMUM_BLOCK}, in fours")
        end = pos + int(size)
        if end <= len(data):
            again = int.from_bytes(data[end - 4 : end], BYTEORDER[order])
            if again != size:
                raise self.error(end - 4, "block length at its end", again, size)
        return end

    def begins(self, data: bytes, pos: int, final: bool) -> bool | None:
        if self._is_pcap:
            return self._begins_packet(data, pos, final)
        if data.startswith(SHB.to_bytes(4), pos):
            return self._begins_section(data, pos, final)
        return super().begins(data, pos, final)

    def _begins_packet(self, data: bytes, pos: int, final: bool) -> bool | None:
        """As `begins`, for pcap, whose packets have no magic: what one holds must begin well too.

        Only the beginning is looked at: a packet that claims a megabyte costs no more than others.
        """
        (interface,), size, start = self.interfaces, len(data), pos + 16
        _, _, caplen, length = self._packet(data, pos)
        end, limit = start + caplen, self.longest(interface)
        if not 0 < caplen <= length or caplen > limit:
            return False
        if end + 16 <= size:
            _, fraction, caplen, _ = self._packet(data, end)
            if caplen > limit or fraction >= interface.units:
                return False
        module = formats_by_linktype().get(interface.linktype)
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
        return True if end + 16 <= size else end == size if final else None

    def _begins_section(self, data: bytes, pos: int, final: bool) -> bool | None:
        """As `begins`, for a section header: what follows it may have another byte order."""
        try:
            whole = self.measure(data, pos) <= len(data)
        except DecodeError:
            return False
        return True if whole else False if final else None

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
            if end_of(data, end - 4)[0] != size:
                break
            self._accept_packet(
                data, at, at + caplen, interfaces[number], high << 32 | low, caplen < length, items
            )
            pos = end
        return pos

    def _plain_packets(self, data: bytes, pos: int, items: list[Item]) -> int:
        """Take packets of pcap."""
        (interface,), unpack, last = self.interfaces, self._packet, len(data) - 16
        limit, units = self.longest(interface), interface.units
        while pos <= last:
            sec, fraction, caplen, length = unpack(data, pos)
            at, end = pos + 16, pos + 16 + caplen
            if not 0 < caplen <= limit or fraction >= units or end > len(data):
                break
            self._accept_packet(
                data, at, end, interface, sec * units + fraction, caplen < length, items
            )
            pos = end
        return pos

    def accept(self, data: bytes, start: int, end: int, items: list[Item]) -> None:
        if self.container == "pcap":
            if self.base + start != self._head_at:
                sec, fraction, caplen, size = self._packet(data, start)
                interface = self.interfaces[0]
                self._accept_packet(
                    data, start + 16, end, interface, sec * interface.units + fraction,
                    caplen < size, items,
                )  # fmt: skip
            return
        kind = self._header(data, start)[0]
        if kind == SHB:
            found = container(data[start : start + 12])
            assert found is not None
            self._set_order(found[1])
            self.interfaces = []
            if self.base + start != self._head_at:
                items.append(Begun())
        elif kind == IDB:
            self._accept_interface(data, start, end)
        elif kind in (EPB, PB, SPB):
            self._accept_block(kind, data, start, end, items)
        else:
            self.other += 1
            if kind == ISB:
                at = start + plans(self.order)["statistics"].size
                for code, first, last in self._options(data, at, end - 4):
                    if code == OPT_COMMENT and (told := note(data[first:last])) and told.lost:
                        items.append(Dropped(self.base + start, told.count, told.lost))

    def _accept_interface(self, data: bytes, start: int, end: int) -> None:
        plan = plans(self.order)["interface"]
        if end - start < plan.size + 4:
            raise self.error(start, "interface block", f"{end - start} bytes", plan.size + 4)
        if len(self.interfaces) >= MAXIMUM_INTERFACES:
            raise self.error(start, "interface block", f"number {len(self.interfaces) + 1}",
                             f"at most {MAXIMUM_INTERFACES} in a section")  # fmt: skip
        _, _, linktype, _, snaplen = plan.unpack(data, start)
        interface = Interface(linktype, snaplen)
        for code, at, stop in self._options(data, start + plan.size, end - 4):
            value = data[at:stop]
            if code == IF_NAME:
                interface.name = value[:LONGEST_NAME].decode("utf-8", "backslashreplace")
            elif code == IF_DESCRIPTION:
                interface.description = value[:LONGEST_NAME].decode("utf-8", "backslashreplace")
            elif code == OPT_COMMENT and (told := note(value)) is not None:
                interface.observed = not told.unobserved
            elif code == IF_TSRESOL and len(value) == 1:
                base, power = (2 if value[0] & 0x80 else 10), value[0] & 0x7F
                if power > 63:
                    raise self.error(at, "if_tsresol", value[0], "10^-63 or coarser")
                interface.units = base**power
            elif code == IF_TSOFFSET and len(value) == 8:
                interface.offset_s = int.from_bytes(value, BYTEORDER[self.order], signed=True)
        self.interfaces.append(interface)

    def _options(self, data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The options in data[start:end] as (code, value's start, value's end)."""
        unpack = plans(self.order)["option"].unpack
        while start + 4 <= end:
            code, size = unpack(data, start)
            if code == OPT_END:
                return
            if start + 4 + size > end:
                raise self.error(start, "option length", size, f"at most {end - start - 4}")
            yield code, start + 4, start + 4 + size
            start += 4 + (size + 3 & ~3)

    def _accept_block(
        self, kind: int, data: bytes, start: int, end: int, items: list[Item]
    ) -> None:
        name = {EPB: "enhanced packet", PB: "packet", SPB: "simple packet"}[kind]
        plan = plans(self.order)[name]
        if end - start < plan.size + 4:
            raise self.error(start, f"{name} block", f"{end - start} bytes", plan.size + 4)
        f = dict(zip(plan.names, plan.unpack(data, start), strict=True))
        number = f.get("interface", 0)
        if number >= len(self.interfaces):
            raise self.error(start + 8, "interface", number, f"below {len(self.interfaces)}")
        interface = self.interfaces[number]
        at = start + plan.size
        snaplen = interface.snaplen or f["len"]
        caplen = f.get("caplen", min(f["len"], snaplen, end - 4 - at))
        if at + caplen > end - 4:
            raise self.error(start, "captured length", caplen, f"at most {end - 4 - at}")
        ticks = f["high"] << 32 | f["low"] if "high" in f else None
        lost = f.get("drops", 0)
        lost = 0 if lost == 0xFFFF else lost
        if kind != SPB:
            for code, first, last in self._options(data, at + (caplen + 3 & ~3), end - 4):
                if code == EPB_DROPCOUNT and kind == EPB and last - first == 8:
                    lost = int.from_bytes(data[first:last], BYTEORDER[self.order])
                elif code == OPT_COMMENT and (told := note(data[first:last])) is not None:
                    if told.interfaces:
                        items.append(Interfaces(interface.names, told.interfaces))
                    if told.lost is not None:
                        items.append(Dropped(self.base + start, None, told.lost))
        if lost and interface.linktype in formats_by_linktype():
            items.append(Dropped(self.base + start, lost, "told by the capture file"))
        self._accept_packet(data, at, at + caplen, interface, ticks, caplen < f["len"], items)

    def _accept_packet(
        self, data: bytes, start: int, end: int, interface: Interface, ticks: int | None,
        cut: bool, items: list[Item],
    ) -> None:  # fmt: skip
        linktype = interface.linktype
        self.linktypes[linktype] += 1
        module = formats_by_linktype().get(linktype)
        if module is None:
            self.other += 1
            return
        before = len(items)
        origin = None
        try:
            stream = interface.stream or self.inner_stream(module, data, start, end, interface)
            observed_ns = interface.observed_ns(ticks)
            origin = Origin(linktype, stream, interface.names, observed_ns, cut)
            if linktype in stream.bare:
                items.append(Message(start, end, origin))
                return
            stream.base = self.base
            other = stream.other
            stream.captured(data, start, end, origin, items)
            self.other += stream.other - other
        except DecodeError as error:
            at = items[-1].end if len(items) > before and isinstance(items[-1], Message) else start
            items.append(Damage(self.base + at, end - at, error.with_traceback(None), origin))

    def inner_stream(
        self, module: ModuleType, data: bytes, start: int, end: int, interface: Interface
    ) -> BaseStream:
        """The stream of the packet's format: as the interface names it, or as its bytes tell."""
        named = self.named_stream(module, interface)
        if named is not None:
            return named
        linktype = interface.linktype
        name = module.captured_layout(data[start:end], linktype, self.base + start)
        if (linktype, name) not in self._inner:
            self._inner[linktype, name] = module.stream(name)
        return self._inner[linktype, name]

    def named_stream(self, module: ModuleType, interface: Interface) -> BaseStream | None:
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
                    stream = self._inner.setdefault((linktype, name), module.stream(name))
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
        found: list[Record],
        numbers: Numbers | None = None,
    ) -> None:
        for _, alike in groupby(messages, _decoder):
            run = list(alike)
            before = len(found)
            self._inner_of(run[0].origin).records(data, run, raw, found, numbers)
            if len(found) < before + len(run):
                return

    def _inner_of(self, origin: Origin) -> BaseStream:
        """The stream of the message's own format, set up to decode it."""
        inner, names = origin.stream, origin.names
        inner.base, inner.live = self.base, self.live
        inner.shaped, inner.whole = self.shaped, self.whole
        inner.interface_name = (lambda index: names.get(index, index)) if names else int
        return inner

    def raw(self, data: bytes, message: Message) -> bytes:
        inner: BaseStream = message.origin.stream
        return inner.raw(data, message)


PACKET_NEEDLE = 32
"""How many bytes the needle of pcap looks at: a packet's head, and 16 bytes of the packet."""
_ATTRIBUTE = (
    rb"(?:[\x04-\xff]\x00|.[\x01-\xff])[\x00-\x3f][\x00\x40\x80]"
    rb"|(?:\x00[\x04-\xff]|[\x01-\xff].)[\x00\x40\x80][\x00-\x3f]"
)
"""The head of an attribute in either byte order: a length of 4 or more, a low number."""
_BODIES = {
    239: rb"[\x00-\x0c]\x00..(?:%b)" % _ATTRIBUTE,  # nfgenmsg before it
    253: rb"\x00[\x00-\x07].{12}\x00[\x00-\x1f]",  # struct sockaddr_ll, less its address
}
"""How a packet of pcap begins, by link type."""


def _small(most: int, order: str) -> bytes:
    """The pattern of a 32-bit number up to `most`, as far as its two upper bytes tell."""
    upper, second = most >> 24, 0xFF if most >> 24 else most >> 16
    first = rb"[\x00-\x%02x]" % upper
    return (
        first + rb"[\x00-\x%02x].." % second
        if order == ">"
        else (rb"..[\x00-\x%02x]" % second + first)
    )


def _packet_needle(interface: Interface, order: str) -> re.Pattern[bytes]:
    """What a packet of pcap looks like: small numbers, and a packet of its link type."""
    fraction, caplen = _small(interface.units - 1, order), _small(Stream.longest(interface), order)
    body = _BODIES.get(interface.linktype, b"")
    return re.compile(rb"....%b(?!\x00{4})%b....%b" % (fraction, caplen, body), re.S)


_decoder = attrgetter("origin.stream", "origin.names")
"""What has to be the same for messages to be decoded together."""


@cache
def formats_by_linktype() -> dict[int, ModuleType]:
    """The format module of each link type that pylog can decode."""
    return {linktype: module for module in modules().values() for linktype in module.LINKTYPES}


def stream(name: str, head: bytes = b"") -> Stream:
    """A capture's layouts are those of its packets: it has none to be named; ValueError."""
    raise ValueError(f"no layout {name!r} of a capture file itself")


def known_layouts() -> list[str]:
    """None of its own: a capture's layouts are those of its packets."""
    return []


def probe(head: bytes, final: bool) -> list[Guess]:
    """Read the first bytes as a capture; DecodeError for one without packets that pylog knows."""
    if container(head[:12]) is None:
        return []
    trial = Stream()
    items = trial.split(head, final)
    if not trial.container:
        for item in items:
            if isinstance(item, Damage):
                raise item.error.again()
        raise DecodeError("capture file", f"cut off after {len(head)} bytes", "24 and more", 0)
    known = [t for t in trial.linktypes if t in formats_by_linktype()]
    present = trial.linktypes or {i.linktype: 0 for i in trial.interfaces}
    if present and not known and not any(t in formats_by_linktype() for t in present):
        expected = " or ".join(linktype_text(t) for t in sorted(formats_by_linktype()))
        found = " and ".join(linktype_text(t) for t in sorted(present))
        raise DecodeError("link type", found, expected, 0)
    layout, evidence, layouts = None, [], list(trial.layouts)
    rivals: list[tuple[str, int, int]] = []
    unnamed = [i for i in items if isinstance(i, Damage) and i.error.field == "if_description"]
    if unnamed:
        joined = b"".join(head[d.offset : d.offset + d.size] for d in unnamed)
        guesses = formats_by_linktype()[116].probe(joined, True)
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
            stream=partial(Stream, layout),
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
