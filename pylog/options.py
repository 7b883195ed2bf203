"""Options of sources and outputs.

A backend or an output declares its options once, as a tuple of Option. The keywords of the API, the
check of their values, the options of the command line and their help all come from that table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pylog.nearest import advice

SHOWN = "what is shown"
LIVE_TUNING = "live tuning"
"""Topics of options: what of records is shown, and what seldom needs another value."""


class Option(NamedTuple):
    """An option of a backend or an output, in the API and on the command line (--name-with-dashes).

    kind     int, float, str, bool; a tuple of the allowed words, or a function that gives it; or
             dict, a mapping of texts to texts, given as --name KEY=VALUE as often as needed
    default  the value when it is not given; None: see `absent`
    help     what it does, with its unit
    low      the smallest number allowed, `high` the largest
    flag     the option on the command line, where it is not --name
    sets     for a preset: the values of other options, unless they are given themselves
    absent   what the help calls the default None
    metavar  what the help calls the value; "": by its type
    topic    the title of its group in the help; "": a group for the sources or outputs that have it
    secret   whether it is a password: never shown; on the command line and in configurations its
             place is named, see pylog.secrets, and the output gets its text
    """

    name: str
    kind: Any
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    flag: str | None = None
    sets: Mapping[str, Any] = {}
    absent: str = "none"
    metavar: str = ""
    topic: str = ""
    secret: bool = False

    @property
    def typed(self) -> str:
        """The option as it is typed on the command line."""
        return self.flag or "--" + self.name.replace("_", "-")

    def words(self) -> tuple[str, ...] | None:
        """The allowed words; None: it takes another kind of value."""
        if isinstance(self.kind, type):
            return None
        words: tuple[str, ...] = self.kind if isinstance(self.kind, tuple) else self.kind()
        return words

    def explained(self, defaults: Mapping[str, Any] = MappingProxyType({})) -> str:
        """What it does, its range and its default, for --help.

        defaults   by name of source or output, if they differ
        """
        text = self.help
        if self.sets:
            return f"{text}: {', '.join(f'{name} {value}' for name, value in self.sets.items())}"
        if self.high is not None:
            text += f", {self.low} to {self.high}"
        if len(set(defaults.values())) < 2:
            return f"{text} (default: {self._shown(self.default)})"
        names: dict[Any, list[str]] = {}
        for name, default in defaults.items():
            names.setdefault(default, []).append(name)
        each = [f"{self._shown(default)} for {' and '.join(of)}" for default, of in names.items()]
        return f"{text} (default: {', '.join(each)})"

    def _shown(self, default: Any) -> Any:
        if default is None or self.kind is bool:
            return {True: "yes", False: "no", None: self.absent}[default]
        return default


def resolve(name: str, options: tuple[Option, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every option, given or default; ValueError for one that is not valid."""
    declared = {option.name: option for option in options}
    for key, value in given.items():
        option = declared.get(key)
        if option is None:
            there = advice(key, declared) if declared else "; it has none"
            raise ValueError(f"{name} has no option {key}{there}")
        _check(option, value)
    values = {option.name: option.default for option in options}
    for option in options:
        if given.get(option.name):
            values |= option.sets
    return values | dict(given)


def _check(option: Option, value: Any) -> None:
    allowed: str
    words = option.words()
    if value is None and option.default is None:
        return
    if words is not None:
        if value in words:
            return
        allowed = "one of " + ", ".join(map(str, words))
    else:
        kinds: dict[Any, Callable[[Any], bool]] = {
            bool: lambda v: isinstance(v, bool),
            int: lambda v: isinstance(v, int) and not isinstance(v, bool),
            float: lambda v: isinstance(v, int | float) and not isinstance(v, bool),
            str: lambda v: isinstance(v, str | int) and not isinstance(v, bool),
            dict: lambda v: isinstance(v, Mapping) and all(isinstance(w, str) for w in v.values()),
        }
        names = {bool: "True or False", int: "a whole number", float: "a number", str: "a text",
                 dict: "a mapping of texts to texts"}  # fmt: skip
        allowed = names[option.kind]
        low, high = option.low, option.high
        if low is not None or high is not None:
            allowed += f" from {low}" + ("" if high is None else f" to {high}")
        if kinds[option.kind](value) and (
            option.kind in (bool, str, dict)
            or ((low is None or value >= low) and (high is None or value <= high))
        ):
            return
    raise ValueError(f"{option.name} is {value!r}, but must be {allowed}")
