"""Sends lines to syslog: to this machine's, or to another machine's as RFC 5424.

Each line has a severity; the facility is the same for all lines, unless a line names another. See
pylog.transports.sender for how lines wait, are sent and are counted.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime

from pylog.record import escape
from pylog.transports.sender import Sender
from pylog.transports.sockets import Place

FACILITIES = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "security": 4, "syslog": 5, "lpr": 6,
    "news": 7, "uucp": 8, "cron": 9, "authpriv": 10, "ftp": 11, "ntp": 12, "audit": 13,
    "console": 14, "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20,
    "local5": 21, "local6": 22, "local7": 23,
}  # fmt: skip
LEVELS = {
    "emerg": 0, "panic": 0, "alert": 1, "crit": 2, "err": 3, "error": 3, "warning": 4, "warn": 4,
    "notice": 5, "info": 6, "debug": 7,
}  # fmt: skip
SOCKETS = ("/dev/log", "/var/run/log", "/var/run/syslog")
"""Where syslogd listens: Linux and Solaris, the BSDs, macOS."""


def facility_number(name: str) -> int:
    """The number of a facility; ValueError, which lists all."""
    if name not in FACILITIES:
        raise ValueError(f"no syslog facility {name!r}; there are {', '.join(FACILITIES)}")
    return FACILITIES[name]


class Syslog(Sender):
    """Sends lines to a syslog, each with its severity."""

    def __init__(
        self,
        where: str = "",
        facility: str = "local0",
        ident: str = "ipmon",
        live: bool = True,
    ) -> None:
        """Connects. `where` is a socket's path, udp:HOST[:PORT] or tcp:HOST[:PORT]; "": /dev/log.

        live   as of a Sender

        Raises ValueError for a facility or place that is not valid, BackendError where nobody
        listens.
        """
        self._facility = facility_number(facility)
        self._ident = ident
        self._host = socket.gethostname() or "-"
        place = Place(where, "syslog", 514, SOCKETS)
        self._form: Callable[[int, str], bytes] = self._local
        if not place.unix:
            self._form = self._rfc6587 if place.stream else self._rfc5424
        super().__init__(place, f"syslog at {place.name}", self._warning, live)

    def send(self, line: str, level: int, facility: int | None = None) -> None:
        """Deliver a line, or queue it, see `put`. `level` is a severity, plus 8 times a facility if
        the line has its own.
        """
        given = self._facility if facility is None else facility
        complete = facility is None and level >> 3 in range(1, 24)
        self.put(self._message(level if complete else given << 3 | level & 7, line))

    def _warning(self, text: str) -> bytes:
        return self._message(self._facility << 3 | LEVELS["warning"], text)

    def _message(self, priority: int, line: str) -> bytes:
        message = self._form(priority, escape(line))
        # a stream needs an end of each message; Connection cuts it off a datagram
        return message + b"\0" if self._place.unix else message

    # The forms of a message

    def _local(self, priority: int, line: str) -> bytes:
        """As syslog(3) writes it."""
        when = time.strftime("%b %e %H:%M:%S", time.localtime())
        return f"<{priority}>{when} {self._ident}[{os.getpid()}]: {line}".encode(
            errors="backslashreplace"
        )

    def _rfc5424(self, priority: int, line: str) -> bytes:
        when = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = f"<{priority}>1 {when} {self._host} {self._ident} {os.getpid()} - -"
        return f"{head} {line}".encode(errors="backslashreplace")

    def _rfc6587(self, priority: int, line: str) -> bytes:
        """As RFC 5424, after its length, which a stream needs."""
        message = self._rfc5424(priority, line)
        return f"{len(message)} ".encode() + message
