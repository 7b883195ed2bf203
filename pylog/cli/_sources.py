"""What commands that read logs share: their arguments, opening the sources, and stopping."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any, Protocol

import pylog
from pylog import backends
from pylog.cli import say
from pylog.errors import BackendError
from pylog.merge import WINDOW_S
from pylog.notes import notes
from pylog.open_log import OpenLog
from pylog.options import Option
from pylog.origins import Origin, origin_of, origins_of
from pylog.reader import Records

AnyLog = Records | OpenLog
"""What a command reads: records one after the other, or a log in bulk."""


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command that reads a log takes."""
    parser.add_argument(
        "--layout",
        metavar="NAME",
        help="the layout, as ipl-5.1.2-lp64le or nfulnl-le, in place of detection; IPFilter before"
        " 4.0 also with :nat or :state for those logs",
    )
    parser.add_argument(
        "--on-error",
        choices=("resync", "strict"),
        default="resync",
        help="damaged bytes: resync goes on with the next record and tells what was lost"
        " (default), strict stops",
    )


def add_live_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the live sources, and that for merging. One that several sources have stands
    once, and is for all of them.
    """
    having: dict[str, tuple[Option, list[str]]] = {}
    for name, module in backends.modules().items():
        for option in module.OPTIONS:
            having.setdefault(option.name, (option, []))[1].append(name)
    groups: dict[str, Any] = {}
    for option, owners in having.values():
        title = f"options for {', '.join(owners)}"
        if title not in groups:
            text = backends.modules()[owners[0]].HELP if len(owners) == 1 else None
            groups[title] = parser.add_argument_group(title, text)
        add_option(groups[title], option)
    parser.add_argument(
        "--window", type=float, default=WINDOW_S, metavar="SECONDS",
        help="how long a record may be held back when several sources are merged, for an older one"
        f" of another source (default: {WINDOW_S})",
    )  # fmt: skip


def add_option(group: argparse._ActionsContainer, option: Option, dest: str = "") -> None:
    """Add an option of a backend or output; `dest` is its name in the arguments."""
    flag = option.flag or "--" + option.name.replace("_", "-")
    settings: dict[str, Any] = {"dest": dest or option.name, "help": option.explained()}
    if option.kind is bool:
        both = argparse.BooleanOptionalAction if option.default else "store_const"
        settings["action"] = both
        if not option.default:
            settings["const"] = True
    elif option.kind is dict:
        settings |= {"action": "append", "type": pair, "metavar": "PATTERN=VALUE"}
    elif (words := option.words()) is not None:
        settings["choices"] = words
    else:
        settings["type"] = option.kind
        settings["metavar"] = {int: "N", float: "SECONDS", str: "NAME"}[option.kind]
    try:
        group.add_argument(flag, **settings)
    except argparse.ArgumentError:  # a distribution adds one that the command has already
        notes.warning("%s is an option of the command: %s is not on the command line",
                      flag, option.name)  # fmt: skip


def add_origin_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where records are from."""
    parser.add_argument(
        "--origin", action="store_true",
        help="say in each record which source it is from, as `origin`, and on which machine it was"
        " logged, as `host`; with several sources that is always said",
    )  # fmt: skip
    parser.add_argument(
        "--label", action="append", default=[], type=_label, metavar="NAME=SOURCE",
        help="the name of a source, to be its origin; as often as needed",
    )  # fmt: skip


def _label(text: str) -> tuple[str, str]:
    """NAME=SOURCE on the command line, as (SOURCE, NAME)."""
    label, sign, source = text.partition("=")
    if not (label and sign and source):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SOURCE")
    return source, label


def labels(arguments: argparse.Namespace) -> dict[str, str]:
    """The label of each source that has one; ValueError for that of another."""
    found = dict(getattr(arguments, "label", ()))
    origins_of(arguments.source if found else (), labels=found)
    return found


def wants_origin(arguments: argparse.Namespace) -> bool:
    """Whether records are to have their origin: with several sources they always have it."""
    if not hasattr(arguments, "origin"):
        return False
    return arguments.origin or bool(arguments.label) or len(arguments.source) > 1


def origin(arguments: argparse.Namespace, source: str) -> Origin:
    """The origin of one of the sources."""
    return origin_of(source, wants_origin(arguments) and labels(arguments).get(source, True))


def pair(text: str) -> tuple[str, str]:
    """PATTERN=VALUE on the command line."""
    pattern, sign, value = text.rpartition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN=VALUE")
    return pattern, value


