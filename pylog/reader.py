"""The reader: records out of any source, with the manners of ipl(4).

Only whole records are given, `read_bytes` gives as many whole raw ones as fit, `pending` is
FIONREAD and `flush` SIOCIPFFB. What cannot be read is counted and told in the stream of records as
a LossRecord, in its place: damaged bytes, gaps in sequence numbers, losses that the system or a
capture file tells. A value that makes no sense costs its field, not its record: it is counted and
logged, and the record has it in `extra`.

A file or pipe is told by its first bytes when the reader is made, a live source by its first
records when they come. A reader holds what one `receive` gave, at most some MiB, and nothing else
that grows.
"""

from __future__ import annotations

import contextlib
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal, Self, get_args

import msgspec

from pylog.ahead import REACH, Ahead
from pylog.backends import Backend
from pylog.detect import UNDECIDED, Detection, detect, is_no_log, known
from pylog.errors import DecodeError
from pylog.formats import (
    HEAD,
    Begun,
    Copied,
    Damage,
    Dropped,
    DroppedInAll,
    Flaw,
    Interfaces,
    Item,
    Message,
    Reported,
    Stream,
)
from pylog.losses import Losses
from pylog.notes import notes
from pylog.record import LossRecord, Record, Row, row_of

OnError = Literal["resync", "strict"]
"""What to do about damage: tell it and go on, or stop."""

PATIENCE_S = 1.0
"""How many seconds a source may take for its first HEAD bytes, before what it gave has to do."""

PEEK_S = 0.1
"""How many seconds at a time a pipe is waited for, to look at what comes next."""

LOT = 512
"""How many records are decoded at a time, and given in a batch, at most."""


def deadline_of(timeout: float | None) -> float | None:
    """When to stop waiting, by the monotonic clock; ValueError for what is no number."""
    if timeout is None:
        return None
    if timeout != timeout:
        raise ValueError(f"timeout is {timeout}, but must be a number of seconds")
    return time.monotonic() + timeout


