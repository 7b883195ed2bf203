"""Receives from the live sources, and passes what came on, as it is: to the journal or the queues.

An intake is one open backend. A source that fails is closed and opened again after a pause; what it
missed meanwhile is reported as a loss. What the system reports as lost, and no sequence number will
show, is a loss in its place as well.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from pylog.backends.base import Backend
from pylog.errors import BackendError, DecodeError
from pylog.notes import notes
from pylog.pipeline import authors
from pylog.pipeline.blocks import (
    Packer,
    SourceInfo,
    declaration,
    loss_block,
    name_comments,
    section,
)
from pylog.pipeline.config import Source
from pylog.pipeline.intake import Intake, Interface, Totals
from pylog.pipeline.journal import Journal
from pylog.pipeline.queues import StackQueue
from pylog.record import rfc3339

MOST_RECEIPTS = 64
"""A source that has much is received from so often before the next one has its turn."""
PAUSES_S = (1.0, 30.0)
"""The first and the longest pause before a source that failed is opened again."""
FULL = "the disk was full: {} bytes were not written to the journal"
"""The loss of what the journal had no room for."""


Connect = Callable[[str, Mapping[str, Any]], list[Backend]]
"""Opens the backends of a source: backends.connect."""


class Receiver:
    """The live sources, and what receives from them.

    intakes   that are open
    failed    by the name of the source, why it is not open
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self.journal: Journal | None = None
        self.queues: list[StackQueue] = []
        self.intakes: list[Intake] = []
        self.failed: dict[str, str] = {}
        self._retries: dict[str, tuple[Source, float, float, str]] = {}
        """By the name of a source that failed: when to open it again, the next pause, and since
        when it is closed."""
        self._infos: list[SourceInfo] = []
        self._past: dict[str, Totals] = {}
        """What was received by intakes that are closed, by the name of the source."""

    # Sources

    def open(self, source: Source, gap: str | None = None) -> None:
        """Open a source. Raises BackendError, ValueError.

        gap   why records before this are missing; None: none are
        """
        for part, backend in enumerate(self._connect(source.address, source.options)):
            intake = Intake(source, part, backend)
            if gap is not None:
                intake.miss(gap)
            self.intakes.append(intake)
        self.failed.pop(source.name, None)

    def close(self, names: Iterable[str]) -> None:
        """Close sources."""
        for name in list(names):
            self._retries.pop(name, None)
            self.failed.pop(name, None)
            for intake in [i for i in self.intakes if i.source.name == name]:
                self.intakes.remove(intake)
                self._past.setdefault(name, Totals()).add(intake.totals)
                intake.backend.close()

    def totals(self, name: str) -> Totals:
        """What was received of a source since the pipeline began."""
        made = Totals()
        for each in [self._past.get(name), *(i.totals for i in list(self.intakes)
                                             if i.source.name == name)]:  # fmt: skip
            if each is not None:
                made.add(each)
        return made

    def begin_section(self) -> None:
        """Begin a section with the sources that are open now, everywhere. BackendError."""
        self._number()
        written = self.journal is None or self.journal.rotate()
        for queue in self.queues:
            queue.begin(self._infos)
        if written:
            self._have_begun()

    def renew_section(self) -> None:
        """As `begin_section`; sources fail if the journal cannot be written."""
        try:
            self.begin_section()
        except BackendError as error:
            for source in {i.source.name: i.source for i in self.intakes}.values():
                self._lose(source, str(error))

    def _have_begun(self) -> None:
        """A section has begun: give what was lost before it."""
        for intake in self.intakes:
            self._give_gaps(intake)
            if intake.info is not None:
                intake.info.begun = False

    def begin_queue(self, queue: StackQueue) -> None:
        """Begin the section of a queue that is new."""
        self.queues.append(queue)
        queue.begin(self._infos)
        for intake in self.intakes:
            if intake.info is not None and queue.wants(intake.info):
                intake.names_given = -1

    def header(self) -> bytes:
        """What a segment of the journal begins with."""
        self._number()
        return section(self._infos)

    def _number(self) -> None:
        """Number the interfaces anew, and give their names again."""
        self._infos = []
        for intake in self.intakes:
            intake.names_given = -1
            if intake.info is not None:
                for namespace in list(intake.interfaces) or [None]:
                    self._add(intake, intake.info, namespace)

    def _add(self, intake: Intake, info: SourceInfo, namespace: str | int | None) -> Interface:
        """Add an interface to the section; another namespace is one more of the same source."""
        if namespace is not None:
            info = msgspec.structs.replace(info, netns=namespace, begun=False)
        number = len(self._infos)
        self._infos.append(info)
        made = intake.interfaces[namespace] = Interface(number, info, Packer(number, info))
        return made

    def _declare(self, intake: Intake, namespace: str | int | None) -> Interface:
        """Add an interface within a section: its layout was detected, or its namespace is new."""
        assert intake.info is not None
        if not intake.interfaces and namespace is not None:
            self._declare(intake, None)
        made = self._add(intake, intake.info, namespace)
        block = declaration(made.info)
        if not self._write(block):
            assert self.journal is not None
            self.journal.abandon()  # nobody could decode what follows
            return made
        for queue in self.queues:
            queue.declare(self._infos, block)
        self._give_gaps(intake)
        intake.info.begun = False
        return made

    # Receiving

    def take(self, intake: Intake) -> bool:
        """Receive from a source that has something, and pass it on; whether it goes on.

        That is once, and as often again as the source has more than its descriptors show.
        """
        for _ in range(MOST_RECEIPTS):
            if not self._take_once(intake):
                return False
            if not intake.backend.queued:
                break
        return True

    def _take_once(self, intake: Intake) -> bool:
        start = time.thread_time()
        try:
            if not intake.backend.wait(0.0):
                return True
            data = intake.backend.receive()
            if not data:
                self._lose(intake.source, "it has ended")
                return False
            ends = intake.backend.ends
            if intake.info is None:
                data, ends = intake.detect(data), ()
                if not data:
                    return True
            self._pass_on(intake, data, ends)
            self._pass_on_overrun(intake)
        except (BackendError, DecodeError) as error:
            self._lose(intake.source, str(error))
            return False
        finally:
            intake.totals.cpu_s += time.thread_time() - start
        return True

    def _pass_on(self, intake: Intake, data: bytes, ends: Sequence[int]) -> None:
        observed_ns = time.time_ns()
        intake.totals.receipts += 1
        intake.totals.bytes += len(data)
        journal = self.journal
        if journal is not None and journal.ready():
            self._have_begun()
            for other in self.intakes:
                other.backend.refresh()
        namespace = intake.backend.namespace
        interface = intake.interfaces.get(namespace) or self._declare(intake, namespace)
        version, names = intake.backend.interface_names()
        comments: Sequence[bytes] = ()
        if version != intake.names_given:
            comments, intake.names_given = name_comments(names), version
        if intake.knows_processes:
            comments = [*comments, *authors.comments(authors.authors(data, intake.backend.process))]
        if intake.gaps or intake.unwritten:
            self._give_gaps(intake)
        parts = interface.packer.packed(data, ends, observed_ns, comments)
        if journal is not None:
            lost = journal.append(parts)
            if lost:
                intake.unwritten += lost
                intake.names_given = -1
            return
        block: bytes | None = None
        for queue in self.queues:
            if queue.wants(interface.info):
                block = b"".join(parts) if block is None else block
                queue.put(interface.number, block)

    def _pass_on_overrun(self, intake: Intake) -> None:
        backend = intake.backend
        if backend.overrun is None:
            return
        reason, count = backend.overrun, backend.lost
        backend.overrun = backend.lost = None
        intake.totals.overruns += 1
        shown = backend.numbered and backend.accountable
        if not shown and not self._put_loss(intake, reason, count):
            intake.miss(reason, count)

    def _give_gaps(self, intake: Intake) -> None:
        """Write the losses before the next record of a source, if there are any."""
        if not intake.interfaces:
            return
        gaps, intake.gaps = intake.gaps, {}
        if intake.unwritten:
            size, intake.unwritten = intake.unwritten, 0
            if not self._put_loss(intake, FULL.format(size)):
                intake.gaps, intake.unwritten = gaps, size
                return
        for reason, count in gaps.items():
            if not self._put_loss(intake, reason, count):
                intake.miss(reason, count)

    def put_loss_of(self, queue: StackQueue, reason: str) -> None:
        """Give one stack a loss of all its sources."""
        for intake in self.intakes:
            if intake.info is not None and intake.interfaces and queue.wants(intake.info):
                queue.put_loss(loss_block(intake.number, intake.info, reason))

    def _put_loss(self, intake: Intake, reason: str, count: int | None = None) -> bool:
        """Write a loss; False if the disk is full."""
        assert intake.info is not None
        block = loss_block(intake.number, intake.info, reason, count=count)
        if not self._write(block):
            return False
        for queue in self.queues:
            if queue.wants(intake.info):
                queue.put_loss(block)
        return True

    def _write(self, block: bytes) -> bool:
        """Write a block to the journal, if there is one; False if the disk is full."""
        lost = 0 if self.journal is None else self.journal.append([block])
        if self.journal is not None:
            self.journal.unwritten -= lost  # it counts what was received, and nothing else
        return not lost

    # Failures

    def _lose(self, source: Source, problem: str) -> None:
        """A source failed: close it, and open it again later."""
        self.close([source.name])
        self.fail(source, problem)

    def fail(self, source: Source, problem: str) -> None:
        """A source could not be opened or read: try again later."""
        notes.warning("%s: %s; it is opened again", source.name, problem)
        self.failed[source.name] = problem
        pause_s = PAUSES_S[0]
        self._retries[source.name] = (source, time.monotonic() + pause_s, pause_s,
                                      rfc3339(time.time_ns()))  # fmt: skip

    def due_s(self) -> float | None:
        """In how many seconds something is to be done without a descriptor; None: nothing is."""
        now = time.monotonic()
        due = [at - now for _, at, _, _ in self._retries.values()]
        due += [i.backend.tick_s for i in self.intakes if i.backend.tick_s is not None]
        due += [0.0 for intake in self.intakes if intake.backend.queued]
        return max(0.0, min(due)) if due else None

    def refresh(self, name: str) -> None:
        """Let a source list again what there is; a stack has seen what was never announced."""
        for intake in self.intakes:
            if intake.source.name == name:
                intake.backend.refresh()

    def retry(self) -> bool:
        """Open sources that failed, if it is time; whether one was opened."""
        opened = False
        for name, (source, at, pause_s, since) in list(self._retries.items()):
            if time.monotonic() < at:
                continue
            try:
                self.open(
                    source, f"the source was closed from {since} to {rfc3339(time.time_ns())}"
                )
            except (BackendError, ValueError) as error:
                self.failed[name] = str(error)
                pause_s = min(2 * pause_s, PAUSES_S[1])
                self._retries[name] = (source, time.monotonic() + pause_s, pause_s, since)
                continue
            del self._retries[name]
            notes.warning("%s: it is open again", name)
            opened = True
        if opened:
            self.renew_section()
        return opened

    def stop(self, deadline: float) -> None:
        """Stop all sources and pass on what they still have, until the deadline; then close."""
        for intake in self.intakes:
            intake.backend.stop()
        for intake in list(self.intakes):
            with contextlib.suppress(BackendError, DecodeError):
                while time.monotonic() < deadline and (data := intake.backend.receive()):
                    ends = intake.backend.ends
                    if intake.info is None:
                        data, ends = intake.detect(data), ()
                    if data:
                        self._pass_on(intake, data, ends)
                        self._pass_on_overrun(intake)
        self.close({intake.source.name for intake in self.intakes})
