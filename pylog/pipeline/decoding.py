"""Decodes the pieces of a journal or queue: a decoder for each source, as a live reader has one.

The decoder gets what one receipt gave, with its time and the names of interfaces of that time, so
the records are those of live reading. A source that was opened anew has another session: its
numbers begin anew, and what the old decoder held is given first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pylog import backends, engine
from pylog.actions import Actions
from pylog.backends.process import Process
from pylog.decoder import LOT, Decoder
from pylog.detect import Detection
from pylog.errors import DecodeError
from pylog.filter import Filter
from pylog.losses import Losses
from pylog.memo import Bounded
from pylog.notes import notes
from pylog.options import resolve
from pylog.origins import Origin
from pylog.pipeline.blocks import SourceInfo, detection_of
from pylog.pipeline.columns import (
    LONGEST,
    ColumnReader,
    Columns,
    LinesWanted,
    joined,
    receipts,
)
from pylog.pipeline.kept import Lines
from pylog.pipeline.parsing import Piece
from pylog.pipeline.segments import CHUNK
from pylog.pipeline.tally import Tally
from pylog.record import LossRecord, Record, row_of
from pylog.records import DecidingFilter

if TYPE_CHECKING:  # which needs the extra
    import pyarrow as pa

    from pylog.table.received import LineReader

RECENT_NS = 10 * 10**9
"""What was received this long ago is recent."""


class Wanted(NamedTuple):
    """How a stack wants the records of a source.

    origin    their origin and host
    actions   what prefixes stand for; None: nothing
    """

    origin: Origin
    actions: Actions | None = None


class Decoding:
    """The decoders of the sources of a stack.

    most   how many bytes of a journal to read at a time
    """

    def __init__(
        self,
        wanted: Mapping[str, Wanted],
        *,
        raw: bool = False,
        rows: bool = False,
        payload: bool = True,
        messages: bool = False,
        where: Filter | None = None,
        columns: Columns | None = None,
        lines: LinesWanted | None = None,
        tally: Tally | None = None,
    ) -> None:
        """
        wanted     by the name of the source
        raw        records get the bytes they were made of
        rows       rows are given in place of records; `payload`: with their payload
        messages   each message is its record, for captures, see Decoder.pass_messages
        where      packets that it does not want may be left out before they are decoded
        columns    packets are given as columns where that is faster; None: as records
        lines      packets are given as lines where that is faster; None: as records
        tally      counts by source
        """
        self._wanted, self._where = wanted, where
        self._columns, self._lines = columns, lines
        self.most = CHUNK if columns is None and lines is None else LONGEST
        self._raw, self._rows, self._payload, self._messages = raw, rows, payload, messages
        self._logs: dict[tuple[str, int], _Log] = {}
        self._left_out = Counter[str]()
        self._tally = tally or Tally([])
        self._stale: set[str] = set()

    def declare(self, info: SourceInfo) -> list[Record]:
        """Have a decoder for a source; the records that the one of an older session still held."""
        log = self._logs.get(info.key)
        if log is not None and log.info.session == info.session:
            return []
        ended = [] if log is None else self._end(log)
        self._logs[info.key] = self._made(info)
        return ended

    def _made(self, info: SourceInfo) -> _Log:
        wanted = self._wanted[info.name]
        names: dict[int, str] = {}
        authors: Bounded[tuple[int, str], Process] = Bounded(256)

        def who(pid: int, comm: str) -> Process | None:
            return authors.get((pid, comm))

        layouts = [detection_of(layout) for layout in info.layouts]
        first = layouts[0]
        detection = Detection(
            first.container, info.layouts, first.stream, first.evidence, [],
            [other.stream for other in layouts[1:]],
        )  # fmt: skip
        decoder = Decoder(
            detection,
            name=info.address,
            layout=info.layouts[0] if len(layouts) == 1 else None,
            raw=self._raw,
            live=True,
            placed=False,
            losses=Losses(info.logs if info.begun else {}, info.numbered),
            interface_name=lambda number: names.get(number, number),
            process=who,
            scope=_scope(info),
            origin=wanted.origin.origin,
            host=wanted.origin.host,
        )
        if self._rows:
            decoder.give_rows(self._payload)
        if self._messages:
            decoder.pass_messages()
        if self._where is not None:
            decoder.leave_out(DecidingFilter(self._where, wanted.actions))
        return _Log(info, decoder, names, authors, wanted)

    def _reader(self, log: _Log) -> ColumnReader | LineReader | None:
        """What reads many messages of a source at once, made when it is needed: it loads NumPy and
        pyarrow. None: they must be read one by one.
        """
        if log.reader is None and not log.decoder.stream.grouped:
            if self._columns is not None:
                log.reader = ColumnReader(
                    log.decoder, self._columns, log.wanted.origin, log.wanted.actions
                )
            elif self._lines is not None:
                from pylog.table.received import LineReader

                log.reader = LineReader(
                    log.decoder, log.wanted.origin, self._lines.form, self._lines.where,
                    log.wanted.actions, row_of if self._rows else None,
                )  # fmt: skip
        return log.reader

    def news(self) -> tuple[int, frozenset[str]]:
        """Since the last call: how many packets were left out before they were decoded, and the
        sources that should list again what there is.
        """
        now = Counter[str]()
        for (name, _), log in self._logs.items():
            now[name] += log.decoder.left_out
            now[name] += 0 if log.reader is None else log.reader.left_out
        newly = now - self._left_out
        self._left_out = now
        for name, number in newly.items():
            self._tally.leave_out(name, number)
        stale = frozenset(self._stale)
        self._stale.clear()
        return newly.total(), stale

    def session(self, info: SourceInfo) -> int | None:
        """The session of the source that is being decoded; None: of none."""
        log = self._logs.get(info.key)
        return None if log is None else log.info.session

    def groups(self, info: SourceInfo) -> bool:
        """Whether records of a source depend on all messages before them, not on numbers alone."""
        log = self._logs.get(info.key)
        return log is not None and bool(log.decoder.stream.grouped)

    def take_run(self, run: list[Piece]) -> Taken:
        """The records of a run, see columns.runs, or columns or lines of packets, with the losses
        in their places.
        """
        info, size = run[0].info, sum(len(piece.data) for piece in run)
        records = self.declare(info)
        log = self._logs[info.key]
        made, reader = Taken(records), None
        if (
            run[0].loss is None
            and engine.run_by_columns(size, self._columns is None)
            and all(piece.observed_ns is not None for piece in run if piece.data)
        ):
            reader = self._reader(log)
        if reader is None:
            records += [record for piece in joined(run) for record in self.take(piece)]
        else:
            if run[0].names is not None:
                log.rename(run[0].names)
            if isinstance(reader, ColumnReader):
                more, batches = reader.read(run)
                records += self._with_actions(more, log.wanted.actions)
                made = Taken(records, batches)
            else:
                made = Taken(records, (), self._lines_of(reader, run, log.wanted.actions))
        between = [each for each in made.lines if not isinstance(each, Lines)]
        number = sum(batch.num_rows for batch in made.columns)
        number += sum(len(each) for each in made.lines if isinstance(each, Lines))
        self._tally.add(info.name, sum(between, [*records]), size, number)
        return made

    def _lines_of(
        self, reader: LineReader, run: list[Piece], actions: Actions | None
    ) -> list[Lines | list[Record]]:
        """The lines and records of a run, which may be kept."""
        made: list[Lines | list[Record]] = []
        for piece in reader.read(receipts(run)):
            if piece.lines is not None:
                made.append(Lines(memoryview(bytes(piece.lines)), piece.number))
            else:
                made.append(self._with_actions(piece.records, actions))
        return made

    def take(self, piece: Piece) -> list[Record]:
        """The records of a piece, with the losses in their places."""
        records = self.declare(piece.info)
        log = self._logs[piece.info.key]
        if piece.names is not None:
            log.rename(piece.names)
        if piece.loss is not None:
            records += self._lost(log, piece.loss)
        if piece.data:
            for author in piece.authors:
                log.authors.keep((author.pid, author.comm), author.process)
            decoder = log.decoder
            decoder.feed(bytes(piece.data), True, piece.observed_ns, piece.info.netns)
            try:
                records += self.taken(decoder)
            except DecodeError as error:  # strict decoding alone raises it
                notes.warning("%s: %s", log.info.address, error)
        if log.decoder.stale and _is_recent(piece.observed_ns):
            self._stale.add(piece.info.name)
        return self._with_actions(records, log.wanted.actions)

    def taken(self, decoder: Decoder) -> list[Record]:
        """All records of the bytes that a decoder was fed. Raises DecodeError, if it is strict."""
        records: list[Record] = []
        while (record := decoder.next()) is not None:
            records.append(record)
            records += decoder.more(LOT)
        return records

    def _lost(self, log: _Log, loss: LossRecord) -> list[Record]:
        """A loss that the receiver reported."""
        log.decoder.losses.uncounted += loss.count is None
        if log.decoder.stream.grouped:
            # a message of the commit that is held may be missing
            log.decoder.overrun(loss.reason or "", (), loss.count)
            return []
        return [self.finished(loss, log.wanted)]

    def finished(self, loss: LossRecord, wanted: Wanted) -> Record:
        """A loss as it is given: with its origin, and as a row if rows are given."""
        if wanted.origin.origin is not None:
            origin, host = wanted.origin
            loss = msgspec.structs.replace(loss, origin=origin, host=host)
        made: Any = row_of(loss) if self._rows else loss
        return made  # type: ignore[no-any-return]

    def gap(self, size: int, reason: str) -> list[Record]:
        """The losses that stand for bytes of the journal that could not be read, one a source."""
        records = []
        text = f"{size} bytes {reason}" if reason.startswith("removed") else reason
        for name, wanted in self._wanted.items():
            log = next((log for key, log in self._logs.items() if key[0] == name), None)
            source = "capture" if log is None else log.info.source
            layout = "pcapng" if log is None else log.info.layouts[0]
            loss = LossRecord(source, layout, observed_ns=time.time_ns(), size=size, reason=text)
            records.append(self.finished(loss, wanted))
            self._tally.add(name, records[-1:], 0)
            if log is not None and log.decoder.stream.grouped:
                log.decoder.overrun(text, ())
        return records

    @staticmethod
    def _with_actions(records: list[Record], actions: Actions | None) -> list[Record]:
        if actions is None:
            return records
        return [actions.record(record) for record in records]

    def end(self) -> list[Record]:
        """The records that decoders still hold, at the end of all pieces."""
        return [record for log in self._logs.values() for record in self._end(log)]

    def _end(self, log: _Log) -> list[Record]:
        records = []
        while (record := log.decoder.end()) is not None:
            records.append(record)
        return self._with_actions(records, log.wanted.actions)


class Taken(NamedTuple):
    """What was decoded: records or rows, then columns of packets, or lines and records."""

    records: list[Record]
    columns: Sequence[pa.RecordBatch] = ()
    lines: Sequence[Lines | list[Record]] = ()


@dataclass
class _Log:
    """A source that is being decoded.

    reader   what reads many messages at once, once it was needed
    """

    info: SourceInfo
    decoder: Decoder
    names: dict[int, str]
    authors: Bounded[tuple[int, str], Process]
    wanted: Wanted
    reader: ColumnReader | LineReader | None = None

    def rename(self, names: Mapping[int, str]) -> None:
        """Interfaces have these names from here on."""
        self.names.clear()
        self.names.update(names)
        if self.reader is not None:
            self.reader.forget()


def _is_recent(observed_ns: int | None) -> bool:
    """Whether something was received just now, so that its source can still help."""
    return observed_ns is not None and abs(time.time_ns() - observed_ns) < RECENT_NS


def _scope(info: SourceInfo) -> Any:
    """Which records of a source are wanted, by its options, as Backend.scope has it."""
    named = backends.named(info.address)
    module = None if named is None else backends.modules()[named[0]]
    scope_of = getattr(module, "scope_of", None)
    if module is None or scope_of is None:
        return None
    return scope_of(resolve(module.NAME, module.OPTIONS, info.options)) or None
