"""pcapng, with each message exactly as the kernel gave it: NFLOG (239) and IPFILTER (116) packets.

An interface of the file is a log: an NFLOG group, or ipf, nat or state of IPFilter; its name tells
which, its description the layout. Logs of the same name from several machines, as in a merged
capture, are several interfaces: a record whose number does not go on, though nothing was reported
lost, is of another one. A packet's time is that of receipt, the kernel's own is in the
message. For what pcapng has no field for there are comments, see formats.pcap_blocks.Note: names of
network interfaces, times that do not fit, and every loss, in its place. Damaged bytes are in the
note of their loss and are no packet, which another program might read as one. The number of lost
records is in epb_dropcount and isb_ifdrop as well, for other programs.

Each flush is one write of whole blocks, so that a file that ends suddenly lacks its last block at
most.
"""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pylog
from pylog import outputs
from pylog.batch import Batch
from pylog.formats import MAXIMUM_COUNT, InterfaceNames, NamesKept, RawBatch
from pylog.formats.pcap_blocks import (
    Note,
    interface_block,
    loss_notes,
    name_notes,
    packet_block,
    packet_blocks,
    section_block,
    section_comment,
    short_name,
    statistics_block,
    ticks,
)
from pylog.formats.registry import linktypes, registered
from pylog.memo import Bounded
from pylog.notes import notes
from pylog.options import Option
from pylog.record import LossRecord, PacketRecord, Record, kind_of, rfc3339

NAME = "pcapng"
ENDINGS = (".pcapng", ".pcap")
RAW = BINARY = True
OPTIONS = (
    Option("machine", bool, True, "tell the name, system and clock of the machine that writes the"
           " file; with --scrub only if given"),
)  # fmt: skip

BATCH = 1 << 16
LOSSES = 64
"""So many losses are kept for the next packet at most, and what they take in bytes is bounded."""


MOST_CHAINS, MOST_INTERFACES = 64, 4096
"""So many interfaces of one log are in a section at most, and so many in all."""


@dataclass
class _Interface:
    """A log in the file.

    following   the sequence number that its next record has; None: any, or none
    """

    number: int
    following: int | None = None
    received: int = 0
    dropped: int = 0
    """In all."""
    lost: int = 0
    """Since the last packet."""
    names: dict[int, str] = field(default_factory=dict)


