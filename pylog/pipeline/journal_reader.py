"""Reads a journal that another process writes: pieces from a place on, up to what is written.

A reader needs nothing of the writer but its files. It takes complete blocks only, so it never sees
half of a receipt. Where segments that it has not read were removed, or where bytes are damaged, it
gives a loss.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from pylog.errors import BackendError
from pylog.formats.pcap_blocks import EPB, MAXIMUM_BLOCK
from pylog.pipeline.parsing import Parser, Piece, time_of
from pylog.pipeline.segments import (
    CHUNK,
    Segment,
    frames,
    identity,
    is_wrong,
    next_frame,
    segment_at,
    segments,
)

REMOVED = "removed from the journal before they were read"
DAMAGED = "the journal is damaged"
"""The reasons of gaps."""


class Gap(NamedTuple):
    """Bytes of the journal that cannot be read, and why."""

    size: int
    reason: str


class Placed(NamedTuple):
    """A piece, or a gap, and the place in the journal after it."""

    content: Piece | Gap
    end: int


class JournalReader:
    """Reads a journal.

    place   after the last block that was read
    """

    def __init__(self, folder: Path, sources: Collection[str] | None = None) -> None:
        """`sources`: the names of the sources whose pieces are wanted; None: all."""
        self._folder, self._sources = folder, sources
        self.place = 0
        self._file: int | None = None
        self._segment: Segment | None = None
        self._parser = Parser(sources)
        self._skipped = False
        """Whether what comes next in the segment is damage that was reported."""

    @property
    def id(self) -> str:
        """The random word of the journal; BackendError."""
        return identity(self._folder)

    # Places

    def first(self) -> int:
        """The place of the oldest byte."""
        there = segments(self._folder)
        return there[0].start if there else 0

    def last(self) -> int:
        """The place after the newest byte."""
        there = segments(self._folder)
        return there[-1].start + there[-1].size() if there else 0

    def place_of(self, time_ns: int) -> int:
        """The place of the first packet that was received at that time or later."""
        chosen, there = None, segments(self._folder)
        for segment in there:
            begun = next((t for t in self._times(segment)), (0, None))[1]
            if chosen is not None and begun is not None and begun >= time_ns:
                break
            chosen = segment
        if chosen is None:
            return 0
        for place, begun in self._times(chosen):
            if begun is not None and begun >= time_ns:
                return place
        return chosen.start + chosen.size()

    def _times(self, segment: Segment) -> Iterator[tuple[int, int | None]]:
        """The places of the packets of a segment, and their times."""
        try:
            with open(segment.path, "rb") as file:
                at, data = 0, b""
                while more := file.read(CHUNK):
                    data += more
                    used = 0
                    for frame in frames(data):
                        if frame.kind == EPB:
                            yield segment.start + at + frame.start, time_of(data, frame)
                        used = frame.end
                    at, data = at + used, data[used:]
        except OSError:
            return

    # Reading

    def seek(self, place: int) -> int:
        """Go to the beginning of the segment with that place, or of the one before it if it begins
        there; where that is. What lies between shows how the rest is to be decoded.
        """
        self._close_file()
        there = [s for s in segments(self._folder) if s.start < max(place, 1)]
        self.place = there[-1].start if there else place
        return self.place

    def read(self, most: int = CHUNK) -> list[Placed] | None:
        """The pieces and gaps that come next, of about `most` bytes; there may be none among them.
        None: nothing more is written yet.

        Raises BackendError.
        """
        gap = self._open()
        if gap is not None:
            return [Placed(gap, self.place)]
        if self._segment is None:
            return None
        own = self._segment
        placed = self._read(most)
        if placed is None and self._is_other(own):
            self._close_file()
            self.place = own.start
            return []
        if placed is None and self._is_complete(own):
            placed = self._read(most)  # the writer may have written between the two looks
            if placed is None:
                return self._end_of(own)
        return placed

    def _is_other(self, own: Segment) -> bool:
        """Whether another segment begins at the same place: of the one that is open the writer has
        taken back even the header, because the disk was full.
        """
        assert self._file is not None
        try:
            return os.stat(own.path).st_ino != os.fstat(self._file).st_ino
        except OSError:
            return False

    def _end_of(self, own: Segment) -> list[Placed]:
        """Pass over the rest of a complete segment, which has no complete block at its place."""
        size = own.start + self._size() - self.place
        if size > 0:
            after = next_frame(self._data(min(size, 2 * MAXIMUM_BLOCK)), 0)
            if after is not None:
                self.place += after
                return [Placed(Gap(after, DAMAGED), self.place)]
        self._close_file()
        self.place += max(size, 0)
        return [Placed(Gap(size, DAMAGED), self.place)] if size > 0 else []

    def _read(self, most: int) -> list[Placed] | None:
        """As `read`, of the segment that is open."""
        data = self._data(most)
        placed, used = [], 0
        for frame in frames(data):
            piece = self._parser.piece(data, frame)
            used = frame.end
            if piece is not None:
                placed.append(Placed(piece, self.place + used))
        if used:
            self.place += used
            self._skipped = False
            return placed
        if is_wrong(data, 0):
            return self._damage(data)
        if most <= len(data) < 2 * MAXIMUM_BLOCK:
            return self._read(2 * MAXIMUM_BLOCK)  # the block is longer
        return None

    def _data(self, most: int) -> bytes:
        assert self._file is not None and self._segment is not None
        try:
            return os.pread(self._file, most, self.place - self._segment.start)
        except OSError as error:
            name = self._segment.path
            raise BackendError(f"cannot read {name}: {error.strerror}") from error

    def _open(self) -> Gap | None:
        """Have the segment of the place open, or the first one after it: the gap between them."""
        while self._file is None:
            there = segments(self._folder)
            before = [s for s in there if s.start <= self.place]
            after = [s for s in there if s.start > self.place]
            if before and (self.place < before[-1].start + before[-1].size() or not after):
                chosen = before[-1]
            elif after:
                chosen = after[0]
            else:
                return None
            try:
                self._file = os.open(chosen.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            except FileNotFoundError:  # it was removed meanwhile
                continue
            except OSError as error:
                raise BackendError(f"cannot read {chosen.path}: {error.strerror}") from error
            self._segment, self._parser = chosen, Parser(self._sources)
            self._skipped = False
            if chosen.start > self.place:
                size, self.place = chosen.start - self.place, chosen.start
                return Gap(size, DAMAGED if before else REMOVED)
        return None

    def _damage(self, data: bytes) -> list[Placed] | None:
        """Pass over the damage that begins the data."""
        after = next_frame(data, 0)
        size = max(4, (len(data) & ~3) - 12) if after is None else after
        if size > len(data):
            return None
        self.place += size
        skipped, self._skipped = self._skipped, after is None
        return [] if skipped else [Placed(Gap(size, DAMAGED), self.place)]

    def _is_complete(self, own: Segment) -> bool:
        """Whether the writer has gone on to another segment."""
        size = self._size()
        if segment_at(self._folder, own.start + size).path.exists() and size:
            return True
        return any(s.start > own.start for s in segments(self._folder))

    def _size(self) -> int:
        """The size of the segment that is open, also if it was removed meanwhile."""
        assert self._file is not None
        return os.fstat(self._file).st_size

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._segment = None, None

    def close(self) -> None:
        """Close the segment that is open."""
        self._close_file()
