"""The house: imports go one way, and the wheel holds what the tree holds."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from pylog.errors import BackendUnavailable

ROOT = Path(__file__).resolve().parents[1]

# Who may import what, bottom to top. A name stands for itself and all below it.
#     record, errors, memo, nearest, notes, options, discover  <-  formats  <-  detect, losses,
#     filter  <-  damage, ahead  <-  grouped  <-  decoder, backends  <-  input, aio  <-  open_log
#     <-  reader, table  <-  merge, replay  <-  outputs, testing, cli;  formats, transports  <-
#     ipmon, ulogd  <-  outputs, cli
_BASE = {
    "pylog.discover",
    "pylog.errors",
    "pylog.memo",
    "pylog.nearest",
    "pylog.notes",
    "pylog.options",
    "pylog.record",
}
ALLOWED: dict[str, set[str]] = {
    "pylog.errors": set(),
    "pylog.clock": set(),
    "pylog.memo": set(),
    "pylog.discover": set(),
    "pylog.nearest": set(),
    "pylog.options": {"pylog.nearest"},
    "pylog.actions": {"pylog.memo", "pylog.nearest", "pylog.record"},
    "pylog.zones": {"pylog.memo", "pylog.nearest", "pylog.options"},
    "pylog.record": {"pylog.discover", "pylog.memo", "pylog.nearest", "pylog.record"},
    "pylog.notes": {"pylog.record"},
    "pylog.formats": {*_BASE, "pylog.formats"},
    "pylog.filter": {*_BASE, "pylog.filter", "pylog.formats"},
    "pylog.backends": {*_BASE, "pylog.formats", "pylog.backends", "pylog.zones"},
    "pylog.detect": {*_BASE, "pylog.formats"},
    "pylog.losses": {*_BASE, "pylog.formats"},
    "pylog.ahead": {*_BASE, "pylog.formats"},
    "pylog.aio": {*_BASE, "pylog.backends"},
    "pylog.damage": {*_BASE, "pylog.formats"},
    "pylog.grouped": {*_BASE, "pylog.formats", "pylog.losses"},
    "pylog.decoder": {*_BASE, "pylog.formats", "pylog.ahead", "pylog.damage", "pylog.detect",
                      "pylog.grouped", "pylog.losses"},
    "pylog.input": {*_BASE, "pylog.formats", "pylog.backends", "pylog.decoder", "pylog.detect"},
    "pylog.origins": {*_BASE, "pylog.backends"},
    "pylog.log_times": {*_BASE, "pylog.backends", "pylog.formats", "pylog.zones"},
    "pylog.open_log": {*_BASE, "pylog.backends", "pylog.decoder", "pylog.detect", "pylog.formats",
                       "pylog.input", "pylog.log_times", "pylog.losses", "pylog.origins"},
    "pylog.packets": {*_BASE, "pylog.reader"},  # for type checkers only
    "pylog.records": {*_BASE, "pylog.actions", "pylog.aio", "pylog.backends", "pylog.decoder",
                      "pylog.filter", "pylog.formats", "pylog.packets",
                      "pylog.reader"},  # the last for type checkers only
    "pylog.reader": {*_BASE, "pylog.formats", "pylog.backends", "pylog.aio", "pylog.decoder",
                     "pylog.detect", "pylog.engine", "pylog.input", "pylog.open_log",
                     "pylog.origins", "pylog.records"},
    "pylog.join": {*_BASE, "pylog.formats"},
    "pylog.flows": {*_BASE, "pylog.flows"},
    "pylog.flows.ends": {*_BASE, "pylog.formats"},
    "pylog.flows.join": {*_BASE, "pylog.flows.ends", "pylog.formats"},
    "pylog.flows.reader": {*_BASE, "pylog.decoder", "pylog.flows", "pylog.reader",
                           "pylog.records"},
    "pylog.joined": {*_BASE, "pylog.reader", "pylog.records"},
    "pylog.ruleset": {*_BASE, "pylog.formats"},
    "pylog.trails": {*_BASE, "pylog.formats"},
    "pylog.who": {*_BASE, "pylog.formats", "pylog.who"},
    "pylog.who.stored": {*_BASE, "pylog", "pylog.backends", "pylog.reader", "pylog.table",
                         "pylog.who"},
    "pylog.lints": {*_BASE, "pylog.formats"},
    "pylog.merge": {*_BASE, "pylog.backends", "pylog.reader", "pylog.records"},
    "pylog.replay": {*_BASE, "pylog.backends", "pylog.open_log", "pylog.reader",
                     "pylog.records"},
    "pylog.scrub": {*_BASE, "pylog.formats", "pylog.detect"},
    "pylog": {*_BASE, "pylog.formats", "pylog.backends", "pylog.open_log", "pylog.reader",
              "pylog.merge", "pylog.origins", "pylog.replay", "pylog.arrow",
              "pylog.source_options"},
    "pylog.arrow": {*_BASE, "pylog.backends", "pylog.open_log", "pylog.origins", "pylog.table"},
    "pylog.source_options": set(),
    "pylog.engine": set(),
    "pylog.secrets": {"pylog.errors"},
    "pylog.units": set(),
    "pylog.pipeline": {*_BASE, "pylog", "pylog.actions", "pylog.backends", "pylog.batch",
                       "pylog.clock", "pylog.decoder", "pylog.detect", "pylog.engine",
                       "pylog.filter", "pylog.flows", "pylog.flows.join", "pylog.formats",
                       "pylog.join", "pylog.joined", "pylog.losses", "pylog.origins",
                       "pylog.outputs",
                       "pylog.pipeline", "pylog.reader", "pylog.records", "pylog.secrets",
                       "pylog.table", "pylog.transports", "pylog.transports.packing",
                       "pylog.units"},
    "pylog.stats": {*_BASE, "pylog.actions", "pylog.backends", "pylog.filter", "pylog.flows",
                    "pylog.formats", "pylog.stats", "pylog.table", "pylog.zones"},
    "pylog.top": {*_BASE, "pylog.actions", "pylog.decoder", "pylog.filter", "pylog.formats",
                  "pylog.outputs", "pylog.reader", "pylog.stats", "pylog.top", "pylog.zones"},
    "pylog.report": {*_BASE, "pylog", "pylog.formats", "pylog.report", "pylog.stats",
                     "pylog.table"},
    "pylog.table": {*_BASE, "pylog.actions", "pylog.filter", "pylog.formats", "pylog.backends",
                    "pylog.decoder", "pylog.detect", "pylog.losses", "pylog.open_log",
                    "pylog.origins", "pylog.table", "pylog.who"},
    "pylog.dataset": {*_BASE, "pylog.backends", "pylog.batch", "pylog.outputs", "pylog.table"},
    "pylog.dask": {*_BASE, "pylog.actions", "pylog.backends", "pylog.filter", "pylog.open_log",
                   "pylog.table", "pylog.dataset"},
    "pylog.spark": {*_BASE, "pylog.filter", "pylog.open_log", "pylog.table"},
    "pylog.transports": {*_BASE, "pylog.transports", "pylog.transports.packing"},
    "pylog.transports.packing": {*_BASE, "pylog.backends"},
    "pylog.ipmon": {*_BASE, "pylog.filter", "pylog.formats", "pylog.ipmon", "pylog.transports"},
    "pylog.ulogd": {*_BASE, "pylog.formats", "pylog.transports", "pylog.ulogd"},
    "pylog.ulogd.live": {*_BASE, "pylog", "pylog.backends", "pylog.formats", "pylog.pipeline",
                         "pylog.ulogd", "pylog.ulogd.threads"},
    "pylog.ulogd.threads": {*_BASE, "pylog.backends", "pylog.decoder", "pylog.formats",
                            "pylog.origins", "pylog.pipeline", "pylog.ulogd"},
    "pylog.batch": {*_BASE, "pylog.table"},
    "pylog.outputs": {*_BASE, "pylog", "pylog.clock", "pylog.flows", "pylog.trails", "pylog.zones",
                      "pylog.formats", "pylog.batch", "pylog.ipmon", "pylog.ulogd", "pylog.secrets",
                      "pylog.outputs", "pylog.table", "pylog.transports",
                      "pylog.transports.packing"},
    "pylog.testing": {*_BASE, "pylog", "pylog.formats", "pylog.backends", "pylog.open_log",
                      "pylog.reader", "pylog.replay", "pylog.source_options", "pylog.testing"},
    "pylog.cli": {*_BASE, "pylog", "pylog.actions", "pylog.zones", "pylog.origins",
                  "pylog.formats", "pylog.backends", "pylog.decoder", "pylog.engine",
                  "pylog.input", "pylog.open_log", "pylog.reader", "pylog.records", "pylog.filter",
                  "pylog.merge", "pylog.flows", "pylog.flows.join", "pylog.flows.reader",
                  "pylog.join", "pylog.joined", "pylog.lints", "pylog.ruleset", "pylog.trails",
                  "pylog.who", "pylog.who.stored",
                  "pylog.ipmon", "pylog.outputs", "pylog.pipeline", "pylog.scrub", "pylog.secrets",
                  "pylog.ulogd", "pylog.ulogd.live", "pylog.report", "pylog.stats", "pylog.table",
                  "pylog.top",
                  "pylog.units",
                  "pylog.dask", "pylog.transports", "pylog.transports.packing", "pylog.batch",
                  "pylog.cli"},
    "pylog.__main__": {"pylog.cli"},
}  # fmt: skip
FOLDERS = {"pylog": ROOT / "pylog", "pylog.backends": ROOT / "backends",
           "pylog.formats": ROOT / "formats"}  # fmt: skip
NEEDS_EXTRA = {
    "pylog.dask": "dask",
    "pylog.spark": "pyspark",
    "pylog.top.look": "textual",
    "pylog.top.screen": "textual",
    "pylog.outputs._postgresql_client": "psycopg",
    "pylog.outputs._mysql_client": "pymysql",
    "pylog.report.page": "jinja2",
    "pylog.report.pictures": "markupsafe",
}
"""Modules that cannot be imported without a package."""
NOT_IN_FORMATS = {"os", "socket", "time", "sys", "datetime", "io", "pathlib", "subprocess"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the project by its import name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if package == "pylog" and parts[0] in ("backends", "formats"):
                continue  # the links
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            found[name] = path
    return found


@cache
def imported(path: Path, name: str, typing: bool = True) -> set[str]:
    """The modules that a module names in imports, wherever they stand.

    typing   also those that only type checkers import
    """
    found = set()
    names = modules()
    tree = ast.parse(path.read_text())
    if not typing:
        tree.body = [node for node in tree.body if "if TYPE_CHECKING:" not in ast.unparse(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                target = f"{node.module}.{alias.name}"
                found.add(target if target in names else node.module)
    return found - {name}


def rule(name: str) -> str:
    """The longest entry of the table that a module falls under."""
    return max((key for key in ALLOWED if name == key or name.startswith(f"{key}.")), key=len)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_one_way(name: str) -> None:
    allowed = ALLOWED[rule(name)]
    for target in imported(modules()[name], name):
        if target == "pylog" or target.startswith("pylog."):
            assert rule(target) in allowed, f"{name} imports {target}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = modules()
    graph = {
        name: imported(path, name, typing=False) & found.keys() for name, path in found.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules of a circle


@pytest.mark.parametrize("name", [n for n in sorted(modules()) if n.startswith("pylog.formats")])
def test_formats_do_no_io(name: str) -> None:
    assert not imported(modules()[name], name) & NOT_IN_FORMATS


def test_every_package_is_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {n for n, p in modules().items() if p.name == "__init__.py"}
    assert packages == set(settings["packages"])
    for name, path in modules().items():
        if path.name == "__init__.py" and name in settings["package-dir"]:
            assert ROOT / settings["package-dir"][name] == path.parent


@pytest.mark.parametrize("name", sorted(modules().keys() - {"pylog.__main__"}))
def test_every_module_can_be_imported_from_where_it_is_installed(name: str) -> None:
    package = NEEDS_EXTRA.get(name)
    if package is None or importlib.util.find_spec(package) is not None:
        assert importlib.import_module(name).__doc__
        return
    with pytest.raises(BackendUnavailable, match=r"pip install '\.\["):
        importlib.import_module(name)


@pytest.mark.parametrize(("run", "heavy"), [
    ("import pylog",
     {"construct", "pyroute2", "asyncio", "lark", "re2", "importlib.metadata", "numpy", "pyarrow"}),
    ("import pylog.cli; pylog.cli.main(['--help'])",
     {"pylog.ipmon", "pylog.outputs.ipl", "pyroute2"}),
    ("import pylog.cli; pylog.cli.main(['flush', '--followw'])",
     {"pylog.cli.read", "pylog.cli.convert", "pylog.cli.info", "pylog.ipmon", "pylog.outputs"}),
    ("import pylog.cli; pylog.cli.main(['read', '-n', '0', 'README.md'])",
     {"pylog.cli.convert", "pylog.cli.info", "pylog.outputs._text_columns", "difflib",
      "pylog.scrub", "pylog.join", "pylog.flows.join", "pylog.formats.nft_rule"}),
])  # fmt: skip
def test_what_takes_long_is_not_imported_before_it_is_needed(run: str, heavy: set[str]) -> None:
    code = f"import atexit, sys; atexit.register(lambda: print(*sys.modules)); {run}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "pylog.reader" in loaded and not loaded & heavy
