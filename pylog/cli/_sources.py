"""What commands that read logs share: their arguments, opening the sources, and stopping.

The options of sources are those that backends declare, so a new backend needs no change here.
SIGINT and SIGTERM end the reading in order: a live source still gives what it has.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import FrameType, MappingProxyType
from typing import Any, Protocol

import pylog
from pylog import backends
from pylog.cli import say
from pylog.cli._parser import Parser
from pylog.errors import BackendError
from pylog.merge import WINDOW_S
from pylog.notes import notes
from pylog.open_log import OpenLog
from pylog.options import LIVE_TUNING, Option
from pylog.origins import Origin, origin_of, origins_of
from pylog.reader import Records

TEXT_LOGS = ("log_tz", "year")
"""The options of files that are for text logs."""
OF_NFTABLES = ("capture", "nftables")
"""The sources of commands that need records of nftables."""
RECORDS, DECODING = "what becomes of records", "how logs are decoded"
"""Titles of groups of arguments in the help."""

AnyLog = Records | OpenLog
"""The input of a command: records one after the other, or a log in bulk."""


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every command that reads a log."""
    group = group_of(parser, DECODING)
    group.add_argument(
        "--layout",
        metavar="NAME",
        help="the layout, as ipl-5.1.2-lp64le or nfulnl-le, in place of detection; IPFilter before"
        " 4.0 also with :nat or :state for those logs; `pylog help layouts` lists all",
    )
    group.add_argument(
        "--on-error",
        choices=("resync", "strict"),
        default="resync",
        metavar="MODE",
        help="damaged bytes: resync goes on with the next record and reports what was lost"
        " (default), strict stops",
    )


def add_text_log_arguments(parser: argparse.ArgumentParser) -> None:
    """The options for the times of text logs, of a command that reads no live sources."""
    options = backends.module_of("capture").OPTIONS
    parser.set_defaults(option_sources=("capture",))
    times = [("capture", option) for option in options if option.name in TEXT_LOGS]
    add_option_groups(parser, times, lambda _: "text logs", lambda _: None)


def add_live_arguments(
    parser: argparse.ArgumentParser, sources: Collection[str] | None = None
) -> None:
    """The options of the live sources, and that for merging.

    sources   the names of those that the command can read; None: all

    A parser that is made for a command line without live sources gets the options of files.
    """
    if sources is None and isinstance(parser, Parser) and parser.words is not None:
        sources = None if any(":" in word for word in parser.words) else ("capture",)
    names = backends.modules() if sources is None else sources
    modules = {name: backends.module_of(name) for name in names}
    parser.set_defaults(option_sources=tuple(modules))

    def text(names: list[str]) -> str | None:
        return modules[names[0]].HELP if len(names) == 1 else None

    options = [(name, option) for name, module in modules.items() for option in module.OPTIONS]
    options.sort(key=lambda pair: pair[1].topic == LIVE_TUNING)  # which the help shows last
    groups = add_option_groups(parser, options, lambda n: "files" if n == "capture" else n, text)
    tuning = groups.get(LIVE_TUNING) or group_of(parser, LIVE_TUNING)
    tuning.add_argument(
        "--window", type=float, default=WINDOW_S, metavar="SECONDS",
        help="how long a record may be held back when several sources are merged, for an older one"
        f" of another source (default: {WINDOW_S})",
    )  # fmt: skip


def add_option_groups(
    parser: argparse.ArgumentParser,
    options: Iterable[tuple[str, Option]],
    called: Callable[[str], str],
    text: Callable[[list[str]], str | None],
    prefix: str = "",
) -> dict[str, Any]:
    """Add the options of sources or outputs, in a group for each topic, or else for each set of
    names that share them; the groups by their titles.

    options   pairs of a name and an option; an option of several names is added once, for all
    called    a name as the help shows it
    text      the text below a group's title, by its names
    prefix    of the options' names in the arguments
    """
    shared: dict[str, tuple[Option, dict[str, Any]]] = {}
    for name, option in options:
        shared.setdefault(option.name, (option, {}))[1][name] = option.default
    groups: dict[str, Any] = {}
    for option, defaults in shared.values():
        names = list(defaults)
        title = option.topic or f"options for {', '.join(map(called, names))}"
        if title not in groups:
            groups[title] = group_of(parser, title, None if option.topic else text(names))
        add_option(groups[title], option, prefix + option.name, defaults)
    return groups


