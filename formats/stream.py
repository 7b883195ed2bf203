"""A stream of messages: framing, damage and the way back out of it, once for all formats.

`split` steps from message to message by what a format's `measure` says. Bytes that `measure`
refuses are damage: the next place where a message plausibly begins is searched for with a regular
expression (the needle), and `begins` confirms it. All answers depend on the bytes alone and never
on how the input was cut: where too little is there to decide, the rest waits for the next call.
A format is a subclass with `measure` and `decode`; it overrides more only for speed.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pylog.errors import DecodeError
from pylog.formats.items import Damage, Item, Message, NewSection, RawBatch
from pylog.formats.numbers import NextSeq
from pylog.formats.textlog_times import LogTimes
from pylog.record import (
    CounterRecord,
    FlowRecord,
    PacketRecord,
    Record,
    Row,
    RulesetRecord,
    TraceRecord,
    row_of,
)

LIMIT = 1 << 20
"""No message may claim more bytes than this (the largest real ones: 512 KiB of ipl log buffer)."""

IN_STEP = 8
"""After damage this many messages must follow each other before a message that ends beyond the
input counts as cut off: what looked like its head may have been other bytes."""

TRIES, RETRY = 3, 256
"""In damage the first TRIES candidates of another layout are tried, then at most one in RETRY
bytes, because each try is slow."""


GROUPED = (RulesetRecord, TraceRecord, FlowRecord, CounterRecord)
"""Kinds of record that streams which are `grouped` have."""


class Needle(NamedTuple):
    """A pattern that every message has `at` bytes from its start, in at most `size` bytes."""

    pattern: re.Pattern[bytes]
    at: int
    size: int

    def find(self, data: bytes, pos: int) -> int:
        """The first place from `pos` on where a message may begin; the data's end for none."""
        match = self.pattern.search(data, pos + self.at)
        return len(data) if match is None else match.start() - self.at


Resume = Callable[[bytes, int, bool, "Stream"], "list[Stream] | None"]
"""(data, pos, final, the stream so far) -> the streams that read on from `pos`, see
`Stream.following`; [] if no other layout begins there; None: more data is needed to tell."""


class Deciding(Protocol):
    """A filter of records, see pylog.filter."""

    def decided_by(self, attributes: frozenset[str]) -> Test | None:
        """The part of it that these attributes of a packet decide: where it is false, the packet is
        not wanted, whatever its other attributes are. None: there is no such part.
        """

    def decided_by_values(self, attributes: frozenset[str]) -> ValuesTest | None:
        """As `decided_by`, of the values of a packet record or row in the places of its fields."""


BESIDE_PACKETS = frozenset(
    ("source", "layout", "action", "short", "direction", "hook", "rule", "group", "prefix",
     "reason", "indev", "outdev", "physindev", "physoutdev", "mark", "uid", "gid", "hwaddr",
     "hwtype", "hwheader")
)  # fmt: skip
"""The attributes of a packet record that a log says beside the packet. The packet itself never
changes them, as it may `family` and `extra`."""
Test = Callable[[PacketRecord], bool]
"""Of a packet record of which only some attributes are decided."""
ValuesTest = Callable[[Sequence[Any]], bool]
"""Of the values of a packet record or row, in the places of its fields."""
Tests = tuple[Test | None, ValuesTest | None]
"""Where one is false, the packet is not wanted; None tests nothing."""

_LATER = {"origin", "host", "raw"}
OF_RECORDS = frozenset(PacketRecord.__struct_fields__) - _LATER
"""The attributes that a packet record has when it is decoded."""
OF_ROWS = OF_RECORDS - {"timestamp_ns", "observed_ns", "payload"}
"""Those that its row has in the same form."""
LEFT_OUT: Any = None
"""What `Stream.records` gives in place of a record that is not wanted."""


