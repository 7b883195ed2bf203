"""What flows from a source to filters and outputs: records that follow each other, in either form.

A batch holds records, or Arrow columns with a RecordBatch for each kind of record. It gives the
form that is asked for, and converts only if it holds the other one: an output takes whichever it is
faster with. Records of several kinds keep their order; columns have it for each kind alone. Columns
lack the raw bytes of records.

pyarrow is imported when columns are asked for, not before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pylog.record import Record, kind_of

if TYPE_CHECKING:
    import pyarrow as pa


class Batch:
    """Some records, or their columns."""

    __slots__ = ("_columns", "_records")

    def __init__(self, records: Sequence[Record]) -> None:
        self._records: Sequence[Record] | None = records
        self._columns: Mapping[str, pa.RecordBatch] = {}

    @classmethod
    def of_columns(cls, columns: Mapping[str, pa.RecordBatch]) -> Batch:
        """A batch of columns, by kind of record."""
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
        """The records; of columns, one kind after the other.

        Raises ValueError for columns of which no records can be made, see table.rows.
        """
        if self._records is not None:
            return self._records
        from pylog.table.rows import records  # needs the extra

        return [r for kind, columns in self._columns.items() for r in records(kind, columns)]

    def columns(self, kind: str, names: Sequence[str] | None = None) -> pa.RecordBatch:
        """The columns of these names, None: of the schema, of the records of a kind.

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
