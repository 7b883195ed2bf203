"""What registers hold while a rule of nftables is read back into text.

The expressions of a rule load, change and compare registers. `formats.nft_rule` follows them with
the classes here: each is a value that a register can hold, and knows its size, its type and its
text.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

from pylog.formats.nft_headers import Header, HeaderField
from pylog.formats.nft_types import UNCLEAR, XINTEGER, Type, Unclear, number, show

_BASES = {"link": "ll", "network": "nh", "transport": "th", "inner": "ih"}
_OPERATORS = {"and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>"}
_PRECEDENCE = {"lshift": 1, "rshift": 1, "and": 2, "xor": 3, "or": 4}


@dataclass(slots=True)
class Constant:
    """Bytes of an immediate or of a comparison."""

    data: bytes

    @property
    def bits(self) -> int:
        return len(self.data) * 8


@dataclass(slots=True)
class Payload:
    """Bits of the packet; `header` and `field` once it is clear which they are."""

    base: str
    offset: int
    bits: int
    header: Header | None = None
    field: HeaderField | None = None
    shift: int = 0
    """How far the keys of a set are to the left, as they were masked and not shifted."""
    raw_type: Type = XINTEGER
    """The type of bits without a field."""

    @property
    def type(self) -> Type:
        return self.raw_type if self.field is None else self.field.type

    @property
    def is_key(self) -> bool:
        """Whether it names the next header."""
        return (
            self.header is not None
            and self.field is not None
            and self.field.name == self.header.key
        )

    @property
    def text(self) -> str:
        if self.header is not None and self.field is not None:
            return f"{self.header.name} {self.field.name}"
        if self.base not in _BASES:
            raise Unclear
        return f"@{_BASES[self.base]},{self.offset},{self.bits}"


@dataclass(slots=True)
class Loaded:
    """A key of meta, ct or another expression, or anything with a text of its own."""

    text: str
    type: Type
    bits: int
    source: str = ""
    key: str = ""


@dataclass(slots=True)
class Swapped:
    """A value of the machine's byte order in network order."""

    argument: Any

    @property
    def bits(self) -> int:
        return int(self.argument.bits)

    @property
    def type(self) -> Type:
        return type_of(self.argument)


@dataclass(slots=True)
class Binop:
    """A bitwise operation; `right` is a Constant, another register, or a number to shift by."""

    op: str
    left: Any
    right: Any

    @property
    def bits(self) -> int:
        return int(self.left.bits)


@dataclass(slots=True)
class Concat:
    """Values in adjacent registers."""

    parts: list[Any]

    @property
    def bits(self) -> int:
        return sum((part.bits + 31) // 32 * 32 for part in self.parts)


@dataclass(slots=True)
class Lookup:
    """What a map gives for a key."""

    key: Any
    set: str

    @property
    def bits(self) -> int:
        """Unknown: it is the size of the set's data."""
        return 0


def clone(value: Any) -> Any:
    """The same value, whose header fields are found independently."""
    if isinstance(value, Payload):
        return Payload(value.base, value.offset, value.bits)
    if isinstance(value, Binop):
        return Binop(value.op, clone(value.left), clone(value.right))
    if isinstance(value, Swapped):
        return Swapped(clone(value.argument))
    if isinstance(value, Concat):
        return Concat([clone(part) for part in value.parts])
    if isinstance(value, Lookup):
        return Lookup(clone(value.key), value.set)
    return copy(value) if isinstance(value, Loaded) else value


def weight(value: Any) -> int:
    """How many values a value is made of."""
    if isinstance(value, Binop):
        return 1 + weight(value.left) + weight(value.right)
    if isinstance(value, Swapped):
        return 1 + weight(value.argument)
    if isinstance(value, Concat):
        return 1 + sum(weight(part) for part in value.parts)
    if isinstance(value, Lookup):
        return 1 + weight(value.key)
    return 1 + weight(value.argument_) if hasattr(value, "argument_") else 1


def type_of(value: Any) -> Type:
    """The type of a single value; of an operation the type of its left side."""
    while isinstance(value, Binop | Swapped):
        value = value.left if isinstance(value, Binop) else value.argument
    return value.type if isinstance(value, Payload | Loaded) else UNCLEAR


def types_of(value: Any) -> list[Type]:
    """The types of the parts."""
    return (
        [type_of(part) for part in value.parts] if isinstance(value, Concat) else [type_of(value)]
    )


def is_swapped(value: Any) -> bool:
    """Whether a value is in network order although its type is not."""
    while isinstance(value, Binop):
        value = value.left
    return isinstance(value, Swapped)


def constant_number(data: bytes, left: Any, order: str) -> int:
    """The number that a constant is, beside `left`."""
    kind = type_of(left)
    if is_swapped(left) and not kind.string:
        return int.from_bytes(data, "big")
    return number(data, kind, order)


class SetTexts(Protocol):
    """The text of sets in a rule."""

    def __call__(self, name: str, key: Any, data: list[Type] | None) -> str:
        """@name, or the elements of an anonymous set; `data` are the types of what a map gives."""

    def first(self, name: str) -> int | None:
        """The number that is the first key of an anonymous set."""

    def data_size(self, name: str) -> int:
        """Bytes of what a map gives."""

    def object_type(self, name: str) -> str | None:
        """The kind of objects that a map gives."""

    def meter(self, name: str) -> str | None:
        """The words before the braces of a set that only its rule has; None for another."""

    def data_parts(self, name: str) -> list[Any]:
        """The types of what a map gives, as its declaration says."""


class Writer:
    """Writes values as nft does.

    order   the machine's byte order, < or >
    """

    def __init__(self, elements: SetTexts, order: str) -> None:
        self.elements, self.order = elements, order

    def text(self, value: Any, data: list[Type] | None = None) -> str:
        """The text of a value that stands alone; `data` are the types of what a map gives."""
        if isinstance(value, Payload | Loaded):
            return value.text
        if isinstance(value, Swapped):
            return self.text(value.argument, data)
        if isinstance(value, Concat):
            return " . ".join(self.text(part) for part in value.parts)
        if isinstance(value, Lookup):
            if data is None:
                raise Unclear
            return f"{self.text(value.key)} map {self.elements(value.set, value.key, data)}"
        if isinstance(value, Binop):
            left = self._operand(value.op, value.left, data)
            return f"{left} {_OPERATORS[value.op]} {self._right(value)}"
        raise Unclear

    def _operand(self, op: str, value: Any, data: list[Type] | None = None) -> str:
        text = self.text(value, data)
        lower = isinstance(value, Binop) and _PRECEDENCE[op] < _PRECEDENCE[value.op]
        return f"({text})" if lower else text

    def _right(self, value: Binop) -> str:
        if isinstance(value.right, int):
            return str(value.right)
        if isinstance(value.right, Constant):
            kind = type_of(value.left)
            word = show(kind, constant_number(value.right.data, value.left, self.order),
                        value.left.bits)  # fmt: skip
            several = kind.bits is not None and " | " in word and value.op != "or"
            return f"({word})" if several else word
        return self._operand(value.op, value.right)

    def constant(self, data: bytes, kind: Type) -> str:
        """A constant of a type."""
        return show(kind, number(data, kind, self.order), len(data) * 8)
