"""`pylog ulogd --check` and -i: explains a configuration, and shows what a plugin has.

--check builds every stack and starts none: no file is opened, nothing is connected. It draws the
stacks, lists every option with its value and where that comes from, and then what is wrong or
makes ulogd print less than was probably meant (`hints`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from pylog.nearest import advice
from pylog.ulogd.build import Builder, Stack, StackError
from pylog.ulogd.conffile import Complaint, Conffile, Given, Option
from pylog.ulogd.daemon import GLOBAL, plugin_of
from pylog.ulogd.hints import hints
from pylog.ulogd.plugins import ANY, PLUGINS, SOURCE, Plugin
from pylog.ulogd.worker import Surroundings

SECRETS = frozenset(("pass", "connstring"))
"""Options whose values are not shown."""


class Checked:
    """A configuration with its stacks, built but not started.

    given       the values in [global]
    stacks      those that can run
    failures    of the others: the line, the text and why
    messages    what ulogd would log about its stacks and plugins
    error       why [global] cannot be read, "" if it can
    """

    def __init__(self, conffile: Conffile) -> None:
        self.conffile = conffile
        self.messages: list[str] = []
        self.stacks: list[Stack] = []
        self.failures: list[tuple[int, str, str]] = []
        self.plugins: list[tuple[int, str, str | None]] = []
        self.given: dict[str, Given] = {}
        surroundings = Surroundings(log=lambda level, text: self.messages.append(text))
        self._builder = Builder(conffile, surroundings)
        section = conffile.read("global", GLOBAL, self._act)
        self.error = section.error
        self.complaints = [("global", c) for c in section.complaints if section.found]
        self.complaints += _unique(self._builder.complaints)

    def _act(self, option: Option, given: Given) -> None:
        text = given.text.decode("utf-8", "surrogateescape")
        if option.name == "plugin":
            name = plugin_of(text)
            self.plugins.append((given.line, text, name))
            if name is not None:
                self._builder.loaded.add(name)
        elif option.name == "stack":
            try:
                self.stacks.append(self._builder.build(text, given.line))
            except StackError as error:
                self.failures.append((given.line, text, str(error)))
        else:
            self.given[option.name] = given


def _unique(complaints: list[tuple[str, Complaint]]) -> list[tuple[str, Complaint]]:
    """Complaints without the repeats of sections that are read more than once."""
    return list({(name, c.line, c.key, c.text): (name, c) for name, c in complaints}.values())


def explanation(conffile: Conffile) -> tuple[list[str], int]:
    """Lines that explain the file, and the exit status: 1 if a stack cannot run."""
    checked = Checked(conffile)
    lines = [f"{conffile.path}: {_count(checked)}"]
    if checked.error:
        lines.append(f"  [global] cannot be read, so ulogd does not start: {checked.error}")
    lines += _own_messages(checked)
    sources: set[str] = set()
    for stack in checked.stacks:
        lines += ["", *_drawing(stack, sources)]
        for element in stack.elements:
            lines += _options(element.instance.id, element.instance.plugin, element.section.given)
    for line, text, why in checked.failures:
        lines += ["", f"stack of line {line}, which cannot run: {text}", f"  {why}"]
    wrong = list(hints(checked))
    if wrong:
        lines += ["", "to look at:", *(f"  {text}" for text in wrong)]
    strict = [_complaint(name, complaint) for name, complaint in checked.complaints]
    if strict:
        lines += ["", "accepted by ulogd 2.0.8, not by 2.0.9:", *(f"  {text}" for text in strict)]
    return lines, int(bool(checked.error or checked.failures or not checked.stacks))


def _count(checked: Checked) -> str:
    good, bad = len(checked.stacks), len(checked.failures)
    text = f"{good} stack{'s' * (good != 1)}"
    return text + (f", and {bad} that cannot run" if bad else "")


def _own_messages(checked: Checked) -> Iterator[str]:
    for option in GLOBAL:
        if option.kind == "list":
            continue
        given = checked.given.get(option.name)
        if given is not None:
            text = given.text.decode("utf-8", "surrogateescape")
            yield f"  {option.name} = {text} (line {given.line})"
        elif option.name == "logfile":
            yield "  logfile: none, so the daemon's own messages go to syslog"
        else:
            yield f"  {option.name} = {option.default} (default)"


def _drawing(stack: Stack, sources: set[str]) -> Iterator[str]:
    """A stack as a drawing.

    sources   the ids of sources in the stacks before; those of this one are added
    """
    yield f"stack of line {stack.line}:"
    parts = []
    own = set()
    for element in stack.elements:
        instance = element.instance
        is_source = instance.plugin.place == SOURCE
        is_shared = is_source and instance.id in sources
        parts.append(f"{instance.id}:{instance.plugin.name}" + " (shared)" * is_shared)
        if is_source:
            own.add(instance.id)
    sources |= own
    line = "  " + parts[0]
    for part in parts[1:]:
        if len(line) + len(part) > 94:
            yield line + " ->"
            line = "     " + part
        else:
            line += f" -> {part}"
    yield line


def _options(name: str, plugin: Plugin, given: dict[str, Given]) -> Iterator[str]:
    if not plugin.options:
        return
    yield f"  [{name}] {plugin.name}"
    for option in plugin.options:
        value = given.get(option.name)
        if value is None:
            shown = option.default if option.kind == "number" else f'"{option.default}"'
            yield f"    {option.name} = {shown} (default)"
            continue
        text = value.text.decode("utf-8", "surrogateescape")
        if option.name in SECRETS:
            shown = "(not shown)"
        elif option.kind == "number":
            assert isinstance(value.value, int)
            shown = f"{value.value}" + (f', written "{text}"' * (text != str(value.value)))
        else:
            shown = f'"{text}"'
        yield f"    {option.name} = {shown} (line {value.line})"


def _complaint(name: str, complaint: Complaint) -> str:
    where = f"line {complaint.line}, [{name}]: {complaint.key}: " if complaint.line else ""
    meant = f"; did you mean {complaint.meant}?" if complaint.meant else ""
    return f"{where}{complaint.text}{meant}"


TYPES = {"u8": "unsigned int 8", "u16": "unsigned int 16", "u32": "unsigned int 32",
         "u64": "unsigned int 64", "bool": "boolean", "text": "string", "ip": "IP addr",
         "raw": "raw data", "literal": "Unknown type"}  # fmt: skip


def info(word: str) -> list[str]:
    """The options and keys of a plugin, in the form of `ulogd -i`; ValueError.

    word   its name or the path of its file
    """
    name = plugin_of(os.path.join("/", os.path.basename(word))) or word
    plugin = PLUGINS.get(name)
    if plugin is None:
        raise ValueError(f"no plugin {word!r}{advice(word.upper(), PLUGINS)}")
    lines = [f"Name: {plugin.name}"]
    if plugin.refused:
        lines.append(f"Not in pylog: {plugin.refused}")
    if plugin.options:
        lines.append("Config options:")
    for option in plugin.options:
        kind = "Integer" if option.kind == "number" else "String"
        must = ", Mandatory" if option.mandatory else ""
        lines.append(f"\tVar: {option.name} ({kind}, Default: {option.default}{must})")
    lines.append("Input keys:")
    if plugin.place == SOURCE:
        lines.append("\tInput plugin, No keys")
    elif plugin.needs == (ANY,):
        lines.append("\tNo statically defined keys")
    for need in plugin.needs:
        if need != ANY:
            lines.append(f"\tKey: {need.rstrip('?')}{' (optional)' if need[-1] == '?' else ''}")
    lines.append("Output keys:")
    if not plugin.keys:
        lines.append("\tNo keys")
    lines += [f"\tKey: {key.name} ({TYPES[key.type]})" for key in plugin.keys]
    return lines
