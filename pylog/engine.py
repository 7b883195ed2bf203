"""Which engine decodes messages and makes their output: columns, many at once, or rows.

The decision is here alone. Columns are several times as fast for many messages, and slower for few:
each run of them costs a few milliseconds however short it is, and loading NumPy and pyarrow costs
more than decoding a small file. So the number of bytes decides. The output is the same.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

OF_FILE = 1 << 23
"""How many bytes a file must have to become lines: of fewer, loading NumPy and pyarrow takes longer
than is gained.
"""

OF_RECORDS = 1 << 24
"""The same to become records, by which less is gained."""

OF_RUN = 1 << 17
"""How many bytes that are at hand must have to become columns, where both are loaded."""

OF_LINES = 3 << 17
"""The same to become lines: rows are faster there."""

GATHERED = 1 << 21
"""How many bytes are enough for a run: with more, a record hardly costs less."""

REST_S = 0.15
"""The longest rest of a reader: less than the kernel's own default delay."""


@cache
def installed() -> bool:
    """Whether the extra that columns need is installed."""
    return None not in (find_spec("numpy"), find_spec("pyarrow"))


def records_by_columns(size: int) -> bool:
    """Whether records of a file of so many bytes, of a format with columns, are made of them."""
    return size >= OF_RECORDS and installed()


def why_rows(size: int | None, has_columns: bool, makes_lines: bool) -> str | None:
    """Why a log is to be read by rows, as the end of a sentence; None: by columns.

    size          of a regular file; None: it is another log
    has_columns   whether there are columns of its format
    makes_lines   whether the output writes a line for each of its records, without a change
    """
    if size is None:
        return "it is no regular file"
    if not has_columns:
        return "its format has no columns"
    if not makes_lines:
        return "its records are needed one by one"
    if not installed():
        return "the extra arrow is not installed"
    return None if size >= OF_FILE else f"it is shorter than {OF_FILE >> 20} MiB"


def run_by_columns(size: int, lines: bool) -> bool:
    """Whether so many bytes of messages, which are at hand, are to be decoded by columns.

    lines   whether they become lines, not columns
    """
    return size >= (OF_LINES if lines else OF_RUN)


class Pace:
    """How long a reader of a live source may rest, so that the next run is worth columns.

    Where little comes it does not rest, so that no record waits for others. It rests while more
    than enough for columns comes in the longest rest, and then no longer than GATHERED bytes take.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._at = float("-inf")
        self.rest_s = 0.0

    def read(self, size: int, now: float) -> None:
        """So many bytes were read since the last call; `rest_s` is how long to rest now.

        now   by the monotonic clock
        """
        rate = size / max(now - self._at, 1e-3)
        self._at = now
        enough = run_by_columns(int(rate * self._longest_s), True)
        self.rest_s = min(self._longest_s, GATHERED / rate) if enough else 0.0
