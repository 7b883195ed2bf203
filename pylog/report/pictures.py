"""What the page draws: the numbers for its script, and small pictures that need no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pylog.errors import missing_extra
from pylog.record import escape as shown
from pylog.report import texts
from pylog.report.sums import OTHERS

try:
    from markupsafe import Markup
except ImportError as error:
    raise missing_extra("a report", "report") from error

COLOURS = {"block": "block", "pass": "pass", OTHERS: "others"}
MOST_COLOURS = 8
ALIKE = {"pass": 1, "block": 2}
"""The numbered colours that are those of verdicts: beside these no other line has them."""
HEIGHT = 22
"""Of the picture of a trend, in its own units; each bucket is 2 wide."""
Json = dict[str, Any]


def data(f: Mapping[str, Any], times: texts.Times) -> Json:
    """The numbers for the script. Texts of the log are made printable here."""
    made: Json = {
        "offsets": f["offsets"],
        "spans": [{"start": span["start"], "end": span["end"], "kind": span["kind"],
                   "text": span_text(span)} for span in f["spans"]],
        "changes": [{"second": change["second"], "text": _change_text(change)}
                    for change in f["changes"] if change["second"] is not None],
        "timeline": None, "fireplot": None, "flows": None,
    }  # fmt: skip
    line = f["timeline"]
    if f["packets"] and f["first"] is not None and line["labels"]:
        made["timeline"] = {
            "start": line["start"], "width": line["width"], "count": line["buckets"],
            "labels": coloured(line["labels"]), "packets": line["packets"],
        }  # fmt: skip
    fire = f["fireplot"]
    if fire["cells"]:
        made["fireplot"] = {
            "start": fire["start"], "width": fire["width"], "count": fire["buckets"],
            "edges": fire["edges"], "cells": fire["cells"],
        }  # fmt: skip
    if f["flows"]:
        made["flows"] = _flows(f["flows"]["timeline"])
    return made


def coloured(labels: Sequence[str]) -> list[dict[str, str]]:
    """Labels with the names of their colours."""
    taken = {number for label, number in ALIKE.items() if label in labels}
    numbers = iter([n for n in range(1, MOST_COLOURS + 1) if n not in taken])
    return [
        {"text": shown(label),
         "colour": COLOURS.get(label) or f"s{next(numbers, MOST_COLOURS)}"}
        for label in labels
    ]  # fmt: skip


def legends(data: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """The lines of each picture that has several."""
    flows = data["flows"] or {}
    return {
        "traffic": (data["timeline"] or {}).get("labels", []),
        "begun": (flows.get("begun") or {}).get("labels", []),
        "octets": (flows.get("octets") or {}).get("labels", []),
    }


def span_text(span: Mapping[str, Any]) -> str:
    """What is missing in a span, in words."""
    if span["kind"] == "silent":
        return f"no record for {texts.span(span['end'] - span['start'])}"
    if span["kind"] == "outside":
        return "not in the log"
    least = "at least " if span["uncounted"] else ""
    return f"{least}{texts.plural(span['lost'], 'record')} lost"


def share(part: int, total: int | None, blocked: bool) -> Markup:
    """A bar for a share."""
    width = 64 * part / total if total else 0
    kind = " block" if blocked else ""
    return Markup(
        '<svg class="share{}" viewBox="0 0 64 8" role="img" aria-label="{}">'
        '<rect class="all" width="64" height="8" rx="2"/>'
        '<rect class="own" width="{}" height="8" rx="2"/></svg>'
    ).format(kind, texts.percent(part, total or 0), f"{width:.1f}")


class Trends:
    """Draws trends: a bar for each bucket, shaded where records are missing."""

    def __init__(self, f: Mapping[str, Any], times: texts.Times) -> None:
        axis = f["trend"]
        self._start, self._width, self._count = axis["start"], axis["width"], axis["buckets"]
        self._times = times
        self._gaps = self._drawn_gaps(f["spans"])

    def __call__(self, points: Sequence[int]) -> Markup:
        """The picture of a trend."""
        most = max(points, default=0)
        bars = "".join(
            f"M{2 * place} {HEIGHT}v-{max(1.0, HEIGHT * count / most):.1f}h1.6V{HEIGHT}z"
            for place, count in enumerate(points)
            if count
        )
        return Markup(
            '<svg class="trend" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
            ' aria-label="{}">{}<path class="bars" d="{}"/></svg>'
        ).format(2 * self._count, HEIGHT, self._text(points, most), self._gaps, bars)

    def _text(self, points: Sequence[int], most: int) -> str:
        if not most:
            return "no packet with a time"
        at = self._start + points.index(most) * self._width
        name = f"{self._times.utc(at):%Y-%m-%d %H:%M}".removesuffix(" 00:00")
        return f"{texts.per(self._width)}, the highest {texts.number(most)} at {name}"

    def _drawn_gaps(self, spans: Sequence[Mapping[str, Any]]) -> Markup:
        """Where records are missing; axes of trends are in the time of the zone."""
        end, parts = 2 * self._count, []
        for span in spans:
            local = [
                second + int((self._times.local(second) - self._times.utc(second)).total_seconds())
                for second in (span["start"], span["end"])
            ]
            left, right = (max(0.0, min(end, 2 * (second - self._start) / self._width))
                           for second in local)  # fmt: skip
            if right > left:
                width = max(right - left, 0.5)
                parts.append(
                    f'<rect class="gap" x="{left:.1f}" width="{width:.1f}" height="{HEIGHT}"/>'
                )
        return Markup("".join(parts))


def _change_text(change: Mapping[str, Any]) -> str:
    who = f" by {shown(change['process'])}" if change["process"] else ""
    return f"rules changed{who}"


def _flows(line: Mapping[str, Any]) -> Json:
    """The lines of flows: what began, and bytes, each without what there is none of."""
    axis = {"start": line["start"], "width": line["width"], "count": line["buckets"]}
    begun = [(name, numbers) for name, numbers in zip(line["labels"], line["numbers"], strict=True)
             if name.endswith("begun") and any(numbers)]  # fmt: skip
    names = [name.removesuffix(" begun") for name, _ in begun]
    octets = line["numbers"][line["labels"].index("bytes")]
    return {
        **axis,
        "begun": {"labels": coloured(names), "lines": [numbers for _, numbers in begun]},
        "octets": {"labels": [{"text": "bytes", "colour": "s3"}], "lines": [octets]}
        if any(octets) else None,
    }  # fmt: skip
