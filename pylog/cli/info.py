"""Tell what a log is: its container, layout, and what is in it.

The whole of each SOURCE is read. With --explain, also why it was taken for that layout, and what
else would have fitted.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import pylog
from pylog.cli import answer, answer_json
from pylog.cli._sources import add_source_arguments, lost_text
from pylog.formats import ipl_layouts
from pylog.reader import Reader
from pylog.record import LossRecord, PacketRecord, Record, kind_of, rfc3339

HELP = "tell what a log is and what is in it"

NAMES, MORE = 1000, "and more"
"""How many names are counted one by one, and what the others are counted as, together."""
RANGES = 100
"""How many changes of the layout are listed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pylog info`."""
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="a file, or - (standard input)")
    parser.add_argument("--json", action="store_true", help="one JSON object a source")
    parser.add_argument(
        "-v",
        "--explain",
        action="store_true",
        help="show the evidence and what other layouts would fit",
    )
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run `pylog info`."""
    for i, source in enumerate(arguments.source):
        with pylog.open(source, layout=arguments.layout, on_error=arguments.on_error) as reader:
            if reader.backend.live:
                raise ValueError(f"{source} has no end to read to; pylog read -v tells what it is")
            found = describe(reader)
        end = found.pop("end")
        if not arguments.explain:
            del found["evidence"], found["rivals"]
        if arguments.json:
            answer_json(found)
        else:
            answer(*[""] * (i > 0), *_text(found, end))
    return 0


def describe(reader: Reader) -> dict[str, Any]:
    """Everything that `pylog info --json --explain` tells, of a reader that is read to its end."""
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
    """Count one more of the name; whoever wrote the log chooses how many names there are."""
    counts[name if name in counts or len(counts) < NAMES else MORE] += 1


def _extend(ranges: list[dict[str, Any]], layout: str, start: int, end: int) -> None:
    """Let a range of bytes reach to the record, or begin with it if that has another layout."""
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
    found = [getattr(record, name, None) for name in ("indev", "outdev")]
    if isinstance(record, PacketRecord):
        found += [record.physindev, record.physoutdev]
    return [f"#{d}" if isinstance(d, int) else d for d in found if d is not None]


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


def _text(found: dict[str, Any], end: str | None) -> list[str]:
    """The description as lines for a person; `end` says where it is cut off."""
    places = "1 place" if found["malformed"] == 1 else f"{found['malformed']} places"
    damage = f"{places}, {found['malformed_bytes']} bytes"
    container = found["container"]
    if found["compression"]:
        container += f", compressed with {found['compression']}"
    ipl = found["ipfilter"]
    systems = ipl["systems"] if ipl else ""
    rows = [
        ("source", found["source"]),
        ("container", container),
        ("layout", " ".join(_layouts(found))),
        ("version", f"IPFilter {ipl['releases']}" + (systems and f" ({systems})") if ipl else None),
        ("ABI", found["abi"]),
        ("logs", _counted(found["logs"])),
        ("records", _counted(found["records"]) or "none"),
        ("time", f"{found['first']} to {found['last']}" if found["first"] else "none"),
        ("interfaces", _counted(found["interfaces"])),
        ("lost records", lost_text(found["dropped"], found["uncounted"])),
        ("end", end),
        ("damage", damage if found["malformed"] else "none"),
        ("values missing", _counted(found["flaws"])),
        ("other messages", str(found["other_messages"]) if found["other_messages"] else None),
    ]
    lines = [f"{name + ':':16}{value}" for name, value in rows if value]
    if len(found["ranges"]) > 1:
        lines.append("layouts by bytes:")
        lines += [f"    {r['start']} to {r['end']}: {r['layout']}" for r in found["ranges"]]
    for place in found["damage"]:
        lines.append(f"    {place['size']} bytes at offset {place['offset']}: {place['reason']}")
    if "evidence" in found:
        lines.append("evidence:")
        lines += [f"    {fact}" for fact in found["evidence"]]
        if found["same"]:
            lines.append("decoded identically by:")
            lines += [f"    {name}" for name in found["same"]]
        if found["rivals"]:
            lines.append("would fit less well (bytes explained, score):")
            lines += [f"    {r['layout']} ({r['bytes']}, {r['score']})" for r in found["rivals"]]
    return lines


def _layouts(found: dict[str, Any]) -> list[str]:
    """The layout in use, and in a capture with several also the others."""
    first = found["layout"]
    if first is None:
        return ["unknown: there is no packet in it"]
    return [first, *(name for name in found["layouts"] if name != first.partition(":")[0])]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())
