"""`pylog ipmon -D`: a process of its own in the background, whose id is in a file.

What can fail is tried before the fork, while somebody can still see the error. The process id is
written after it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys

from pylog.cli import say
from pylog.cli._pid_file import IPMON_PID_FILE, PidFile


def fill_standard_descriptors() -> None:
    """Open /dev/null in place of closed standard streams, so that no other file gets 0 to 2."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def begin(arguments: argparse.Namespace, daemon: bool, stack: contextlib.ExitStack) -> None:
    """Go to the background, if `daemon` and the arguments allow it, and write the process id."""
    if daemon and arguments.file is None and not arguments.syslog:
        say("-D needs OUTPUT or -s: staying in the foreground")
        daemon = False
    path = arguments.pid_file or (IPMON_PID_FILE if daemon else None)
    pid_file = (
        None if path is None else PidFile(path)
    )  # before the fork: its error can still be seen
    if pid_file is not None:
        stack.callback(pid_file.remove)  # first: a signal may come at any time
    if daemon:
        _to_background(arguments.syslog)
    if pid_file is not None:
        pid_file.write()


def _to_background(syslog: bool) -> None:
    """Continue in a child process without a terminal.

    Notes still go to standard error, but with -s only to a file: a terminal or pipe is closed.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    keep = not syslog or stat.S_ISREG(os.fstat(2).st_mode)
    for descriptor in (0, 1) if keep else (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
