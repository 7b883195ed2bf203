"""A batch: consecutive records on their way from a source to an output.

A batch holds records, or Arrow columns with a RecordBatch for each kind of record. It gives either
form and converts only if it holds the other, so each output takes the form that it is faster with.
Records of several kinds keep their order; columns keep it within each kind. Columns lack the raw
bytes of records. pyarrow is imported only when columns are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pylog.record import Record, kind_of

if TYPE_CHECKING:
    import pyarrow as pa


class Batch:
    """Consecutive records, or their columns."""

    __slots__ = ("_columns", "_records")

    def __init__(self, records: Sequence[Record]) -> None:
        self._records: Sequence[Record] | None = records
        self._columns: Mapping[str, pa.RecordBatch] = {}

    @classmethod
    def of_columns(cls, columns: Mapping[str, pa.RecordBatch]) -> Batch:
        """A batch that holds columns, by kind of record."""
        made = cls(())
        made._records, made._columns = None, columns
        return made

    def __len__(self) -> int:
        return self.counts().total()

    @property
    def in_columns(self) -> bool:
        """Whether it holds columns, not records."""
        return self._records is None

    def counts(self) -> Counter[str]:
        """How many records of each kind there are."""
        if self._records is not None:
            return Counter(map(kind_of, self._records))
        return Counter({kind: columns.num_rows for kind, columns in self._columns.items()})

    def records(self) -> Sequence[Record]:
        """The records; made of columns, one kind after the other.

        Raises ValueError for columns that no records can be made of, see table.rows.
        """
        if self._records is not None:
            return self._records
        from pylog.table.rows import records  # needs the extra

        return [r for kind, columns in self._columns.items() for r in records(kind, columns)]

    def columns(self, kind: str, names: Sequence[str] | None = None) -> pa.RecordBatch:
        """The columns of a kind of record; `names` None: all of its schema.

        Raises ValueError for a kind or column that does not exist, BackendUnavailable without the
        extra.
        """
        from pylog.table.schemas import batch, chosen  # needs the extra

        wanted = chosen(kind, names)
        held = self._columns.get(kind)
        if held is not None and set(wanted.names) <= set(held.schema.names):
            return held if held.schema.names == wanted.names else held.select(wanted.names)
        records = self.records()
        same = [record for record in records if kind_of(record) == kind]
        return batch(kind, same, wanted)
