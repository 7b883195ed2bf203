"""Describe a log: its container, its layout, and a count of its contents.

Each SOURCE is read to its end. With --explain, the evidence for the layout and the other layouts
that would fit are shown too.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import pylog
from pylog.cli import answer, answer_json
from pylog.cli._inputs import add_input_arguments, expand
from pylog.cli._sources import add_source_arguments, lost_text
from pylog.formats import ipl_layouts
from pylog.reader import Reader
from pylog.record import LossRecord, PacketRecord, Record, kind_of, rfc3339

HELP = "describe a log and count its contents"

NAMES, MORE = 1000, "and more"
"""The most names that are counted one by one, and the name under which others are counted."""
RANGES = 100
"""The most changes of the layout that are listed."""


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
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog info`."""
    expand(arguments)
    for i, source in enumerate(arguments.source):
        with pylog.open(source, layout=arguments.layout, on_error=arguments.on_error) as reader:
            if reader.backend.live:
                raise ValueError(f"{source} is live and has no end; pylog read -v shows its layout")
            description = describe(reader)
        end = description.pop("end")
        if not arguments.explain:
            del description["evidence"], description["rivals"]
        if arguments.json:
            answer_json(description)
        else:
            answer(*[""] * (i > 0), *_text(description, end))
    return 0


def describe(reader: Reader) -> dict[str, Any]:
    """What `pylog info --json --explain` shows of a reader, which is read to its end."""
    counts: Counter[str] = Counter()
    logs: Counter[str] = Counter()
    interfaces: Counter[str] = Counter()
    layouts: Counter[str] = Counter()
    ranges: list[dict[str, Any]] = []
    times: list[int] = []
    damage: list[dict[str, Any]] = []
    lost_bytes = 0
    for record in reader:
        counts[kind_of(record)] += 1
        if isinstance(record, LossRecord):
            if record.size is not None or record.count is None:
                lost_bytes += record.size or 0
                if len(damage) < 100:
                    damage.append({"offset": record.offset, "size": record.size or 0,
                                   "reason": record.reason})  # fmt: skip
            continue
        _count(layouts, record.layout)
        _count(logs, _log(record))
        for device in _devices(record):
            _count(interfaces, device)
        if record.offset is not None:
            _extend(ranges, record.layout, record.offset, record.offset + reader.size)
        time = record.timestamp_ns if record.timestamp_ns is not None else record.observed_ns
        if time is not None:
            times = [min(time, *times), max(time, *times)] if times else [time, time]
    detection = reader.detection
    layout = reader.layout if layouts or detection.layouts else None
    return {
        "source": reader.backend.name,
        "container": detection.container,
        "compression": getattr(reader.backend, "compression", None),
        "layout": layout,
        "layouts": list(layouts) or detection.layouts[:1],
        "ranges": ranges if detection.container in ("raw", "netlink") else [],
        "same": detection.layouts[1:],
        "abi": None if layout is None else _abi(layout),
        "ipfilter": _ipfilter(layout or ""),
        "logs": dict(logs),
        "records": dict(counts),
        "first": rfc3339(times[0]) if times else None,
        "last": rfc3339(times[1]) if times else None,
        "interfaces": dict(interfaces.most_common()),
        "dropped": reader.dropped,
        "uncounted": reader.uncounted,
        "cut_off": reader.cut_off,
        "end": reader.ending,
        "malformed": reader.malformed,
        "malformed_bytes": lost_bytes,
        "flaws": dict(reader.flaws),
        "damage": damage,
        "other_messages": reader.other,
        "evidence": detection.evidence,
        "rivals": [{"layout": name, "bytes": explained, "score": score}
                   for name, explained, score in detection.rivals],
    }  # fmt: skip


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


def _text(log: dict[str, Any], end: str | None) -> list[str]:
    """The description as lines of text; `end` says where the log is cut off."""
    places = "1 place" if log["malformed"] == 1 else f"{log['malformed']} places"
    damage = f"{places}, {log['malformed_bytes']} bytes"
    container = log["container"]
    if log["compression"]:
        container += f", compressed with {log['compression']}"
    ipl = log["ipfilter"]
    systems = ipl["systems"] if ipl else ""
    rows = [
        ("source", log["source"]),
        ("container", container),
        ("layout", " ".join(_layouts(log))),
        ("version", f"IPFilter {ipl['releases']}" + (systems and f" ({systems})") if ipl else None),
        ("ABI", log["abi"]),
        ("logs", _counted(log["logs"])),
        ("records", _counted(log["records"]) or "none"),
        ("time", f"{log['first']} to {log['last']}" if log["first"] else "none"),
        ("interfaces", _counted(log["interfaces"])),
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


def _layouts(log: dict[str, Any]) -> list[str]:
    """The layout in use, then the other layouts of a capture."""
    first = log["layout"]
    if first is None:
        return ["unknown: there is no packet in it"]
    return [first, *(name for name in log["layouts"] if name != first.partition(":")[0])]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())
