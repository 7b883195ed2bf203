"""The live sources of `pylog ulogd`: what each reads, on a thread of its own.

A thread reads pylog's records (or the frames of UNIXSOCK) and puts them into one queue of bounded
size, which the main thread empties. If outputs are slow the queue fills, the threads wait, and what
the kernel then loses comes as a LossRecord in its place. Options become those of pylog's backends.
"""

from __future__ import annotations

import contextlib
import io
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pylog
from pylog.backends.base import HOST_ORDER
from pylog.backends.netlink_requests import dump
from pylog.backends.netlink_socket import RCVBUF, NetlinkSocket
from pylog.backends.netns import Namespace
from pylog.errors import BackendError, DecodeError
from pylog.formats.netlink import NETLINK_NETFILTER, build
from pylog.formats.nfct_attributes import ACCT
from pylog.formats.nfct_requests import request
from pylog.notes import notes
from pylog.record import Record
from pylog.ulogd.inputs import Input, Nfacct, Nfct, Nflog, Unixsock
from pylog.ulogd.unixsock import Listener, packet_of_frame
from pylog.ulogd.views import Packet

BATCHES = 64
"""How many batches of records wait in the queue."""
LOGGERS = "ipv4,ipv6,bridge"
ACCT_GET, ACCT_GET_CTRZERO, CT_GET_CTRZERO = 0x701, 0x702, 0x103
"""NFNL_MSG_ACCT_GET and GET_CTRZERO, IPCTNL_MSG_CT_GET_CTRZERO, with their subsystems."""

LAYOUT = f"ctnetlink-{'le' if HOST_ORDER == '<' else 'be'}"
Items = Sequence[Record | Packet]
Batch = tuple[str, Items, bool]
"""The id of a source, what it gives, and whether that is the listing of SIGUSR2."""


