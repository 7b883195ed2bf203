"""The packet records of a reader, for programs that look at nothing else.

`reader.packets()` passes over losses, flows and other kinds of record. A loss is still seen: the
reader counts it (`dropped`, `uncounted`, `malformed`), and the first is logged as a warning.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from pylog.notes import notes
from pylog.record import LossRecord, PacketRecord, Record

if TYPE_CHECKING:
    from pylog.reader import Records


class Packets:
    """The packet records of a reader, from its next record on; an iterator, also asynchronous."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._noted = False

    def __iter__(self) -> Iterator[PacketRecord]:
        return self

    def __next__(self) -> PacketRecord:
        for record in self._records:
            if isinstance(record, PacketRecord):
                return record
            self._passed(record)
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[PacketRecord]:
        return self

    async def __anext__(self) -> PacketRecord:
        async for record in self._records:
            if isinstance(record, PacketRecord):
                return record
            self._passed(record)
        raise StopAsyncIteration

    def _passed(self, record: Record) -> None:
        """A record that is no packet was passed over: log the first loss."""
        if isinstance(record, LossRecord) and not self._noted:
            self._noted = True
            names = ", ".join(reader.backend.name for reader in self._records.readers())
            notes.warning(
                "%s: %s; packets() passes over losses: see dropped, uncounted and malformed",
                record.origin or names, record.describe(),
            )  # fmt: skip
