"""The forms in which `pylog stats` writes its answers: a table, JSON, CSV and Parquet."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from pylog.cli import answer, answer_json, say
from pylog.cli._counts import Counting
from pylog.cli._sources import check_is_no_log, paths_of
from pylog.record import escape, rfc3339
from pylog.stats import shown as forms
from pylog.stats.hints import losses_left_out, no_losses
from pylog.stats.result import Answer, Group
from pylog.stats.summary import Summary
from pylog.transports.files import check_is_free, replacing
from pylog.zones import Clock

Section = tuple[str, Answer, list[Group], list[tuple[list[int], list[str]]]]
"""A title, an answer, the groups that are shown, and of scanners the ports and hosts of each."""
ENDINGS = {".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "table"}


class Shown:
    """What is written, and where.

    form   table, json, csv or parquet
    path   the file; None: standard output
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        """ValueError for a form that does not go there, BackendError for a file that must not be
        written."""
        self.path: str | None = None if arguments.write == "-" else arguments.write
        endings = [form for end, form in ENDINGS.items() if (self.path or "").endswith(end)]
        self.form: str = arguments.form or next(iter(endings), "table")
        self.force: bool = arguments.force
        if self.form == "parquet" and self.path is None:
            raise ValueError("parquet is not for standard output: name a file with -w")
        if self.form in ("csv", "parquet") and arguments.report in SEVERAL:
            raise ValueError(f"--report {arguments.report} has several tables: write it --to json")
        if self.path is not None:
            check_is_no_log(self.path, paths_of(arguments.source))
            if not self.force:
                check_is_free(self.path, "--force replaces it")


NO_LOSSES = "losses: none"
SEVERAL = ("blocked", "talkers", "nat", "changes")
"""The reports with more than one table."""


def write(
    shown: Shown, sections: Sequence[Section], summary: Summary, counting: Counting,
    clock: Clock | None,
) -> None:  # fmt: skip
    """Write the answers, and what they do not contain: in notes, where the form has no place."""
    notes = missing(sections, summary, counting, clock)
    if shown.form == "table":
        lines = _table(sections, notes, clock)
        if shown.path is None:
            answer(*lines)
            return
        text = "".join(f"{escape(line)}\n" for line in lines)
    elif shown.form == "json":
        described = _described(sections, summary, counting)
        if shown.path is None:
            answer_json(described)
            return
        text = msgspec.json.encode(described).decode() + "\n"
    else:
        _, of_section, groups, _ = sections[0]
        for note in (*forms.beneath(of_section, groups), *notes):
            if note != NO_LOSSES:
                say(note)
        if shown.form == "parquet":
            _write_parquet(shown, of_section, groups)
            return
        text = _csv(of_section, groups)
    if shown.path is None:
        with contextlib.suppress(ValueError):
            sys.stdout.write(text)
        return
    with replacing(shown.path, shown.force) as path, open(path, "w", newline="") as file:
        file.write(text)


def missing(
    sections: Sequence[Section], summary: Summary, counting: Counting, clock: Clock | None
) -> list[str]:
    """What no table contains, in sentences."""
    of_kind = {of_section.kind for _, of_section, _, _ in sections}
    lines = []
    span = _span(counting, clock)
    if span:
        lines.append(f"counted: {span}")
    others = [
        f"{count:,} {kind}" for kind, count in summary.counts.items()
        if kind not in (*of_kind, "loss") and count
    ]  # fmt: skip
    if others:
        kinds = [kind for kind in summary.counts if kind not in (*of_kind, "loss")]
        lines.append(f"not counted: {', '.join(others)} records (--kind {kinds[0]})")
    if counting.left_out:
        lines.append(f"left out by the filter: {counting.left_out:,} records")
    lost = summary.losses.text()
    if lost:
        lines.append(f"LOST: {lost}; the numbers do not contain them")
    elif counting.without_losses:
        lines.append(f"LOST: {losses_left_out(counting.without_losses)}")
    elif counting.unknowable:
        lines.append(f"losses: {no_losses(counting.unknowable)}")
    else:
        lines.append(NO_LOSSES)
    return lines


