"""Formats and backends are found by their files: whoever adds one adds a file.

`collect` is the one place that looks for modules. What they claim (a name, a link type...) belongs
to one of them: `claimed` raises an error that names both where two claim the same, so that the
order of file names never decides.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Hashable, Iterable
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def collect(package: str, path: Iterable[str], has: str) -> list[ModuleType]:
    """The modules in a package (`__name__`, `__path__`) that have a name `has`."""
    found = [importlib.import_module(f"{package}.{e.name}") for e in pkgutil.iter_modules(path)]
    return [module for module in found if hasattr(module, has)]


def check(module: object, contract: type) -> None:
    """ValueError for a module without a name that a typing.Protocol has."""
    names = [
        name
        for part in contract.__mro__
        if part not in (Protocol, Generic, object)
        for name in (*part.__annotations__, *(n for n in vars(part) if not n.startswith("_")))
    ]
    missing = [name for name in dict.fromkeys(names) if not hasattr(module, name)]
    if missing:
        raise ValueError(f"{label(module)} lacks {', '.join(missing)}, see {contract.__qualname__}"
                         f" in {contract.__module__}")  # fmt: skip


def claimed(what: str, claims: Iterable[tuple[K, V]]) -> dict[K, V]:
    """Who has claimed what, by its key; ValueError when two claim the same."""
    owners: dict[K, V] = {}
    for key, owner in claims:
        other = owners.setdefault(key, owner)
        if other is not owner:
            raise ValueError(f"{label(other)} and {label(owner)} both claim the {what} {key!r}")
    return owners


def label(module: Any) -> str:
    """What an error calls a module."""
    return str(getattr(module, "__name__", module))