class Output(outputs.Output):
    """Writes records that have their raw bytes as packets of a capture."""

    def __init__(self, target: outputs.Target, *, machine: bool = True) -> None:
        self._stream = target.stream
        self._machine = machine
        self._interfaces: list[_Interface] = []
        self._names = NamesKept()
        self._logs: dict[tuple[str, str, bool], list[_Interface]] = {}
        """The interfaces of each log, the last used one at the end."""
        self._told: Bounded[int, tuple[PacketRecord, _Interface]] = Bounded()
        """By its id, a record of RawBatch.templates, of which the file says all already."""
        self._left_out: Counter[str] = Counter()
        """What has no packet in a capture file."""
        self._losses: list[bytes] = []
        """Notes for the next packet, in their order."""
        self._losses_size = 0
        self._last_ns = 0
        self._order = "<" if sys.byteorder == "little" else ">"
        self._begun = False
        """Whether anything but the first section's head was written."""
        self._blocks = [self._section()]
        self._size = 0

    def _section(self) -> bytes:
        """The beginning of a section, which may tell where and when it was written."""
        application = f"pylog {pylog.__version__}"
        if not self._machine:
            return section_block(application=application, order=self._order)
        clocks = f"{rfc3339(time.time_ns())}, monotonic clock {time.monotonic_ns()} ns"
        return section_block(
            hardware=platform.machine(),
            os=f"{platform.system()} {platform.release()}",
            application=application,
            comment=section_comment(platform.node(), clocks),
            order=self._order,
        )

    def write(self, batch: Batch) -> None:
        for record in batch.records():
            self._record(record)

    def _record(self, record: Record) -> None:
        if isinstance(record, LossRecord):
            self._note(record)
            return
        raw = record.raw
        module = registered().by_source.get(record.source)
        if module is None:
            self._left_out[f"{kind_of(record)} records of {record.source}"] += 1
            return
        if raw is None:
            raise ValueError(
                "a record without its raw bytes cannot be captured: read with raw=True"
            )
        packet, order, length = module.capture(raw, record.layout)
        is_packet = isinstance(record, PacketRecord)
        numbers = module.interface_numbers(raw, record.layout) if is_packet else {}
        observed = record.observed_ns is not None
        time_ns = record.observed_ns if observed else record.timestamp_ns
        self._packet(record, packet, length, order, numbers, time_ns, observed)

    def write_raw(self, copied: RawBatch) -> None:
        """Write messages as Reader.read_raw gives them."""
        likes, packets, time_ns = copied.templates, copied.packets, copied.observed_ns
        self._last_ns, at = time_ns, 0
        plain = time_ns == ticks(time_ns)
        while at < len(packets):
            interfaces = []
            for like in likes[at:]:
                told = self._told.get(id(like))
                if told is None or not plain:
                    break
                interfaces.append(told[1])
            if interfaces:
                after = at + len(interfaces)
                numbers = [interface.number for interface in interfaces]
                self._add(packet_blocks(packets[at:after], numbers, time_ns, self._order))
                for interface in interfaces:
                    interface.received += 1
                    interface.following = None
                at = after
            else:
                like = likes[at]
                known = (like.extra or {})["ifindex"]
                packet = packets[at]
                interface = self._packet(
                    like, packet, len(packet), copied.order, known, time_ns, True
                )
                self._told.keep(id(like), (like, interface))
                at += 1

    def _note(self, loss: LossRecord) -> None:
        """Keep the notes of a loss for the next packet."""
        self._told.clear()
        interface = None
        if loss.count and loss.log is not None and loss.source in registered().by_source:
            with contextlib.suppress(ValueError):  # of a layout that there is not
                interface = self._interface(loss, loss.observed_ns is not None)
                interface.lost = min(interface.lost + loss.count, MAXIMUM_COUNT)
                interface.dropped = min(interface.dropped + loss.count, MAXIMUM_COUNT)
                interface.following = _following(loss)
        number = None if interface is None else interface.number
        notes = [note.comment() for note in loss_notes(loss, number)]
        self._losses += notes
        self._losses_size += sum(map(len, notes))
        if len(self._losses) >= LOSSES or self._losses_size > BATCH:
            self._write_losses()

    def _write_losses(self) -> None:
        """Write the notes that are kept with the statistics of an interface, any will do."""
        if not self._interfaces:
            block = interface_block(next(iter(registered().by_linktype)), order=self._order)
            self._interfaces.append(_Interface(0))
            self._add(block)
        self._add(self._statistics(self._interfaces[0], self._losses))
        self._losses, self._losses_size = [], 0

    def _statistics(self, interface: _Interface, comments: Sequence[bytes] = ()) -> bytes:
        return statistics_block(interface.number, self._last_ns, order=self._order,
                                received=interface.received, dropped=interface.dropped,
                                comments=comments)  # fmt: skip

    def _packet(
        self, record: Record, packet: bytes, length: int, order: str,
        numbers: dict[str, int], time_ns: int | None, observed: bool,
    ) -> _Interface:  # fmt: skip
        """Write a packet and what is to be told before it; the log that it is of.

        record    what it is like
        length    of the packet before it was cut off, if it was
        order     the byte order that the file must have, "" for any
        numbers   of interfaces, by their names in the record
        observed  whether time_ns tells when it was received
        """
        if order and order != self._order:  # whoever reads the file takes the section's for it
            self._end_section()
            self._order = order
            if not self._begun:
                self._blocks.clear()
            self._add(self._section())
        interface = self._interface(record, observed)
        interface.following = _following(record)
        names = self._new_names(interface, record, numbers)
        comments: Sequence[bytes] = ()
        unheld = time_ns is not None and time_ns != ticks(time_ns)
        if names or self._losses or unheld:
            comments = [*self._losses, *(note.comment() for note in name_notes(names))]
            if unheld:
                note = Note(observed=time_ns) if observed else Note(timestamp=time_ns)
                comments.append(note.comment())
        if time_ns is not None:
            self._last_ns = time_ns
        self._add(packet_block(packet, self._last_ns, interface.number, length=length,
                               dropped=interface.lost, comments=comments,
                               order=self._order))  # fmt: skip
        interface.lost = 0
        if self._losses:
            self._losses, self._losses_size = [], 0
        interface.received += 1
        return interface

    def _interface(self, record: Record, observed: bool) -> _Interface:
        """The interface of the record's log whose numbers it goes on with, or else a new one.

        Raises ValueError for a layout that does not exist.
        """
        log = record.log or ""
        interfaces = self._logs.setdefault((record.layout, log, observed), [])
        if interfaces and (record.seq is None or interfaces[-1].following in (None, record.seq)):
            return interfaces[-1]
        for interface in interfaces:
            if interface.following in (None, record.seq):
                interfaces.remove(interface)
                break
        else:
            if len(interfaces) == MOST_CHAINS or len(self._interfaces) == MOST_INTERFACES:
                # in a new section all numbers begin anew
                self._end_section()
                self._add(self._section())
                return self._interface(record, observed)
            module = registered().by_source[record.source]
            block = interface_block(
                linktypes(module)[0],
                name=f"{record.source}:{log}",
                description=module.described(record.layout, log),
                comment=b"" if observed else Note(unobserved=True).comment(),
                order=self._order,
            )
            interface = _Interface(len(self._interfaces))
            self._interfaces.append(interface)
            self._add(block)
        interfaces.append(interface)
        return interface

    def _new_names(
        self, interface: _Interface, record: Record, numbers: dict[str, int]
    ) -> dict[int, str | None]:
        """The names of interfaces in the record of which the file says otherwise, or nothing."""
        found: dict[int, str | None] = {}
        for field_name, number in sorted(numbers.items()):
            value = getattr(record, field_name)
            name = short_name(value) if isinstance(value, str) else None
            if interface.names.get(number) != name:
                found[number] = name
        if found:
            forgotten = self._names.add(found, (other.names for other in self._interfaces))
            InterfaceNames(
                interface.names, found, forgotten
            ).apply()  # as whoever reads the file will
            self._told.clear()
        return found

    def _add(self, block: bytes) -> None:
        self._begun = True
        self._blocks.append(block)
        self._size += len(block)
        if self._size > BATCH:
            self._write()

    def _write(self) -> None:
        self._begun = True
        blocks, self._blocks, self._size = self._blocks, [], 0
        if blocks:
            self._stream.write(b"".join(blocks))

    def flush(self) -> None:
        if self._blocks:
            self._write()
            self._stream.flush()

    def _end_section(self) -> None:
        """Write what is left to tell of the section's interfaces."""
        if self._losses:
            self._write_losses()
        for interface in self._interfaces:
            self._add(self._statistics(interface))
        self._interfaces, self._names = [], NamesKept()
        self._logs = {}
        self._told.clear()

    def close(self) -> None:
        self._end_section()
        self.flush()
        for what, count in self._left_out.items():
            notes.warning("%d %s left out: a capture file has no packets for them", count, what)


def _following(record: Record) -> int | None:
    """The sequence number after the record, or after those that were lost."""
    return None if record.seq is None else (record.seq + (record.count or 1)) & 0xFFFFFFFF
