"""The reader: records out of any source, with the manners of ipl(4).

Only whole records are given, `read_bytes` gives as many whole raw ones as fit, `pending` is
FIONREAD and `flush` SIOCIPFFB. What cannot be read is counted and told in the stream of records as
a LossRecord, in its place: damaged bytes, gaps in sequence numbers, losses a capture file tells.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, get_args

from pylog.backends import Backend
from pylog.detect import HEAD, Detection, detect
from pylog.errors import DecodeError
from pylog.formats import Damage, Dropped, Item, Message
from pylog.record import FlowRecord, LossRecord, PacketRecord, Record

OnError = Literal["resync", "strict"]
"""What to do about damage: tell it and go on, or stop."""

PATIENCE_S = 1.0
"""How many seconds a source may take for its first HEAD bytes, before what it gave has to do."""


class Reader:
    """Records of one source, in its order; an iterator and a context manager.

    detection   what the source was found to be
    received    records read so far
    malformed   stretches of bytes so far that no record could be made of
    dropped     records known to be lost so far, by sequence numbers or the capture's own count;
                None as long as the source has told neither: then it cannot be known

    Not for use by several threads at a time.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        layout: str | None = None,
        on_error: OnError = "resync",
        raw: bool = False,
    ) -> None:
        """Reads the first bytes and finds out what they are.

        layout     the layout's name, in place of detection
        on_error   "resync": tell damage as a LossRecord and go on; "strict": raise DecodeError
        raw        give each record the bytes it was made of, as `record.raw`
        Raises DecodeError (not a log, or more than one answer), BackendError, ValueError.
        """
        if on_error not in get_args(OnError):
            known = ", ".join(get_args(OnError))
            raise ValueError(f"on_error is {on_error!r}, but must be one of {known}")
        self.backend = backend
        self.received = 0
        self.malformed = 0
        self.dropped: int | None = None
        self._strict = on_error == "strict"
        self._raw = raw
        self._expected: dict[str, int] = {}
        self._told: Dropped | None = None
        self._error: DecodeError | None = None
        self._final = self._closed = self._told_failure = False
        self._head, self.detection = self._begin(layout)
        self._stream = self.detection.stream()
        self._others = [make() for make in self.detection.others]
        self._data = self._rest = b""
        self._items: list[Item] = []
        self._next = 0

    def _begin(self, layout: str | None) -> tuple[bytes, Detection]:
        """The first bytes and what they are.

        HEAD bytes are waited for, but not for long: a log may grow slowly.
        """
        head, tried = self.backend.receive(), 0
        more, deadline = head, time.monotonic() + PATIENCE_S
        while True:
            final = not more
            if not final and len(head) < HEAD:
                left = max(0.0, deadline - time.monotonic())
                # twice as much is to come before it is worth another look
                if len(head) < 2 * tried or (left and self.backend.wait(left)):
                    more = self.backend.receive()
                    head += more
                    continue
            try:
                return head, detect(head, final, layout)
            except DecodeError as error:
                tried = len(head)
                if final or len(head) >= HEAD:
                    error.path = self.backend.name
                    if final and self.backend.failure is not None and not head:
                        raise self.backend.failure.again(self.backend.name) from error
                    raise
                more = self.backend.receive()
                head += more

    @property
    def layout(self) -> str:
        """The layout in use; of a capture, the first of its packets, or else its container."""
        if self._stream.layout:
            return self._stream.layout
        return self.detection.layouts[0] if self.detection.layouts else self.detection.container

    @property
    def other(self) -> int:
        """Messages so far that carry no record: acks, other link types, unknown blocks."""
        return self._stream.other

    @property
    def ready(self) -> bool:
        """Whether the next record is here already, so that reading it waits for nothing."""
        return self._next < len(self._items)

    # Reading

    def read(self) -> Record | None:
        """The next record, waiting for it; None at the end of the source.

        Raises DecodeError for damage when reading strictly, and again at every further call.
        """
        if self._error is not None:
            raise self._error
        while True:
            while self._next < len(self._items):
                item = self._items[self._next]
                record = self._decode(item) if type(item) is Message else self._note(item)
                if record is not None:
                    return record
            if not self._more():
                return self._end()  # which may have several things to say, one at a call

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        record = self.read()
        if record is None:
            raise StopIteration
        return record

    def read_bytes(self, size: int) -> bytes:
        """As many whole raw records as fit in `size` bytes, at least one; b"" at the end.

        As read(2) on /dev/ipl, but a size too small for the next record is a ValueError, which
        leaves the record in place. Netlink messages are padded to 4 bytes, and those of a
        DLT_NFLOG capture get the head they were captured without. Losses and damage are counted,
        and damage raises DecodeError when reading strictly, once what came before it was given.
        """
        taken: list[bytes] = []
        left = size
        try:
            while True:
                while self._error is None and self._next < len(self._items):
                    item = self._items[self._next]
                    if not isinstance(item, Message):
                        self._note(item)
                        continue
                    octets = self._stream.raw(self._data, item)
                    if len(octets) > left:
                        if taken:
                            return b"".join(taken)
                        raise ValueError(
                            f"{size} bytes are too few for the next record of {len(octets)}"
                        )
                    if not isinstance(self._decode(item), LossRecord):
                        taken.append(octets)
                        left -= len(octets)
                if self._error is not None:
                    raise self._error
                if taken:
                    return b"".join(taken)
                if not self._more():
                    while self._end() is not None:
                        pass
                    return b""
        except DecodeError:
            if taken:  # the error comes again at the next call
                return b"".join(taken)
            raise

    def pending(self) -> int:
        """How many bytes can be read without waiting: whole records at hand and what the system
        has (FIONREAD; in a file all that is left, in a compressed one counted compressed).
        """
        if self._closed:
            return 0
        return self._queued() + len(self._rest) + len(self._head) + self.backend.pending()

    def _queued(self) -> int:
        return sum(i.end - i.start for i in self._items[self._next :] if isinstance(i, Message))

    def flush(self) -> int:
        """Discard what can be read without waiting, and return how many bytes of records it was.

        A discarded record is neither received nor dropped; a file is left at its end.
        """
        flushed = 0
        while True:
            flushed += self._queued()
            self.malformed += sum(isinstance(i, Damage) for i in self._items[self._next :])
            self._next = len(self._items)
            if not (self._head or self.backend.regular or self.backend.pending()):
                break
            if not self._more():
                break
        self._expected.clear()
        return flushed

    def fileno(self) -> int:
        """The source's descriptor, to wait on."""
        return self.backend.fileno()

    def close(self) -> None:
        """Let go of the source and of what was read ahead; a second call does nothing."""
        self._closed = self._final = True
        self._items, self._next, self._rest, self._head = [], 0, b"", b""
        self.backend.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # From bytes to records

    def _more(self) -> bool:
        """Take in more bytes and find the messages in them; False when there are no more."""
        if self._final:
            return False
        more, self._head = self._head or self.backend.receive(), b""
        self._final = not more
        self._data = self._rest + more
        self._items = self._stream.split(self._data, self._final)
        self._rest = self._data[self._stream.used :]
        self._next = 0
        if self._strict and self._stream.damage is not None:
            # the damage goes on: do not wait for its end
            self._items.append(Damage(self._stream.damage.offset, 0, self._stream.damage.error))
        return True

    def _end(self) -> LossRecord | None:
        """What there is to say at the end of the source: that it did not end well."""
        told, self._told = self._told, None
        if told is not None and told.count is not None:  # and no record came after it
            self.dropped = (self.dropped or 0) + told.count
            return LossRecord(source=self._stream.source, layout=self.layout, offset=told.offset,
                              count=told.count, reason=told.reason)  # fmt: skip
        failure = self.backend.failure
        if failure is None or self._closed or self._told_failure:
            return None
        self._told_failure = True
        return self._malformed(failure, 0)

    def _note(self, item: Item) -> LossRecord | None:
        """Take an item that is no message: damage, or word of a loss."""
        self._next += 1
        if isinstance(item, Damage):
            return self._malformed(item.error, item.size, item.offset)
        if isinstance(item, Dropped):
            if item.count is None:
                return LossRecord(source=self._stream.source, layout=self.layout,
                                  offset=item.offset, reason=item.reason)  # fmt: skip
            before = self._told.count or 0 if self._told else 0
            self._told = Dropped(item.offset, before + item.count, item.reason)
        return None

    def _decode(self, message: Message) -> Record:
        """The record of the next message, or first what was lost before it."""
        stream = self._stream
        try:
            record = stream.decode(self._data, message, self._raw)
        except DecodeError as error:
            found = self._decode_otherwise(message)
            if found is None:
                self._next += 1
                size = message.end - message.start
                return self._malformed(error, size, stream.base + message.start)
            record = found
        if record.seq is not None or self._told is not None:
            loss = self._account(record)
            if loss is not None:
                return loss  # the message stays the next one, and is in order then
        self._next += 1
        self.received += 1
        return record

    def _decode_otherwise(self, message: Message) -> Record | None:
        """The record as another layout reads it that agreed on all that detection saw.

        From then on that layout is used.
        """
        stream = self._stream
        for i, other in enumerate(self._others):
            other.base, other.used, other.final = stream.base, stream.used, stream.final
            try:
                record = other.decode(self._data, message, self._raw)
            except DecodeError:
                continue
            other.damage, other.other = stream.damage, stream.other
            self._stream, self._others = other, self._others[i + 1 :]
            return record
        return None

    def _malformed(self, error: DecodeError, size: int, offset: int | None = None) -> LossRecord:
        self.malformed += 1
        if self._strict:
            self._error = error.again(self.backend.name)
            raise self._error
        return LossRecord(
            source=self._stream.source,
            layout=self.layout,
            offset=error.offset if offset is None else offset,
            size=size or None,
            reason=error.reason,
        )

    def _account(self, record: Record) -> LossRecord | None:
        """What was lost before the record, by its sequence number or by the capture's count."""
        told, self._told = self._told, None
        seq = record.seq
        if seq is None:
            if told is None or told.count is None:
                return None
            return self._loss(record, told.count, None, told.reason)
        queue = queue_of(record)
        expected = self._expected.get(queue, seq)
        if self.dropped is None:
            self.dropped = 0
        gap = (seq - expected) & 0xFFFFFFFF
        if gap == 0 or gap >= 0x80000000:  # in order, or counted anew from the start
            self._expected[queue] = (seq + (record.count or 1)) & 0xFFFFFFFF
            return None
        self._expected[queue] = seq
        return self._loss(record, gap, expected, f"sequence number {seq}, but expected {expected}")

    def _loss(self, record: Record, count: int, seq: int | None, reason: str) -> LossRecord:
        self.dropped = (self.dropped or 0) + count
        return LossRecord(
            source=record.source,
            layout=record.layout,
            offset=record.offset,
            timestamp_ns=record.timestamp_ns,
            observed_ns=record.observed_ns,
            seq=seq,
            count=count,
            queue=queue_of(record),
            reason=reason,
        )


def queue_of(record: Record) -> str:
    """The log within the source that numbers the record: an NFLOG group, or ipf, nat or state."""
    if isinstance(record, PacketRecord):
        return record.group or "" if record.source == "nflog" else "ipf"
    if isinstance(record, FlowRecord):
        return "state" if record.flow_type == "state" else "nat"
    return record.queue or ""
