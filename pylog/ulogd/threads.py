"""The stacks of a live daemon at work, each on a thread of its own, behind a queue of the pipeline.

What the sources give comes through a `StackQueue`, as the process of a stack of `pylog run` gets
it. A stack whose output is slow fills its own queue; what then does not fit is lost to it alone,
and counted. Threads are enough, as outputs wait for disks and peers outside of Python's lock, and
they keep files and sockets that were opened before the daemon changed its user.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pylog.backends.base import readable
from pylog.decoder import LOT, Decoder
from pylog.formats import RawBatch
from pylog.origins import NOWHERE
from pylog.pipeline.channel import Channel
from pylog.pipeline.decoding import Decoding, Wanted
from pylog.pipeline.feeds import Lot, QueueFeed
from pylog.pipeline.parsing import Piece
from pylog.pipeline.queues import StackQueue
from pylog.record import LossRecord, PacketRecord, Record
from pylog.ulogd.build import Stack
from pylog.ulogd.daemon import Daemon
from pylog.ulogd.inputs import Input, Nfct, Nflog
from pylog.ulogd.views import Message
from pylog.ulogd.worker import View

FLUSH_S = 0.5
"""How often a stack writes what its outputs hold back."""
TOGETHER = 64
"""So many messages are taken from a decoder at once."""
LISTING = " listing"
"""What follows the id of a source in the name of the listing that SIGUSR2 asks for."""


class Given(NamedTuple):
    """What one source gave: records, and messages that no record is needed of."""

    source: str
    items: Sequence[Record | RawBatch]


class Undecoded(Decoding):
    """Gives the messages of NFLOG with their numbers checked, but not decoded."""

    def taken(self, decoder: Decoder) -> list[Any]:
        decoder.lot = 1 if decoder.stream.gives_raw else LOT
        items: list[Any] = []
        while True:
            item = decoder.raw_batch(TOGETHER) or decoder.next()
            if item is None:
                return items
            items.append(item)

    def take(self, piece: Piece) -> list[Any]:
        return [Given(piece.info.name, items)] if (items := super().take(piece)) else []


class StackThread:
    """A stack with its queue and its thread.

    queue     what the receiver puts its blocks into
    failure   what has ended the thread before its time
    """

    def __init__(
        self, daemon: Daemon, stack: Stack, sources: Mapping[str, Input], limit: int,
        has_failed: Callable[[], None],
    ) -> None:  # fmt: skip
        """
        sources      what the stack reads, by their ids; their state is this stack's
        limit        the most bytes that wait
        has_failed   called when there is a failure
        """
        self._daemon, self.stack, self._sources = daemon, stack, sources
        self._has_failed = has_failed
        names = [*sources, *(name + LISTING for name in sources)]
        ours, self._data = socket.socketpair()
        own, other = socket.socketpair()
        self.queue = StackQueue(ours, limit, names)
        self.channel, self._listens = Channel(own), Channel(other)
        wanted = {name: Wanted(NOWHERE) for name in names}
        raw = any(isinstance(source, Nflog) for source in sources.values())
        self._feed = QueueFeed(self._data, Undecoded(wanted, raw=raw), names)
        self._lock = threading.Lock()
        self._flush_s = 0.0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin with the work."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def run(self, name: str, view: View) -> None:
        """Run what a source gives that has no queue, on the thread of the caller."""
        with self._lock:
            self._daemon.run(self.stack, self._sources[name], view)

    def end(self) -> None:
        """Nothing more comes: what was put into the queue is the last."""
        with contextlib.suppress(OSError):
            self.queue.socket.shutdown(socket.SHUT_WR)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    def close(self) -> None:
        """Release the sockets."""
        self.channel.close()
        self.queue.socket.close()
        if not self._thread.is_alive():
            self._listens.close()
            self._data.close()

    def _run(self) -> None:
        try:
            while not self._feed.ended:
                lot = self._feed.read()
                with self._lock:
                    for kind, _ in self._listens.receive():
                        if kind == "reopen":
                            self._daemon.reopen(self.stack)
                    if lot is not None:
                        self._take(lot)
                    if time.monotonic() >= self._flush_s:
                        self._daemon.flush(self.stack)
                        self._flush_s = time.monotonic() + FLUSH_S
                if lot is None:
                    readable([self._data.fileno(), self._listens.fileno()], FLUSH_S)
        except BaseException as error:
            self.failure = error
            self._has_failed()

    def _take(self, lot: Lot) -> None:
        """Run what came through the stack."""
        given: Any
        for given in lot.records:
            name = given.source.removesuffix(LISTING)
            source, is_listing = self._sources[name], given.source.endswith(LISTING)
            for item in given.items:
                if isinstance(item, RawBatch):
                    assert isinstance(source, Nflog)
                    self._take_messages(source, item)
                elif isinstance(item, LossRecord):
                    self.stack.miss(item, self._daemon.log)
                elif view := self._view(source, item, is_listing):
                    self._daemon.run(self.stack, source, view)

    @staticmethod
    def _view(source: Input, record: Record, is_listing: bool) -> View | None:
        if is_listing and isinstance(source, Nfct):
            return source.dumped(record)
        return source.view(record)

    def _take_messages(self, source: Nflog, batch: RawBatch) -> None:
        clock_us, label, order = source.surroundings.clock_us(), source.label, batch.order
        run, stack = self._daemon.run, self.stack
        template: PacketRecord
        for template, data in zip(batch.templates, batch.packets, strict=True):
            message = Message(data, order, clock_us, label, template.indev, template.outdev)
            run(stack, source, message)
