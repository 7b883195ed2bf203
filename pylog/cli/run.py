"""Run a pipeline: read sources once, and write what stacks of filters let pass to their outputs.

CONFIG is a TOML file with the sources, and with the stacks that say what goes where. With a
journal, what the kernel gives is kept on disk first, so an output that is slow or away loses
nothing. Each stack is a process of its own: none can stop, slow or starve another one.

SIGTERM and Ctrl-C end the run in order: what was received is delivered within the time that `drain`
says. SIGHUP reads CONFIG again; what has not changed in it goes on, and files are opened again by
their names. The exit status is 0 if everything was delivered or waits in the journal, 1 if
something was not, and 2 for a configuration that is wrong.

On Linux it gives up all privileges but CAP_NET_ADMIN, which it needs to open sources at a reload;
the processes of stacks have none. Started by systemd, it reports to it: see `pylog service`.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys

from pylog.cli import say
from pylog.cli.check import loaded

HELP = "run a pipeline: sources, filters and outputs of a configuration file"
USAGE = "[options] CONFIG"
EPILOG = """examples:
  pylog check fw.toml                      what is wrong with it, before it runs
  pylog run fw.toml
  pylog status fw.toml                     how it is going, from another terminal
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog run`."""
    parser.add_argument("config", metavar="CONFIG", help="the configuration, a TOML file")
    parser.add_argument(
        "-v", "--verbose", action="store_true",
        help="say on standard error what runs, and at the end what was delivered",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog run`."""
    pipeline = loaded(arguments.config)
    if pipeline is None:
        return 2
    from pylog.pipeline import notify, privileges
    from pylog.pipeline.reporting import socket_path
    from pylog.pipeline.run import Run

    if sys.stderr is not None:
        faulthandler.enable()  # a watchdog that ends pylog (SIGABRT) lets it say where it hung
    privileges.keep(privileges.needed(s.options for s in pipeline.sources.values()))
    made = Run(pipeline, events=notify.events())
    if arguments.verbose:
        say(f"{len(pipeline.stacks)} stacks; status at {socket_path(pipeline.settings)}")
    status = made.run()
    if arguments.verbose:
        for name, stack in made.stacks.items():
            counts = stack.totals
            say(f"{name}: {counts.records} records read, {counts.written} written,"
                f" {counts.refused} refused, lost records: {counts.lost}")  # fmt: skip
    return status
