"""Answers as tables for people, and as rows for programs.

A row for a program has the keys, `count`, `at_most` (where it differs for any group), `records`,
sums, distinct counts, `first` and `last`. Beneath a table for people stands what it does not
contain: further groups, other kinds of record, and losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pylog.formats.ip_numbers import PROTOCOL_NAMES
from pylog.record import rfc3339
from pylog.stats.keys import BUCKET
from pylog.stats.result import Answer, Group, distinct_name
from pylog.zones import Clock

WIDEST = 60
"""The most characters of a cell; a longer text is cut, with an ellipsis."""
EARLY, FEW = 0.02, 5
"""So early in the time that a table spans, `first` mostly says when the log begins; where at least
half of the groups, and so many, begin then, the table says so."""
SECOND = len("2023-11-14T22:14:21")


def rows(answer: Answer, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Groups as rows for programs; times are nanoseconds since 1970 UTC."""
    question = answer.question
    found = []
    for group in groups:
        row: dict[str, Any] = dict(zip(answer.names, group.keys, strict=True))
        row["count"] = group.count
        if answer.floor:
            row["at_most"] = group.at_most
        row["records"] = group.records
        row |= dict(zip(question.sums, group.sums, strict=True))
        row |= dict(zip(map(distinct_name, question.distinct), group.distinct, strict=True))
        row["first"], row["last"] = group.first_ns, group.last_ns
        found.append(row)
    return found


TIMES = (BUCKET, "first", "last", "timestamp", "observed", "start", "stop")
"""The columns of rows that are times."""


def with_texts(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its times as RFC 3339 texts."""
    return {
        name: rfc3339(value) if name in TIMES and isinstance(value, int) else value
        for name, value in row.items()
    }


def table(answer: Answer, groups: Sequence[Group], clock: Clock | None = None) -> list[str]:
    """Groups as a table for people, a line for the heads and one for each group.

    clock   puts times into a zone; None: they stay in UTC
    """
    question = answer.question
    empty = {
        i for i in range(len(answer.names))
        if len(answer.names) > 1 and all(group.keys[i] is None for group in groups)
    }  # fmt: skip
    inexact = any(group.at_most > group.count for group in groups)
    folded = any(group.records != group.count for group in groups)
    heads = [*answer.names, "count"]
    heads += ["at most"] * inexact + ["share"] + ["records"] * folded
    heads += [*question.sums, *(_plural(names) for names in question.distinct), "first", "last"]
    lines = [_without(heads, empty)]
    for group in groups:
        cells = [cell(name, value, clock) for name, value in zip(answer.names, group.keys,
                                                                 strict=True)]  # fmt: skip
        cells.append(f"{group.count:,}")
        cells += [f"{group.at_most:,}"] * inexact
        cells.append(f"{group.count / answer.count:.1%}" if answer.count else "-")
        cells += [f"{group.records:,}"] * folded
        cells += [f"{number:,}" for number in (*group.sums, *group.distinct)]
        cells += [time_text(time, clock) for time in (group.first_ns, group.last_ns)]
        lines.append(_without(cells, empty))
    texts = len(answer.names) - len(empty)
    return aligned(lines, set(range(texts, len(lines[0]) - 2)))


def _without(cells: list[str], empty: set[int]) -> list[str]:
    """The cells without those of keys that no group has."""
    return [text for i, text in enumerate(cells) if i not in empty]


def aligned(lines: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Cells in columns of equal width, those in `right` flush right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def cell(name: str, value: Any, clock: Clock | None = None) -> str:
    """The value of a key for people."""
    if value is None:
        return "-"
    if name in TIMES:
        return time_text(value, clock)
    if name == "protocol" and value in PROTOCOL_NAMES:
        return PROTOCOL_NAMES[value]
    if name == "hour":
        return f"{value:02}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def time_text(time_ns: int | None, clock: Clock | None) -> str:
    """A time to the second, with its zone."""
    if time_ns is None:
        return "-"
    text = rfc3339(time_ns)
    text = f"{text[:SECOND]}Z"
    return text if clock is None else clock.text(text)


def _plural(names: Sequence[str]) -> str:
    """The head of a count of distinct values."""
    return " ".join(f"{name}s" for name in names) if len(names) == 1 else "+".join(names)


def beneath(answer: Answer, shown: Sequence[Group]) -> list[str]:
    """What a table does not contain of its answer, in sentences."""
    lines = []
    others = answer.in_all - len(shown)
    if others > 0:
        count = answer.count - sum(group.count for group in shown)
        dropped = ", with those that are not kept," if answer.floor else ""
        share = count / max(answer.count, 1)
        lines.append(f"and {others:,} more{dropped} with {count:,} ({share:.1%})")
    if answer.floor:
        lines.append(
            f"too many groups to keep them all: counts are at least those shown, and no"
            f" group that is missing has more than {answer.floor:,}"
        )
    if answer.distinct_floor:
        lines.append(f"distinct values may be up to {answer.distinct_floor:,} more than shown")
    return lines


def may_be_older(shown: Sequence[Group], clock: Clock | None) -> list[str]:
    """That groups may be older than their first time, in a sentence, where many begin with the
    log."""
    firsts = [group.first_ns for group in shown if group.first_ns is not None]
    lasts = [group.last_ns for group in shown if group.last_ns is not None]
    if not firsts or not lasts:
        return []
    begin = min(firsts)
    early = sum(first <= begin + EARLY * (max(lasts) - begin) for first in firsts)
    if early < max(FEW, len(shown) / 2):
        return []
    return [
        f"first: counting begins at {time_text(begin, clock)}; {early:,} of those shown were"
        " seen soon after, and may be older"
    ]
