"""Where a file that grows certainly ends, so that what was written after that can be taken back.

A process that is killed, or a disk that becomes full, may leave half a record at the end of a file,
or a compressed stream without an end: what is appended later could not be read. Who keeps the end
of the file with what is certainly in it can cut the rest off, and complete the stream.
"""

from __future__ import annotations

import contextlib
import os
import stat

import msgspec

from pylog.errors import as_backend_error
from pylog.transports.packing import closing
from pylog.transports.rotation import File


class End(msgspec.Struct, frozen=True):
    """The certain end of a file.

    inode     of the file, as its name may be another file's later
    size      in bytes
    closing   what completes its compression there
    """

    path: str
    inode: int
    size: int
    closing: bytes = b""


def end_of(file: File) -> End | None:
    """The end of a file after a flush of its output; None for what is no regular file. OSError."""
    file.raw.flush()
    about = os.fstat(file.raw.fileno())
    if not stat.S_ISREG(about.st_mode):
        return None
    begun = about.st_size > file.begins_at
    return End(
        file.path, about.st_ino, about.st_size, closing(file.stream, file.suffix) if begun else b""
    )


def mend(end: End) -> int:
    """Take back what was written after the end; how many bytes. A file that is gone, shorter, or
    another one stays as it is. BackendError.
    """
    with (
        as_backend_error("write", end.path),
        contextlib.suppress(FileNotFoundError),
        open(end.path, "r+b", buffering=0) as file,
    ):
        about = os.fstat(file.fileno())
        if about.st_ino == end.inode and about.st_size >= end.size:
            file.truncate(end.size)
            file.seek(end.size)
            file.write(end.closing)
            return about.st_size - end.size
    return 0
