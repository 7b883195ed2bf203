"""The daemon's own log: a file, standard output or syslog(3), as logfile= says.

A line is `Sat Nov 28 19:24:00 2026 <5> text`, with ulogd's levels: 1 debug, 3 info, 5 notice, 7
error, 8 fatal. Without logfile= it goes to syslog, as with ulogd; errors then go to standard error
too, so that a start that fails does not do so silently.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from pylog.errors import BackendError
from pylog.record import escape
from pylog.transports.files import Appended

DEBUG, INFO, NOTICE, ERROR, FATAL = 1, 3, 5, 7, 8
SYSLOG_LEVELS = {DEBUG: 7, INFO: 6, NOTICE: 5, ERROR: 3, FATAL: 2}


class DaemonLog:
    """The log of a daemon.

    level      the least level that is written
    verbose    whether every line also goes to standard error
    say        writes a line to standard error
    """

    def __init__(self, say: Callable[[str], None], level: int | None, verbose: bool) -> None:
        self._say, self.verbose = say, verbose
        self._fixed = level is not None
        self._level = NOTICE if level is None else level
        self._file: Appended | None = None
        self.place = ""

    def set_level(self, level: int) -> None:
        """Take loglevel=, unless -l is given."""
        if not self._fixed:
            self._level = level

    def open(self, place: str) -> None:
        """Take logfile=: stdout, syslog or a path; BackendError."""
        if place not in ("stdout", "syslog"):
            self._file = Appended(place)
        self.place = place

    def write(self, level: int, text: str) -> None:
        """Write a line, if its level is high enough."""
        if level < self._level:
            return
        text = escape(text)
        line = f"{time.strftime('%a %b %e %H:%M:%S %Y')} <{level}> {text}\n"
        if self.verbose or (level >= ERROR and self.place in ("", "syslog")):
            self._say(text)
        if self._file is not None:
            try:
                self._file.write(line.encode("utf-8", "surrogateescape"))
            except BackendError as error:
                self._say(f"{error}: {text}")
        elif self.place == "stdout":
            try:
                sys.stdout.write(line)
                sys.stdout.flush()
            except OSError as error:
                self._say(f"cannot write standard output: {error.strerror}")
        else:
            _to_syslog(level, text)

    def reopen(self) -> None:
        """What SIGHUP does; BackendError."""
        if self._file is not None:
            self._file.reopen()


class _Handler(logging.Handler):
    """Writes what pylog notes to the log of a daemon."""

    def __init__(self, log: DaemonLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        is_error = record.levelno >= logging.WARNING
        self._log.write(ERROR if is_error else INFO, record.getMessage())


@contextlib.contextmanager
def noted(log: DaemonLog) -> Iterator[None]:
    """The context in which pylog's notes go to a daemon's log, and nowhere else."""
    logger, own = logging.getLogger("pylog"), _Handler(log)
    before = logger.propagate
    logger.addHandler(own)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(own)
        logger.propagate = before


def _to_syslog(level: int, text: str) -> None:
    try:
        import syslog  # only here: there is none on Windows
    except ImportError:
        return
    syslog.openlog("ulogd", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(SYSLOG_LEVELS.get(level, 5), text.replace("\0", ""))
