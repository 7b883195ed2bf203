"""Formats: what the bytes of a log mean. One module a format, no I/O, no clock, no host constants.

What generic code uses of a format module is written in the protocols at the end of this module:
Format for every format, CapturedFormat for one whose messages capture files hold, NetlinkFormat for
one that shares the link types of netlink with others. `registry` finds the modules, and refuses one
that is incomplete or claims what another one claims.

A format of another distribution is named by an entry point of the group `pylog.formats`. It may
declare kinds of record of its own:

    KINDS               subclasses of record.BaseRecord, each with a tag and its fields

A format may also have a function for captures, and two for what follows damage:

    captured_stream     the Stream of packets whose layout is named, if it is not that of `stream`

    resumes             () -> Needles of all places where messages of any of its layouts may begin,
                        when those of another layout have ended
    resume              (data, pos, final, the Stream so far) -> Streams, see `Stream.following`; []
                        where no other layout begins; None: more data is needed to tell
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from pylog.errors import DecodeError
from pylog.record import LossRecord, PacketRecord, Record, Row, row_of

if TYPE_CHECKING:
    from pylog.formats.netlink_stream import NetlinkStream
    from pylog.formats.scrub import Scrubber

HEAD = 1 << 16
"""How many of an input's first bytes are looked at to tell what it is."""

LIMIT = 1 << 20
"""No message may claim more bytes than this (the largest real ones: 512 KiB of ipl log buffer)."""

IN_STEP = 8
"""After damage, so many messages must follow each other before the length of one that is cut off is
believed: what was taken for a message may have been none.
"""

MAXIMUM_COUNT = 2**63 - 1
"""More of anything a file cannot have counted: at 10^9 a second that takes 292 years. A larger
number is a negative one, or was never a count."""

MAXIMUM_INTERFACES = 4096
"""No more names of interfaces are kept than this."""
LONGEST_NAME = 255
"""Nor longer ones: Linux allows 15 bytes (IFNAMSIZ)."""
NAME_COST, MAXIMUM_NAMES = 100, 1 << 22
"""What a name takes beside its characters; and all names of a section together, in characters."""


class Message(msgspec.Struct, gc=False):
    """A whole message found by `Stream.split`: data[start:end] of the data given to that call.

    origin   what a capture file says of it (formats.pcap.Origin), or None
    """

    start: int
    end: int
    origin: Any = None


class Damage(msgspec.Struct, gc=False):
    """Bytes that no message could be made of: `offset` in the input, `size` in bytes, and why.

    origin   as of a Message: what a capture file says of the packet that they are in
    """

    offset: int
    size: int
    error: DecodeError
    origin: Any = None


class Flaw(msgspec.Struct, gc=False):
    """A value at `offset` in the input that makes no sense: the next message is read without it."""

    offset: int
    error: DecodeError


class Dropped(msgspec.Struct, gc=False):
    """A report that `count` records (None: unknown) were lost before what follows at `offset`.

    interface   of a capture: Interface.number of formats.pcap_interfaces
    """

    offset: int
    count: int | None
    reason: str
    interface: int | None = None


class DroppedInAll(msgspec.Struct, gc=False):
    """A capture says at its end that `count` records of an interface were lost in all.

    interface   Interface.number of formats.pcap_interfaces
    stream      of the interface's messages, if there were any
    """

    offset: int
    count: int
    reason: str
    interface: int
    stream: Stream | None


class Reported(msgspec.Struct, gc=False):
    """A loss that whoever wrote a capture file had reported before what follows at `offset`.

    interface   that lost them, as in Dropped
    """

    offset: int
    loss: LossRecord
    interface: int | None = None


