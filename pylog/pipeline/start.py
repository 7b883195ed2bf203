"""Where a stack begins in the journal that has no position yet: now, oldest, or a time."""

from __future__ import annotations

from datetime import UTC, datetime

from pylog.nearest import advice

WORDS = ("now", "oldest")


def check_start(text: str) -> None:
    """ValueError for a start that cannot be."""
    start_ns(text)


def start_ns(text: str) -> int | None:
    """The time at which to begin, in nanoseconds since 1970; None for one of the words.

    A time without a zone is in UTC. ValueError for another text.
    """
    if text in WORDS:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        hint = advice(text, WORDS)
        raise ValueError(
            f"start is {text!r}, but must be now, oldest, or a date or time as 2026-11-01 or"
            f" 2026-11-01T12:00:00{hint if 'mean' in hint else ''}"
        ) from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return int(when.timestamp()) * 10**9 + when.microsecond * 1000
