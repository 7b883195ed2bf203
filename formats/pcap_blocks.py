"""The headers and blocks of pcap and pcapng as construct schemas, and the writing of both.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, the tcpdump.org link type list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from struct import Struct as CStruct

import msgspec
from construct import (
    Int8ub,
    Int16ub,
    Int16ul,
    Int32sb,
    Int32sl,
    Int32ub,
    Int32ul,
    Int64sb,
    Int64sl,
    Struct,
)

from pylog.formats.interface_names import LONGEST_NAME
from pylog.formats.items import MAXIMUM_COUNT
from pylog.formats.plan import BYTEORDER, Plan
from pylog.record import MAX_SECONDS, LossRecord

LINKTYPE_NAMES = {
    0: "NULL", 1: "ETHERNET", 12: "RAW", 14: "RAW", 17: "OLD_PFLOG", 101: "RAW",
    105: "IEEE802_11", 108: "LOOP",
    113: "LINUX_SLL", 116: "IPFILTER", 117: "PFLOG", 127: "IEEE802_11_RADIOTAP",
    220: "USB_LINUX_MMAPPED",
    228: "IPV4", 229: "IPV6", 239: "NFLOG", 253: "NETLINK", 276: "LINUX_SLL2",
}  # fmt: skip

COOKED = (113, 276)
"""Linux cooked captures: pylog reads those of nlmon, which hold netlink messages."""
PARTLY = {
    **dict.fromkeys(COOKED, ("LINUX_SLL of nlmon", "LINUX_SLL without netlink messages")),
    1: ("ETHERNET of ipfw0", "ETHERNET, not of ipfw0"),
}
"""Link types of which pylog reads some captures: what it reads, and what it does not."""

MAGIC_USEC, MAGIC_NSEC, MAGIC_MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
PCAP_MAGICS = {
    MAGIC_USEC: ("pcap packet", 10**6),
    MAGIC_NSEC: ("pcap packet", 10**9),
    MAGIC_MODIFIED: ("modified pcap packet", 10**6),
}
"""By magic: the plan of a packet's header, and the units of its times in a second."""
MAXIMUM_SNAPLEN = 262144
MAXIMUM_BLOCK = 1 << 24

SHB, IDB, PB, SPB, NRB, ISB, EPB = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6
PACKETS = {EPB: "enhanced packet", PB: "packet", SPB: "simple packet"}
READ = frozenset((SHB, IDB, ISB, *PACKETS))
"""Types of the blocks that are read; others are stepped over."""

PASSED_OVER = frozenset((NRB, 7, 8, 9, 10, 0x101, 0x102, *range(0x201, 0x300), 0xBAD, 0x40000BAD))
"""Registered types of blocks that are not read and may have any size, as may those in LOCAL_USE. Of
any other type a length above MAXIMUM_BLOCK is damage: half of all random numbers are types of local
use, and damage must not hide what follows it."""

LOCAL_USE = range(0x80000000, 0x80010000)

BYTE_ORDER_MAGIC = 0x1A2B3C4D
OPT_END, OPT_COMMENT, IF_NAME, IF_DESCRIPTION = 0, 1, 2, 3
IF_TSRESOL, IF_TSOFFSET, EPB_DROPCOUNT = 9, 14, 4
PACKET_OPTIONS = frozenset((*range(16), 2988, 2989, 19372, 19373))
"""Option codes that a packet may have, with room for new codes, and the custom codes."""
ISB_IFRECV, ISB_IFDROP, ISB_OSDROP = 4, 5, 7
SHB_HARDWARE, SHB_OS, SHB_USERAPPL = 2, 3, 4


_HOST, _START = "host ", ", begun "
NOTE = b"pylog "
"""The beginning of a comment that holds a Note."""

MAXIMUM_TICKS = 2**64 - 1
"""The latest time of a block, in nanoseconds since 1970: 2554-07-21T23:34:33.709551615Z."""
MAXIMUM_OPTION = 2**16 - 1
"""The most bytes that the value of an option can have."""
MAXIMUM_NAME, MAXIMUM_REASON, NAMES, OCTETS = LONGEST_NAME, 6000, 20, 8000
MAXIMUM_OF_PROCESS = 4096
"""The most that a note holds: characters of a name and of a reason, names, bytes of damage, and
characters of a command line and of a cgroup.
JSON makes at most 6 bytes of a character, so that every note fits into an option."""
MAXIMUM_OCTETS = 1 << 18
"""The most bytes of damage that notes keep."""
MARK = "..."
"""Ends a text that was shortened."""