class Stream(ABC):
    """A stream of messages in one format: `split` finds them, `decode` makes records.

    Any bytes give messages and damage that together cover them all, and the same ones however the
    input was cut. A subclass says how long a message is (`measure`) and what it means (`decode`).
    """

    source = ""
    layout = ""
    container = "raw"
    """The container of an input in which the messages simply follow each other: raw or netlink."""
    needle = re.compile(b"", re.S)
    """What every message has `needle_at` bytes from its start, in at most `needle_size` bytes."""
    needle_at = 0
    needle_size = 0
    columns_module = ""
    """The module whose `columns` reads many messages at once, see formats.columns; "" for none."""
    decodes_when_split = False
    """Whether `split` makes the records, so that `decode` only gives them."""
    gives_raw = False
    """Whether `raw_batch` can give anything."""
    hosts: Mapping[int, str] = {}
    """For a capture: the machine that logged the packets of an interface, by Interface.number."""
    namespaces: Mapping[int, str | int] = {}
    """For a capture: the network namespace of an interface's packets, by Interface.number."""
    grouped = False
    """Whether records depend on others: on those after them, as in a commit (nft_commits), or on
    those before, as where a listing shows what has ended (nfct_living)."""
    one_message_linktypes: frozenset[int] = frozenset()
    """Link types whose packets are one message each, which `captured` takes unchanged."""

    def __init__(self) -> None:
        self.base = 0
        """Offset in the input of the first byte given to the next `split`."""
        self.used = 0
        """How many of the bytes given to the last `split` it has finished with."""
        self.damage: Damage | None = None
        """Damage that has not ended yet."""
        self.in_step = IN_STEP
        """How many items earlier calls of `split` gave since the last damage. The start of the
        input counts as IN_STEP."""
        self.final = False
        """Whether the data of the last `split` was the end of the input."""
        self.other = 0
        """Messages that belong to the format but carry no record."""
        self.foreign = 0
        """Packets of a capture whose header says that no format of pylog reads them."""
        self.live = False
        """Whether the bytes come from a live source, so that records have no offset."""
        self.rows = False
        """Whether `records` gives rows instead of records."""
        self.wants_payload = True
        """Whether rows need a payload; without it a few may have one all the same."""
        self.deciding: Deciding | None = None
        """A filter: `records` may give LEFT_OUT for packets that it does not want, if it was given
        the expected numbers."""
        self._asked: tuple[Deciding | None, bool, Tests] | None = None
        """The filter that was asked for `tests`, for rows or not, and its answer."""
        self.observed_ns: int | None = None
        """When the current data was received; captured messages have it in their `origin`."""
        self.interface_name: Callable[[int], str | int] = int
        """The name of the interface with a number, or the number itself."""
        self.lenient = False
        """Whether a record may lack a field whose value makes no sense, see `flawed`."""
        self.times = LogTimes()
        """Of a text log: what it does not say of its times."""
        self.prompt = False
        """Whether bytes come as they are logged, so that a message must not wait for the next."""
        self.others: Callable[[], Sequence[tuple[Needle, Resume]]] = tuple
        """The layouts whose messages may follow in damage (registry.resuming), by default none."""
        self._failed: dict[Resume, int] = {}
        """How many candidates in damage failed, of each other layout that had any."""
        self._retry: dict[Resume, int] = {}
        """The offset from which on a layout is tried again."""
        self.following: list[Stream] = []
        """The streams of another layout that must read the rest: `split` has stopped before it. The
        first is used, the others read the same bytes alike."""

    @property
    def magics(self) -> list[bytes]:
        """The magics, one of which begins each message; none if the format has no magic."""
        return []

    def clone(self) -> Stream:
        """Another stream in the same state, to look ahead with."""
        raise TypeError(f"{self.source} does not look ahead")

    @property
    def layouts(self) -> list[str]:
        """The layouts of the messages so far; a container holds those of several."""
        return [self.layout]

    @property
    def name(self) -> str:
        """The name from which the module's `stream` makes the same stream again."""
        return self.layout

    @abstractmethod
    def measure(self, data: bytes, pos: int) -> int:
        """Where the next message begins, if one begins at `pos`; may lie beyond the data.

        Raises DecodeError when the bytes at `pos` cannot begin a message.
        """

    @abstractmethod
    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        """The record of a message that the last `split` gave for the same data; DecodeError."""

    def raw(self, data: bytes, message: Message) -> bytes:
        """The message as the kernel gives it to a reader.

        A message that a capture cut off ends early, with its original length in its header.
        """
        return data[message.start : message.end]

    def complete(self, data: bytes, message: Message) -> bytes:
        """As `raw`, but a message that a capture cut off has the lengths of what is left, so that
        messages can follow each other in a stream.
        """
        return self.raw(data, message)

    def captured(self, data: bytes, start: int, end: int, origin: Any, items: list[Item]) -> None:
        """As `accept`, for the packet data[start:end] of a capture, of `origin.linktype`."""
        if origin.linktype in self.one_message_linktypes:
            items.append(Message(start, end, origin))
            return
        raise TypeError(f"{self.source} has no link type in capture files")

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        """Whether the packet data[start:end] of a capture begins as the format's packets do.

        This must be quick. `end` may lie beyond the data; None: more data is needed to tell.
        """
        raise TypeError(f"{self.source} has no link type in capture files")

    def records(
        self,
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None = None,
    ) -> None:
        """As `decode`, for many messages: adds their records to `found`, or their rows.

        numbers   what must come next: ends before a record that does not. None: all are taken
        """
        for message in messages:
            record = self.decode(data, message, raw)
            if numbers is not None and not numbers.pass_on(record):
                return
            found.append(self.given(record))

    def tests(self, decided: frozenset[str]) -> Tests:
        """What the filter can say of packets before their records are made.

        decided   the attributes that what many messages have in common decides
        """
        if self._asked is None or self._asked[:2] != (self.deciding, self.rows):
            tests: Tests = None, None
            if self.deciding is not None:
                values = OF_ROWS if self.rows else OF_RECORDS
                tests = (self.deciding.decided_by(decided),
                         self.deciding.decided_by_values(values))  # fmt: skip
            self._asked = self.deciding, self.rows, tests
        return self._asked[2]

    def raw_batch(
        self, data: bytes, messages: Iterable[Message], numbers: NextSeq
    ) -> RawBatch | None:
        """The messages up to the first that must be decoded before a capture can hold it.

        numbers   as for `records`
        """
        return None

    def given(self, record: Record) -> Record | Row:
        """The record, or its row if `records` gives rows and the record is complete."""
        if self.rows and not (self.grouped and type(record) in GROUPED):
            return row_of(record)
        return record

    def plain(self, data: bytes, pos: int, items: list[Item]) -> int:
        """Take the messages from `pos` on that are complete and regular; gives where they end.

        What begins there is left to `measure`: damage, the end of the data, or a rare case.
        """
        return pos

    def accept(self, data: bytes, start: int, end: int, items: list[Item]) -> None:
        """Take the message that `measure` has measured: add what it holds to `items`."""
        items.append(Message(start, end))

    def split(self, data: bytes, final: bool) -> list[Item]:
        """The items in `data`, in order. `self.used` is how many bytes they cover.

        The next call must begin with the rest. `final`: nothing follows this data.
        """
        self.base += self.used
        self.final = final
        items: list[Item] = []
        size, pos = len(data), 0
        measure, append = self.measure, items.append
        # most formats do not override `accept`: then no call per message is made
        accept = None if type(self).accept is Stream.accept else self.accept
        while pos < size:
            try:
                if self.damage is not None:
                    pos = self._resync(data, pos, final, items)
                    if self.damage is not None or self.following:
                        break
                pos = self.plain(data, pos, items)
                if pos == size:
                    break
                end = measure(data, pos)
                if end > size:
                    if not final:
                        break
                    error = self.error(
                        pos, "message", f"cut off after {size - pos} bytes", f"at least {end - pos}"
                    )
                    if self.in_step + len(items) < IN_STEP or not self.is_cut(data, pos):
                        raise error
                    self.damage = Damage(self.base + pos, 0, error)
                    pos = size
                    break
                if accept is None:
                    append(Message(pos, end))
                else:
                    accept(data, pos, end, items)
                pos = end
            except DecodeError as error:
                # a traceback would keep this frame, and so the data, alive
                self.damage = Damage(self.base + pos, 0, error.with_traceback(None))
        if final and self.damage is not None:
            self._close_damage(pos, items)
        self.used = pos
        self.in_step += len(items)
        return items

    def open_damage(self) -> Damage | None:
        """Damage that goes on after the last `split`, as far as it is certain to be damage."""
        damage = self.damage
        if damage is None or damage.offset >= self.base + self.used:
            return None  # another layout may begin there
        return Damage(damage.offset, 0, damage.error)

    def error(self, pos: int, field: str, found: object, expected: object) -> DecodeError:
        """A DecodeError for the field at `pos` of the current data."""
        return DecodeError(field, found, expected, self.base + pos)

    def flawed(self, pos: int, field: str, found: object, expected: object) -> None:
        """Report a value that makes no sense: DecodeError, as `error` makes it, unless `lenient`.

        The record is then made without the field, and `extra` has the value under the source's
        name.
        """
        if not self.lenient:
            raise self.error(pos, field, found, expected)

    def is_cut(self, data: bytes, pos: int) -> bool:
        """Whether the input was cut off within the message at `pos`, which ends beyond all data.

        Then the rest is damage and is not searched: a logged packet may hold bytes that look like a
        message. False where the stated length contradicts the bytes that are there.
        """
        return True

    def begins(self, data: bytes, pos: int, final: bool) -> bool | None:
        """Whether a message plausibly begins at `pos`: it fits, and so does what follows it.

        None: more data is needed to tell, so that the answer does not depend on how it was cut.
        """
        size = len(data)
        try:
            end = self.measure(data, pos)
            if end < size:
                end = self.measure(data, end)
                return True if final or end <= size else None
        except DecodeError:
            return False
        return end == size if final else None

    def _resync(self, data: bytes, pos: int, final: bool, items: list[Item]) -> int:
        """The next position where a message plausibly begins, which ends the damage.

        If there is none yet, the position before which none begins. A message of another layout may
        begin where the damage does.
        """
        assert self.damage is not None
        size, others = len(data), self.others()
        own = Needle(self.needle, self.needle_at, self.needle_size)
        needles = [own, *(needle for needle, _ in others)]
        keep = max(needle.at + needle.size for needle in needles) - 1
        nexts = [pos - 1] * len(needles)  # the next match of each; before `pos`: not searched yet
        first = pos + (self.base + pos <= self.damage.offset)
        while True:
            for i, needle in enumerate(needles):
                if nexts[i] < pos:
                    retry = self._retry.get(others[i - 1][1], 0) - self.base if i else first
                    nexts[i] = needle.find(data, max(pos, retry))
            at = min(nexts)
            if final and at >= size:
                return size
            if not final and at >= size - keep:  # another needle may match with more data
                return max(pos, size - keep)
            answer = self.begins(data, at, final) if at == nexts[0] else False
            if answer is False and at in nexts[1:]:
                tried = zip(nexts[1:], others, strict=True)
                resumes = dict.fromkeys(resume for place, (_, resume) in tried if place == at)
                answers = [resume(data, at, final, self) for resume in resumes]
                if None in answers:
                    return at
                self.following = next(filter(None, answers), [])
                for resume in resumes:
                    self._failed[resume] = self._failed.get(resume, 0) + 1
                    if self._failed[resume] >= TRIES:
                        self._retry[resume] = self.base + at + RETRY
                for i, (_, resume) in enumerate(others, 1):  # search from there on
                    if nexts[i] < self._retry.get(resume, 0) - self.base:
                        nexts[i] = -1
            if answer or self.following:
                self._close_damage(at, items)
            if self.following:
                items.append(NewSection())
            if answer is not False or self.following:
                return at
            pos = at + 1

    def _close_damage(self, pos: int, items: list[Item]) -> None:
        assert self.damage is not None
        self.damage.size = self.base + pos - self.damage.offset
        if self.damage.size:
            items.append(self.damage)
        self.damage, self._failed, self._retry = None, {}, {}
        self.in_step = -len(items)
