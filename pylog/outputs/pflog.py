"""Writes captures of pflog, in the layout of any system: what tcpdump and tshark read of pf.

A record of that layout keeps its header. Of any other record the header is made from its fields:
the words of action and reason become the numbers of the layout's system, and what it has no number
or no room for is reported at the end. A packet without logged bytes, as of a text log, is refused:
a capture would show bytes that nobody saw.

A file is pcap in the byte order of the layout, with times in microseconds; macOS has nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from struct import Struct

from pylog import outputs
from pylog.batch import Batch
from pylog.formats.pcap_blocks import MAGIC_NSEC, MAGIC_USEC, MAXIMUM_SNAPLEN
from pylog.formats.pflog import linktype
from pylog.formats.pflog_encode import Encoder
from pylog.formats.pflog_layouts import layouts, named
from pylog.notes import notes
from pylog.options import Option
from pylog.record import LossRecord, PacketRecord, Record, kind_of

NAME = "pflog"
ENDINGS = (".pflog",)
RAW = BINARY = True
APPENDS = False
LAYOUT = "pflog-100-le"
OPTIONS = (
    Option("layout", str, LAYOUT, "the layout to write, as pflog-69-le of FreeBSD",
           flag="--layout"),
)  # fmt: skip


def check(*, layout: str) -> None:
    """ValueError for a layout that does not exist."""
    if layout not in layouts():
        raise ValueError(f"no layout {layout!r} of pflog; there are {', '.join(layouts())}")


class Output(outputs.Output):
    """Writes packets with a header of pflog; records must be read with raw=True."""

    def __init__(self, target: outputs.Target, *, layout: str = LAYOUT) -> None:
        self._stream = target.stream
        self._encoder = Encoder(named(layout))
        chosen = named(layout)
        order = chosen.order or "<"
        self._nanoseconds = chosen.system == "darwin"
        self._packet = Struct(f"{order}4I").pack
        self._last_ns = 0
        self._refused: Counter[str] = Counter()
        if not target.appending:
            magic = MAGIC_NSEC if self._nanoseconds else MAGIC_USEC
            header = Struct(f"{order}IHHiIII").pack
            self._stream.write(header(magic, 2, 4, 0, 0, MAXIMUM_SNAPLEN, linktype(layout)))

    def write(self, batch: Batch) -> None:
        for record in batch.records():
            self._record(record)

    def _record(self, record: Record) -> None:
        if isinstance(record, LossRecord):
            if not record.cut_off:
                notes.warning("%s", record.describe())
            return
        if not isinstance(record, PacketRecord):
            self._refused[f"{kind_of(record)} records"] += 1
            return
        if not record.payload or record.family not in ("ipv4", "ipv6"):
            what = "without logged bytes" if not record.payload else "that are not of IP"
            self._refused[f"packets {what}"] += 1
            return
        packet = self._encoder.encode(record)
        given = record.timestamp_ns if record.timestamp_ns is not None else record.observed_ns
        time_ns = self._last_ns if given is None else given
        second, rest = divmod(time_ns, 1_000_000_000)
        if not 0 <= second < 2**32:
            self._refused["packets before 1970 or after 2106"] += 1
            return
        self._last_ns = time_ns
        fraction = rest if self._nanoseconds else rest // 1000
        cut = max(0, (record.length or 0) - len(record.payload))
        size = len(packet)
        self._stream.write(self._packet(second, fraction, size, size + cut) + packet)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()
        for what, counts in (("left out", self._refused), ("not held", self._encoder.lost)):
            if counts:
                listed = "; ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
                notes.warning("%s: %s: %s", self._encoder.layout.name, what, listed)
