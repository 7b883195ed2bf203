"""What the records of a commit get when it is complete: replacements, updates, and text.

Which entities were there before, and which sets a rule uses, is in the model of the ruleset. So
`Texts` needs a deletion before the model follows it, and everything else after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import force_setattr

from pylog.formats.nft_budget import Budget
from pylog.formats.nft_model import Model
from pylog.formats.nft_rule import ERRORS
from pylog.formats.nft_text import ElementTexts, record_text
from pylog.record import RulesetRecord

MOST_ELEMENTS = 4096
"""Anonymous sets with more elements are not written out in the text of a rule."""
MOST_TEXT = 1 << 24
"""So many characters of text are made for a commit. Many rules may name the same large set."""


def text_budget() -> Budget:
    """How many elements of anonymous sets may be written out in the text of rules.

    The kernel lets one rule use such a set, and a rule is written a few times.
    """
    return Budget(1 << 20, 64, 16)


def after(generation: int) -> int:
    """The generation that comes next."""
    return (generation + 1) & 0xFFFFFFFF


def mark_replaced(records: list[RulesetRecord]) -> None:
    """Mark both halves of each replaced rule: it is deleted, and made again with its handle.

    In a table that was made anew, handles begin at 1 again and mean nothing.
    """
    deleted: dict[tuple[Any, ...], dict[int | None, RulesetRecord]] = {}  # by table
    for record in records:
        if record.op == "del_rule":
            deleted.setdefault((record.family, record.table), {})[record.handle] = record
        elif record.op == "new_rule" and deleted:
            old = deleted.get((record.family, record.table), {}).pop(record.handle, None)
            if old is not None:
                force_setattr(old, "change", "replace")
                force_setattr(record, "change", "replace")
        elif record.op == "del_table" and deleted:
            deleted.pop((record.family, record.table), None)


def is_there(record: RulesetRecord, model: Model) -> bool:
    """Whether the entity that is announced as new is there already."""
    table = model.tables.get((record.family, record.table))
    if table is None or record.handle is None:
        return False
    before: RulesetRecord | None = None
    if record.op == "new_table":
        before = table.record
    elif record.op == "new_chain":
        chain = table.chain_by_handle(record.handle)
        before = None if chain is None else chain.record
    elif record.op == "new_set":
        found = table.sets.get(record.name)
        before = None if found is None else found.record
    elif record.op == "new_obj":
        before = table.objects.get((record.type, record.name))
    elif record.op == "new_flowtable":
        before = table.flowtables.get(record.name)
    return before is not None and before.handle == record.handle


def mark_updated(record: RulesetRecord, model: Model) -> None:
    """Mark an entity that was there before as updated.

    A base chain gets its devices, if the message has an empty list: that of a new name or policy
    has; that of new devices names only these.
    """
    force_setattr(record, "change", "update")
    if record.devices == [] and record.handle is not None:
        table = model.tables.get((record.family, record.table))
        chain = None if table is None else table.chain_by_handle(record.handle)
        if chain is not None and chain.record.devices:
            force_setattr(record, "devices", list(chain.record.devices))


class Texts:
    """Writes the text of records as nft would; of one commit."""

    def __init__(
        self,
        model: Model,
        interface_name: Callable[[int], str | int] = int,
        budget: Budget | None = None,
    ) -> None:
        self._model, self._interface_name = model, interface_name
        self._budget = text_budget() if budget is None else budget
        self._left = MOST_TEXT
        self._of_set: tuple[RulesetRecord, ElementTexts] | None = None

    def put(self, record: RulesetRecord) -> None:
        """Give the record the text of its entity."""
        self._budget.earn(record)
        if self._left < 0:
            return
        if record.elements is not None:
            text = self._elements(record, record.elements)
        else:
            text = self._entity(record)
        if text is not None:
            self._left -= len(text)
            force_setattr(record, "text", text)

    def _elements(self, record: RulesetRecord, elements: list[dict[str, Any]]) -> str | None:
        found = self._model.find_set(record.family, record.table, record.name)
        if found is None:
            return None
        try:
            if self._of_set is None or self._of_set[0] is not found.record:
                order = ">" if record.layout == "nft-be" else "<"
                texts = ElementTexts(found.record, order, self._interface)
                self._of_set = found.record, texts
            return self._of_set[1].text(elements)
        except ERRORS:
            return None

    def _entity(self, record: RulesetRecord) -> str | None:
        def sets(name: str) -> tuple[Any, list[dict[str, Any]]] | None:
            found = self._model.find_set(record.family, record.table, name)
            if found is None:
                return None
            if not found.anonymous:
                return found.record, []  # only its name is written
            count = len(found.elements)
            if count > MOST_ELEMENTS or not self._budget.spend(count):
                return None
            return found.record, found.listed()

        return record_text(record, sets, self._interface, listed=record.via is not None)

    def _interface(self, number: int) -> str | None:
        name = self._interface_name(number)
        return name if isinstance(name, str) else None
