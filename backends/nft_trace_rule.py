"""A temporary rule of nftables that turns on tracing, for as long as a TraceRule is open.

The rule is in a table of its own, whose owner is the socket of the TraceRule. The kernel removes
the table with all its content when that socket is closed: by `close`, or because the process ends,
also by SIGKILL (nft_rcv_nl_event). So no rule can be left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from types import TracebackType
from typing import Self

from pylog.backends.base import HOST_ORDER
from pylog.backends.netlink_requests import transact
from pylog.backends.netlink_socket import NEEDS_CAPABILITY, NetlinkSocket
from pylog.backends.netns import Namespace
from pylog.errors import BackendError, BackendUnavailable
from pylog.formats.netlink import NETLINK_NETFILTER
from pylog.formats.nft_requests import batch
from pylog.formats.nft_trace_rule import Match, messages

NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x200, 0x400, 0x800


class TraceRule:
    """Turns on tracing of the packets that match, until it is closed; a context manager.

    table   the name of its table, of family inet
    """

    def __init__(self, match: Match, netns: str | int | None = None) -> None:
        """Adds the rule. Raises ValueError, BackendError, BackendUnavailable."""
        namespace = Namespace(netns)
        with contextlib.ExitStack() as stack:
            stack.callback(namespace.close)
            self._socket = NetlinkSocket("pylog trace", namespace, NETLINK_NETFILTER)
            closing = contextlib.ExitStack()
            with closing:
                closing.callback(self._socket.close)
                self.table = f"pylog-trace-{self._socket.portid}"
                made = messages(self.table, match, HOST_ORDER)
                flags = [NLM_F_CREATE | NLM_F_APPEND] * len(made)
                flags[0] = NLM_F_CREATE | NLM_F_EXCL
                problem = transact(self._socket, batch(HOST_ORDER, made), [0, *flags, 0])
                if problem:
                    raise _refusal(problem)
                closing.pop_all()

    def close(self) -> None:
        """Remove the rule; a second call does nothing."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def interfaces(netns: str | int | None = None) -> list[str]:
    """The names of the interfaces of a network namespace. Raises BackendError."""
    namespace = Namespace(netns)
    with contextlib.closing(namespace):
        return [name for _, name in namespace.run(socket.if_nameindex)]


def _refusal(problem: int) -> BackendError:
    """The kernel's errno as an error that says what to do."""
    error = OSError(problem, os.strerror(problem))
    kind = BackendError
    if problem == errno.EPERM:
        what = NEEDS_CAPABILITY
    elif problem in (errno.EOPNOTSUPP, errno.ENOENT, errno.EAFNOSUPPORT):
        # of nfnetlink_rcv_batch, nf_tables_newtable, nft_chain_parse_hook
        kind = BackendUnavailable
        what = (
            "it takes Linux 5.12, for tables that end with their owner, with nf_tables and its"
            f" family inet (CONFIG_NF_TABLES_INET): {error.strerror}"
        )
    else:
        what = f"{error.strerror} (errno {problem})"
    refusal = kind(f"cannot add a rule that traces packets: {what}")
    refusal.__cause__ = error
    return refusal
