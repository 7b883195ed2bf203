"""The work of `pylog ipmon`, whose options are in `ipmon`.

As ipmon does, files are read log by log, one after the other; with a live source or -t all are
merged. Each record becomes an entry (Printer), which goes where the options and ipmon.conf say
(Deliveries). SIGHUP reopens the files and reads the configuration again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from pylog import backends
from pylog.actions import Actions
from pylog.backends.ipl import IOCTLS
from pylog.cli import say, stdout
from pylog.cli._daemon import begin, check_pid_file, fill_standard_descriptors
from pylog.cli._outputs import given_actions
from pylog.cli._sources import (
    Stopping,
    check_is_no_log,
    greet,
    is_unreadable,
    paths_of,
)
from pylog.decoder import LOT
from pylog.errors import BackendError, BackendUnavailable, DecodeError, as_backend_error
from pylog.filter import Filter
from pylog.formats.ipl_encode import ipfilter_log
from pylog.ipmon.conf import ConfError, parse
from pylog.ipmon.deliver import Deliveries
from pylog.ipmon.printer import LOGS, Printer
from pylog.ipmon.release import release_named
from pylog.ipmon.rules import Rule
from pylog.merge import Merged
from pylog.reader import Reader, Records
from pylog.record import LossRecord, Record
from pylog.records import deadline_of
from pylog.transports.files import Appended, Written
from pylog.transports.syslog import Syslog, facility_number
from pylog.zones import zone_of

LOOK_S = 1.0
"""How often to check, while no records come, whether SIGHUP came."""


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog ipmon`."""
    failed = False
    if arguments.daemon:
        fill_standard_descriptors()
    sources = _sources(arguments)
    actions = given_actions(arguments)
    wanted = None if arguments.where is None else Filter(arguments.where)
    printer = Printer(
        release=release_named(arguments.ipmon_version) if arguments.ipmon_version else None,
        hosts=arguments.names,
        ports=arguments.names and not arguments.port_numbers,
        zone=zone_of(arguments.tz),
        dated=not arguments.syslog,
        safe=arguments.compat == "safe"
        or arguments.syslog
        or (arguments.file is None and sys.stdout.isatty()),
        verbose=arguments.verbose,
        header=arguments.header,
        packet=arguments.packet,
        body=arguments.body,
    )
    if arguments.flush:
        for path in dict.fromkeys(_files(arguments).values()):
            _flush(path, path in sources)
    started = False
    written = Written("standard output", None, own=False)
    with Stopping() as stopping, _Hangup() as hangup, contextlib.ExitStack() as stack:
        deliveries = stack.enter_context(_deliveries(arguments, list(sources)))
        together = arguments.tail or any(_is_live(path) for path in sources)
        for records in _opened(sources, arguments, together):
            stack.callback(records.close)
            if not started:
                started = True
                begin(arguments, arguments.daemon and not stopping.status, stack)
            stopping.records = records
            greet(records)
            with written.as_backend_error():
                _copy(
                    records, printer, actions, wanted, deliveries, hangup, arguments.conf, written
                )
            stopping.records = None
            for reader in records.readers():
                failed |= is_unreadable(reader)
            if stopping.status:
                break
    for line in printer.report():
        say(line)
    return stopping.status or int(failed or deliveries.failed)


# Sources


def _files(arguments: argparse.Namespace) -> dict[str, str]:
    """The path of each log: of the arguments, or else the system's device."""
    system = next((row for name, row in IOCTLS.items() if sys.platform.startswith(name)), None)
    devices = {"ipf": system.device if system else "/dev/ipl", "nat": "/dev/ipnat",
               "state": "/dev/ipstate"}  # fmt: skip
    return {log: getattr(arguments, log) or device for log, device in devices.items()}


def _sources(arguments: argparse.Namespace) -> dict[str, set[str]]:
    """The logs to be read, by the path of their file."""
    given = {log for log in LOGS if getattr(arguments, log) is not None}
    logs = set(LOGS) if arguments.all else given.union(*arguments.on) or {"ipf"}
    logs = logs.difference(*arguments.off)
    if not logs:
        raise ValueError("no log is left to be read")
    sources: dict[str, set[str]] = {}
    for log, path in _files(arguments).items():
        if log in logs:
            sources.setdefault(path, set()).add(log)
    return sources


def _source(path: str) -> str:
    """The source of pylog for a path of ipmon."""
    try:
        device = stat.S_ISCHR(os.stat(path).st_mode) and path != os.devnull
    except OSError:
        device = path.startswith("/dev/")  # so that the error says what is missing
    return f"ipl:{path}" if device else path


def _is_live(path: str) -> bool:
    return backends.is_live(_source(path))


class _LogReader(Reader):
    """A reader that gives only the records of `logs`.

    A record of another system belongs to the packet log.
    """

    logs: frozenset[str] = frozenset(LOGS)

    def read(self, timeout: float | None = None) -> Record | None:
        deadline = deadline_of(timeout)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            record = super().read(left)
            if record is None or ipfilter_log(record) in self.logs:
                return record
            if isinstance(record, LossRecord) and record.log is None:
                return record


def _opened(
    sources: dict[str, set[str]], arguments: argparse.Namespace, together: bool
) -> Iterator[Records]:
    """Readers of the sources, one after the other, or one that merges all; none of empty files."""
    readers: list[Reader] = []
    # log by log, as ipmon does: a file with several logs is read once for each
    pairs = [(path, {log}) for log in LOGS for path, logs in sources.items() if log in logs]
    if together or "-" in sources:
        pairs = list(sources.items())
    for path, logs in pairs:
        reader = _reader(path, logs, arguments)
        if reader is not None and not together:
            with reader:
                yield reader
        elif reader is not None:
            readers.append(reader)
    if readers:
        yield readers[0] if len(readers) == 1 else Merged(readers)


