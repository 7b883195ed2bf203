"""Records as Arrow tables: columns for analysis, decoded many records at a time.

    import pylog

    table = pylog.read_table("fw.dump", columns=["timestamp", "action", "saddr", "dport"])
    print(table.num_rows)

The functions need the extra `arrow` (NumPy and pyarrow). They import it, and pylog.table which does
the work, only when they are called: importing pylog stays fast, and works without the extra.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from pylog.backends.base import check_source
from pylog.open_log import OnError
from pylog.origins import Origin, origins_of

if TYPE_CHECKING:
    import pyarrow as pa

    from pylog.table.select import Selection

Source = str | os.PathLike[str] | BinaryIO


def iter_batches(
    paths: Source | Sequence[Source],
    *,
    kind: str = "packet",
    columns: Sequence[str] | None = None,
    where: Any = None,
    layout: str | None = None,
    on_error: OnError = "resync",
    rows: int = 32_768,  # pylog.table.bulk.ROWS, which is not imported here
    jobs: int = 1,
    origin: bool | None = None,
    labels: Mapping[str, str] | None = None,
    log_tz: str | None = None,
    year: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """The records of logs, one log after the other, as Arrow record batches.

    paths     a path, "-" (standard input) or a binary file object, or several of them
    kind      packet, flow or loss: which records
    columns   names of columns: of the schema of the kind, or made on request, as saddr_bytes;
              None: all of the schema
    where     a filter (see pylog.filter) or its text, or a pyarrow.compute.Expression over any
              columns; rows for which it is true are given
    rows      about how many rows a batch has; the last of a log may have fewer
    origin    whether each row has its path and the machine that logged it; None: if there are
              several paths, or labels
    labels    names in place of the paths, by the path as it is given
    log_tz    of text logs: the time zone of times that do not state it, as for `pylog.open`
    year      of text logs with log_tz: the year of the first line without one
    jobs      how many processes decode. Paths may then also be directories, globs and fsspec
              URLs, but no file objects. The processes are spawned, so a program calls this below
              `if __name__ == "__main__":`

    Everything else is as for `pylog.open`, and so are the errors; ValueError also for a kind or
    column that does not exist, and for a live source. Memory does not grow with the size of a log.
    """
    from pylog.table.select import Selection

    selection = Selection(kind, columns, where)
    if rows < 1:
        raise ValueError(f"rows is {rows}, but must be 1 or more")
    if jobs != 1:
        from pylog.table import parallel  # only here: it is slow to import

        return parallel.batches(
            _named(paths), jobs, selection, layout, on_error, rows, origin, labels, log_tz, year
        )
    sources = _several(paths)
    origins = origins_of(sources, origin, labels)
    return _batches(sources, selection, layout, on_error, rows, origins, log_tz, year)


def read_table(
    paths: Source | Sequence[Source],
    *,
    kind: str = "packet",
    columns: Sequence[str] | None = None,
    where: Any = None,
    layout: str | None = None,
    on_error: OnError = "resync",
    jobs: int = 1,
    origin: bool | None = None,
    labels: Mapping[str, str] | None = None,
    log_tz: str | None = None,
    year: int | None = None,
) -> pa.Table:
    """All records of logs as one Arrow table; everything, `jobs` too, is as for `iter_batches`."""
    batches = iter_batches(
        paths, kind=kind, columns=columns, where=where, layout=layout, on_error=on_error,
        jobs=jobs, origin=origin, labels=labels, log_tz=log_tz, year=year,
    )  # fmt: skip
    import pyarrow as pa

    from pylog.table.select import Selection

    return pa.Table.from_batches(batches, Selection(kind, columns, where).result)


def _several(paths: Source | Sequence[Source]) -> list[Source]:
    if isinstance(paths, Sequence) and not isinstance(paths, str | bytes | bytearray | memoryview):
        return list(paths)
    return [paths]  # type: ignore[list-item]


def _named(paths: Source | Sequence[Source]) -> list[str | os.PathLike[str]]:
    """The paths, for other processes; ValueError for a file object."""
    named = []
    for source in _several(paths):
        check_source(source)
        if not isinstance(source, str | os.PathLike):
            raise ValueError("several processes cannot read a file object: name a file")
        named.append(source)
    return named


def _batches(
    sources: list[Source],
    selection: Selection,
    layout: str | None,
    on_error: OnError,
    rows: int,
    origins: list[Origin],
    log_tz: str | None,
    year: int | None,
) -> Iterator[pa.RecordBatch]:
    from pylog.table.bulk import opened

    for source, origin in zip(sources, origins, strict=True):
        with opened(
            source, layout=layout, on_error=on_error, origin=origin, log_tz=log_tz, year=year
        ) as bulk:
            for _, batch in bulk.batches({selection.kind: selection}, rows):
                yield batch
