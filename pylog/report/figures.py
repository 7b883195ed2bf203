"""The numbers of a report, as JSON has them, from the sums of its period and of the one before.

All that the page shows is in them. Times are seconds since 1970. A timeline has the start of its
first bucket, the width of its buckets in seconds, and lists with a number for each bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np

from pylog.formats.ip_numbers import PROTOCOL_NAMES
from pylog.report import flow_sums
from pylog.report.periods import Periods
from pylog.report.spans import Span, spans
from pylog.report.strays import drawn
from pylog.report.sums import EDGES, NO_PORT, OTHERS, RANGES, Sums
from pylog.report.timeline import Numbers, Timeline, width_for
from pylog.report.tops import Names, entries, fresh, reached, top

MOST_POINTS = 800
"""Buckets of a chart."""
LEAST_POINTS = 60
MOST_CELLS = 400
"""Buckets of a fireplot."""
MOST_EXACT = 20_000
"""Buckets in which records are looked for."""
MOST_TREND = 48
MOST_LABELS = 8
"""Lines of a chart; what is rarer is drawn together."""
HOUR, DAY = 3600, 86_400
THURSDAY = 3 * 24
"""The hour of the week in which 1970 began."""


class Axis(NamedTuple):
    """The buckets of a picture."""

    start: int
    width: int
    buckets: int

    @property
    def end(self) -> int:
        return self.start + self.width * self.buckets


class Asked(NamedTuple):
    """What the report was asked for.

    names   gives addresses their countries and networks
    made    when it was made, in seconds since 1970
    logs    the names of the logs
    sure    whether a loss in any of the logs would be seen
    """

    title: str
    periods: Periods
    tz: str
    where: str | None
    names: Names
    top: int
    made: int
    logs: Sequence[str]
    sure: bool


def figures(
    asked: Asked,
    number: int | None,
    now: Sums,
    before: Sums | None,
) -> dict[str, Any]:
    """The numbers of a report.

    number   of the period; None if no record has a time
    before   the sums of the period before; None if the log has nothing of it
    """
    start, end, strays = drawn(asked.periods, number, now, asked.made)
    axis = axis_of(start, end, _fine(now.packets / 2, MOST_POINTS), _timelines(now))
    marked = _spans(now, start, end)
    lines, labels = _lines(now, axis)
    first, last = now.first, now.last
    made: dict[str, Any] = {
        "title": asked.title,
        "made": asked.made,
        "tz": asked.tz,
        "offsets": _offsets(asked.periods, start, end),
        "period": _period(asked.periods, number, start, end),
        "before": None,
        "where": asked.where,
        "logs": list(asked.logs),
        "records": dict(now.records),
        "first": first,
        "last": last,
        "covered": _covered(now, marked, start, end),
        "packets": now.packets,
        "blocked": now.blocked if now.verdicts else None,
        "bytes": now.octets,
        "untimed": now.untimed,
        "strays": strays,
        "labels": dict(now.labels.most_common()),
        "label": "verdict" if now.verdicts else "prefix",
        "busiest": _busiest(now),
        "timeline": {**axis._asdict(), "labels": labels, "packets": lines},
        "days": _days(now, labels),
        "week": [row.reshape(7, 24).tolist() for row in now.hours],
        "week_hours": _week_hours(asked.periods, start, end),
        "fireplot": _fireplot(now, start, end),
        "top": {},
        "reach": [],
        "new": None,
        "flows": _flows(asked, now, start, end),
        "changes": [_commit(commit) for commit in now.changes.commits],
        "more_changes": now.changes.more,
        "losses": {**_losses(now), "sure": asked.sure},
        "spans": [span._asdict() for span in marked],
    }
    if asked.periods.kind != "all" and number is not None:
        made["before"] = _before(asked.periods, number - 1, before)
    trend = _trend_axis(asked.periods, start, end, now)
    made["trend"] = trend._asdict()
    shares: dict[str, int] = {}
    for name, own, of_name in _rankings(asked, now):
        old = {} if before is None else dict(_rankings_of(before))[name].totals()
        made["top"][name] = top(own, old, of_name, trend, asked.top, now.verdicts, name == "rules")
        shares[name] = own.error
    made["reach"] = reached(now, asked.names.address, trend, asked.top)
    if before is not None:
        made["new"] = {
            name: fresh(own, dict(_rankings_of(before))[name], of_name, asked.top)
            for name, own, of_name in _rankings(asked, now)
        }
    made["countries"] = asked.names.countries(now.sources.totals(), asked.top)
    made["inexact"] = {name: error for name, error in shares.items() if error}
    return made


def axis_of(start: int, end: int, most: int, timelines: Sequence[Timeline]) -> Axis:
    """Buckets for a span, no narrower than those of the timelines that have something.

    They last a minute at least, so that the times of a picture differ.
    """
    end = max(end, start + 60)
    widths = [timeline.width for timeline in timelines if timeline.buckets]
    width = width_for(max(1, end - start), most, widths)
    begin = start // width * width
    return Axis(begin, width, max(1, -(-(end - begin) // width)))


def _fine(records: float, most: int) -> int:
    """How many buckets a picture of so many records has at most."""
    return max(LEAST_POINTS, min(most, int(records)))


def _timelines(now: Sums) -> list[Timeline]:
    return [now.lines, now.flows.lines, now.losses.lines]


def _spans(now: Sums, start: int, end: int) -> list[Span]:
    """The spans in which records are missing, as exactly as the sums say it."""
    axis = axis_of(start, end, MOST_EXACT, _timelines(now))
    records = now.lines.array(*axis).sum(axis=1) + now.flows.lines.array(*axis)[:, :4].sum(axis=1)
    found = spans(records, now.losses.lines.array(*axis), axis.start, axis.width)
    return [span for span in found if span.start < end]


def _lines(now: Sums, axis: Axis) -> tuple[list[list[int]], list[str]]:
    """Packets over time by label: the most frequent labels, then all others together."""
    table = now.lines.array(*axis)
    names = [label for label, _ in now.labels.most_common() if label != OTHERS]
    shown, columns = names[:MOST_LABELS], now.columns
    lines = [table[:, columns.index(label)] for label in shown]
    rest: Numbers = table.sum(axis=1) - sum(lines, start=np.zeros(axis.buckets, np.int64))
    if len(names) > len(shown) or OTHERS in columns:
        shown, lines = [*shown, OTHERS], [*lines, rest]
    return [line.tolist() for line in lines], shown


def _days(now: Sums, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Packets of each day that has any, by label."""
    made: dict[int, dict[str, int]] = {}
    for (day, label), count in now.days.items():
        own = made.setdefault(day, dict.fromkeys(labels, 0))
        name = label if label in own else OTHERS
        own[name] = own.get(name, 0) + count
    return [
        {"day": date.fromordinal(day).isoformat(), "packets": made[day]} for day in sorted(made)
    ]


