"""Reports: their numbers are those of the records, however these are read."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
from collections import Counter
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import inprocess
import numpy as np
import pytest
import reports
import samples
from msgspec import structs

import pylog
from pylog.record import FlowRecord, LossRecord, PacketRecord, Record

pa = pytest.importorskip("pyarrow")
pytest.importorskip("jinja2")

from pylog.report import reach  # noqa: E402
from pylog.report.gather import COLUMNS, Gathered  # noqa: E402
from pylog.report.page import page  # noqa: E402
from pylog.report.periods import Periods  # noqa: E402
from pylog.report.pictures import coloured  # noqa: E402
from pylog.report.ranking import NEVER, Ranking  # noqa: E402
from pylog.report.spans import spans  # noqa: E402
from pylog.report.sums import OTHERS, label_of  # noqa: E402
from pylog.report.tables import by_time  # noqa: E402
from pylog.report.texts import Times, octets, per, short, span  # noqa: E402
from pylog.report.timeline import Timeline  # noqa: E402
from pylog.table.schemas import batch, chosen  # noqa: E402

ZONE = ZoneInfo(reports.ZONE)
IPL = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
NFLOG = samples.FIXTURES / "nflog/seq.bin"
NFCT = samples.FIXTURES / "nfct/kinds.bin"
NFT = samples.FIXTURES / "nft/fw.pcapng.gz"


@cache
def packets() -> list[PacketRecord]:
    return reports.traffic(800)


@cache
def november() -> dict[str, Any]:
    return reports.report([*packets(), *reports.others()])


def local(record: PacketRecord) -> datetime | None:
    if record.timestamp_ns is None:
        return None
    return datetime.fromtimestamp(record.timestamp_ns // 10**9, ZONE)


def of_month(month: int, undated: bool = False) -> list[PacketRecord]:
    made = []
    for record in packets():
        time = local(record)
        if undated if time is None else time.month == month:
            made.append(record)
    return made


def label(record: PacketRecord) -> str:
    return label_of(None if record.action is None else str(record.action), record.prefix)


def weight(record: PacketRecord) -> int:
    return record.count or 1


def blocked(record: PacketRecord) -> int:
    return weight(record) if record.action == "block" else 0


def test_totals_equal_an_independent_count() -> None:
    made, own = november(), of_month(11, undated=True)
    assert made["packets"] == sum(map(weight, own))
    assert made["blocked"] == sum(map(blocked, own))
    assert made["bytes"] == sum(weight(r) * (r.length or 0) for r in own)
    assert made["untimed"] == sum(weight(r) for r in own if r.timestamp_ns is None)
    labels = Counter[str]()
    for record in own:
        labels[label(record)] += weight(record)
    assert made["labels"] == dict(labels)
    assert made["before"]["packets"] == sum(map(weight, of_month(10)))
    assert made["records"]["packet"] == len(own)


def test_pictures_equal_an_independent_count() -> None:
    made, own = november(), of_month(11)
    hours, days = np.zeros((7, 24), int), Counter[str]()
    lines: dict[str, Counter[int]] = {}
    axis = made["timeline"]
    for record in own:
        time = local(record)
        assert time is not None and record.timestamp_ns is not None
        hours[time.weekday(), time.hour] += weight(record)
        days[time.date().isoformat()] += weight(record)
        bucket = (record.timestamp_ns // 10**9 - axis["start"]) // axis["width"]
        line = lines.setdefault(label(record), Counter())
        line[bucket] += weight(record)
    assert made["week"][0] == hours.tolist()
    assert {day["day"]: sum(day["packets"].values()) for day in made["days"]} == dict(days)
    assert axis["labels"] == [n for n in made["labels"] if n in lines]
    for name, line in zip(axis["labels"], axis["packets"], strict=True):
        assert {i: n for i, n in enumerate(line) if n} == dict(lines[name])
    fire = made["fireplot"]
    ports = [r for r in own if r.dport is not None]
    assert sum(cell[2] for cell in fire["cells"]) == sum(map(weight, ports))
    assert sum(cell[3] for cell in fire["cells"]) == sum(map(blocked, ports))
    for low, high, count, of_blocked in fire["ranges"]:
        within = [r for r in ports if low <= max(r.dport or 0, 1) <= high]
        assert (count, of_blocked) == (sum(map(weight, within)), sum(map(blocked, within)))


def test_lists_equal_an_independent_count() -> None:
    made, own = november(), of_month(11, undated=True)
    by_source, old = Counter[str](), Counter[str]()
    for record in own:
        by_source[record.saddr or ""] += blocked(record)
    for record in of_month(10):
        old[record.saddr or ""] += blocked(record)
    listed = made["top"]["sources"]["blocked"]
    assert [entry["blocked"] for entry in listed] == sorted(by_source.values(), reverse=True)[:10]
    for entry in listed:
        assert entry["blocked"] == by_source[entry["name"]]
        assert entry["before"]["blocked"] == old[entry["name"]]
        timed = [r for r in of_month(11) if r.saddr == entry["name"]]
        assert sum(entry["trend"]) == sum(map(weight, timed))
    assert made["top"]["sources"]["distinct"] == len({r.saddr for r in own})
    assert [entry["name"] for entry in made["new"]["rules"]["entries"]] == ["web"]
    fresh = {r.saddr for r in own} - {r.saddr for r in of_month(10)}
    assert made["new"]["sources"]["distinct"] == len(fresh)
    icmp = sum(weight(r) for r in own if r.protocol == 1)
    entries = made["top"]["ports"]["passed"] + made["top"]["ports"]["blocked"]
    assert icmp in [entry["packets"] for entry in entries if entry["name"] == "icmp"]


def test_what_is_missing_is_marked_in_the_numbers() -> None:
    made = november()
    start = reports.OCTOBER + 50 * reports.DAY
    silent = [each for each in made["spans"] if each["kind"] == "silent"]
    assert any(each["start"] <= start + 3600 and each["end"] >= start + 1.5 * reports.DAY - 3600
               for each in silent)  # fmt: skip
    (loss,) = [each for each in made["spans"] if each["kind"] == "loss"]
    assert loss["lost"] == 17 and loss["start"] <= reports.OCTOBER + 40 * reports.DAY < loss["end"]
    assert {name: made["losses"][name] for name in ("losses", "records", "uncounted", "bytes")} == {
        "losses": 2, "records": 17, "uncounted": 1, "bytes": 40,
    }  # fmt: skip
    assert any("At least 17 records were lost" in text for text in made["summary"])
    rows = by_time(made, Times(made["offsets"]))["rows"]
    assert sum("without a record" in row["missing"] for row in rows) >= 1
    assert sum(row["total"] for row in rows) == made["packets"] - made["untimed"]


def test_flows_and_changes() -> None:
    made = november()
    totals = made["flows"]["totals"]
    assert totals["connections begun"] == 20 and totals["connections ended"] == 20
    assert totals["translations begun"] == sum(n % 2 and n % 3 != 0 for n in range(40))
    assert totals["bytes"] == sum(1005 + n for n in range(0, 40, 2))
    assert [entry["name"] for entry in made["flows"]["outer"]] == ["192.0.2.99"]
    (change,) = made["changes"]
    assert (change["generation"], change["changes"], change["process"]) == (7, 1, "nft")
    assert change["words"][0].startswith("+ rule inet fw input handle 3")


def test_parts_give_the_same_numbers() -> None:
    periods = Periods("month", ZONE)
    parts = [Gathered(periods) for _ in range(3)]
    records = [*packets(), *reports.others()]
    for number, start in enumerate(range(0, len(records), 211)):
        reports.add(parts[number % 3], records[start : start + 211])
    whole = Gathered(periods)
    for part in reversed(parts):
        whole.merge(pickle.loads(pickle.dumps(part)))
    assert in_any_order(reports.of(whole, periods)) == in_any_order(november())


def in_any_order(made: dict[str, Any]) -> dict[str, Any]:
    """Equal counts may stand in any order."""
    lines = dict(zip(made["timeline"]["labels"], made["timeline"]["packets"], strict=True))
    events = sorted(map(str, made["flows"]["events"]))
    days = [{**day, "packets": sorted(day["packets"].items())} for day in made["days"]]
    kept = sorted(map(str, made["losses"]["kept"]))
    return {**made, "timeline": lines, "labels": sorted(made["labels"].items()), "days": days,
            "flows": {**made["flows"], "events": events},
            "losses": {**made["losses"], "kept": kept}}  # fmt: skip


def test_the_last_period_is_one_that_has_gone_on_for_a_while() -> None:
    records = [r for r in packets() if (t := local(r)) is None or t.month == 10 or t.day < 3]
    assert reports.report(records)["period"]["name"] == "October 2026"
    assert reports.report(records, "2026-11")["period"]["name"] == "November 2026"
    assert reports.report(packets())["period"]["name"] == "November 2026"


@pytest.mark.parametrize(("text", "time", "name", "start", "end"), [
    ("month", "2026-11-29T12:00", "November 2026", "2026-11-01T00:00", "2026-12-01T00:00"),
    ("week", "2027-01-02T12:00", "week 53 of 2026", "2026-12-28T00:00", "2027-01-04T00:00"),
    ("day", "2026-10-25T12:00", "2026-10-25", "2026-10-25T00:00", "2026-10-26T00:00"),
    ("year", "2026-10-25T12:00", "2026", "2026-01-01T00:00", "2027-01-01T00:00"),
    ("hour", "2026-10-25T12:30", "2026-10-25 12:00 to 13:00", "2026-10-25T12:00",
     "2026-10-25T13:00"),
])  # fmt: skip
def test_periods_follow_the_calendar_of_the_zone(
    text: str, time: str, name: str, start: str, end: str
) -> None:
    periods = Periods(text, ZONE)

    def second(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())

    moment = periods.moment(second(time) // 900)
    assert moment is not None
    assert periods.name(moment.period) == name
    assert periods.bounds(moment.period) == (second(start), second(end))
    again = pickle.loads(pickle.dumps(periods))
    assert again.moment(second(time) // 900) == moment


@pytest.mark.parametrize(("text", "kind"), [
    ("2026", "year"), ("2026-11", "month"), ("2026-W48", "week"), ("2026-11-28", "day"),
])  # fmt: skip
def test_a_period_can_be_named(text: str, kind: str) -> None:
    assert Periods(text, ZONE).kind == kind and Periods(text, ZONE).wanted is not None


@pytest.mark.parametrize("text", ["monht", "2026-13", "2026-W60", "2026-02-30", "26-11", ""])
def test_a_bad_period_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"no period|is no"):
        Periods(text, ZONE)


def test_a_ranking_is_off_by_no_more_than_said() -> None:
    chance = random.Random(4)
    ranking, exact = Ranking(most=400), Counter[str]()
    for _ in range(30):
        keys = [f"k{int(5000 * chance.random() ** 4)}" for _ in range(300)]
        exact.update(keys)
        ones = np.ones(300, np.int64)
        ranking.add(pa.array(keys), np.arange(300) * 1000, ones, ones)
    counted = ranking.totals()
    assert ranking.error > 0 and len(counted) < len(exact)
    for key, count in exact.items():
        low = counted.get(key, (0, 0))[0]
        assert low <= count <= low + ranking.error
    assert next(iter(counted)) == exact.most_common(1)[0][0]


def test_a_ranking_has_keys_without_a_time() -> None:
    ranking, ones = Ranking(), np.ones(3, np.int64)
    ranking.add(pa.array(["a", None, "a"]), np.array([NEVER, NEVER, 7200]), ones, ones)
    assert ranking.totals() == {"a": (2, 2)}
    assert ranking.trends(["a", "b"], 3600, 3600, 2) == [[0, 1], [0, 0]]


def test_a_timeline_keeps_its_sums_when_buckets_become_wider() -> None:
    chance = np.random.default_rng(3)
    line, seconds = Timeline(3, most=50), np.sort(chance.integers(0, 400_000, 4000))
    columns, weights = chance.integers(0, 3, 4000), chance.integers(1, 2**55, 4000)
    other = Timeline(3, most=50)
    line.add(seconds[:2500], columns[:2500], weights[:2500])
    other.add(seconds[2500:], columns[2500:], weights[2500:])
    line.merge(other)
    assert len(line.buckets) <= 50 and 400_000 / line.width > 5
    table = line.array(0, 86_400, 5)
    for bucket in range(5):
        for column in range(3):
            own = (seconds // 86_400 == bucket) & (columns == column)
            assert table[bucket, column] == weights[own].sum()


@pytest.mark.parametrize(("records", "lost", "expected"), [
    ([50, 50, 0, 0, 50], {}, [(2, 4, "silent")]),
    ([1, 0, 0, 1, 0], {}, []),
    ([50, 0, 0, 50, 50], {3: 9}, [(1, 4, "loss")]),
    ([50, 50, 50, 50, 50], {1: 2, 2: 3, 4: 1}, [(1, 3, "loss"), (4, 5, "loss")]),
    ([0, 0, 50, 50, 50, 0, 0, 0], {}, [(0, 2, "outside"), (5, 8, "outside")]),
    ([0, 0, 0], {}, []),
])  # fmt: skip
def test_spans_in_which_records_are_missing(
    records: list[int], lost: dict[int, int], expected: list[tuple[int, int, str]]
) -> None:
    losses = np.array([[lost.get(i, 0), 0] for i in range(len(records))])
    made = spans(np.array(records), losses, 1000, 10)
    assert [((s.start - 1000) // 10, (s.end - 1000) // 10, s.kind) for s in made] == expected
    assert sum(s.lost for s in made) == sum(lost.values())


def test_a_wrong_clock_does_not_stretch_the_pictures() -> None:
    stray = PacketRecord(source="nflog", layout="nfulnl-le", timestamp_ns=0, action="pass")
    made = reports.report([stray, *packets()], "all")
    assert made["strays"] == 1
    assert made["timeline"]["start"] >= reports.OCTOBER - 86_400
    assert made["packets"] == sum(map(weight, packets())) + 1


def test_clocks_that_were_not_set_do_not_stretch_the_pictures() -> None:
    late, unset = (reports.MADE + 10 * 365 * 86_400) * 10**9, 86_400 * 10**9
    wrong = [PacketRecord(source="nflog", layout="nfulnl-le", timestamp_ns=time + i * 10**9)
             for time in (unset, late) for i in range(50)]  # fmt: skip
    made, right = (reports.report([*more, *packets()], "all") for more in (wrong, []))
    assert made["strays"] == 100 and made["packets"] == right["packets"] + 100
    for name in ("start", "width", "buckets"):
        assert made["timeline"][name] == right["timeline"][name]
    assert abs(made["covered"] - right["covered"]) < 86_400 and made["spans"] == right["spans"]
    only = reports.report(wrong[50:], "all")
    assert not only["strays"] and only["timeline"]["start"] <= late // 10**9


def test_a_month_to_come_is_not_the_last_one() -> None:
    late = [PacketRecord(source="nflog", layout="nfulnl-le", timestamp_ns=time * 10**9)
            for time in (reports.MADE + 9 * 365 * 86_400, 4_000_000_000)]  # fmt: skip
    right = reports.report(packets())
    for records in ([*late, *packets()], [*packets(), *late], [late[0], *packets(), late[1]]):
        made = reports.report(records)
        assert made["period"]["name"] == "November 2026" and made["packets"] == right["packets"]
        assert made["before"] == right["before"]
    assert reports.report(late)["packets"] == 1


def test_one_has_its_own_words() -> None:
    one = PacketRecord("nflog", "nfulnl-le", timestamp_ns=reports.OCTOBER * 10**9, action="block")
    assert reports.report([one])["summary"][0] == (
        "The firewall logged 1 packet, which was blocked: what passed is not in this log."
    )
    made = reports.report([one, structs.replace(one, action="pass")])
    assert made["summary"][0] == (
        "The firewall logged 2 packets: 1 was blocked (50.0 %), 1 passed or was only logged."
    )
    lost = reports.report([LossRecord("nflog", "nfulnl-le", reason="overrun")], "all")
    assert lost["summary"] == [
        "The log has no record.",
        "At least 1 record was lost, in 1 place: the numbers do not contain it.",
    ]


def test_lines_of_a_picture_have_different_colours() -> None:
    colours = [line["colour"] for line in coloured(["pass", "web", "block", "ssh", OTHERS])]
    assert colours == ["pass", "s3", "block", "s4", "others"]
    assert [line["colour"] for line in coloured(["web", "pass"])] == ["s2", "pass"]


def test_hostile_numbers_and_texts_are_bounded() -> None:
    most = 2**64 - 1
    records: list[Record] = [
        *reports.traffic(300),
        *[FlowRecord("nfct", "nfct-le", timestamp_ns=reports.OCTOBER * 10**9, event="destroy",
                     saddr="10.0.0.1", bytes={"orig": most, "reply": most}) for _ in range(9)],
        LossRecord("nflog", "nfulnl-le", timestamp_ns=reports.OCTOBER * 10**9, count=most),
        PacketRecord("text", "log", action=None, prefix="x" * 70_000, count=2**32 - 1,
                     length=2**40, saddr="::1", timestamp_ns=-(2**63) + 1),
    ]  # fmt: skip
    made = reports.report(records, "all")
    assert made["flows"]["totals"]["bytes"] > 2**50 and made["losses"]["records"] > 2**40
    assert made["bytes"] > 2**60
    assert max(map(len, made["labels"])) <= 200
    assert max(len(entry["name"]) for entry in made["top"]["rules"]["all"]) <= 200
    json.dumps(made)


def test_words() -> None:
    assert [octets(n) for n in (0, 999, 1000, 1_234_567, 10**11)] == [
        "0 B", "999 B", "1.0 kB", "1.2 MB", "100 GB"]  # fmt: skip
    assert [short(n) for n in (0, 999, 1000, 12_345, 9_960_000)] == [
        "0", "999", "1.0k", "12k", "10M"]  # fmt: skip
    assert [span(n) for n in (0, 1, 90, 3600, 7260, 90_000)] == [
        "0 seconds", "1 second", "1 minute and 30 seconds", "1 hour", "2 hours and 1 minute",
        "1 day and 1 hour"]  # fmt: skip
    assert per(3600) == "by hour" and per(10_800) == "by 3 hours"


# The command


def test_numbers_of_logs_equal_their_records() -> None:
    done = inprocess.run("report", "--to", "json", NFLOG, NFCT, NFT)
    made = json.loads(done.stdout)
    records = [r for path in (NFLOG, NFCT, NFT) for r in pylog.open(path)]
    own = [r for r in records if isinstance(r, PacketRecord)]
    assert done.returncode == 0
    assert made["packets"] == sum(map(weight, own))
    counts = Counter(r.kind for r in records if r.kind in made["records"])
    assert made["records"] == dict(counts)
    assert made["summary"] and made["logs"] == [p.name for p in (NFLOG, NFCT, NFT)]
    assert {c["process"] for c in made["changes"]} == {"nft", "pylog"}
    by_source = Counter[str]()
    for record in own:
        by_source[record.saddr or ""] += weight(record)
    for entry in made["top"]["sources"]["all"]:
        assert entry["packets"] == by_source[entry["name"]]


def test_a_filter_and_actions_hold_for_a_report() -> None:
    where = ["--where", "dport == 22"]
    made = json.loads(inprocess.run("report", "--to", "json", *where, NFT).stdout)
    own = [r for r in pylog.open(NFT) if isinstance(r, PacketRecord) and r.dport == 22]
    assert made["packets"] == sum(map(weight, own)) and made["where"] == "dport == 22"
    action = ["--action", "*=block"]
    made = json.loads(inprocess.run("report", "--to", "json", *action, NFLOG).stdout)
    assert made["blocked"] == made["packets"] > 0


def test_tables_give_the_report_of_their_log(tmp_path: Path) -> None:
    assert inprocess.run("convert", NFLOG, tmp_path / "fw.parquet").returncode == 0
    names = ("packets", "week", "top", "timeline", "fireplot")
    made = [json.loads(inprocess.run("report", "--to", "json", path).stdout)
            for path in (NFLOG, tmp_path / "fw.parquet")]  # fmt: skip
    assert [made[0][name] for name in names] == [made[1][name] for name in names]


def test_a_scrubbed_log_gives_a_scrubbed_report(tmp_path: Path) -> None:
    scrubbed = tmp_path / "scrubbed.pcapng"
    assert inprocess.run("read", "--scrub", "-w", scrubbed, NFT).returncode == 0
    pages = [inprocess.run("report", "--to", "json", path).stdout for path in (NFT, scrubbed)]
    assert b"192.0.2.7" in pages[0] and b"192.0.2.7" not in pages[1]


def test_countries_and_networks_of_a_local_file() -> None:
    pytest.importorskip("maxminddb")
    geo = "--geo", samples.FIXTURES / "geo/networks.mmdb"
    made = json.loads(inprocess.run("report", "--to", "json", *geo, IPL).stdout)
    assert [(each["name"], each["packets"]) for each in made["countries"]] == [
        ("NO", 47),
        ("ZZ", 12),
        (None, 4),
    ]
    page = inprocess.text("report", *geo, IPL).stdout
    assert "Example\\x1b[31m" in page and "\x1b" not in page


@pytest.mark.parametrize(("line", "text"), [
    (["nflog:5"], "is live"),
    (["-"], "not of standard input"),
    ([IPL, "--period", "monht"], "did you mean month?"),
    ([IPL, "--tz", "Oslo"], "did you mean Europe/Oslo?"),
    ([IPL, "--top", "0"], "must be 1 or more"),
    ([IPL, "--where", "dport ="], "dport ="),
    ([IPL, "--geo", IPL], "as an mmdb file"),
    ([IPL, "-o", IPL, "--force"], "is a log to be read"),
])  # fmt: skip
def test_wrong_usage_says_what_to_do(line: list[object], text: str) -> None:
    done = inprocess.text("report", *line)
    assert done.returncode in (1, 2) and text in done.stderr and not done.stdout


def test_a_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_bytes(b"other")
    done = inprocess.text("report", NFLOG, "-o", out, "--title", "Office")
    assert done.returncode == 1 and "--force" in done.stderr and out.read_bytes() == b"other"
    assert inprocess.run("report", NFLOG, "-o", out, "--title", "Office", "--force").returncode == 0
    assert b"<h1><bdi>Office</bdi></h1>" in out.read_bytes()


def test_a_title_of_any_bytes(tmp_path: Path) -> None:
    log = tmp_path / os.fsdecode(b"fw\xff.bin")
    log.symlink_to(NFLOG)
    title = os.fsdecode(b"Office \xff")
    for form in ("json", "html"):
        done = inprocess.run("report", "--to", form, "--title", title, log)
        assert done.returncode == 0 and b"Office \\" in done.stdout and b"fw\\" in done.stdout


def test_a_period_without_records_is_said() -> None:
    done = inprocess.text("report", NFT, "--period", "2020-02", "--to", "json")
    assert done.returncode == 0 and "no record of February 2020" in done.stderr
    assert json.loads(done.stdout)["packets"] == 0


def test_a_flood_is_no_reason_to_expect_more() -> None:
    chance = np.random.default_rng(3)
    records = chance.poisson(4, 900)  # 15 hours, by minute
    records[500:503] = 0
    flood = records.copy()
    flood[420:440] += 700
    for each in (records, flood):
        losses = np.zeros((900, 2), np.int64)
        assert spans(each, losses, 0, 60) == []
        each = each.copy()
        each[600:610] = 0  # forty were to be expected
        assert [span[:3] for span in spans(each, losses, 0, 60)] == [(36_000, 36_600, "silent")]


def probe(source: str, port: int, host: int, sport: int = 40_000, flags: str = "S") -> PacketRecord:
    return PacketRecord(
        source="nflog", layout="nfulnl-le", timestamp_ns=reports.OCTOBER * 10**9, action="block",
        protocol=6, tcp_flags=flags, saddr=source, sport=sport, dport=port,
        daddr=f"198.51.{host >> 8}.{host & 255}",
    )  # fmt: skip


def test_who_has_tried_many_ports_or_addresses_is_named() -> None:
    records = [probe("192.0.2.7", port, 1) for port in range(1, 9001)]
    records += [probe("10.1.2.3", 23, host) for host in range(600)]
    records += [probe("192.0.2.80", port, 2, 443, "SA") for port in range(1024, 4000)]  # answers
    records += [probe("192.0.2.8", port, 1) for port in range(20)]
    made = reports.report(records, "all")
    wide, own = made["reach"]
    assert (wide["name"], wide["addresses"], "private" in wide) == ("192.0.2.7", 1, False)
    assert wide["ports"] == pytest.approx(9000, rel=0.35)
    assert (own["name"], own["ports"], own["private"]) == ("10.1.2.3", 1, True)
    assert own["addresses"] == pytest.approx(600, rel=0.35)
    said = [text for text in made["summary"] if " tried " in text]
    assert [text.split()[0] for text in said] == ["192.0.2.7", "10.1.2.3,"]
    assert said[1] == f"10.1.2.3, a private address, tried about {own['addresses']} addresses."
    assert any("all of them blocked" in text for text in made["summary"])
    text = page(made)
    assert "Passed or only logged" not in text and "private address" in text
    assert "All packets</h3>" not in text and 'value="passed"' not in text


def test_estimates_of_many_sources_are_bounded_and_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "KEPT", 50)
    one, two = reach.Reach(), reach.Reach()
    for number in range(300):
        source = f"10.0.{number >> 8}.{number & 255}"
        sent = [probe(source, port, 1) for port in range(40 if number % 100 == 7 else 2)]
        columns = batch("packet", sent, chosen("packet", COLUMNS["packet"]))
        (one if number < 150 else two).add(columns)
    one.merge(two)
    expected = {"10.0.0.7", "10.0.0.107", "10.0.0.207"}
    tried = list(one.most(20, 10))
    assert {each.source for each in tried} == expected and all(30 < t.ports < 50 for t in tried)


def test_an_hour_of_the_week_is_the_mean_of_those_in_the_log() -> None:
    week = 7 * reports.DAY
    times = [reports.OCTOBER + number * week for number in (0, 0, 1, 2)]
    one = probe("192.0.2.1", 80, 1)
    records = [structs.replace(one, timestamp_ns=time * 10**9) for time in times]
    made = reports.report(records, "all")
    assert sum(map(sum, made["week_hours"])) == 2 * 168 + 1
    assert re.findall(r'title="\w+ \d\d:00: ([\d.]+) packets', page(made)).count("1.3") == 1
