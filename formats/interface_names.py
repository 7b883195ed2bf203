"""Names of network interfaces that a capture file gives in place of the kernel.

Messages carry interface numbers. A capture of pylog states the names beside them, each from the
place on where it applies. What a file may state is bounded, since a hostile one could name
interfaces without end. `NamesKept` counts the same way in the writer and in the reader, so that
both forget names at the same place.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

MAXIMUM_INTERFACES = 4096
"""At most this many interface names are kept."""
LONGEST_NAME = 255
"""Longer names are dropped. Linux allows 15 bytes (IFNAMSIZ)."""
NAME_COST = 100
"""Bytes that a name is counted with beside its characters."""
MAXIMUM_NAMES = 1 << 22
"""The most that all names of a section may take together."""


class InterfaceNames(msgspec.Struct, gc=False):
    """From here on `names` has the names `changes`, by interface number; None removes a name.

    forgotten   other tables of names, to be cleared first, see NamesKept
    """

    names: dict[int, str]
    changes: dict[int, str | None]
    forgotten: list[dict[int, str]] = []

    def apply(self) -> None:
        """Make the changes; too many names clear the table first."""
        for names in self.forgotten:
            names.clear()
        if len(self.names) + len(self.changes) > MAXIMUM_INTERFACES:
            self.names.clear()
        for number, name in self.changes.items():
            if name and len(name) <= LONGEST_NAME:
                self.names[number] = name
            else:
                self.names.pop(number, None)


class NamesKept:
    """Bounds what the names of all interfaces of a capture's section take together."""

    def __init__(self) -> None:
        self._size = 0

    def add(
        self, changes: dict[int, str | None], tables: Iterable[dict[int, str]]
    ) -> list[dict[int, str]]:
        """Count more names; gives those of the `tables` that must be cleared before."""
        names = [name for name in changes.values() if name and len(name) <= LONGEST_NAME]
        size = sum(len(name) + NAME_COST for name in names)
        self._size += size
        if self._size <= MAXIMUM_NAMES:
            return []
        self._size = size
        return list(tables)
