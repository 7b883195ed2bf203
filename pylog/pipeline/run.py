"""`pylog run`: one loop that receives and passes on, watches the stacks, and does what it is asked.

The loop waits for sources, for the sockets of stacks, for `pylog status` and for signals. It never
waits for a stack. SIGTERM and SIGINT end it in order: the sources are stopped, and what was
received is delivered within the time `drain`. SIGHUP reads the configuration again: sources and
stacks that have not changed go on, and open their files again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from pylog import backends
from pylog.errors import BackendError
from pylog.notes import notes
from pylog.pipeline import config, processes, reporting
from pylog.pipeline.config import Pipeline, Source, Stack
from pylog.pipeline.growth import Growth
from pylog.pipeline.intake import Intake
from pylog.pipeline.journal import Journal
from pylog.pipeline.journal_reader import JournalReader
from pylog.pipeline.notify import Events
from pylog.pipeline.parsing import Piece
from pylog.pipeline.positions import Position, PositionFile
from pylog.pipeline.processes import Spawn, StackProcess
from pylog.pipeline.receiver import Connect, Receiver
from pylog.pipeline.segments import segments
from pylog.pipeline.signals import handling
from pylog.pipeline.start import start_ns
from pylog.pipeline.waiting import READ, WRITE, Act, Waiting
from pylog.record import rfc3339

TICK_S = 1.0
"""How often the loop looks at everything."""


class Run:
    """A pipeline that runs.

    pipeline   its configuration
    receiver   of its live sources
    stacks     by name
    started    when, in seconds since 1970
    growth     of the journal since it was opened
    metrics    HOST:PORT where they are served; None: nowhere
    beat_at    when the loop went round last, by the monotonic clock
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        reload: Callable[[], Pipeline] | None = None,
        connect: Connect = backends.connect,
        spawn: Spawn = processes.spawn,
        events: Events | None = None,
    ) -> None:
        """
        reload   reads the configuration again; None: from its file
        """
        self.pipeline = pipeline
        self._reload = reload or (lambda: config.load(pipeline.path))
        self._spawn = spawn
        self._events = events or Events()
        self.receiver = Receiver(connect)
        self.stacks: dict[str, StackProcess] = {}
        self._leaving: list[StackProcess] = []
        """Stacks that were changed or removed, and end."""
        self.started = time.time()
        self.metrics: str | None = None
        self.beat_at = time.monotonic()
        self._waiting = Waiting()
        self._wanted_stop = self._wanted_reload = False
        self._stops = 0
        """How often `stop` was called: at the second time the end does not wait."""
        self._status = 0
        self._reporting: reporting.Reporting | None = None
        self.growth = Growth(0, time.monotonic())

    # What others may call, from any thread

    def stop(self) -> None:
        """End in order; called again, end at once."""
        self._wanted_stop = True
        self._stops += 1
        self._waiting.wake()

    def reload(self) -> None:
        """Read the configuration again."""
        self._wanted_reload = True
        self._waiting.wake()

    # The loop

    def run(self) -> int:
        """Run until the end: the exit status. Raises BackendError, ValueError when it cannot begin.

        0 if all was delivered, or waits in the journal; 1 if something was not.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._close)
            stack.enter_context(handling(self.stop, self.reload, self._waiting.waker))
            self._begin()
            self._reporting = stack.enter_context(reporting.Reporting(self))
            if self.pipeline.settings.metrics is not None:
                from pylog.pipeline.http import serve  # needs the extra

                self.metrics, end = serve(self, *self.pipeline.settings.metrics)
                stack.callback(end)
            self._events.ready()
            while not self._wanted_stop and not self._is_done():
                self._round(min(TICK_S, self._events.period_s or TICK_S))
                if self._wanted_reload:
                    self._wanted_reload = False
                    self._load_again()
            self._events.stopping(self.pipeline.settings.drain)
            self._end()
        return self._status

    def _begin(self) -> None:
        settings = self.pipeline.settings
        live = [source for source in _used(self.pipeline) if source.is_live]
        since: str | None = None
        before: set[str] = set()
        if settings.journal is not None and live:
            journal = self.receiver.journal = Journal(
                settings.journal,
                segment_size=settings.segment_size,
                size=settings.journal_size,
                age_s=settings.journal_age,
                header=self.receiver.header,
            )
            self.growth = Growth(journal.end, time.monotonic())
            if journal.last_ns is not None:
                since = rfc3339(journal.last_ns)
                before = _sources_of(settings.journal)
            self._place_new_stacks(self.pipeline.stacks, journal)
        for source in live:
            gap = None
            if since is not None and source.name in before:
                now = rfc3339(time.time_ns())
                gap = f"pylog did not run from {since} to {now}"
                gap += "; the clock was set back" if now < since else ""
            self.receiver.open(source, gap)
        for made in self.pipeline.stacks:
            self._start(made)
        if live:
            self.receiver.begin_section()
            self._take_undescribed()  # a ruleset and flows come before packets

    def _place_new_stacks(self, stacks: Sequence[Stack], journal: Journal) -> None:
        """Give a position to each stack that has none."""
        for stack in stacks:
            file = PositionFile(journal.folder, stack.name)
            if file.read() is not None:
                continue
            place = journal.end
            reader = JournalReader(journal.folder)
            if stack.start == "oldest":
                place = reader.first()
            elif (time_ns := start_ns(stack.start)) is not None:
                place = reader.place_of(time_ns)
            file.write(str(Position(journal.id, place)))

    def _start(self, stack: Stack) -> None:
        settings = self.pipeline.settings
        sources = [self.pipeline.sources[name] for name in stack.sources]
        journal = settings.journal
        made = StackProcess(stack, sources, journal, settings.queue, self._spawn)
        self.stacks[stack.name] = made
        self._launch(made)

    def _launch(self, made: StackProcess) -> None:
        lost = 0
        if made.queue is not None:
            self.receiver.queues.remove(made.queue)
            lost = made.queue.total - made.counts.confirmed
        made.start()
        if made.queue is not None:
            self.receiver.begin_queue(made.queue)
            if lost > 0:
                self.receiver.put_loss_of(
                    made.queue, f"the process of the stack ended: {lost} bytes were not delivered"
                )

    def _is_done(self) -> bool:
        """Whether every stack has ended by itself, because its sources are files."""
        return all(stack.done for stack in self.stacks.values()) and not self._leaving

    def _round(self, longest_s: float) -> None:
        """Wait until something is to be done, and do it."""
        receiver = self.receiver
        due = [longest_s, receiver.due_s(), *(s.due_s() for s in self._every())]
        self._waiting.wait(self._acts(), min(d for d in due if d is not None))
        self._take_undescribed()
        receiver.retry()
        if receiver.journal is not None:
            end = receiver.journal.end
            for stack in self._every():
                if stack.waits_at is not None:
                    stack.wake(end)
        for stack in self._every():
            while stack.stale:
                receiver.refresh(stack.stale.pop())
            if stack.watch():
                self._launch(stack)
        now = time.monotonic()
        for stack in [s for s in self._leaving if s.done or now >= s.leaves_by]:
            if not stack.done:
                self._conclude(stack)
            self._drop(stack)
        self.beat_at = now
        if receiver.journal is not None:
            self.growth.note(receiver.journal.end, now)
        for stack in self._every():
            if stack.queue is not None:
                stack.growth.note(stack.queue.total, now)
        self._events.beat(self)

    def _every(self) -> Iterator[StackProcess]:
        yield from self.stacks.values()
        yield from self._leaving

    def _acts(self) -> dict[int, Act]:
        """What to do when which descriptor is ready."""
        wanted: dict[int, Act] = {}
        for intake in self.receiver.intakes:
            for descriptor in intake.backend.wait_descriptors():
                wanted[descriptor] = Act(READ, intake, partial(self._take, intake))
        for stack in self._every():
            if stack.channel is not None:
                events = READ | WRITE if stack.channel.unsent else READ
                wanted[stack.channel.fileno()] = Act(events, stack.channel, stack.listen)
            queue = stack.queue
            if queue is not None and queue.waiting and not queue.is_broken:
                wanted[queue.socket.fileno()] = Act(WRITE, queue, queue.pump)
        if self._reporting is not None:
            for descriptor, act in self._reporting.acts():
                wanted[descriptor] = Act(READ, self._reporting, act)
        return wanted

    def _take_undescribed(self) -> None:
        """Receive from sources that may have something which no descriptor shows."""
        for intake in list(self.receiver.intakes):
            if intake.backend.tick_s is not None or intake.backend.queued:
                self._take(intake)

    def _take(self, intake: Intake) -> None:
        if intake in self.receiver.intakes:
            self.receiver.take(intake)

    # Reloading

    def _load_again(self) -> None:
        self._events.reloading()
        try:
            new = self._reload()
            if self.receiver.journal is not None:
                self._place_new_stacks(new.stacks, self.receiver.journal)
        except (ValueError, BackendError) as error:
            for problem in getattr(error, "problems", [str(error)]):
                notes.error("%s", problem)
            notes.error("the configuration stays as it was")
            new = self.pipeline
        try:
            self._change(new)
        finally:
            self._events.ready()

    def _change(self, new: Pipeline) -> None:
        """Have what the new configuration says; what is the same goes on."""
        old, receiver = self.pipeline, self.receiver
        if new.settings != old.settings:
            notes.warning("changes of [pylog] need a restart of pylog run")
            new = Pipeline(new.path, old.settings, new.sources, new.stacks)
        self.pipeline = new
        before = {source.name: source for source in _used(old) if source.is_live}
        after = {source.name: source for source in _used(new) if source.is_live}
        changed = [name for name, source in after.items() if before.get(name) != source]
        gone = [name for name in before if name not in after or name in changed]
        kept = {}
        for stack in new.stacks:
            running = self.stacks.get(stack.name)
            own = [new.sources[name] for name in stack.sources]
            probe = StackProcess(stack, own, new.settings.journal, 0, self._spawn)
            if running is not None and running.task == probe.task and not running.done:
                kept[stack.name] = running
        for name in [name for name in self.stacks if name not in kept]:
            self._leave(self.stacks.pop(name))
        if gone or changed:
            receiver.close(gone)
            now = rfc3339(time.time_ns())
            for name in changed:
                gap = f"the source was opened again at {now}" if name in before else None
                try:
                    receiver.open(after[name], gap)
                except (BackendError, ValueError) as error:
                    receiver.fail(after[name], str(error))
        if receiver.journal is None and new.settings.journal is not None and after:
            notes.warning("the journal begins with a restart of pylog run")
        for stack in new.stacks:
            if stack.name in kept:
                kept[stack.name].reopen()
            else:
                self._start(stack)
        self.stacks = {stack.name: self.stacks.get(stack.name) or kept[stack.name]
                       for stack in new.stacks}  # fmt: skip
        if gone or changed:
            receiver.renew_section()

    def _leave(self, stack: StackProcess) -> None:
        """Let a stack that was changed or removed deliver what it has, and end, within the time
        `drain`: its output may be dead, and that may be why it was changed.
        """
        if stack.done:
            self._drop(stack)
            return
        self._leaving.append(stack)
        if stack.queue is not None:
            self.receiver.queues.remove(stack.queue)
        stack.leaves_by = time.monotonic() + self.pipeline.settings.drain
        stack.end(self._end_place())

    def _drop(self, stack: StackProcess) -> None:
        if stack in self._leaving:
            self._leaving.remove(stack)
        if stack.queue in self.receiver.queues:
            self.receiver.queues.remove(stack.queue)
        stack.close()

    def _end_place(self) -> int | None:
        return None if self.receiver.journal is None else self.receiver.journal.end

    # The end

    def _end(self) -> None:
        """Stop the sources, and deliver what was received, within the time `drain`."""
        deadline = time.monotonic() + self.pipeline.settings.drain
        self.receiver.stop(time.monotonic() + self.pipeline.settings.drain / 2)
        place = self._end_place()
        for stack in self._every():
            if not stack.ended and not stack.done:
                stack.end(place)
        while not all(stack.done for stack in self._every()):
            if time.monotonic() >= deadline or self._stops > 1:
                break
            self._round(0.2)
        for stack in self._every():
            self._conclude(stack)

    def _conclude(self, stack: StackProcess) -> None:
        """Report what a stack has not delivered."""
        if not stack.done:
            stack.kill()
            if self.receiver.journal is not None and stack.is_live:
                left = self.receiver.journal.end - stack.counts.confirmed
                notes.warning("stack %s: %d bytes are not delivered yet, and stay in the journal",
                              stack.stack.name, left)  # fmt: skip
            else:
                notes.warning("stack %s: what it had not delivered in time is lost",
                              stack.stack.name)  # fmt: skip
                self._status = 1
        elif stack.counts.state == "failed" or stack.status:
            self._status = 1

    def _close(self) -> None:
        for stack in self._every():
            stack.kill()
            stack.close()
        for intake in self.receiver.intakes:
            intake.backend.close()
        if self.receiver.journal is not None:
            self.receiver.journal.close()
        self._waiting.close()


def _used(pipeline: Pipeline) -> list[Source]:
    """The sources that a stack reads; others are not opened."""
    names = {name for stack in pipeline.stacks for name in stack.sources}
    return [source for name, source in pipeline.sources.items() if name in names]


def _sources_of(folder: Path) -> set[str]:
    """The names of the sources in the last segment of a journal."""
    there = segments(folder)
    if not there:
        return set()
    reader = JournalReader(folder)
    reader.place = there[-1].start
    try:
        placed = reader.read() or []
    finally:
        reader.close()
    return {each.content.info.name for each in placed if isinstance(each.content, Piece)}
