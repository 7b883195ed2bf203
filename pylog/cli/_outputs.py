"""The arguments of outputs: --to and its file, and the options that each output declares.

Commands that write records as they come (read, replay) take all of them; convert takes the options
of the outputs that an ending names.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, BinaryIO

from pylog import outputs
from pylog.actions import WORDS, Actions
from pylog.cli import say
from pylog.cli._files import add_rotation_arguments
from pylog.cli._parser import Parser
from pylog.cli._sources import DECODING, RECORDS, add_option_groups, group_of, pair
from pylog.cli._where import given_filter
from pylog.options import SHOWN
from pylog.record import Record

_RELEASE = "to.ipmon_version"

Change = Callable[[Record], Record]


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every command that writes records as they come.

    A parser that is made for a command line gets the options of the output that it names.
    """
    names = _named(parser) or outputs.names()
    parser.set_defaults(option_outputs=tuple(names))
    parser.add_argument(
        "--to", type=_output, metavar="FORM",
        help=f"what to write: {', '.join(names)}, or the ending of such a file, as jsonl;"
        " json.gz and json.zst are compressed (default: what the ending of FILE says, else text)",
    )  # fmt: skip
    parser.add_argument(
        "-w", "--write", metavar="FILE",
        help="write there, not to standard output; its ending says what: fw.json, fw.csv.gz."
        " At SIGHUP the file is opened again by its name, unless it is one of tables",
    )  # fmt: skip
    places = [name for name in names if outputs.description(name).place]
    if places:
        parser.add_argument(
            "--target", metavar="ADDRESS",
            help="where to write, of outputs of places: "
            + "; ".join(f"{name}: {outputs.description(name).address}" for name in places),
        )  # fmt: skip
    else:
        parser.set_defaults(target=None)
    parser.add_argument("--append", action="store_true", help="append to FILE if it exists")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    add_rotation_arguments(parser)
    parser.add_argument(
        "-n", "--count", type=count, metavar="COUNT", help="stop after that many records"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="report on standard error what was detected, read, damaged and lost",
    )  # fmt: skip
    group_of(parser, SHOWN).add_argument(
        "--color", choices=("auto", "always", "never"), default="auto",
        help="colours of actions and losses in text; auto: on a terminal, unless NO_COLOR is set"
        " (default: auto)",
    )  # fmt: skip
    records = group_of(parser, RECORDS)
    add_action_argument(records)
    records.add_argument(
        "--scrub", action="store_true",
        help="replace addresses, MACs, payloads and the names and comments in rulesets, and blank"
        " kernel pointers, so that a log can be published; prefixes and interfaces stay",
    )  # fmt: skip
    group_of(parser, DECODING).add_argument(
        "--from-layout", metavar="NAME",
        help="the layout of the input, when --layout is that of the output (--to ipl)",
    )  # fmt: skip
    add_output_options(parser, names, lambda name: f"--to {name}")


def _named(parser: argparse.ArgumentParser) -> list[str]:
    """The output that the command line names; none for a parser that is to have the options of all,
    or that must report what is wrong.
    """
    if not isinstance(parser, Parser) or parser.words is None:
        return []
    try:
        return [outputs.form(parser.given("-w", "--write"), parser.given("--to")).name]
    except ValueError:
        return []


def add_action_argument(parser: argparse._ActionsContainer) -> None:
    """The argument --action, which is of every command that writes decoded records."""
    parser.add_argument(
        "--action", dest="actions", metavar="PATTERN=ACTION", action="append", type=action_pair,
        help="what a prefix of NFLOG or of the kernel's LOG stands for, as 'drop*=block'; may be"
        f" repeated, and the first pattern that matches counts. Actions: {', '.join(WORDS)}",
    )  # fmt: skip


def action_pair(text: str) -> tuple[str, str]:
    """PATTERN=ACTION on the command line."""
    pattern, action = pair(text)
    try:
        Actions({pattern: action})
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return pattern, action


def given_actions(arguments: argparse.Namespace) -> Actions | None:
    """The actions that prefixes stand for; None without --action."""
    patterns: dict[str, str] = {}
    for pattern, action in arguments.actions or ():
        patterns.setdefault(pattern, action)
    return Actions(patterns) if patterns else None


def noting_actions(arguments: argparse.Namespace) -> Actions | None:
    """As `given_actions`. Without --action, if the filter asks for verdicts, it has no patterns,
    and only notes the prefixes that there are, for `no_verdict`."""
    actions, wanted = given_actions(arguments), given_filter(arguments)
    if actions is None and wanted is not None and "action" in wanted.mentions("packet"):
        return Actions({})
    return actions


def report_unmatched(actions: Actions | None) -> None:
    """Report the patterns of --action that no packet matched, if there were prefixes to match."""
    if actions is not None and actions.prefixed and actions.unmatched:
        from pylog.stats.hints import prefixes_text  # only here

        patterns = [pattern for pattern in actions.patterns if pattern in actions.unmatched]
        there = prefixes_text(actions.prefixes.most_common(), False)
        like = " or ".join(map(repr, patterns))
        say(f"--action: no packet read has a prefix like {like}{there and f'; {there}'}")


def report_no_verdict(actions: Actions | None) -> None:
    """Report `no_verdict`, of a filter that wanted no record."""
    text = no_verdict(actions, False)
    if text:
        say(text)


def no_verdict(actions: Actions | None, counted: bool = True) -> str:
    """What to do about a log without verdicts, of which a filter by verdicts wanted nothing; "" if
    there was no packet without a verdict, or --action is given.

    counted   whether `actions` counted all packets
    """
    if actions is None or actions.patterns or not actions.prefixes:
        return ""
    from pylog.stats import hints  # only here

    return hints.no_verdict(actions.prefixes.most_common(), counted)


