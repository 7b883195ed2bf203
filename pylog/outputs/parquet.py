"""Writes a Parquet file of one kind of record, compressed with snappy, which takes little time.

A row group is written when it is full, and the index of all row groups when the file is closed:
until then no reader can open it.
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

NAME = "parquet"
ENDINGS = (".parquet",)
BINARY = COLUMNS = True
APPENDS = False

ROW_GROUP = 1 << 16
"""How many rows a row group has at least; the last may have fewer."""

RISING = ("offset", "timestamp", "observed", "seq", "start", "stop", "last")
"""Columns whose values mostly rise a little from row to row."""

MANIFOLD = (*RISING, "sport", "nat_sport", "nat_dport", "fragment", "vlan", "length", "payload",
            "packets", "bytes", "id", "duration_us", "ip_id", "tcp_seq", "tcp_ack")  # fmt: skip
"""Columns whose values rarely repeat, so that a dictionary would be of no use."""

DICTIONARY = 1 << 18
"""How many bytes a dictionary may have before values are written without it.

Addresses decide it. Where they repeat (3,500 sources in 60,000 packets), a dictionary makes both
columns 185 KB long, not 623 KB. Where each is new, it is in vain: with this limit it adds 5 % to
the size and the time of the columns, with pyarrow's limit of 1 MiB 19 % and 80 %.
"""

SOUGHT = ("rule", "protocol", "saddr", "daddr", "sport", "dport", "event", "nat_saddr", "nat_daddr",
          "nat_sport", "nat_dport")  # fmt: skip
"""Columns that queries filter by, besides times: readers skip row groups by their statistics."""


class Output(ColumnsOutput):
    """Writes the records of a kind as row groups."""

    def __init__(
        self, target: outputs.Target, *, kind: str | None = None, columns: str | None = None,
        exclude: str | None = None, rename: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        import pyarrow.parquet as pq

        from pylog.table.schemas import chosen

        kind, names = wanted(kind, columns, exclude)
        super().__init__(target, {kind: names})
        self._schema = chosen(kind, names)
        self._called = called = renamed(names, rename)
        self._writer = pq.ParquetWriter(
            sink(target.stream), renamed_schema(self._schema, called), compression="snappy",
            use_dictionary=[called[name] for name in names if name not in MANIFOLD],
            dictionary_pagesize_limit=DICTIONARY,
            column_encoding={called[n]: "DELTA_BINARY_PACKED" for n in RISING if n in names},
            write_statistics=[called[n] for n in (*RISING, *SOUGHT) if n in names],
        )  # fmt: skip
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def _columns(self, kind: str, columns: pa.RecordBatch) -> None:
        self._batches.append(columns)
        self._rows += columns.num_rows
        if self._rows >= ROW_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        batches, self._batches, self._rows = self._batches, [], 0
        if batches:
            table = pa.Table.from_batches(batches, self._schema)
            table = table.rename_columns(list(self._called.values()))
            self._writer.write_table(table, table.num_rows)

    def _end(self) -> None:
        try:
            self._write_group()
            self._writer.add_key_value_metadata(self.metadata)
        finally:
            self._writer.close()
