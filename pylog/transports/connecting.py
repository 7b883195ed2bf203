"""Makes connections to an address, in a time that is limited.

A host may have several addresses, which are tried one after the other. A local socket is a stream
or takes datagrams; which of them it is, the system says.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Sequence

from pylog.transports.addresses import Address
from pylog.transports.streams import Stream

CONNECT_S = 5.0
"""How long an address of a host may take to accept a connection."""


def connected(address: Address, deadline: float) -> socket.socket:
    """A connected socket that does not block; OSError.

    deadline   of the monotonic clock; the look-up of a name is not limited by it
    """
    if address.scheme == "unix":
        return _local(address.path, (socket.SOCK_STREAM, socket.SOCK_DGRAM))
    kind = socket.SOCK_DGRAM if address.scheme == "udp" else socket.SOCK_STREAM
    failure = OSError(f"no address of {address.host}")
    for family, kind_of_it, proto, _, where in socket.getaddrinfo(
        address.host, address.port, type=kind
    ):
        made = socket.socket(family, kind_of_it, proto)
        made.settimeout(max(0.05, min(CONNECT_S, deadline - time.monotonic())))
        try:
            made.connect(where)
            if kind == socket.SOCK_STREAM:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            failure = error
            made.close()
        else:
            made.setblocking(False)
            return made
    raise failure


def _local(path: str, kinds: Sequence[int]) -> socket.socket:
    failure: OSError = FileNotFoundError(errno.ENOENT, "No such file or directory")
    for kind in kinds:
        made = socket.socket(getattr(socket, "AF_UNIX"), kind)  # noqa: B009 - Windows has none
        made.setblocking(False)
        try:
            made.connect(path)
        except OSError as error:
            made.close()
            failure = error
            if error.errno != errno.EPROTOTYPE:  # of the other kind
                break
        else:
            return made
    raise failure


def stream_to(
    address: Address, context: ssl.SSLContext | None, name: str, deadline: float
) -> Stream:
    """A stream to an address, after the handshake of TLS if there is a context; OSError, EOFError.

    name   that the server's certificate must have
    """
    return begun(connected(address, deadline), context, name, deadline)


def begun(
    made: socket.socket, context: ssl.SSLContext | None, name: str, deadline: float
) -> Stream:
    """The stream of a connected socket; OSError and EOFError of the handshake."""
    stream = Stream(made, context, name)
    try:
        stream.shake_hands(min(deadline, time.monotonic() + CONNECT_S))
    except BaseException:
        stream.abandon()
        raise
    return stream
