"""Records of any source as bytes of IPFilter's log, in any layout.

An `Encoder` is made for a layout. What the layout cannot hold is left out and counted in `lost`, by
the name of the field. A record that the layout cannot hold at all is counted in `refused` and gives
no bytes. Padding and what no kernel fills in are zeros. Packets are encoded by
formats.ipl_encode_packets, NAT and state entries by formats.ipl_encode_flows. This module adds
struct iplog, which begins each record:

    ipl_seqnum           numbers the records of each log from 1 on, lost ones included
    ipl_sec, ipl_usec    the kernel's time, or that of receipt, or that of the record before
"""

from __future__ import annotations

from collections import Counter

from pylog.formats import ipl_layouts
from pylog.formats.ipl_encode_flows import put_nat, put_state
from pylog.formats.ipl_encode_packets import PacketEncoder
from pylog.formats.ipl_fields import Fields, Impossible
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_names import NONE32
from pylog.formats.plan import BYTEORDER
from pylog.record import FlowRecord, LossRecord, PacketRecord, Record, kind_of

LAYOUT = "ipl-5.1.2-lp64le"
"""The default layout: the newest version, on the most common machine."""

GROUPS = ("prefix", "group", "none")
TAGS = ("mark", "uid", "gid", "none")

BODY = 128
"""How many bytes behind the headers ip_log.c keeps."""

MAXIMUM_GAP = 2**31
"""A gap of this many numbers would look like a counter that was reset."""

_AF_INET6_FREEBSD, _AF_INET6_NETBSD = 28, 24


class Encoder:
    """Makes records of a layout.

    lost      how often the layout could not hold a field, by its name
    refused   how many records it could not hold at all, by reason

    The parameters choose what a Linux packet becomes:

    group     what fl_group is: "prefix", "group" (the NFLOG group) or "none"
    tag       what fl_logtag is: "mark", "uid", "gid" or "none"
    body      bytes kept behind the headers; None: all
    af_inet6  AF_INET6 of the system that reads the log, for records of IPFilter as well; None: that
              of FreeBSD, or of NetBSD for layouts without fl_unit, but a record of this very layout
              keeps its own
    """

    def __init__(
        self,
        layout: Layout | str,
        *,
        group: str = "prefix",
        tag: str = "mark",
        body: int | None = BODY,
        af_inet6: int | None = None,
    ) -> None:
        """ValueError for an unknown layout."""
        self.layout = ipl_layouts.named(layout) if isinstance(layout, str) else layout
        self._order = BYTEORDER[self.layout.abi.order]
        unit = self.layout.abi.unit
        self._af_inet6 = af_inet6 or (_AF_INET6_FREEBSD if unit else _AF_INET6_NETBSD)
        self._packets = PacketEncoder(self.layout, group, tag, body, self._af_inet6)
        self._family = self.layout.plan("ipf").places.get("fl_family") if af_inet6 else None
        self._events: dict[str, int] = {}
        self._gaps: dict[str, tuple[int, int]] = {}
        """By log, how many losses followed its last record, and how many of them are not gaps in
        IPFilter's own numbers."""
        self._last_ns = 0
        self.lost: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def encode(self, record: Record) -> bytes:
        """The record's bytes; b"" for a loss, and for a record that is refused.

        A record of this very layout that has its raw bytes keeps them, except for `af_inet6`.
        """
        if isinstance(record, LossRecord):
            self._skip(record)
            return b""
        if self._gaps:
            self._follow(record)
        if not isinstance(record, PacketRecord | FlowRecord):  # of a format that is not IPFilter's
            self.refused[f"{kind_of(record)} records"] += 1
            return b""
        if record.raw is not None and record.layout == self.layout.name:
            if self._family is None or record.family != "ipv6" or ipfilter_log(record) != "ipf":
                return record.raw
            at = self._family.offset
            return record.raw[:at] + bytes((self._af_inet6,)) + record.raw[at + 1 :]
        log = ipfilter_log(record)
        packet = b""
        try:
            fields = Fields(self.layout, log)
            if isinstance(record, PacketRecord):
                packet = self._packets.put(fields, record)
            elif log == "state":
                put_state(self.layout, fields, record)
            else:
                put_nat(self.layout, fields, record)
            self._head(fields, record, len(packet), log)
        except Impossible as reason:
            self.refused[str(reason)] += 1
            return b""
        self.lost.update(+fields.lost)
        return fields.pack() + packet

    def report(self) -> list[str]:
        """What was lost and refused since the last report, as sentences."""
        sentences = []
        self._unheld(sum(every for every, _ in self._gaps.values()))
        self._gaps.clear()
        for what, counts in (("records left out", self.refused), ("not held", self.lost)):
            if counts:
                listed = "; ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
                sentences.append(f"{self.layout.name}: {what}: {listed}")
                counts.clear()
        return sentences

    def _skip(self, loss: LossRecord) -> None:
        """Leave a gap in the numbers, where the layout has them; the next record shows it."""
        if loss.cut_off:
            return
        log = ipfilter_log(loss)
        numbered = log in self.layout.logs and "ipl_seqnum" in self.layout.plan(log).places
        if loss.count is not None and numbered and 0 <= loss.count < MAXIMUM_GAP:
            self._events[log] = self._events.get(log, 0) + loss.count
            every, foreign = self._gaps.get(log, (0, 0))
            self._gaps[log] = every + 1, foreign + (loss.source != "ipl" or loss.seq is None)
        else:
            self._unheld(1)

    def _follow(self, record: Record) -> None:
        """A record follows losses of its log: a number of IPFilter's own shows only its gaps."""
        _, foreign = self._gaps.pop(ipfilter_log(record), (0, 0))
        if record.source == "ipl" and record.seq is not None:
            self._unheld(foreign)

    def _unheld(self, losses: int) -> None:
        if losses:
            self.lost["losses"] += losses

    def _head(self, fields: Fields, record: Record, packet_size: int, log: str) -> None:
        """Put struct iplog into the fields."""
        count = record.count or 1
        number = record.seq if record.source == "ipl" else None
        if number is None:
            number = self._events.get(log, 0) + 1
            self._events[log] = number + count - 1
        elif not fields.size_of("ipl_seqnum"):
            fields.lost["ipl_seqnum"] += 1
        nanoseconds = record.timestamp_ns
        if nanoseconds is None:
            nanoseconds = record.observed_ns
        if nanoseconds is None:
            fields.lost["time"] += 1
            nanoseconds = self._last_ns
        self._last_ns = nanoseconds
        second, rest = divmod(nanoseconds, 1_000_000_000)
        if second >> 8 * fields.size_of("ipl_sec"):
            raise Impossible(f"times after 2106, for which {self.layout.name} has no room")
        size = fields.size + packet_size
        magic = self.layout.magic(log)
        for name, value in (
            ("ipl_magic", int.from_bytes(magic, self._order)),
            ("ipl_seqnum", number & NONE32),
            ("ipl_sec", second),
            ("ipl_usec", rest // 1000),
            ("ipl_len", size),
            ("ipl_dsize", size),
        ):
            fields.put(name, value, absent=value)
        fields.put("ipl_count", count, absent=1)


def ipfilter_log(record: Record) -> str:
    """The log of IPFilter that a record of any source belongs to: ipf, nat or state."""
    return (record.log if record.source == "ipl" else "") or "ipf"