def coloured(arguments: argparse.Namespace, stream: BinaryIO) -> bool:
    """Whether the output may have terminal colours."""
    if arguments.color == "auto":
        return stream.isatty() and "NO_COLOR" not in os.environ
    return bool(arguments.color == "always")


def _output(word: str) -> str:
    """The name or ending of an output; an error that says why it cannot be used."""
    try:
        outputs.form(None, word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return word


def add_output_options(
    parser: argparse.ArgumentParser, names: Iterable[str], called: Callable[[str], str]
) -> None:
    """The options of outputs, in groups.

    called   an output's name in the help
    """

    def extra(names: list[str]) -> str | None:
        extras = {outputs.description(name).extra for name in names}
        return None if None in extras else f"needs the extra {', '.join(sorted(map(str, extras)))}"

    options = (
        (name, option)
        for name in names
        for option in outputs.description(name).options
        if option.flag != "--layout"  # which add_source_arguments adds
    )
    add_option_groups(parser, options, called, extra, "to.")


def output_options(
    arguments: argparse.Namespace, name: str, called: Callable[[str], str]
) -> dict[str, Any]:
    """The options of the output on the command line.

    called   an output's name in the error; "" for one that the command does not have

    Raises ValueError for an option of another output, and for one with a bad value.
    """
    owners: dict[str, list[str]] = {}
    given: dict[str, Any] = {}
    for other in getattr(arguments, "option_outputs", None) or outputs.names():
        for option in outputs.description(other).options:
            if option.flag == "--layout":
                value = arguments.layout if name == getattr(arguments, "to", None) else None
            else:
                value = getattr(arguments, f"to.{option.name}", None)
            if value is None:
                continue
            if other == name:
                given[option.name] = dict(value) if option.kind is dict else value
                if option.secret:
                    from pylog.secrets import secret_of_text  # only here: few outputs have any

                    given[option.name] = secret_of_text(value).value()
            elif option.flag != "--layout":
                owners.setdefault(option.name, []).append(other)
    for option_name, others in owners.items():
        # with another output than ipmon's the release chooses the names of TCP states
        if option_name not in given and f"to.{option_name}" != _RELEASE:
            option = next(
                o for o in outputs.description(others[0]).options if o.name == option_name
            )
            word = getattr(arguments, f"to.{option_name}", None)
            meant = f"; did you mean {called(word)}?" if word in outputs.names() else ""
            of = ", ".join(filter(None, map(called, others)))
            raise ValueError(f"{option.typed} is an option of {of}{meant}")
    if getattr(arguments, "scrub", False) and name == "pcapng":
        given.setdefault("machine", False)
    outputs.check(name, given)
    return given


def read_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """As `output_options`, for a command with the arguments of `add_output_arguments`, of which
    `to` becomes the name of the output, `suffix` that of its compression, and `raw` whether the
    output needs the raw bytes of records.
    """
    arguments.to, arguments.suffix = outputs.form(arguments.write, arguments.to)
    description = outputs.description(arguments.to)
    if arguments.target is not None and not description.place:
        raise ValueError(f"{arguments.to} writes files: --target is not for it, but -w FILE")
    if description.place and arguments.write is not None and not description.file:
        raise ValueError(f"{arguments.to} writes to no file: name its place with --target, not -w")
    if arguments.target is not None and arguments.write is not None:
        raise ValueError(f"{arguments.to} writes to --target or to -w FILE, not to both")
    named = arguments.write not in (None, "-")
    for option in ("append", "force", "rotate_size", "rotate_time"):
        if getattr(arguments, option) and not (
            named and (description.appends or option == "force")
        ):
            why = f"is not for {arguments.to}" if named else "needs -w FILE"
            raise ValueError(f"--{option.replace('_', '-')} {why}")
    if arguments.force and (arguments.append or arguments.rotate_size or arguments.rotate_time):
        other = "--append" if arguments.append else "files with numbers, of which none is replaced"
        raise ValueError(f"--force is not for {other}")
    place = description.place and (arguments.target is not None or not description.file)
    if description.needs_path and not named and not place:
        raise ValueError(f"{arguments.to} needs a file: name it with -w")
    options = output_options(arguments, arguments.to, "--to {}".format)
    arguments.raw = outputs.needs_raw(arguments.to, options)
    if place:
        outputs.check_address(arguments.to, arguments.target or "", options)
    return options


def needs_raw(arguments: argparse.Namespace) -> bool:
    """Whether the output, or --scrub, needs the raw bytes of records."""
    return bool(arguments.scrub or arguments.raw)


def changes(arguments: argparse.Namespace) -> list[Change]:
    """The changes to each record before it is written."""
    wanted = [_naming(arguments)]
    if arguments.scrub:
        from pylog.scrub import Scrubbing  # only here: the ruleset takes long to import

        wanted.append(Scrubbing().record)
    return [change for change in wanted if change is not None]


def _naming(arguments: argparse.Namespace) -> Change | None:
    """Names TCP states as the release of --ipmon-version does; None for the output ipmon."""
    release = getattr(arguments, _RELEASE, None)
    if release is None or arguments.to == "ipmon":
        return None
    from pylog.ipmon.release import release_named  # only here: rarely needed
    from pylog.ipmon.state import as_of

    return partial(as_of, release=release_named(release))


def count(text: str) -> int:
    """A number of records, of the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count: a number, 0 or more")
    return int(text)
