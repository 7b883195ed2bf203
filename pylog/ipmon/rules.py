"""The rules of ipmon.conf: criteria that a record fits or not, and actions.

A criterion or action is made from its value as it is written in the file. The two tables at the
end, CRITERIA and ACTIONS, are all that the grammar (`conf`) knows of them. A value that is not
allowed raises a ValueError, whose text says what was expected.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from pylog.ipmon.names import PROTOCOLS
from pylog.record import PacketRecord, Record
from pylog.transports.syslog import FACILITIES, LEVELS

RESULTS = ("pass", "block", "nomatch", "log")
TYPES = ("ipf", "nat", "state")
MAXIMUM = 0xFFFFFFFF
"""The largest number of a rule, a tag or `every`."""

_Fits = Callable[[Record], bool]


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

    def matches(self, record: Record, now_s: float) -> bool:
        """Whether the rule applies to the record; `now_s` is of a monotonic clock."""
        if not all(criterion.fits(record) for criterion in self.criteria.values()):
            return False
        if self.unit == "seconds":
            if self._last_s is not None and now_s - self._last_s < self.every:
                return False
            self._last_s = now_s
            return True
        self._passed += 1
        return (self._passed - 1) % self.every == 0


class Criterion(NamedTuple):
    """A criterion: its text, and whether a record fits."""

    text: str
    fits: Callable[[Record], bool]


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


def _has(value: str | int, *fields: str) -> _Fits:
    """Whether any of these fields has the value."""
    return lambda record: value in [getattr(record, name, None) for name in fields]


def _direction(value: str) -> _Fits:
    return _has(_one_of(value, ("in", "out")), "direction")


def _interface(value: str) -> _Fits:
    return _has(_name(value), "indev", "outdev")


def _group(value: str) -> _Fits:
    return _has(_name(value), "group")


def _rule(value: str) -> _Fits:
    return _has(number(value, MAXIMUM), "rule")


def _result(value: str) -> _Fits:
    _one_of(value, RESULTS)

    def fits(record: Record) -> bool:
        if not isinstance(record, PacketRecord):
            return False
        unmatched = "FR_NOMATCH" in (record.extra or {}).get("fl_flags", ())
        return ("nomatch" if unmatched else record.action) == value

    return fits


def _type(value: str) -> _Fits:
    return _has(_one_of(value, TYPES), "log")


def _protocol(value: str) -> _Fits:
    if value[:1].isdecimal():
        return _has(number(value, 255), "protocol")
    numbers = {name: protocol for protocol, name in PROTOCOLS.items()} | {"icmpv6": 58}
    if value.lower() not in numbers:
        raise ValueError("a protocol's number or name")
    return _has(numbers[value.lower()], "protocol")


def _address(*fields: str) -> Callable[[str], _Fits]:
    def criterion(value: str) -> _Fits:
        try:
            network: IPv4Network | IPv6Network = ip_network(value, strict=False)
            if "/" in value and _inverse(value):
                raise ValueError
        except ValueError:
            raise ValueError("an address, with / and a prefix length or mask") from None

        def fits(record: Record) -> bool:
            addresses = (getattr(record, name, None) for name in fields)
            return any(text is not None and _within(text, network) for text in addresses)

        return fits

    return criterion


def _inverse(value: str) -> bool:
    """Whether it has an inverse mask, as 0.0.0.255."""
    mask = value.partition("/")[2]
    return "." in mask and mask.startswith("0.") and mask != "0.0.0.0"


def _within(text: str, network: IPv4Network | IPv6Network) -> bool:
    address = ip_address(text)
    return address.version == network.version and address in network


def _port(*fields: str) -> Callable[[str], _Fits]:
    def criterion(value: str) -> _Fits:
        if value[:1].isdecimal():
            return _has(number(value, 65535), *fields)
        try:
            return _has(socket.getservbyname(_name(value)), *fields)
        except (OSError, ValueError):
            raise ValueError("a port's number, or the name of a service") from None

    return criterion


def _extra(record: Record) -> dict[str, Any]:
    return getattr(record, "extra", None) or {}


def _tag(value: str) -> _Fits:
    wanted = number(value, MAXIMUM)

    def fits(record: Record) -> bool:
        extra = _extra(record)
        tag: int = extra.get("fl_logtag", extra.get("isl_tag", 0))
        return tag == wanted

    return fits


def _nat_tag(value: str) -> _Fits:
    _name(value)
    return lambda record: bool(_extra(record).get("fl_nattag") == value)


CRITERIA: dict[str, Callable[[str], _Fits]] = {
    "direction": _direction, "interface": _interface, "group": _group, "rule": _rule,
    "result": _result, "type": _type, "protocol": _protocol,
    "srcip": _address("saddr", "nat_saddr"), "dstip": _address("daddr", "nat_daddr"),
    "srcport": _port("sport", "nat_sport"), "dstport": _port("dport", "nat_dport"),
    "logtag": _tag, "nattag": _nat_tag,
}  # fmt: skip
"""name -> (value as it is written) -> whether a record fits."""


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
