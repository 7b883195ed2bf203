"""Text logs: lines of firewalls, among lines of other programs, as records.

A line is taken apart from the outside: its envelope (`textlog_envelopes`), then the grammar of the
program that wrote the message: the kernel's LOG and LOGEMU, ipmon, ipfw, filterlog, tcpdump. A line
that no grammar reads is no damage: a log has lines of other programs. They are counted in `other`.
Records have the program as their source, and as their layout the form of message and envelope.

Lines are read when they are split, in their order, because a line may depend on the one before it:
"last message repeated 5 times" counts for that, and a year that no line states follows from their
order. So that such a count is not lost, the last line of what has come waits for the next one,
unless the input comes now (`prompt`); then what is repeated is a record of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from msgspec.structs import replace

from pylog.formats import (
    Message,
    NextSeq,
    Stream,
    textlog_filterlog,
    textlog_ipfw,
    textlog_ipmon,
    textlog_kernel,
    textlog_tcpdump,
)
from pylog.formats.items import Dropped, Item
from pylog.formats.textlog_envelopes import LAST_REPEATED, Envelope, opened
from pylog.formats.textlog_fast import Fast
from pylog.formats.textlog_fields import AT_HOST, AT_LOCAL, utf8
from pylog.formats.textlog_stamps import Order, Timed
from pylog.formats.textlog_times import NEVER, Calendar, When
from pylog.record import FlowRecord, PacketRecord, Record, Row
from pylog.record.places import (
    AT_COUNT,
    AT_EXTRA,
    AT_LAYOUT,
    AT_OBSERVED,
    AT_OFFSET,
    AT_SOURCE,
    AT_TIMESTAMP,
    Values,
)

LAYOUT = "text"

LONGEST = 1 << 16
"""A longer line is no firewall's; it is passed over as it comes."""
MOST_READ = 8192
"""A longer message is no firewall's; entries of journalctl's JSON are longer than their message."""


class State(NamedTuple):
    """What a line may depend on.

    other      how many lines of other programs there were
    last       the record of the last line, if that had one
    calendar   year and month of the last line without a year
    """

    other: int
    last: Record | None
    calendar: tuple[int | None, int]


