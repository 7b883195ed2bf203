"""The committed position of each stack: how far its output has what the journal holds.

A position is a text: the identity of the journal and a place in it, then how many records of each
file were read that the stack reads for itself. It is kept in a file of the journal's folder, which
is replaced in one step, unless the output stores it with the records. Beside it is the end of the
file at that position, so that what a killed process wrote after it is taken back.
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


class Position(NamedTuple):
    """How far a stack came.

    journal   the identity of the journal; "" without one
    place     in the journal, or of the queue
    files     how many records of each source that is a file
    """

    journal: str
    place: int
    files: Mapping[str, int] = {}

    def __str__(self) -> str:
        files = "".join(f";{count} {name}" for name, count in sorted(self.files.items()))
        return f"{self.journal}:{self.place}{files}"


def parsed(text: str | None) -> Position | None:
    """The position that a text is; None for a text that is none."""
    first, *rest = (text or "").split(";")
    match = re.fullmatch(r"([0-9a-f]*):(\d{1,19})", first)
    files = [re.fullmatch(r"(\d{1,19}) (.+)", part, re.S) for part in rest]
    if match is None or not all(files):
        return None
    return Position(match[1], int(match[2]), {m[2]: int(m[1]) for m in files if m is not None})


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