_MINIMUM_NS, _MAXIMUM_NS = -62135596800 * 10**9, (MAX_SECONDS + 1) * 10**9 - 1
_RANGES = {
    "count": (0, MAXIMUM_COUNT),
    "size": (0, MAXIMUM_COUNT),
    "seq": (0, 2**32 - 1),
    "interface": (0, 2**32 - 1),
    "timestamp": (_MINIMUM_NS, _MAXIMUM_NS),
    "observed": (_MINIMUM_NS, _MAXIMUM_NS),
    "uid": (0, 2**32 - 1),
}


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What pylog keeps in a comment, as "pylog " and JSON, because pcapng has no field for it.

    interfaces   of a packet: interface names that apply from here on, by the numbers in packets;
                 null removes a name
    lost         the reason of a loss before the packet, or after the last packet (in an interface's
                 statistics); "" without a reason. The fields from `source` to `octets` are those of
                 LossRecord, with times in nanoseconds since 1970 and raw bytes in hex
    octets       without `lost`: more bytes for the note before
    interface    the place in the section of the interface that lost the records
    source       missing in notes of older pylogs, which have only the reason and `count`
    timestamp, observed   without `lost`: the packet's time, which its block cannot hold
    netns        of an interface: the network namespace of its messages
    unobserved   of an interface: the times are the kernel's, the time of receipt was not noted
    uid, cmdline, cgroup   of a commit of nftables: of the process that made it, as /proc had them
    """

    interfaces: dict[int, str | None] = {}
    lost: str | None = None
    source: str | None = None
    layout: str | None = None
    log: str | None = None
    seq: int | None = None
    count: int | None = None
    size: int | None = None
    timestamp: int | None = None
    observed: int | None = None
    octets: str | None = None
    interface: int | None = None
    unobserved: bool = False
    netns: str | int | None = None
    uid: int | None = None
    cmdline: str | None = None
    cgroup: str | None = None

    @property
    def tells_process(self) -> bool:
        """Whether it has something of the process that made a commit."""
        return (self.uid, self.cmdline, self.cgroup) != (None, None, None)

    def comment(self) -> bytes:
        return NOTE + msgspec.json.encode(self)

    def impossible(self) -> tuple[str, int, str] | None:
        """The first number that is out of range: its name, its value, and the range."""
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                return name, value, f"{least} to {most}"
        for number in self.interfaces:
            if not 0 <= number < 2**32:
                return "interface", number, f"0 to {2**32 - 1}"
        return None

    def loss(self) -> LossRecord | None:
        """The loss that the note reports; None without one, or if an older pylog wrote it."""
        if self.lost is None or self.source is None:
            return None
        return LossRecord(
            source=self.source,
            layout=self.layout or "unknown",
            timestamp_ns=self.timestamp,
            observed_ns=self.observed,
            seq=self.seq,
            count=self.count,
            size=self.size,
            log=self.log,
            reason=self.lost or None,
            raw=self.damaged(),
        )

    def damaged(self) -> bytes | None:
        """The bytes that `octets` holds."""
        try:
            return bytes.fromhex(self.octets or "") or None
        except ValueError:
            return None


def loss_notes(loss: LossRecord, interface: int | None = None) -> Iterator[Note]:
    """The notes of a loss: the first has everything, the others the rest of its octets.

    interface   the place in the section of the interface that lost the records

    A text that is too long is shortened, with MARK at its end. A number that a reader would refuse
    becomes part of the reason.
    """
    numbers = {"seq": loss.seq, "count": loss.count, "size": loss.size,
               "timestamp": loss.timestamp_ns, "observed": loss.observed_ns}  # fmt: skip
    reason = loss.reason or ""
    for name, value in numbers.items():
        if value is not None and not _RANGES[name][0] <= value <= _RANGES[name][1]:
            reason += f"; {name} {value}"
            numbers[name] = None
    raw = (loss.raw or b"")[:MAXIMUM_OCTETS]
    yield Note(
        lost=_shortened(reason, MAXIMUM_REASON),
        source=_shortened(loss.source, MAXIMUM_NAME),
        layout=_shortened(loss.layout, MAXIMUM_NAME),
        log=None if loss.log is None else _shortened(loss.log, MAXIMUM_NAME),
        seq=numbers["seq"],
        count=numbers["count"],
        size=numbers["size"],
        timestamp=numbers["timestamp"],
        observed=numbers["observed"],
        octets=raw[:OCTETS].hex() or None,
        interface=interface,
    )
    for at in range(OCTETS, len(raw), OCTETS):
        yield Note(octets=raw[at : at + OCTETS].hex())


def name_notes(names: dict[int, str | None]) -> Iterator[Note]:
    """As many notes as the interface names need; `short_name` must have made them."""
    numbers = list(names)
    for at in range(0, len(numbers), NAMES):
        yield Note(interfaces={number: names[number] for number in numbers[at : at + NAMES]})


def process_note(uid: int | None, cmdline: str | None, cgroup: str | None) -> Note | None:
    """The note of the process that made a commit; None if nothing is known of it."""
    texts = [
        None if text is None else _shortened(text, MAXIMUM_OF_PROCESS) for text in (cmdline, cgroup)
    ]
    made = Note(uid=uid, cmdline=texts[0], cgroup=texts[1])
    return made if made.tells_process else None


def short_name(name: str) -> str:
    """A name as a note can hold it."""
    return _shortened(name, MAXIMUM_NAME)


def _shortened(text: str, most: int) -> str:
    """The text in at most `most` characters, all of which UTF-8 can encode."""
    text = text[: most + 1].encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else text[: most - len(MARK)] + MARK


def note(comment: bytes) -> Note | None:
    """The note in a packet's comment; None for the comment of another program."""
    if not comment.startswith(NOTE):
        return None
    try:
        return msgspec.json.decode(comment[len(NOTE) :], type=Note)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


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
        # of Alexey Kuznetzov's patched libpcap, in the Linux distributions of the 1990s
        "modified pcap packet": Struct(
            "sec" / u32, "fraction" / u32, "caplen" / u32, "len" / u32, "ifindex" / u32,
            "protocol" / u16, "pkt_type" / Int8ub, "_pad" / Int8ub,
        ),
        "block": Struct(*block),
        "section": Struct(*block, "byte_order" / u32, "major" / u16, "minor" / u16,
                          "section_length" / i64),
        "interface": Struct(*block, "linktype" / u16, "reserved" / u16, "snaplen" / u32),
        "enhanced packet": Struct(*block, "interface" / u32, "high" / u32, "low" / u32,
                                  "caplen" / u32, "len" / u32),
        "packet": Struct(*block, "interface" / u16, "drops" / u16, "high" / u32, "low" / u32,
                         "caplen" / u32, "len" / u32),
        "simple packet": Struct(*block, "len" / u32),
        "statistics": Struct(*block, "interface" / u32, "high" / u32, "low" / u32),
        "option": Struct("code" / u16, "length" / u16),
    }  # fmt: skip


