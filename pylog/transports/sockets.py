"""Sockets that lines are sent to: addresses, connections, and what the system says of them.

A place is a path of a local socket, udp:HOST[:PORT] or tcp:HOST[:PORT]. A connection never blocks.
What only some systems report (how many bytes the peer has not confirmed) is asked here, and may be
unknown.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import time
from collections.abc import Sequence

CONNECT_S = 5.0
"""How long a host may take to accept a connection."""
TICK_S = 0.1
"""How often a wait looks for what no system call reports: the end of the connection."""

_HOST = re.compile(r"(udp|tcp):(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?")


class Place:
    """Where a socket is.

    unix    whether it is a local socket with a path
    stream  whether it is TCP; a local socket may be a stream or not
    name    what notes and errors call it
    """

    def __init__(self, where: str, what: str, port: int, paths: Sequence[str] = ()) -> None:
        """`where` is a path, udp:HOST[:PORT] or tcp:HOST[:PORT]; "": the first usable of `paths`.

        what   what errors say is there
        port   the port of a host without one

        Raises ValueError for a place that is not valid.
        """
        match = _HOST.fullmatch(where)
        self.unix = match is None
        self.stream = match is not None and match[1] == "tcp"
        self.name = where or " or ".join(paths)
        self._paths = () if where else tuple(paths)
        self._address = "", 0
        if match is not None:
            self._address = match[2] or match[3], int(match[4] or port)
            try:
                self._address[0].encode("idna")
            except UnicodeError as error:
                raise ValueError(f"no host {self._address[0][:80]!r}") from error
            if not 0 < self._address[1] < 1 << 16:
                raise ValueError(f"no port {self._address[1]}, as in {where!r}: 1 to 65535")
        elif re.match(r"\w+:", where):
            raise ValueError(f"no {what} {where!r}: a path, udp:HOST[:PORT] or tcp:HOST[:PORT]")

    def connected(self) -> socket.socket:
        """A new connection, which never blocks; OSError."""
        made = self._to_unix() if self.unix else self._to_host()
        made.setblocking(False)
        return made

    def _to_host(self) -> socket.socket:
        host, port = self._address
        failure = OSError(f"no address of {host}")
        wanted = socket.SOCK_STREAM if self.stream else socket.SOCK_DGRAM
        for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=wanted):
            made = socket.socket(family, kind, proto)
            made.settimeout(CONNECT_S)
            try:
                made.connect(address)
            except OSError as error:
                failure = error
                made.close()
            else:
                if kind == socket.SOCK_STREAM:
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                return made
        raise failure

    def _to_unix(self) -> socket.socket:
        paths = [path for path in self._paths if os.path.exists(path)]
        failure: OSError = FileNotFoundError(2, os.strerror(2))
        for path in paths if self._paths else [self.name]:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                made = socket.socket(socket.AF_UNIX, kind)
                made.setblocking(False)  # do not wait if the backlog is full
                try:
                    made.connect(path)
                except OSError as error:
                    if not isinstance(failure, BlockingIOError):
                        failure = error
                    made.close()
                else:
                    return made
        raise failure


def unconfirmed_size(connection: socket.socket) -> int:
    """How many bytes the peer's system has not confirmed (TCP) or its program has not read (a local
    socket, with the system's overhead); 0 if unknown.
    """
    try:
        import fcntl
        import termios

        octets = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))  # SIOCOUTQ, tcp(7), unix(7)
    except (ImportError, OSError):
        return 0
    size: int = struct.unpack("i", octets)[0]
    return size


def has_ended(connection: socket.socket) -> bool:
    """Whether the peer has ended its stream; OSError if the stream is broken. What the peer sends
    is ignored.
    """
    try:
        return not connection.recv(1 << 16)
    except BlockingIOError:
        return False


def wait_until_writable(connection: socket.socket) -> None:
    """Wait for room, at most TICK_S: not every system reports the end of a connection."""
    try:
        if hasattr(select, "poll"):
            poller = select.poll()
            poller.register(connection, select.POLLOUT)
            ready = bool(poller.poll(TICK_S * 1000))
        else:
            ready = bool(select.select([], [connection], [], TICK_S)[1])
    except (OSError, ValueError):  # closed by another thread
        ready = False
    if ready:
        time.sleep(0.0005)  # BSDs call a full socket writable, too


def reason(error: OSError) -> str:
    """Why a system call failed, as text."""
    return error.strerror or str(error)
