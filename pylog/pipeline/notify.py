"""What a pipeline reports of itself while it runs: to nobody, or to a service manager as systemd.

The protocol is that of sd_notify(3): a datagram with lines of NAME=VALUE to the socket that
$NOTIFY_SOCKET names. It is written here, because it is a few lines that systemd promises to keep,
and no library has them without a C part or with RELOADING. The watchdog is fed by the main loop,
so a loop that hangs is restarted; and only while a live source is open, because a pipeline that
reads nothing loses nothing by a restart. A manager that does not answer never stops the pipeline.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from pylog.notes import notes
from pylog.pipeline import state

if TYPE_CHECKING:
    from pylog.pipeline.run import Run

STATUS_S = 5.0
"""How often the line of `systemctl status` changes, at most."""
PATIENCE_S = 0.2
"""How long a message waits for room in the manager's queue."""
SPARE_S = 10.0
"""How much longer than `drain` the end may take."""
LONGEST = 400
"""The most characters of a status."""


class Events:
    """Reports to a service manager; this one reports to nobody.

    period_s   how often `beat` is to be called at least; None: it does not matter
    """

    period_s: float | None = None

    def ready(self) -> None:
        """All sources and stacks have started."""

    def reloading(self) -> None:
        """The configuration is being read again; `ready` follows."""

    def stopping(self, longest_s: float) -> None:
        """The end has begun, and takes so long at most."""

    def beat(self, run: Run) -> None:
        """The loop has gone round."""


class Notifications(Events):
    """Reports to the service manager that listens to a socket."""

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        """
        address      a path, or a name in the abstract namespace after @
        watchdog_s   the manager ends a service that it has not heard for so long; None: never
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self.period_s = None if watchdog_s is None else watchdog_s / 3
        self._fed_at = self._shown_at = float("-inf")
        self._status = ""
        self._has_failed = False

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def stopping(self, longest_s: float) -> None:
        longest_us = int((longest_s + SPARE_S) * 1e6)
        message = f"STOPPING=1\nEXTEND_TIMEOUT_USEC={longest_us}"
        if self.period_s is not None:  # the loop no longer goes round as often as before
            message += f"\nWATCHDOG_USEC={max(longest_us, int(3 * self.period_s * 1e6))}"
        self._send(message)

    def beat(self, run: Run) -> None:
        now = time.monotonic()
        if self.period_s is not None and now - self._fed_at >= self.period_s:
            self._fed_at = now
            if state.receives(run):
                self._send("WATCHDOG=1")
        if now - self._shown_at >= STATUS_S:
            self._shown_at = now
            status = " ".join(state.line(run).split())[:LONGEST]
            if status != self._status:
                self._status = status
                self._send(f"STATUS={status}")

    def _send(self, message: str) -> None:
        try:
            self._socket.sendto(message.encode("utf-8", "backslashreplace"), self._address)
        except OSError as error:
            if not self._has_failed:
                notes.warning("the service manager cannot be reached: %s", error.strerror or error)
            self._has_failed = True

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()


def events(environment: MutableMapping[str, str] = os.environ) -> Events:
    """The events that the environment asks for, whose variables are taken out of it: they are for
    this process, and not for those that it starts.
    """
    address = environment.pop("NOTIFY_SOCKET", "")
    period_us = environment.pop("WATCHDOG_USEC", "")
    process = environment.pop("WATCHDOG_PID", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return Events()
    if address[0] not in "/@":
        notes.warning("NOTIFY_SOCKET is %s, but must be a path or @NAME", address)
        return Events()
    watchdog_s = None
    with contextlib.suppress(ValueError):
        if int(period_us) > 0 and process in ("", str(os.getpid())):
            watchdog_s = int(period_us) / 1e6
    return Notifications(address, watchdog_s)
