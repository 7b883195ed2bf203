"""A connected stream, plain or with TLS, that knows how far the peer has acknowledged it.

Data goes into a buffer as it is on the wire, and from there to the system, which never blocks. The
system says how many bytes the peer's system has not acknowledged (TCP), or its program not read
(local sockets): SIOCOUTQ, tcp(7), unix(7). With TLS those are bytes of ciphertext; the place on the
wire where data ends is given back by `put`. On systems that do not say it, all counts as
acknowledged that the system has taken.

With TLS 1.3 the client may send before the server has looked at the client's certificate. So
nothing counts as acknowledged until the server has sent something, its session tickets as a rule,
or for GRACE_S.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import ssl
import time

from pylog.transports.sockets import TICK_S, unconfirmed_size

GRACE_S = 1.0
"""How long a server may take to refuse a client by an alert."""
LINGER_S = 1.0
"""How long `close` waits for the peer to end its side."""
_PART = 1 << 18


class Stream:
    """A connection, which never blocks unless `wait` is called.

    left   how many bytes wait for the system to take them
    """

    def __init__(self, connected: socket.socket, tls: ssl.SSLContext | None, name: str) -> None:
        """
        tls    the settings of TLS; None: none
        name   that the server's certificate must have
        """
        connected.setblocking(False)
        self._socket = connected
        self._is_local = connected.family == getattr(socket, "AF_UNIX", None)
        self._wire = bytearray()
        self._made = 0
        self._acknowledged = 0
        self._tls: ssl.SSLObject | None = None
        self._heard = tls is None
        self._quiet_until = 0.0
        if tls is not None:
            self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = tls.wrap_bio(self._in, self._out, server_hostname=name)

    def shake_hands(self, deadline: float) -> None:
        """Do the handshake of TLS, if there is TLS; OSError, EOFError.

        deadline   of the monotonic clock
        """
        if self._tls is None:
            return
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._send_out()
                self.push()
            except ssl.SSLError:
                self._send_out()  # the alert, so that the server's log has the reason
                self.push()
                raise
            if time.monotonic() >= deadline:
                raise TimeoutError("no handshake of TLS in time")
            self.wait(deadline, to_read=True)
            self._receive()
        self._send_out()
        self.push()
        self._heard = self._tls.version() != "TLSv1.3"
        self._quiet_until = time.monotonic() + GRACE_S

    @property
    def left(self) -> int:
        return len(self._wire)

    def put(self, data: bytes) -> int:
        """Take data; the place on the wire where it ends."""
        if self._tls is None:
            self._wire += data
            self._made += len(data)
        else:
            rest = memoryview(data)
            while rest:  # a record of TLS at a time
                rest = rest[self._tls.write(rest) :]
            self._send_out()
        return self._made

    def _send_out(self) -> None:
        """Take what TLS has made for the wire."""
        if made := self._out.read():
            self._wire += made
            self._made += len(made)

    def push(self) -> int:
        """Give the system what it takes; how many bytes. OSError if the connection is broken."""
        taken = 0
        while self._wire:
            try:
                size = self._socket.send(memoryview(self._wire)[:_PART])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # full, on BSD
                    break
                raise
            del self._wire[:size]
            taken += size
        return taken

    def hear(self) -> None:
        """Read what the peer has sent, which is ignored.

        Raises EOFError if it has ended the stream, OSError if that is broken or refused.
        """
        if not self._receive() or self._tls is None:
            return
        try:
            while self._tls.read(_PART):
                pass
        except ssl.SSLWantReadError:
            self._heard = True
            return
        finally:
            self._send_out()
        raise EOFError  # of TLS (close_notify)

    def _receive(self) -> bool:
        """Take what has come; whether anything has. EOFError at the end."""
        if self._socket.fileno() < 0:
            raise EOFError  # `abandon` has closed it
        try:
            data = self._socket.recv(_PART)
        except (BlockingIOError, InterruptedError):
            return False
        if not data:
            raise EOFError
        if self._tls is not None:
            self._in.write(data)
        return True

    def acknowledged(self) -> int:
        """Up to which place on the wire the peer has acknowledged; OSError and EOFError as `hear`,
        and then `confirmed` says how far it came.
        """
        if self._socket.fileno() < 0:
            raise EOFError
        at = self._made - len(self._wire) - unconfirmed_size(self._socket)
        if self._is_local:
            self.hear()  # a local peer that ends frees what it has not read, as if it were read
        if not self._heard and time.monotonic() < self._quiet_until:
            self.hear()
        if self._heard or time.monotonic() >= self._quiet_until:
            self._acknowledged = max(self._acknowledged, at)
        if not self._is_local:
            self.hear()
        return self._acknowledged

    @property
    def confirmed(self) -> int:
        """What `acknowledged` gave last, also of a connection that has ended."""
        return self._acknowledged

    def wait(self, deadline: float, to_read: bool = False) -> None:
        """Wait until the system takes more, or has more if `to_read`, but no longer than to
        `deadline`, and 0.1 s at a time: not every system reports the end of a connection.
        """
        seconds = max(0.0, min(TICK_S, deadline - time.monotonic()))
        selector = selectors.DefaultSelector()
        with selector:
            to_write = selectors.EVENT_WRITE if self._wire or not to_read else 0
            selector.register(self._socket, to_write | (selectors.EVENT_READ if to_read else 0))
            selector.select(seconds)

    def abandon(self) -> None:
        """Close it as it is."""
        self._socket.close()

    def close(self) -> None:
        """End it in order, after what was sent, and wait shortly for the peer to do the same.

        A socket that is closed before it has read everything would reset the connection, and what
        the peer has not read yet would be lost.
        """
        try:
            if self._tls is not None:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._send_out()
            self.push()
            self._socket.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + LINGER_S
            while time.monotonic() < deadline:
                self.wait(deadline, to_read=True)
                try:
                    if not self._socket.recv(_PART):
                        break
                except BlockingIOError:
                    continue
        except (OSError, EOFError):
            pass
        finally:
            self._socket.close()
