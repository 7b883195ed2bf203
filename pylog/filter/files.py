"""The entries of a set that is a file: one a line, with comments after #.

The size of a file and the number of its entries are limited, because a filter holds them all.
"""

from __future__ import annotations

from pylog.filter import syntax
from pylog.filter.names import TEXTS, Domain

LARGEST = 1 << 26
"""A file has at most so many bytes."""
MOST = 1_000_000
"""A file has at most so many entries."""


def entries_of(path: str, domain: Domain) -> list[syntax.Literal | syntax.Span]:
    """The entries of a file; the place of each is the number of its line. ValueError.

    Of texts a line is one entry, with all its blanks inside and every #; a line that begins with #
    is a comment.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"cannot read {path}: {reason}") from None
    if len(data) > LARGEST:
        raise ValueError(f"{path} has more than {LARGEST >> 20} MiB")
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    entries: list[syntax.Literal | syntax.Span] = []
    for number, line in enumerate(lines, 1):
        text = line if domain in TEXTS else line.partition("#")[0]
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        entries.append(_entry(text, number, domain))
        if len(entries) > MOST:
            raise ValueError(f"{path} has more than {MOST} entries")
    return entries


def _entry(text: str, line: int, domain: Domain) -> syntax.Literal | syntax.Span:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return syntax.Literal(text[1:-1], True, line)
    low, dots, high = text.partition("..")
    if dots and domain != "text":
        first, last = (syntax.Literal(part.strip(), False, line) for part in (low, high))
        return syntax.Span(first, last)
    return syntax.Literal(text, False, line)
