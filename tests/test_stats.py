"""pylog stats: counts equal those of DuckDB on the same Parquet, or are as near as they say."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from datetime import datetime
from pathlib import Path
from typing import Any

import effort
import inprocess
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import FIXTURES

import pylog
from pylog.cli import _counts
from pylog.record import LossRecord, PacketRecord, Record, RulesetRecord
from pylog.stats import LossTally, Plan, Question, Summary
from pylog.stats import times as parts
from pylog.stats.columns import ColumnGroups
from pylog.stats.counted import RecordGroups
from pylog.stats.geo import Geo
from pylog.stats.keys import network
from pylog.table import parallel
from pylog.table.schemas import batch, chosen
from pylog.zones import zone_of

IPL = FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
NAT = FIXTURES / "ipl/v5-1-2-nounit-nbtv-lp64be-nat.all.bin"
OVERRUN = FIXTURES / "nflog/overrun.bin"
CHANGES = FIXTURES / "nft/commits.bin"
FLOWS = FIXTURES / "nfct/kinds.bin"


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stats") / "fw.parquet"
    assert inprocess.run("convert", IPL, out).returncode == 0
    return out


def stats(*arguments: object) -> Any:
    """The tables of `pylog stats --to json`."""
    done = inprocess.text("stats", "--to", "json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The numbers

QUERIES = {
    "--by saddr --sum length": "saddr, sum(coalesce(count,1)), count(*),"
    " sum(length*coalesce(count,1)) from t group by saddr",
    "--by action,dport --distinct saddr": "action, dport, sum(coalesce(count,1)), count(*),"
    " count(distinct saddr) from t group by action, dport",
    "--by hour": "cast(hour(timestamp at time zone 'UTC') as int), sum(coalesce(count,1)), count(*)"
    " from t group by 1",
    "--by saddr --distinct dport --distinct rule,dport": "saddr, sum(coalesce(count,1)), count(*),"
    " count(distinct dport), count(distinct (rule, dport)) from t group by saddr",
    "--distinct saddr,dport": "sum(coalesce(count,1)), count(*), count(distinct (saddr, dport))"
    " from t",
}  # fmt: skip


def test_numbers_of_64_bits_make_groups() -> None:
    with pylog.open(CHANGES) as reader:
        handles = Counter(record.handle for record in reader if isinstance(record, RulesetRecord))
    (table,) = stats("--kind", "ruleset", "--by", "handle", CHANGES)["tables"]
    assert {row["handle"]: row["count"] for row in table["groups"]} == handles


@pytest.mark.parametrize("arguments", QUERIES)
def test_numbers_equal_those_of_duckdb(parquet: Path, arguments: str) -> None:
    import duckdb

    with duckdb.connect() as database:
        database.execute("set timezone='UTC'")
        database.execute(f"create view t as select * from '{parquet}'")
        expected = database.execute(f"select {QUERIES[arguments]}").fetchall()
    for source in (IPL, parquet):
        (table,) = stats(*arguments.split(), source)["tables"]
        rows = [tuple(v for n, v in row.items() if n not in ("first", "last"))
                for row in table["groups"]]  # fmt: skip
        assert sorted(rows, key=str) == sorted(expected, key=str)


class Inline(Executor):
    """Runs what a pool of processes runs, in this one: what goes there and back is pickled."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        work, arguments, named = pickle.loads(pickle.dumps((work, arguments, named)))
        done: Future[Any] = Future()
        done.set_result(pickle.loads(pickle.dumps(work(*arguments, **named))))
        return done


@pytest.mark.parametrize("arguments", [
    "--by saddr/16 --distinct dport", "--every 10m --by saddr --distinct dport --distinct "
    "daddr,dport --sum length",
])  # fmt: skip
def test_processes_give_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(_counts, "SPLIT_SIZE", 20_000)
    log = tmp_path / "long.ipf"
    log.write_bytes(IPL.read_bytes() * 9)
    one = stats(*arguments.split(), log)
    assert stats(*arguments.split(), "--jobs", "2", log) == one


def test_arrow_does_not_import_pandas(tmp_path: Path) -> None:
    """Which takes 0.3 s and 45 MB; a module of that name stands for it, installed or not."""
    (tmp_path / "pandas.py").write_text("import sys; sys.exit('pandas is imported')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "pylog", "stats", "--report", "scanners", "--where", "dport",
               str(IPL)]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "losses: none" in done.stdout, done.stderr


