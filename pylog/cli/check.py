"""Check the configuration of a pipeline, and draw what flows from where to where.

Every error names the file, the table and the key, and what was meant. Nothing is opened, connected
to or written, and no secret is read: passwords are shown as the places where they are.
"""

from __future__ import annotations

import argparse

from pylog.cli import answer, say
from pylog.pipeline.config import ConfigError, Pipeline, load

HELP = "check the configuration of a pipeline, and draw it"
USAGE = "[options] CONFIG"
EPILOG = """examples:
  pylog check fw.toml
  pylog check -q fw.toml && pylog run fw.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog check`."""
    parser.add_argument("config", metavar="CONFIG", help="the configuration, a TOML file")
    parser.add_argument("-q", "--quiet", action="store_true", help="draw nothing")


def loaded(path: str) -> Pipeline | None:
    """The configuration in a file; None if it is wrong, which is reported line by line."""
    try:
        return load(path)
    except ConfigError as error:
        for problem in error.problems:
            for line in problem.split("\n"):
                say(line)
        return None


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog check`."""
    pipeline = loaded(arguments.config)
    if pipeline is None:
        return 2
    if not arguments.quiet:
        from pylog.pipeline.drawing import drawn

        answer(*drawn(pipeline))
    return 0
