"""Records as all readers give them: one by one or in lists, waiting for the next, also filtered.

`Records` is the base class of readers: of one source, of several merged ones, of joins. `where`
gives a reader of those records that a filter wants. What the messages of many records have in
common may decide that they are not wanted; a reader of one source then does not even decode them.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from pylog.actions import Actions
from pylog.aio import AsyncRecords
from pylog.backends.base import Backend
from pylog.decoder import LOT
from pylog.formats import Deciding, RawBatch
from pylog.formats.stream import Test, ValuesTest
from pylog.packets import Packets
from pylog.record import PacketRecord, Record, Row

if TYPE_CHECKING:
    from pylog.filter import Filter
    from pylog.reader import Reader, Rows

R = TypeVar("R", bound=msgspec.Struct)


def deadline_of(timeout: float | None) -> float | None:
    """When to stop waiting, by the monotonic clock; ValueError for a timeout that is NaN."""
    if timeout is None:
        return None
    if timeout != timeout:
        raise ValueError(f"timeout is {timeout}, but must be a number of seconds")
    return time.monotonic() + timeout


def check_limit(limit: int) -> None:
    """ValueError for a limit below 1."""
    if limit < 1:
        raise ValueError(f"limit is {limit}, but must be 1 or more")


class Records(AsyncRecords):
    """What all readers have in common: they give records in order, and wait for the next."""

    @abstractmethod
    def read(self, timeout: float | None = None) -> Record | None:
        """The next record, waiting for it; None at the end, or after `close`.

        timeout   how many seconds to wait at most; then TimeoutError, and nothing is lost
        """

    def read_batch(self, timeout: float | None = None, limit: int = LOT) -> list[Record]:
        """The next record, waiting for it as `read` does, and those that are at hand after it.

        limit   how many records to give at most, 1 or more
        Gives [] at the end, or after `close`. Much faster than a `read` for each record.
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

    def read_raw(
        self, timeout: float | None = None, limit: int = LOT
    ) -> Sequence[Record | RawBatch]:
        """As `read_batch`, to capture a live source with raw=True: messages that can be copied
        without decoding them come as RawBatch, which is faster.
        """
        return self.read_batch(timeout, limit)

    def packets(self) -> Packets:
        """The packet records only, for `for` and `async for`; other kinds are passed over.

        Losses are counted all the same (`dropped`, `uncounted`, `malformed`), and the first one is
        logged as a warning of the logger "pylog".
        """
        return Packets(self)

    def where(self, wanted: str | Filter, *, actions: Actions | None = None) -> Filtered:
        """A reader of those records that a filter wants, see pylog.filter. What this reader has is
        read by that one; its counts, such as `received`, go on counting all records.

        wanted    the filter or its text
        actions   what prefixes of NFLOG stand for: records get it before they are filtered

        Raises FilterError, a ValueError, for a text that is no filter. A loss is always given,
        unless the filter mentions `kind`.
        """
        if isinstance(wanted, str):
            from pylog.filter import Filter  # here, because it takes a while

            wanted = Filter(wanted)
        return Filtered(self, wanted, actions)

    def leave_out(self, deciding: Deciding | None) -> None:
        """Leave out packets of which a part of their message decides that they are not wanted, as
        far as this reader can; `left_out` counts them. They are received all the same.
        """

    @property
    def gives_rows(self) -> bool:
        """Whether it has `rows`, which are faster than records: a Reader has."""
        return False

    @property
    def left_out(self) -> int:
        """How many records so far were left out, because a filter does not want them."""
        return 0

    @abstractmethod
    def readers(self) -> list[Reader]:
        """The reader of each source."""

    def awaited(self) -> list[Backend]:
        return [reader.backend for reader in self.readers()]

    @property
    def ready(self) -> bool:
        """Whether the next record is here already, so that reading it waits for nothing."""
        return False

    def due_s(self) -> float | None:
        """In how many seconds to read again, where no descriptor shows it; None: a descriptor
        does.
        """
        return min((t for r in self.readers() if (t := r.backend.tick_s) is not None), default=None)

    def stop(self) -> None:
        """Ask for the end: reading gives what the sources still have, then ends.

        An NFLOG group is unbound, so the kernel sends the batch that it was gathering
        (__instance_destroy in nfnetlink_log.c).
        """
        for reader in self.readers():
            reader.backend.stop()

    def close(self) -> None:
        """Close the sources; a second call does nothing. A read that waits gives None."""
        for reader in self.readers():
            reader.backend.close()

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        record = self.read()
        if record is None:
            raise StopIteration
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Filtered(Records):
    """The records of another reader that a filter wants. The counts are those of that reader.

    wanted   the filter
    """

    def __init__(self, records: Records, wanted: Filter, actions: Actions | None = None) -> None:
        self.wanted = wanted
        self._records, self._actions = records, actions
        self._queue: deque[Record] = deque()
        self._passed_over = 0
        self._unfinished = False
        """Whether the last read ended at its deadline while there were records to be filtered."""
        records.leave_out(DecidingFilter(wanted, actions))

    def __getattr__(self, name: str) -> Any:
        """What only some readers have, such as `received` and `dropped`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._records, name)

    def readers(self) -> list[Reader]:
        return self._records.readers()

    @property
    def gives_rows(self) -> bool:
        return self._records.gives_rows

    @property
    def left_out(self) -> int:
        return self._records.left_out + self._passed_over

    @property
    def ready(self) -> bool:
        """Whether the next record is here already, so that reading it waits for nothing."""
        return bool(self._queue)

    def due_s(self) -> float | None:
        return self._records.due_s()

    def awaited(self) -> list[Backend]:
        return self._records.awaited()

    def reload(self) -> None:
        """Read the files of the filter again, from the next record on. FilterError, and the filter
        stays as it was.
        """
        self.wanted.reload()
        self._records.leave_out(DecidingFilter(self.wanted, self._actions))

    def read(self, timeout: float | None = None) -> Record | None:
        if not self._queue:
            self._queue += self._lot(timeout, LOT)
        return self._queue.popleft() if self._queue else None

    def read_batch(self, timeout: float | None = None, limit: int = LOT) -> list[Record]:
        check_limit(limit)
        if self._queue:
            return [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
        return self._lot(timeout, limit)

    def rows(self, payload: bool = True) -> FilteredRows | None:
        """As Reader.rows; None if there are no rows of this reader, or the filter cannot be asked
        of rows.
        """
        if not (self._records.gives_rows and self.wanted.fits_rows):
            return None
        reader: Any = self._records
        return FilteredRows(self, reader.rows(payload))

    def _lot(self, timeout: float | None, limit: int) -> list[Record]:
        return self.wanted_lot(self._records.read_batch, self.wanted.matches, timeout, limit)

    def wanted_lot(
        self,
        read: Callable[[float | None, int], list[R]],
        matches: Callable[[R], bool],
        timeout: float | None,
        limit: int,
    ) -> list[R]:
        """The next wanted records, or rows, of those that `read` gives; TimeoutError at the
        deadline, [] at the end.
        """
        deadline, actions = deadline_of(timeout), self._actions
        self._unfinished = False
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            lot = read(left, limit)
            if not lot:
                return lot
            if actions is not None:
                lot = [actions.record(record) for record in lot]
            wanted = [record for record in lot if matches(record)]
            self._passed_over += len(lot) - len(wanted)
            if wanted:
                return wanted
            if deadline is not None and time.monotonic() >= deadline:
                self._unfinished = True
                raise TimeoutError("no record that is wanted came in time")

    async def _readable(self) -> None:
        if not self._unfinished:  # else there may be more at hand
            await super()._readable()

    def close(self) -> None:
        self._records.close()

    def stop(self) -> None:
        self._records.stop()


class FilteredRows:
    """The rows of a reader that a filter wants, for outputs with `write_rows`."""

    def __init__(self, filtered: Filtered, rows: Rows) -> None:
        self._filtered, self._rows = filtered, rows

    def read_batch(self, timeout: float | None = None, limit: int = LOT) -> list[Row]:
        """As Records.read_batch."""
        matches = self._filtered.wanted.matches_row
        return self._filtered.wanted_lot(self._rows.read_batch, matches, timeout, limit)


class DecidingFilter:
    """The filter as streams ask it, see formats.stream.Deciding."""

    def __init__(self, wanted: Filter, actions: Actions | None) -> None:
        self._wanted, self._actions = wanted, actions

    def decided_by(self, attributes: frozenset[str]) -> Test | None:
        test, actions = self._wanted.decided_by(attributes), self._actions
        if test is None or actions is None:
            return test

        def fits(packet: PacketRecord) -> bool:
            return test(actions.record(packet))

        return fits

    def decided_by_values(self, attributes: frozenset[str]) -> ValuesTest | None:
        if self._actions is not None:
            attributes -= {"action"}
        return self._wanted.decided_by_values(attributes)
