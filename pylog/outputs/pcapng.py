"""Writes pcapng, with each message as the kernel gave it: NFLOG (239) and IPFILTER (116) packets.

An interface of the file is a log: an NFLOG group, or ipf, nat or state of IPFilter. Its name is the
log, its description the layout. Logs of the same name from several machines, as in a merged
capture, become several interfaces: if a record's number does not go on, and no loss was reported,
the record is of another log.

A packet's time is that of receipt; the kernel's is in the message. Comments hold what pcapng has no
field for, see formats.pcap_blocks.Note: names of network interfaces, times that do not fit, and
every loss, in its place. Damaged bytes are in the comment of their loss, because other programs
would decode a packet. For them epb_dropcount and isb_ifdrop have the number of lost records, too.

Each flush is a single write of complete blocks, so a file that ends suddenly lacks at most its last
block.
"""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pylog
from pylog import outputs
from pylog.batch import Batch
from pylog.formats import MAXIMUM_COUNT, InterfaceNames, NamesKept, RawBatch
from pylog.formats.netlink_seen import Run
from pylog.formats.pcap_blocks import (
    Note,
    interface_block,
    loss_notes,
    name_notes,
    packet_block,
    packet_blocks,
    process_note,
    run_blocks,
    section_block,
    section_comment,
    short_name,
    statistics_block,
    ticks,
)
from pylog.formats.registry import linktypes, registered
from pylog.formats.textlog import is_of_text
from pylog.memo import Bounded
from pylog.notes import notes
from pylog.options import Option
from pylog.record import (
    LossRecord,
    PacketRecord,
    Record,
    RulesetRecord,
    TraceRecord,
    kind_of,
    rfc3339,
)

NAME = "pcapng"
ENDINGS = (".pcapng", ".pcap")
RAW = BINARY = True
OPTIONS = (
    Option("machine", bool, True, "tell the name, system and clock of the machine that writes the"
           " file; in a scrubbed file only if given"),
)  # fmt: skip

BATCH = 1 << 16
"""How many bytes of blocks are gathered for a write, and of comments for a packet, at most."""
LOSSES = 64
"""How many losses are kept for the comments of the next packet, at most."""
MOST_NAMES = 1024
"""How many names of network interfaces may be written with a packet that starts a run."""
MOST_OF_LOG, MOST_INTERFACES = 64, 4096
"""How many interfaces a section has at most, of a log and in all."""


@dataclass
class _Interface:
    """A log in the file.

    following   the sequence number that its next record has; None: any, or none
    dropped     records lost in all
    lost        records lost since the last packet
    names       of network interfaces, by number, that the file has for the log
    version     of all names of this machine that are among them; None: not all are
    """

    number: int
    following: int | None = None
    received: int = 0
    dropped: int = 0
    lost: int = 0
    names: dict[int, str] = field(default_factory=dict)
    version: int | None = None


