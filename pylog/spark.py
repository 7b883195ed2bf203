"""Logs in Spark 4, as a Python Data Source.

    spark.dataSource.register(pylog.spark.DataSource)
    spark.read.format("pylog").load("/logs/*.ipl").groupBy("action").count().show()

Each executor decodes splits of the dumps (see pylog.table.splits), so all executors and the driver
must reach the dumps under the same paths or URLs, and import pylog. Needs the extra `spark`.

Options: `kind`, `layout`, `on_error`, `log_tz` and `year` as for `pylog.iter_batches`; `where`, a
filter of pylog (docs/filters.md), which is applied before Spark gets the rows; `n`, about how many
partitions (default: one for every 64 MiB); `exact`, "false" to plan without reading through the
dumps, as for `pylog.dask.read`. With a schema of fewer columns, only those are made.

Spark has no dictionaries, no unsigned numbers and no nanoseconds: texts are plain, numbers have the
next larger type (decimal for 64 bits), and times are cut to microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

from pylog.errors import missing_extra

try:
    import pyspark.sql.datasource as spark
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StructType
except ImportError as error:
    raise missing_extra("pylog.spark", "spark") from error
import pyarrow as pa

from pylog.filter import Filter
from pylog.open_log import OnError
from pylog.table.schemas import chosen, schema
from pylog.table.splits import Split, confirm, decode, planned

_WIDER = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(),
          pa.uint64(): pa.decimal128(20), pa.timestamp("ns", "UTC"): pa.timestamp("us", "UTC"),
          pa.binary(16): pa.binary()}  # fmt: skip


class DataSource(spark.DataSource):
    """The format "pylog"."""

    @classmethod
    def name(cls) -> str:
        return "pylog"

    def schema(self) -> StructType:
        return from_arrow_schema(_spark_schema(schema(self.options.get("kind", "packet"))))

    def reader(self, schema: StructType) -> Reader:
        return Reader(self.options, schema.names)


class Reader(spark.DataSourceReader):
    """Reads dumps: a partition is a split."""

    def __init__(self, options: dict[str, str], columns: list[str]) -> None:
        self._options, self._columns = dict(options), columns
        where = self._options.get("where")
        self._where = None if where is None else Filter(where)  # with one `now` for all partitions

    def partitions(self) -> list[spark.InputPartition]:
        get = self._options.get
        paths = json.loads(get("paths", "null")) or get("path")
        if not paths:
            raise ValueError("load() needs a path")
        on_error = cast("OnError", get("on_error", "resync"))
        n = None if get("n") is None else int(self._options["n"])
        year = None if get("year") is None else int(self._options["year"])
        splits = planned(paths, n, get("layout"), on_error, get("log_tz"), year)
        exact = get("exact", "true").lower() != "false"
        return [spark.InputPartition(split) for split in (confirm(splits) if exact else splits)]

    def read(self, partition: spark.InputPartition) -> Iterator[pa.RecordBatch]:
        split: Split = partition.value
        kind = self._options.get("kind", "packet")
        wanted = _spark_schema(chosen(kind, self._columns))
        for batch in decode(split, kind=kind, columns=self._columns, where=self._where):
            yield batch.cast(wanted, safe=False)  # only times lose digits


def _spark_schema(wanted: pa.Schema) -> pa.Schema:
    """The same columns in types of Spark."""
    return pa.schema([field.with_type(_wider(field.type)) for field in wanted])


def _wider(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_wider(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_wider(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, _wider(kind.item_type))
    return _WIDER.get(kind, kind)
