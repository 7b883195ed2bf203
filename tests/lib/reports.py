"""Records of two months for tests of reports, and the reports of them."""

from __future__ import annotations

import calendar
import random
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from pylog.record import FlowRecord, LossRecord, PacketRecord, Record, RulesetRecord, kind_of
from pylog.report.figures import Asked, figures
from pylog.report.gather import Gathered
from pylog.report.periods import Periods
from pylog.report.sentences import summary
from pylog.report.tops import Names
from pylog.table.schemas import batch, chosen

ZONE = "Europe/Oslo"
OCTOBER = calendar.timegm((2026, 10, 1, 0, 0, 0))
DAY = 86_400
HOSTILE = "</script><script>alert(1)</script>\u202e\" onload='x' {{ 7*7 }} %s & <b>"
MADE = OCTOBER + 100 * DAY


def traffic(count: int, seed: int = 1) -> list[PacketRecord]:
    """Packets of October and November 2026, in their order, also some without a time."""
    chance = random.Random(seed)
    times = sorted(OCTOBER + int(61 * DAY * chance.random()) for _ in range(count))
    made = []
    for time in times:
        if 20 * DAY < time - OCTOBER < 22 * DAY or 50 * DAY < time - OCTOBER < 51.5 * DAY:
            continue  # nothing is logged
        protocol = chance.choice((6, 6, 6, 17, 1))
        november = time > OCTOBER + 31 * DAY
        made.append(PacketRecord(
            source="nflog", layout="nfulnl-le",
            timestamp_ns=None if chance.random() < 0.01 else time * 10**9 + chance.randrange(10**9),
            count=chance.choice((None, None, 1, 4)),
            action=chance.choice(("block", "block", "pass", None)),
            prefix=chance.choice(("drop ", "ssh", HOSTILE, *(["web "] * november))),
            group="5", protocol=protocol,
            saddr=f"192.0.2.{int(40 * chance.random() ** 2) + november}",
            daddr=chance.choice(("198.51.100.1", "2001:db8::1")),
            dport=None if protocol == 1 else int(65535 ** chance.random()),
            length=chance.randrange(40, 1500),
        ))  # fmt: skip
    return made


def others() -> list[Record]:
    """Flows, losses and changes of rules in November."""
    november = (OCTOBER + 40 * DAY) * 10**9
    made: list[Record] = []
    for number in range(40):
        made.append(FlowRecord(
            "nfct", "nfct-le", timestamp_ns=november + number * 10**12,
            event="new" if number % 2 else "destroy", protocol=6, saddr=f"10.0.0.{number % 7}",
            sport=number, nat_saddr="192.0.2.99" if number % 3 else None,
            bytes=None if number % 2 else {"orig": 1000 + number, "reply": 5},
        ))  # fmt: skip
    made += [
        LossRecord("nflog", "nfulnl-le", timestamp_ns=november, count=17, log="5", reason="gap"),
        LossRecord("nflog", "nfulnl-le", size=40, offset=9, reason="damage <b>"),
        LossRecord("nflog", "nfulnl-le", size=4, offset=99, reason="record cut off, 4 bytes"),
        RulesetRecord("nftables", "nft-le", timestamp_ns=november, op="new_rule", change="append",
                      generation=7, family="inet", table="fw", chain="input", handle=3,
                      process="nft", text=HOSTILE),
        RulesetRecord("nftables", "nft-le", timestamp_ns=november, op="new_gen", generation=7,
                      process="nft"),
    ]  # fmt: skip
    return made


def add(gathered: Gathered, records: Sequence[Record]) -> None:
    """Add records as columns."""
    kinds = {kind: [r for r in records if kind_of(r) == kind] for kind in gathered.wanted()}
    for kind, own in kinds.items():
        if own:
            gathered.add(kind, batch(kind, own, chosen(kind, gathered.wanted()[kind])))


def report(
    records: Sequence[Record], period: str = "month", zone: str = ZONE, **settings: Any
) -> dict[str, Any]:
    """The figures of a report of records."""
    periods = Periods(period, ZoneInfo(zone))
    gathered = Gathered(periods, MADE)
    for start in range(0, len(records), 500):
        add(gathered, records[start : start + 500])
    return of(gathered, periods, zone, **settings)


def of(gathered: Gathered, periods: Periods, zone: str = ZONE, **settings: Any) -> dict[str, Any]:
    """The figures of what was gathered."""
    given: dict[str, Any] = {
        "title": HOSTILE, "periods": periods, "tz": zone, "where": None, "names": Names(),
        "top": 10, "made": MADE, "logs": ["fw.dump"], "sure": True, **settings,
    }  # fmt: skip
    made = figures(Asked(**given), *gathered.result())
    made["summary"] = [sentence.text for sentence in summary(made)]
    return made