class InterfaceNames(msgspec.Struct, gc=False):
    """From here on `names` is to have the names `changes`, by the numbers of the interfaces.

    None takes a name away.
    forgotten   other names that are taken away before, see NamesKept
    """

    names: dict[int, str]
    changes: dict[int, str | None]
    forgotten: list[dict[int, str]] = []

    def apply(self) -> None:
        """Let it be so; how many can be known at a time is bounded."""
        for names in self.forgotten:
            names.clear()
        if len(self.names) + len(self.changes) > MAXIMUM_INTERFACES:
            self.names.clear()
        for number, name in self.changes.items():
            if name and len(name) <= LONGEST_NAME:
                self.names[number] = name
            else:
                self.names.pop(number, None)


class NamesKept:
    """Bounds what the names in all interfaces of a capture's section take together.

    Whoever writes a capture counts as its reader does, so both forget names at the same place.
    """

    def __init__(self) -> None:
        self._size = 0

    def add(
        self, changes: dict[int, str | None], known: Iterable[dict[int, str]]
    ) -> list[dict[int, str]]:
        """Count more names; the `known` ones that are to be forgotten before they are learned."""
        names = [name for name in changes.values() if name and len(name) <= LONGEST_NAME]
        size = sum(len(name) + NAME_COST for name in names)
        self._size += size
        if self._size <= MAXIMUM_NAMES:
            return []
        self._size = size
        return list(known)


class NewSection(msgspec.Struct, gc=False):
    """Another recording begins here: sequence numbers do not go on."""


Item = Message | Damage | Flaw | Dropped | DroppedInAll | Reported | InterfaceNames | NewSection


class NextSeq(dict[str, int]):
    """The number that the next record of each log is to have; without a log, none may come next.

    unnumbered     whether a record without a number may
    by_interface   of each interface of a capture, by Interface.number: those of its logs
    """

    unnumbered = True

    def __init__(self, first: Mapping[str, int] | None = None) -> None:
        super().__init__(first or {})
        self.by_interface: dict[int, NextSeq] = {}

    def of(self, interface: int | None) -> NextSeq:
        """Those of the logs in an interface of a capture; None: of a source without interfaces."""
        if interface is None:
            return self
        if interface not in self.by_interface:
            self.by_interface[interface] = NextSeq()
        return self.by_interface[interface]

    def pass_on(self, record: Record) -> bool:
        """Whether the record is what is to come next: then another is to come after it."""
        if record.seq is None:
            return self.unnumbered
        log = record.log or ""
        if self.get(log) != record.seq:
            return False
        self[log] = (record.seq + (record.count or 1)) & 0xFFFFFFFF
        return True


class RawBatch(msgspec.Struct):
    """Messages for a capture file, received together, of which no records were made.

    likes     of each, a record without what only the packet tells, and extra {"ifindex": numbers by
              the interfaces' names in the record}; the same one for those that are alike in that
    packets   of each, what a capture file holds of it
    order     the byte order that the file is to have
    observed_ns   when they were received
    """

    order: str
    observed_ns: int
    templates: list[PacketRecord] = []
    packets: list[bytes] = []


TRIES, RETRY = 3, 256
"""So many places in damage are tried in all layouts, then one in so many bytes: that takes long."""


class Needle(NamedTuple):
    """What a message carries `at` bytes from its start, in at most `size` bytes."""

    pattern: re.Pattern[bytes]
    at: int
    size: int

    def find(self, data: bytes, pos: int) -> int:
        """Where from `pos` on a message may begin first; the data's end for nowhere."""
        found = self.pattern.search(data, pos + self.at)
        return len(data) if found is None else found.start() - self.at


