"""Messages of IPFIX (RFC 7011): sets of templates and of data records, put together to a size.

`Messages` is one observation domain. It numbers templates and counts data records, so that the
sequence number of each message is right. A record follows its template at once, in the same message
or the next one.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pylog.outputs._ipfix_elements import Element

HEADER = struct.Struct(">HHIII")
"""The message header (RFC 7011, 3.1): version, length, export time, sequence number, domain."""
_SET = struct.Struct(">HH")
"""The set header (3.3.2): id, length."""
VERSION = 10
TEMPLATES, OPTIONS_TEMPLATES, FIRST, LAST = 2, 3, 256, 0xFFFF
"""The ids of sets of templates and of options templates, and the first and last one of data."""


Definition = tuple[int, bytes]
"""A template: TEMPLATES or OPTIONS_TEMPLATES, and its record without the number."""


class Unfit(ValueError):
    """A record that cannot be sent, and why."""


@dataclass
class Before:
    """What an observation domain has sent before, in the same file.

    templates   the numbers of its templates
    sequence    of the next message
    """

    templates: dict[Definition, int] = field(default_factory=dict)
    sequence: int = 0


class Messages:
    """Gathers the records of an observation domain into messages.

    sequence   how many data records were sent before the message in hand, modulo 2^32
    """

    def __init__(
        self, domain: int, limit: int, send: Callable[[bytes], None], before: Before | None = None
    ) -> None:
        """
        limit    the longest message, in bytes
        send     takes each complete message
        before   what the file has before
        """
        before = before or Before()
        self.sequence = before.sequence
        self._domain, self._limit, self._send = domain, limit, send
        self._templates = dict(before.templates)
        self._next = max(self._templates.values(), default=FIRST - 1) + 1
        self._begin()

    def _begin(self) -> None:
        self._message = bytearray(HEADER.size)
        self._set_at = self._set = 0
        self._records = 0

    def template(self, elements: Sequence[Element], scopes: int = 0) -> int:
        """The number of a template, which is sent unless it was before; Unfit if all are taken.

        scopes   how many of the elements are scope fields: then it is an options template
        """
        record = len(elements).to_bytes(2)
        if scopes:
            record += scopes.to_bytes(2)
        record += b"".join(element.specifier() for element in elements)
        definition = OPTIONS_TEMPLATES if scopes else TEMPLATES, record
        number = self._templates.get(definition)
        if number is None:
            if self._next > LAST:
                raise Unfit(f"there are more than {LAST - FIRST} different sets of fields")
            number, self._next = self._next, self._next + 1
            self._templates[definition] = number
            self._put(definition[0], number.to_bytes(2) + record)
        return number

    @property
    def templates(self) -> int:
        """How many templates there are."""
        return len(self._templates)

    def repeat_templates(self) -> None:
        """Send all templates again."""
        for (set_id, record), number in self._templates.items():
            self._put(set_id, number.to_bytes(2) + record)

    def record(self, template: int, octets: bytes) -> None:
        """Add a data record; Unfit if it needs more than a message."""
        self._put(template, octets)
        self._records += 1

    def _put(self, set_id: int, octets: bytes) -> None:
        """Add a record to the set in hand, or to a new one."""
        if HEADER.size + _SET.size + len(octets) > self._limit:
            raise Unfit(
                f"it has {len(octets)} bytes as IPFIX, but a message has {self._limit} at most"
                " (message_size)"
            )
        size = len(self._message) + len(octets)
        if set_id != self._set or size > self._limit:
            if size + _SET.size > self._limit:
                self.end()
            self._end_set()
            self._set, self._set_at = set_id, len(self._message)
            self._message += bytes(_SET.size)
        self._message += octets

    def _end_set(self) -> None:
        if self._set:
            length = len(self._message) - self._set_at
            _SET.pack_into(self._message, self._set_at, self._set, length)
            self._set = 0

    def end(self) -> None:
        """Send the message in hand, if it holds something."""
        if len(self._message) == HEADER.size:
            return
        self._end_set()
        HEADER.pack_into(
            self._message, 0, VERSION, len(self._message), int(time.time()) & 0xFFFFFFFF,
            self.sequence, self._domain,
        )  # fmt: skip
        message, records = bytes(self._message), self._records
        self._begin()
        self.sequence = (self.sequence + records) & 0xFFFFFFFF
        self._send(message)