def left_s(deadline: float | None) -> float | None:
    """How many seconds there are until a deadline; 0 after it, None without one."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def check_limit(limit: int) -> None:
    """ValueError for a number of records that is none."""
    if limit < 1:
        raise ValueError(f"limit is {limit}, but must be 1 or more")


def interface_of(message: Message) -> int | None:
    """The interface of a capture that a message is of; None: it is not of a capture."""
    return None if message.origin is None else message.origin.interface


class Records(ABC):
    """Records to be read one after the other, waiting for each: what readers have in common."""

    @abstractmethod
    def read(self, timeout: float | None = None) -> Record | None:
        """The next record, waiting for it; None at the end, or when it was closed.

        timeout   how many seconds to wait at most; TimeoutError then, and nothing is lost
        """

    def read_batch(self, timeout: float | None = None, limit: int = LOT) -> list[Record]:
        """The next record, waiting for it as `read` does, and those that are at hand after it.

        limit   how many records to give at most, 1 or more
        Gives [] at the end, or when it was closed. Much faster than one `read` a record.
        """
        check_limit(limit)
        record = self.read(timeout)
        if record is None:
            return []
        batch = [record]
        while len(batch) < limit and self.ready:
            try:
                record = self.read(timeout=0)
            except TimeoutError:
                break
            if record is None:
                break
            batch.append(record)
        return batch

    def read_copies(
        self, timeout: float | None = None, limit: int = LOT
    ) -> Sequence[Record | Copied]:
        """As `read_batch`, for a capture of a live source, by a reader with raw=True: where it can
        be, messages are Copied, which is faster.
        """
        return self.read_batch(timeout, limit)

    @abstractmethod
    def readers(self) -> list[Reader]:
        """The reader of each source."""

    def _awaited(self) -> list[Reader]:
        """The readers that may still have something to read."""
        return self.readers()

    @property
    def ready(self) -> bool:
        """Whether the next record is here already, so that reading it waits for nothing."""
        return False

    def due_s(self) -> float | None:
        """In how many seconds to look again, where no descriptor tells; None: one does."""
        return min((t for r in self.readers() if (t := r.backend.tick_s) is not None), default=None)

    def stop(self) -> None:
        """Ask for the end: what the sources have is still given, then reading ends.

        An NFLOG group is unbound, which makes the kernel send the batch that it was gathering.
        """
        for reader in self.readers():
            reader.backend.stop()

    def close(self) -> None:
        """Let go of the sources; a second call does nothing. A read that waits gives None."""
        for reader in self.readers():
            reader.backend.close()

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        record = self.read()
        if record is None:
            raise StopIteration
        return record

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def __anext__(self) -> Record:
        import asyncio  # as long an import as the rest of pylog

        while True:
            if not self.ready:
                await asyncio.sleep(0)  # let others run, once for every lot of records
            try:
                record = self.read(timeout=0)
            except TimeoutError:
                await self._readable()
                continue
            if record is None:
                raise StopAsyncIteration
            return record

    async def _readable(self) -> None:
        """Wait, without holding up the event loop, until there may be a record."""
        import asyncio

        due = self.due_s()
        if sys.platform == "win32":  # whose event loop does not wait for pipes
            await asyncio.sleep(0.05 if due is None else min(0.05, due))
            return
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        with contextlib.ExitStack() as stack:
            for reader in self._awaited():
                if reader.backend.use.idle:
                    raise RuntimeError(f"{reader.backend.name} is being read already")
                stack.enter_context(reader.backend.use)
                if reader.backend.closed:  # meanwhile
                    return
                reader.backend.use.idle = True
                for descriptor in reader.backend.wait_descriptors():
                    loop.add_reader(descriptor, wake)
                    stack.callback(loop.remove_reader, descriptor)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken, due)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Reader(Records):
    """Records of one source, in its order; an iterator, also an asynchronous one, and a context.

    replayed    give records as a live source does, without offsets
    detection   what the source was found to be; UNDECIDED of a deferred one until records came
    malformed   damaged places so far: stretches of bytes that no record could be made of, and
                values that records were read without
    flaws       how many values those are, by field
    cut_off     where the last record begins, if the input ended within it or within its compression

    One thread at a time may read. `close` and `stop` may be called from any thread and from signal
    handlers; both wake a blocked read. After fork() one of the two processes may read on.
    """

    replayed = False

    def __init__(
        self,
        backend: Backend,
        *,
        layout: str | None = None,
        on_error: OnError = "resync",
        raw: bool = False,
    ) -> None:
        """Reads the first bytes and finds out what they are, unless the backend is deferred.

        layout     the layout's name, in place of detection
        on_error   "resync": tell damage as a LossRecord and go on; "strict": raise DecodeError
        raw        give each record the bytes it was made of, as `record.raw`
        Raises DecodeError (not a log, or more than one answer), BackendError, ValueError.
        """
        if on_error not in get_args(OnError):
            known_words = ", ".join(get_args(OnError))
            raise ValueError(f"on_error is {on_error!r}, but must be one of {known_words}")
        self.backend = backend
        self.malformed = 0
        self.flaws: Counter[str] = Counter()
        self.cut_off: int | None = None
        self.detection = UNDECIDED
        self._layout = layout or backend.layout
        self._unplaced = backend.live or self.replayed
        self._strict = on_error == "strict"
        self._raw = raw
        self._gives_rows, self._wants_payload = False, True
        self._losses = Losses(backend.logs, backend.numbered)
        self._peek_s = PATIENCE_S
        self._error: DecodeError | None = None
        self._final = self._told_failure = False
        self._head = self._data = self._rest = b""
        self._tried = 0
        self._patience: float | None = None
        self._items: list[Item] = []
        self._first = 0  # the items before are dealt with
        self._looked_at = 0  # and those before this one looked at ahead
        self._made: list[Record] = []  # or rows, of the items from `_first` on, decoded, accounted
        self._given = 0  # for; and so many of them were given
        self._lot = self._ahead = LOT  # the latter is less where errors or gaps come often
        self._received = self._size = 0  # before those
        if backend.layout is not None and self._layout != backend.layout:
            raise ValueError(f"{backend.name} has the layout {backend.layout}, not {layout}")
        if backend.layout is not None:
            self._begin_as(known(backend.layout))
        elif not backend.deferred:
            self._begin(None)

    def _begin(self, deadline: float | None) -> None:
        """Find out what the first bytes are.

        HEAD bytes are waited for, but not for long: a log may grow slowly.
        Raises TimeoutError at the deadline; what has come is kept then.
        """
        if not self._head:
            self._head = self._receive(deadline)
        more = self._head
        if self._patience is None:
            self._patience = time.monotonic() + PATIENCE_S
        while True:
            final = not more
            if final and self.backend.deferred and not self._head:
                return
            decided = self.backend.deferred and self._layout is not None
            if not final and len(self._head) < HEAD and not decided:
                left = max(0.0, self._patience - time.monotonic())
                # twice as much is to come before it is worth another look
                if len(self._head) < 2 * self._tried or (left and self._wait(left, deadline)):
                    more = self._receive(deadline)
                    self._head += more
                    continue
            try:
                detection = detect(self._head, final or decided, self._layout)
            except DecodeError as error:
                self._tried = len(self._head)
                if final or len(self._head) >= HEAD or is_no_log(self._head):
                    error.path = self.backend.name
                    if not self._head and not self._may_grow:
                        error.advice = ""
                    if final and self.backend.failure is not None and not self._head:
                        raise self.backend.failure.again(self.backend.name) from error
                    raise
                more = self._receive(deadline)
                self._head += more
                continue
            self._begin_as(detection)
            return

    def _begin_as(self, detection: Detection) -> None:
        self.detection = detection
        self._numbers_ahead = Ahead()
        self._stream = detection.stream()
        self._others = [make() for make in detection.others]
        for stream in (self._stream, *self._others):
            self._set_up(stream)
        if self.backend.live and self._layout is None:
            same = "".join(f", or {name}, which reads them alike" for name in detection.layouts[1:])
            notes.warning("%s: read as %s%s (%s)", self.backend.name, detection.layouts[0], same,
                         "; ".join(detection.evidence))  # fmt: skip

    def _set_up(self, stream: Stream) -> None:
        """Let the stream give records as this reader is to give them."""
        stream.live = self._unplaced
        stream.rows, stream.wants_payload = self._gives_rows, self._wants_payload
        stream.interface_name = self.backend.interface_name
        stream.changes = self._layout is None and not self.backend.live

    def _follow(self) -> bool:
        """Go on with another layout, if that is what the rest of the data is in."""
        before = self._stream
        if not before.following:
            return False
        self._stream, *self._others = before.following
        for stream in (self._stream, *self._others):
            self._set_up(stream)
            stream.base, stream.other = before.base + before.used, before.other
        notes.info("%s: %s from offset %s on", self.backend.name, self._stream.layout,
                  self._stream.base)  # fmt: skip
        return True

    def _receive(self, deadline: float | None) -> bytes:
        """The next bytes of the source; TimeoutError when none come before the deadline."""
        left = left_s(deadline)
        if left is not None and not self.backend.wait(left):
            raise TimeoutError(f"{self.backend.name}: no record came in time")
        return self.backend.receive()

    def _wait(self, timeout_s: float, deadline: float | None) -> bool:
        """As the backend's wait, but TimeoutError at the deadline if that comes first."""
        left = left_s(deadline)
        if left is not None and left < timeout_s:
            if not self.backend.wait(left):
                raise TimeoutError(f"{self.backend.name}: no record came in time")
            return True
        return self.backend.wait(timeout_s)

    def rows(self, payload: bool = True) -> Rows:
        """What gives the records as rows from now on, made directly, which is much faster than
        record.row_of for each. No record may have been read yet, and none can be read later.

        payload   whether the rows are to have their payload
        """
        self._gives_rows, self._wants_payload = True, payload
        if self.detection is not UNDECIDED:
            for stream in (self._stream, *self._others):
                stream.rows, stream.wants_payload = True, payload
        return Rows(self)

    @property
    def dropped(self) -> int | None:
        """Records known to be lost so far, by sequence numbers or the capture's own count; None
        as long as the source has told neither: then it cannot be known.
        """
        return self._losses.dropped

    @property
    def _may_grow(self) -> bool:
        """Whether the input is a file that could be followed, and is not."""
        backend = self.backend
        packed = getattr(backend, "compression", None) is not None
        return not packed and backend.size is not None and not backend.deferred

    @property
    def ending(self) -> str | None:
        """Where the input is cut off, and what to do, for people; None if it is not cut off."""
        if self.cut_off is None:
            return None
        record = "last" if self.received else "first"
        text = f"cut off at offset {self.cut_off}, within its {record} record"
        backend = self.backend
        compression = getattr(backend, "compression", None)
        if compression and backend.failure is not None:
            return f"{text}; the {compression} file is not complete: copy it again"
        if not self._may_grow:
            return text
        return f"{text}; if the file grows, pylog read --follow waits for the rest"

    @property
    def uncounted(self) -> int:
        """Losses so far of an unknown number of records: what was lost is `dropped` and more."""
        return self._losses.uncounted

    @property
    def received(self) -> int:
        """Records read so far."""
        return self._received + self._given

    @received.setter
    def received(self, count: int) -> None:
        self._received = count - self._given

    @property
    def size(self) -> int:
        """Of the record read last, the size of its message in bytes; 0 before any."""
        if not self._given:
            return self._size
        message = self._items[self._next - 1]
        assert isinstance(message, Message)
        return message.end - message.start

    @property
    def _next(self) -> int:
        """The item that comes next."""
        return self._first + self._given

    @property
    def layout(self) -> str:
        """The layout in use; of a capture, the first of its packets, or else its container."""
        if self.detection is UNDECIDED:
            return self._layout or "unknown"
        if self._stream.layout:
            return self._stream.layout
        return self.detection.layouts[0] if self.detection.layouts else self.detection.container

    @property
    def other(self) -> int:
        """Messages so far that carry no record: acks, other link types, unknown blocks."""
        return 0 if self.detection is UNDECIDED else self._stream.other

    @property
    def ready(self) -> bool:
        """Whether the next record is here already, so that reading it waits for nothing."""
        return self._next < len(self._items)

    # Reading

    def readers(self) -> list[Reader]:
        return [self]

    def read(self, timeout: float | None = None) -> Record | None:
        """As Records.read. Raises DecodeError for damage when reading strictly, and again at
        every further call.
        """
        if self._error is not None:
            raise self._error
        deadline = deadline_of(timeout)
        while not self.backend.closed:
            while self._next < len(self._items):
                item = self._items[self._next]
                record = self._decode(item) if type(item) is Message else self._note(item)
                if record is not None:
                    return record
            if not self._more(deadline):
                return self._end()  # which may have several things to say, one at a call
        return None

    def __next__(self) -> Record:
        if self._given < len(self._made) and not self.backend.closed:
            self._given += 1
            return self._made[self._given - 1]
        return super().__next__()

    def read_batch(self, timeout: float | None = None, limit: int = LOT) -> list[Record]:
        check_limit(limit)
        record = self.read(timeout)
        if record is None:
            return []
        more = self._made[self._given : self._given + limit - 1]
        self._given += len(more)
        return [record, *more]

    def read_copies(
        self, timeout: float | None = None, limit: int = LOT
    ) -> Sequence[Record | Copied]:
        check_limit(limit)
        found: list[Record | Copied] = []
        left = limit
        deadline = deadline_of(timeout)
        if not self.ready and self._error is None:
            self._more(deadline)
        self._lot = 1 if self.detection is not UNDECIDED and self._stream.copies else LOT
        try:
            while left > 0 and (not found or self.ready):
                copied = self._copy(left)
                if copied is not None:
                    found.append(copied)
                    left -= len(copied.packets)
                elif (record := self.read(0 if found else left_s(deadline))) is not None:
                    found.append(record)
                    left -= 1
                else:
                    break
        except (DecodeError, TimeoutError):  # either comes again
            if not found:
                raise
        finally:
            self._lot = LOT
        return found

    def _copy(self, limit: int) -> Copied | None:
        """What comes next, up to what has to be a record."""
        if self._given < len(self._made) or self._error is not None or self.backend.closed:
            return None
        self._settle()
        messages = self._messages(min(limit, LOT))
        numbers = self._losses.numbers()
        if not messages or numbers is None:
            return None
        copied = self._stream.copied(self._data, messages, numbers)
        if copied is None:
            return None
        self._losses.follow(numbers)
        count = len(copied.packets)
        self._first += count
        self._received += count
        self._size = messages[count - 1].end - messages[count - 1].start
        return copied

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
            while not self.backend.closed:
                while self._error is None and self._next < len(self._items):
                    item = self._items[self._next]
                    if not isinstance(item, Message):
                        self._note(item)
                        continue
                    octets = self._stream.complete(self._data, item)
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
                if not self._more(None):
                    while self._end() is not None:
                        pass
                    break
        except DecodeError:
            if taken:  # the error comes again at the next call
                return b"".join(taken)
            raise
        return b""

    def pending(self) -> int:
        """How many bytes can be read without waiting: whole records at hand and what the system
        has (FIONREAD; in a file all that is left, in a compressed one counted compressed; of NFLOG
        with the 20 bytes that end a batch).
        """
        if self.backend.closed:
            return 0
        return self._queued() + len(self._rest) + len(self._head) + self.backend.pending()

    def _queued(self) -> int:
        return sum(i.end - i.start for i in self._items[self._next :] if isinstance(i, Message))

    def flush(self) -> int:
        """Discard what can be read without waiting, and return how many bytes of records it was.

        A discarded record is neither received nor dropped; a file is left at its end.
        """
        flushed, by_system = 0, self.backend.flush()
        left = len(self._head) + self.backend.pending()  # what comes meanwhile is not meant
        while True:
            flushed += self._queued()
            for item in self._items[self._next :]:
                self.malformed += isinstance(item, Damage | Flaw)
                if isinstance(item, Interfaces):
                    item.learn()
            self._drop_items()
            if by_system is not None:
                flushed += by_system + len(self._head)
                self._head = b""
                break
            there = self._head or self.backend.regular or (left > 0 and self.backend.wait(0))
            if self.backend.closed or not there or not self._more(None):
                break
            left -= len(self._data)
        self._losses.restart()
        return flushed

    def fileno(self) -> int:
        """The source's descriptor, to wait on."""
        return self.backend.fileno()

    # From bytes to records

    def _more(self, deadline: float | None) -> bool:
        """Take in more bytes and find the messages in them; False when there are no more."""
        if self.detection is not UNDECIDED and self._follow():
            self._find(b"")
            return True
        if self._final:
            return False
        if self.detection is UNDECIDED:
            self._begin(deadline)
            if self.detection is UNDECIDED:  # stopped before anything came
                self._final = True
                return False
        backend, stream = self.backend, self._stream
        more, self._head = self._head or self._receive(deadline), b""
        self._final = not more
        if backend.live:
            stream.observed_ns = time.time_ns()
        self._losses.received()
        if backend.overrun is not None:
            self._losses.overrun(backend.overrun, backend.logs)
            backend.overrun = None
        self._find(more)
        return True

    def _find(self, more: bytes) -> None:
        """Find the messages in what is left and `more`."""
        stream = self._stream
        self._data = self._rest + more
        self._drop_items()
        self._items = stream.split(self._data, self._final or self.backend.whole)
        self._rest = self._data[stream.used :]
        if self._strict and (damage := stream.open_damage()) is not None:
            self._items.append(damage)  # do not wait for its end

    def _end(self) -> LossRecord | None:
        """What there is to say at the end of the source: that it did not end well."""
        if self.backend.closed:
            return None
        loss = self._lost()
        if loss is not None:
            return loss
        failure = self.backend.failure
        if failure is None or self._told_failure:
            return None
        self._told_failure = True
        return self._malformed(failure, 0)

    def _lost(self) -> LossRecord | None:
        """A loss that was told, and that no record comes after."""
        if not self._losses.any_told:
            return None
        loss = self._losses.at_end(self._stream.source, self.layout, not self._unplaced)
        return None if loss is None else self._said(loss)

    def _said(self, loss: LossRecord) -> LossRecord:
        """The loss, or its row if this reader gives rows."""
        given: Any = row_of(loss) if self._gives_rows else loss
        said: LossRecord = given
        return said

    def _note(self, item: Item) -> LossRecord | None:
        """Take an item that is no message: damage, word of a loss or of interfaces."""
        self._settle()
        if isinstance(item, Begun | DroppedInAll):
            loss = self._lost()
            if loss is not None:
                return loss  # and there may be more to say before it
        self._first += 1
        if isinstance(item, Damage):
            return self._malformed(item.error, item.size, item.offset, item.origin)
        if isinstance(item, DroppedInAll):
            loss = self._losses.in_all(item, self.layout, not self._unplaced)
            return None if loss is None else self._said(loss)
        if isinstance(item, Begun):
            self._losses.restart()
        elif isinstance(item, Flaw):
            self._flawed(item.error)
        elif isinstance(item, Dropped):
            self._losses.tell(item)
        elif isinstance(item, Reported):
            return self._reported(item)
        elif isinstance(item, Interfaces):
            item.learn()
        return None

    def _reported(self, item: Reported) -> LossRecord:
        """A loss as it was reported when the file was written; damage counts as damage again."""
        self._losses.reported(item)
        self.malformed += item.loss.size is not None
        offset = None if self._unplaced else item.offset
        raw = item.loss.raw if self._raw else None
        return self._said(msgspec.structs.replace(item.loss, offset=offset, raw=raw))

    def _decode(self, message: Message) -> Record:
        """The record of the next message, or first what was lost before it."""
        if self._given == len(self._made):
            self._settle()
            loss = self._decode_ahead(message)
            if loss is not None:
                return loss  # the message stays the next one, unless it is lost itself
        self._given += 1
        return self._made[self._given - 1]

    def _decode_ahead(self, message: Message) -> LossRecord | None:
        """Decode what comes next in order, a lot at a time; or else a loss to tell before.

        message   the first of it
        """
        made: list[Any] = self._made
        numbers, met = self._losses.numbers(), None
        if numbers is not None:
            ahead = self._messages(min(self._lot, self._ahead))
            try:
                self._stream.records(self._data, ahead, self._raw, made, numbers)
            except DecodeError as error:  # reported when its turn has come
                met = error
            # where errors or gaps come often, a large lot would be gathered for nothing
            if met is not None or len(made) < len(ahead):
                self._ahead = max(1 if met is not None else 8, 2 * len(made))
            else:
                self._ahead = min(LOT, 2 * self._ahead)
            self._losses.follow(numbers)
            if made:
                return None
        flaw = None
        try:
            if met is not None:
                raise met
            record = self._stream.decode(self._data, message, self._raw)
        except DecodeError as error:
            other = self._decode_otherwise(message)
            if other is None:
                other, flaw = self._decode_leniently(message), error.with_traceback(None)
            if other is None:
                self._first += 1
                size = message.end - message.start
                start = self._stream.base + message.start
                return self._malformed(error, size, start, message.origin)
            record = other
        loss = self._lost_before(record, message)
        if loss is not None:
            return self._said(loss)
        if flaw is not None:
            self._flawed(flaw)
        made.append(self._stream.given(record))
        return None

    def _lost_before(self, record: Record, message: Message) -> LossRecord | None:
        """What was lost before the record of the message, one thing at a call."""
        interface = interface_of(message)
        if interface is None:
            return self._losses.before(record)
        log = record.log or ""

        def continues(seq: int) -> bool:
            return self._comes_soon(interface, log, seq, message.end)

        return self._losses.before(record, interface, continues)

    def _comes_soon(self, interface: int, log: str, seq: int, pos: int) -> bool:
        """Whether a log in an interface of a capture has that number in the REACH bytes after
        `pos`, which is in the data.
        """
        stream, ahead = self._stream, self._numbers_ahead
        start, limit = stream.base + pos, stream.base + pos + REACH
        self._looked_at = max(self._looked_at, self._first)
        while self._looked_at < len(self._items) and ahead.seen < limit:
            ahead.add(stream, self._data, self._items[self._looked_at : self._looked_at + LOT])
            self._looked_at += LOT
        if (reached := ahead.reached(stream)) < limit:
            after = stream.base + stream.used
            more, final = self._peek(limit + REACH - after)
            ahead.feed(more[reached - after :], final)
        return ahead.has(interface, log, seq, start)

    def _peek(self, size: int) -> tuple[bytes, bool]:
        """So many of the bytes that `split` comes to next, and whether there are no more.

        Of a source that may be slow, what comes in a moment; in all it waits for PATIENCE_S.
        """
        final = self._final
        while not final and len(self._rest) + len(self._head) < size:
            if not self.backend.regular:
                begun = time.monotonic()
                there = self.backend.wait(min(PEEK_S, self._peek_s))
                self._peek_s -= time.monotonic() - begun
                if not there:
                    break
            more = self.backend.receive()
            self._head += more
            final = not more
        return self._rest + self._head, final

    def _messages(self, limit: int) -> list[Message]:
        """The messages that come next, up to an item that is none."""
        found = []
        for item in self._items[self._first : self._first + limit]:
            if type(item) is not Message:
                break
            found.append(item)
        return found

    def _settle(self) -> None:
        """Let go of the records that were given."""
        self._size = self.size
        self._first += self._given
        self._received += self._given
        self._made = []
        self._given = 0

    def _drop_items(self) -> None:
        """Let go of all items."""
        self._settle()
        self._items, self._first, self._looked_at = [], 0, 0

    def _decode_otherwise(self, message: Message) -> Record | None:
        """The record as another layout reads it that agreed on all that detection saw.

        From then on that layout is used.
        """
        stream = self._stream
        for i, other in enumerate(self._others):
            other.base, other.used, other.final = stream.base, stream.used, stream.final
            other.observed_ns = stream.observed_ns
            try:
                record = other.decode(self._data, message, self._raw)
            except DecodeError:
                continue
            other.damage, other.other = stream.damage, stream.other
            self._stream, self._others = other, self._others[i + 1 :]
            if self.backend.live:
                notes.warning("%s: read as %s from here on", self.backend.name, other.layout)
            return record
        return None

    def _decode_leniently(self, message: Message) -> Record | None:
        """The record without what makes no sense in it, unless reading strictly; None: none is."""
        if self._strict:
            return None
        self._stream.lenient = True
        try:
            return self._stream.decode(self._data, message, self._raw)
        except DecodeError:
            return None
        finally:
            self._stream.lenient = False

    def _flawed(self, error: DecodeError) -> None:
        """A record is read without a value that makes no sense; the first of each is logged."""
        self.malformed += 1
        if self._strict:
            self._error = error.again(self.backend.name)
            raise self._error
        self.flaws[error.field] += 1
        if self.flaws[error.field] == 1:
            notes.warning("%s: %s: the record is read without it (others like it are only counted)",
                         self.backend.name, error)  # fmt: skip

    def _malformed(
        self, error: DecodeError, size: int, offset: int | None = None, origin: Any = None
    ) -> LossRecord:
        self.malformed += 1
        if self._strict:
            self._error = error.again(self.backend.name)
            raise self._error
        at = error.offset if offset is None else offset
        stream = self._stream if origin is None else origin.stream
        loss = LossRecord(
            source=stream.source,
            layout=stream.layout or self.layout,
            offset=None if self._unplaced else at,
            observed_ns=self._stream.observed_ns if origin is None else origin.observed_ns,
            size=size or None,
            reason=error.reason,
            raw=self._octets(at, size, origin) if self._raw else None,
        )
        if loss.cut_off:
            if self.cut_off is None and not self.backend.live:
                self.cut_off = at
        elif not size:
            self._losses.uncounted += 1
        return self._said(loss)

    def _octets(self, offset: int, size: int, origin: Any) -> bytes | None:
        """The bytes that no record could be made of, as far as they are still at hand."""
        start = offset - self._stream.base
        if start < 0 or not size:
            return None
        if origin is None:
            return self._data[start : start + size]
        found: bytes = origin.stream.raw(self._data, Message(start, start + size, origin))
        return found


class Rows:
    """The records of a Reader as rows, for outputs that write them so."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def read_batch(self, timeout: float | None = None, limit: int = LOT) -> list[Row]:
        """As Reader.read_batch."""
        rows: list[Any] = self._reader.read_batch(timeout, limit)
        return rows
