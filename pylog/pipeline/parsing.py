"""What blocks say: the opposite of `blocks`, for bytes of a journal or of a queue.

A parser keeps the interfaces of the section that it is in. Anything in the bytes gives pieces, or
is passed over: a file may have been changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from pylog.errors import DecodeError
from pylog.formats.interface_names import MAXIMUM_INTERFACES
from pylog.formats.netlink import LINKTYPE_NETLINK
from pylog.formats.pcap_blocks import EPB, IDB, ISB, OPT_COMMENT, SHB, note, plans
from pylog.formats.pcap_interfaces import options, read_interface
from pylog.pipeline.authors import Author, author_of
from pylog.pipeline.blocks import MOST_SOURCES, ORDER, SourceInfo, info_of
from pylog.pipeline.segments import Frame
from pylog.record import MAX_SECONDS, LossRecord

_LINK_HEADER = 16
"""Bytes of the link header of netlink."""

_packet = plans(ORDER)["enhanced packet"]
_statistics = plans(ORDER)["statistics"]
_interface = plans(ORDER)["interface"]


class Piece(NamedTuple):
    """A part of what a source gave, in the order of receipt.

    info          its source, which a piece without anything else declares
    data          messages; b"": none
    observed_ns   when they were received
    loss          what was lost here instead
    names         names of network interfaces that apply from here on, with all others
    authors       of commits in the data
    """

    info: SourceInfo
    data: bytes = b""
    observed_ns: int | None = None
    loss: LossRecord | None = None
    names: dict[int, str] | None = None
    authors: tuple[Author, ...] = ()


class Parser:
    """The pieces of blocks. A section header begins anew.

    sources   the names of the sources that are wanted; None: all
    """

    def __init__(self, sources: Collection[str] | None = None) -> None:
        self._sources = sources
        self._interfaces: list[tuple[SourceInfo | None, int]] = []

    def piece(self, data: bytes, frame: Frame) -> Piece | None:
        """The piece that a block is; None for one of another source, or that is none."""
        try:
            if frame.kind == EPB:
                return self._packet(data, frame)
            if frame.kind == SHB:
                self._interfaces = []
            elif frame.kind == IDB:
                return self._declared(data, frame)
            elif frame.kind == ISB:
                return self._lost(data, frame)
        except DecodeError:  # an option that does not fit
            pass
        return None

    def _declared(self, data: bytes, frame: Frame) -> Piece | None:
        if len(self._interfaces) >= MOST_SOURCES:
            return None
        info, linktype = None, 0
        try:
            linktype = read_interface(data, frame.start, frame.end, ORDER, 0, 0).linktype
            for comment in _comments(data, frame.start + _interface.size, frame.end):
                info = info or info_of(comment)
        finally:
            wanted = info is not None and (self._sources is None or info.name in self._sources)
            self._interfaces.append((info if wanted else None, linktype))
        return Piece(info) if info is not None and wanted else None

    def _source(self, number: int) -> tuple[SourceInfo | None, int]:
        return self._interfaces[number] if number < len(self._interfaces) else (None, 0)

    def _packet(self, data: bytes, frame: Frame) -> Piece | None:
        if frame.end - frame.start < _packet.size + 4:
            return None
        _, _, number, high, low, kept, _ = _packet.unpack(data, frame.start)
        info, linktype = self._source(number)
        at = frame.start + _packet.size
        stop = at + kept
        if info is None or stop > frame.end - 4:
            return None
        names: dict[int, str] | None = None
        authors: tuple[Author, ...] = ()
        rest = stop + (-kept & 3)
        if rest < frame.end - 4:
            for comment in _comments(data, rest, frame.end):
                own = note(comment)
                if own is None:
                    author = author_of(comment)
                    authors += () if author is None else (author,)
                elif own.interfaces and own.impossible() is None:
                    names = names or {}
                    if len(names) < MAXIMUM_INTERFACES:
                        names |= {n: name for n, name in own.interfaces.items() if name}
        observed_ns: int | None = high << 32 | low
        if linktype == LINKTYPE_NETLINK:
            at += _LINK_HEADER
        if (high << 32 | low) >= (MAX_SECONDS + 1) * 10**9:
            observed_ns = None
        return Piece(info, data[at:stop], observed_ns, None, names, authors)

    def _lost(self, data: bytes, frame: Frame) -> Piece | None:
        if frame.end - frame.start < _statistics.size + 4:
            return None
        info, _ = self._source(_statistics.unpack(data, frame.start)[2])
        if info is None:
            return None
        for comment in _comments(data, frame.start + _statistics.size, frame.end):
            own = note(comment)
            if own is not None and own.impossible() is None and (loss := own.loss()) is not None:
                return Piece(info, loss=loss)
        return None


def _comments(data: bytes, start: int, end: int) -> Iterator[bytes]:
    """The comments among the options of the block that ends at `end`."""
    for code, at, stop in options(data, start, end - 4, ORDER, 0):
        if code == OPT_COMMENT:
            yield data[at:stop]


def time_of(data: bytes, frame: Frame) -> int | None:
    """When the packet or statistics of a block were written; None for another block."""
    if frame.kind == EPB and frame.end - frame.start >= _packet.size:
        _, _, _, high, low, _, _ = _packet.unpack(data, frame.start)
    elif frame.kind == ISB and frame.end - frame.start >= _statistics.size:
        _, _, _, high, low = _statistics.unpack(data, frame.start)
    else:
        return None
    return int(high << 32 | low)
