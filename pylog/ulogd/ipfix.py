"""The output IPFIX: flows to a collector, in ulogd's messages.

A message has a template set (if `send_template` says so) and data records of 33 bytes. It leaves
when the next record would pass the mtu, or a second after the start. Exact messages have ulogd's
flaws: the timer runs once, so that what is left at the end is lost, and an IPv6 address is cut to
its first four bytes. Otherwise the timer goes on, the rest is sent at the end, and IPv6 flows are
counted as lost, as this template has no room for them; `pylog read --to ipfix` sends them.
Source: output/ipfix, measured.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

from pylog.errors import BackendError
from pylog.transports.sender import Sender
from pylog.transports.sockets import Place
from pylog.ulogd.worker import Instance, Sink, Surroundings, Values, View

VERSION, TEMPLATE_SET, TEMPLATE = 10, 2, 256
ELEMENTS = (
    (8, 4), (12, 4), (86, 4), (85, 4), (150, 4), (151, 4), (7, 2), (11, 2), (4, 1), (95, 4),
)  # fmt: skip
"""Information elements with their sizes: sourceIPv4Address, destinationIPv4Address,
packetTotalCount, octetTotalCount, flowStartSeconds, flowEndSeconds, sourceTransportPort,
destinationTransportPort, protocolIdentifier, applicationId."""
TEMPLATES = ("once", "always", "never")
TIMER_US = 1_000_000

_HEADER = struct.Struct(">HHIII")
_SET = struct.Struct(">HH")
_RECORD = struct.Struct(">4s4sIIIIHHBI")
_TEMPLATE = _SET.pack(TEMPLATE_SET, 8 + 4 * len(ELEMENTS)) + struct.pack(
    f">HH{2 * len(ELEMENTS)}H", TEMPLATE, len(ELEMENTS), *(n for pair in ELEMENTS for n in pair)
)


def message(
    records: Sequence[bytes], second: int, sequence: int, domain: int, template: bool
) -> bytes:
    """A message.

    second     its export time
    sequence   ulogd's: how many records were sent with this message, where RFC 7011 wants those
               before it
    domain     the observation domain
    """
    body = _TEMPLATE if template else b""
    data = b"".join(records)
    body += _SET.pack(TEMPLATE, _SET.size + len(data)) + data
    size = _HEADER.size + len(body)
    return _HEADER.pack(VERSION, size, second & 0xFFFFFFFF, sequence & 0xFFFFFFFF, domain) + body


class Ipfix(Sink):
    """The output IPFIX."""

    _sender: Sender

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        options = self.options
        if not options["oid"]:
            raise ValueError("invalid Observation ID: oid must be given, and not 0")
        try:
            ipaddress.IPv4Address(options["host"])
        except ValueError as error:
            raise ValueError(
                f"host {options['host']!r} is no dotted IPv4 address: {error}"
            ) from error
        if options["proto"] not in ("tcp", "udp"):
            raise ValueError(f"unknown proto {options['proto']!r}; there are tcp and udp")
        if options["send_template"] not in TEMPLATES:
            raise ValueError(
                f"unknown send_template {options['send_template']!r}; there are"
                f" {', '.join(TEMPLATES)}"
            )
        least = len(message([bytes(_RECORD.size)], 0, 0, 0, options["send_template"] != "never"))
        if options["mtu"] < least:
            raise ValueError(f"mtu is {options['mtu']}, but a message has {least} bytes at least")
        self._template = options["send_template"] != "never"
        self._records: list[bytes] = []
        self._sequence = 0
        self._due_us: int | None = None

    def start(self) -> None:
        options = self.options
        place = Place(f"{options['proto']}:{options['host']}:{options['port']}", "collector", 4739)
        live = not self.surroundings.replayed
        self._sender = Sender(place, f"IPFIX collector at {place.name}", lambda text: b"", live)
        self._due_us = self.surroundings.clock_us() + TIMER_US

    def write(self, values: Values, view: View) -> None:
        self._check_timer()
        record = self._record([None if at is None else values[at] for at in self.instance.inputs])
        size = len(message([*self._records, record], 0, 0, 0, self._template))
        if self._records and size > self.options["mtu"]:
            self._send()
        self._records.append(record)

    def _record(self, cells: Values) -> bytes:
        """A record; BackendError for a flow of IPv6, unless it is to be exact."""
        saddr, daddr, *rest = cells
        exact = self.surroundings.exact
        ends = []
        for address in (saddr, daddr):
            octets = address if isinstance(address, bytes) else bytes(4)
            if len(octets) != 4 and not exact:
                raise BackendError("ulogd's IPFIX has no IPv6; pylog read --to ipfix does")
            ends.append(octets[:4])
        (packets, octets_, reply_packets, reply_octets, start, _, end, _, sport, dport, protocol,
         mark) = (cell if isinstance(cell, int) else 0 for cell in rest)  # fmt: skip
        return _RECORD.pack(
            *ends, packets + reply_packets & 0xFFFFFFFF, octets_ + reply_octets & 0xFFFFFFFF,
            start, end, sport, dport, protocol, mark,
        )  # fmt: skip

    def _check_timer(self) -> None:
        now_us = self.surroundings.clock_us()
        if self._due_us is not None and now_us >= self._due_us:
            self._due_us = None if self.surroundings.exact else now_us + TIMER_US
            if self._records:
                self._send()

    def _send(self) -> None:
        records, self._records = self._records, []
        self._sequence += len(records)
        second = self.surroundings.clock_us() // 1_000_000
        self._sender.put(
            message(records, second, self._sequence, self.options["oid"], self._template)
        )
        if self.options["send_template"] == "once":
            self._template = False

    def flush(self) -> None:
        self._check_timer()

    def stop(self) -> None:
        if self._records and not self.surroundings.exact:
            self._send()
        self._sender.close()
        if self._sender.dropped:
            raise BackendError(f"{self._sender.dropped} messages to the IPFIX collector are lost")
