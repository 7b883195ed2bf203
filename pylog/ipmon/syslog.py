"""Lines to syslog: to the machine's own, or to another's in the form of RFC 5424.

The facility is ipmon's -L, unless a rule's `level` names one; the severity is that of the line.

A line is sent at once, without waiting. What the syslog does not take waits in a queue of bounded
size, and as long as there is a queue a thread sends from it and makes the connection anew. When
the queue is full, the sender waits as long as the syslog takes lines, but at most `PATIENCE_S`
after the last one that it took (longer for what waits by itself, as a file does); then lines are
dropped and counted. So a stalled syslog costs lines and says so; it does not stop the reading.
`close` ends within `DRAIN_S`.

A line is delivered when the receiving system has taken it. TCP tells: what the peer's system had
not confirmed when the connection broke is sent again. Of bytes that a peer's system took and its
program never read, nobody learns how many they were: it is reported that there were some, where a
stream is reset, or a local syslog is gone that had not read everything when the last line was sent.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from pylog.errors import BackendError
from pylog.notes import notes
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

QUEUE_LINES = 10_000
QUEUE_SIZE = 1 << 24
"""What waits at most, in lines and in bytes."""
PATIENCE_S = 5.0
"""How long a syslog may take nothing before lines are dropped, and before `close` gives up."""
FILE_PATIENCE_S = 30.0
"""How long before lines of a file are dropped: it does not overflow meanwhile, as a kernel does."""
DRAIN_S = 30.0
"""How long `close` takes at most, with a syslog that takes lines slowly."""
REPORT_S = 10.0
"""How often a growing number of undelivered lines is reported."""
RETRY_S = (0.1, 5.0)
"""The pause before the first new connection, and the longest; it doubles from one to the other."""
DATAGRAM = 512
"""What a datagram takes at least while it waits for its reader: SKB_TRUESIZE() of Linux is more."""
TICK_S = 0.1
"""How often a wait looks for what no system call tells: the end of the connection."""


def facility_number(name: str) -> int:
    """The number of a facility; ValueError, with those that there are."""
    if name not in FACILITIES:
        raise ValueError(f"no syslog facility {name!r}; there are {', '.join(FACILITIES)}")
    return FACILITIES[name]


class Syslog:
    """A way to a syslog.

    made      lines given to `send` so far
    dropped   those of them that were not delivered; those that still wait are not among them
    waiting   how many wait
    doubtful  whether a syslog ended with lines unread, which count as delivered
    """

    def __init__(
        self,
        where: str = "",
        facility: str = "local0",
        ident: str = "ipmon",
        live: bool = True,
    ) -> None:
        """Connects. `where` is a socket's path, udp:HOST[:PORT] or tcp:HOST[:PORT]; "": /dev/log.

        live   whether the lines are of what is lost when it is not read in time

        Raises ValueError for a facility or place that makes no sense, BackendError where nobody
        listens.
        """
        self._facility = facility_number(facility)
        self._ident = ident
        self._patience_s = PATIENCE_S if live else FILE_PATIENCE_S
        self._host = socket.gethostname() or "-"
        self._form: Callable[[int, str], bytes] = self._local
        self._where = where
        self._unix = True
        match = _WHERE.fullmatch(where)
        if match is not None:
            stream = match[1] == "tcp"
            self._unix = False
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
        self.made = self.dropped = 0
        self.doubtful = False
        self._changed = threading.Condition(threading.RLock())  # guards everything below
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._at = 0
        """How much of the first message of the queue this connection has taken."""
        self._sent = _Unconfirmed()
        self._unread = 0
        """How many lines a local syslog may not have read, when the last one was sent."""
        self._noticed = 0
        """How many of the dropped lines were reported to syslog itself."""
        self._thread: threading.Thread | None = None
        self._closing = self._ended = False
        self._closed_s = 0.0
        self._moved_s = 0.0
        """When the queue began, or last became shorter."""
        self._report_s = 0.0
        self._problem = ""
        self._stalled = False
        """Whether it was reported that no lines are taken."""
        try:
            self._socket: socket.socket | None = self._connected()
        except OSError as error:
            raise BackendError(f"no syslog at {self._named()}: {_told(error)}") from error

    @property
    def waiting(self) -> int:
        return _lines(self._queue)

    # Connections

    def _named(self) -> str:
        return self._where or " or ".join(SOCKETS)

    def _connected(self) -> socket.socket:
        """A new connection, which never blocks; OSError."""
        made = self._to_unix() if self._unix else self._to_host()
        made.setblocking(False)
        return made

    def _to_host(self) -> socket.socket:
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
                if kind == socket.SOCK_STREAM:
                    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                return made
        raise failure

    def _to_unix(self) -> socket.socket:
        paths = [self._where] if self._where else [p for p in SOCKETS if os.path.exists(p)]
        failure: OSError = FileNotFoundError(2, os.strerror(2))
        for path in paths:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                made = socket.socket(socket.AF_UNIX, kind)
                made.setblocking(False)  # a full backlog is no reason to wait
                try:
                    made.connect(path)
                except OSError as error:
                    if not isinstance(failure, BlockingIOError):
                        failure = error
                    made.close()
                else:
                    return made
        raise failure

    def _disconnect(self, error: OSError | None) -> None:
        """The connection is gone, by an error or by its end; what it did not deliver is sent again.

        The peer's system answers with a reset when there was something that its program had not
        read; one that ends in order has read all that its system took.
        """
        connection, self._socket = self._socket, None
        if connection is None:
            return
        self._problem = _told(error) if error is not None else "it closed the connection"
        if connection.type == socket.SOCK_STREAM:
            again = self._sent.take(connection)
            self._queue.extendleft(reversed(again))
            self._size += sum(map(len, again))
            if error is not None and error.errno != errno.EPIPE:
                self._doubt("lines that it had taken and not read are lost, and nobody can say"
                            " how many")  # fmt: skip
        elif self._unread:
            self._doubt(f"up to {self._unread} lines that it had taken may be lost unread")
        self._at = self._unread = 0
        self._sent = _Unconfirmed()
        connection.close()

    def _doubt(self, what: str) -> None:
        self.doubtful = True
        notes.warning("syslog at %s: %s; %s", self._named(), self._problem, what)

    # Sending

    def send(self, line: str, level: int, facility: int | None = None) -> None:
        """Deliver a line, or queue it; level is a severity, with a facility (times 8) if it is not
        the usual.

        Waits only while the queue is full, and not longer than `PATIENCE_S` after the syslog took
        a line, `FILE_PATIENCE_S` if it is not live. A line for which there is no room then is
        counted in `dropped`.
        """
        given = self._facility if facility is None else facility
        complete = facility is None and level >> 3 in range(1, 24)
        message = self._message(level if complete else given << 3 | level & 7, line)
        with self._changed:
            self.made += 1
            has_room = False
            try:
                has_room = self._wait_for_room(len(message))
            finally:  # a signal may end the wait, and the program
                if not has_room:
                    self._drop(1)
            if has_room:
                self._report_in_place()
                self._put(message)

    def _message(self, priority: int, line: str) -> bytes:
        message = self._form(priority, escape(line))
        # a stream needs an end of each; to a datagram it does no harm to be without
        return message + b"\0" if self._unix else message

    def _put(self, message: bytes) -> None:
        """Send a message, or queue it behind what waits."""
        if not self._queue:
            self._moved_s = time.monotonic()
        self._queue.append(message)
        self._size += len(message)
        if self._thread is None:
            self._push(tries=2)
            if self._queue:
                self._thread = threading.Thread(target=self._send_rest, daemon=True)
                self._thread.start()

    def _wait_for_room(self, size: int) -> bool:
        """Wait until the queue has room for so many bytes; whether it has."""
        while self._queue and (len(self._queue) >= QUEUE_LINES or self._size + size > QUEUE_SIZE):
            left_s = self._moved_s + self._patience_s - time.monotonic()
            if left_s <= 0 or self._closing:
                return False
            self._changed.wait(left_s)
        return not self._closing

    def _push(self, tries: int = 1) -> bool:
        """Send what is taken at once; whether all was.

        tries   how many connections may be used; a new one is made only where that takes no time
        """
        while self._queue:
            if self._socket is None:
                tries -= 1
                if not self._unix or tries <= 0:
                    return False
                try:
                    self._socket = self._connected()
                except OSError as error:
                    self._problem = _told(error)
                    return False
            try:
                self._send_first(self._socket)
            except (BlockingIOError, InterruptedError):
                self._problem = "it does not read"
                return False
            except OSError as error:
                if error.errno == errno.EMSGSIZE:  # the line's own fault
                    self._pop()
                    self._drop(1)
                elif error.errno == errno.ENOBUFS:  # a full socket, on BSD
                    self._problem = "it does not read"
                    return False
                else:
                    self._disconnect(error)
        return True

    def _send_first(self, connection: socket.socket) -> None:
        """Give the first message of the queue, or what is left of it, to the system; OSError."""
        message = self._queue[0]
        if connection.type == socket.SOCK_STREAM:
            if not self._at and _has_ended(connection):
                self._disconnect(None)
                return
            self._at += connection.send(message[self._at :])
            if self._at < len(message):
                return
            if not self._unix:
                self._sent.add(message, connection)
        elif self._unix:
            size = _unconfirmed_size(connection)  # what is not read, on Linux
            connection.send(message.removesuffix(b"\0"))
            self._unread = min(self._unread + 1, size // DATAGRAM) + 1 if size else 0
        else:
            try:
                connection.send(message)
            except ConnectionRefusedError:  # which is the answer to an earlier one
                self._drop(1)
                raise
            if number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number))  # this machine answers at once
        self._pop()

    def _pop(self) -> None:
        """The first message needs no more care."""
        self._size -= len(self._queue.popleft())
        self._at = 0
        self._moved_s = time.monotonic()
        self._stalled = False
        self._changed.notify_all()

    def _send_rest(self) -> None:
        """The thread: send what waits, until there is nothing or `close` gives up."""
        pause_s = RETRY_S[0]
        while True:
            with self._changed:
                if self._push() or self._closed():
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._report_stall()
                connection, closing = self._socket, self._closing
            if connection is not None:
                pause_s = RETRY_S[0]
                _wait_until_writable(connection)
                continue
            with self._changed:
                if closing:  # there is no time for long pauses
                    self._changed.wait_for(lambda: self._ended, RETRY_S[0])
                else:
                    self._changed.wait_for(lambda: self._closing, pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])
            self._connect_again()

    def _connect_again(self) -> None:
        """Make the connection anew, if it can be; without the lock, as it may take a while."""
        try:
            made = self._connected()
        except OSError as error:
            self._problem = _told(error)
            return
        with self._changed:
            if self._closed():
                made.close()
            else:
                self._socket = made

    # What is not delivered

    def _drop(self, lines: int) -> None:
        """So many lines are lost; the number is reported as it grows."""
        self.dropped += lines
        self._stalled = True  # which needs no report of its own any more
        now_s = time.monotonic()
        if now_s >= self._report_s:
            self._report_s = now_s + REPORT_S
            notes.warning("%s so far (%s)", self._undelivered(), self._problem or "too long")

    def _undelivered(self) -> str:
        return f"syslog at {self._named()}: {self.dropped} of {self.made} lines not delivered"

    def _report_stall(self) -> None:
        """Say once that nothing is taken, before there is a loss."""
        if not self._stalled and time.monotonic() - self._moved_s >= PATIENCE_S:
            self._stalled = True
            notes.warning("syslog at %s takes no lines (%s): %d wait, and %d can", self._named(),
                         self._problem, self.waiting, QUEUE_LINES)  # fmt: skip

    def _report_in_place(self) -> None:
        """Put a report of the lines that were dropped where they would have been."""
        if self.dropped > self._noticed:
            lost, self._noticed = self.dropped - self._noticed, self.dropped
            text = f"{lost} lines before this one were not delivered, {self.dropped} so far"
            self._put(_Notice(self._message(self._facility << 3 | LEVELS["warning"], text)))

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
        """With its length before it, as a stream needs."""
        message = self._rfc5424(priority, line)
        return f"{len(message)} ".encode() + message

    # The end

    def _closed(self) -> bool:
        """Whether `close` waits no longer: what is still in the queue is lost."""
        return self._ended or (self._closing and time.monotonic() >= self._end_s())

    def _end_s(self) -> float:
        """When `close` gives up, as things stand."""
        return min(self._closed_s + DRAIN_S, max(self._moved_s, self._closed_s) + PATIENCE_S)

    def close(self) -> None:
        """Deliver what waits, within `DRAIN_S` and while it is taken; then let go of the socket.

        What is left is counted in `dropped`, which is reported. Lines sent later are dropped.
        """
        with self._changed:
            if self._closing:
                return
            self._closed_s = time.monotonic()
            self._closing = True
            try:
                self._report_in_place()
                self._changed.notify_all()
                while self._queue and not self._closed():
                    self._changed.wait(max(0.0, min(TICK_S, self._end_s() - time.monotonic())))
                self._wait_for_confirmation()
            finally:
                self._ended = True
                lost = self.waiting
                self._queue.clear()
                self._size = 0
                if lost:
                    self._report_s = float("inf")  # of which the last report tells
                    self._drop(lost)
                if self._socket is not None:
                    self._socket.close()
                self._socket = None
                self._changed.notify_all()
                if self.dropped:
                    notes.warning("%s (%s)", self._undelivered(), self._problem or "too long")

    def _wait_for_confirmation(self) -> None:
        """Wait until the peer's system has confirmed what it was sent; say if it does not."""
        while self._socket is not None and (left := self._sent.lines(self._socket)):
            if self._closed():
                self.doubtful = True
                notes.warning("syslog at %s: it has not confirmed the last %d lines",
                             self._named(), left)  # fmt: skip
                return
            if _has_ended(self._socket):
                self._sent.take(self._socket)
                self._drop(left)
                return
            self._changed.wait(TICK_S / 10)