def group_of(parser: argparse.ArgumentParser, title: str, text: str | None = None) -> Any:
    """The group of arguments of that title, which is made if there is none."""
    for group in parser._action_groups:
        if group.title == title:
            return group
    return parser.add_argument_group(title, text)


def add_option(
    group: argparse._ActionsContainer,
    option: Option,
    dest: str,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Add an option of a backend or output.

    dest       its name in the arguments
    defaults   by name of source or output
    """
    flag = option.typed
    settings: dict[str, Any] = {"dest": dest, "help": option.explained(defaults)}
    if option.kind is bool:
        if option.default:
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings |= {"action": "store_const", "const": True}
    elif option.kind is dict:
        settings |= {"action": "append", "type": pair,
                     "metavar": option.metavar or "PATTERN=VALUE"}  # fmt: skip
    elif (words := option.words()) is not None:
        settings["choices"] = words
    else:
        settings["type"] = option.kind
        by_type = {int: "N", float: "SECONDS", str: "NAME"}
        settings["metavar"] = option.metavar or by_type[option.kind]
    try:
        group.add_argument(flag, **settings)
    except (
        argparse.ArgumentError
    ):  # of another distribution, with the flag of an argument of the command
        notes.warning("%s is an option of the command: %s is not on the command line",
                      flag, option.name)  # fmt: skip


def add_origin_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where records are from."""
    group = group_of(parser, RECORDS)
    group.add_argument(
        "--origin", action="store_true",
        help="add to each record the source that it is from, as `origin`, and the machine that"
        " logged it, as `host`; with several sources this is always done",
    )  # fmt: skip
    group.add_argument(
        "--label", action="append", default=[], type=_label, metavar="NAME=SOURCE",
        help="the name of a source, which becomes its origin; may be repeated",
    )  # fmt: skip


def _label(text: str) -> tuple[str, str]:
    """NAME=SOURCE on the command line, as (SOURCE, NAME)."""
    label, sign, source = text.partition("=")
    if not (label and sign and source):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SOURCE")
    return source, label


def labels(arguments: argparse.Namespace) -> dict[str, str]:
    """The labels by source; ValueError for the label of a source that is not read."""
    given = dict(getattr(arguments, "label", ()))
    origins_of(arguments.source if given else (), labels=given)
    return given


def wants_origin(arguments: argparse.Namespace) -> bool:
    """Whether records get their origin; with several sources they always do.

    `arguments.added` are sources that the command line does not name.
    """
    if not hasattr(arguments, "origin"):
        return False
    named = len(arguments.source) - len(getattr(arguments, "added", ()))
    return arguments.origin or bool(arguments.label) or named > 1


def origin(arguments: argparse.Namespace, source: str) -> Origin:
    """The origin of records of a source."""
    return origin_of(source, wants_origin(arguments) and labels(arguments).get(source, True))


def pair(text: str) -> tuple[str, str]:
    """PATTERN=VALUE on the command line, as (PATTERN, VALUE)."""
    pattern, sign, value = text.rpartition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN=VALUE")
    return pattern, value


def input_layout(arguments: argparse.Namespace) -> str | None:
    """The layout of the input, if the arguments name it."""
    from_layout: str | None = getattr(arguments, "from_layout", None)
    to = getattr(arguments, "to", None)
    if to is not None and writes_layout(to):  # --layout is that of the output
        return from_layout
    if from_layout is not None and arguments.layout is not None:
        raise ValueError("--layout and --from-layout name the same: give one")
    return from_layout or arguments.layout


def writes_layout(output: str) -> bool:
    """Whether --layout is an option of the output."""
    from pylog import outputs  # here: not every command writes records

    return any(option.flag == "--layout" for option in outputs.description(output).options)


def given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of backends on the command line."""
    sources = getattr(arguments, "option_sources", None) or backends.modules()
    names = [option.name for source in sources for option in backends.module_of(source).OPTIONS]
    return {n: v for n in names if (v := getattr(arguments, n, None)) is not None}


def text_log_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the times of text logs."""
    return {name: getattr(arguments, name, None) for name in TEXT_LOGS}


def check_options(arguments: argparse.Namespace, sources: Sequence[str]) -> None:
    """ValueError for an option of backends that no source has: for which sources it is."""
    used = {(backends.named(source) or ("capture", ""))[0] for source in sources}
    for name in given_options(arguments):
        owners = {
            module_name: option
            for module_name, module in backends.modules().items()
            for option in module.OPTIONS
            if option.name == name
        }
        if not used & owners.keys():
            typed = next(iter(owners.values())).typed
            here = [_KINDS.get(other, f"{other}:") for other in sorted(used)]
            there = [_KINDS.get(owner, f"{owner}:") for owner in owners]
            meant = [source for source in sources if source in owners]
            hint = f"; the live source is written {meant[0]}:" if meant else ""
            raise ValueError(f"{typed} is for {_and(there)}, not for {' or '.join(here)}{hint}")


def _and(words: Sequence[str]) -> str:
    """The words as a list in a sentence."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


_KINDS = {"capture": "a file", "nflog": "nflog:GROUP", "ipl": "ipl:DEVICE"}
"""Sources of a backend, as errors call them."""


def paths_of(sources: str | Sequence[str]) -> list[str]:
    """The existing files that sources name."""
    paths = []
    for source in [sources] if isinstance(sources, str) else sources:
        named = backends.named(source)
        paths += named[1].split(",") if named else [source]
    return [path for path in paths if os.path.exists(path)]


def descriptors_of(records: AnyLog) -> list[int]:
    """The descriptors of the files that are being read."""
    descriptors = []
    for reader in records.readers():
        with contextlib.suppress(OSError, ValueError):
            descriptors.append(reader.backend.fileno())
    return descriptors


def check_is_no_log(path: str | None, logs: Sequence[str | int]) -> None:
    """BackendError when a file to be written (None: standard output) is one of the logs to be read.

    Of standard output only a regular file counts: a socket or terminal may well be both.
    """
    name, file = ("standard output", 1) if path is None else (path, path)
    exists = os.path.isfile(file) if path is None else os.path.exists(file)
    if exists and any(os.path.samefile(log, file) for log in logs):
        raise BackendError(f"cannot write {name}: it is a log to be read")


def check_not_live(sources: Iterable[str]) -> None:
    """ValueError for a live source, of a command that reads files to their end."""
    for source in sources:
        if backends.is_live(source):
            raise ValueError(f"{source} is live: pylog read and pylog capture write what comes")


def opened(arguments: argparse.Namespace, sources: Sequence[str], raw: bool = False) -> Records:
    """A reader of the sources; of several logs, one that merges them."""
    check_options(arguments, sources)
    merged = pylog.merge(
        *sources,
        window_s=arguments.window,
        layout=input_layout(arguments),
        on_error=arguments.on_error,
        raw=raw,
        origin=wants_origin(arguments),
        labels={source: label for source, label in labels(arguments).items() if source in sources},
        **given_options(arguments),
    )
    readers = merged.readers()
    return readers[0] if len(readers) == 1 else merged


def opened_in_bulk(
    arguments: argparse.Namespace, source: str, reader: OpenLog | None = None
) -> OpenLog:
    """A file as columns, for an output that is faster with them.

    reader   of the same file, which says what it is; None: that is detected
    """
    from pylog.table import bulk  # needs the extra, as the output does

    check_options(arguments, [source])
    return bulk.opened(
        source,
        layout=input_layout(arguments),
        on_error=arguments.on_error,
        origin=origin(arguments, source),
        detection=None if reader is None else reader.detection,
        **text_log_options(arguments),
    )


def end(records: AnyLog) -> None:
    """End the reading: a live source still gives what it has, a file no more."""
    for reader in records.readers():
        if reader.backend.live:
            reader.stop()
        else:
            reader.close()


def greet(records: AnyLog, what: str = "records", needed: str = "") -> None:
    """On a terminal, say what the command waits for, and what that needs, before a semicolon."""
    names = [reader.backend.name for reader in records.readers() if reader.backend.live]
    if names and sys.stderr is not None and sys.stderr.isatty():
        say(f"waiting for {what} of {' and '.join(names)}; {needed}Ctrl-C ends")


class Counted(Protocol):
    """The counts of what was read: of a Reader, or of the Tally of a log that was read in parts."""

    @property
    def received(self) -> int: ...

    @property
    def malformed(self) -> int: ...

    @property
    def dropped(self) -> int | None: ...

    @property
    def uncounted(self) -> int: ...

    @property
    def ending(self) -> str | None: ...

    @property
    def layout(self) -> str: ...


def is_unreadable(reader: OpenLog) -> bool:
    """Whether nothing of a log could be read; this, and a log that is cut off, is reported."""
    if reader.ending is not None:
        say(f"{reader.backend.title}: {reader.ending}")
    detection = reader.detection
    in_capture = detection.container in ("pcap", "pcapng")
    if in_capture and not (reader.received or reader.malformed or detection.layouts):
        say(f"{reader.backend.title}: no packet in it")
    return nothing_read(reader.backend.title, reader)


def nothing_read(name: str, counted: Counted) -> bool:
    """Whether nothing of a log could be read, which is reported."""
    if not counted.malformed or counted.received:
        return False
    if counted.ending is None:
        say(f"{name}: no record could be read as {counted.layout}")
    return True


class Stopping:
    """The context in which SIGINT, SIGTERM and SIGHUP end the reading of `records`, see `end`.

    Without records, and at a second signal, the program ends at once, by SystemExit.

    A program that `reopens` its files does so at SIGHUP, and goes on. It ends at one that comes
    because its terminal is gone.

    status   of the program: 130 after SIGINT, 143 after SIGTERM, else 0
    """

    def __init__(self) -> None:
        self.records: AnyLog | None = None
        self.status = 0
        self.reopens = False
        self._hung_up = False
        self._terminals = _terminals()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP, and nohup ignores it
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hung_up(self) -> bool:
        """Whether SIGHUP came, so that files are to be opened again; once for each that came."""
        hung_up, self._hung_up = self._hung_up, False
        return hung_up

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if (
            self.reopens
            and number == getattr(signal, "SIGHUP", None)
            and self._terminals == _terminals()
        ):
            self._hung_up = True
            return
        again, self.status = bool(self.status), 128 + number
        if again or self.records is None:
            raise SystemExit(self.status)
        end(self.records)


def _terminals() -> list[int]:
    """Which of the standard streams are terminals, at this moment."""
    return [descriptor for descriptor in range(3) if os.isatty(descriptor)]


def summary(reader: OpenLog) -> str:
    """What was read, damaged and lost of a source, as one line."""
    text = summed_up(reader.backend.title, reader.detection.container, reader)
    if reader.detection.container == "text":
        text += f", lines of other programs: {reader.other}"
    return text


def summed_up(name: str, container: str, counted: Counted) -> str:
    """What was read, damaged and lost of a log, as one line."""
    return (
        f"{name}: {container}, {counted.layout}: {counted.received} records read,"
        f" damaged places: {counted.malformed},"
        f" lost records: {lost_text(counted.dropped, counted.uncounted)}"
    )


def losses_are_seen(counted: Counted) -> bool:
    """Whether a loss in a log can be seen: it has sequence numbers, or counts its losses."""
    return counted.dropped is not None or bool(counted.uncounted)


def lost_text(dropped: int | None, uncounted: int) -> str:
    """How many records were lost, as text."""
    if uncounted:
        return f"at least {max(dropped or 0, 1)}"
    return "cannot be known" if dropped is None else f"{dropped}"
