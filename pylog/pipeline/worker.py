"""The process of a stack: it gets its configuration through a socket, and runs the stack.

It opens nothing that the kernel gives and needs no privilege. Signals are for the receiver, which
says what to do; when the receiver is gone, the process commits what it has written and ends. A lock
of each stack keeps the process of a new receiver waiting until then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pylog import engine, outputs
from pylog.actions import Actions
from pylog.errors import as_backend_error
from pylog.notes import notes
from pylog.origins import NOWHERE, origin_of
from pylog.pipeline import sinks
from pylog.pipeline.channel import Channel
from pylog.pipeline.config import Source, Stack
from pylog.pipeline.decoding import Decoding, Wanted
from pylog.pipeline.feeds import Feed, Feeds, JournalFeed, QueueFeed
from pylog.pipeline.file_feed import FileFeed
from pylog.pipeline.forms import columns_of, lines_of, takes_rows
from pylog.pipeline.joined_feeds import JoinedFeeds
from pylog.pipeline.joins import Settings as JoinSettings
from pylog.pipeline.keeping import Keeping
from pylog.pipeline.letters import DeadLetters
from pylog.pipeline.positions import FOLDER, Position, PositionFile, file_name, parsed
from pylog.pipeline.stack import StackRun
from pylog.pipeline.stages import Settings as StageSettings
from pylog.pipeline.stages import Stages
from pylog.pipeline.tally import Tally
from pylog.secrets import Secret

PATIENCE_S = 30.0
"""How long to wait for the receiver's first message."""


class Task(msgspec.Struct):
    """What a process of a stack is to do.

    journal   the folder of the journal; None: the blocks come through a socket
    """

    stack: dict[str, Any]
    sources: list[dict[str, Any]]
    journal: str | None


def task_of(stack: Stack, sources: list[Source], journal: Path | None) -> Task:
    """The task of a stack, as it is sent."""
    shape = {name: getattr(stack, name) for name in Stack.__dataclass_fields__}
    shape["target"] = _plain(stack.target)
    shape["options"] = {name: _plain(value) for name, value in stack.options.items()}
    shape["stages"], shape["joins"] = stack.stages._asdict(), stack.joins._asdict()
    fields = Source.__dataclass_fields__
    own = [{name: getattr(source, name) for name in fields} for source in sources]
    return Task(shape, own, None if journal is None else str(journal))


def _plain(value: Any) -> Any:
    return {"secret": [value.place, value.name]} if isinstance(value, Secret) else {"value": value}


def _valued(shape: dict[str, Any]) -> Any:
    return Secret(*shape["secret"]) if "secret" in shape else shape["value"]


def _stack_of(task: Task) -> Stack:
    shape = dict(task.stack)
    shape["target"] = _valued(shape["target"])
    shape["options"] = {name: _valued(value) for name, value in shape["options"].items()}
    shape["stages"] = StageSettings(**shape["stages"])
    shape["joins"] = JoinSettings(**shape["joins"])
    return Stack(**shape)


