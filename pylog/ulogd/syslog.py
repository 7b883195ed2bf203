"""The output SYSLOG: print lines as datagrams to /dev/log, as syslog(3) writes them.

A program cannot send facility LOG_KERN, so that the default is daemon.notice. ulogd's datagram ends
with the newline of the line; without --compat=exact it does not, and control bytes are escaped.
A syslog that is not there is no error at the start; records are lost and counted until it is.
"""

from __future__ import annotations

import os
import time

from pylog.transports.sender import Sender
from pylog.transports.sockets import Place
from pylog.transports.syslog import SOCKETS
from pylog.ulogd.text import Syslogtime, escaped
from pylog.ulogd.worker import Instance, Sink, Surroundings, Values, View

FACILITIES = {"LOG_DAEMON": 3, "LOG_KERN": 3, "LOG_USER": 1,
              **{f"LOG_LOCAL{n}": 16 + n for n in range(8)}}  # fmt: skip
LEVELS = {f"LOG_{name}": n for n, name in enumerate(
    ("EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG"))}  # fmt: skip


class Syslog(Sink):
    """The output SYSLOG."""

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        super().__init__(instance, surroundings)
        facility, level = self.options["facility"], self.options["level"]
        if facility not in FACILITIES:
            raise ValueError(
                f"unknown facility {facility!r}; there are {', '.join(sorted(FACILITIES))}"
            )
        if level not in LEVELS:
            raise ValueError(f"unknown level {level!r}; there are {', '.join(LEVELS)}")
        self._priority = FACILITIES[facility] << 3 | LEVELS[level]
        self._sender: Sender | None = None
        self._times = Syslogtime()

    def write(self, values: Values, view: View) -> None:
        at = self.instance.inputs[0]
        line = None if at is None else values[at]
        if not isinstance(line, bytes):
            return
        if self._sender is None:
            place = Place(self.surroundings.syslog, "syslog", 514, SOCKETS)
            live = not self.surroundings.replayed
            self._sender = Sender(place, f"syslog at {place.name}", self._notice, live)
        if not self.surroundings.exact:
            line = escaped(line.rstrip(b"\n"))
        self._sender.put(self._message(line))

    def _message(self, line: bytes) -> bytes:
        when = self._times.text(int(time.time()))
        # the zero byte ends a message of a stream; Connection cuts it off a datagram
        return b"<%d>%s ulogd[%d]: %s\0" % (self._priority, when, os.getpid(), line)

    def _notice(self, text: str) -> bytes:
        return self._message(text.encode())

    def stop(self) -> None:
        if self._sender is not None:
            self._sender.close()

    @property
    def lost(self) -> int:
        return 0 if self._sender is None else self._sender.dropped
