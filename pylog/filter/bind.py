"""From a syntax tree to what it means for one type of record.

Names become what they read, operands become conditions, and what the type decides becomes True or
False: a field that it lacks, or its kind. Types are checked here: an operand must make sense for at
least one type of record that has the field, and makes a comparison false for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pylog.filter import syntax
from pylog.filter.conditions import Condition, Listed
from pylog.filter.errors import FilterError
from pylog.filter.names import EITHER, Target, everything, target, types
from pylog.filter.operands import Operands
from pylog.nearest import COLUMNS, advice
from pylog.record import Record, kind_of


class Leaf(NamedTuple):
    """Whether one of the values that a target reads fits; `negated`: some are there, and none fits.

    condition   None: any value fits
    """

    target: Target
    condition: Condition | None
    negated: bool


class BoundNot(NamedTuple):
    part: Bound


class BoundAll(NamedTuple):
    parts: tuple[Bound, ...]


class BoundAny(NamedTuple):
    parts: tuple[Bound, ...]


Bound = bool | Leaf | BoundNot | BoundAll | BoundAny


class Binder:
    """Gives the parts of a filter their meaning, by type of record."""

    def __init__(self, text: str, now_ns: int) -> None:
        self._text = text
        self._operands = Operands(text, now_ns)
        self._conditions: dict[tuple[syntax.Comparison, Target], Condition | FilterError] = {}

    @property
    def files(self) -> list[Listed]:
        """The conditions that are made of files."""
        return self._operands.files

    def check(self, node: syntax.Node) -> None:
        """FilterError for a name that no type of record has, or an operand that fits none."""
        for leaf in syntax.leaves(node):
            targets = [found for kind in types() if (found := target(leaf.name, kind)) is not None]
            if not targets:
                raise self._no_name(leaf)
            if isinstance(leaf, syntax.Present):
                continue
            errors = [self._condition(leaf, found) for found in dict.fromkeys(targets)]
            if all(isinstance(error, FilterError) for error in errors):
                assert isinstance(errors[0], FilterError)
                raise errors[0]

    def bind(self, node: syntax.Node, kind: type[Record]) -> Bound:
        """What a node means for a type of record."""
        if isinstance(node, syntax.Not):
            part = self.bind(node.part, kind)
            return not part if isinstance(part, bool) else BoundNot(part)
        if isinstance(node, syntax.All):
            return _joined(node, kind, self.bind, BoundAll, False)
        if isinstance(node, syntax.Any):
            return _joined(node, kind, self.bind, BoundAny, True)
        return self._leaf(node, kind)

    def _leaf(self, node: syntax.Present | syntax.Comparison, kind: type[Record]) -> Bound:
        found = target(node.name, kind)
        if found is None:
            return False
        if isinstance(node, syntax.Present):
            return True if found.domain == "kind" else Leaf(found, None, False)
        condition = self._condition(node, found)
        if isinstance(condition, FilterError):
            return False
        negated = node.operator in ("!=", "not in")
        if found.domain == "kind":
            return self._operands.fits(condition, kind_of(kind)) != negated
        return Leaf(found, condition, negated)

    def _condition(self, node: syntax.Comparison, found: Target) -> Condition | FilterError:
        """The condition of a comparison, made once for all types with the same target."""
        key = node, found._replace(reads=())
        if key not in self._conditions:
            try:
                self._conditions[key] = self._operands.condition(node, found)
            except FilterError as error:
                self._conditions[key] = error.with_traceback(None)
        return self._conditions[key]

    def _no_name(self, leaf: syntax.Present | syntax.Comparison) -> FilterError:
        """The error for a name that nothing has."""
        first, dot, part = leaf.name.partition(".")
        owners = [found for kind in types() if (found := target(first, kind)) is not None]
        names = everything()
        if dot and owners:
            parts = [name for name in names if name.startswith(f"{first}.")]
            hint = f"; it has {', '.join(parts)}" if parts else ""
            return FilterError(self._text, leaf.at, f"{first} has no part {part}{hint}")
        hint = advice(leaf.name, [*names, *EITHER], COLUMNS)
        return FilterError(self._text, leaf.at, f"no field {leaf.name!r}{hint}")


def _joined(
    node: syntax.All | syntax.Any,
    kind: type[Record],
    bind: Callable[[syntax.Node, type[Record]], Bound],
    make: Callable[[tuple[Bound, ...]], Bound],
    decisive: bool,
) -> Bound:
    """The parts of `and` or `or`, of which one that is `decisive` decides."""
    parts: list[Bound] = []
    for part in node.parts:
        bound = bind(part, kind)
        if bound is decisive:
            return decisive
        if not isinstance(bound, bool):
            parts.append(bound)
    if not parts:
        return not decisive
    return parts[0] if len(parts) == 1 else make(tuple(parts))


def leaves(bound: Bound) -> list[Leaf]:
    """All leaves of a tree."""
    if isinstance(bound, Leaf):
        return [bound]
    if isinstance(bound, bool):
        return []
    parts = (bound.part,) if isinstance(bound, BoundNot) else bound.parts
    return [leaf for part in parts for leaf in leaves(part)]
