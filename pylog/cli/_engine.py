"""Which engine decodes a file and makes its lines: columns, many records at once, or rows.

Columns are faster, but NumPy and pyarrow take a while to load, and the extra may not be installed.
So long files of formats that have columns are read by them, everything else by rows. The output is
the same.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pylog import outputs
from pylog.cli import say
from pylog.cli._sources import opened_in_bulk
from pylog.open_log import OpenLog

ENOUGH = 1 << 24
"""How many bytes a file must have: of fewer, loading NumPy and pyarrow takes longer."""


def opened_by_columns(
    arguments: argparse.Namespace, source: str, name: str, options: Mapping[str, Any]
) -> OpenLog | None:
    """A file in bulk, whose records become lines of an output; None: rows are faster, or needed.

    name, options   of the output
    """
    by_columns = (
        os.path.isfile(source)
        and os.path.getsize(source) >= ENOUGH
        and outputs.makes_lines(name, options)
        and None not in (find_spec("numpy"), find_spec("pyarrow"))
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
