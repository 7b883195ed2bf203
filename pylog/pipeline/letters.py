"""Dead letters: the records that an output refuses, in a file of JSON lines with the reasons."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from io import FileIO
from pathlib import Path
from typing import cast

import msgspec

from pylog.notes import notes
from pylog.record import Record, Row, kinds, rfc3339, row_of, row_type

MOST = 100 * 10**6
"""At this size the file is left as it is, and further records are only counted."""
SHOWN = 3
"""How many refusals are noted one by one."""


class DeadLetters:
    """The file of a stack's dead letters.

    refused   how many records were refused
    written   how many of them are in the file
    """

    def __init__(self, path: Path | None, stack: str) -> None:
        """`path` None: refused records are only counted. The file is made with the first record."""
        self._path, self._stack = path, stack
        self._file: FileIO | None = None
        self._has_failed = False
        """Whether the last one could not be written."""
        self.refused = self.written = 0

    def refuse(self, record: Record | Row, reason: str) -> None:
        """Take a record that the output refused; never raises."""
        self.refused += 1
        if self.refused <= SHOWN:
            last = " (others are not noted)" if self.refused == SHOWN else ""
            notes.warning("stack %s: a record is refused: %s%s", self._stack, reason, last)
        if self._path is None:
            return
        letter = {"refused": rfc3339(time.time_ns()), "stack": self._stack, "reason": reason,
                  "record": shown(record)}  # fmt: skip
        try:
            file = self._opened(self._path)
            if file.tell() < MOST:
                self._append(file, msgspec.json.encode(letter) + b"\n")
                self.written += 1
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                notes.warning("cannot write %s: %s", self._path, error.strerror or error)
            self._has_failed = True

    @staticmethod
    def _append(file: FileIO, line: bytes) -> None:
        """Append a line, all of it or nothing; OSError."""
        before, written = file.tell(), file.write(line)
        if written < len(line):
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _opened(self, path: Path) -> FileIO:
        if self._file is None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._file = open(os.open(path, flags, 0o600), "ab", 0)  # noqa: SIM115 - see `close`
            self._file.seek(0, os.SEEK_END)
        return self._file

    def reopen(self) -> None:
        """Go on in the file that has the name now."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


def shown(record: Record | Row) -> Row:
    """A record as JSON shows it; a row is that already."""
    is_row = any(type(record) is row_type(kind) for kind in kinds().values())
    return cast(Row, record) if is_row else row_of(cast(Record, record))
