"""Where ipmon's text goes: standard output, a file, syslog, and what ipmon.conf says.

An entry goes to the actions of all rules that match its record, or, if none does, to the output.
Files are written at once and can be reopened, so that other programs can rotate them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO

from pylog.errors import BackendError
from pylog.formats import Message, ipl
from pylog.formats.ipl_encode import LAYOUT
from pylog.ipmon.packet import LOG_INFO, LOG_WARNING
from pylog.ipmon.printer import Entry
from pylog.ipmon.rules import Action, Rule
from pylog.notes import notes
from pylog.record import Record
from pylog.transports.files import Appended
from pylog.transports.syslog import FACILITIES, LEVELS, Syslog

PATIENCE_S = 10.0
"""How long a command of `execute` may take."""


class Deliveries(contextlib.ExitStack):
    """Delivers the entries of records.

    All rules of ipmon.conf are tried. A record that at least one matches goes to their actions and
    nowhere else.

    output    a stream or file for text; None: all goes to syslog
    copy      a file for the bytes of each record (-B)
    connect   makes the syslog when the first rule needs it
    check     is called with each path of a rule before it is opened; may raise BackendError
    """

    def __init__(
        self,
        output: BinaryIO | Appended | None,
        syslog: Syslog | None = None,
        copy: Appended | None = None,
        rules: Iterable[Rule] = (),
        connect: Callable[[], Syslog] = Syslog,
        check: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._output, self._syslog, self._copy = output, syslog, copy
        self._connect, self._check = connect, check
        self._files: dict[str, Appended] = {}
        self._rules: list[Rule] = []
        self._unexecuted = 0
        self.callback(self._end)
        try:
            self.use(rules)
        except BaseException:
            self.close()
            raise

    def _end(self) -> None:
        """Close the files and syslog, which still sends what it has queued if it can."""
        for file in self._files.values():
            file.close()
        if self._syslog is not None:
            self._syslog.close()

    @property
    def failed(self) -> bool:
        """Whether a message to syslog was lost, or a command of `execute` failed."""
        lost = self._syslog is not None and bool(self._syslog.dropped or self._syslog.doubtful)
        return lost or self._unexecuted > 0

    def use(self, rules: Iterable[Rule]) -> None:
        """Replace the rules; BackendError when one of their files cannot be written."""
        rules = list(rules)
        actions = [action for rule in rules for action in rule.actions]
        self._check_kinds(actions)
        for action in actions:
            if action.kind in ("file", "raw"):
                self._file(action.argument)
            elif action.kind == "syslog" and self._syslog is None:
                self._syslog = self._connect()
        self._rules = rules
        for path in self._files.keys() - {action.argument for action in actions}:
            self._files.pop(path).close()

    def _check_kinds(self, actions: Iterable[Action]) -> None:
        """BackendError when one file would get both text and records."""
        kinds = [(action.argument, action.kind) for action in actions]
        kinds += [(file.path, kind) for file, kind in ((self._output, "file"), (self._copy, "raw"))
                  if isinstance(file, Appended)]  # fmt: skip
        kind_of: dict[str, str] = {}
        for path, kind in kinds:
            special = os.path.exists(path) and not os.path.isfile(path)
            if kind not in ("file", "raw") or special:
                continue
            if kind_of.setdefault(os.path.realpath(path), kind) != kind:
                raise BackendError(f"cannot write {path}: one file for text and for records")

    def _file(self, path: str) -> Appended:
        if path not in self._files:
            if self._check is not None:
                self._check(path)
            self._files[path] = Appended(path)
        return self._files[path]

    def deliver(self, record: Record, entry: Entry) -> None:
        """Deliver a record; BackendError."""
        if self._copy is not None:
            self._copy.write(entry.raw)
        self.report_missed(entry)
        matched = self._matching(record, entry) if self._rules else []
        for rule in matched:
            for action in rule.actions:
                self._do(action, entry)
        if not matched:
            self._say(entry.line, entry.level, entry.dumps)

    def report_missed(self, entry: Entry) -> None:
        """Deliver only what an entry says of records that were lost before it; BackendError."""
        if entry.missed:
            self._say(entry.missed, LOG_WARNING, records=0)

    def _matching(self, record: Record, entry: Entry) -> list[Rule]:
        """The rules that match; a record of another system is matched as IPFilter would log it."""
        if record.source != "ipl":
            record = ipl.stream(LAYOUT).decode(entry.raw, Message(0, len(entry.raw)))
        now_s = time.monotonic()
        return [rule for rule in self._rules if rule.matches(record, now_s)]

    def _say(self, line: str, level: int, dumps: Iterable[str] = (), records: int = 1) -> None:
        lines = "".join(f"{text}\n" for text in (line, *dumps))
        if isinstance(self._output, Appended):
            self._output.write(lines.encode("utf-8", "surrogateescape"), records)
        elif self._output is not None:
            self._output.write(lines.encode("utf-8", "surrogateescape"))
        elif self._syslog is not None:
            self._syslog.send(line, level)
            for text in dumps:
                self._syslog.send(text, LOG_INFO)

    def _do(self, action: Action, entry: Entry) -> None:
        line = f"{entry.line}\n".encode("utf-8", "surrogateescape")
        if action.kind == "file":
            self._file(action.argument).write(line)
        elif action.kind == "raw":
            self._file(action.argument).write(entry.raw)
        elif action.kind == "execute":
            self._unexecuted += not _execute(action.argument, line)
        elif action.kind == "syslog" and self._syslog is not None:
            facility, _, level = action.argument.rpartition(".")
            number = LEVELS[level] if level else entry.level
            self._syslog.send(
                entry.undated or entry.line, number, FACILITIES[facility] if facility else None
            )

    def flush(self) -> None:
        """Write what is buffered; files are written at once."""
        if self._output is not None and not isinstance(self._output, Appended):
            self._output.flush()

    def reopen(self) -> list[BackendError]:
        """Reopen all files by their names; the errors of those that could not be, and stay open."""
        failures = []
        for file in (self._output, self._copy, *self._files.values()):
            if isinstance(file, Appended):
                try:
                    file.reopen()
                except BackendError as error:
                    failures.append(error)
        return failures


def _execute(command: str, line: bytes) -> bool:
    """Run a shell command with the line on its standard input; failures are noted.

    Gives back whether it could be started, and ended by itself. After PATIENCE_S its session is
    killed, with all processes that it started.
    """
    import subprocess  # only here: rarely needed

    try:
        process = subprocess.Popen(
            command, shell=True, stdin=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        notes.warning("execute %r: %s", command, error)
        return False
    try:
        process.communicate(line, PATIENCE_S)
    except subprocess.TimeoutExpired:
        notes.warning("execute %r: timed out after %s seconds", command, PATIENCE_S)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        notes.warning("execute %r: exit status %d", command, process.returncode)
    return True
