"""Writes an Arrow IPC file of one kind of record.

Such a file cannot replace the dictionary of a column, so texts that repeat are written as plain
text. The last batch waits for the end, because it has the metadata, which is complete only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pylog import outputs
from pylog.outputs._columns import (
    EXTRA,
    RENAMING,
    ColumnsOutput,
    check_renaming,
    renamed_schema,
    sink,
    wanted,
)
from pylog.outputs._named import renamed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EXTRA"]

OPTIONS, check = RENAMING, check_renaming

NAME = "arrow"
ENDINGS = (".arrow", ".feather")
BINARY = COLUMNS = True
APPENDS = False


class Output(ColumnsOutput):
    """Writes the records of a kind as record batches."""

    def __init__(
        self, target: outputs.Target, *, kind: str | None = None, columns: str | None = None,
        exclude: str | None = None, rename: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        import pyarrow as pa

        from pylog.table.schemas import chosen

        kind, names = wanted(kind, columns, exclude)
        super().__init__(target, {kind: names})
        schema = chosen(kind, names)
        plain = [pa.string() if pa.types.is_dictionary(f.type) else f.type for f in schema]
        self._schema = pa.schema(list(zip(names, plain, strict=True)))
        self._called = list(renamed(names, rename).values())
        self._writer = pa.ipc.new_file(
            sink(target.stream), renamed_schema(self._schema, renamed(names, rename))
        )

        self._last: pa.RecordBatch | None = None

    def _columns(self, kind: str, columns: pa.RecordBatch) -> None:
        if self._last is not None:
            self._writer.write_batch(self._last)
        self._last = columns.cast(self._schema).rename_columns(self._called)

    def _end(self) -> None:
        try:
            if self._last is not None:
                self._writer.write_batch(self._last, custom_metadata=self.metadata or None)
        finally:
            self._writer.close()
