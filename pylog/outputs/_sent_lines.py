"""Sends messages to a receiver, and the lines of a format as such: what the outputs syslog, tcp,
udp, unix and ulogd share.

A stream is delivered at least once, see pylog.transports.delivery. A datagram is sent once, as best
effort: one that is too long is refused, and one that the system does not take is waited for.
"""

from __future__ import annotations

import socket
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pylog import outputs
from pylog.batch import Batch
from pylog.errors import BackendError
from pylog.notes import notes
from pylog.outputs._lines import FORMAT_OPTIONS, Lines, lines_of, reads_raw, shows_joins
from pylog.record import Record, Row, escape
from pylog.transports.addresses import Address, address_of
from pylog.transports.datagrams import Datagrams
from pylog.transports.delivery import Delivery
from pylog.transports.tls import check_tls, context_of, problem_of, tls_options

if TYPE_CHECKING:
    from pylog.transports.streams import Stream

_FORMAT = tuple(option.name for option in FORMAT_OPTIONS)


def checked(text: str, ports: Mapping[str, int], options: dict[str, Any]) -> Address:
    """The address of a receiver; ValueError if it is none, or if options do not fit it."""
    address = address_of(text, ports)
    check_tls(address.scheme, options)
    return address


def given_lines(options: dict[str, Any]) -> Lines:
    """The lines of the format that options name; ValueError as `lines_of`."""
    return lines_of(**{name: options[name] for name in _FORMAT if name in options})


def check_lines(**options: Any) -> None:
    """ValueError for a format that does not exist, or options that it lacks."""
    given_lines(options)


def lines_need_raw(**options: Any) -> bool:
    """Whether the format needs records with their raw bytes; ValueError as `check_lines`."""
    return reads_raw(options["format"])


def lines_show_joins(**options: Any) -> bool:
    """Whether the format shows the rule and the flow of a packet; ValueError as `check_lines`."""
    return shows_joins(options["format"])


class SentMessages(outputs.Output):
    """Sends messages of records, which subclasses make and give to `_send`.

    max_size   the longest message, in bytes; None: as long as the receiver takes
    """

    max_size: int | None = None

    def __init__(self, place: outputs.Place, address: Address, options: dict[str, Any]) -> None:
        """Connects; BackendError."""
        self._place, self._address = place, address
        self._context = context_of(**tls_options(options)) if address.scheme == "tls" else None
        self._name = options.get("server_name") or address.host
        self._sender = self._connected()

    def _connected(self) -> Delivery | Datagrams:
        """What sends to the address; of a local socket the system says which it is."""
        from pylog.transports.connecting import connected  # only here, with ssl

        address, first = self._address, None
        if address.scheme in ("udp", "unix"):
            try:
                first = connected(address, time.monotonic() + outputs.LONGEST_S)
            except OSError as error:
                raise BackendError(f"no {address}: {problem_of(error)}") from error
            if first.type == socket.SOCK_DGRAM:
                return Datagrams(address, outputs.LONGEST_S, first)
        return Delivery(_Connecting(address, self._context, self._name, first), str(address),
                        outputs.LONGEST_S)  # fmt: skip

    @property
    def is_stream(self) -> bool:
        """Whether the messages need an end, because they follow each other in a stream."""
        return isinstance(self._sender, Delivery)

    @property
    def reconnects(self) -> int:
        """How many connections were made after the first."""
        return self._sender.reconnects

    @abstractmethod
    def _framed(self, message: bytes) -> bytes:
        """A message as it is in a stream."""

    def _send(self, records: Sequence[Record | Row], messages: Sequence[bytes]) -> None:
        """Send the messages of records, each a message; refuse those that are too long."""
        most = self.max_size
        if most is not None and any(len(message) > most for message in messages):
            fitting = []
            for record, message in zip(records, messages, strict=True):
                if len(message) > most:
                    self._refuse(record, message, f"more than {most} (max_size)")
                else:
                    fitting.append((record, message))
            records, messages = [r for r, _ in fitting], [m for _, m in fitting]
        if isinstance(self._sender, Delivery):
            self._sender.put([*map(self._framed, messages)])
            return
        for place in self._sender.put(messages):
            self._refuse(records[place], messages[place], "more than a datagram can have")

    def _refuse(self, record: Record | Row, message: bytes, why: str) -> None:
        self._place.refuse(
            record, f"the message has {len(message)} bytes, {why}: exclude columns, or choose"
            " another format or transport",
        )  # fmt: skip

    def flush(self) -> None:
        if isinstance(self._sender, Delivery):
            self._sender.flush()

    def commit(self, position: str) -> None:
        if isinstance(self._sender, Delivery):
            self._sender.mark(position)
        self._committed = position

    def confirmed(self) -> str | None:
        return self._sender.confirmed() if isinstance(self._sender, Delivery) else self._committed

    def close(self) -> None:
        self._sender.close()


class SentLines(SentMessages):
    """Sends each line of each record as a message."""

    def __init__(self, place: outputs.Place, address: Address, options: dict[str, Any]) -> None:
        """Connects; BackendError."""
        self._lines = given_lines(options)
        self._line = self._lines.line
        self.takes_rows = self._lines.of_rows is not None
        super().__init__(place, address, options)

    @abstractmethod
    def _message(self, record: Record | Row, line: str) -> bytes:
        """The message of a line, without what ends it in a stream."""

    def write(self, batch: Batch) -> None:
        messages, records = [], []
        for record in batch.records():
            text = self._line(record)
            for line in text.split("\n") if "\n" in text else (text,):
                if not line:
                    continue
                if not line.isprintable():  # a tab separates columns; nothing else may be there
                    line = "\t".join(map(escape, line.split("\t")))
                messages.append(self._message(record, line))
                records.append(record)
        self._send(records, messages)

    def write_rows(self, rows: Sequence[Row]) -> None:
        assert self._lines.of_rows is not None
        self._send(rows, [*map(self._message, rows, self._lines.of_rows(rows))])

    def close(self) -> None:
        try:
            super().close()
        finally:
            for sentence in self._lines.report():
                notes.warning("%s", sentence)


class PlainLines(SentLines):
    """Sends lines as they are, in a stream with a newline behind each."""

    def _message(self, record: Record | Row, line: str) -> bytes:
        return line.encode("utf-8", "backslashreplace")

    def _framed(self, message: bytes) -> bytes:
        return message + b"\n"


class _Connecting:
    """Makes streams to an address; the first of a socket that is already connected."""

    def __init__(
        self, address: Address, context: Any, name: str, first: socket.socket | None
    ) -> None:
        self._address, self._context, self._name, self._first = address, context, name, first

    def __call__(self, deadline: float) -> Stream:
        from pylog.transports.connecting import begun, connected

        made, self._first = self._first, None
        return begun(made or connected(self._address, deadline), self._context, self._name,
                     deadline)  # fmt: skip
