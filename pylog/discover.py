"""Formats and backends are found by their files: whoever adds one adds a file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType


def modules(package: str, path: Iterable[str], has: str) -> dict[str, ModuleType]:
    """The modules by name that lie in a package (`__name__`, `__path__`) and have a name `has`."""
    found = {}
    for entry in pkgutil.iter_modules(path):
        module = importlib.import_module(f"{package}.{entry.name}")
        if hasattr(module, has):
            found[entry.name] = module
    return found
