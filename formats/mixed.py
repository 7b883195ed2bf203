"""Netlink messages of several subsystems in one dump or capture: each goes to its own format.

Captures of nlmon (link type 253, or a Linux cooked capture) hold the messages of every netlink
source of a machine, and so does a dump of a socket that has joined several multicast groups. This
module frames them, and the format of the subsystem (nlmsg_type >> 8) decodes. A message of a
subsystem that no format reads is counted in `other`.

In a capture the messages of a datagram follow a link header of 16 bytes (in SLL2 20), with
ARPHRD_NETLINK and the netlink family in sll_protocol. Packets of other families are counted in
`other` as well.

Sources: the tcpdump.org link type pages, linux/netfilter/nfnetlink.h, drivers/net/nlmon.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pylog.errors import DecodeError
from pylog.formats import Dropped, Guess, Item, Message, NetlinkFormat, NextSeq
from pylog.formats import netlink_stream as framing
from pylog.formats.netlink import (
    ARPHRD_NETLINK,
    LINK_HEADER,
    LINK_HEADER_2,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
    LINKTYPE_NETLINK,
    NETLINK_NETFILTER,
    align,
)
from pylog.formats.netlink_stream import NetlinkStream, name_of, order_of
from pylog.formats.pcap_interfaces import Origin
from pylog.formats.plan import Plan
from pylog.formats.registry import registered, subsystems
from pylog.record import Record, Row

if TYPE_CHECKING:
    from pylog.formats.scrub import Scrubber

NAME = "netlink"
LINKTYPES: tuple[int, ...] = (LINKTYPE_NETLINK, LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2)
LOOKED_FOR = ""

SUBSYSTEMS = frozenset(range(16))
"""The kernel's subsystems, with room for new ones: NFNL_SUBSYS_COUNT is 13."""

_BATCH_END = 20
"""Bytes of the NLMSG_DONE that ends a batch: nlmsghdr and nfgenmsg."""

_link_headers = {
    linktype: (Plan(schema).size, Plan(schema).reader(("sll_hatype", "sll_protocol")))
    for linktype, schema in (
        (LINKTYPE_NETLINK, LINK_HEADER),
        (LINKTYPE_LINUX_SLL, LINK_HEADER),
        (LINKTYPE_LINUX_SLL2, LINK_HEADER_2),
    )
}


class MixedStream(NetlinkStream):
    """Netlink messages of all formats, or of chosen formats.

    source, layout   of the format, if there is only one
    """

    source = "netlink"

    def __init__(self, order: str, formats: Iterable[NetlinkFormat] | None = None) -> None:
        if formats is None:
            formats = registered().by_subsystem.values()
        modules = list({module.NAME: module for module in formats}.values())
        streams = [module.STREAM(order) for module in modules]
        self._streams = {
            number: stream
            for module, stream in zip(modules, streams, strict=True)
            for number in subsystems(module)
        }
        self.types = frozenset().union(*(stream.types for stream in streams))
        only = streams[0] if len(streams) == 1 else None
        self.noun = self.noun if only is None else only.noun
        super().__init__(order)
        self._groups: bool | None = None
        """Whether a packet of a capture was of a format that groups; None: there was no packet."""
        self.subsystems = SUBSYSTEMS
        for stream in streams:
            self.skipped_flags |= stream.skipped_flags
        self.layout = name_of("netlink", order) if only is None else only.layout
        self.source = self.source if only is None else only.source
        self._seen: dict[str, None] = {}

    @property
    def grouped(self) -> bool:  # type: ignore[override]
        """As Stream.grouped; of a capture, of the packets so far."""
        if self._groups is None:
            return any(stream.grouped for stream in self._streams.values())
        return self._groups

    @property
    def layouts(self) -> list[str]:
        return list(self._seen) or [self.layout]

    def notice(self, data: bytes) -> None:
        for stream in self._streams.values():
            stream.notice(data)

    # Captures

    def captured(self, data: bytes, start: int, end: int, origin: Any, items: list[Item]) -> None:
        size, read = _link_headers[origin.linktype]
        self._groups = bool(self._groups)
        if end - start < size:
            raise self.error(start, "link header", f"{end - start} bytes", size)
        hatype, protocol = read(data, start)
        if hatype != ARPHRD_NETLINK and origin.linktype != LINKTYPE_NETLINK:
            self.foreign += 1
            return
        if protocol != NETLINK_NETFILTER:
            self.other += 1
            return
        start += size
        while start < end:
            if end - start < 16:
                if origin.cut:
                    break
                raise self.error(start, "nlmsghdr", f"{end - start} bytes left", "16")
            size, kind, flags, *_ = self._header(data, start)
            if size < 16 or (start + size > end and not origin.cut):
                raise self.error(start, "nlmsg_len", size, f"16 to {end - start}")
            if kind in self.types and not self.skips(kind, flags):
                stream = self._streams[kind >> 8]
                self._seen[stream.layout] = None
                if kind in stream.marks:
                    stream.notice(data[start : start + 16])
                self._groups |= stream.grouped
                items.append(Message(start, min(end, start + size), _of(origin, stream)))
            else:
                self.other += 1
            start += align(size)
        if end + origin.cut - start > _BATCH_END:  # more than what ends a batch
            reason = f"{end + origin.cut - start} bytes of the datagram were not captured"
            items.append(Dropped(self.base + end, None, reason))

    def skips(self, kind: int, flags: int) -> bool:
        return self._streams[kind >> 8].skips(kind, flags)

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        size, read = _link_headers[linktype]
        at = start + size
        if at + 16 > end:
            return False
        if at + 16 > len(data):
            return None
        hatype, protocol = read(data, start)
        if protocol != NETLINK_NETFILTER or (
            hatype != ARPHRD_NETLINK and linktype != LINKTYPE_NETLINK
        ):
            return True  # of another netlink family
        size, kind, *_ = self._header(data, at)
        if size < 16 or at + size > end + 3:
            return False
        if kind not in self.types:
            return True
        return self._streams[kind >> 8].plausible_attributes(data, at + 20, at + size)

    # Dumps

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        stream = self._streams[self._subsystem(data, message)]
        return self._prepared(stream).decode(data, message, raw)

    def records(
        self,
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None = None,
    ) -> None:

        def inner(message: Message) -> NetlinkStream:
            return self._streams[self._subsystem(data, message)]

        for stream, alike in groupby(messages, inner):
            run, before = list(alike), len(found)
            self._prepared(stream).records(data, run, raw, found, numbers)
            if len(found) < before + len(run):
                return

    def _subsystem(self, data: bytes, message: Message) -> int:
        return self._size_and_kind(data, message.start)[1] >> 8  # type: ignore[no-any-return]

    def _prepared(self, inner: NetlinkStream) -> NetlinkStream:
        """The stream of a format, set up to decode its messages."""
        inner.base, inner.live, inner.observed_ns = self.base, self.live, self.observed_ns
        inner.rows, inner.wants_payload, inner.lenient = self.rows, self.wants_payload, self.lenient
        inner.interface_name, inner.deciding = self.interface_name, self.deciding
        return inner


