"""The command line as a new user meets it: help, mistyped words, and what of records is shown."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import effort
import inprocess
import pytest
import samples

from pylog import outputs
from pylog.cli import main
from pylog.cli._parser import build_parser, command_names, command_parser, parse
from pylog.cli._typed import as_typed
from pylog.nearest import advice

CONFIGURATION = Path(__file__).resolve().parents[1] / "docs" / "examples" / "home-router.toml"
FILTER = samples.FIXTURES / "ipl/v5-1-2-lp64le-filter.ipf.bin"
NFLOG = samples.FIXTURES / "nflog/tcpdump.pcap"
SEQ = samples.FIXTURES / "nflog/seq.bin"


def out(*arguments: object) -> str:
    """What a command prints that succeeds."""
    done = inprocess.run(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def refused(*arguments: object) -> list[str]:
    """The lines of standard error of a command that is used wrongly."""
    done = inprocess.run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    return done.stderr.decode().splitlines()


# Help


def test_pylog_alone_prints_the_help() -> None:
    assert out() == out("--help") == out("-h") == out("help")
    assert out().startswith("usage: pylog COMMAND [options] ...\n")


@pytest.mark.parametrize("command", command_names())
def test_help_of_a_command_is_its_help(command: str) -> None:
    text = out(command, "--help")
    assert out("help", command) == text
    assert text.startswith(f"usage: pylog {command} ")
    assert len(re.split(r"\n\n", text)[0]) < 80  # the usage is one line


def test_the_version_has_a_short_option() -> None:
    assert out("-V") == out("--version")


def test_the_lists_have_every_name() -> None:
    layouts, columns = out("help", "layouts"), out("help", "columns")
    assert "nfulnl-le" in layouts and "5.1.2" in layouts and "ilp32le8" in layouts
    from pylog.outputs._named import REQUESTED, every

    for name in {*every(), *REQUESTED} - {"kind"}:
        assert re.search(rf"^{name} ", columns, re.M), name


def test_a_layout_of_the_list_can_be_named() -> None:
    text = out("help", "layouts")
    versions = re.findall(r"^(\S+) +IPFilter", text, re.M)
    from pylog.formats.ipl_layouts import ABI, named

    for version in versions:
        assert named(f"ipl-{version}-lp64le").version.name == version
    for base in re.findall(r"^(i?lp\S+) +\d\d bits", text, re.M):
        assert ABI(base).name == base


@pytest.mark.parametrize("command", ["info", "convert", "replay"])
def test_what_reads_files_only_shows_no_live_tuning(command: str) -> None:
    text = out(command, "--help")
    for option in ("--qthresh", "--nlbufsiz", "--rcvbuf", "--netns", "live tuning"):
        assert option not in text


@pytest.mark.parametrize("command", ["read", "capture", "pending", "flush"])
def test_live_tuning_is_a_group_at_the_end_of_the_options(command: str) -> None:
    text = out(command, "--help")
    title = text.index("\nlive tuning:\n")
    for option in ("--qthresh", "--nlbufsiz", "--rcvbuf", "--timeout", "--window"):
        assert text.index(f"  {option} ") > title
    assert not re.search(r"^options", text[title:], re.M)
    examples = text.find("\nexamples:\n")
    assert examples < 0 or examples > title


def test_the_help_of_read_begins_with_what_people_need() -> None:
    text = out("read", "--help")
    places = []
    for option in ("--to", "-w", "-n", "--columns", "--tz", "--action", "--layout", "--csv-safe",
                   "--netns", "--qthresh"):  # fmt: skip
        match = re.search(rf"^  {option}[ ,\n]", text, re.M)  # from Python 3.13 on "-w, --write"
        assert match, option
        places.append(match.start())
    assert places == sorted(places)
    legend, examples = text.index("It is - in"), text.index("\nexamples:\n")
    assert places[-1] < legend < examples


def examples() -> list[str]:
    """The commands of all epilogs, without what stands beside them."""
    overview = build_parser((), ())
    parsers = [overview, *map(command_parser, command_names())]
    lines = [line for p in parsers for line in (p.epilog or "").splitlines()]
    return [re.split(r"  +|\s\|", line.strip())[0] for line in lines if line.startswith("  pylog ")]


@pytest.mark.parametrize("example", examples())
def test_the_examples_of_the_help_work(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(FILTER, "fw.dump")
    shutil.copy(NFLOG, "nflog.pcap")
    shutil.copy(CONFIGURATION, "fw.toml")
    shutil.copy(samples.FIXTURES / "text/syslog.log", "syslog.log")
    words = shlex.split(example)[1:]
    live = any(source in example for source in ("nflog:5", "nftables:", "nfct:"))
    with_files = ("doctor", "ruleset", "run", "status", "top", "trace", "ulogd", "who")
    if words[0] in with_files or live or "-a" in words:
        command_parser(words[0]).parse_args(words[1:])  # live, or of a recording that is not here
        return
    if "parquet" in example:
        pytest.importorskip("pyarrow")
    if words[0] == "replay" and "max" not in words:
        words += ["-n", "1"]
    done = inprocess.run(*words)
    notes = [line for line in done.stderr.splitlines() if b"--action: no packet" not in line]
    assert (done.returncode, notes) == (0, [])
    assert done.stdout or len(os.listdir()) == 5 or words[:2] == ["check", "-q"]


# Mistyped words


@pytest.mark.parametrize(("words", "near", "usage"), [
    (["raed", "x"], "no command 'raed'; did you mean read or", "pylog COMMAND [options] ..."),
    (["help", "infos"], "no command 'infos'; did you mean info?", "pylog COMMAND [options] ..."),
    (["read", "--laoyut", "x", "y"], "did you mean --layout?", "pylog read [options] SOURCE ..."),
    (["read", "--qthres", "5"], None, "pylog read [options] SOURCE ..."),
    (["read", "--bogus", "x"], "no option --bogus (pylog", "pylog read [options] SOURCE ..."),
    (["read", "--to", "jsn", "x"], "did you mean json?", "pylog read [options] SOURCE ..."),
    (["convert", "--forze"], "did you mean --force?", "pylog convert [options] IN ... OUT"),
    (["info", "--quik", "x"], "did you mean --quick?", "pylog info [options] SOURCE ..."),
    (["info", "-q", "x"], "no option -q", "pylog info [options] SOURCE ..."),
    (["capture", "--copy-mode", "pakcet", "-w", "x", "y"], "did you mean packet?",
     "pylog capture [options] -w FILE SOURCE ..."),
    (["ipmon", "--actoin", "x"], "did you mean --action?", "pylog ipmon [options] [OUTPUT]"),
    (["--json", "info"], "no option --json", "pylog COMMAND [options] ..."),
    (["flush"], "required: SOURCE", "pylog flush [options] SOURCE ..."),
    (["help", "read", "b"], "unexpected argument b",
     "pylog help [COMMAND | layouts | columns | filter]"),
])  # fmt: skip
def test_an_error_comes_first_and_the_usage_is_that_of_its_command(
    words: list[str], near: str | None, usage: str
) -> None:
    error, line = refused(*words)
    assert near is None or near in error
    assert line == f"usage: {usage}" and len(error) < 200


@pytest.mark.parametrize(("options", "near", "listing"), [
    (["--layout", "foo"], "nfulnl-le", "pylog help layouts"),
    (["--layout", "nfulng-le"], "did you mean nfulnl-le", "pylog help layouts"),
    (["--layout", "ipl-5.1.2-lp64l"], "lp64le", ""),
    (["--columns", "sadr"], "did you mean saddr?", "pylog help columns"),
    (["--exclude", "paylod"], "did you mean payload?", "pylog help columns"),
    (["--tz", "Europe/Olso"], "did you mean Europe/Oslo?", ""),
    (["--ipmon-version", "4.9"], "4.1.0", ""),
])  # fmt: skip
def test_a_value_that_does_not_exist_gets_the_nearest_and_where_the_list_is(
    options: list[str], near: str, listing: str
) -> None:
    (error,) = refused("read", *options, FILTER)
    assert near in error and listing in error and len(error) < 200


def test_advice_is_short() -> None:
    assert advice("x", []) == ""
    assert advice("x", ["alpha"]) == "; there is alpha"
    assert advice("x", ["alpha", "beta"]) == "; there are alpha, beta"
    assert advice("alpa", ["alpha", "beta"]) == "; did you mean alpha?"
    many = [f"name{i}" for i in range(100)]
    assert advice("zzz", many, "it") == " (it lists all)"
    assert len(advice("name", many, "it")) < 80


# Time zones


def test_every_text_has_its_times_in_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    utc = out("read", "-n", "1", FILTER)
    oslo = out("read", "-n", "1", "--tz", "Europe/Oslo", FILTER)
    assert utc.startswith("2023-11-14T22:14:21.123457Z pass ")
    assert oslo == utc.replace("2023-11-14T22:14:21.123457Z", "2023-11-14T23:14:21.123457+01:00")
    cell = out("read", "-n", "1", "--columns", "timestamp", "--tz", "Asia/Kolkata", FILTER)
    assert cell == "2023-11-15T03:44:21.123457+05:30\n"
    ipmon = out("read", "--to", "ipmon", "-n", "1", "--tz", "Europe/Oslo", FILTER)
    assert "14/11/2023 23:14:21.123457 " in ipmon
    assert out("ipmon", "-f", FILTER, "--tz", "Europe/Oslo").startswith(ipmon)
    assert "14/11/2023 22:14:21.123457 " in out("ipmon", "-f", FILTER, "--tz", "UTC")
    assert "2023-11-14T23:14:21.123457+01:00 to" in out("info", "--tz", "Europe/Oslo", FILTER)


def test_a_zone_has_the_offset_of_each_time() -> None:
    from pylog.zones import clock_of

    clock = clock_of("Europe/Oslo")
    assert clock is not None and clock_of("UTC") is None
    assert clock.text("2026-03-29T00:59:59.000001Z") == "2026-03-29T01:59:59.000001+01:00"
    assert clock.text("2026-03-29T01:00:00.123456789Z") == "2026-03-29T03:00:00.123456789+02:00"
    assert clock.text("9999-12-31T23:59:59.000000Z") == "9999-12-31T23:59:59.000000Z"


# Colours


def test_colours_are_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    always = out("read", "-n", "1", "--color", "always", FILTER)
    assert "\x1b[32mpass\x1b[0m" in always
    plain = out("read", "-n", "1", FILTER)
    assert always.replace("\x1b[32m", "").replace("\x1b[0m", "") == plain
    assert out("read", "-n", "1", "--color", "never", FILTER) == plain
    cells = out("read", "-n", "1", "--color", "always", "--columns", "action,saddr", FILTER)
    assert cells == "\x1b[32mpass\x1b[0m\t10.1.1.1\n"


# Columns


COLUMNS = "timestamp,action,saddr,dport,prefix"


def test_columns_of_text_are_separated_by_tabs() -> None:
    rows = [line.split("\t") for line in out("read", "--columns", COLUMNS, SEQ).splitlines()]
    objects = [json.loads(line) for line in samples.golden(SEQ).splitlines()]
    assert len(rows) == len(objects)
    for row, shape in zip(rows, objects, strict=True):
        assert row == [str(shape.get(name, "-")) for name in COLUMNS.split(",")]


def test_columns_on_request_and_structures_are_text_too() -> None:
    names = "kind,protocol,ttl,saddr,fragment,extra"
    lines = out("read", "--columns", names, samples.FIXTURES / "ip/raw.pcap").splitlines()
    rows = [line.split("\t") for line in lines]
    assert {len(row) for row in rows} == {6}
    assert ["packet", "icmp", "64", "10.66.1.2", "-", "-"] in rows
    assert {row[1] for row in rows} >= {"tcp", "udp"}


def test_a_tab_in_a_value_is_no_tab_in_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(SEQ.read_bytes().replace(b"out icmp", b"out\ticmp"))
    shown = out("read", "--columns", "prefix,saddr", log)
    assert {line.count("\t") for line in shown.splitlines()} == {1}


@pytest.mark.parametrize("to", ["text", "json", "csv"])
def test_exclude_leaves_columns_out(to: str) -> None:
    names = ["payload", "prefix", "extra"]
    everything = out("read", "--to", to, SEQ)
    shown = out("read", "--to", to, "--exclude", ",".join(names), SEQ)
    if to == "json":
        objects = [json.loads(line) for line in everything.splitlines()]
        left = [{k: v for k, v in shape.items() if k not in names} for shape in objects]
        assert [json.loads(line) for line in shown.splitlines()] == left
    elif to == "csv":
        rows = list(csv.DictReader(everything.splitlines()))
        left = [{k: v for k, v in row.items() if k not in names} for row in rows]
        assert list(csv.DictReader(shown.splitlines())) == left
    else:
        assert shown == re.sub(r' "[^"]*"| for \([^)]*\)', "", everything)


def test_exclude_takes_names_from_columns_and_leaves_some() -> None:
    options = ["--columns", "saddr,daddr,dport", "--exclude", "daddr"]
    for to, first in (("csv", "saddr,dport"), ("text", "10.66.1.2\t-\n")):
        assert first in out("read", "--to", to, *options, SEQ)
    assert "layout" not in out("read", "--to", "json", "--exclude", "layout", SEQ)
    (error,) = refused("read", "--columns", "saddr", "--exclude", "saddr", SEQ)
    assert "must leave a column" in error


@pytest.mark.parametrize("ending", ["parquet", "arrow", "sqlite", "csv", "jsonl"])
def test_convert_leaves_columns_out_of_every_table(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    made = tmp_path / f"x.{ending}"
    out("convert", "--exclude", "payload,extra", SEQ, made)
    names = set(columns_of(made))
    assert names >= {"family", "prefix"} and not names & {"payload", "extra"}


def columns_of(path: Path) -> list[str]:
    """The names of the columns in a file."""
    if path.suffix == ".csv":
        return path.read_text().splitlines()[0].split(",")
    if path.suffix == ".jsonl":
        return list(json.loads(path.read_text().splitlines()[0]))
    if path.suffix == ".sqlite":
        import sqlite3

        with sqlite3.connect(path) as database:
            return [column[0] for column in database.execute("SELECT * FROM packet").description]
    import pyarrow.dataset

    return list(pyarrow.dataset.dataset(path, format=path.suffix[1:]).schema.names)


# Services


def test_services_are_named_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, str]] = []

    def getservbyport(port: int, protocol: str) -> str:
        asked.append((port, protocol))
        if (port, protocol) == (80, "tcp"):
            return "http"
        raise OSError("port/proto not found")

    monkeypatch.setattr(socket, "getservbyport", getservbyport)
    from pylog.outputs import _services

    _services._texts.clear()
    plain = out("read", FILTER)
    named = out("read", "--services", FILTER)
    _services._texts.clear()
    assert asked and len(asked) == len(set(asked))  # each is asked for once
    assert "10.1.1.1:40000 -> 192.0.2.10:80/http S" in named
    assert named.replace("/http", "") == plain != named
    cells = out("read", "--services", "-n", "1", "--columns", "sport,dport", FILTER)
    _services._texts.clear()
    assert cells == "40000\t80/http\n"


# Actions


ACTION = ["--action", "nd*=block", "--action", "in*=pass", "--action", "*=log"]


def expected(prefix: str | None) -> str:
    text = prefix or ""
    return "block" if text.startswith("nd") else "pass" if text.startswith("in") else "log"


def test_prefixes_give_actions_in_every_output() -> None:
    objects = [json.loads(line) for line in out("read", "--to", "json", *ACTION, SEQ).splitlines()]
    assert {shape["action"] for shape in objects} == {"block", "pass", "log"}
    assert all(shape["action"] == expected(shape.get("prefix")) for shape in objects)
    words = [line.split()[1] for line in out("read", *ACTION, SEQ).splitlines()]
    rows = list(csv.DictReader(out("read", "--to", "csv", *ACTION, SEQ).splitlines()))
    replayed = out("replay", "--speed", "max", "--columns", "action", *ACTION, SEQ).splitlines()
    scrubbed = out("read", "--scrub", "--columns", "action", *ACTION, SEQ).splitlines()
    actions = [shape["action"] for shape in objects]
    assert words == replayed == scrubbed == [row["action"] for row in rows] == actions
    letters = {"block": "b", "pass": "p", "log": "L"}
    text = out("read", "--to", "ipmon", *ACTION, SEQ)
    assert out("ipmon", "--tz", "UTC", *ACTION, "-f", SEQ) == text
    groups = re.findall(r" @(\D\S+):-1 S?([pbL]) ", text)
    assert len(groups) > 600 and {letter for _, letter in groups} == set("bpL")
    assert all(letter == letters[expected(group)] for group, letter in groups)


@pytest.mark.parametrize(("ending", "jobs"), effort.sample([
    *((ending, []) for ending in ("parquet", "arrow", "sqlite", "csv", "jsonl")),
    *((ending, ["--jobs", "2"]) for ending in ("parquet", "csv")),  # columns, and records
], least=3))  # fmt: skip
def test_prefixes_give_actions_in_every_table(ending: str, jobs: list[str], tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    made = tmp_path / f"x.{ending}"
    # not by `out`: the resource tracker of processes keeps standard error open
    assert main(["convert", *jobs, *ACTION, str(SEQ), str(made)]) == 0
    pairs = pairs_in(made)
    assert len(pairs) == 827 and {action for action, _ in pairs} == {"block", "pass", "log"}
    assert all(action == expected(prefix) for action, prefix in pairs)


def pairs_in(path: Path) -> list[tuple[str | None, str | None]]:
    """The action and prefix of each packet in a file."""
    if path.suffix == ".csv":
        return [(r["action"], r["prefix"]) for r in csv.DictReader(path.read_text().splitlines())]
    if path.suffix == ".jsonl":
        shapes = map(json.loads, path.read_text().splitlines())
        return [(shape["action"], shape.get("prefix")) for shape in shapes]
    if path.suffix == ".sqlite":
        import sqlite3

        with sqlite3.connect(path) as database:
            return list(database.execute("SELECT action, prefix FROM packet"))
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(path, format=path.suffix[1:]).to_table(["action", "prefix"])
    return [(row["action"], row["prefix"]) for row in table.to_pylist()]


def test_the_actions_of_ipfilter_stay(tmp_path: Path) -> None:
    assert out("read", "--action", "*=block", FILTER) == out("read", FILTER)
    pytest.importorskip("pyarrow")
    for options in ([], ["--action", "*=block"]):
        made = tmp_path / f"{len(options)}.parquet"
        out("convert", *options, FILTER, made)
    assert pairs_in(tmp_path / "0.parquet") == pairs_in(tmp_path / "2.parquet")


def test_the_first_pattern_counts_and_no_match_gives_no_action() -> None:
    words = out("read", "--action", "nd*=block", "--action", "nd*=pass", SEQ).splitlines()
    assert {line.split()[1] for line in words} == {"block", "-"}


@pytest.mark.parametrize("name", ["text", "json", "csv"])
def test_an_output_leaves_the_records_that_it_is_given_alone(name: str) -> None:
    import io

    import pylog
    from pylog.batch import Batch

    with pylog.open(SEQ) as reader:
        records = reader.read_batch(limit=3)
    before = [pylog.to_json(record) for record in records]
    output = outputs.open(name, outputs.Target(io.BytesIO()), {"exclude": "saddr,prefix"})
    output.write(Batch(records))
    output.close()
    assert [pylog.to_json(record) for record in records] == before


# Info


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A log of some MiB that ends in another one."""
    last = samples.FIXTURES / "ipl/v5-1-2-lp64le-nat.all.bin"
    made = tmp_path / "long"
    made.write_bytes(FILTER.read_bytes() * (3_500_000 // FILTER.stat().st_size) + last.read_bytes())
    return made


def test_quick_reads_both_ends_and_says_what_it_did_not_read(long: Path) -> None:
    full = json.loads(out("info", "--json", long))
    quick = json.loads(out("info", "--json", "--quick", long))
    size, part = long.stat().st_size, 1 << 20
    for name in ("layout", "abi", "container", "first", "last", "interfaces", "cut_off"):
        assert quick[name] == full[name] or name == "interfaces", name
    assert set(quick["interfaces"]) == set(full["interfaces"])
    assert quick["quick"].items() >= {
        "size": size, "read": 2 * part, "not_read": size - 2 * part}.items()  # fmt: skip
    count = sum(full["records"].values())
    assert abs(quick["quick"]["records_estimated"] - count) < count / 20
    assert sum(quick["records"].values()) < count and quick["malformed"] == 0
    text = out("info", "--quick", long)
    assert f"size:           {size} bytes\n" in text
    assert "read:           the first and last MiB: what follows is of these only\n" in text
    assert f"NOT READ:       {size - 2 * part} bytes, with their losses and damage\n" in text
    assert re.search(r"in all: +about \d+ records", text)


def test_quick_reads_the_ends_of_captures(tmp_path: Path) -> None:
    data = NFLOG.read_bytes()
    made = tmp_path / "long.pcap"
    made.write_bytes(data[:24] + data[24:] * (3_500_000 // len(data)))
    quick = json.loads(out("info", "--json", "--quick", made))
    assert quick["container"] == "pcap" and quick["layout"] == "nfulnl-le"
    assert quick["malformed"] == 0 and quick["last"].startswith("2026-11-21")


def test_quick_reads_the_beginning_of_a_compressed_file(tmp_path: Path) -> None:
    import gzip
    import random

    made = tmp_path / "long.gz"
    noise = random.Random(1).randbytes(3_000_000)
    made.write_bytes(gzip.compress(FILTER.read_bytes() * 1000) + noise)
    text = out("info", "--quick", made)
    assert "the first MiB: what follows is of these only" in text
    quick = json.loads(out("info", "--json", "--quick", made))
    assert quick["quick"]["read"] == 1 << 20 and quick["cut_off"] is None


def test_quick_reads_all_of_a_short_file_and_nothing_but_files() -> None:
    assert out("info", "--quick", FILTER) == out("info", FILTER)
    (error,) = refused("info", "--quick", "-")
    assert error == "pylog: --quick is for files, and - is none"


def test_info_shows_progress_at_a_long_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from collections.abc import Callable, Iterator
    from contextlib import contextmanager

    from pylog.cli import _progress

    moved: list[int] = []

    @contextmanager
    def bar(size: int, name: str, on_terminal: bool) -> Iterator[Callable[[int], None]]:
        assert size == FILTER.stat().st_size and not on_terminal
        yield moved.append

    monkeypatch.setattr(_progress, "bar", bar)
    out("info", FILTER)
    assert moved[-1] == FILTER.stat().st_size


# CPU time


def test_cpu_time_is_that_of_many_records(tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.write_bytes(FILTER.read_bytes() * (10_000 // 61 + 1))
    written = ["read", "-v", "-w", tmp_path / "out"]
    few = inprocess.run(*written, "-n", "9999", many).stderr.decode().splitlines()
    assert few[-1] == "pylog: 9999 records written"
    (tmp_path / "out").unlink()
    done = inprocess.run(*written, "-n", "10000", many).stderr.decode().splitlines()
    assert re.fullmatch(r"pylog: 10000 records written, [\d.]+ us of CPU time each", done[-1])


# Names of files, sources and options that cannot be meant


@pytest.mark.parametrize("name", ["fw.xz", "fw.json.XZ", "fw.bz2", "fw.pcapng.lz4", "fw.xlsx"])
@pytest.mark.parametrize("command", ["read", "replay", "capture", "convert"])
def test_an_ending_that_is_not_written_is_an_error(command: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    line = refused(command, SEQ, *["-w"] * (command != "convert"), path)[0]
    assert re.search(r"(?i)\.\w+ is not written; .*\.csv.*\.gz or \.zst", line)
    assert not path.exists()


def test_an_unknown_ending_means_text(tmp_path: Path) -> None:
    for name in ("fw.out", "fw.1", "fw"):
        out("read", "-n", 1, "-w", tmp_path / name, SEQ)
        assert len((tmp_path / name).read_text().splitlines()) == 1


@pytest.mark.parametrize("command", ["replay", "convert", "info"])
def test_commands_for_files_say_that_a_source_is_live(command: str, tmp_path: Path) -> None:
    [line] = refused(command, "nflog:5", *[tmp_path / "out.csv"] * (command == "convert"))
    assert line.startswith("pylog: nflog:5 is live") and "pylog read" in line


@pytest.mark.parametrize(("line", "meant"), [
    ("read -o x FILE", "-w"), ("read --output x FILE", "-w"), ("read --json FILE", "--to json"),
    ("replay --format json FILE", "--to json"), ("info --format json FILE", "--json"),
    ("read -f FILE", "--follow"), ("read -c 5 FILE", "-n"), ("FILE", f"pylog read {SEQ}"),
    ("read --tz utc FILE", "UTC"), ("info --tz Oslo FILE", "Europe/Oslo"),
    ("read --tz europe/oslo FILE", "Europe/Oslo"),
    ("read --tz new\\ york FILE", "America/New_York"),
])  # fmt: skip
def test_what_other_programs_call_it_is_understood(line: str, meant: str) -> None:
    said = refused(*shlex.split(line.replace("FILE", str(SEQ))))[0]
    assert said.endswith(f"; did you mean {meant}?")


def test_convert_says_who_scrubs() -> None:
    assert "pylog read --scrub -w FILE" in refused("convert", "--scrub", SEQ, "out.pcapng")[0]
    assert "--scrub" not in out("convert", "--help")


def test_the_list_of_columns_is_complete_by_itself() -> None:
    text = out("help", "columns")
    assert text.startswith("kind  ")
    assert "see " not in text and "below" not in text


# --action


def test_the_blank_at_the_end_of_a_prefix_need_not_be_typed() -> None:
    for pattern in ("arp input", "arp input ", "arp inpu?"):
        done = inprocess.run("read", "--to", "json", "--action", f"{pattern}=pass", SEQ)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        passed = [r["prefix"] for r in records if r.get("action") == "pass"]
        assert passed == ["arp input "] * 5 and done.stderr == b""


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("jobs", [False, True])
def test_a_pattern_that_matches_nothing_is_noted_once(
    form: str, jobs: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if jobs or form == "parquet":
        pytest.importorskip("pyarrow")
    words = ["--action", "pign*=pass", "--action", "*=block", "--action", "br*=pass"]
    words += ["--jobs", "1"] * jobs
    assert main(["convert", *words, str(SEQ), str(tmp_path / f"out.{form}")]) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if "--action" in line]
    (line,) = said
    named = re.sub("'inet [a-z]+ '", "PREFIX", line)  # lines are made by patterns: no exact order
    assert named == (
        "pylog: --action: no packet read has a prefix like 'pign*'; the prefixes are PREFIX,"
        " PREFIX, PREFIX and 15 more"
    )
    assert main(["read", *words[:6], str(FILTER)]) == 0  # of IPFilter, which has no prefixes
    assert "--action" not in capfd.readouterr().err


# --append


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_other_columns_are_not_appended_to_a_csv(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"fw.csv{suffix}"
    line = ["read", "--append", "-n", 2, "-w", path, SEQ]
    out(*line, "--columns", "timestamp,saddr")
    out(*line, "--columns", "timestamp,saddr")
    before = path.read_bytes()
    [said] = refused(*line, "--columns", "saddr,dport")
    assert said.endswith(
        f"cannot append to {path}: its columns are timestamp,saddr, not saddr,dport"
    )
    [said] = refused(*line)
    assert ": its columns are timestamp,saddr, not kind,...," in said and len(said) < 250
    assert path.read_bytes() == before


def test_what_has_no_header_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "fw.csv"
    path.write_text("2024-01-01T00:00:00Z,10.0.0.1\r\n")
    out("read", "--append", "-n", 1, "--columns", "timestamp,saddr", "-w", path, SEQ)
    assert len(path.read_text().splitlines()) == 2


# Options of sources


@pytest.mark.parametrize(("line", "said"), [
    ("read --follow nflog:5", "--follow is for a file, not for nflog:GROUP"),
    ("read --netns x FILE", "--netns is for nfct:, nflog:GROUP and nftables:, not for a file"),
    ("capture -w - --pf-bind ipv4 FILE", "--pf-bind is for nflog:GROUP, not for a file"),
    ("read --qthresh 0 nflog:5", "--qthresh is 0, but must be a whole number from 1 to 4294967295"),
    ("read --timeout 99999 nflog:5", "--timeout is 99999.0, but must be a number from 0 to 3600"),
    ("read --pf-bind ipv4 nflog:5",
     "--pf-bind: kernel-made logs come to group 0, which is not asked for"),
    ("read --columns saddr,saddr FILE",
     "--columns is 'saddr,saddr', but must name each column once"),
    ("read --window -1 FILE FILE --merge", "--window is -1.0, but must be 0 or more seconds"),
])  # fmt: skip
def test_an_error_about_an_option_has_it_as_it_is_typed(line: str, said: str) -> None:
    assert refused(*shlex.split(line.replace("FILE", str(SEQ))))[-1] == f"pylog: {said}"


def test_the_advice_of_a_backend_has_the_option_as_it_is_typed() -> None:
    arguments = parse(["read", "--conntrack", "nflog:5"])
    assert as_typed(arguments, "cannot; leave out conntrack") == "cannot; leave out --conntrack"


def test_a_process_of_jobs_begins_its_notes_as_the_command_does(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    code = (
        "import logging\nfrom pylog.cli import begin_logging\n"
        "from pylog.table.parallel import Pool\n"
        "if __name__ == '__main__':\n"
        "    with Pool(1, None, begin_logging) as pool:\n"
        "        pool._processes.submit(logging.warning, 'a\\nb').result()\n"
    )
    (tmp_path / "program.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, timeout=50,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stderr == "pylog: a\\nb\n"
