"""Verdicts of Linux: the actions that the prefixes of NFLOG rules stand for.

NFLOG does not say what becomes of a packet, but the prefix of a rule usually does. Patterns turn it
into the `action` that records of IPFilter have, before a record is written:

    actions = Actions({"drop*": "block", "*": "pass"})
    for record in map(actions.record, reader): ...

The first pattern that matches counts, the prefix as it is or without the blanks at its end, which
many rules have and nobody sees. A prefix that no pattern matches gives no action.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec

from pylog.memo import Memo
from pylog.nearest import advice
from pylog.record import PacketRecord, PacketRow

WORDS = ("pass", "block", "log")
"""The actions that a prefix may stand for."""
MOST, LONGEST = 1000, 200
"""So many prefixes are counted, and so many characters of each."""

R = TypeVar("R", bound=msgspec.Struct)


class Actions:
    """Patterns of prefixes (as in fnmatch), and the action of each.

    patterns    the action of each pattern
    unmatched   the patterns that no packet matched so far, also not after another pattern
    prefixed    whether there was a packet with a prefix
    prefixes    of packets without a verdict of their own, up to MOST different ones, and how often
                each was counted; "" for none. Where packets are read by patterns, less often
    """

    def __init__(self, patterns: Mapping[str, str]) -> None:
        """ValueError for an action that does not exist."""
        self.patterns = dict(patterns)
        for action in self.patterns.values():
            if action not in WORDS:
                raise ValueError(f"no action {action!r}{advice(action, WORDS)}")
        self.unmatched = set(self.patterns)
        self.prefixed = False
        self.prefixes: Counter[str] = Counter()
        self._of: Memo[str, str | None] = Memo(self._matching)

    def __reduce__(self) -> tuple[Any, ...]:
        return Actions, (self.patterns,)

    def of(self, prefix: str | None) -> str | None:
        """The action of a prefix, None if no pattern matches. A record without one has ""."""
        return self._of[prefix or ""]

    def count(self, prefix: str | None, number: int = 1) -> None:
        """Count packets with a prefix."""
        prefix = (prefix or "")[:LONGEST]
        if prefix in self.prefixes or len(self.prefixes) < MOST:
            self.prefixes[prefix] += number

    def _matching(self, prefix: str) -> str | None:
        self.prefixed |= prefix != ""
        short = prefix.rstrip()
        matching = [
            pattern
            for pattern in self.patterns
            if fnmatchcase(prefix, pattern) or fnmatchcase(short, pattern)
        ]
        self.unmatched.difference_update(matching)
        return self.patterns[matching[0]] if matching else None

    def record(self, record: R) -> R:
        """A packet of NFLOG, also as a row, with its action; every other record as it is."""
        if not isinstance(record, PacketRecord | PacketRow):
            return record
        if record.source == "ipl" or record.action is not None:
            return record
        self.count(record.prefix)
        action = self.of(record.prefix)
        return record if action is None else msgspec.structs.replace(record, action=action)
