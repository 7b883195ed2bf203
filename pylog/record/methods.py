"""What all records have beside their fields: times as datetimes, and a hash.

They are methods of a base class that has no fields. So they cost nothing while nobody calls them,
and become neither JSON nor columns.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Methods:
    """The base class of records that gives them these methods."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def timestamp_ns(self) -> int | None: ...
        @property
        def observed_ns(self) -> int | None: ...

    @property
    def timestamp(self) -> datetime | None:
        """The kernel's time, `timestamp_ns`, as a datetime in UTC; None if there is none.

        Nanoseconds are cut off to microseconds. OverflowError for a time outside the years 1 to
        9999, which no decoder gives: it leaves such a time out and counts it in `reader.flaws`.
        """
        return _datetime(self.timestamp_ns)

    @property
    def observed(self) -> datetime | None:
        """When the message was received, `observed_ns`, as a datetime in UTC, like `timestamp`."""
        return _datetime(self.observed_ns)

    def __hash__(self) -> int:
        """Equal records have equal hashes, by all their fields, the mappings included.

        Do not change a mapping (`extra`, or the counters of a flow) of a record that is in a set or
        is the key of a dictionary. TypeError for a value in it that is neither hashable nor a
        mapping or list.
        """
        values = msgspec.structs.astuple(cast(Any, self))
        try:
            return hash(values)
        except TypeError:  # there is a mapping
            return hash(tuple(map(_hashable, values)))


def _datetime(time_ns: int | None) -> datetime | None:
    return None if time_ns is None else _EPOCH + timedelta(microseconds=time_ns // 1000)


def _hashable(value: Any) -> Any:
    """A hashable value that is equal for equal values."""
    if isinstance(value, dict):
        return frozenset((name, _hashable(part)) for name, part in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return value
