"""Netlink messages of all network namespaces on one socket, and the names of these namespaces.

With NETLINK_LISTEN_ALL_NSID a socket also receives the events of other namespaces, if these have a
number (nsid) in its own. The number is in a control message beside each datagram. A socket of
NETLINK_ROUTE is asked for the number of each namespace that has a name in /run/netns, or a process;
so a number leads to a name, and to a file by which the namespace can be entered.

Sources: net/netlink/af_netlink.c (do_one_broadcast, netlink_cmsg_listen_all_nsid),
net/core/net_namespace.c (rtnl_net_getid), linux/net_namespace.h; runs on Linux 6.18.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from pylog.backends.base import HOST_ORDER
from pylog.backends.netlink_requests import ask
from pylog.backends.netlink_socket import SOL_NETLINK, NetlinkSocket
from pylog.backends.netns import Namespace
from pylog.errors import BackendError, DecodeError
from pylog.formats.netlink import NETLINK_ROUTE, scan

NETLINK_LISTEN_ALL_NSID = 8
RTM_NEWNSID, RTM_GETNSID = 88, 90
NETNSA_NSID, NETNSA_FD = 1, 3

FOLDER = "/run/netns"
"""Where ip-netns keeps the namespaces that have a name."""
STALE_S = 5.0
"""After so many seconds the numbers are asked for again, since namespaces come and go; or at once,
for a number that is new.
"""

_CONTROL = socket.CMSG_SPACE(4) if hasattr(socket, "CMSG_SPACE") else 0


class Place(NamedTuple):
    """A namespace: its name, None without one, and a file that stands for it."""

    name: str | None
    path: str


class NsidSocket(NetlinkSocket):
    """A NetlinkSocket that receives the messages of all namespaces that have a number in its own.

    `receive` gives datagrams of one namespace at a time, of which `nsid` is the number.
    """

    def __init__(self, *args: Any, settings: tuple[int, ...] = (), **options: Any) -> None:
        """As NetlinkSocket."""
        self._arrived: int | None = None
        """The nsid of the datagram that was received last."""
        self._is_first = True
        super().__init__(*args, settings=(*settings, NETLINK_LISTEN_ALL_NSID), **options)

    def collect(self) -> bytes | None:
        self._is_first = True
        return super().collect()

    def _recv(self, view: memoryview) -> int | None:
        if self._held is not None:
            data, self._arrived = self._held
            self._held = None
            view[: len(data)] = data
            size: int | None = len(data)
        else:
            size = super()._recv(view)
        if size is None:
            return None
        if self._is_first:
            self._is_first, self.nsid = False, self._arrived
        elif self._arrived != self.nsid:
            self._held = bytes(view[: min(size, len(view))]), self._arrived
            return None
        return size

    def _receive_into(self, view: memoryview) -> tuple[int, int]:
        flags = socket.MSG_DONTWAIT | socket.MSG_TRUNC
        size, control, _, sender = self._socket.recvmsg_into([view], _CONTROL, flags)
        self._arrived = None
        for level, kind, value in control:
            if (level, kind) == (SOL_NETLINK, NETLINK_LISTEN_ALL_NSID) and len(value) >= 4:
                (self._arrived,) = struct.unpack("i", value[:4])
        return size, sender[0]


class Numbers:
    """The namespaces that have a number in a namespace, by that number.

    unnumbered   the names of those in /run/netns that have none: their events never come
    """

    def __init__(self, name: str, namespace: Namespace) -> None:
        """Raises BackendError.

        name        of the source, for messages
        namespace   the one whose numbers these are
        """
        self._socket = NetlinkSocket(name, namespace, NETLINK_ROUTE, rcvbuf=1 << 16)
        own = namespace.run(lambda: os.stat("/proc/thread-self/ns/net"))
        self._own = own.st_dev, own.st_ino
        self._places: dict[int, Place] = {}
        self._nameless: set[int] = set()
        """Numbers that no namespace had when they were asked for last."""
        self.unnumbered: list[str] = []
        self._asked = -STALE_S

    def name(self, nsid: int | None) -> str | int | None:
        """The name of a namespace, or its number if it has none; None: the socket's own."""
        if nsid is None:
            return None
        place = self.places().get(nsid)
        if place is None and nsid not in self._nameless:
            self._ask()
            place = self._places.get(nsid)
            self._nameless.add(nsid)
        return nsid if place is None or place.name is None else place.name

    def places(self) -> dict[int, Place]:
        """The namespaces now, those that have a name before others."""
        if time.monotonic() >= self._asked + STALE_S:
            self._ask()
        return self._places

    def _ask(self) -> None:
        self._asked = time.monotonic()
        seen = {self._own}
        self._places, self.unnumbered = {}, []
        self._nameless.clear()
        for place in _candidates():
            with contextlib.suppress(OSError):
                descriptor = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    status = os.fstat(descriptor)
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                    number = self._number(descriptor)
                finally:
                    os.close(descriptor)
                if number is not None:
                    self._places[number] = place
                elif place.name is not None:
                    self.unnumbered.append(place.name)

    def _number(self, descriptor: int) -> int | None:
        """The number of the namespace that a descriptor stands for; None: it has none."""
        request = struct.pack("=IHHIIB3xHHI", 28, RTM_GETNSID, 0, 0, 0, 0, 8, NETNSA_FD, descriptor)
        answer, problem = ask(self._socket, request)
        if problem:
            raise BackendError(f"cannot ask for the number of a network namespace:"
                               f" {os.strerror(problem)}")  # fmt: skip
        with contextlib.suppress(DecodeError):
            for kind, at, _ in scan(answer, 20, len(answer), HOST_ORDER, 0):
                if kind == NETNSA_NSID:
                    (number,) = struct.unpack_from("=i", answer, at)
                    return None if number < 0 else number
        return None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _candidates() -> Iterator[Place]:
    """Files that stand for namespaces: by name, then of processes."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(FOLDER)):
            yield Place(name, f"{FOLDER}/{name}")
    with contextlib.suppress(OSError):
        inodes = set()
        for name in os.listdir("/proc"):
            if name.isdecimal():
                with contextlib.suppress(OSError):
                    path = f"/proc/{name}/ns/net"
                    inode = os.stat(path).st_ino
                    if inode not in inodes:
                        inodes.add(inode)
                        yield Place(None, path)