@cache
def plans(order: str) -> dict[str, Plan]:
    return {name: Plan(schema) for name, schema in schemas(order).items()}


class Magic(msgspec.Struct, frozen=True):
    """The meaning of a capture file's first bytes.

    head    the name of the plan of a pcap packet's header
    units   of pcap's times in a second
    """

    container: str
    order: str
    head: str = ""
    units: int = 10**6


MAGICS = frozenset(
    magic.to_bytes(4, order) for magic in (*PCAP_MAGICS, SHB) for order in BYTEORDER.values()
)
"""The first four bytes of a capture file, of either kind and byte order."""


def magic_of(head: bytes) -> Magic | None:
    """The meaning of the first 12 bytes of a file; None if no capture begins so."""
    if head[:4] in MAGICS:
        for order, byteorder in BYTEORDER.items():
            magic = int.from_bytes(head[:4], byteorder)
            if magic in PCAP_MAGICS:
                return Magic("pcap", order, *PCAP_MAGICS[magic])
            if magic == SHB and int.from_bytes(head[8:12], byteorder) == BYTE_ORDER_MAGIC:
                return Magic("pcapng", order)
    return None


def linktype_text(linktype: int) -> str:
    """A link type's number and name, as "239 (NFLOG)"."""
    name = LINKTYPE_NAMES.get(linktype)
    return f"{linktype} ({name})" if name else str(linktype)


