"""Passes over files: their columns into an Aggregate, by one process or several.

Raw logs are decoded in bulk. Parquet and Arrow files, which pylog or others wrote, are read row
group by row group, only the columns that are needed. Memory does not grow with the size of a file.
Needs the extra `arrow`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

import pyarrow as pa

from pylog.actions import Actions
from pylog.backends.files import is_url, opened
from pylog.errors import BackendError
from pylog.filter import Filter
from pylog.stats.summary import Aggregate
from pylog.table import rows
from pylog.table.bulk import Bulk
from pylog.table.parallel import Pool
from pylog.table.parts import ARROW, OpenTable
from pylog.table.schemas import PACKED_ADDRESS, packed, sixteen
from pylog.table.select import Selection
from pylog.table.splits import End, Split, SplitReader

PARQUET = b"PAR1"
RESULT = "result"
"""The name of the file with the aggregate of a split."""

A = TypeVar("A", bound=Aggregate)
Selections = Mapping[str, Selection]


def selections(
    aggregate: Aggregate, where: Filter | None = None, actions: Actions | None = None
) -> dict[str, Selection]:
    """What is read for an aggregate: of the records that a filter wants, with actions for their
    prefixes. Losses are read whatever the filter says, unless it mentions their kind."""
    return {
        kind: Selection(kind, names, where, actions) for kind, names in aggregate.wanted().items()
    }


def count_bulk(
    aggregate: Aggregate, bulk: Bulk, wanted: Selections, move: Callable[[], None]
) -> None:
    """Read a log to its end; `move` is called now and then."""
    for kind, batch in bulk.batches(wanted):
        aggregate.add(kind, batch)
        move()


def count_splits(
    make: Callable[[], A],
    pool: Pool,
    splits: list[Split],
    where: Filter | None = None,
    actions: Actions | None = None,
) -> Iterator[tuple[A, Split, End]]:
    """The aggregates of parts of logs, in their order, each made by a process.

    make   makes an empty aggregate; it can be sent to other processes
    """
    work = partial(_count_split, make=make, where=where, actions=actions)
    for split, folder, end in pool.folders(splits, work):
        with open(os.path.join(folder, RESULT), "rb") as file:
            yield pickle.load(file), split, end


def _count_split(
    split: Split,
    folder: str,
    *,
    make: Callable[[], Aggregate],
    where: Filter | None,
    actions: Actions | None,
) -> End:
    aggregate = make()
    wanted = selections(aggregate, where, actions)
    with SplitReader(split) as reader:
        for kind, batch in reader.batches(wanted):
            aggregate.add(kind, batch)
        end = reader.ended()
    end.tally.left_out = sum(selection.left_out for selection in wanted.values())
    if actions is not None:
        end.tally.prefixes = actions.prefixes
    end.tally.untimed = 0 if where is None else where.untimed
    with open(os.path.join(folder, RESULT), "wb") as file:
        pickle.dump(aggregate, file)
    return end


def is_table(path: str) -> bool:
    """Whether a file is a table: Parquet or Arrow."""
    if not (is_url(path) or os.path.isfile(path)):
        return False
    with opened(path) as file:
        return file.read(len(ARROW)).startswith((PARQUET, ARROW))


def kind_of_table(names: list[str]) -> str:
    """The kind of the records in a table with such columns."""
    if not {"flow_type", "nat_saddr", "nat_saddr_bytes"}.isdisjoint(names):
        return "flow"
    if {"size", "reason"} <= set(names):
        return "loss"
    if {"op", "generation"} & set(names):
        return "ruleset"
    return "packet"


def count_table(aggregate: Aggregate, path: str, wanted: Selections) -> tuple[int, str | None]:
    """Read a table to its end; gives how many rows it has, and what it says of losses in its log:
    as OpenTable.losses.

    BackendError for a file that cannot be read, or lacks all of the columns; a column that it
    lacks is null, but one that a filter names is an error.
    """
    total = 0
    opened_table = OpenTable(path)
    with opened_table as (names, parts):
        kind = kind_of_table(names)
        selection = wanted.get(kind)
        if selection is None:
            return 0, opened_table.losses
        made_of = {name: _source(kind, name, names) for name in selection.needed.names}
        there = list(dict.fromkeys(name for name in made_of.values() if name is not None))
        missing = {name for name, source in made_of.items() if source is None}
        of_filter = missing - set(selection.result.names)
        if of_filter:
            raise BackendError(f"{path} has no column {', '.join(sorted(of_filter))} to filter by")
        if kind != "loss" and not there:
            raise BackendError(
                f"{path} has none of the columns {', '.join(selection.result.names)}"
            )
        for part in parts:
            table = part.read(there)
            total += part.rows
            for batch in table.to_batches(max_chunksize=1 << 16):
                aggregate.add(
                    kind, selection.of(_completed(batch, selection.needed, made_of, path))
                )
    return total, opened_table.losses


def _source(kind: str, name: str, names: list[str]) -> str | None:
    """The column of a table of which a column is made: an address as text, or else as bytes, or the
    other way round; None: there is none."""
    texts = packed(kind)
    other = texts.get(name) or next((n for n, text in texts.items() if text == name), None)
    return next((each for each in (name, other) if each in names), None)


def _completed(
    batch: pa.RecordBatch, wanted: pa.Schema, made_of: Mapping[str, str | None], path: str
) -> pa.RecordBatch:
    """The batch with the types that pylog's columns have; columns that it lacks are null."""
    arrays = []
    for field in wanted:
        source = made_of[field.name]
        if source is None:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch.column(source)
        try:
            if source != field.name:
                arrays.append(_converted(column, field.type))
                continue
            if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
                column = column.cast(pa.string()).dictionary_encode()
            arrays.append(column.cast(field.type))
        except (pa.ArrowException, NotImplementedError, ValueError) as error:
            raise BackendError(
                f"{path}: the column {field.name} is {column.type}, but must be {field.type}:"
                f" {error}"
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=wanted)


def _converted(column: pa.Array, form: pa.DataType) -> pa.Array:
    """Addresses as bytes of those as text, or the other way round."""
    if form == PACKED_ADDRESS:
        words = column.cast(pa.string()).dictionary_encode()
        made = [None if text is None else sixteen(text) for text in words.dictionary.to_pylist()]
    else:
        words = column.cast(PACKED_ADDRESS).dictionary_encode()
        made = rows.values("packet", "saddr_bytes", words.dictionary)
    return pa.array(made, form).take(words.indices)
