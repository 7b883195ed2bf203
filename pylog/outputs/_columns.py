"""The base of outputs that write columns: Arrow, Parquet and SQLite.

A batch of columns is written as it is. Records, which a live source gives a few at a time, wait
until they are enough for a batch of columns. A file holds one kind of record, or several; records
of other kinds are counted as left out, and reported when the file is closed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from pylog import outputs
from pylog.batch import Batch
from pylog.notes import notes
from pylog.options import Option
from pylog.outputs._named import COLUMN_OPTIONS, RENAME, excluded, renamed
from pylog.record import Record, kinds

if TYPE_CHECKING:  # which needs the extra
    import pyarrow as pa

EXTRA = "arrow"
OPTIONS = (
    Option("kind", lambda: tuple(kinds()), None, "which records",
           absent="packet; of --flows and nfct: flow, of nftables: ruleset; of databases: all, a"
           " table each"),
    *COLUMN_OPTIONS,
)  # fmt: skip
RENAMING = (*OPTIONS, RENAME)
"""The options of outputs whose columns may have other names."""
LOSSES = "pylog.losses"
"""The key of the metadata of Parquet and Arrow files that says what was lost before, in a word:
none, unknown (the log cannot tell), left out (of this file), or held (it is a table of losses)."""
ROWS = 8192
"""How many records are converted into columns at a time."""


def wanted(kind: str | None, columns: str | None, exclude: str | None) -> tuple[str, Sequence[str]]:
    """A kind of record, "packet" by default, and its columns.

    Raises ValueError for a column that does not exist, BackendUnavailable without the extra.
    """
    from pylog.table.schemas import chosen

    kind = kind or "packet"
    names = chosen(kind, None if columns is None else columns.split(",")).names
    return kind, left(names, kind, exclude)


def left(names: Sequence[str], kind: str, exclude: str | None) -> Sequence[str]:
    """The columns of a kind that are not in the list `exclude`; ValueError as `wanted`."""
    from pylog.table.schemas import on_request

    left_out = excluded(exclude, on_request(kind))
    names = [name for name in names if name not in left_out]
    if not names:
        raise ValueError(f"exclude is {exclude!r}, but must leave a column")
    return names


def check(*, kind: str | None, columns: str | None, exclude: str | None) -> None:
    """Raises as `wanted`."""
    wanted(kind, columns, exclude)


def check_renaming(*, rename: Mapping[str, str] | None, **others: Any) -> None:
    """Raises as `wanted`; ValueError also for names that two columns would have."""
    renamed(wanted(**others)[1], rename)


def renamed_schema(schema: pa.Schema, called: Mapping[str, str]) -> pa.Schema:
    """The schema with other names of its columns."""
    import pyarrow as pa

    return pa.schema([field.with_name(called[field.name]) for field in schema], schema.metadata)


class ColumnsOutput(outputs.Output):
    """Writes the columns of one kind of record, or of several."""

    wanted: Mapping[str, Sequence[str]]

    def __init__(self, target: outputs.Target, wanted: Mapping[str, Sequence[str]]) -> None:
        self._stream = target.stream
        self.wanted = wanted
        self._records: list[Record] = []
        self._left_out: Counter[str] = Counter()
        self._losses_seen: bool | None = None

    def note_losses(self, seen: bool) -> None:
        self._losses_seen = seen and self._losses_seen is not False

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of a file that is complete."""
        if self._losses_seen is None:
            return {}
        if "loss" in self.wanted:
            return {LOSSES: "held"}
        if self._left_out["loss"]:
            return {LOSSES: "left out"}
        return {LOSSES: "none" if self._losses_seen else "unknown"}

    @abstractmethod
    def _columns(self, kind: str, columns: pa.RecordBatch) -> None:
        """Write columns of a kind."""

    @abstractmethod
    def _end(self) -> None:
        """Write what completes the file."""

    def write(self, batch: Batch) -> None:
        if batch.in_columns:
            self._write_records()
            self._write_columns(batch)
        else:
            self._records += batch.records()
            if len(self._records) >= ROWS:
                self._write_records()

    def _write_records(self) -> None:
        """Write the records that wait."""
        records, self._records = self._records, []
        if records:
            self._write_columns(Batch(records))

    def _write_columns(self, batch: Batch) -> None:
        counts = batch.counts()
        self.leave_out(counts)
        for kind, names in self.wanted.items():
            if counts[kind]:
                self._columns(kind, batch.columns(kind, names))

    def leave_out(self, counts: Mapping[str, int]) -> None:
        """Count records of a source, by kind; those of kinds that the file lacks are left out."""
        self._left_out.update({k: n for k, n in counts.items() if k not in self.wanted})

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        try:
            self._write_records()
        finally:
            self._end()
        self._stream.flush()
        report_left_out(self._left_out, self.wanted)


def report_left_out(counts: Mapping[str, int], held: Iterable[str]) -> None:
    """Report how many records were left out, because a file does not hold their kinds."""
    for kind in kinds():
        if (count := counts.get(kind, 0)) and kind not in held:
            records = "record" if count == 1 else "records"
            notes.warning("%d %s %s left out: --kind %s writes those", count, kind, records, kind)


class Positioned:
    """A binary stream that pyarrow can write to: it has a position, which a pipe has not."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._at = 0

    def write(self, data: Any) -> int:
        size = len(data)
        self._stream.write(data)
        self._at += size
        return size

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Nothing: the stream stays open."""


def sink(stream: BinaryIO) -> pa.NativeFile:
    """A stream for pyarrow's writers."""
    import pyarrow as pa

    return pa.PythonFile(Positioned(stream), mode="w")
