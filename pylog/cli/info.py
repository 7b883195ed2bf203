"""Describe a log: its container, its layout, and a count of its contents.

Each SOURCE is read to its end, or with --quick only at its beginning and end. With --explain, the
evidence for the layout and the other layouts that would fit are shown too.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pylog
from pylog import backends
from pylog.cli import answer, answer_json
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._progress import progress
from pylog.cli._sources import (
    add_source_arguments,
    add_text_log_arguments,
    given_options,
    lost_text,
)
from pylog.cli._where import add_where_arguments, given_filter, lacks_zone, report_untimed
from pylog.decoder import Decoder
from pylog.formats import ipl_layouts
from pylog.reader import Reader
from pylog.record import LossRecord, PacketRecord, Record, kind_of, rfc3339
from pylog.zones import TZ, Clock, clock_of

if TYPE_CHECKING:
    from pylog.filter import Filter

USAGE = "[options] SOURCE ..."
EPILOG = """examples:
  pylog info fw.dump
  pylog info --quick fw.dump       the beginning and end of a long file
  pylog info --json nflog.pcap
"""
HELP = "describe a log and count its contents"

LONGEST = 200
"""Characters of a prefix that count."""
SHOWN_PREFIXES = 10
NAMES, MORE = 1000, "and more"
"""The most names that are counted one by one, and the name under which others are counted."""
RANGES = 100
"""The most changes of the layout that are listed."""
PART = 1 << 20
"""How many bytes at the beginning and at the end of a file --quick reads."""
SEAM = 1 << 16
"""How many bytes of those at the end may be needed to find where a record begins."""
MOVE = 4096
"""After so many records the progress bar moves."""

Described = tuple[dict[str, Any], str | None]
"""The description of a log, and where it is cut off."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog info`."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="a file, directory, glob or URL, or - (standard input)",
    )
    add_input_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a source")
    parser.add_argument(
        "-v",
        "--explain",
        action="store_true",
        help="show the evidence, and other layouts that would fit",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="read only the first and the last MiB of a file, and say so",
    )
    parser.add_argument("--tz", metavar=TZ.metavar or "NAME", default="UTC",
                        help=f"{TZ.help}; not of --json (default: UTC)")  # fmt: skip
    add_where_arguments(parser)
    add_source_arguments(parser)
    add_text_log_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog info`."""
    clock = clock_of(arguments.tz)
    given_filter(arguments)  # a bad one is reported before anything is read
    expand(arguments)
    for i, source in enumerate(arguments.source):
        describer = _quick if arguments.quick else _full
        description, end = describer(arguments, source)
        if not arguments.explain:
            del description["evidence"], description["rivals"]
        if arguments.json:
            answer_json(description)
        else:
            answer(*[""] * (i > 0), *_text(description, end, clock, arguments))
        report_untimed(arguments, [description["container"]])
    return 0


def _full(arguments: argparse.Namespace, source: str) -> Described:
    if backends.is_live(source):
        raise ValueError(f"{source} is live and has no end; pylog read -v shows its layout")
    with pylog.open(
        source, layout=arguments.layout, on_error=arguments.on_error, **given_options(arguments)
    ) as reader:
        return describe(reader, given_filter(arguments))


def _quick(arguments: argparse.Namespace, source: str) -> Described:
    """As `_full`, of the first and last PART bytes of a file that is longer than both."""
    if not os.path.isfile(source):
        raise ValueError(f"--quick is for files, and {source} is none")
    size = os.path.getsize(source)
    if size <= 2 * PART:
        return _full(arguments, source)
    with open(source, "rb") as file:
        head = file.read(PART)
        file.seek(size - PART)
        tail = file.read(PART)
    contents = Contents(given_filter(arguments))
    with pylog.open(BytesIO(head), layout=arguments.layout) as reader:
        compression = getattr(reader.backend, "compression", None)
        if compression:
            decoder, parts = reader.decoder, [head]
            for record in reader:
                if not (isinstance(record, LossRecord) and record.cut_off):  # by us
                    contents.add(record, reader.size)
        else:
            decoder, parts = Decoder(reader.detection, name=source, layout=arguments.layout), []
            for at, part in ((0, head), (size - PART, tail)):
                decoder.seek(at)
                decoder.feed(part, bool(at))
                parts.append(part)
                contents.add_all(decoder, at)
                decoder.losses.restart()
    read = sum(map(len, parts))
    cut_off = None if compression else decoder.damages.cut_off
    end = None if cut_off is None else f"cut off at offset {cut_off}, within its last record"
    description, _ = _described(contents, decoder, source, compression, end)
    description |= {"cut_off": cut_off, "malformed": contents.damaged_places}
    per_byte = contents.kinds.total() / read
    return description | {
        "quick": {
            "size": size, "read": read, "not_read": size - read,
            "records_estimated": round(per_byte * size),
        }
    }, end  # fmt: skip


class Contents:
    """What is counted of records, of which `add` takes one after the other."""

    def __init__(self, wanted: Filter | None = None) -> None:
        """`wanted` leaves out other records."""
        self._wanted = wanted
        self.kinds: Counter[str] = Counter()
        self.logs: Counter[str] = Counter()
        self.interfaces: Counter[str] = Counter()
        self.prefixes: Counter[str] = Counter()
        self.layouts: Counter[str] = Counter()
        self.ranges: list[dict[str, Any]] = []
        self.times: list[int] = []
        self.damage: list[dict[str, Any]] = []
        self.damaged_places = self.lost_bytes = 0

    def add(self, record: Record, size: int) -> None:
        """Count a record, whose message has so many bytes."""
        if self._wanted is not None and not self._wanted.matches(record):
            return
        self.kinds[kind_of(record)] += 1
        if isinstance(record, LossRecord):
            if record.size is not None or record.count is None:
                self.damaged_places += record.size is not None
                self.lost_bytes += record.size or 0
                if len(self.damage) < 100:
                    self.damage.append({"offset": record.offset, "size": record.size or 0,
                                        "reason": record.reason})  # fmt: skip
            return
        _count(self.layouts, record.layout)
        _count(self.logs, _log(record))
        if isinstance(record, PacketRecord) and record.prefix:
            _count(self.prefixes, record.prefix[:LONGEST])
        for device in _devices(record):
            _count(self.interfaces, device)
        if record.offset is not None:
            _extend(self.ranges, record.layout, record.offset, record.offset + size)
        time = record.timestamp_ns if record.timestamp_ns is not None else record.observed_ns
        if time is not None:
            times = self.times
            self.times = [min(time, *times), max(time, *times)] if times else [time, time]

    def add_all(self, decoder: Decoder, start: int) -> None:
        """Count the records that a decoder has of bytes that begin at `start`.

        Unless that is 0 they begin within a record. Then the first bytes may look like another
        record, and damage shows that it was none: what stands before the last damage in the first
        SEAM bytes is not counted.
        """
        seam: list[tuple[Record, int]] = []
        while (record := decoder.next()) is not None:
            if start and (record.offset or 0) < start + SEAM:
                if isinstance(record, LossRecord) and record.size is not None:
                    seam.clear()
                else:
                    seam.append((record, decoder.size))
                continue
            while seam:
                self.add(*seam.pop(0))
            self.add(record, decoder.size)
        for held in seam:
            self.add(*held)


def describe(reader: Reader, wanted: Filter | None = None) -> Described:
    """What `pylog info --json --explain` shows of a reader, which is read to its end.

    wanted   which records are counted
    """
    contents = Contents(wanted)
    with progress([reader.backend], False) as move:
        for number, record in enumerate(reader):
            contents.add(record, reader.size)
            if number % MOVE == 0:
                move()
    compression = getattr(reader.backend, "compression", None)
    return _described(contents, reader.decoder, reader.backend.name, compression, reader.ending)


def _described(
    contents: Contents, decoder: Decoder, name: str, compression: str | None, ending: str | None
) -> Described:
    """The description of a log, and where it is cut off."""
    detection, times = decoder.detection, contents.times
    layout = decoder.layout if contents.layouts or detection.layouts else None
    return {
        "source": name,
        "container": detection.container,
        "compression": compression,
        "layout": layout,
        "layouts": list(contents.layouts) or detection.layouts[:1],
        "ranges": contents.ranges if detection.container in ("raw", "netlink") else [],
        "same": detection.layouts[1:],
        "abi": None if layout is None else _abi(layout),
        "ipfilter": _ipfilter(layout or ""),
        "logs": dict(contents.logs),
        "records": dict(contents.kinds),
        "first": rfc3339(times[0]) if times else None,
        "last": rfc3339(times[1]) if times else None,
        "interfaces": dict(contents.interfaces.most_common()),
        "prefixes": dict(contents.prefixes.most_common()),
        "dropped": decoder.losses.dropped,
        "uncounted": decoder.losses.uncounted,
        "cut_off": decoder.damages.cut_off,
        "malformed": decoder.damages.malformed,
        "malformed_bytes": contents.lost_bytes,
        "flaws": dict(decoder.damages.flaws),
        "damage": contents.damage,
        "other_messages": decoder.other,
        "evidence": detection.evidence,
        "rivals": [{"layout": rival, "bytes": explained, "score": score}
                   for rival, explained, score in detection.rivals],
    }, ending  # fmt: skip


def _count(counts: Counter[str], name: str) -> None:
    """Count one more of a name; the log decides how many there are, so memory is bounded."""
    counts[name if name in counts or len(counts) < NAMES else MORE] += 1


def _extend(ranges: list[dict[str, Any]], layout: str, start: int, end: int) -> None:
    """Extend the last range of bytes to the record, or begin one if its layout is another."""
    if ranges and (ranges[-1]["layout"] == layout or len(ranges) == RANGES):
        ranges[-1]["end"] = end
        if ranges[-1]["layout"] != layout:
            ranges[-1]["layout"] = MORE
    else:
        ranges.append({"layout": layout, "start": start, "end": end})


def _log(record: Record) -> str:
    log = record.log
    return f"group {log}" if record.source == "nflog" else log or record.source


def _devices(record: Record) -> list[str]:
    devices = [getattr(record, name, None) for name in ("indev", "outdev")]
    if isinstance(record, PacketRecord):
        devices += [record.physindev, record.physoutdev]
    return [f"#{d}" if isinstance(d, int) else d for d in devices if d is not None]


def _abi(name: str) -> str | None:
    """The ABI of an IPFilter layout, the byte order of another that has one."""
    if name.startswith("ipl-"):
        return ipl_layouts.named(name).abi.name
    order = name.split("-")[-1]
    return order if order in ("le", "be") else None


def _ipfilter(name: str) -> dict[str, str] | None:
    """Version, releases and systems of an IPFilter layout, None for another."""
    if not name.startswith("ipl-"):
        return None
    version = ipl_layouts.named(name).version
    return {
        "version": version.name,
        "releases": version.releases,
        "systems": version.systems,
    }


def _text(
    log: dict[str, Any], end: str | None, clock: Clock | None, arguments: argparse.Namespace
) -> list[str]:
    """The description as lines of text; `end` says where the log is cut off."""
    none = "none"
    if log["records"] and lacks_zone(arguments, [log["container"]]):
        none += " (the lines state no zone: --log-tz Europe/Oslo, or --log-tz local)"
    first, last = (
        text if clock is None or text is None else clock.text(text)
        for text in (log["first"], log["last"])
    )
    places = "1 place" if log["malformed"] == 1 else f"{log['malformed']} places"
    damage = f"{places}, {log['malformed_bytes']} bytes"
    container = log["container"]
    if log["compression"]:
        container += f", compressed with {log['compression']}"
    ipl = log["ipfilter"]
    systems = ipl["systems"] if ipl else ""
    rows = [
        ("source", log["source"]),
        *_quick_rows(log),
        ("container", container),
        ("layout", " ".join(_layouts(log))),
        ("version", f"IPFilter {ipl['releases']}" + (systems and f" ({systems})") if ipl else None),
        ("ABI", log["abi"]),
        ("logs", _counted(log["logs"])),
        ("records", _counted(log["records"]) or "none"),
        ("time", f"{first} to {last}" if first else none),
        ("interfaces", _counted(log["interfaces"])),
        ("prefixes", _prefixes(log["prefixes"])),
        ("lost records", lost_text(log["dropped"], log["uncounted"])),
        ("end", end),
        ("damage", damage if log["malformed"] else "none"),
        ("values missing", _counted(log["flaws"])),
        ("other messages", str(log["other_messages"] or "")),
    ]
    lines = [f"{name + ':':16}{value}" for name, value in rows if value]
    if len(log["ranges"]) > 1:
        lines.append("layouts by bytes:")
        lines += [f"    {r['start']} to {r['end']}: {r['layout']}" for r in log["ranges"]]
    for place in log["damage"]:
        lines.append(f"    {place['size']} bytes at offset {place['offset']}: {place['reason']}")
    if "evidence" in log:
        lines.append("evidence:")
        lines += [f"    {fact}" for fact in log["evidence"]]
        if log["same"]:
            lines.append("decoded identically by:")
            lines += [f"    {name}" for name in log["same"]]
        if log["rivals"]:
            lines.append("would fit less well (bytes explained, score):")
            lines += [f"    {r['layout']} ({r['bytes']}, {r['score']})" for r in log["rivals"]]
    return lines


def _quick_rows(log: dict[str, Any]) -> list[tuple[str, str]]:
    """What was read and what was not, if not everything was."""
    if "quick" not in log:
        return []
    quick = log["quick"]
    read = "first MiB" if log["compression"] else "first and last MiB"
    return [
        ("size", f"{quick['size']} bytes"),
        ("read", f"the {read}: what follows is of these only"),
        ("NOT READ", f"{quick['not_read']} bytes, with their losses and damage"),
        ("in all", f"about {quick['records_estimated']} records, if all are like these"),
    ]


def _layouts(log: dict[str, Any]) -> list[str]:
    """The layout in use, then the other layouts of a capture."""
    first = log["layout"]
    if first is None:
        return ["unknown: there is no packet in it"]
    return [first, *(name for name in log["layouts"] if name != first.partition(":")[0])]


def _prefixes(counts: dict[str, int]) -> str:
    """The most frequent prefixes of rules, between quotes, with their counts."""
    named = [f"{prefix!r} {count}" for prefix, count in [*counts.items()][:SHOWN_PREFIXES]]
    more = len(counts) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())
