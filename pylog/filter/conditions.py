"""Conditions: what a comparison asks of one value that is present.

A condition gives the Python code of its test, for a variable that holds the value. Constants are
passed by name, so no text of a filter ever becomes code. pylog.filter.expression makes the same
tests for Arrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pylog.filter.ranges import Networks, Ranges
from pylog.filter.values import json_key
from pylog.memo import Memo

Named = Callable[[Any], str]
"""Gives a constant a name in the code."""


class Equal(NamedTuple):
    """The value is this one."""

    value: Any

    def code(self, v: str, named: Named) -> str:
        return f"{v} == {named(self.value)}"


class Order(NamedTuple):
    """The value, a number, is on one side of another: `operator` is <, <=, > or >=.

    mixed   values may also be texts, which have no order
    """

    operator: str
    value: int | float
    mixed: bool = False

    def code(self, v: str, named: Named) -> str:
        test = f"{v} {self.operator} {named(self.value)}"
        return f"is_number({v}) and {test}" if self.mixed else test


class Among(NamedTuple):
    """The value is one of a set, or a number in ranges."""

    values: frozenset[Any]
    ranges: Ranges | None = None
    mixed: bool = False

    def code(self, v: str, named: Named) -> str:
        tests = [f"{v} in {named(self.values)}"] if self.values else []
        if self.ranges is not None:
            test = f"{v} in {named(self.ranges)}"
            tests.append(f"is_number({v}) and {test}" if self.mixed else test)
        return " or ".join(tests) or "False"


class AmongJson(NamedTuple):
    """The value of JSON is one of a set, by its type, or a number in ranges."""

    keys: frozenset[tuple[str, Any]]
    ranges: Ranges | None = None

    def code(self, v: str, named: Named) -> str:
        test = f"json_key({v}) in {named(self.keys)}"
        if self.ranges is not None:
            test += f" or is_number({v}) and {v} in {named(self.ranges)}"
        return test


class Covered(NamedTuple):
    """The address is in networks or ranges."""

    networks: Networks

    def code(self, v: str, named: Named) -> str:
        return f"{named(self.networks.fits)}[{v}]"


class Containing(NamedTuple):
    """The text contains a text; so do bytes. `mixed` as for Order, the contrary."""

    part: Any
    mixed: bool = False

    def code(self, v: str, named: Named) -> str:
        test = f"{named(self.part)} in {v}"
        return f"type({v}) is str and {test}" if self.mixed else test


class Starting(NamedTuple):
    """The text starts with a text; so do bytes."""

    part: Any
    mixed: bool = False

    def code(self, v: str, named: Named) -> str:
        test = f"{v}.startswith({named(self.part)})"
        return f"type({v}) is str and {test}" if self.mixed else test


class Matching(NamedTuple):
    """A regular expression matches somewhere in the text; what texts gave is remembered."""

    pattern: str
    fits: Memo[Any, bool]
    mixed: bool = False

    def code(self, v: str, named: Named) -> str:
        test = f"{named(self.fits)}[{v}]"
        return f"type({v}) is str and {test}" if self.mixed else test


class Lettered(NamedTuple):
    """The text, TCP flags, has all of these letters."""

    letters: str

    def code(self, v: str, named: Named) -> str:
        return " and ".join(f"{named(letter)} in {v}" for letter in self.letters)


class Holding(NamedTuple):
    """The list has a member that is one of a set, by its type in JSON."""

    keys: frozenset[tuple[str, Any]]

    def code(self, v: str, named: Named) -> str:
        return f"has_member({v}, {named(self.keys)})"


class Masked:
    """These bits of the value, a number, fit a condition."""

    def __init__(self, mask: int, condition: Condition) -> None:
        self.mask, self.condition = mask, condition

    def code(self, v: str, named: Named) -> str:
        return self.condition.code(f"({v} & {named(self.mask)})", named)


class Listed:
    """As the condition that the lines of a file make; `load` reads the file again."""

    def __init__(self, make: Callable[[], Condition]) -> None:
        self._make = make
        self.load()

    def load(self) -> None:
        """Read the file; FilterError, and the condition stays as it was."""
        self.condition = self._make()
        self.fits = test_of(self.condition)

    def code(self, v: str, named: Named) -> str:
        return f"{named(self)}.fits({v})"


Condition = (
    Equal | Order | Among | AmongJson | Covered | Containing | Starting | Matching | Lettered
    | Holding | Masked | Listed
)  # fmt: skip


def is_number(value: Any) -> bool:
    """Whether it is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def has_member(value: Any, keys: frozenset[tuple[str, Any]]) -> bool:
    """Whether it is a list with a member that is one of the keys."""
    return isinstance(value, list | tuple) and any(json_key(member) in keys for member in value)


FUNCTIONS = {"json_key": json_key, "is_number": is_number, "has_member": has_member}
"""The functions that the code of conditions calls."""


class Constants(dict[str, Any]):
    """The constants of code that is being made, by their names."""

    def name(self, value: Any) -> str:
        """The name of a constant."""
        name = f"c{len(self)}"
        self[name] = value
        return name


def test_of(condition: Condition) -> Callable[[Any], bool]:
    """The test of a condition as a function of a value that is present."""
    constants = Constants()
    code = condition.code("v", constants.name)
    test: Callable[[Any], bool] = eval(f"lambda v: {code}", FUNCTIONS | constants)
    return test
