"""The decoder: the bytes of one log go in, records and losses come out.

It does no I/O, has no clock and never waits: `feed` takes the bytes in pieces of any size, `next`
gives their records until it needs more. A Stream of pylog.formats splits the bytes into messages,
which are decoded ahead in lots, because a call for each message would cost more than its decoding.
A record is given only after its sequence number was checked, so that a loss stands in its place,
before the record that shows it. See pylog.damage for messages that cannot be decoded.

Any bytes give records and losses that together cover them all, however the bytes are cut into
pieces. Strict decoding gives the same up to a DecodeError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec.structs import force_setattr

from pylog.ahead import REACH, Ahead, Peek
from pylog.damage import Damages, in_another_layout, without_flaws
from pylog.detect import UNDECIDED, Detection
from pylog.errors import DecodeError
from pylog.formats import (
    Damage,
    Deciding,
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
from pylog.formats.registry import resuming
from pylog.formats.stream import GROUPED
from pylog.formats.textlog_times import LogTimes
from pylog.losses import Losses
from pylog.notes import notes
from pylog.record import (
    LossRecord,
    LossRow,
    Record,
    RulesetRecord,
    row_of,
)

if TYPE_CHECKING:
    from pylog.formats.columns import Columns
    from pylog.formats.columns.records import Made
    from pylog.formats.nft_commits import Who
    from pylog.grouped import Grouping, Wanted

LOT = 512
"""How many records are decoded at a time, at most."""

LOT_OF_COLUMNS = 1 << 13
"""As LOT, of records that are made of columns: these cost a few milliseconds however few there are,
and this many keep a few MiB."""

LEAST_OF_COLUMNS = 1 << 11
"""Fewer records are not made of columns."""


def interface_of(message: Message) -> int | None:
    """The number of the interface of a capture that has the message; None: it is of no capture."""
    return None if message.origin is None else message.origin.interface


class Decoder:
    """Decodes one log. `begin` says what it is, then `feed` and `next` take turns.

    detection      what the input is; UNDECIDED before `begin`
    stream         of that format and layout, at the place that decoding has reached
    alternatives   streams of the layouts that have read everything alike so far
    losses         what sequence numbers and reports say of records that are missing
    damages        what could not be decoded; its error is raised again by `next`
    lot            how many records to decode at a time, at most
    by_columns     whether records may be made of columns, where many messages are at hand
    peek           how to look at bytes of a capture that were not fed yet; None: not at all
    stop           offset in the input: messages at or after it are left out
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
        process: Who | None = None,
        scope: Wanted | None = None,
        origin: str | None = None,
        host: str | None = None,
        times: LogTimes | None = None,
        prompt: bool = False,
    ) -> None:
        """
        name     what notes and errors call the input
        layout   the layout's name, if it is certain: then damage is not searched for another
        strict   damage raises DecodeError; otherwise it becomes a LossRecord
        raw      give each record the bytes it was made of
        live     the bytes come from a live source
        placed   give each record its offset in the input
        interface_name   the name of the interface of a number, or the number
        process   who the process is that has a number and a name, asked when its commit is decoded
        scope     which records of a ruleset's changes and traces or of flows are wanted; None: all
        origin   the origin of all records; None: they get neither that nor a host
        host     their host, where a capture or a line names no other
        times    of a text log: what it does not say of its times
        prompt   the bytes come as they are logged
        """
        self.losses = Losses({}) if losses is None else losses
        self.damages = Damages(name, strict=strict, raw=raw, live=live, placed=placed)
        self.lot = LOT
        self.by_columns = False
        self.peek: Peek | None = None
        self.stop: int | None = None
        self._name, self._layout = name, layout
        self._raw, self._live, self._placed = raw, live, placed
        self._interface_name, self._process, self._scope = interface_name, process, scope
        self._namespace: str | int | None = None
        self._grouping: Grouping | None = None
        """Of a log whose records are grouped."""
        self._origin, self._host = origin, host
        self._times, self._prompt = times, prompt
        self._gives_rows, self._wants_payload = False, True
        self._passes_messages = False
        self._deciding: Deciding | None = None
        self.left_out = 0
        """How many packets were not decoded, because a filter does not want them."""
        self._items: list[Item] = []
        self._first = 0
        """The first item that `_decoded` begins with; those before it are done."""
        self._looked_at = 0
        """The first item that was not looked at ahead."""
        self._decoded: list[Record] = []
        """Records, or rows, of the items from `_first` on, whose numbers were checked."""
        self._given = 0
        """How many of those were given."""
        self._lot = LOT
        """As `lot`, but less where errors or gaps come often."""
        self._columns: tuple[Stream, Columns | None] | None = None
        """What makes columns of the messages of a stream."""
        self._made: Made | None = None
        """Records that are made of columns, of the items from `_made_from` on."""
        self._made_from = 0
        self._pause = 0
        """So many items from `_made_from` on are decoded singly: few were made of columns."""
        self._received = self._size = 0
        """Of the records before `_decoded`: how many, and the size of the last one's message."""
        self.begin(detection)

    def begin(self, detection: Detection) -> None:
        """Say what the input is. What is fed next is its start."""
        self.detection = detection
        self.alternatives: list[Stream] = []
        self._final = False
        self._data = self._rest = b""
        self._drop_items()
        self._stopped_at: int | None = None
        self._ahead = Ahead()
        if detection is UNDECIDED:
            return
        self.stream = detection.stream()
        self.alternatives = [make() for make in detection.alternatives]
        for stream in (self.stream, *self.alternatives):
            self._set_up(stream)

    def _set_up(self, stream: Stream) -> None:
        """Let the stream give records as this decoder must."""
        stream.live = not self._placed
        stream.rows, stream.wants_payload = self._gives_rows, self._wants_payload
        stream.deciding = None if stream.grouped else self._deciding
        stream.interface_name = self._interface_name
        stream.prompt = self._prompt
        if self._times is not None:
            stream.times = self._times
        stream.others = tuple if self._layout is not None or self._live else resuming

    def give_rows(self, payload: bool = True) -> None:
        """From now on give rows (record.Row) in place of records, which is faster than making
        rows of records. No record may have been given yet.

        payload   whether the rows have their payload
        """
        self._gives_rows, self._wants_payload = True, payload
        if self.detection is not UNDECIDED:
            for stream in (self.stream, *self.alternatives):
                stream.rows, stream.wants_payload = True, payload

    def pass_messages(self) -> None:
        """From now on give each message's record as it comes, for a capture: those of a commit are
        not grouped, and answers and listings are records too.
        """
        self._passes_messages = True

    def leave_out(self, deciding: Deciding | None) -> None:
        """From now on leave out packets that a filter does not want, as far as that is certain
        before they are decoded. They are received, and counted as `left_out`. Records of groups are
        not left out, since others depend on them. None: leave out nothing.
        """
        self._deciding = deciding
        if self.detection is not UNDECIDED:
            for stream in (self.stream, *self.alternatives):
                stream.deciding = None if stream.grouped else deciding

    # What was decoded so far

    @property
    def received(self) -> int:
        """Records given so far."""
        withheld = 0 if self._grouping is None else self._grouping.withheld
        return self._received + self._given - withheld

    @received.setter
    def received(self, count: int) -> None:
        self._received += count - self.received

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
        """Offset in the input of the first byte that was not split into messages, or left out."""
        if self._stopped_at is not None:
            return self._stopped_at
        return self.stream.base + self.stream.used

    @property
    def ready(self) -> bool:
        """Whether an item is at hand, so that `next` needs no more bytes for it."""
        grouping = self._grouping
        return self._next < len(self._items) or (grouping is not None and bool(grouping.ready))

    @property
    def stale(self) -> bool:
        """Whether records name what was never announced, so that the source should list again what
        there is; False from then on.
        """
        return self._grouping is not None and self._grouping.stale

    @property
    def queued(self) -> int:
        """How many bytes the messages at hand have."""
        return sum(i.end - i.start for i in self._items[self._next :] if isinstance(i, Message))

    @property
    def incomplete(self) -> int:
        """How many of the bytes that were fed are not split into messages yet."""
        return len(self._rest)

    @property
    def _next(self) -> int:
        """The item that comes next."""
        return self._first + self._given

    def _last(self) -> Message:
        """The message of the record given last, which is still at hand."""
        message = self._items[self._next - 1]
        assert isinstance(message, Message)
        return message

    # Bytes in

    def feed(
        self,
        data: bytes,
        final: bool = False,
        observed_ns: int | None = None,
        namespace: str | int | None = None,
    ) -> None:
        """Take the bytes that come next, after `next` gave None.

        final         no message goes on after these bytes
        observed_ns   when they were received, if the source is live
        namespace     their network namespace, if the source has several
        """
        if self.ready or self.stream.following:
            raise RuntimeError("take all records before feeding more bytes")
        self.stream.observed_ns, self._namespace = observed_ns, namespace
        self.losses.received()
        self._final = final
        self._split(data)

    def overrun(self, reason: str, logs: Iterable[str], lost: int | None = None) -> None:
        """The system reported a loss, after what was fed last or in it; see Losses.overrun.

        lost   how many records, if the system counts them
        """
        if lost is not None:
            self.losses.announce(Dropped(0, lost, reason))
        else:
            self.losses.overrun(reason, logs)
        if self._grouping is not None:
            self._grouping.damaged()

    def seek(self, offset: int) -> None:
        """What is fed next lies at that offset of the input, within or after a message or damage.

        What was fed before and not given is discarded.
        """
        self.stream.base, self.stream.used = offset, 0
        self._stopped_at = None
        self._rest = b""
        self._drop_items()

    def discard(self) -> int:
        """Discard the messages at hand, which count neither as received nor as lost; their size."""
        size = self.queued
        for item in self._items[self._next :]:
            self.damages.malformed += isinstance(item, Damage | Flaw)
            if isinstance(item, InterfaceNames):
                item.apply()
        self._drop_items()
        if self._grouping is not None:
            self._grouping.discard()
        return size

    def follow(self) -> bool:
        """Go on in another layout, if the rest of the bytes at hand has one; whether it has."""
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
        in_step = stream.in_step
        self._items = stream.split(self._data, self._final)
        self._rest = self._data[stream.used :]
        if self.damages.strict and (damage := stream.open_damage()) is not None:
            self._items.append(damage)  # do not wait for its end
        if self.stop is not None:
            self._leave_out(self.stop, in_step)
        if self._grouping is None and stream.grouped:
            from pylog.grouped import Grouping  # here, because construct takes long to import

            stream.deciding = None

            self._grouping = Grouping(
                self.losses,
                self._live,
                self._process,
                self._finished,
                self._interface_name,
                self._scope,
            )

    def _leave_out(self, stop: int, in_step: int) -> None:
        """Leave out what begins at `stop` or after it. Damage that begins before it stays.

        in_step   Stream.in_step before the items; it is counted anew without those left out
        """
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
                stream.damage, stream.following = None, []  # both lie after it
                del items[i:]
                for item in items:
                    in_step = 0 if isinstance(item, Damage) else in_step + 1
                stream.in_step = in_step
                return
        if stream.damage is not None and stream.damage.offset >= stop:
            self._stopped_at, stream.damage = stream.damage.offset, None

    # Records out

    def next(self) -> Record | None:
        """The next record or loss; None: there is none in the bytes so far.

        Raises DecodeError for damage when decoding strictly, and again at every further call.
        """
        if self._grouping is not None:
            return self._next_grouped(self._grouping)
        if self._given < len(self._decoded):
            self._given += 1
            return self._decoded[self._given - 1]
        record = self._next_decoded()
        # `split` may have found out that the log is grouped
        if record is None or self._grouping is None:
            return record
        self._group(self._grouping, record)
        return self._next_grouped(self._grouping)

    def _next_grouped(self, grouping: Grouping) -> Record | None:
        """As `next`, where records are grouped."""
        while not grouping.ready:
            record = self._next_decoded()
            if record is None:
                return None
            self._group(grouping, record)
        return self._ungrouped(grouping, 1)[0]

    def _group(self, grouping: Grouping, record: Record) -> None:
        """Give a record that was decoded to the grouping."""
        if isinstance(record, LossRecord | LossRow):
            grouping.add(record, None, self._data)
        else:
            message = self._last()
            namespace = self._namespace
            if message.origin is not None:
                namespace = self.stream.namespaces.get(message.origin.interface)
            grouping.add(record, message, self._data, namespace)
        if self._passes_messages:
            grouping.give_only(record)

    def _ungrouped(self, grouping: Grouping, limit: int) -> list[Record]:
        """The next records that are grouped; as rows if rows are given."""
        records = grouping.take(limit)
        if self._gives_rows:
            rows: list[Any] = [row_of(r) if type(r) in GROUPED else r for r in records]
            return rows
        return records

    def _next_decoded(self) -> Record | None:
        """As `next`, before records are grouped."""
        if self._given < len(self._decoded):
            self._given += 1
            return self._decoded[self._given - 1]
        if self.damages.error is not None:
            raise self.damages.error
        while True:
            while self._next < len(self._items):
                item = self._items[self._next]
                record = self._decode(item) if type(item) is Message else self._take(item)
                if record is not None:
                    return record
            if self.detection is UNDECIDED or not self.follow():
                return None

    def more(self, limit: int) -> list[Record]:
        """The records that come next and are decoded already, at most `limit`."""
        if self._grouping is not None:
            return self._more_grouped(self._grouping, limit)
        records = self._decoded[self._given : self._given + limit]
        self._given += len(records)
        return records

    def _more_grouped(self, grouping: Grouping, limit: int) -> list[Record]:
        """As `more`, where records are grouped."""
        records: list[Record] = []
        while len(records) < limit:
            if grouping.ready:
                records += self._ungrouped(grouping, limit - len(records))
            elif self._given < len(self._decoded):
                self._group_lot(grouping, limit - len(records))
            else:
                break
        return records

    def _group_lot(self, grouping: Grouping, limit: int) -> None:
        """Give the grouping records that are decoded already, at most `limit`."""
        if self._passes_messages or self.stream.namespaces:
            self._given += 1
            self._group(grouping, self._decoded[self._given - 1])
            return
        start, first = self._given, self._next
        lot = self._decoded[start : start + limit]
        self._given += len(lot)
        data, namespace, add = self._data, self._namespace, grouping.add
        for record, message in zip(lot, self._items[first : first + len(lot)], strict=True):
            add(record, cast(Message, message), data, namespace)

    def raw_batch(self, limit: int) -> RawBatch | None:
        """The messages that come next, at most `limit`, as far as no record of them is needed; None
        if the next one needs to be a record.
        """
        if self._given < len(self._decoded) or self.damages.error is not None:
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

        Damage and reports before it are counted and not given. `next` then gives its record, or
        what was lost before it, or damage in its place.
        """
        if self.damages.error is not None:
            raise self.damages.error
        while self._next < len(self._items):
            item = self._items[self._next]
            if isinstance(item, Message):
                return self.stream.complete(self._data, item)
            self._take(item)
        return None

    def skip(self) -> bool:
        """Pass over what comes next, after `message` gave it; whether it was a loss."""
        record = self._next_decoded()
        if self._grouping is not None and record is not None:
            self._group(self._grouping, record)
            self._grouping.take(len(self._grouping.ready))
        return isinstance(record, LossRecord)

    def last_message(self) -> bytes:
        """The message of the record that was given last, as the kernel wrote it."""
        return self.stream.raw(self._data, self._last())

    def end(self) -> Record | None:
        """What there is to give at the end of the input, one record or loss at a call."""
        if self._grouping is not None:
            self._grouping.end()
            if self._passes_messages:
                self._grouping.give_only(None)
            if self._grouping.ready:
                return self._ungrouped(self._grouping, 1)[0]
        return self._end_losses()

    def _end_losses(self) -> LossRecord | None:
        """The next loss to report where the log ends."""
        if not self.losses.has_announced:
            return None
        loss = self.losses.at_end(self.stream.source, self.layout, self._placed)
        return None if loss is None else self._finished(loss)

    def failed(self, error: DecodeError) -> LossRecord:
        """The loss that stands for an error of the input itself, as of its compression."""
        return self._damaged(Damage(error.offset, 0, error))

    def give_origin(self, record: Record, interface: int | None) -> None:
        """Set where a record is from, which must not have been given yet.

        interface   of a capture, which may name its host
        """
        force_setattr(record, "origin", self._origin)
        if record.host is not None:  # the line of a text log names it
            return
        host = self._host if interface is None else self.stream.hosts.get(interface, self._host)
        force_setattr(record, "host", host)

    def lost_before(self, record: Record, message: Message) -> LossRecord | None:
        """The next loss to report before the record of the message; None: the record is next."""
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
        messages = []
        for item in self._items[self._first : self._first + limit]:
            if type(item) is not Message:
                break
            messages.append(item)
        return messages

    def _release_given(self) -> None:
        """Drop the records that were given."""
        self._size = self.size
        self._first += self._given
        self._received += self._given
        self._decoded = []
        self._given = 0

    def _drop_items(self) -> None:
        """Drop all items."""
        self._release_given()
        self._items, self._first, self._looked_at = [], 0, 0
        self._made, self._made_from, self._pause = None, 0, 0

    def _take(self, item: Item) -> LossRecord | None:
        """Take an item that is no message: damage, or a report of a loss or of interfaces."""
        self._release_given()
        if isinstance(item, NewSection | DroppedInAll):
            loss = self._end_losses()
            if loss is not None:
                return loss  # there may be more to report before the item
        self._first += 1
        if isinstance(item, Damage):
            return self._damaged(item)
        if isinstance(item, DroppedInAll):
            loss = self.losses.unreported(item, self.layout, self._placed)
            return None if loss is None else self._finished(loss, item.interface)
        if isinstance(item, NewSection):
            if self._grouping is not None:
                self._grouping.end()
            self.losses.restart()
        elif isinstance(item, Flaw):
            self.damages.add_flaw(item.error)
        elif isinstance(item, Dropped):
            self.losses.announce(item)
        elif isinstance(item, Reported):
            return self._reported(item)
        elif isinstance(item, InterfaceNames):
            item.apply()
        return None

    def _reported(self, item: Reported) -> LossRecord:
        """A loss record that the file has; one that stands for damage counts as damage again."""
        self.losses.reported(item)
        self.damages.malformed += item.loss.size is not None
        offset = item.offset if self._placed else None
        raw = item.loss.raw if self._raw else None
        loss = msgspec.structs.replace(item.loss, offset=offset, raw=raw)
        return self._finished(loss, item.interface)

    def _finished(self, loss: LossRecord, interface: int | None = None) -> LossRecord:
        """The loss, or another record that no message has, as it is given: with its origin, and as
        a row if rows are given.

        interface   of a capture, if it is certain that the loss is of that one
        """
        if loss.source == "nfct" and isinstance(loss, LossRecord) and loss.size is None:
            force_setattr(loss, "log", "nfct")  # which has no other
        if self._origin is not None:
            self.give_origin(loss, interface)
        finished: Any = row_of(loss) if self._gives_rows else loss
        return cast(LossRecord, finished)

    # Messages to records

    def _decode(self, message: Message) -> Record | None:
        """The record of the next message, or first what was lost before it; None: it was left
        out.
        """
        if self._given == len(self._decoded):
            self._release_given()
            loss = self._decode_ahead(message)
            if loss is not None:
                return loss  # the message stays the next one, unless it is damage itself
            if not self._decoded:
                return None
        self._given += 1
        return self._decoded[self._given - 1]

    def _decode_ahead(self, first: Message) -> LossRecord | None:
        """Decode a lot of messages, up to an error or a gap; or give the loss that comes first.

        first   the message that comes next
        """
        numbers = self.losses.numbers()
        if numbers is None:
            return self._decode_single(first, None)
        decoded: list[Any] = self._decoded
        messages = self._messages(min(self.lot, self._lot))
        made = self._of_columns(len(messages))
        error = None
        if made:
            decoded += made[: numbers.passed(made)]
        else:
            try:
                self.stream.records(self._data, messages, self._raw, decoded, numbers)
            except DecodeError as met:  # reported when its message is next
                error = met
        # where errors or gaps come often, most of a large lot would be decoded twice
        if error is not None or len(decoded) < len(messages):
            self._lot = max(1 if error is not None else 8, 2 * len(decoded))
        else:
            self._lot = min(LOT, 2 * self._lot)
        self.losses.follow(numbers)
        if not decoded:
            return self._decode_single(first, error)
        if self._deciding is not None:
            messages = self._without_left_out(messages)
        if self._origin is not None:
            for record, message in zip(self._decoded, messages, strict=False):
                self.give_origin(record, interface_of(message))
        return None

    def _of_columns(self, count: int) -> list[Record]:
        """The records of the next messages, so many at most, if they are made of columns: [] if
        another way is faster or needed, or the next message cannot be decoded.
        """
        if not self.by_columns or self._raw or self._gives_rows or self._deciding is not None:
            return []
        if self.stream.decodes_when_split:
            return []
        at = self._first - self._made_from
        if at < self._pause:
            return []
        if self._made is None or at >= len(self._made):
            self._made, self._made_from = None, self._first
            messages = self._messages(LOT_OF_COLUMNS)
            if len(messages) < LEAST_OF_COLUMNS or messages[0].origin is not None:
                return []
            from pylog.formats import columns  # here, because NumPy takes long to import

            if self._columns is None or self._columns[0] is not self.stream:
                self._columns = self.stream, columns.of(self.stream)
            if self._columns[1] is None:
                return []
            from pylog.formats.columns.records import Made

            self._made = Made(self._columns[1], self.stream, self._data, messages)
            self._pause = LEAST_OF_COLUMNS if len(self._made) < LEAST_OF_COLUMNS else 0
            at = 0
        return self._made.take(at, at + count)

    def _without_left_out(self, messages: list[Message]) -> list[Message]:
        """Pass over the messages of the lot that were left out; gives the others.

        Those stay items, right before the first that was not decoded.
        """
        decoded = self._decoded
        kept = [i for i, record in enumerate(decoded) if record is not None]
        left_out = len(decoded) - len(kept)
        if left_out:
            messages = [messages[i] for i in kept]
            self._decoded = [decoded[i] for i in kept]
            self._first += left_out
            self._items[self._first : self._first + len(kept)] = messages
            self.left_out += left_out
            self._received += left_out
        return messages

    def _decode_single(self, message: Message, error: DecodeError | None) -> LossRecord | None:
        """Decode a message and compare its number; or give what was lost before it or with it.

        error   that decoding the message has raised already
        """
        flaw = None
        try:
            if error is not None:
                raise error
            record = self.stream.decode(self._data, message, self._raw)
        except DecodeError as met:
            again = self._decode_again(message)
            if again is None:
                self._first += 1
                start, size = self.stream.base + message.start, message.end - message.start
                return self._damaged(Damage(start, size, met, message.origin))
            record, is_flawed = again
            flaw = met.with_traceback(None) if is_flawed else None
        # of the ruleset only commits have numbers, which the grouping compares
        if type(record) is RulesetRecord:
            loss = self.losses.overrun_before(record)
        else:
            loss = self.lost_before(record, message)
        if loss is not None:
            return self._finished(loss, interface_of(message))
        if flaw is not None:
            self.damages.add_flaw(flaw)
        if self._origin is not None:
            self.give_origin(record, interface_of(message))
        made: Any = self.stream.given(record)
        self._decoded.append(made)
        return None

    def _decode_again(self, message: Message) -> tuple[Record, bool] | None:
        """The record of a message that cannot be decoded as it is, and whether it lacks a value;
        None: the message is damage. Another layout that can read it is used from then on.
        """
        other = in_another_layout(self.stream, self.alternatives, self._data, message, self._raw)
        if other is not None:
            record, (self.stream, *self.alternatives) = other
            self._made = None
            if self._live:
                notes.warning("%s: read as %s from here on", self._name, self.stream.layout)
            return record, False
        if self.damages.strict:
            return None
        lenient = without_flaws(self.stream, self._data, message, self._raw)
        return None if lenient is None else (lenient, True)

    def _comes_soon(self, interface: int, log: str, seq: int, pos: int) -> bool:
        """Whether a log in an interface of a capture has that number in the REACH bytes after
        `pos`, which is a position in the data.
        """
        stream, ahead = self.stream, self._ahead
        limit = stream.base + pos + REACH
        self._looked_at = max(self._looked_at, self._first)
        while self._looked_at < len(self._items) and ahead.seen < limit:
            ahead.add(stream, self._data, self._items[self._looked_at : self._looked_at + LOT])
            self._looked_at += LOT
        ahead.look(stream, self._rest, self._final, self.peek, limit)
        return ahead.has(interface, log, seq, limit - REACH)

    def _damaged(self, damage: Damage) -> LossRecord:
        """The loss that stands for bytes that no record could be made of."""
        origin = damage.origin
        stream = self.stream if origin is None else origin.stream
        loss = self.damages.loss(damage, stream, self.layout, self._data, self.stream.base)
        if not damage.size and not loss.cut_off:
            self.losses.uncounted += 1
        return self._finished(loss, None if origin is None else origin.interface)
