"""Netlink messages as a stream: the framing that every netlink format shares.

Messages follow each other, each as long as its nlmsghdr says and padded to 4 bytes. A NetlinkStream
steps from one to the next, counts those without a record (NLMSG_DONE, acks, configuration) in
`other`, and searches damage for its message types. A format of a netlink subsystem is a subclass
with these types and a `decode`; `Layouts` gives the functions of its module.

NLMSG_DONE and NLM_F_MULTI are not relied on: a datagram of one record has no NLMSG_DONE, and no
message of the kernel's log has NLM_F_MULTI.

Sources: linux/netlink.h, linux/netfilter/nfnetlink.h, the tcpdump.org link type pages; recordings
of what Linux 6.18 sends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from struct import Struct as CStruct
from types import MappingProxyType

from pylog.errors import DecodeError
from pylog.formats import LIMIT, Dropped, Guess, Item, Message, Needle, Stream, cut_off
from pylog.formats.netlink import (
    ARPHRD_NETLINK,
    LINK_HEADER,
    NETLINK_NETFILTER,
    NLA_TYPE_MASK,
    NLMSG_DONE,
    NLMSG_OVERRUN,
    align,
    nlattr,
    nlattr_head,
    nlmsghdr,
)
from pylog.formats.plan import BYTEORDER, Plan

PLAUSIBLE = 4
"""This many attributes decide whether a captured packet is a message."""
MOST_ATTRIBUTES = 32
"""A message in damage has fewer attributes: each of today's once, with room for new ones."""
UNUSED = 64
"""Attribute numbers from here on are not in use."""

CHAIN = 3
"""This many messages in a chain are proof of another layout."""

unpack_nlmsghdr = {order: Plan(nlmsghdr(order)).unpack for order in "<>"}


def _needle(order: str, types: frozenset[int]) -> Needle:
    """The type of a message with a record, and an nlmsg_len before it that is about LIMIT at most.

    The pattern begins with the type, because it is rarer than a small length, and there with the
    byte of the subsystem, because a search for one of a few bytes is by far the fastest.
    """
    length = rb"..[\x00-\x10]\x00" if order == "<" else rb"\x00[\x00-\x10].."
    patterns = []
    for subsystem in sorted({kind >> 8 for kind in types}):
        kinds = sorted(kind & 0xFF for kind in types if kind >> 8 == subsystem)
        byte = re.escape(bytes((subsystem,)))
        which = rb"[%b]" % b"".join(re.escape(bytes((kind,))) for kind in kinds)
        if order == "<":
            patterns.append(rb"%b(?<=%b%b.)" % (byte, length, which))
        else:
            patterns.append(rb"%b%b(?<=%b..)" % (byte, which, length))
    pattern = re.compile(b"|".join(patterns), re.S)
    return Needle(pattern, 5, 1) if order == "<" else Needle(pattern, 4, 2)


