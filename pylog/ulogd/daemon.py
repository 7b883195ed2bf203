"""The daemon: reads [global], builds and starts its stacks, and runs records through them.

Stacks are built where they stand in the file, so what comes before a stack counts for it. A record
of a replayed log goes through the second, third, ... stack that names its source and through the
first one last, as with ulogd. Live, each stack has a thread, see `threads`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection

from pylog.errors import BackendError
from pylog.record import LossRecord, Record
from pylog.ulogd.build import Builder, Stack, StackError
from pylog.ulogd.conffile import Conffile, Given, Option
from pylog.ulogd.inputs import Input
from pylog.ulogd.log import ERROR, FATAL, INFO, NOTICE, DaemonLog
from pylog.ulogd.plugins import PLUGINS
from pylog.ulogd.worker import Stop, Surroundings, View

GLOBAL = (
    Option("logfile", "word", "", help="stdout, syslog or a file for the daemon's own messages"),
    Option("plugin", "list", help="a plugin to load; without any all are there"),
    Option("loglevel", "number", NOTICE, help="the least level of those messages"),
    Option("stack", "list", help="id:PLUGIN,id:PLUGIN,..."),
)

_FILE = re.compile(r"ulogd_[a-z0-9]+_([A-Z0-9]+)\.so")


class Exit(Exception):
    """The daemon cannot start, or has to end: its exit status and why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def plugin_of(path: str) -> str | None:
    """The plugin that a plugin= line loads, None if ulogd would not find it.

    ulogd needs a path; its file need not exist here, since pylog has the plugins itself.
    """
    folder, name = os.path.split(path)
    match = _FILE.fullmatch(name)
    return match[1] if folder and match and match[1] in PLUGINS else None


class Route:
    """A source with the stacks that its records go through."""

    def __init__(self, source: Input) -> None:
        self.source = source
        self.stacks: list[Stack] = []


class Daemon:
    """Stacks at work.

    routes   the sources that were started, by their ids
    open_source   opens what a source reads, BackendError; called when its stack starts
    """

    def __init__(
        self,
        conffile: Conffile,
        surroundings: Surroundings,
        log: DaemonLog,
        open_source: Callable[[Input], None] = lambda source: None,
    ) -> None:
        self.surroundings, self.log = surroundings, log
        self._builder = Builder(conffile, surroundings)
        self._open_source = open_source
        self.stacks: list[Stack] = []
        self.routes: dict[str, Route] = {}
        self.failed = False

    def start(self) -> None:
        """Read [global] and start its stacks; Exit."""
        section = self._builder.conffile.read("global", GLOBAL, self._act)
        for complaint in section.complaints:
            if section.found:
                self._complain("global", complaint.line, complaint.key, complaint.text,
                               complaint.meant)  # fmt: skip
        if section.error:
            self.log.write(FATAL, f"unable to parse config file: {section.error}")
            raise Exit(1, section.error)
        seen = set()
        for name, complaint in self._builder.complaints:
            if (name, complaint.line, complaint.text) not in seen:
                seen.add((name, complaint.line, complaint.text))
                self._complain(name, complaint.line, complaint.key, complaint.text,
                               complaint.meant)  # fmt: skip
        if not self.stacks:
            self.log.write(FATAL, "not even a single working plugin stack")
            raise Exit(1, "not even a single working plugin stack")
        self.log.write(INFO, "initialization finished, entering main loop")

    def _complain(self, section: str, line: int, key: str, text: str, meant: str) -> None:
        where = f"line {line}: [{section}] {key}" if line else f"[{section}]"
        hint = f"; did you mean {meant}?" if meant else ""
        self.log.write(NOTICE, f"{where}: {text}{hint} (ulogd 2.0.9 is strict about it)")

    def _act(self, option: Option, given: Given) -> None:
        text = given.text.decode("utf-8", "surrogateescape")
        if option.name == "logfile":
            try:
                self.log.open(text)
            except BackendError as error:
                raise Exit(2, f"logfile: {error}") from error
        elif option.name == "loglevel":
            assert isinstance(given.value, int)
            self.log.set_level(given.value)
        elif option.name == "plugin":
            name = plugin_of(text)
            if name is None:
                self.log.write(ERROR, f"line {given.line}: load_plugin: {text}: no path of a plugin"
                               " that pylog has")  # fmt: skip
            else:
                self._builder.loaded.add(name)
        elif option.name == "stack":
            self._stack(text, given.line)

    def _stack(self, text: str, line: int) -> None:
        self.log.write(NOTICE, f"building new pluginstance stack: {text!r}")
        try:
            stack = self._builder.build(text, line)
            self._start(stack)
        except StackError as error:
            self.failed = True
            self.log.write(ERROR, f"line {line}: {error}")
            return
        self.stacks.append(stack)

    def _start(self, stack: Stack) -> None:
        """Start the plugins of a stack from the first to the last; StackError."""
        started = []
        tapped: list[Route] = []
        opened: list[str] = []
        for element in stack.elements:
            instance, work = element.instance, element.work
            assert work is not None
            if isinstance(work, Input) and instance.id in self.routes:
                self.log.write(INFO, f"{instance.id} instance already loaded")
                tapped.append(self.routes[instance.id])
                continue
            try:
                work.start()
                started.append(work)
                if isinstance(work, Input):
                    self._open_source(work)
            except (BackendError, ValueError) as error:
                for other in started:
                    other.stop()
                for name in opened:
                    del self.routes[name]
                raise StackError(f"error starting {instance.id!r}: {error}") from error
            if isinstance(work, Input):
                self.routes[instance.id] = route = Route(work)
                opened.append(instance.id)
                tapped.append(route)
        stack.prepare()
        for route in tapped:
            route.stacks.append(stack)

    def feed(self, record: Record) -> None:
        """Run a record through the stacks of all sources."""
        for route in self.routes.values():
            if isinstance(record, LossRecord):
                for stack in route.stacks:
                    stack.miss(record, self.log)
            elif (view := route.source.view(record)) is not None:
                self._run_all(route, view)

    def feed_view(self, name: str, view: View) -> None:
        """Run what a source has already seen through its stacks."""
        self._run_all(self.routes[name], view)

    def _run_all(self, route: Route, view: View) -> None:
        first, *others = route.stacks
        for stack in (*others, first):
            self.run(stack, route.source, view)

    def run(self, stack: Stack, source: Input, view: View) -> None:
        """Run what a source has seen through a stack."""
        values = stack.begin(source, view)
        try:
            for step in stack.steps:
                step(values, view)
        except Stop:
            pass
        except BackendError as error:
            stack.lose(str(error), self.log)
            self.failed = True
        stack.records += 1

    def reopen_log(self) -> None:
        """What SIGHUP does first: open the own log again."""
        try:
            self.log.reopen()
        except BackendError as error:
            self.log.write(ERROR, f"{error}; the old file stays open")

    def reopen(self, stack: Stack) -> None:
        """What SIGHUP does then with every plugin of a stack."""
        for work in stack.works:
            try:
                work.reopen()
            except BackendError as error:
                self.log.write(ERROR, f"{error}; the old file stays open")

    def flush(self, stack: Stack) -> None:
        """Write what the outputs of a stack hold back."""
        for work in stack.works:
            try:
                work.flush()
            except BackendError as error:
                self.failed = True
                stack.complain(str(error), self.log)

    def stop(self, hung: Collection[Stack] = ()) -> None:
        """Stop every plugin; what could not be written is reported.

        hung   stacks that do not end
        """
        for stack in self.stacks:
            self.failed |= stack in hung or stack.stop(self.log)
