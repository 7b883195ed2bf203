"""Show how a pipeline is going: its sources, its stacks, what waits and what was lost.

The answer comes from the socket of a running `pylog run`, which only the user that runs it may ask.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Sequence
from typing import Any

from pylog.cli import answer, answer_json
from pylog.errors import BackendError
from pylog.pipeline.config import Settings, load
from pylog.pipeline.reporting import asked, socket_path

HELP = "show how a running pipeline is going"
USAGE = "[options] [CONFIG]"
EPILOG = """examples:
  pylog status fw.toml
  pylog status --json fw.toml | jq '.stacks[] | {name, lag_s, lost}'
  watch pylog status fw.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog status`."""
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?",
        help="the configuration that runs, or the path of its socket (default: the socket of a"
        " configuration that names none)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog status`."""
    shape = asked(_path(arguments.config))
    if arguments.json:
        answer_json(shape)
    else:
        answer(*_text(shape))
    return 0 if shape.get("healthy") else 1


def _path(config: str | None) -> str:
    """The path of the socket."""
    if config is None:
        return socket_path(Settings())
    try:
        if stat.S_ISSOCK(os.stat(config).st_mode):
            return config
    except OSError as error:
        raise BackendError(f"cannot read {config}: {error.strerror}") from error
    return socket_path(load(config).settings)


def _text(shape: dict[str, Any]) -> list[str]:
    lines = [f"{shape['configuration']}, process {shape['pid']}, since {shape['started'][:19]}Z"]
    journal = shape.get("journal")
    if journal is not None:
        lines.append(
            f"journal {journal['folder']}: {_bytes(journal['end'])} written,"
            f" {_bytes(journal['removed'])} removed by its limits"
            + (f", DISK FULL: {_bytes(journal['unwritten'])} lost" if journal["full"] else "")
        )
    sources = [("SOURCE", "FROM", "STATE", "BYTES", "OVERRUNS")]
    for source in shape["sources"]:
        state = source["state"] + (f": {source['problem']}" if "problem" in source else "")
        sources.append((source["name"], source["from"], state, _bytes(source["bytes"]),
                        str(source["overruns"])))  # fmt: skip
    stacks = [("STACK", "STATE", "RECORDS", "WRITTEN", "LOST", "REFUSED", "LAG", "BEHIND",
               "US/REC")]  # fmt: skip
    for stack in shape["stacks"]:
        stacks.append((
            stack["name"], stack["state"], str(stack["records"]), str(stack["written"]),
            str(stack["lost"]) + ("+" if stack["losses"] and not stack["lost"] else ""),
            str(stack["refused"]), f"{stack['lag_s']:.1f} s", _bytes(stack["lag_bytes"]),
            f"{stack['cpu_us_per_record']:.1f}",
        ))  # fmt: skip
    lines += ["", *_table(sources), "", *_table(stacks)]
    for stack in shape["stacks"]:
        if "problem" in stack:
            lines.append(f"{stack['name']}: {stack['problem']}")
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]  # fmt: skip


def _bytes(size: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"