class NetlinkStream(Stream):
    """Netlink messages in the byte order of the machine that received them.

    order       < or >
    types       the nlmsg_types that carry a record; the upper byte is the subsystem
    subsystems  whose messages may come between; 0 has the control messages
    noun        the name of a message with a record in errors and evidence
    sizes       the least size of an attribute's value, by its number
    cuttable    the attribute of which a part is useful, because its value states its own length
    marks       the nlmsg_types of messages that `notice` looks for
    skipped_flags   nlmsg_flags of messages without a record, although their type has one
    """

    container = "netlink"
    types: frozenset[int] = frozenset()
    noun = "message"
    sizes: Mapping[int, int] = MappingProxyType({})
    cuttable: int | None = None
    marks: frozenset[int] = frozenset()
    skipped_flags = 0

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.subsystems = frozenset((0, *(kind >> 8 for kind in self.types)))
        self.needle, self.needle_at, self.needle_size = _needle(order, self.types)
        self._header = unpack_nlmsghdr[order]
        self._attribute = nlattr[order]
        types = ", ".join(f"{kind:#06x}" for kind in sorted(self.types))
        self._expected_types = f"{types} (a {self.noun}) or a control message"
        self._size_and_kind = CStruct(f"{order}IH").unpack_from
        self._size_kind_flags = CStruct(f"{order}IHH").unpack_from

    def split(self, data: bytes, final: bool) -> list[Item]:
        self.notice(data)
        return super().split(data, final)

    def notice(self, data: bytes) -> None:
        """Look for what makes the stream `grouped`; data[:16] may be the header of a message."""

    def measure(self, data: bytes, pos: int) -> int:
        if pos + 16 > len(data):
            return pos + 16
        size, kind, _, _, _ = self._header(data, pos)
        if kind >> 8 not in self.subsystems or (kind < 0x100 and kind > NLMSG_OVERRUN):
            raise self.error(pos, "nlmsg_type", f"{kind:#06x}", self._expected_types)
        if not 16 <= size <= LIMIT or (kind >> 8 and size < 20) or kind == 0:
            raise self.error(pos, "nlmsg_len", size, f"16 (a {self.noun}: 20) to {LIMIT}")
        return self._after(data, pos + size) if size & 3 else pos + int(size)

    def plain(self, data: bytes, pos: int, items: list[Item]) -> int:
        last, read, add, types = len(data) - 20, self._size_kind_flags, items.append, self.types
        skipped = self.skipped_flags
        while pos <= last:
            size, kind, flags = read(data, pos)
            end = pos + size
            if kind not in types or size & 3 or not 20 <= size <= LIMIT or end > last + 20:
                break
            if flags & skipped:
                break
            add(Message(pos, end))
            pos = end
        return pos

    def _after(self, data: bytes, end: int) -> int:
        """Where the message after `end` begins: after padding, or at `end` in a new datagram."""
        padded = align(end)
        if end > len(data):
            return end
        if padded + 20 > len(data):
            return min(padded, len(data)) if self.final else padded + 20
        for pos in (padded, end):
            size, kind, *_ = self._header(data, pos)
            if (kind in self.types or kind == NLMSG_DONE) and size >= 16:
                return pos
        return padded

    def is_cut(self, data: bytes, pos: int) -> bool:
        """As Stream.is_cut: the attributes fill what is there, and none has the number 0.

        If only the length of the message is wrong, the nlmsg_len of the next message stands where
        an attribute would begin: it is read as an nla_type of 0, or as an nla_len of 0.
        """
        at = pos + 20
        if len(data) < at or self._size_and_kind(data, pos)[1] < 0x100:  # a control message
            return True
        end = pos + int(self._size_and_kind(data, pos)[0])
        while at + 4 <= len(data):
            size, kind = self._attribute(data, at)
            if size < 4 or at + size > end or not kind & NLA_TYPE_MASK:
                return False
            at += align(size)
        return True

    def begins(self, data: bytes, pos: int, final: bool) -> bool | None:
        if pos + 24 <= len(data):  # the cheapest test
            size, kind = self._size_and_kind(data, pos)
            if kind in self.types and size >= 24:
                first, _ = self._attribute(data, pos + 20)
                if size > LIMIT or not 4 <= first <= size - 20:
                    return False
        answer = super().begins(data, pos, final)
        if not answer:
            return answer
        # the two bytes of the type prove little: the attributes must fill the message as well
        end, at = pos + int(self._header(data, pos)[0]), pos + 20
        for _ in range(MOST_ATTRIBUTES):
            if end - at < 4:
                return at >= end
            size, _kind = self._attribute(data, at)
            if size < 4 or at + size > end:
                return False
            at += align(size)
        return False

    def accept(self, data: bytes, start: int, end: int, items: list[Item]) -> None:
        size, kind, flags, *_ = self._header(data, start)
        if kind in self.types and not self.skips(kind, flags):
            items.append(Message(start, start + size))
        elif kind == NLMSG_OVERRUN:
            items.append(Dropped(self.base + start, None, "NLMSG_OVERRUN"))
        else:
            self.other += 1

    def skips(self, kind: int, flags: int) -> bool:
        """Whether a message of a type in `types` has no record because of its nlmsg_flags."""
        return bool(flags & self.skipped_flags)

    def plausible_attributes(self, data: bytes, at: int, end: int) -> bool | None:
        """Whether data[at:end] begins as the attributes of a message do; only a few are checked.

        `end` may lie beyond the data; None: more data is needed to tell.
        """
        seen: set[int] = set()
        for _ in range(PLAUSIBLE):
            if end - at < 4:
                return bool(seen)
            if at + 4 > len(data):
                return None
            size, kind = self._attribute(data, at)
            kind &= NLA_TYPE_MASK
            least = self.sizes.get(kind, 0)
            if size < 4 or size - 4 < least or kind in seen or not 0 < kind < UNUSED:
                return False
            if at + size > end:  # a packet that was cut may end in it
                return bool(kind == self.cuttable)
            seen.add(kind)
            at += align(size)
        return True

    def raw(self, data: bytes, message: Message) -> bytes:
        """The netlink message, padded to 4 bytes.

        A message that the capture cut off is not padded; its nlmsg_len is the original length.
        """
        body, origin = data[message.start : message.end], message.origin
        missing = 0
        if origin is not None and origin.cut:
            missing = self._header(data, message.start)[0] - len(body)
        return body if missing > 0 else body + bytes(-len(body) % 4)

    def complete(self, data: bytes, message: Message) -> bytes:
        raw = self.raw(data, message)
        if message.origin is None or not message.origin.cut:
            return raw
        return self._completed(raw)

    def _completed(self, message: bytes) -> bytes:
        """A message of `raw` that a capture cut off, with the lengths of what is left."""
        pos = 20
        while len(message) - pos >= 4:
            size, kind = self._attribute(message, pos)
            if size < 4:
                break
            if pos + size > len(message):
                if kind & NLA_TYPE_MASK == self.cuttable:
                    left = {"nla_len": len(message) - pos, "nla_type": kind}
                    head = nlattr_head(self.order).build(left)
                    message = message[:pos] + head + message[pos + 4 :]
                    pos = len(message)
                break
            pos += align(size)
        message = message[:pos]
        head = len(message).to_bytes(4, BYTEORDER[self.order])
        return head + message[4:] + bytes(-len(message) % 4)


