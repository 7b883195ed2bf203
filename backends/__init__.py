"""Backends: where the bytes of a log come from. I/O only, one module a source.

A backend understands no byte of a log; it gives them in the order in which they came, and owns the
system calls and their errors. A backend module gives (BackendModule below)

    NAME       what the command line calls it; no other module has it
    HELP       one line: what it reads
    OPTIONS    its options, a tuple of Option
    connect    (address, options) -> list of Backend, one for each log that the address names
    sources    () -> list of Source: what of it this machine has
    checks     () -> list of Check: whether it would work here

and is found by its file, or by an entry point of another distribution (group `pylog.sources`). A
source is NAME:ADDRESS; whatever has no such name before a colon is a path, which the module
`capture` reads.
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
from functools import cache
from typing import Any, BinaryIO, NamedTuple, Protocol

from pylog import discover
from pylog.errors import DecodeError
from pylog.notes import notes
from pylog.options import Option, resolve

HOST_ORDER = "<" if sys.byteorder == "little" else ">"
"""The byte order of this machine, in which its kernel writes."""

CLOSE_PATIENCE_S = 2.0
"""How long `close` waits for a reading thread to let go; it is woken, so this is not used up."""


class Source(NamedTuple):
    """A source that there is, or is not, on this machine: `problem` says why not."""

    source: str
    text: str
    problem: str | None = None


class Check(NamedTuple):
    """One thing that was looked at: `ok` None is a remark, False means that it will not work."""

    ok: bool | None
    text: str


class _Use:
    """A context in which the thread uses the descriptors; `close` is done at its end at last.

    RuntimeError while it is in use, by whichever thread: that might be for ever. While a coroutine
    only waits (`idle`), others of its thread may use it.
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
            self.lock.acquire()  # `close` is at work
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
    live      the bytes are of now: there is no place in an input to tell
    message_aligned   what `receive` gives ends with a complete message
    regular   it is all there: receiving never waits
    deferred  it may give nothing for long: what it is is found out by its first bytes, not before
    layout    the layout of the bytes, where the source cannot but have it
    size      the size of the whole source in its own bytes (compressed ones), None if unknown
    failure   set when the source ended in an error that is no fault of the system: a compressed
              file that is damaged or cut off
    overrun   set when the system said that it lost something, but not how much: among what is
              received next, or after it; whoever tells it sets it to None
    numbered  every record has a number
    logs      the logs that may have lost something then, as records name them (`log`), and the
              number that each one's first record has
    tick_s    how often to ask again where the system does not wake whoever waits

    One thread at a time may receive; `close` and `stop` may come from any other and from a signal
    handler, and wake it.
    """

    live = False
    message_aligned = False
    regular = False
    deferred = False
    layout: str | None = None
    size: int | None = None
    failure: DecodeError | None = None
    overrun: str | None = None
    numbered = False
    logs: Mapping[str, int] = {}
    tick_s: float | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False
        self.stopped = False
        self.use = _Use(self)
        self._released = False
        self._owner = os.getpid()
        self._pair: tuple[socket.socket, socket.socket] | None = None  # to wake whoever waits
        self._pair_owner = self._owner
        self._pair_lock = threading.Lock()
        self._held: bytes | None = None  # received, but not given yet

    # What a source has to say

    @abstractmethod
    def _receive(self) -> bytes | None:
        """The next bytes, b"" at the end, None while there are none; BackendError."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the source; called once."""

    @abstractmethod
    def fileno(self) -> int:
        """The source's descriptor; OSError or ValueError when it has none."""

    @abstractmethod
    def _pending(self) -> int:
        """How many more bytes can be received without waiting, as far as the system tells."""

    def _descriptors(self) -> list[int]:
        """The descriptors that become readable when there may be something to receive."""
        return [self.fileno()]

    def _flush(self) -> int | None:
        """Let the system discard what it holds: how many bytes; None when it has no such call."""
        return None

    def position(self) -> int:
        """How much of `size` has been received."""
        return 0

    def interface_name(self, index: int) -> str | int:
        """The name of the interface of that number; the number where there is no name for it."""
        return index

    # What is the same for all

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
        """Whether there is something to receive, or the end, within `timeout_s` seconds.

        It is received to find that out: that a descriptor is readable does not say it.
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
            self._held = self._receive()
        return self._held

    def pending(self) -> int:
        """How many more bytes can be received without waiting, as far as the system tells."""
        with self.use:
            return 0 if self.closed else len(self._held or b"") + self._pending()

    def flush(self) -> int | None:
        """Let the system discard what it holds: how many bytes; None when it has no such call."""
        with self.use:
            flushed = 0 if self.closed else self._flush()
            if flushed is not None:
                flushed += len(self._held or b"")
                self._held = None
            return flushed

    def wait_descriptors(self) -> list[int]:
        """Those to wait on from outside: of the source, and one for `close` and `stop`."""
        return [*(() if self.regular else self._descriptors()), self._waker()]

    def sleep(self, timeout_s: float) -> None:
        """Do nothing for so many seconds, or until `close` or `stop`."""
        with self.use:
            if not self.closed:
                readable([self._waker()], timeout_s)

    def stop(self) -> None:
        """Ask for the end: what the source has is still received, then b""."""
        self.stopped = True
        self._wake()

    def close(self) -> None:
        """Let go of the source; a second call does nothing. Wakes a thread that receives."""
        self.closed = True
        self._wake()
        if self.use.thread == threading.get_ident():
            return  # called by a signal handler within `receive`, which does it when it leaves
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
        if self._pair is None or self._pair_owner != os.getpid():  # one of its own after fork()
            self._pair, self._pair_owner = socket.socketpair(), os.getpid()
            for end in self._pair:
                end.setblocking(False)
            if self.closed or self.stopped:  # meanwhile
                self._wake()
        return self._pair[0].fileno()

    def _wake(self) -> None:
        # whoever has the lock wakes just now, or closes: a signal handler must not wait for it
        if os.getpid() == self._pair_owner and self._pair_lock.acquire(blocking=False):
            try:
                if self._pair is not None:
                    with contextlib.suppress(BlockingIOError):  # it was woken often enough
                        self._pair[1].send(b"\0")
            finally:
                self._pair_lock.release()

    def _poll(self, timeout_s: float | None) -> bool:
        """Wait for the descriptors, `close` or `stop`; whether a descriptor is readable."""
        if not hasattr(select, "poll"):  # Windows: receiving waits
            return True
        return bool(readable(self.wait_descriptors(), timeout_s) - {self._waker()})


def readable(descriptors: Sequence[int], timeout_s: float | None) -> set[int]:
    """Those of the descriptors that become readable, or fail, within the time (a day at most)."""
    if not hasattr(select, "poll"):  # Windows
        time.sleep(0.05 if timeout_s is None else max(0.0, min(0.05, timeout_s)))
        return set()
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    timeout = None if timeout_s is None else int(max(0.0, min(timeout_s, 86400.0)) * 1000 + 0.999)
    return {descriptor for descriptor, _ in poller.poll(timeout)}


class BackendModule(Protocol):
    """What a backend module gives."""

    NAME: str
    HELP: str
    OPTIONS: tuple[Option, ...]

    def connect(self, address: Any, options: Mapping[str, Any]) -> list[Backend]: ...

    def sources(self) -> list[Source]: ...

    def checks(self) -> list[Check]: ...


@cache
def _collected() -> discover.Collected:
    found = discover.collect(
        "pylog.sources", __name__, __path__, "connect",
        lambda module: discover.lacking(module, BackendModule),
    )  # fmt: skip
    for problem in found.problems.values():
        notes.warning("%s", problem)
    return found


@cache
def modules() -> dict[str, BackendModule]:
    """The backend modules by NAME; ValueError when one is incomplete, or two have one name."""
    found = _collected().modules
    return discover.claimed("source name", ((module.NAME, module) for module in found))


def named(source: object) -> tuple[str, str] | None:
    """The backend's name and the address of NAME:ADDRESS; None for a path or file object.

    ValueError for a name whose module cannot be used.
    """
    if not isinstance(source, str):
        return None
    name, colon, address = source.partition(":")
    if colon and name not in modules() and name in _collected().problems:
        raise ValueError(_collected().problems[name])
    return (name, address) if colon and name in modules() else None


def is_live(source: object) -> bool:
    """Whether it is a NAME:ADDRESS of something other than a file."""
    name = named(source)
    return name is not None and name[0] != "capture"


def check_source(source: object) -> None:
    """TypeError for what can be no log: it names the type, and never shows the value."""
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


def connect(source: str | os.PathLike[str] | BinaryIO, options: Mapping[str, Any]) -> list[Backend]:
    """The backends of a source: NAME:ADDRESS, a path, "-" or a binary file object.

    Raises ValueError for an address or option that makes no sense, BackendError when the system
    refuses, BackendUnavailable when it has no such source.
    """
    check_source(source)
    name, address = named(source) or ("capture", source)
    module = _module(name)
    return module.connect(address, resolve(name, module.OPTIONS, options))


def shared(sources: Sequence[object], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The options for each of several sources: those it has; ValueError for what none has.

    TypeError for what can be no source.
    """
    for source in sources:
        check_source(source)
    names = [(named(source) or ("capture", ""))[0] for source in sources]
    known = [{option.name for option in _module(name).OPTIONS} for name in names]
    for key in options:
        if not any(key in own for own in known):
            raise ValueError(f"no source here has an option {key}")
    return [{key: v for key, v in options.items() if key in own} for own in known]


def _module(name: str) -> BackendModule:
    if name == "capture":  # files need no other backend to be imported
        from pylog.backends import capture

        return capture
    return modules()[name]
