"""Backends: where the bytes of a log come from. I/O only, one module a source.

A backend understands no byte of a log; it gives them in the order in which they came, and owns the
system calls and their errors.
"""

from __future__ import annotations

from typing import Protocol

from pylog.errors import DecodeError


class Backend(Protocol):
    """A source of bytes.

    name      what the user calls it: a path, "-", later "nflog:5"
    failure   set when the source ended in an error that is no fault of the system: a compressed
              file that is damaged or cut off
    size      the size of the whole source in its own bytes (compressed ones), None if unknown
    regular   it is all there: receiving never waits
    """

    name: str
    failure: DecodeError | None
    size: int | None
    regular: bool

    def receive(self) -> bytes:
        """The next bytes, at least one; b"" at the end. Blocks; raises BackendError."""

    def wait(self, timeout_s: float) -> bool:
        """Whether there is something to receive, or the end, within `timeout_s` seconds."""

    def pending(self) -> int:
        """How many more bytes can be received without waiting, as far as the system tells."""

    def position(self) -> int:
        """How much of `size` has been received."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def close(self) -> None:
        """Let go of the source; a second call does nothing."""
