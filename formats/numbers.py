"""The sequence numbers that a stream expects next.

Decoding many messages at once must stop at the first record that does not continue its log, because
a loss has to be reported before it. The expected numbers are kept here; pylog.losses sets them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pylog.record import PacketRecord, Record


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

    def passed(self, records: Sequence[Record]) -> int:
        """How many of the records, the first of them, have the expected numbers; see `pass_on`."""
        packets = [record for record in records if type(record) is PacketRecord]
        if packets and len(packets) == len(records):  # of one log, if nothing is missing
            log, seqs = packets[0].log, [record.seq for record in packets]
            first, sources = self.get(log), {record.source for record in packets}
            if (
                first is not None
                and seqs == list(range(first, first + len(seqs)))
                and (sources == {"ipl"} or len({record.group for record in packets}) == 1)
                and {record.count for record in packets} <= {None, 1}
            ):
                self[log] = (first + len(seqs)) & 0xFFFFFFFF
                return len(seqs)
        for i, record in enumerate(records):
            if not self.pass_on(record):
                return i
        return len(records)