class Stream(ABC):
    """A stream of messages in one format: `split` finds them, `decode` makes records.

    Any bytes, cut anywhere, give messages and damage that together cover them all, and the same
    ones however they were cut. A subclass says how long a message is (`measure`) and what it means
    (`decode`); how damage is skipped and reported is written here, once.
    """

    source = ""
    layout = ""
    container = "raw"
    """What an input is in which the messages just follow each other: raw or netlink."""
    needle = re.compile(b"", re.S)
    """What every message carries `needle_at` bytes from its start, in at most `needle_size`."""
    needle_at = 0
    needle_size = 0
    columns_module = ""
    """The module whose `columns` reads many messages at once, see formats.columns; "" for none."""
    gives_raw = False
    """Whether `raw_batch` is ever of use."""
    hosts: Mapping[int, str] = {}
    """Of a capture: the machine that logged the packets of an interface, by its number."""
    one_message_linktypes: frozenset[int] = frozenset()
    """Link types whose packets are a message each, that `captured` takes as it is."""

    def __init__(self) -> None:
        self.base = 0
        """Offset in the input of the first byte given to the next `split`."""
        self.used = 0
        """How many of the bytes given to the last `split` are dealt with."""
        self.damage: Damage | None = None
        """Damage whose end has not been found yet."""
        self._steps = IN_STEP
        """How many items came before the ones in hand, since damage ended last."""
        self.final = False
        """Whether the data of the last `split` was the last there is."""
        self.other = 0
        """Messages that belong to the format but carry no record."""
        self.foreign = 0
        """Packets of a capture whose head says that they are of no format that pylog reads."""
        self.live = False
        """Whether records are to have no offset: the bytes are of now, not of a file."""
        self.rows = False
        """Whether `records` gives rows in place of records."""
        self.wants_payload = True
        """Whether rows are to have a payload; a few may have it all the same."""
        self.observed_ns: int | None = None
        """When the data in hand was received; captured messages have an `origin` that tells."""
        self.interface_name: Callable[[int], str | int] = int
        """The name of the interface of a number, or the number."""
        self.lenient = False
        """Whether a record may lack a field whose value makes no sense, see `flawed`."""
        self.changes = False
        """Whether the messages of another layout may follow: `split` looks for them in damage."""
        self._failed = self._retry = 0  # places in damage where none begin; where to look again
        self.following: list[Stream] = []
        """The streams of another layout that the rest has to be read with. The first is used, the
        others read the same bytes alike. Then `split` has ended before what is theirs."""

    @property
    def magics(self) -> list[bytes]:
        """What messages begin with, each with one of these; none if they have no magic."""
        return []

    def clone(self) -> Stream:
        """Another stream in the same state, to look ahead with."""
        raise TypeError(f"{self.source} is not looked ahead in")

    @property
    def layouts(self) -> list[str]:
        """The layouts of the messages so far; a container holds those of several."""
        return [self.layout]

    @property
    def name(self) -> str:
        """The layout's name from which the module's `stream` makes the same again."""
        return self.layout

    @abstractmethod
    def measure(self, data: bytes, pos: int) -> int:
        """Where the next message begins, if one begins at `pos`; may lie beyond the data.

        Raises DecodeError when the bytes at `pos` cannot begin a message.
        """

    @abstractmethod
    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        """The record of a message that the last `split` of the same data found; DecodeError."""

    def raw(self, data: bytes, message: Message) -> bytes:
        """The message as the kernel gives it to a reader.

        One that a capture cut off ends early: the length in its head is the original one.
        """
        return data[message.start : message.end]

    def complete(self, data: bytes, message: Message) -> bytes:
        """As `raw`, but complete in itself: one that was cut off has the lengths of what is left,
        so that messages can follow each other in a stream.
        """
        return self.raw(data, message)

    def captured(self, data: bytes, start: int, end: int, origin: Any, items: list[Item]) -> None:
        """As `accept`, for the packet data[start:end] of a capture file of `origin.linktype`."""
        if origin.linktype in self.one_message_linktypes:
            items.append(Message(start, end, origin))
            return
        raise TypeError(f"{self.source} has no link type in capture files")

    def plausible(self, data: bytes, start: int, end: int, linktype: int) -> bool | None:
        """Whether the packet data[start:end] of a capture file begins as one of the format does.

        A few steps tell. `end` may lie beyond the data; None: more data is needed to tell.
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
        """As `decode`, for messages one after the other: their records are added to `found`, or
        their rows.

        numbers   what is to come next; ends before a record that is not it. None: all may come
        """
        for message in messages:
            record = self.decode(data, message, raw)
            if numbers is not None and not numbers.pass_on(record):
                return
            found.append(self.given(record))

    def raw_batch(
        self, data: bytes, messages: Iterable[Message], numbers: NextSeq
    ) -> RawBatch | None:
        """The first of the messages, those of which no record has to be made to copy them.

        numbers   as of `records`
        """
        return None

    def given(self, record: Record) -> Record | Row:
        """The record, or its row if `records` gives rows."""
        return row_of(record) if self.rows else record

    def plain(self, data: bytes, pos: int, items: list[Item]) -> int:
        """Take the messages from `pos` on that are whole and need no second look; where they end.

        What begins there is left to `measure`: damage, the end of the data, or just a rare case.
        """
        return pos

    def accept(self, data: bytes, start: int, end: int, items: list[Item]) -> None:
        """Take the message that `measure` found; what it holds is added to `items`."""
        items.append(Message(start, end))

    def split(self, data: bytes, final: bool) -> list[Item]:
        """The messages in `data`, in order; `self.used` tells how many bytes are dealt with.

        The next call is to begin with the rest. `final`: nothing follows this data.
        """
        self.base += self.used
        self.final = final
        items: list[Item] = []
        size, pos = len(data), 0
        measure, append = self.measure, items.append
        accept = None if type(self).accept is Stream.accept else self.accept  # the plain case
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
                    if self._steps + len(items) < IN_STEP or not self.is_cut(data, pos):
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
        self._steps += len(items)
        return items

    def open_damage(self) -> Damage | None:
        """Damage after the last `split` that goes on, as far as it is certain to be damage."""
        damage = self.damage
        if damage is None or damage.offset >= self.base + self.used:
            return None  # another layout may begin there
        return Damage(damage.offset, 0, damage.error)

    def error(self, pos: int, field: str, found: object, expected: object) -> DecodeError:
        """A DecodeError for the field at `pos` of the data in hand."""
        return DecodeError(field, found, expected, self.base + pos)

    def flawed(self, pos: int, field: str, found: object, expected: object) -> None:
        """A value makes no sense: a DecodeError, as of `error`, unless this is `lenient`.

        A record is then made without the field, and `extra` has the value under the source's name.
        """
        if not self.lenient:
            raise self.error(pos, field, found, expected)

    def is_cut(self, data: bytes, pos: int) -> bool:
        """Whether the input was cut off within the message at `pos`, which ends beyond all data.

        Then its rest is damage, and no message is looked for in it: a logged packet may hold bytes
        that look like one. False where its length contradicts the bytes that are there.
        """
        return True

    def begins(self, data: bytes, pos: int, final: bool) -> bool | None:
        """Whether a message plausibly begins at `pos`: it fits, and so does what follows it.

        None: more data is needed to tell. So the answer does not depend on how the data was cut.
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

        Without one, the position up to which there is certainly none. A message of another layout
        may begin where the damage does.
        """
        assert self.damage is not None
        size, others = len(data), _resuming() if self.changes else []
        own = Needle(self.needle, self.needle_at, self.needle_size)
        needles = [own, *(needle for needle, _ in others)]
        keep = max(needle.at + needle.size for needle in needles) - 1
        nexts = [pos - 1] * len(needles)  # where each is found next; before `pos`: not looked for
        first = pos + (self.base + pos <= self.damage.offset)
        while True:
            for i, needle in enumerate(needles):
                if nexts[i] < pos:
                    nexts[i] = needle.find(
                        data, max(pos, first if i == 0 else self._retry - self.base)
                    )
            at = min(nexts)
            if final and at >= size:
                return size
            if not final and at >= size - keep:  # of another needle there may be too little yet
                return max(pos, size - keep)
            answer = self.begins(data, at, final) if at == nexts[0] else False
            if answer is False and at in nexts[1:]:
                ways = {
                    way for place, (_, way) in zip(nexts[1:], others, strict=True) if place == at
                }
                answers = [way(data, at, final, self) for way in ways]
                if None in answers:
                    return at
                self.following = next(filter(None, answers), [])
                self._failed += 1
                if self._failed >= TRIES:
                    self._retry = self.base + at + RETRY
                    nexts[1:] = [-1 if n < size else n for n in nexts[1:]]  # anew, from there on
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
        self.damage, self._failed, self._retry = None, 0, 0
        self._steps = -len(items)


def cut_off(what: str, need: int, size: int, exact: bool = True) -> str:
    """A sentence about an input of `size` bytes that ends within `what`, which needs `need`."""
    least = "" if exact else "at least "
    return f"cut off: {what} needs {least}{need} bytes, the file has {size}"


@cache
def _resuming() -> list[tuple[Needle, Callable[..., list[Stream] | None]]]:
    """The `resumes` of all format modules that have them, each with the module's `resume`."""
    from pylog.formats.registry import registered  # which imports this module

    every: Iterable[Any] = registered().by_name.values()
    return [
        (needle, module.resume)
        for module in every
        if hasattr(module, "resumes")
        for needle in module.resumes()
    ]


