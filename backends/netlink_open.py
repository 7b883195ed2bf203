"""Opens a netlink socket, in the network namespace of the thread.

pyroute2 is imported only here, and BackendUnavailable says what is missing.
"""

from __future__ import annotations

import errno
import os
import socket

from pylog.backends.netns import NEEDED
from pylog.errors import BackendUnavailable

PROTOCOLS = {0: "route", 12: "netfilter"}
"""Names of NETLINK_ROUTE and NETLINK_NETFILTER for messages."""


def opened(protocol: int) -> socket.socket:
    """A netlink socket in the thread's namespace, bound to an address that the kernel chooses."""
    try:
        from pyroute2.netns import create_socket
    except ImportError as error:
        raise BackendUnavailable(NEEDED) from error
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        made: socket.socket = create_socket(None, socket.AF_NETLINK, kind, protocol)
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise
        what = PROTOCOLS.get(protocol, protocol)
        text = f"this kernel has no {what} netlink ({os.strerror(error.errno)})"
        raise BackendUnavailable(text) from error
    try:
        made.bind((0, 0))
    except BaseException:
        made.close()
        raise
    return made
