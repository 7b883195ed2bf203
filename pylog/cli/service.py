"""Print a unit of systemd that runs a pipeline, fitted to its configuration.

The service has no root: a user of its own, which may read what the firewall logs (CAP_NET_ADMIN),
and writes only the folders that CONFIG names below /var/lib, /var/log and /run. CONFIG is checked
before the service starts and before it reloads. What you have to do yourself is said on standard
error.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

import pylog
from pylog.cli import answer, say
from pylog.errors import BackendError

HELP = "print a unit of systemd that runs a pipeline as a service"
USAGE = "[options] [CONFIG]"
EPILOG = """examples:
  pylog service fw.toml | sudo tee /etc/systemd/system/pylog.service
  pylog service --name edge --user logger fw.toml
then: systemctl daemon-reload, systemctl enable --now pylog, and systemctl reload pylog after a
change of the configuration
"""
CONFIG = "/etc/pylog.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog service`."""
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", default=CONFIG,
        help=f"the configuration, a TOML file (default: {CONFIG})",
    )  # fmt: skip
    parser.add_argument(
        "--name", type=_name, default="pylog",
        help="the name of the service, and of its folders in /var/lib, /var/log and /run (default:"
        " pylog)",
    )  # fmt: skip
    parser.add_argument(
        "--user", type=_name,
        help="the user that runs it, who exists (default: one that systemd makes while it runs)",
    )  # fmt: skip


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,30}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name: a letter, then letters, digits, - and _, at most 31"
        )
    return text


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog service`."""
    from pylog.pipeline.config import load
    from pylog.pipeline.unit import unit

    config = os.path.abspath(arguments.config)
    pipeline = None
    try:
        pipeline = load(config)
    except BackendError as error:
        if arguments.config != CONFIG:
            raise
        say(f"{error}: this unit fits a configuration with its files in /var/lib/{arguments.name}"
            f" and /var/log/{arguments.name}; when you have one, print it again")  # fmt: skip
    text, notes = unit(
        config, _command(), name=arguments.name, user=arguments.user, pipeline=pipeline,
        programs=[sys.prefix, sys.base_prefix, str(Path(pylog.__file__).resolve().parents[1])],
    )  # fmt: skip
    answer(*text.splitlines())
    for note in notes:
        say(note)
    return 0


def _command() -> list[str]:
    """The absolute path of what runs pylog."""
    beside = Path(sys.executable).parent / "pylog"
    if beside.is_file():
        return [str(beside)]
    program = Path(sys.argv[0])
    if program.name == "pylog" and (path := shutil.which(str(program.absolute()))):
        return [path]
    return [sys.executable, "-P", "-m", "pylog"]
