"""Conntrack: the flows that the Linux kernel tracks, as it reports them over netlink.

The kernel multicasts an event when a flow begins, changes and ends. It numbers no event and says
nothing of flows that began before somebody listened. So the source begins with a listing of all
flows, and lists them again after a loss: the decoder then knows which flows ended in it
(formats.nfct_living). How many events a loss cost is the socket's own count, as each event is a
datagram. Listings also show the counters of flows that live, which no event does.

Listings stand among the events where they belong: what came before it, the listing part by part,
what came during it, and its end.

Sources: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c,
net/netlink/af_netlink.c; runs on Linux 6.18.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pylog.backends import conntrack_options
from pylog.backends.base import HOST_ORDER, Backend, Check, Source
from pylog.backends.conntrack_options import FAMILIES, GROUPS, names, scope_of
from pylog.backends.conntrack_settings import hidden, tracked
from pylog.backends.netlink_namespaces import NsidSocket, Numbers
from pylog.backends.netlink_socket import (
    NETLINK_BROADCAST_ERROR,
    NetlinkSocket,
    buffer_limit,
)
from pylog.backends.netlink_source import NetlinkSource
from pylog.backends.netns import Namespace
from pylog.backends.nfct_listing import Lister
from pylog.errors import BackendError
from pylog.formats.netlink import NETLINK_NETFILTER
from pylog.formats.nfct_requests import CT_GET, CT_GET_DYING, EXP_GET, Mark, Purpose, begun, without
from pylog.notes import notes

NAME = "nfct"
OPTIONS = conntrack_options.OPTIONS
HELP = "the flows that conntrack of this Linux kernel tracks: nfct:"

LEAST_S, SHARE = 1.0, 4
"""Listings after losses are so far apart at least: a second, and four times what one takes with its
decoding."""
MOST_DURING = 1 << 26
"""So many bytes of events are held at most while a listing is given; the rest waits in the socket's
buffer."""


def connect(address: str, options: Mapping[str, Any]) -> list[Backend]:
    """A socket that receives the events of conntrack."""
    check(address, options)
    return [Conntrack(options)]


def check(address: str, options: Mapping[str, Any]) -> None:
    """ValueError for an address or options that cannot be used."""
    if address:
        raise ValueError(f"{NAME}:{address}: it has no address; write {NAME}:")
    buffer_limit(options)
    names(options, "events", GROUPS)
    scope_of(options)


class _Received(NamedTuple):
    """Messages, their network namespace, and the overrun right after them with what it cost."""

    data: bytes
    namespace: str | int | None
    overrun: str | None = None
    lost: int | None = None


class _Target(NamedTuple):
    """A namespace that is listed: its name on records, and the lister."""

    namespace: str | int | None
    lister: Lister


class _Listing:
    """A listing that is being given.

    during   the events that came meanwhile
    begun    of the flows that began meanwhile, see nfct_requests.begun
    """

    def __init__(self, target: _Target, mark: Mark, parts: Iterator[bytes]) -> None:
        self.target, self.mark, self.parts = target, mark, parts
        self.during: list[_Received] = []
        self.size = 0
        self.begun: set[bytes] = set()

    def add(self, received: _Received) -> None:
        """Add what came meanwhile."""
        self.during.append(received)
        self.size += len(received.data)
        if received.namespace == self.target.namespace:
            self.begun.update(begun(received.data, HOST_ORDER))


class Conntrack(NetlinkSource):
    """The events of conntrack, and listings of its flows."""

    in_one_place = True
    accountable = False

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Joins the groups. Raises ValueError, BackendError, BackendUnavailable."""
        self.layout = f"ctnetlink-{'le' if HOST_ORDER == '<' else 'be'}"
        events = names(options, "events", GROUPS) or []
        scope = scope_of(options)
        self.scope = scope or None
        self._reliable = bool(options["reliable"])
        self.counts_losses = not self._reliable
        every = bool(options["all_netns"])
        super().__init__(
            f"{NAME}:", options, in_one_place=True,
            groups=[group for event in dict.fromkeys(events) for group in GROUPS[event]],
            settings=(NETLINK_BROADCAST_ERROR,) if self._reliable else (),
            socket_type=NsidSocket if every else NetlinkSocket,
        )  # fmt: skip
        families = names(options, "families", FAMILIES) or []
        self._family = FAMILIES[families[0]] if len(families) == 1 else 0
        self._kinds = [CT_GET]
        if self._reliable:
            self._kinds.append(CT_GET_DYING)
        if "expect" in events:
            self._kinds.append(EXP_GET)
        self._queue: deque[_Received] = deque()
        """What is next, before a listing goes on and before what the socket has."""
        self._coming: tuple[str | None, int | None] = (None, None)
        """The overrun that is right after the bytes that `receive` gives next, and its cost."""
        self._giving: str | int | None = None
        """The namespace of these bytes."""
        self._listing: _Listing | None = None
        self._awaited: deque[tuple[Purpose, _Target]] = deque()
        """Listings that come next."""
        self._poll_s = float(options["poll_s"]) or math.inf
        self._poll_due = self._repair_due = math.inf
        self._began_at = self._ended_at = -math.inf
        """When the last listing began, and when its end was received."""
        self._numbers: Numbers | None = None
        self._targets: dict[int | None, _Target] = {}
        """By nsid; None: the own namespace."""
        self._started: set[str | int | None] = set()
        """Namespaces of which a mark was given."""
        self._lists = bool(options["snapshot"])
        try:
            own = _Target(None, Lister(self.title, self._namespace))
            self._targets[None] = own
            self._begin(every)
        except BaseException:
            self.close()
            raise

    def _begin(self, every: bool) -> None:
        """Plan the first listing of each namespace, and note what the kernel hides."""
        if every:
            self._numbers = Numbers(self.title, self._namespace)
            self._numbers.places()  # which also shows those without a number
            if self._numbers.unnumbered:
                notes.warning(
                    "%s: no events come from the network namespaces %s, which have no number here:"
                    " ip netns set NAME auto", self.title, ", ".join(self._numbers.unnumbered),
                )  # fmt: skip
        self._queue += self._started_now(self._all_targets())
        self._poll_due = time.monotonic() + self._poll_s
        if what := "; ".join(hidden(self._namespace)):
            notes.warning("%s: %s", self.title, what)
        if self._reliable:
            notes.warning("%s: reliable: other listeners get the ends of flows more than once, and"
                          " flows whose end waits for pylog count against nf_conntrack_max",
                          self.title)  # fmt: skip

    def _started_now(self, targets: Iterable[_Target]) -> list[_Received]:
        """Marks for namespaces that are read from now on; they are listed soon."""
        marks = []
        for target in targets:
            if target.namespace not in self._started:
                self._started.add(target.namespace)
                answer = target.lister.mark(self._mark(Purpose.START))
                marks.append(_Received(answer, target.namespace))
                if self._lists:
                    self._awaited.append((Purpose.SNAPSHOT, target))
        return marks

    def _new_namespace(self, namespace: str | int | None) -> list[_Received]:
        """The mark before the first events of a namespace that has come later."""
        if namespace in self._started:
            return []
        try:
            targets = [t for t in self._all_targets() if t.namespace == namespace]
            return self._started_now(targets)
        except BackendError as error:
            notes.warning("%s: %s", self.title, error)
            return []
        finally:
            self._started.add(namespace)

    def _all_targets(self) -> list[_Target]:
        """The namespaces to list now: the own one, and all that have a number in it."""
        if self._numbers is None:
            return list(self._targets.values())
        places = self._numbers.places()
        for nsid in [n for n in self._targets if n is not None and n not in places]:
            self._targets.pop(nsid).lister.close()
        for nsid, place in places.items():
            if nsid not in self._targets:
                try:
                    namespace = Namespace(place.path)
                    with contextlib.closing(namespace):
                        lister = Lister(self.title, namespace)
                        lister.mark(self._mark(Purpose.START))
                except BackendError as error:
                    notes.warning("%s: %s", self.title, error)
                else:
                    self._targets[nsid] = _Target(self._numbers.name(nsid), lister)
        return list(self._targets.values())

    # Listings

    def refresh(self) -> None:
        """List the flows again soon, after a loss."""
        took_s = max(0.0, self._ended_at - self._began_at)
        earliest = self._began_at + max(LEAST_S, SHARE * took_s)
        self._repair_due = min(self._repair_due, max(time.monotonic(), earliest))

    def _start_due(self) -> None:
        """Begin the listing that is due, if there is one."""
        now = time.monotonic()
        if not self._awaited and now >= self._repair_due:
            self._repair_due = math.inf
            self._awaited += [(Purpose.REPAIR, target) for target in self._all_targets()]
        elif not self._awaited and now >= self._poll_due:
            self._awaited += [(Purpose.POLL, target) for target in self._all_targets()]
        if not self._awaited:
            return
        purpose, target = self._awaited.popleft()
        self._began_at, self._poll_due = now, now + self._poll_s
        mark = self._mark(purpose)
        try:
            answer = target.lister.mark(mark)
        except BackendError as error:
            notes.warning("%s; the flows are not listed", error)
            return
        self._queue += self._arrived()
        self._queue.append(_Received(answer, target.namespace))
        parts = target.lister.parts(mark, self._kinds, self._family)
        self._listing = _Listing(target, mark, parts)

    def _mark(self, purpose: Purpose) -> Mark:
        return Mark(purpose, reliable=self._reliable)

    def _advance(self, listing: _Listing) -> None:
        """Queue the next part of a listing, or what came during it and its end."""
        try:
            part = next(listing.parts, None)
            if listing.size < MOST_DURING:
                for received in self._arrived():
                    listing.add(received)
            if part is not None:
                part = without(part, HOST_ORDER, listing.begun)
                if part:
                    self._queue.append(_Received(part, listing.target.namespace))
                return
            answer = listing.target.lister.mark(listing.mark._replace(is_end=True))
        except BackendError as error:
            notes.warning("%s; the listing is not complete", error)
            self._abandon(listing)
            return
        self._listing = None
        self._queue += listing.during
        self._queue.append(_Received(answer, listing.target.namespace))
        self._ended_at = time.monotonic()

    def _abandon(self, listing: _Listing) -> None:
        """Give what came during a listing, but not its end, so that no flow is missed in it."""
        self._listing = None
        self._queue += listing.during

    def _arrived(self) -> Iterator[_Received]:
        """What the socket has: at least all events that were sent before this call."""
        for data in self._socket.arrived():
            received = self._received(data)
            yield from self._new_namespace(received.namespace)
            yield received

    def _received(self, data: bytes) -> _Received:
        """What the socket gave last."""
        nsid = self._socket.nsid
        namespace = None if self._numbers is None else self._numbers.name(nsid)
        return _Received(data, namespace, *self._take_overrun())

    def _take_overrun(self) -> tuple[str | None, int | None]:
        overrun, lost = self._socket.take_overrun()
        if overrun is not None:
            self.refresh()
            if self._reliable:  # the count has what is sent again
                lost = None
                overrun += " (the ends of flows come again)"
        return overrun, lost

    # As a Backend

    def receive(self) -> bytes:
        data = super().receive()
        overrun, lost = self._coming
        if overrun is not None:
            self.overrun, self.lost = overrun, lost
        self._coming = None, None
        self.namespace = self._giving
        return data

    def _receive(self) -> bytes | None:
        while True:
            if self._queue:
                return self._give(self._queue.popleft())
            if self._listing is not None:
                if self.stopped:
                    self._abandon(self._listing)
                else:
                    self._advance(self._listing)
                continue
            if not self.stopped:
                self._start_due()
                if self._queue:
                    continue
            data = super()._receive()
            if data is not None:
                if marks := self._new_namespace(self._giving):
                    self._queue += [*marks, _Received(data, self._giving, *self._coming)]
                    continue
                return data
            due = 0.0 if self._awaited else min(self._poll_due, self._repair_due)
            wait_s = due - time.monotonic()
            self.tick_s = None if math.isinf(wait_s) else max(wait_s, 0.001)
            return None

    @property
    def queued(self) -> bool:
        is_first = self.tick_s is None and bool(self._awaited)
        return bool(self._queue) or self._listing is not None or is_first

    def _give(self, received: _Received) -> bytes:
        self._coming = received.overrun, received.lost
        self._giving = received.namespace
        return received.data

    def _report_overrun(self) -> None:
        # called when the socket gave data, or nothing
        nsid = self._socket.nsid
        self._giving = None if self._numbers is None else self._numbers.name(nsid)
        overrun, lost = self._take_overrun()
        if overrun is not None:
            self._coming = overrun, lost

    def _pending(self) -> int:
        return sum(len(received.data) for received in self._queue) + self._socket.pending()

    def _release(self) -> None:
        super()._release()
        if self._numbers is not None:
            self._numbers.close()
        for target in self._targets.values():
            target.lister.close()


# For `pylog sources` and `pylog doctor`


def sources() -> list[Source]:
    """Whether this kernel has conntrack over netlink."""
    text = "the flows that conntrack of this Linux kernel tracks"
    if sys.platform != "linux":
        return [Source("nfct:", text, "it needs Linux")]
    bad = next((check.text for check in checks() if check.ok is False), None)
    return [Source("nfct:", text, bad)]


def checks() -> list[Check]:
    """Whether events can be received and flows listed, and what the kernel hides."""
    if sys.platform != "linux":
        return [Check(False, "conntrack over netlink needs Linux")]
    namespace = Namespace(None)
    try:
        netlink = NetlinkSocket(NAME, namespace, NETLINK_NETFILTER, groups=[1, 2, 3])
        netlink.close()
        lister = Lister(NAME, namespace)
        with contextlib.closing(lister):
            lister.mark(Mark(Purpose.START))
    except BackendError as error:
        return [Check(False, str(error))]
    return [
        Check(True, "conntrack works: its groups were joined, and its table can be listed"),
        Check(None, tracked(namespace)),
        *(Check(None, text) for text in hidden(namespace, at_length=True)),
    ]
