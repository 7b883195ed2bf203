"""The work of `pylog ulogd`, whose options are in `ulogd`."""

from __future__ import annotations

import argparse
import contextlib
import socket
from pathlib import Path

import pylog
from pylog.cli import answer, say
from pylog.cli._sources import Stopping, greet, is_unreadable
from pylog.errors import as_backend_error
from pylog.record import LossRecord
from pylog.ulogd.check import explanation, info
from pylog.ulogd.conffile import Conffile
from pylog.ulogd.daemon import Daemon, Exit
from pylog.ulogd.log import DaemonLog
from pylog.ulogd.worker import Surroundings


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog ulogd`."""
    if arguments.version:
        answer(f"pylog {pylog.__version__}, in place of ulogd 2.0.8")
        return 0
    if arguments.info is not None:
        answer(*info(arguments.info))
        return 0
    with as_backend_error("read", arguments.configfile):
        data = Path(arguments.configfile).read_bytes()
    conffile = Conffile(data, arguments.configfile)
    if arguments.check:
        lines, status = explanation(conffile)
        answer(*lines)
        return status
    log = DaemonLog(say, arguments.loglevel, arguments.verbose)
    surroundings = Surroundings(
        hostname=arguments.hostname or socket.gethostname(),
        exact=arguments.compat == "exact",
        interfaces=_interfaces(arguments.interfaces),
        log=log.write,
        replayed=arguments.replay is not None,
    )
    daemon = Daemon(conffile, surroundings, log)
    if arguments.replay is None:
        raise ValueError("live sources are not there yet: give --replay LOG or --check")
    return _replay(arguments.replay, daemon)


def _interfaces(path: str | None) -> dict[int, bytes] | None:
    """The names of a file of lines `number TAB name`; ValueError, BackendError."""
    if path is None:
        return None
    with as_backend_error("read", path):
        text = Path(path).read_bytes()
    names = {}
    for number, line in enumerate(text.splitlines(), 1):
        index, tab, name = line.partition(b"\t")
        if not line.strip():
            continue
        if not tab or not index.strip().isdigit():
            raise ValueError(f"{path}:{number}: want a number, a tab and a name, not {line!r}")
        names[int(index)] = name.strip()
    return names


def _replay(path: str, daemon: Daemon) -> int:
    """Run the records of a log through the stacks; the clock is that of their receipt."""
    with Stopping() as stopping, contextlib.ExitStack() as stack:
        records = stack.enter_context(pylog.open(path, raw=True))
        stopping.records = records
        greet(records)
        first = records.read()
        _set_clock(daemon, first)
        try:
            daemon.start()
        except Exit as error:
            say(f"{error}")
            return error.status
        stack.callback(daemon.stop)
        record = first
        while record is not None:
            daemon.feed(record)
            record = records.read()
            _set_clock(daemon, record)
        stopping.records = None
        unreadable = is_unreadable(records)
    return stopping.status or int(unreadable or daemon.failed)


def _set_clock(daemon: Daemon, record: pylog.Record | None) -> None:
    """Set the clock to the receipt of a record, or else to its time."""
    if record is None or isinstance(record, LossRecord):
        return
    time_ns = record.observed_ns or record.timestamp_ns
    if time_ns is not None:
        daemon.surroundings.replay_us = time_ns // 1000
