"""Opens logs for the engine that pylog.engine chooses: columns for long files, else rows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from pylog import engine, outputs
from pylog.cli import say
from pylog.cli._sources import AnyLog, opened_in_bulk
from pylog.open_log import OpenLog

Log = TypeVar("Log", bound=AnyLog)


def by_engine(
    arguments: argparse.Namespace, log: Log, source: str, name: str, options: Mapping[str, Any],
    single: bool,
) -> Log | OpenLog:  # fmt: skip
    """The log, or its file in bulk, whose records become lines of an output many at once.

    name, options   of the output
    single          whether the output gets all records of this one source, without a change
    """
    (reader, *others) = log.readers()
    size = os.path.getsize(source) if os.path.isfile(source) else None
    stream = reader.decoder.stream if reader.detection.layouts else None
    has_columns = bool(stream and stream.columns_module)
    lines = single and not others and outputs.makes_lines(name, options)
    why = engine.why_rows(size, has_columns, lines)
    chosen: Log | OpenLog = log
    if why is None:
        chosen = opened_in_bulk(arguments, source, reader)
        reader.close()
    if arguments.verbose and not reader.backend.live:
        if has_columns and reader.decoder.by_columns:
            why = None
        say_engine(chosen, why)
    return chosen


def in_columns(arguments: argparse.Namespace, source: str) -> OpenLog:
    """A file in bulk, for an output that takes columns."""
    log = opened_in_bulk(arguments, source)
    if arguments.verbose:
        has_columns = log.decoder.stream.columns_module
        say_engine(log, None if has_columns else "its format has no columns")
    return log


def say_engine(log: AnyLog, why_rows: str | None) -> None:
    """Say by which engine a log is read."""
    how = "columns" if why_rows is None else f"rows, since {why_rows}"
    for reader in log.readers():
        say(f"{reader.backend.title}: decoded by {how}")
