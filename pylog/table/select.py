"""What is wanted of the records of a kind: which columns, and which rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pylog.actions import Actions
from pylog.table.schemas import chosen, on_request, schema


class Selection:
    """Some columns of the records of a kind, where an expression holds.

    result   the schema of what `of` gives
    needed   the schema of what it takes: the columns, and those that the expression names
    """

    def __init__(
        self,
        kind: str,
        columns: Sequence[str] | None = None,
        where: Any = None,
        actions: Actions | None = None,
    ) -> None:
        """`where` is a pyarrow.compute.Expression; ValueError for columns that there are not.

        actions   what prefixes stand for in the column `action`
        """
        self.kind = kind
        self._actions = None
        self.result = chosen(kind, columns)
        self._where = where
        names = list(self.result.names)
        if where is not None:
            names += [name for name in _named_by(where, kind) if name not in names]
        if actions is not None and kind == "packet" and "action" in names:
            self._actions = actions
            names += [name for name in ("source", "prefix") if name not in names]
        self.needed = chosen(kind, names)

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that are wanted, in the columns that are wanted."""
        if self._actions is not None:
            batch = _with_actions(batch, self._actions)
        if self._where is not None:
            table = pa.Table.from_batches([batch]).filter(self._where).combine_chunks()
            batch = next(iter(table.to_batches()), batch.slice(0, 0))
        return batch.select(self.result.names) if self.needed != self.result else batch


def _with_actions(batch: pa.RecordBatch, actions: Actions) -> pa.RecordBatch:
    """The batch of packets with the actions of those of NFLOG, as Actions.record gives them."""
    action, prefix = (batch.column(name).cast(pa.string()) for name in ("action", "prefix"))
    words = pc.fill_null(prefix, "").dictionary_encode()
    stand_for = pa.array([actions.of(word) for word in words.dictionary.to_pylist()], pa.string())
    ours = pc.equal(batch.column("source").cast(pa.string()), "ipl")
    taken = pc.if_else(ours, action, pc.coalesce(action, stand_for.take(words.indices)))
    at = batch.schema.get_field_index("action")
    return batch.set_column(at, batch.schema.field(at), taken.dictionary_encode())


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