def _span(counting: Counting, clock: Clock | None) -> str:
    """From when to when records were counted, by --since and --until; "" without them."""
    limits = zip(("from", "to"), counting.limits, strict=True)
    return " ".join(
        f"{word} {forms.time_text(limit, clock)}" for word, limit in limits if limit is not None
    )


def _table(sections: Sequence[Section], notes: list[str], clock: Clock | None) -> list[str]:
    lines: list[str] = []
    for title, of_section, groups, evidence in sections:
        if lines:
            lines.append("")
        records = ""
        if of_section.records != of_section.count:
            records = f" in {of_section.records:,} records"
        noun = {"packet": "packets", "flow": "flow events"}.get(
            of_section.kind, f"{of_section.kind} records"
        )
        head = f"{of_section.count:,} {noun}{records}"
        lines.append(f"{title}: {head}" if title else head)
        if groups:
            table = forms.table(of_section, groups, clock)
            lines.append(table[0])
            for i, line in enumerate(table[1:]):
                lines.append(line)
                if evidence:
                    ports = _list(evidence[i][0], groups[i].distinct[0])
                    hosts = _list(evidence[i][1], groups[i].distinct[1])
                    lines.append(f"    ports {ports}; hosts {hosts}")
        lines += forms.beneath(of_section, groups)
    shown = [group for _, _, groups, _ in sections for group in groups]
    return [*lines, *forms.may_be_older(shown, clock), *notes]


def _list(values: Sequence[Any], count: int) -> str:
    text = ", ".join(map(str, values)) or "none"
    return text if count <= len(values) else f"{text} and {count - len(values):,} more"


def _described(sections: Sequence[Section], summary: Summary, counting: Counting) -> dict[str, Any]:
    """The answers as an object of JSON."""
    losses = msgspec.to_builtins(summary.losses) | {
        "unknowable": counting.unknowable, "left_out_of": counting.without_losses,
        "times": [{"time": rfc3339(time), "records": count}
                  for time, count in summary.losses.times],
    }  # fmt: skip
    tables = []
    for title, of_section, groups, evidence in sections:
        found = [forms.with_texts(row) for row in forms.rows(of_section, groups)]
        for row, (ports, hosts) in zip(found, evidence, strict=False):
            row |= {"ports": ports, "hosts": hosts}
        tables.append(
            {
                "title": title or None, "kind": of_section.kind, "count": of_section.count,
                "records": of_section.records,
                "sums": dict(zip(of_section.question.sums, of_section.sums, strict=True)),
                "groups_in_all": of_section.in_all, "exact": not of_section.floor,
                "missing_at_most": of_section.floor,
                "distinct_missing_at_most": of_section.distinct_floor, "groups": found,
            }
        )  # fmt: skip
    return {
        "tables": tables, "records": dict(summary.counts), "left_out": counting.left_out,
        **dict(zip(("since", "until"), map(_text, counting.limits), strict=True)),
        "untimed": summary.untimed + counting.untimed, "losses": losses,
    }  # fmt: skip


def _text(time_ns: int | None) -> str | None:
    return None if time_ns is None else rfc3339(time_ns)


def _csv(of_section: Answer, groups: Sequence[Group]) -> str:
    text = io.StringIO()
    written = csv.writer(text)
    names = list(forms.rows(of_section, groups[:1] or [_nothing(of_section)])[0])
    written.writerow(names)
    for row in forms.rows(of_section, groups):
        written.writerow([_cell(value) for value in forms.with_texts(row).values()])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A cell of CSV: control characters are escaped, as in other text."""
    return escape(value) if isinstance(value, str) else value


def _nothing(of_section: Answer) -> Group:
    question = of_section.question
    keys = (None,) * len(of_section.names)
    sums, distinct = (0,) * len(question.sums), (0,) * len(question.distinct)
    return Group(keys, 0, 0, 0, None, None, sums, distinct)


def _write_parquet(shown: Shown, of_section: Answer, groups: Sequence[Group]) -> None:
    from pylog.stats.columns import as_table  # needs the extra

    import pyarrow.parquet as pq  # isort: skip

    assert shown.path is not None
    with replacing(shown.path, shown.force) as path:
        pq.write_table(as_table(of_section, groups), path)
