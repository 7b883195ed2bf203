"""Every example in README.md and docs/ prints what the page shows; what is generated is up to date.

pylog runs in the process of the test where the command needs no shell, or needs it only for what
follows the first `|`: a new process for each example would take minutes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import inprocess
import netlab
import pytest

import pylog

ROOT = Path(__file__).resolve().parents[1]
ROOT_ON_PATH = str(Path(pylog.__file__).resolve().parents[1])
README = (ROOT / "README.md").read_text()
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
PROGRAM = f"{shlex.quote(sys.executable)} -m pylog "
COMMANDS = (
    r"\bpylog (?=read|info|replay|check|ipmon|ulogd|convert|capture|pending|flush|who|stats"
    r"|top|report|--)"
)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """The blocks of a language, each with the page that it is on."""
    for page, text in PAGES.items():
        for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S):
            yield page, block


def parts(block: str, prompt: str) -> list[tuple[str, str]]:
    """The commands of a block, each with the output that follows it; `#` is the prompt of root."""
    if not block.startswith(f"{prompt} "):
        return []
    texts = re.split(rf"^{re.escape(prompt)} ", block, flags=re.M)[1:]
    return [(command, output) for command, _, output in (t.partition("\n") for t in texts)]


CONSOLE = [(page, *part) for page, block in blocks("console") for part in parts(block, "$")]
PYTHON = [(page, code) for page, code in blocks("python") if "pyspark" not in code]
LIVE = sorted({page for page, block in blocks("console") if block.startswith("# ")})


@pytest.mark.parametrize(
    ("command", "output"), [example[1:] for example in CONSOLE],
    ids=[f"{page}: {command[:60]}" for page, command, _ in CONSOLE],
)  # fmt: skip
def test_a_command_prints_what_the_page_shows(
    command: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("README.md", "docs", "fixtures"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    first, bar, others = command.partition(" | ")
    if first.startswith("pylog ") and not re.search(r"[<>;&$*]", first):
        done = inprocess.run(*shlex.split(first)[1:])
        printed, errors = done.stdout, done.stderr
    else:
        printed, errors, bar, others = b"", b"", "|", command
    if bar:
        shell = subprocess.run(re.sub(COMMANDS, PROGRAM, others), shell=True, input=printed,
                               capture_output=True, timeout=120)  # fmt: skip
        printed, errors = shell.stdout, errors + shell.stderr
    text = (printed + errors).decode().replace("\r\n", "\n")  # the lines of CSV
    assert without_cpu_time(text) == without_cpu_time(output)


def without_cpu_time(text: str) -> str:
    """Every run has another."""
    return re.sub(r"[\d.]+ us of CPU time", "N us of CPU time", text)


@pytest.mark.parametrize("code", [c for _, c in PYTHON], ids=[f"{p}: {c[:60]}" for p, c in PYTHON])
def test_a_program_prints_what_its_comments_say(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in re.findall(
        r"^import (?:pylog\.)?(dask|duckdb|fsspec|pandas|polars|pyarrow)", code, re.M
    ):
        pytest.importorskip(package)
    monkeypatch.chdir(ROOT)
    out, errors = io.StringIO(), io.StringIO()
    logger = logging.getLogger("pylog")
    level = logger.level
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            exec(compile(code, "<example>", "exec"), {"__name__": "__main__"})
    finally:
        logger.setLevel(level)
    assert errors.getvalue() == ""
    expected = re.findall(r"^\s*# prints: (.*)$", code, re.M)
    assert expected and out.getvalue().splitlines() == expected


@pytest.mark.skipif(bool(netlab.missing("nft")), reason=netlab.missing("nft"))
@pytest.mark.parametrize("page", LIVE)
def test_the_live_examples_of_a_page_print_what_it_shows(page: str, tmp_path: Path) -> None:
    """In a namespace where somebody pings; times are those of then."""
    python = os.environ.get("PYTHONPATH", ROOT_ON_PATH)
    with netlab.Namespace() as namespace:
        ping = ("ping", "-q", "-i", "0.1", "-c", "600", "127.0.0.1")
        namespace.start(*ping, stdout=subprocess.DEVNULL)
        for block in [block for name, block in blocks("console") if name == page]:
            for command, output in parts(block, "#"):
                program = re.sub(r"\bpylog (?=[a-z])", PROGRAM, command)
                program = re.sub(r"; ipmon ", f"; {PROGRAM}ipmon ", program)
                done = subprocess.run(
                    ["ip", "netns", "exec", namespace.name, "sh", "-c", program], cwd=tmp_path,
                    capture_output=True, text=True, timeout=60,
                    env={**os.environ, "PYTHONPATH": python},
                )  # fmt: skip
                time = r"^(\d{4}-\d\d-\d\dT[\d:.]+Z|\d\d/\d\d/\d{4} [\d:.]+)"
                printed, shown = (
                    re.sub(time, "TIME", text, flags=re.M)
                    for text in (done.stdout + done.stderr, output)
                )
                assert printed == shown, command


def test_the_pytest_example_passes(tmp_path: Path) -> None:
    (code,) = [block for _, block in blocks("py") if "pytest_plugins" in block]
    plugins, _, tests = code.partition("\n\n")
    (tmp_path / "conftest.py").write_text(plugins)
    (tmp_path / "test_example.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
         str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={key: value for key, value in os.environ.items() if key != "CI"},
    )  # fmt: skip
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def generate() -> ModuleType:
    """The program docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_manual_pages_and_completion_are_what_the_parser_gives() -> None:
    pytest.importorskip("shtab")
    folder = ROOT / "docs/generated"
    files = {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip
    made: dict[str, str] = generate().generated()
    assert made == files, "run python docs/generate.py"


def test_no_text_of_a_manual_page_is_a_request_of_roff() -> None:
    for path in (ROOT / "docs/generated/man").iterdir():
        requests = set(re.findall(r"^[.'](\S*)", path.read_text(), re.M))
        assert requests <= {"TH", "SH", "TP", "B", "BR", "nf", "fi"}, path.name


def test_the_wheel_installs_every_generated_file() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = [pattern for names in settings["data-files"].values() for pattern in names]
    installed = {path for pattern in patterns for path in ROOT.glob(pattern)}
    assert installed == {p for p in (ROOT / "docs/generated").rglob("*") if p.is_file()}


def test_the_extra_all_has_every_extra_and_the_page_lists_them() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    reached, new = set[str](), {"all"}
    while new := new - reached:
        reached |= new
        needs = " ".join(need for name in new for need in extras[name])
        names = re.findall(r"pylog-ipl\[([\w,]+)\]", needs)
        new = {name for group in names for name in group.split(",")}
    assert reached == set(extras)
    assert reached == set(re.findall(r"^\| `(\w+)` \|", PAGES["docs/install.md"], re.M))


def test_bash_completes_commands_options_words_and_files(tmp_path: Path) -> None:
    (tmp_path / "fw.pcapng").touch()
    script = shlex.quote(str(ROOT / "docs/generated/completions/bash/pylog"))
    for line, completed in {
        "re": "read report replay", "read --on": "--on-error", "read --to pa": "parquet",
        "help la": "layouts", "info f": "fw.pcapng",
    }.items():  # fmt: skip
        code = f"""source {script}
            COMP_WORDS=(pylog {line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _shtab_pylog pylog "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
            echo "${{COMPREPLY[@]}}" """
        done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.strip() == completed, done.stderr


@pytest.mark.parametrize(("link", "anchor"), re.findall(r"\]\(([\w./-]+)#?([\w-]*)\)", README))
def test_a_link_of_the_readme_leads_somewhere(link: str, anchor: str) -> None:
    if link.endswith(".png"):
        assert (ROOT / link).stat().st_size < 100_000
        return
    headings = re.findall(r"^#+ (.*)", (ROOT / link).read_text(), re.M)
    anchors = [re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings]
    assert not anchor or anchor in anchors


def test_ci_runs_the_readmes_test_command() -> None:
    setup, test = [block for page, block in blocks("sh") if page == "README.md"]
    assert test.strip() in (ROOT / ".ci/run").read_text()
    assert "pip install" in setup and "pylog read" in setup
