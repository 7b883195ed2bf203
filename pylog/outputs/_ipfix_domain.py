"""An observation domain of IPFIX: the packets and flows of one machine.

Records that have the same fields share a template, which is made when the first of them comes.
Whoever wrote a log decides which sets of fields there are, so their number is bounded: a record for
which there is no template any more has the values of the best one that there is.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import astuple

from pylog.outputs._ipfix_elements import NETFILTER, Element
from pylog.outputs._ipfix_messages import Before, Messages, Unfit
from pylog.outputs._ipfix_options import Options
from pylog.outputs._ipfix_parts import Number, Octets, Part

MOST_TEMPLATES = 1024
"""How many templates a domain has at most."""
MOST_INTERFACES = 4096
"""How many names of interfaces a domain has at most."""
_NAMED = 1 << 31
"""The numbers of interfaces that have a name begin here: ifIndex (RFC 2863) ends below it."""


class _Plan:
    """The parts of a kind of record, and the templates that were made of them.

    parts       of each part: the place of the field without which it has no value, -1 for none;
                what gives the value; its bit, 0 if the length of the value decides it
    elements    of each bit
    templates   by the bits of their elements
    """

    def __init__(self, kind: Any, parts: Iterable[Part]) -> None:
        self.parts: list[tuple[int, Octets, int, dict[int, int]]] = []
        self.elements: list[Element] = []
        self.templates: dict[int, int] = {}
        for part in parts:
            bits = {}
            for length, element in part.lengths().items():
                bits[length] = 1 << len(self.elements)
                self.elements.append(element)
            alone = next(iter(bits.values())) if len(bits) == 1 else 0
            names, field = kind.__struct_fields__, part.fields[0]
            place = -1 if part.always or field not in names else names.index(field)
            self.parts.append((place, part.octets, alone, bits))

    def chosen(self, key: int) -> list[Element]:
        """The elements of a key, which has a bit for each."""
        return [element for i, element in enumerate(self.elements) if key >> i & 1]


class Domain:
    """Encodes the packets and flows of a machine.

    number     of the observation domain
    messages   in which they are gathered
    left_out   how many values were left out, because there are too many templates or interfaces
    """

    def __init__(
        self, number: int, limit: int, options: Options, send: Callable[[bytes], None],
        parts: Callable[[Number], dict[type, list[Part]]], before: Before | None = None,
    ) -> None:  # fmt: skip
        """
        limit    the longest message, in bytes
        send     takes each message
        parts    makes the parts of each kind of record, given what numbers interfaces
        before   as of Messages
        """
        self.number, self.left_out = number, 0
        self.messages = Messages(number, limit, send, before)
        self._options = options
        self._plans = {kind: _Plan(kind, made) for kind, made in parts(self._interface).items()}
        self._interfaces: dict[str, int] = {}
        self._taken: set[int] = set()

    def holds(self, record: Any) -> bool:
        """Whether there are parts for a record of its kind."""
        return type(record) in self._plans

    def record(self, record: Any) -> None:
        """Add a record of a kind that it holds; Unfit."""
        plan = self._plans[type(record)]
        key, values = 0, []
        held = (*astuple(record), True)  # whose last place is -1
        for place, octets, bit, bits in plan.parts:
            if held[place] is None:
                continue
            value = octets(record)
            if value is not None:
                key |= bit or bits[len(value)]
                values.append(value)
        template = plan.templates.get(key)
        if template is None:
            if not key:
                raise Unfit("it has no field that IPFIX has an element for")
            if self.messages.templates >= MOST_TEMPLATES:
                key, values = self._reduced(plan, key, values)
                template = plan.templates[key]
            else:
                template = plan.templates[key] = self._template(plan.chosen(key))
        self.messages.record(template, b"".join(values))

    def _template(self, elements: list[Element]) -> int:
        """A new template."""
        for element in elements:
            if element.enterprise == NETFILTER:  # reverse elements are those of IANA
                self._options.element(element)
        return self.messages.template(elements)

    def _reduced(self, plan: _Plan, key: int, values: list[bytes]) -> tuple[int, list[bytes]]:
        """The key of the best template that there is, and the values that it has a place for."""
        best = max((k for k in plan.templates if k & ~key == 0), key=int.bit_count, default=0)
        if not best:
            raise Unfit(f"records have more than {MOST_TEMPLATES} different sets of fields")
        bits = [1 << i for i in range(key.bit_length()) if key >> i & 1]
        kept = [value for bit, value in zip(bits, values, strict=True) if best & bit]
        self.left_out += len(values) - len(kept)
        return best, kept

    def _interface(self, name: str | int) -> int | None:
        """The number of an interface: ifIndex, or one from 2^31 that the name decides, which so is
        the same after a restart.
        """
        if isinstance(name, int):
            return name
        number = self._interfaces.get(name)
        if number is None:
            if len(self._interfaces) >= MOST_INTERFACES:
                self.left_out += 1
                return None
            number = _NAMED | crc32(name.encode("utf-8", "backslashreplace"))
            while number in self._taken:
                number = _NAMED | (number + 1) & (_NAMED - 1)
            self._taken.add(number)
            self._interfaces[name] = number
            self._options.interface(self.number, number, name)
        return number
