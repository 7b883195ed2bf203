"""Do what ulogd 2.x does with its configuration: read packets, flows and counters of Linux live,
and write them with ulogd's outputs.

The configuration is ulogd.conf, by the rules of ulogd 2.0.8; what 2.0.9 would refuse is reported.
--check explains the file and starts nothing. With --replay the records of a log take the place of
the live sources, and the clock is that of their receipt.

SIGHUP opens files anew, SIGUSR2 reads counters at once, SIGTERM and SIGINT end in
order, within 20 seconds; a second SIGINT (Ctrl-C) ends at once.
"""

from __future__ import annotations

import argparse

HELP = "do what ulogd2 does with its configuration"
USAGE = "[options]"
EPILOG = """examples:
  pylog ulogd                                     as root, with /etc/ulogd.conf
  pylog ulogd --check                             what is in /etc/ulogd.conf, and what is wrong
  pylog ulogd -c fw.conf --replay fw.pcapng       what its outputs make of a recording
"""
CONFIG = "/etc/ulogd.conf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog ulogd`."""
    add = parser.add_argument
    add("-c", "--configfile", metavar="FILE", default=CONFIG,
        help=f"the configuration (default: {CONFIG})")  # fmt: skip
    add("-d", "--daemon", action="store_true", help="run in the background")
    add("-i", "--info", metavar="PLUGIN", help="show the options and keys of a plugin")
    add("-l", "--loglevel", metavar="N", type=int,
        help="least level of own messages, 1 debug to 8 fatal, in place of loglevel=")  # fmt: skip
    add("-p", "--pidfile", metavar="FILE", help="write the process id there")
    add("-u", "--uid", metavar="USER", help="change to that user when all is open")
    add("-v", "--verbose", action="store_true", help="own messages to standard error, too")
    add("-V", "--version", action="store_true", help="show the version")
    add("--check", action="store_true",
        help="explain the configuration: stacks, options, what is wrong")  # fmt: skip
    add("--to-toml", action="store_true",
        help="print the configuration of `pylog run` that stands for it")  # fmt: skip
    add("--replay", metavar="LOG", help="read that log in place of the live sources")
    add("--hostname", metavar="NAME", help="in place of this machine's")
    add("--interfaces", metavar="FILE",
        help="names of interfaces: lines of a number, a tab and a name")  # fmt: skip
    add("--compat", choices=("safe", "exact"), default="safe",
        help="exact: ulogd's bytes also where a text can forge a record or a key is left out;"
        " default: %(default)s")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog ulogd`."""
    from pylog.cli import _ulogd  # only here: --help would take twice as long

    return _ulogd.run(arguments)
