"""Records as ipmon's text: lines, hex dumps, and gaps in the sequence numbers.

The text is made of the bytes that IPFilter logged, in the layout in which it did: `packet`, `nat`
and `state` make the line of each log. Records of other systems are encoded first as IPFilter would
have logged them. With the option `release`, so are records of layouts that this release of ipmon
cannot read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any, NamedTuple

from pylog.formats import ipl_layouts
from pylog.formats.ipl_encode import LAYOUT, Encoder, ipfilter_log
from pylog.formats.ipl_layouts import Layout, Version
from pylog.formats.ipl_records import split_bits
from pylog.formats.plan import BYTEORDER, Plan
from pylog.ipmon import nat, packet, state
from pylog.ipmon.names import Names
from pylog.ipmon.release import RELEASES, Release, layout_for, release_of, shows_unit
from pylog.memo import Memo
from pylog.notes import notes
from pylog.record import LossRecord, Record, escape

LOGS = {"ipf": "ipf", "nat": "NAT", "state": "state"}
"""The names of the logs in ipmon's text."""


class Entry(NamedTuple):
    """The text of a record.

    missed   a line about records that are missing before it, or ""
    line     the line, without its end; bytes that are not UTF-8 are surrogates
    level    for syslog: a severity, or one with a facility
    dumps    lines of hex dumps
    raw      the record as IPFilter logs it
    undated  the line without its date, for syslog
    """

    missed: str
    line: str
    level: int
    dumps: list[str]
    raw: bytes
    undated: str = ""

    def text(self) -> bytes:
        """All of it, as ipmon writes it."""
        lines = [self.missed, self.line] if self.missed else [self.line]
        return ("\n".join([*lines, *self.dumps]) + "\n").encode("utf-8", "surrogateescape")


class _Source(NamedTuple):
    """What is needed to unpack and print the records of a log in a layout."""

    layout: Layout
    plan: Plan
    release: Release


def _is_read_by(version: Version, other: Version, log: str) -> bool:
    """Whether the ipmon of another version can read records of a log unchanged."""
    same_numbers = version.major == other.major
    return same_numbers and version.declarations(log) == other.declarations(log)


_VERSIONS_41 = ("4.1", "4.1.0")
"""Versions of which fl_unit may be set or not, see _release_41."""


@cache
def _source(layout_name: str, log: str) -> _Source:
    layout = ipl_layouts.named(layout_name)
    return _Source(layout, layout.plan(log), release_of(layout))


def hex_dump(data: bytes) -> list[str]:
    """Bytes as ipmon dumps them, sixteen a line."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(c) if 32 <= c < 127 else "." for c in row)
        lines.append(f"{row.hex(' '):<47}        {text}")
    return lines


def clock(zone: tzinfo | None) -> Callable[[int], tuple[str, str]]:
    """A function: second -> its date and time of day in a zone; None: the machine's zone."""

    def text(second: int) -> tuple[str, str]:
        try:
            if zone is None:
                moment = time.localtime(second)
                return time.strftime("%d/%m/%Y ", moment), time.strftime("%H:%M:%S", moment)
            at = datetime.fromtimestamp(second, zone)
        except (OverflowError, OSError, ValueError):  # in this zone it is beyond the year 9999
            at = datetime.fromtimestamp(second, UTC)
        return f"{at:%d/%m}/{at.year:04} ", f"{at:%H:%M:%S}"

    remembered = Memo(text)
    return lambda second: remembered[second]


