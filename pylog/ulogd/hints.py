"""What is wrong in a ulogd.conf, or makes ulogd print less than was probably meant.

Each hint is a rule of its own, made from faults in public configurations. It names the line, what
ulogd does with it, and what was probably meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pylog.ulogd.conffile import meant_by
from pylog.ulogd.plugins import PLUGINS, SOURCE

if TYPE_CHECKING:
    from pylog.ulogd.build import Element, Stack
    from pylog.ulogd.check import Checked


def hints(checked: Checked) -> Iterator[str]:
    """Every hint for a configuration."""
    for rule in (_plugin_lines, _misplaced, _unused, _values, _stacks, _groups, _messages):
        yield from rule(checked)


def _plugin_lines(checked: Checked) -> Iterator[str]:
    used = {element.instance.plugin.name for stack in checked.stacks for element in stack.elements}
    for line, path, name in checked.plugins:
        if name is None:
            meant = re.search(r"_([A-Za-z0-9]+)\.so", path)
            known = meant is not None and meant[1] in PLUGINS
            why = "it needs the complete path" if known else "there is no such plugin"
            yield f"line {line}: plugin={path} loads nothing: {why}"
        elif PLUGINS[name].refused:
            yield f"line {line}: {name} is dead: {PLUGINS[name].refused}"
        elif name not in used and checked.stacks:
            yield f"line {line}: {name} is loaded, and no stack that can run has it"


def _misplaced(checked: Checked) -> Iterator[str]:
    for line, section, key, value in checked.conffile.entries():
        if key in ("stack", "plugin", "logfile", "loglevel") and section not in ("global", ""):
            yield f"line {line}: {key}= in [{section}] does nothing; it belongs into [global]"
        if section == "" and key == "stack":
            yield f"line {line}: stack= before any section does nothing; it belongs into [global]"
        if key == "stack" and re.match(r"[^,:]+:[A-Z0-9]+,?$", value) and section == "global":
            yield (
                f"line {line}: the stack ends after {value!r}: a space ends a value; write it"
                " without spaces"
            )


def _unused(checked: Checked) -> Iterator[str]:
    texts = [stack.text for stack in checked.stacks] + [text for _, text, _ in checked.failures]
    names = {part.partition(":")[0] for text in texts for part in text.split(",")}
    seen: set[str] = set()
    for line, name in checked.conffile.sections():
        if name in seen:
            yield f"line {line}: [{name}] stands there twice; only the first one is read"
        seen.add(name)
        if name not in names and name != "global":
            near = meant_by(name, names - seen)
            hint = f"; did you mean [{near}]?" if near else ""
            yield f"line {line}: [{name}] is in no stack, so it does nothing{hint}"


def _values(checked: Checked) -> Iterator[str]:
    done: set[tuple[str, int]] = set()
    for stack in checked.stacks:
        for element in stack.elements:
            for name, given in element.section.given.items():
                if (name, given.line) in done:
                    continue
                done.add((name, given.line))
                text = given.text.decode("utf-8", "surrogateescape")
                if name == "file" and text in ("stdout", "syslog", "stderr"):
                    yield (
                        f"line {given.line}: file={text} makes a file of that name;"
                        f" /dev/{text} was probably meant"
                    )
                if text.startswith(('\\"', "'")):
                    yield (
                        f"line {given.line}: {name}={text} keeps its quotes; only"
                        f' "{text.strip(chr(39)).strip(chr(92) + chr(34))}" is a quoted text'
                    )
                if text == name:
                    yield (
                        f"line {given.line}: {name}= has no value, or a quote that does not"
                        f" end; ulogd takes the text {name!r} in its place"
                    )
            yield from _buffer(element)


def _buffer(element: Element) -> Iterator[str]:
    options = element.instance.options
    size = options.get("netlink_socket_buffer_size", 0)
    if size and size >= options["netlink_socket_buffer_maxsize"]:
        line = element.section.given["netlink_socket_buffer_size"].line
        yield (
            f"line {line}: netlink_socket_buffer_size is not used, as it is not less than"
            " netlink_socket_buffer_maxsize"
        )


def _stacks(checked: Checked) -> Iterator[str]:
    for stack in checked.stacks:
        names = [element.instance.plugin.name for element in stack.elements]
        last, where = names[-1], f"line {stack.line}: "
        if not {"NFLOG", "UNIXSOCK"} & set(names) or last in ("XML", "PCAP"):
            continue
        if "BASE" not in names:
            yield (
                f"{where}no BASE: headers are not decoded, so {last} has no protocol, ports and"
                " addresses"
            )
            continue
        if "IFINDEX" not in names and "NFLOG" in names and last not in ("LOGEMU", "SYSLOG"):
            yield f"{where}no IFINDEX: {last} has interfaces as numbers only"
        if "IP2STR" not in names and last == "JSON":
            yield f"{where}no IP2STR: JSON leaves out addresses"
        for name in ("IP2STR", "IP2BIN", "IP2HBIN"):
            if name in names and names.index(name) < names.index("BASE"):
                yield f"{where}{name} stands before BASE, so it has no addresses to convert"


def _groups(checked: Checked) -> Iterator[str]:
    holders: dict[int, str] = {}
    for stack, element in _sources(checked):
        instance = element.instance
        if instance.plugin.name != "NFLOG":
            continue
        group = instance.options["group"] & 0xFFFF
        holder = holders.setdefault(group, instance.id)
        if holder != instance.id:
            yield (
                f"line {stack.line}: {instance.id} wants group {group}, which {holder} has; the"
                " stack fails"
            )
        if group == 0 and "group" not in element.section.given:
            yield (
                f"line {stack.line}: {instance.id} has no group=, so it is group 0 and takes the"
                " kernel's loggers"
            )
        elif instance.options["group"] != group:
            yield (
                f"line {stack.line}: the group of {instance.id} has more than 16 bits: it is"
                f" {group}"
            )


def _sources(checked: Checked) -> Iterator[tuple[Stack, Element]]:
    seen: set[str] = set()
    for stack in checked.stacks:
        for element in stack.elements:
            instance = element.instance
            if instance.plugin.place == SOURCE and instance.id not in seen:
                seen.add(instance.id)
                yield stack, element


def _messages(checked: Checked) -> Iterator[str]:
    yield from dict.fromkeys(checked.messages)
