"""Parquet and Arrow files as parts: the row groups or batches of rows, with their statistics.

A part is read when it is asked for, and only the columns that are wanted. Files are closed when the
context ends, so that a data set of very many files needs one descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pylog.backends.files import is_url, opened
from pylog.errors import BackendError

ARROW = b"ARROW1"
"""The first bytes of an Arrow file."""


LOSSES = b"pylog.losses"
"""The key of the metadata, see outputs._columns."""


Bounds = tuple[Any, Any, bool]
"""The least and greatest value of a column, None if it has none; whether some rows have none."""


class Part(NamedTuple):
    """Consecutive rows of a file.

    read    gives columns of these rows
    stats   gives the bounds of a column, times in nanoseconds since 1970; None: not known
    """

    read: Callable[[Sequence[str]], pa.Table]
    stats: Callable[[str], Bounds | None]
    rows: int


_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""How many nanoseconds the units of times have."""


class OpenTable:
    """The context of a file that is open: the names of its columns, and its parts.

    losses   what it says of losses in the log that it was made of, see outputs._columns; None:
             nothing

    BackendError for a file that cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.losses: str | None = None
        self._stack = ExitStack()

    def __enter__(self) -> tuple[list[str], Iterator[Part]]:
        try:
            if is_url(self._path):
                stream = pa.PythonFile(self._stack.enter_context(opened(self._path)))
            else:
                stream = self._stack.enter_context(pa.OSFile(self._path))
            if stream.read(len(ARROW)) == ARROW:
                reader = pa.ipc.open_file(stream)
                self._note(_last_metadata(reader))
                return self._distinct(reader.schema.names), self._of_arrow(reader)
            file = pq.ParquetFile(stream)
            self._note(file.metadata.metadata)
            return self._distinct(file.schema_arrow.names), self._of_parquet(file)
        except BaseException as error:
            self._stack.close()
            raise self._failure(error) from error

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _note(self, metadata: Mapping[bytes, bytes] | None) -> None:
        word = (metadata or {}).get(LOSSES)
        self.losses = None if word is None else word.decode(errors="replace")

    def _distinct(self, names: Sequence[str]) -> list[str]:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BackendError(f"{self._path} has columns more than once: {', '.join(twice)}")
        return list(names)

    def _failure(self, error: BaseException) -> BaseException:
        if isinstance(error, pa.ArrowException | OSError | UnicodeDecodeError):
            return BackendError(f"cannot read {self._path}: {error}")
        return error

    def _guarded(self, read: Callable[[], pa.Table]) -> pa.Table:
        try:
            return read()
        except (pa.ArrowException, OSError) as error:
            raise self._failure(error) from error

    def _of_parquet(self, file: pq.ParquetFile) -> Iterator[Part]:
        metadata = file.metadata
        types = {field.name: field.type for field in file.schema_arrow}
        places = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}

        def part(number: int) -> Part:
            group = metadata.row_group(number)

            def stats(name: str) -> Bounds | None:
                if name not in places:
                    return None
                column = group.column(places[name])
                found = column.statistics
                if found is None or not found.has_null_count:
                    return None
                if found.null_count == group.num_rows:
                    return None, None, True
                if not found.has_min_max:
                    return None
                some_null = found.null_count > 0
                if not pa.types.is_timestamp(types[name]):
                    try:
                        return found.min, found.max, some_null
                    except UnicodeDecodeError:  # a damaged file
                        return None
                if found.physical_type != "INT64":
                    return None
                scale = _NS[types[name].unit]
                return found.min_raw * scale, found.max_raw * scale, some_null

            def read(names: Sequence[str]) -> pa.Table:
                return self._guarded(lambda: file.read_row_group(number, columns=list(names)))

            return Part(read, stats, group.num_rows)

        return map(part, range(metadata.num_row_groups))

    def _of_arrow(self, reader: Any) -> Iterator[Part]:
        def part(number: int) -> Part:
            table = self._guarded(lambda: pa.Table.from_batches([reader.get_batch(number)]))
            return Part(lambda names: table.select(list(names)), lambda name: None, table.num_rows)

        return map(part, range(reader.num_record_batches))


def _last_metadata(reader: Any) -> Mapping[bytes, bytes] | None:
    """The metadata of the last batch of an Arrow file."""
    last = reader.num_record_batches - 1
    if last < 0:
        return None
    metadata: Mapping[bytes, bytes] | None = reader.get_batch_with_custom_metadata(last)[1]
    return metadata