class TextStream(Stream):
    """The records of a text log."""

    source = LAYOUT
    layout = LAYOUT
    container = "text"
    columns_module = "pylog.formats.columns.textlog"
    decodes_when_split = True

    def __init__(self) -> None:
        super().__init__()
        self._calendar: Calendar | None = None
        self._records: dict[int, Record] = {}
        """The records of the last `split`, by their offset in the input."""
        self._last: Record | None = None
        """The record of the last line, if that had one."""
        self._passing = False
        """Whether the rest of a line that is too long is passed over."""
        self.fast = Fast(self._rule, self._timed)

    def measure(self, data: bytes, pos: int) -> int:
        end = data.find(b"\n", pos)
        return len(data) if end < 0 else end + 1

    def split(self, data: bytes, final: bool) -> list[Item]:
        self.base += self.used
        self.final = final
        self.begin()
        items: list[Item] = []
        lines = data.split(b"\n")
        rest = lines.pop()  # a line without an end
        pos, held = 0, -1
        if self._passing and lines:
            pos, self._passing = len(lines.pop(0)) + 1, False
        if lines:
            pos, held = self._lines(lines, pos, items)
        if rest and not self._passing:
            if final:
                held = self.take(rest, pos, len(data), items)
                pos = len(data)
            elif len(rest) > LONGEST:
                self.other += 1
                self._passing, held, self._last = True, -1, None
        if self._passing:
            pos = len(data)
        if held >= 0 and not final and not self.prompt:
            items.pop()
            pos = held
        self.used = pos
        self.in_step += len(items)
        return items

    def _lines(self, lines: list[bytes], pos: int, items: list[Item]) -> tuple[int, int]:
        """Take complete lines from `pos` on: the regular ones together, then the others in order.

        Gives where the next line begins, and where the record begins that it may count for, or -1.
        """
        edges = list(accumulate([len(line) + 1 for line in lines], initial=pos))
        offsets = [self.base + edge for edge in edges]
        before, order = self.state(), self.order()
        given = [None] * len(lines) if self.live else offsets
        regular = self.fast.records(lines, given, self.observed_ns, order)
        calendar = self.state().calendar
        held = self._merge(lines, regular, edges, offsets, items)
        if order is Order.MONTH and calendar != self.state().calendar:
            items.clear()  # a line between regular ones is of another month: take them in order
            self._records.clear()
            self.restore(before)
            held = self._merge(lines, [None] * len(lines), edges, offsets, items)
        return edges[-1], held

    def _merge(
        self,
        lines: list[bytes],
        regular: list[PacketRecord | None],
        edges: list[int],
        offsets: list[int],
        items: list[Item],
    ) -> int:
        """Take the records of regular lines, and read those between them; gives what is held."""
        held, at = -1, 0
        for i in [*[i for i, record in enumerate(regular) if record is None], len(lines)]:
            if at < i:
                items += map(Message, edges[at:i], edges[at + 1 : i + 1])
                records = [record for record in regular[at:i] if record is not None]
                self._records.update(zip(offsets[at:i], records, strict=True))
                self._last, held = records[-1], edges[i - 1]
            if i < len(lines):
                held = self.take(lines[i], edges[i], edges[i + 1], items)
            at = i + 1
        return held

    def _accept(self, record: Record, start: int, end: int, items: list[Item]) -> None:
        """Take the record of the line text[start:end]."""
        self._records[self.base + start] = self._last = record
        items.append(Message(start, end))

    def take(self, octets: bytes, start: int, end: int, items: list[Item]) -> int:
        """Take a line that is not regular, data[start:end]; gives where the record begins that a
        line after it may count for, or -1.
        """
        line = octets.decode("latin-1").rstrip("\r")
        if self.base + start == 0:
            line = line.removeprefix("\xef\xbb\xbf")  # the byte-order mark of UTF-8
        if "repeated" in line and (match := LAST_REPEATED.search(line)):
            return self._repeated(int(match[1]), start, end, items)
        last, self._last = self._last, None
        if (
            last is not None
            and last.source == textlog_tcpdump.SOURCE
            and self._is_next(items, start)
        ):
            text = line if line[:1] in " \t" else opened(line).message
            complete = textlog_tcpdump.completed(last, text)
            if complete is not None:
                return self._replace_last(complete, end, items)
        if not line or line.isspace():
            return -1
        if len(line) <= LONGEST:
            read = self._read(line, start, end - start > len(octets))
            if isinstance(read, Dropped):
                items.append(read)
                return -1
            if read is not None:
                self._accept(read, start, end, items)
                return start
        self.other += 1
        return -1

    def _repeated(self, times: int, start: int, end: int, items: list[Item]) -> int:
        """Take "last message repeated N times", which counts for the line directly before it."""
        last = self._last
        if last is None:
            self.other += 1
            return -1
        if self._is_next(items, start):
            count = (last.count or 1) + times
            return self._replace_last(replace(last, count=count), end, items)
        offset = None if self.live else self.base + start
        self._accept(replace(last, count=times, offset=offset), start, end, items)
        return start

    def _is_next(self, items: list[Item], start: int) -> bool:
        """Whether the record of the line before the one at `start` can still be replaced."""
        return bool(items) and isinstance(items[-1], Message) and items[-1].end == start

    def _replace_last(self, record: Record, end: int, items: list[Item]) -> int:
        """Let the last message go on to `end`, with another record; gives where it begins."""
        last = items[-1]
        assert isinstance(last, Message)
        last.end = end
        self._records[self.base + last.start] = self._last = record
        return last.start

    # For columns

    def state(self) -> State:
        """What the next line depends on."""
        assert self._calendar is not None
        return State(self.other, self._last, self._calendar.state)

    def order(self) -> Order:
        """Whether the moments of the next lines depend on each other."""
        if self.times.zone is None:
            return Order.FREE
        return Order.FIRST if self.state().calendar[0] is None else Order.MONTH

    def restore(self, state: State) -> None:
        """Go back to a state."""
        assert self._calendar is not None
        self.other, self._last, self._calendar.state = state

    def begin(self) -> State:
        """Forget the records of the last `split`, and give the state."""
        if self._calendar is None:
            self._calendar = Calendar(self.times)
        self._records = {}
        return self.state()

    def keep(self, records: Iterable[tuple[int, Record]]) -> None:
        """Have records ready for `decode`, each with its place in the data."""
        self._records.update((self.base + start, record) for start, record in records)

    # A line

    def _read(self, line: str, start: int, ended: bool) -> Record | Dropped | None:
        """The record of a line, or the loss that it reports; None for another program's."""
        assert self._calendar is not None
        timed = textlog_tcpdump.when(line)
        if timed is not None or line.startswith("rule "):
            when, at = timed or (NEVER, 0)
            answer = textlog_tcpdump.read(line[at : at + MOST_READ])
            if answer is not None:
                envelope = Envelope("none", "", when)
                return self._packet(answer[0], answer[1], envelope, start)
        envelope = opened(line)
        message, program = envelope.message, envelope.program
        if len(message) > MOST_READ:
            return None
        if program in ("", "filterlog"):
            answer = textlog_filterlog.read(message, program)
            if answer is not None:
                return self._packet(answer[0], answer[1], envelope, start)
        if program in ("", "ipmon"):
            flow = self._of_ipmon(message, envelope, start)
            if flow is not None:
                return flow
        if program in ("", "kernel", "ipfw"):
            where = message if message.startswith("ipfw: ") or program == "ipfw" else None
            values = None if where is None else textlog_ipfw.read(where)
            if values is not None:
                return self._packet(values, "ipfw", envelope, start)
        if program in ("pf", "tcpdump") or (not program and message.startswith("rule ")):
            timed = textlog_tcpdump.when(message)
            answer = textlog_tcpdump.read(message[timed[1] if timed else 0 :])
            if answer is not None:
                return self._packet(answer[0], answer[1], envelope, start)
        if "IN=" in message and "OUT=" in message and program in ("", "kernel", "ulogd"):
            plain = program == "ulogd" or (envelope.form == "rfc3164" and not program)
            values = textlog_kernel.read(message, envelope.escaped, ended, plain)
            if values is not None:
                form = "kernel" if values[AT_SOURCE] == textlog_kernel.KERNEL else "logemu"
                return self._packet(values, form, envelope, start)
        return None

    def _of_ipmon(self, message: str, envelope: Envelope, start: int) -> Record | Dropped | None:
        """The record of a line of ipmon, or the loss that it reports."""
        loss = textlog_ipmon.missed(message)
        if loss is not None:
            return Dropped(self.base + start, loss.records, loss.reason)
        timed = textlog_ipmon.when(message, envelope.when)
        if timed is None:
            return None
        when, at = timed
        read = textlog_ipmon.read(message[at:])
        envelope = envelope._replace(when=when)
        if isinstance(read, FlowRecord):
            moment, local = self._time(when)
            return replace(
                read, layout=self._form("ipmon", envelope),
                offset=None if self.live else self.base + start, timestamp_ns=moment,
                timestamp_local=local, observed_ns=self.observed_ns, count=envelope.repeated,
                host=None if envelope.host is None else utf8(envelope.host),
            )  # fmt: skip
        return None if read is None else self._packet(read, "ipmon", envelope, start)

    def _packet(self, values: Values, form: str, envelope: Envelope, start: int) -> PacketRecord:
        """The record of a packet, with what the envelope says."""
        values[AT_LAYOUT] = self._form(form, envelope)
        if not self.live:
            values[AT_OFFSET] = self.base + start
        values[AT_TIMESTAMP], values[AT_LOCAL] = self._time(envelope.when)
        values[AT_OBSERVED] = self.observed_ns
        if envelope.host is not None:
            values[AT_HOST] = utf8(envelope.host)
        if envelope.repeated is not None:
            values[AT_COUNT] = (values[AT_COUNT] or 1) * envelope.repeated
        return PacketRecord(*values)

    def _form(self, form: str, envelope: Envelope) -> str:
        """The layout of a record: the form of its message and of its envelope."""
        return f"{form}-{envelope.form}" if envelope.form != "none" else form

    def _time(self, when: When) -> tuple[int | None, str | None]:
        """The moment of a line, and the time as it is written if that does not say it all."""
        assert self._calendar is not None
        if when is NEVER:
            return None, None
        moment = self._calendar.moment(when)
        return moment, None if when.zoned and moment is not None else utf8(when.written)

    # Regular lines

    def _timed(self, beginning: str) -> Timed:
        """What the envelope of a line says of the time, by the line's beginning."""
        envelope = opened(beginning)
        return Timed(envelope.form, envelope.when.written, *self._time(envelope.when))

    def _rule(self, beginning: str, written: str) -> Values | None:
        """What the beginning of a line, up to SRC=, determines; None if it is no plain LOG line.

        written   its time as it must stand there
        """
        envelope = opened(f"{beginning}SRC=192.0.2.1 DST=192.0.2.2 LEN=40 ")
        if envelope.program != "kernel" and not envelope.form.startswith("dmesg"):
            return None
        if envelope.repeated is not None or envelope.when.written != written:
            return None
        values = textlog_kernel.read(envelope.message, envelope.escaped, True, False)
        if values is None or values[AT_EXTRA]:
            return None
        values[AT_LAYOUT] = self._form("kernel", envelope)
        if envelope.host is not None:
            values[AT_HOST] = utf8(envelope.host)
        return values

    # Records

    def decode(self, data: bytes, message: Message, raw: bool = False) -> Record:
        record = self._records.get(self.base + message.start)
        if record is None:
            raise self.error(message.start, "line", "one that was not split", "a firewall's")
        if raw:
            return replace(record, raw=data[message.start : message.end])
        return record

    def records(
        self,
        data: bytes,
        messages: Iterable[Message],
        raw: bool,
        found: list[Record | Row],
        numbers: NextSeq | None = None,
    ) -> None:
        if raw or self.rows or (numbers is not None and not numbers.unnumbered):
            super().records(data, messages, raw, found, numbers)
            return
        records, base = self._records, self.base
        found += [records[base + message.start] for message in messages]
