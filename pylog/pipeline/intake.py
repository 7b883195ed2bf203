"""An open source of a receiver: what describes its messages, what was received, and what was lost.

The layout of what a source gives may be certain from the beginning, or is detected. A loss waits
here until it can be written where it belongs, before the next record.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from pylog.backends.base import Backend
from pylog.detect import detect
from pylog.errors import DecodeError
from pylog.formats import HEAD
from pylog.pipeline.blocks import Packer, SourceInfo
from pylog.pipeline.config import Source

MOST_GAPS = 64
"""How many different losses wait until they can be written, at most; others become one."""


class Interface(NamedTuple):
    """An interface of the section.

    number   of it
    """

    number: int
    info: SourceInfo
    packer: Packer


class Totals(msgspec.Struct):
    """What was received of a source.

    openings   how often it was opened
    receipts   how often something was received, and `bytes` of it
    overruns   how often the system reported a loss
    cpu_s      of receiving it and passing it on
    """

    openings: int = 0
    receipts: int = 0
    bytes: int = 0
    overruns: int = 0
    cpu_s: float = 0.0

    def add(self, other: Totals) -> None:
        """Count another one here, too."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Intake:
    """An open backend of a source.

    totals     what was received since it is open
    knows_processes   whether it can be asked who made a commit
    """

    def __init__(self, source: Source, part: int, backend: Backend) -> None:
        self.source, self.part, self.backend = source, part, backend
        self.session = time.time_ns()
        self.info: SourceInfo | None = None
        self.interfaces: dict[str | int | None, Interface] = {}
        """By the network namespace; None: the source's own."""
        self.names_given = -1
        """The version of the interface names that was written last in this section."""
        self.head = b""
        """What was received before its layout was certain."""
        self.gaps: dict[str, int | None] = {}
        """Why records are missing before the next one, each with how many those are; None:
        unclear. What was written is not among them."""
        self.unwritten = 0
        """The same for bytes that the full disk of the journal has cost."""
        self.totals = Totals(openings=1 if part == 0 else 0)
        self.knows_processes = type(backend).process is not Backend.process
        if backend.layout is not None or source.layout is not None:
            self.info = self._described([backend.layout or source.layout or ""])

    def _described(self, layouts: Sequence[str]) -> SourceInfo:
        backend = self.backend
        return SourceInfo(
            self.source.name, backend.name, self.session, list(layouts), self.part, True,
            dict(backend.logs), backend.numbered or backend.counts_losses, backend.accountable,
            options=dict(self.source.options),
        )  # fmt: skip

    def miss(self, reason: str, count: int | None = None) -> None:
        """Records are missing before the next one."""
        if len(self.gaps) >= MOST_GAPS:
            reason = "other losses"
        before = self.gaps.get(reason, 0)
        self.gaps[reason] = None if count is None or before is None else before + count

    @property
    def number(self) -> int:
        """The number of its first interface."""
        return next(iter(self.interfaces.values())).number

    def detect(self, data: bytes) -> bytes:
        """Detect the layout by what was received: what is to be written then; b"": not yet.

        Raises DecodeError when it cannot be detected.
        """
        self.head += data
        try:
            detection = detect(self.head, True)
        except DecodeError:
            if len(self.head) < HEAD:
                return b""
            raise
        self.info = self._described(detection.layouts)
        data, self.head = self.head, b""
        return data
