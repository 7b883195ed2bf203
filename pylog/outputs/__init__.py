"""Outputs: the forms that records are written in. Each is a module, discovered by its name: a file
in this package, or an entry point of another distribution (group `pylog.outputs`).

An output module has a `NAME` and a class `Output(target, **options)`, a subclass of outputs.Output
that writes to the target and leaves its stream open. Constants with the names of a `Description`'s
fields in capitals (`ENDINGS`, `OPTIONS`, `BINARY`, `RAW`...) replace its defaults. If options can
be wrong in a way that an Option cannot express, the module has a function `check(**options)` that
raises ValueError.

`check` makes no output: it opens, connects and writes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, BinaryIO, Protocol

from pylog import discover
from pylog.batch import Batch
from pylog.nearest import advice
from pylog.notes import notes
from pylog.options import Option, resolve
from pylog.record import Row


@dataclass(frozen=True)
class Description:
    """The properties of an output, as its module declares them.

    name        its name
    endings     of its files: (".jsonl",)
    options     its options
    binary      whether it is unfit for a terminal
    raw         whether it needs records with their raw bytes
    appends     whether its files may grow: they are complete after each flush, and more may follow;
                else a file is complete when it is closed
    needs_path  whether it needs a regular file with a path
    columns     whether it is faster with columns than with records
    extra       the extra of the distribution that it needs
    """

    name: str
    endings: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    binary: bool = False
    raw: bool = False
    appends: bool = True
    needs_path: bool = False
    columns: bool = False
    extra: str | None = None


@dataclass(frozen=True)
class Target:
    """Where an output writes.

    stream     a binary file object, open for writing
    path       of the file, if it is a file
    colour     whether to mark actions and losses with terminal colours, if the output is text
    appending  whether the file already holds records of the same output
    """

    stream: BinaryIO
    path: str | None = None
    colour: bool = False
    appending: bool = False

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()


class Output(ABC):
    """Writes records to a target.

    takes_rows      whether it has `write_rows`
    shows_payload   whether it uses the payload of records
    wanted          by kind, the columns that it takes from a batch; None: it takes records
    """

    takes_rows = False
    shows_payload = True
    wanted: Mapping[str, Sequence[str]] | None = None

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Take records; they may be kept until `flush`, or until `close` if it does not append."""

    def write_rows(self, rows: Sequence[Row]) -> None:
        """As `write`, for records that a Reader gives as rows."""
        raise TypeError(f"{type(self).__module__} takes records, no rows")

    @abstractmethod
    def flush(self) -> None:
        """Write what was kept, as far as the form allows, and flush the stream."""

    @abstractmethod
    def close(self) -> None:
        """Write the rest. The stream stays open."""


class OutputModule(Protocol):
    """What every output module has."""

    NAME: str
    Output: Any


@cache
def _collected() -> discover.Collected:
    collected = discover.collect(
        "pylog.outputs", __name__, __path__, "NAME",
        lambda module: discover.lacking(module, OutputModule),
    )  # fmt: skip
    for problem in collected.problems.values():
        notes.warning("%s", problem)
    return collected


@cache
def _modules() -> dict[str, OutputModule]:
    modules = sorted(_collected().modules, key=lambda module: str(module.NAME))
    return discover.claimed("output name", ((module.NAME, module) for module in modules))


def names() -> list[str]:
    """The names of all outputs."""
    return list(_modules())


def problem(name: str) -> str | None:
    """Why an output of another distribution cannot be used; None: it can, or there is none."""
    return None if name in _modules() else _collected().problems.get(name)


def endings() -> dict[str, str]:
    """The output of each ending of a file; ValueError for an ending that two claim."""
    claims = [(e, module) for n, module in _modules().items() for e in description(n).endings]
    return {e: module.NAME for e, module in discover.claimed("ending", claims).items()}


@cache
def description(name: str) -> Description:
    """The properties of an output; ValueError for a name that does not exist."""
    module = _module(name)
    declared = {field.name: field.name.upper() for field in fields(Description)}
    return Description(**{n: getattr(module, c) for n, c in declared.items() if hasattr(module, c)})


def check(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All options of an output, with defaults for those that are not given.

    Raises ValueError for an output or option that does not exist, or a value that is not valid.
    """
    settings = resolve(name, description(name).options, options or {})
    more = getattr(_module(name), "check", None)
    if more is not None:
        more(**settings)
    return settings


def open(name: str, target: Target, options: Mapping[str, Any] | None = None) -> Output:
    """Make the output of that name, which writes to the target; ValueError as from `check`."""
    settings = check(name, options)
    if target.path is None and description(name).needs_path:
        raise ValueError(f"{name} needs a file: name one")
    made: Output = _module(name).Output(target, **settings)
    return made


def _module(name: str) -> OutputModule:
    if name not in _modules():
        raise ValueError(problem(name) or f"no output {name!r}{advice(name, names())}")
    return _modules()[name]
