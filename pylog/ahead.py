"""Looks ahead in a capture for the sequence numbers of each log.

A jump in a log's numbers is a loss, or another machine's log was merged into the same interface.
Only what follows can tell: if the first log goes on, its records were not lost. So at a jump the
next REACH bytes are read ahead, by a copy of the stream that stays ahead of it. Each byte is split
and each message is decoded only once more. A file, a pipe and a table give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pylog.errors import DecodeError
from pylog.formats import Item, Message, Stream

REACH = 1 << 18
"""How many bytes of a capture are looked at after a jump: about a thousand NFLOG packets."""

MOST = 1 << 16
"""How many numbers are kept before old ones are dropped."""

Peek = Callable[[int, int], tuple[bytes, bool]]
"""(offset, size) -> bytes of the input from that offset on, and whether they reach its end.

The offset is where the bytes end that were fed. There may be more bytes than `size`, or fewer if no
more come soon."""


class Ahead:
    """The sequence numbers that were seen ahead, and their offsets.

    seen     offset in the input of the last message that was looked at
    """

    def __init__(self) -> None:
        self._offsets: dict[tuple[int, str, int], list[int]] = {}
        """By interface, log and sequence number."""
        self._count = 0
        self.seen = -1
        self._scout: Stream | None = None
        """The copy of the stream that is ahead."""
        self._position = -1
        """Offset in the input of the first byte that the scout was not given."""
        self._rest = b""
        """What the scout was given and has not split yet."""

    def look(self, stream: Stream, rest: bytes, final: bool, peek: Peek | None, limit: int) -> None:
        """Look at what comes after the last `split` of the stream, up to the offset `limit`.

        rest    the bytes that were fed and are not split yet
        final   whether the input ends after them
        """
        after = stream.base + stream.used
        if self._scout is None or self._position < after:
            self._scout, self._rest, self._position = stream.clone(), b"", after
        if self._position >= limit:
            return
        fed = after + len(rest)
        more, final = (b"", final) if peek is None else peek(fed, limit + REACH - fed)
        more = (rest + more)[self._position - after :]
        data = self._rest + more
        self._position += len(more)
        items = self._scout.split(data, final)
        self._rest = data[self._scout.used :]
        self.add(self._scout, data, items)

    def add(self, stream: Stream, data: bytes, items: Iterable[Item]) -> None:
        """Look at messages of the data, in order; those that were looked at before are skipped."""
        for item in items:
            if not isinstance(item, Message) or stream.base + item.start <= self.seen:
                continue
            self.seen = stream.base + item.start
            try:
                record = stream.decode(data, item)
            except DecodeError:
                continue
            if record.seq is not None:
                key = item.origin.interface, record.log or "", record.seq
                self._offsets.setdefault(key, []).append(self.seen)
                self._count += 1

    def has(self, interface: int, log: str, seq: int, start: int) -> bool:
        """Whether a number was seen in the REACH bytes from `start` on."""
        if self._count > MOST:
            self._offsets = {
                key: late for key, offsets in self._offsets.items()
                if (late := [at for at in offsets if at >= start])
            }  # fmt: skip
            self._count = sum(map(len, self._offsets.values()))
        offsets = self._offsets.get((interface, log, seq), ())
        return any(start <= at < start + REACH for at in offsets)
