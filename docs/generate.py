"""Makes the manual pages and the shell completion in docs/generated from pylog's parser.

Run `python docs/generate.py` after a change of the command line; the dependency group `generate`
has what it needs. The files are committed, so that building a wheel needs none of that, and a test
compares them with what the parser gives.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from pylog import outputs
from pylog.cli._parser import build_parser, command_names

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / "docs" / "generated"
FILES = {"FILE", "IN", "OUT", "OUTPUT", "SOURCE"}
"""What arguments that name files are called in the help."""
COMPLETIONS = {"bash": "pylog", "zsh": "_pylog", "fish": "pylog.fish"}
"""The shells, and the file in which each of them looks for the completion of `pylog`."""

WORDS = {"to": outputs.names, "topic": lambda: [*command_names(), "layouts", "columns"]}
"""Arguments that have words to complete, though the parser takes others as well."""


def generated() -> dict[str, str]:
    """Every generated file: its path below docs/generated, and its content."""
    pages = {f"man/{name}.1": text for name, text in manual_pages()}
    return pages | {
        f"completions/{shell}/{name}": completion(shell) for shell, name in COMPLETIONS.items()
    }


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def summaries(parser: argparse.ArgumentParser) -> dict[str, str]:
    """What each command does, in a line."""
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {choice.dest: choice.help or "" for choice in action._choices_actions}


def manual_pages() -> Iterator[tuple[str, str]]:
    """A page for pylog, and one for each of its commands."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    names = command_names()
    complete = build_parser(names, names)
    lines = summaries(complete)

    def page(parser: argparse.ArgumentParser, name: str, summary: str) -> Manpage:
        made = Manpage(parser, {
            "project_name": "pylog", "version": version, "manual_title": "pylog",
            "description": summary, "date": " ", # a date would change with every run
        })  # fmt: skip
        made.prog = name
        return made

    overview = build_parser([], ())
    sections = epilog(overview)
    made = page(overview, "pylog", "read firewall packet logs")
    rows = [f".TP\n.BR pylog\\-{name} (1)\n{line}\n" for name, line in lines.items()]
    made.add_section("commands", "=", "".join(rows).rstrip())
    yield "pylog", manual(made, sections).replace(".SH\nCOMMANDS\n\n\n", "")
    for name, command in commands(complete).items():
        sections = epilog(command)
        yield f"pylog-{name}", manual(page(command, f"pylog-{name}", lines[name]), sections)


def epilog(parser: argparse.ArgumentParser) -> dict[str, str]:
    """The text at the end of a help, as sections of a manual page; it is taken from the parser."""
    paragraphs = (parser.epilog or "").strip("\n").split("\n\n")
    parser.epilog = None  # argparse-manpage would fill the lines of the examples
    sections: dict[str, str] = {}
    for text in filter(None, paragraphs):
        text = text.replace("\\", "\\\\").replace("-", "\\-")
        if text.startswith("examples:\n"):
            sections["examples"] = ".nf\n" + text.partition("\n")[2] + "\n.fi"
        else:
            sections["notes"] = sections["notes"] + "\n\n" + text if "notes" in sections else text
    return sections


def manual(page: Manpage, sections: dict[str, str]) -> str:
    """A page with more sections. No line of its text begins with a dot, as requests of roff do."""
    for heading in sorted(sections, reverse=True):  # notes, examples
        page.add_section(heading, "=", sections[heading])
    return re.sub(r"^\.(?!(?:nf|fi)$)(?=[a-z])", r"\\&.", str(page), flags=re.M)


def completion(shell: str) -> str:
    """The completion script of a shell; arguments that name files complete files."""
    parser = build_parser(command_names(), command_names())
    lines = summaries(parser)
    for name, command in commands(parser).items():
        command.description = lines[name]
        for action in command._actions:
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            if action.dest in WORDS and action.choices is None:
                action.choices = WORDS[action.dest]()
            if action.option_strings == ["-?"]:
                action.help = argparse.SUPPRESS  # not quoted by shtab: a glob in fish
    return shtab.complete(parser, shell) + "\n"


if __name__ == "__main__":
    shutil.rmtree(GENERATED, ignore_errors=True)  # a command may have gone
    for path, text in generated().items():
        (GENERATED / path).parent.mkdir(parents=True, exist_ok=True)
        (GENERATED / path).write_text(text)
