"""What every source is: the base class of backends, and what they report of this machine.

A Backend owns one source: its system calls, their errors, and the bytes that were received but not
given yet. One thread at a time may use it, which `use` ensures. `close` and `stop` may come from
any other thread or from a signal handler; to wake the thread that waits, they write to a socket
pair that it also polls.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pylog.backends.process import Process
from pylog.errors import DecodeError

if TYPE_CHECKING:
    from pylog.formats.nfct_scope import FlowScope
    from pylog.formats.nft_scope import Scope

HOST_ORDER = "<" if sys.byteorder == "little" else ">"
"""The byte order of this machine, and so of its kernel's messages."""

CLOSE_PATIENCE_S = 2.0
"""The longest that `close` waits for a thread that reads; that is woken, so it takes far less."""


class Source(NamedTuple):
    """A source of this machine; if it is not available, `problem` says why."""

    source: str
    text: str
    problem: str | None = None


class Check(NamedTuple):
    """The result of a check: `ok` is True, False if reading will not work, None for a remark."""

    ok: bool | None
    text: str


class _Use:
    """The context of the one thread that uses the descriptors.

    A `close` that comes meanwhile is carried out when the thread leaves. Entering raises
    RuntimeError while the backend is in use, because waiting for it might never end. While a
    coroutine only waits (`idle`), other coroutines of its thread may enter.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.lock = threading.Lock()
        self.thread: int | None = None
        self.idle = False
        self._guests = 0

    def __enter__(self) -> None:
        if self.idle and self.thread == threading.get_ident():
            self._guests += 1
            return
        if not self.lock.acquire(blocking=False):
            if not self._backend.closed or self.thread == threading.get_ident():
                raise RuntimeError(f"{self._backend.name} is being read already")
            self.lock.acquire()  # until `close` has finished
        self.thread = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        if self._guests:
            self._guests -= 1
            return
        self.thread, self.idle = None, False
        self.lock.release()
        if self._backend.closed:
            self._backend.close()


class Backend(ABC):
    """A source of bytes.

    name      what the user calls it: a path, "standard input", "nflog:5"
    live      the bytes arrive now: a record has no offset in an input
    message_aligned   the bytes of each `receive` end with a complete message
    regular   all bytes are there: receiving never waits
    deferred  nothing may come for long: the layout is detected at the first bytes, not on opening
    layout    the layout of the bytes, if the source has only one
    size      the size of the input as it is stored (compressed), None if it has none
    failure   set when the source ended in an error that is not the system's: a compressed file
              that is damaged or cut off
    overrun   a text when the system reported a loss without its extent: among the bytes received
              next, or after them; the caller that reports it sets it to None
    lost      how many records such a loss cost, if the system counts them
    namespace the network namespace of the bytes that `receive` gave last, its name or number, where
              several are read; None: the source's own
    in_one_place   such a loss is right after the bytes that `receive` gave last
    counts_losses   every loss is an overrun whose cost the system counts
    numbered  every record has a sequence number
    logs      the logs that such a loss may concern, as records name them (`log`), and the
              sequence number of the first record of each
    accountable   gaps in these numbers show all that such a loss may cost
    scope     which records are wanted; None: all
    tick_s    how often to ask again, where the system does not wake a thread that waits
    holds_s   how long the system may hold records back before they can be received; None: not
    ends      where pieces end of the bytes that `receive` gave last, each of complete messages;
              (): it is not known
    log_tz    of a text log: the name of the zone of its times; None: unknown
    year      of a text log: that of its first line without one; None: unknown
    rotations    how often another file has taken the place of the one that is followed
    modified_s   when the file was last written, in seconds since 1970; None: it is no file

    One thread at a time may receive. `close` and `stop` may come from any other thread and from a
    signal handler, and wake it.
    """

    live = False
    message_aligned = False
    regular = False
    deferred = False
    layout: str | None = None
    size: int | None = None
    failure: DecodeError | None = None
    overrun: str | None = None
    lost: int | None = None
    namespace: str | int | None = None
    counts_losses = False
    in_one_place = False
    numbered = False
    logs: Mapping[str, int] = {}
    accountable = True
    scope: Scope | FlowScope | None = None
    tick_s: float | None = None
    holds_s: float | None = None
    ends: Sequence[int] = ()
    rotations = 0
    log_tz: str | None = None
    year: int | None = None
    modified_s: float | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False
        self.stopped = False
        self.use = _Use(self)
        self._released = False
        self._owner = os.getpid()
        self._pair: tuple[socket.socket, socket.socket] | None = (
            None  # to wake the thread that waits
        )
        self._pair_owner = self._owner
        self._pair_lock = threading.Lock()
        self._held: bytes | None = None  # received, but not given yet

    @property
    def title(self) -> str:
        """What messages call it before a colon: the name, without a colon of its own."""
        return self.name.removesuffix(":") if self.live else self.name

    # What each source defines

    @abstractmethod
    def _receive(self) -> bytes | None:
        """The next bytes, b"" at the end, None while there are none; BackendError."""

    @abstractmethod
    def _release(self) -> None:
        """Release the descriptors; called once."""

    @abstractmethod
    def fileno(self) -> int:
        """The source's descriptor; OSError or ValueError without one."""

    @abstractmethod
    def _pending(self) -> int:
        """How many more bytes can be received without waiting, as far as the system can say."""

    def _descriptors(self) -> list[int]:
        """The descriptors that become readable when there may be something to receive."""
        return [self.fileno()]

    def _flush(self) -> int | None:
        """Discard what the system holds: how many bytes; None when it has no such call."""
        return None

    def position(self) -> int:
        """How many bytes of `size` have been received."""
        return 0

    def interface_name(self, index: int) -> str | int:
        """The name of the interface of that number; without one, the number."""
        return index

    def interface_names(self) -> tuple[int, Mapping[int, str | int]]:
        """The names of interfaces by number, and how often they have changed so far: messages
        received since the last change were made with these names.
        """
        return 0, {}

    def process(self, pid: int, comm: str) -> Process | None:
        """The process that has that number and name; None if it cannot be identified."""
        return None

    def refresh(self) -> None:  # noqa: B027 - most sources have nothing to list
        """Give a new listing soon: records name something that was never announced."""

    def proceed(self) -> bool:
        """After the end: go on with the input that has taken the place of the one that ended, as
        the next file of a rotation; False: there is none.
        """
        return False

    # What all sources share

    def receive(self) -> bytes:
        """The next bytes, at least one; b"" at the end. Blocks; raises BackendError."""
        with self.use:
            while not self.closed:
                data = self._look()
                if data is not None:
                    self._held = None
                    return data
                if self.stopped:
                    break
                self._poll(self.tick_s)
            return b""

    def wait(self, timeout_s: float) -> bool:
        """Whether bytes, or the end, can be received within `timeout_s` seconds.

        They are received to find out, because a readable descriptor may have none, and kept.
        """
        deadline = time.monotonic() + timeout_s
        with self.use:
            while not self.closed and self._look() is None and not self.stopped:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._poll(left if self.tick_s is None else min(left, self.tick_s))
            return True

    def _look(self) -> bytes | None:
        if self._held is None:
            self.ends = ()
            self._held = self._receive()
        return self._held

    def pending(self) -> int:
        """How many more bytes can be received without waiting, as far as the system can say."""
        with self.use:
            return 0 if self.closed else len(self._held or b"") + self._pending()

    def flush(self) -> int | None:
        """Discard what the system holds: how many bytes; None when it has no such call."""
        with self.use:
            flushed = 0 if self.closed else self._flush()
            if flushed is not None:
                flushed += len(self._held or b"")
                self._held = None
            return flushed

    @property
    def queued(self) -> bool:
        """Whether `receive` has more to give than the descriptors show, as of a listing."""
        return False

    def wait_descriptors(self) -> list[int]:
        """The descriptors for a caller to poll: of the source, and one for `close` and `stop`."""
        return [*(() if self.regular else self._descriptors()), self._waker()]

    def sleep(self, timeout_s: float) -> None:
        """Sleep for so many seconds, or until `close` or `stop`."""
        with self.use:
            if not self.closed:
                readable([self._waker()], timeout_s)

    def stop(self) -> None:
        """End the reading: what the source has is still received, then b""."""
        self.stopped = True
        self._wake()

    def close(self) -> None:
        """Release the source; a second call does nothing. Wakes a thread that receives."""
        self.closed = True
        self._wake()
        if self.use.thread == threading.get_ident():
            return  # a signal handler within `receive`: `use` closes when that leaves
        if self.use.lock.acquire(timeout=CLOSE_PATIENCE_S):
            try:
                if not self._released:
                    self._released = True
                    self._release()
                    with self._pair_lock:
                        pair, self._pair = self._pair, None
                        for end in pair or ():
                            end.close()
            finally:
                self.use.lock.release()

    def _waker(self) -> int:
        if self._pair is None or self._pair_owner != os.getpid():  # a new pair after fork()
            self._pair, self._pair_owner = socket.socketpair(), os.getpid()
            for end in self._pair:
                end.setblocking(False)
            if self.closed or self.stopped:  # meanwhile
                self._wake()
        return self._pair[0].fileno()

    def _wake(self) -> None:
        # another thread that holds the lock wakes or closes: a signal handler must not wait for it
        if os.getpid() == self._pair_owner and self._pair_lock.acquire(blocking=False):
            try:
                if self._pair is not None:
                    with contextlib.suppress(BlockingIOError):  # it was woken often enough
                        self._pair[1].send(b"\0")
            finally:
                self._pair_lock.release()

    def _poll(self, timeout_s: float | None) -> bool:
        """Wait for the source, `close` or `stop`; whether the source is readable."""
        if not hasattr(select, "poll"):  # Windows: receiving waits
            return True
        return bool(readable(self.wait_descriptors(), timeout_s) - {self._waker()})


def readable(descriptors: Sequence[int], timeout_s: float | None) -> set[int]:
    """The descriptors that become readable, or fail, within the time (a day at most)."""
    if not hasattr(select, "poll"):  # Windows
        time.sleep(0.05 if timeout_s is None else max(0.0, min(0.05, timeout_s)))
        return set()
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    timeout = None if timeout_s is None else int(max(0.0, min(timeout_s, 86400.0)) * 1000 + 0.999)
    return {descriptor for descriptor, _ in poller.poll(timeout)}


def check_source(source: object) -> None:
    """TypeError for an object that cannot be a log; it names the type and never shows the value."""
    if isinstance(source, str) or hasattr(source, "read"):
        return
    if isinstance(source, os.PathLike) and isinstance(os.fspath(source), str):
        return
    kind = type(source).__name__
    in_memory = isinstance(source, bytes | bytearray | memoryview)
    hint = "; io.BytesIO makes a file object of bytes" if in_memory else ""
    raise TypeError(
        f"a log is a path (str or os.PathLike), NAME:ADDRESS or a binary file object, not {kind}"
        f"{hint}"
    )
