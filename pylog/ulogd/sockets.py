"""JSON lines to a socket: TCP, UDP or a unix socket, through pylog's queue of bounded size.

ulogd blocks on a receiver that stalls, and loses the records while it is away. Here they wait in
the queue of pylog.transports.sender, which renews the connection; what is lost is counted.
"""

from __future__ import annotations

from pylog.transports.sender import Sender
from pylog.transports.sockets import Place


class Socket:
    """A receiver of lines."""

    def __init__(self, mode: str, host: str, port: str, path: str, live: bool) -> None:
        """Connects; BackendError where nobody listens, except for UDP, ValueError for a port.

        mode   tcp, udp or unix
        path   of a unix socket
        live   as of a Sender
        """
        where = path if mode == "unix" else f"{mode}:{f'[{host}]' if ':' in host else host}:{port}"
        name = f"receiver of JSON at {where}"
        self._sender = Sender(Place(where, "receiver", 12345), name, _notice, live)

    def write(self, data: bytes) -> None:
        """Send a line, or queue it."""
        self._sender.put(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def reopen(self) -> None:
        """Go on: the connection is renewed when it has ended."""

    def close(self) -> None:
        """Send what waits."""
        self._sender.close()

    @property
    def lost(self) -> int:
        """How many lines could not be sent, when it is closed."""
        return self._sender.dropped


def _notice(text: str) -> bytes:
    return b'{"pylog": "%s"}\n' % text.encode()
