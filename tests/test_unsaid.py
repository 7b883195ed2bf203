"""What a log does not say: times without a zone, verdicts, losses. Every command says so, and what
to do about it; nothing is wrong in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import inprocess
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import FIXTURES

import pylog
from pylog.actions import Actions
from pylog.filter import Filter
from pylog.filter.values import time_ns
from pylog.record import LossRecord, PacketRecord
from pylog.stats import hints
from pylog.who.questions import period
from pylog.zones import zone_of

NFLOG = FIXTURES / "nflog/overrun.bin"
IPL = FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
HINT = "have no time: their lines state no zone; give it with --log-tz Europe/Oslo"
ZONE = ("--log-tz", "Europe/Oslo", "--year", "2026")
OSLO = (*ZONE, "--tz", "Europe/Oslo")
PREFIXES = "the prefixes are 'fw-drop: ' (40), 'fw-reject: ' (20)"
ACTIONS = "--action 'fw-drop*=block' --action 'fw-reject*=block'"


@pytest.fixture(scope="module")
def syslog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 packets, from 27 November 2026, 12:00 on, one an hour; two of three of them dropped. One
    source sweeps 30 ports, but in 30 hours."""
    path = tmp_path_factory.mktemp("unsaid") / "messages"
    lines = []
    for i in range(60):
        prefix = "fw-reject" if i % 3 == 2 else "fw-drop"
        lines.append(
            f"Nov {27 + (12 + i) // 24} {(12 + i) % 24:02}:00:00 gw kernel: {prefix}: IN=eth0 OUT="
            f" MAC=02:50:01:00:00:01:02:50:01:00:00:02:08:00 SRC=192.0.2.{7 + i // 30}"
            f" DST=198.51.100.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=7 DF PROTO=TCP SPT=4000"
            f" DPT={i + 1} WINDOW=64240 RES=0x00 SYN URGP=0 \n"
        )
    path.write_text("".join(lines))
    return path


def stats(*arguments: object) -> dict[str, Any]:
    done = inprocess.run("stats", "--to", "json", *arguments)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


