"""The ruleset as a value: what the records of nftables amount to when they are applied in order.

`Model.apply` follows one record, `Model.difference` gives the records that lead from one ruleset
to another, and lookups answer which rule or set a name or handle stands for. The kernel announces
changes only, so the model is as complete as the records: it begins with a snapshot or empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pylog.formats.nft_difference import difference
from pylog.formats.nft_renames import rename_budget
from pylog.formats.nft_sets import Set
from pylog.formats.nft_tables import Table
from pylog.formats.nft_watch import Watches
from pylog.record.ruleset import RulesetRecord

TableKey = tuple[str | int | None, str | None]
"""The family and the name of a table."""


class Model:
    """The tables of a ruleset with all their content.

    anonymous_only   hold elements of anonymous sets only, which the text of rules needs: named
                     sets may have millions
    watches          hears the changes; a copy has none
    """

    __slots__ = ("_budget", "_unfinished", "_watches", "anonymous_only", "generation", "tables")

    def __init__(self, anonymous_only: bool = False, watches: Watches | None = None) -> None:
        self.anonymous_only = anonymous_only
        self._watches = watches
        self.tables: dict[TableKey, Table] = {}
        self.generation: int | None = None
        """The generation of the last commit that was applied."""
        self._budget = rename_budget()
        self._unfinished: set[TableKey] = set()
        """Tables in which a rule waits, so that a commit costs only what it changes."""

    def __bool__(self) -> bool:
        """False while there is no table."""
        return bool(self.tables)

    def copy(self) -> Model:
        """The same ruleset, which changes independently. Records are shared."""
        other = Model(self.anonymous_only)
        other._budget = budget = self._budget.copy()
        other.tables = {key: table.copy(budget) for key, table in self.tables.items()}
        other.generation = self.generation
        return other

    def only(self, tables: Iterable[TableKey]) -> Model:
        """The ruleset with those tables alone, which are not copied."""
        other = Model(self.anonymous_only)
        other.tables = {key: self.tables[key] for key in tables if key in self.tables}
        return other

    def apply(self, record: RulesetRecord) -> bool:
        """Follow a record; False if it does not fit, because earlier records are missing.

        A rule whose position names a later rule of its commit gets its place with that one, at the
        latest with the commit (`new_gen`), which then returns False. The rules and elements that
        name a chain are forgotten if chains are renamed too often: see `nft_renames`.
        """
        op = record.op
        self._budget.earn(record)
        if op == "new_gen":
            self.generation = record.generation
            return self.finish()
        if record.via is not None and record.generation is not None:
            self.generation = record.generation  # a snapshot has no record of its commit
        key = (record.family, record.table)
        table = self.tables.get(key)
        if op == "new_table":
            if table is not None and table.record.handle == record.handle:
                table.record = record
                return True
            self._add_table(key, record)
            return table is None
        if op == "del_table":
            self._unfinished.discard(key)
            if table is not None and self._watches is not None:
                self._watches.drop_table(*key)
            return self.tables.pop(key, None) is not None
        fits = table is not None
        if table is None:
            if op is None or not op.startswith("new_"):
                return False
            table = self._add_table(key, _table_of(record))
        fits &= self._apply_in(table, record)
        if table.unfinished:
            self._unfinished.add(key)
        return fits

    def count_elements(self) -> int:
        """How many elements all sets have."""
        return sum(len(s.elements) for table in self.tables.values() for s in table.sets.values())

    def count_entities(self) -> int:
        """How many entities there are, tables included."""
        return sum(
            1 + len(table.chains) + len(table.rules) + len(table.sets) + len(table.objects)
            + len(table.flowtables)
            for table in self.tables.values()
        )  # fmt: skip

    def forget_elements(self) -> None:
        """From now on hold elements of anonymous sets only."""
        self.anonymous_only = True
        for table in self.tables.values():
            table.forget_elements()

    def finish(self) -> bool:
        """Conclude a commit without its record: every rule gets its place.

        False if a rule has none because the record of the rule before it is missing.
        """
        complete = True
        for key in self._unfinished:
            table = self.tables.get(key)
            if table is not None:
                complete = table.finish() and complete
        self._unfinished.clear()
        return complete

    def difference(
        self, other: Model, via: str | None = "relist", observed_ns: int | None = None
    ) -> list[RulesetRecord]:
        """The records that lead from this ruleset to the other one.

        They have no generation and no process, and deletions the time given. What the kernel
        counts without a commit (packets, quotas, time left) makes no difference.
        """
        return difference(self.tables, other.tables, via, observed_ns)

    def records(self) -> list[RulesetRecord]:
        """All that is there, as records that lead from an empty ruleset to this one."""
        return difference({}, self.tables, None, None)

    def find_set(self, family: str | int | None, table: str | None, name: str | None) -> Set | None:
        """A set or map by its name, with its elements."""
        place = self.tables.get((family, table))
        return None if place is None else place.sets.get(name)

    def find_chain(
        self, family: str | int | None, table: str | None, name: str | None
    ) -> RulesetRecord | None:
        """A chain by its name."""
        place = self.tables.get((family, table))
        chain = None if place is None else place.chains.get(name)
        return None if chain is None else chain.record

    def find_rule(
        self, family: str | int | None, table: str | None, handle: int | None
    ) -> RulesetRecord | None:
        """A rule by its handle."""
        place = self.tables.get((family, table))
        return None if place is None or handle is None else place.rules.get(handle)

    def rules_of(
        self, family: str | int | None, table: str | None, chain: str | None
    ) -> list[RulesetRecord]:
        """The rules of a chain in order."""
        place = self.tables.get((family, table))
        content = None if place is None else place.chains.get(chain)
        if place is None or content is None:
            return []
        return [place.rules[handle] for handle in content.handles()]

    def rules(self) -> Iterator[RulesetRecord]:
        """Every rule, table by table, in the order of the chains."""
        for table in self.tables.values():
            for chain in table.chains.values():
                yield from (table.rules[handle] for handle in chain.handles())

    def _add_table(self, key: TableKey, record: RulesetRecord) -> Table:
        table = self.tables[key] = Table(record, self._budget)
        if self._watches is not None:
            table.watches.append(self._watches.add_table(*key))
        return table

    def _apply_in(self, table: Table, record: RulesetRecord) -> bool:
        match record.op:
            case "new_chain":
                return table.add_chain(record)
            case "del_chain":
                return table.delete_chain(record)
            case "new_rule":
                return table.add_rule(record)
            case "del_rule":
                return table.delete_rule(record)
            case "new_set":
                return table.add_set(record)
            case "del_set":
                return table.delete_set(record)
            case "new_set_element":
                return table.add_elements(record, self.anonymous_only)
            case "del_set_element":
                return table.delete_elements(record, self.anonymous_only)
            case "new_obj":
                return table.add_object(record)
            case "del_obj":
                return table.delete_object(record)
            case "new_flowtable":
                return table.add_flowtable(record)
            case "del_flowtable":
                return table.delete_flowtable(record)
        return True  # an entity of a later kernel


def model_of(records: Iterable[RulesetRecord]) -> Model:
    """The ruleset that follows from the records, from an empty one on."""
    model = Model()
    for record in records:
        model.apply(record)
    model.finish()
    return model


def _table_of(record: RulesetRecord) -> RulesetRecord:
    """A record that stands for the table of an entity, of which only the name is available."""
    return RulesetRecord(
        source=record.source,
        layout=record.layout,
        op="new_table",
        family=record.family,
        table=record.table,
    )
