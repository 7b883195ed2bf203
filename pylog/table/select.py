"""Selections of the records of a kind: columns and rows, gathered into batches.

The expression for the rows may name columns that are not in the result, so a selection also says
which columns must be made first. Batches of all sizes come in; batches of at least half the wanted
size go out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pylog.actions import Actions
from pylog.filter import Filter
from pylog.record import Record
from pylog.table.schemas import batch, chosen, on_request, schema
from pylog.table.where import Where


class Selection:
    """Columns of the records of a kind, of those rows where an expression holds.

    result     the schema of the batches that `of` gives
    needed     the schema of those that it takes: with the columns that the expression names
    left_out   how many rows so far were not wanted
    """

    def __init__(
        self,
        kind: str,
        columns: Sequence[str] | None = None,
        where: Any = None,
        actions: Actions | None = None,
    ) -> None:
        """ValueError for a column that does not exist, or an expression that is not valid.

        where     a Filter or its text, or a pyarrow.compute.Expression
        actions   what prefixes stand for in the column `action`
        """
        self.kind = kind
        self.left_out = 0
        self._actions = None
        self.result = chosen(kind, columns)
        if isinstance(where, str):
            where = Filter(where)
        self._filter = Where(where, kind) if isinstance(where, Filter) else None
        self._where = where
        names = list(self.result.names)
        if self._filter is not None:
            names += sorted(self._filter.names.difference(names))
        elif where is not None:
            names += [name for name in _named_by(where, kind) if name not in names]
        if actions is not None and kind == "packet" and "action" in names:
            self._actions = actions
            names += [name for name in ("source", "prefix") if name not in names]
        self.needed = chosen(kind, names)

    @property
    def untimed(self) -> int:
        """How many records without a time its filter left out, of all kinds, see Filter.untimed."""
        return self._where.untimed if isinstance(self._where, Filter) else 0

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The selected rows and columns of a batch."""
        if self._actions is not None:
            batch = with_actions(batch, self._actions)
        rows = batch.num_rows
        if self._filter is not None:
            batch = self._filter.of(batch)
        elif self._where is not None:
            table = pa.Table.from_batches([batch]).filter(self._where).combine_chunks()
            batch = next(iter(table.to_batches()), batch.slice(0, 0))
        self.left_out += rows - batch.num_rows
        return batch.select(self.result.names) if self.needed != self.result else batch


def with_actions(batch: pa.RecordBatch, actions: Actions) -> pa.RecordBatch:
    """The batch of packets with the actions of those of NFLOG, as Actions.record gives them."""
    action, prefix = (batch.column(name).cast(pa.string()) for name in ("action", "prefix"))
    words = pc.fill_null(prefix, "").dictionary_encode()
    stand_for = pa.array([actions.of(word) for word in words.dictionary.to_pylist()], pa.string())
    ours = pc.equal(batch.column("source").cast(pa.string()), "ipl")
    unsaid = words.filter(pc.and_(pc.invert(ours), action.is_null()))
    for each in unsaid.value_counts().to_pylist():
        actions.count(each["values"], each["counts"])
    taken = pc.if_else(ours, action, pc.coalesce(action, stand_for.take(words.indices)))
    at = batch.schema.get_field_index("action")
    return batch.set_column(at, batch.schema.field(at), taken.dictionary_encode())


def _named_by(where: Any, kind: str) -> list[str]:
    """The columns that an expression names: it cannot be evaluated without them."""
    everything = chosen(kind, [*schema(kind).names, *on_request(kind)])
    empty = everything.empty_table()
    try:
        empty.filter(where)
    except pa.ArrowInvalid as error:
        missing = re.search(r"No match for FieldRef\.Name\((.*?)\)", str(error))
        if missing is not None:
            chosen(kind, [missing[1]])  # raises the error for such a name
        raise

    def fails_without(name: str) -> bool:
        try:
            empty.drop_columns([name]).filter(where)
        except pa.ArrowInvalid:
            return True
        return False

    return [name for name in everything.names if fails_without(name)]


class Gathered:
    """Records of a kind, and batches of them, until there are enough for one batch."""

    def __init__(self, selection: Selection, rows: int) -> None:
        self._selection = selection
        self._enough = rows // 2
        self._records: list[Record] = []
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, records: list[Record] | pa.RecordBatch) -> None:
        """Add records, or a batch of them."""
        if isinstance(records, list):
            self._records += records
        else:
            self._pack_pending()
            self._add(records)

    def take(self, last: bool) -> pa.RecordBatch | None:
        """A batch of all records if there are enough of them, or any and `last`; else None."""
        if last or self._rows + len(self._records) >= self._enough:
            self._pack_pending()
            batches, self._batches, self._rows = self._batches, [], 0
            if batches:
                return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
        return None

    def _pack_pending(self) -> None:
        """Make a batch of the records that are not in one."""
        records, self._records = self._records, []
        if records:
            self._add(batch(self._selection.kind, records, self._selection.needed))

    def _add(self, batch: pa.RecordBatch) -> None:
        selected = self._selection.of(batch)
        if selected.num_rows:
            self._batches.append(selected)
            self._rows += selected.num_rows
