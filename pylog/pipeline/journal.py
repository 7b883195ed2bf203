"""The journal: what the kernel gave, appended as received to pcapng segments.

One process at a time writes, which a lock ensures. Each call appends all packets of one receipt
with a single writev; no message is looked at. When a segment is full, the next one begins; when the
journal is larger or older than its limits, the oldest segments are removed, whether or not every
stack has read them. A full disk costs the oldest segments in the same way, and when there is none
left, what was received: the bytes are counted, and a loss is written when there is room again.

After kill -9 the last segment may end within a block, which is cut off. Each start begins a new
segment, so a segment never has messages of two runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pylog.clock import EvenClock
from pylog.errors import BackendError, as_backend_error
from pylog.notes import notes
from pylog.pipeline.segments import (
    FOLDER,
    Segment,
    identity,
    segment_at,
    segments,
    valid_end,
)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors of a disk or quota that is full."""
MOST_PARTS = 1024
"""The most parts of one writev (UIO_MAXIOV)."""
NOTE_S = 60.0
"""A full disk is noted no more often than this."""
CHECK_S = 10.0
"""How often the limits are checked, besides at the end of a segment."""


class Journal:
    """A journal that is open for writing.

    folder     it is in
    id         its random word
    end        the place after its last byte
    removed    bytes of segments that were removed by the limits so far
    unwritten  bytes that a full disk cost so far
    is_full    whether the last call failed because of a full disk
    last_ns    when the journal was written last, before this run; None: it is new
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_size: int,
        size: int | None,
        age_s: float | None,
        header: Callable[[], bytes],
    ) -> None:
        """Opens or makes a journal; a segment begins with the first call of `append`.

        size, age_s   limits of all segments together; None: none
        header        gives what a segment begins with

        Raises BackendError, also if another process has it open.
        """
        self.folder = folder
        self._segment_size, self._size, self._age_s = segment_size, size, age_s
        self._header = header
        self.removed = self.unwritten = 0
        self.is_full = False
        self._file: int | None = None
        self._begun = 0
        """The place where the open segment begins."""
        self._noted = -NOTE_S
        self._checked = time.monotonic()
        self._clock = EvenClock()
        self._closed: dict[int, float] = {}
        """When segments of this process were closed, by the monotonic clock, by their start."""
        with as_backend_error("write", str(folder)):
            (folder / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(folder)
        try:
            self.id = identity(folder, make=True)
            self.end, self.last_ns = self._recovered()
        except BaseException:
            self.close()
            raise

    def _recovered(self) -> tuple[int, int | None]:
        """Cut off an incomplete block at the end: where the journal ends, and when it was written.

        A segment without a complete block is removed.
        """
        while there := segments(self.folder):
            last = there[-1]
            with as_backend_error("write", str(last.path)):
                end, size = valid_end(last.path), last.size()
                written_ns = last.path.stat().st_mtime_ns
                if end < size:
                    notes.warning("%s: its last %d bytes are no complete block, and are cut off",
                                  last.path, size - end)  # fmt: skip
                    os.truncate(last.path, end)
                    os.utime(last.path, ns=(written_ns, written_ns))
                if end or len(there) == 1:
                    return last.start + end, written_ns
                os.unlink(last.path)
        return 0, None

    # Segments

    def ready(self) -> bool:
        """Have a segment with room open, unless the disk is full; whether it is a new one, which
        begins with the header. BackendError.
        """
        if self._file is not None and self.end - self._begun < self._segment_size:
            if time.monotonic() - self._checked >= CHECK_S:
                self.trim()
            return False
        return self.rotate()

    def rotate(self) -> bool:
        """Begin a new segment; False if the disk is full. BackendError."""
        self._close_file()
        there = segments(self.folder)
        if there and there[-1].start == self.end:  # without a byte, from a run that was killed
            with contextlib.suppress(OSError):
                os.unlink(there[-1].path)
        segment = segment_at(self.folder, self.end)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        self._begun = self.end
        try:
            self._file = os.open(segment.path, flags, 0o600)
        except OSError as error:
            if error.errno not in FULL:
                raise BackendError(f"cannot write {segment.path}: {error.strerror}") from error
            self._is_out_of_room(error.strerror or "", 0)
            return False
        header, before = self._header(), self.unwritten
        if self.append([header]):
            self.unwritten = before  # which counts what was received
            self.abandon()
            with contextlib.suppress(OSError):
                os.unlink(segment.path)
        self.trim()
        return self._file is not None

    def abandon(self) -> None:
        """Write no more to the segment that is open: what describes the packets that follow is not
        in it. The next call of `ready` begins another one.
        """
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            self._closed[self._begun] = time.monotonic()
            os.close(file)

    def trim(self) -> None:
        """Remove the oldest segments that are beyond the limits."""
        self._checked = time.monotonic()
        there = segments(self.folder)
        while len(there) > 1:
            first = there[0]
            too_large = self._size is not None and self.end - first.start > self._size
            if not (too_large or self._is_old(first)) or first.start >= self._begun:
                return
            self._remove(there.pop(0), there[0].start)

    def _is_old(self, segment: Segment) -> bool:
        """Whether a segment was written last before the time that is kept."""
        if self._age_s is None:
            return False
        closed = self._closed.get(segment.start)
        if closed is not None:
            return time.monotonic() - closed > self._age_s
        try:
            return segment.path.stat().st_mtime < self._clock.now() - self._age_s
        except OSError:
            return True

    def _remove(self, segment: Segment, end: int) -> None:
        self._closed.pop(segment.start, None)
        with contextlib.suppress(OSError):
            os.unlink(segment.path)
        self.removed += end - segment.start

    # Appending

    def append(self, parts: Sequence[bytes | memoryview]) -> int:
        """Append packets of three parts each, or complete blocks of one part; how many of their
        bytes could not be written because the disk is full. BackendError for other errors.
        """
        size = sum(map(len, parts))
        if self._file is None:
            self.unwritten += size
            return size
        try:
            if len(parts) <= MOST_PARTS:
                written = os.writev(self._file, parts)
            else:
                written = os.write(self._file, b"".join(parts))
        except OSError as error:
            if error.errno not in FULL:
                raise BackendError(f"cannot write the journal: {error.strerror}") from error
            written = 0
        self.end += written
        if written == size:
            self.is_full = False
            return 0
        return self._append_rest(parts, written)

    def _append_rest(self, parts: Sequence[bytes | memoryview], written: int) -> int:
        """Write what a full disk, or a signal, left of the parts; how many bytes are lost."""
        data = b"".join(parts)
        while written < len(data):
            assert self._file is not None
            try:
                count = os.write(self._file, memoryview(data)[written:])
                written, self.end = written + count, self.end + count
                continue
            except OSError as error:
                if error.errno not in FULL:
                    raise BackendError(f"cannot write the journal: {error.strerror}") from error
                reason = error.strerror
            there = segments(self.folder)
            if len(there) > 1 and there[0].start < self._begun:
                self._remove(there[0], there[1].start)
                self._note_full(f"{reason}: its oldest segments are removed")
                continue
            complete = _complete(parts, written)
            self._cut(written - complete)
            self._is_out_of_room(reason or "", len(data) - complete)
            return len(data) - complete
        self.is_full = False
        return 0

    def _is_out_of_room(self, reason: str, size: int) -> None:
        """So many bytes are lost, because nothing can be removed any more."""
        self.unwritten += size
        self.is_full = True
        self._note_full(f"{reason}: what is received is lost, {self.unwritten} bytes so far")

    def _cut(self, size: int) -> None:
        """Take back the last bytes, part of a block."""
        if size and self._file is not None:
            os.ftruncate(self._file, self.end - size - self._begun)
            self.end -= size

    def _note_full(self, text: str) -> None:
        now = time.monotonic()
        if now - self._noted >= NOTE_S:
            self._noted = now
            notes.warning("cannot write the journal in %s: %s", self.folder, text)

    def close(self) -> None:
        """Close the segment and give the journal to other processes; a second call does nothing."""
        self._close_file()
        if self._lock is not None:
            lock, self._lock = self._lock, None
            os.close(lock)


def _complete(parts: Sequence[bytes | memoryview], written: int) -> int:
    """How many of the written bytes are complete packets, of three parts or of one."""
    end = complete = 0
    step = 3 if len(parts) % 3 == 0 else 1
    for i in range(0, len(parts), step):
        end += sum(map(len, parts[i : i + step]))
        if end > written:
            break
        complete = end
    return complete


def _locked(folder: Path) -> int | None:
    """The descriptor that holds the lock of a journal; BackendError if another process has it."""
    path = folder / "lock"
    with as_backend_error("write", str(path)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows, which has no sources that a journal is for
        pass
    except OSError as error:
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        by = f" by process {owner}" if owner.isdecimal() else ""
        raise BackendError(f"the journal in {folder} is in use{by}") from error
    with contextlib.suppress(OSError):  # a full disk has no room for it
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
    return descriptor
