"""Capture files: pcap (both byte orders, micro- and nanoseconds) and pcapng, read and written.

`Stream` reads the blocks and hands the packets to the format of their link type, which finds its
messages in them: NFLOG 239, NETLINK 253, IPFILTER 116. A pcapng interface of IPFILTER names the
layout of its records in if_description. epb_dropcount tells losses. Packets of other link types
and unknown blocks are counted in `other`.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, the tcpdump.org link type list.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from struct import Struct as CStruct
from types import ModuleType
from typing import Any

import msgspec
from construct import Int16ub, Int16ul, Int32sb, Int32sl, Int32ub, Int32ul, Int64sb, Int64sl, Struct

from pylog.errors import DecodeError
from pylog.formats import Damage, Dropped, Guess, Item, Message, modules
from pylog.formats import Stream as BaseStream
from pylog.formats.plan import Plan
from pylog.record import Record

LINKTYPES = ()

LINKTYPE_NAMES = {
    0: "NULL", 1: "ETHERNET", 101: "RAW", 105: "IEEE802_11", 108: "LOOP", 113: "LINUX_SLL",
    116: "IPFILTER", 117: "PFLOG", 127: "IEEE802_11_RADIOTAP", 220: "USB_LINUX_MMAPPED",
    228: "IPV4", 229: "IPV6", 239: "NFLOG", 253: "NETLINK", 276: "LINUX_SLL2",
}  # fmt: skip

MAGIC_USEC, MAGIC_NSEC = 0xA1B2C3D4, 0xA1B23C4D
MAXIMUM_SNAPLEN = 262144
MAXIMUM_BLOCK = 1 << 24

SHB, IDB, PB, SPB, NRB, ISB, EPB = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
OPT_END, OPT_COMMENT, IF_NAME, IF_DESCRIPTION = 0, 1, 2, 3
IF_TSRESOL, IF_TSOFFSET, EPB_DROPCOUNT = 9, 14, 4
SHB_HARDWARE, SHB_OS, SHB_USERAPPL = 2, 3, 4


@cache
def schemas(order: str) -> dict[str, Struct]:
    """The headers and blocks of both formats as construct schemas; `order` is < or >."""
    little = order == "<"
    u16, u32 = (Int16ul, Int32ul) if little else (Int16ub, Int32ub)
    i32, i64 = (Int32sl, Int64sl) if little else (Int32sb, Int64sb)
    block = ("type" / u32, "total_length" / u32)
    return {
        "pcap": Struct(
            "magic" / u32, "major" / u16, "minor" / u16, "thiszone" / i32, "sigfigs" / u32,
            "snaplen" / u32, "network" / u32,
        ),
        "pcap packet": Struct("sec" / u32, "fraction" / u32, "caplen" / u32, "len" / u32),
        "block": Struct(*block),
        "section": Struct(*block, "byte_order" / u32, "major" / u16, "minor" / u16,
                          "section_length" / i64),
        "interface": Struct(*block, "linktype" / u16, "reserved" / u16, "snaplen" / u32),
        "enhanced packet": Struct(*block, "interface" / u32, "high" / u32, "low" / u32,
                                  "caplen" / u32, "len" / u32),
        "packet": Struct(*block, "interface" / u16, "drops" / u16, "high" / u32, "low" / u32,
                         "caplen" / u32, "len" / u32),
        "simple packet": Struct(*block, "len" / u32),
        "option": Struct("code" / u16, "length" / u16),
    }  # fmt: skip


@cache
def _plans(order: str) -> dict[str, Plan]:
    return {name: Plan(schema) for name, schema in schemas(order).items()}


class Interface(msgspec.Struct):
    """An interface of a capture: pcap has one, pcapng any number in each section.

    units   time stamps count 1/units seconds, from `offset_s` seconds after 1970
    """

    linktype: int
    snaplen: int = 0
    name: str = ""
    description: str = ""
    units: int = 1_000_000
    offset_s: int = 0

    def nanoseconds(self, ticks: int) -> int:
        return self.offset_s * 10**9 + ticks * 10**9 // self.units


class Origin(msgspec.Struct):
    """Where a message was captured: link type, interface, time of capture; `cut` by the snaplen.

    stream   the stream of the format that it is of
    """

    linktype: int
    stream: BaseStream
    observed_ns: int | None = None
    interface: str = ""
    cut: bool = False


class Stream(BaseStream):
    """The messages in a capture file, pcap or pcapng.

    layout   for packets of LINKTYPE_IPFILTER whose interface does not name their layout
    """

    source = "capture"

    def __init__(self, inner_layout: str | None = None) -> None:
        super().__init__()
        self.container = ""
        self.order = "<"
        self.interfaces: list[Interface] = []
        self.linktypes: dict[int, int] = {}
        """How many packets there were of each link type."""
        self.inner_layout = inner_layout
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
        self.container, self.order, units = kind
        if self.container == "pcap":
            major = _plans(self.order)["pcap"].unpack(data, pos)[1]
            if major != 2:
                raise self.error(pos + 4, "version_major", major, 2)
            *_, snaplen, network = _plans(self.order)["pcap"].unpack(data, pos)
            self.interfaces = [Interface(network & 0xFFFF, snaplen, units=units)]
        self._set_order(self.order)

    def _set_order(self, order: str) -> None:
        self.order = order
        self._header = _plans(order)["block"].unpack
        self._packet = _plans(order)["pcap packet"].unpack
        if self.container == "pcapng":
            self.needle = EPB.to_bytes(4, "little" if order == "<" else "big")

    def _measure_packet(self, data: bytes, pos: int) -> int:
        if pos + 16 > len(data):
            return pos + 16
        _, fraction, caplen, _ = self._packet(data, pos)
        interface = self.interfaces[0]
        limit = max(interface.snaplen & 0x7FFFFFFF, MAXIMUM_SNAPLEN)
        if caplen > min(limit, MAXIMUM_BLOCK):
            raise self.error(pos + 8, "caplen", caplen, f"at most {min(limit, MAXIMUM_BLOCK)}")
        if fraction >= interface.units:
            raise self.error(pos + 4, "fraction of a second", fraction, f"below {interface.units}")
        return pos + 16 + int(caplen)

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
            size = _plans(order)["block"].unpack(data, pos)[1]
        if size < 12 or size % 4 or size > MAXIMUM_BLOCK:
            raise self.error(pos + 4, "block length", size, f"12 to {MAXIMUM_BLOCK}, in fours")
        end = pos + int(size)
        if end <= len(data):
            again = int.from_bytes(data[end - 4 : end], "little" if order == "<" else "big")
            if again != size:
                raise self.error(end - 4, "block length at its end", again, size)
        return end

    def begins(self, data: bytes, pos: int, final: bool) -> bool | None:
        answer = super().begins(data, pos, final)
        linktype = self.interfaces[0].linktype if self.interfaces else 0
        module = formats_by_linktype().get(linktype)
        if not answer or not self._is_pcap or module is None:
            return answer
        # the head of a pcap packet has little to tell it by: what it holds must decode as well
        start, end, items = pos + 16, self.measure(data, pos), list[Item]()
        try:
            stream = self._inner_stream(module, data, start, end, self.interfaces[0])
            stream.base = self.base
            stream.captured(data, start, end, Origin(linktype, stream), items)
            for item in items:
                if isinstance(item, Message):
                    stream.decode(data, item)
        except DecodeError:
            return False
        return bool(items)

    # Blocks

    def accept(self, data: bytes, start: int, end: int, items: list[Item]) -> None:
        if self.container == "pcap":
            if self.base + start > 0:
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
        elif kind == IDB:
            self._accept_interface(data, start, end)
        elif kind in (EPB, PB, SPB):
            self._accept_block(kind, data, start, end, items)
        else:
            self.other += 1

    def _accept_interface(self, data: bytes, start: int, end: int) -> None:
        plan = _plans(self.order)["interface"]
        if end - start < plan.size + 4:
            raise self.error(start, "interface block", f"{end - start} bytes", plan.size + 4)
        _, _, linktype, _, snaplen = plan.unpack(data, start)
        interface = Interface(linktype, snaplen)
        little = "little" if self.order == "<" else "big"
        for code, at, stop in self._options(data, start + plan.size, end - 4):
            value = data[at:stop]
            if code == IF_NAME:
                interface.name = value.decode("utf-8", "backslashreplace")
            elif code == IF_DESCRIPTION:
                interface.description = value.decode("utf-8", "backslashreplace")
            elif code == IF_TSRESOL and len(value) == 1:
                base, power = (2 if value[0] & 0x80 else 10), value[0] & 0x7F
                if power > 63:
                    raise self.error(at, "if_tsresol", value[0], "10^-63 or coarser")
                interface.units = base**power
            elif code == IF_TSOFFSET and len(value) == 8:
                interface.offset_s = int.from_bytes(value, little, signed=True)  # type: ignore[arg-type]
        self.interfaces.append(interface)

    def _options(self, data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The options in data[start:end] as (code, value's start, value's end)."""
        unpack = _plans(self.order)["option"].unpack
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
        plan = _plans(self.order)[name]
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
                    order: Any = "little" if self.order == "<" else "big"
                    lost = int.from_bytes(data[first:last], order)
        if lost:
            items.append(Dropped(self.base + start, lost))
        self._accept_packet(data, at, at + caplen, interface, ticks, caplen < f["len"], items)

    def _accept_packet(
        self, data: bytes, start: int, end: int, interface: Interface, ticks: int | None,
        cut: bool, items: list[Item],
    ) -> None:  # fmt: skip
        linktype = interface.linktype
        self.linktypes[linktype] = self.linktypes.get(linktype, 0) + 1
        module = formats_by_linktype().get(linktype)
        if module is None:
            self.other += 1
            return
        before = len(items)
        try:
            stream = self._inner_stream(module, data, start, end, interface)
            stream.base = self.base
            observed = None if ticks is None else interface.nanoseconds(ticks)
            if observed is not None and not 0 <= observed < 253402300800 * 10**9:
                observed = None
            origin = Origin(linktype, stream, observed, interface.name, cut)
            other = stream.other
            stream.captured(data, start, end, origin, items)
            self.other += stream.other - other
        except DecodeError as error:
            at = items[-1].end if len(items) > before and isinstance(items[-1], Message) else start
            items.append(Damage(self.base + at, end - at, error))

    def _inner_stream(
        self, module: ModuleType, data: bytes, start: int, end: int, interface: Interface
    ) -> BaseStream:
        """The stream of the packet's format: as the interface names it, or as its bytes tell."""
        stream: BaseStream
        linktype = interface.linktype
        for name in (self.inner_layout, interface.description):
            if not name:
                continue
            if (linktype, name) in self._inner:
                return self._inner[linktype, name]
            try:
                stream = module.stream(name)
            except ValueError:
                continue
            return self._inner.setdefault((linktype, name), stream)
        stream = module.captured_stream(data[start:end], linktype, self.base + start)
        return self._inner.setdefault((linktype, stream.layout), stream)

    # Messages

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        inner: BaseStream = message.origin.stream
        inner.base = self.base
        return inner.decode(data, message, raw)

    def raw(self, data: bytes, message: Message) -> bytes:
        inner: BaseStream = message.origin.stream
        return inner.raw(data, message)


