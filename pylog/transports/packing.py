"""Compressed files, written as a stream: with gzip (.gz) or zstd (.zst), by the ending of the name.

A flush ends a block, so that what was written before it can be read, whatever happens to the rest.
What is appended is a member of its own, which every reader of the two forms reads on with. The
opposite, with more forms, is in pylog.backends.unpack.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

SUFFIXES = (".gz", ".zst")
"""The endings of compressed files, which stand behind the ending of what is compressed."""

LONGEST_LINE = 1 << 16
"""The most bytes of a first line."""


def without_suffix(path: str) -> tuple[str, str]:
    """A path without the suffix of a compression, and that suffix, "" if it has none."""
    suffix = next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), "")
    return path[: len(path) - len(suffix)], suffix


def packed(raw: BinaryIO, suffix: str) -> Any:
    """A stream that compresses into another, which stays open when it is closed; for "", the other
    itself. BackendUnavailable without the library.
    """
    if suffix == ".gz":
        import gzip

        return gzip.GzipFile(fileobj=raw, mode="wb", filename="")
    if suffix == ".zst":
        from pylog.backends.unpack import zstd

        return zstd().ZstdFile(raw, mode="wb")
    return raw


def closing(stream: Any, suffix: str) -> bytes:
    """What completes a stream of `packed` behind its last flush, if nobody closes it."""
    if suffix == ".gz":  # an empty last block, then CRC32 and ISIZE (RFC 1951, RFC 1952)
        return b"\x03\0" + struct.pack("<II", stream.crc, stream.size & 0xFFFFFFFF)
    return b"\x01\0\0" if suffix else b""  # an empty last block (RFC 8878), without a checksum


def unpacked(path: str) -> Any:
    """A file, open for reading, unpacked if it has a suffix. OSError, BackendUnavailable without
    the library; what it reads may end with EOFError.
    """
    suffix = without_suffix(path)[1]
    if suffix == ".gz":
        import gzip

        return gzip.open(path)
    if suffix == ".zst":
        from pylog.backends.unpack import zstd

        return zstd().ZstdFile(path)
    return open(path, "rb")


def first_line(path: str) -> bytes:
    """The first line of a file, unpacked if it has a suffix; b"" if it cannot be read."""
    try:
        with unpacked(path) as file:
            line: bytes = file.readline(LONGEST_LINE)
            return line
    except (OSError, EOFError, ValueError):  # what writes to it reports why
        return b""
