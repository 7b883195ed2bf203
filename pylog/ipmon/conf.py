"""ipmon.conf, parsed into rules (`rules`): what to do with which records.

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

`every` is applied after the criteria, and lets one of N records through, or one in N seconds. An
action's argument may be in brackets, as in 5.x, or not, as in 4.x.

Each criterion is an expression of pylog's filter language (`rules`). The grammar is ipmon's
(ipmon_y.y of 4.1 and 5.1), with IPv6 and with criteria for NAT and state records. `rule` is the
number that is shown (in ipmon, the one stored), and `every N packets` lets one of N through (in
ipmon, of N + 1). SNMP traps (send_trap) and loaded actions (load_action) are not supported, and
refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pylog.ipmon.rules import ACTIONS, CRITERIA, MAXIMUM, Action, Criterion, Rule, number

UNITS = {"packet": "packets", "packets": "packets", "second": "seconds", "seconds": "seconds"}
UNSUPPORTED = ("load_action", "send_trap", "snmp_trap")


class ConfError(ValueError):
    """A configuration that cannot be parsed: file, line, what was found and what was expected."""


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
    """A recursive descent parser: one method for each rule of the grammar."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._tokens = list(_tokens(text, name))
        self._at = 0
        self._variables: dict[str, str] = {}

    def rules(self) -> list[Rule]:
        rules = []
        while self._next.kind != "end of file":
            word = self._next
            if word.text in UNSUPPORTED:
                raise self._unsupported(word)
            if word.text == "match" and word.kind == "word":
                rules.append(self._rule())
            elif word.kind == "word" and not word.text.startswith("$"):
                self._take()
                self._sign("=")
                self._variables[word.text] = self._value("a value")
                self._sign(";")
            else:
                raise self._error("match or NAME = VALUE")
        return rules

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
        """A word or a string, or the value of $NAME."""
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
        if token.kind != "word" or (token.text not in CRITERIA and token.text != "every"):
            raise self._error(f"a criterion: {', '.join([*CRITERIA, 'every'])}")
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
            expression = CRITERIA[token.text](text)
        except ValueError as error:
            raise self._error(str(error), value) from error
        rule.criteria[token.text] = Criterion(text, expression)

    def _every(self, rule: Rule) -> None:
        count, token = 1, self._next
        if token.kind == "word" and token.text.isdecimal():
            self._take()
            try:
                count = number(token.text, MAXIMUM, 1)
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
        if token.kind != "word" or token.text not in ACTIONS:
            raise self._error(f"an action: {', '.join(ACTIONS)}")
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
            return ACTIONS[token.text](argument)
        except ValueError as error:
            raise self._error(str(error), where) from error


def parse(text: str, name: str = "ipmon.conf") -> list[Rule]:
    """The rules of a configuration, in its order; ConfError, with the line of the mistake."""
    return _Parser(text, name).rules()
