"""Formats made once for each set of keys that records have.

Most records of a stack have the same few sets of valid keys, as those of TCP have. For each set
there is one format with the names of its keys, into which the values are put at once; an output
says how each key is written. The number of sets is bounded, since whoever sends packets has a part
in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from pylog.ulogd.keys import Key
from pylog.ulogd.worker import Values

MOST = 1024
"""So many sets of keys are remembered."""


Change = Callable[[Any], Any]


class Part(NamedTuple):
    """How a key is written.

    name      what stands before the value
    value     one % for the value, or a text if it does not matter
    change    what is put in the place of the value; None: the value itself
    """

    name: bytes
    value: bytes
    change: Change | None = None
    has_value: bool = True


class _Pattern(NamedTuple):
    """The format of records with one set of keys.

    cells     gives the values
    changes   the place of a value among them, with what changes it
    """

    format: bytes
    cells: Callable[[Values], tuple[Any, ...]]
    changes: list[tuple[int, Change]]


class Patterns:
    """The formats of one output."""

    def __init__(
        self,
        columns: Sequence[tuple[Key, int]],
        part: Callable[[Key, int], Part | None],
        begin: bytes = b"",
        between: bytes = b"",
        end: bytes = b"",
        once: bool = False,
    ) -> None:
        """
        columns   the keys with their cells
        part      how a key in a cell is written, which is valid; None: not at all
        begin, between, end   what stands around the parts
        once      whether a name is written once, in its first place with its last value
        """
        self._columns, self._part = columns, part
        self._begin, self._between, self._end, self._once = begin, between, end, once
        self._all = _getter([at for _, at in columns])
        self._patterns: dict[tuple[type, ...], _Pattern] = {}

    def text(self, values: Values) -> bytes:
        """The text of a record."""
        kinds = tuple(map(type, self._all(values)))
        pattern = self._patterns.get(kinds)
        if pattern is None:
            pattern = self._made(values)
            if len(self._patterns) >= MOST:
                self._patterns.clear()
            self._patterns[kinds] = pattern
        if not pattern.changes:
            return pattern.format % pattern.cells(values)
        own = list(pattern.cells(values))
        for place, change in pattern.changes:
            own[place] = change(own[place])
        return pattern.format % tuple(own)

    def _made(self, values: Values) -> _Pattern:
        parts: list[tuple[Part, int]] = []
        for key, at in self._columns:
            if values[at] is not None and (part := self._part(key, at)) is not None:
                parts.append((part, at))
        if self._once:
            parts = list({part.name: (part, at) for part, at in parts}.values())
        texts: list[bytes] = []
        places: list[int] = []
        changes: list[tuple[int, Change]] = []
        for part, at in parts:
            texts.append(part.name.replace(b"%", b"%%") + part.value)
            if part.has_value:
                if part.change is not None:
                    changes.append((len(places), part.change))
                places.append(at)
        form = self._begin + self._between.join(texts) + self._end
        return _Pattern(form, _getter(places), changes)


def _getter(places: list[int]) -> Callable[[Values], tuple[Any, ...]]:
    """What gives the values of cells as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple(values[at] for at in places)
