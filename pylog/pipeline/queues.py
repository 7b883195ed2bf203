"""The queue of a stack, where there is no journal: blocks that wait for the process of the stack.

It has a limit. What does not fit is dropped and counted, and the stack gets a loss in its place
when there is room again. Nothing here ever waits.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Collection, Sequence

from pylog.pipeline.blocks import SourceInfo, loss_block, section

HEADROOM = 1 << 16
"""Bytes of the limit that are for losses and interfaces. A smaller limit holds one block."""


class StackQueue:
    """A queue.

    waiting   bytes that wait
    total     bytes that were put and not dropped: the place after the last block
    dropped   bytes that were dropped so far
    """

    def __init__(self, connected: socket.socket, limit: int, sources: Collection[str]) -> None:
        self.socket = connected
        self.socket.setblocking(False)
        self._limit, self._sources = limit, sources
        self._blocks: deque[bytes] = deque()
        self._offset = 0
        """How much of the first block was sent."""
        self.waiting = self.total = self.dropped = 0
        self.is_broken = False
        self._lost: dict[int, int] = {}
        """Bytes dropped since the last loss, by the number of the interface."""
        self._infos: Sequence[SourceInfo] = ()

    def begin(self, infos: Sequence[SourceInfo]) -> None:
        """A section begins with these interfaces; the losses of the one before come first."""
        self._give_losses()
        self._infos = infos
        self._lost.clear()
        self._add(section(infos))

    def declare(self, infos: Sequence[SourceInfo], block: bytes) -> None:
        """The last of these interfaces is new."""
        self._infos = infos
        self._add(block)

    def wants(self, info: SourceInfo) -> bool:
        """Whether the stack gets what that source gives."""
        return info.name in self._sources

    def put(self, number: int, block: bytes) -> None:
        """Add packets of an interface, or count them as dropped."""
        most = max(0, self._limit - HEADROOM - len(block))
        if self.waiting > most:
            self.pump()
        if self.waiting > most:
            self._lost[number] = self._lost.get(number, 0) + len(block)
            self.dropped += len(block)
            return
        self._give_losses()
        self._add(block)

    def put_loss(self, block: bytes) -> None:
        """Add a loss that the receiver has seen."""
        self._give_losses()
        self._add(block)

    def _give_losses(self) -> None:
        lost, self._lost = self._lost, {}
        for number, size in lost.items():
            reason = f"the queue of the stack was full: {size} bytes were dropped"
            self._add(loss_block(number, self._infos[number], reason, None))

    def _add(self, block: bytes) -> None:
        if self.is_broken:
            self.dropped += len(block)
            return
        self._blocks.append(block)
        self.waiting += len(block)
        self.total += len(block)
        self.pump()

    def finish(self) -> None:
        """Nothing more comes: give the losses that are not given yet."""
        self._give_losses()

    def pump(self) -> None:
        """Send what fits."""
        try:
            while self._blocks:
                block = self._blocks[0]
                sent = self.socket.send(memoryview(block)[self._offset :])
                self.waiting -= sent
                self._offset += sent
                if self._offset < len(block):
                    return
                self._blocks.popleft()
                self._offset = 0
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.is_broken = True
            self.dropped += self.waiting
            self._blocks.clear()
            self.waiting = self._offset = 0
