"""Decompression of gzip, xz, bzip2 and zstd as a stream, a piece at a time.

All bytes before an error are given, to the last one, and they do not depend on how the compressed
bytes were cut into pieces. The libraries discard the output of the call that meets the error, so
that call is repeated in smaller steps from an earlier state: zlib can copy its state; for the
others the compressed bytes of a member are kept, up to KEPT.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pylog.errors import missing_extra

CHUNK = 1 << 18
"""The most bytes that are given at a time."""

MEMORY = 80 << 20
"""The memory limit for xz, in bytes; xz -9 needs 65 MiB."""

WINDOW_LOG = 26
"""The largest window of zstd, 64 MiB: only `--ultra -22` and `--long` need more."""

KEPT = 1 << 22
"""The most compressed bytes of a member that are kept."""
PIECE, STEP = 16, 64
"""Bytes fed and given at a time after KEPT bytes of a member: an error then loses few bytes."""

_MAGICS = {
    "gzip": rb"\x1f\x8b",
    "xz": rb"\xfd7zXZ\x00",
    "bzip2": rb"BZh[1-9](?:1A|\x17r)",
    "zstd": rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18",  # the second is a skippable frame
}
LONGEST_MAGIC = 6
"""The length of the longest magic number."""


def compression(first: bytes) -> str | None:
    """The compression of an input with these first bytes: gzip, xz, bzip2, zstd or None."""
    return next((name for name, magic in _MAGICS.items() if re.match(magic, first)), None)


def zstd() -> Any:
    """The module for zstd; BackendUnavailable without it."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise missing_extra("zstd", "zstd") from error
    return zstd


