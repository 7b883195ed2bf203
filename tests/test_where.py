"""Readers, tables and commands with a filter: all records but those that it does not want."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import effort
import inprocess
import pytest
import samples

import pylog
from pylog.actions import Actions
from pylog.cli import main
from pylog.filter import Filter
from pylog.record import LossRecord, PacketRecord, Record, kind_of
from pylog.records import Records

IPL = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
NFLOG = samples.FIXTURES / "nflog/tcpdump.pcap"
LOGS = (IPL, NFLOG, samples.FIXTURES / "nflog/seq.bin", samples.FIXTURES / "nflog/overrun.bin",
        samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin")  # fmt: skip
EXPRESSIONS = (
    "hook == input", "dev == em1 or dev == 6", "action == block", "dport in {80, 53}", "not prefix",
    "prefix startswith arp and protocol != 6", "addr in 10.0.0.0/8 and direction == in", "mac",
    "kind == flow", "timestamp > 2023-11-14T22:30:00Z and group", "extra.nfgen_family == 2",
    "ttl > 63 or uid",
)  # fmt: skip
CASES = [(log, text) for log in LOGS for text in EXPRESSIONS]


def records(path: Path, actions: Actions | None = None) -> list[Record]:
    with pylog.open(path) as reader:
        return [r if actions is None else actions.record(r) for r in reader]


@pytest.mark.parametrize(("path", "text"), effort.sample(CASES, least=5))
def test_a_reader_gives_the_records_that_match(path: Path, text: str) -> None:
    wanted = Filter(text)
    for actions in (None, Actions({"arp*": "pass", "*": "block"})):
        expected = [record for record in records(path, actions) if wanted.matches(record)]
        with pylog.open(path) as plain:
            for _ in plain:
                pass
        with pylog.open(path) as reader:
            filtered = reader.where(wanted, actions=actions)
            assert list(filtered) == expected
            assert filtered.left_out == reader.received + len(
                [r for r in expected if isinstance(r, LossRecord)]
            ) - len(expected) + sum(
                not wanted.matches(r) for r in records(path) if isinstance(r, LossRecord)
            )  # fmt: skip
            for count in ("received", "dropped", "uncounted", "malformed"):
                assert getattr(filtered, count) == getattr(plain, count)
        with pylog.open(path) as reader:
            filtered = reader.where(text, actions=actions)
            found: list[Record] = []
            while lot := filtered.read_batch(limit=3):
                found += lot
            assert found == expected


@pytest.mark.parametrize(("path", "text"), effort.sample(CASES, least=4))
def test_a_table_has_the_rows_that_match(path: Path, text: str) -> None:
    pytest.importorskip("pyarrow")
    wanted = Filter(text)
    for kind in ("packet", "flow", "loss"):
        expected = [r.offset for r in records(path) if kind_of(r) == kind and wanted.matches(r)]
        table = pylog.read_table(path, kind=kind, columns=["offset"], where=text)
        assert table["offset"].to_pylist() == expected


def readers(path: Path) -> dict[str, Records]:
    return {"merged": pylog.merge(path, path), "replay": pylog.replay(path, speed=None)}


def test_merged_and_replayed_records_are_filtered() -> None:
    wanted = Filter("dport == 80")
    for name, reader in readers(IPL).items():
        with reader, readers(IPL)[name] as plain:
            expected = [record for record in plain if wanted.matches(record)]
            assert expected and list(reader.where(wanted)) == expected


def test_a_filtered_reader_can_be_filtered_and_read_asynchronously() -> None:
    async def read() -> list[Record]:
        async with pylog.open(IPL).where("dport == 80").where("tcp_flags has S") as reader:
            return [record async for record in reader]

    expected = [r for r in records(IPL) if Filter("dport == 80 and tcp_flags has S").matches(r)]
    assert asyncio.run(read()) == expected and len(expected) == 2


def test_a_read_that_meets_no_wanted_record_ends_in_time() -> None:
    with pylog.open(NFLOG).where("ttl == 99") as reader:
        with pytest.raises(TimeoutError):
            while reader.read(timeout=0) is not None:
                pass
        assert reader.read() is None


def test_a_set_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "devices"
    path.write_text("nowhere\n")
    with pylog.open(IPL) as reader:
        filtered = reader.where(f"indev in @{path}")
        filtered.reload()
        path.write_text("em1\n")
        filtered.reload()
        assert {r.indev for r in filtered if isinstance(r, PacketRecord)} == {"em1"}


# Commands


def lines(*arguments: str | Path) -> list[bytes]:
    done = inprocess.run(*map(str, arguments))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("form", ["text", "json", "csv"])
@pytest.mark.parametrize("text", ["dport == 80", "timestamp > 2023-11-14T22:30:00Z", "dev == em1"])
def test_read_writes_what_matches(form: str, text: str) -> None:
    all_lines = lines("read", "--to", form, "--exclude", "extra", IPL) if form == "csv" else lines(
        "read", "--to", form, IPL
    )  # fmt: skip
    head = all_lines[: form == "csv"]
    written = all_lines[len(head) :]
    kept = [line for line, r in zip(written, records(IPL), strict=True) if Filter(text).matches(r)]
    exclude = ("--exclude", "extra") if form == "csv" else ()
    assert lines("read", "--to", form, *exclude, "--where", text, IPL) == [*head, *kept]
    limited = lines("read", "--to", form, *exclude, "--where", text, "-n", "2", IPL)
    assert limited == [*head, *kept[:2]]


def test_the_summary_says_how_many_did_not_pass() -> None:
    done = inprocess.run("read", "-v", "--where", "dport == 80", str(IPL))
    count = sum(not Filter("dport == 80").matches(r) for r in records(IPL))
    assert f"pylog: {count} records left out by the filter\n" in done.stderr.decode()


def test_an_action_is_there_before_the_filter() -> None:
    arguments = ("--action", "arp*=block", "--to", "json", NFLOG)
    found = [json.loads(line) for line in lines("read", "--where", "action == block", *arguments)]
    assert found and all(r["prefix"].startswith("arp") for r in found)
    assert len(found) == len(lines("read", "--where", "prefix startswith arp", *arguments))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("more", [(), ("--jobs", "1")])
def test_convert_writes_what_matches(
    ending: str, more: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / f"out.{ending}"
    text = "hook == input and extra.nfgen_family == 3"
    count = sum(map(Filter(text).matches, records(NFLOG)))
    assert main(["convert", "-v", *more, "--where", text, str(NFLOG), str(out)]) == 0
    assert f"{len(records(NFLOG)) - count} records left out" in capfd.readouterr().err
    if ending == "jsonl":
        assert len(out.read_bytes().splitlines()) == count
    else:
        from pyarrow import parquet

        assert parquet.read_metadata(out).num_rows == count


def test_info_replay_capture_and_trace_take_a_filter(tmp_path: Path) -> None:
    text = "hook == input"
    count = sum(map(Filter(text).matches, records(NFLOG)))
    (info,) = lines("info", "--json", "--where", text, NFLOG)
    assert json.loads(info)["records"] == {"packet": count}
    assert len(lines("replay", "--speed", "max", "--where", text, NFLOG)) == count
    out = tmp_path / "out.pcapng"
    assert inprocess.run("capture", "--where", text, "-w", str(out), str(NFLOG)).returncode == 0
    assert len([r for r in records(out) if isinstance(r, PacketRecord)]) == count


def test_ruleset_shows_the_entities_and_changes_that_match() -> None:
    capture = samples.FIXTURES / "nft/fw.pcapng.gz"
    shown = lines("ruleset", "--where", "chain == ssh or text contains 'group 5 drop'", capture)
    text = b"".join(shown).decode()
    assert "chain ssh {" in text and "chain input" not in text and text.count("table ") == 1
    every = [json.loads(line) for line in lines("ruleset", "--to", "json", capture)]
    chosen = [json.loads(line) for line in lines("ruleset", "--to", "json", "--where",
                                                 "handle == 1", capture)]  # fmt: skip
    assert chosen == [row for row in every if row.get("handle") == 1] and chosen


def test_who_answers_with_the_flows_that_match() -> None:
    log = samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin"
    question = ("who", "198.51.100.7:80", "--at", "2023-11-14T22:28Z", "--to", "json")
    (answer,) = [json.loads(line) for line in lines(*question, log)]
    same = f"protocol == {answer['protocol']} and saddr == {answer['saddr']}"
    assert [json.loads(line) for line in lines(*question, "--where", same, log)] == [answer]
    done = inprocess.run(*question, "--where", f"not ({same})", str(log))
    assert done.returncode == 1 and json.loads(done.stdout)["state"] != answer["state"]
    done = inprocess.run(*question, "--where", "extra.x == 1", str(log))
    assert done.returncode == 2 and b"--where names extra, but an answer has" in done.stderr


def test_ipmon_prints_the_records_that_match() -> None:
    every = lines("ipmon", "-f", IPL, "--tz", "UTC")
    chosen = lines("ipmon", "-f", IPL, "--tz", "UTC", "--where", "dev == em1")
    assert chosen == [x for x in every if b" em1 " in x or x[:6] == b"missed"]
    assert 0 < len(chosen) < len(every)


def test_since_and_until_are_shorthands() -> None:
    early, late = "2023-11-14T22:30:00Z", "2023-11-14T22:40:00Z"
    found = lines("read", "--since", early, "--until", late, "--where", "protocol == tcp", IPL)
    assert found == lines(
        "read", "--where", f"timestamp >= {early} and timestamp <= {late} and protocol == 6", IPL
    )
    assert found and not lines("read", "--since", "-2h", IPL)
    wrong = inprocess.run("read", "--since", "yesterday", str(IPL))
    assert wrong.returncode == 2 and b"'yesterday' is not a time" in wrong.stderr


def test_a_wrong_expression_is_shown_with_a_caret() -> None:
    done = inprocess.run("read", "--where", "sadr == 10.0.0.1", str(IPL))
    assert done.returncode == 2 and done.stderr.decode().splitlines() == [
        "pylog: no field 'sadr'; did you mean saddr? (pylog help columns lists all), at column 1",
        "pylog:     sadr == 10.0.0.1",
        "pylog:     ^",
    ]
