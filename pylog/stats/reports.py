"""Ready questions, each named by a word: who is blocked, who scans, who talks most, and so on.

A report is a filter and one or more sections, which are questions with an order. All sections are
answered in one pass.
"""

from __future__ import annotations

from typing import NamedTuple

from pylog.stats.keys import BUCKET
from pylog.stats.question import Question
from pylog.stats.result import Answer, distinct_name

WINDOW = "1h"
"""The window in which a scanner is looked for, unless --every says another."""
PORTS, HOSTS = 15, 15
"""A source that touches so many ports, or so many hosts, in a window is a scanner."""


class Section(NamedTuple):
    """A part of a report.

    title   in words
    by      as Question; `distinct`, `sums` and `order` as well
    """

    title: str
    by: tuple[str, ...]
    distinct: tuple[tuple[str, ...], ...] = ()
    sums: tuple[str, ...] = ()
    order: str | None = None


class Report(NamedTuple):
    """A ready question.

    about      what it answers, for the help
    kind       of the records; "": packets, or flows where there are no packets
    where      the filter; "": all
    sections   the parts
    every      the length of time buckets, if it needs any
    missing    what to do if no record fits
    """

    about: str
    kind: str
    where: str
    sections: tuple[Section, ...]
    every: str | None = None
    missing: str = ""


OPENS = (
    "(protocol == tcp and tcp_flags has S and not (tcp_flags has A)"
    " or protocol == udp and not (sport < 1024 and dport >= 1024)"
    " or icmp_type in {8, 128} or not (protocol in {tcp, udp, icmp, 58}))"
)
"""Packets that may open something: no answers of servers."""
REPORTS: dict[str, Report] = {
    "blocked": Report(
        "who is blocked, where, and by which rule", "packet", "action == block",
        (
            Section("blocked sources", ("saddr",), (("dport",), ("daddr",))),
            Section("blocked ports", ("protocol", "dport"), (("saddr",),)),
            Section("rules that block", ("group", "rule", "prefix"), (("saddr",),)),
        ),
        missing="no packet was blocked",
    ),
    "scanners": Report(
        f"sources that touch {PORTS} ports or {HOSTS} hosts, or more, in a window (1h, or --every)",
        "packet", OPENS,
        (
            Section("scanners", ("saddr",), (("dport",), ("daddr",), ("daddr", "dport")),
                    order="distinct_daddr_dport"),
        ),
        every=WINDOW,
        missing="no source touches so many ports or hosts in a window",
    ),
    "talkers": Report(
        "who sends, receives and exchanges most bytes", "", "",
        (
            Section("sources by bytes", ("saddr",), (("daddr",),), ("bytes", "packets")),
            Section("destinations by bytes", ("daddr",), (("saddr",),), ("bytes", "packets")),
            Section("pairs by bytes", ("saddr", "daddr"), (), ("bytes", "packets")),
        ),
    ),
    "rules": Report(
        "which rules log, how often, and since when", "packet", "",
        (Section("rules", ("group", "rule", "prefix", "action"), (("saddr",), ("dport",))),),
    ),
    "ports": Report(
        "which ports are asked for, and by how many", "packet", "dport",
        (Section("ports", ("protocol", "dport"), (("saddr",), ("daddr",))),),
    ),
    "nat": Report(
        "which translations there were", "flow", "nat_saddr or nat_daddr",
        (
            Section("translations by kind and event", ("flow_type", "event")),
            Section("inside addresses", ("saddr", "nat_saddr"), (("daddr",),),
                    ("bytes", "packets"), "count"),
            Section("redirected to", ("daddr", "dport", "nat_daddr", "nat_dport"), (("saddr",),)),
        ),
        missing="no record of a flow is translated: nfct: and IPFilter's NAT log have those",
    ),
    "changes": Report(
        "who changed the ruleset of nftables, and what", "ruleset",
        "not (via == snapshot) and not (op == new_gen)",
        (
            Section("who", ("process", "uid"), (("generation",),)),
            Section("what", ("op", "family", "table", "chain"), (("generation",),)),
            Section("when", ("generation", "process"), (), (), "first"),
        ),
        missing="no change of a ruleset is in it: nftables: and its recordings have those",
    ),
}  # fmt: skip


def questions(report: Report, zone: str, every: str | None, keys: int | None) -> list[Question]:
    """The questions of a report; `every` None: as the report has it."""
    return [
        Question(section.by, every or report.every, section.sums, section.distinct, zone,
                 keys=keys)
        for section in report.sections
    ]  # fmt: skip


SCANNED = {distinct_name(("dport",)): PORTS, distinct_name(("daddr",)): HOSTS}
"""What a scanner touched in a window: one of these, so many or more."""


def keep_scanners(answer: Answer) -> None:
    """Keep the groups of a window in which a source touched many ports or many hosts.

    Packets without a time are in no window.
    """
    values = answer.values()
    at = answer.names.index(BUCKET)
    answer.keep(
        lambda group: (
            group.keys[at] is not None
            and any(values[name](group) >= n for name, n in SCANNED.items())
        )
    )