class Printer:
    """Makes the text of records that were read with raw=True.

    release     of ipmon; None: the one that came with each record's layout. Records of other
                layouts than its IPFilter's are converted first.
    hosts       show hosts by name, which asks the resolver
    ports       show services by name
    encoder     encodes the records of other systems as IPFilter would have logged them
    zone        the zone of the times; None: the machine's
    dated       whether lines begin with the date
    safe        escape control characters, which names of interfaces may have; a line break is
                always escaped, so that no name can forge a line
    verbose     -v: sequence numbers and window of TCP
    header      -X: dump the record's head
    packet      -x: dump the packet
    body        -b: dump the body of packets that rules with `log body` logged
    """

    def __init__(
        self,
        *,
        release: Release | None = None,
        hosts: bool = False,
        ports: bool = False,
        encoder: Encoder | None = None,
        zone: tzinfo | None = None,
        dated: bool = True,
        safe: bool = False,
        verbose: bool = False,
        header: bool = False,
        packet: bool = False,
        body: bool = False,
    ) -> None:
        self._release = release
        self._names = {networks: Names(hosts, ports, networks) for networks in (False, True)}
        self._encoder = encoder or Encoder(LAYOUT)
        self._other = None if release is None else Encoder(layout_for(release))
        self._time = clock(zone)
        self._dated, self._safe, self._verbose = dated, safe, verbose
        self._header, self._packet, self._body = header, packet, body
        self._expected: dict[tuple[str, bool], int] = {}
        """The next number by log, and by whether IPFilter numbered the record or the encoder."""
        self._unreported = 0
        self._unitless: set[str] = set()
        """Layouts of 4.1 of which a record had no interface's number in fl_unit."""

    def entry(self, record: Record) -> Entry | None:
        """The text of a record, None if it has none.

        A loss that ipmon would not report, because it is no gap in sequence numbers, is noted to
        the logger "pylog". A record that IPFilter could not have logged has no entry; see `report`.
        """
        raw, layout = record.raw, record.layout
        if record.source != "ipl":
            raw, layout = self._encoder.encode(record), self._encoder.layout.name
        if isinstance(record, LossRecord):
            gap = record.seq is not None and record.count is not None
            if not (gap and record.source == "ipl" and self._reports_gaps(record)):
                self._unreported += record.source == "ipl"
                notes.warning("%s", record.describe())
            return None
        if raw is None:
            raise ValueError("a record without its raw bytes cannot be printed: read with raw=True")
        if not raw:
            return None
        version = ipl_layouts.named(layout).version
        if self._other is None or _is_read_by(
            version, self._other.layout.version, ipfilter_log(record)
        ):
            return self._entry(record, layout, raw, raw)
        text = self._other.encode(record)
        return self._entry(record, self._other.layout.name, text, raw) if text else None

    def report(self) -> list[str]:
        """The records of other systems and the losses that have no text, as sentences."""
        lines = self._encoder.report() + ([] if self._other is None else self._other.report())
        if self._unreported:
            lines.append(f"losses that are not in the text: {self._unreported}")
            self._unreported = 0
        return lines

    def _reports_gaps(self, loss: LossRecord) -> bool:
        """Whether ipmon's text reports a gap in the numbers."""
        if self._release is not None:
            return self._release.reports_gaps
        try:
            return _source(loss.layout, ipfilter_log(loss)).release.reports_gaps
        except (ValueError, KeyError):  # a file may name any layout
            return False

    def _entry(self, record: Record, layout: str, raw: bytes, own: bytes) -> Entry:
        """The entry of a record with bytes `raw`; `own` are its bytes before a conversion."""
        log = ipfilter_log(record)
        source = _source(layout, log)
        release, plan = self._release or source.release, source.plan
        f = dict(zip(plan.names, plan.unpack(raw, 0), strict=True))
        f.setdefault("ipl_count", 1)
        if "fl_bits" in f:  # 2.x
            f["fl_flags"], f["fl_unit"] = split_bits(f["fl_bits"], source.layout.abi.order)
        level, dumps = packet.LOG_INFO, []
        names, order = self._names[release.networks], BYTEORDER[source.layout.abi.order]
        if log == "ipf":
            if source.layout.version.name in _VERSIONS_41:
                release = self._release_41(layout, f, release, raw is not own)
            text, level = packet.line(
                f, raw[plan.size :], order, source.layout.host_order_ip, release, names,
                self._verbose,
            )  # fmt: skip
            dumps = self._dumps(f, raw, plan.size, release)
        elif log == "nat":
            text = nat.line(f, release, names)
        else:
            text = state.line(f, order, release, names)
        date, clock = self._time(f["ipl_sec"])
        when = f"{clock}.{f['ipl_usec']:06} "
        text = when + (escape(text) if self._safe else text.replace("\n", "\\n"))
        line = date + text if self._dated else text
        numbered = record.source == "ipl" and record.seq is not None
        return Entry(self._missed(f, log, release, numbered), line, level, dumps, own, text)

    def _release_41(
        self, layout: str, f: dict[str, Any], release: Release, converted: bool
    ) -> Release:
        """The release of a packet record of 4.1: that of 4.1.0 if its kernel set fl_unit.

        It did if all records so far have their interface's number there and not in the name. If
        not, no release shows fl_unit.
        """
        kept = not converted and shows_unit(f)
        if kept and layout not in self._unitless:
            return self._release or RELEASES["4.1.0"]
        self._unitless.add(layout)
        return release._replace(units=False)

    def _missed(self, f: dict[str, Any], log: str, release: Release, numbered: bool) -> str:
        """The line about missing records before this one, or "".

        ipmon expects 0 as the first number, but IPFilter begins with 1, so ipmon reports one as
        missing. That is kept for IPFilter's records, but not for those of the encoder.
        """
        number = f.get("ipl_seqnum")
        if number is None or not release.reports_gaps:
            return ""
        expected = self._expected.get((log, numbered), 0 if numbered else 1)
        self._expected[log, numbered] = (number + f["ipl_count"]) & 0xFFFFFFFF
        if number == expected:
            return ""
        missing = (number - expected) & 0xFFFFFFFF
        return f"missed {missing} {LOGS[log]} log entries: {expected} {number}"

    def _dumps(self, f: dict[str, Any], raw: bytes, head: int, release: Release) -> list[str]:
        lines = []
        if self._header:
            lines += hex_dump(raw[:head])
        after = head + f["fl_hlen"]
        if self._packet:
            lines += hex_dump(raw[head : after + f["fl_plen"]])
        elif self._body and f["fl_flags"] & release.logbody:
            lines += hex_dump(raw[after : after + f["fl_plen"]])
        return lines
