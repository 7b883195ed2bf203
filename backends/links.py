"""Names of network interfaces of Linux, as they are now: rtnetlink tells of every change."""

from __future__ import annotations

import errno
import os
import socket
import struct

from pylog.backends import HOST_ORDER
from pylog.backends.netlink_socket import open_socket
from pylog.backends.netns import Namespace
from pylog.formats.netlink import NETLINK_ROUTE, links
from pylog.memo import Memo

RTMGRP_LINK = 1
SIOCGIFNAME = 0x8910
LARGEST = 1 << 16
"""More bytes than a message about an interface has."""
LIMIT = 4096
"""No more names than this are remembered; those of devices that are there can be asked for."""


class Links:
    """The interfaces of a network namespace.

    names   number -> name, also of an interface that is gone; the number where none is known
    """

    def __init__(self, namespace: Namespace) -> None:
        """Raises BackendError."""
        self.names: Memo[int, str | int] = Memo(self._ask, LIMIT)
        self._namespace = namespace
        self._socket = namespace.run(lambda: open_socket(NETLINK_ROUTE, RTMGRP_LINK))
        self._learn(namespace.run(_names))

    def watch(self) -> None:
        """Take in what has changed since; does not wait."""
        while True:
            try:
                self._learn(links(self._socket.recv(LARGEST, socket.MSG_DONTWAIT), HOST_ORDER))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return
                self._learn(self._namespace.run(_names))  # too much at once

    def _learn(self, names: dict[int, str]) -> None:
        if len(self.names) + len(names) > LIMIT:
            self.names.clear()
        self.names |= names

    def _ask(self, index: int) -> str | int:
        """The name of an interface of which nothing was heard."""
        request = struct.pack("16si20x", b"", index)  # struct ifreq
        try:
            import fcntl

            answer = fcntl.ioctl(self._socket, SIOCGIFNAME, request)
        except OSError:
            return index
        return answer[:16].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")

    def fileno(self) -> int:
        """The descriptor that is readable when something has changed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


def _names() -> dict[int, str]:
    """The names of the interfaces in the thread's namespace, by number."""
    try:
        found = {index: os.fsencode(name) for index, name in socket.if_nameindex()}
    except OSError:
        return {}
    return {index: name.decode("utf-8", "backslashreplace") for index, name in found.items()}