class Output(outputs.Output):
    """Writes records that have their raw bytes as packets of a capture."""

    def __init__(self, target: outputs.Target, *, machine: bool = True) -> None:
        self._stream = target.stream
        self._machine = machine
        self._interfaces: list[_Interface] = []
        self._names = NamesKept()
        self._logs: dict[tuple[str, str, bool, str | int | None], list[_Interface]] = {}
        """The interfaces of each log in a network namespace; the one that was used last is at the
        end."""
        self._written: Bounded[int, tuple[PacketRecord, _Interface]] = Bounded()
        """By its id, a record of RawBatch.templates of which the file has all names already."""
        self._left_out: Counter[str] = Counter()
        """Records that a capture file has no packets for, by what they are."""
        self._losses: list[bytes] = []
        """Comments for the next packet, in order."""
        self._losses_size = 0
        self._last_ns = 0
        self._order = "<" if sys.byteorder == "little" else ">"
        self._is_empty = True
        """Whether nothing but the first section's header was written."""
        self._blocks = [self._section()]
        self._size = 0

    def _section(self) -> bytes:
        """The header of a section, which names the machine and the time unless `machine` is off."""
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
        if is_of_text(record):
            raise ValueError(
                f"{record.source} has lines of text and no packets, so a capture of them cannot be"
                " written: --to json, csv or kernel keeps what they say"
            )
        if module is None:
            self._left_out[f"{kind_of(record)} records of {record.source}"] += 1
            return
        if raw is None:
            raise ValueError(
                "a record without its raw bytes cannot be captured: read with raw=True"
            )
        packet, order, length = module.capture(raw, record.layout)
        is_packet = isinstance(record, PacketRecord | TraceRecord)
        numbers = module.interface_numbers(raw, record.layout) if is_packet else {}
        observed = record.observed_ns is not None
        time_ns = record.observed_ns if observed else record.timestamp_ns
        process = None
        if isinstance(record, RulesetRecord) and record.op == "new_gen":
            process = process_note(record.uid, record.cmdline, record.cgroup)
        self._packet(record, packet, length, order, numbers, time_ns, observed, process)

    def write_raw(self, copied: RawBatch) -> None:
        """Write messages as Reader.read_raw gives them."""
        templates, packets, time_ns = copied.templates, copied.packets, copied.observed_ns
        self._last_ns, at = time_ns, 0
        fits = time_ns == ticks(time_ns)
        while at < len(packets):
            interfaces = []
            for template in templates[at:]:
                written = self._written.get(id(template))
                if written is None or not fits:
                    break
                interfaces.append(written[1])
            if interfaces:
                after = at + len(interfaces)
                numbers = [interface.number for interface in interfaces]
                self._add(packet_blocks(packets[at:after], numbers, time_ns, self._order))
                for interface in interfaces:
                    interface.received += 1
                    interface.following = None
                at = after
            else:
                template, packet = templates[at], packets[at]
                ifindexes = (template.extra or {})["ifindex"]
                interface = self._packet(
                    template, packet, len(packet), copied.order, ifindexes, time_ns, True
                )
                self._written.keep(id(template), (template, interface))
                at += 1

    def takes_runs(self, names: Mapping[int, str | int], time_ns: int, order: str) -> bool:
        """Whether `write_run` takes runs: the file can have all names of network interfaces, and
        the time of receipt.
        """
        return len(names) <= MOST_NAMES and time_ns == ticks(time_ns) and order == self._order

    def write_run(
        self, data: bytes, run: Run, layout: str, version: int, names: Mapping[int, str | int],
        time_ns: int,
    ) -> None:  # fmt: skip
        """Write log messages of NFLOG that were received, without looking at each.

        names   of all network interfaces, by number; another `version` has others
        """
        order = self._order
        record = PacketRecord("nflog", layout, group=run.log, seq=run.first)
        interface = self._interface(record, True)
        changes: dict[int, str | None] = {}
        if interface.version != version:
            texts = {n: short_name(name) for n, name in names.items() if isinstance(name, str)}
            changes |= {n: text for n, text in texts.items() if interface.names.get(n) != text}
            self._rename(interface, changes)
            interface.version = version
        starts = [at + 16 for at in run.starts]  # an nlmsghdr is not in a packet
        sizes = [size - 16 for size in run.sizes]
        first = 0
        if changes or self._losses or interface.lost:
            comments = [*self._losses, *(note.comment() for note in name_notes(changes))]
            self._losses, self._losses_size = [], 0
            packet = data[starts[0] : starts[0] + sizes[0]]
            self._add(packet_block(packet, time_ns, interface.number, dropped=interface.lost,
                                   comments=comments, order=order))  # fmt: skip
            interface.lost, first = 0, 1
        self._last_ns = time_ns
        self._add(run_blocks(data, starts[first:], sizes[first:], interface.number, time_ns, order))
        interface.received += len(starts)
        interface.following = (run.first + len(starts)) & 0xFFFFFFFF

    def _note(self, loss: LossRecord) -> None:
        """Keep the comments of a loss for the next packet."""
        self._written.clear()
        interface = None
        if loss.count and loss.log is not None and loss.source in registered().by_source:
            with contextlib.suppress(ValueError):  # its layout does not exist
                interface = self._interface(loss, loss.observed_ns is not None)
                interface.lost = min(interface.lost + loss.count, MAXIMUM_COUNT)
                interface.dropped = min(interface.dropped + loss.count, MAXIMUM_COUNT)
                interface.following = _following(loss)
        number = None if interface is None else interface.number
        comments = [note.comment() for note in loss_notes(loss, number)]
        self._losses += comments
        self._losses_size += sum(map(len, comments))
        if len(self._losses) >= LOSSES or self._losses_size > BATCH:
            self._write_losses()

    def _write_losses(self) -> None:
        """Write the comments that are kept, with the statistics of any interface."""
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
        process: Note | None = None,
    ) -> _Interface:  # fmt: skip
        """Write a packet with the comments before it; return the interface of its log.

        record    the packet's record, or its template
        length    of the packet before it was cut off, if it was
        order     the byte order that the file must have, "" for any
        numbers   of network interfaces, by the record's field
        observed  whether time_ns is the time of receipt
        process   the note of the process that made the commit
        """
        if order and order != self._order:  # readers take the section's order for the packet's
            self._end_section()
            self._order = order
            if self._is_empty:
                self._blocks.clear()
            self._add(self._section())
        interface = self._interface(record, observed)
        interface.following = _following(record)
        names = self._new_names(interface, record, numbers)
        comments: Sequence[bytes] = ()
        unheld = time_ns is not None and time_ns != ticks(time_ns)
        if names or self._losses or unheld or process is not None:
            comments = [*self._losses, *(note.comment() for note in name_notes(names))]
            if unheld:
                note = Note(observed=time_ns) if observed else Note(timestamp=time_ns)
                comments.append(note.comment())
            if process is not None:
                comments.append(process.comment())
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
        """The interface of the record's log whose numbers it continues, or else a new interface.

        Raises ValueError for a layout that does not exist.
        """
        log = record.log or ""
        netns = getattr(record, "netns", None)
        interfaces = self._logs.setdefault((record.layout, log, observed, netns), [])
        if interfaces and (record.seq is None or interfaces[-1].following in (None, record.seq)):
            return interfaces[-1]
        for interface in interfaces:
            if interface.following in (None, record.seq):
                interfaces.remove(interface)
                break
        else:
            if len(interfaces) == MOST_OF_LOG or len(self._interfaces) == MOST_INTERFACES:
                # in a new section any number may come next
                self._end_section()
                self._add(self._section())
                return self._interface(record, observed)
            module = registered().by_source[record.source]
            linktype_of = getattr(module, "linktype", None)
            block = interface_block(
                linktypes(module)[0] if linktype_of is None else linktype_of(record.layout),
                name=f"{record.source}:{log}",
                description=module.described(record.layout, log),
                comment=b""
                if observed and netns is None
                else Note(unobserved=not observed, netns=netns).comment(),
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
        """The names of network interfaces in the record that the file does not have yet."""
        changes: dict[int, str | None] = {}
        for field_name, number in sorted(numbers.items()):
            value = getattr(record, field_name)
            name = short_name(value) if isinstance(value, str) else None
            if interface.names.get(number) != name:
                changes[number] = name
        self._rename(interface, changes)
        return changes

    def _rename(self, interface: _Interface, changes: dict[int, str | None]) -> None:
        """Have these names from here on."""
        if changes:
            forgotten = self._names.add(changes, (other.names for other in self._interfaces))
            # readers forget the same names
            InterfaceNames(interface.names, changes, forgotten).apply()
            self._written.clear()
            for other in self._interfaces if forgotten else ():
                other.version = None

    def _add(self, block: bytes) -> None:
        self._is_empty = False
        self._blocks.append(block)
        self._size += len(block)
        if self._size > BATCH:
            self._write()

    def _write(self) -> None:
        self._is_empty = False
        blocks, self._blocks, self._size = self._blocks, [], 0
        if blocks:
            self._stream.write(b"".join(blocks))

    def flush(self) -> None:
        if self._blocks:
            self._write()
            self._stream.flush()

    def _end_section(self) -> None:
        """Write the losses that are kept, and the statistics of the section's interfaces."""
        if self._losses:
            self._write_losses()
        for interface in self._interfaces:
            self._add(self._statistics(interface))
        self._interfaces, self._names = [], NamesKept()
        self._logs = {}
        self._written.clear()

    def close(self) -> None:
        self._end_section()
        self.flush()
        for what, count in self._left_out.items():
            notes.warning("%d %s left out: a capture file has no packets for them", count, what)


def _following(record: Record) -> int | None:
    """The sequence number after the record, or after those that were lost."""
    return None if record.seq is None else (record.seq + (record.count or 1)) & 0xFFFFFFFF