def _week_hours(periods: Periods, start: int, end: int) -> list[list[int]]:
    """How often each hour of the week is in a span, by weekday from Monday and hour."""
    hours = np.zeros(168, np.int64)
    first, last = (_local(periods, second) // HOUR for second in (start, end - 1))
    count = last - first + 1
    hours += count // 168
    for hour in range(first, first + count % 168):
        hours[(hour + THURSDAY) % 168] += 1
    return hours.reshape(7, 24).tolist()


def _busiest(now: Sums) -> dict[str, int] | None:
    """The hour with the most packets; of a log that is shorter than two hours, the minute."""
    if now.first is None or now.last is None or not now.lines.buckets:
        return None
    width = HOUR if now.last - now.first >= 2 * HOUR else 60
    width = max(width, now.lines.width)
    hours: dict[int, int] = {}
    for at, row in now.lines.buckets.items():
        hours[at // width * width] = hours.get(at // width * width, 0) + int(row.sum())
    start = max(hours, key=lambda at: (hours[at], -at))
    return {"start": start, "width": width, "packets": hours[start]}


def _fireplot(now: Sums, start: int, end: int) -> dict[str, Any]:
    """Packets by time and range of ports: cells [bucket, range, packets, of those blocked]."""
    axis = axis_of(start, end, _fine(now.packets / 4, MOST_CELLS), [now.fire])
    table = now.fire.array(*axis).reshape(axis.buckets, RANGES, 2)
    total = table.sum(axis=2)
    places = np.argwhere(total)
    cells = np.column_stack((places, total[total > 0], table[:, :, 1][total > 0]))
    ports = table.sum(axis=0)
    return {
        **axis._asdict(),
        "edges": EDGES,
        "cells": cells.tolist(),
        "ranges": [
            [EDGES[i], EDGES[i + 1] - 1, int(ports[i].sum()), int(ports[i, 1])]
            for i in range(RANGES)
        ],
    }


def _flows(asked: Asked, now: Sums, start: int, end: int) -> dict[str, Any] | None:
    if not now.flows.events:
        return None
    flows = now.flows
    axis = axis_of(start, end, _fine(sum(flows.events.values()) / 2, MOST_POINTS), [flows.lines])
    table = flows.lines.array(*axis)
    trend = _trend_axis(asked.periods, start, end, now)
    address = asked.names.address
    events = [
        {"source": source, "event": event, "records": count}
        for (source, event), count in sorted(flows.events.items(), key=lambda e: (-e[1], e[0]))
    ]
    return {
        "totals": {name: flows.totals[name] for name in (*flow_sums.COLUMNS, "packets")},
        "events": events,
        "timeline": {**axis._asdict(), "labels": list(flow_sums.COLUMNS),
                     "numbers": table.T.tolist()},
        "hosts": entries(flows.hosts, address, trend, asked.top),
        "inner": entries(flows.inner, address, trend, asked.top),
        "outer": entries(flows.outer, address, trend, asked.top),
    }  # fmt: skip


def _commit(commit: Any) -> dict[str, Any]:
    return {
        "second": commit.second, "generation": commit.generation, "process": commit.process,
        "pid": commit.pid, "uid": commit.uid, "cmdline": commit.cmdline, "via": commit.via,
        "changes": commit.changes, "words": commit.words, "incomplete": commit.incomplete,
    }  # fmt: skip


def _losses(now: Sums) -> dict[str, Any]:
    losses = now.losses
    return {
        "losses": losses.losses, "records": losses.records, "uncounted": losses.uncounted,
        "bytes": losses.octets, "untimed": losses.untimed,
        "kept": [loss._asdict() for loss in losses.kept],
    }  # fmt: skip


def _period(periods: Periods, number: int | None, start: int, end: int) -> dict[str, Any]:
    if periods.kind == "all" or number is None:
        return {"kind": "all", "name": None, "start": start, "end": end}
    begin, stop = periods.bounds(number)
    return {"kind": periods.kind, "name": periods.name(number), "start": begin, "end": stop}


def _before(periods: Periods, number: int, before: Sums | None) -> dict[str, Any]:
    made: dict[str, Any] = {"name": periods.name(number), "packets": None}
    if before is not None:
        begin, end = periods.bounds(number)
        made |= {
            "packets": before.packets,
            "blocked": before.blocked if before.verdicts else None,
            "covered": _covered(before, _spans(before, begin, end), begin, end),
            "lost": before.losses.records,
            "uncounted": before.losses.uncounted,
        }
    return made


def _covered(sums: Sums, marked: Sequence[Span], start: int, end: int) -> int:
    """How many seconds of a span the log covers: from its first to its last record, silent spans
    left out."""
    if sums.first is None or sums.last is None:
        return 0
    silent = sum(span.end - span.start for span in marked if span.kind == "silent")
    return max(1, min(sums.last + 1, end) - max(sums.first, start) - silent)


def _offsets(periods: Periods, start: int, end: int) -> list[list[int]]:
    """From which second on the zone has which offset from UTC."""
    made: list[list[int]] = []
    step = max(HOUR, (end - start) // 20_000 // HOUR * HOUR)
    for second in range(start // HOUR * HOUR, end + HOUR, step):
        moment = periods.moment(second // 900)
        if moment is not None and (not made or made[-1][1] != moment.offset_s):
            made.append([second, moment.offset_s])
    return made


def _trend_axis(periods: Periods, start: int, end: int, now: Sums) -> Axis:
    """The buckets of trends, which follow the clock of the zone."""
    begin, stop = (_local(periods, second) for second in (start, end))
    widths = [ranking.width for _, ranking in _rankings_of(now)]
    width = width_for(max(1, stop - begin), MOST_TREND, widths)
    first = begin // width * width
    return Axis(first, width, max(1, -(-(stop - first) // width)))


def _local(periods: Periods, second: int) -> int:
    moment = periods.moment(second // 900)
    return second if moment is None else second + moment.offset_s


def _rankings_of(sums: Sums) -> list[tuple[str, Any]]:
    return [("sources", sums.sources), ("targets", sums.targets), ("ports", sums.services),
            ("rules", sums.rules)]  # fmt: skip


def _rankings(asked: Asked, sums: Sums) -> list[tuple[str, Any, Any]]:
    """The rankings with the functions that give an entry its names."""
    address = asked.names.address
    of_name = {"sources": address, "targets": address, "ports": service, "rules": _as_it_is}
    return [(name, ranking, of_name[name]) for name, ranking in _rankings_of(sums)]


def service(code: int) -> dict[str, Any]:
    """The names of a service by its code, see Sums: a port as 22/tcp, or only a protocol."""
    protocol, port = divmod(code, 2 * NO_PORT)
    name = PROTOCOL_NAMES.get(protocol, f"proto {protocol}")
    return {"name": name if port == NO_PORT else f"{port}/{name}"}


def _as_it_is(text: str) -> dict[str, Any]:
    return {"name": text}


def per_day(count: int, covered: int) -> float:
    """A count by day, of so many seconds that are covered."""
    return count * DAY / max(1, covered)


def weekday_names() -> list[str]:
    """Monday to Sunday."""
    monday = date(2024, 1, 1)
    return [f"{monday + timedelta(days=number):%A}" for number in range(7)]
