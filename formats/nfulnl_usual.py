"""NFLOG messages as kernels write nearly all of them, decoded several times as fast.

The kernel writes the attributes of a message in one order (__build_packet_message): first those
that the rule, the hook and the neighbour determine, then time, owner and number, the packet last.
The first ones, the head, come again with every message of a rule. What Stream.decode makes of a
head is remembered by its bytes. How long one is is not looked for: the sizes of heads that began
alike are tried. Both memories are bounded, since a neighbour chooses his address.

Whatever is not as usual is left to Stream.decode, which knows all that there can be, so that only
the order of the usual attributes is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from struct import Struct as CStruct
from struct import error as StructError
from typing import Any, Final, NamedTuple

import msgspec

from pylog.formats import Message, Raw, Stream
from pylog.formats.netlink import align, scan
from pylog.formats.packet import FAMILIES, fields
from pylog.memo import Bounded, Memo
from pylog.record import MAX_SECONDS, PacketRecord, Record, rfc3339

NFULA_PACKET_HDR: Final = 1
NFULA_TIMESTAMP: Final = 3
NFULA_PAYLOAD: Final = 9
IFINDEX = (4, 5, 6, 7)
"""NFULA_IFINDEX_INDEV, OUTDEV, PHYSINDEV and PHYSOUTDEV."""
HEAD = frozenset((NFULA_PACKET_HDR, 10, *IFINDEX, 2, 8, 15, 17, 16))
"""And NFULA_PREFIX, MARK, HWADDR, HWTYPE, HWLEN and HWHEADER."""
NUMBERS = (11, 14, 12)
"""NFULA_UID, GID and SEQ, of 32 bits each, in the kernel's order."""
LINK_FIRST = (3, 5)
"""NFPROTO_ARP and NFPROTO_NETDEV, whose payload may begin with a link header."""

KEY: Final = 16
"""So many bytes from nfgenmsg on tell which sizes to try: they end with the size of the prefix."""
SIZES: Final = 4
"""So many sizes are tried."""

_two_words: Final[Callable[[bytes, int], tuple[Any, Any]]] = CStruct(">II").unpack_from
_WORDS: Final = 8

_names = PacketRecord.__struct_fields__
_RULE = slice(_names.index("count"), _names.index("indev"))
_DEVICES = ("indev", "outdev", "physindev", "physoutdev")
_LINK = slice(_names.index("hwaddr"), _names.index("family"))


class _Head(NamedTuple):
    """What the head of a message says.

    rule      fields of the record, from count to reason
    devices   numbers of indev, outdev, physindev and physoutdev, or None
    link      fields of the record, from hwaddr to vlan
    ifindex   the extra of a record that is raw only
    """

    ethertype: int
    rule: tuple[Any, ...]
    devices: tuple[int | None, ...]
    mark: int | None
    link: tuple[Any, ...]
    extra: dict[str, Any]
    ifindex: dict[str, Any]


