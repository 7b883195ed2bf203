"""Listings of the ruleset of nftables, each consistent: all its parts are of one generation.

The kernel dumps each kind of entity, and the elements of each set, on request. A listing in which a
commit came between is discarded and made again. The answers are kept as the kernel wrote them, so
that they can be part of the source's bytes, and of a capture.

Sources: net/netfilter/nf_tables_api.c, and formats.nft_requests.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from typing import NamedTuple

from pylog.backends.base import HOST_ORDER
from pylog.backends.netlink_requests import ask, dump, transact
from pylog.backends.netlink_socket import NEEDS_CAPABILITY, NetlinkSocket
from pylog.backends.netns import Namespace
from pylog.errors import BackendError, BackendUnavailable
from pylog.formats import nft_requests as nft
from pylog.formats.netlink import NETLINK_NETFILTER
from pylog.formats.nft_attributes import (
    LISTING_SEQ,
    NFT_MSG_GETFLOWTABLE,
    NFT_MSG_GETGEN,
    NFT_MSG_GETOBJ,
    NFT_MSG_GETSET,
    NFT_MSG_GETSETELEM,
)

TRIES, PATIENCE_S = 50, 2.0
"""How often, and for how long, a listing is tried while the ruleset keeps changing."""
BUFFER = 1 << 20
"""Bytes of the receive buffer: a part of a dump has 32 KiB at most."""

_ABSENT = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT}
"""What kernels answer to the dump of a kind of entity that they do not have."""
_OPTIONAL = {NFT_MSG_GETOBJ, NFT_MSG_GETFLOWTABLE}
_CHANGED = {errno.ENOENT, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOBUFS}
"""What the kernel answers when an entity disappears between two requests."""


class Listed(NamedTuple):
    """A listing.

    generation   of the ruleset
    data         the messages, closed by the answer to GETGEN; equal for equal listings
    """

    generation: int
    data: bytes


class Lister:
    """Lists the ruleset of a network namespace, on a socket of its own."""

    def __init__(self, name: str, namespace: Namespace) -> None:
        """Raises BackendError.

        name   of the source, for messages
        """
        self._name = name
        self._socket = NetlinkSocket(name, namespace, NETLINK_NETFILTER, rcvbuf=BUFFER)

    def generation(self) -> int:
        """The generation of the ruleset now; BackendError, BackendUnavailable."""
        return self._ask()[1]

    def wait_for_events(self) -> None:
        """Return when the events of all commits so far were sent."""
        batch = nft.batch(HOST_ORDER, [])
        problem = transact(self._socket, batch, [0] * len(batch))
        if problem:
            raise self._refusal("wait for commits", problem)

    def list(self) -> Listed | None:
        """A consistent listing; None if the ruleset changed during all tries.

        The events of all commits up to its generation were sent when it returns.
        """
        deadline = time.monotonic() + PATIENCE_S
        for _ in range(TRIES):
            listed = self._try()
            if listed is not None:
                self.wait_for_events()
                return listed
            if time.monotonic() > deadline:
                break
        return None

    def _try(self) -> Listed | None:
        _, generation = self._ask()
        listing = nft.Listing(HOST_ORDER, generation)
        requests = deque((kind, nft.request(HOST_ORDER, kind)) for kind in nft.KINDS)
        while requests:
            kind, request = requests.popleft()
            data = self._dump(request, kind)
            if data is None:
                return None
            if not listing.add(data):
                return None
            if kind == NFT_MSG_GETSET:
                of_sets = nft.elements_requests(data, HOST_ORDER)
                requests.extendleft((NFT_MSG_GETSETELEM, r) for r in reversed(of_sets))
        complete = listing.end(self._ask()[0])
        return None if complete is None else Listed(generation, complete)

    def _ask(self) -> tuple[bytes, int]:
        """The answer to GETGEN, and the generation in it."""
        answer, problem = ask(self._socket, nft.request(HOST_ORDER, NFT_MSG_GETGEN), LISTING_SEQ)
        if problem:
            raise self._refusal("ask for the generation of the ruleset", problem)
        generation = nft.generation_of(answer, HOST_ORDER)
        if generation is None:
            raise BackendError(f"{self._name}: the kernel answered GETGEN without a generation")
        return answer, generation

    def _dump(self, request: bytes, kind: int) -> bytes | None:
        """The messages of a dump; None if what it is about changed meanwhile."""
        data, problem = dump(self._socket, request, LISTING_SEQ)
        if not problem or (problem in _ABSENT and kind in _OPTIONAL):
            return data
        if problem in _CHANGED:
            return None
        raise self._refusal("list the ruleset", problem)

    def _refusal(self, operation: str, problem: int) -> BackendError:
        """The kernel's errno as an error that says what to do."""
        error = OSError(problem, os.strerror(problem))
        kind = BackendError
        if problem == errno.EPERM:
            what = NEEDS_CAPABILITY
        elif problem == errno.EINVAL:  # no such subsystem (nfnetlink_rcv_msg)
            kind = BackendUnavailable
            what = "this kernel has no nf_tables (CONFIG_NF_TABLES, module nf_tables)"
        else:
            what = f"{error.strerror} (errno {problem})"
        refusal = kind(f"{self._name}: cannot {operation}: {what}")
        refusal.__cause__ = error
        return refusal

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