class Guess(msgspec.Struct):
    """What a format says of the first bytes of an input.

    stream     makes the Stream to read it with
    layouts    names of the layouts that fit equally well and decode the bytes identically, the
               one that is used first
    messages   how many whole messages were found
    explained  how many bytes they cover
    score      what tells two layouts apart that explain the same bytes (checksums, sequences...)
    evidence   sentences for a person
    rivals     (layout, explained bytes, score) of layouts that fit less well, best first
    alternatives   make the Streams of the other names in `layouts`
    """

    stream: Callable[[], Stream]
    container: str
    layouts: list[str]
    messages: int
    explained: int
    score: int = 0
    evidence: list[str] = []
    rivals: list[tuple[str, int, int]] = []
    alternatives: list[Callable[[], Stream]] = []


class Format(Protocol):
    """What every format module gives.

    NAME            what it is called; no other format has it
    LINKTYPES       the pcap link types whose packets are its own, that to write first
    LOOKED_FOR      how its messages are recognized, for an input that is no log; "" to be silent
    STREAM          the class, a subclass of Stream, that cuts bytes into messages and decodes them
    probe           (first bytes, whether these are all): does this look like my format?
    cut             what an input lacks that ends within a first message, see `cut_off`; else None
    stream          the Stream of a layout that is named; ValueError if there is none of that name
    known_layouts   the names of its layouts
    """

    NAME: str
    LINKTYPES: tuple[int, ...]
    LOOKED_FOR: str
    STREAM: Any

    def probe(self, head: bytes, final: bool) -> list[Guess]: ...

    def cut(self, data: bytes) -> str | None: ...

    def stream(self, name: str, head: bytes = b"") -> Stream: ...

    def known_layouts(self) -> list[str]: ...


class CapturedFormat(Format, Protocol):
    """What a format gives whose messages capture files hold; its STREAM then has `captured`.

    captured_layout     (packet, link type, offset) -> the layout's name
    capture             a message of `Stream.raw` -> packet, byte order, original length
    described           the layout's name as a capture file has to say it
    interface_numbers   the numbers of the interfaces in a message, by the record's names
    scrub               a message of `Stream.raw` without addresses and payload
    """

    def captured_layout(self, packet: bytes, linktype: int, offset: int) -> str: ...

    def capture(self, message: bytes, layout: str) -> tuple[bytes, str, int]: ...

    def described(self, layout: str, log: str) -> str: ...

    def interface_numbers(self, message: bytes, layout: str) -> dict[str, int]: ...

    def scrub(self, message: bytes, layout: str, scrubber: Scrubber) -> bytes: ...


class NetlinkFormat(CapturedFormat, Protocol):
    """What a format of netlink messages gives: captures hold them beside those of others.

    Its STREAM is a NetlinkStream that is made of a byte order, and its layouts are Layouts.

    SUBSYSTEM   of NETLINK_NETFILTER: the upper byte of nlmsg_type
    """

    SUBSYSTEM: int
    STREAM: Callable[[str], NetlinkStream]