def container(head: bytes) -> tuple[str, str, int] | None:
    """("pcap" or "pcapng", byte order, units a second of pcap) by the first 12 bytes, or None."""
    for order in "<>":
        magic = CStruct(order + "I").unpack_from(head.ljust(4, b"\0"))[0]
        if magic in (MAGIC_USEC, MAGIC_NSEC):
            return "pcap", order, 10**6 if magic == MAGIC_USEC else 10**9
        bom = CStruct(order + "I").unpack_from(head.ljust(12, b"\0"), 8)[0]
        if magic == SHB and bom == BYTE_ORDER_MAGIC:
            return "pcapng", order, 10**6
    return None


@cache
def formats_by_linktype() -> dict[int, ModuleType]:
    """The format module of each link type that pylog can decode."""
    return {linktype: module for module in modules().values() for linktype in module.LINKTYPES}


def linktype_text(linktype: int) -> str:
    """A link type's number and name, as "239 (NFLOG)"."""
    name = LINKTYPE_NAMES.get(linktype)
    return f"{linktype} ({name})" if name else str(linktype)


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


# Writing


def pcap_header(
    linktype: int, *, snaplen: int = MAXIMUM_SNAPLEN, order: str = "<", nanoseconds: bool = True
) -> bytes:
    """The head of a pcap file."""
    return schemas(order)["pcap"].build(
        {"magic": MAGIC_NSEC if nanoseconds else MAGIC_USEC, "major": 2, "minor": 4, "thiszone": 0,
         "sigfigs": 0, "snaplen": snaplen, "network": linktype}
    )  # fmt: skip


