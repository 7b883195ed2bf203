"""The processes of stacks, as the receiver sees them: started, watched, started again, ended."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

import pylog
from pylog.notes import notes
from pylog.pipeline.channel import Channel, Counts
from pylog.pipeline.config import Source, Stack
from pylog.pipeline.growth import Growth
from pylog.pipeline.queues import StackQueue
from pylog.pipeline.worker import task_of

PAUSES_S = (0.5, 30.0)
"""The first and the longest pause before a process that ended by itself is started again."""
STEADY_S = 60.0
"""A process that ran so long may start again without a long pause."""
CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pylog.cli._worker import main;"
    " sys.exit(main(sys.argv[3:]))"
)


class Handle(Protocol):
    """What runs a stack: a process, or in tests a thread."""

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...


Spawn = Callable[[str, socket.socket, socket.socket | None], Handle]
"""Starts what runs a stack of a name, with its ends of the sockets, which it closes."""


def spawn(name: str, control: socket.socket, data: socket.socket | None) -> Handle:
    """Start a process, whose arguments in ps have the name of the stack."""
    own = [end for end in (control, data) if end is not None]
    root = str(Path(pylog.__file__).resolve().parents[1])
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", CODE, root, name, *(str(end.fileno()) for end in own)],
            pass_fds=[end.fileno() for end in own], stdin=subprocess.DEVNULL,
        )  # fmt: skip
    finally:
        for end in own:
            end.close()


class StackProcess:
    """A stack and its process.

    counts     what it reported last
    restarts   how often it ended by itself
    growth     of its queue
    waits_at   the place at which it waits for more of the journal; None: it does not wait
    stale      sources that it wants to list again what there is; the caller clears it
    ended      whether it is to end, and `done`: whether it has
    leaves_by  when it has to have ended, by the monotonic clock
    """

    def __init__(
        self, stack: Stack, sources: list[Source], journal: Path | None, queue_size: int,
        start: Spawn,
    ) -> None:  # fmt: skip
        self.stack, self._sources, self._journal = stack, sources, journal
        self._queue_size, self._spawn = queue_size, start
        self.counts = Counts()
        self._past = Counts()
        """What its processes that ended by themselves have done."""
        self.restarts = 0
        self.stale: set[str] = set()
        self.waits_at: int | None = None
        self.ended = self.done = False
        self.leaves_by = float("inf")
        self.until: int | None = None
        self.queue: StackQueue | None = None
        self.growth = Growth(0, time.monotonic())
        self.channel: Channel | None = None
        self._handle: Handle | None = None
        self._pause_s = PAUSES_S[0]
        self._again_at = 0.0
        self._started = 0.0
        self.status: int | None = None

    @property
    def totals(self) -> Counts:
        """What all its processes have done."""
        return self.counts.after(self._past)

    @property
    def is_live(self) -> bool:
        """Whether it has a live source."""
        return any(source.is_live for source in self._sources)

    @property
    def task(self) -> bytes:
        """What the process is to do, which is equal for a stack that has not changed."""
        return msgspec.json.encode(task_of(self.stack, self._sources, self._journal))

    def start(self) -> None:
        """Start the process, with a new queue if there is no journal; try again later if the system
        cannot.
        """
        self.waits_at, self.status = None, None
        self._started = time.monotonic()
        try:
            self._begin()
        except OSError as error:
            self._close()
            self._pause(f"its process cannot be started: {error.strerror}; trying again in")
            return
        assert self.channel is not None
        self.channel.send("config", task_of(self.stack, self._sources, self._journal))
        if self.ended:
            self.channel.send("end", self.until)

    def _begin(self) -> None:
        """Make the sockets and the process; OSError."""
        own, other = socket.socketpair()
        self.channel, data = Channel(own), None
        if self._journal is None and self.is_live:
            ours, data = socket.socketpair()
            with contextlib.suppress(OSError):
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            names = [source.name for source in self._sources]
            self.queue = StackQueue(ours, self._queue_size, names)
            self.growth = Growth(0, time.monotonic())
        self._handle = self._spawn(self.stack.name, other, data)

    def _pause(self, what: str) -> None:
        """Have a pause before the process is started again, longer each time."""
        notes.warning("stack %s: %s %g s", self.stack.name, what, self._pause_s)
        self._again_at = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSES_S[1])

    def listen(self) -> None:
        """Take the messages of the process."""
        if self.channel is None:
            return
        for kind, body in self.channel.receive():
            if kind == "waiting":
                self.waits_at = msgspec.json.decode(body, type=int)
            elif kind == "counts":
                self.counts = msgspec.json.decode(body, type=Counts)
            elif kind == "refresh":
                self.stale.add(msgspec.json.decode(body, type=str))
        if self.channel.unsent:
            self.channel.flush()

    def wake(self, end: int) -> None:
        """The journal has grown to that place."""
        if self.waits_at is not None and self.waits_at < end and self.channel is not None:
            self.waits_at = None
            self.channel.send("wake", end)

    def reopen(self) -> None:
        """Let it open its files again."""
        if self.channel is not None:
            self.channel.send("reopen", None)

    def end(self, until: int | None) -> None:
        """Let it deliver what is before a place, and end."""
        self.ended, self.until = True, until
        if self.queue is not None:
            self.queue.finish()
            self.until = self.queue.total
        if self.channel is not None:
            self.channel.send("end", self.until)

    def watch(self) -> bool:
        """See whether the process has ended; whether it is to be started again now."""
        if self._handle is not None and (status := self._handle.poll()) is not None:
            self.listen()
            self._handle = None
            self._close()
            self.status = status
            finished = self.counts.state in ("ended", "failed")
            if self.ended or finished:
                self.done = True
                return False
            self.restarts += 1
            self._past = self.totals
            self.counts = Counts(
                problem=f"its process ended with status {status}", place=self.counts.place,
                confirmed=self.counts.confirmed, observed_ns=self.counts.observed_ns,
            )  # fmt: skip
            if time.monotonic() - self._started >= STEADY_S:
                self._pause_s = PAUSES_S[0]
            self._pause(f"its process ended with status {status}; it starts again in")
        return self._handle is None and not self.done and time.monotonic() >= self._again_at

    def due_s(self) -> float | None:
        """In how many seconds it is to be started again; None: it runs, or is done."""
        if self._handle is not None or self.done:
            return None
        return max(0.0, self._again_at - time.monotonic())

    def kill(self) -> None:
        """End the process at once."""
        if self._handle is not None:
            self._handle.kill()
            self.done = True

    def _close(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self.queue is not None:
            self.queue.socket.close()
            self.queue.is_broken = True

    def close(self) -> None:
        """Release the sockets."""
        self._close()
