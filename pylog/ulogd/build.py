"""Makes the stacks of a configuration: instances, their options, and which cell is whose key.

The order is ulogd's, since errors end a stack where they occur: the text of the stack, the options
from the last plugin to the first, the kinds of data and the keys, then `start` from the first to
the last. A stack that fails is reported and left out; the others run.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import NamedTuple

from pylog.errors import BackendError
from pylog.record import LossRecord
from pylog.ulogd.conffile import Complaint, Conffile, Section
from pylog.ulogd.inputs import Input
from pylog.ulogd.log import ERROR, DaemonLog
from pylog.ulogd.messages import MessageReader, Reading
from pylog.ulogd.plugins import ANY, PLUGINS, SINK, SOURCE, Plugin
from pylog.ulogd.views import Message
from pylog.ulogd.worker import Filter, Instance, Sink, Surroundings, Values, View, Worker

LONGEST_ID = 30


class StackError(Exception):
    """Why a stack cannot run."""


class Element(NamedTuple):
    """A plugin in a stack: its instance, the section it was configured from, and what it does.

    work   None for a source, which is no part of the way of a record
    """

    instance: Instance
    section: Section
    work: Worker | None


Step = Callable[[Values, View], None]


class _Reader(NamedTuple):
    """What reads the records of a source for a stack: messages, and other views cell by cell."""

    messages: MessageReader
    views: list[tuple[int, Reading]]


class Stack:
    """A stack that can run.

    text      as the file gives it, from line `line` on
    elements  the plugins, a source first
    size      how many cells a record has, besides a last one that is always empty
    records   how many went through it; `lost` of them an output could not write
    missed    how many were lost on the way to it, and in how many `gaps` of unclear size
    """

    def __init__(self, text: str, line: int, elements: list[Element], size: int) -> None:
        self.text, self.line, self.elements, self.size = text, line, elements, size
        self.steps: list[Step] = []
        for element in elements:
            if isinstance(element.work, Filter):
                self.steps.append(element.work.interpret)
            elif isinstance(element.work, Sink):
                self.steps.append(element.work.write)
        self._keys = {
            element.instance.id: element.instance
            for element in reversed(elements)
            if element.instance.plugin.place == SOURCE
        }
        self.records = self.lost = self.missed = self.gaps = 0
        self._reason = ""
        self._readers: dict[str, _Reader] = {}

    def begin(self, source: Input, view: View) -> Values:
        """The cells of a record: those of its source that a plugin reads are filled, the others
        empty.

        source   what gave it, which may be another plugin of the same id
        """
        reader = self._readers.get(source.instance.id)
        if reader is None:
            reader = self._readers[source.instance.id] = self._reader_of(source)
        if isinstance(view, Message) and reader.views:
            return reader.messages.cells(view)
        values: Values = [None] * (self.size + 1)
        for at, read in reader.views:
            values[at] = read(view)
        return values

    def _reader_of(self, source: Input) -> _Reader:
        """What reads the records of a source; the plugins must have been started, as tables have
        their columns only then.
        """
        own = self._keys[source.instance.id]
        needed = self.needed
        given = {key.name: key.view for key in source.instance.plugin.keys}
        wanted = [
            (at, key.name, read)
            for at, key in enumerate(own.plugin.keys, own.first)
            if at in needed
            and key.name not in source.hidden
            and (read := given.get(key.name)) is not None
        ]
        return _Reader(MessageReader(self.size, wanted), [(at, read) for at, _, read in wanted])

    def prepare(self) -> None:
        """Let the plugins, which have all started, get ready for records."""
        needed = self.needed
        for element in self.elements:
            if element.work is not None:
                element.work.prepare(needed)

    @property
    def needed(self) -> frozenset[int]:
        """The cells that plugins read."""
        cells: set[int] = set()
        for element in self.elements:
            if element.work is None or not element.work.reads_views:
                cells.update(at for at in element.instance.inputs if at is not None)
            cells.update(at for _, at in element.instance.columns)
        return frozenset(cells)

    def miss(self, record: LossRecord, log: DaemonLog) -> None:
        """Count what was lost on the way to the stack; it is reported as it happens."""
        self.missed += record.count or 0
        self.gaps += record.count is None
        log.write(ERROR, f"stack of line {self.line}: {record.describe()}")

    def lose(self, reason: str, log: DaemonLog) -> None:
        """Count a record that an output could not write."""
        self.lost += 1
        self.complain(reason, log)

    def complain(self, reason: str, log: DaemonLog) -> None:
        """Report why an output could not write, if it is another reason than the last one."""
        if reason != self._reason:
            self._reason = reason
            log.write(ERROR, f"stack of line {self.line}: {reason}")

    @property
    def works(self) -> list[Worker]:
        """The plugins at work."""
        return [element.work for element in self.elements if element.work is not None]

    def stop(self, log: DaemonLog) -> bool:
        """Stop the plugins, and report what was lost; whether anything could not be written."""
        has_failed = False
        for work in self.works:
            try:
                work.stop()
            except BackendError as error:
                has_failed = True
                log.write(ERROR, str(error))
        self.lost += sum(work.lost for work in self.works if isinstance(work, Sink))
        for count, what in (
            (self.missed, "records were lost before they were read"),
            (self.gaps, "times records were lost before they were read, it is unclear how many"),
            (self.lost, "records could not be written"),
        ):
            if count:
                log.write(ERROR, f"stack of line {self.line}: {count} {what}")
        return has_failed or bool(self.lost)


def elements_of(text: str) -> list[tuple[str, str]]:
    """The pairs of id and plugin in the text of a stack; StackError."""
    pairs = []
    for token in text.replace("\n", ",").split(","):
        if not token:
            continue
        name, colon, plugin = token.partition(":")
        size = len(name.encode("utf-8", "surrogateescape"))
        if not colon or size > LONGEST_ID:
            hint = f"; an id has at most {LONGEST_ID} bytes" if colon else "; want ID:PLUGIN"
            raise StackError(f"syntax error while parsing {token!r} of the stack{hint}")
        pairs.append((name, plugin))
    if not pairs:
        raise StackError("the stack is empty")
    return pairs


class Builder:
    """Makes stacks from a configuration.

    loaded   the plugins that plugin= names; all if there are none when a stack begins
    """

    def __init__(self, conffile: Conffile, surroundings: Surroundings) -> None:
        self.conffile, self.surroundings = conffile, surroundings
        self.loaded: set[str] = set()
        self.complaints: list[tuple[str, Complaint]] = []
        self._complained: set[tuple[str, str]] = set()
        """The ids and plugins whose complaints are among them."""

    def plan(self, text: str) -> list[tuple[Instance, Section]]:
        """The instances of a stack with their options, the last one configured first; StackError.

        The checks of the plugins themselves come with `work`.
        """
        instances = []
        for name, word in elements_of(text):
            plugin = PLUGINS.get(word)
            if plugin is None or (self.loaded and word not in self.loaded):
                raise StackError(f"can't find requested plugin {word}{_advice(word, plugin)}")
            if plugin.refused:
                raise StackError(f"pylog has no {word}: {plugin.refused}")
            instances.append(Instance(name, plugin))
        return [(instance, self._section(instance)) for instance in instances]

    def _section(self, instance: Instance) -> Section:
        section = self.conffile.read(instance.id, instance.plugin.options)
        for name, given in section.given.items():
            value = given.value
            instance.options[name] = (
                value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
            )
        return section

    def build(self, text: str, line: int) -> Stack:
        """A stack that is configured and bound, not started; StackError."""
        log = self.surroundings.log
        planned = self.plan(text)
        for instance, section in planned:
            kind = instance.id, instance.plugin.name
            if (section.found or instance.plugin.options) and kind not in self._complained:
                self._complained.add(kind)
                self.complaints += [(instance.id, c) for c in section.complaints]
        works: list[Worker | None] = []
        for instance, section in reversed(planned):
            plugin = instance.plugin
            if section.error and plugin.strict and plugin.options:
                raise StackError(
                    f"error during configure of plugin {plugin.name}: section {instance.id}:"
                    f" {section.error}"
                )
            try:
                works.insert(0, made(instance, self.surroundings))
            except (ValueError, BackendError) as error:
                raise StackError(
                    f"error during configure of plugin {plugin.name}: {error}"
                ) from error
        elements = [
            Element(instance, section, work)
            for (instance, section), work in zip(planned, works, strict=True)
        ]
        for text_ in mismatches([instance for instance, _ in planned]):
            log(ERROR, text_)
        size = bind(elements)
        return Stack(text, line, elements, size)


def _advice(word: str, plugin: Plugin | None) -> str:
    if plugin is not None:
        return "; no plugin= line loads it, and without any all would be there"
    if word.upper() in PLUGINS:
        return f"; did you mean {word.upper()}?"
    from pylog.nearest import advice

    return advice(word, PLUGINS)


def made(instance: Instance, surroundings: Surroundings) -> Worker:
    """What does the work of an instance; ValueError."""
    module, _, name = instance.plugin.work.partition(":")
    kind = getattr(importlib.import_module(f"pylog.ulogd.{module}"), name)
    work: Worker = kind(instance, surroundings)
    return work


def mismatches(instances: list[Instance]) -> Iterator[str]:
    """Neighbours that do not pass on what the next one takes, as ulogd reports them; StackError
    for a stack without a source at its start or an output at its end.
    """
    last, first = instances[-1].plugin, instances[0].plugin
    if last.place != SINK:
        raise StackError(f"last plugin in stack has to be output plugin, and {last.name} is none")
    if first.place != SOURCE:
        raise StackError(f"first plugin in stack has to be source plugin, and {first.name} is none")
    for before, instance in reversed(list(itertools.pairwise(instances))):
        if not instance.plugin.takes & before.plugin.gives:
            yield (
                f"type mismatch between {instance.plugin.name} and {before.plugin.name} in stack"
            )


def bind(elements: list[Element]) -> int:
    """Give each key a cell, and each input the cell of the nearest earlier plugin that has the key.

    Returns how many cells there are; StackError for a key that no plugin gives.
    """
    size = 0
    for element in elements:
        element.instance.first = size
        size += len(element.instance.plugin.keys)
    for number in range(len(elements) - 1, 0, -1):
        instance, _, work = elements[number]
        nearest = _nearest(elements[:number])
        if instance.plugin.needs == (ANY,):
            assert work is not None
            offered = [
                (key, nearest[key.name])
                for before in elements[:number]
                for key in before.instance.plugin.keys
            ]
            try:
                instance.columns = work.wanted(offered)
            except ValueError as error:
                raise StackError(str(error)) from error
            continue
        for need in instance.plugin.needs:
            name = need.rstrip("?")
            if name not in nearest and need == name:
                raise StackError(
                    f"cannot find key {name!r} in stack, which {instance.plugin.name} needs"
                    f"{_giver(name)}"
                )
            instance.inputs.append(nearest.get(name))
        places = [size if at is None else at for at in instance.inputs]
        # with one place itemgetter gives no tuple; a second one, which is empty, does no harm
        instance.cells = itemgetter(*places, size) if len(places) < 2 else itemgetter(*places)
    return size


def _nearest(elements: list[Element]) -> dict[str, int]:
    """The cell of each key, of the last plugin that gives it."""
    cells: dict[str, int] = {}
    for element in elements:
        own: dict[str, int] = {}
        for place, key in enumerate(element.instance.plugin.keys):
            own.setdefault(key.name, element.instance.first + place)
        cells |= own
    return cells


def _giver(name: str) -> str:
    """Which plugins give a key, as advice."""
    givers = [
        plugin.name for plugin in PLUGINS.values()
        if not plugin.refused and any(key.name == name for key in plugin.keys)
    ]  # fmt: skip
    return f"; {' or '.join(givers)} before it gives it" if givers else ""
