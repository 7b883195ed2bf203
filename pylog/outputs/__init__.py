"""Outputs: what records are written as. One module an output, found by its name.

An output module has a class `Output(stream, colour, **options)`, an outputs.Output that writes
bytes to a binary file object and leaves it open. The module may say `RAW = True`:
then it takes records that were read with raw=True; `BINARY = True`: it is not for a terminal; and
`OPTIONS`, a tuple of Option.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, BinaryIO

from pylog.options import Option, resolve
from pylog.record import Record, Row


class Output(ABC):
    """What every output can do.

    takes_rows      whether it has `write_rows`
    shows_payload   whether it does something with the payload of records
    """

    takes_rows = False
    shows_payload = True

    @abstractmethod
    def write(self, record: Record) -> None:
        """Take a record; it may be kept until `flush`."""

    def write_batch(self, records: Iterable[Record]) -> None:
        """Take records as `write` does, for some outputs much faster."""
        for record in records:
            self.write(record)

    def write_rows(self, rows: Iterable[Row]) -> None:
        """As `write_batch`, for records that a Reader gives as rows."""
        raise TypeError(f"{type(self).__module__} takes records, no rows")

    @abstractmethod
    def flush(self) -> None:
        """Write what was kept, and flush the file object."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left to write. The file object stays open."""


def names() -> list[str]:
    """The outputs there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def needs_raw(name: str) -> bool:
    """Whether the output of that name takes records with their raw bytes only."""
    return getattr(_module(name), "RAW", False)


def is_binary(name: str) -> bool:
    """Whether what the output of that name writes is not for a terminal."""
    return getattr(_module(name), "BINARY", False)


def options(name: str) -> tuple[Option, ...]:
    """The options of the output of that name."""
    return getattr(_module(name), "OPTIONS", ())


def output(
    name: str,
    stream: BinaryIO,
    colour: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Output:
    """The output of a name, writing to `stream`.

    colour   mark actions and losses with terminal colours, where the output is for people
    given    its options
    Raises ValueError for an output or option that there is not, or that makes no sense.
    """
    settings = resolve(name, options(name), given or {})
    made: Output = _module(name).Output(stream, colour, **settings)
    return made


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"no output {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")
