"""The text of changes of a ruleset: a block for each commit.

    2026-11-28T19:39:30.515740Z generation 681 by nft (pid 2082)
    - rule inet tr input handle 24: tcp dport 22 log prefix "same" group 5 counter accept
    + rule inet tr input handle 24: tcp dport 22 log prefix "same" group 5 accept

The heading says who made the changes below it and when. An empty line ends a commit. Changes that
no commit announced have headings of their own. Signs are those of a diff.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pylog.formats.nft_lines import DATA_DIFFERS, differ_unseen, entity_line, mark_of, who
from pylog.outputs._text_words import diff_coloured
from pylog.record import escape

_MOST_CHAINS = 1 << 16
"""So many names of chains are kept, to show what was renamed."""


def change_words(record: Any) -> Iterator[str]:
    """A change of a ruleset in a single line, with its commit."""
    if record.op == "new_gen":
        yield "commit" if record.via is None else "empty snapshot"
    else:
        yield mark_of(record)
        yield entity_line(record)
    if record.generation is not None:
        author = who(record)
        yield f"(generation {record.generation}{f' by {author}' if author else ''})"


def step_words(record: Any) -> str:
    """A step of a packet: where it is, what it met, and the verdict if that goes on elsewhere."""
    place = f"{record.family} {record.table} {record.chain}"
    if record.type == "policy":
        return f"{place} policy {record.policy}"
    if record.handle is None:
        return f"{place} end"
    rule = f"{place} handle {record.handle}" + (f": {record.text}" if record.text else "")
    if record.verdict == "continue" or (record.text and str(record.verdict) in record.text):
        return rule
    return f"{rule} -> {record.verdict}{f' {record.target}' if record.target else ''}"


class Commits:
    """Makes the lines of records of a ruleset, which come in their order.

    colour   for a terminal
    """

    def __init__(self, colour: bool) -> None:
        self._colour = colour
        self._heading: tuple[Any, ...] | None = None
        self._chains: dict[tuple[Any, ...], str | None] = {}
        """The names of chains, by their tables and handles."""
        self._replaced: Any = None
        """The last record, if it is the old half of a replaced rule."""

    def text(self, record: Any, time: str) -> str:
        """The line of a record, after a heading where one begins; without the last newline.

        The record of a commit is the empty line at the end of its block.
        """
        if record.op == "new_gen":
            heading, self._heading = self._heading, None
            begun = heading is not None and heading[0] == record.generation
            return "" if begun else f"{self._headline(record, time)}\n"
        lines = []
        heading = (record.generation, record.via, record.origin)
        if heading != self._heading:
            if self._heading is not None:
                lines.append("")
            self._heading = heading
            lines.append(self._headline(record, time))
        line, replaced = entity_line(record, self._old_name(record)), self._replaced
        is_half = record.op == "del_rule" and record.change == "replace"
        self._replaced = record if is_half else None
        follows = record.op == "new_rule" and record.change == "replace"
        if replaced is not None and follows and replaced.handle == record.handle:
            line += f" {DATA_DIFFERS}" if differ_unseen(replaced, record) else ""
        lines.append(self._line(mark_of(record), line))
        return "\n".join(lines)

    def _old_name(self, record: Any) -> str | None:
        """The name of a chain before this record of it; None if it is not available."""
        if record.op != "new_chain" or record.handle is None:
            return None
        if len(self._chains) > _MOST_CHAINS:
            self._chains.clear()
        identity = (record.origin, record.family, record.table, record.handle)
        old, self._chains[identity] = self._chains.get(identity), record.chain
        return old if record.change == "update" else None

    def _line(self, mark: str, text: str) -> str:
        line = f"{mark} {escape(text)}"
        return diff_coloured(mark, line) if self._colour else line

    def _headline(self, record: Any, time: str) -> str:
        if record.via == "snapshot":
            what = f"snapshot, generation {record.generation}"
            what += ": the ruleset is empty" if record.op == "new_gen" else ""
        elif record.via is not None:
            what = "no commit announced this: a later listing differs"
        elif record.generation is None:
            what = "outside a commit"
        else:
            author = who(record)
            what = f"generation {record.generation}" + (f" by {author}" if author else "")
        if record.incomplete:
            what += " (incomplete: records are lost)"
        if record.partial:
            what += " (a part)"
        text = escape(what if time == "-" else f"{time} {what}")
        return diff_coloured("@", text) if self._colour else text
