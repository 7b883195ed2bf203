"""Every example in README.md prints what README.md says."""

from __future__ import annotations

import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import inprocess
import netlab
import pytest

import pylog.cli
from pylog.backends import nflog
from pylog.record import KINDS, reference

COMMANDS = [m.name for m in pkgutil.iter_modules(pylog.cli.__path__) if m.name[0] != "_"]
ROOT = Path(__file__).resolve().parents[1]
ROOT_ON_PATH = str(Path(pylog.__file__).resolve().parents[1])
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def examples() -> list[tuple[str, str]]:
    """The commands in console blocks, each with the output that follows it."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


@pytest.mark.parametrize(("command", "output"), examples(), ids=lambda text: text[:50])
def test_a_command_prints_what_the_readme_shows(
    command: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = shlex.split(command)
    if program == "pylog" and not re.search(r"[|<>&;*$]", command):
        monkeypatch.chdir(ROOT)
        run = inprocess.run(*arguments)
        printed = (run.stdout + run.stderr).decode()
    else:
        program = f"{shlex.quote(sys.executable)} -m pylog "
        command = re.sub(r"\bpylog (?=read|info|replay|ipmon|convert|--)", program, command)
        done = subprocess.run(
            command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        printed = done.stdout + done.stderr
    assert without_cpu_time(printed) == without_cpu_time(output)


def without_cpu_time(text: str) -> str:
    """Every run has another."""
    return re.sub(r"[\d.]+ us of CPU time", "N us of CPU time", text)


@pytest.mark.parametrize("code", [code for code in blocks("python") if "pyspark" not in code])
def test_the_library_example_prints_what_its_comments_say(code: str) -> None:
    for package in re.findall(
        r"^import (?:pylog\.)?(dask|duckdb|fsspec|pandas|polars|pyarrow)", code, re.M
    ):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    expected = re.findall(r"^\s*# prints: (.*)$", code, re.M)
    assert done.stdout.splitlines() == expected


def test_the_table_of_json_names_is_the_declarations() -> None:
    assert reference.table() in README


def test_every_column_is_in_the_table_of_columns() -> None:
    pytest.importorskip("pyarrow")
    from pylog.table import schema

    columns: dict[str, list[list[str]]] = {}
    for i, kind in enumerate(KINDS):
        for field in schema(kind):
            name = str(field.type).replace("values=string, indices=int32, ordered=0",
                                           "int32, string")  # fmt: skip
            columns.setdefault(name, [[] for _ in KINDS])[i].append(f"`{field.name}`")
    rows = [f"| {name} | {' | '.join(map(' '.join, cells))} |" for name, cells in columns.items()]
    table = "\n".join([f"| Arrow type | {' | '.join(KINDS)} |", "|---|---|---|---|", *rows])
    assert table in README


@pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))
def test_the_live_examples_print_what_the_readme_shows(tmp_path: Path) -> None:
    """In a namespace where somebody pings; times are those of then."""
    python = shlex.quote(sys.executable)
    with netlab.Namespace() as namespace:
        ping = ("ping", "-q", "-i", "0.1", "-c", "600", "127.0.0.1")
        namespace.start(*ping, stdout=subprocess.DEVNULL)
        for block in blocks("sh-session"):
            for part in re.split(r"^# ", block, flags=re.M)[1:]:
                command, _, output = part.partition("\n")
                command = re.sub(r"\bpylog (?=[a-z])", f"{python} -m pylog ", command)
                command = re.sub(r"; ipmon ", f"; {python} -m pylog ipmon ", command)
                script = f"cd {tmp_path}; {command}"
                done = subprocess.run(
                    ["ip", "netns", "exec", namespace.name, "sh", "-c", script],
                    capture_output=True, text=True, timeout=60,
                    env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", ROOT_ON_PATH)},
                )  # fmt: skip
                time = r"^(\d{4}-\d\d-\d\dT[\d:.]+Z|\d\d/\d\d/\d{4} [\d:.]+)"
                printed, shown = (
                    re.sub(time, "TIME", text, flags=re.M)
                    for text in (done.stdout + done.stderr, output)
                )
                assert printed == shown, command


def test_the_pytest_example_passes(tmp_path: Path) -> None:
    (code,) = [block for block in blocks("py") if "pytest_plugins" in block]
    plugins, _, tests = code.partition("\n\n")  # conftest.py, test_example.py
    (tmp_path / "conftest.py").write_text(plugins)
    (tmp_path / "test_example.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
         str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={key: value for key, value in os.environ.items() if key != "CI"},
    )  # fmt: skip
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_every_option_is_in_the_readme() -> None:
    for command in COMMANDS:
        text = inprocess.run(command, "--help").stdout.decode()
        for option in re.findall(r"(--[a-z-]+)", text):
            assert option == "--help" or f"`{option}" in README or f" {option}" in README, option
        assert f"pylog {command}" in README


def test_the_table_of_options_has_their_defaults() -> None:
    rows = dict(re.findall(r"^\| `(--[a-z-]+)`[^|]*\| (`\w+` \| [^|]+?) \|", README, re.M))
    for option in nflog.OPTIONS:
        flag = option.flag or "--" + option.name.replace("_", "-")
        told = {True: "on", False: "off", None: "none"}.get(option.default, option.default)
        if option.name.startswith("rcvbuf"):
            told = f"{option.default >> 20} MiB"
        told = "pylog's own" if option.name == "netns" else told
        assert rows[flag] == f"`{option.name}` | {told}"


def test_ci_runs_the_readmes_test_command() -> None:
    (setup, test) = blocks("sh")
    assert test.strip() in (ROOT / ".ci/run").read_text()
    assert "pip install" in setup and "pylog read" in setup
