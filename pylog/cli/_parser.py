"""The parsers of the command line: one for each command, built for the chosen command only.

An error is one line, then the usage line of its own command. A mistyped command, option or choice
gets the nearest names. The help has the description, the arguments in the order in which a command
adds them, and examples last. Importing all commands takes longer than reading a short log, so that
only the help of pylog itself does so.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

import pylog
from pylog import discover, memo
from pylog.nearest import advice
from pylog.record import escape

DESCRIPTION = """Read firewall packet logs: binary records of BSD IPFilter (/dev/ipl, ipmon -B), of
Linux NFLOG, nftables and conntrack (live, netlink dumps, pcap and pcapng captures) and of pf
(pflog), and text logs of them and of others, from any machine on any machine."""

USAGE = "pylog COMMAND [options] ..."

EPILOG = """examples:
  pylog info fw.dump                  what a log is, and what is in it
  pylog read fw.dump                  its records as text
  pylog read --to json fw.dump        the same as JSON lines
  pylog doctor                        whether live logs can be read here
  pylog read nflog:5                  live, as root
  pylog check fw.toml                 a pipeline for a service; then pylog run fw.toml

`pylog help COMMAND` explains a command; `pylog help layouts` and `pylog help columns` list those.
"""

GROUPS = {
    "look into logs": ("read", "info", "stats", "top", "report", "who", "convert"),
    "run it": ("run", "check", "status", "service"),
    "record and replay": ("capture", "replay"),
    "the ruleset of nftables": ("ruleset", "trace"),
    "live logs of this machine": ("doctor", "sources", "pending", "flush"),
    "as other programs do": ("ipmon", "ulogd"),
}
"""The commands as the help shows them; any others follow."""
MORE = "more"
"""What the help calls the others."""

OTHER_WORDS = {
    "-o": ("-w",), "--output": ("-w",), "--out": ("-w",), "-w": ("-o",), "--write": ("-o",),
    "--json": ("--to json",), "--csv": ("--to csv",), "--format": ("--to json", "--json"),
    "-f": ("--follow",), "-c": ("-n",),
}  # fmt: skip
"""Options of other programs, and the options that commands of pylog have for them."""


WRITING = ("-w", "-o", "--write", "--output", "--out")
"""Options that name the file to write; where it is an argument, there is none."""
TIMES = ("--since", "--until", "--new-since")
"""Options whose value may be as -2h."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, whatever they quote, and a usage line.

    words   the command line that it is made for: it may lack options of outputs and sources that
            this does not use, since collecting all of them takes as long as reading a short log.
            None: it has all options
    """

    words: Sequence[str] | None = None

    def given(self, *flags: str) -> str | None:
        """The value of the last of these options on the command line; None: there is none."""
        value = None
        words = list(self.words or ())
        for i, word in enumerate(words):
            name, sign, after = word.partition("=")
            if name in flags:
                value = after if sign else words[i + 1] if i + 1 < len(words) else None
        return value

    def understands(self, words: Sequence[str]) -> bool:
        """Whether every option among the words is spelt out, and one that this parser has."""
        for word in words:
            if word == "--":
                break
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            if (
                word.startswith("-")
                and len(word) > 1
                and not (
                    name in self._option_string_actions or self._negative_number_matcher.match(word)
                )
            ):
                return False
        return True

    def format_help(self) -> str:
        if self.words is not None:
            return command_parser(self.prog.removeprefix("pylog ")).format_help()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {escape(message)}\n{self.format_usage()}")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = _with_times(sys.argv[1:] if args is None else list(args))
        self._check_options(words)
        parsed, rest = self.parse_known_args(words, namespace)
        if rest:
            self.error(f"unexpected argument {' '.join(rest)}")
        return parsed

    def _check_options(self, words: Sequence[str]) -> None:
        """Report the first word that is an option, but none of this command.

        argparse would report missing arguments before it.
        """
        options = self._option_string_actions
        for word in words:
            if word == "--":
                return
            if len(word) < 2 or word[0] != "-" or " " in word:
                continue
            name = word.partition("=")[0]
            if word.startswith("--"):
                exists = any(option.startswith(name) for option in options)
            else:
                exists = word[:2] in options or bool(self._negative_number_matcher.match(word))
            if not exists:
                self.error(f"no option {name}{self._hint(name)}")

    def _hint(self, name: str) -> str:
        """What is meant by an option that this command lacks, to be appended to the error."""
        options = self._option_string_actions
        for meant in OTHER_WORDS.get(name, ()):
            if meant.split()[0] in options:
                return f"; did you mean {meant}?"
        if name in WRITING and any(action.dest == "out" for action in self._positionals._actions):
            return "; the file to write is the last argument"
        if name == "--scrub":
            return "; a scrubbed copy is written by pylog read --scrub -w FILE"
        longs = [option for option in options if option.startswith("--")]
        return advice(name, longs, f"{self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            hint = advice(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"no such choice: {value!r}{hint}")


def _with_times(words: Sequence[str]) -> list[str]:
    """The words of a command line, with `--since -2h` as one: -2h would be an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in TIMES and re.match(r"-\d", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Fills the paragraphs of a description to the width, and leaves indented ones as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        import textwrap  # which only a help needs

        paragraphs = []
        for paragraph in text.strip().split("\n\n"):
            as_it_is = any(line.startswith(" ") for line in paragraph.splitlines())
            paragraphs.append(paragraph if as_it_is else textwrap.fill(paragraph, width))
        return textwrap.indent("\n\n".join(paragraphs), indent)

    def _format_action(self, action: argparse.Action) -> str:
        if not isinstance(action, argparse._SubParsersAction):
            return super()._format_action(action)
        by_name = {choice.dest: choice for choice in action._get_subactions()}
        others = tuple(name for name in by_name if name not in _grouped())
        lines = []
        for title, names in {**GROUPS, MORE: others}.items():
            if there := [by_name[name] for name in names if name in by_name]:
                lines.append(f"  {title}:\n")
                self._indent()
                lines += [super(Formatter, self)._format_action(choice) for choice in there]
                self._dedent()
        return "".join(lines)


class _Version(argparse.Action):
    """Prints the version, which takes time to look up and is needed only here."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        compiled = "" if memo.__file__.endswith(".py") else " (compiled)"
        print(f"pylog {pylog.__version__}{compiled}")
        parser.exit()


def command_names() -> list[str]:
    """The names of all commands, in the order of the help."""
    first = _grouped()
    names = [
        e.name
        for e in pkgutil.iter_modules([os.path.dirname(__file__)])
        if not e.name.startswith("_")
    ]
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def _grouped() -> list[str]:
    """The names of the commands that are in groups."""
    return [name for names in GROUPS.values() for name in names]


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line. Exits after help and errors, as argparse does."""
    if not words:
        build_parser(command_names(), ()).print_help()
        raise SystemExit(0)
    name = words[0]
    if name in command_names():
        # what others add is always imported, so that what is wrong with it is reported
        parser = command_parser(name, None if discover.extended() else words[1:])
        if not parser.understands(_with_times(words[1:])):
            parser = command_parser(name)
        parsed: argparse.Namespace = parser.parse_args(words[1:])
        return parsed
    if name.startswith("-"):
        overview = build_parser(command_names() if name in ("-h", "--help") else (), ())
        overview.parse_args(words[:1])
        overview.error("the options of a command follow its name")
    if os.path.exists(name):
        build_parser((), ()).error(f"no command {name!r}; did you mean pylog read {name}?")
    unknown_command(name)


def unknown_command(name: str, others: Sequence[str] = ()) -> NoReturn:
    """Exit with the error for a command, or one of `others`, that does not exist."""
    names = [*command_names(), *others]
    build_parser((), ()).error(f"no command {name!r}{advice(name, names, 'pylog help')}")


def command_parser(name: str, words: Sequence[str] | None = None) -> Parser:
    """The parser of a command, with all its arguments or those that `words` use."""
    module = importlib.import_module(f"pylog.cli.{name}")
    settings = _settings(module, name)
    if words is not None:  # argparse would import shutil to get the width, and formats no help
        settings["formatter_class"] = partial(Formatter, width=80)
    parser = Parser(prog=f"pylog {name}", **settings)
    parser.words = words
    return _filled(parser, module)


def build_parser(names: Iterable[str], complete: Iterable[str]) -> Parser:
    """A parser with these commands, of which the `complete` ones have their arguments."""
    parser = Parser(
        prog="pylog", usage=USAGE, description=DESCRIPTION, epilog=EPILOG, formatter_class=Formatter
    )
    parser.add_argument("-V", "--version", action=_Version, nargs=0,
                        help="show the version and exit")  # fmt: skip
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    parser._action_groups.insert(0, parser._action_groups.pop())  # before the options
    complete = list(complete)
    for name in names:
        module = importlib.import_module(f"pylog.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, **_settings(module, name))
        if name in complete:
            _filled(command, module)
    return parser


def _settings(module: Any, name: str) -> dict[str, Any]:
    """What the parser of a command is made with."""
    return {
        "usage": f"pylog {name} {module.USAGE}",
        "description": module.__doc__,
        "epilog": getattr(module, "EPILOG", None),
        "formatter_class": Formatter,
    }


def _filled(parser: Parser, module: Any) -> Parser:
    parser._positionals.title = "arguments"
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser
