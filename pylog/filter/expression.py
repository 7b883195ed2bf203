"""From what a filter means for a kind of record to an Arrow expression for its table.

A column that is null is an absent field, and a comparison with it is false, not null. What Arrow
cannot express stays behind as `rest`: parts of JSON and of lists, sets that are large or that are
files, texts of a name that may also be a number. Needs the extra `arrow`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import and_, or_
from typing import Any

from pylog.errors import missing_extra
from pylog.filter.bind import Bound, BoundAll, BoundAny, BoundNot, Leaf, leaves
from pylog.filter.conditions import (
    Among,
    Condition,
    Containing,
    Covered,
    Equal,
    Lettered,
    Masked,
    Matching,
    Order,
    Starting,
)
from pylog.filter.names import Domain, Read
from pylog.filter.ranges import WIDTHS, Ranges
from pylog.record import Column, json_name

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise missing_extra("a filter of tables", "arrow") from error

LARGEST = 64
"""Sets with more ranges than this are left to Python, where a look-up is a binary search."""
MAX_NS = 2**63 - 1
_MAPPED = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in 16 bytes."""


class Inexpressible(Exception):
    """Arrow cannot say it."""


class Pushed:
    """A filter for tables of a kind.

    expression   a pyarrow.compute.Expression; the rows of wanted records are among its rows
    names        the columns that it names
    rest         what such a row must also fulfil; None: nothing
    """

    def __init__(self, conjuncts: list[Bound], kind: str) -> None:
        pushed: list[Any] = []
        self.names: set[str] = set()
        rest: list[Bound] = []
        for bound in conjuncts:
            try:
                pushed.append(_expression(bound))
                self.names.update(name for leaf in leaves(bound) for name in _names(leaf))
            except Inexpressible:
                rest.append(bound)
        self.kind = kind
        self.expression: Any = reduce(and_, pushed) if pushed else pc.scalar(True)
        self.rest: Bound | None = None
        if rest:
            self.rest = rest[0] if len(rest) == 1 else BoundAll(tuple(rest))


def _names(leaf: Leaf) -> Iterator[str]:
    """The columns that the expression of a leaf names."""
    for read in leaf.target.reads:
        yield json_name(read.attribute)
        if isinstance(leaf.condition, Covered):
            yield f"{read.attribute}_bytes"


def _expression(bound: Bound) -> Any:
    if isinstance(bound, bool):
        return pc.scalar(bound)
    if isinstance(bound, BoundNot):
        return ~_expression(bound.part)
    if isinstance(bound, BoundAll | BoundAny):
        parts = [_expression(part) for part in bound.parts]
        return reduce(and_ if isinstance(bound, BoundAll) else or_, parts)
    reads, domain = bound.target.reads, bound.target.domain
    there = reduce(or_, [_column(read).is_valid() for read in reads])
    if bound.condition is None:
        return there
    fits = [_fits(read, domain, bound.condition, bound.target.column) for read in reads]
    one = reduce(or_, fits)
    return there & ~one if bound.negated else one


def _column(read: Read) -> Any:
    """The column, or part of one, that has the values of a read."""
    if read.how in ("field", "header"):
        return pc.field(json_name(read.attribute))
    if read.how == "part" and read.attribute == "fragment":
        return pc.field(read.attribute, *read.path)
    raise Inexpressible


def _fits(read: Read, domain: Domain, condition: Condition, column: Column | None) -> Any:
    """Whether the value fits; false where it is null."""
    value = _column(read)
    if isinstance(condition, Masked):
        kind = pa.uint64() if column == "u64" else pa.int64()
        bits = pc.bit_wise_and(value.cast(kind), pa.scalar(condition.mask & _LIMITS[kind][1], kind))
        test = _of_number(bits, condition.condition, kind)
    elif domain == "address":
        test = _of_address(read.attribute, condition)
    elif domain == "time":
        test = _of_number(value.cast(pa.int64()), condition)
    elif domain in ("name", "action"):
        test = _of_name(value, condition)
    elif domain == "bool":
        test = _of_values(value, condition, pa.bool_())
    elif domain == "octets":
        test = _of_text(value, condition, pa.binary())
    elif domain in ("text", "flags", "mac"):
        test = _of_text(value.cast(pa.string()), condition, pa.string())
    elif domain in ("json", "list", "object", "kind"):
        raise Inexpressible
    elif column == "f64":
        test = _of_values(value, condition, pa.float64())
    elif column == "u64":
        test = _of_number(value, condition, pa.uint64())
    else:
        test = _of_number(value.cast(pa.int64()), condition)
    return test & value.is_valid()


