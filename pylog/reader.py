"""The reader: records of any source, read as ipl(4) is read.

A reader gives complete records only. `read_bytes` gives as many raw records as fit, `pending` is
FIONREAD and `flush` is SIOCIPPFFB. Whatever could not be read stands as a LossRecord in its place
among the records: damaged bytes, gaps in sequence numbers, losses that the system or a capture file
reports.

This module does the waiting: a reader feeds the decoder of an open log from its input when it needs
more. It holds what one `receive` gave, at most a few MiB, and nothing else that grows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pylog import engine
from pylog.backends.base import Backend
from pylog.decoder import LOT
from pylog.detect import UNDECIDED
from pylog.errors import DecodeError
from pylog.formats import Deciding, RawBatch
from pylog.input import left_s
from pylog.open_log import OnError, OpenLog
from pylog.origins import NOWHERE, Origin
from pylog.record import Record, Row
from pylog.records import Records as Records
from pylog.records import check_limit, deadline_of

LOT_SIZE = 1 << 21
"""How many bytes of a file are decoded at a time if records are made of columns."""


class Reader(OpenLog, Records):
    """The records of a source, in its order; an iterator (also asynchronous) and a context manager.

    replayed   whether records come as from a live source, without offsets

    One thread at a time may read. `close` and `stop` may be called from any thread and from signal
    handlers; both wake a blocked read. After fork() only one of the two processes may read on.
    """

    replayed = False

    def __init__(
        self,
        backend: Backend,
        *,
        layout: str | None = None,
        on_error: OnError = "resync",
        raw: bool = False,
        origin: Origin = NOWHERE,
    ) -> None:
        """As an OpenLog."""
        placed = not (backend.live or self.replayed)
        super().__init__(
            backend, layout=layout, on_error=on_error, raw=raw, placed=placed, origin=origin
        )
        if placed and backend.regular and engine.records_by_columns(backend.size or 0):
            self.decoder.by_columns, self.input.enough = True, LOT_SIZE

    def rows(self, payload: bool = True) -> Rows:
        """The records as rows, which is much faster than record.row_of for each record. No record
        may have been read yet, and none can be read later.

        payload   whether the rows have their payload
        """
        self.decoder.give_rows(payload)
        return Rows(self)

    @property
    def size(self) -> int:
        """The size in bytes of the message of the record read last; 0 before the first record."""
        return self.decoder.size

    @property
    def ready(self) -> bool:
        """Whether the next record is here already, so that reading it waits for nothing."""
        return self.decoder.ready

    def readers(self) -> list[Reader]:
        return [self]

    def leave_out(self, deciding: Deciding | None) -> None:
        if not self.replayed:  # whose pace is that of all records
            self.decoder.leave_out(deciding)

    @property
    def gives_rows(self) -> bool:
        return not self.replayed

    @property
    def left_out(self) -> int:
        return self.decoder.left_out

    def read(self, timeout: float | None = None) -> Record | None:
        """As Records.read. Raises DecodeError for damage when reading strictly, and again at
        every further call.
        """
        decoder = self.decoder
        if decoder.damages.error is not None:
            raise decoder.damages.error
        deadline = deadline_of(timeout)
        while not self.backend.closed:
            record = decoder.next()
            if record is not None:
                return record
            if self._more(deadline):
                continue
            record = self.input.end()  # gives one at a call
            if record is not None or not self._proceed():
                return record
        return None

    def __next__(self) -> Record:
        if not self.backend.closed:
            record = self.decoder.next()
            if record is not None:
                return record
        return super().__next__()

    def read_batch(self, timeout: float | None = None, limit: int = LOT) -> list[Record]:
        check_limit(limit)
        record = self.read(timeout)
        return [] if record is None else [record, *self.decoder.more(limit - 1)]

    def read_raw(
        self, timeout: float | None = None, limit: int = LOT
    ) -> Sequence[Record | RawBatch]:
        check_limit(limit)
        batch: list[Record | RawBatch] = []
        decoder, left, deadline = self.decoder, limit, deadline_of(timeout)
        if not decoder.ready and decoder.damages.error is None:
            self._more(deadline)
        # a record between messages that can be copied is decoded by itself
        decoder.lot = 1 if self.detection is not UNDECIDED and decoder.stream.gives_raw else LOT
        try:
            while left > 0 and (not batch or self.ready):
                copied = None if self.backend.closed else decoder.raw_batch(left)
                if copied is not None:
                    batch.append(copied)
                    left -= len(copied.packets)
                elif (record := self.read(0 if batch else left_s(deadline))) is not None:
                    batch.append(record)
                    left -= 1
                else:
                    break
        except (DecodeError, TimeoutError):  # raised again by the next call
            if not batch:
                raise
        finally:
            decoder.lot = LOT
        return batch

    def read_bytes(self, size: int) -> bytes:
        """As many complete raw records as fit in `size` bytes, at least one; b"" at the end.

        This is read(2) on /dev/ipl, except that a size too small for the next record is a
        ValueError and leaves the record in place. Netlink messages are padded to 4 bytes; those of
        a DLT_NFLOG capture get back the header that the capture lacks. Losses and damage are
        counted; strict reading raises DecodeError after what came before the damage.
        """
        taken: list[bytes] = []
        left = size
        try:
            while not self.backend.closed:
                while (octets := self.decoder.message()) is not None:
                    if len(octets) > left:
                        if taken:
                            return b"".join(taken)
                        raise ValueError(
                            f"{size} bytes are too few for the next record of {len(octets)}"
                        )
                    if not self.decoder.skip():
                        taken.append(octets)
                        left -= len(octets)
                if taken:
                    return b"".join(taken)
                if not self._more(None):
                    while self.input.end() is not None:
                        pass
                    if not self._proceed():
                        break
        except DecodeError:
            if taken:  # the next call raises the error again
                return b"".join(taken)
            raise
        return b""

    def pending(self) -> int:
        """How many bytes can be read without waiting: complete records at hand and what the system
        has (FIONREAD). In a file that is all the rest, counted as it is compressed; for NFLOG it
        includes the 20 bytes that end a batch (NLMSG_DONE).
        """
        if self.backend.closed:
            return 0
        received = self.decoder.queued + self.decoder.incomplete + len(self.input.head)
        return received + self.backend.pending()

    def flush(self) -> int:
        """Discard what can be read without waiting, and return how many bytes of records it was.

        A discarded record is neither received nor dropped; a file is left at its end.
        """
        flushed, by_system = 0, self.backend.flush()
        # bytes that arrive from here on stay
        limit = self.input.taken + len(self.input.head) + self.backend.pending()
        while True:
            flushed += self.decoder.discard()
            if by_system is not None:
                flushed += by_system + len(self.input.head)
                self.input.head = b""
                break
            there = self.input.head or self.backend.regular
            there = there or (self.input.taken < limit and self.backend.wait(0))
            if self.backend.closed or not there or not self._more(None):
                break
        self.decoder.losses.restart()
        return flushed

    def fileno(self) -> int:
        """The source's descriptor, to wait on."""
        return self.backend.fileno()

    def _more(self, deadline: float | None) -> bool:
        """Feed the decoder with more bytes; False when there are no more."""
        decoder, backend = self.decoder, self.backend
        undecided = self.detection is UNDECIDED
        if not undecided and decoder.follow():
            return True
        if self.input.final or (undecided and not self.input.detect(deadline)):
            return False
        if backend.in_one_place:  # after what was fed last
            self.report_overrun()
        if decoder.stale:
            backend.refresh()
        more = self.input.take(deadline)
        received_ns = time.time_ns() if backend.live else None
        final = not more or backend.message_aligned
        decoder.feed(more, final, received_ns, backend.namespace)
        if not backend.in_one_place:
            self.report_overrun()
        return True

    def report_overrun(self) -> None:
        """Let the decoder know of an overrun of the backend, after it was fed what came with it."""
        backend = self.backend
        if backend.overrun is not None:
            # numbers of these logs will show what was lost; without a log, it is reported at once
            logs = backend.logs if backend.accountable else ()
            self.decoder.overrun(backend.overrun, logs, backend.lost)
            backend.overrun = backend.lost = None

    def _proceed(self) -> bool:
        """After the end of a file, go on with the one that has its name now; False: with none."""
        if not self.backend.proceed():
            return False
        self.input.restart()
        self.decoder.begin(self.detection)
        self.decoder.losses.restart()
        return True


class Rows:
    """The records of a Reader as rows, for outputs with `write_rows`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def read_batch(self, timeout: float | None = None, limit: int = LOT) -> list[Row]:
        """As Reader.read_batch."""
        rows: list[Any] = self._reader.read_batch(timeout, limit)
        return rows
