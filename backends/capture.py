"""Files, here or at a URL, pipes and standard input, compressed or not.

The first bytes show the compression, which is undone as a stream (`backends.unpack`), so the memory
in use does not depend on the size. gzip, xz and bzip2 are in Python's library; zstd is there from
Python 3.14 on, and before that in the extra `zstd`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from pylog.backends.base import Backend, Check, Source, check_source, readable
from pylog.backends.files import is_url, open_url
from pylog.backends.unpack import CHUNK, LONGEST_MAGIC, Unpacker, compression, zstd
from pylog.errors import BackendError, BackendUnavailable, DecodeError
from pylog.options import Option
from pylog.zones import zone_of

NAME = "capture"
HELP = "a file, a pipe, an fsspec URL or - for standard input; the prefix capture: is optional"
OPTIONS: tuple[Option, ...] = (
    Option("follow", bool, False,
           "at the end of a file wait for more, as tail -F does: after a rotation in the new file"),
    Option("log_tz", str, None, "of text logs: the time zone of times that do not state it, as"
           " Europe/Oslo, or local", absent="unknown, and such times are no `timestamp`"),
    Option("year", int, None, "of text logs with --log-tz: the year of the first line without one",
           1970, 9999, absent="the newest in which no line lies after the file was written"),
)  # fmt: skip


def connect(
    address: str | os.PathLike[str] | BinaryIO, options: Mapping[str, Any]
) -> list[Backend]:
    """The file, pipe or file object as a backend.

    Raises BackendError when it cannot be opened, ValueError when it cannot be followed, for a time
    zone that does not exist, and for a year without a zone.
    """
    log_tz = options.get("log_tz")
    check_times(log_tz, options.get("year"))
    backend = _opened(address, options)
    backend.log_tz, backend.year = log_tz, options.get("year")
    return [backend]


def check_times(log_tz: str | None, year: int | None) -> None:
    """ValueError for a time zone that does not exist, and for a year without a zone."""
    if log_tz is not None:
        zone_of(log_tz)
    elif year is not None:
        raise ValueError("year is for times of a text log whose zone is stated: give log_tz, too")


def _opened(address: str | os.PathLike[str] | BinaryIO, options: Mapping[str, Any]) -> Backend:
    """The backend, followed if the options say so."""
    if options.get("follow") and isinstance(address, str | os.PathLike):
        if is_url(os.fspath(address)):
            raise ValueError(f"{address} is a URL: it cannot be followed")
        if _grows(address):
            return Growing(address)
    return Capture(address)


def _grows(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a regular file or FIFO, which may get more bytes later."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)


def sources() -> list[Source]:
    """The files that can be read here."""
    packed = ["gzip", "xz", "bzip2"]
    with contextlib.suppress(BackendUnavailable):
        zstd()
        packed.append("zstd")
    kinds = "dumps, captures (pcap, pcapng) and text logs"
    return [Source("FILE or -", f"{kinds}, plain or with {', '.join(packed)}")]


def checks() -> list[Check]:
    """Whether all compressed files can be read."""
    try:
        zstd()
    except BackendUnavailable as error:
        return [Check(None, str(error))]
    return [Check(True, "plain, gzip, xz, bzip2 and zstd files can be read")]


class Capture(Backend):
    """Bytes from a path, from "-" (standard input) or from a binary file object.

    compression   gzip, xz, bzip2, zstd or None
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        """Raises BackendError when the file cannot be opened, TypeError for what is none."""
        check_source(source)
        self._source = source  # a file object holds the descriptor: it must not be collected
        self._taken = self._given = 0  # bytes read, and bytes after decompression
        self._owned = isinstance(source, str | os.PathLike) and source != "-"
        self._raw: Any
        if isinstance(source, str | os.PathLike):
            path = os.fspath(source)
            name = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            if path == "-":
                name, self._raw = "standard input", self._standard_input()
            else:
                self._raw = self._open(path)
        else:
            name, self._raw = str(getattr(source, "name", "a file object")), source
        super().__init__(name)
        self.size = self._regular_size() if self._owned or self._raw is not source else None
        self.regular = self._is_regular()
        # a buffered reader may hold bytes that poll does not see: they are taken out first
        self._buffered = not self.regular and isinstance(self._raw, io.BufferedReader)
        self.compression: str | None = None
        self._unpacker: Unpacker | None = None
        self._first = b""
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _standard_input() -> Any:
        if sys.stdin is None:
            raise BackendError("standard input is closed")
        return getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)

    @staticmethod
    def _open(path: str) -> Any:
        try:
            if is_url(path):
                return open_url(path)
            if stat.S_ISDIR(os.stat(path).st_mode):
                raise BackendError(f"{path} is a directory; name a file in it")
            return open(path, "rb", buffering=0)
        except OSError as error:
            hint = ""
            if isinstance(error, FileNotFoundError) and re.fullmatch(r"\w+(:[^/]*)?", path):
                hint = "; a live source is written nflog:GROUP, nftables:, nfct: or ipl:DEVICE"
            raise BackendError(f"cannot open {path}: {error.strerror}{hint}") from error

    def _has_descriptor(self) -> bool:
        try:
            return int(self._raw.fileno()) >= 0
        except (AttributeError, OSError):
            return False

    def _regular_size(self) -> int | None:
        try:
            status = os.fstat(self._raw.fileno())
        except (AttributeError, OSError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        self.modified_s = status.st_mtime
        return status.st_size

    def _is_regular(self) -> bool:
        return self.size is not None or not self._has_descriptor()

    def _begin(self) -> None:
        """Read enough of the first bytes to recognise the compression."""
        first = b""
        while len(first) < LONGEST_MAGIC:
            more = self._read(CHUNK)
            if more:
                first += more
            elif more is not None or self.closed:
                break
            else:
                self._poll(None)
        self.compression = compression(first)
        self._unpacker = None if self.compression is None else Unpacker(self.compression)
        self._first = first

    def rewind(self) -> None:
        """Start again at the first byte of a regular file; BackendError for anything else."""
        if self.size is None:
            raise BackendError(f"{self.name} cannot be read twice: it is no regular file")
        with self.use:
            self._raw.seek(0)
            self._taken = self._given = 0
            self.failure = self._held = None
            self._begin()

    def _read(self, size: int) -> bytes | None:
        """One read and its errors; None when there is nothing yet."""
        if not (self.regular or self._buffered or self._readable()) or self.closed:
            return None
        try:
            data = getattr(self._raw, "read1", self._raw.read)(
                size
            )  # waits for no more than it has
        except OSError as error:
            raise BackendError(f"cannot read {self.name}: {error.strerror}") from error
        except ValueError as error:  # the file object was closed by someone else
            raise BackendError(f"cannot read {self.name}: {error}") from error
        if data is None:  # a nonblocking descriptor
            return None
        if not isinstance(data, bytes):
            raise TypeError(
                f"{self.name} gives {type(data).__name__}, not bytes: open it as binary"
            )
        if self._buffered:
            self._raw, self._buffered = self._raw.raw, False
        self._taken += len(data)
        return data

    def _readable(self) -> bool:
        return self._poll(0)

    def _receive(self) -> bytes | None:
        unpacker = self._unpacker
        if unpacker is None:
            return self._raw_bytes()
        parts: list[bytes] = []
        size = 0
        while size < CHUNK and self.failure is None:
            try:
                if not unpacker.more:
                    if size and not self.regular:
                        break  # give the bytes that have arrived
                    data = self._raw_bytes()
                    if data is None:
                        self._given += size
                        return b"".join(parts) or None
                    if data:
                        unpacker.feed(data)
                    else:
                        unpacker.end()
                        if not unpacker.more:
                            break
                part = unpacker.take()
            except unpacker.errors as error:
                reason = str(error) or type(error).__name__
                self.failure = DecodeError(
                    f"{self.compression} stream", reason, "a complete one", self._given + size
                )
                break
            parts.append(part)
            size += len(part)
        self._given += size
        return b"".join(parts)

    def _raw_bytes(self) -> bytes | None:
        """The next bytes as they are stored; None when there are none yet."""
        if self._first:
            first, self._first = self._first, b""
            return first
        return self._read(CHUNK)

    def read_at(self, offset: int, size: int) -> bytes | None:
        """So many bytes from an offset on, fewer only at the end; receiving goes on after them.

        None for anything but an uncompressed regular file that was opened by its path.
        """
        packed = self._unpacker is not None
        if not self._owned or self.size is None or packed or self.closed:
            return None
        with self.use:
            self._raw.seek(offset)
            self._first, self._taken = b"", offset
            return self._read(size)

    def _pending(self) -> int:
        """Unread bytes as they are stored: of a compressed file, compressed ones."""
        if self.size is not None:
            return len(self._first) + max(0, self.size - self._taken)
        return len(self._first) + _queued(self._raw)

    def position(self) -> int:
        return self._taken

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def _release(self) -> None:
        if self._owned:
            self._raw.close()


class Part(Capture):
    """A regular file from an offset in bytes on; its compression is not undone."""

    def __init__(self, source: str | os.PathLike[str] | BinaryIO, start: int) -> None:
        self._start = start
        super().__init__(source)

    def _begin(self) -> None:
        self._raw.seek(self._start)
        self._taken = self._given = self._start


class Growing(Capture):
    """A file or FIFO whose end is not the end of reading.

    At the end of a file, reading waits for more, by the file's name, as tail -F does: when another
    file has taken the name, or the file gets shorter, this one ends (`receive` gives b"") and
    `proceed` goes on with the other, at its first byte. The other file has to hold something first:
    until then the writer may still have the old one open, as between the steps of logrotate. While
    no file has the name, reading waits for one. At the end of a FIFO, it waits for the next writer.
    """

    deferred = True
    tick_s = 0.5

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self._path = os.fspath(source)
        self._ended = False
        """Whether the file was shortened, or read to its end after another took its name."""
        super().__init__(source)

    def _begin(self) -> None:
        """Waits for nothing; ValueError for a compressed file."""
        if self.size is not None:
            first = self._raw.read(LONGEST_MAGIC)
            self._raw.seek(0)
            if compression(first) is not None:
                raise ValueError(f"{self.name} is compressed: it cannot be followed")

    def _read(self, size: int) -> bytes | None:
        if self._ended:
            return b""
        self.size = self._regular_size()
        if self.size is not None and self.size < self._taken:
            self._ended = True
            return b""
        data = super()._read(size)
        if not data and self.size is not None and self._is_replaced():
            # what was written between the two reads, before the writer opened the other file
            data = super()._read(size)
            self._ended = not data
            return data or b""
        return data or None

    def _is_replaced(self) -> bool:
        """Whether another file has the name, and holds something."""
        try:
            named = os.stat(self._path)
        except OSError:  # there is none at the moment
            return False
        own = os.fstat(self._raw.fileno())
        same = (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)
        return not same and stat.S_ISREG(named.st_mode) and named.st_size > 0

    def proceed(self) -> bool:
        if not self._ended or self.closed or self.stopped:
            return False
        with self.use:
            self._ended = False
            if self.size is not None and self.size < self._taken:
                self._raw.seek(0)
            else:
                try:
                    other = self._open(self._path)
                except BackendError:  # it has gone again: wait for the next one
                    return True
                self._raw.close()
                self._raw = other
                self.size = self._regular_size()
            self._taken = 0
            self.rotations += 1
            self._begin()
        return True

    def _is_regular(self) -> bool:
        return False  # receiving may wait

    def _readable(self) -> bool:
        return bool(readable([self.fileno()], 0))

    def _descriptors(self) -> list[int]:
        return []  # at its end a file, or a FIFO without a writer, is always readable


def _queued(raw: Any) -> int:
    """FIONREAD: how many bytes a pipe or terminal has ready; 0 where that is not supported."""
    try:
        import fcntl
        import termios

        answer = fcntl.ioctl(raw.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(answer, sys.byteorder)
    except (ImportError, OSError, AttributeError):
        return 0
