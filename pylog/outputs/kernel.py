"""Writes lines of the kernel's LOG, as syslog stores them: a packet a line, which pylog reads back.

    2026-11-28T20:57:17.307693+00:00 HOST kernel: PREFIX IN=eth0 OUT= MAC=.. SRC=.. DST=.. ..

Times are in UTC. A record of a text log that has no such time keeps its own as it is written. What
LOG has no word for is reported at the end: verdict, rule, group and reason of a packet, and records
that are no packets.
"""

from __future__ import annotations

from collections import Counter

from pylog import outputs
from pylog.batch import Batch
from pylog.formats.textlog_kernel_encode import LineEncoder
from pylog.notes import notes
from pylog.record import PacketRecord, Record, kind_of, rfc3339

NAME = "kernel"
ENDINGS = (".kernel",)


class Output(outputs.Output):
    """Writes packets as lines of LOG."""

    def __init__(self, target: outputs.Target) -> None:
        self._stream = target.stream
        self._encoder = LineEncoder()
        self._left_out: Counter[str] = Counter()

    def write(self, batch: Batch) -> None:
        lines = [*map(self._line, batch.records())]
        text = "".join(f"{line}\n" for line in lines if line is not None)
        self._stream.write(text.encode("utf-8", "backslashreplace"))

    def _line(self, record: Record) -> str | None:
        if not isinstance(record, PacketRecord):
            self._left_out[f"{kind_of(record)} records"] += 1
            return None
        time_ns = record.timestamp_ns if record.timestamp_ns is not None else record.observed_ns
        stamp = None if time_ns is None else f"{rfc3339(time_ns)[:-1]}+00:00"
        return self._encoder.line(record, stamp)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
        for what, counts in (("left out", self._left_out), ("not held", +self._encoder.lost)):
            if counts:
                listed = "; ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
                notes.warning("kernel: %s: %s", what, listed)
