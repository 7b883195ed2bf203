"""The base class of netlink sources: a NetlinkSocket, its namespace and the interface names.

A source is a subclass of NetlinkSource. Where the kernel multicasts its messages (nftables,
conntrack), the subclass only names the multicast groups. Where the kernel must be configured
(NFLOG), the subclass sends requests and overrides `_unbind`.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pylog.backends.base import Backend
from pylog.backends.links import Links
from pylog.backends.netlink_socket import NETNS, RCVBUF, RCVBUF_MAX, NetlinkSocket, buffer_limit
from pylog.backends.netns import Namespace
from pylog.backends.nflog_proc import Instance
from pylog.formats.netlink import NETLINK_NETFILTER

OPTIONS = (NETNS, RCVBUF, RCVBUF_MAX)
"""The options of every netlink source."""


class System(NamedTuple):
    """What a source asks of the kernel; pylog.testing has a double of it.

    open_socket   opens and binds a netlink socket of a protocol
    names         the names of the network interfaces, by number
    instances     the groups of NFLOG that have a listener; None if that cannot be known
    """

    open_socket: Callable[[int], socket.socket]
    names: Callable[[], dict[int, str]]
    instances: Callable[[], list[Instance] | None]


class NetlinkSource(Backend):
    """The messages of a netlink socket.

    portid   the socket's address, by which the kernel names the owner of what is bound to it
    """

    live = deferred = True
    message_aligned = True

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        groups: Iterable[int] = (),
        in_one_place: bool = False,
        settings: tuple[int, ...] = (),
        socket_type: type[NetlinkSocket] = NetlinkSocket,
        system: System | None = None,
    ) -> None:
        """Opens a socket of NETLINK_NETFILTER by the OPTIONS, and joins multicast groups.

        in_one_place, settings   as NetlinkSocket
        socket_type    NetlinkSocket, or a class of the same interface
        system   in place of the kernel's calls

        Raises ValueError, BackendError, BackendUnavailable.
        """
        super().__init__(name)
        limit = buffer_limit(options)
        self._bound = False
        self._system = system
        self._namespace = Namespace(options["netns"])
        open_socket, names = (system.open_socket, system.names) if system else (None, None)
        with contextlib.ExitStack() as stack:
            stack.callback(self._namespace.close)
            self._socket = socket_type(
                self.title, self._namespace, NETLINK_NETFILTER,
                groups=groups, in_one_place=in_one_place, settings=settings,
                rcvbuf=options["rcvbuf"], rcvbuf_max=limit, open_socket=open_socket,
            )  # fmt: skip
            stack.callback(self._socket.close)
            self._links = Links(self._namespace, open_socket, names)
            stack.pop_all()
        self.portid = self._socket.portid

    @property
    def foreign(self) -> int:
        """Datagrams so far that were not from the kernel, and were discarded."""
        return self._socket.foreign

    def _unbind(self) -> None:
        """Undo the configuration; called once, when the source is stopped or closed."""

    def _end(self) -> None:
        if self._bound:
            self._bound = False
            self._unbind()

    def _receive(self) -> bytes | None:
        self._links.watch()
        if self.stopped:
            self._end()
        data = self._socket.receive()
        self.ends = self._socket.ends
        self._report_overrun()
        return data

    def _pending(self) -> int:
        pending = self._socket.pending()
        self._report_overrun()
        return pending

    def _report_overrun(self) -> None:
        if self._socket.overrun is not None:
            self.overrun, self._socket.overrun = self._socket.overrun, None

    def _descriptors(self) -> list[int]:
        return [self._socket.fileno(), self._links.fileno()]

    def fileno(self) -> int:
        return self._socket.fileno()

    def _release(self) -> None:
        self._end()
        self._socket.close()
        self._links.close()
        self._namespace.close()

    def interface_names(self) -> tuple[int, Mapping[int, str | int]]:
        self._links.watch()  # an interface that is new is announced before its first packet
        return self._links.changes, self._links.names

    def interface_name(self, index: int) -> str | int:
        """The interface's name in the namespace; if it is gone, its last name."""
        return self._links.names[index]
