"""From what a filter means for a type of record to a Python function of such records.

The function is one expression, made as Python code and compiled: a test of a field costs little
more than reading it. Only names of declared fields and of constants stand in the code.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """The function of a tree, for records of its type."""
    if isinstance(bound, bool):
        return _always if bound else _never
    constants = Constants()
    code = _code(bound, constants)
    made: Predicate = eval(f"lambda r: {code}", FUNCTIONS | constants)
    return made


def _always(record: Record) -> bool:
    return True


def _never(record: Record) -> bool:
    return False


def _code(bound: Bound, constants: Constants) -> str:
    if isinstance(bound, BoundNot):
        return f"(not {_code(bound.part, constants)})"
    if isinstance(bound, BoundAll | BoundAny):
        word = " and " if isinstance(bound, BoundAll) else " or "
        return f"({word.join(_code(part, constants) for part in bound.parts)})"
    assert isinstance(bound, Leaf)
    if bound.condition is None:
        return f"({' or '.join(_present(read, constants) for read in bound.target.reads)})"
    if not bound.negated:
        return _any(bound, constants)
    if len(bound.target.reads) == 1 and bound.target.reads[0].how == "field":
        value = f"(v := r.{bound.target.reads[0].attribute})"
        if isinstance(bound.condition, Equal):
            return f"({value} is not None and v != {constants.name(bound.condition.value)})"
        return f"({value} is not None and not ({bound.condition.code('v', constants.name)}))"
    there = " or ".join(_present(read, constants) for read in bound.target.reads)
    return f"(({there}) and not {_any(bound, constants)})"


def _present(read: Read, constants: Constants) -> str:
    """Whether there is a value."""
    if read.how == "field":
        return f"r.{read.attribute} is not None"
    return f"{constants.name(values_of(read))}(r) != ()"


def _any(leaf: Leaf, constants: Constants) -> str:
    """Whether one of the values fits."""
    condition: Condition | None = leaf.condition
    assert condition is not None
    tests = []
    for read in leaf.target.reads:
        test = condition.code("v", constants.name)
        if read.how == "field":
            present = "" if isinstance(condition, Equal) else "v is not None and "
            tests.append(f"{present}({test})".replace("v", f"(v := r.{read.attribute})", 1))
        else:
            values = constants.name(values_of(read))
            tests.append(f"any([{test} for v in {values}(r)])")
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
