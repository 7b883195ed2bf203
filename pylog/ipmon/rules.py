"""The rules of ipmon.conf: criteria, which are expressions of the filter language, and actions.

A criterion or action is made from its value as it is written in the file. The two tables,
CRITERIA and ACTIONS, are all that the grammar (`conf`) knows of them. A value that is not
allowed raises a ValueError, whose text says what was expected.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_network
from typing import NamedTuple

from pylog.filter import Filter
from pylog.ipmon.names import PROTOCOLS
from pylog.record import Record
from pylog.transports.syslog import FACILITIES, LEVELS

RESULTS = ("pass", "block", "nomatch", "log")
TYPES = {
    "ipf": "kind == packet", "nat": "kind == flow and not flow_type == state",
    "state": "flow_type == state",
}  # fmt: skip
"""The records of each log, by its name."""
MAXIMUM = 0xFFFFFFFF
"""The largest number of a rule, a tag or `every`."""


class Action(NamedTuple):
    """The action for a record that matches: file, raw, syslog, execute or nothing.

    argument   a path; FACILITY.LEVEL or ""; a command
    """

    kind: str
    argument: str


@dataclass
class Rule:
    """One match ... do: criteria by name, how often it may match, and the actions."""

    criteria: dict[str, Criterion]
    actions: list[Action]
    every: int = 1
    unit: str = "packets"
    every_given: bool = False
    line: int = 0
    _passed: int = field(default=0, repr=False)
    _last_s: float | None = field(default=None, repr=False)

    @cached_property
    def filter(self) -> Filter:
        """The criteria as a filter of packets and flows."""
        tests = [f"({criterion.expression})" for criterion in self.criteria.values()]
        return Filter(" and ".join(("kind in {packet, flow}", *tests)))

    def matches(self, record: Record, now_s: float) -> bool:
        """Whether the rule applies to the record; `now_s` is of a monotonic clock."""
        if not self.filter.matches(record):
            return False
        if self.unit == "seconds":
            if self._last_s is not None and now_s - self._last_s < self.every:
                return False
            self._last_s = now_s
            return True
        self._passed += 1
        return (self._passed - 1) % self.every == 0


class Criterion(NamedTuple):
    """A criterion: its text, and what it asks for in the filter language."""

    text: str
    expression: str


# Criteria


def _one_of(value: str, words: tuple[str, ...]) -> str:
    if value not in words:
        raise ValueError(" or ".join(words))
    return value


def number(value: str, most: int, least: int = 0) -> int:
    """The number from `least` to `most` that is written so; ValueError."""
    if re.fullmatch(r"[0-9]{1,10}", value) and least <= int(value) <= most:
        return int(value)
    raise ValueError(f"a number above 0, at most {most}" if least else f"a number, at most {most}")


def _name(value: str, what: str = "a name") -> str:
    if not value or "\0" in value:
        raise ValueError(what)
    return value


def _quoted(value: str) -> str:
    """A name as the filter language has it in quotes."""
    escaped = _name(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _any(names: Sequence[str], test: str) -> str:
    """The expression that a test holds for one of several fields."""
    return " or ".join(f"{name} {test}" for name in names)


def _direction(value: str) -> str:
    return f"direction == {_one_of(value, ('in', 'out'))}"


def _interface(value: str) -> str:
    return _any(("indev", "outdev"), f"== {_quoted(value)}")


def _group(value: str) -> str:
    return f"group == {_quoted(value)}"


def _rule(value: str) -> str:
    return f"rule == {number(value, MAXIMUM)}"


def _result(value: str) -> str:
    unmatched = "extra.fl_flags has FR_NOMATCH"
    if _one_of(value, RESULTS) == "nomatch":
        return f'{unmatched} or action == "nomatch"'
    return f'not {unmatched} and action == "{value}"'


def _type(value: str) -> str:
    return TYPES[_one_of(value, tuple(TYPES))]


def _protocol(value: str) -> str:
    if value[:1].isdecimal():
        return f"protocol == {number(value, 255)}"
    numbers = {name: protocol for protocol, name in PROTOCOLS.items()} | {"icmpv6": 58}
    if value.lower() not in numbers:
        raise ValueError("a protocol's number or name")
    return f"protocol == {numbers[value.lower()]}"


def _address(*fields: str) -> Callable[[str], str]:
    def criterion(value: str) -> str:
        try:
            network = ip_network(value, strict=False)
            if "/" in value and _inverse(value):
                raise ValueError
        except ValueError:
            raise ValueError("an address, with / and a prefix length or mask") from None
        return _any(fields, f"in {network}")

    return criterion


def _inverse(value: str) -> bool:
    """Whether it has an inverse mask, as 0.0.0.255."""
    mask = value.partition("/")[2]
    return "." in mask and mask.startswith("0.") and mask != "0.0.0.0"


def _port(*fields: str) -> Callable[[str], str]:
    def criterion(value: str) -> str:
        if value[:1].isdecimal():
            return _any(fields, f"== {number(value, 65535)}")
        try:
            return _any(fields, f"== {socket.getservbyname(_name(value))}")
        except (OSError, ValueError):
            raise ValueError("a port's number, or the name of a service") from None

    return criterion


def _tag(value: str) -> str:
    wanted = number(value, MAXIMUM)
    tagged = f"extra.fl_logtag == {wanted} or not extra.fl_logtag and extra.isl_tag == {wanted}"
    return tagged if wanted else f"{tagged} or not extra.fl_logtag and not extra.isl_tag"


def _nat_tag(value: str) -> str:
    return f"extra.fl_nattag == {_quoted(value)}"


CRITERIA: dict[str, Callable[[str], str]] = {
    "direction": _direction, "interface": _interface, "group": _group, "rule": _rule,
    "result": _result, "type": _type, "protocol": _protocol,
    "srcip": _address("saddr", "nat_saddr"), "dstip": _address("daddr", "nat_daddr"),
    "srcport": _port("sport", "nat_sport"), "dstport": _port("dport", "nat_dport"),
    "logtag": _tag, "nattag": _nat_tag,
}  # fmt: skip
"""name -> (value as it is written) -> the expression of the filter language."""


# Actions


def _save(argument: str) -> Action:
    _name(argument, '"file://PATH" or "raw://PATH"')
    for kind in ("file", "raw"):
        if argument.startswith(f"{kind}://") and argument != f"{kind}://":
            return Action(kind, argument.removeprefix(f"{kind}://"))
    raise ValueError('"file://PATH" or "raw://PATH"')


def _file(argument: str) -> Action:
    if "://" in argument:
        return _save(argument)
    return Action("file", _name(argument, "a path"))


def _syslog(argument: str) -> Action:
    facility, dot, level = argument.rpartition(".")
    if argument and (level not in LEVELS or (dot and facility not in FACILITIES)):
        raise ValueError("FACILITY.LEVEL, as local0.info")
    return Action("syslog", argument)


def _execute(argument: str) -> Action:
    return Action("execute", _name(argument, "a command"))


def _nothing(argument: str) -> Action:
    if argument:
        raise ValueError("no argument")
    return Action("nothing", "")


ACTIONS: dict[str, Callable[[str], Action]] = {
    "save": _save, "file": _file, "syslog": _syslog, "execute": _execute, "nothing": _nothing,
}  # fmt: skip
"""name -> (argument as it is written) -> the action."""
