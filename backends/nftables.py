"""nftables: changes of the running Linux kernel's ruleset, and the steps of packets through it.

The kernel multicasts each change (NFNLGRP_NFTABLES) and each traced step (NFNLGRP_NFTRACE). One
socket has joined both groups and may have NFLOG groups bound as well, so that all messages come in
the order in which the kernel made them.

Not every change is announced: tables of an owner that ends, elements that expire, and what was lost
in an overrun. So the source begins with a listing of the ruleset (`nft_listing`), and lists it
again from time to time and when something is missing. Listings stand among the events where they
belong, and the decoder gives their differences as records.

Sources: linux/netfilter/nfnetlink.h, net/netfilter/nf_tables_api.c, nf_tables_trace.c; runs on
Linux 6.18.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from struct import pack
from typing import Any, NamedTuple

from pylog.backends import process as processes
from pylog.backends.base import HOST_ORDER, Backend, Check, Source
from pylog.backends.netlink_socket import MAXIMUM_BUFFER, NETNS, RCVBUF, RCVBUF_MAX, buffer_limit
from pylog.backends.netlink_source import NetlinkSource
from pylog.backends.nflog_binding import MAXIMUM_RANGE, Binding, groups_of
from pylog.backends.nft_listing import Listed, Lister
from pylog.errors import BackendError
from pylog.formats.nft_requests import is_newer, newer, place
from pylog.formats.nft_scope import Scope
from pylog.notes import notes
from pylog.options import LIVE_TUNING, Option

NAME = "nftables"
HELP = (
    "changes of the nftables ruleset: nftables:, with +trace also the steps of traced packets,"
    " with +nflog:GROUP[,GROUP...] also NFLOG groups on the same socket"
)

NFNLGRP_NFTABLES, NFNLGRP_NFTRACE = 7, 9

FAMILIES = ("inet", "ip", "ip6", "arp", "bridge", "netdev")

LEAST_S = 1.0
"""Listings on request are this far apart at least."""
SHARE, URGENT_SHARE = 20, 4
"""Listings are so many times as far apart as one takes with its decoding, so that they cost a
twentieth of a CPU; a quarter while something is missing.
"""

OPTIONS = (
    NETNS,
    # the events of a commit come all at once
    RCVBUF._replace(default=MAXIMUM_BUFFER),
    RCVBUF_MAX,
    Option("snapshot", bool, True, "begin with a listing of what is there, the ruleset or the"
           " flows, and list it again to notice what no event announces"),
    Option("relist_s", float, 30.0, "seconds after which the ruleset is listed again; 0: only after"
           " losses", 0, 86400, "--relist", topic=LIVE_TUNING),
    Option("since_gen", int, None, "leave out changes up to that generation", 0, 0xFFFFFFFF,
           absent="from the snapshot on"),
    Option("families", str, None, "only changes and traces of these families: a list of"
           f" {', '.join(FAMILIES)}; with nfct: only flows of ipv4 or ipv6", absent="all"),
    Option("tables", str, None, "only those of these tables: a list of names", absent="all"),
    Option("chains", str, None, "only those of these chains and their rules: a list of names",
           absent="all"),
)  # fmt: skip

_NFLOG = {
    "copy_mode": "packet", "copy_range": MAXIMUM_RANGE, "conntrack": False, "qthresh": 1,
    "timeout_s": 0.0, "nlbufsiz": 65536, "seq": True, "seq_global": False,
}  # fmt: skip
"""How NFLOG groups are bound: each packet is sent at once, so that it stands in its place."""


class Address(NamedTuple):
    """What an address names.

    trace    whether it has +trace
    groups   NFLOG groups, of +nflog
    """

    trace: bool
    groups: list[int]


def parsed(address: str) -> Address:
    """The address "+trace", "+trace+nflog:5,6", in any order; ValueError for another."""
    trace, groups = False, list[int]()
    first, *parts = address.split("+")
    title = f"{NAME}:{address}".removesuffix(":")
    if first:
        raise ValueError(f"{title}: {first!r} does not begin with +; {_GRAMMAR}")
    for part in parts:
        word, colon, rest = part.partition(":")
        if part == "trace" and not trace:
            trace = True
        elif word == "nflog" and rest and not groups:
            groups = groups_of(rest, title)
        elif word == "nflog" and not rest:
            raise ValueError(f"{title}: +nflog lacks its group, as in +nflog:5")
        else:
            again = " a second time" if part == "trace" or (word == "nflog" and colon) else ""
            raise ValueError(f"{title}: unexpected +{part}{again}; {_GRAMMAR}")
    return Address(trace, groups)


_GRAMMAR = f"an address is {NAME}: and then any of +trace, +nflog:GROUP[,GROUP...]"


def connect(address: str, options: Mapping[str, Any]) -> list[Backend]:
    """A socket that receives what the address names."""
    return [Nftables(parsed(address), options)]


def _names(options: Mapping[str, Any], option: str) -> list[str] | None:
    """The names in the list of an option; ValueError for one that cannot be."""
    if options[option] is None:
        return None
    names = [name.strip() for name in str(options[option]).split(",") if name.strip()]
    wrong = [name for name in names if option == "families" and name not in FAMILIES]
    if wrong or not names:
        what = f"no family {wrong[0]!r}, only" if wrong else "it is empty; it is a list of"
        raise ValueError(f"{option}: {what} {', '.join(FAMILIES) if wrong else 'names'}")
    return names


def check(address: str, options: Mapping[str, Any]) -> None:
    """ValueError for an address or options that cannot be used."""
    parsed(address)
    buffer_limit(options)
    scope_of(options)


def scope_of(options: Mapping[str, Any]) -> Scope:
    """Which records the options select; ValueError for an option that cannot be."""
    families, tables, chains = (_names(options, n) for n in ("families", "tables", "chains"))
    return Scope(families, tables, chains, options["since_gen"])


def unmatched(listed: Listed, options: Mapping[str, Any]) -> Iterator[str]:
    """What the options select and the ruleset does not have, as far as names and numbers show."""
    number = options["since_gen"]
    if number is not None and is_newer(number, listed.generation):
        yield (f"the ruleset is generation {listed.generation}: nothing matches up to generation"
               f" {number}")  # fmt: skip
    for option, noun, attribute in (("tables", "table", 1), ("chains", "chain", 3)):
        for name in _names(options, option) or ():
            # NFTA_TABLE_NAME and NFTA_CHAIN_NAME
            size, text = len(name.encode()) + 5, name.encode() + b"\0"
            if pack(f"{HOST_ORDER}HH", size, attribute) + text not in listed.data:
                yield f"the ruleset has no {noun} {name!r} now"


class _Received(NamedTuple):
    """Messages, the overrun right after them, and whether they are a listing."""

    data: bytes
    overrun: str | None = None
    is_listing: bool = False


class Nftables(NetlinkSource):
    """The ruleset's changes, and with them traces and NFLOG packets."""

    in_one_place = True
    accountable = False

    def __init__(self, address: Address, options: Mapping[str, Any]) -> None:
        """Joins the groups and lists the ruleset. Raises BackendError, BackendUnavailable."""
        order = "le" if HOST_ORDER == "<" else "be"
        self.layout = f"netlink-{order}" if address.groups else f"nft-{order}"
        parts = ["+trace"] if address.trace else []
        if address.groups:
            parts.append("+nflog:" + ",".join(map(str, address.groups)))
        groups = [NFNLGRP_NFTABLES, *([NFNLGRP_NFTRACE] if address.trace else [])]
        self.scope = scope_of(options) or None
        self._selected = options
        # generations show a loss in one place, and what is lost within a commit can be marked
        super().__init__(f"{NAME}:{''.join(parts)}", options, groups=groups, in_one_place=True)
        self._queue: deque[_Received] = deque()
        """Events and listings that are next, before what the socket has."""
        self._coming: str | None = None
        """The overrun that is right after the bytes that `receive` gives next."""
        self._lists = bool(options["snapshot"])
        self._interval_s = float(options["relist_s"]) or math.inf
        self._due = math.inf
        self._listed_at, self._took_s = -math.inf, 0.0
        self._given_at: float | None = None
        """The CPU time of the thread when it was given a listing."""
        self._needed = False
        """Whether the next listing is given even if it is the same as the last one."""
        self._digest = b""
        """Of the last listing."""
        self._lister: Lister | None = None
        try:
            self._lister = Lister(self.title, self._namespace)
            self.logs = {"ruleset": self._begin(self._lister) + 1 & 0xFFFFFFFF}
            self._binding = Binding(self.title, self._socket, self._namespace, _NFLOG)
            self._bound = True
            for group in address.groups:
                self._binding.bind(group)
                self.logs |= {str(group): 0}
            if address.groups:
                self._binding.compare(address.groups)
        except BaseException:
            self.close()
            raise

    # Listings

    def _begin(self, lister: Lister) -> int:
        """The generation after which all commits come as events; the listing of it comes first."""
        if not self._lists:
            return lister.generation()
        start = time.monotonic()
        listed = lister.list()
        self._plan(start)
        if listed is None:
            notes.warning("%s: the ruleset changes too fast to be listed; it is tried again",
                          self.title)  # fmt: skip
            self.refresh()
            return lister.generation()
        self._queue.append(_Received(listed.data, None, True))
        for data, overrun, _ in self._arrived():
            self._put(newer(data, HOST_ORDER, listed.generation), overrun)
        self._digest = _digest(listed.data)
        for what in unmatched(listed, self._selected):
            notes.warning("%s: %s", self.title, what)
        return listed.generation

    def _list(self, lister: Lister) -> None:
        """List the ruleset again, and put the listing where it belongs among the events."""
        start, needed = time.monotonic(), self._needed
        self._needed = False
        try:
            listed = lister.list()
        except BackendError as error:
            notes.warning("%s; the ruleset is not listed again", error)
            self._lists, self._due = False, math.inf
            return
        self._plan(start)
        if listed is None:
            self.refresh()
            return
        digest = _digest(listed.data)
        if digest == self._digest and not needed:
            return
        self._digest = digest
        events = self._arrived()
        at = [place(received.data, HOST_ORDER, listed.generation) for received in events]
        last = max((i for i, offset in enumerate(at) if offset is not None), default=None)
        if last is None:
            # the ruleset had this generation before the first of these events
            self._queue += [_Received(listed.data, None, True), *events]
            return
        self._queue += events[:last]
        split, (data, overrun, _) = at[last] or 0, events[last]
        if split == len(data):
            # what was lost here may be of later commits, so it is lost after the listing
            self._queue += [_Received(data), _Received(listed.data, overrun, True)]
        else:
            self._put(data[:split], None)
            self._queue += [_Received(listed.data, None, True), _Received(data[split:], overrun)]
        self._queue += events[last + 1 :]

    def _put(self, data: bytes, overrun: str | None) -> None:
        if data:
            self._queue.append(_Received(data, overrun))
        elif overrun is not None and self._queue:
            self._queue[-1] = self._queue[-1]._replace(overrun=overrun)

    def _plan(self, start: float) -> None:
        """Set when the next listing is due, after one that began at `start`."""
        now = time.monotonic()
        self._listed_at, self._took_s = now, now - start
        self._due = now + max(self._interval_s, SHARE * self._took_s)

    def refresh(self) -> None:
        """List the ruleset again soon; the decoder asks for it when an entity is missing."""
        if self._lists:
            self._needed = True
            wait_s = max(LEAST_S, URGENT_SHARE * self._took_s)
            self._due = min(self._due, self._listed_at + wait_s)

    def _arrived(self) -> list[_Received]:
        """What the socket has: at least all events that were sent before this call."""
        events = []
        for data in self._socket.arrived():
            events.append(_Received(data, self._take_overrun()))
        return events

    def _take_overrun(self) -> str | None:
        """The overrun after what the socket gave last."""
        overrun, self._socket.overrun = self._socket.overrun, None
        if overrun is not None:
            self.refresh()
        return overrun

    # As a Backend

    def receive(self) -> bytes:
        data = super().receive()
        self.overrun, self._coming = self._coming or self.overrun, None
        return data

    def _receive(self) -> bytes | None:
        self._count_decoding()
        if not self._queue and time.monotonic() >= self._due and not self.stopped:
            assert self._lister is not None
            self._list(self._lister)
        if self._queue:
            queued = self._queue.popleft()
            self._coming = queued.overrun
            self._given_at = time.thread_time() if queued.is_listing else None
            return queued.data
        data = super()._receive()
        wait_s = self._due - time.monotonic()
        self.tick_s = None if math.isinf(wait_s) else max(wait_s, 0.001)
        return data

    @property
    def queued(self) -> bool:
        return bool(self._queue)

    def _count_decoding(self) -> None:
        """Count what the decoder took for the listing that was given last."""
        if self._given_at is not None:
            self._took_s += max(0.0, time.thread_time() - self._given_at)
            self._given_at = None
            self._due = max(self._due, self._listed_at + SHARE * self._took_s)

    def _report_overrun(self) -> None:
        self._coming = self._take_overrun() or self._coming

    def _pending(self) -> int:
        return sum(len(received.data) for received in self._queue) + self._socket.pending()

    def _unbind(self) -> None:
        if os.getpid() == self._owner:
            self._binding.unbind(acknowledged=not self.closed)

    def _release(self) -> None:
        super()._release()
        if self._lister is not None:
            self._lister.close()

    def process(self, pid: int, comm: str) -> processes.Process | None:
        return processes.process(pid, comm)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


# For `pylog sources` and `pylog doctor`


def sources() -> list[Source]:
    """Whether this kernel has nftables."""
    text = "changes of the nftables ruleset of this Linux kernel; with +trace also traced packets"
    if sys.platform != "linux":
        return [Source("nftables:", text, "it needs Linux")]
    bad = next((check.text for check in checks() if check.ok is False), None)
    return [Source("nftables:", text, bad)]


def checks() -> list[Check]:
    """Whether events can be received and the ruleset listed, and what it has."""
    if sys.platform != "linux":
        return [Check(False, "nftables needs Linux")]
    options = {option.name: option.default for option in OPTIONS}
    try:
        probe = Nftables(Address(True, []), options)
    except BackendError as error:
        return [Check(False, str(error))]
    generation = probe.logs["ruleset"] - 1
    size = sum(len(received.data) for received in probe._queue)
    probe.close()
    return [
        Check(True, "nftables works: its groups were joined, and the ruleset was listed"),
        Check(None, f"the ruleset is generation {generation}; a listing has {size} bytes and took"
              f" {probe._took_s * 1000:.1f} ms"),
    ]  # fmt: skip
