"""Exports records as IPFIX (RFC 7011), to a collector of flows over UDP or TCP, or into a file (RFC
5655).

Packets and flows become data records with the elements of IANA that collectors know. Losses and
names of interfaces become options records. docs/ipfix.md has the table of elements.
"""

from __future__ import annotations

import platform
from typing import Any

from pylog import outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.notes import notes
from pylog.options import Option
from pylog.outputs._ipfix_exporter import Exporter, Settings
from pylog.outputs._ipfix_messages import VERSION, Before
from pylog.outputs._ipfix_resume import resume
from pylog.outputs._ipfix_senders import MOST_OF_UDP, Datagrams, Stream, receiver_of
from pylog.record import Record
from pylog.transports.packing import without_suffix

NAME = "ipfix"
JOINS = True
ENDINGS = (".ipfix",)
BINARY = PLACE = FILE = True
DELIVERY = "at least once"
ADDRESS = "udp://HOST[:PORT] or tcp://HOST[:PORT]"
OPTIONS = (
    Option("domain", int, 1, "the observation domain of records that name no machine; others have"
           " one that the name decides", low=1, high=0xFFFFFFFF),
    Option("domain_name", str, None, "what that domain is called; '' for no name",
           absent="the name of this machine"),
    Option("times", ("milliseconds", "nanoseconds"), "milliseconds", "the form of the times of the"
           " first and last packet; the time of the record always has nanoseconds"),
    Option("headers", bool, False, "export ttl, tos, tcp_seq and other fields on request"),
    Option("section", int, 0, "export so many bytes of each logged packet", low=0, high=65000),
    Option("message_size", int, None, "the longest message in bytes", low=512, high=65535,
           absent="1400 for udp://, else 16384"),
    Option("template_time", float, 60.0, "over UDP, repeat templates after so many seconds",
           low=1, high=86400),
    Option("template_messages", int, 1000, "over UDP, repeat templates after so many messages",
           low=1, high=1_000_000),
)  # fmt: skip


def check(*, section: int, message_size: int | None, **options: Any) -> None:
    """ValueError for packets that no message has room for."""
    if section and message_size is not None and section > message_size - 512:
        raise ValueError(
            f"section is {section}, but must be at most message_size - 512: the other fields need"
            " room"
        )


def check_address(address: str, *, message_size: int | None, section: int, **options: Any) -> None:
    """ValueError for an address of another kind, or messages that UDP cannot carry."""
    receiver = receiver_of(address)
    if not receiver.stream:
        if (message_size or 0) > MOST_OF_UDP:
            raise ValueError(f"message_size is {message_size}, but UDP carries {MOST_OF_UDP}")
        if message_size is None and section > _UDP_SIZE - 512:
            raise ValueError(f"section is {section}: over UDP give a message_size as well")


def is_place(target: str) -> bool:
    """Whether a target is a collector, not the path of a file."""
    return "://" in target


def delivery_to(address: str) -> outputs.Delivery:
    """What is promised of each record at an address."""
    return "at least once" if receiver_of(address).stream else "best effort"


_UDP_SIZE, _SIZE = 1400, 16384
"""Over UDP a message must not be cut into fragments (RFC 7011, 10.3.3)."""


def _settings(options: dict[str, Any], size: int, udp: bool) -> Settings:
    name = options["domain_name"]
    return Settings(
        domain=options["domain"], name=platform.node() if name is None else name,
        times=options["times"], headers=options["headers"], payload=options["section"],
        message_size=options["message_size"] or size,
        repeat_s=options["template_time"] if udp else None,
        repeat_messages=options["template_messages"] if udp else 0,
    )  # fmt: skip


def check_appending(first_line: bytes, **options: Any) -> None:
    """ValueError for a file that does not begin as a message."""
    if not first_line.startswith(VERSION.to_bytes(2)):
        raise ValueError("it is no file of IPFIX messages")


class Output(outputs.Output):
    """Writes a file of messages; each flush completes them."""

    def __init__(self, target: outputs.Target, **options: Any) -> None:
        self._stream = target.stream
        settings = _settings(options, _SIZE, False)
        self._exporter = Exporter(settings, self._put, _note, _before(target))

    def _put(self, message: bytes) -> None:
        self._stream.write(message)

    def write(self, batch: Batch) -> None:
        self._exporter.write(batch.records())

    def flush(self) -> None:
        self._exporter.flush()
        self._stream.flush()

    def close(self) -> None:
        self.flush()
        self._exporter.report()


def _before(target: outputs.Target) -> dict[int, Before]:
    """What a file has before, by domain. A message at its end that is not complete is removed."""
    if not target.appending or target.path is None:
        return {}
    domains, end, left = resume(target.path)
    if left:
        if without_suffix(target.path)[1]:
            raise BackendError(f"cannot append to {target.path}: its last message is not complete")
        notes.warning(
            "%s: its last message was not complete: %d bytes are removed", target.path, left
        )
        target.stream.truncate(end)
        target.stream.seek(end)
    return domains


def _note(record: Record, reason: str) -> None:
    notes.warning("a record was refused: %s", reason)


class PlaceOutput(outputs.Output):
    """Sends messages to a collector."""

    def __init__(self, place: outputs.Place, **options: Any) -> None:
        receiver = receiver_of(place.address)
        self._sender = (Stream if receiver.stream else Datagrams)(receiver, outputs.LONGEST_S)
        size = _SIZE if receiver.stream else _UDP_SIZE
        settings = _settings(options, size, not receiver.stream)
        self._exporter = Exporter(settings, self._sender.send, place.refuse)

    def write(self, batch: Batch) -> None:
        self._exporter.write(batch.records())
        self._sender.push()

    def flush(self) -> None:
        self._exporter.flush()
        self._sender.push()

    def commit(self, position: str) -> None:
        self.flush()
        self._sender.mark(position)

    def confirmed(self) -> str | None:
        return self._sender.confirmed()

    def close(self) -> None:
        try:
            self._exporter.flush()
        finally:
            try:
                self._sender.close()
            finally:
                self._exporter.report()
