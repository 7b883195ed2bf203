"""Sends records to syslog: to this machine's socket, or to another machine over UDP, TCP or TLS.

Headers are those of RFC 5424, of RFC 3164, or of syslog(3) for local sockets. Over TCP and TLS each
message stands behind its length (RFC 6587, RFC 5425), and arrives at least once. Over UDP and local
datagrams it is sent once, as best effort. A message that is longer than `max_size` is refused,
never cut.
"""

from __future__ import annotations

from typing import Any

from pylog import outputs
from pylog.memo import Memo
from pylog.nearest import advice
from pylog.options import Option
from pylog.outputs._lines import FORMAT_OPTIONS
from pylog.outputs._sent_lines import (
    SentLines,
    check_lines,
    checked,
    lines_need_raw,
    lines_show_joins,
)
from pylog.outputs._syslog_headers import HEADERS, check_header, header_maker
from pylog.record import Record, Row, kind_of, kinds
from pylog.transports import tls
from pylog.transports.syslog import FACILITIES, LEVELS

NAME = "syslog"
PLACE = True
DELIVERY = "at least once"
ADDRESS = "tls://HOST[:6514], tcp://HOST[:514], udp://HOST[:514], unix:/dev/log"
PORTS = {"tls": 6514, "tcp": 514, "udp": 514, "unix": 0}
FRAMINGS = ("octets", "newline", "nul")
LONGEST_3164 = 1024
"""The longest datagram of RFC 3164, section 4.1."""
OPTIONS = (
    *FORMAT_OPTIONS,
    Option("facility", tuple(FACILITIES), "local0", "the facility"),
    Option("severity", tuple(LEVELS), "info", "the severity of records that `severities` do not"
           " name"),
    Option("severities", dict, None, "the severities of actions and kinds, as block=warning and"
           " loss=err", absent="block=warning, loss=warning"),
    Option("header", HEADERS, None, "the form of the header",
           absent="rfc5424; local for local sockets"),
    Option("framing", FRAMINGS, None, "how messages in a stream are kept apart: by their length, or"
           " by what ends each", absent="octets; nul for local sockets"),
    Option("app_name", str, "pylog", "the name of the sender in the header"),
    Option("hostname", str, None, "the name of the machine in the header",
           absent="the record's host, else this machine"),
    Option("structured_data", str, None, "structured data for RFC 5424, the same in each message,"
           ' as [name@32473 key="value"]', metavar="TEXT"),
    Option("max_size", int, None, "the longest message, in bytes; longer ones are refused", low=64,
           absent=f"{LONGEST_3164} for rfc3164 over UDP; else what the transport takes"),
    *tls.OPTIONS,
)  # fmt: skip
_ACTIONS = ("pass", "block", "nomatch", "log")
_SEVERITIES = {"block": "warning", "loss": "warning"}
_ENDS = {"newline": b"\n", "nul": b"\0"}
needs_raw = lines_need_raw
shows_joins = lines_show_joins


def check(**options: Any) -> None:
    """ValueError for a format or severity that does not exist, or names that do not fit."""
    check_lines(**options)
    check_header(
        options["header"], str(options["app_name"]), options["hostname"],
        options["structured_data"],
    )  # fmt: skip
    for word, severity in (options["severities"] or {}).items():
        if severity not in LEVELS:
            raise ValueError(f"no severity {severity!r} for {word}{advice(severity, LEVELS)}")
        if not word.isdecimal() and word not in (there := [*_ACTIONS, *kinds()]):
            raise ValueError(f"no action or kind {word!r}{advice(word, there)}")


def check_address(address: str, **options: Any) -> None:
    """ValueError for an address of another kind, or options that are not for it."""
    scheme = checked(address, PORTS, options).scheme
    if options["framing"] is not None and scheme == "udp":
        raise ValueError("framing is of streams: udp has none")
    if scheme == "unix" and options["header"] is None and options["structured_data"] is not None:
        raise ValueError("structured_data needs header rfc5424 for a local socket")


def delivery_to(address: str) -> outputs.Delivery:
    """What is promised of records: datagrams, which local sockets take, are sent once."""
    return "at least once" if address.startswith(("tcp:", "tls:")) else "best effort"


def priorities(facility: str, severity: str, severities: dict[str, str]) -> Memo[Any, int]:
    """The priority by action and kind: that of the action, or of the kind, or `severity`."""
    levels = {word: LEVELS[level] for word, level in (_SEVERITIES | severities).items()}
    base, other = FACILITIES[facility] << 3, LEVELS[severity]

    def priority(key: tuple[str | int | None, str]) -> int:
        action, kind = key
        return base | levels.get(str(action), levels.get(kind, other))

    return Memo(priority)


class Output(SentLines):
    """Sends messages of syslog."""

    def __init__(self, place: outputs.Place, **options: Any) -> None:
        address = checked(place.address, PORTS, options)
        super().__init__(place, address, options)
        self._line = self._lines.content or self._line
        local = address.scheme == "unix"
        header = options["header"] or ("local" if local else "rfc5424")
        self._priorities = priorities(
            options["facility"], options["severity"], options["severities"] or {}
        )
        self._header = header_maker(
            header, str(options["app_name"]), options["hostname"], options["structured_data"]
        )
        self._end = _ENDS.get(options["framing"] or ("nul" if local else "octets"))
        self.max_size = options["max_size"]
        if self.max_size is None and header == "rfc3164" and address.scheme == "udp":
            self.max_size = LONGEST_3164

    def _message(self, record: Record | Row, line: str) -> bytes:
        priority = self._priorities[getattr(record, "action", None), kind_of(record)]
        return (self._header(record, priority) + line).encode("utf-8", "backslashreplace")

    def _framed(self, message: bytes) -> bytes:
        if self._end is not None:
            return message + self._end
        return b"%d %b" % (len(message), message)
