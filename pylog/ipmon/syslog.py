"""Lines to syslog: to the machine's own, or to another's in the form of RFC 5424.

The facility is ipmon's -L, unless a rule's `level` names one; the severity is that of the line.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime

from pylog.errors import BackendError
from pylog.record import escape

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

_WHERE = re.compile(r"(udp|tcp):(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?")
PATIENCE_S = 5.0
"""How long a peer may take for a line, and how long none is sent after it took longer."""


def facility_number(name: str) -> int:
    """The number of a facility; ValueError, with those that there are."""
    if name not in FACILITIES:
        raise ValueError(f"no syslog facility {name!r}; there are {', '.join(FACILITIES)}")
    return FACILITIES[name]


class Syslog:
    """A way to a syslog.

    dropped   lines so far that could not be delivered
    """

    def __init__(self, where: str = "", facility: str = "local0", ident: str = "ipmon") -> None:
        """Connects. `where` is a socket's path, udp:HOST[:PORT] or tcp:HOST[:PORT]; "": /dev/log.

        Raises ValueError for a facility or place that makes no sense, BackendError where nobody
        listens.
        """
        self._facility = facility_number(facility)
        self._ident = ident
        self._host = socket.gethostname() or "-"
        self._form: Callable[[int, str], bytes] = self._local
        self._where = where
        match = _WHERE.fullmatch(where)
        if match is not None:
            stream = match[1] == "tcp"
            self._form = self._rfc6587 if stream else self._rfc5424
            self._kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
            self._address = match[2] or match[3], int(match[4] or 514)
            try:
                self._address[0].encode("idna")
            except UnicodeError as error:
                raise ValueError(f"no host {self._address[0][:80]!r}") from error
            if not 0 < self._address[1] < 1 << 16:
                raise ValueError(f"no port {self._address[1]}, as in {where!r}: 1 to 65535")
        elif re.match(r"\w+:", where):
            raise ValueError(f"no syslog {where!r}: a path, udp:HOST[:PORT] or tcp:HOST[:PORT]")
        self._socket: socket.socket | None = None
        self._end = b""
        self._not_before_s = 0.0
        self.dropped = 0
        self._connect()

    def _connect(self) -> None:
        try:
            if self._form == self._local:
                self._socket = self._unix()
            else:
                self._socket = self._inet()
        except OSError as error:
            where = self._where or " or ".join(SOCKETS)
            raise BackendError(f"no syslog at {where}: {error.strerror or error}") from error

    def _inet(self) -> socket.socket:
        host, port = self._address
        failure = OSError(f"no address of {host}")
        for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=self._kind):
            made = socket.socket(family, kind, proto)
            made.settimeout(PATIENCE_S)
            try:
                made.connect(address)
            except OSError as error:
                failure = error
                made.close()
            else:
                return made
        raise failure

    def _unix(self) -> socket.socket:
        paths = [self._where] if self._where else [p for p in SOCKETS if os.path.exists(p)]
        failure: OSError = FileNotFoundError(2, os.strerror(2))
        for path in paths:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                made = socket.socket(socket.AF_UNIX, kind)
                made.settimeout(PATIENCE_S)
                try:
                    made.connect(path)
                except OSError as error:
                    failure = error
                    made.close()
                else:
                    self._end = b"\0" if kind == socket.SOCK_STREAM else b""
                    return made
        raise failure

    def send(self, line: str, level: int, facility: int | None = None) -> None:
        """Deliver a line; level is a severity, with a facility (times 8) if it is not the usual.

        Connects anew if the syslog was restarted; a line that cannot be delivered is counted.
        """
        told = self._facility if facility is None else facility
        known = facility is None and level >> 3 in range(1, 24)
        message = self._form(level if known else told << 3 | level & 7, escape(line))
        if time.monotonic() >= self._not_before_s:
            for _ in range(2):
                try:
                    if self._socket is None or self._is_gone(self._socket):
                        self.close()
                        self._connect()
                    assert self._socket is not None
                    self._socket.sendall(message + self._end)
                    return
                except (OSError, BackendError) as error:
                    if isinstance(error, OSError) and error.errno == errno.EMSGSIZE:
                        break  # the line's own fault
                    self.close()
                    cause = error.__cause__ or error
                    if isinstance(cause, TimeoutError):
                        self._not_before_s = time.monotonic() + PATIENCE_S
                        break
            else:
                self._not_before_s = time.monotonic() + PATIENCE_S
        self.dropped += 1

    @staticmethod
    def _is_gone(connection: socket.socket) -> bool:
        """Whether a peer has ended its stream."""
        if connection.type != socket.SOCK_STREAM:
            return False
        connection.settimeout(0)
        try:
            return not connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            connection.settimeout(PATIENCE_S)

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
        """With its length before it, as a stream needs."""
        message = self._rfc5424(priority, line)
        return f"{len(message)} ".encode() + message

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
