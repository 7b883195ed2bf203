"""The fields of an IPFilter record, put into the places that a layout has for them.

`Fields` takes values under their C names, converts them to what the version stores (a name or a
number, a unit apart or in the name), and packs them. A value that has no place or does not fit is
counted by its field, so that an encoder can report everything that it left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pylog.formats.addresses import octets
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_names import NONE32
from pylog.formats.plan import Leaf


class Impossible(Exception):
    """A layout cannot hold a record."""


class Fields:
    """The fields of a record of a layout, all zeros at first.

    lost   how often a value had no place or did not fit, by field
    """

    def __init__(self, layout: Layout, log: str) -> None:
        """Impossible if the layout has no such log."""
        self._layout = layout
        if log not in layout.logs:
            raise Impossible(f"{log} records, which {layout.version.name} does not log")
        self._plan = layout.plan(log)
        self._places = dict(self._plan.places)
        if "fl_bits" in self._places:  # 2.x: u_long flags:24, unit:8
            bits = self._places["fl_bits"]
            self._places["fl_flags"] = bits._replace(name="fl_flags", size=3)
            self._places["fl_unit"] = bits._replace(name="fl_unit", size=1)
        self._values: dict[str, Any] = {
            name: bytes(leaf.size) if leaf.code.endswith("s") else 0
            for name, leaf in self._places.items()
        }
        self.lost: Counter[str] = Counter()

    @property
    def size(self) -> int:
        """Of the fixed part, in bytes."""
        return self._plan.size

    def size_of(self, name: str) -> int:
        """The field's size in bytes; 0 where the layout has none of that name."""
        leaf = self._places.get(name)
        return leaf.size if leaf else 0

    def put(self, name: str, value: int | bytes | None, absent: Any = None) -> None:
        """Put a value into a field; None becomes all ones, which means none in several fields.

        absent   the value that is not lost if the layout has no such field
        """
        leaf = self._places.get(name)
        if leaf is not None:
            self._values[name] = self._fitting(leaf, value)
        elif value is not None and value != absent:
            self.lost[name] += 1

    def _fitting(self, leaf: Leaf, value: int | bytes | None) -> int | bytes:
        """The value, or the nearest that fits into the field."""
        most: int = 2 ** (8 * leaf.size) - 1
        if value is None:
            return most
        if isinstance(value, bytes):
            if len(value) > leaf.size:
                self.lost[leaf.name] += 1
            return value[: leaf.size].ljust(leaf.size, b"\0")
        least = 0
        if leaf.code.islower():
            least, most = -(most + 1) // 2, most // 2
        if not least <= value <= most:
            self.lost[leaf.name] += 1
        return max(least, min(value, most))

    def put_text(self, name: str, text: str, room: int | None = None) -> None:
        """Put a name into a character array, of which at most `room` bytes may be used."""
        if "\\" in text:  # an escape stands for a byte that was no text
            self.lost[name] += 1
        self.put(name, text.encode(), absent=b"")
        if room is not None and len(text.encode()) > room:
            if len(text.encode()) <= self.size_of(name):
                self.lost[name] += 1
            self.put(name, text.encode()[:room])

    def put_group(self, name: str, group: str | None) -> None:
        """Put a rule's group: a name from 4.0 on, before a number. "0" is the main list."""
        leaf = self._places.get(name)
        if leaf is None:
            self.lost[name] += group not in (None, "0")
            return
        if leaf.code.endswith("s"):
            if group is None:
                self.put(name, b"\xff")
            else:
                self.put_text(name, "" if group == "0" else group, leaf.size - 1)
            return
        number = int(group) if group and group.isascii() and group.isdigit() else None
        if group is not None and (number is None or number >= 2 ** (8 * leaf.size) - 1):
            self.lost[name] += 1
            number = None
        self.put(name, number)

    def put_rule(self, name: str, rule: int | None) -> None:
        """Put a rule's number, from 1 on; the field counts from 0, and all bits set means none."""
        if rule is not None and rule > 2 ** (8 * self.size_of(name)) - 1 and self.size_of(name):
            self.lost[name] += 1
            rule = None
        self.put(name, None if rule is None else rule - 1)

    def put_interface(self, name: str) -> None:
        """Put fl_ifname; before 4.0 the number at its end goes to fl_unit, if there is one.

        In 4.x the number may be in either place.
        """
        stem = name.rstrip("0123456789")
        unit = name[len(stem) :]
        major = self._layout.version.major
        if self.size_of("fl_unit") and major == 4 and not unit:  # or 0 would be its number
            self.put("fl_unit", NONE32)
        if self.size_of("fl_unit") and major < 4:
            most = 0x7FFF if self.size_of("fl_unit") == 4 else 0xFF
            if unit == str(int(unit or -1)) and int(unit) <= most:
                self.put("fl_unit", int(unit))
                name = stem
            elif unit or self.size_of("fl_unit") == 1:
                self.lost["fl_unit"] += 1
            else:
                self.put("fl_unit", NONE32)
        self.put_text("fl_ifname", name)

    def put_end(self, end: tuple[str | None, int | None], address: str, port: str) -> None:
        """Put an address and a port, in network order."""
        text, number = end
        self.put(address, octets[text] if text else b"")
        if self.size_of(port):
            self.put(port, (number or 0).to_bytes(2))

    def put_counters(self, name: str, counters: Mapping[str, int], ways: tuple[str, ...]) -> None:
        """Put counters by direction. Where the layout has only a total they are added up; a total
        goes into the first direction."""
        if self.size_of(f"{name}.0"):
            for i, way in enumerate(ways):
                self.put(f"{name}.{i}", counters.get(way, counters.get("total", 0) if not i else 0))
        else:
            total = sum(counters.values())
            self.put(name, total, absent=0)
        used = {way for way, n in counters.items() if n}
        if used and ("total" in used) == bool(self.size_of(f"{name}.0")):
            self.lost[f"{name} by direction"] += 1

    def pack(self) -> bytes:
        """The fixed part of the record."""
        if self.size_of("fl_bits"):
            flags, unit = self._values["fl_flags"], self._values["fl_unit"]
            little = self._layout.abi.order == "<"
            self._values["fl_bits"] = flags | unit << 24 if little else flags << 8 | unit
        return self._plan.pack(self._values)
