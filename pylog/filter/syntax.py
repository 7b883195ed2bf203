"""The syntax tree of a filter: what its text says, before names and values have a meaning.

All nodes are values. `at` is the place in the text of what a node was read from, so that an error
that is detected later can point there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Literal(NamedTuple):
    """A value: a word as it is, or what stands between quotes, its backslashes included."""

    text: str
    quoted: bool
    at: int


class Span(NamedTuple):
    """All values from `low` to `high`, both included."""

    low: Literal
    high: Literal

    @property
    def at(self) -> int:
        return self.low.at


class Members(NamedTuple):
    """A set of values and spans."""

    entries: tuple[Literal | Span, ...]
    at: int


class File(NamedTuple):
    """A set whose entries are the lines of a file."""

    path: str
    at: int


Operand = Literal | Span | Members | File


class Present(NamedTuple):
    """Whether a record has a field."""

    name: str
    at: int


class Comparison(NamedTuple):
    """A field compared with an operand. `in` and `not in` have any operand, others a Literal.

    mask   of the field only these bits are compared; None: all
    """

    name: str
    operator: str
    operand: Operand
    at: int
    mask: Literal | None = None


class Not(NamedTuple):
    """The contrary of a part."""

    part: Node
    at: int


class All(NamedTuple):
    """Whether all parts hold: `and`."""

    parts: tuple[Node, ...]
    at: int


class Any(NamedTuple):
    """Whether one of the parts holds: `or`."""

    parts: tuple[Node, ...]
    at: int


Node = Present | Comparison | Not | All | Any


def parts_of(node: Node) -> tuple[Node, ...]:
    """The nodes directly below a node."""
    if isinstance(node, Not):
        return (node.part,)
    return node.parts if isinstance(node, All | Any) else ()


def leaves(node: Node) -> Iterator[Present | Comparison]:
    """All tests of a tree, in their order."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Present | Comparison):
            yield node
        waiting += reversed(parts_of(node))


def conjuncts(node: Node) -> tuple[Node, ...]:
    """The parts that must all hold, each by itself."""
    return node.parts if isinstance(node, All) else (node,)
