"""The sequence numbers that a stream expects next.

Decoding many messages at once must stop at the first record that does not continue its log, because
a loss has to be reported before it. The expected numbers are kept here; pylog.losses sets them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pylog.record import Record


class NextSeq(dict[str, int]):
    """The number that the next record of each log must have; a log that is not a key may not come.

    unnumbered     whether a record without a number may come
    by_interface   for each interface of a capture, by Interface.number: the numbers of its logs
    """

    unnumbered = True

    def __init__(self, first: Mapping[str, int] | None = None) -> None:
        super().__init__(first or {})
        self.by_interface: dict[int, NextSeq] = {}

    def of(self, interface: int | None) -> NextSeq:
        """The numbers of the logs in an interface; None: of a source without interfaces."""
        if interface is None:
            return self
        if interface not in self.by_interface:
            self.by_interface[interface] = NextSeq()
        return self.by_interface[interface]

    def pass_on(self, record: Record) -> bool:
        """Whether the record has the expected number; if so, the number after it is expected."""
        if record.seq is None:
            return self.unnumbered
        log = record.log or ""
        if self.get(log) != record.seq:
            return False
        self[log] = (record.seq + (record.count or 1)) & 0xFFFFFFFF
        return True

    def passed(self, records: Iterable[Record]) -> int:
        """How many of the records, the first of them, have the expected numbers; see `pass_on`."""
        count = 0
        for record in records:
            if not self.pass_on(record):
                break
            count += 1
        return count
