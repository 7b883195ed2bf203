"""Makes IPFIX of records: which domain they belong to, what is not sent, when to repeat templates.

Each machine that logged records is an observation domain, because sequence numbers, templates and
numbers of interfaces hold within a domain. Losses become options records, and so does what cannot
be sent.
"""

from __future__ import annotations

import time
from binascii import crc32
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from pylog.notes import notes
from pylog.outputs._ipfix_domain import Domain
from pylog.outputs._ipfix_flows import flow_parts
from pylog.outputs._ipfix_messages import Before, Unfit
from pylog.outputs._ipfix_options import DOMAIN, Options
from pylog.outputs._ipfix_packets import JOINED, header_parts, packet_parts, section_part
from pylog.outputs._ipfix_parts import Number, Part, time_of
from pylog.record import CounterRecord, FlowRecord, LossRecord, PacketRecord, Record, kind_of
from pylog.record.joined import JoinedRecord

MOST_DOMAINS = 256
"""Records of so many machines are told apart; those of others belong to the domain of none."""


class Settings(NamedTuple):
    """How records are exported.

    domain            the observation domain of records that name no machine
    name              what it is called; "": it has no name
    times             milliseconds or nanoseconds, of the first and last packet
    headers           whether fields on request are exported
    payload           how many bytes of each packet are exported
    message_size      the longest message, in bytes
    repeat_s          repeat the templates after so many seconds; None: never
    repeat_messages   and after so many messages
    """

    domain: int = 1
    name: str = ""
    times: str = "milliseconds"
    headers: bool = False
    payload: int = 0
    message_size: int = 16384
    repeat_s: float | None = None
    repeat_messages: int = 0


def parts_by_kind(settings: Settings, interface: Number) -> dict[type, list[Part]]:
    """The parts of each kind of record.

    interface   numbers interfaces
    """
    packet = packet_parts(interface, settings.times)
    if settings.headers:
        packet += header_parts()
    if settings.payload:
        packet.append(section_part(settings.payload))
    return {
        PacketRecord: packet,
        JoinedRecord: [*packet, *JOINED],
        FlowRecord: flow_parts(interface, settings.times),
    }


class Exporter:
    """Makes messages of records."""

    def __init__(
        self, settings: Settings, send: Callable[[bytes], None],
        refuse: Callable[[Record, str], None],
        before: Mapping[int, Before] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """
        send     takes each message
        refuse   takes each record that has no room in a message, and why
        before   what the file has before, by domain
        """
        self._settings, self._send, self._refuse = settings, send, refuse
        self._before = before
        self._options = Options(settings.message_size, self._count, before.get(DOMAIN))
        self._domains: dict[str | None, Domain] = {}
        self._left_out: Counter[str] = Counter()
        self._repeat_at = self._next_repeat()
        self._sent = 0

    def _next_repeat(self) -> float:
        return time.monotonic() + (self._settings.repeat_s or 0)

    def _domain(self, host: str | None) -> Domain:
        """The domain of a machine; a new one gets a number that its name decides."""
        if host not in self._domains and host is not None and len(self._domains) >= MOST_DOMAINS:
            host = None
        domain = self._domains.get(host)
        if domain is None:
            number, name = self._settings.domain, self._settings.name
            if host is not None:
                taken = {DOMAIN, number, *(domain.number for domain in self._domains.values())}
                number, name = crc32(host.encode("utf-8", "backslashreplace")), host
                while number in taken:
                    number = (number + 1) & 0xFFFFFFFF
            domain = self._domains[host] = Domain(
                number, self._settings.message_size, self._options, self._data,
                lambda interface: parts_by_kind(self._settings, interface),
                self._before.get(number),
            )  # fmt: skip
            if name:
                self._options.name(number, name)
        return domain

    def _data(self, message: bytes) -> None:
        """Send a message of data records, after the options that explain them."""
        self._options.messages.end()
        self._count(message)

    def _count(self, message: bytes) -> None:
        self._sent += 1
        self._send(message)

    def write(self, records: Sequence[Record]) -> None:
        """Make messages of records. The last ones may not be complete, see `flush`."""
        host: str | None = None
        domain: Domain | None = None
        for record in records:
            if self._settings.repeat_messages and self._is_due():
                self._repeat()
            if domain is None or record.host != host:
                host = record.host
                domain = self._domain(host)
            if domain.holds(record) and getattr(record, "flow_type", None) != "expect":
                try:
                    domain.record(record)
                except Unfit as error:
                    self._refuse(record, str(error))
                    is_packet = isinstance(record, PacketRecord)
                    self._options.lost(domain.number, 1, int(is_packet), time.time_ns())
            elif isinstance(record, LossRecord):
                self._lose(domain, record)
            else:
                self._other(domain, record)

    def _is_due(self) -> bool:
        return self._sent >= self._settings.repeat_messages or time.monotonic() >= self._repeat_at

    def _repeat(self) -> None:
        self._options.repeat()
        for domain in self._domains.values():
            domain.messages.repeat_templates()
        self._sent, self._repeat_at = 0, self._next_repeat()

    def _lose(self, domain: Domain, loss: LossRecord) -> None:
        """Report a loss: of records that were to be sent. One of an unknown number counts none."""
        if loss.cut_off:
            return
        time_ns, count = time_of(loss), loss.count or 0
        of_packets = (loss.log or "").isdecimal() or loss.log == "ipf"
        self._options.lost(
            domain.number, count, count if of_packets else 0,
            time.time_ns() if time_ns is None else time_ns,
        )  # fmt: skip

    def _other(self, domain: Domain, record: Any) -> None:
        """A record that is no packet, flow or loss."""
        if isinstance(record, CounterRecord) and record.name and record.packets is not None:
            try:
                self._options.counter(domain.number, record.name, record.packets, record.bytes or 0)
            except OverflowError:
                self._left_out["counter"] += 1
            return
        self._left_out["expected flow" if kind_of(record) == "flow" else kind_of(record)] += 1

    def flush(self) -> None:
        """Complete all messages."""
        self._options.messages.end()
        for domain in self._domains.values():
            domain.messages.end()

    def report(self) -> None:
        """Note what was not sent."""
        for what, count in self._left_out.items():
            notes.warning(
                "%d records were not written: IPFIX has no form for %s records", count, what
            )
        values = sum(domain.left_out for domain in self._domains.values())
        if values:
            notes.warning(
                "%d values were left out: records have too many different sets of fields, or names"
                " of interfaces", values,
            )  # fmt: skip
