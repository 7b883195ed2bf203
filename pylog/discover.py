"""Discovers the modules of formats, backends and outputs: those of pylog by their files, those of
other distributions by their entry points.

An entry point's value is a module with the same contract as pylog's own modules of that group, and
its name is the module's NAME. What modules claim (a name, a link type...) belongs to one module: if
two claim the same, `claimed` raises an error that names both, so the order of names never decides.
An entry point that cannot be used is kept as a problem: the user who asks for it by name gets the
error, all others get a warning.

The folders of sys.path are searched for entry points once, by the names of files, which takes about
1 ms. importlib.metadata takes 40 ms to import and is used only if there is an entry point to read.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Added(NamedTuple):
    """An entry point of a distribution.

    origin    what errors call it
    module    that it names; None if that cannot be imported
    problem   why not
    """

    name: str
    origin: str
    module: Any
    problem: str | None = None


class Collected(NamedTuple):
    """The modules of a package and of entry points, and by name the problems of entry points that
    cannot be used.
    """

    modules: list[Any]
    problems: dict[str, str]


def collect(
    group: str, package: str, path: Iterable[str], has: str, flaw: Callable[[Any], str | None]
) -> Collected:
    """The modules in a package (`__name__`, `__path__`) that have a name `has`, and those of the
    entry points of a group.

    flaw   says what is wrong with a module ("lacks NAME"); None: nothing

    Modules with an underscore in their name are parts of others, which import them when needed.
    ValueError for a module of the package with a flaw.
    """
    names = [e.name for e in pkgutil.iter_modules(path) if "_" not in e.name]
    files = [importlib.import_module(f"{package}.{name}") for name in names]
    modules = [module for module in files if hasattr(module, has)]
    for module in modules:
        check(module, flaw)
    problems = {}
    for entry in added(group):
        problem = entry.problem
        if problem is None and (wrong := flaw(entry.module)) is not None:
            problem = f"{entry.origin} {wrong}"
        elif problem is None and entry.name != entry.module.NAME:
            problem = f"{entry.origin} has another NAME: {entry.module.NAME}"
        if problem is None:
            modules.append(entry.module)
        else:
            problems[entry.name] = problem
    return Collected(modules, problems)


def only(group: str, package: str, path: Iterable[str], name: str) -> Any:
    """The module of that name in a package, without importing the others; None if there is none, or
    if another distribution has entry points of the group, so that names must be compared.
    """
    if not name.isidentifier() or "_" in name:
        return None
    there = any(os.path.exists(os.path.join(folder, f"{name}.py")) for folder in path)
    return importlib.import_module(f"{package}.{name}") if there and not extended(group) else None


def extended(group: str | None = None) -> bool:
    """Whether other distributions have entry points for pylog: of a group; None: of any."""
    return any(
        point.group.startswith("pylog.") if group is None else point.group == group
        for points in _distributions().values()
        for point in points
    )


@cache
def added(group: str) -> list[Added]:
    """The entry points of a group, in the order of their distributions and names."""
    entries = []
    for distribution, points in sorted(_distributions().items()):
        for point in points:
            if point.group != group:
                continue
            origin = f"the entry point {point.name} = {point.value} of {distribution} in {group}"
            try:
                entries.append(Added(point.name, origin, point.load()))
            except Exception as error:  # another distribution's module may raise anything
                why = f"{type(error).__name__}: {error}"
                problem = f"{origin} cannot be imported: {why}"
                entries.append(Added(point.name, origin, None, problem))
    return entries


@cache
def _distributions() -> dict[str, list[Any]]:
    """The entry points of each distribution, by its name and version. Of several with the same name
    the first in sys.path counts, as it does for imports.
    """
    folders = [folder for part in sys.path for folder in _with_entry_points(part)]
    if not folders:
        return {}
    from importlib.metadata import Distribution

    installed: dict[str, tuple[str, list[Any]]] = {}
    for folder in folders:
        distribution = Distribution.at(folder)
        name = distribution.name or os.path.basename(folder)
        points = sorted(distribution.entry_points, key=lambda point: str(point.name))
        installed.setdefault(name.lower(), (f"{name} {distribution.version}", points))
    return dict(installed.values())


def _with_entry_points(part: str) -> Iterator[str]:
    """The folders of distributions in a part of sys.path that have entry points for pylog."""
    try:
        with os.scandir(part or ".") as entries:
            folders = [e.path for e in entries if e.name.endswith((".dist-info", ".egg-info"))]
    except OSError:  # a zip file, or no such folder
        return
    for folder in folders:
        try:
            with open(os.path.join(folder, "entry_points.txt"), "rb") as file:
                text = file.read()
        except OSError:  # the distribution has no entry points
            continue
        if b"[pylog." in text:
            yield folder


def lacking(module: object, contract: type) -> str | None:
    """The flaw of a module that lacks names of a typing.Protocol; None: it has them all."""
    names = [
        name
        for part in contract.__mro__
        if part not in (Protocol, Generic, object)
        for name in (*part.__annotations__, *(n for n in vars(part) if not n.startswith("_")))
    ]
    missing = [name for name in dict.fromkeys(names) if not hasattr(module, name)]
    if not missing:
        return None
    return f"lacks {', '.join(missing)}, see {contract.__qualname__} in {contract.__module__}"


def check(module: object, flaw: Callable[[Any], str | None]) -> None:
    """ValueError for a module with a flaw."""
    if (wrong := flaw(module)) is not None:
        raise ValueError(f"{label(module)} {wrong}")


def claimed(what: str, claims: Iterable[tuple[K, V]]) -> dict[K, V]:
    """The owner of each key that is claimed; ValueError when two claim the same."""
    owners: dict[K, V] = {}
    for key, owner in claims:
        other = owners.setdefault(key, owner)
        if other is not owner:
            raise ValueError(f"{label(other)} and {label(owner)} both claim the {what} {key!r}")
    return owners


def label(owner: Any) -> str:
    """What an error calls a module or class: its name, and the distribution that added it."""
    module = str(getattr(owner, "__module__", None) or getattr(owner, "__name__", owner))
    name = f"{module}.{owner.__qualname__}" if isinstance(owner, type) else module
    package = module.partition(".")[0]
    for distribution, points in _distributions().items():
        ours = [point for point in points if point.group.startswith("pylog.")]
        if any(point.module.partition(".")[0] == package for point in ours):
            return f"{name} of {distribution}"
    return name
