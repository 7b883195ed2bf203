"""Outputs: what records are written as. One module an output, found by its name.

An output module has a class `Output(stream, **options)` with `write(record)`, `flush()` and
`close()`, which write bytes to a binary file object and leave it open. It may say `RAW = True`:
then it takes records that were read with raw=True.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import BinaryIO, Protocol

from pylog.record import Record


class Output(Protocol):
    """What every output can do."""

    def write(self, record: Record) -> None:
        """Take a record; it may be kept until `flush`."""

    def flush(self) -> None:
        """Write what was kept, and flush the file object."""

    def close(self) -> None:
        """Write what is left to write. The file object stays open."""


def names() -> list[str]:
    """The outputs there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def needs_raw(name: str) -> bool:
    """Whether the output of that name takes records with their raw bytes only."""
    return getattr(importlib.import_module(f"{__name__}.{name}"), "RAW", False)


def output(name: str, stream: BinaryIO, colour: bool = False) -> Output:
    """The output of a name, writing to `stream`; ValueError when there is none of that name.

    colour   mark actions and losses with terminal colours, where the output is for people
    """
    if name not in names():
        raise ValueError(f"no output {name!r}; there are {', '.join(names())}")
    made: Output = importlib.import_module(f"{__name__}.{name}").Output(stream, colour=colour)
    return made
