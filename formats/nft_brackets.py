"""What is available of a statement whose text is not certain: a few words in brackets.

    [meta hour 28800-61200] [payload @th,96,8 & 0x12 == 0x2] [osf ttl 3]

nft never writes brackets, so that no one takes them for its grammar. The words are the fields of
the expression or, of a comparison, what is compared: a change of a rule shows in its text, even if
the text is not nft's. Names of registers and of anonymous sets stay out, as they change by
themselves.
"""

from __future__ import annotations

import re
from typing import Any

from pylog.formats.nft_context import Match
from pylog.formats.nft_loads import Hash
from pylog.formats.nft_types import Unclear
from pylog.formats.nft_values import (
    Binop,
    Concat,
    Constant,
    Loaded,
    Lookup,
    Payload,
    Swapped,
    constant_number,
)

_OPERATORS = {"eq": " ", "ne": " != ", "lt": " < ", "le": " <= ", "gt": " > ", "ge": " >= ",
              "vmap": " vmap "}  # fmt: skip
_BITWISE = {"and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>"}
_RANGES = {("ge", "le"): " ", ("lt", "gt"): " != "}
"""Two bounds that are one range, and the operator of that."""
_LONGEST = 100
"""Characters of words in brackets."""
_WORD = re.compile(r"[\w.:/@+*-]{1,64}")
_SECOND = 1_000_000_000
_LEFT_OUT = ("name", "dreg", "extension", "info", "revision", "csum_type", "csum_offset",
             "csum_flags", "set_id", "packets", "consumed", "msecs", "inverted")  # fmt: skip
"""Fields that say nothing of what a rule does, that the kernel changes, or that are too long."""


def bracketed(name: str, fields: dict[str, Any], values: dict[str, Any] | None = None) -> str:
    """An expression with its fields; one of xtables with its extension and what that logs.

    values   what the registers hold that it uses, by field
    """
    if name in ("match", "target") and isinstance(fields.get("extension"), str):
        logged = [f"{key} {fields[key]}" for key in ("group", "prefix") if key in fields]
        return f"[{' '.join([name, fields['extension'], *logged])}]"
    words = [name, *field_words(fields)]
    for key, value in (values or {}).items():
        if value is None:  # it is a part of another
            continue
        try:
            words += ["set" if key == "sreg" else key.removeprefix("sreg_"), _words(value)]
        except (Unclear, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            words += ["set", "?"]
    return _in_brackets(" ".join(words))


def field_words(fields: dict[str, Any]) -> list[str]:
    """The fields of an expression that are short."""
    words = []
    for key, value in fields.items():
        if key in _LEFT_OUT or key.startswith("sreg") or not isinstance(value, str | int):
            continue
        word = str(value)
        if _WORD.fullmatch(word) and not word.startswith("__"):
            words.append(word if key == "key" else f"{key} {word}")
    return words


def bracket_match(name: str, match: Match, previous: Match | None, order: str) -> str:
    """A comparison in brackets.

    name       of the expression that loads what is compared
    previous   the statement right before: if it is the first bound of a range that this one closes,
               its text becomes empty
    order      the machine's byte order, < or >
    """
    try:
        left, right = _left(name, match.left), _right(match, order)
        if previous is not None and (previous.op, match.op) in _RANGES:
            opened = f"[{left}{_OPERATORS[previous.op]}{_right(previous, order)}]"
            if previous.text == opened and isinstance(match.right, Constant):
                low, previous.text = _right(previous, order), ""
                return _in_brackets(f"{left}{_RANGES[previous.op, match.op]}{low}-{right}")
        return _in_brackets(f"{left}{_OPERATORS[match.op]}{right}")
    except (Unclear, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return f"[{name}]"


def _in_brackets(words: str) -> str:
    words = words.rstrip()
    return f"[{words}]" if len(words) <= _LONGEST else f"[{words[:_LONGEST]}...]"


def _left(name: str, value: Any) -> str:
    """What is compared, after the name of its expression."""
    text = _words(value).strip("[]")
    return text if text.split(" ", 1)[0] == name else f"{name} {text}".rstrip()


def _words(value: Any) -> str:
    if isinstance(value, Hash):
        return f"jhash {_words(value.argument_)}{value.tail}"
    if isinstance(value, Payload | Loaded):
        return value.text
    if isinstance(value, Swapped):
        return _words(value.argument)
    if isinstance(value, Concat):
        return " . ".join(_words(part) for part in value.parts)
    if isinstance(value, Lookup):
        return f"{_words(value.key)} map{_set(value.set)}"
    if isinstance(value, Constant):
        return _hex(value.data)
    if isinstance(value, Binop):
        right = str(value.right) if isinstance(value.right, int) else _words(value.right)
        return f"{_words(value.left)} {_BITWISE[value.op]} {right}"
    raise Unclear


def _right(match: Match, order: str) -> str:
    """What it is compared with."""
    right = match.right
    if isinstance(right, tuple):
        return "-".join(_constant(match.left, part.data, order) for part in right)
    if isinstance(right, Constant):
        return _constant(match.left, right.data, order)
    return _set(right).strip()


def _constant(left: Any, data: bytes, order: str) -> str:
    inner = left.argument if isinstance(left, Swapped) else left
    if not isinstance(inner, Loaded) or not inner.key or len(data) > 8:
        return _hex(data)
    number = constant_number(data, left, order)
    if inner.key == "time" and number % _SECOND == 0:  # nanoseconds
        number //= _SECOND
    return str(number)


def _hex(data: bytes) -> str:
    return f"0x{data.hex().lstrip('0') or '0'}"


def _set(name: str) -> str:
    return "" if name.startswith("__") else f" @{name}"
