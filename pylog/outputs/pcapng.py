"""pcapng, with each message exactly as the kernel gave it: NFLOG (239) and IPFILTER (116) packets.

An interface of the file is a log: an NFLOG group, or ipf, nat or state of IPFilter; its name tells
which, its description the layout. A packet's time is that of receipt, the kernel's own is in the
message. Losses are epb_dropcount; for what pcapng has no field for (names of network interfaces,
losses of an unknown number) there are comments, see formats.pcap_blocks.Note.

Each flush is one write of whole blocks, so that a file that ends suddenly lacks its last block at
most.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import BinaryIO

import pylog
from pylog.formats import MAXIMUM_INTERFACES, modules
from pylog.formats.pcap_blocks import (
    Note,
    interface_block,
    packet_block,
    section_block,
    statistics_block,
)
from pylog.record import LossRecord, PacketRecord, Record, queue_of, rfc3339

RAW = True
"""Records must have been read with raw=True."""

BATCH = 1 << 16


@dataclass
class _Interface:
    """A log in the file."""

    number: int
    received: int = 0
    dropped: int = 0
    """In all."""
    lost: int = 0
    """Since the last packet."""
    names: dict[int, str] = field(default_factory=dict)


class Output:
    """Writes records that have their raw bytes as packets of a capture."""

    def __init__(self, stream: BinaryIO, colour: bool = False) -> None:
        self._stream = stream
        self._interfaces: dict[tuple[str, str, bool], _Interface] = {}
        self._lost: str | None = None
        self._last_ns = 0
        clocks = f"{rfc3339(time.time_ns())}, monotonic clock {time.monotonic_ns()} ns"
        self._blocks = [
            section_block(
                hardware=platform.machine(),
                os=f"{platform.system()} {platform.release()}",
                application=f"pylog {pylog.__version__}",
                comment=f"host {platform.node()}, begun {clocks}",
            )
        ]
        self._size = 0

    def write(self, record: Record) -> None:
        if isinstance(record, LossRecord):
            self._note(record)
        elif record.raw is None:
            raise ValueError(
                "a record without its raw bytes cannot be captured: read with raw=True"
            )
        if record.raw is not None:
            self._packet(record, record.raw)

    def _note(self, loss: LossRecord) -> None:
        if loss.count is None and loss.size is None:
            self._lost = loss.reason or "no reason told"
        elif loss.count is not None:
            interface = self._interface(loss)
            interface.lost += loss.count
            interface.dropped += loss.count

    def _packet(self, record: Record, raw: bytes) -> None:
        module = _format(record.source)
        _, packet = module.capture(raw, record.layout)
        interface = self._interface(record)
        names = self._new_names(interface, record, module, raw)
        comments = []
        if names or self._lost is not None:
            comments = [Note(interfaces=names, lost=self._lost).comment()]
        time_ns = record.observed_ns if record.observed_ns is not None else record.timestamp_ns
        self._last_ns = self._last_ns if time_ns is None else time_ns
        self._add(packet_block(packet, self._last_ns, interface=interface.number,
                               dropped=interface.lost, comments=comments))  # fmt: skip
        self._lost, interface.lost = None, 0
        interface.received += 1

    def _interface(self, record: Record) -> _Interface:
        queue = queue_of(record)
        key = record.layout, queue, record.observed_ns is None
        interface = self._interfaces.get(key)
        if interface is None:
            interface = self._interfaces[key] = _Interface(len(self._interfaces))
            linktype = _format(record.source).LINKTYPES[0]
            note = Note(unobserved=True).comment() if record.observed_ns is None else b""
            self._add(interface_block(linktype, name=f"{record.source}:{queue}",
                                      description=record.layout, comment=note))  # fmt: skip
        return interface

    @staticmethod
    def _new_names(
        interface: _Interface, record: Record, module: ModuleType, raw: bytes
    ) -> dict[int, str]:
        """The names of interfaces in the record that the file has not told yet, or otherwise."""
        if not isinstance(record, PacketRecord):
            return {}
        found = {}
        for field_name, number in module.interface_numbers(raw, record.layout).items():
            name = getattr(record, field_name)
            if isinstance(name, str) and interface.names.get(number) != name:
                found[number] = name
        if len(interface.names) + len(found) > MAXIMUM_INTERFACES:
            interface.names.clear()  # as whoever reads the file will
        interface.names |= found
        return found

    def _add(self, block: bytes) -> None:
        self._blocks.append(block)
        self._size += len(block)
        if self._size > BATCH:
            self._write()

    def _write(self) -> None:
        blocks, self._blocks, self._size = self._blocks, [], 0
        if blocks:
            self._stream.write(b"".join(blocks))

    def flush(self) -> None:
        if self._blocks:
            self._write()
            self._stream.flush()

    def close(self) -> None:
        comment = Note(lost=self._lost).comment() if self._lost is not None else b""
        for interface in self._interfaces.values():
            self._add(statistics_block(interface.number, self._last_ns, dropped=interface.dropped,
                                       received=interface.received, comment=comment))  # fmt: skip
            comment = b""
        self.flush()


@cache
def _format(source: str) -> ModuleType:
    """The format module of the records of a source."""
    return next(module for module in modules().values() if module.Stream.source == source)
