"""Datagrams of netlink in capture files, as they were received: link type NETLINK (253).

A file begins with a section that describes its sources, as a segment of a journal does (see
pylog.pipeline.blocks), so each file can be read by itself. Each datagram is a packet. No message is
decoded: messages are counted, and the numbers of NFLOG compared, by their lengths and a few
attributes (pylog.formats.netlink_seen). A loss that the numbers in the file do not show, as one at
its beginning, is a block of its own in its place.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import BinaryIO

import msgspec

from pylog.backends.base import Backend
from pylog.formats.netlink import LINKTYPE_NETLINK
from pylog.formats.netlink_seen import Seen
from pylog.pipeline import authors
from pylog.pipeline.blocks import (
    ORDER,
    Packer,
    SourceInfo,
    declaration,
    linktype_of,
    loss_block,
    name_comments,
    section,
)

BATCH = 1 << 18
"""How many bytes of blocks are gathered for a write, at most."""


class Recorded:
    """A live source whose datagrams are recorded.

    backend   which is open
    info      how its messages are decoded
    dropped   records lost so far; None: nothing can show it
    uncounted losses so far of an unknown number of records
    """

    def __init__(self, backend: Backend) -> None:
        """ValueError for a source that is not live, or has no datagrams of netlink."""
        if not backend.live or backend.layout is None:
            raise ValueError(f"{backend.name} has no datagrams: --datagrams is for live netlink")
        if linktype_of(backend.layout) != LINKTYPE_NETLINK:
            raise ValueError(f"{backend.name} has no datagrams: --datagrams is for live netlink")
        self.backend = backend
        self.info = SourceInfo(
            backend.name, backend.name, time.time_ns(), [backend.layout],
            logs=dict(backend.logs), numbered=backend.numbered or backend.counts_losses,
            accountable=backend.accountable,
        )  # fmt: skip
        self.uncounted = 0
        self._seen = Seen(ORDER, backend.logs)
        self._reported = 0
        """Records of losses that the system has counted."""
        self._overrun: str | None = None
        """The reason of a loss that numbers are to show, until those of all logs have come."""
        self.knows_processes = type(backend).process is not Backend.process

    @property
    def records(self) -> int:
        return self._seen.records

    @property
    def dropped(self) -> int | None:
        lost = self._seen.lost + self._reported
        return lost if lost or self.info.numbered else None

    def count(self, data: bytes, ends: Sequence[int]) -> int:
        """Count the datagrams of a receipt; how many records are lost before the first."""
        seen, start, before = self._seen, 0, 0
        for end in ends or (len(data),):
            lost = seen.add(data, start, end)
            before = before if start else lost
            start = end
        if self._overrun is not None and seen.groups.issuperset(self.backend.logs):
            self._overrun = None
        return before

    def overran(self) -> tuple[str, int | None] | None:
        """The loss that the system has reported, and how many records it cost, if no number will
        show it; None: there is none.
        """
        backend = self.backend
        reason, lost = backend.overrun, backend.lost
        if reason is None:
            return None
        backend.overrun = backend.lost = None
        if backend.numbered and backend.accountable and lost is None:
            self._overrun = reason
            self._seen.groups.clear()
            return None
        self._add(lost)
        return reason, lost

    def at_end(self) -> str | None:
        """The reason of a loss after which no numbers came; None: there is none."""
        reason, self._overrun = self._overrun, None
        if reason is not None:
            self._add(None)
        return reason

    def _add(self, lost: int | None) -> None:
        self._reported += lost or 0
        self.uncounted += lost is None


class _Interface:
    """An interface of a file; `names_given` is the version of the names that it has."""

    def __init__(self, number: int, info: SourceInfo) -> None:
        self.number, self.info = number, info
        self.packer = Packer(number, info)
        self.names_given = -1
        self.is_new = True


class Recording:
    """A file of datagrams; each write is one of complete blocks."""

    def __init__(self, stream: BinaryIO, sources: Sequence[Recorded]) -> None:
        self._stream = stream
        self._interfaces: dict[tuple[str, str | int | None], _Interface] = {}
        self._parts: list[bytes | memoryview] = [section([source.info for source in sources])]
        self._size = len(self._parts[0])
        for number, source in enumerate(sources):
            key = source.backend.name, None
            self._interfaces[key] = _Interface(number, source.info)

    def put(self, source: Recorded, data: bytes, ends: Sequence[int], observed_ns: int) -> int:
        """Take what was received of a source; how many records it has."""
        backend, records = source.backend, source.records
        interface = self._of(source, backend.namespace)
        lost = source.count(data, ends)
        if lost and interface.is_new:  # in the file no number stands before it
            self._put_loss(interface, "sequence numbers were skipped", lost)
        interface.is_new = False
        version, names = backend.interface_names()
        comments: Sequence[bytes] = ()
        if version != interface.names_given:
            comments, interface.names_given = name_comments(names), version
        if source.knows_processes:
            comments = [*comments, *authors.comments(authors.authors(data, backend.process))]
        self._add(interface.packer.packed(data, ends, observed_ns, comments))
        if (loss := source.overran()) is not None:
            self._put_loss(interface, *loss)
        return source.records - records

    def _of(self, source: Recorded, namespace: str | int | None) -> _Interface:
        """The interface of a source's namespace, which is declared if it is new."""
        key = source.backend.name, namespace
        interface = self._interfaces.get(key)
        if interface is None:
            info = msgspec.structs.replace(source.info, netns=namespace)
            interface = self._interfaces[key] = _Interface(len(self._interfaces), info)
            self._add([declaration(info)])
        return interface

    def _put_loss(self, interface: _Interface, reason: str, count: int | None) -> None:
        self._add([loss_block(interface.number, interface.info, reason, count=count)])

    def end(self, source: Recorded) -> None:
        """A source has ended: report what its numbers did not show."""
        interface = self._of(source, None)
        if (loss := source.overran()) is not None:
            self._put_loss(interface, *loss)
        if (reason := source.at_end()) is not None:
            self._put_loss(interface, reason, None)

    def _add(self, parts: Sequence[bytes | memoryview]) -> None:
        self._parts += parts
        self._size += sum(map(len, parts))
        if self._size > BATCH:
            self._write()

    def _write(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts:
            self._stream.write(b"".join(parts))

    def flush(self) -> None:
        """Write what was taken."""
        self._write()
        self._stream.flush()