def linktypes_text(linktypes: Iterable[int]) -> str:
    """The link types that pylog reads, by name, as "link types 12, 14, 101 (RAW), 239 (NFLOG)"."""
    numbers: dict[str, list[str]] = {}
    for linktype in sorted(linktypes):
        name = PARTLY[linktype][0] if linktype in PARTLY else LINKTYPE_NAMES[linktype]
        numbers.setdefault(name, []).append(str(linktype))
    return "link types " + ", ".join(
        f"{(' and ' if len(own) == 2 else ', ').join(own)} ({name})"
        for name, own in numbers.items()
    )


def refused_text(linktype: int) -> str:
    """As `linktype_text`, for a capture in which pylog can read nothing."""
    if linktype in PARTLY:
        return f"{linktype} ({PARTLY[linktype][1]})"
    return linktype_text(linktype)


# Writing


def ticks(time_ns: int) -> int:
    """The nearest time that a block can hold, in nanoseconds since 1970."""
    return min(max(time_ns, 0), MAXIMUM_TICKS)


def _option(code: int, value: bytes, order: str) -> bytes:
    """An option; a text that is too long is cut, with MARK at its end."""
    if len(value) > MAXIMUM_OPTION:
        value = value[: MAXIMUM_OPTION - len(MARK)] + MARK.encode()
    head = plans(order)["option"].pack({"code": code, "length": len(value)})
    return head + value + bytes(-len(value) % 4)


def _block(
    name: str, kind: int, fields: dict[str, int], body: bytes, options: list[tuple[int, bytes]],
    order: str,
) -> bytes:  # fmt: skip
    plan = plans(order)[name]
    if options:
        body += b"".join(_option(code, value, order) for code, value in options)
        body += _option(OPT_END, b"", order)
    size = plan.size + len(body) + 4
    tail = size.to_bytes(4, BYTEORDER[order])
    return plan.pack({"type": kind, "total_length": size, **fields}) + body + tail


def section_comment(host: str, clocks: str) -> str:
    """The comment of a section that names the machine that writes it, and when it began."""
    return f"{_HOST}{host}{_START}{clocks}"


def section_host(comment: bytes) -> str | None:
    """The machine that a comment of `section_comment` names; None for another comment."""
    host, mark, _ = comment.removeprefix(_HOST.encode()).partition(_START.encode())
    if not host or not mark or not comment.startswith(_HOST.encode()):
        return None
    return host.decode("utf-8", "backslashreplace")


def section_block(
    *, hardware: str = "", os: str = "", application: str = "", comment: str = "", order: str = "<"
) -> bytes:
    """The section header that begins a pcapng file."""
    texts = ((OPT_COMMENT, comment), (SHB_HARDWARE, hardware), (SHB_OS, os),
             (SHB_USERAPPL, application))  # fmt: skip
    fields = {"byte_order": BYTE_ORDER_MAGIC, "major": 1, "minor": 0, "section_length": -1}
    options = [(code, text.encode("utf-8", "backslashreplace")) for code, text in texts if text]
    return _block("section", SHB, fields, b"", options, order)


def interface_block(
    linktype: int, *, name: str = "", description: str = "", comment: bytes = b"",
    more: Sequence[bytes] = (), order: str = "<",
) -> bytes:  # fmt: skip
    """A pcapng interface whose packets have times in nanoseconds; ipl: description = layout.

    more   comments, besides `comment`
    """
    texts = (
        (OPT_COMMENT, comment),
        (IF_NAME, name.encode("utf-8", "backslashreplace")),
        (IF_DESCRIPTION, description.encode("utf-8", "backslashreplace")),
    )
    options = [(code, text) for code, text in texts if text] + [(IF_TSRESOL, b"\x09")]
    options += [(OPT_COMMENT, text) for text in more]
    fields = {"linktype": linktype, "reserved": 0, "snaplen": 0}
    return _block("interface", IDB, fields, b"", options, order)


