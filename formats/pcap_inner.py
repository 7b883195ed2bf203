"""The streams of the formats whose messages a capture file holds.

A packet's link type chooses the format. Its layout is the one that the interface names in its
description, or that the user names, or that the packet's own bytes show. Streams are made once for
each link type and layout, and are shared by all interfaces.
"""

from __future__ import annotations

from copy import copy

from pylog.errors import DecodeError
from pylog.formats import CapturedFormat, Stream
from pylog.formats.pcap_interfaces import Interface

MAXIMUM_LAYOUTS = 64
"""At most this many layouts are read in one file."""


class InnerStreams:
    """The streams in one capture file.

    undetermined   link types of packets whose layout nothing shows, so that they were damage
    """

    def __init__(self, layout: str | None, named: bool) -> None:
        """`layout` is for packets whose interface does not name theirs; `named`: for all."""
        self.undetermined: set[int] = set()
        self._layout, self._named = layout, named
        self._streams: dict[tuple[int, str], Stream] = {}

    def clone(self) -> InnerStreams:
        """As Stream.clone."""
        other = copy(self)
        other._streams = dict(self._streams)
        return other

    @property
    def layouts(self) -> list[str]:
        """The layouts of the messages so far."""
        layouts = [layout for stream in self._streams.values() for layout in stream.layouts]
        return list(dict.fromkeys(layouts))

    @property
    def grouped(self) -> bool:
        """As Stream.grouped, of any of them."""
        return any(stream.grouped for stream in self._streams.values())

    def of_linktype(self, linktype: int) -> Stream | None:
        """The first stream that a packet of the link type needed."""
        return next((s for (own, _), s in self._streams.items() if own == linktype), None)

    def of_packet(
        self, module: CapturedFormat, data: bytes, start: int, end: int, interface: Interface,
        base: int,
    ) -> Stream:  # fmt: skip
        """The stream of the packet data[start:end]; DecodeError if nothing shows its layout.

        base   offset of the data in the input, for the error
        """
        named = self.named(module, interface)
        if named is not None:
            return named
        linktype = interface.linktype
        try:
            name = module.captured_layout(data[start:end], linktype, base + start)
        except DecodeError:
            self.undetermined.add(linktype)
            raise
        if (linktype, name) not in self._streams:
            self._streams[linktype, name] = module.stream(name)
        return self._streams[linktype, name]

    def named(self, module: CapturedFormat, interface: Interface) -> Stream | None:
        """The stream of an interface's packets, if the interface or the user names the layout."""
        if interface.stream is not None:
            return interface.stream
        linktype = interface.linktype
        if not interface.description and not self._layout:
            return None
        names = [interface.description, self._layout or ""]
        for name in reversed(names) if self._named else names:
            stream = self._streams.get((linktype, name)) if name else None
            if name and stream is None and len(self._streams) < MAXIMUM_LAYOUTS:
                try:
                    make = getattr(module, "captured_stream", module.stream)
                    stream = self._streams.setdefault((linktype, name), make(name))
                except ValueError:  # a description that is no layout, a layout of another format
                    continue
            if stream is not None:
                interface.stream = stream
                return stream
        return None
