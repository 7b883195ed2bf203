"""Backends: where the bytes of a log come from. One module a source, which does only I/O.

A backend does not interpret the bytes of a log. It gives them in the order in which they came, and
owns the system calls and their errors. A backend module has (BackendModule below)

    NAME       its name on the command line; no other module has the same
    HELP       one line: what it reads
    OPTIONS    its options, a tuple of Option
    connect    (address, options) -> list of Backend, one for each log that the address names
    sources    () -> list of Source: what this machine has to read from
    checks     () -> list of Check: whether reading would work here
    check      optional: (address, options), ValueError for those that connect would refuse
    scope_of   optional: the options -> Backend.scope, for records that are decoded elsewhere

It is discovered by its file in this package, or by an entry point of another distribution (group
`pylog.sources`). A source is NAME:ADDRESS. Any other text is a path, which the module `capture`
reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, BinaryIO, Protocol

from pylog import discover
from pylog.backends.base import Backend, Check, Source, check_source
from pylog.nearest import advice
from pylog.notes import notes
from pylog.options import Option, resolve


class BackendModule(Protocol):
    """The names that a backend module has."""

    NAME: str
    HELP: str
    OPTIONS: tuple[Option, ...]

    def connect(self, address: Any, options: Mapping[str, Any]) -> list[Backend]: ...

    def sources(self) -> list[Source]: ...

    def checks(self) -> list[Check]: ...


@cache
def _collected() -> discover.Collected:
    collected = discover.collect(
        "pylog.sources", __name__, __path__, "connect",
        lambda module: discover.lacking(module, BackendModule),
    )  # fmt: skip
    for problem in collected.problems.values():
        notes.warning("%s", problem)
    return collected


@cache
def modules() -> dict[str, BackendModule]:
    """The backend modules by NAME; ValueError when one is incomplete, or two have one name."""
    candidates = _collected().modules
    return discover.claimed("source name", ((module.NAME, module) for module in candidates))


def named(source: object) -> tuple[str, str] | None:
    """The backend's name and the address of NAME:ADDRESS; None for a path or file object.

    ValueError for a name whose module cannot be used.
    """
    if not isinstance(source, str):
        return None
    name, colon, address = source.partition(":")
    if colon and name not in modules() and name in _collected().problems:
        raise ValueError(_collected().problems[name])
    return (name, address) if colon and name in modules() else None


def is_live(source: object) -> bool:
    """Whether it is NAME:ADDRESS of anything but a file."""
    name = named(source)
    return name is not None and name[0] != "capture"


def connect(source: str | os.PathLike[str] | BinaryIO, options: Mapping[str, Any]) -> list[Backend]:
    """The backends of a source: NAME:ADDRESS, a path, "-" or a binary file object.

    Raises ValueError for a bad address or option, BackendError when the system refuses,
    BackendUnavailable when it has no such source.
    """
    check_source(source)
    name, address = named(source) or ("capture", source)
    module = module_of(name)
    return module.connect(address, resolve(name, module.OPTIONS, options))


def options_of(source: object) -> tuple[Option, ...]:
    """The options of a source; ValueError for a name whose module cannot be used."""
    return module_of((named(source) or ("capture", source))[0]).OPTIONS


def check(source: str, options: Mapping[str, Any]) -> None:
    """ValueError for an address or option that is not valid, as far as the source says without
    opening it: its module may have a function `check(address, options)`.
    """
    name, address = named(source) or ("capture", source)
    module = module_of(name)
    values = resolve(name, module.OPTIONS, options)
    more = getattr(module, "check", None)
    if more is not None:
        more(address, values)


def shared(sources: Sequence[object], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each of several sources, the options that it has.

    Raises ValueError for an option that none of them has, TypeError as `check_source`.
    """
    for source in sources:
        check_source(source)
    names = [(named(source) or ("capture", ""))[0] for source in sources]
    declared = [{option.name for option in module_of(name).OPTIONS} for name in names]
    for key in options:
        if not any(key in own for own in declared):
            there = advice(key, (name for own in declared for name in sorted(own)))
            raise ValueError(f"no source here has an option {key}{there}")
    return [{key: v for key, v in options.items() if key in own} for own in declared]


def module_of(name: str) -> BackendModule:
    """The backend module of that name."""
    if name == "capture":  # for files no other backend is imported
        from pylog.backends import capture

        return capture
    return modules()[name]