def _reader(path: str, logs: set[str], arguments: argparse.Namespace) -> Reader | None:
    """A reader of these logs of a file; None if the file is empty."""
    if path == os.devnull:
        return None
    source = _source(path)
    options: dict[str, Any] = {}
    if arguments.tail and not backends.is_live(source):
        options["follow"] = True
    if arguments.netns is not None and source.startswith("nflog:"):
        options["netns"] = arguments.netns
    try:
        backend, *more = backends.connect(source, options)
    except BackendUnavailable as error:
        hint = "-f, -N and -S name files, -f also nflog:GROUP"
        if arguments.file is not None and not any(getattr(arguments, log) for log in LOGS):
            hint += f"; {arguments.file} without -f is where the text goes"
        raise BackendUnavailable(f"{error}; {hint}") from error
    if more:
        for opened in (backend, *more):
            opened.close()
        raise ValueError(f"{path} names {1 + len(more)} logs: -f, -N and -S name one each")
    try:
        reader = _LogReader(backend, layout=arguments.layout, raw=True)
    except DecodeError as error:
        backend.close()
        if str(error.found).endswith("is empty"):
            return None
        raise
    except BaseException:
        backend.close()
        raise
    reader.logs = frozenset(logs)
    return reader


def _flush(path: str, wanted: bool) -> None:
    """Let the kernel discard a log, and print how many bytes; only a `wanted` log must exist."""
    source = _source(path)
    if not source.startswith("ipl:"):
        say(f"{path} is no log device: nothing to flush")
        return
    try:
        (backend,) = backends.connect(source, {})
    except BackendUnavailable:
        if wanted:
            raise
        return
    try:
        print(f"{backend.flush() or 0} bytes flushed from log buffer", flush=True)
    finally:
        backend.close()


# Output


def _deliveries(arguments: argparse.Namespace, sources: list[str]) -> Deliveries:
    """Where the entries go; BackendError for a file that is also read."""
    logs: list[str | int] = [*paths_of(sources), *([0] if "-" in sources else [])]

    def check(path: str) -> None:
        if os.path.isfile(path):
            check_is_no_log(path, logs)

    rules = _rules(arguments.conf)
    facility_number(arguments.facility)  # so that a bad one is reported before anything is read
    live = any(_is_live(source) for source in sources)
    connect = partial(Syslog, arguments.syslog_to, arguments.facility, live=live)
    written = (arguments.file, arguments.copy, arguments.pid_file)
    for path in written:
        if path is not None:
            check(path)
    if arguments.pid_file is not None:
        if os.path.realpath(arguments.pid_file) in map(os.path.realpath, filter(None, written[:2])):
            raise ValueError(f"-P names {arguments.pid_file}, which is written to already")
        check_pid_file(arguments.pid_file)
    copy = Appended(arguments.copy) if arguments.copy is not None else None
    if arguments.syslog:
        return Deliveries(None, connect(), copy, rules, connect, check)
    if arguments.file is None:
        check_is_no_log(None, logs)
    output = stdout() if arguments.file is None else Appended(arguments.file)
    return Deliveries(output, None, copy, rules, connect, check)


def _rules(path: str | None) -> list[Rule]:
    """The rules of a configuration; ConfError, BackendError."""
    if path is None:
        return []
    with as_backend_error("read", path):
        text = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape")
    return parse(text, path)


class _Hangup:
    """The context in which SIGHUP sets `came`."""

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None

    def __enter__(self) -> _Hangup:
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGHUP, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGHUP, self._before)

    def _come(self, number: int, frame: FrameType | None) -> None:
        self.came = True


def _copy(
    records: Records,
    printer: Printer,
    actions: Actions | None,
    wanted: Filter | None,
    deliveries: Deliveries,
    hangup: _Hangup,
    conf: str | None,
    written: Written,
) -> None:
    """Deliver the records until their end."""
    unflushed = 0
    while True:
        if not records.ready or unflushed >= LOT:
            deliveries.flush()
            written.more(unflushed)
            unflushed = 0
        record = None
        with contextlib.suppress(TimeoutError):
            record = records.read(timeout=LOOK_S)
            if record is None:
                break
        if hangup.came:
            hangup.came = False
            _reopen(deliveries, conf, wanted)
        if record is not None and actions is not None:
            record = actions.record(record)
        entry = None if record is None else printer.entry(record)
        if record is not None and entry is not None:
            if wanted is None or wanted.matches(record):
                deliveries.deliver(record, entry)
            else:
                deliveries.report_missed(entry)
            unflushed += 1
    deliveries.flush()


def _reopen(deliveries: Deliveries, conf: str | None, wanted: Filter | None) -> None:
    """Reopen the files, and read again the configuration and the files that a filter names; after
    an error the old ones stay.
    """
    for failure in deliveries.reopen():
        say(f"{failure}; the file stays as it is")
    try:
        deliveries.use(_rules(conf))
    except (ConfError, BackendError) as error:
        say(f"{error}; the rules stay as they are")
    try:
        if wanted is not None:
            wanted.reload()
    except ValueError as error:
        say(f"{error}; the filter stays as it is")