@cache
def _plain_packet(order: str) -> tuple[int, Callable[..., bytes], list[Callable[[int], bytes]]]:
    """For an enhanced packet without options: the size of its header, what packs the header, and
    what packs the end, by how many bytes of padding the packet needs.
    """
    plan = plans(order)["enhanced packet"]
    return plan.size, plan.pack_values, [CStruct(f"{order}{pad}xI").pack for pad in range(4)]


def packet_block(
    data: bytes, observed_ns: int, interface: int = 0, *, length: int | None = None,
    dropped: int = 0, comments: Sequence[bytes] = (), order: str = "<",
) -> bytes:  # fmt: skip
    """A pcapng enhanced packet; `dropped` packets were lost directly before it.

    A time before 1970 or after 2554 does not fit and becomes the nearest that does. A Note in the
    comments must state the right time.
    """
    observed_ns = ticks(observed_ns)
    kept = len(data)
    if length is None:
        length = kept
    high, low, pad = observed_ns >> 32, observed_ns & 0xFFFFFFFF, -kept & 3
    if not dropped and not comments:
        head, pack, ends = _plain_packet(order)
        size = head + kept + pad + 4
        return pack(EPB, size, interface, high, low, kept, length) + data + ends[pad](size)
    fields = {"interface": interface, "high": high, "low": low, "caplen": kept, "len": length}
    count = min(dropped, MAXIMUM_COUNT).to_bytes(8, BYTEORDER[order])
    options = [(OPT_COMMENT, comment) for comment in comments]
    if dropped:
        options.append((EPB_DROPCOUNT, count))
    return _block("enhanced packet", EPB, fields, data + bytes(pad), options, order)


def packet_blocks(
    packets: Iterable[bytes], interfaces: Iterable[int], observed_ns: int, order: str
) -> bytes:
    """Enhanced packets as `packet_block` makes them, all received at the same time."""
    head, pack, ends = _plain_packet(order)
    observed_ns = ticks(observed_ns)
    high, low = observed_ns >> 32, observed_ns & 0xFFFFFFFF
    parts: list[bytes] = []
    for packet, interface in zip(packets, interfaces, strict=True):
        kept = len(packet)
        pad = -kept & 3
        size = head + kept + pad + 4
        parts += pack(EPB, size, interface, high, low, kept, kept), packet, ends[pad](size)
    return b"".join(parts)


def run_blocks(
    data: bytes, starts: Iterable[int], sizes: Iterable[int], interface: int, observed_ns: int,
    order: str,
) -> bytes:  # fmt: skip
    """As `packet_blocks`, of parts of the data that are all of one interface."""
    head, pack, ends = _plain_packet(order)
    observed_ns = ticks(observed_ns)
    high, low = observed_ns >> 32, observed_ns & 0xFFFFFFFF
    around: dict[int, tuple[bytes, bytes]] = {}
    parts: list[bytes] = []
    for at, kept in zip(starts, sizes, strict=True):
        frame = around.get(kept)
        if frame is None:
            pad = -kept & 3
            size = head + kept + pad + 4
            frame = pack(EPB, size, interface, high, low, kept, kept), ends[pad](size)
            around[kept] = frame
        parts += frame[0], data[at : at + kept], frame[1]
    return b"".join(parts)


def statistics_block(
    interface: int, observed_ns: int, *, received: int, dropped: int,
    comments: Sequence[bytes] = (), order: str = "<",
) -> bytes:  # fmt: skip
    """The statistics of a pcapng interface: packets received, and packets lost."""
    observed_ns = ticks(observed_ns)
    fields = {"interface": interface, "high": observed_ns >> 32, "low": observed_ns & 0xFFFFFFFF}
    counts = ((ISB_IFRECV, received), (ISB_IFDROP, dropped))
    options = [(OPT_COMMENT, comment) for comment in comments]
    options += [(c, min(n, MAXIMUM_COUNT).to_bytes(8, BYTEORDER[order])) for c, n in counts]
    return _block("statistics", ISB, fields, b"", options, order)