_LIMITS = {pa.int64(): (-(2**63), 2**63 - 1), pa.uint64(): (0, 2**64 - 1)}


def _of_number(value: Any, condition: Condition, kind: Any = None) -> Any:
    """A test of integers, which may be compared with numbers beyond those of the column."""
    kind = pa.int64() if kind is None else kind
    low, high = _LIMITS[kind]
    if isinstance(condition, Order):
        number = condition.value
        if isinstance(number, float):
            raise Inexpressible
        if number < low or number > high:
            return pc.scalar((number > high) == (condition.operator in ("<", "<=")))
        return _compared(value, condition.operator, pa.scalar(number, kind))
    singles, ranges = _set_of(condition)
    inside = [n for n in singles if type(n) is int and low <= n <= high]
    tests = [value.isin(pa.array(inside, kind))] if inside else []
    for first, last in ranges:
        if isinstance(first, float) or isinstance(last, float):
            raise Inexpressible
        if last >= low and first <= high:
            least, most = pa.scalar(max(first, low), kind), pa.scalar(min(last, high), kind)
            tests.append((value >= least) & (value <= most))
    return reduce(or_, tests) if tests else pc.scalar(False)


def _compared(value: Any, operator: str, other: Any) -> Any:
    if operator == "<":
        return value < other
    if operator == "<=":
        return value <= other
    return value > other if operator == ">" else value >= other


def _of_values(value: Any, condition: Condition, kind: Any) -> Any:
    """A test of truth values or fractions."""
    if isinstance(condition, Order):
        return _compared(value, condition.operator, pa.scalar(float(condition.value)))
    singles, ranges = _set_of(condition)
    tests = [value.isin(pa.array([*singles], kind))] if singles else []
    tests += [(value >= pa.scalar(float(a))) & (value <= pa.scalar(float(b))) for a, b in ranges]
    return reduce(or_, tests) if tests else pc.scalar(False)


def _set_of(condition: Condition) -> tuple[frozenset[Any], list[tuple[Any, Any]]]:
    """The values and the ranges of a set."""
    if isinstance(condition, Equal):
        return frozenset((condition.value,)), []
    if isinstance(condition, Among):
        return condition.values, _pairs(condition.ranges)
    raise Inexpressible


def _pairs(ranges: Ranges | None) -> list[tuple[Any, Any]]:
    if ranges is None:
        return []
    if len(ranges) > LARGEST:
        raise Inexpressible
    return list(zip(ranges.lows, ranges.highs, strict=True))


def _of_text(value: Any, condition: Condition, kind: Any) -> Any:
    """A test of texts, or of bytes."""
    if isinstance(condition, Containing):
        return pc.match_substring(value, pattern=condition.part)
    if isinstance(condition, Starting):
        return pc.starts_with(value, pattern=condition.part)
    if isinstance(condition, Matching):
        if kind != pa.string():
            raise Inexpressible
        return pc.match_substring_regex(value, pattern=condition.pattern)
    if isinstance(condition, Lettered):
        tests = [pc.match_substring(value, pattern=letter) for letter in condition.letters]
        return reduce(and_, tests)
    values, ranges = _set_of(condition)
    if ranges:
        raise Inexpressible
    return value.isin(pa.array([*values], kind))


def _of_name(value: Any, condition: Condition) -> Any:
    """A test of names and numbers, which a column has as texts, see pylog.table.schemas."""
    values, ranges = _set_of(condition)
    if ranges:
        raise Inexpressible
    texts = [f"#{v}" if not isinstance(v, str) or v.startswith("#") else v for v in values]
    return value.cast(pa.string()).isin(pa.array(texts, pa.string()))


def _of_address(attribute: str, condition: Condition) -> Any:
    """A test of addresses: by their text, or by their bytes, which are a column on request."""
    if isinstance(condition, Equal):
        return pc.field(attribute) == pa.scalar(condition.value)
    if not isinstance(condition, Covered):
        raise Inexpressible
    octets = pc.field(f"{attribute}_bytes")
    is_six = pc.match_substring(pc.field(attribute), pattern=":")
    tests = []
    for family, ranges in condition.networks.ranges.items():
        own = is_six if family == 6 else ~is_six
        before = b"" if family == 6 else _MAPPED
        for low, high in _pairs(ranges):
            first, last = (
                pa.scalar(before + n.to_bytes(WIDTHS[family] // 8), pa.binary(16))
                for n in (low, high)
            )
            tests.append((octets >= first) & (octets <= last) & own)
    return reduce(or_, tests) if tests else pc.scalar(False)
