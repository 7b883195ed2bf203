"""The files of a journal: segments, each named by the place of its first byte in the journal.

A place counts all bytes that the journal ever had, so it stays valid when the oldest segments are
removed, and the difference of two places is what lies between them. A segment is a complete pcapng
file. Beside the segments, `id` holds a random word: places of another journal mean nothing here.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pylog.errors import BackendError, as_backend_error
from pylog.formats.pcap_blocks import BYTE_ORDER_MAGIC, EPB, IDB, ISB, MAXIMUM_BLOCK, SHB
from pylog.pipeline.blocks import ORDER

FOLDER = "journal"
"""The folder of the segments, below that of the journal."""
ENDING = ".pcapng"
WRITTEN = frozenset((SHB, IDB, EPB, ISB))
"""The types of blocks that a journal has."""
CHUNK = 1 << 20
"""Bytes that are read at a time."""

_NAME = re.compile(r"(\d{20})\.pcapng")
_BYTES = "little" if ORDER == "<" else "big"


class Segment(NamedTuple):
    """A segment: its file, and the place of its first byte."""

    start: int
    path: Path

    def size(self) -> int:
        """How many bytes it has; 0 if it was removed."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def segments(folder: Path) -> list[Segment]:
    """The segments of a journal in their order; BackendError."""
    with as_backend_error("read", str(folder)):
        names = os.listdir(folder / FOLDER)
    matches = [(m, name) for name in names if (m := _NAME.fullmatch(name))]
    return sorted(Segment(int(m[1]), folder / FOLDER / name) for m, name in matches)


def segment_at(folder: Path, start: int) -> Segment:
    """The segment that begins at a place, whether or not it exists."""
    return Segment(start, folder / FOLDER / f"{start:020}{ENDING}")


def identity(folder: Path, make: bool = False) -> str:
    """The random word of a journal, which `make` makes if there is none; BackendError."""
    path = folder / "id"
    with as_backend_error("read", str(path)):
        try:
            word = path.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            if not make:
                raise
            word = ""
    if not re.fullmatch(r"[0-9a-f]{8}", word):
        if word or not make:
            raise BackendError(f"{path} is no identity of a journal: name another folder")
        word = secrets.token_hex(4)
        with as_backend_error("write", str(path)):
            path.write_text(word + "\n", encoding="ascii")
    return word


class Frame(NamedTuple):
    """A complete block: its type, and data[start:end]."""

    kind: int
    start: int
    end: int


def frames(data: bytes, start: int = 0) -> Iterator[Frame]:
    """The complete blocks from `start` on, up to the first that is incomplete or wrong."""
    size = len(data)
    from_bytes = int.from_bytes
    while start + 12 <= size:
        kind = from_bytes(data[start : start + 4], _BYTES)  # type: ignore[arg-type]
        length = from_bytes(data[start + 4 : start + 8], _BYTES)  # type: ignore[arg-type]
        end = start + length
        if (
            end > size
            or is_wrong(data, start)
            or data[end - 4 : end] != data[start + 4 : start + 8]
        ):
            return
        yield Frame(kind, start, end)
        start = end


def is_wrong(data: bytes, start: int) -> bool:
    """Whether what begins at `start` is certainly no block of a journal, even if it is cut off."""
    head = data[start : start + 12]
    if len(head) < 8:
        return False
    kind, length = int.from_bytes(head[:4], _BYTES), int.from_bytes(head[4:8], _BYTES)  # type: ignore[arg-type]
    if kind not in WRITTEN or length % 4 or not 12 <= length <= MAXIMUM_BLOCK:
        return True
    if kind == SHB and len(head) == 12:
        return int.from_bytes(head[8:12], _BYTES) != BYTE_ORDER_MAGIC  # type: ignore[arg-type]
    end = start + length
    return len(data) >= end and data[end - 4 : end] != data[start + 4 : start + 8]


def next_frame(data: bytes, start: int) -> int | None:
    """Where the next complete block begins after damage at `start`, whose type a journal has and
    which another one, or the end of the data, follows; None: not in this data.
    """
    for at in range(start + 4, len(data) - 11, 4):
        frame = next(frames(data, at), None)
        if frame is not None and (
            frame.end == len(data) or next(frames(data, frame.end), None) is not None
        ):
            return at
    return None


def valid_end(path: Path) -> int:
    """Where the last complete block of a segment ends; damage before it does not count."""
    end = at = 0
    data = b""
    with open(path, "rb") as file:
        while True:
            more = file.read(CHUNK)
            data += more
            used = 0
            while True:
                for frame in frames(data, used):
                    used = frame.end
                    end = at + used
                wrong = is_wrong(data, used)
                if not wrong and more:
                    break  # the block may be complete with what follows
                after = next_frame(data, used)
                if after is None:
                    used = max(used, len(data) - 16 & ~3) if wrong and more else used
                    break
                used = after
            if not more:
                return end
            at, data = at + used, data[used:]
