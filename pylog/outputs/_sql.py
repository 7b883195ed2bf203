"""The base of outputs that write into a database: rows, refused rows, positions, exactly once.

Records wait until they are enough for a lot of rows, or until a commit. All rows up to a commit are
one transaction, and the position of the stack is in it. It replaces the position that this process
has read or written last, and no other: if a transaction of an earlier process took effect late, or
another process writes the same stack, the commit fails, and nothing of it is there.

A database refuses a statement if it refuses one of its rows. Then the rows are tried in smaller
parts, as often as the logarithm of their number, until the refused one is alone. The refused
records are reported just before the commit. If that fails, they are reported again.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pylog import outputs
from pylog.batch import Batch
from pylog.clock import EvenClock
from pylog.errors import BackendError
from pylog.outputs._columns import ROWS, report_left_out
from pylog.outputs._sql_tables import Table, read_of, writer_of
from pylog.record import Record, kind_of

if TYPE_CHECKING:  # which needs the extra
    import pyarrow as pa

KEPT_BYTES = 1 << 24
"""How many bytes of packets may wait until they are written."""
PRUNE_S = 600.0
"""How often old records are looked for."""
PRUNED = 20_000
"""How many old records of a table are deleted after a commit."""


class Refused(Exception):
    """The database refuses a row, for this reason; nothing of the statement is there.

    row   its place among the rows of the statement; None: the database does not say
    """

    def __init__(self, reason: str, row: int | None = None) -> None:
        super().__init__(reason)
        self.row = row


class Database(ABC):
    """A connection to a database. Each method may raise BackendError, after which it is closed."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction."""

    @abstractmethod
    def commit(self) -> None:
        """Commit it."""

    @abstractmethod
    def prepare(self, tables: Sequence[Table]) -> None:
        """Make the tables, and what they lack where they exist; BackendError."""

    @abstractmethod
    def prepared(self, table: Table, columns: pa.RecordBatch, now_ns: int) -> Any:
        """The rows of the columns, as `insert` takes them: what has a length. The table is made
        ready for them, with the partitions that they need.
        """

    @abstractmethod
    def insert(self, table: Table, rows: Any, start: int, stop: int) -> None:
        """Insert rows from `start` to `stop`, all or none: Refused."""

    @abstractmethod
    def position(self, writer: str, stream: str) -> str | None:
        """The position of a stack; a row for it is made if there is none."""

    @abstractmethod
    def move(self, writer: str, stream: str, old: str | None, new: str) -> bool:
        """Replace the old position by the new one, in the transaction; False: it is another."""

    @abstractmethod
    def prune(self, tables: Sequence[Table], days: int) -> bool:
        """Delete records that are older, PRUNED of each table at most, outside of a transaction;
        whether there may be more.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection: what was not committed is not there."""


