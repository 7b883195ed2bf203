"""The errors of pylog: one class for each party at fault.

`DecodeError` blames the bytes, `BackendError` the system, and Python's own `ValueError` the caller.
"""

from __future__ import annotations


class DecodeError(Exception):
    """Bytes that are not what their format says.

    offset    where the field (or the message) starts, in bytes from the start of the input
    field     the field's name in its C header, or the header itself
    found     what the bytes say
    expected  what the format allows there
    path      the input's name, filled in by the reader
    """

    def __init__(
        self,
        field: str,
        found: object,
        expected: object,
        offset: int,
        path: str | None = None,
    ) -> None:
        super().__init__(field, found, expected, offset, path)
        self.field = field
        self.found = found
        self.expected = expected
        self.offset = offset
        self.path = path

    def again(self, path: str | None = None) -> DecodeError:
        """The same error anew, to be raised; it may name the input.

        What is raised holds the frames it passed, and so must not be what a Damage holds.
        """
        return DecodeError(self.field, self.found, self.expected, self.offset, path or self.path)

    @property
    def reason(self) -> str:
        """The message without the place: what was found and what was expected."""
        return f"{self.field} {self.found}, but expected {self.expected}"

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.reason} at offset {self.offset}"


class BackendError(Exception):
    """The system refused an operation; the OSError, where there was one, is the cause."""


class BackendUnavailable(BackendError):
    """What is needed is not on this machine: a device, a kernel feature or an optional package."""
