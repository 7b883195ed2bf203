"""Opens logs for the engine that pylog.engine chooses: columns for long files, else rows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

from pylog import engine, outputs
from pylog.cli import say
from pylog.cli._sources import opened_in_bulk
from pylog.open_log import OpenLog


def opened_by_columns(
    arguments: argparse.Namespace, source: str, name: str, options: Mapping[str, Any]
) -> OpenLog | None:
    """A file in bulk, whose records become lines of an output; None: rows are faster, or needed.

    name, options   of the output
    """
    by_columns = (
        os.path.isfile(source)
        and engine.file_by_columns(os.path.getsize(source))
        and outputs.makes_lines(name, options)
    )
    if not by_columns:
        return None
    from pylog.table.bulk import Bulk  # needs the extra

    log = opened_in_bulk(arguments, source)
    assert isinstance(log, Bulk)
    if not log.in_columns:
        log.close()
        return None
    if arguments.verbose:
        say(f"{log.backend.title}: decoded by columns")
    return log