def main(control: int, data: int | None) -> int:
    """Run as the process of a stack, with the descriptors of its sockets: the exit status."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    received = None if data is None else socket.socket(fileno=data)
    return work(socket.socket(fileno=control), received, time.process_time)


def work(control: socket.socket, data: socket.socket | None, cpu_s: Callable[[], float]) -> int:
    """Run a stack whose configuration comes first through the socket `control`."""
    channel = Channel(control)
    try:
        task = _task(channel)
        if task is None:
            return 1
        stack = _stack_of(task)
        sources = {shape["name"]: Source(**shape) for shape in task.sources}
        folder = None if task.journal is None else Path(task.journal)
        with _locked(folder, stack.name, channel):
            run = _run(stack, sources, folder, channel, data, cpu_s)
            return 0 if run.run() else 1
    finally:
        channel.close()
        if data is not None:
            data.close()


def _task(channel: Channel) -> Task | None:
    deadline = time.monotonic() + PATIENCE_S
    while not channel.ended and time.monotonic() < deadline:
        for kind, body in channel.receive():
            if kind == "config":
                return msgspec.json.decode(body, type=Task)
        from pylog.backends.base import readable

        readable([channel.fileno()], 1.0)
    return None


@contextlib.contextmanager
def _locked(folder: Path | None, stack: str, channel: Channel) -> Iterator[None]:
    """The context in which this process alone works for the stack."""
    if folder is None:
        yield
        return
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = folder / FOLDER / f"{file_name(stack)}.lock"
    with as_backend_error("write", str(path)):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        noted = False
        while not channel.ended:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not noted:
                    notes.info("stack %s: another process still writes; waiting for it", stack)
                noted = True
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def wanted_of(sources: dict[str, Source]) -> dict[str, Wanted]:
    """How the records of each source are wanted: with several sources they get their origin."""
    several = len(sources) > 1
    made = {}
    for name, source in sources.items():
        label = source.label or (name if several else None)
        origin = NOWHERE if label is None else origin_of(source.address, label)
        made[name] = Wanted(origin, Actions(source.actions) if source.actions else None)
    return made


def _run(
    stack: Stack,
    sources: dict[str, Source],
    folder: Path | None,
    channel: Channel,
    data: socket.socket | None,
    cpu_s: Callable[[], float],
) -> StackRun:
    stores = sinks.delivery(stack, True) == "exactly once"
    kept = None if folder is None else PositionFile(folder, stack.name)
    path = stack.dead_letters
    if path is None and folder is not None:
        path = str(folder / "dead" / f"{file_name(stack.name)}.jsonl")
    letters = DeadLetters(None if path is None else Path(path), stack.name)
    wanted = wanted_of(sources)
    live = [name for name, source in sources.items() if source.is_live]
    tally = Tally(list(sources))

    def make_feeds(output: outputs.Output, stages: Stages) -> Feeds:
        raw = sinks.needs_raw(stack)
        form = {
            "raw": raw,
            "rows": takes_rows(output, stack, stages),
            "payload": output.shows_payload,
            "messages": raw,
        }
        feed: Feed | None = None
        identity = ""
        early = None if stack.joins.any else stack.stages.early()
        decoding = Decoding(wanted, **form, where=early, tally=tally,
                            columns=columns_of(output, stack, stages),
                            lines=lines_of(stack, stages))  # fmt: skip
        if live and folder is not None:
            feed = JournalFeed(folder, decoding, live)
            identity = feed.reader.id
        elif live and data is not None:
            feed = QueueFeed(data, decoding, live)
        files: dict[str, Feed] = {
            name: FileFeed(source, wanted[name], **form, tally=tally)
            for name, source in sources.items()
            if not source.is_live
        }
        if stack.joins.any:
            return JoinedFeeds(feed, files, identity, stack.joins, [*sources.values()])
        return Feeds(feed, files, identity)

    def begin(output: outputs.Output, feeds: Feeds) -> Position:
        own = feeds.position().journal
        own_file = None if kept is None else kept.read()
        candidates = [
            output.position() if stores else None, None if own_file is None else own_file.position
        ]  # fmt: skip
        for text in candidates:
            position = parsed(text)
            if position is not None and position.journal == own:
                return position
        if isinstance(feeds.live, JournalFeed):
            if any(candidates):
                notes.warning("stack %s: its position is in another journal; it begins with the"
                              " oldest record of this one", stack.name)  # fmt: skip
            return Position(own, feeds.live.reader.first())
        return Position(own, 0)

    return StackRun(
        stack,
        channel,
        open_output=lambda refuse: sinks.opened(stack, refuse, folder is not None),
        make_feeds=make_feeds,
        begin=begin,
        keeping=Keeping(stack.name, None if stores else kept),
        letters=letters,
        tally=tally,
        longest_s=0.0 if any(s.options.get("latency") for s in sources.values()) else engine.REST_S,
        cpu_s=cpu_s,
    )
