"""The headers and blocks of pcap and pcapng as construct schemas, and the writing of both.

Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, the tcpdump.org link type list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from struct import Struct as CStruct

import msgspec
from construct import (
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

from pylog.formats.plan import BYTEORDER, Plan

LINKTYPE_NAMES = {
    0: "NULL", 1: "ETHERNET", 12: "RAW", 14: "RAW", 101: "RAW", 105: "IEEE802_11", 108: "LOOP",
    113: "LINUX_SLL", 116: "IPFILTER", 117: "PFLOG", 127: "IEEE802_11_RADIOTAP",
    220: "USB_LINUX_MMAPPED",
    228: "IPV4", 229: "IPV6", 239: "NFLOG", 253: "NETLINK", 276: "LINUX_SLL2",
}  # fmt: skip

MAGIC_USEC, MAGIC_NSEC = 0xA1B2C3D4, 0xA1B23C4D
MAXIMUM_SNAPLEN = 262144
MAXIMUM_BLOCK = 1 << 24

SHB, IDB, PB, SPB, ISB, EPB = 0x0A0D0D0A, 1, 2, 3, 5, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
OPT_END, OPT_COMMENT, IF_NAME, IF_DESCRIPTION = 0, 1, 2, 3
IF_TSRESOL, IF_TSOFFSET, EPB_DROPCOUNT = 9, 14, 4
ISB_IFRECV, ISB_IFDROP = 4, 5
SHB_HARDWARE, SHB_OS, SHB_USERAPPL = 2, 3, 4


NOTE = b"pylog "
"""How a comment begins that holds a Note."""


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What pylog tells that pcapng has no field for: a comment, "pylog " and JSON.

    interfaces   of a packet: names of interfaces from here on, by the numbers in the packets;
                 null for one that has none any more
    lost         records were lost before the packet, or after the last one (in an interface's
                 statistics), and how that was seen
    count        how many; None: nobody knows. Before a packet, epb_dropcount is for known ones
    unobserved   of an interface: the times are the kernel's, nobody noted when he received
    """

    interfaces: dict[int, str | None] = {}
    lost: str | None = None
    count: int | None = None
    unobserved: bool = False

    def comment(self) -> bytes:
        return NOTE + msgspec.json.encode(self)


def note(comment: bytes) -> Note | None:
    """The note in a packet's comment; None for a comment of someone else's."""
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


def linktype_text(linktype: int) -> str:
    """A link type's number and name, as "239 (NFLOG)"."""
    name = LINKTYPE_NAMES.get(linktype)
    return f"{linktype} ({name})" if name else str(linktype)


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
    return plans(order)["pcap packet"].pack(head) + data


def _option(code: int, value: bytes, order: str) -> bytes:
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
    linktype: int, *, name: str = "", description: str = "", comment: bytes = b"",
    snaplen: int = 0, order: str = "<",
) -> bytes:  # fmt: skip
    """A pcapng interface whose packets have times in nanoseconds; ipl: description = layout."""
    texts = (
        (OPT_COMMENT, comment),
        (IF_NAME, name.encode()),
        (IF_DESCRIPTION, description.encode()),
    )
    options = [(code, text) for code, text in texts if text] + [(IF_TSRESOL, b"\x09")]
    fields = {"linktype": linktype, "reserved": 0, "snaplen": snaplen}
    return _block("interface", IDB, fields, b"", options, order)


@cache
def _plain_packet(order: str) -> tuple[int, Callable[..., bytes], list[Callable[[int], bytes]]]:
    """Of an enhanced packet without options: size of the head, what packs it, and what the end.

    The end is packed according to how many bytes the packet lacks to fill its words.
    """
    plan = plans(order)["enhanced packet"]
    return plan.size, plan.pack_values, [CStruct(f"{order}{pad}xI").pack for pad in range(4)]


def packet_block(
    data: bytes, observed_ns: int, interface: int = 0, *, length: int | None = None,
    dropped: int = 0, comments: Sequence[bytes] = (), order: str = "<",
) -> bytes:  # fmt: skip
    """A pcapng enhanced packet; `dropped` packets were lost between it and the one before.

    A time after the year 2554 does not fit, and becomes the last that does.
    """
    if observed_ns > 2**64 - 1:
        observed_ns = 2**64 - 1
    kept = len(data)
    if length is None:
        length = kept
    high, low, pad = observed_ns >> 32, observed_ns & 0xFFFFFFFF, -kept & 3
    if not dropped and not comments:
        head, pack, ends = _plain_packet(order)
        size = head + kept + pad + 4
        return pack(EPB, size, interface, high, low, kept, length) + data + ends[pad](size)
    fields = {"interface": interface, "high": high, "low": low, "caplen": kept, "len": length}
    count = min(dropped, 2**64 - 1).to_bytes(8, BYTEORDER[order])
    options = [(OPT_COMMENT, comment) for comment in comments]
    if dropped:
        options.append((EPB_DROPCOUNT, count))
    return _block("enhanced packet", EPB, fields, data + bytes(pad), options, order)


def packet_blocks(
    packets: Iterable[bytes], interfaces: Iterable[int], observed_ns: int, order: str
) -> bytes:
    """Enhanced packets as `packet_block` makes them, all received at one time."""
    head, pack, ends = _plain_packet(order)
    observed_ns = min(observed_ns, 2**64 - 1)
    high, low = observed_ns >> 32, observed_ns & 0xFFFFFFFF
    parts: list[bytes] = []
    for packet, interface in zip(packets, interfaces, strict=True):
        kept = len(packet)
        pad = -kept & 3
        size = head + kept + pad + 4
        parts += pack(EPB, size, interface, high, low, kept, kept), packet, ends[pad](size)
    return b"".join(parts)


def statistics_block(
    interface: int, observed_ns: int, *, received: int, dropped: int,
    comments: Sequence[bytes] = (), order: str = "<",
) -> bytes:  # fmt: skip
    """The counts of a pcapng interface: packets received, and packets that were lost."""
    observed_ns = min(observed_ns, 2**64 - 1)
    fields = {"interface": interface, "high": observed_ns >> 32, "low": observed_ns & 0xFFFFFFFF}
    counts = ((ISB_IFRECV, received), (ISB_IFDROP, dropped))
    options = [(OPT_COMMENT, comment) for comment in comments]
    options += [(c, min(n, 2**64 - 1).to_bytes(8, BYTEORDER[order])) for c, n in counts]
    return _block("statistics", ISB, fields, b"", options, order)
