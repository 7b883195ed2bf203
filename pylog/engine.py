"""Which engine decodes messages and makes their output: columns, many at once, or rows.

The decision is here alone. Columns are several times as fast for many messages, and slower for few:
each run of them costs a few milliseconds however short it is, and loading NumPy and pyarrow costs
more than decoding a small file. So the number of bytes decides. The output is the same.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

OF_FILE = 1 << 24
"""How many bytes a file must have: of fewer, loading NumPy and pyarrow takes longer."""

OF_RUN = 1 << 18
"""How many bytes that are at hand must have, where both are loaded."""


@cache
def installed() -> bool:
    """Whether the extra that columns need is installed."""
    return None not in (find_spec("numpy"), find_spec("pyarrow"))


def file_by_columns(size: int) -> bool:
    """Whether a file of so many bytes is to be read by columns."""
    return size >= OF_FILE and installed()


def run_by_columns(size: int) -> bool:
    """Whether so many bytes of messages, which are at hand, are to be decoded by columns."""
    return size >= OF_RUN
