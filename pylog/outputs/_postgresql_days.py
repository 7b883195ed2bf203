"""Partitions by day of a table of PostgreSQL: made ahead, and dropped when they are old.

Partitions of today and the next days are made before they are needed, and those of other days when
records of them come (an old log, a wrong clock). What has no partition is in the default one: times
far away, and days of which the default partition has records already. There are never more than
LARGEST partitions. Days are those of UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pylog.notes import notes

if TYPE_CHECKING:
    from pylog.outputs._postgresql_client import Client

AHEAD = 3
"""For how many days, today included, there are partitions before records come."""
LARGEST = 1000
"""How many partitions a table has at most."""
DAY_NS = 86_400_000_000_000
FIRST = 10957
"""The first day with a partition of its own, counted from 1970: 2000-01-01."""


class Days:
    """The partitions of a table."""

    def __init__(self, client: Client, schema: str, table: str) -> None:
        self._client, self._schema, self._table = client, schema, table
        prefix = f"{table}_"
        names = client.rows(
            "SELECT p.relname FROM pg_catalog.pg_inherits i"
            " JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid"
            " JOIN pg_catalog.pg_class c ON c.oid = i.inhparent"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s",
            [schema, table],
        )
        texts = [name.removeprefix(prefix) for (name,) in names if name.startswith(prefix)]
        self._days = {_day(text) for text in texts if len(text) == 8 and text.isdecimal()}
        self._tried: set[int] = set()
        """Days that cannot get a partition."""

    def ahead(self, now_s: float) -> None:
        """Make the partitions of today and of the next days."""
        today = int(now_s // 86400)
        self._make(range(today, today + AHEAD))

    def needed(self, times: pa.Array) -> None:
        """Make the partitions of these times, in nanoseconds since 1970."""
        days = pc.unique(pc.divide(times, DAY_NS)).to_pylist()
        self._make(sorted(day for day in days if day >= FIRST))

    def drop(self, before_s: float) -> None:
        """Drop the partitions that end before that time, and that nobody else uses right now."""
        for day in sorted(day for day in self._days if (day + 1) * 86400 <= before_s):
            reason = self._client.tried(f"DROP TABLE IF EXISTS {self._name(day)}")
            if reason is not None:
                notes.warning("the old partition %s stays for now: %s", self._name(day), reason)
                return
            self._days.discard(day)

    def _make(self, days: Iterable[int]) -> None:
        for day in days:
            if day in self._days or day in self._tried or len(self._days) >= LARGEST:
                continue
            reason = self._client.tried(
                f"CREATE TABLE IF NOT EXISTS {self._name(day)} PARTITION OF"
                f' "{self._schema}"."{self._table}" FOR VALUES FROM (\'{_text(day)} 00:00+00\')'
                f" TO ('{_text(day + 1)} 00:00+00')"
            )
            if reason is None:
                self._days.add(day)
            else:
                notes.info("no partition for %s of %s: %s", _text(day), self._table, reason)
                self._tried.add(day)

    def _name(self, day: int) -> str:
        return f'"{self._schema}"."{self._table}_{_text(day).replace("-", "")}"'


def _day(text: str) -> int:
    """The day of 20261121, counted from 1970."""
    try:
        return (datetime.strptime(text, "%Y%m%d") - datetime(1970, 1, 1)).days
    except ValueError:
        return -1


def _text(day: int) -> str:
    """A day, counted from 1970, as 2026-11-21."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).strftime("%Y-%m-%d")
