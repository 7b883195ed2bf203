"""How well a layout of IPFilter explains given bytes: the evidence that detection decides by.

Nothing in a record names its layout. So every layout is tried: a trial reads the bytes as records
of the layout, and counts the bytes that plausible records cover. Facts that only the right layout
gets right (header checksums, times, sequence numbers) decide between layouts that cover the same.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from copy import copy
from functools import cache
from typing import Any

import msgspec

from pylog.errors import DecodeError
from pylog.formats import Message
from pylog.formats import ipl_names as names
from pylog.formats.ipl_layouts import Layout
from pylog.formats.ipl_stream import IplStream
from pylog.formats.plan import Plan
from pylog.record import FlowRecord, PacketRecord

MARKS = {"<": b"LPI", ">": b"IPL"}
"""What the magics of all logs share, by byte order."""

_Logged = PacketRecord | FlowRecord


class Trial:
    """How well a layout explains the given bytes.

    explained   the number of bytes that plausible records cover
    messages    the number of those records
    score       how often a fact spoke for the layout, less how often one spoke against it
    evidence    how often by fact
    """

    def __init__(
        self, layout: Layout, log: str, data: bytes, final: bool, lenient: bool = False
    ) -> None:
        self.layout, self.log = layout, log
        self.stream = IplStream(layout, log)
        self.stream.lenient = lenient
        self.explained = self.messages = self.score = 0
        self.records: list[_Logged] = []
        self._major, self._ipflog = layout.version.major, layout.version.ipflog
        self._copied = "FR_COPIED" if self._major >= 5 else "FF_LOGNOMATCH"
        """The flag of the kernel's copy of a rule, whose bit is FF_LOGNOMATCH in 4.x."""
        self.evidence: dict[str, int] = {}
        expected: dict[str, int] = {}
        for item in self.stream.split(data, final):
            if not isinstance(item, Message):
                continue
            try:
                record = self.stream.decode(data, item)
            except DecodeError:
                continue
            if not isinstance(record, _Logged) or not _plausible(record):
                continue
            self.records.append(record)
            self.messages += 1
            self.explained += item.end - item.start
            self._score(record, self.stream.message_log(data, item), expected)

    def _score(self, record: PacketRecord | FlowRecord, log: str, expected: dict[str, int]) -> None:
        """Count what only the right layout gets right."""
        facts = []
        if isinstance(record, PacketRecord) and record.family == "ipv4" and record.payload:
            header = record.payload[: (record.payload[0] & 15) * 4]
            if len(header) >= 20 and _adds_up(header):
                facts.append("IPv4 header checksums right")
            if record.length == record.caplen:
                facts.append("packets logged in full")
        nanoseconds = record.timestamp_ns or 0
        if nanoseconds >= 694224000 * 10**9:
            facts.append("times after 1991")
        if nanoseconds % 10**9:
            facts.append("times with a fraction of a second")
        extra = record.extra or {}
        flags = extra.get("fl_flags", ())
        if self._copied in flags and "FR_NOMATCH" not in flags:
            facts.append(f"rules marked {self._copied} as in {self._major}.x")
        if isinstance(record, PacketRecord) and self._ipflog == "5.0.5":
            if names.FAMILIES.get(extra.get("fl_family", 0)) == record.family:
                facts.append("address families right")
            else:
                self.score -= 1
        if isinstance(record, PacketRecord) and self._ipflog in ("3.4.0", "3.4.29"):
            self.score -= _contradictions(record)
        if record.seq is not None:
            if record.seq == expected.get(log, 1):
                facts.append("sequence numbers from 1 on, without a gap")
            expected[log] = record.seq + (record.count or 1)
        for name in facts:
            self.evidence[name] = self.evidence.get(name, 0) + 1
        self.score += len(facts)

    @property
    def rank(self) -> tuple[int, int]:
        return self.explained, self.score

    @property
    def name(self) -> str:
        is_clear = self.layout.version.magic_tells_log or self.log == "ipf"
        return self.layout.name if is_clear else f"{self.layout.name}:{self.log}"

    def renamed(self, layout: Layout) -> Trial:
        """The trial of a layout that differs in the names of reasons and TCP states alone."""
        trial = copy(self)
        trial.layout = layout
        return trial


def _adds_up(header: bytes) -> bool:
    """Whether the words of an IPv4 header add up to 0xFFFF in ones' complement, as RFC 791 has it:
    then the header is a multiple of that, as a number."""
    return int.from_bytes(header) % 0xFFFF == 0


