"""The work of `pylog ulogd`, whose options are in `ulogd`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pylog
from pylog.cli import answer, say
from pylog.cli._sources import Stopping, greet, is_unreadable
from pylog.cli._ulogd_process import PidFile, Signals, User, to_background
from pylog.errors import as_backend_error
from pylog.record import LossRecord
from pylog.ulogd.check import Checked, explanation, info
from pylog.ulogd.conffile import Conffile
from pylog.ulogd.daemon import Daemon, Exit
from pylog.ulogd.log import NOTICE, DaemonLog, noted
from pylog.ulogd.toml import converted
from pylog.ulogd.worker import Surroundings

if TYPE_CHECKING:
    from pylog.ulogd.live import Live


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
    if arguments.to_toml:
        checked = Checked(conffile)
        answer(*converted(checked, arguments.compat == "exact"))
        return int(not checked.stacks)
    if arguments.replay is None:
        return _run_live(arguments, conffile)
    return _replay(arguments.replay, _daemon(arguments, conffile))


def _daemon(arguments: argparse.Namespace, conffile: Conffile, live: Live | None = None) -> Daemon:
    log = DaemonLog(say, arguments.loglevel, arguments.verbose and not arguments.daemon)
    surroundings = Surroundings(
        hostname=arguments.hostname or socket.gethostname(),
        exact=arguments.compat == "exact",
        interfaces=_interfaces(arguments.interfaces),
        log=log.write,
        replayed=live is None,
    )
    if live is None:
        return Daemon(conffile, surroundings, log)
    live.log = log.write
    return Daemon(conffile, surroundings, log, live.open)


def _run_live(arguments: argparse.Namespace, conffile: Conffile) -> int:
    """Run the records of the live sources through the stacks, until SIGTERM or SIGINT."""
    # only here: the pipeline takes as long to import as all else
    from pylog.pipeline.config import Settings
    from pylog.ulogd.live import Live

    user = User(arguments.uid) if arguments.uid is not None else None
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        pid_file = None if arguments.pidfile is None else PidFile(arguments.pidfile)
        if arguments.daemon:
            if pid_file is not None:
                pid_file.close()
            to_background()
            pid_file = None if pid_file is None else PidFile(arguments.pidfile)
        if pid_file is not None:
            stack.callback(pid_file.remove)
            pid_file.write()
        live = Live()
        stack.callback(live.close)
        daemon = _daemon(arguments, conffile, live)
        stack.enter_context(noted(daemon.log))
        stack.enter_context(signals.waking(live.waker))
        try:
            daemon.start()
        except Exit as error:
            if not arguments.daemon:
                say(str(error))
            return error.status
        signals.is_start = False
        live.begin(daemon)
        if user is not None:
            user.become()
        live.start(daemon)
        while not signals.endings and live.failure is None:
            _act(daemon, live, signals)
            live.turn()
        if signals.endings:
            daemon.log.write(NOTICE, "Terminal signal received, exiting")
        daemon.stop(live.stop(Settings.drain, lambda: signals.interrupts > 1))
        if live.failure is not None:
            raise live.failure
    return int(daemon.failed)


def _act(daemon: Daemon, live: Live, signals: Signals) -> None:
    """Do what signals ask for."""
    for number in signals.taken():
        if number == signal.SIGHUP:
            daemon.reopen_log()
            live.reopen()
        elif number == signal.SIGUSR2:
            live.ask()
        elif number in (signal.SIGUSR1, signal.SIGALRM):
            daemon.log.write(NOTICE, f"signal received ({signal.Signals(number).name})")


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
