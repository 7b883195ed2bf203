"""ipmon.conf: what to do with which records.

    # comment
    NAME = WORD ;                                    used as $NAME afterwards
    match { CRITERION , ... ; } do { ACTION , ... ; } ;

    direction = in | out            interface = NAME         group = NAME | NUMBER
    srcip, dstip = ADDRESS[/PREFIX LENGTH or mask]           rule = NUMBER
    srcport, dstport = NUMBER | SERVICE                      logtag = NUMBER
    protocol = NUMBER | NAME        nattag = NAME            type = ipf | nat | state
    result = pass | block | nomatch | log
    every N packets | every N seconds | every packet | every second

    save "file://PATH", save "raw://PATH", file("PATH"), syslog, syslog "FACILITY.LEVEL",
    execute "COMMAND", nothing

`every` is no criterion by itself: it is asked last, and lets one of N records through, or one in N
seconds. An action's argument may stand in brackets, as in 5.x, or not, as in 4.x.

The grammar is ipmon's (ipmon_y.y of 4.1 and 5.1), with IPv6 and with criteria for NAT and state
records; `rule` is the number that is shown (there, the one stored), and one of N packets is just
that (there, of N + 1). What is not supported is refused by name: SNMP traps (send_trap) and loaded
actions (load_action).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from pylog.ipmon.names import PROTOCOLS
from pylog.record import PacketRecord, Record
from pylog.transports.syslog import FACILITIES, LEVELS

RESULTS = ("pass", "block", "nomatch", "log")
TYPES = ("ipf", "nat", "state")
UNITS = {"packet": "packets", "packets": "packets", "second": "seconds", "seconds": "seconds"}
UNSUPPORTED = ("load_action", "send_trap", "snmp_trap")


class ConfError(ValueError):
    """A configuration that cannot be read: file, line, what was found and what was expected."""


class Action(NamedTuple):
    """What to do with a record that matches: file, raw, syslog, execute or nothing.

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
        """Whether the record is one for the rule; `now_s` is a clock that does not go back."""
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
    """One criterion: its words, and whether a record fits."""

    text: str
    fits: Callable[[Record], bool]


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)|(?P<end>\n)|(?P<string>"[^"\n]*")
      |(?P<sign>[{}(),;=])|(?P<word>[^\s{}(),;="\#]+)""",
    re.X,
)


def _tokens(text: str, name: str) -> Iterator[_Token]:
    line, at = 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None and text[at] == '"':
            raise ConfError(f'{name}:{line}: a string that does not end: expected " before the end')
        if match is None:
            raise ConfError(f"{name}:{line}: {text[at]!r}, but expected a word or a sign")
        at = match.end()
        kind = match.lastgroup or ""
        if kind == "end":
            line += 1
        elif kind == "string":
            yield _Token(kind, match[0][1:-1], line)
        elif kind != "space":
            yield _Token(kind, match[0], line)
    yield _Token("end of file", "", line)


class _Parser:
    """Recursive descent: one method for each thing of the grammar."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._tokens = list(_tokens(text, name))
        self._at = 0
        self._variables: dict[str, str] = {}

    def rules(self) -> list[Rule]:
        found = []
        while self._next.kind != "end of file":
            word = self._next
            if word.text in UNSUPPORTED:
                raise self._unsupported(word)
            if word.text == "match" and word.kind == "word":
                found.append(self._rule())
            elif word.kind == "word" and not word.text.startswith("$"):
                self._take()
                self._sign("=")
                self._variables[word.text] = self._value("a value")
                self._sign(";")
            else:
                raise self._error("match or NAME = VALUE")
        return found

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _error(self, expected: str, token: _Token | None = None) -> ConfError:
        token = token or self._next
        found = repr(token.text[:60]) if token.text else token.kind
        return ConfError(f"{self._name}:{token.line}: {found}, but expected {expected}")

    def _unsupported(self, token: _Token) -> ConfError:
        return ConfError(f"{self._name}:{token.line}: {token.text} is not supported")

    def _sign(self, sign: str) -> None:
        if self._next.kind != "sign" or self._next.text != sign:
            raise self._error(repr(sign))
        self._take()

    def _value(self, expected: str) -> str:
        """A word or a string, with $NAME put in."""
        token = self._next
        if token.kind not in ("word", "string"):
            raise self._error(expected)
        self._take()
        if token.kind == "word" and token.text.startswith("$"):
            name = token.text[1:]
            if name not in self._variables:
                raise self._error("the name of a variable set before", token)
            return self._variables[name]
        return token.text

    def _word(self, *words: str) -> None:
        if self._next.kind != "word" or self._next.text not in words:
            raise self._error(" or ".join(words))
        self._take()

    def _rule(self) -> Rule:
        line = self._next.line
        rule = Rule({}, [], line=line)
        self._word("match")
        self._sign("{")
        self._list(lambda: self._criterion(rule))
        self._word("do")
        self._sign("{")
        self._list(lambda: rule.actions.append(self._action()))
        self._sign(";")
        return rule

    def _list(self, item: Callable[[], None]) -> None:
        """ITEM , ITEM ... ; }"""
        item()
        while self._next.text == "," and self._next.kind == "sign":
            self._take()
            item()
        self._sign(";")
        self._sign("}")

    def _criterion(self, rule: Rule) -> None:
        token = self._next
        if token.kind != "word" or (token.text not in _CRITERIA and token.text != "every"):
            raise self._error(f"a criterion: {', '.join([*_CRITERIA, 'every'])}")
        self._take()
        if token.text in rule.criteria or (token.text == "every" and rule.every_given):
            raise self._error("each criterion once", token)
        if token.text == "every":
            self._every(rule)
            return
        self._sign("=")
        value = self._next
        text = self._value("a value")
        try:
            fits = _CRITERIA[token.text](text)
        except ValueError as error:
            raise self._error(str(error), value) from error
        rule.criteria[token.text] = Criterion(text, fits)

    def _every(self, rule: Rule) -> None:
        count, token = 1, self._next
        if token.kind == "word" and token.text.isdecimal():
            self._take()
            try:
                count = _number(token.text, 0xFFFFFFFF, 1)
            except ValueError as error:
                raise self._error(str(error), token) from error
        unit = self._next
        if unit.kind != "word" or unit.text not in UNITS:
            raise self._error("packets or seconds")
        self._take()
        rule.every, rule.unit, rule.every_given = count, UNITS[unit.text], True

    def _action(self) -> Action:
        token = self._next
        if token.text in UNSUPPORTED:
            raise self._unsupported(token)
        if token.kind != "word" or token.text not in _ACTIONS:
            raise self._error(f"an action: {', '.join(_ACTIONS)}")
        self._take()
        argument, where = "", self._next
        if self._next.text == "(" and self._next.kind == "sign":
            self._take()
            where = self._next
            argument = self._value("a string")
            self._sign(")")
        elif self._next.kind in ("word", "string"):
            argument = self._value("a string")
        try:
            return _ACTIONS[token.text](argument)
        except ValueError as error:
            raise self._error(str(error), where) from error


def parse(text: str, name: str = "ipmon.conf") -> list[Rule]:
    """The rules of a configuration, in its order; ConfError, with the line, for what is wrong."""
    return _Parser(text, name).rules()


# Criteria: a value as it is written -> whether a record fits

_Fits = Callable[[Record], bool]


def _one_of(value: str, words: tuple[str, ...]) -> str:
    if value not in words:
        raise ValueError(" or ".join(words))
    return value


def _number(value: str, most: int, least: int = 0) -> int:
    if re.fullmatch(r"[0-9]{1,10}", value) and least <= int(value) <= most:
        return int(value)
    raise ValueError(f"a number above 0, at most {most}" if least else f"a number, at most {most}")


def _name(value: str, what: str = "a name") -> str:
    if not value or "\0" in value:
        raise ValueError(what)
    return value


def _direction(value: str) -> _Fits:
    _one_of(value, ("in", "out"))
    return lambda record: getattr(record, "direction", None) == value


def _interface(value: str) -> _Fits:
    _name(value)

    def fits(record: Record) -> bool:
        return value in (getattr(record, "indev", None), getattr(record, "outdev", None))

    return fits


def _group(value: str) -> _Fits:
    _name(value)
    return lambda record: getattr(record, "group", None) == value


def _rule(value: str) -> _Fits:
    number = _number(value, 0xFFFFFFFF)
    return lambda record: getattr(record, "rule", None) == number


def _result(value: str) -> _Fits:
    _one_of(value, RESULTS)

    def fits(record: Record) -> bool:
        if not isinstance(record, PacketRecord):
            return False
        unmatched = "FR_NOMATCH" in (record.extra or {}).get("fl_flags", ())
        return ("nomatch" if unmatched else record.action) == value

    return fits


def _type(value: str) -> _Fits:
    _one_of(value, TYPES)
    return lambda record: record.log == value


def _protocol(value: str) -> _Fits:
    if value[:1].isdecimal():
        number = _number(value, 255)
    else:
        numbers = {name: number for number, name in PROTOCOLS.items()} | {"icmpv6": 58}
        if value.lower() not in numbers:
            raise ValueError("a protocol's number or name")
        number = numbers[value.lower()]
    return lambda record: getattr(record, "protocol", None) == number


def _address(*fields: str) -> Callable[[str], _Fits]:
    def criterion(value: str) -> _Fits:
        try:
            network: IPv4Network | IPv6Network = ip_network(value, strict=False)
            if "/" in value and _inverse(value):
                raise ValueError
        except ValueError:
            raise ValueError("an address, with / and a prefix length or mask") from None

        def fits(record: Record) -> bool:
            found = (getattr(record, name, None) for name in fields)
            return any(text is not None and _within(text, network) for text in found)

        return fits

    return criterion


def _inverse(value: str) -> bool:
    """Whether a mask has its ones at the end, as 0.0.0.255."""
    mask = value.partition("/")[2]
    return "." in mask and mask.startswith("0.") and mask != "0.0.0.0"


def _within(text: str, network: IPv4Network | IPv6Network) -> bool:
    address = ip_address(text)
    return address.version == network.version and address in network


def _port(*fields: str) -> Callable[[str], _Fits]:
    def criterion(value: str) -> _Fits:
        if value[:1].isdecimal():
            number = _number(value, 65535)
        else:
            try:
                number = socket.getservbyname(_name(value))
            except (OSError, ValueError):
                raise ValueError("a port's number, or the name of a service") from None
        return lambda record: any(getattr(record, name, None) == number for name in fields)

    return criterion


def _extra(record: Record) -> dict[str, Any]:
    return getattr(record, "extra", None) or {}


def _tag(value: str) -> _Fits:
    number = _number(value, 0xFFFFFFFF)

    def fits(record: Record) -> bool:
        extra = _extra(record)
        found: int = extra.get("fl_logtag", extra.get("isl_tag", 0))
        return found == number

    return fits


def _nat_tag(value: str) -> _Fits:
    _name(value)
    return lambda record: bool(_extra(record).get("fl_nattag") == value)


_CRITERIA: dict[str, Callable[[str], _Fits]] = {
    "direction": _direction, "interface": _interface, "group": _group, "rule": _rule,
    "result": _result, "type": _type, "protocol": _protocol,
    "srcip": _address("saddr", "nat_saddr"), "dstip": _address("daddr", "nat_daddr"),
    "srcport": _port("sport", "nat_sport"), "dstport": _port("dport", "nat_dport"),
    "logtag": _tag, "nattag": _nat_tag,
}  # fmt: skip


# Actions: an argument as it is written -> the action


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


_ACTIONS: dict[str, Callable[[str], Action]] = {
    "save": _save, "file": _file, "syslog": _syslog, "execute": _execute, "nothing": _nothing,
}  # fmt: skip
