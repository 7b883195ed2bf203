"""Listings of the flows that a network namespace has, part by part.

A listing is a dump between two answers that mark it (formats.nfct_requests). It is received in
parts of BYTES, because a table of a million flows has 250 MB, and so that events can be received
between the parts.

Source: ctnetlink_dump_table and ctnetlink_stat_ct in net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

from pylog.backends.base import HOST_ORDER
from pylog.backends.netlink_requests import ask, parts
from pylog.backends.netlink_socket import NEEDS_CAPABILITY, NetlinkSocket
from pylog.backends.netns import Namespace
from pylog.errors import BackendError, BackendUnavailable
from pylog.formats.netlink import NETLINK_NETFILTER
from pylog.formats.nfct_requests import CT_GET_STATS, Mark, request

BUFFER = 1 << 20
"""Bytes of the receive buffer: a part of a dump has 32 KiB at most."""
BYTES = 1 << 18
"""A part has so many bytes at least, but for the last."""


class Lister:
    """Lists the flows of a network namespace, on a socket of its own."""

    def __init__(self, name: str, namespace: Namespace) -> None:
        """Raises BackendError.

        name   of the source, for messages
        """
        self._name = name
        self._socket = NetlinkSocket(name, namespace, NETLINK_NETFILTER, rcvbuf=BUFFER)

    def mark(self, mark: Mark) -> bytes:
        """The message before or after a listing; BackendError, BackendUnavailable."""
        stats = request(HOST_ORDER, CT_GET_STATS)
        answer, problem = ask(self._socket, stats, mark.seq)
        if problem:
            raise self._refusal("ask for the statistics of conntrack", problem)
        return answer

    def parts(self, mark: Mark, kinds: Sequence[int], family: int = 0) -> Iterator[bytes]:
        """The messages of a listing; BackendError.

        kinds    what to list, CT_GET and EXP_GET
        family   as nfct_requests.request
        """
        for kind in kinds:
            gathered: list[bytes] = []
            dump = request(HOST_ORDER, kind, family)
            for data, problem in parts(self._socket, dump, mark.seq):
                if problem:
                    raise self._refusal("list the flows", problem)
                gathered.append(data)
                if sum(map(len, gathered)) >= BYTES or problem is not None:
                    yield b"".join(gathered)
                    gathered = []

    def _refusal(self, operation: str, problem: int) -> BackendError:
        """The kernel's errno as an error that says what to do."""
        error = OSError(problem, os.strerror(problem))
        kind = BackendError
        if problem == errno.EPERM:
            what = NEEDS_CAPABILITY
        elif problem in (errno.EINVAL, errno.EOPNOTSUPP):  # no such subsystem (nfnetlink_rcv_msg)
            kind = BackendUnavailable
            what = ("this kernel has no conntrack over netlink (CONFIG_NF_CT_NETLINK, module"
                    " nf_conntrack_netlink)")  # fmt: skip
        else:
            what = f"{error.strerror} (errno {problem})"
        refusal = kind(f"{self._name}: cannot {operation}: {what}")
        refusal.__cause__ = error
        return refusal

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