@pytest.mark.parametrize(
    "arguments",
    [
        ("stats", "--since", "2026-11-28"),
        ("stats", "--until", "2026-11-28", "--jobs", "2"),
        ("stats", "--every", "1h"),
        ("stats", "--new-since", "-2h"),
        ("stats", "--report", "scanners"),
        ("stats", "--by", "saddr,weekday"),
        ("report", "--to", "json", "--since", "2026-11-28"),
        ("report", "--to", "json", "--period", "month"),
    ],
    ids=" ".join,
)
def test_what_needs_times_is_an_error_without_them(arguments: list[str], syslog: Path) -> None:
    done = inprocess.text(*arguments, syslog)
    assert done.returncode == 2 and not done.stdout
    assert f"needs times, but 60 records {HINT}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("read",), ("read", "--to", "json"), ("read", "--to", "csv"),
        ("replay", "--speed", "max"), ("info",), ("top", "--once"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_records_that_a_limit_of_time_leaves_out_are_reported(
    arguments: list[str], syslog: Path
) -> None:
    done = inprocess.text(*arguments, "--since", "2026-11-28", syslog)
    assert done.returncode == 0 and f"60 records {HINT}" in done.stdout + done.stderr
    if arguments[0] in ("read", "replay"):
        assert not done.stdout.rpartition("\n")[0].count("192.0.2.7")
    limited = inprocess.text(*arguments, *ZONE, "--since", "2026-11-28T23:00Z", syslog)
    assert limited.returncode == 0 and "no time" not in limited.stdout + limited.stderr


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.csv"])
@pytest.mark.parametrize("jobs", [(), ("--jobs", "2")], ids=["one", "jobs"])
def test_convert_reports_what_it_left_out(
    name: str, jobs: tuple[str, ...], syslog: Path, tmp_path: Path
) -> None:
    done = inprocess.text("convert", *jobs, "--since", "2026-11-28", syslog, tmp_path / name)
    assert done.returncode == 0 and done.stderr.count(f"60 records {HINT}") == 1
    asked = ("--where", "action == block", "--force")
    done = inprocess.text("convert", *jobs, *asked, syslog, tmp_path / name)
    assert f"the prefixes are 'fw-drop: ', 'fw-reject: '. {ACTIONS}" in done.stderr


def test_only_records_without_a_time_count_as_such(syslog: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.log"
    line = syslog.read_text().partition("\n")[0].partition(" gw ")[2]
    mixed.write_text(
        f"2026-11-28T10:00:00.000000+01:00 gw {line}\n" * 3 + syslog.read_text()
    )  # rsyslog's two formats in a file
    shown = inprocess.text("stats", "--since", "2026-11-28T08:30", mixed).stdout
    assert shown.startswith("3 packets\n")
    assert shown.endswith(f"--since: 60 records {HINT}, or --log-tz local\n")
    assert stats("--since", "2026-11-28T08:30", mixed)["untimed"] == 60
    for how in ((), ("--jobs", "2")):
        made = stats("--every", "1h", *how, mixed)
        assert made["untimed"] == 60 and made["tables"][0]["groups"][-1]["bucket"] is None
    page = inprocess.text("report", "--to", "json", mixed)
    assert f"60 records {HINT}" in page.stderr and json.loads(page.stdout)["untimed"] == 60


def test_scanners_are_counted_in_windows_only(syslog: Path) -> None:
    ports = stats("--report", "scanners", *OSLO, syslog)
    assert ports["tables"][0]["groups"] == []
    day = stats("--report", "scanners", "--every", "1w", *OSLO, syslog)
    assert [row["saddr"] for row in day["tables"][0]["groups"]] == ["192.0.2.7", "192.0.2.8"]


def test_what_is_left_out_by_another_test_is_no_matter_of_time() -> None:
    wanted = Filter("dport == 22 and timestamp > 2026-11-28")
    assert wanted.by_time and not Filter("dport == 22").by_time
    packet = PacketRecord("kernel-log", "text", dport=22)
    assert not wanted.matches(packet) and wanted.untimed == 1
    assert wanted.matches(LossRecord("kernel-log", "text")) and wanted.untimed == 1
    seen = PacketRecord("nflog", "nfulnl-le", dport=22, observed_ns=1)
    assert not wanted.matches(seen) and wanted.untimed == 1


def test_limits_without_a_zone_are_in_that_of_tz(syslog: Path, tmp_path: Path) -> None:
    """The days of a table are those of its labels, and the answer says from when to when."""
    table = tmp_path / "m.parquet"
    assert inprocess.run("convert", *ZONE, syslog, table).returncode == 0
    limits = ("--since", "2026-11-28", "--until", "2026-11-28T23:30")
    for source in ((*ZONE, syslog), (table,)):
        shown = inprocess.text("stats", "--every", "1d", *limits, "--tz", "Europe/Oslo", *source)
        head, _, row, span, *_ = shown.stdout.splitlines()
        assert head == "24 packets" and row.startswith("2026-11-28T00:00:00+01:00     24  100.0%")
        assert span == "counted: from 2026-11-28T00:00:00+01:00 to 2026-11-28T23:30:00+01:00"
        made = stats(*limits, "--tz", "Europe/Oslo", *source)
        assert made["since"] == "2026-11-27T23:00:00.000000Z"
        assert made["until"] == "2026-11-28T22:30:00.000000Z"
    utc = stats("--since", "2026-11-28", *ZONE, syslog)  # an hour later
    assert utc["records"] == {"packet": 47} and utc["until"] is None
    lines = inprocess.text("read", *OSLO, "--since", "2026-11-28", syslog).stdout.splitlines()
    assert len(lines) == 48 and lines[0].startswith("2026-11-28T00:00:00.000000+01:00")
    page = inprocess.text("report", *OSLO, "--to", "json", *limits, syslog)
    made = json.loads(page.stdout)
    assert made["packets"] == 24
    assert made["where"] == "from 2026-11-28T00:00:00+01:00, to 2026-11-28T23:30:00+01:00"
    new = stats("--by", "saddr", "--new-since", "2026-11-28T18", *OSLO, syslog)
    assert [row["saddr"] for row in new["tables"][0]["groups"]] == ["192.0.2.8"]


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2026-11-28T18", "UTC", "2026-11-28T18:00:00Z"),
        ("2026-11-28T18Z", "Europe/Oslo", "2026-11-28T18:00:00Z"),
        ("2026-11-28 18", "Europe/Oslo", "2026-11-28T17:00:00Z"),
        ("2026-07-28T18:30", "Europe/Oslo", "2026-07-28T16:30:00Z"),
        ("2026-11-28T18+05:30", "Europe/Oslo", "2026-11-28T12:30:00Z"),
        ("2026-11-28", "Europe/Oslo", "2026-11-27T23:00:00Z"),
        ("2026-10-25T02:30", "Europe/Oslo", "2026-10-25T00:30:00Z"),  # the first of two
    ],
)
def test_a_time_may_lack_minutes_and_zone(text: str, zone: str, utc: str) -> None:
    assert time_ns(text, 0, zone_of(zone)) == time_ns(utc, 0)


