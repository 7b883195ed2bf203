"""What is wanted of the records of a kind: which columns, and which rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pylog.table.schemas import chosen, on_request, schema


class Selection:
    """Some columns of the records of a kind, where an expression holds.

    result   the schema of what `of` gives
    needed   the schema of what it takes: the columns, and those that the expression names
    """

    def __init__(self, kind: str, columns: Sequence[str] | None = None, where: Any = None) -> None:
        """`where` is a pyarrow.compute.Expression; ValueError for columns that there are not."""
        self.kind = kind
        self.result = chosen(kind, columns)
        self._where = where
        names = list(self.result.names)
        if where is not None:
            names += [name for name in _named_by(where, kind) if name not in names]
        self.needed = chosen(kind, names)

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that are wanted, in the columns that are wanted."""
        if self._where is not None:
            table = pa.Table.from_batches([batch]).filter(self._where).combine_chunks()
            batch = next(iter(table.to_batches()), batch.slice(0, 0))
        return batch.select(self.result.names) if self.needed != self.result else batch


def _named_by(where: Any, kind: str) -> list[str]:
    """The columns that an expression names: those without which it cannot be evaluated."""
    everything = chosen(kind, [*schema(kind).names, *on_request(kind)])
    empty = everything.empty_table()
    empty.filter(where)  # tells what is wrong with the expression

    def fails_without(name: str) -> bool:
        try:
            empty.drop_columns([name]).filter(where)
        except pa.ArrowInvalid:
            return True
        return False

    return [name for name in everything.names if fails_without(name)]