def _contradictions(record: PacketRecord) -> int:
    """What speaks against fl_lflags of 3.4.0, or fl_dir of 3.4.29, in the same four bytes."""
    extra = record.extra or {}
    lflags = extra.get("fl_lflags", ())
    plain = record.family == "ipv4" and (record.payload or b"\x45")[0] == 0x45
    odd = ("FI_OPTIONS" in lflags and plain) or any(isinstance(word, int) for word in lflags)
    other = {"in": "FR_OUTQUE", "out": "FR_INQUE"}.get(str(record.direction))
    return 2 * odd + (other in extra.get("fl_flags", ()))


def _plausible(record: _Logged) -> bool:
    """Whether a record looks as if a kernel wrote it; with a wrong layout few do."""
    if isinstance(record, PacketRecord):
        device = record.indev or record.outdev
        return (
            isinstance(device, str)
            and device.isprintable()
            and device.isascii()
            and "bad_header" not in (record.extra or {})
            and record.direction is not None
            and (record.group or "0").isprintable()
        )
    extra: dict[str, Any] = record.extra or {}
    return (
        isinstance(record.event, str)
        and "nl_v" not in extra
        and "isl_v" not in extra
        and int(extra.get("nl_usec", extra.get("isl_usec", 0))) < 1_000_000
        and f"{record.indev}{record.outdev}".isprintable()
    )


def same_records(a: Trial, b: Trial) -> bool:
    """Whether two layouts give the same records, but for the layout's name.

    Versions of one structure may also differ in the names of reasons and TCP states: no bytes tell
    them apart.
    """
    if a.records is b.records:
        return True
    if len(a.records) != len(b.records):
        return False
    first, second = a.layout.version, b.layout.version
    renamed = first.structure == second.structure
    states = first.declarations("state") == second.declarations("state")

    def compared(record: _Logged) -> _Logged:
        change: dict[str, Any] = {"layout": ""}
        if isinstance(record, PacketRecord):
            change |= {"reason": None} if renamed else {}
        elif states and record.extra and "isl_state" in record.extra:
            change["extra"] = {k: v for k, v in record.extra.items() if k != "isl_state"}
        return msgspec.structs.replace(record, **change)

    return all(compared(x) == compared(y) for x, y in zip(a.records, b.records, strict=True))


def candidates(
    layouts: Iterable[Layout], sample: bytes, lenient: bool = False
) -> list[tuple[Layout, str]]:
    """The layouts with a magic, and their logs, of which a trial may find a record in the sample.

    They are chosen by the heads of records, of which there are few different ones: most layouts
    differ only in what comes after the head. `lenient` as in trials_of.
    """
    places = {mark: [m.start() for m in re.finditer(mark, sample)] for mark in MARKS.values()}
    size = len(sample)

    @cache
    def chains(head: Plan, magic: bytes) -> bool:
        """Whether a record lies at the beginning, or before another magic as after damage."""
        mark = MARKS[head.places["ipl_dsize"].order]
        at, read = magic.index(mark), head.reader(("ipl_usec", "ipl_dsize"))
        for place in places[mark]:
            start = place - at
            if start < 0 or start + head.size > size:
                continue
            usec, dsize = read(sample, start)
            end = start + dsize
            if dsize < head.size or end > size or not (usec < 1_000_000 or lenient):
                continue
            if start == 0 or end + len(magic) > size or sample.startswith(mark, end + at):
                return True
        return False

    return [
        (layout, log)
        for layout in layouts
        if layout.version.has_magic and chains(layout.head, layout.magic("ipf"))
        for log in (("ipf",) if layout.version.magic_tells_log else layout.logs)
    ]


def without_magic(layouts: Iterable[Layout]) -> list[tuple[Layout, str]]:
    """The layouts that have no magic, and their logs."""
    return [(x, log) for x in layouts if not x.version.has_magic for log in x.logs]


def trials_of(
    layouts: Iterable[tuple[Layout, str]], sample: bytes, final: bool, lenient: bool = False
) -> list[Trial]:
    """The trials of the layouts and logs that find any record in the sample.

    lenient   records with values that make no sense count as well
    """
    trials: list[Trial] = []
    made: dict[Hashable, Trial] = {}
    for layout, log in layouts:
        key = layout.version.structure, layout.version.major, layout.abi, log
        if key in made:
            trials.append(made[key].renamed(layout))
        else:
            trials.append(made.setdefault(key, Trial(layout, log, sample, final, lenient)))
    return [trial for trial in trials if trial.messages]