def pcap_packet(
    data: bytes, observed_ns: int, *, length: int | None = None, order: str = "<",
    nanoseconds: bool = True,
) -> bytes:  # fmt: skip
    """A packet of a pcap file; `length` is the one before it was cut, if it was."""
    second, fraction = divmod(observed_ns, 10**9)
    head = {"sec": second, "fraction": fraction if nanoseconds else fraction // 1000,
            "caplen": len(data), "len": len(data) if length is None else length}  # fmt: skip
    return schemas(order)["pcap packet"].build(head) + data


def _option(code: int, value: bytes, order: str) -> bytes:
    head = schemas(order)["option"].build({"code": code, "length": len(value)})
    return head + value + bytes(-len(value) % 4)


def _block(
    name: str, kind: int, fields: dict[str, int], body: bytes, options: list[tuple[int, bytes]],
    order: str,
) -> bytes:  # fmt: skip
    schema = schemas(order)[name]
    if options:
        body += b"".join(_option(code, value, order) for code, value in options)
        body += _option(OPT_END, b"", order)
    size = schema.sizeof() + len(body) + 4
    tail = size.to_bytes(4, "little" if order == "<" else "big")
    return schema.build({"type": kind, "total_length": size, **fields}) + body + tail


def section_block(
    *, hardware: str = "", os: str = "", application: str = "", comment: str = "", order: str = "<"
) -> bytes:
    """The section header that begins a pcapng file."""
    texts = ((OPT_COMMENT, comment), (SHB_HARDWARE, hardware), (SHB_OS, os),
             (SHB_USERAPPL, application))  # fmt: skip
    fields = {"byte_order": BYTE_ORDER_MAGIC, "major": 1, "minor": 0, "section_length": -1}
    options = [(code, text.encode()) for code, text in texts if text]
    return _block("section", SHB, fields, b"", options, order)


def interface_block(
    linktype: int, *, name: str = "", description: str = "", snaplen: int = 0, order: str = "<"
) -> bytes:
    """A pcapng interface whose packets have times in nanoseconds; ipl: description = layout."""
    texts = ((IF_NAME, name), (IF_DESCRIPTION, description))
    options = [(code, text.encode()) for code, text in texts if text] + [(IF_TSRESOL, b"\x09")]
    fields = {"linktype": linktype, "reserved": 0, "snaplen": snaplen}
    return _block("interface", IDB, fields, b"", options, order)


def packet_block(
    data: bytes, observed_ns: int, *, interface: int = 0, length: int | None = None,
    dropped: int = 0, order: str = "<",
) -> bytes:  # fmt: skip
    """A pcapng enhanced packet; `dropped` packets were lost between it and the one before."""
    fields = {"interface": interface, "high": observed_ns >> 32, "low": observed_ns & 0xFFFFFFFF,
              "caplen": len(data), "len": len(data) if length is None else length}  # fmt: skip
    count = dropped.to_bytes(8, "little" if order == "<" else "big")
    options = [(EPB_DROPCOUNT, count)] if dropped else []
    body = data + bytes(-len(data) % 4)
    return _block("enhanced packet", EPB, fields, body, options, order)
