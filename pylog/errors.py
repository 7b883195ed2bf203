"""The errors of pylog: one class for each party at fault.

`DecodeError` blames the bytes, `BackendError` the system, and Python's own `ValueError` the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EMPTY = "the input is empty"
"""What the error of an input without a byte found."""


class DecodeError(Exception):
    """Bytes that are not what their format says.

    offset    where the field (or the message) starts, in bytes from the start of the input
    field     the field's name in its C header, or the header itself
    found     what the bytes say
    expected  what the format allows there
    path      the input's name, filled in by the reader
    advice    what to do, of an input that is no log
    details   how an input that is no log was examined, for those who ask (pylog read -v)

    An error with advice or details is shown as `found` and the advice, without an offset.
    """

    def __init__(
        self,
        field: str,
        found: object,
        expected: object,
        offset: int,
        path: str | None = None,
        advice: str = "",
        details: str = "",
    ) -> None:
        super().__init__(field, found, expected, offset, path, advice, details)
        self.field = field
        self.found = found
        self.expected = expected
        self.offset = offset
        self.path = path
        self.advice = advice
        self.details = details

    def copy_for_raising(self, path: str | None = None) -> DecodeError:
        """A copy to raise, which may name the input.

        A raised error keeps the frames that it passed, and their data, in memory. So the error that
        a Damage holds is never raised itself.
        """
        return DecodeError(
            self.field, self.found, self.expected, self.offset, path or self.path, self.advice,
            self.details,
        )  # fmt: skip

    @property
    def reason(self) -> str:
        """The message without the offset: what was found and what was expected."""
        return f"{self.field} {self.found}, but expected {self.expected}"

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        if self.advice or self.details:
            return f"{where}{self.found}" + (f"; {self.advice}" if self.advice else "")
        return f"{where}{self.reason} at offset {self.offset}"


class BackendError(Exception):
    """The system refused an operation; if it raised an OSError, that is the cause."""


class BackendUnavailable(BackendError):
    """What is needed is not on this machine: a device, a kernel feature or an optional package."""


def missing_extra(what: str, extra: str) -> BackendUnavailable:
    """The error for a package that is not installed: what needs it, and how to get the extra.

    pylog is not on PyPI, so an extra is installed from a checkout.
    """
    return BackendUnavailable(
        f"{what} needs the extra {extra}; in a checkout of pylog: pip install '.[{extra}]'"
    )


@contextmanager
def as_backend_error(operation: str, name: str) -> Iterator[None]:
    """The context that turns an OSError into BackendError: "cannot OPERATION NAME: REASON"."""
    try:
        yield
    except OSError as error:
        raise BackendError(f"cannot {operation} {name}: {error.strerror or error}") from error