class Live:
    """The sources that are open, and the queue that they fill.

    ended   how many of them have ended by themselves
    log     writes a line of a level to the daemon's own log
    """

    def __init__(self) -> None:
        self.queue: queue.Queue[Batch] = queue.Queue(BATCHES)
        self.log: Callable[[int, str], None] = lambda level, text: None
        self._readers: list[pylog.Reader] = []
        self._listeners: list[Listener] = []
        self._threads: list[threading.Thread] = []
        self._polls: list[_Poll] = []
        self._flows: list[tuple[str, str | None]] = []
        self._stopping = threading.Event()
        self.ended = 0

    def open(self, source: Input) -> None:
        """Open what a source reads; BackendError, ValueError."""
        name, options = source.instance.id, source.options
        netns = options.get("network_namespace_path") or None
        if isinstance(source, Nflog):
            self._read(name, self._nflog(source, netns))
        elif isinstance(source, Nfct):
            self._flows.append((name, netns))
            self._read(name, pylog.open("nfct:", raw=True, **_of_flows(options, netns)))
        elif isinstance(source, Nfacct):
            poll = _Poll(name, options, netns, self)
            self._polls.append(poll)
            self._start(poll.run)
        elif isinstance(source, Unixsock):
            listener = Listener(options["socket_path"], options["perms"], options["owner"],
                                options["group"], options["bufsize"])  # fmt: skip
            self._listeners.append(listener)
            self._start(lambda: self._take_frames(name, listener))

    def _nflog(self, source: Nflog, netns: str | None) -> pylog.Reader:
        given = _of_packets(source, netns)
        if source.takes_loggers and source.group:
            self.log(5, f"{source.instance.id}: bind=1 has no effect, as the kernel's loggers"
                      " write to group 0")  # fmt: skip
        where = f"nflog:{source.group}"
        try:
            return pylog.open(where, raw=True, **given)
        except BackendError as error:
            if not given.get("conntrack") or "conntrack" not in str(error):
                raise
            self.log(7, f"unable to set flags 0x4: {error}")
            return pylog.open(where, raw=True, **(given | {"conntrack": False}))

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def put(self, name: str, items: Items, dumped: bool = False) -> None:
        """Queue what a source gives; waits while the queue is full."""
        while True:
            try:
                self.queue.put((name, items, dumped), timeout=1.0)
                return
            except queue.Full:
                if self._stopping.is_set() and not any(t.is_alive() for t in self._threads[:1]):
                    return

    def _read(self, name: str, reader: pylog.Reader) -> None:
        self._readers.append(reader)
        self._start(lambda: self._take_records(name, reader))

    def _take_records(self, name: str, reader: pylog.Reader) -> None:
        try:
            while batch := reader.read_batch():
                self.put(name, batch)
        except (BackendError, DecodeError) as error:
            self.log(7, f"{name}: {error}")
        if not self._stopping.is_set():
            self.ended += 1

    def _take_frames(self, name: str, listener: Listener) -> None:
        for frame in listener.frames():
            if isinstance(frame, DecodeError):
                self.log(7, f"{name}: {frame}; the client is disconnected")
                continue
            try:
                packet, unknown = packet_of_frame(frame, time.time_ns() // 1000)
            except DecodeError as error:
                self.log(7, f"{name}: {error}")
                continue
            for number in unknown:
                self.log(5, f"{name}: unknown option {number}")
            self.put(name, [packet])

    @property
    def sources(self) -> int:
        """How many sources are open."""
        return len(self._readers) + len(self._listeners) + len(self._polls)

    def dump(self) -> None:
        """What SIGUSR2 does: flows with their counters, which are set to zero; NFACCT at once."""
        for poll in self._polls:
            poll.now.set()
        for name, netns in self._flows:
            self._start(lambda name=name, netns=netns: self._list_flows(name, netns))  # type: ignore[misc]

    def _list_flows(self, name: str, netns: str | None) -> None:
        try:
            records = answered(request(HOST_ORDER, CT_GET_CTRZERO), netns)
        except BackendError as error:
            self.log(7, f"{name}: {error}")
            return
        self.put(name, records, dumped=True)

    def stop(self) -> None:
        """End all sources; what they have is still put into the queue."""
        self._stopping.set()
        for reader in self._readers:
            reader.stop()
        for listener in self._listeners:
            listener.close()
        for poll in self._polls:
            poll.now.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def is_alive(self) -> bool:
        """Whether a thread may still put something."""
        return any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Close what is open."""
        for reader in self._readers:
            with contextlib.suppress(BackendError):
                reader.close()


class _Poll:
    """Reads the counters of NFACCT every `pollinterval` seconds, first after one interval.

    now   set: read at once, or look whether to stop
    """

    def __init__(self, name: str, options: dict[str, Any], netns: str | None, live: Live) -> None:
        self._name, self._interval_s, self._live = name, options["pollinterval"], live
        kind = ACCT_GET_CTRZERO if options["zerocounter"] else ACCT_GET
        self._request = build(ACCT, HOST_ORDER, kind, 0, [])
        self._netns = netns
        self.now = threading.Event()

    def run(self) -> None:
        due_s = time.monotonic() + self._interval_s
        while not self._live.is_stopping:
            if not self.now.wait(max(0.0, due_s - time.monotonic())):
                due_s += self._interval_s
            elif self._live.is_stopping:
                return
            self.now.clear()
            try:
                self._live.put(self._name, answered(self._request, self._netns))
            except BackendError as error:
                notes.warning("%s: %s", self._name, error)


def answered(message: bytes, netns: str | None) -> list[Record]:
    """The records of a dump that the kernel gives for a request of conntrack or nfacct;
    BackendError.
    """
    namespace = Namespace(netns)
    try:
        socket_ = NetlinkSocket("nfacct", namespace, NETLINK_NETFILTER)
        try:
            data, problem = dump(socket_, message)
        finally:
            socket_.close()
    finally:
        namespace.close()
    if problem:
        raise BackendError(f"the kernel refuses the listing (errno {problem})")
    if not data:
        return []
    try:
        with pylog.open(io.BytesIO(data), layout=LAYOUT, raw=True) as reader:
            return list(reader)
    except DecodeError:  # nothing but the end of a listing
        return []


def _of_packets(source: Nflog, netns: str | None) -> dict[str, Any]:
    """The options of pylog's backend for NFLOG."""
    options = source.options
    given: dict[str, Any] = {
        "qthresh": options["netlink_qthreshold"] or 100,
        "timeout_s": (options["netlink_qtimeout"] or 100) / 100,
        "seq_global": bool(options["seq_global"]),
        "conntrack": bool(options["attach_conntrack"]),
        **_buffer(options),
    }
    if source.takes_loggers and source.group == 0:
        given["pf_bind"] = LOGGERS
    if netns is not None:
        given["netns"] = netns
    return given


def _of_flows(options: dict[str, Any], netns: str | None) -> dict[str, Any]:
    """The options of pylog's backend for conntrack."""
    events = {"destroy"}
    if options["hash_enable"] or options["event_mask"] & 1:
        events.add("new")
    given: dict[str, Any] = {
        "events": ",".join(sorted(events)),
        "snapshot": bool(options["hash_enable"] or options["pollinterval"]),
        "poll_s": float(options["pollinterval"]),
        "reliable": bool(options["reliable"]),
        **_buffer(options),
    }
    if netns is not None:
        given["netns"] = netns
    return given


def _buffer(options: dict[str, Any]) -> dict[str, int]:
    """The sizes of the receive buffer, if ulogd would set them; else those of pylog, which are
    larger than the system's.
    """
    size, limit = options["netlink_socket_buffer_size"], options["netlink_socket_buffer_maxsize"]
    if not 0 < size < limit:
        return {}
    return {"rcvbuf": _size(2 * size), "rcvbuf_max": _size(2 * limit)}


def _size(size: int) -> int:
    return int(min(max(size, RCVBUF.low or 0), RCVBUF.high or size))
