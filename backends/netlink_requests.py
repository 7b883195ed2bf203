"""Requests to the kernel with more than one answer: dumps, and transactions of many messages.

They are sent on a NetlinkSocket that has joined no group, so that answers do not mix with events.
The kernel carries out a request while it is sent, and fills the receive buffer with the next part
of a dump while the last one is received. So an answer never has to be waited for.

Sources: net/netlink/af_netlink.c (netlink_dump, netlink_recvmsg), net/netfilter/nfnetlink.c.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from pylog.backends.base import HOST_ORDER
from pylog.backends.netlink_socket import NetlinkSocket
from pylog.formats.netlink import NLM_F_ACK, NLMSG_DONE, NLMSG_ERROR, align, verdict
from pylog.formats.netlink_stream import unpack_nlmsghdr
from pylog.formats.nft_requests import NLM_F_DUMP

_header = unpack_nlmsghdr[HOST_ORDER]
_DONE = 20
"""The size of NLMSG_DONE: nlmsghdr and an int (netlink_dump_done)."""


def ask(netlink: NetlinkSocket, message: bytes, seq: int | None = None) -> tuple[bytes, int]:
    """The answer to a request, one message; and an errno, 0 for success.

    seq   the number of the request, as NetlinkSocket.send
    """
    problem = netlink.send(message, seq=seq)
    answer = b"" if problem else netlink.collect() or b""
    refused = verdict(answer, HOST_ORDER)
    if refused is not None:
        return b"", refused[1]
    return answer, problem or (0 if answer else errno.ENOBUFS)


def dump(netlink: NetlinkSocket, message: bytes, seq: int | None = None) -> tuple[bytes, int]:
    """All messages of a dump, with NLMSG_DONE; and an errno, 0 for success.

    seq   the number of the request, as NetlinkSocket.send
    """
    found: list[bytes] = []
    for data, problem in parts(netlink, message, seq):
        if problem is not None:
            return b"".join([*found, data]), problem
        found.append(data)
    return b"", errno.EBADMSG


def parts(
    netlink: NetlinkSocket, message: bytes, seq: int | None = None
) -> Iterator[tuple[bytes, int | None]]:
    """As `dump`, part by part: messages, and the errno, which is None while more parts follow.

    The kernel makes a part when the one before is received.
    """
    problem = netlink.send(message, NLM_F_DUMP, seq)
    if problem:
        yield b"", problem
        return
    while True:
        data = netlink.collect()
        if data is None:
            yield b"", errno.ENOBUFS
            return
        end = _end_of_dump(data)
        yield data, end
        if end is not None:
            return


def _end_of_dump(data: bytes) -> int | None:
    """The errno with which a dump ends in this part, 0 for success; None: it goes on."""
    if _header(data[-_DONE:].ljust(_DONE, b"\0"), 0)[:2] == (_DONE, NLMSG_DONE):
        return 0  # the common case, without a look at every message
    for kind, at in _messages(data):
        if kind == NLMSG_DONE:
            return 0
        if kind == NLMSG_ERROR:
            answer = verdict(data[at:], HOST_ORDER)
            return answer[1] if answer is not None else errno.EBADMSG
    return None


def transact(netlink: NetlinkSocket, messages: Sequence[bytes], flags: Sequence[int]) -> int:
    """Send a transaction; the errno of the first message that the kernel refused, 0 for success.

    flags   of each message, in addition to NLM_F_REQUEST
    """
    problem = netlink.send_all(messages, [flag | NLM_F_ACK for flag in flags])
    while (data := netlink.collect()) is not None:
        for kind, at in _messages(data):
            answer = verdict(data[at:], HOST_ORDER) if kind == NLMSG_ERROR else None
            if answer is not None and not problem:
                problem = answer[1]
    return problem


def _messages(data: bytes) -> Iterator[tuple[int, int]]:
    """The nlmsg_type and place of each message."""
    pos = 0
    while pos + 16 <= len(data):
        size, kind, *_ = _header(data, pos)
        if size < 16:
            return
        yield kind, pos
        pos += align(size)
