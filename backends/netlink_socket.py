"""A netlink socket of Linux that survives overruns, in a network namespace of choice.

Every netlink source, and the list of interface names (`links`), reads through a NetlinkSocket.
`_recv` owns recv and its errors; `collect` takes what has arrived, many datagrams at a time, into
one buffer. Data and answers share the socket, so datagrams that arrive before an answer are kept
and given first.

If the buffer is full, NETLINK_NO_ENOBUFS decides what is lost: with it only the datagrams that do
not fit, without it everything until the buffer is empty, so that the loss is in one place. Sources
choose. The socket's own count of dropped datagrams (SO_MEMINFO) shows the loss. A loss is reported
in `overrun`, and the receive buffer grows.

Sources: net/netlink/af_netlink.c, netlink(7), socket(7), and runs on Linux 6.18.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pylog.backends.base import HOST_ORDER
from pylog.backends.netns import NEEDED, Namespace
from pylog.backends.nflog_proc import has_capability
from pylog.errors import BackendError, BackendUnavailable
from pylog.formats.netlink import NLM_F_ACK, NLM_F_REQUEST, numbered, verdict
from pylog.notes import notes
from pylog.options import LIVE_TUNING, Option

PROTOCOLS = {0: "route", 12: "netfilter"}
"""Names of NETLINK_ROUTE and NETLINK_NETFILTER for messages."""

LARGEST = 1 << 18
"""A datagram has up to 261,652 bytes: an nlbufsiz of 131072 and the rest of its allocation."""
BUFFER = 4 * LARGEST
"""The most bytes that `collect` takes at a time."""

MAXIMUM_BUFFER = 64 << 20

SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_NO_ENOBUFS = 270, 1, 5
SO_RCVBUFFORCE, SO_MEMINFO = 33, 55
SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_DROPS = 0, 8

NOTE_INTERVAL_S = 10.0
"""An overrun that does not enlarge the buffer is noted no more often than this."""

NEEDS_CAPABILITY = (
    "it takes CAP_NET_ADMIN over the network namespace: run as root, as a systemd"
    " service with AmbientCapabilities=CAP_NET_ADMIN, or by sudo setpriv --reuid"
    " USER --regid GROUP --init-groups --inh-caps +net_admin --ambient-caps"
    ' +net_admin "$(command -v pylog)" ...'
)
"""The advice for EPERM."""

NETNS = Option("netns", str, None, "network namespace: a name of ip-netns, a path or a process id",
               absent="that of pylog")  # fmt: skip
RCVBUF = Option("rcvbuf", int, 8 << 20, "bytes of the socket's receive buffer, as the kernel counts"
                f" them, with its own overhead; {MAXIMUM_BUFFER} for nftables", 4608, 1 << 30,
                topic=LIVE_TUNING)  # fmt: skip
RCVBUF_MAX = Option("rcvbuf_max", int, MAXIMUM_BUFFER,
                    "bytes up to which the receive buffer grows when it overruns", 4608,
                    1 << 30, topic=LIVE_TUNING)  # fmt: skip


def buffer_limit(options: Mapping[str, Any]) -> int:
    """The limit that RCVBUF and RCVBUF_MAX set to the receive buffer; ValueError."""
    size, limit = int(options["rcvbuf"]), int(options["rcvbuf_max"])
    if limit < size and limit != MAXIMUM_BUFFER:
        raise ValueError(f"rcvbuf_max is {limit}, but must be rcvbuf, {size}, or more")
    return max(size, limit)


class NetlinkSocket:
    """A netlink socket; datagrams that are not from the kernel are discarded.

    portid   its address, by which the kernel names the owner of what is bound to it
    rcvbuf   bytes of the receive buffer now, as the kernel counts them
    foreign  datagrams so far that were not from the kernel
    overrun  a text when datagrams were lost because the buffer was full: among those received
             next, or after them; the caller that reports it sets it to None. In one place: right
             after those that `receive` gave last
    ends     where each of the datagrams ends that `collect` gave last; () if `receive` gave others
    """

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        protocol: int,
        *,
        groups: Iterable[int] = (),
        rcvbuf: int = RCVBUF.default,
        rcvbuf_max: int = MAXIMUM_BUFFER,
        in_one_place: bool = False,
        open_socket: Callable[[int], socket.socket] | None = None,
    ) -> None:
        """Opens the socket in the namespace.

        name        of the source, for messages
        protocol    NETLINK_NETFILTER, NETLINK_ROUTE...
        groups      multicast groups to join, e.g. NFNLGRP_CONNTRACK_NEW
        rcvbuf      bytes of the receive buffer; it grows up to rcvbuf_max when it overruns
        in_one_place   a full buffer costs everything until it is empty
        open_socket opens a socket of a protocol, in place of the system's call

        Raises BackendError, BackendUnavailable.
        """
        self.name = name
        self.foreign = 0
        self.overrun: str | None = None
        self.ends: Sequence[int] = ()
        self._limit = rcvbuf_max
        self._seq = self._drops = 0
        self._noted = -NOTE_INTERVAL_S
        self._in_one_place = in_one_place
        self._doubt: str | None = None
        self._backlog: deque[tuple[bytes, str | None]] = deque()
        """Datagrams that are kept, and the overrun right after them."""
        self._view = memoryview(bytearray(BUFFER))
        self._socket = namespace.run(lambda: (open_socket or _open)(protocol))
        with contextlib.ExitStack() as stack:
            stack.callback(self._socket.close)
            with contextlib.suppress(OSError):  # before Linux 2.6.30
                self._socket.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, int(not in_one_place))
            self.portid: int = self._socket.getsockname()[0]
            self.rcvbuf = self._set_buffer(rcvbuf)
            for group in groups:
                self._join(protocol, group)
            if self.rcvbuf < rcvbuf and has_capability():  # else it cannot be used anyway
                notes.warning(
                    "%s: the receive buffer has %d bytes, not %d: without CAP_NET_ADMIN in the"
                    " first user namespace net.core.rmem_max is the limit",
                    name, self.rcvbuf, rcvbuf,
                )  # fmt: skip
            stack.pop_all()

    def _join(self, protocol: int, group: int) -> None:
        try:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            what = f"multicast group {group} of {PROTOCOLS.get(protocol, protocol)} netlink"
            why = NEEDS_CAPABILITY if error.errno == errno.EPERM else error.strerror
            raise BackendError(f"{self.name}: cannot join {what}: {why}") from error

    # Requests

    def send(self, message: bytes, flags: int = 0, seq: int | None = None) -> int:
        """Send a message as a request; the errno of sending, 0 for success.

        flags   NLM_F_* in addition to NLM_F_REQUEST
        seq     its number; None: a new one
        """
        return self.send_all([message], [flags], seq)

    def send_all(
        self, messages: Sequence[bytes], flags: Sequence[int], seq: int | None = None
    ) -> int:
        """As `send`, for messages that the kernel takes together, each with its own flags."""
        data = []
        for message, own in zip(messages, flags, strict=True):
            self._seq += seq is None
            number = self._seq if seq is None else seq
            data.append(numbered(message, HOST_ORDER, NLM_F_REQUEST | own, number))
        try:
            self._socket.send(b"".join(data))
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def request(self, message: bytes) -> int | None:
        """Send a message; the errno of its acknowledgement, 0 for success.

        When sending returns, the kernel has carried out the request and its answer is the last
        datagram in the receive buffer. None: there was no room for the answer.
        """
        arrived = self.collect()  # makes room
        if arrived is not None:
            self._keep(arrived)
        problem = self.send(message, NLM_F_ACK)
        if problem:
            return problem
        view, left = memoryview(bytearray(LARGEST)), self.rcvbuf
        while left > 0 and (size := self._recv(view)) is not None:
            left -= size
            data = bytes(view[: min(size, LARGEST)])
            answer = verdict(data, HOST_ORDER)
            if answer is None:
                self._keep(data)
            elif answer[0] == self._seq:
                return answer[1]
        return None

    # Receiving

    def receive(self) -> bytes | None:
        """Datagrams that have arrived, each padded to 4 bytes; None when there are none."""
        if not self._backlog:
            return self.collect()
        data, overrun = self._backlog.popleft()
        self.overrun, self.ends = overrun or self.overrun, ()
        return data

    def _keep(self, data: bytes) -> None:
        """Keep what was collected last, to be received later."""
        if self._in_one_place:
            self._backlog.append((data, self.overrun))
            self.overrun = None
        else:
            self._backlog.append((data, None))

    def pending(self) -> int:
        """How many bytes have arrived, counted up to the size of the receive buffer.

        The datagrams are received in order to count them, and kept.
        """
        held = sum(len(data) for data, _ in self._backlog)
        while held < self.rcvbuf and (data := self.collect()) is not None:
            self._keep(data)
            held += len(data)
        return held

    def arrived(self) -> Iterator[bytes]:
        """Receive all datagrams that have arrived before this call, and what comes with them."""
        # the memory that datagrams take is never less than their bytes
        size = self._memory(SK_MEMINFO_RMEM_ALLOC)
        left = sum(len(data) for data, _ in self._backlog) + (self.rcvbuf if size is None else size)
        while left > 0 and (data := self.receive()) is not None:
            yield data
            left -= len(data)

    def collect(self) -> bytes | None:
        """As `receive`, but without those kept: up to BUFFER bytes from the kernel."""
        view, filled, emptied = self._view, 0, False
        self.ends = ends = list[int]()
        while len(view) - filled >= LARGEST:
            size = self._recv(view[filled : filled + LARGEST])
            if size is None:
                emptied = True
                break
            if size > LARGEST:
                notes.warning("%s: a datagram of %d bytes was cut to %d", self.name, size, LARGEST)
                filled += LARGEST
                ends.append(filled)
                break  # the next datagram would look like its continuation
            end = filled + size
            filled = (end + 3) & ~3
            view[end:filled] = bytes(filled - end)
            ends.append(filled)
            if self._doubt is not None and self._in_one_place and self._is_empty():
                emptied = True
                break
        if not self._in_one_place or (emptied and self._doubt is not None):
            self._watch_drops()
            self.overrun = self._doubt or self.overrun
        if emptied:  # what comes later was sent after the loss
            self._doubt = None
        return bytes(view[:filled]) if filled else None

    def _is_empty(self) -> bool:
        """Whether the receive buffer is empty; from then on datagrams are put into it again
        (netlink_rcv_wake).
        """
        return self._memory(SK_MEMINFO_RMEM_ALLOC) == 0

    def _recv(self, view: memoryview) -> int | None:
        """Receive the next datagram into `view`: its size, None when there is none.

        If the size is larger than the view, the rest of the datagram is lost.
        """
        while True:
            try:
                size, sender = self._socket.recvfrom_into(
                    view, 0, socket.MSG_DONTWAIT | socket.MSG_TRUNC
                )
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise BackendError(
                        f"cannot receive from {self.name}: {error.strerror}"
                    ) from error
                self._overran(None)
                continue
            if sender[0] == 0:
                return size
            if not self.foreign:
                notes.warning("%s: a process (netlink port %d) sends messages to it, which are"
                             " thrown away", self.name, sender[0])  # fmt: skip
            self.foreign += 1

    # The receive buffer

    def _set_buffer(self, size: int) -> int:
        """Ask for a receive buffer of that size; the size that the kernel gave it."""
        try:  # sock_setsockopt doubles the value
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, (size + 1) // 2)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, (size + 1) // 2)
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def _overran(self, lost: int | None) -> None:
        """Datagrams were lost because the buffer was full: report it, and enlarge the buffer.

        lost   how many; None: it is not certain yet
        """
        if lost is None and self._in_one_place:
            self._doubt = self._doubt or "ENOBUFS"
            return
        before = self.rcvbuf
        if before < self._limit:
            self.rcvbuf = self._set_buffer(min(2 * before, self._limit))
        what = "ENOBUFS" if lost is None else f"{lost} datagrams lost"
        self._doubt = f"receive buffer of {before} bytes overran: {what}"
        now = time.monotonic()
        if self.rcvbuf > before or now >= self._noted + NOTE_INTERVAL_S:
            self._noted = now
            grown = f"; it has {self.rcvbuf} now" if self.rcvbuf > before else ""
            notes.warning("%s: the %s%s", self.name, self._doubt, grown)

    def _watch_drops(self) -> None:
        """Compare the socket's count of dropped datagrams with its last value."""
        drops = self._memory(SK_MEMINFO_DROPS)
        if drops is not None and drops != self._drops:
            lost, self._drops = (drops - self._drops) & 0xFFFFFFFF, drops
            self._overran(lost)

    def _memory(self, number: int) -> int | None:
        """A number of SO_MEMINFO; None before Linux 4.12."""
        try:
            memory = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        except OSError:
            return None
        value: int = struct.unpack("9I", memory)[number]
        return value

    # Descriptor and end

    def fileno(self) -> int:
        """The descriptor that is readable when a datagram has arrived."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; the kernel then drops its bindings and memberships."""
        self._socket.close()


def _open(protocol: int) -> socket.socket:
    """A netlink socket in the thread's namespace, bound to an address that the kernel chooses."""
    try:
        from pyroute2.netns import create_socket
    except ImportError as error:
        raise BackendUnavailable(NEEDED) from error
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        opened: socket.socket = create_socket(None, socket.AF_NETLINK, kind, protocol)
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise
        what = PROTOCOLS.get(protocol, protocol)
        text = f"this kernel has no {what} netlink ({os.strerror(error.errno)})"
        raise BackendUnavailable(text) from error
    try:
        opened.bind((0, 0))
    except BaseException:
        opened.close()
        raise
    return opened