class Usual:
    """Decodes the messages of one stream.

    stream    decodes those that are not as usual
    order     the byte order of lengths and types, < or >
    readers   number -> (name, size, unpack) of an attribute's value; unpack None: just bytes
    bare      the link type of captures whose messages begin with nfgenmsg
    """

    def __init__(
        self, stream: Stream, order: str, readers: Mapping[int, tuple[str, int, Any]], bare: int
    ) -> None:
        self._stream, self._order, self._readers, self._bare = stream, order, readers, bare
        header = CStruct(f"{order}HH")
        self._header: Callable[[bytes, int], tuple[int, int]] = header.unpack_from

        def begins(number: int) -> int:
            """How the attribute begins: length and type as one number in network order."""
            return int.from_bytes(header.pack(4 + readers[number][1], number))

        self._stamp, (_, size, time) = begins(NFULA_TIMESTAMP), readers[NFULA_TIMESTAMP]
        self._stamp_size, self._time = 4 + size, time
        self._uid, self._gid, self._seq = map(begins, NUMBERS)
        self._sizes: Memo[bytes, list[int]] = Memo(lambda beginning: [])
        self._heads: Bounded[bytes, _Head] = Bounded()

    def records(
        self, data: bytes, messages: Iterable[Message], raw: Raw, found: list[Record]
    ) -> None:
        """As Stream.records."""
        stream, sizes, heads, bare = self._stream, self._sizes, self._heads, self._bare
        header, stamp, stamp_size, time = self._header, self._stamp, self._stamp_size, self._time
        uid_begins, gid_begins, seq_begins = self._uid, self._gid, self._seq
        interface, layout, add = stream.interface_name, stream.layout, found.append
        base: int | None = None if stream.live else stream.base
        shaped = stream.shaped
        pos: int  # numbers that are computed with are declared for the compiled form
        for message in messages:
            start: int = message.start
            end: int = message.end
            origin = message.origin
            at = start if origin is not None and origin.linktype == bare else start + 16
            head, pos = None, at
            for size in sizes[data[at : at + KEY]]:
                pos = at + size
                head = heads.get(data[at:pos])
                if head is not None:
                    break
            if head is None:
                add(stream.record(data, message, raw))
                self._learn(data, message, at)
                continue
            time_ns: Any = None
            uid = gid = seq = None
            try:
                begun, word = _two_words(data, pos)
                if begun == stamp:
                    sec, usec = time(data, pos + 4)
                    if sec <= MAX_SECONDS and usec < 1_000_000:  # else it is none of the usual
                        time_ns = sec * 1_000_000_000 + usec * 1000
                        pos += stamp_size
                        begun, word = _two_words(data, pos)
                if begun == uid_begins:
                    uid = word
                    pos += _WORDS
                    begun, word = _two_words(data, pos)
                if begun == gid_begins:
                    gid = word
                    pos += _WORDS
                    begun, word = _two_words(data, pos)
                if begun == seq_begins:
                    seq = word
                    pos += _WORDS
                size, kind = header(data, pos)
            except StructError:  # the data ends before
                size = kind = 0
            if kind != NFULA_PAYLOAD or size <= 4 or not end - 4 < pos + size <= end:
                add(stream.record(data, message, raw))
                if kind in HEAD:
                    self._learn(data, message, at)
                continue
            ethertype, rule, devices, mark, link, extra, ifindex = head
            indev, outdev, physindev, physoutdev = devices
            count, action, short, direction, hook, number, group, prefix, reason = rule
            offset = None if base is None else base + start
            observed_ns: Any = stream.observed_ns if origin is None else origin.observed_ns
            octets = stream.raw(data, message) if raw else None
            if raw == "only":
                add(PacketRecord(
                    "nflog", layout, offset, time_ns, observed_ns, seq,
                    count, action, short, direction, hook, number, group, prefix, reason,
                    None if indev is None else interface(indev),
                    None if outdev is None else interface(outdev),
                    None if physindev is None else interface(physindev),
                    None if physoutdev is None else interface(physoutdev),
                    extra=ifindex, raw=octets,
                ))  # fmt: skip
                continue
            hwaddr, hwtype, hwheader, vlan = link
            if not shaped:  # it is theirs, who may change it
                extra = extra.copy()
            payload: Any = data[pos + 4 : pos + size]
            (
                family, protocol, saddr, daddr, sport, dport, tcp_flags, icmp_type, icmp_code,
                fragment, length, caplen, cut, extra,
            ) = fields(payload, 0, size - 4, ethertype, extra)  # fmt: skip
            if shaped:
                time_ns = None if time_ns is None else rfc3339(time_ns)
                observed_ns = None if observed_ns is None else rfc3339(observed_ns)
                payload, octets = payload.hex(), None
            add(PacketRecord(
                "nflog", layout, offset, time_ns, observed_ns, seq,
                count, action, short, direction, hook, number, group, prefix, reason,
                None if indev is None else interface(indev),
                None if outdev is None else interface(outdev),
                None if physindev is None else interface(physindev),
                None if physoutdev is None else interface(physoutdev),
                mark, uid, gid, hwaddr, hwtype, hwheader,
                vlan, family, protocol, saddr, daddr, sport, dport, tcp_flags, icmp_type,
                icmp_code, fragment, length, caplen, cut, extra, payload, octets,
            ))  # fmt: skip

    def _learn(self, data: bytes, message: Message, at: int) -> None:
        """Remember the head of a message that was decoded, whose nfgenmsg is at `at`."""
        pos = at + 4
        seen: set[int] = set()
        while pos + 4 <= message.end:
            size, kind = self._header(data, pos)
            if kind not in HEAD or kind in seen:
                break
            seen.add(kind)
            pos += align(size)
        if NFULA_PACKET_HDR not in seen or data[at] in LINK_FIRST or pos > message.end:
            return
        values = {
            number: self._readers[number][2](data, start)
            for number, start, _ in scan(data, at + 4, pos, self._order, 0)
            if self._readers[number][2] is not None
        }
        ethertype, _ = values[NFULA_PACKET_HDR]
        if ethertype not in FAMILIES:
            return
        record = self._stream.decode(data, Message(message.start, pos, message.origin))
        assert isinstance(record, PacketRecord)
        told = msgspec.structs.astuple(record)
        devices = tuple(values[n][0] if n in values else None for n in IFINDEX)
        known = {name: n for name, n in zip(_DEVICES, devices, strict=True) if n is not None}
        self._heads.keep(
            data[at:pos],
            _Head(ethertype, told[_RULE], devices, record.mark, told[_LINK], record.extra or {},
                  {"ifindex": known}),
        )  # fmt: skip
        sizes = self._sizes[data[at : at + KEY]]
        sizes[:] = sorted({pos - at, *sizes[: SIZES - 1]}, reverse=True)