@pytest.mark.parametrize("text", ["2026-11-28T24", "2026-11-28T1", "2026-11-28T18:", "2026-11-31"])
def test_what_is_no_time_is_an_error(text: str) -> None:
    done = inprocess.text("stats", "--since", text, NFLOG)
    assert done.returncode == 2 and f"--since: '{text}' is not a time" in done.stderr


def test_an_hour_is_a_period_and_a_time_of_who(syslog: Path) -> None:
    page = inprocess.text("report", *OSLO, "--to", "json", "--period", "2026-11-28T18", syslog)
    made = json.loads(page.stdout)
    assert made["packets"] == 1 and made["period"]["name"] == "2026-11-28 18:00 to 19:00"
    done = inprocess.text("report", "--to", "json", "--period", "2026-11-28T25", syslog)
    assert done.returncode == 2 and "is no hour" in done.stderr
    start, stop = period("2026-11-28T18", zone_of("UTC"))
    assert stop - start == 3600 * 10**9 - 1


def test_commands_that_read_files_state_zones(syslog: Path) -> None:
    shown = inprocess.text("replay", "--speed", "max", "-n", "1", *ZONE, syslog).stdout
    assert shown.startswith("2026-11-27T11:00:00.000000Z")
    once = inprocess.text("top", "--once", "--speed", "max", *OSLO, syslog).stdout
    assert "2026-11-29T23:00:00+01:00" in once
    for command in ("read", "info", "stats", "top", "report", "convert", "replay", "who"):
        assert "--log-tz" in inprocess.text(command, "--help").stdout
    with pylog.replay(syslog, speed=None, log_tz="Europe/Oslo", year=2026) as reader:
        assert next(reader).timestamp_ns == time_ns("2026-11-27T11:00:00Z", 0)
    with pytest.raises(ValueError, match="give log_tz"):
        pylog.replay(syslog, year=2026)


def test_info_says_why_there_are_no_times_and_which_prefixes_there_are(syslog: Path) -> None:
    shown = inprocess.text("info", syslog).stdout
    assert "none (the lines state no zone: --log-tz Europe/Oslo, or --log-tz local)" in shown
    assert "prefixes:       'fw-drop: ' 40, 'fw-reject: ' 20\n" in shown
    described = json.loads(inprocess.text("info", "--json", *ZONE, syslog).stdout)
    assert described["prefixes"] == {"fw-drop: ": 40, "fw-reject: ": 20} and described["first"]
    assert "--log-tz" not in inprocess.text("info", IPL).stdout


@pytest.mark.parametrize("how", [(), ("--jobs", "2"), ("--where", "action == block")], ids=str)
def test_a_log_without_verdicts_names_its_prefixes(how: tuple[str, ...], syslog: Path) -> None:
    asked = ("stats", *([] if "--where" in how else ["--report", "blocked"]), *how)
    shown = inprocess.text(*asked, syslog).stdout
    assert shown.endswith(
        f"this log does not say what became of a packet; {PREFIXES}. {ACTIONS} makes verdicts of"
        " prefixes\n"
    )
    options = ["--action", "fw-drop*=block", "--action", "fw-reject*=block"]
    assert "does not say" not in inprocess.text(*asked, *options, syslog).stdout
    wrong = inprocess.text(*asked, "--action", "drop*=block", syslog)
    assert "does not say" not in wrong.stdout  # it was asked for what does not exist
    assert (
        "--action: no packet read has a prefix like 'drop*'; the prefixes are 'fw-drop: ',"
        " 'fw-reject: '" in wrong.stderr
    )