class DatabaseOutput(outputs.Output):
    """Writes records into the tables of a database, exactly once."""

    def __init__(
        self,
        place: outputs.Place,
        database: Database,
        tables: Mapping[str, Table],
        *,
        writer: str | None = None,
        keep_days: int | None = None,
    ) -> None:
        """Prepares the tables and reads the position of the stack: BackendError, ValueError.

        database   is closed by `close`, and here after an error
        """
        self._place, self._database, self._tables = place, database, tables
        self._keep_days = keep_days
        self.wanted = read_of(tables)
        self._records: list[Record] = []
        self._size = 0
        """The bytes of the packets of these records."""
        self._refused: list[tuple[Record, str]] = []
        self._left_out: Counter[str] = Counter()
        self._in_transaction = False
        self._pruned = time.monotonic() - PRUNE_S
        self._clock = EvenClock()
        try:
            self._writer = writer_of(writer)
            database.prepare(list(tables.values()))
            self._position = database.position(self._writer, place.stream) if place.stream else None
        except BaseException:
            database.close()
            raise

    def position(self) -> str | None:
        return self._position

    def write(self, batch: Batch) -> None:
        if batch.in_columns:
            self._write_records()
            self.leave_out(batch.counts())
            for kind, table in self._tables.items():
                if batch.counts()[kind]:
                    columns = batch.columns(kind, table.read)
                    self._write_columns(table, columns, None)
        else:
            records = batch.records()
            self._records += records
            self._size += sum(map(_size, records))
            if len(self._records) >= ROWS or self._size >= KEPT_BYTES:
                self._write_records()

    def flush(self) -> None:
        """Nothing: rows are there after the commit."""

    def commit(self, position: str) -> None:
        self._write_records()
        stream = self._place.stream
        if stream and (self._in_transaction or position != self._position):
            self._begin()
            if not self._database.move(self._writer, stream, self._position, position):
                raise BackendError(
                    f"another process wrote the stack {stream!r} of {self._writer!r} into the same"
                    " database since: each needs a name of its own (see the option writer)"
                )
        for record, reason in self._refused:
            self._place.refuse(record, reason)
        self._refused = []
        if self._in_transaction:
            self._database.commit()
            self._in_transaction = False
        self._position = position if stream else None
        self._committed = position
        self._prune()

    def close(self) -> None:
        self._database.close()
        report_left_out(self._left_out, self._tables)

    def leave_out(self, counts: Mapping[str, int]) -> None:
        self._left_out.update({k: n for k, n in counts.items() if k not in self._tables})

    def _begin(self) -> None:
        if not self._in_transaction:
            self._database.begin()
            self._in_transaction = True

    def _prune(self) -> None:
        """Delete old records, if it is time to."""
        if self._keep_days is None or time.monotonic() < self._pruned + PRUNE_S:
            return
        if self._clock.is_ahead():  # perhaps by mistake, and what is deleted is gone
            return
        if not self._database.prune(list(self._tables.values()), self._keep_days):
            self._pruned = time.monotonic()

    def _write_records(self) -> None:
        """Write the records that wait."""
        records, self._records, self._size = self._records, [], 0
        by_kind: dict[str, list[Record]] = {}
        for record in records:
            by_kind.setdefault(kind_of(record), []).append(record)
        self.leave_out({kind: len(same) for kind, same in by_kind.items()})
        for kind, same in by_kind.items():
            if kind in self._tables:
                for held, columns in self._converted(self._tables[kind], same):
                    self._write_columns(self._tables[kind], columns, held)

    def _converted(
        self, table: Table, records: list[Record]
    ) -> Iterator[tuple[list[Record], pa.RecordBatch]]:
        """Records with their columns; one that no columns can be made of is refused."""
        try:
            columns = Batch(records).columns(table.kind, table.read)
        except (ValueError, OverflowError, TypeError) as error:  # pyarrow's are of these, too
            if len(records) == 1:
                self._refused.append((records[0], str(error)))
                return
            middle = len(records) // 2
            yield from self._converted(table, records[:middle])
            yield from self._converted(table, records[middle:])
        else:
            yield records, columns

    def _write_columns(
        self, table: Table, columns: pa.RecordBatch, records: list[Record] | None
    ) -> None:
        """Write the columns of records; `records` None: they are made if they are refused."""
        from pylog.outputs._sql_text import lots

        self._begin()
        at = 0
        for lot in lots(columns):
            rows = self._database.prepared(table, lot, time.time_ns())
            for row, reason in refusals(self._database, table, rows):
                if records is None:
                    from pylog.table.rows import records as made

                    self._refused += [(r, reason) for r in made(table.kind, lot.slice(row, 1))]
                else:
                    self._refused.append((records[at + row], reason))
            at += len(rows)


def _size(record: Record) -> int:
    payload: bytes | None = getattr(record, "payload", None)
    return 0 if payload is None else len(payload)


def refusals(database: Database, table: Table, rows: Any) -> Iterator[tuple[int, str]]:
    """Insert rows; gives the places of those that the database refuses, with the reasons."""
    start, count = 0, len(rows)
    size = count
    bad_before = 0  # a row from `start` to here is refused
    while start < count:
        stop = min(start + size, count)
        try:
            database.insert(table, rows, start, stop)
        except Refused as refused:
            if stop - start == 1 or refused.row == 0:
                yield start, str(refused)
                start += 1
                size = max(1, (stop - start) // 2)
                bad_before = 0
            else:
                size = refused.row or (stop - start) // 2
                bad_before = stop
        else:
            start = stop
            size = max(1, (bad_before - start) // 2) if start < bad_before else size * 2
