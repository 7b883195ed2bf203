"""What commands that read logs share: their arguments, opening the sources, and stopping."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import pylog
from pylog import backends
from pylog.merge import WINDOW_S
from pylog.reader import Reader, Records


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
    """The options of the live sources, and that for merging."""
    for name, module in backends.modules().items():
        if module.OPTIONS:
            group = parser.add_argument_group(f"{name}:", module.HELP)
            for option in module.OPTIONS:
                _add_option(group, option)
    parser.add_argument(
        "--window", type=float, default=WINDOW_S, metavar="SECONDS",
        help="how long a record may be held back when several sources are merged, for an older one"
        f" of another source (default: {WINDOW_S})",
    )  # fmt: skip


def _add_option(group: argparse._ArgumentGroup, option: backends.Option) -> None:
    flag = option.flag or "--" + option.name.replace("_", "-")
    settings: dict[str, Any] = {"dest": option.name, "help": option.help}
    if option.kind is bool:
        both = argparse.BooleanOptionalAction if option.default else "store_const"
        settings["action"] = both
        if not option.default:
            settings["const"] = True
    elif isinstance(option.kind, tuple):
        settings["choices"] = option.kind
    else:
        settings["type"] = option.kind
        settings["metavar"] = {int: "N", float: "SECONDS", str: "NAME"}[option.kind]
    group.add_argument(flag, **settings)


def given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of backends that stand on the command line."""
    names = [option.name for module in backends.modules().values() for option in module.OPTIONS]
    return {n: v for n in names if (v := getattr(arguments, n, None)) is not None}


def is_live(source: str) -> bool:
    """Whether the source is a NAME:ADDRESS of something else than a file."""
    name = backends.named(source)
    return name is not None and name[0] != "capture"


def opened(arguments: argparse.Namespace, sources: Sequence[str], raw: bool = False) -> Records:
    """A reader of the sources: merged, if they are several logs."""
    merged = pylog.merge(
        *sources,
        window_s=arguments.window,
        layout=arguments.layout,
        on_error=arguments.on_error,
        raw=raw,
        **given_options(arguments),
    )
    readers = merged.readers()
    return readers[0] if len(readers) == 1 else merged


@contextlib.contextmanager
def stopping(records: Records) -> Iterator[list[int]]:
    """SIGINT and SIGTERM end reading, in order; a second one is a KeyboardInterrupt.

    What a live source has is still read, a file is left where it is. The list that is given has
    the signal that came.
    """
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        for reader in records.readers():
            if reader.backend.live:
                reader.stop()
            else:
                reader.close()

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield caught
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def exit_status(caught: list[int]) -> int:
    """130 for SIGINT, 143 for SIGTERM, 0 when none came."""
    return 128 + caught[0] if caught else 0


def summary(reader: Reader) -> str:
    """What was read of a source, and what was not, as one line."""
    dropped = "cannot be known" if reader.dropped is None else f"{reader.dropped}"
    return (
        f"pylog: {reader.backend.name}: {reader.detection.container}, {reader.layout}:"
        f" {reader.received} records read, damaged places: {reader.malformed}, lost records:"
        f" {dropped}"
    )
