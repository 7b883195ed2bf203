"""The regular messages of NFLOG, decoded several times as fast as by NfulnlStream.decode.

The kernel writes the attributes of a message in a fixed order (__build_packet_message). First come
those that the rule, the hook and the neighbour determine: the head. Then come time, owner and
number, any of which may be missing, and the packet: the tail. The messages of a rule have few
heads, so what `decode` makes of a head is remembered by its bytes. The size of a head is not
computed: the sizes of earlier heads with the same beginning are tried. Both memories are bounded,
since neighbours choose their addresses. A tail is of one of sixteen kinds, each a schema, so that
one unpack reads it together with the headers of an IPv4 packet. The kind of the last message with
the same head is tried first.

Any other message is irregular and left to `decode`, so only the order of attributes is stated here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from itertools import product
from struct import Struct as CStruct
from struct import error as StructError
from typing import Any, Final, NamedTuple

import msgspec
from construct import Int32ub, Renamed, Struct

from pylog.formats import BESIDE_PACKETS, LEFT_OUT, Message, NextSeq, RawBatch, Stream
from pylog.formats.addresses import addresses
from pylog.formats.ip_numbers import ICMP_ERRORS
from pylog.formats.netlink import align, scan
from pylog.formats.nfulnl_attributes import ATTRIBUTES, READERS
from pylog.formats.packet import IPV4_TCP_NAMES, IPV4_TCP_SIZE, TCP_FLAGS, put_headers
from pylog.formats.packet_schemas import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, FAMILIES, IPV4_TCP
from pylog.formats.plan import Plan
from pylog.formats.stream import Test
from pylog.memo import Bounded, Memo
from pylog.record import MAX_SECONDS, PacketRecord, PacketRow, Record, Row, rfc3339, rfc3339_us
from pylog.record.places import (
    AT_CAPLEN,
    AT_DADDR,
    AT_DPORT,
    AT_EXTRA,
    AT_GID,
    AT_ICMP_CODE,
    AT_ICMP_TYPE,
    AT_INDEV,
    AT_LENGTH,
    AT_OBSERVED,
    AT_OFFSET,
    AT_OUTDEV,
    AT_PAYLOAD,
    AT_PHYSINDEV,
    AT_PHYSOUTDEV,
    AT_PROTOCOL,
    AT_RAW,
    AT_SADDR,
    AT_SEQ,
    AT_SPORT,
    AT_TCP_FLAGS,
    AT_TIMESTAMP,
    AT_UID,
    Values,
)

NFULA_PACKET_HDR: Final = 1
NFULA_PAYLOAD: Final = 9
IFINDEX = (4, 5, 6, 7)
"""NFULA_IFINDEX_INDEV, OUTDEV, PHYSINDEV and PHYSOUTDEV."""
HEAD = frozenset((NFULA_PACKET_HDR, 10, *IFINDEX, 2, 8, 15, 17, 16))
"""The attributes of a head: also NFULA_PREFIX, MARK, HWADDR, HWTYPE, HWLEN and HWHEADER."""
TAIL = (3, 11, 14, 12)
"""The attributes of a tail before the payload: NFULA_TIMESTAMP, UID, GID and SEQ, in the kernel's
order."""
OWNER = (11, 14)
"""Those of the owner."""
ETHERTYPES = {2: ETH_P_IP, 10: ETH_P_IPV6, 3: ETH_P_ARP}
"""The EtherType of a packet whose hw_protocol is 0 or missing, by nfgen_family.

