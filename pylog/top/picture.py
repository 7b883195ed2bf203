"""A picture of the counts as text: heads, sparklines, lines of a table.

What matters is told by words, bars and bold letters; colours only repeat it, and they are blue and
orange, which people who see red and green alike can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pylog.formats.ip_numbers import PROTOCOL_NAMES
from pylog.record import escape
from pylog.stats.hints import no_losses
from pylog.stats.shown import aligned, time_text
from pylog.top.counts import Entry, Picture, View
from pylog.zones import Clock

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = " .:-=+*#"
PARTS = " ▏▎▍▌▋▊▉█"


def sparkline(values: Sequence[float], width: int, bars: str = BARS) -> tuple[str, int]:
    """Values as a line of bars, and how many values each bar stands for (their mean).

    A value above 0 is never shown as 0.
    """
    if not values or width < 1:
        return "", 1
    size = next(n for n in (1, 2, 5, 10, 15, 30, 60, 120, 300, 900) if len(values) <= n * width or
                n == 900)  # fmt: skip
    start = len(values) % size
    means = [sum(values[:start]) / start] if start else []
    means += [sum(values[i : i + size]) / size for i in range(start, len(values), size)]
    most = max(means[-width:])
    text = ""
    for mean in means[-width:]:
        step = 0 if not most or not mean else max(1, round(mean / most * (len(bars) - 1)))
        text += bars[step] if mean else " "
    return text, size


def bar(share: float, width: int) -> str:
    """A bar for a share of 1."""
    eighths = round(min(max(share, 0), 1) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (PARTS[part] if part else "")).ljust(width)


def number(value: float) -> str:
    """A number in few characters: 12,345, 123k, 45.6M."""
    if value < 10 and value != int(value):
        return f"{value:.1f}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e5, "k")):
        if value >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{value:,.0f}"


def key_text(view: View, keys: tuple[Any, ...]) -> str:
    """The key of an entry, for people: tcp 443, rule 0:15, "in-drop "."""
    if view.name == "ports":
        protocol, port = keys
        name = PROTOCOL_NAMES.get(protocol, f"proto {protocol}") if protocol is not None else "-"
        return name if port is None else f"{name} {port}"
    if view.name == "rules":
        group, rule, prefix = keys
        if prefix is not None:
            text = f'"{prefix}"' + (f" group {group}" if group is not None else "")
        elif rule is not None:
            text = f"@{group if group is not None else 0}:{rule}"
        else:
            text = "-"
        return escape(text)
    if view.name == "interfaces":
        came, went = keys
        return escape(" → ".join("-" if name is None else str(name) for name in (came, went)))
    return escape(" ".join("-" if value is None else str(value) for value in keys))


def verdict_text(value: Any) -> str:
    return "no verdict" if value is None else escape(str(value))


def head(title: str, shown: Picture, width: int, clock: Clock | None, paused: bool = False) -> str:
    """The first line: how fast, how much, until when, of what."""
    state = "PAUSED  " if paused else "ended  " if shown.ended else ""
    time = "" if shown.time_ns is None else f"  {time_text(shown.time_ns, clock)}"
    rate = rate_text(shown.rate) if shown.seconds or not shown.no_time else "no rate"
    text = f"{state}{rate}  {shown.count:,} in all{time}  "
    room = max(width - len(text), 8)
    return text + (title if len(title) <= room else f"…{title[1 - room :]}")


def rate_text(rate: float) -> str:
    """A rate per second, or of a slow one per minute."""
    return f"{number(rate)}/s" if rate >= 0.1 or not rate else f"{rate * 60:.1f}/min"


def rate_line(shown: Picture, width: int, bars: str = BARS) -> str:
    """The sparkline of the rate, with what it spans and its peak; or why there is none."""
    if shown.no_time and not shown.seconds:
        return shown.no_time
    label = 30
    line, size = sparkline(shown.seconds, max(width - label, 10), bars)
    span = len(line) * size
    text = f"{span} s" if span < 120 else f"{span // 60} min"
    peak = max(shown.seconds, default=0)
    return f"{line}  last {text}, peak {number(peak)}/s"


def verdict_line(shown: Picture) -> str:
    """The verdicts with their shares."""
    total = max(shown.count, 1)
    return "  ".join(
        f"{verdict_text(value)} {count / total:.1%} ({number(count)})"
        for value, count in shown.verdicts
    )


def loss_line(shown: Picture) -> str:
    """What was lost."""
    if shown.losses:
        return f"LOST: {shown.losses}"
    return f"losses: {no_losses(shown.unknowable)}" if shown.unknowable else "losses: none seen"


def cells(
    view: View, entry: Entry, total: int, width: int = 10, own_time: bool = False
) -> list[str]:
    """The cells of an entry: key, now (not of a file), count, share, bar."""
    group = entry.group
    share = group.count / max(total, 1)
    more = "" if group.at_most == group.count else f"..{number(group.at_most)}"
    now = [] if own_time else [number(entry.now)]
    return [key_text(view, group.keys), *now, f"{group.count:,}{more}", f"{share:.1%}",
            bar(share, width)]  # fmt: skip


def heads(own_time: bool) -> tuple[str, ...]:
    """The heads of the cells after the key."""
    return ("count", "share", "") if own_time else ("now/s", "count", "share", "")


def once(
    title: str, shown: Sequence[tuple[View, Picture]], width: int, rows: int,
    clock: Clock | None = None, own_time: bool = False,
) -> list[str]:  # fmt: skip
    """One picture of all views as lines of text; `own_time` of a file that was read at once."""
    first = msgspec.structs.replace(shown[0][1], ended="")
    lines = [head(escape(title), first, width, clock), rate_line(first, width), verdict_line(first),
             loss_line(first)]  # fmt: skip
    for view, picture in shown:
        table = [[view.name, *heads(own_time)]]
        table += [
            cells(view, entry, picture.count, own_time=own_time) for entry in picture.entries[:rows]
        ]
        lines += ["", *(line[:width] for line in aligned(table, set(range(1, len(table[0]) - 1))))]
        if picture.in_all > rows:
            lines.append(f"and {picture.in_all - rows:,} more")
        if picture.floor:
            lines.append(f"entries that are missing have at most {picture.floor:,}")
    if first.no_time and first.seconds:
        lines += ["", first.no_time]
    return lines
