"""Sentences about what a log does not say: times, verdicts, losses.

Each is made in one place, so that all commands say the same, and say what to do about it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

MOST_PREFIXES = 3
"""So many prefixes a sentence names."""
BLOCKING = ("drop", "block", "reject", "deny")
"""Words of prefixes that mostly stand for this verdict."""
LONGEST = 40
"""Characters of a prefix that it shows."""


def no_time(count: int, lacks_zone: bool, of_table: bool = False) -> str:
    """So many records have no time, and what gives them one.

    lacks_zone   whether they are of a text log, and nobody stated its zone
    of_table     whether they may be of a Parquet or Arrow file, which was made of such a log
    """
    text = "1 record has no time" if count == 1 else f"{count:,} records have no time"
    if lacks_zone:
        text += ": their lines state no zone; give it with --log-tz Europe/Oslo, or --log-tz local"
    elif of_table:
        text += "; if their log was text, convert it again with --log-tz"
    return text


def no_verdict(prefixes: Sequence[tuple[str, int]], counted: bool = True) -> str:
    """The log has no verdicts, and what makes them.

    prefixes   the prefixes of packets and their counts, the most frequent first
    counted    as for `prefixes_text`
    """
    text = "this log does not say what became of a packet"
    names = [prefix for prefix, _ in prefixes if prefix]
    if not names:
        return f"{text}, and its packets have no prefix"
    blocking = [name for name in names if any(word in name.lower() for word in BLOCKING)]
    patterns = dict.fromkeys(map(pattern_of, (blocking or names[:1])[:MOST_PREFIXES]))
    options = " ".join(f"--action {shlex.quote(f'{pattern}=block')}" for pattern in patterns)
    return f"{text}; {prefixes_text(prefixes, counted)}. {options} makes verdicts of prefixes"


def pattern_of(prefix: str) -> str:
    """The pattern of --action for a prefix, and for others that begin like it."""
    stem = prefix[:LONGEST].rstrip().rstrip(":")
    return re.sub(r"([*?[])", r"[\1]", stem) + "*"


def prefixes_text(prefixes: Sequence[tuple[str, int]], counted: bool = True) -> str:
    """The prefixes that were read: the most frequent few; "" if there is none.

    counted   whether their counts are exact, and shown
    """
    there = [(prefix, count) for prefix, count in prefixes if prefix]
    if not there:
        return ""
    named = [
        f"{shown(prefix)} ({count:,})" if counted else shown(prefix)
        for prefix, count in there[:MOST_PREFIXES]
    ]
    more = f" and {len(there) - len(named):,} more" if len(there) > len(named) else ""
    verb = "prefix is" if len(there) == 1 else "prefixes are"
    return f"the {verb} {', '.join(named)}{more}"


def shown(prefix: str) -> str:
    """A prefix between quotes; a long one is cut."""
    return repr(prefix if len(prefix) <= LONGEST else f"{prefix[: LONGEST - 1]}…")


def no_losses(logs: Sequence[str]) -> str:
    """Losses of these logs cannot be seen."""
    which = logs[0] if len(logs) == 1 else f"{len(logs)} of the logs"
    return f"{which} cannot tell whether records were lost"


def losses_left_out(tables: Sequence[str]) -> str:
    """These tables are of logs that lost records, and do not hold the losses."""
    which = tables[0] if len(tables) == 1 else f"{len(tables)} tables"
    return f"records of the log of {which} were lost; pylog convert --kind loss writes the losses"
