"""Names of the network interfaces of Linux, by number, kept up to date by rtnetlink.

The kernel multicasts a message whenever an interface appears, changes its name or disappears. They
arrive at a NetlinkSocket of their own, so that many of them at once never displace log messages.
The name of an interface that is gone is kept: records of it may still wait to be read. If messages
were lost, all names are listed anew.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

from pylog.backends.base import HOST_ORDER
from pylog.backends.netlink_socket import NetlinkSocket
from pylog.backends.netns import Namespace
from pylog.formats.netlink import NETLINK_ROUTE, links
from pylog.memo import Memo

RTNLGRP_LINK = 1
SIOCGIFNAME = 0x8910
BUFFER = 212992
"""Bytes of the receive buffer: the default of net.core.rmem_max, so it takes no privilege."""
LIMIT = 4096
"""The most names that are remembered; those of interfaces that exist can be asked for."""


class Links:
    """The interfaces of a network namespace.

    names     number -> name, also of an interface that is gone; the number itself without a name
    changes   how often names were announced or listed
    """

    def __init__(
        self,
        namespace: Namespace,
        open_socket: Callable[[int], socket.socket] | None = None,
        names: Callable[[], dict[int, str]] | None = None,
    ) -> None:
        """Raises BackendError.

        open_socket, names   in place of the system's calls, see netlink_source.System
        """
        self.names: Memo[int, str | int] = Memo(self._ask, LIMIT)
        self.changes = 0
        self._namespace, self._given, self._list = namespace, names is not None, names or _names
        self._socket = NetlinkSocket(
            "names of interfaces", namespace, NETLINK_ROUTE, groups=[RTNLGRP_LINK], rcvbuf=BUFFER,
            open_socket=open_socket,
        )  # fmt: skip
        self._remember(namespace.run(self._list))

    def watch(self) -> None:
        """Take in what has changed since the last call; does not wait."""
        while (data := self._socket.receive()) is not None:
            self._remember(links(data, HOST_ORDER))
        if self._socket.overrun is not None:
            self._socket.overrun = None
            self._remember(self._namespace.run(self._list))

    def _remember(self, names: dict[int, str]) -> None:
        self.changes += 1
        if len(self.names) + len(names) > LIMIT:
            self.names.clear()
        self.names |= names

    def _ask(self, index: int) -> str | int:
        """The name of an interface that no message named."""
        if self._given:
            return self._list().get(index, index)
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
        """Close the socket."""
        self._socket.close()


def _names() -> dict[int, str]:
    """The names of the interfaces in the thread's namespace, by number."""
    try:
        names = {index: os.fsencode(name) for index, name in socket.if_nameindex()}
    except OSError:
        return {}
    return {index: name.decode("utf-8", "backslashreplace") for index, name in names.items()}
