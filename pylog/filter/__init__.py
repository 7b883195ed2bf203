"""The filter language: which records are wanted, in the names of their JSON.

    import pylog
    from pylog.filter import Filter

    wanted = Filter('action == block and saddr in 10.0.0.0/8 and dport in {22, 8000..8100}')
    with pylog.open("fw.dump") as reader:
        blocked = [record for record in reader if wanted.matches(record)]

A text is parsed and its types are checked once (`parsing`, `bind`). For each type of record that
comes it is compiled to a Python function (`predicate`), and for tables to an Arrow expression
(`expression`); both hold for the same records. docs/filters.md describes the language.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from pylog.filter import syntax
from pylog.filter.bind import Binder, Bound, BoundAll, leaves
from pylog.filter.errors import FilterError
from pylog.filter.names import types
from pylog.filter.parsing import grammar, parse
from pylog.filter.predicate import Predicate, predicate, test_of_values
from pylog.record import PacketRecord, Record, Row, fields_of, json_name, kind_of, kinds

if TYPE_CHECKING:
    from pylog.filter.expression import Pushed

__all__ = ["Filter", "FilterError", "grammar"]

LOSS = "loss"
TIMES = ("timestamp", "observed")
_SAME_IN_ROWS = frozenset(
    ("word", "name", "address", "bool", "u8", "u16", "u32", "fragment", "vlan")
)
"""Types of columns whose values rows have in the same form as records."""
_SMALL = frozenset(("rule", "length", "offset"))
"""Fields with numbers that JSON never has to hold as text."""


class Filter:
    """An expression of the filter language, read and checked.

    A LossRecord always matches, unless the expression mentions `kind`: a filter hides no loss.

    text      of the expression
    now_ns    the time that `now` and `-2h` in it refer to, in nanoseconds since 1970 UTC
    by_time   whether it compares times
    untimed   if so, how many records without a time it did not want so far
    """

    def __init__(self, text: str, *, now_ns: int | None = None) -> None:
        """FilterError, a ValueError, for an expression that is not valid; BackendUnavailable for
        `matches` without the extra `filter`.

        now_ns   None: the time of this call
        """
        self.text = text
        self.now_ns = time.time_ns() if now_ns is None else now_ns
        self._node = parse(text)
        self._binder = Binder(text, self.now_ns)
        self._binder.check(self._node)
        names = {leaf.name for leaf in syntax.leaves(self._node)}
        self._passes_losses = "kind" not in names
        self.by_time = not names.isdisjoint(TIMES)
        self.untimed = 0
        self._predicates = _ByType(lambda kind: predicate(self.bound(kind)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.text, self.now_ns)

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"

    def matches(self, record: Record) -> bool:
        """Whether the record is wanted."""
        wanted = self._predicates[type(record)](record)
        if self.by_time and not wanted and record.timestamp_ns is None:
            self.untimed += record.observed_ns is None
        return wanted

    def bound(self, kind: type[Record]) -> Bound:
        """What the expression means for a type of record."""
        if self._passes_losses and kind_of(kind) == LOSS:
            return True
        return self._binder.bind(self._node, kind)

    def mentions(self, kind: str) -> frozenset[str]:
        """The columns of a kind of record that the expression needs, as far as it has any."""
        found = leaves(self.bound(kinds()[kind]))
        return frozenset(json_name(name) for leaf in found for name in leaf.target.attributes)

    def pushed(self, kind: str) -> Pushed:
        """The filter for tables of a kind; BackendUnavailable without the extra `arrow`."""
        from pylog.filter.expression import Pushed  # needs the extra

        return Pushed(self._conjuncts(kinds()[kind]), kind)

    def expression(self, kind: str = "packet") -> Any:
        """A pyarrow.compute.Expression that holds for the rows of the same records; None if Arrow
        cannot say all of it. Its columns are those of `pylog.table.schema` and those on request.
        """
        pushed = self.pushed(kind)
        return pushed.expression if pushed.rest is None else None

    def decided_by(self, attributes: Collection[str]) -> Predicate | None:
        """The part of the filter that these attributes of a packet decide by themselves: where it
        is false, `matches` is false whatever the other attributes are. None: there is no such part.
        """
        decided = self._decided(attributes)
        return None if decided is None else predicate(decided)

    def decided_by_values(
        self, attributes: Collection[str]
    ) -> Callable[[Sequence[Any]], bool] | None:
        """As `decided_by`, of the values of a packet record in the places of its fields."""
        decided = self._decided(attributes, only_fields=True)
        return None if decided is None else test_of_values(decided, PacketRecord)

    def _decided(self, attributes: Collection[str], only_fields: bool = False) -> Bound | None:
        allowed, decided = set(attributes), list[Bound]()
        for bound in self._conjuncts(PacketRecord):
            targets = [leaf.target for leaf in leaves(bound)]
            names = {name for target in targets for name in target.attributes}
            if only_fields and any(r.how != "field" for target in targets for r in target.reads):
                continue
            if names <= allowed and bound is not True:
                decided.append(bound)
        return BoundAll(tuple(decided)) if decided else None

    @property
    def fits_rows(self) -> bool:
        """Whether `matches_row` can be asked: whether rows have all that the filter reads in the
        form in which records have it.
        """
        if not self._passes_losses:
            return False
        for kind in types():
            columns = {field: kind_field.column for field, kind_field in fields_of(kind).items()}
            for leaf in leaves(self.bound(kind)):
                for name in leaf.target.attributes:
                    if name not in _SMALL and columns[name] not in _SAME_IN_ROWS:
                        return False
        return True

    def matches_row(self, row: Row) -> bool:
        """As `matches` of the record of a row; only if it `fits_rows`."""
        like_a_record: Any = row
        return self.matches(like_a_record)

    def reload(self) -> None:
        """Read the files of its sets again. FilterError, and the sets stay as they were."""
        before = [(listed, listed.condition, listed.fits) for listed in self._binder.files]
        try:
            for listed in self._binder.files:
                listed.load()
        except ValueError:
            for listed, condition, fits in before:
                listed.condition, listed.fits = condition, fits
            raise

    @property
    def files(self) -> bool:
        """Whether it has sets from files, which `reload` reads again."""
        return bool(self._binder.files)

    def _conjuncts(self, kind: type[Record]) -> list[Bound]:
        """Parts of the expression that must all hold for records of a type."""
        if self._passes_losses and kind_of(kind) == LOSS:
            return [True]
        return [self._binder.bind(part, kind) for part in syntax.conjuncts(self._node)]


def _made(text: str, now_ns: int) -> Filter:
    return Filter(text, now_ns=now_ns)


class _ByType(dict[type[Record], Predicate]):
    """The predicate of each type of record, made when the first such record comes."""

    def __init__(self, make: Callable[[type[Record]], Predicate]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, kind: type[Record]) -> Predicate:
        made = self[kind] = self._make(kind)
        return made
