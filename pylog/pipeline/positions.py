"""The committed position of each stack: how far its output has what the journal holds.

A position is a text: the identity of the journal and a place in it, then how many records of each
file were read that the stack reads for itself, with a hash of the file's first bytes if it grows,
because another file may have its name when pylog starts again. It is kept in a file of the
journal's folder, which is replaced in one step, unless the output stores it with the records.
Beside it is the end of the file at that position, so that what a killed process wrote after it is
taken back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from pylog.errors import as_backend_error
from pylog.pipeline.journal import FULL
from pylog.transports.ends import End

FOLDER = "positions"


MOST_HASHED = 256
"""So many of a file's first bytes show which file it is: logs begin with a time."""


_FILE = re.compile(r"(\d{1,19})(?:/(\d{1,5})-([0-9a-f]{16}))? (.+)", re.S)
"""A file in the text of a position."""


class Beginning(NamedTuple):
    """The first bytes of a file that grows.

    size     how many were hashed
    digest   16 hexadecimal digits
    """

    size: int
    digest: str

    @classmethod
    def of(cls, path: str, size: int = MOST_HASHED) -> Beginning | None:
        """The beginning of a file; None for one that is empty or cannot be read."""
        try:
            with open(path, "rb") as file:
                data = file.read(size)
        except OSError:
            return None
        return cls(len(data), hashlib.sha256(data).hexdigest()[:16]) if data else None

    def begins(self, path: str) -> bool:
        """Whether the file begins so."""
        return Beginning.of(path, self.size) == self


class Position(NamedTuple):
    """How far a stack came.

    journal   the identity of the journal; "" without one
    place     in the journal, or of the queue
    files     how many records of each source that is a file
    begins    how the files begin that grow
    """

    journal: str
    place: int
    files: Mapping[str, int] = {}
    begins: Mapping[str, Beginning] = {}

    def __str__(self) -> str:
        text = f"{self.journal}:{self.place}"
        for name, count in sorted(self.files.items()):
            begins = self.begins.get(name)
            text += f";{count}{'' if begins is None else f'/{begins.size}-{begins.digest}'} {name}"
        return text


def parsed(text: str | None) -> Position | None:
    """The position that a text is; None for a text that is none."""
    first, *rest = (text or "").split(";")
    match = re.fullmatch(r"([0-9a-f]*):(\d{1,19})", first)
    files, begins = dict[str, int](), dict[str, Beginning]()
    for part in rest:
        file = _FILE.fullmatch(part)
        if file is None:
            return None
        files[file[4]] = int(file[1])
        if file[2]:
            begins[file[4]] = Beginning(int(file[2]), file[3])
    return None if match is None else Position(match[1], int(match[2]), files, begins)


class Kept(msgspec.Struct, omit_defaults=True):
    """What is kept of a stack.

    position   up to which its output has what the journal holds
    end        of its file at that position, if it writes one that grows
    """

    stack: str
    position: str
    end: End | None = None


class PositionFile:
    """The file that keeps the position of a stack."""

    def __init__(self, folder: Path, stack: str) -> None:
        """`folder`: of the journal."""
        self._stack = stack
        self._path = folder / FOLDER / f"{file_name(stack)}.json"
        self._written: Kept | None = None

    def read(self) -> Kept | None:
        """What was kept; None without a file, or for one that is damaged."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=Kept)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return kept if kept.stack == self._stack else None

    def write(self, position: str, end: End | None = None) -> None:
        """Keep a position, if it is another one; BackendError."""
        kept = Kept(self._stack, position, end)
        if kept == self._written:
            return
        data = msgspec.json.encode(kept)
        with as_backend_error("write", str(self._path)):
            try:
                self._replace(data)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._overwrite(data)
        self._written = kept

    def _replace(self, data: bytes) -> None:
        new = self._path.with_suffix(".part")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(new, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise

    def _overwrite(self, data: bytes) -> None:
        """Write into the file as it is, in a single call: a full disk has room for nothing else."""
        with open(self._path, "r+b", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            file.write(data.ljust(size))

    def forget(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def file_name(stack: str) -> str:
    """A name for files of a stack: its own name as far as files may have it, and a digest."""
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", stack).strip("-")[:40]
    return f"{word or 'stack'}-{hashlib.sha256(stack.encode()).hexdigest()[:8]}"
