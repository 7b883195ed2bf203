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
from pylog.pipeline.reporting import asked, asked_path

HELP = "show how a running pipeline is going"
USAGE = "[options] [CONFIG]"
EPILOG = """examples:
  pylog status                             that of /etc/pylog.toml
  pylog status fw.toml
  pylog status --to json fw.toml | jq '.stacks[] | {name, lag_s, lost}'
  watch pylog status fw.toml
"""
CONFIG = "/etc/pylog.toml"
"""The configuration of `pylog service`, unless another one is given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog status`."""
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?",
        help="the configuration that runs, or the path of its socket (default: /etc/pylog.toml, or"
        " without that file the socket of a configuration that names none)",
    )  # fmt: skip
    parser.add_argument(
        "--to", choices=("text", "json"), default="text",
        help="text is a table, json one object with every count (default: text)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog status`."""
    shape = asked(_path(arguments.config))
    if arguments.to == "json":
        answer_json(shape)
    else:
        answer(*_text(shape))
    return 0 if shape.get("healthy") else 1


def _path(config: str | None) -> str:
    """The path of the socket."""
    if config is None:
        if not os.path.exists(CONFIG):
            return asked_path(Settings())
        config = CONFIG
    try:
        if stat.S_ISSOCK(os.stat(config).st_mode):
            return config
    except OSError as error:
        raise BackendError(f"cannot read {config}: {error.strerror}") from error
    return asked_path(load(config).settings)


def _text(shape: dict[str, Any]) -> list[str]:
    lines = [f"{shape['configuration']}, process {shape['pid']}, since {shape['started'][:19]}Z"]
    journal = shape.get("journal")
    if journal is not None:
        lines.append(
            f"journal {journal['folder']}: {_bytes(journal['end'])} written,"
            f" {_bytes(journal['removed'])} removed by its limits"
            + (f", DISK FULL: {_bytes(journal['unwritten'])} lost" if journal["full"] else "")
        )
    sources = [("SOURCE", "FROM", "STATE", "BYTES", "OVERRUNS", "RECONNECTS")]
    for source in shape["sources"]:
        sources.append((source["name"], source["from"], source["state"], _bytes(source["bytes"]),
                        str(source["overruns"]), str(source["reconnects"])))  # fmt: skip
    stacks = [("STACK", "STATE", "RECORDS", "WRITTEN", "LOST", "REFUSED", "RECONNECTS", "LAG",
               "BEHIND", "US/REC")]  # fmt: skip
    for stack in shape["stacks"]:
        stacks.append((
            stack["name"], stack["state"], str(stack["records"]), str(stack["written"]),
            str(stack["lost"]) + ("+" if stack["losses"] and not stack["lost"] else ""),
            str(stack["refused"]), str(stack["reconnects"]), f"{stack['lag_s']:.1f} s",
            _bytes(stack["lag_bytes"]), f"{stack['cpu_us_per_record']:.1f}",
        ))  # fmt: skip
    lines += ["", *_table(sources), "", *_table(stacks)]
    wrong = [*shape["problems"], *shape["warnings"]]
    return [*lines, *([""] if wrong else []), *wrong]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]  # fmt: skip


def _bytes(size: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"
