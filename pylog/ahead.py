"""What comes next in a capture: the sequence numbers of each log, as far as they were looked at.

A jump in a log's numbers is a loss, or another machine's log that was merged into the same
interface. Only what follows can tell: if the first log goes on, its records were not lost. So at a
jump the next REACH bytes are read ahead; each message is decoded for that once at most. Where the
bytes come from makes no difference, so a file, a pipe and a table give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from pylog.errors import DecodeError
from pylog.formats import Item, Message, Stream
from pylog.record import queue_of

REACH = 1 << 18
"""How many bytes of a capture are looked at after a jump: about a thousand NFLOG packets."""

MOST = 1 << 16
"""How many numbers are kept before old ones are dropped."""


class Ahead:
    """The offsets of the numbers that were seen ahead, by interface and log."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, str, int], int] = {}
        self._seen = -1
        """Offset in the input up to which messages were looked at."""

    def add(self, stream: Stream, data: bytes, items: Iterable[Item], end: int) -> None:
        """Look at the messages that begin before `end`, an offset in the input.

        items   what the last `split` of the data gave
        """
        for item in items:
            if not isinstance(item, Message) or stream.base + item.start <= self._seen:
                continue
            if stream.base + item.start >= end:
                break
            self._seen = stream.base + item.start
            try:
                record = stream.decode(data, item)
            except DecodeError:
                continue
            if record.seq is not None:
                key = item.origin.interface, queue_of(record), record.seq
                self._last[key] = self._seen

    def has(self, interface: int, log: str, seq: int, start: int) -> bool:
        """Whether a number was seen at or after `start`."""
        if len(self._last) > MOST:
            self._last = {key: at for key, at in self._last.items() if at >= start}
        return self._last.get((interface, log, seq), -1) >= start
