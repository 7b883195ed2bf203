"""What plugins at work share: their instance, their surroundings, and how they are called.

A stack runs over a list of values, one cell for each key that its plugins give. A filter reads the
cells of its inputs and fills its own; a sink reads. To write a plugin: subclass `Filter` or `Sink`,
and name module and class in the `work` of its row in `plugins`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from pylog.ulogd.files import File
from pylog.ulogd.keys import Key, Value
from pylog.ulogd.plugins import Plugin
from pylog.ulogd.views import Counter, Flow, Message, Packet

View = Packet | Message | Flow | Counter
Values = list[Value]


class Stop(Exception):
    """A filter ends the way of this record through its stack."""


class Surroundings:
    """What a plugin needs of the daemon.

    hostname     of this machine, or as --hostname says
    exact        whether the bytes are those of ulogd where its form is unsafe (--compat=exact)
    interfaces   names by number, None: those that records have
    clock_us     the clock in microseconds: that of receipt while a log is replayed
    log          writes a line of a level to the daemon's own log
    replayed     whether a log is replayed
    syslog       the socket of SYSLOG, "": /dev/log
    open_file    opens a file to append to, by its path and whether to flush after each record
    """

    def __init__(
        self,
        hostname: str = "",
        exact: bool = True,
        interfaces: dict[int, bytes] | None = None,
        log: Callable[[int, str], None] = lambda level, text: None,
        replayed: bool = False,
        syslog: str = "",
        open_file: Callable[[str, bool], File] | None = None,
    ) -> None:
        self.hostname, self.exact, self.interfaces, self.log = hostname, exact, interfaces, log
        self.replayed, self.syslog = replayed, syslog
        self.open_file = open_file or partial(File, exact=exact)
        self.replay_us: int | None = None
        """The clock of the record at hand of a replay."""

    def clock_us(self) -> int:
        return time.time_ns() // 1000 if self.replay_us is None else self.replay_us


class Instance:
    """A plugin in a stack.

    id        names its section
    options   the value of every option
    inputs    the cell of each key in `plugin.needs`, None for one that no earlier plugin gives
    cells     gives the values of `inputs`, of those of a record
    columns   for a plugin that takes all keys, or those of a table: the keys with their cells
    first     the cell of the first key that it gives
    """

    def __init__(self, id: str, plugin: Plugin) -> None:
        self.id, self.plugin = id, plugin
        self.options: dict[str, Any] = {option.name: option.default for option in plugin.options}
        self.inputs: list[int | None] = []
        self.cells: Callable[[Values], tuple[Any, ...]] = lambda values: ()
        self.columns: list[tuple[Key, int]] = []
        self.first = 0


class Worker:
    """A plugin at work.

    The constructor checks the options, ValueError. `start` opens what it needs, BackendError.

    reads_views   whether it reads views, and no cells
    """

    reads_views = False

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        self.instance, self.surroundings = instance, surroundings
        self.options = instance.options

    def wanted(self, offered: list[tuple[Key, int]]) -> list[tuple[Key, int]]:
        """The columns of a plugin that takes any key, of those on offer in the order of the stack.

        ValueError for a key that must be there and is not.
        """
        return offered

    def start(self) -> None:
        """Open what is needed; BackendError."""

    def prepare(self, needed: frozenset[int]) -> None:
        """Get ready for records, when all plugins of the stack have started.

        needed   the cells that plugins read
        """

    def reopen(self) -> None:
        """What SIGHUP does; BackendError, after which it goes on as before."""

    def flush(self) -> None:
        """Write what is held back; BackendError."""

    def stop(self) -> None:
        """Close; BackendError if something could not be written."""


class Filter(Worker):
    """A plugin that computes keys."""

    def interpret(self, values: Values, view: View) -> None:
        """Fill the cells from `instance.first` on; Stop."""
        raise NotImplementedError


class Sink(Worker):
    """A plugin that writes."""

    @property
    def lost(self) -> int:
        """How many records it could not write, besides those that `write` raised an error for."""
        return 0

    def write(self, values: Values, view: View) -> None:
        """Write a record; BackendError if it is lost."""
        raise NotImplementedError