def input_layout(arguments: argparse.Namespace) -> str | None:
    """The layout that the input is said to have."""
    told: str | None = getattr(arguments, "from_layout", None)
    if getattr(arguments, "to", None) == "ipl":  # whose --layout is that of the output
        return told
    if told is not None and arguments.layout is not None:
        raise ValueError("--layout and --from-layout name the same: give one")
    return told or arguments.layout


def given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of backends that stand on the command line."""
    names = [option.name for module in backends.modules().values() for option in module.OPTIONS]
    return {n: v for n in names if (v := getattr(arguments, n, None)) is not None}


def paths_of(sources: str | Sequence[str]) -> list[str]:
    """The files that sources name, as far as they exist."""
    found = []
    for source in [sources] if isinstance(sources, str) else sources:
        named = backends.named(source)
        found += named[1].split(",") if named else [source]
    return [path for path in found if os.path.exists(path)]


def descriptors_of(records: AnyLog) -> list[int]:
    """The descriptors of the files that are being read."""
    found = []
    for reader in records.readers():
        with contextlib.suppress(OSError, ValueError):
            found.append(reader.backend.fileno())
    return found


def check_is_no_log(path: str | None, logs: Sequence[str | int]) -> None:
    """BackendError when a file to be written (None: standard output) is one of those that are read.

    Of standard output that is a regular file only: sockets and terminals are both.
    """
    told, file = ("standard output", 1) if path is None else (path, path)
    there = os.path.isfile(file) if path is None else os.path.exists(file)
    if there and any(os.path.samefile(log, file) for log in logs):
        raise BackendError(f"cannot write {told}: it is a log to be read")


def opened(arguments: argparse.Namespace, sources: Sequence[str], raw: bool = False) -> Records:
    """A reader of the sources: merged, if they are several logs."""
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


def end(records: AnyLog) -> None:
    """End the reading: what a live source has is still read, a file is left where it is."""
    for reader in records.readers():
        if reader.backend.live:
            reader.stop()
        else:
            reader.close()


def greet(records: AnyLog) -> None:
    """Tell whoever sits at a terminal that records are waited for."""
    names = [reader.backend.name for reader in records.readers() if reader.backend.live]
    if names and sys.stderr is not None and sys.stderr.isatty():
        say(f"waiting for records of {' and '.join(names)}; Ctrl-C ends")


class Counted(Protocol):
    """What counts what was read: a Reader, and the Tally of a log that was read in parts."""

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
    """Whether nothing of what came could be read, which is told, as is a log that is cut off."""
    if reader.ending is not None:
        say(f"{reader.backend.name}: {reader.ending}")
    detection = reader.detection
    in_capture = detection.container in ("pcap", "pcapng")
    if in_capture and not (reader.received or reader.malformed or detection.layouts):
        say(f"{reader.backend.name}: no packet in it")
    return nothing_read(reader.backend.name, reader)


def nothing_read(name: str, counted: Counted) -> bool:
    """Whether nothing of a log could be read, which is told."""
    if not counted.malformed or counted.received:
        return False
    if counted.ending is None:
        say(f"{name}: no record could be read as {counted.layout}")
    return True


class Stopping:
    """In its `with`, SIGINT and SIGTERM end the reading of `records`, in order.

    What a live source has is still read, a file is left where it is. While there are no records,
    and at a second signal, the program ends at once, through the `with`s that it is in.

    status   of the program: 130 after SIGINT, 143 after SIGTERM, else 0
    """

    def __init__(self) -> None:
        self.records: AnyLog | None = None
        self.status = 0
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

    def _stop(self, number: int, frame: FrameType | None) -> None:
        again, self.status = bool(self.status), 128 + number
        if again or self.records is None:
            raise SystemExit(self.status)
        end(self.records)


def summary(reader: OpenLog) -> str:
    """What was read of a source, and what was not, as one line."""
    return summed_up(reader.backend.name, reader.detection.container, reader)


def summed_up(name: str, container: str, counted: Counted) -> str:
    """What was read of a log, and what was not, as one line."""
    return (
        f"{name}: {container}, {counted.layout}: {counted.received} records read,"
        f" damaged places: {counted.malformed},"
        f" lost records: {lost_text(counted.dropped, counted.uncounted)}"
    )


def lost_text(dropped: int | None, uncounted: int) -> str:
    """How many records were lost, as far as that is known."""
    if uncounted:
        return f"at least {max(dropped or 0, 1)}"
    return "cannot be known" if dropped is None else f"{dropped}"
