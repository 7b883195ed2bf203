"""Decodes regular messages many at a time, into Arrow columns, and counts their losses.

Where messages follow each other without damage, the format's `columns` module (see
pylog.formats.columns) decodes them all at once; the Decoder decodes irregular ones between them
one by one, and everything else. Both ways give the same records. Sequence numbers are compared in
NumPy: only the first record of each log, and those whose number is not the expected one, are passed
to the Decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pylog.decoder import Decoder, interface_of
from pylog.errors import DecodeError
from pylog.formats import Message, Stream, columns
from pylog.formats.columns import Array, Column, Columns, NumberColumn, Repeated, Rows
from pylog.origins import Origin
from pylog.record import LossRecord, PacketRecord, Record, kind_of
from pylog.table.arrays import batch_of
from pylog.table.schemas import batch

STRETCH = 1 << 16
"""How many bytes the Decoder decodes before `columns` is tried again."""

MAX_WINDOW = 1 << 24
"""How many bytes are decoded at a time, at most."""

Observed = Callable[[Array], Array]
"""Places in the window -> when these bytes were received, in nanoseconds since 1970."""

Lot = dict[str, Any]
"""Consecutive records by kind: a list of them, or a batch."""


class Run(NamedTuple):
    """Messages that follow each other: the regular ones in columns, the others decoded.

    irregular   the records of the irregular messages, in the order of rows.irregular
    more        the columns of regular messages that are not made of them: origin, observed_ns
    lost        losses, each with the number of the message before which it is, in order
    used        how many bytes the messages have
    decoded     the number of a message -> its record, until the next run is read
    """

    rows: Rows
    irregular: list[Record]
    more: dict[str, Column | None]
    lost: list[tuple[int, LossRecord]]
    used: int
    decoded: Callable[[int], Record]


class Regular:
    """Decodes the regular messages of a decoder's log.

    messages, packets   how many messages were read last, and packets among them
    """

    def __init__(self, decoder: Decoder, origin: Origin) -> None:
        self._decoder, self._origin = decoder, origin
        self.messages = self.packets = 0
        self._reach = MAX_WINDOW
        self._columns: tuple[Stream, Columns | None] | None = None

    def forget(self) -> None:
        """Interfaces have other names from here on: forget what messages that repeat have said."""
        self._columns = None

    def read(
        self,
        lot: Lot,
        window: bytes,
        at: int,
        pos: int,
        stop: int,
        needed: pa.Schema | None,
        observed: Observed | None = None,
    ) -> int:
        """Put the records of the messages from window[pos] on, which begin before `stop`, into the
        lot; how many bytes they have.

        at         the offset in the input of the first byte of the window
        needed     the columns of packets; None: no packets are wanted
        observed   of a live source, whose records have no offset

        0 within damage, while the Decoder still has to report a loss, and where the next messages
        are irregular: then the Decoder must decode them, from `pos` on.
        """
        run = self.run(window, at, pos, stop, observed)
        if run is None:
            return 0
        lot["loss"] = [loss for _, loss in run.lost]
        self._keep(lot, run, needed)
        return run.used

    def run(
        self, window: bytes, at: int, pos: int, stop: int, observed: Observed | None = None
    ) -> Run | None:
        """As `read`: the messages that are read together; None where that gives 0."""
        decoder, stream = self._decoder, self._decoder.stream
        if stream.damage is not None or decoder.losses.has_announced:
            return None
        if self._columns is None or self._columns[0] is not stream:
            self._columns = stream, columns.of(stream)
        reads = self._columns[1]
        if reads is None:
            return None
        decoder.seek(at)
        stop = min(stop, pos + self._reach)
        rows = reads.read(window, pos, stop)
        irregular: list[Record] = []
        for i in [] if rows is None else rows.irregular.tolist():
            assert rows is not None
            try:
                message = rows.message(i)
                irregular.append(self._decoded(window, message, observed))
                self._give_origin(irregular[-1], message)
            except DecodeError:  # decode only the messages before it
                rows = reads.read(window, pos, int(rows.starts[i]))
                break
        if rows is None or len(rows.irregular) == len(rows.starts):
            self._reach = STRETCH  # the next messages are probably irregular too
            return None
        lost = self._account(window, rows, irregular, observed)
        used, count = rows.after - pos, len(rows.starts)
        self._reach = min(max(STRETCH, 2 * used), MAX_WINDOW)
        self.messages = count
        others = sum(type(record) is not PacketRecord for record in irregular)
        self.packets = count - others
        decoder.received += count
        stream.other += rows.other
        stream.in_step += count
        more = self._origins(rows)
        if observed is not None:
            starts = np.delete(rows.starts, rows.irregular)
            more |= {"observed_ns": NumberColumn(observed(starts)), "offset": None}

        def decoded(i: int) -> Record:
            message = rows.message(i)
            decoder.seek(at)
            record = self._decoded(window, message, observed)
            self._give_origin(record, message)
            return record

        return Run(rows, irregular, more, lost, used, decoded)

    def _keep(self, lot: Lot, run: Run, needed: pa.Schema | None) -> None:
        """Put the messages into the lot, regular and irregular ones in their order."""
        rows, irregular = run.rows, run.irregular
        packets = [i for i, record in enumerate(irregular) if type(record) is PacketRecord]
        for record in irregular:
            if type(record) is not PacketRecord:
                lot.setdefault(kind_of(record), []).append(record)
        if needed is None:
            return
        lot["packet"] = batch_of(rows, needed, run.more)
        if packets:
            others = batch("packet", [irregular[i] for i in packets], needed)
            places = np.delete(np.arange(len(rows.starts)), rows.irregular), rows.irregular[packets]
            order = pa.array(np.argsort(np.concatenate(places)))
            lot["packet"] = pa.concat_batches([lot["packet"], others]).take(order)

    def _origins(self, rows: Rows) -> dict[str, Column | None]:
        """The columns `origin` and `host` of the regular messages, if they are wanted."""
        origin, host = self._origin
        if origin is None:
            return {}
        logs, hosts = rows.logs(), self._decoder.stream.hosts
        named = Repeated(logs.codes, [hosts.get(i, host) for i, _ in logs.values])
        own = rows.column("host")
        if isinstance(own, Repeated):  # of a text log, whose lines name it
            named = own._replace(values=[host if name is None else name for name in own.values])
        return {"origin": Repeated(logs.codes, [origin] * len(logs.values)), "host": named}

    def _decoded(self, window: bytes, message: Message, observed: Observed | None) -> Record:
        """The record of a message by itself; DecodeError."""
        stream = self._decoder.stream
        if observed is not None:
            stream.observed_ns = int(observed(np.array(message.start)))
        return stream.decode(window, message)

    def _give_origin(self, record: Record, message: Message) -> None:
        if self._origin.origin is not None:
            self._decoder.give_origin(record, interface_of(message))

    def _account(
        self, window: bytes, rows: Rows, irregular: list[Record], observed: Observed | None
    ) -> list[tuple[int, LossRecord]]:
        """The losses between the messages, as a Reader reports them, each with the number of the
        message before which it is.

        Only the first record of each log, and records whose number is not the expected one, are
        passed to the Decoder.
        """
        count = len(rows.starts)
        seq, following, log = (np.full(count, -1, np.int64) for _ in range(3))
        regular = np.ones(count, bool)
        regular[rows.irregular] = False
        numbers, counts, logs = rows.column("seq"), rows.column("count"), rows.logs()
        names = {name: i for i, name in enumerate(dict.fromkeys(logs.values))}
        if numbers is not None:
            assert isinstance(numbers, NumberColumn)
            seq[regular] = numbers.values
            following[regular] = seq[regular] + (
                counts.values if isinstance(counts, NumberColumn) else 1
            )
            log[regular] = np.array([names[v] for v in logs.values], np.int64)[logs.codes]
            if numbers.valid is not None:
                log[np.flatnonzero(regular)[~numbers.valid]] = -1
        records = dict(zip(rows.irregular.tolist(), irregular, strict=True))
        for i, record in records.items():
            if record.seq is not None:
                seq[i], following[i] = record.seq, record.seq + (record.count or 1)
                name = interface_of(rows.message(i)), record.log or ""
                log[i] = names.setdefault(name, len(names))
        following &= 0xFFFFFFFF
        checked: list[tuple[int, tuple[int | None, str], int | None]] = []
        last: list[tuple[tuple[int | None, str], int]] = []
        for name, number in names.items():
            own = np.flatnonzero(log == number)
            if len(own):
                gaps = np.flatnonzero(seq[own[1:]] != following[own[:-1]])
                checked.append((int(own[0]), name, None))
                checked += [(int(own[i + 1]), name, int(following[own[i]])) for i in gaps]
                last.append((name, int(following[own[-1]])))
        lost: list[tuple[int, LossRecord]] = []
        decoder, stream = self._decoder, self._decoder.stream
        for i, (interface, name_of_log), before in sorted(checked, key=itemgetter(0)):
            if before is not None:
                decoder.losses.passed(name_of_log, before, interface)
            message = rows.message(i)
            stream.used = message.end  # where looking ahead begins
            record = records.get(i) or self._decoded(window, message, observed)
            while (loss := decoder.lost_before(record, message)) is not None:
                self._give_origin(loss, message)
                lost.append((i, loss))
        for (interface, name_of_log), after in last:
            decoder.losses.passed(name_of_log, after, interface)
        stream.used = 0
        return lost
