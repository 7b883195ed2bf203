"""The decoder: the bytes of one log go in, records and losses come out.

It does no I/O, has no clock and never waits: `feed` takes the bytes in whatever pieces they come,
`next` gives the records of them until it needs more. A Stream of pylog.formats splits the bytes
into messages, which are decoded ahead in lots, because calling it once per message would cost more
than the decoding. A record leaves only after its sequence number was checked, so that a loss stands
in its place, before the record that shows it. A message that cannot be read is read again in three
ways, cheapest first: by another layout that fits everything so far, without the value that makes no
sense, as damage.

Any bytes, cut anywhere, give records and losses that together cover them all, and the same ones
however they were cut; when decoding strictly, these up to a DecodeError.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from pylog.ahead import REACH, Ahead, Peek
from pylog.detect import UNDECIDED, Detection
from pylog.errors import DecodeError
from pylog.formats import (
    Damage,
    Dropped,
    DroppedInAll,
    Flaw,
    InterfaceNames,
    Item,
    Message,
    NewSection,
    RawBatch,
    Reported,
    Stream,
)
from pylog.losses import Losses
from pylog.notes import notes
from pylog.record import LossRecord, Record, row_of

LOT = 512
"""How many records are decoded at a time, at most."""


def interface_of(message: Message) -> int | None:
    """The interface of a capture that a message is of; None: it is not of a capture."""
    return None if message.origin is None else message.origin.interface


class Decoder:
    """Decodes one log. `begin` says what it is, then `feed` and `next` take turns.

    detection   what the input is; UNDECIDED before `begin`
    stream      of that format and layout, at the place that decoding has reached
    others      streams of the layouts that have read everything alike so far
    losses      what sequence numbers and reports say of records that are missing
    malformed   damaged places so far: stretches of bytes that no record could be made of, and
                values that records were read without
    flaws       how many values those are, by field
    cut_off     where the last record begins, if the input ended within it or within its compression
    error       the DecodeError that ended strict decoding, which `next` raises again
    lot         how many records to decode at a time, at most
    peek        how to look at bytes that were not fed yet, of a capture; None: not at all
    stop        offset in the input: messages at or after it are left out
    """

    def __init__(
        self,
        detection: Detection = UNDECIDED,
        *,
        name: str = "input",
        layout: str | None = None,
        strict: bool = False,
        raw: bool = False,
        live: bool = False,
        placed: bool = True,
        losses: Losses | None = None,
        interface_name: Callable[[int], str | int] = int,
        origin: str | None = None,
        host: str | None = None,
    ) -> None:
        """
        name     what notes and errors call the input
        layout   the layout's name, if it is certain: then no other is looked for in damage
        strict   damage raises DecodeError; otherwise it becomes a LossRecord
        raw      give each record the bytes it was made of
        live     the bytes are of now, not of a file
        placed   give each record its offset in the input
        interface_name   the name of the interface of a number, or the number
        origin   what the records are to have as their origin; None: neither that nor a host
        host     their host, where a capture names no other
        """
        self.losses = Losses({}) if losses is None else losses
        self.malformed = 0
        self.flaws: Counter[str] = Counter()
        self.cut_off: int | None = None
        self.error: DecodeError | None = None
        self.lot = LOT
        self.peek: Peek | None = None
        self.stop: int | None = None
        self._name, self._layout = name, layout
        self._strict, self._raw, self._live, self._placed = strict, raw, live, placed
        self._interface_name = interface_name
        self._origin, self._host = origin, host
        self._gives_rows, self._wants_payload = False, True
        self._items: list[Item] = []
        self._first = 0  # the items before are dealt with
        self._looked_at = 0  # and those before this one looked at ahead
        self._made: list[Record] = []  # or rows, of the items from `_first` on, decoded, accounted
        self._given = 0  # for; and so many of them were given
        self._ahead = LOT  # as `lot`, but less where errors or gaps come often
        self._received = self._size = 0  # before those
        self.begin(detection)

    def begin(self, detection: Detection) -> None:
        """The input is of this kind: what is fed next is its start."""
        self.detection = detection
        self.alternatives: list[Stream] = []
        self._final = False
        self._data = self._rest = b""
        self._drop_items()
        self._stopped_at: int | None = None
        self._numbers_ahead = Ahead()
        if detection is UNDECIDED:
            return
        self.stream = detection.stream()
        self.alternatives = [make() for make in detection.alternatives]
        for stream in (self.stream, *self.alternatives):
            self._set_up(stream)

    def _set_up(self, stream: Stream) -> None:
        """Let the stream give records as this decoder is to give them."""
        stream.live = not self._placed
        stream.rows, stream.wants_payload = self._gives_rows, self._wants_payload
        stream.interface_name = self._interface_name
        stream.changes = self._layout is None and not self._live

    def give_rows(self, payload: bool = True) -> None:
        """From now on give rows (record.Row) in place of records, which is faster than to make
        rows of records. None may have been given yet.

        payload   whether the rows are to have their payload
        """
        self._gives_rows, self._wants_payload = True, payload
        if self.detection is not UNDECIDED:
            for stream in (self.stream, *self.alternatives):
                stream.rows, stream.wants_payload = True, payload

    # What was decoded so far

    @property
    def received(self) -> int:
        """Records given so far."""
        return self._received + self._given

    @received.setter
    def received(self, count: int) -> None:
        self._received = count - self._given

    @property
    def size(self) -> int:
        """Of the record given last, the size of its message in bytes; 0 before any."""
        if not self._given:
            return self._size
        message = self._last()
        return message.end - message.start

    @property
    def layout(self) -> str:
        """The layout in use; of a capture, the first of its packets, or else its container."""
        if self.detection is UNDECIDED:
            return self._layout or "unknown"
        if self.stream.layout:
            return self.stream.layout
        return self.detection.layouts[0] if self.detection.layouts else self.detection.container

    @property
    def other(self) -> int:
        """Messages so far that carry no record: acks, other link types, unknown blocks."""
        return 0 if self.detection is UNDECIDED else self.stream.other

    @property
    def position(self) -> int:
        """Offset in the input of the first byte that is not split into messages, or left out."""
        if self._stopped_at is not None:
            return self._stopped_at
        return self.stream.base + self.stream.used

    @property
    def ready(self) -> bool:
        """Whether something is at hand that `next` deals with before it needs more bytes."""
        return self._next < len(self._items)

    @property
    def queued(self) -> int:
        """How many bytes the messages at hand have."""
        return sum(i.end - i.start for i in self._items[self._next :] if isinstance(i, Message))

    @property
    def incomplete(self) -> int:
        """How many bytes were fed that are not split into messages yet."""
        return len(self._rest)

    @property
    def _next(self) -> int:
        """The item that comes next."""
        return self._first + self._given

    def _last(self) -> Message:
        """The message of the record given last, which is at hand still."""
        message = self._items[self._next - 1]
        assert isinstance(message, Message)
        return message

    # Bytes in

    def feed(self, data: bytes, final: bool = False, observed_ns: int | None = None) -> None:
        """Take in the bytes that come next, after `next` gave None.

        final         no message goes on after these bytes
        observed_ns   when they were received, if that is now
        """
        if self.ready or self.stream.following:
            raise RuntimeError("there is more to take before more is fed")
        self.stream.observed_ns = observed_ns
        self.losses.received()
        self._final = final
        self._split(data)

    def seek(self, offset: int) -> None:
        """What is fed next lies at that offset of the input, where a message or damage goes on.

        What was fed before and not given is forgotten.
        """
        self.stream.base, self.stream.used = offset, 0
        self._stopped_at = None
        self._rest = b""
        self._drop_items()

    def discard(self) -> int:
        """Forget the messages at hand, which are then neither given nor lost; their size."""
        size = self.queued
        for item in self._items[self._next :]:
            self.malformed += isinstance(item, Damage | Flaw)
            if isinstance(item, InterfaceNames):
                item.apply()
        self._drop_items()
        return size

    def follow(self) -> bool:
        """Go on with another layout, if the rest of the bytes at hand is in one."""
        before = self.stream
        if not before.following:
            return False
        self.stream, *self.alternatives = before.following
        for stream in (self.stream, *self.alternatives):
            self._set_up(stream)
            stream.base, stream.other = before.base + before.used, before.other
        notes.info("%s: %s from offset %s on", self._name, self.stream.layout, self.stream.base)
        self._split(b"")
        return True

    def _split(self, more: bytes) -> None:
        """Split what is left and `more` into messages."""
        stream = self.stream
        self._data = self._rest + more
        self._drop_items()
        self._items = stream.split(self._data, self._final)
        self._rest = self._data[stream.used :]
        if self._strict and (damage := stream.open_damage()) is not None:
            self._items.append(damage)  # do not wait for its end
        if self.stop is not None:
            self._leave_out(self.stop)

    def _leave_out(self, stop: int) -> None:
        """Leave out what begins at `stop` or after it; damage that begins before it is followed."""
        stream, items = self.stream, self._items
        if stream.following and stream.base + stream.used >= stop:
            stream.following = []
            del items[-1:]  # NewSection
        for i, item in enumerate(items):
            if isinstance(item, Message):
                at = stream.base + item.start
            elif isinstance(item, NewSection | InterfaceNames):
                continue
            else:
                at = item.offset
            if at >= stop:
                self._stopped_at = at
                stream.damage, stream.following = None, []  # they come later still
                del items[i:]
                return
        if stream.damage is not None and stream.damage.offset >= stop:
            self._stopped_at, stream.damage = stream.damage.offset, None

    # Records out

    def next(self) -> Record | None:
        """The next record or loss; None: there is none in the bytes so far.

        Raises DecodeError for damage when decoding strictly, and again at every further call.
        """
        if self._given < len(self._made):
            self._given += 1
            return self._made[self._given - 1]
        if self.error is not None:
            raise self.error
        while True:
            while self._next < len(self._items):
                item = self._items[self._next]
                record = self._decode(item) if type(item) is Message else self._note(item)
                if record is not None:
                    return record
            if self.detection is UNDECIDED or not self.follow():
                return None

    def more(self, limit: int) -> list[Record]:
        """The records that were decoded already and come next, at most `limit`."""
        records = self._made[self._given : self._given + limit]
        self._given += len(records)
        return records

    def raw_batch(self, limit: int) -> RawBatch | None:
        """The messages that come next, at most `limit`, up to one that has to be a record; None if
        that is the next one.
        """
        if self._given < len(self._made) or self.error is not None:
            return None
        self._release_given()
        messages = self._messages(min(limit, LOT))
        numbers = self.losses.numbers()
        if not messages or numbers is None:
            return None
        copied = self.stream.raw_batch(self._data, messages, numbers)
        if copied is None:
            return None
        self.losses.follow(numbers)
        count = len(copied.packets)
        self._first += count
        self._received += count
        self._size = messages[count - 1].end - messages[count - 1].start
        return copied

    def message(self) -> bytes | None:
        """The message that comes next, complete in itself; None: there is none in this layout.

        Damage and reports that come before it are dealt with; `next` then gives its record, or
        what was lost before it, or damage in its place.
        """
        if self.error is not None:
            raise self.error
        while self._next < len(self._items):
            item = self._items[self._next]
            if isinstance(item, Message):
                return self.stream.complete(self._data, item)
            self._note(item)
        return None

    def last_message(self) -> bytes:
        """The message of the record that was given last, as the kernel wrote it."""
        return self.stream.raw(self._data, self._last())

    def end(self) -> LossRecord | None:
        """What there is to report at the end of the input, one loss at a call."""
        if not self.losses.has_announced:
            return None
        loss = self.losses.at_end(self.stream.source, self.layout, self._placed)
        return None if loss is None else self._said(loss)

    def failed(self, error: DecodeError) -> LossRecord:
        """The input ended in an error that no message shows, as one of its compression."""
        return self._malformed(error, 0)

    def give_origin(self, record: Record, interface: int | None) -> None:
        """Say in a record, which nobody has yet, where it is from.

        interface   of a capture, which may name its host
        """
        force_setattr(record, "origin", self._origin)
        host = self._host if interface is None else self.stream.hosts.get(interface, self._host)
        force_setattr(record, "host", host)

    def lost_before(self, record: Record, message: Message) -> LossRecord | None:
        """What was lost before the record of the message, one thing at a call."""
        interface = interface_of(message)
        if interface is None:
            return self.losses.before(record)
        log = record.log or ""

        def continues(seq: int) -> bool:
            return self._comes_soon(interface, log, seq, message.end)

        return self.losses.before(record, interface, continues)

    # Items: messages, and what lies between them

    def _messages(self, limit: int) -> list[Message]:
        """The messages that come next, up to an item that is none."""
        found = []
        for item in self._items[self._first : self._first + limit]:
            if type(item) is not Message:
                break
            found.append(item)
        return found

    def _release_given(self) -> None:
        """Let go of the records that were given."""
        self._size = self.size
        self._first += self._given
        self._received += self._given
        self._made = []
        self._given = 0

    def _drop_items(self) -> None:
        """Let go of all items."""
        self._release_given()
        self._items, self._first, self._looked_at = [], 0, 0

    def _note(self, item: Item) -> LossRecord | None:
        """Take an item that is no message: damage, word of a loss or of interfaces."""
        self._release_given()
        if isinstance(item, NewSection | DroppedInAll):
            loss = self.end()
            if loss is not None:
                return loss  # and there may be more to report before it
        self._first += 1
        if isinstance(item, Damage):
            return self._malformed(item.error, item.size, item.offset, item.origin)
        if isinstance(item, DroppedInAll):
            loss = self.losses.unreported(item, self.layout, self._placed)
            return None if loss is None else self._said(loss, item.interface)
        if isinstance(item, NewSection):
            self.losses.restart()
        elif isinstance(item, Flaw):
            self._flawed(item.error)
        elif isinstance(item, Dropped):
            self.losses.announce(item)
        elif isinstance(item, Reported):
            return self._reported(item)
        elif isinstance(item, InterfaceNames):
            item.apply()
        return None

    def _reported(self, item: Reported) -> LossRecord:
        """A loss as it was reported when the file was written; damage counts as damage again."""
        self.losses.reported(item)
        self.malformed += item.loss.size is not None
        offset = item.offset if self._placed else None
        raw = item.loss.raw if self._raw else None
        loss = msgspec.structs.replace(item.loss, offset=offset, raw=raw)
        return self._said(loss, item.interface)

    def _said(self, loss: LossRecord, interface: int | None = None) -> LossRecord:
        """The loss, or its row if rows are given.

        interface   of a capture, if it is certain that the loss is of that one
        """
        if self._origin is not None:
            self.give_origin(loss, interface)
        given: Any = row_of(loss) if self._gives_rows else loss
        said: LossRecord = given
        return said

    # Messages to records

    def _decode(self, message: Message) -> Record:
        """The record of the next message, or first what was lost before it."""
        if self._given == len(self._made):
            self._release_given()
            loss = self._decode_ahead(message)
            if loss is not None:
                return loss  # the message stays the next one, unless it is lost itself
        self._given += 1
        return self._made[self._given - 1]

    def _decode_ahead(self, message: Message) -> LossRecord | None:
        """Decode what comes next in order, a lot at a time; or else a loss to give before.

        message   the first of it
        """
        made: list[Any] = self._made
        numbers, met = self.losses.numbers(), None
        if numbers is not None:
            ahead = self._messages(min(self.lot, self._ahead))
            try:
                self.stream.records(self._data, ahead, self._raw, made, numbers)
            except DecodeError as error:  # reported when its turn has come
                met = error
            if self._origin is not None:
                for record, message in zip(made, ahead, strict=False):
                    self.give_origin(record, interface_of(message))
            # where errors or gaps come often, a large lot would be gathered for nothing
            if met is not None or len(made) < len(ahead):
                self._ahead = max(1 if met is not None else 8, 2 * len(made))
            else:
                self._ahead = min(LOT, 2 * self._ahead)
            self.losses.follow(numbers)
            if made:
                return None
        flaw = None
        try:
            if met is not None:
                raise met
            record = self.stream.decode(self._data, message, self._raw)
        except DecodeError as error:
            other = self._decode_otherwise(message)
            if other is None:
                other, flaw = self._decode_leniently(message), error.with_traceback(None)
            if other is None:
                self._first += 1
                size = message.end - message.start
                start = self.stream.base + message.start
                return self._malformed(error, size, start, message.origin)
            record = other
        loss = self.lost_before(record, message)
        if loss is not None:
            return self._said(loss, interface_of(message))
        if flaw is not None:
            self._flawed(flaw)
        if self._origin is not None:
            self.give_origin(record, interface_of(message))
        made.append(self.stream.given(record))
        return None

    def _decode_otherwise(self, message: Message) -> Record | None:
        """The record as another layout reads it that agreed on all that detection saw.

        From then on that layout is used.
        """
        stream = self.stream
        for i, other in enumerate(self.alternatives):
            other.base, other.used, other.final = stream.base, stream.used, stream.final
            other.observed_ns = stream.observed_ns
            try:
                record = other.decode(self._data, message, self._raw)
            except DecodeError:
                continue
            other.damage, other.other = stream.damage, stream.other
            self.stream, self.alternatives = other, self.alternatives[i + 1 :]
            if self._live:
                notes.warning("%s: read as %s from here on", self._name, other.layout)
            return record
        return None

    def _decode_leniently(self, message: Message) -> Record | None:
        """The record without what makes no sense in it, unless decoding strictly; None: none is."""
        if self._strict:
            return None
        self.stream.lenient = True
        try:
            return self.stream.decode(self._data, message, self._raw)
        except DecodeError:
            return None
        finally:
            self.stream.lenient = False

    def _comes_soon(self, interface: int, log: str, seq: int, pos: int) -> bool:
        """Whether a log in an interface of a capture has that number in the REACH bytes after
        `pos`, which is in the data.
        """
        stream, ahead = self.stream, self._numbers_ahead
        limit = stream.base + pos + REACH
        self._looked_at = max(self._looked_at, self._first)
        while self._looked_at < len(self._items) and ahead.seen < limit:
            ahead.add(stream, self._data, self._items[self._looked_at : self._looked_at + LOT])
            self._looked_at += LOT
        ahead.look(stream, self._rest, self._final, self.peek, limit)
        return ahead.has(interface, log, seq, limit - REACH)

    # Damage

    def _flawed(self, error: DecodeError) -> None:
        """A record is read without a value that makes no sense; the first of each is logged."""
        self.malformed += 1
        self._raise_if_strict(error)
        self.flaws[error.field] += 1
        if self.flaws[error.field] == 1:
            notes.warning("%s: %s: the record is read without it (others like it are only counted)",
                         self._name, error)  # fmt: skip

    def _raise_if_strict(self, error: DecodeError) -> None:
        if self._strict:
            self.error = error.copy_for_raising(self._name)
            raise self.error

    def _malformed(
        self, error: DecodeError, size: int, offset: int | None = None, origin: Any = None
    ) -> LossRecord:
        """The loss that stands for bytes that no record could be made of."""
        self.malformed += 1
        self._raise_if_strict(error)
        at = error.offset if offset is None else offset
        stream = self.stream if origin is None else origin.stream
        loss = LossRecord(
            source=stream.source,
            layout=stream.layout or self.layout,
            offset=at if self._placed else None,
            observed_ns=self.stream.observed_ns if origin is None else origin.observed_ns,
            size=size or None,
            reason=error.reason,
            raw=self._octets(at, size, origin) if self._raw else None,
        )
        if loss.cut_off:
            if self.cut_off is None and not self._live:
                self.cut_off = at
        elif not size:
            self.losses.uncounted += 1
        return self._said(loss, None if origin is None else origin.interface)

    def _octets(self, offset: int, size: int, origin: Any) -> bytes | None:
        """The bytes that no record could be made of, as far as they are still at hand."""
        start = offset - self.stream.base
        if start < 0 or not size:
            return None
        if origin is None:
            return self._data[start : start + size]
        found: bytes = origin.stream.raw(self._data, Message(start, start + size, origin))
        return found