class _Notice(bytes):
    """A message that is no line, but a report of lines that were dropped."""


def _lines(messages: Iterable[bytes]) -> int:
    return sum(not isinstance(message, _Notice) for message in messages)


class _Unconfirmed:
    """The last messages of a TCP connection, as long as the peer's system has not confirmed them.

    How many bytes that are, Linux tells; elsewhere there are none.
    """

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._look_at = 0

    def add(self, message: bytes, connection: socket.socket) -> None:
        self._messages.append(message)
        self._size += len(message)
        if len(self._messages) >= self._look_at:  # so that it holds little more than the system
            self._forget_confirmed(connection)
            self._look_at = 2 * len(self._messages) + 256

    def lines(self, connection: socket.socket) -> int:
        """How many lines are not confirmed in full."""
        self._forget_confirmed(connection)
        return _lines(self._messages)

    def _forget_confirmed(self, connection: socket.socket) -> None:
        left = _unconfirmed_size(connection)
        while self._messages and self._size - len(self._messages[0]) >= left:
            self._size -= len(self._messages.popleft())

    def take(self, connection: socket.socket) -> list[bytes]:
        """Those that are not confirmed, of which nobody has to care any more here."""
        self._forget_confirmed(connection)
        taken = list(self._messages)
        self._messages.clear()
        self._size = 0
        return taken


def _unconfirmed_size(connection: socket.socket) -> int:
    """How many bytes a peer's system has not confirmed (TCP), or its program not read (a local
    socket), with what the system adds to them; 0 if unknown.
    """
    try:
        import fcntl
        import termios

        told = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))  # SIOCOUTQ, tcp(7), unix(7)
    except (ImportError, OSError):
        return 0
    size: int = struct.unpack("i", told)[0]
    return size


def _has_ended(connection: socket.socket) -> bool:
    """Whether a peer has ended its stream; OSError if that is broken. What it says is ignored."""
    try:
        return not connection.recv(1 << 16)
    except BlockingIOError:
        return False


def _wait_until_writable(connection: socket.socket) -> None:
    """Wait for room, but not for long: not every system tells of the end of a connection."""
    try:
        if hasattr(select, "poll"):
            poller = select.poll()
            poller.register(connection, select.POLLOUT)
            ready = bool(poller.poll(TICK_S * 1000))
        else:
            ready = bool(select.select([], [connection], [], TICK_S)[1])
    except (OSError, ValueError):  # closed meanwhile
        ready = False
    if ready:
        time.sleep(0.0005)  # a BSD says so also of a full one


def _told(error: OSError) -> str:
    return error.strerror or str(error)