def test_the_pattern_that_a_hint_names_works() -> None:
    for prefix in ("fw-drop: ", "[UFW BLOCK] ", "a*b?c[d]", "x" * 300, "it's: "):
        actions = Actions({hints.pattern_of(prefix): "block"})
        assert actions.of(prefix) == "block"
        other = f"y{prefix}"
        assert actions.of(other) is None
    many = [(f"p{i}: ", 100 - i) for i in range(50)]
    assert len(hints.no_verdict(many)) < 300 and "and 47 more" in hints.no_verdict(many)
    assert "have no prefix" in hints.no_verdict([("", 3)])
    counted = Actions({})
    for i in range(3000):
        counted.count(f"{i}")
    assert len(counted.prefixes) == 1000


def test_a_report_and_a_screen_do_not_say_that_nothing_was_lost(syslog: Path) -> None:
    unknown = f"losses: {syslog} cannot tell whether records were lost"
    assert unknown in inprocess.text("stats", syslog).stdout
    assert unknown in inprocess.text("top", "--once", syslog).stdout
    assert "losses: none seen" in inprocess.text("top", "--once", IPL).stdout
    page = inprocess.text("report", *OSLO, syslog).stdout
    tile = page.partition("Lost records")[2][:120]
    assert "unknown" in tile and "none is recorded" not in page
    tile = inprocess.text("report", IPL).stdout.partition("Lost records")[2][:120]
    assert "none is recorded" in tile


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("how", ["convert", "jobs", "read"])
def test_a_table_says_whether_its_log_could_tell_losses(
    ending: str, how: str, syslog: Path, tmp_path: Path
) -> None:
    table = tmp_path / f"t.{ending}"

    def written(log: Path, *options: object) -> str:
        done = inprocess.run("read", "--force", *options, "-w", table, log) if how == "read" else (
            inprocess.run("convert", "--force", *(["--jobs", 2] if how == "jobs" else []),
                          *options, log, table)
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return inprocess.text("stats", table).stdout.splitlines()[-1]

    assert written(syslog) == f"losses: {table} cannot tell whether records were lost"
    assert stats(table)["losses"]["unknowable"] == [str(table)]
    assert written(IPL) == "losses: none"
    assert written(NFLOG).startswith(f"LOST: records of the log of {table} were lost")
    assert stats(table)["losses"]["left_out_of"] == [str(table)]
    assert json.loads(inprocess.run("report", "--to", "json", table).stdout)["losses"]["sure"] is (
        False
    )
    assert written(NFLOG, "--kind", "loss").startswith("LOST: 2520 records were lost")


def test_a_table_of_another_program_cannot_tell(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"saddr": ["192.0.2.1"]}), path)
    shown = inprocess.text("stats", "--by", "saddr", path).stdout
    assert shown.endswith(f"losses: {path} cannot tell whether records were lost\n")


def test_many_first_times_at_the_beginning_are_explained(tmp_path: Path) -> None:
    lines = [
        f"2026-11-{1 + i // 40:02}T00:00:{i % 40:02}Z gw kernel: x IN=eth0 OUT= SRC=192.0.2.{i % 9}"
        " DST=198.51.100.1 LEN=60 TTL=64 ID=7 PROTO=UDP SPT=4000 DPT=53 LEN=40\n"
        for i in range(200)
    ]
    log = tmp_path / "log"
    log.write_text("".join(lines))
    shown = inprocess.text("stats", "--by", "saddr", log).stdout
    assert (
        "first: counting begins at 2026-11-01T00:00:00Z; 9 of those shown were seen soon after,"
        " and may be older\n" in shown
    )
    assert "may be older" not in inprocess.text("stats", "--every", "1d", log).stdout


@pytest.mark.parametrize("option", ["-w", "-o", "--output"])
def test_convert_says_where_its_file_is_named(option: str) -> None:
    done = inprocess.text("convert", IPL, option, "x.parquet")
    assert done.returncode == 2
    assert f"no option {option}; the file to write is the last argument" in done.stderr
