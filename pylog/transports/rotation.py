"""The files that a command writes one after the other: of one name, or with numbers.

`Files` opens them. What to do about a file that exists is its manner: refuse, replace, append, or
take the next number. With a limit of size or age all files have numbers: fw.log becomes
fw-00001.log, fw-00002.log and so on, after those that are there, and none is overwritten. A file of
one name that another program has moved away is opened again, as daemons do at SIGHUP.

A pipe, a terminal or /dev/null is a file that is opened once, and never refused.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any, BinaryIO, Literal

from pylog.errors import BackendError
from pylog.transports.files import (
    REPLACE,
    Written,
    check_is_free,
    check_is_no_directory,
    is_special,
)
from pylog.transports.packing import packed, without_suffix

Manner = Literal["refuse", "replace", "append", "number"]
"""What to do about a file that exists."""

REFUSED = f"{REPLACE}, --append appends to it"


class File:
    """A file that is open.

    raw         the file itself
    stream      what to write to, which compresses if the name says so
    path        "-" of standard output
    name        what errors call it
    written     counts what is in it for certain
    suffix      of its compression; "": none
    begins_at   how many bytes were in it
    appending   whether there was something in it
    """

    def __init__(
        self, raw: BinaryIO, path: str, name: str, suffix: str, own: bool, keep_pipe: bool
    ) -> None:
        self.raw, self.path, self.name, self._own = raw, path, name, own
        self.begins_at = raw.tell() if own and raw.seekable() else 0
        self.appending = self.begins_at > 0
        self.suffix = suffix
        self.stream: Any = packed(raw, suffix)
        self.written = Written(name, raw, own, keep_pipe=keep_pipe)
        self.begun = time.monotonic()

    def finish(self) -> None:
        """Write what completes its compression."""
        if self.stream is not self.raw:
            self.stream.close()
        else:
            self.raw.flush()

    def close(self) -> None:
        """Close it; standard output stays open."""
        if self._own:
            self.raw.close()


class Files:
    """Opens the files of a name.

    numbered   whether their names have numbers
    reopens    whether a file may be opened again by its name
    names      of the first file and of the last
    count      how many were opened
    """

    def __init__(
        self,
        path: str,
        manner: Manner,
        *,
        suffix: str = "",
        size: int | None = None,
        age_s: float | None = None,
        standard: BinaryIO | None = None,
        shown: str | None = None,
        keep_pipe: bool = False,
    ) -> None:
        """
        suffix     of the compression of the files, see packing
        size       after so many bytes, or `age_s` seconds, a file is full; None: never
        standard   standard output, to be written to in place of a file
        shown      what errors call the file; None: its path
        keep_pipe  whether a pipe that nobody reads any more is an error

        Raises BackendError for a file that exists, if it is to be refused, and for a directory;
        ValueError for limits of what is no file.
        """
        self._path, self._manner, self._suffix = path, manner, suffix
        self._size, self._age_s = size, age_s
        self._standard, self._keep_pipe = standard, keep_pipe
        self._shown = shown or ("standard output" if standard is not None else path)
        self.numbered = size is not None or age_s is not None
        self._single = standard is not None or is_special(path)
        self.reopens = not self._single
        self._number = 0
        self.names: list[str] = []
        self.count = 0
        if self.numbered and self._single:
            raise ValueError(f"{self._shown} cannot be rotated: name a file with -w")
        if standard is None:
            check_is_no_directory(path)
        if manner == "refuse" and not (self._single or self.numbered):
            check_is_free(path, REFUSED)

    def open(self) -> File:
        """Open the next file; BackendError."""
        if self._standard is not None:
            raw, path = self._standard, "-"
        else:
            try:
                raw, path = self._opened()
            except FileExistsError as error:
                raise BackendError(f"cannot write {self._path}: it exists; {REFUSED}") from error
            except OSError as error:
                raise BackendError(f"cannot write {self._shown}: {error.strerror}") from error
        name = self._shown if path in (self._path, "-") else path
        self.names = [*self.names[:1], name]
        self.count += 1
        return File(raw, path, name, self._suffix, self._standard is None, self._keep_pipe)

    def _opened(self) -> tuple[BinaryIO, str]:
        """The next file and its path; OSError."""
        path, again = self._path, self.count > 0
        if self.numbered:
            return self._last() if self._manner == "append" and not again else self._next()
        if self._single:
            return open(path, "wb"), path
        if self._manner == "number":
            try:
                return open(path, "xb"), path
            except FileExistsError:
                return self._next()
        mode = "ab" if again else {"refuse": "xb", "replace": "wb", "append": "ab"}[self._manner]
        stream: Any = open(path, mode)  # noqa: SIM115 - a File closes it
        return stream, path

    def _next(self) -> tuple[BinaryIO, str]:
        """A file with the next number; one that exists is never overwritten."""
        self._number = self._number or self._highest()
        while True:
            self._number += 1
            path = self._path_of(self._number)
            try:
                return open(path, "xb"), path
            except FileExistsError:
                continue

    def _last(self) -> tuple[BinaryIO, str]:
        """The file with the highest number, to be appended to; the next one if that is full."""
        self._number = self._highest()
        path = self._path_of(self._number)
        there = self._number > 0 and os.path.isfile(path)
        if not there or (self._size is not None and os.path.getsize(path) >= self._size):
            return self._next()
        return open(path, "ab"), path

    def before(self) -> str:
        """The path of the file to be appended to, if that exists."""
        return self._path_of(self._highest()) if self.numbered else self._path

    def _highest(self) -> int:
        """The highest number of the files that are there, 0 for none."""
        stem, ending = self._parts()
        pattern = re.compile(re.escape(stem) + r"-(\d{5,})" + re.escape(ending))
        folder = os.path.dirname(self._path) or "."
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return max((int(m[1]) for name in names if (m := pattern.fullmatch(name))), default=0)

    def _path_of(self, number: int) -> str:
        stem, ending = self._parts()
        return os.path.join(os.path.dirname(self._path), f"{stem}-{number:05}{ending}")

    def _parts(self) -> tuple[str, str]:
        """What stands before the number in a name, and after it."""
        name = os.path.basename(self._path)
        bare, suffix = without_suffix(name)
        stem, ending = os.path.splitext(bare)
        return stem, ending + name[len(name) - len(suffix) :]

    def left_s(self, file: File) -> float | None:
        """How long a file may still be written to; None: without a limit."""
        if self._age_s is None:
            return None
        return max(0.0, file.begun + self._age_s - time.monotonic())

    def is_full(self, file: File) -> bool:
        """Whether a file is large or old enough."""
        full = self._size is not None and file.raw.tell() >= self._size
        return full or self.left_s(file) == 0.0

    def text(self) -> str:
        """The files that were written, for people."""
        if self._standard is not None:
            return "written to standard output"
        if self.count == 1:
            return f"wrote {self.names[0]}"
        return f"wrote {self.count} files, {self.names[0]} to {self.names[-1]}"
