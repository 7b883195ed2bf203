"""The ruleset of nftables as of a moment, from records: listings, and differences as text.

`Moments` applies the records of a source in order and keeps the ruleset at the moments that are
asked for: after a generation, at a time, at the beginning or at the end. A moment that the records
do not cover is an error, never the nearest one. `listing` writes a ruleset as `nft list ruleset`
does, `compared` the difference of two with a line for each change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from pylog.formats.nft_lines import (
    DATA_DIFFERS,
    content,
    differ_unseen,
    entity_line,
    mark_of,
    noun_of,
    statements,
    subject,
)
from pylog.formats.nft_marks import Texts
from pylog.formats.nft_model import Model
from pylog.formats.nft_sets import Set
from pylog.formats.nft_tables import Table
from pylog.formats.nft_text import elements_text, record_text
from pylog.record import LossRecord, Record, RulesetRecord, rfc3339

Moment = int | datetime | None
"""A generation, a time, or None for the end of the records."""


def moment(text: str) -> int | datetime:
    """A generation or a time of the command line; ValueError for anything else."""
    if text.isdecimal():
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a generation nor a time such as 2026-11-28T19:39:30Z"
        ) from None
    return time.astimezone() if time.tzinfo is None else time


class Moments:
    """The ruleset at moments, which are asked for before the records are read.

    lost   gaps between generations, as text: what the records miss
    """

    def __init__(self, moments: Iterable[Moment] = ()) -> None:
        self.lost: list[str] = []
        self.beginning = Model()
        """The ruleset of the snapshot with which the records begin; empty without one."""
        self.complete = False
        """Whether they begin with a snapshot: else what was there before is missing."""
        self._wanted = set(moments)
        self._models: dict[Moment, Model] = {}
        self._model = Model()
        self._first: int | None = None
        self._last: int | None = None
        self._closed = False  # the model is that of the generation `_last`, and nothing more
        self._begun = False
        self._began_ns: int | None = None

    def read(self, records: Iterable[Record]) -> None:
        """Apply the records, to their end."""
        for record in records:
            if isinstance(record, RulesetRecord):
                self._apply(record)
            elif isinstance(record, LossRecord) and record.log in (None, "ruleset"):
                self.lost.append(record.describe())
        self._model.finish()
        if self.complete and not self._begun:
            self.beginning = self._model

    def at(self, wanted: Moment) -> Model:
        """The ruleset at a moment that was asked for.

        Raises ValueError for one that the records do not cover.
        """
        if wanted is None:
            return self._model
        if isinstance(wanted, datetime):
            return self._at_time(wanted)
        if wanted in self._models:
            return self._models[wanted]
        if wanted == self._last and self._closed:
            return self._model
        if self._first is None or self._last is None:
            raise ValueError(f"no generation {wanted}: there is no commit in the records")
        if self._first <= wanted <= self._last:
            raise ValueError(f"generation {wanted} is lost: its commit is not in the records")
        raise ValueError(f"no generation {wanted}: the records have {self._first} to {self._last}")

    def _at_time(self, wanted: datetime) -> Model:
        if self._began_ns is None:
            raise ValueError("the records have no times: name a generation")
        if _ns(wanted) < self._began_ns:
            raise ValueError(f"the records begin later, at {rfc3339(self._began_ns)}")
        return self._models.get(wanted, self._model)

    def _apply(self, record: RulesetRecord) -> None:
        snapshot = record.via == "snapshot"
        if self._closed and not (snapshot and record.generation == self._last):
            if self._last in self._wanted and self._last not in self._models:
                self._models[self._last] = self._kept()
            self._closed = False
        self._keep_times(record)
        if snapshot and not self._model:
            self.complete = True
        if self.complete and not snapshot and not self._begun:
            self.beginning, self._begun = self._kept(), True
        self._model.apply(record)
        if record.generation is not None and (snapshot or record.op == "new_gen"):
            self._last, self._closed = record.generation, True
            if self._first is None:
                self._first = record.generation

    def _keep_times(self, record: RulesetRecord) -> None:
        """Keep the ruleset of moments before the record; a commit counts from its first record."""
        time_ns = record.observed_ns
        if time_ns is None:
            return
        if self._began_ns is None:
            self._began_ns = time_ns
        if record.via == "snapshot":
            return
        for wanted in list(self._wanted):
            if isinstance(wanted, datetime) and _ns(wanted) < time_ns:
                self._models[wanted] = self._kept()
                self._wanted.discard(wanted)

    def _kept(self) -> Model:
        kept = self._model.copy()
        kept.finish()
        return kept


def _ns(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000) * 1000


Wanted = Callable[[RulesetRecord], bool]
"""Whether an entity or a change is wanted."""


def _every(record: RulesetRecord) -> bool:
    return True


def listing(model: Model, wanted: Wanted = _every) -> Iterator[str]:
    """The ruleset as `nft -a list ruleset` writes it, line by line: the entities that are wanted,
    within their table and chain.
    """
    for table in model.tables.values():
        own = statements(content(table.record)) if wanted(table.record) else []
        blocks = [own] if own else []
        blocks += [list(_block(record, ())) for record in table.objects.values() if wanted(record)]
        blocks += [list(_set(members)) for members in table.sets.values()
                   if not members.anonymous and wanted(members.record)]  # fmt: skip
        blocks += [
            list(_block(record, ())) for record in table.flowtables.values() if wanted(record)
        ]
        for chain in table.chains.values():
            records = [table.rules[handle] for handle in chain.handles()]
            rules = [_rule(record, table) for record in records if wanted(record)]
            if rules or wanted(chain.record):
                blocks.append(list(_block(chain.record, rules)))
        if not blocks and not wanted(table.record):
            continue
        yield f"table {table.record.family} {table.record.table} {{{_handle(table.record)}"
        for n, block in enumerate(blocks):
            yield from [""] if n else []
            yield from (f"\t{line}" for line in block)
        yield "}"


def _block(record: RulesetRecord, lines: Iterable[str]) -> Iterator[str]:
    """An entity with its declaration, and more lines."""
    noun = noun_of(record)
    name = record.chain if noun == "chain" else record.name
    yield f"{noun} {name} {{{_handle(record)}"
    yield from (f"\t{line}" for line in (*statements(content(record)), *lines))
    yield "}"


def _set(members: Set) -> Iterator[str]:
    texts = elements_text(members.record, members.listed())
    listed = [f"elements = {{ {', '.join(texts)} }}"] if texts else []
    return _block(members.record, listed)


def _rule(record: RulesetRecord, table: Table) -> str:
    text = record.text
    if text is None:  # it names a chain that has another name now
        text = record_text(record, _sets(table))
    return f"{content(record) if text is None else text}{_handle(record)}"


def _sets(table: Table) -> Callable[[str], tuple[RulesetRecord, list[dict[str, Any]]] | None]:
    def find(name: str) -> tuple[RulesetRecord, list[dict[str, Any]]] | None:
        members = table.sets.get(name)
        return None if members is None else (members.record, members.listed())

    return find


def _handle(record: RulesetRecord) -> str:
    return "" if record.handle is None else f" # handle {record.handle}"


def changes(old: Model, new: Model) -> list[RulesetRecord]:
    """The records that lead from one ruleset to another, each with its text.

    The text of a deletion is that of the entity as it was.
    """
    records = old.difference(new, via=None)
    was, now = Texts(old), Texts(new)
    for record in records:
        if record.text is None:  # elements; or it names a chain that has another name now
            (was if mark_of(record) == "-" else now).put(record)
    return records


def compared(old: Model, new: Model, wanted: Wanted = _every) -> Iterator[str]:
    """What leads from one ruleset to another, a line for each change that is wanted with its sign.

    A replaced rule, or one that was changed, is a single line with what it was and what it is. The
    set of a rule that has no name is in the rule's line.
    """
    before: RulesetRecord | None = None
    for record in changes(old, new):
        if record.change == "replace":
            if record.op == "del_rule":
                before = record
                continue
            if not wanted(record) and (before is None or not wanted(before)):
                continue
            was = "" if before is None else content(before)
            note = f" {DATA_DIFFERS}" if differ_unseen(before, record) else ""
            yield f"~ {subject(record)}: {was} => {content(record)}{note}"
            continue
        if wanted(record) and not _is_in_rule(record, old if mark_of(record) == "-" else new):
            yield f"{mark_of(record)} {entity_line(record, _old_name(record, old))}"


def _old_name(record: RulesetRecord, old: Model) -> str | None:
    """The name that a chain had before."""
    table = old.tables.get((record.family, record.table))
    if table is None or record.op != "new_chain" or record.change != "update":
        return None
    chain = table.chain_by_handle(record.handle)
    return None if chain is None else chain.record.chain


def _is_in_rule(record: RulesetRecord, model: Model) -> bool:
    """Whether a record is about an anonymous set or its elements."""
    if not str(record.op).endswith(("_set", "_set_element")):
        return False
    members = model.find_set(record.family, record.table, record.name)
    return members is not None and members.anonymous
