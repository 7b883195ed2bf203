"""The tables of a report, which say in numbers what its pictures show, and those at its head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from math import sqrt
from typing import Any

from pylog.report import texts
from pylog.report.figures import DAY, HOUR, weekday_names

SHADES = 9
MOST_DAYS = 100
"""More days are put together to months."""


def cards(f: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few numbers at the head of the page."""
    losses = f["losses"]
    made: list[dict[str, str]] = []

    def add(name: str, value: str, note: str, kind: str = "") -> None:
        made.append({"name": name, "value": value, "note": note, "kind": kind})

    if f["packets"]:
        rate = f["packets"] * DAY / max(DAY, f["covered"])
        days = texts.plural(round(f["covered"] / DAY), "day")
        add("Packets", texts.number(f["packets"]), f"{texts.number(rate)} a day in {days}"
            if f["covered"] >= DAY else texts.octets(f["bytes"]))  # fmt: skip
        if f["blocked"] is not None:
            add("Blocked", texts.number(f["blocked"]),
                f"{texts.percent(f['blocked'], f['packets'])} of all packets", "block")  # fmt: skip
        for name, title in (("sources", "Sources"), ("ports", "Ports")):
            more = "over " if name in f["inexact"] else ""
            new = f["new"] and f["new"][name]["distinct"]
            note = f"{texts.number(new)} new" if new else "different addresses"
            if name == "ports" and not new:
                note = "different destinations"
            add(title, more + texts.number(f["top"][name]["distinct"]), note)
    if f["flows"]:
        totals = f["flows"]["totals"]
        begun = totals["connections begun"] or totals["translations begun"]
        what = "Connections" if totals["connections begun"] else "Translations"
        add(what, texts.number(begun), f"{texts.octets(totals['bytes'])} carried")
    if f["changes"]:
        add("Rule changes", texts.number(len(f["changes"])), "commits to the ruleset")
    lost = max(losses["records"], bool(losses["uncounted"]))
    least = "at least " if losses["uncounted"] else ""
    if not lost and not losses["sure"]:
        add("Lost records", "unknown", "the log cannot tell")
        return made
    add("Lost records", least + texts.number(lost),
        f"in {texts.plural(losses['losses'], 'place')}" if lost else "none is recorded",
        "bad" if lost else "")  # fmt: skip
    return made


def by_time(f: Mapping[str, Any], times: texts.Times) -> dict[str, Any]:
    """Packets by day, by hour of a log of two days at most, or by month of a long one."""
    axis, labels = f["timeline"], f["timeline"]["labels"]
    rows: list[tuple[int, int, str, list[int]]] = []
    if axis["width"] * axis["buckets"] <= 2 * DAY:
        title, width = "Hour", max(HOUR, axis["width"])
        if axis["width"] * axis["buckets"] < 2 * HOUR:
            title, width = "Time", max(60, axis["width"])
        rows = [
            (start, start + width, times.minute(start) or "", counts)
            for start, counts in _buckets(axis, width)
        ]
    else:
        title = "Day"
        days = [(each["day"], list(each["packets"].values())) for each in f["days"]]
        if len(days) > MOST_DAYS:
            title, days = "Month", _months(days)
        rows = [(*_bounds(day, times), day, counts) for day, counts in days]
    return {
        "title": title,
        "rows": [
            {"name": name, "total": sum(counts), "counts": counts[: len(labels)],
             "missing": _missing(f["spans"], start, end)}
            for start, end, name, counts in rows
        ],
    }  # fmt: skip


def _buckets(axis: Mapping[str, Any], width: int) -> Iterator[tuple[int, list[int]]]:
    made: dict[int, list[int]] = {}
    for number in range(axis["buckets"]):
        start = (axis["start"] + number * axis["width"]) // width * width
        own = made.setdefault(start, [0] * len(axis["labels"]))
        for place, line in enumerate(axis["packets"]):
            own[place] += line[number]
    yield from made.items()


def _months(days: Sequence[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
    made: dict[str, list[int]] = {}
    for day, counts in days:
        own = made.setdefault(day[:7], [0] * len(counts))
        for place, count in enumerate(counts):
            own[place] += count
    return list(made.items())


def _bounds(day: str, times: texts.Times) -> tuple[int, int]:
    """The first second of a day or month of the zone, and that of the next."""
    first = date.fromisoformat(day if len(day) > 7 else f"{day}-01")
    if len(day) > 7:
        after = first.toordinal() + 1
    else:
        after = date(first.year + first.month // 12, first.month % 12 + 1, 1).toordinal()
    seconds = [(ordinal - date(1970, 1, 1).toordinal()) * DAY
               for ordinal in (first.toordinal(), after)]  # fmt: skip
    start, end = (each - int((times.local(each) - times.utc(each)).total_seconds())
                  for each in seconds)  # fmt: skip
    return start, end


def _missing(spans: Sequence[Mapping[str, Any]], start: int, end: int) -> str:
    """What is missing in a span of time, in words."""
    inside = [each for each in spans if each["start"] < end and each["end"] > start]
    words = []
    if any(each["kind"] == "loss" for each in inside):
        words.append("records were lost")
    for kind, name in (("silent", "without a record"), ("outside", "not in the log")):
        length = sum(min(end, each["end"]) - max(start, each["start"])
                     for each in inside if each["kind"] == kind)  # fmt: skip
        if length:
            words.append(f"{texts.span(length)} {name}")
    return ", ".join(words)


def weeks(f: Mapping[str, Any], times: texts.Times) -> list[tuple[str, list[dict[str, Any]]]]:
    """The tables by weekday and hour: of all packets, and of blocked ones where there are any."""
    if not f["packets"] or f["first"] is None:
        return []
    missing = _missing_hours(f["spans"], times)
    tables = [("All packets", f["week"][0]), ("Blocked packets", f["week"][1])]
    if not f["blocked"]:
        del tables[1]
    elif f["blocked"] == f["packets"]:
        del tables[0]
    return [(title, _week(_means(table, f["week_hours"]), missing)) for title, table in tables]


def _means(table: Sequence[Sequence[int]], hours: Sequence[Sequence[int]]) -> list[list[float]]:
    """The counts by weekday and hour, divided by how often each of these hours was."""
    return [
        [count / max(1, often) for count, often in zip(*rows, strict=True)]
        for rows in zip(table, hours, strict=True)
    ]


def _week(table: Sequence[Sequence[float]], missing: set[tuple[int, int]]) -> list[dict[str, Any]]:
    most = max(map(max, table)) or 1
    return [
        {
            "name": name,
            "cells": [
                {"count": count, "text": texts.mean(count), "missing": (day, hour) in missing,
                 "shade": 0 if not count else 1 + int(sqrt(count / most) * (SHADES - 1.001))}
                for hour, count in enumerate(table[day])
            ],
        }
        for day, name in enumerate(weekday_names())
    ]  # fmt: skip


def _missing_hours(spans: Sequence[Mapping[str, Any]], times: texts.Times) -> set[tuple[int, int]]:
    """The hours of the week in which records are missing, as (weekday, hour)."""
    made = set()
    for each in spans:
        last = min(each["end"], each["start"] // HOUR * HOUR + 7 * DAY)
        for second in range(each["start"] // HOUR * HOUR, last, HOUR):
            time = times.local(second)
            made.add((time.weekday(), time.hour))
    return made