ASKED = [
    Question(
        ("saddr/16", "action"), "10m", ("length", "packets"), (("dport",), ("daddr", "dport"))
    ),
    Question(("day", "weekday", "hour"), zone="Asia/Kathmandu"),
    Question(("kind", "tcp_flags", "short", "indev"), "1s", ("bytes",)),
    Question(("saddr",), sums=("bytes", "packets")),
    Question(("ttl", "rule")),
]


def in_columns(plan: Plan, kind: str, records: Sequence[Record], size: int = 7) -> ColumnGroups:
    """Groups of records that are put into columns, a few at a time, by two that are merged."""
    wanted = chosen(kind, plan.columns(kind))
    made = [ColumnGroups(plan, kind), ColumnGroups(plan, kind)]
    for start in range(0, len(records), size):
        made[start // size % 2].add(batch(kind, records[start : start + size], wanted))
    groups = pickle.loads(pickle.dumps(made[0]))
    groups.merge(made[1])
    assert isinstance(groups, ColumnGroups)
    return groups


@pytest.mark.parametrize("question", ASKED, ids=lambda question: ",".join(question.by))
@pytest.mark.parametrize("path", [IPL, NAT], ids=lambda path: path.name)
def test_columns_and_records_give_the_same_groups(question: Question, path: Path) -> None:
    plan = Plan(question)
    with pylog.open(path) as reader:
        records = list(reader)
    for kind in ("packet", "flow"):
        same = [record for record in records if record.kind == kind]
        one, two = RecordGroups(plan, kind), RecordGroups(plan, kind)
        one.add(same[::2])
        two.add(same[1::2])
        one.merge(two)
        columns, counted = in_columns(plan, kind, same).answer(), one.answer()
        assert sorted(columns.groups, key=str) == sorted(counted.groups, key=str)
        columns.groups = counted.groups = []
        assert columns == counted


def test_an_answer_may_be_of_the_greatest_groups_only() -> None:
    plan = Plan(Question(("saddr",), None, ("bytes",), (("daddr", "dport"), ("dport",))))
    with pylog.open(IPL) as reader:
        records = [record for record in reader if record.kind == "packet"]
    groups = in_columns(plan, "packet", records)
    everything = groups.answer()
    assert len(everything.groups) > 3
    for order in (None, "count", "distinct_dport"):
        few = groups.answer(2, order)
        assert len(few.groups) == 2 and few.top(2, order) == everything.top(2, order)
        assert few.in_all == everything.in_all
    least = {"distinct_dport": 8, "bytes": 1500}
    values = everything.values()
    wanted = [
        g for g in everything.groups if any(values[name](g) >= n for name, n in least.items())
    ]
    assert 0 < len(wanted) < len(everything.groups)
    assert groups.answer(least=least).groups == wanted


def test_a_flow_adds_its_counters_when_it_has_ended() -> None:
    (table,) = stats("--kind", "flow", "--sum", "bytes", "--sum", "packets", NAT)["tables"]
    total = Counter[str]()
    with pylog.open(NAT) as reader:
        for record in reader:
            if isinstance(record, pylog.FlowRecord) and record.event == "expire":
                for name in ("bytes", "packets"):
                    total[name] += sum((getattr(record, name) or {}).values())
    assert table["sums"] == total and total["bytes"]


# Many groups


@st.composite
def skewed(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Keys with their counts: few that are common, and many that are rare."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    exponent = draw(st.floats(0.5, 3))
    found = []
    for _ in range(draw(st.integers(1, 600))):
        common = int(400 * chance.random() ** exponent) % 256
        found.append((f"10.0.{common}.{chance.randrange(4)}", chance.choice((1, 1, 1, 5, 100))))
    return found


@effort.examples(300)
@given(skewed(), st.integers(4, 60))
def test_heavy_hitters_are_off_by_no_more_than_said(
    keys: list[tuple[str, int]], limit: int
) -> None:
    plan = Plan(Question(("saddr",), keys=limit, distinct=(("daddr",),)))
    records: list[Record] = [
        PacketRecord("nflog", "nfulnl-le", saddr=key, daddr=f"10.1.{i % 9}.1", count=count)
        for i, (key, count) in enumerate(keys)
    ]  # fmt: skip
    truth, values = Counter[str](), dict[str, set[int]]()
    for i, (key, count) in enumerate(keys):
        truth[key] += count
        values.setdefault(key, set()).add(i % 9)
    counted = RecordGroups(plan, "packet")
    counted.add(records)
    for answer in (counted.answer(), in_columns(plan, "packet", records, 50).answer()):
        assert answer.count == truth.total()
        assert answer.floor <= 2 * truth.total() / limit
        assert len(answer.groups) <= 2 * limit
        shown = {group.keys[0]: group for group in answer.groups}
        for key, count in truth.items():
            if key in shown:
                group = shown[key]
                assert group.count <= count <= group.at_most <= group.count + answer.floor
                distinct = len(values[key])
                assert group.distinct[0] <= distinct <= group.distinct[0] + answer.distinct_floor
            else:
                assert count <= answer.floor
        if not answer.floor:
            assert len(truth) == len(shown)


def test_one_group_with_very_many_distinct_values_is_bounded() -> None:
    plan = Plan(Question((), keys=10, distinct=(("sport",),)))
    records: list[Record] = [PacketRecord("nflog", "nfulnl-le", sport=i) for i in range(500)]
    counted = RecordGroups(plan, "packet")
    counted.add(records)
    for answer in (counted.answer(), in_columns(plan, "packet", records).answer()):
        (group,) = answer.groups
        assert 10 <= group.distinct[0] <= 40 and group.distinct[0] + answer.distinct_floor >= 500


# Times and networks


@pytest.mark.parametrize(("every", "zone", "time", "start"), [
    ("1h", "UTC", "2026-11-29T15:49:28+00:00", "2026-11-29T15:00:00+00:00"),
    ("1h", "Asia/Kathmandu", "2026-11-29T15:49:28+00:00", "2026-11-29T15:15:00+00:00"),
    ("1d", "Europe/Oslo", "2026-10-25T22:30:00+00:00", "2026-10-24T22:00:00+00:00"),  # 25 hours
    ("1h", "Europe/Oslo", "2026-10-25T01:30:00+00:00", "2026-10-25T01:00:00+00:00"),
    ("1h", "Europe/Oslo", "2026-10-25T00:30:00+00:00", "2026-10-25T00:00:00+00:00"),
    ("1w", "UTC", "2026-11-29T15:49:28+00:00", "2026-11-23T00:00:00+00:00"),  # a Monday
    ("month", "Europe/Oslo", "2026-10-31T23:30:00+00:00", "2026-10-31T23:00:00+00:00"),
    ("10s", "UTC", "1969-12-31T23:59:57+00:00", "1969-12-31T23:59:50+00:00"),
])  # fmt: skip
def test_buckets_follow_the_clock_of_the_zone(every: str, zone: str, time: str, start: str) -> None:
    part = parts.bucket(every, zone_of(zone))
    seconds = int(datetime.fromisoformat(time).timestamp())
    found = part[seconds * 10**9 // part.granule_ns]
    assert found == int(datetime.fromisoformat(start).timestamp()) * 10**9


def test_networks_of_both_families() -> None:
    assert network("192.0.2.77", 24, 64) == "192.0.2.0/24"
    assert network("2001:db8:1:2:3::1", 24, 48) == "2001:db8:1::/48"
    assert network("192.0.2.77", 32, 64) == "192.0.2.77"
    assert network("no address", 24, 64) is None


def test_countries_and_networks_of_a_local_file() -> None:
    pytest.importorskip("maxminddb")
    geo = "--geo", FIXTURES / "geo/networks.mmdb"
    (table,) = stats(*geo, "--by", "saddr.country,saddr.asn,saddr.network", IPL)["tables"]
    rows = [tuple(row.values())[:4] for row in table["groups"]]
    assert rows == [
        ("NO", None, None, 47), ("ZZ", "AS64512", "Example\x1b[31m", 12), (None, None, None, 4)
    ]  # fmt: skip
    found = Geo([str(FIXTURES / "geo/networks.mmdb")])
    assert [found.part(name, "2001:db8::1") for name in ("country", "asn", "network")] == [
        "DE", "AS64513", "Six"
    ]  # fmt: skip
    shown = inprocess.text("stats", *geo, "--by", "saddr.network", IPL).stdout
    assert "Example\\x1b[31m" in shown and "\x1b" not in shown


# The command


def test_losses_stand_beneath_every_table() -> None:
    done = inprocess.text("stats", "--by", "prefix", OVERRUN)
    assert done.stdout.splitlines()[-1] == (
        "LOST: 2520 records were lost, in 1 place; the numbers do not contain them"
    )
    assert stats("--by", "prefix", OVERRUN)["losses"]["records"] == 2520
    piped = inprocess.run("stats", "--by", "prefix", "-", stdin=OVERRUN)
    assert piped.stdout.decode() == done.stdout
    quiet = inprocess.text("stats", "--where", "prefix == nothing", "--to", "csv", OVERRUN)
    assert "2520 records were lost" in quiet.stderr
    assert quiet.stdout == "count,records,first,last\r\n"


def test_losses_are_counted_by_their_kinds() -> None:
    tally, other = LossTally(), LossTally()
    tally.add([
        LossRecord("nflog", "nfulnl-le", count=3, reason="sequence number 9, but expected 6"),
        LossRecord("nflog", "nfulnl-le", reason="the receive buffer overran"),
    ])  # fmt: skip
    other.add([
        LossRecord("ipl", "x", 0, size=10, reason="ipl_magic 7, but expected 8"),
        LossRecord("ipl", "x", 9, size=2, reason="record cut off, 2 bytes"),
    ])  # fmt: skip
    tally.merge(other)
    assert tally.text() == (
        "at least 3 records were lost, in 2 places; 1 place is damaged, 10 bytes;"
        " 1 log ends within a record"
    )


def test_every_form_has_the_same_groups(tmp_path: Path) -> None:
    arguments = "--by", "saddr", "--every", "1h", "--distinct", "dport", IPL
    (table,) = stats(*arguments)["tables"]
    done = inprocess.text("stats", "--to", "csv", *arguments)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows == [{n: str(v) for n, v in row.items()} for row in table["groups"]]
    out = tmp_path / "out.parquet"
    assert inprocess.run("stats", "-w", out, *arguments).returncode == 0
    written = pq.read_table(out)
    assert written.column("count").to_pylist() == [row["count"] for row in table["groups"]]
    assert str(written.schema.field("bucket").type) == "timestamp[ns, tz=UTC]"
    again = inprocess.text("stats", "-w", out, *arguments)
    assert again.returncode == 1 and "--force" in again.stderr
    shown = inprocess.text("stats", *arguments).stdout
    assert all(row["saddr"] in shown for row in table["groups"])


def test_order_top_and_new_since() -> None:
    (table,) = stats("--by", "saddr", "--top", "2", IPL)["tables"]
    assert [row["count"] for row in table["groups"]] == [47, 12]
    assert table["groups_in_all"] == 5
    (table,) = stats("--by", "saddr", "--order", "last", "--top", "1", IPL)["tables"]
    assert table["groups"][0]["saddr"] == "10.1.1.1"
    (table,) = stats("--by", "saddr", "--new-since", "2023-11-14T23:17:00Z", IPL)["tables"]
    assert {row["saddr"] for row in table["groups"]} == {"0.0.0.0", "240.0.0.1"}
    assert table["count"] == 2


@pytest.mark.parametrize(("report", "source", "rows"), [
    ("blocked", IPL, [3, 16, 10]), ("talkers", IPL, [5, 8, None]), ("rules", IPL, None),
    ("ports", IPL, None), ("nat", NAT, None), ("changes", CHANGES, [2, None, None]),
    ("talkers", FLOWS, [3, None, None]),
])  # fmt: skip
def test_ready_questions(report: str, source: Path, rows: list[int | None] | None) -> None:
    found = stats("--report", report, source)
    for i, table in enumerate(found["tables"]):
        counts = [row["count"] for row in table["groups"]]
        assert counts and sum(counts) == table["count"]
        if rows is not None and rows[i] is not None:
            assert len(counts) == rows[i]
    assert found["tables"][0]["kind"] == {"nat": "flow", "changes": "ruleset"}.get(
        report, "flow" if source == FLOWS else "packet"
    )


def test_a_scanner_is_found_with_its_evidence(tmp_path: Path) -> None:
    second = 1_700_000_000
    records = [
        PacketRecord("ipl", "ipl-5.1.2-lp64le", timestamp_ns=(second + i) * 10**9, action="block",
                     family="ipv4", protocol=6, saddr=saddr, daddr="192.0.2.1", sport=40000,
                     dport=dport, tcp_flags=flags, seq=i)
        for i, (saddr, dport, flags) in enumerate([
            *(("198.51.100.9", 20 + port, "S") for port in range(16)),
            *(("192.0.2.80", 50000 + port, "AS") for port in range(40)),  # a server's answers
            *(("198.51.100.7", 443, "S") for _ in range(50)),
        ])
    ]  # fmt: skip
    lines = tmp_path / "scan.parquet"
    wanted = chosen("packet", None)
    pq.write_table(pa.Table.from_batches([batch("packet", list(records), wanted)]), lines)
    (table,) = stats("--report", "scanners", lines)["tables"]
    (row,) = table["groups"]
    assert row["saddr"] == "198.51.100.9" and row["distinct_dport"] == 16
    assert row["ports"] == list(range(20, 28)) and row["hosts"] == ["192.0.2.1"]
    shown = inprocess.text("stats", "--report", "scanners", lines).stdout
    assert "ports 20, 21, 22, 23, 24, 25, 26, 27 and 8 more; hosts 192.0.2.1" in shown


@pytest.mark.parametrize(("arguments", "text"), [
    (["--by", "saddrr"], "did you mean saddr"),
    (["--by", "dport/24"], "only addresses have"),
    (["--by", "saddr/24/300"], "saddr/24/48"),
    (["--by", "saddr,saddr"], "twice"),
    (["--by", "count"], "not grouped by count"),
    (["--by", "length", "--sum", "length"], "not grouped by length"),
    (["--by", "saddr.country"], "--geo FILE"),
    (["--by", "payload"], "no single value"),
    (["--by", "saddr", "--geo", IPL], "as an mmdb file"),
    (["--every", "5x"], "15m"),
    (["--every", "0h"], "no length of time"),
    (["--order", "size"], "there are count"),
    (["--kind", "packets"], "there are packet"),
    (["--report", "ports", "--by", "saddr"], "--by is not for --report"),
    (["--report", "nat", "--to", "csv"], "several tables"),
    (["--to", "parquet"], "-w"),
    (["--keys", "1"], "2 or more"),
    (["--new-since", "yesterday"], "--new-since"),
    (["--jobs", "1", "--rules"], "--jobs is for files"),
])  # fmt: skip
def test_wrong_usage_says_what_to_do(arguments: list[object], text: str) -> None:
    done = inprocess.text("stats", *arguments, IPL)
    assert done.returncode in (1, 2) and text in done.stderr and not done.stdout


def test_records_of_other_kinds_are_mentioned() -> None:
    done = inprocess.text("stats", "--by", "saddr", NAT)
    assert "not counted" in done.stdout and "(--kind " in done.stdout
    assert "cannot tell whether" in inprocess.text("stats", "--by", "saddr", FLOWS).stdout


def test_a_table_without_a_column_that_is_needed(tmp_path: Path, parquet: Path) -> None:
    few = tmp_path / "few.parquet"
    assert inprocess.run("convert", "--columns", "timestamp,saddr", IPL, few).returncode == 0
    done = inprocess.text("stats", "--by", "saddr", "--where", "dport == 22", few)
    assert done.returncode == 1 and "has no column dport to filter by" in done.stderr
    (table,) = stats("--by", "saddr", "--where", "saddr in 10.0.0.0/8", few)["tables"]
    assert [(row["saddr"], row["count"]) for row in table["groups"]] == [("10.1.1.1", 10)]
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(parquet.read_bytes()[:-40])
    assert inprocess.text("stats", "--by", "saddr", broken).returncode == 1


def test_a_summary_of_records_as_the_docstring_has_it() -> None:
    summary = Summary([Question(by=("saddr",)), Question(by=("dport",))])
    with pylog.open(IPL) as reader:
        while lot := reader.read_batch(limit=5):
            summary.add_records(lot)
    assert [group.count for group in summary.answer().top(2)] == [47, 12]
    assert summary.answer(1).count == 63 and summary.counts["packet"] == 61