class Layouts:
    """The functions of a netlink format's module; its layouts are PREFIX-le and PREFIX-be."""

    def __init__(self, prefix: str, make: Callable[[str], NetlinkStream]) -> None:
        """`make` gives the Stream of a byte order."""
        self._make = make
        self._orders = {name_of(prefix, order): order for order in "<>"}
        self._measuring = cache(make)  # making one takes as long as measuring 1,000 messages

    def stream(self, name: str, head: bytes = b"") -> NetlinkStream:
        """The stream of a layout name; ValueError for another."""
        if name not in self._orders:
            raise ValueError(f"no layout {name!r}; there are {' and '.join(self._orders)}")
        return self._make(self._orders[name])

    def layout_names(self) -> list[str]:
        """The names of all layouts."""
        return list(self._orders)

    def resumes(self) -> list[Needle]:
        """What every message has, in either byte order."""
        streams = [self._measuring(order) for order in "<>"]
        return [Needle(s.needle, s.needle_at, s.needle_size) for s in streams]

    def resume(self, data: bytes, pos: int, final: bool, before: Stream) -> list[Stream] | None:
        """The stream of the byte order in which messages follow each other from `pos` on."""
        for order in "<>":
            stream, at = self._measuring(order), pos
            kind = int.from_bytes(data[pos + 4 : pos + 6], BYTEORDER[order])
            if kind not in stream.types:
                continue
            stream.final = final
            for count in range(CHAIN):
                answer = stream.begins(data, at, final)
                if answer is None:
                    return None
                if not answer:
                    break
                at = stream.measure(data, at)
                if count + 1 == CHAIN or at == len(data):
                    return [self._make(order)]
        return []

    def probe(self, head: bytes, final: bool) -> list[Guess]:
        """Try both byte orders on the first bytes of an input."""
        guesses = []
        for name, order in self._orders.items():
            trial, messages, explained = self._make(order), 0, 0
            trial.lenient = True
            for item in trial.split(head, final):
                if isinstance(item, Message):
                    try:
                        trial.decode(head, item)
                    except DecodeError:
                        continue
                    messages += 1
                    explained += align(item.end - item.start)
            if messages:
                explained = min(len(head), explained + 20 * trial.other)
                guesses.append(
                    Guess(
                        stream=partial(self._make, order),
                        container=trial.container,
                        layouts=[name],
                        messages=messages,
                        explained=explained,
                        evidence=[
                            f"{messages} {trial.noun}s whose attributes fill them exactly, over"
                            f" {explained} of {len(head)} bytes"
                        ],
                    )
                )
        return sorted(guesses, key=lambda g: -g.explained)[:1]

    def cut(self, data: bytes) -> str | None:
        """What the bytes lack, if they end within a first message."""
        if len(data) < 6:
            return None
        for order in "<>":
            size = int.from_bytes(data[:4], BYTEORDER[order])
            kind = int.from_bytes(data[4:6], BYTEORDER[order])
            if kind in self._measuring(order).types and max(20, len(data) + 1) <= size <= LIMIT:
                return cut_off("the first message", size, len(data))
        return None


def name_of(prefix: str, order: str) -> str:
    """The name of a layout in a byte order."""
    return f"{prefix}-{'le' if order == '<' else 'be'}"


def order_of(layout: str) -> str:
    """The byte order in a layout's name."""
    return "<" if layout.endswith("-le") else ">"


def capture(message: bytes, layout: str) -> tuple[bytes, str, int]:
    """The packet of LINKTYPE_NETLINK with which a capture file holds a message of `Stream.raw`, its
    byte order and its original length.
    """
    order = order_of(layout)
    head = LINK_HEADER.build(
        {"sll_pkttype": 0, "sll_hatype": ARPHRD_NETLINK, "sll_protocol": NETLINK_NETFILTER}
    )
    packet, length = head + message, 0
    if len(message) >= 16:
        length = unpack_nlmsghdr[order](message, 0)[0]
    return packet, order, max(len(packet), len(head) + length)


def described(layout: str, queue: str) -> str:
    """The layout's name as a capture file has to state it."""
    return layout
