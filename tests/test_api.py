"""The public API: what dir() shows, what type checkers see, and that importing it stays fast."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any, Literal

import pytest

import pylog
from pylog import backends
from pylog.options import Option, resolve

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = {
    "BackendError", "BackendUnavailable", "CounterRecord", "DecodeError", "FlowRecord", "Fragment",
    "LossRecord", "Merged", "PacketRecord", "Reader", "Record", "Replay", "RulesetRecord",
    "SourceOptions", "TraceRecord", "Vlan", "__version__", "iter_batches", "json_lines", "merge",
    "open", "read_table", "replay", "rfc3339", "to_json",
}  # fmt: skip
"""The API as it is documented: a name more or less is a change for users."""


def test_dir_is_the_public_api_and_nothing_else() -> None:
    assert set(dir(pylog)) == PUBLIC
    assert {*pylog.__all__, "__version__"} == PUBLIC
    for name in PUBLIC:
        assert getattr(pylog, name) is not None


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs/reference/python.md").read_text()
    names = re.findall(r"auto(?!module)\w+:: pylog\.(\w+)(?:\(\))?$", page, re.M)
    assert set(names) == PUBLIC - {"__version__"}


def test_every_public_function_and_class_is_explained() -> None:
    for name in pylog.__all__:
        value = getattr(pylog, name)
        assert name == "Record" or inspect.getdoc(value), name  # a union has none of its own


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = pylog.opne  # type: ignore[attr-defined]


def test_tables_are_listed_without_their_extra_and_say_what_is_missing() -> None:
    """Completion and help() get every name of dir(), and must neither fail nor import pyarrow."""
    code = (
        "import sys; sys.modules.update(pyarrow=None, numpy=None)\n"
        "import inspect, pylog\n"
        "names = [name for name, _ in inspect.getmembers(pylog)]\n"
        "assert {'read_table', 'iter_batches'} <= set(names), names\n"
        "assert 'columns' in inspect.signature(pylog.read_table).parameters\n"
        "assert 'pylog.table' not in sys.modules\n"
        "try: pylog.read_table('x')\n"
        "except pylog.BackendUnavailable as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install '.[arrow]'" in done.stdout, done.stderr


# The options of sources


def own_options() -> dict[str, Option]:
    """The options of the sources that pylog itself has."""
    names = [module.name for module in pkgutil.iter_modules(backends.__path__)]
    modules = [importlib.import_module(f"pylog.backends.{name}") for name in names]
    return {
        option.name: option
        for module in modules
        if hasattr(module, "connect")
        for option in module.OPTIONS
    }


HINTS = typing.get_type_hints(pylog.SourceOptions)


def test_type_checkers_see_the_options_that_sources_declare() -> None:
    assert list(HINTS) == list(own_options())


@pytest.mark.parametrize("option", own_options().values(), ids=lambda option: option.name)
def test_type_checkers_see_the_type_that_an_option_takes(option: Option) -> None:
    words, hint = option.words(), HINTS[option.name]
    if words is not None:
        assert hint == Literal[words]
        return
    allowed = set(typing.get_args(hint)) or {hint}
    examples: dict[Any, Any] = {bool: True, int: 8192, float: 1.5, str: "ipv4", type(None): None}
    for kind, value in examples.items():
        if kind in allowed:
            resolve("test", (option,), {option.name: value})
        elif not (kind is int and allowed & {float, str}):  # an int is a float, and a text's number
            with pytest.raises(ValueError, match=option.name):
                resolve("test", (option,), {option.name: value})


def test_open_and_merge_take_these_options() -> None:
    for function in (pylog.open, pylog.merge):
        (options,) = [
            parameter.annotation
            for parameter in inspect.signature(function, eval_str=True).parameters.values()
            if parameter.kind is parameter.VAR_KEYWORD
        ]
        assert typing.get_args(options) == (pylog.SourceOptions,)
