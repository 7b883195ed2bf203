"""Writes lines of the kernel's LOG, as syslog stores them: a packet a line, which pylog reads back.

    2026-11-28T20:57:17.307693+00:00 HOST kernel: PREFIX IN=eth0 OUT= MAC=.. SRC=.. DST=.. ..

Times are in UTC. A record of a text log that has no such time keeps its own as it is written. What
stands before the prefix is left out where a header of syslog says it. What LOG has no word for is
reported at the end: verdict, rule, group and reason of a packet, and records that are no packets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from pylog import outputs
from pylog.formats.textlog_kernel_encode import LineEncoder
from pylog.outputs._lines import Lines, LinesOutput
from pylog.record import PacketRecord, Record, kind_of, rfc3339

NAME = "kernel"
ENDINGS = (".kernel",)


def lines() -> Lines:
    """The lines of packets; other records have none."""
    encoder = LineEncoder()
    left_out: Counter[str] = Counter()

    def of_packets(make: Callable[[PacketRecord], str]) -> Callable[[Record], str]:
        def line(record: Record) -> str:
            if isinstance(record, PacketRecord):
                return make(record)
            left_out[f"{kind_of(record)} records"] += 1
            return ""

        return line

    def report() -> Iterator[str]:
        for what, counts in (("left out", left_out), ("not held", +encoder.lost)):
            if counts:
                listed = "; ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
                yield f"kernel: {what}: {listed}"

    return Lines(
        of_packets(lambda packet: encoder.line(packet, _stamp(packet))),
        lambda: [*report()],
        of_packets(encoder.content),
    )


def _stamp(packet: PacketRecord) -> str | None:
    time_ns = packet.observed_ns if packet.timestamp_ns is None else packet.timestamp_ns
    return None if time_ns is None else f"{rfc3339(time_ns)[:-1]}+00:00"


class Output(LinesOutput):
    """Writes packets as lines of LOG."""

    def __init__(self, target: outputs.Target) -> None:
        super().__init__(target, lines())
