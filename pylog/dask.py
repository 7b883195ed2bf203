"""Logs on a Dask cluster: as a Dask DataFrame, or made into one Parquet data set.

    frame = pylog.dask.read("s3://logs/2026/*.ipl")
    frame.groupby("action").size().compute()

Each worker decodes splits of the dumps (see pylog.table.splits), so all workers and the caller must
reach the dumps under the same paths or URLs. Needs the extra `dask`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pylog.errors import BackendError, missing_extra

try:
    import dask.dataframe
    import distributed
    import pandas as pd
except ImportError as error:
    raise missing_extra("pylog.dask", "dask") from error
import pyarrow as pa

from pylog.actions import Actions
from pylog.backends.files import Paths
from pylog.dataset import DataSet, write_part
from pylog.filter import Filter
from pylog.open_log import OnError
from pylog.table.bulk import ROWS
from pylog.table.schemas import chosen
from pylog.table.select import Selection
from pylog.table.splits import End, Split, confirm, decode, in_order, planned, scan


def read(
    paths: Paths,
    *,
    n: int | None = None,
    kind: str = "packet",
    columns: Sequence[str] | None = None,
    where: Any = None,
    layout: str | None = None,
    on_error: OnError = "resync",
    exact: bool = True,
    log_tz: str | None = None,
    year: int | None = None,
) -> dask.dataframe.DataFrame:
    """The records of dumps as a Dask DataFrame with Arrow's types; texts are plain strings.

    n       about how many partitions; None: one for every 64 MiB
    exact   the dumps are read through once now, on the cluster if there is a client, so that the
            partitions have exactly the records of one process. If False, only bytes near the cuts
            are read: then a packet that was made to look like records can mislead a cut, and a
            loss right at a cut is not reported

    Everything else is as for `pylog.iter_batches`, and so are the errors.
    """
    splits = planned(paths, n, layout, on_error, log_tz, year)
    if exact:
        try:
            client = distributed.get_client()
        except ValueError:  # no client
            splits = confirm(splits)
        else:
            splits = confirm(splits, lambda _, split: client.submit(scan, split, pure=False))
    if isinstance(where, str):
        where = Filter(where)  # with one `now` for all partitions
    names = chosen(kind, columns).names
    meta = _frame(chosen(kind, names).empty_table())
    return dask.dataframe.from_map(
        _partition, splits, columns=names, kind=kind, where=where, meta=meta,
        label="pylog", enforce_metadata=False,
    )  # fmt: skip


def _partition(split: Split, columns: list[str], kind: str, where: Any) -> pd.DataFrame:
    batches = decode(split, kind=kind, columns=columns, where=where)
    return _frame(pa.Table.from_batches(batches, chosen(kind, columns)))


def _frame(table: pa.Table) -> pd.DataFrame:
    """The table in pandas, without dictionaries, which differ from partition to partition."""
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields)).to_pandas(types_mapper=pd.ArrowDtype)


@contextmanager
def connected(address: str) -> Iterator[distributed.Client]:
    """A client of the scheduler at an address, as tcp://HOST:8786; BackendError without one."""
    try:
        client = distributed.Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BackendError(f"no Dask scheduler at {address}: {error}") from error
    with client:
        yield client


def write(
    client: distributed.Client,
    paths: Paths,
    target: str,
    *,
    n: int | None = None,
    kind: str = "packet",
    columns: Sequence[str] | None = None,
    where: Any = None,
    layout: str | None = None,
    on_error: OnError = "resync",
    force: bool = False,
    actions: Actions | None = None,
    done: Callable[[Split, End], None] = lambda split, end: None,
    log_tz: str | None = None,
    year: int | None = None,
) -> None:
    """Write the records of dumps as one Parquet data set, a directory or fsspec URL.

    The files part-000000.parquet and so on hold the records of one process, and appear when all of
    them are complete, see pylog.dataset. If a worker dies, another does its work.

    n        about how many files; None: one for every 64 MiB
    force    replace a data set that exists; else BackendError
    actions  what prefixes of NFLOG stand for in the column `action`
    done     called with each split, in their order, when it is done

    Everything else is as for `pylog.iter_batches`, and so are the errors.
    """
    selection = Selection(
        kind, columns, Filter(where) if isinstance(where, str) else where, actions
    )
    splits = planned(paths, n, layout, on_error, log_tz, year)
    with DataSet(target, force) as dataset:

        def submit(number: int, split: Split) -> Any:
            return client.submit(
                write_part, split, number, dataset.folder, selection, ROWS, pure=False
            )

        ahead = 2 * sum(client.nthreads().values()) or 1
        for _, split, end in in_order(splits, submit, ahead):
            done(split, end)