skb->protocol is 0 in OUTPUT before Linux 4.10, and where a program injects packets.
"""
LINK_FIRST = (3, 5)
"""NFPROTO_ARP and NFPROTO_NETDEV, whose payload may begin with a link header."""

KEY: Final = 16
"""The first bytes from nfgenmsg on, by which sizes are remembered. They end with the length of the
prefix."""
SIZES: Final = 4
"""At most this many sizes are tried."""
LONGEST: Final = 512
"""No longer head is remembered; a kernel writes about 300 bytes at most."""

DECIDED: Final = BESIDE_PACKETS - {"uid", "gid"}
"""The attributes of a record that its head decides."""

_DEVICES = ("indev", "outdev", "physindev", "physoutdev")
_AT_DEVICES = (AT_INDEV, AT_OUTDEV, AT_PHYSINDEV, AT_PHYSOUTDEV)


class _Tail(NamedTuple):
    """One kind of tail.

    begins   of time, uid, gid and seq: the attribute's length and type as one number in network
             order; b"" for an attribute that is missing
    unpack   (data, offset) -> length and type, and the value, of each attribute, b"" if missing;
             then length and type of the payload, and the IPV4_TCP_NAMES of its packet
    brief    as `unpack`, without what only a record needs: the owner's numbers and the packet
    payload  where the payload's value begins
    """

    begins: tuple[int | bytes, ...]
    unpack: Callable[[bytes, int], tuple[Any, ...]]
    brief: Callable[[bytes, int], tuple[Any, ...]]
    payload: int


class _Head:
    """The meaning of a head, and the kind of tail that its last message had.

    key        its bytes
    sizes      of the heads that begin alike, its own included
    group      the log
    devices    numbers of indev, outdev, physindev and physoutdev, or None
    values     of the record, as far as the head determines them, with the interface names of the
               call number `turn`
    template   as in RawBatch; replaced when an interface gets another name
    is_wanted  what `test` says of the values; None: not asked since an interface got another name
    """

    def __init__(
        self,
        key: bytes,
        sizes: list[int],
        ethertype: int,
        devices: tuple[int | None, ...],
        record: PacketRecord,
        tail: _Tail,
    ) -> None:
        """`record` is of a message that ends after the head."""
        self.key, self.sizes = key, sizes
        self.ipv4 = ethertype == ETH_P_IP
        self.ethertype, self.devices = ethertype, devices
        self.layout, self.group, self.tail = record.layout, record.log, tail
        self.values: Values = list(msgspec.structs.astuple(record))
        for at in (AT_OFFSET, AT_OBSERVED):
            self.values[at] = None
        self.template: PacketRecord | None = None
        self.turn = 0
        self.test: Test | None = None
        self.is_wanted = True

    def ask(self, test: Test) -> None:
        """Find out whether records with the values may be wanted."""
        self.test, self.is_wanted = test, test(PacketRecord(*self.values))

    def name(self, turn: int, interface: Callable[[int], str | int]) -> None:
        """Take the names that the interfaces have in this call."""
        names = [None if number is None else interface(number) for number in self.devices]
        if self.template is None or names != [self.values[at] for at in _AT_DEVICES]:
            for at, name in zip(_AT_DEVICES, names, strict=True):
                self.values[at] = name
            self.test = None
            pairs = zip(_DEVICES, self.devices, strict=True)
            numbers = {name: number for name, number in pairs if number is not None}
            indev, outdev, physindev, physoutdev = names
            self.template = PacketRecord(
                "nflog", self.layout, group=self.group, indev=indev, outdev=outdev,
                physindev=physindev, physoutdev=physoutdev, extra={"ifindex": numbers},
            )  # fmt: skip
        self.turn = turn


@cache
def _tails(order: str) -> dict[tuple[bool, ...], _Tail]:
    """Every kind of tail, by which of its attributes are present."""
    header = CStruct(f"{order}HH")
    values = {n: _fields(f"{n}", ATTRIBUTES[n][1]) for n in TAIL}
    names = [name for n in TAIL for name in (f"{n} begins", *(v.name for v in values[n]))]
    names += ["payload begins", *IPV4_TCP_NAMES]
    owner = {value.name for n in OWNER for value in values[n]}
    brief_names = [name for name in names if name not in {*owner, *IPV4_TCP_NAMES}]
    found: dict[tuple[bool, ...], _Tail] = {}
    for kind in product((False, True), repeat=len(TAIL)):
        parts, begins, size = list[Any](), list[int | bytes](), 4
        for n, present in zip(TAIL, kind, strict=True):
            length = 4 + READERS[n][1]
            begins.append(int.from_bytes(header.pack(length, n)) if present else b"")
            if present:
                parts += [Renamed(Int32ub, f"{n} begins"), *values[n]]
                size += length
        schema = Struct(*parts, Renamed(Int32ub, "payload begins"), *IPV4_TCP.subcons)
        unpack, _ = Plan(schema).keyed(names, ())
        brief, _ = Plan(schema).keyed(brief_names, ())
        found[kind] = _Tail(tuple(begins), unpack, brief, size)
    return found


class FastPath:
    """Decodes the messages of one stream.

    stream       decodes the irregular messages
    order        the byte order of lengths and types, < or >
    headerless   the link type of captures whose messages begin with nfgenmsg
    """

    def __init__(
        self,
        stream: Stream,
        order: str,
        headerless: int,
    ) -> None:
        self._stream, self._order, self._headerless = stream, order, headerless
        self._readers = READERS
        self._header = CStruct(f"{order}HH")
        self._sizes: Memo[bytes, list[int]] = Memo(lambda beginning: [])
        self._heads: Bounded[bytes, _Head] = Bounded()
        self._payload: Memo[int, int] = Memo(self._payload_size)
        self._turn = 0
        self._tails: dict[tuple[bool, ...], _Tail] = _tails(order)

    def _payload_size(self, begins: int) -> int:
        """The size of NFULA_PAYLOAD's value by the attribute's length and type; 0 for another type.

        begins   length and type as one number in network order
        """
        size, kind = self._header.unpack(begins.to_bytes(4))
        return max(0, size - 4) if kind == NFULA_PAYLOAD else 0

    def _tail_at(self, data: bytes, pos: int) -> _Tail:
        """The kind of the tail at `pos`."""
        kind = []
        for number in TAIL:
            size, found = self._header.unpack_from(data, pos)
            kind.append(found == number and size == 4 + self._readers[number][1])
            pos += size if kind[-1] else 0
        return self._tails[tuple(kind)]

    def records(
        self,
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None,
    ) -> None:
        """As Stream.records."""
        self._read(data, messages, raw, found, numbers, None)

    def raw_batch(
        self, data: bytes, messages: Iterable[Message], numbers: NextSeq
    ) -> RawBatch | None:
        """As Stream.raw_batch."""
        if self._stream.observed_ns is None:  # the times are in the messages
            return None
        copied = RawBatch(self._order, self._stream.observed_ns)
        self._read(data, messages, False, [], numbers, copied)
        return copied if copied.packets else None

    def _read(
        self,
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None,
        copied: RawBatch | None,
    ) -> None:
        """As `records`, or as `raw_batch` if there is a batch to copy the messages into."""
        stream, sizes, heads = self._stream, self._sizes, self._heads
        headerless = self._headerless
        payload_size, interface = self._payload, stream.interface_name
        add, rows, wants_payload = found.append, stream.rows, stream.wants_payload
        make: Any = PacketRow if rows else PacketRecord
        packet: int
        last: _Head | None = None
        base: int | None = None if stream.live else stream.base
        self._turn += 1
        turn: int = self._turn
        asks = numbers is not None and copied is None
        test, fits = stream.tests(DECIDED) if asks else (None, None)
        special: bool = copied is not None or test is not None
        received: Any = stream.observed_ns
        if rows and received is not None:
            received = rfc3339(received)
        for message in messages:
            start: int = message.start
            end: int = message.end
            origin = message.origin
            if copied is not None and origin is not None:  # each has its own time of receipt
                return
            at: int = start if origin is not None and origin.linktype == headerless else start + 16
            pos: int = at
            head = None
            if last is not None and data.startswith(last.key, at) and len(last.sizes) == 1:
                head, pos = last, at + last.sizes[0]  # mostly the same rule
            else:
                for size in sizes[data[at : at + KEY]]:
                    pos = at + size
                    head = heads.get(data[at:pos])
                    if head is not None:
                        break
                last = head
            length: int = 0
            # a head that is not wanted: whether the message is regular and has its number is all
            # that counts of the tail
            if (
                test is not None
                and head is not None
                and not head.is_wanted
                and head.turn == turn
                and head.test is test
                and end - pos >= head.tail.payload
            ):
                tail = head.tail
                timed, sec, usec, owned, grouped, numbered, seq, begins = tail.brief(data, pos)
                length = payload_size[begins]
                packet = pos + tail.payload
                if (
                    length
                    and numbers is not None
                    and numbered
                    and numbers.get(head.group) == seq
                    and tail.begins == (timed, owned, grouped, numbered)
                    and packet + length <= end <= packet + ((length + 3) & ~3)
                    and not (timed and (sec > MAX_SECONDS or usec >= 1_000_000))
                ):
                    numbers[head.group] = (seq + 1) & 0xFFFFFFFF
                    add(LEFT_OUT)
                    continue
                length = 0
            if head is not None:
                tail = head.tail
                try:
                    while True:
                        (
                            timed, sec, usec, owned, uid, grouped, gid, numbered, seq, begins,
                            version, total, bits, protocol, src, dst, sport, dport, flags,
                        ) = tail.unpack(data, pos)  # fmt: skip
                        length = payload_size[begins]
                        if length and tail.begins == (timed, owned, grouped, numbered):
                            break
                        other = self._tail_at(data, pos)
                        if other is tail:
                            length = 0
                            break
                        tail = head.tail = other
                except StructError:  # the data ends before the tail does
                    length = 0
            packet = pos + tail.payload if length else 0
            if (
                head is None
                or not length
                or not packet + length <= end <= packet + ((length + 3) & ~3)
                or (timed and (sec > MAX_SECONDS or usec >= 1_000_000))
            ):
                if copied is not None:
                    return
                record = stream.decode(data, message, raw)
                if head is None or self._goes_on(data, pos):
                    self._learn(data, message, at)
                if numbers is not None and not numbers.pass_on(record):
                    return
                add(stream.given(record))
                continue
            if not numbered:
                seq = None
                if numbers is not None and not numbers.unnumbered:
                    return
            elif numbers is not None:
                if numbers.get(head.group) != seq:
                    return
                numbers[head.group] = (seq + 1) & 0xFFFFFFFF
            if head.turn != turn:
                head.name(turn, interface)
            if special:
                if copied is not None:
                    assert head.template is not None
                    copied.templates.append(head.template)
                    copied.packets.append(data[at:end])
                    continue
                if head.test is not test:
                    assert test is not None
                    head.ask(test)
                if not head.is_wanted:
                    add(LEFT_OUT)
                    continue
            values: Values = head.values.copy()
            if base is not None:
                values[AT_OFFSET] = base + start
            if numbered:
                values[AT_SEQ] = seq
            if owned:
                values[AT_UID] = uid
            if grouped:
                values[AT_GID] = gid
            observed: Any = received if origin is None else origin.observed_ns
            if rows:
                if timed:
                    values[AT_TIMESTAMP] = rfc3339_us(sec, usec)
                if origin is not None and observed is not None:
                    observed = rfc3339(observed)
                if wants_payload:
                    values[AT_PAYLOAD] = data[packet : packet + length].hex()
            else:
                if timed:
                    values[AT_TIMESTAMP] = sec * 1_000_000_000 + usec * 1000
                values[AT_EXTRA] = values[
                    AT_EXTRA
                ].copy()  # the dict is shared, and the caller may change it
                values[AT_PAYLOAD] = data[packet : packet + length]
                if raw:
                    values[AT_RAW] = stream.raw(data, message)
            values[AT_OBSERVED] = observed
            regular = (
                head.ipv4 and version == 0x45 and length >= IPV4_TCP_SIZE and not bits & 0x3FFF
            )
            if regular and protocol == 6:
                values[AT_SPORT], values[AT_DPORT] = sport, dport
                values[AT_TCP_FLAGS] = TCP_FLAGS[flags]
            elif regular and protocol == 17:
                values[AT_SPORT], values[AT_DPORT] = sport, dport
            elif regular and protocol == 1 and sport >> 8 not in ICMP_ERRORS:  # in the same bytes
                values[AT_ICMP_TYPE], values[AT_ICMP_CODE] = sport >> 8, sport & 0xFF
            else:
                put_headers(values, data, packet, packet + length, head.ethertype)
                add(make(*values) if fits is None or fits(values) else LEFT_OUT)
                continue
            values[AT_PROTOCOL] = protocol
            values[AT_SADDR], values[AT_DADDR] = addresses[src], addresses[dst]
            if total >= length:  # as packet.believed
                values[AT_LENGTH] = total
            values[AT_CAPLEN] = length
            add(make(*values) if fits is None or fits(values) else LEFT_OUT)

    def _goes_on(self, data: bytes, pos: int) -> bool:
        """Whether the attribute at `pos` belongs to the head: then a longer head begins alike."""
        return pos + 4 <= len(data) and self._header.unpack_from(data, pos)[1] in HEAD

    def _learn(self, data: bytes, message: Message, at: int) -> None:
        """Remember the head of a message whose nfgenmsg is at `at`."""
        pos = at + 4
        seen: set[int] = set()
        while pos + 4 <= message.end:
            size, kind = self._header.unpack_from(data, pos)
            if kind not in HEAD or kind in seen:
                break
            seen.add(kind)
            pos += align(size)
        if NFULA_PACKET_HDR not in seen or data[at] in LINK_FIRST:
            return
        if pos > message.end or pos - at > LONGEST:
            return
        values = {
            number: self._readers[number][2](data, start)
            for number, start, _ in scan(data, at + 4, pos, self._order, 0)
            if self._readers[number][2] is not None
        }
        ethertype = values[NFULA_PACKET_HDR][0] or ETHERTYPES.get(data[at], 0)
        if ethertype not in FAMILIES:
            return
        try:
            tail = self._tail_at(data, pos)
        except StructError:
            return
        record = self._stream.decode(data, Message(message.start, pos, message.origin))
        assert isinstance(record, PacketRecord)
        devices = tuple(values[n][0] if n in values else None for n in IFINDEX)
        key, sizes = data[at:pos], self._sizes[data[at : at + KEY]]
        sizes[:] = sorted({pos - at, *sizes[: SIZES - 1]}, reverse=True)
        self._heads.keep(key, _Head(key, sizes, ethertype, devices, record, tail))


def _fields(name: str, kind: Any) -> list[Any]:
    """The fields of an attribute's value, under names that are unique among all attributes."""
    if isinstance(kind, Struct):
        parts: list[Any] = kind.subcons
        return [Renamed(part.subcon, f"{name} {part.name}") for part in parts]
    return [Renamed(kind, f"{name} value")]