STREAM = MixedStream


def _of(origin: Any, stream: NetlinkStream) -> Origin:
    """The origin of a message, with the stream that decodes it."""
    return Origin(origin.linktype, stream, origin.interface, origin.names, origin.observed_ns,
                  origin.cut, origin.process)  # fmt: skip


def stream(name: str, head: bytes = b"") -> MixedStream:
    """The stream of netlink-le or netlink-be; ValueError for another name."""
    if name not in layout_names():
        raise ValueError(f"no layout {name!r}; there are {' and '.join(layout_names())}")
    return MixedStream(order_of(name))


def captured_stream(name: str) -> MixedStream:
    """As `stream`; the layout of a netlink format gives a stream of that format alone."""
    for module in registered().by_subsystem.values():
        if name in module.layout_names():
            return MixedStream(order_of(name), [module])
    return stream(name)


def layout_names() -> list[str]:
    """The names of all layouts."""
    return [name_of("netlink", order) for order in "<>"]


def captured_layout(packet: bytes, linktype: int, offset: int) -> str:
    """The layout of a packet of a capture file: the byte order in which nlmsg_len is smaller."""
    at = _link_headers[linktype][0]
    size = packet[at : at + 4]
    order = "<" if int.from_bytes(size, "little") <= int.from_bytes(size) else ">"
    return name_of("netlink", order)


capture = framing.capture
described = framing.described


def _format_of(message: bytes, layout: str) -> NetlinkFormat:
    """The format of a message of `Stream.raw`."""
    mixed = MixedStream(order_of(layout))
    return registered().by_subsystem[mixed._subsystem(message, Message(0, len(message)))]


def interface_numbers(message: bytes, layout: str) -> dict[str, int]:
    """As the message's own format gives them."""
    return _format_of(message, layout).interface_numbers(message, layout)


def scrub(message: bytes, layout: str, scrubber: Scrubber) -> bytes:
    """As the message's own format does it."""
    return _format_of(message, layout).scrub(message, layout, scrubber)


def cut(data: bytes) -> str | None:
    """None: the format of the first message answers this."""
    return None


def probe(head: bytes, final: bool) -> list[Guess]:
    """Both byte orders, for a dump that has messages of more than one format."""
    guesses: list[Guess] = []
    formats = registered().by_subsystem
    for order in "<>" if len(formats) > 1 else "":
        trial, counts, explained = MixedStream(order), dict[str, int](), 0
        trial.lenient = True
        for item in trial.split(head, final):
            if isinstance(item, Message):
                try:
                    trial.decode(head, item)
                except DecodeError:
                    continue
                name = formats[trial._subsystem(head, item)].NAME
                counts[name] = counts.get(name, 0) + 1
                explained += align(item.end - item.start)
        if len(counts) > 1:
            explained = min(len(head), explained + 20 * trial.other)
            parts = [f"{count} of {name}" for name, count in sorted(counts.items())]
            guesses.append(
                Guess(
                    stream=partial(MixedStream, order),
                    container=trial.container,
                    layouts=[name_of("netlink", order)],
                    messages=sum(counts.values()),
                    explained=explained,
                    evidence=[
                        f"messages whose attributes fill them exactly, {' and '.join(parts)}, over"
                        f" {explained} of {len(head)} bytes"
                    ],
                )
            )
    return sorted(guesses, key=lambda g: -g.explained)[:1]
