"""From what a filter means for a type of record to a Python function of such records.

The function is one expression, made as Python code and compiled: a test of a field costs little
more than reading it. Only names of declared fields and of constants stand in the code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pylog.filter.bind import Bound, BoundAll, BoundAny, BoundNot, Leaf
from pylog.filter.conditions import FUNCTIONS, Condition, Constants, Equal
from pylog.filter.names import Read
from pylog.formats.packet_headers import requested
from pylog.record import Record

Predicate = Callable[[Record], bool]
Values = Callable[[Record], tuple[Any, ...]]
ETHERNET = 1
"""ARPHRD_ETHER."""


def predicate(bound: Bound) -> Predicate:
    """The function of a tree, for records of its type, or for rows whose values are the same."""
    made: Predicate = _made(bound, "r.{}".format)
    return made


def test_of_values(bound: Bound, kind: type[Record]) -> Callable[[Sequence[Any]], bool]:
    """As `predicate`, of the values of such a record in the places of its fields. All reads of the
    tree must be of fields.
    """
    places = {name: place for place, name in enumerate(kind.__struct_fields__)}
    made: Callable[[Sequence[Any]], bool] = _made(bound, lambda name: f"r[{places[name]}]")
    return made


def _made(bound: Bound, access: Callable[[str], str]) -> Any:
    writer = _Writer(access)
    code = writer.code(bound)
    return eval(f"lambda r: {code}", FUNCTIONS | writer.constants)


class _Writer:
    """Writes the code of trees.

    access      the code that reads an attribute
    constants   of the code so far
    """

    def __init__(self, access: Callable[[str], str]) -> None:
        self._access = access
        self.constants = Constants()

    def code(self, bound: Bound) -> str:
        """The code of a tree, in parentheses if it has operators."""
        if isinstance(bound, bool):
            return str(bound)
        if isinstance(bound, BoundNot):
            return f"(not {self.code(bound.part)})"
        if isinstance(bound, BoundAll | BoundAny):
            word = " and " if isinstance(bound, BoundAll) else " or "
            return f"({word.join(map(self.code, bound.parts))})"
        if bound.condition is None:
            return self._any_present(bound)
        if not bound.negated:
            return self._any_fits(bound, bound.condition)
        if len(bound.target.reads) == 1 and bound.target.reads[0].how == "field":
            value = f"(v := {self._access(bound.target.reads[0].attribute)})"
            if isinstance(bound.condition, Equal):
                other = self.constants.name(bound.condition.value)
                return f"({value} is not None and v != {other})"
            test = bound.condition.code("v", self.constants.name)
            return f"({value} is not None and not ({test}))"
        return f"({self._any_present(bound)} and not {self._any_fits(bound, bound.condition)})"

    def _any_present(self, leaf: Leaf) -> str:
        """Whether there is a value."""
        return f"({' or '.join(map(self._present, leaf.target.reads))})"

    def _present(self, read: Read) -> str:
        if read.how == "field":
            return f"{self._access(read.attribute)} is not None"
        return f"{self.constants.name(values_of(read))}(r) != ()"

    def _any_fits(self, leaf: Leaf, condition: Condition) -> str:
        """Whether one of the values fits."""
        tests = []
        for read in leaf.target.reads:
            test = condition.code("v", self.constants.name)
            if read.how != "field":
                values = self.constants.name(values_of(read))
                tests.append(f"any([{test} for v in {values}(r)])")
                continue
            value = f"(v := {self._access(read.attribute)})"
            if isinstance(condition, Equal):
                tests.append(f"{value} == {self.constants.name(condition.value)}")
            else:
                tests.append(f"{value} is not None and ({test})")
        return f"({' or '.join(tests)})"


def values_of(read: Read) -> Values:
    """The function that gives the values of a read, () if there are none."""
    return _READERS[read.how](read)


def _field(read: Read) -> Values:
    name = read.attribute

    def values(record: Record) -> tuple[Any, ...]:
        value = getattr(record, name)
        return () if value is None else (value,)

    return values


def _part(read: Read) -> Values:
    name, path = read.attribute, read.path

    def values(record: Record) -> tuple[Any, ...]:
        value = getattr(record, name)
        for part in path:
            if isinstance(value, dict):
                value = value.get(part)
            else:  # a Fragment, also in `extra`
                there = part in getattr(value, "__struct_fields__", ())
                value = getattr(value, part) if there else None
        return () if value is None else (value,)

    return values


def _vlan(read: Read) -> Values:
    name, (part,) = read.attribute, read.path

    def values(record: Record) -> tuple[Any, ...]:
        parts = [getattr(tag, part) for tag in getattr(record, name) or ()]
        return tuple([value for value in parts if value is not None])

    return values


def _header(read: Read) -> Values:
    name = read.attribute

    def values(record: Any) -> tuple[Any, ...]:
        value = getattr(requested(record.payload, record.family), name)
        return () if value is None else (value,)

    return values


def _ethernet(read: Read) -> Values:
    def values(record: Any) -> tuple[Any, ...]:
        header = record.hwheader
        if header is None or record.hwtype not in (None, ETHERNET) or len(header) < 28:
            return ()
        return ":".join([header[i : i + 2] for i in range(0, 12, 2)]), ":".join(
            [header[i : i + 2] for i in range(12, 24, 2)]
        )

    return values


_READERS: dict[str, Callable[[Read], Values]] = {
    "field": _field, "part": _part, "vlan": _vlan, "header": _header, "ethernet": _ethernet,
}  # fmt: skip
