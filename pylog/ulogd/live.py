"""The live sources of `pylog ulogd`, which the receiver of the pipeline reads for all stacks.

NFLOG and NFCT are backends of pylog, NFACCT and the listings that SIGUSR2 asks for are a backend of
their own, which asks the kernel. The receiver opens a source that has failed again, and puts what
comes into the queues of the stacks that read it. Frames of UNIXSOCK need no queue: the client waits
until they are taken.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pylog import backends
from pylog.backends.base import HOST_ORDER, Backend
from pylog.backends.netlink_requests import dump
from pylog.backends.netlink_socket import NetlinkSocket
from pylog.backends.netns import Namespace
from pylog.errors import BackendError, DecodeError
from pylog.formats.netlink import NETLINK_NETFILTER, build
from pylog.formats.nfct_attributes import ACCT
from pylog.formats.nfct_requests import request
from pylog.pipeline.config import Settings, Source
from pylog.pipeline.intake import Intake
from pylog.pipeline.receiver import Connect, Receiver
from pylog.pipeline.waiting import READ, WRITE, Act, Waiting
from pylog.ulogd.build import Stack
from pylog.ulogd.daemon import Daemon
from pylog.ulogd.inputs import Input, Nfacct, Nfct, Nflog, Unixsock, buffer
from pylog.ulogd.log import ERROR, NOTICE
from pylog.ulogd.threads import LISTING, StackThread
from pylog.ulogd.unixsock import Listener, packet_of_frame

LOGGERS = "ipv4,ipv6,bridge"
ACCT_GET, ACCT_GET_CTRZERO, CT_GET_CTRZERO = 0x701, 0x702, 0x103
"""NFNL_MSG_ACCT_GET and GET_CTRZERO, IPCTNL_MSG_CT_GET_CTRZERO, with their subsystems."""

LAYOUT = f"ctnetlink-{'le' if HOST_ORDER == '<' else 'be'}"
TURN_S = 0.5
"""How long a turn waits at most."""


class Live:
    """The sources that are open, and the stacks that read them.

    log   writes a line of a level to the daemon's own log
    """

    def __init__(
        self, queue_size: int = Settings.queue, connect: Connect = backends.connect
    ) -> None:
        """
        queue_size   the most bytes that wait for a stack
        connect      opens the backends of NFLOG and NFCT
        """
        self.log: Callable[[int, str], None] = lambda level, text: None
        self.receiver = Receiver(self._connected)
        self.threads: list[StackThread] = []
        self._queue_size, self._connect = queue_size, connect
        self._waiting = Waiting()
        self._listings: dict[str, Callable[[], Listing]] = {}
        self._listeners: dict[str, Listener] = {}

    # Sources

    def open(self, source: Input) -> None:
        """Open what a source reads; BackendError, ValueError."""
        name, options = source.instance.id, source.options
        netns = options.get("network_namespace_path") or None
        if isinstance(source, Nflog):
            self._open_packets(source, netns)
        elif isinstance(source, Nfct):
            self.receiver.open(Source(name, "nfct:", _of_flows(options, netns)))
            message = request(HOST_ORDER, CT_GET_CTRZERO)
            self._listings[name + LISTING] = lambda: Listing("nfct", message, netns)
            self.receiver.open(Source(name + LISTING, name + LISTING))
        elif isinstance(source, Nfacct):
            kind = ACCT_GET_CTRZERO if options["zerocounter"] else ACCT_GET
            message = build(ACCT, HOST_ORDER, kind, 0, [])
            self._listings[name] = lambda: Listing(
                "nfacct", message, netns, options["pollinterval"]
            )
            self.receiver.open(Source(name, name))
        elif isinstance(source, Unixsock):
            self._listeners[name] = Listener(
                options["socket_path"], options["perms"], options["owner"], options["group"],
                options["bufsize"],
            )  # fmt: skip

    def _connected(self, address: str, options: Mapping[str, Any]) -> list[Backend]:
        made = self._listings.get(address)
        return self._connect(address, options) if made is None else [made()]

    def _open_packets(self, source: Nflog, netns: str | None) -> None:
        given = _of_packets(source, netns)
        name, address = source.instance.id, f"nflog:{source.group}"
        if source.takes_loggers and source.group:
            self.log(NOTICE, f"{name}: bind=1 has no effect, as the kernel's loggers write to"
                             " group 0")  # fmt: skip
        try:
            self.receiver.open(Source(name, address, given))
        except BackendError as error:
            if not given.get("conntrack") or "conntrack" not in str(error):
                raise
            self.log(ERROR, f"unable to set flags 0x4: {error}")
            self.receiver.open(Source(name, address, given | {"conntrack": False}))

    # The stacks at work

    def begin(self, daemon: Daemon) -> None:
        """Give each stack of a daemon that has started its queue."""
        for stack in daemon.stacks:
            sources = {
                # the state of a source, as of flows that began, is that of each stack
                name: type(route.source)(route.source.instance, daemon.surroundings)
                for name, route in daemon.routes.items()
                if stack in route.stacks
            }
            thread = StackThread(daemon, stack, sources, self._queue_size, self.wake)
            self.threads.append(thread)
            self.receiver.queues.append(thread.queue)
        self.receiver.begin_section()

    def start(self, daemon: Daemon) -> None:
        """Let the stacks read what is open."""
        for thread in self.threads:
            thread.start()
        for name, listener in self._listeners.items():
            stacks = daemon.routes[name].stacks
            threads = [thread for thread in self.threads if thread.stack in stacks]
            threading.Thread(
                target=self._take_frames, args=(name, listener, threads), daemon=True
            ).start()

    def _take_frames(self, name: str, listener: Listener, threads: list[StackThread]) -> None:
        for frame in listener.frames():
            if isinstance(frame, DecodeError):
                self.log(ERROR, f"{name}: {frame}; the client is disconnected")
                continue
            try:
                packet, unknown = packet_of_frame(frame, time.time_ns() // 1000)
            except DecodeError as error:
                self.log(ERROR, f"{name}: {error}")
                continue
            for number in unknown:
                self.log(NOTICE, f"{name}: unknown option {number}")
            for thread in threads:
                thread.run(name, packet)

    @property
    def waker(self) -> int:
        """The descriptor for signal.set_wakeup_fd, which ends the waiting of `turn`."""
        return self._waiting.waker

    def wake(self) -> None:
        """End the waiting of `turn`; from any thread."""
        self._waiting.wake()

    def turn(self, longest_s: float = TURN_S) -> None:
        """Wait until something is to be done, and do it."""
        receiver = self.receiver
        due_s = receiver.due_s()
        self._waiting.wait(self._acts(), longest_s if due_s is None else min(longest_s, due_s))
        for intake in list(receiver.intakes):
            if intake.backend.tick_s is not None or intake.backend.queued:
                receiver.take(intake)
        receiver.retry()

    @property
    def failure(self) -> BaseException | None:
        """What has ended a thread before its time."""
        return next((t.failure for t in self.threads if t.failure is not None), None)

    def _acts(self) -> dict[int, Act]:
        """What to do when which descriptor is ready."""
        wanted: dict[int, Act] = {}
        for intake in self.receiver.intakes:
            for descriptor in intake.backend.wait_descriptors():
                wanted[descriptor] = Act(READ, intake, partial(self._take, intake))
        for thread in self.threads:
            queue = thread.queue
            if queue.waiting and not queue.is_broken:
                wanted[queue.socket.fileno()] = Act(WRITE, queue, queue.pump)
        return wanted

    def _take(self, intake: Intake) -> None:
        if intake in self.receiver.intakes:
            self.receiver.take(intake)

    def reopen(self) -> None:
        """Let every stack open its files again."""
        for thread in self.threads:
            thread.channel.send("reopen", None)

    def ask(self) -> None:
        """What SIGUSR2 does: flows with their counters, which are set to zero; NFACCT at once."""
        for intake in self.receiver.intakes:
            if isinstance(intake.backend, Listing):
                intake.backend.ask()

    # The end

    def stop(self, within_s: float, is_urgent: Callable[[], bool]) -> list[Stack]:
        """End all sources, and let the stacks write what came, within that time: those that have
        not done so.

        is_urgent   whether not to wait any more
        """
        deadline = time.monotonic() + within_s

        def is_time() -> bool:
            return time.monotonic() >= deadline or is_urgent()

        for listener in self._listeners.values():
            listener.close()
        self.receiver.stop(time.monotonic() + within_s / 2)
        working = list(self.threads)
        for thread in working:
            thread.queue.finish()
        while working := [thread for thread in working if thread.is_alive]:
            for thread in working:
                if not thread.queue.waiting:
                    thread.end()
            if is_time():
                break
            if any(thread.queue.waiting for thread in working):
                self.turn(0.1)
            else:
                working[0].join(0.1)
        for thread in working:
            self.log(ERROR, f"stack of line {thread.stack.line}: its output takes no more records;"
                            " what it had not written is lost")  # fmt: skip
        return [thread.stack for thread in working]

    def close(self) -> None:
        """Close what is open."""
        for listener in self._listeners.values():
            listener.close()
        for thread in self.threads:
            thread.close()
        for intake in list(self.receiver.intakes):
            with contextlib.suppress(BackendError):
                intake.backend.close()
        self._waiting.close()


class Listing(Backend):
    """What the kernel answers to a request: every `interval_s`, first after that time, or when it
    is asked.
    """

    live = True
    message_aligned = True
    layout = LAYOUT

    def __init__(self, name: str, message: bytes, netns: str | None, interval_s: int = 0) -> None:
        super().__init__(name)
        self._message, self._netns, self._interval_s = message, netns, interval_s
        self._due_s = time.monotonic() + interval_s if interval_s else float("inf")
        self._is_asked = False

    def ask(self) -> None:
        """Read at once."""
        self._is_asked = True
        self._wake()

    @property
    def tick_s(self) -> float | None:  # type: ignore[override]
        """In how many seconds to read again."""
        if self._is_asked:
            return 0.0
        return max(0.0, self._due_s - time.monotonic()) if self._interval_s else 3600.0

    def _receive(self) -> bytes | None:
        if self.stopped:
            return b""
        if not self._is_asked and time.monotonic() < self._due_s:
            return None
        if not self._is_asked:
            self._due_s += self._interval_s
        self._is_asked = False
        return answer(self._message, self._netns) or None

    def _descriptors(self) -> list[int]:
        return []

    def fileno(self) -> int:
        raise ValueError("a listing has no descriptor")

    def _pending(self) -> int:
        return 0

    def _release(self) -> None:
        """There is nothing to release."""


def answer(message: bytes, netns: str | None) -> bytes:
    """The messages that the kernel gives for a request of conntrack or nfacct; BackendError."""
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
    return data


def _of_packets(source: Nflog, netns: str | None) -> dict[str, Any]:
    """The options of pylog's backend for NFLOG."""
    options = source.options
    given: dict[str, Any] = {
        "qthresh": options["netlink_qthreshold"] or 100,
        "timeout_s": (options["netlink_qtimeout"] or 100) / 100,
        "seq_global": bool(options["seq_global"]),
        "conntrack": bool(options["attach_conntrack"]),
        **buffer(options),
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
        **buffer(options),
    }
    if netns is not None:
        given["netns"] = netns
    return given