class Unpacker:
    """Decompresses a stream, CHUNK bytes at a time, one compressed member after the other.

    more     whether `take` has something to do before it is fed again
    errors   what `take` raises for damaged data, after it gave all bytes before the damage
    """

    def __init__(self, name: str) -> None:
        """Raises BackendUnavailable when the library for it is not installed."""
        self.errors: tuple[type[Exception], ...] = (EOFError,)
        if name == "gzip":
            import zlib

            self._make: Callable[[], Any] = partial(zlib.decompressobj, wbits=31)
            self.errors += (zlib.error,)
        elif name == "xz":
            import lzma

            self._make = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=MEMORY)
            self.errors += (lzma.LZMAError,)
        elif name == "bzip2":
            import bz2

            self._make = bz2.BZ2Decompressor
            self.errors += (OSError,)
        else:
            module = zstd()
            limit = {module.DecompressionParameter.window_log_max: WINDOW_LOG}
            self._make = partial(module.ZstdDecompressor, options=limit)
            self.errors += (module.ZstdError,)
        self._copies = name == "gzip"
        self._decoder: Any = None
        self._input, self._at = b"", 0  # compressed bytes, and how many of them were fed
        self._ended = False
        self._error: Exception | None = None
        self._kept: list[bytes] = []  # the pieces fed of the member, up to KEPT bytes
        self._fed = self._made = 0  # bytes of the member, in and out
        self._remade, self._extra = 0, bytearray()
        self.more = False

    def feed(self, data: bytes) -> None:
        """More compressed bytes."""
        self._input, self._at = self._input[self._at :] + data, 0
        self.more = True

    def end(self) -> None:
        """The source has ended; within a member, `take` raises EOFError after the last bytes."""
        self._ended, self.more = True, self._decoder is not None or self._error is not None

    def take(self) -> bytes:
        """Up to CHUNK bytes; none when more compressed bytes are needed, or at an error."""
        if self._error is not None:
            raise self._error
        if self._decoder is None:
            self._input, self._at = self._input[self._at :].lstrip(b"\0"), 0  # members are padded
            self.more = bool(self._input)
            if not self.more:
                return b""
            self._decoder = self._make()
            self._kept, self._fed, self._made = [], 0, 0
        taken = self._take_copying() if self._copies else self._take_keeping()
        if self._error is not None:
            self.more = True
        elif self._decoder is None:  # another member may follow
            self.more = self._at < len(self._input)
        elif self._ended and not self.more:
            self._error, self.more = EOFError("cut off: the file ends within it"), True
        return taken

    def _take_copying(self) -> bytes:
        decoder, before, data = self._decoder, self._decoder.copy(), self._input[self._at :]
        try:
            taken: bytes = decoder.decompress(data, CHUNK)
        except self.errors as error:
            self._error = error
            return _up_to_error(before, data, self.errors)
        # at the end of a member zlib has what follows in `unused_data`, and maybe here as well
        self._input, self._at = b"" if decoder.eof else decoder.unconsumed_tail, 0
        self.more = bool(self._input) or len(taken) == CHUNK
        self._at_end()
        return taken

    def _take_keeping(self) -> bytes:
        decoder, parts, size = self._decoder, list[bytes](), 0
        try:
            while size < CHUNK and not decoder.eof:
                data = self._piece() if decoder.needs_input else b""
                if not data and decoder.needs_input:
                    break
                step = STEP if self._fed > KEPT else CHUNK - size
                part = decoder.decompress(data, step)
                parts.append(part)
                size += len(part)
                self._made += len(part)
        except self.errors as error:
            self._error = error
            if self._kept:
                parts.append(self._remake())
        self.more = size >= CHUNK
        self._at_end()
        return b"".join(parts)

    def _piece(self) -> bytes:
        """The next bytes to feed; after KEPT bytes they do not depend on how the input was cut."""
        left, here = KEPT - self._fed, len(self._input) - self._at
        if left <= 0:
            self._kept, left = [], PIECE
            if here < PIECE and not self._ended:
                return b""
        piece = self._input[self._at : self._at + left]
        self._at += len(piece)
        self._fed += len(piece)
        if self._fed <= KEPT and piece:
            self._kept.append(piece)
        return piece

    def _at_end(self) -> None:
        """Drop the decoder if the member has ended: another member may follow."""
        if self._decoder.eof:
            self._input = self._decoder.unused_data + self._input[self._at :]
            self._decoder, self._at = None, 0

    def _remake(self) -> bytes:
        """The output between the last bytes given and the error.

        The error is in the piece fed last: it is fed byte by byte to find the byte in error, then
        once more up to that byte.
        """
        *before, last = self._kept
        decoder = self._fresh(before)
        for at in range(len(last)):
            try:
                for _ in _parts(decoder, last[at : at + 1], CHUNK):
                    pass
            except self.errors:
                break
        decoder = self._fresh([*before, last[:at]])
        output, skip = bytearray(), self._made - self._remade
        try:
            for part in _parts(decoder, last[at : at + 1], 1):
                output += part
        except self.errors:
            pass
        return bytes(self._extra + output[max(0, skip) :])

    def _fresh(self, pieces: list[bytes]) -> Any:
        """A decoder that was fed the pieces; output beyond `_made` bytes is put into `_extra`."""
        decoder, self._remade, self._extra = self._make(), 0, bytearray()
        for part in _parts(decoder, b"".join(pieces), CHUNK):
            self._remade += len(part)
            self._extra += part[max(0, len(part) - max(0, self._remade - self._made)) :]
        return decoder


def _parts(decoder: Any, data: bytes, size: int) -> Iterator[bytes]:
    """The output for the data, at most so many bytes at a time."""
    yield decoder.decompress(data, size)
    while not (decoder.needs_input or decoder.eof):
        yield decoder.decompress(b"", size)


def _up_to_error(decoder: Any, data: bytes, errors: tuple[type[Exception], ...]) -> bytes:
    """The output of zlib up to an error: first in pieces, then byte by byte."""
    output = bytearray()
    for size in (1024, 1):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        for piece in pieces:
            before = decoder.copy() if size > 1 else decoder
            try:
                output += decoder.decompress(piece)
            except errors:
                decoder, data = before, piece
                break
    return bytes(output)
