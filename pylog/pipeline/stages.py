"""What a stack does with records before it writes them: where, set, drop, every, rate, dedup.

The stages are applied in this order. A loss passes all of them, unless the filter mentions `kind`:
no stage may hide that something is missing. Times are those at which records were received, or in a
log that does not say those of records, so that a log gives the same result whenever it is read.
When a clock is set, nothing is left out for longer than before: `rate` goes on from the new time,
and a record that `dedup` has seen later than now is new. What a stage leaves out is counted.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from pylog.filter import Filter
from pylog.nearest import COLUMNS, advice
from pylog.record import (
    LossRecord,
    LossRow,
    Record,
    all_columns,
    fields_of,
    in_row,
    json_name,
    json_ready,
    kind_of,
    kinds,
    row_type,
)
from pylog.record.joined import JoinedRecord

Change = Callable[[Record], Record]

REPEATS = 1 << 16
"""How many different records `dedup` remembers at most."""
EXTRA = "extra."
"""The beginning of the name of a part of `extra`."""
FIXED = frozenset(("kind", "source", "layout"))
"""Columns that no stage changes."""
OF_ONE = frozenset(
    ("offset", "timestamp_ns", "observed_ns", "seq", "count", "raw", "payload", "extra", "fragment",
     "flow_age")
)  # fmt: skip
"""Fields in which a repeated record may differ."""


class Settings(NamedTuple):
    """The stages that a stack has, as its configuration says.

    rate   records a second
    dedup  seconds
    """

    where: str | None = None
    set: Mapping[str, Any] = {}
    drop: Sequence[str] = ()
    every: int | None = None
    rate: float | None = None
    dedup: float | None = None

    def early(self) -> Filter | None:
        """The filter, if it may be asked before packets are decoded; one that names files may
        change.
        """
        made = None if self.where is None else Filter(self.where)
        return None if made is None or made.files else made


class Stages:
    """The stages of a stack.

    left_out   how many records each of them left out
    fit_rows   whether they take rows in place of records: whether rows have all that they read in
               the form in which records have it
    fit_columns   whether there is no stage but `where`, whose filter names no files
    where      the filter
    """

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError for an expression, a name or a value that is not valid."""
        self.left_out: Counter[str] = Counter()
        self.where = None if settings.where is None else Filter(settings.where)
        self._changes = [*_setting(settings.set), *_dropping(settings.drop)]
        self._every, self._seen = settings.every, 0
        self._rate = None if settings.rate is None else _Rate(settings.rate)
        self._dedup = None if settings.dedup is None else _Dedup(settings.dedup)
        self.fit_rows = settings.rate is None and settings.dedup is None
        self.fit_rows &= self.where is None or self.where.fits_rows
        self.fit_columns = settings == Settings(settings.where, settings.set, settings.drop)
        self.fit_columns &= not self._changes and (self.where is None or not self.where.files)

    def apply(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records that pass, changed; of rows, if they `fit_rows`, the rows."""
        if self.where is not None:
            matches, before = self.where.matches, len(records)
            records = [record for record in records if matches(record)]
            self.left_out["where"] += before - len(records)
        for change in self._changes:
            records = [change(record) for record in records]
        if self._every is not None:
            records = self._passing("every", records, self._is_every)
        if self._rate is not None:
            records = self._passing("rate", records, self._rate.passes)
        if self._dedup is not None:
            records = self._passing("dedup", records, self._dedup.passes)
        return records

    def reload(self) -> None:
        """Read again the files that the expression names."""
        if self.where is not None:
            self.where.reload()

    def _passing(
        self, name: str, records: Sequence[Record], passes: Callable[[Record], bool]
    ) -> Sequence[Record]:
        passed = [r for r in records if isinstance(r, LossRecord | LossRow) or passes(r)]
        self.left_out[name] += len(records) - len(passed)
        return passed

    def _is_every(self, record: Record) -> bool:
        self._seen += 1
        return self._seen % (self._every or 1) == 1 % (self._every or 1)


def _time_ns(record: Record) -> int:
    """When a record was received, or in a log that does not say, its own time."""
    return record.observed_ns or record.timestamp_ns or 0


class _Rate:
    """Passes so many records a second, and as many at once."""

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(1.0, rate)
        self._left, self._at_ns = self._most, 0

    def passes(self, record: Record) -> bool:
        now = _time_ns(record)
        passed_s = max(0, now - self._at_ns) / 1e9
        self._at_ns = now
        self._left = min(self._most, self._left + passed_s * self._rate)
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Dedup:
    """Passes the first of records that are the same but for their times and numbers."""

    def __init__(self, window_s: float) -> None:
        self._window_ns = int(window_s * 1e9)
        self._seen: OrderedDict[Any, int] = OrderedDict()

    def passes(self, record: Record) -> bool:
        values: Any = record
        key = (type(record), *[_hashed(getattr(values, n)) for n in _same(type(record))])
        now, before = _time_ns(record), self._seen.get(key)
        if before is not None and 0 <= now - before < self._window_ns:
            return False
        self._seen[key] = now
        self._seen.move_to_end(key)
        if len(self._seen) > REPEATS:
            self._seen.popitem(last=False)
        return True


@cache
def _same(kind: Any) -> tuple[str, ...]:
    """The fields in which repeated records of a kind agree."""
    return tuple(name for name in fields_of(kind) if name not in OF_ONE)


def _hashed(value: Any) -> Any:
    return repr(value) if isinstance(value, list | dict) else value


# Changes of fields


def _setting(values: Mapping[str, Any]) -> Iterable[Change]:
    for name, value in values.items():
        if name.startswith(EXTRA):
            yield _setting_extra(name[len(EXTRA) :], value)
        else:
            yield _setting_field(name, value)


def _setting_extra(part: str, value: Any) -> Change:
    if not part or not isinstance(value, str | int | float | bool):
        raise ValueError(f"set: {EXTRA}{part} is {value!r}, but must be a text or a number")

    in_rows, records = json_ready(value), frozenset(kinds().values())

    def change(record: Record) -> Record:
        fields: Any = record
        if not hasattr(fields, "extra"):
            return record
        shown = value if type(record) in records else in_rows
        return msgspec.structs.replace(  # type: ignore[no-any-return]
            fields, extra={**(fields.extra or {}), part: shown}
        )

    return change


def _setting_field(name: str, value: Any) -> Change:
    """Sets a field of the kinds that have it; losses stay as they are."""
    values: dict[type[Any], dict[str, Any]] = {}
    for kind, field in _kinds_with("set", name).items():
        annotated = get_type_hints(kind, include_extras=False)[field]
        try:
            converted = msgspec.convert(value, annotated)
        except (msgspec.ValidationError, TypeError):
            allowed = _type_text(annotated)
            raise ValueError(f"set: {name} is {value!r}, but must be {allowed}") from None
        values[kind] = {field: converted}
        values[row_type(kind)] = {field: in_row(fields_of(kind)[field].column, converted)}

    def change(record: Record) -> Record:
        new = values.get(type(record))
        changed: Any = record if new is None else msgspec.structs.replace(record, **new)
        return changed  # type: ignore[no-any-return]

    return change


def _dropping(names: Sequence[str]) -> Iterable[Change]:
    parts = [name[len(EXTRA) :] for name in names if name.startswith(EXTRA)]
    fields = [name for name in names if not name.startswith(EXTRA)]
    by_kind: dict[type[Any], dict[str, None]] = {}
    for name in fields:
        for kind, field in _kinds_with("drop", name).items():
            required = {f.name for f in msgspec.structs.fields(kind) if f.required}
            if field in required:
                raise ValueError(f"drop: every {kind_of(kind)} record has {name}")
            for each in (kind, row_type(kind)):
                by_kind.setdefault(each, {})[field] = None
    if by_kind:

        def change(record: Record) -> Record:
            none = by_kind.get(type(record))
            made: Any = record if none is None else msgspec.structs.replace(record, **none)
            return made  # type: ignore[no-any-return]

        yield change
    if parts:

        def change_extra(record: Record) -> Record:
            values: Any = record
            extra = getattr(values, "extra", None)
            if not extra:
                return record
            left = {name: value for name, value in extra.items() if name not in parts}
            made: Any = msgspec.structs.replace(values, extra=left or None)
            return made  # type: ignore[no-any-return]

        yield change_extra


@cache
def _kinds_with(stage: str, name: str) -> dict[type[Record], str]:
    """The kinds but losses that have a column, and its field's name in them; ValueError."""
    if name in FIXED:
        raise ValueError(f"{stage}: {name} says what a record is, and cannot be changed")
    fields: dict[type[Record], str] = {}
    for kind in (*kinds().values(), JoinedRecord):
        if kind is LossRecord:
            continue
        for field in fields_of(kind):
            if json_name(field) == name:
                fields[kind] = field
    if not fields:
        hint = advice(name, [*all_columns(), EXTRA + "NAME"], COLUMNS)
        raise ValueError(f"{stage}: no column {name}{hint}")
    return fields


def _type_text(annotated: Any) -> str:
    """What values a field takes, for an error."""
    names = {str: "a text", int: "a whole number", bytes: "base64", bool: "true or false"}
    parts = get_args(annotated) if get_origin(annotated) in (Union, UnionType) else (annotated,)
    words = [names.get(part, getattr(part, "__name__", str(part))) for part in parts
             if part is not type(None)]  # fmt: skip
    return " or ".join(words)
