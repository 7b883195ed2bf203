"""Text logs: lines of firewalls, among lines of other programs, as records.

This module says which inputs are text logs. What reads them is `textlog_stream`, which is imported
when there is one: its grammars would slow down the start of every program that reads other logs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pylog.formats import Guess, Message
from pylog.formats.ipfw import LAYOUT as IPFW_CAPTURE
from pylog.record import Record

if TYPE_CHECKING:
    from pylog.formats.textlog_stream import TextStream

NAME = "textlog"
LINKTYPES: tuple[int, ...] = ()
LAYOUT = "text"
LOOKED_FOR = "lines of ipmon, the kernel's LOG, ipfw, filterlog, tcpdump of pflog or LOGEMU"
SOURCES = ("kernel-log", "logemu", "ipmon", "ipfw", "filterlog", "tcpdump")
"""The sources of records that a text log gives."""

WORDS = (
    b"IN=", b'"MESSAGE"', b"ipfw: ", b"rule ", b"STATE:", b"NAT:", b" @", b",in", b",out,",
    b",fwd,",
)  # fmt: skip
"""A line of every program has one of these; they are looked for first, which is faster."""
HINT = re.compile(
    rb"IN=|\"MESSAGE\"|ipfw: |rule |STATE:|NAT:| @\S{1,20}:-?\d+ |,(?:in|out|in/out|fwd),[46],"
)
"""A line of every program has one of these."""


def is_of_text(record: Record) -> bool:
    """Whether a record is of a text log: ipfw is also the source of captures."""
    return record.source in SOURCES and record.layout != IPFW_CAPTURE


def stream(name: str, head: bytes = b"") -> TextStream:
    """The stream of the layout text; ValueError for another name."""
    from pylog.formats.textlog_stream import TextStream

    if name != LAYOUT:
        raise ValueError(f"no layout {name!r}; there is {LAYOUT}")
    return TextStream()


def layout_names() -> list[str]:
    """The names of all layouts that can be named."""
    return [LAYOUT]


def cut(data: bytes) -> str | None:
    """None: a line that is cut off is read as far as it goes."""
    return None


def probe(head: bytes, final: bool) -> list[Guess]:
    """Read the first bytes as a text log; none if no line is of a firewall."""
    if not any(word in head for word in WORDS) or HINT.search(head) is None:
        return []
    from pylog.formats.textlog_stream import TextStream

    trial = TextStream()
    trial.prompt = True
    items = trial.split(head, final)
    lines = [item for item in items if isinstance(item, Message)]
    if not lines:
        return []
    forms: dict[str, int] = {}
    for line in lines:
        layout = trial.decode(head, line).layout
        forms[layout] = forms.get(layout, 0) + 1
    listed = ", ".join(f"{form} ({count})" for form, count in sorted(forms.items()))
    others = "line" if trial.other == 1 else "lines"
    return [
        Guess(
            stream=TextStream,
            container=TextStream.container,
            layouts=[LAYOUT],
            messages=len(lines),
            explained=sum(line.end - line.start for line in lines),
            evidence=[f"lines by their form: {listed}",
                      f"{trial.other} other {others} among them"],
        )
    ]  # fmt: skip
