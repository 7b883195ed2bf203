"""From the text of a filter to its syntax tree, by the grammar in grammar.lark.

Lark reads the grammar once for each process, when the first filter is parsed. Its LALR parser has a
stack of its own, so that no nesting makes Python recurse. The length of a text and the depth of its
tree are limited, because what is made of the tree later does recurse.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pylog.filter import syntax
from pylog.filter.errors import FilterError
from pylog.nearest import advice

LONGEST = 1 << 16
"""A filter has at most so many characters; longer sets belong into a file."""
DEEPEST = 64
"""Tests are nested at most so deep."""

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in", "contains", "startswith", "matches",
             "has")  # fmt: skip
_OTHER_WORDS = {
    "=": "==", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "~": "matches",
    "AND": "and", "OR": "or", "NOT": "not", "IN": "in", "is": "==", "=~": "matches", "<>": "!=",
    "like": "contains", "|": "or", "===": "==",
}  # fmt: skip
"""Operators of other languages."""


def parse(text: str) -> syntax.Node:
    """The syntax tree of a filter; FilterError."""
    if len(text) > LONGEST:
        raise FilterError(
            text, LONGEST, f"a filter has at most {LONGEST} characters, this one {len(text)};"
            " a long set can be in a file: in @FILE"
        )  # fmt: skip
    if not text.strip():
        raise FilterError(text, 0, "a filter must not be empty")
    import lark  # here, because it takes long and few runs need it

    try:
        node: syntax.Node = _parser().parse(text)
    except lark.exceptions.UnexpectedInput as error:
        raise _unexpected(text, error) from None
    _check_depth(text, node)
    return node


def grammar() -> str:
    """The grammar, as lark reads it."""
    from importlib.resources import files  # here, because it takes a while

    return files("pylog.filter").joinpath("grammar.lark").read_text("utf-8")


@cache
def _parser() -> Any:
    import lark

    class Build(lark.Transformer[Any, syntax.Node]):
        """Makes the nodes of the syntax tree."""

        def either(self, parts: list[syntax.Node]) -> syntax.Node:
            return syntax.Any(tuple(parts), parts[0].at)

        def both(self, parts: list[syntax.Node]) -> syntax.Node:
            return syntax.All(tuple(parts), parts[0].at)

        def negation(self, parts: list[syntax.Node]) -> syntax.Node:
            return syntax.Not(parts[0], parts[0].at)

        def present(self, parts: list[Any]) -> syntax.Node:
            return syntax.Present(str(parts[0]), parts[0].start_pos)

        def comparison(self, parts: list[Any]) -> syntax.Node:
            name, operator, operand = parts
            return syntax.Comparison(str(name), str(operator), operand, name.start_pos)

        def bits(self, parts: list[Any]) -> syntax.Node:
            name, word, *test = parts
            mask = syntax.Literal(str(word), False, word.start_pos)
            operator, operand = test or (">", syntax.Literal("0", False, word.start_pos))
            return syntax.Comparison(str(name), str(operator), operand, name.start_pos, mask)

        def membership(self, parts: list[Any]) -> str:
            return " ".join(parts[0].split())

        def span(self, parts: list[syntax.Literal]) -> syntax.Span:
            return syntax.Span(*parts)

        def members(self, parts: list[Any]) -> syntax.Members:
            entries = tuple(part for part in parts if part is not None)
            return syntax.Members(entries, entries[0].at if entries else 0)

        def file(self, parts: list[Any]) -> syntax.File:
            return syntax.File(parts[0][1:].strip('"'), parts[0].start_pos)

        def value(self, parts: list[Any]) -> syntax.Literal:
            (token,) = parts
            if token.type == "QUOTED":
                return syntax.Literal(str(token[1:-1]), True, token.start_pos)
            return syntax.Literal(str(token), False, token.start_pos)

    return lark.Lark(
        grammar(), parser="lalr", start="either", transformer=Build(), maybe_placeholders=True
    )


def _check_depth(text: str, node: syntax.Node) -> None:
    """FilterError for a tree that is too deep."""
    level: list[syntax.Node] = [node]
    for _ in range(DEEPEST):
        level = [part for parent in level for part in syntax.parts_of(parent)]
        if not level:
            return
    raise FilterError(text, level[0].at, f"tests are nested more than {DEEPEST} deep")


_EXPECTED = {
    "NAME": "the name of a field", "OPERATOR": "an operator", "WORD": "a value", "_AND": "`and`",
    "_OR": "`or`",
}  # fmt: skip
"""Terminals of the grammar as an error calls them, in this order; others are not mentioned."""


def _unexpected(text: str, error: Any) -> FilterError:
    """The error for text that does not follow the grammar."""
    token = getattr(error, "token", None)
    at_end = token is not None and token.type == "$END"
    at = len(text.rstrip()) if at_end else error.pos_in_stream or 0
    accepted: set[str] = set(getattr(error, "allowed", None) or error.expected)
    expected = [words for name, words in _EXPECTED.items() if name in accepted]
    if "RBRACE" in accepted and text.count("{", 0, at) > text.count("}", 0, at):
        expected = ["`,`", "`}`"] if "COMMA" in accepted else expected
    elif "RPAR" in accepted and text.count("(", 0, at) > text.count(")", 0, at):
        expected.append("`)`")
    rest = text[at:]
    found = _piece(rest)
    if rest and rest[0] in "\"'" and rest.count(rest[0]) == 1:
        return FilterError(text, at, f"the quote {rest[0]} is not closed")
    what = "the expression ends" if at_end else f"there is {found!r}"
    listed = " or ".join([", ".join(expected[:-1]), expected[-1]] if expected[1:] else expected)
    wanted = f", but expected is {listed}" if expected else ""
    return FilterError(text, at, what + wanted + ("" if at_end else _meant(found, accepted)))


def _piece(rest: str) -> str:
    """The first word or sign of a text."""
    match = re.match(r"[\w.-]+|[=<>!&|~]+|.", rest, re.S)
    return "" if match is None else match[0]


def _meant(found: str, accepted: set[str]) -> str:
    """What is meant by a word that is no operator, to be appended to the error."""
    if found in ("(", "[") and "LBRACE" in accepted:
        return "; a set is written {1, 2}"
    if found in _OTHER_WORDS:
        return f"; did you mean {_OTHER_WORDS[found]}?"
    if "OPERATOR" in accepted:
        return advice(found, [*OPERATORS, "and", "or"])
    return ""
