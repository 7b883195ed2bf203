"""Every example in README.md prints what README.md says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pylog.record

ROOT = Path(__file__).resolve().parents[1]
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
def test_a_command_prints_what_the_readme_shows(command: str, output: str) -> None:
    command = re.sub(
        r"\bpylog (?=read|info|--)", f"{shlex.quote(sys.executable)} -m pylog ", command
    )
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout + done.stderr == output


@pytest.mark.parametrize("code", blocks("python"))
def test_the_library_example_prints_what_its_comments_say(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    expected = re.findall(r"^\s*# prints: (.*)$", code, re.M)
    assert done.stdout.splitlines() == expected


def test_every_json_name_is_explained() -> None:
    shapes = (pylog.record._JsonPacket, pylog.record._JsonFlow, pylog.record._JsonLoss)
    section = README.partition("## The JSON")[2].partition("\n## ")[0]
    explained = set(re.findall(r"`(\w+)`", section))
    for shape in shapes:
        assert set(shape.__struct_fields__) <= explained, shape.__name__
    assert "kind" in explained


def test_every_option_is_in_the_readme() -> None:
    for command in ("read", "info"):
        text = subprocess.run(
            [sys.executable, "-m", "pylog", command, "--help"], capture_output=True, text=True
        ).stdout
        for option in re.findall(r"(--[a-z-]+)", text):
            assert option == "--help" or f"`{option}" in README or f" {option}" in README, option


def test_ci_runs_the_readmes_test_command() -> None:
    (setup, test) = blocks("sh")
    assert test.strip() in (ROOT / ".ci/run").read_text()
    assert "pip install" in setup and "pylog read" in setup
