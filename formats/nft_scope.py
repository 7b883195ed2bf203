"""Which changes and traces of a ruleset a reader wants: by family, table, chain and generation.

The names are compared with a record's own. A record that has no chain, as that of a table or set,
is in no chain.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pylog.formats.nft_requests import is_newer
from pylog.record import Record, RulesetRecord, TraceRecord


class Scope:
    """What is wanted; calling it with a record says whether that is.

    named   whether it selects by names, so that a commit counts only if it has a record that does
    """

    def __init__(
        self,
        families: Collection[str] | None = None,
        tables: Collection[str] | None = None,
        chains: Collection[str] | None = None,
        since: int | None = None,
    ) -> None:
        """None: all.

        since   leave out changes up to that generation
        """
        self._names: list[tuple[str, Collection[str]]] = [
            (field, names)
            for field, names in (("family", families), ("table", tables), ("chain", chains))
            if names is not None
        ]
        self.named = bool(self._names)
        self._since = since

    def __bool__(self) -> bool:
        """Whether it leaves out anything."""
        return self.named or self._since is not None

    def __call__(self, record: Record) -> bool:
        """Whether the record is wanted; that of a commit by its generation alone."""
        if not isinstance(record, RulesetRecord | TraceRecord):
            return True
        if isinstance(record, RulesetRecord):
            generation, since = record.generation, self._since
            old = None not in (generation, since) and not is_newer(generation or 0, since or 0)
            if old or record.op == "new_gen":
                return not old
        fields: Any = record
        return all(getattr(fields, field) in names for field, names in self._names)
