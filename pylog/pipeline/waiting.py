"""Waits for descriptors, each with what is to be done when it is ready.

The descriptors of a pipeline change seldom, and the loop asks before each wait. So they stay
registered as long as they are the same.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Act(NamedTuple):
    """What to do when a descriptor is ready.

    events   READ, WRITE or both
    key      what is the same as long as the act is
    """

    events: int
    key: object
    act: Callable[[], object]


class Waiting:
    """Waits for descriptors, and for `wake`, which any thread and signal handler may call."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._registered: dict[int, tuple[int, object]] = {}
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)
        self._selector.register(self._ends[0], READ, self._drain)

    @property
    def waker(self) -> int:
        """The descriptor that wakes when something is written to it, for signal.set_wakeup_fd."""
        return self._ends[1].fileno()

    def wake(self) -> None:
        """Let `wait` return."""
        with contextlib.suppress(OSError):
            self._ends[1].send(b"\0")

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            while self._ends[0].recv(4096):
                pass

    def wait(self, wanted: Mapping[int, Act], timeout_s: float) -> None:
        """Wait until one of the descriptors is ready, or it is time, and act."""
        self._register(wanted)
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def _register(self, wanted: Mapping[int, Act]) -> None:
        now = {descriptor: (act.events, act.key) for descriptor, act in wanted.items()}
        if now == self._registered:
            return
        for descriptor, before in list(self._registered.items()):
            if now.get(descriptor) != before:
                with contextlib.suppress(KeyError, ValueError, OSError):
                    self._selector.unregister(descriptor)
        for descriptor, act in wanted.items():
            if self._registered.get(descriptor) != now[descriptor]:
                # a descriptor that was closed and opened again is registered under its old number
                with contextlib.suppress(KeyError, ValueError, OSError):
                    self._selector.unregister(descriptor)
                with contextlib.suppress(ValueError, OSError):
                    self._selector.register(descriptor, act.events, act.act)
        self._registered = now

    def close(self) -> None:
        """Release everything."""
        self._selector.close()
        for end in self._ends:
            end.close()
